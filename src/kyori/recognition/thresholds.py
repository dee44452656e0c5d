"""Thresholds for a run: from listed pairs, from labelled items, and for a gallery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DataError
from ..evaluation.calibration import Calibration, calibrate
from ..evaluation.identification import rank_identities
from ..vectors import VectorTable
from .calibrations import GalleryCalibration, Pooling
from .pairs import pair_distances, pairs_of

__all__ = ["Calibrated", "calibrate_gallery", "calibrate_pairs", "calibrate_table"]


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A threshold and how it was found.

    Attributes:
        calibration: Threshold, rates, intervals, curve.
        data: What it was measured on, ready for JSON.
    """

    calibration: Calibration
    data: dict[str, Any]


def calibrate_pairs(
    vectors: NDArray[np.float32],
    rows: NDArray[np.int64],
    same: NDArray[np.bool_],
    metric: Any,
    **target: Any,
) -> Calibrated:
    """Find the threshold on listed pairs.

    Args:
        vectors: ``(n, d)`` of the items.
        rows: ``(m, 2)`` which items make each pair.
        same: ``(m,)``.
        metric: ``"euclidean"`` or ``"cosine"``.
        **target: ``far=``, ``precision=`` or ``f_beta=``, and the options of :func:`kyori.evaluation.calibrate`.

    Raises:
        ArgumentError: Not exactly one target.
        DataError: No same or no different pairs.
    """
    distances = pair_distances(vectors, rows, metric)
    found = calibrate(distances, same, metric=metric, items=rows, **target)
    items = len(np.unique(rows))
    return Calibrated(found, {"items": items, "pairs": len(rows), "of_pairs": len(rows)})


def calibrate_table(
    table: VectorTable,
    metric: Any,
    *,
    unit: Literal["item", "class"] = "item",
    limit: int = 500_000,
    seed: int = 0,
    **target: Any,
) -> Calibrated:
    """Find the threshold on all pairs of labelled vectors, or on a sample of ``limit`` of them.

    Args:
        table: Labelled vectors that were not trained on.
        metric: ``"euclidean"`` or ``"cosine"``.
        unit: What the intervals are about: new items of these classes, or items of new classes.
        limit: Most pairs.
        seed: Of the sample and of resamples.
        **target: As in :func:`calibrate_pairs`.
    """
    if unit not in ("item", "class"):
        raise ArgumentError(f"unit must be 'item' or 'class'; got {unit!r}.")
    rows, same = pairs_of(table, limit=limit, seed=seed)
    distances = pair_distances(table.vectors, rows, metric)
    assert table.labels is not None  # pairs_of has seen to that
    by_class = table.labels[rows] if unit == "class" else None
    items = rows if by_class is None else None
    found = calibrate(distances, same, metric=metric, seed=seed, items=items, classes=by_class, **target)
    n = len(table)
    return Calibrated(found, {"items": n, "pairs": len(rows), "of_pairs": n * (n - 1) // 2})


def calibrate_gallery(
    probes: VectorTable,
    gallery: VectorTable,
    metric: Any,
    *,
    fpir: float,
    pooling: Pooling = "nearest",
    method: Any = "isotonic",
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[GalleryCalibration, dict[str, Any]]:
    """Find the threshold below which the best identity of a gallery is accepted.

    Each probe is asked for twice: with its own identity taken out of the gallery, as somebody unknown (its distance to
    the best identity then counts for FPIR), and with it, as somebody enrolled. FPIR depends on the size of the
    gallery: calibrate with the one that will be searched.

    Args:
        probes: Labelled items, not trained on. A probe that is an item of the gallery (same id) is not compared with
            itself; with ``pooling="mean"`` it is taken out of the gallery.
        gallery: The enrolled items, labelled.
        metric: The gallery's distance.
        fpir: False-positive identification rate, between 0 and 1.
        pooling: How an identity's items become one distance.
        method, confidence, seed: As in :func:`kyori.evaluation.calibrate`.

    Raises:
        ArgumentError: An option is out of range.
        DataError: Labels are missing, the gallery has one identity only, or no probe is enrolled.
    """
    if not 0 < fpir < 1:
        raise ArgumentError(f"fpir must lie between 0 and 1; got {fpir:g}.")
    if pooling == "mean":
        gallery = gallery.take(~np.isin(gallery.ids, probes.ids))
        if len(gallery) == 0:
            raise DataError(
                "with pooling='mean' the items to calibrate with must not make up the whole index; use others, or"
                " pooling='nearest'."
            )
    found = rank_identities(probes, gallery, metric, pooling=pooling)
    other, mated = found.nearest, found.mated
    if gallery.labels is None or len(np.unique(gallery.labels)) < 2 or not np.isfinite(other).any():
        raise DataError("the index holds one identity; at least 2 are needed to know who is taken for whom.")
    if not mated.any():
        raise DataError(
            "none of these items belongs to an identity of the index (labels are compared as text); calibrate with"
            " items of which some are enrolled."
        )
    strangers = np.isfinite(other)
    calibration = calibrate(
        np.concatenate([found.mate[mated], other[strangers]]),
        np.concatenate([np.ones(int(mated.sum()), bool), np.zeros(int(strangers.sum()), bool)]),
        far=fpir,
        method=method,
        confidence=confidence,
        metric=metric,
        seed=seed,
    )
    made = GalleryCalibration(
        calibration,
        pooling,
        identities=len(np.unique(gallery.labels)),
        items=len(gallery),
        tpir=found.tpir(calibration.threshold),
    )
    facts = {
        "probes": len(probes),
        "enrolled": int(mated.sum()),
        "rank_1": float((found.rank[mated] == 1).mean()),
    }
    return made, facts
