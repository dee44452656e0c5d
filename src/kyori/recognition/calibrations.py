"""``calibration.json`` of a run: the thresholds that verification and identification decide by, and for which model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from ..errors import ArgumentError, FileFormatError
from ..evaluation.calibration import Calibration
from ..files import write_atomic

__all__ = ["CALIBRATION", "GalleryCalibration", "Pooling", "RunCalibration"]

CALIBRATION = "calibration.json"
FORMAT, VERSION = "kyori.calibration", 1

#: How the items of an identity become one distance: to the nearest of them, or to their mean.
Pooling = Literal["nearest", "mean"]


@dataclass(frozen=True, eq=False)
class GalleryCalibration:
    """The threshold of open-set identification against one gallery.

    Attributes:
        calibration: Of the distances of probes to their best wrong identity (different) and to their own (same); its
            false-accept rate is the false-positive identification rate (FPIR).
        pooling: How an identity's items become one distance.
        identities: How many identities the gallery had.
        items: How many items.
        tpir: Share of enrolled probes that are answered with their own identity at the threshold; None where no
            probe was enrolled.
    """

    calibration: Calibration
    pooling: Pooling
    identities: int
    items: int
    tpir: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "calibration": self.calibration.as_dict(),
            "pooling": self.pooling,
            "identities": self.identities,
            "items": self.items,
            "tpir": self.tpir,
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Self:
        """Read what :meth:`as_dict` gave."""
        pooling = facts["pooling"]
        if pooling not in ("nearest", "mean"):
            raise ValueError(f"pooling is {pooling!r}")
        tpir = facts["tpir"]
        return cls(
            Calibration.from_dict(facts["calibration"]),
            pooling,
            int(facts["identities"]),
            int(facts["items"]),
            None if tpir is None else float(tpir),
        )


@dataclass(frozen=True, eq=False)
class RunCalibration:
    """What is calibrated in a run.

    Attributes:
        model: Mark of the model that the distances came from.
        metric: ``"euclidean"`` or ``"cosine"``.
        verification: Threshold for pairs; None where not calibrated.
        identification: Threshold for a gallery; None where not calibrated.
        data: What each was measured on, in words and numbers.
    """

    model: str
    metric: Literal["euclidean", "cosine"]
    verification: Calibration | None = None
    identification: GalleryCalibration | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def save(self, run: Path) -> Path:
        """Write ``calibration.json`` into the run folder, atomically, and return its path."""
        facts = {
            "format": FORMAT,
            "version": VERSION,
            "model": self.model,
            "metric": self.metric,
            "verification": None if self.verification is None else self.verification.as_dict(),
            "identification": None if self.identification is None else self.identification.as_dict(),
            "data": dict(self.data),
        }
        text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False)
        write_atomic(run / CALIBRATION, lambda file: file.write(text.encode()))
        return run / CALIBRATION

    @classmethod
    def load(cls, run: Path, model: str) -> Self | None:
        """Read the calibration of a run; None where it has none.

        Args:
            run: The run folder.
            model: Mark of the run's present model.

        Raises:
            FileFormatError: The file is damaged or of a newer version.
            ArgumentError: It was made with another model.
        """
        path = run / CALIBRATION
        if not path.exists():
            return None
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            if facts["format"] != FORMAT:
                raise ValueError(f"format is {facts['format']!r}")
            if facts["version"] != VERSION:
                raise FileFormatError(
                    f"{path} has version {facts['version']}, and this Kyori reads {VERSION}; calibrate again, or"
                    " install a newer Kyori."
                )
            if facts["metric"] not in ("euclidean", "cosine"):
                raise ValueError(f"metric is {facts['metric']!r}")
            verification, identification = facts["verification"], facts["identification"]
            found = cls(
                str(facts["model"]),
                facts["metric"],
                None if verification is None else Calibration.from_dict(verification),
                None if identification is None else GalleryCalibration.from_dict(identification),
                dict(facts["data"]),
            )
        except FileFormatError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileFormatError(f"{path} is damaged: {error!r}. Run kyori calibrate again.") from error
        if found.model != model:
            raise ArgumentError(
                f"{path} was calibrated for another model than the run's present one; run kyori calibrate again."
            )
        return found

    def with_verification(self, calibration: Calibration, data: Mapping[str, Any]) -> Self:
        """Return this with another threshold for pairs."""
        return replace(self, verification=calibration, data={**self.data, "verification": dict(data)})

    def with_identification(self, calibration: GalleryCalibration, data: Mapping[str, Any]) -> Self:
        """Return this with another threshold for the gallery."""
        return replace(self, identification=calibration, data={**self.data, "identification": dict(data)})
