"""What each item of a table does to a retrieval measure: as a query, and as an answer to the other queries.

Where a table is its own gallery its queries are not independent: an item that is new is asked once, and stands in the
lists of all others too. How sure a mean is therefore follows from what the measure would be without each item (the
jackknife of Tukey 1958), and that follows from the lists: without an item that stands before some positives their
ranks fall by one; without a positive, those behind it fall by one, and so does the number of positives.
"""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .ahead import Ranks, joined
from .measures import Measure
from .sums import Sums
from .task import Task

__all__ = ["EffectSums", "Effects", "Formula", "formula_of", "influences", "shared_by_classes"]

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

_NO_LIMIT = np.iinfo(np.int64).max
_SEED = 20
_PAIRS = 2_000_000  # of a positive and a class, at a time


@dataclass(frozen=True, eq=False)
class Effects:
    """What the sum of a measure over the queries gains when an item, or a whole class, leaves the gallery.

    Attributes:
        gains: By measure ``(m,)``, of each gallery item over all queries but itself; or ``(c,)``, of each class over
            the queries of other classes.
        signed: By measure, the same sums with a sign drawn for each query (for each class of queries): what pairs of a
            query and an item (of two classes) add cannot add up in it, and so its square is, on average, the sum of
            their squares. For classes what a class does to all others alike is no chance of a pair, and left out.
        lost: ``(m,)`` queries that have no positive without the item; zeros ``(c,)`` for classes.
    """

    gains: Mapping[str, Floats]
    signed: Mapping[str, Floats]
    lost: Counts

    @classmethod
    def total(cls, parts: Sequence["Effects"]) -> "Effects":
        """Return the effects on all queries out of those on parts of them."""
        keys = list(parts[0].gains)
        return cls(
            {key: np.sum([part.gains[key] for part in parts], axis=0) for key in keys},
            {key: np.sum([part.signed[key] for part in parts], axis=0) for key in keys},
            np.sum([part.lost for part in parts], axis=0),
        )


class EffectSums:
    """Adds up :class:`Effects`, block of queries after block.

    Args:
        task: Who is compared with whom, a table with itself.
        measures: Measures of retrieval.
        classes: Whether whole classes leave, and not single items.
    """

    def __init__(self, task: Task, measures: Sequence[Measure], *, classes: bool):
        self._task = task
        self._measures = measures
        self._classes = classes
        units = int(task.gallery_classes.max()) + 1 if classes else len(task.gallery)
        # Over the queries of either sign. No query gains or loses more than 1, though it is added in parts.
        self._gains = Sums(len(measures), units, most=4 * len(task.queries))
        # The same for every table of so many items: what two embeddings of them have in common stays so.
        generator = np.random.default_rng(_SEED)
        if classes:  # as many of one sign as of the other: they are few
            drawn = 2.0 * generator.permutation(np.arange(units) % 2) - 1
            self._plus = (drawn > 0).astype(np.int64)[task.query_classes]
            self._common = (drawn.sum() - drawn) / max(1, units - 1)  # the mean sign of the other classes
        else:
            self._plus = (generator.choice([-1.0, 1.0], len(task.queries)) > 0).astype(np.int64)
            self._common = np.zeros(units)
        self._lost = np.zeros(units, np.int64)
        self._losing = threading.Lock()
        self._directed = ~task.undirected()

    def add(self, ranks: Ranks) -> None:
        """Add the effects on one block of queries, whose ranks know who is ahead; several threads may."""
        if self._classes:
            self._add_classes(ranks)
        else:
            self._add_items(ranks)

    def effects(self) -> Effects:
        """Return what was added up."""
        keys = [measure.key for measure in self._measures]
        minus, plus = np.moveaxis(self._gains.values(), 1, 0)
        gains, signed = plus + minus, plus - minus
        return Effects(
            dict(zip(keys, gains, strict=True)),
            dict(zip(keys, signed - self._common * gains, strict=True)),
            self._lost,
        )

    def _add_items(self, ranks: Ranks) -> None:
        assert ranks.ahead is not None
        at = _Positives.of(ranks)
        asked = self._directed[ranks.rows][ranks.query]
        plus = self._plus[ranks.rows]
        pulls = np.empty((len(self._measures), len(ranks.rank)))
        for i, (pull, measure) in enumerate(zip(pulls, self._measures, strict=True)):
            formula = formula_of(measure)
            pull[:] = np.where(asked, at.pulls(formula), 0.0)
            # Positives stand before others too, but leave by a rule of their own.
            own = np.where(asked, at.removals(formula), 0.0) - at.behind(pull)
            self._gains.scatter(i, plus[ranks.query], ranks.column, own)
        ranks.ahead.add(pulls, ranks, plus, self._gains)
        only = asked & (at.count == 1)
        lost = np.bincount(ranks.column[only], minlength=len(self._lost))
        with self._losing:
            self._lost += lost

    def _add_classes(self, ranks: Ranks) -> None:
        at = _Positives.of(ranks)
        formulas = [formula_of(measure) for measure in self._measures]
        now = [at.gains(formula, at.rank, at.nth) for formula in formulas]
        plus = self._plus[ranks.rows]
        for positive, code, before in _class_shifts(self._task, ranks, self._directed[ranks.rows]):
            side = plus[ranks.query[positive]]
            for i, (formula, known) in enumerate(zip(formulas, now, strict=True)):
                moved = at.gains(formula, at.rank[positive] - before, at.nth[positive], positive)
                self._gains.scatter(i, side, code, moved - known[positive])


@dataclass(frozen=True)
class Formula:
    """A measure as Σ gain / divisor over the positives of a query.

    Attributes:
        gain: Of rank, number among the positives, and the rank after which nothing counts.
        limit: That rank, given the number of positives.
        divisor: Given the number of positives, 1 or more.
    """

    gain: Callable[[Counts, Counts, Counts], Floats]
    limit: Callable[[Counts], Counts]
    divisor: Callable[[Counts], NDArray]


def formula_of(measure: Measure) -> Formula:
    """Return the formula of a measure of retrieval."""
    k = measure.k

    def at_k(positives: Counts) -> Counts:
        return np.full_like(positives, k)

    def nowhere(positives: Counts) -> Counts:
        return np.full_like(positives, _NO_LIMIT)

    def itself(positives: Counts) -> Counts:
        return positives

    match measure.family:
        case "recall":
            return Formula(_first_hit, at_k, np.ones_like)
        case "mrr":
            return Formula(_first_share, nowhere, np.ones_like)
        case "mrr@k":
            return Formula(_first_share, at_k, np.ones_like)
        case "precision":
            return Formula(_hit, at_k, at_k)
        case "r-precision":
            return Formula(_hit, itself, itself)
        case "map@r":
            return Formula(_precision, itself, itself)
        case "map@k":
            return Formula(_precision, at_k, lambda positives: np.minimum(positives, k))
        case "map":
            return Formula(_precision, nowhere, itself)
        case _:
            ideal = np.cumsum(1 / np.log2(np.arange(2, k + 2)))
            return Formula(_discounted, at_k, lambda positives: ideal[np.minimum(positives, k) - 1])


def _hit(rank: Counts, nth: Counts, limit: Counts) -> Floats:
    return (rank <= limit).astype(np.float64)


def _first_hit(rank: Counts, nth: Counts, limit: Counts) -> Floats:
    return ((nth == 1) & (rank <= limit)).astype(np.float64)


def _first_share(rank: Counts, nth: Counts, limit: Counts) -> Floats:
    return np.where((nth == 1) & (rank <= limit), 1 / rank, 0.0)


def _precision(rank: Counts, nth: Counts, limit: Counts) -> Floats:
    return np.where(rank <= limit, nth / rank, 0.0)


def _discounted(rank: Counts, nth: Counts, limit: Counts) -> Floats:
    return np.where(rank <= limit, 1 / np.log2(rank + 1.0), 0.0)


@dataclass(frozen=True, eq=False)
class _Positives:
    """The positives of a block, ``(p,)`` each: by query, then by rank.

    Attributes:
        query: Row of the query.
        rank: From 1.
        nth: Number among the positives of the query, from 1.
        count: Number of positives of the query, those that were left out too.
        first: Where the positives of the query begin.
        last: Where they end.
    """

    query: Counts
    rank: Counts
    nth: Counts
    count: Counts
    first: Counts
    last: Counts

    @classmethod
    def of(cls, ranks: Ranks) -> "_Positives":
        present = np.bincount(ranks.query, minlength=len(ranks.positives))
        ends = np.cumsum(present)
        first = (ends - present)[ranks.query]
        nth = np.arange(1, len(ranks.rank) + 1) - first
        return cls(ranks.query, ranks.rank, nth, ranks.positives[ranks.query], first, ends[ranks.query])

    def gains(self, formula: Formula, rank: Counts, nth: Counts, at: NDArray | slice = slice(None)) -> Floats:
        """Return what positives add to their queries at other ranks; ``at`` chooses positives."""
        count = self.count[at]
        return formula.gain(rank, nth, formula.limit(count)) / formula.divisor(count)

    def pulls(self, formula: Formula) -> Floats:
        """Return what each positive gains when a negative before it leaves; 0 where none is."""
        free = self.rank > self.nth
        nearer = self.gains(formula, np.maximum(self.rank - 1, 1), self.nth)
        return np.where(free, nearer - self.gains(formula, self.rank, self.nth), 0.0)

    def removals(self, formula: Formula) -> Floats:
        """Return what the query gains when the positive leaves; it has nothing where that was the only one."""
        less = np.maximum(self.count - 1, 1)
        limit, divisor = formula.limit(less), formula.divisor(less)
        kept = formula.gain(self.rank, self.nth, limit) / divisor
        moved = formula.gain(np.maximum(self.rank - 1, 1), self.nth - 1, limit) / divisor
        left = self.before(kept) + self.behind(np.where(self.nth > 1, moved, 0.0))
        now = np.bincount(self.query, self.gains(formula, self.rank, self.nth))
        return np.where(self.count > 1, left, 0.0) - now[self.query]

    def before(self, values: Floats) -> Floats:
        """Return the sum over the positives of the query before each."""
        sums = np.concatenate([[0.0], np.cumsum(values)])
        return sums[:-1] - sums[self.first]

    def behind(self, values: Floats) -> Floats:
        """Return the sum over the positives of the query behind each."""
        sums = np.concatenate([[0.0], np.cumsum(values)])
        return sums[self.last] - sums[1:]


def _class_shifts(
    task: Task, ranks: Ranks, directed: NDArray[np.bool_]
) -> Iterator[tuple[Counts, Counts, Counts]]:
    """Yield positives, classes, and how many items of the class stand before the positive, for pairs with any."""
    assert ranks.ahead is not None
    ahead = ranks.ahead
    classes = int(task.gallery_classes.max()) + 1
    own = task.query_classes[ranks.rows]
    # The lists, as far as the last positive of each row, less the items of the query's own class.
    reach = np.zeros(len(own), np.int64)
    np.maximum.at(reach, ranks.query, ahead.place - ahead.starts[ranks.query])
    reach[~directed] = 0
    at = joined(ahead.starts, reach)
    row, code = np.repeat(np.arange(len(own)), reach), task.gallery_classes[ahead.columns[at]]
    others = code != own[row]
    at, key = at[others], (row * classes + code)[others]
    groups = np.unique(key)
    order = np.argsort(key, kind="stable")
    at, group = at[order], np.searchsorted(groups, key[order])
    begins = np.searchsorted(group, np.arange(len(groups)))
    first = np.searchsorted(ranks.query, np.arange(len(own)))
    size = np.bincount(ranks.query, minlength=len(own))[groups // classes]
    ends = np.cumsum(size)
    span = len(ahead.columns) + 1
    entries = group * span + at
    start = 0
    while start < len(groups):
        stop = max(start + 1, int(np.searchsorted(ends, ends[start] - size[start] + _PAIRS, side="right")))
        part = slice(start, stop)
        pair_group = np.repeat(np.arange(start, min(stop, len(groups))), size[part])
        positive = joined(first[groups[part] // classes], size[part])
        before = np.searchsorted(entries, pair_group * span + ahead.place[positive]) - begins[pair_group]
        some = np.flatnonzero(before)
        yield positive[some], groups[pair_group[some]] % classes, before[some]
        start = stop


def influences(
    task: Task, values: Mapping[str, Floats], effects: Effects, *, unit_class: bool, zero: bool
) -> dict[str, tuple[Floats, Floats] | None]:
    """Return ``(n,)`` influences of the items on each measure, whose mean is the measure, and the chance in them.

    Items: the pseudo-values nT − (n − 1)T₋ᵢ, moved to T. Classes: all items of a class share the pseudo-value of T
    without it. What one item does to one other query is chance of that pair; the jackknife counts it with the item,
    though it is in the query's own value already (it sees the variance of a term of k items k times, Efron & Stein
    1981). The chance is that part, with a sign drawn for each query: Σ chance² / n² is the variance to be taken off.

    Args:
        task: A table with itself.
        values: ``(n,)`` of each query by measure, NaN where it does not count.
        effects: Of items, or of classes.
        unit_class: Whether they are of classes.
        zero: Whether a query without a positive counts, as 0.

    Returns:
        By measure; None where nothing would be left to measure without some item.
    """
    of = _of_classes if unit_class else _of_items
    return {key: of(task, values[key], effects, key, zero) for key in effects.gains}


def _of_items(
    task: Task, values: Floats, effects: Effects, key: str, zero: bool
) -> tuple[Floats, Floats] | None:
    n, known = len(values), ~np.isnan(values)
    own = np.where(known, values, 0.0)
    total, count = own.sum(), int(known.sum())
    left = count - known - (0 if zero else effects.lost[task.excluded])
    if n < 2 or left.min() < 1:
        return None
    without = (total - own + effects.gains[key][task.excluded]) / left
    chance = effects.signed[key][task.excluded] * (n / count)
    shares = total / count - (n - 1) * (without - without.mean())
    # Not so much that less is left than if queries were independent.
    most = float(np.var(shares)) - float(np.var(own[known]))
    square = float(chance @ chance) / n
    return shares, chance * math.sqrt(min(1.0, max(0.0, most) / square) if square > 0 else 0.0)


def _of_classes(
    task: Task, values: Floats, effects: Effects, key: str, zero: bool
) -> tuple[Floats, Floats] | None:
    known = ~np.isnan(values)
    codes, members = np.unique(task.query_classes, return_inverse=True)
    sizes = np.bincount(members)
    own, count = np.bincount(members, np.where(known, values, 0.0)), np.bincount(members, known)
    total, answered, c = own.sum(), int(count.sum()), len(codes)
    left = answered - count
    if c < 2 or left.min() < 1:
        return None
    without = (total - own + effects.gains[key][codes]) / left
    chance = effects.signed[key][codes] * (len(values) / answered) / np.sqrt(sizes)
    return shared_by_classes(total / answered, without, members, sizes), chance[members]


def shared_by_classes(value: float, without: Floats, members: Counts, sizes: Counts) -> Floats:
    """Return ``(n,)`` influences of the items of c classes out of the ``(c,)`` values without each class.

    Args:
        value: With all classes.
        without: Without each.
        members: ``(n,)`` codes of the items.
        sizes: ``(c,)`` items of each class.
    """
    c, n = len(sizes), len(members)
    of_class = -(c - 1) * (without - without.mean())
    return value + (of_class * n / (c * sizes))[members]
