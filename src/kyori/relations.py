"""Who is positive and who is negative to whom, and how much.

What is known of the items of a batch comes as one of these, in the place of `labels`:

| given as | positive | negative |
|---|---|---|
| (n,) integers | same class | other class |
| (n, c) booleans, the classes of each item | at least one class in common | none in common |
| `Relevance`, (n, m) numbers | relevance above 0 | relevance 0 or below |
| `Pairs` | pairs that belong together | pairs that do not |
| `ScoredPairs` | pairs with a score above 0 | pairs with a score of 0 or below |
| `Triplets` | anchor and positive | anchor and negative |
| nothing, with references | the reference in the same row | all other references |

An item is never compared with itself, and "itself" is decided by its item id, not by its place in memory: a
copy of the anchor in a memory queue is still the anchor. Labels and ids are compared as 64-bit integers, so
that uint8 labels do not overflow and ids above 2**24 do not collide.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import ArgumentError

__all__ = [
    "Pairs",
    "Relations",
    "Relevance",
    "ScoredPairs",
    "Supervision",
    "Triplets",
    "integers",
    "relate",
]


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
        for name in ("first", "second"):
            _check_rows(getattr(self, name), name, n)


@dataclass(frozen=True)
class ScoredPairs(Pairs):
    """Explicit pairs of rows of a batch, each with a score of likeness; elsewhere, `Pairs` with `same` = score > 0.

    Args:
        first: (p,) row numbers.
        second: (p,) row numbers.
        scores: (p,) finite numbers, larger is more alike.

    Raises:
        ArgumentError: The three differ in length, or a score is no finite number.

    >>> ScoredPairs(torch.tensor([0, 0]), torch.tensor([1, 2]), torch.tensor([0.9, 0.0])).same
    tensor([ True, False])
    """

    same: Tensor = field(init=False)
    scores: Tensor

    def __post_init__(self) -> None:
        scores = torch.as_tensor(self.scores)
        if scores.ndim != 1 or scores.is_complex():
            raise ArgumentError(
                f"scores must be numbers of shape (p,); got {tuple(scores.shape)} of {scores.dtype}."
            )
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        if (
            scores.device.type == "cpu"
            and scores.numel()
            and not torch.stack(scores.aminmax()).isfinite().all()
        ):
            raise ArgumentError("scores must be finite; got NaN or infinity. Leave such pairs out.")
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "same", scores > 0)
        super().__post_init__()

    def to(self, device: torch.device | str) -> "ScoredPairs":
        """The same pairs on another device."""
        return ScoredPairs(self.first.to(device), self.second.to(device), self.scores.to(device))


@dataclass(frozen=True)
class Triplets:
    """Explicit triplets of rows of a batch, in place of labels.

    Args:
        anchors: (t,) row numbers.
        positives: (t,) row numbers.
        negatives: (t,) row numbers.

    Raises:
        ArgumentError: The three differ in length.

    >>> len(Triplets(torch.tensor([0]), torch.tensor([1]), torch.tensor([2])))
    1
    """

    anchors: Tensor
    positives: Tensor
    negatives: Tensor

    def __post_init__(self) -> None:
        length = len(torch.as_tensor(self.anchors))
        for name in ("anchors", "positives", "negatives"):
            object.__setattr__(self, name, integers(getattr(self, name), name, length, "triplet"))

    def __len__(self) -> int:
        return len(self.anchors)

    def to(self, device: torch.device | str) -> "Triplets":
        """The same triplets on another device."""
        return Triplets(self.anchors.to(device), self.positives.to(device), self.negatives.to(device))

    def check(self, n: int) -> None:
        """Raise `ArgumentError` if a triplet points outside a batch of `n` rows."""
        for name in ("anchors", "positives", "negatives"):
            _check_rows(getattr(self, name), name, n)


@dataclass(frozen=True)
class Relevance:
    """Graded relevance of every reference to every anchor, in place of labels.

    Args:
        scores: (n, m) finite numbers, larger is more relevant; m = n where the batch is its own reference.
            0 and below is not relevant at all.

    >>> Relevance(torch.tensor([[0.0, 0.5], [0.5, 0.0]])).scores.shape
    torch.Size([2, 2])
    """

    scores: Tensor

    def __post_init__(self) -> None:
        scores = torch.as_tensor(self.scores)
        if scores.ndim != 2 or scores.is_complex() or scores.dtype == torch.bool:
            raise ArgumentError(
                f"scores must be numbers of shape (n, m); got {tuple(scores.shape)} of {scores.dtype}."
            )
        if (
            scores.device.type == "cpu"
            and scores.numel()
            and not torch.stack(scores.aminmax()).isfinite().all()
        ):
            raise ArgumentError("scores must be finite; got NaN or infinity. Leave such pairs at 0.")
        object.__setattr__(self, "scores", scores.to(torch.promote_types(scores.dtype, torch.float32)))

    def __len__(self) -> int:
        return len(self.scores)

    def to(self, device: torch.device | str) -> "Relevance":
        """The same on another device."""
        moved = self.scores.to(device)
        return self if moved is self.scores else Relevance(moved)


Supervision = Tensor | Pairs | Triplets | Relevance


class Relations:
    """Positives and negatives of n anchors among m references; `relate` makes the right kind."""

    @property
    def labels(self) -> Tensor | None:
        """(n,) class numbers of the anchors, None where items have no single class."""
        return None

    @property
    def reference_labels(self) -> Tensor | None:
        """(m,) class numbers of the references, None where items have no single class."""
        return None

    def among_references(self) -> "Relations":
        """The relations of the references to each other; these themselves where the batch is its own reference."""
        return self

    def rows(self, block: slice) -> tuple[Tensor, Tensor]:
        """Masks `positive` and `negative`, (b, m) booleans, of a block of anchors."""
        raise NotImplementedError

    def relevance(self, block: slice) -> Tensor | None:
        """How relevant each reference is to each anchor, (b, m), or None where a positive is a positive."""
        return None

    def apart(self, anchors: Tensor, n: int) -> Tensor:
        """(b, n) booleans: which of all n anchors are negatives of these b ones; all others where nothing is known."""
        return anchors[:, None] != torch.arange(n, device=anchors.device)


def relate(
    labels: Supervision | None,
    n: int,
    device: torch.device,
    ids: Tensor | None = None,
    *,
    m: int | None = None,
    reference_labels: Tensor | None = None,
    reference_ids: Tensor | None = None,
) -> Relations:
    """The relations of `n` anchors to each other, or to `m` references.

    Args:
        labels: What is known, see the table of this module.
        n: Number of embeddings.
        device: Where the embeddings are.
        ids: (n,) item ids; rows that share an id are the same item and neither positive nor negative to each
            other. By default every row is an item of its own; with references there are then no copies.
        m: Number of references; None if the batch is its own reference.
        reference_labels: Of the same kind as labels, one per reference.
        reference_ids: (m,) item ids.

    Raises:
        ArgumentError: Shapes or types do not fit, or something that is needed is missing.

    >>> positive, negative = relate(torch.tensor([0, 0, 1]), 3, torch.device("cpu")).rows(slice(0, 1))
    >>> positive.tolist(), negative.tolist()
    ([[False, True, False]], [[False, False, True]])
    """
    if isinstance(labels, Pairs | Triplets):
        if m is not None or ids is not None:
            raise ArgumentError(
                f"{type(labels).__name__} name rows of embeddings; pass neither references nor ids with them."
            )
        labels.check(n)
        return _ListedRelations.of(labels.to(device), n)
    if m is None and (reference_labels is not None or reference_ids is not None):
        raise ArgumentError("reference_labels and reference_ids need references; got none.")
    same_item = _SameItem.of(n, m, device, ids, reference_ids)
    if isinstance(labels, Relevance):
        return _GradedRelations.of(labels.to(device), n, m, same_item)
    if labels is None:
        return _AlignedRelations.of(n, m, device, reference_labels, same_item)
    if m is not None and reference_labels is None:
        raise ArgumentError(
            f"references need reference_labels of shape ({m},); got none. Pass the label of each reference."
        )
    if torch.as_tensor(labels).dtype == torch.bool:
        sets = _label_sets(labels, n, "labels", device)
        others = (
            sets if reference_labels is None else _label_sets(reference_labels, m, "reference_labels", device)
        )
        if others.shape[1] != sets.shape[1]:
            raise ArgumentError(
                f"reference_labels must have {sets.shape[1]} columns, as labels; got {others.shape[1]}."
            )
        return _SetRelations(sets, others, same_item)
    classes = integers(labels, "labels", n, "embedding").to(device)
    if reference_labels is None:
        return _LabelRelations(classes, classes, same_item)
    assert m is not None
    return _LabelRelations(
        classes, integers(reference_labels, "reference_labels", m, "reference").to(device), same_item
    )


class _SameItem(NamedTuple):
    """Which references are the anchor itself: by item id, by row (`rows`) where a batch without ids is its own
    reference, else none."""

    ids: Tensor | None
    reference_ids: Tensor | None
    rows: bool = False

    @classmethod
    def of(
        cls, n: int, m: int | None, device: torch.device, ids: Tensor | None, reference_ids: Tensor | None
    ) -> "_SameItem":
        if m is None:
            own = None if ids is None else integers(ids, "ids", n, "embedding").to(device)
            if own is not None and _all_differ(own):
                own = None
            return cls(own, own, rows=own is None)
        if (ids is None) != (reference_ids is None):
            given, missing = ("ids", "reference_ids") if reference_ids is None else ("reference_ids", "ids")
            raise ArgumentError(
                f"{given} were given without {missing}; pass both, so that copies of an item can be "
                "told from its positives, or neither."
            )
        if ids is None or reference_ids is None:
            return cls(None, None)
        return cls(
            integers(ids, "ids", n, "embedding").to(device),
            integers(reference_ids, "reference_ids", m, "reference").to(device),
        )

    def among_references(self) -> "_SameItem":
        """The same question among the references."""
        return _SameItem(self.reference_ids, self.reference_ids, rows=self.reference_ids is None)

    def apart(self, block: slice, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Take the anchors' own copies out of both masks, in place."""
        if self.rows:
            start = block.indices(positive.shape[1])[0]
            positive.diagonal(start).fill_(False)
            negative.diagonal(start).fill_(False)
        elif self.ids is not None and self.reference_ids is not None:
            other = self.ids[block, None] != self.reference_ids[None]
            positive &= other
            negative &= other
        return positive, negative


@dataclass(frozen=True)
class _LabelRelations(Relations):
    classes: Tensor
    reference_classes: Tensor
    same_item: _SameItem

    @property
    def labels(self) -> Tensor:
        return self.classes

    @property
    def reference_labels(self) -> Tensor:
        return self.reference_classes

    def among_references(self) -> Relations:
        own = self.same_item.among_references()
        return _LabelRelations(self.reference_classes, self.reference_classes, own)

    def rows(self, block: slice) -> tuple[Tensor, Tensor]:
        positive = self.classes[block, None] == self.reference_classes[None]
        return self.same_item.apart(block, positive, ~positive)

    def apart(self, anchors: Tensor, n: int) -> Tensor:
        return self.classes[anchors, None] != self.classes[None]


@dataclass(frozen=True)
class _SetRelations(Relations):
    """Label sets as (n, c) and (m, c) of 0 and 1; relevance is the Jaccard index of two sets."""

    sets: Tensor
    reference_sets: Tensor
    same_item: _SameItem

    def among_references(self) -> Relations:
        own = self.same_item.among_references()
        return _SetRelations(self.reference_sets, self.reference_sets, own)

    def rows(self, block: slice) -> tuple[Tensor, Tensor]:
        positive = self.sets[block] @ self.reference_sets.T > 0.5
        return self.same_item.apart(block, positive, ~positive)

    def apart(self, anchors: Tensor, n: int) -> Tensor:
        return self.sets[anchors] @ self.sets.T < 0.5

    def relevance(self, block: slice) -> Tensor:
        common = self.sets[block] @ self.reference_sets.T
        either = self.sets[block].sum(1)[:, None] + self.reference_sets.sum(1)[None] - common
        return common / either.clamp(min=1.0)


@dataclass(frozen=True)
class _GradedRelations(Relations):
    scores: Tensor
    same_item: _SameItem
    own: bool = True

    def among_references(self) -> Relations:
        if self.own:
            return self
        raise ArgumentError(
            "this loss needs to know how the references are related to each other, and relevance says it of anchors "
            "and references only; pass labels, or put the references into the batch."
        )

    @classmethod
    def of(cls, relevance: Relevance, n: int, m: int | None, same_item: _SameItem) -> "_GradedRelations":
        expected = (n, n if m is None else m)
        if relevance.scores.shape != expected:
            raise ArgumentError(
                f"scores must have shape {expected}, one per embedding and reference; "
                f"got {tuple(relevance.scores.shape)}."
            )
        return cls(relevance.scores, same_item, m is None)

    def rows(self, block: slice) -> tuple[Tensor, Tensor]:
        positive = self.scores[block] > 0
        return self.same_item.apart(block, positive, ~positive)

    def relevance(self, block: slice) -> Tensor:
        return self.scores[block]


@dataclass(frozen=True)
class _AlignedRelations(Relations):
    """Row i of the references is the positive of anchor i, unless ids say that it is the anchor itself."""

    n: int
    m: int
    device: torch.device
    same_item: _SameItem

    def among_references(self) -> Relations:
        """Each reference is a class of its own."""
        classes = torch.arange(self.m, device=self.device)
        return _LabelRelations(classes, classes, self.same_item.among_references())

    @classmethod
    def of(
        cls,
        n: int,
        m: int | None,
        device: torch.device,
        reference_labels: Tensor | None,
        same_item: _SameItem,
    ) -> "_AlignedRelations":
        if m is None or m < n:
            raise ArgumentError(
                "labels may be left out only with references, of which the first n belong to the n embeddings row by "
                f"row; got {'no' if m is None else m} references for {n} embeddings."
            )
        if reference_labels is not None:
            raise ArgumentError("reference_labels need labels; got labels=None. Pass both or neither.")
        return cls(n, m, device, same_item)

    def rows(self, block: slice) -> tuple[Tensor, Tensor]:
        start, stop, _ = block.indices(self.n)
        references = torch.arange(self.m, device=self.device)
        positive = references[start:stop, None] == references[None]
        return self.same_item.apart(block, positive, ~positive)


@dataclass(frozen=True)
class _ListedRelations(Relations):
    """Relations given one by one; what is not listed is neither positive nor negative."""

    positives: Tensor
    negatives: Tensor
    n: int

    @classmethod
    def of(cls, listed: Pairs | Triplets, n: int) -> "_ListedRelations":
        if isinstance(listed, Triplets):
            positives = torch.stack([listed.anchors, listed.positives])
            return cls(positives, torch.stack([listed.anchors, listed.negatives]), n)
        both = torch.stack([listed.first, listed.second])
        return cls(both[:, listed.same], both[:, ~listed.same], n)

    def rows(self, block: slice) -> tuple[Tensor, Tensor]:
        return self._mask(self.positives, block), self._mask(self.negatives, block)

    def _mask(self, pairs: Tensor, block: slice) -> Tensor:
        start, stop, _ = block.indices(self.n)
        first, second = pairs[:, (pairs[0] >= start) & (pairs[0] < stop)]
        mask = torch.zeros(stop - start, self.n, dtype=torch.bool, device=pairs.device)
        mask[first - start, second] = True
        return mask


def _all_differ(ids: Tensor) -> bool:
    """Whether ids (n,) are known to be n items, where it can be known without waiting for a device: then there is no
    copy to look for among n² pairs."""
    if ids.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return len(set(ids.tolist())) == len(ids)


def _label_sets(labels: Tensor, length: int | None, name: str, device: torch.device) -> Tensor:
    """(length, c) booleans as float32 0 and 1, whose products count common labels exactly."""
    labels = torch.as_tensor(labels)
    if labels.ndim != 2 or labels.shape[0] != length or labels.dtype != torch.bool:
        raise ArgumentError(
            f"{name} must have shape ({length}, c), booleans for each item and class; "
            f"got {tuple(labels.shape)} of {labels.dtype}."
        )
    return labels.to(device).float()


def _check_rows(rows: Tensor, name: str, n: int) -> None:
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < n:
        raise ArgumentError(
            f"{name} must hold row numbers 0 to {n - 1}, rows of the {n} embeddings; "
            f"got {int(rows.min())} to {int(rows.max())}."
        )


def integers(values: Tensor, name: str, length: int, unit: str) -> Tensor:
    """`values` as int64 of shape (length,), or an error that says what is wrong."""
    values = torch.as_tensor(values)
    if values.shape != (length,):
        raise ArgumentError(f"{name} must have shape ({length},), one per {unit}; got {tuple(values.shape)}.")
    if values.is_floating_point() or values.is_complex():
        raise ArgumentError(f"{name} must be integers; got {values.dtype}. Convert them, e.g. {name}.long().")
    return values.long()
