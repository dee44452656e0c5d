"""What speaks for and against a label: the votes of the neighbours, and the distance to the class's own centre.

Classes are sparse throughout: an item knows the few classes that occur around it, so 10⁵ classes cost no more than 10.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..neighbors import Matches, nearest

__all__ = ["Votes", "centre_scores", "count_votes", "graph"]

_BLOCK = 4096  # items whose votes are counted at a time
_HEARD = 4  # classes that a neighbour's own label may be in doubt between
_PRIOR = 0.1  # a neighbour keeps its label unless its own neighbours say another one ten times as loudly
_DOUBT = (
    0.5  # votes for nobody in particular, a tenth of them for the given label: few neighbours prove little
)
_PASSES = 5  # of k-means; the centres are rough places, not a clustering


@dataclass(frozen=True, eq=False)
class Votes:
    """The ``m`` classes that the neighbours of each item vote for, strongest first.

    Attributes:
        classes: ``(n, m)`` int64, −1 where there are fewer.
        shares: ``(n, m)`` float64, shares of the whole vote.
        own: ``(n,)`` float64 in (0, 1): share of the given label.
        least: ``(n,)`` float64: what a class is given for which nobody votes.
    """

    classes: NDArray[np.int64]
    shares: NDArray[np.float64]
    own: NDArray[np.float64]
    least: NDArray[np.float64]


def graph(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> Matches:
    """Find the k nearest gallery items of each query, itself left out: query i is gallery item ``rows[i]``."""
    if len(queries) == len(gallery):
        return nearest(queries, gallery, k, exclude_self=True)
    found = nearest(queries, gallery, k + 1)
    other = found.ids != rows[:, None]
    other[other.all(axis=1), -1] = False  # more duplicates than neighbours: it is not among its own
    shape = (len(queries), k)
    return Matches(found.ids[other].reshape(shape), found.distances[other].reshape(shape))


def count_votes(labels: NDArray[np.int64], found: Matches, rounds: int) -> Votes:
    """Let the neighbours vote for the label of each item, and then vote again knowing how much each is trusted.

    A neighbour at distance d weighs exp(−(d/h)²), h the distance of the middle neighbour. An item listens to as many
    neighbours as its class has other members, so that small classes are not outvoted. After a round, the label of a
    neighbour is what its own neighbours made of it: its given label ten times as likely as any other before their
    vote (Bayes' rule), so that wrong labels lose their voice.

    Args:
        labels: ``(n,)`` given labels.
        found: The k nearest other items of each, −1 where there are fewer.
        rounds: How often the vote is repeated, ≥ 0.
    """
    weights = _weights(labels, found)
    classes, shares = labels[:, None], np.ones((len(labels), 1))
    for turn in range(rounds + 1):
        votes = _count(labels, found.ids, weights, classes, shares)
        if turn < rounds:
            classes, shares = _believed(labels, votes)
    return votes


def _weights(labels: NDArray[np.int64], found: Matches) -> NDArray[np.float64]:
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    k = found.ids.shape[1]
    present = (found.ids >= 0).sum(axis=1)
    heard = np.minimum(sizes[codes] - 1, present).clip(1, k)
    middle = found.distances[np.arange(len(labels)), heard // 2].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(found.distances > 0, found.distances / middle[:, None], 0)
    weights = np.exp(-(np.minimum(relative, 10) ** 2))
    weights[(np.arange(k) >= heard[:, None]) | (found.ids < 0)] = 0
    return weights


def _count(
    labels: NDArray[np.int64],
    neighbors: NDArray[np.int64],
    weights: NDArray[np.float64],
    classes: NDArray[np.int64],
    shares: NDArray[np.float64],
) -> Votes:
    parts = [
        _count_block(labels[rows], classes[neighbors[rows]], weights[rows, :, None] * shares[neighbors[rows]])
        for rows in _blocks(len(labels))
    ]
    return Votes(*(np.concatenate([part[i] for part in parts]) for i in range(4)))


def _count_block(
    labels: NDArray[np.int64], classes: NDArray[np.int64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Add up ``(b, k, m)`` weights by class; see :class:`Votes` for what comes back."""
    b = len(labels)
    flat = classes.reshape(b, -1)
    order = np.argsort(flat, axis=1, kind="stable")
    flat = np.take_along_axis(flat, order, axis=1)
    heavy = np.take_along_axis(weights.reshape(b, -1), order, axis=1)
    first = np.ones(flat.shape, bool)
    first[:, 1:] = flat[:, 1:] != flat[:, :-1]
    sums = np.zeros(flat.shape)
    sums[first] = np.add.reduceat(heavy.ravel(), np.flatnonzero(first))
    sums[flat < 0] = 0
    total = sums.sum(axis=1) + _DOUBT
    least = _DOUBT / 10 / total
    own = (sums * (flat == labels[:, None])).sum(axis=1) / total + least
    best = np.argsort(-sums, axis=1, kind="stable")[:, :_HEARD]
    shares = np.take_along_axis(sums, best, axis=1) / total[:, None]
    named = np.where(shares > 0, np.take_along_axis(flat, best, axis=1), -1)
    return named, shares, own, least


def _believed(labels: NDArray[np.int64], votes: Votes) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Classes and shares ``(n, m + 1)`` of what each item's label probably is: the given one stands last."""
    others = votes.classes != labels[:, None]
    belief = np.concatenate([_PRIOR * votes.shares * others, votes.own[:, None]], axis=1)
    return np.concatenate([votes.classes, labels[:, None]], axis=1), belief / belief.sum(
        axis=1, keepdims=True
    )


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, n, _BLOCK))


def centre_scores(
    vectors: NDArray[np.float32],
    labels: NDArray[np.int64],
    trust: NDArray[np.float64],
    rows: NDArray[np.int64],
    *,
    centres: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Compare the distance to the own class's main centre with that to the nearest main centre of another class.

    Every class has up to ``centres`` centres (k-means, items weighted by how far their labels are trusted), and the
    heaviest is its main one: wrongly labelled items gather around the others (the rule of sub-centre ArcFace, Deng et
    al., ECCV 2020).

    Args:
        vectors: ``(n, d)``.
        labels: ``(n,)`` given labels.
        trust: ``(n,)`` in [0, 1].
        rows: ``(q,)`` items to score.
        centres: Centres of a class, ≥ 1.

    Returns:
        ``(q,)`` scores other / (own + other) in [0, 1], 0.5 half-way between the two; and ``(q,)`` the class of the
        other centre.
    """
    classes, codes = np.unique(labels, return_inverse=True)
    main = main_centres(vectors, codes, len(classes), trust, centres)
    found = nearest(vectors[rows], main, 2)
    second = found.ids[:, 0] == codes[rows]
    other = np.where(second, found.ids[:, 1], found.ids[:, 0])
    apart = np.where(second, found.distances[:, 1], found.distances[:, 0]).astype(np.float64)
    own = np.linalg.norm(vectors[rows] - main[codes[rows]], axis=1).astype(np.float64)
    both = own + apart
    return np.where(both > 0, apart / np.where(both > 0, both, 1), 0.5), classes[other]


def main_centres(
    vectors: NDArray[np.float32], codes: NDArray[np.int64], c: int, trust: NDArray[np.float64], centres: int
) -> NDArray[np.float32]:
    """Return ``(c, d)``: of the centres of each class the one with the most weight."""
    whole = _means(vectors, codes, c, trust)
    if centres == 1:
        return whole
    sizes = np.bincount(codes, minlength=c)
    # Begin along the distance from the mean, which depends on the items and not on their order.
    away = np.linalg.norm(vectors - whole[codes], axis=1)
    order = np.lexsort((away, codes))
    rank = np.empty(len(codes), np.int64)
    rank[order] = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    cluster = rank * centres // sizes[codes]
    for _ in range(_PASSES):
        places = _means(vectors, codes * centres + cluster, c * centres, trust)
        distance = np.stack(
            [np.linalg.norm(vectors - places[codes * centres + i], axis=1) for i in range(centres)], axis=1
        )
        cluster = distance.argmin(axis=1)
    weight = np.bincount(codes * centres + cluster, trust, c * centres).reshape(c, centres)
    return _means(vectors, codes * centres + cluster, c * centres, trust)[
        np.arange(c) * centres + weight.argmax(axis=1)
    ]


def _means(
    vectors: NDArray[np.float32], groups: NDArray[np.int64], count: int, weights: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Weighted mean of each group, ``(count, d)``; infinitely far away where a group is empty."""
    from scipy.sparse import csr_array

    total = np.bincount(groups, weights, count)
    sums = csr_array((weights, (groups, np.arange(len(groups)))), shape=(count, len(groups))) @ vectors
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total[:, None] > 0, sums / total[:, None], 1e15).astype(np.float32)
