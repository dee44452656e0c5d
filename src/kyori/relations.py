"""Who is positive and who is negative to whom.

An item is never compared with itself, and "itself" is decided by its item id, not by its place in memory: a
copy of the anchor in a memory queue is still the anchor. Labels and ids are compared as 64-bit integers, so
that uint8 labels do not overflow and ids above 2**24 do not collide.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import ArgumentError

__all__ = ["Pairs", "Relations", "integers"]


@dataclass(frozen=True)
class Pairs:
    """Explicit pairs of rows of a batch, in place of labels.

    Args:
        first: (p,) row numbers.
        second: (p,) row numbers.
        same: (p,) booleans, True where the two belong together.

    Raises:
        ArgumentError: The three differ in length or `same` is not boolean.

    >>> pairs = Pairs(torch.tensor([0, 0]), torch.tensor([1, 2]), torch.tensor([True, False]))
    >>> len(pairs)
    2
    """

    first: Tensor
    second: Tensor
    same: Tensor

    def __post_init__(self) -> None:
        if self.same.dtype != torch.bool or self.same.ndim != 1:
            raise ArgumentError(
                f"same must be a (p,) tensor of booleans; got {tuple(self.same.shape)} of {self.same.dtype}."
            )
        for name in ("first", "second"):
            object.__setattr__(self, name, integers(getattr(self, name), name, len(self.same), "pair"))

    def __len__(self) -> int:
        return len(self.same)

    def to(self, device: torch.device | str) -> "Pairs":
        """The same pairs on another device."""
        return Pairs(self.first.to(device), self.second.to(device), self.same.to(device))

    def check(self, n: int) -> None:
        """Raise `ArgumentError` if a pair points outside a batch of `n` rows."""
        for name, rows in (("first", self.first), ("second", self.second)):
            if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < n:
                raise ArgumentError(
                    f"{name} must hold row numbers 0 to {n - 1}, rows of the {n} embeddings; "
                    f"got {int(rows.min())} to {int(rows.max())}."
                )


@dataclass(frozen=True)
class Relations:
    """Positives and negatives of n anchors among m references, by class label.

    >>> relations = Relations.of(torch.tensor([0, 0, 1]), 3, torch.device("cpu"))
    >>> positive, negative = relations.rows(slice(0, 1))
    >>> positive.tolist(), negative.tolist()
    ([[False, True, False]], [[False, False, True]])
    """

    labels: Tensor
    reference_labels: Tensor
    ids: Tensor | None
    reference_ids: Tensor | None

    @classmethod
    def of(cls, labels: Tensor, n: int, device: torch.device, ids: Tensor | None = None) -> "Relations":
        """Relations inside one batch of `n` items.

        Args:
            labels: (n,) integers of any type.
            n: Number of embeddings.
            device: Where the embeddings are.
            ids: (n,) item ids; rows that share an id are the same item and neither positive nor negative to
                each other. By default every row is an item of its own.
        """
        labels = integers(labels, "labels", n, "embedding").to(device)
        if ids is None:
            ids = torch.arange(n, device=device)
        ids = integers(ids, "ids", n, "embedding").to(device)
        return cls(labels, labels, ids, ids)

    @classmethod
    def between(
        cls,
        labels: Tensor,
        n: int,
        reference_labels: Tensor | None,
        m: int,
        device: torch.device,
        ids: Tensor | None = None,
        reference_ids: Tensor | None = None,
    ) -> "Relations":
        """Relations of `n` anchors to `m` references, which may hold copies of them if ids are given."""
        if reference_labels is None:
            raise ArgumentError(
                f"references need reference_labels of shape ({m},); got none. "
                "Pass the label of each reference."
            )
        if (ids is None) != (reference_ids is None):
            given, missing = ("ids", "reference_ids") if reference_ids is None else ("reference_ids", "ids")
            raise ArgumentError(
                f"{given} were given without {missing}; pass both, so that copies of an item can be "
                "told from its positives, or neither."
            )
        return cls(
            integers(labels, "labels", n, "embedding").to(device),
            integers(reference_labels, "reference_labels", m, "reference").to(device),
            None if ids is None else integers(ids, "ids", n, "embedding").to(device),
            None
            if reference_ids is None
            else integers(reference_ids, "reference_ids", m, "reference").to(device),
        )

    def rows(self, block: slice) -> tuple[Tensor, Tensor]:
        """Masks `positive` and `negative`, (b, m) booleans, of a block of anchors."""
        positive = self.labels[block, None] == self.reference_labels[None]
        negative = ~positive
        if self.ids is not None and self.reference_ids is not None:
            other = self.ids[block, None] != self.reference_ids[None]
            positive &= other
            negative &= other
        return positive, negative


def integers(values: Tensor, name: str, length: int, unit: str) -> Tensor:
    """`values` as int64 of shape (length,), or an error that says what is wrong."""
    values = torch.as_tensor(values)
    if values.shape != (length,):
        raise ArgumentError(f"{name} must have shape ({length},), one per {unit}; got {tuple(values.shape)}.")
    if values.is_floating_point() or values.is_complex():
        raise ArgumentError(f"{name} must be integers; got {values.dtype}. Convert them, e.g. {name}.long().")
    return values.long()
