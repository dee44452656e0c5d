"""Which items form a batch: a pure function of (seed, epoch, rank).

With several ranks each takes its slice of one global batch, so that a run does not depend on their number.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import ArgumentError, DataError

__all__ = ["AlignedBatches", "Batch", "PKBatches", "PairBatches", "ShuffleBatches", "balanced_pairs"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Items of one step.

    Attributes:
        indices: (b,) positions of the items in the source; an item may stand there twice.
        pairs: None, or (first, second, same), each (p,): positions *in the batch* of the two items of a pair,
            and whether they are of one class.
        anchors: None, or how many of the items, the first ones, are anchors; the others are their references, the
            positive of anchor i in place i.
        views: None, or (b,) which view of its item each row is, with items that stand there twice (`ViewBatches`).
    """

    indices: np.ndarray
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    anchors: int | None = None
    views: np.ndarray | None = None


class ShuffleBatches:
    """Every item once an epoch, in random order.

    The last batch is smaller, or left out with `drop_last`. A rest of a single item, or of fewer than `world`
    items, joins the batch before it: batch normalisation cannot work on one item, nor a rank on none.

    Args:
        n: Number of items.
        size: Items in a (global) batch.
        seed: ≥ 0.
        rank, world: This process, and how many there are.
        drop_last: Leave out a last batch smaller than `size`.

    Example:
        >>> [len(batch.indices) for batch in ShuffleBatches(10, 4).epoch(0)]
        [4, 4, 2]
    """

    def __init__(
        self, n: int, size: int, *, seed: int = 0, rank: int = 0, world: int = 1, drop_last: bool = False
    ):
        _check_ranks(seed, rank, world)
        if n < world:
            raise DataError(f"batches need at least 1 item for each of {world} ranks; got {n} items.")
        if size < world:
            raise ArgumentError(f"size must be at least 1 item for each of {world} ranks; got {size}.")
        self.n, self.size, self.seed, self.rank, self.world = n, size, seed, rank, world
        self._edges = _edges(n, size, world, drop_last)
        if len(self) == 0:
            raise DataError(f"drop_last leaves no batch: {n} items are fewer than the batch size {size}.")

    def __len__(self) -> int:
        return len(self._edges) - 1

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, without the first `start`."""
        order = _rng(self.seed, epoch).permutation(self.n)
        for step in range(start, len(self)):
            indices = order[self._edges[step] : self._edges[step + 1]]
            yield Batch(_slice(indices, self.rank, self.world))


class PairBatches:
    """Balanced pairs: two for each item, one of its class and one of another (:func:`balanced_pairs`), shuffled.

    A batch of p pairs has 2p rows: the first items of all pairs, then the second ones.

    Args:
        labels: (n,) class codes.
        size: Pairs in a (global) batch.
        seed, rank, world: As in `ShuffleBatches`.

    Example:
        >>> batch = next(PairBatches([0, 0, 0, 1, 1, 1], size=4).epoch(0))
        >>> batch.indices.shape, batch.pairs[0], batch.pairs[1]
        ((8,), array([0, 1, 2, 3]), array([4, 5, 6, 7]))
    """

    def __init__(self, labels: np.ndarray, size: int, *, seed: int = 0, rank: int = 0, world: int = 1):
        _check_ranks(seed, rank, world)
        if size < world:
            raise ArgumentError(f"size must be at least 1 pair for each of {world} ranks; got {size}.")
        self.labels = np.asarray(labels)
        self.size, self.seed, self.rank, self.world = size, seed, rank, world
        self._groups = _Groups(self.labels)
        self.excluded = len(self.labels) - int(self._groups.sizes.sum())
        self._edges = _edges(2 * int(self._groups.sizes.sum()), size, world, drop_last=False)

    def __len__(self) -> int:
        return len(self._edges) - 1

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, without the first `start`."""
        rng = _rng(self.seed, epoch)
        first, second, same = _draw_pairs(self._groups, rng)
        order = rng.permutation(len(first))
        for step in range(start, len(self)):
            chosen = _slice(order[self._edges[step] : self._edges[step + 1]], self.rank, self.world)
            p = len(chosen)
            places = (np.arange(p), np.arange(p, 2 * p), same[chosen])
            yield Batch(np.concatenate([first[chosen], second[chosen]]), places)


class AlignedBatches:
    """Rows of anchor, positive and negatives, each row once an epoch, in random order.

    A batch of b rows has its anchors first, then its positives, then its negatives, column by column, each in the
    order of the rows. A negative that is missing is left out.

    Args:
        rows: (n,) the row that an item stands in.
        roles: (n,) ``"anchor"``, ``"positive"`` or ``"negative"``; each row has one anchor and one positive.
        size: Rows in a (global) batch.
        seed, rank, world: As in `ShuffleBatches`.

    Raises:
        DataError: A row has not exactly one anchor and one positive.

    Example:
        >>> rows, roles = [0, 1, 0, 1, 1], ["anchor", "anchor", "positive", "positive", "negative"]
        >>> batch = next(AlignedBatches(rows, roles, size=2, seed=1).epoch(0))
        >>> batch.indices, batch.anchors
        (array([0, 1, 2, 3, 4]), 2)
    """

    def __init__(
        self, rows: np.ndarray, roles: np.ndarray, size: int, *, seed: int = 0, rank: int = 0, world: int = 1
    ):
        _check_ranks(seed, rank, world)
        if size < world:
            raise ArgumentError(f"size must be at least 1 row for each of {world} ranks; got {size}.")
        self.seed, self.rank, self.world = seed, rank, world
        self.excluded = 0
        rows, roles = np.asarray(rows), np.asarray(roles)
        names, codes = np.unique(rows, return_inverse=True)
        n = len(names)
        for role in ("anchor", "positive"):
            counts = np.bincount(codes[roles == role], minlength=n)
            if (counts != 1).any():
                wrong = int(np.flatnonzero(counts != 1)[0])
                raise DataError(
                    f"each row needs one {role}; row {names[wrong].item()!r} has {counts[wrong]} "
                    f"({(counts != 1).sum()} such rows of {n})."
                )
        turn = np.zeros(len(rows), dtype=np.int64)  # 0 anchor, 1 positive, 2… the row's negatives
        turn[roles == "positive"] = 1
        negative = np.flatnonzero(roles == "negative")
        turn[negative] = 2 + _occurrences(codes[negative])
        self._table = np.full((int(turn.max(initial=1)) + 1, n), -1)
        self._table[turn, codes] = np.arange(len(rows))
        self._edges = _edges(n, size, world, drop_last=False)

    def __len__(self) -> int:
        return len(self._edges) - 1

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, without the first `start`."""
        order = _rng(self.seed, epoch).permutation(self._table.shape[1])
        for step in range(start, len(self)):
            chosen = _slice(order[self._edges[step] : self._edges[step + 1]], self.rank, self.world)
            items = self._table[:, chosen].ravel()
            yield Batch(items[items >= 0], anchors=len(chosen))


class PKBatches:
    """P classes with K items of each in every batch.

    Each class comes once before any comes again, and so do the items of a class. A class with fewer than K items
    repeats them, as rarely as possible (losses tell copies by their ids); a class of one item cannot form a pair
    and is left out. With fewer than P usable classes, P becomes their number and K grows so that the batch keeps
    its size. An epoch has ceil(n / (P·K)) batches, n counting the usable items.

    Args:
        labels: (n,) class codes.
        classes: P, at least 2.
        per_class: K, at least 2.
        seed, rank, world: As in `ShuffleBatches`; ranks take whole classes of a batch.

    Attributes:
        classes, per_class: P and K as they are used.
        excluded: Number of items left out because they are alone in their class.
        plan: What is done, in words.

    Example:
        >>> batches = PKBatches([0, 0, 0, 1, 1, 1, 2], classes=8, per_class=2)
        >>> batches.plan
        '2 classes × 8 items (asked for 8 × 2; 2 classes have two items or more), 1 batch an epoch, 1 item left out'
    """

    def __init__(
        self,
        labels: np.ndarray,
        classes: int,
        per_class: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ):
        _check_ranks(seed, rank, world)
        if classes < 2 or per_class < 2:
            raise ArgumentError(
                f"classes and per_class must be at least 2; got {classes} classes with {per_class} items each."
            )
        labels = np.asarray(labels)
        self.seed, self.rank, self.world = seed, rank, world
        self._groups = _Groups(labels)
        usable, n = len(self._groups.sizes), int(self._groups.sizes.sum())
        self.classes = min(classes, usable)
        self.per_class = (
            per_class if classes <= usable else max(per_class, round(classes * per_class / usable))
        )
        self.excluded = len(labels) - n
        self._steps = -(-n // (self.classes * self.per_class))
        if world > self.classes:
            raise ArgumentError(
                f"{world} ranks need at least {world} classes in a batch; got {self.classes}."
            )
        self.plan = self._describe(classes, per_class)

    def _describe(self, classes: int, per_class: int) -> str:
        changed = (classes, per_class) != (self.classes, self.per_class)
        asked = f" (asked for {classes} × {per_class}; {self.classes} classes have two items or more)"
        left_out = f", {self.excluded} item{'s' * (self.excluded > 1)} left out" if self.excluded else ""
        return (
            f"{self.classes} classes × {self.per_class} items{asked * changed}, "
            f"{self._steps} batch{'es' * (self._steps > 1)} an epoch{left_out}"
        )

    def __len__(self) -> int:
        return self._steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, without the first `start`."""
        rng = _rng(self.seed, epoch)
        groups, k = self._groups, self.per_class
        chosen = _rounds(rng, len(groups.sizes), self.classes, self._steps)
        order = groups.shuffled(rng)
        visits = _occurrences(chosen.ravel()).reshape(chosen.shape)
        for step in range(start, self._steps):
            codes = _slice(chosen[step], self.rank, self.world)
            visit = _slice(visits[step], self.rank, self.world)
            # each class goes round its shuffled items: all are used before one is used again
            places = (visit[:, None] * k + np.arange(k)) % groups.sizes[codes][:, None]
            yield Batch(order[groups.starts[codes][:, None] + places].ravel())


def balanced_pairs(labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make two pairs for each item: with the next item of its class, and with one of another class.

    The scheme of the Keras Siamese example, without its limit to the size of the smallest class: the items of
    each class are put in random order; item i is paired with item i+1 of its class (the last with the first), and
    with item i of another, randomly drawn class (going round where that is smaller). Items alone in their class
    are left out.

    Args:
        labels: (n,) class codes.
        rng: Where the order and the other classes are drawn from.

    Returns:
        (first, second, same), each (2m,) with m the items used: positions in `labels`, and whether the classes are
        equal; the pairs of one class come first.

    Raises:
        DataError: There are not two classes of two items.

    Example:
        >>> first, second, same = balanced_pairs(np.array([0, 0, 1, 1]), np.random.default_rng(0))
        >>> len(first), same.mean()
        (8, np.float64(0.5))
    """
    return _draw_pairs(_Groups(np.asarray(labels)), rng)


def _draw_pairs(groups: "_Groups", rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order, sizes, starts = groups.shuffled(rng), groups.sizes, groups.starts
    codes = np.repeat(np.arange(len(sizes)), sizes)
    rank = np.arange(len(order)) - starts[codes]
    partner = order[starts[codes] + (rank + 1) % sizes[codes]]
    other = (codes + rng.integers(1, len(sizes), len(order))) % len(sizes)
    stranger = order[starts[other] + rank % sizes[other]]
    same = np.repeat([True, False], len(order))
    return np.concatenate([order, order]), np.concatenate([partner, stranger]), same


class _Groups:
    """The classes with at least two items: their items one class after another, where each starts, its size."""

    def __init__(self, labels: np.ndarray):
        if labels.ndim != 1:
            raise ArgumentError(f"labels must have shape (n,), one per item; got {labels.shape}.")
        classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        usable = counts >= 2
        if usable.sum() < 2:
            raise DataError(
                "batches need at least 2 classes with 2 items or more, to have pairs of one class and of two; "
                f"got {usable.sum()} such classes among {len(classes)}, with {len(labels)} items."
            )
        items = np.argsort(codes, kind="stable")
        self._items = items[usable[codes[items]]]
        self.sizes = counts[usable]
        self.starts = np.cumsum(self.sizes) - self.sizes
        small = np.min_scalar_type(max(len(self.sizes) - 1, 0))  # NumPy sorts 16 bits by counting
        self._codes = np.repeat(np.arange(len(self.sizes), dtype=small), self.sizes)

    def shuffled(self, rng: np.random.Generator) -> np.ndarray:
        """Positions of the usable items, one class after another, each class in random order."""
        order = np.argsort(rng.random(len(self._items)))
        # ordered by class, that order kept within each: what a lexsort gives, in a fraction of its time
        return self._items[order[np.argsort(self._codes[order], kind="stable")]]


def _rounds(rng: np.random.Generator, n: int, width: int, rows: int) -> np.ndarray:
    """(rows, width) values below n: each once before any comes again, none twice in a row of the table."""
    count = -(-rows * width // n)
    stream = rng.permuted(np.tile(np.arange(n), (count, 1)), axis=1)
    for turn in range(1, count):
        open_row = (turn * n) % width  # how much of the row under way the turn before has filled
        if open_row == 0:
            continue
        late = np.isin(stream[turn], stream[turn - 1, n - open_row :])
        early = np.flatnonzero(~late)[: width - open_row]
        rest = np.delete(stream[turn], early)
        stream[turn] = np.concatenate([stream[turn][early], rest])
    return stream.ravel()[: rows * width].reshape(rows, width)


def _occurrences(values: np.ndarray) -> np.ndarray:
    """How often each value has come before, at its place.

    >>> _occurrences(np.array([3, 1, 3, 3, 1]))
    array([0, 0, 1, 2, 1])
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    seen = np.empty(len(values), dtype=np.int64)
    seen[order] = np.arange(len(values)) - np.repeat(first, np.diff(np.r_[first, len(values)]))
    return seen


def _edges(n: int, size: int, world: int, drop_last: bool) -> np.ndarray:
    """Where each batch starts, and the end of the last."""
    full, rest = divmod(n, size)
    edges = np.arange(full + 1) * size
    if rest == 0 or drop_last:
        return edges
    if full and rest < max(world, 2):
        return np.r_[edges[:-1], n]
    return np.r_[edges, n]


def _slice(values: np.ndarray, rank: int, world: int) -> np.ndarray:
    """The rank's share of a global batch; the shares differ by one at most."""
    return values[rank * len(values) // world : (rank + 1) * len(values) // world]


def _rng(seed: int, epoch: int) -> np.random.Generator:
    return np.random.default_rng([seed, epoch])


def _check_ranks(seed: int, rank: int, world: int) -> None:
    if seed < 0:
        raise ArgumentError(f"seed must be at least 0; got {seed}.")
    if not 0 <= rank < world:
        raise ArgumentError(f"rank must be from 0 to world - 1; got rank {rank} of {world}.")
