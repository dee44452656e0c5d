"""What recognition answers: a found item, a verdict about a pair, an identity or "unknown"."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Candidate", "Hit", "Identity", "Label", "Verdict"]

#: An identity or an id, as the index keeps it.
Label = str | int


@dataclass(frozen=True)
class Hit:
    """An item that a search found.

    Attributes:
        id: Of the item.
        label: Its label; None where the index has no labels.
        distance: To the query; after re-ranking the re-ranker's own value. Smaller is closer.
        probability: That query and item are of the same class; None where nothing is calibrated or the distance is a
            re-ranker's.
    """

    id: Label
    label: Label | None
    distance: float
    probability: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """Whether two items are the same.

    Attributes:
        same: Whether the distance lies within the threshold.
        distance: Between the two.
        probability: That a pair at this distance is a same pair, among pairs as frequent as those it was calibrated on.
        threshold: Largest distance that counts as the same.
        far: Share of different pairs that this threshold takes for the same, as measured when it was calibrated.
        far_low: Lower end of its interval.
        far_high: Upper end of its interval.
        target: What the threshold was chosen for, e.g. ``"far=0.001"``.
    """

    same: bool
    distance: float
    probability: float
    threshold: float
    far: float
    far_low: float
    far_high: float
    target: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Candidate:
    """An identity of the gallery, as a possible answer.

    Attributes:
        identity: Its label.
        distance: To the nearest item of it, or to its mean template.
        probability: That the item is of the first candidate's identity, at this distance; None for a threshold
            that the caller gave.
        nearest: Id of its nearest item; None with mean templates.
    """

    identity: Label
    distance: float
    probability: float | None
    nearest: Label | None


@dataclass(frozen=True)
class Identity:
    """Who an item is, among the identities of the index, or nobody known.

    Attributes:
        identity: The best candidate's label if its distance lies within the threshold, else None: unknown.
        distance: Of the best candidate; inf where the index is empty.
        probability: Of the best candidate.
        threshold: Largest distance that counts as known.
        target: What the threshold was chosen for, e.g. ``"fpir=0.01"``.
        candidates: The nearest identities, nearest first.
    """

    identity: Label | None
    distance: float
    probability: float | None
    threshold: float
    target: str
    candidates: tuple[Candidate, ...]

    @property
    def known(self) -> bool:
        """Whether an identity was found."""
        return self.identity is not None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON (a distance of inf as None)."""
        facts = asdict(self)
        facts["known"] = self.known
        facts["candidates"] = [asdict(candidate) for candidate in self.candidates]
        if self.distance == float("inf"):
            facts["distance"] = None
        return facts
