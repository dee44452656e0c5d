"""Duplicates: items that are there twice, exactly or nearly, and the harm they do.

Two items are near-duplicates when their distance is at most a threshold; a group is what hangs together through such
pairs. A pair across the splits is a leak: the test knows an item of the training. A group with more than one label is a
conflict: at least one of them is wrong. Nothing is sampled but for the proposed threshold, and memory is bounded.
"""

import hashlib
import os
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError, DataError
from ..neighbors import distance_blocks
from ..vectors import VectorTable
from .groups import Groups
from .pictures import PictureLoading, same_pictures
from .radius import ClosePairs, RadiusMetric, check_radius, measure, pairs_within
from .writing import write_columns

__all__ = ["Conflict", "Duplicates", "Leak", "content_groups", "find_duplicates", "suggest_threshold"]

_SAMPLE = 1000  # items whose nearest neighbour the proposed threshold rests on
_SHARE = 0.25  # of the median distance to the nearest neighbour
_HASH_ITEMS = 256  # items loaded at a time


class Loading(Protocol):
    """Items that are read where they lie, such as a :class:`kyori.Source`."""

    def __len__(self) -> int: ...

    def load(self, indices: Any, /) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Leak:
    """An item that has a near-duplicate in another split.

    Attributes:
        id: The item.
        split: Its split.
        other_id: The nearest item of another split.
        other_split: The split of that one.
        distance: Their distance.
    """

    id: Hashable
    split: str
    other_id: Hashable
    other_split: str
    distance: float


@dataclass(frozen=True)
class Conflict:
    """A group whose items carry different labels.

    Attributes:
        group: Its number in ``near_duplicate_group``.
        labels: How many of its items carry which label.
    """

    group: int
    labels: dict[Hashable, int]


@dataclass(frozen=True, eq=False)
class Duplicates:
    """What :func:`find_duplicates` found.

    Attributes:
        ids: ``(n,)`` of the table.
        group: ``(n,)`` int64: number of the group, by the position of its first item; −1 for an item without duplicate.
        nearest: ``(n,)`` int64: position of the nearest duplicate (the first of several), −1 without.
        distances: ``(n,)`` float64 distance to it, inf without.
        exact: ``(n,)`` bool: there is an item with the very same content.
        threshold: The largest distance of a pair.
        metric: What distances are measured with.
        rule: How the threshold was chosen.
        leaks: One for each item with a near-duplicate in another split; empty where the table has no splits.
        conflicts: One for each group with more than one label; empty where the table has no labels.
    """

    ids: NDArray[Any]
    group: NDArray[np.int64]
    nearest: NDArray[np.int64]
    distances: NDArray[np.float64]
    exact: NDArray[np.bool_]
    threshold: float
    metric: str
    rule: str
    leaks: tuple[Leak, ...]
    conflicts: tuple[Conflict, ...]

    @property
    def scores(self) -> NDArray[np.float64]:
        """``(n,)`` distance to the nearest duplicate over the threshold: 0 for a copy, 1 without any duplicate."""
        if self.threshold == 0:
            return np.where(self.group < 0, 1.0, 0.0)
        return np.minimum(self.distances / self.threshold, 1.0)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return one array ``(n,)`` a column, by cleanlab's names; a lower score is worse."""
        leaking = {leak.id for leak in self.leaks}
        conflicting = [conflict.group for conflict in self.conflicts]
        nearest = np.where(self.nearest < 0, "", self.ids[self.nearest].astype(np.str_))
        return {
            "id": self.ids,
            "is_near_duplicate_issue": self.group >= 0,
            "near_duplicate_score": self.scores,
            "near_duplicate_group": self.group,
            "is_exact_duplicate_issue": self.exact,
            "nearest_duplicate": nearest,
            "is_leak_issue": np.array([item in leaking for item in self.ids.tolist()], bool),
            "is_label_conflict_issue": np.isin(self.group, conflicting),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`columns` to a ``.parquet`` or ``.csv`` file."""
        write_columns(self.columns(), path)

    def summary(self) -> dict[str, Any]:
        """Return the counts and every leak and conflict, ready for JSON."""
        return {
            "items": len(self.ids),
            "threshold": self.threshold,
            "metric": self.metric,
            "rule": self.rule,
            "groups": int(self.group.max(initial=-1)) + 1,
            "near_duplicates": int((self.group >= 0).sum()),
            "exact_duplicates": int(self.exact.sum()),
            "leaks": [vars(leak) for leak in self.leaks],
            "conflicts": [
                {"group": c.group, "labels": {str(name): count for name, count in c.labels.items()}}
                for c in self.conflicts
            ],
        }

    def __str__(self) -> str:
        groups = int(self.group.max(initial=-1)) + 1
        return (
            f"{int((self.group >= 0).sum()):,} of {len(self.ids):,} items in {groups:,} groups of near-duplicates"
            f" ({self.metric} distance at most {self.threshold:.4g}: {self.rule}); {int(self.exact.sum()):,} are"
            f" exact copies, {len(self.leaks):,} leak between splits, {len(self.conflicts):,} groups have"
            " conflicting labels"
        )


def find_duplicates(
    table: VectorTable | ArrayLike,
    threshold: float | None = None,
    *,
    metric: RadiusMetric = "euclidean",
    contents: ArrayLike | None = None,
    pictures: PictureLoading | None = None,
    split: str = "split",
    seed: int = 0,
) -> Duplicates:
    """Find the groups of near-duplicates, the leaks between splits, and the conflicting labels.

    All pairs are compared, exactly: see :mod:`kyori.quality.radius`. A pair at the threshold counts.

    Args:
        table: Vectors, or an array ``(n, d)``.
        threshold: The largest distance of near-duplicates; chosen by :func:`suggest_threshold` when left out.
        metric: ``"euclidean"``, ``"squared_euclidean"`` or ``"cosine"``.
        contents: ``(n,)`` codes, equal where two items are the same whatever their vectors, from
            :func:`content_groups`. Left out, the same vector is the same content.
        pictures: The pictures of the items, a :class:`kyori.Source` for instance. Two that agree at 0.99 after a small
            shift are duplicates whatever their vectors, at a distance of at most the threshold; see
            :func:`kyori.quality.pictures.agreement`.
        split: The column that tells the splits, where the table has it.
        seed: Of the sample that the proposed threshold rests on.

    Raises:
        ArgumentError: An argument has the wrong shape or range.
        DataError: A vector is not finite.

    >>> table = VectorTable(
    ...     vectors=[[0.0], [5.0], [0.1], [9.0], [5.0]], labels=["a", "b", "b", "c", "b"],
    ...     columns={"split": ["train", "train", "test", "test", "test"]},
    ... )
    >>> found = find_duplicates(table, threshold=0.5)
    >>> found.group
    array([ 0,  1,  0, -1,  1])
    >>> found.conflicts
    (Conflict(group=0, labels={'a': 1, 'b': 1}),)
    >>> found.leaks[0]
    Leak(id=0, split='train', other_id=2, other_split='test', distance=0.10000000149011612)
    """
    table = table if isinstance(table, VectorTable) else VectorTable(vectors=table)
    n = len(table)
    rule = "as given"
    if threshold is None:
        threshold = suggest_threshold(table, metric=metric, seed=seed)
        rule = f"{_SHARE} of the median distance to the nearest neighbour"
    check_radius(threshold, metric)
    parts = (
        np.unique(table.columns[split], return_inverse=True)[1]
        if split in table.columns
        else np.zeros(n, int)
    )
    vector = _codes(row.tobytes() for row in table.vectors + np.float32(0))  # adding 0 turns −0 into 0
    content = vector if contents is None else _checked_codes(contents, n)
    nearest, across, groups = _Nearest(n), _Nearest(n), Groups(n)

    def take(pairs: ClosePairs) -> None:
        nearest.add(pairs)
        across.add(pairs.take(parts[pairs.first] != parts[pairs.second]))
        groups.join(pairs.first, pairs.second)

    # One item stands for its copies within a split: a thousand copies are not to be half a million pairs.
    heads, member = np.unique(_combined(vector, parts), return_index=True, return_inverse=True)[1:]
    kept, stands = np.sort(heads), heads[member]
    for pairs in pairs_within(table.vectors[kept], threshold, metric):
        take(ClosePairs(kept[pairs.first], kept[pairs.second], pairs.distances))
    nearest.spread(stands)
    across.spread(stands)
    for codes in (vector, content):
        take(_copies(codes, parts))
    if pictures is not None:
        _check_count(pictures, n)
        for first, second in same_pictures(pictures):
            apart = measure(table.vectors, first, second, metric)
            take(ClosePairs(first, second, np.minimum(apart, threshold)))
    group = groups.numbers()
    return Duplicates(
        ids=table.ids,
        group=group,
        nearest=nearest.partners,
        distances=nearest.distances,
        exact=np.bincount(content, minlength=1)[content] > 1,
        threshold=float(threshold),
        metric=metric,
        rule=rule,
        leaks=_leaks(table, across, split),
        conflicts=_conflicts(table, group),
    )


def suggest_threshold(
    table: VectorTable | ArrayLike, *, metric: RadiusMetric = "euclidean", seed: int = 0
) -> float:
    """Propose a threshold: a quarter of the median distance to the nearest other vector.

    The median is over at most 1,000 items drawn with ``seed``, each against all; copies at distance 0 do not count.
    The rule assumes that fewer than half of the items have a near-duplicate; where that is not so, give a threshold.
    It is 0, which finds copies only, where no two vectors differ.

    >>> suggest_threshold([[0.0], [1.0], [2.0], [3.0], [3.0]])
    0.25
    """
    table = table if isinstance(table, VectorTable) else VectorTable(vectors=table)
    check_radius(0.0, metric)
    rows = np.random.default_rng(seed).permutation(len(table))[:_SAMPLE]
    closest = np.full(len(rows), np.inf, np.float32)
    for _, found in distance_blocks(table.vectors, table.vectors[rows], metric):
        closest = np.minimum(closest, np.where(found > 0, found, np.inf).min(axis=0, initial=np.inf))
    known = closest[np.isfinite(closest)]
    return _SHARE * float(np.median(known)) if len(known) else 0.0


def content_groups(items: Loading | Sequence[Any] | NDArray[Any]) -> NDArray[np.int64]:
    """Number the contents of items: two items have the same number when all their bytes are the same.

    Args:
        items: A :class:`kyori.Source`, an array whose first axis is the items, or a sequence of arrays, pictures or
            texts. What has a ``load`` is read a few hundred items at a time.

    Returns:
        ``(n,)`` int64, numbered by first appearance.

    >>> content_groups(["a", "b", "a"])
    array([0, 1, 0])
    """
    if hasattr(items, "load"):
        starts = range(0, len(items), _HASH_ITEMS)
        blocks = (items.load(np.arange(i, min(i + _HASH_ITEMS, len(items)))) for i in starts)
        return _codes(_content(item) for block in blocks for item in block)
    return _codes(_content(items[i]) for i in range(len(items)))


def _content(item: Any) -> bytes:
    array = np.ascontiguousarray(item)
    if array.dtype.kind == "O":
        raise DataError(f"items must be arrays, pictures or texts; got a {type(item).__name__}.")
    return f"{array.dtype} {array.shape} ".encode() + array.tobytes()


def _codes(contents: Iterable[bytes]) -> NDArray[np.int64]:
    """Number byte strings by first appearance; 128 bits of a hash stand for each."""
    known: dict[bytes, int] = {}
    digests = (hashlib.blake2b(content, digest_size=16).digest() for content in contents)
    return np.fromiter((known.setdefault(digest, len(known)) for digest in digests), np.int64)


def _checked_codes(contents: ArrayLike, n: int) -> NDArray[np.int64]:
    """Return ``(n,)`` codes 0 … m−1."""
    codes = np.asarray(contents)
    if codes.shape != (n,) or codes.dtype.kind not in "iuU":
        raise ArgumentError(
            f"contents must be {n} integers or strings, one per vector, equal where the items are the same; got an"
            f" array of {codes.dtype} with shape {codes.shape}. Make them with content_groups(items)."
        )
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)


def _check_count(pictures: PictureLoading, n: int) -> None:
    if len(pictures) != n:
        raise ArgumentError(f"pictures must be {n}, one per vector, in the same order; got {len(pictures)}.")


def _combined(codes: NDArray[np.int64], parts: NDArray[np.int64]) -> NDArray[np.int64]:
    return codes * (int(parts.max(initial=0)) + 1) + parts


def _copies(codes: NDArray[np.int64], parts: NDArray[np.int64]) -> ClosePairs:
    """Tie each item to the first copy of it, and to the first copy in another split than that one's."""
    head = np.unique(codes, return_index=True)[1][codes]
    elsewhere = np.flatnonzero(parts != parts[head])
    found, first = np.unique(codes[elsewhere], return_index=True)
    other = np.full(len(codes), -1, np.int64)
    other[found] = elsewhere[first]
    second = np.concatenate([head, other[codes]])
    items = np.tile(np.arange(len(codes)), 2)
    pairs = ClosePairs(np.minimum(items, second), np.maximum(items, second), np.zeros(len(items)))
    return pairs.take((second >= 0) & (second != items))


class _Nearest:
    """The nearest partner of each item among the pairs seen so far; of equal ones the first."""

    def __init__(self, n: int):
        self.partners = np.full(n, -1, np.int64)
        self.distances = np.full(n, np.inf)

    def add(self, pairs: ClosePairs) -> None:
        items = np.concatenate([pairs.first, pairs.second])
        partners = np.concatenate([pairs.second, pairs.first])
        distances = np.concatenate([pairs.distances, pairs.distances])
        order = np.lexsort((partners, distances, items))
        best = order[np.flatnonzero(np.diff(items[order], prepend=-1))]
        items, partners, distances = items[best], partners[best], distances[best]
        known = self.distances[items]
        better = (distances < known) | ((distances == known) & (partners < self.partners[items]))
        self.partners[items[better]] = partners[better]
        self.distances[items[better]] = distances[better]

    def spread(self, stands: NDArray[np.int64]) -> None:
        """Give each item the partner of the one that stood for it."""
        self.partners, self.distances = self.partners[stands], self.distances[stands]


def _leaks(table: VectorTable, across: _Nearest, split: str) -> tuple[Leak, ...]:
    if split not in table.columns:
        return ()
    ids, splits = table.ids.tolist(), table.columns[split].tolist()
    return tuple(
        Leak(ids[i], str(splits[i]), ids[j], str(splits[j]), float(across.distances[i]))
        for i, j in enumerate(across.partners.tolist())
        if j >= 0
    )


def _conflicts(table: VectorTable, group: NDArray[np.int64]) -> tuple[Conflict, ...]:
    if table.labels is None:
        return ()
    inside = np.flatnonzero(group >= 0)
    cells, counts = np.unique(np.stack([group[inside], table.labels[inside]]), axis=1, return_counts=True)
    labels: dict[int, dict[Hashable, int]] = {}
    for number, label, count in zip(*cells.tolist(), counts.tolist(), strict=True):
        name = label if table.class_names is None else table.class_names[label]
        labels.setdefault(number, {})[name] = count
    return tuple(Conflict(number, found) for number, found in labels.items() if len(found) > 1)
