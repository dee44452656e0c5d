"""All pairs of vectors within a radius: exact, in bounded memory, and far from all pairs where the radius is small.

The vectors are sorted into leaves of a few hundred by halving at the median, along the directions of their largest
spread. Whether two leaves can hold a close pair is seen from a few coordinates: an orthogonal projection, and the
length of what it leaves out, never make a distance longer. What cannot be ruled out is one matrix product a leaf, with
a margin for its rounding, and each pair that it lets through is measured in float64. So the answer is the one of a
double loop, whatever the blocks; with a radius as wide as the data it costs as much as the double loop.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, nearest_name

__all__ = ["ClosePairs", "RadiusMetric", "check_radius", "measure", "pairs_within"]

RadiusMetric = Literal["euclidean", "squared_euclidean", "cosine"]

_METRICS = ("euclidean", "squared_euclidean", "cosine")
_LEAF = 256  # vectors in a leaf
_SAMPLE = 1024  # vectors that the directions are taken from
_DIRECTIONS = 16
_BLOCK_ITEMS = 2_000_000  # products held at a time
_UNIT = 2.0**-24  # rounding of a float32 operation
_SAME_DIRECTION = 1e-13  # as in kyori.neighbors


@dataclass(frozen=True, eq=False)
class ClosePairs:
    """Some of the pairs within the radius, each once.

    Attributes:
        first: ``(p,)`` int64 positions, each below its ``second``.
        second: ``(p,)`` int64 positions.
        distances: ``(p,)`` float64.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    distances: NDArray[np.float64]

    def take(self, chosen: NDArray) -> "ClosePairs":
        return ClosePairs(self.first[chosen], self.second[chosen], self.distances[chosen])


def pairs_within(
    vectors: NDArray[np.float32], radius: float, metric: RadiusMetric = "euclidean"
) -> Iterator[ClosePairs]:
    """Yield every unordered pair with a distance of at most ``radius``, block after block.

    Distances are those of the float32 vectors in float64 arithmetic. A zero vector has no direction: with the cosine
    it is in no pair.

    Args:
        vectors: ``(n, d)`` finite float32.
        radius: At least 0, in the unit of ``metric``; below 1 for the cosine.
        metric: ``"euclidean"``, ``"squared_euclidean"`` or ``"cosine"``: those that obey the triangle inequality, or
            whose roots do.

    Raises:
        ArgumentError: The radius is out of range or the metric is another one.

    >>> found = list(pairs_within(np.array([[0.0], [3.0], [0.5]], np.float32), 1.0))
    >>> [(int(i), int(j), float(D)) for block in found for i, j, D in zip(block.first, block.second, block.distances)]
    [(0, 2, 0.5)]
    """
    check_radius(radius, metric)
    vectors = np.asarray(vectors, np.float32)
    positions = np.arange(len(vectors))
    flat = vectors
    if metric == "cosine":
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        positions = np.flatnonzero(lengths > 0)
        flat = (vectors[positions] / lengths[positions, None]).astype(np.float32)
    if len(flat) < 2:
        return
    leaves = _Leaves(*_moderate(flat, _as_length(radius, metric)))
    for p, q in leaves.candidates():
        i, j = positions[leaves.order[p]], positions[leaves.order[q]]
        first, second = np.minimum(i, j), np.maximum(i, j)
        distances = measure(vectors, first, second, metric)
        close = distances <= radius
        if close.any():
            yield ClosePairs(first, second, distances).take(close)


def check_radius(radius: float, metric: str) -> None:
    """Raise `ArgumentError` where :func:`pairs_within` cannot search with these."""
    if metric not in _METRICS:
        raise ArgumentError(
            f"metric must be one of {', '.join(_METRICS)}; got {metric!r}{nearest_name(metric, _METRICS)}"
        )
    if not 0 <= radius < (1 if metric == "cosine" else np.inf):
        bound = (
            "at least 0 and below 1 for the cosine" if metric == "cosine" else "a finite number of at least 0"
        )
        raise ArgumentError(f"threshold must be {bound}; got {radius}.")


def _as_length(radius: float, metric: RadiusMetric) -> float:
    """The radius as a length between the vectors, or between their directions (|u − v|² is twice the cosine's)."""
    if metric == "cosine":
        return float(np.sqrt(2 * radius)) + 8 * _UNIT  # the directions are rounded to float32
    return float(np.sqrt(radius)) if metric == "squared_euclidean" else float(radius)


def _moderate(vectors: NDArray[np.float32], radius: float) -> tuple[NDArray[np.float32], float]:
    """Keep squares within float32: scale by a power of two, which rounds nothing, and cut an endless radius."""
    exponent = int(np.frexp(np.abs(vectors).max())[1])
    if abs(exponent) > 30:
        vectors, radius, exponent = np.ldexp(vectors, -exponent), float(np.ldexp(radius, -exponent)), 0
    longest = 2.0**exponent * vectors.shape[1] ** 0.5
    return vectors, min(radius, 2 * longest)


def measure(
    vectors: NDArray[np.float32], first: NDArray[np.int64], second: NDArray[np.int64], metric: RadiusMetric
) -> NDArray[np.float64]:
    """Return the ``(p,)`` distances of pairs, computed in float64."""
    distances = np.empty(len(first))
    step = max(1, _BLOCK_ITEMS // vectors.shape[1])
    for start in range(0, len(first), step):
        rows = slice(start, start + step)
        a, b = vectors[first[rows]].astype(np.float64), vectors[second[rows]].astype(np.float64)
        if metric == "cosine":
            cosine = np.einsum("pd,pd->p", a, b) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
            distances[rows] = np.where(1 - cosine < _SAME_DIRECTION, 0.0, 1 - cosine)
        else:
            a -= b
            distances[rows] = np.einsum("pd,pd->p", a, a)
    return np.sqrt(distances) if metric == "euclidean" else distances


class _Leaves:
    """Vectors in the order of their leaves, with the box of each leaf in a few coordinates."""

    def __init__(self, vectors: NDArray[np.float32], radius: float):
        self.radius = radius
        coordinates, longest = _shadow(vectors)
        self.order, self.starts = _halve(coordinates)
        self.vectors = vectors[self.order]
        self.shadow = coordinates[self.order]
        self.low = np.minimum.reduceat(self.shadow, self.starts[:-1])
        self.high = np.maximum.reduceat(self.shadow, self.starts[:-1])
        self.reach = radius * (1 + 1e-6) + 1e-5 * longest  # wider than the rounding of the coordinates

    def candidates(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield positions p < q in leaf order: every close pair is among them, and few others."""
        for leaf in range(len(self.starts) - 1):
            start, stop = self.starts[leaf], self.starts[leaf + 1]
            centre = self.vectors[start:stop].mean(axis=0)
            rows = self.vectors[start:stop] - centre
            others = self._near(leaf)
            step = max(1, _BLOCK_ITEMS // len(rows))
            for begin in range(0, len(others), step):
                chosen = others[begin : begin + step]
                p, q = np.nonzero(_maybe_close(rows, self.vectors[chosen] - centre, self.radius))
                p, q = p + start, chosen[q]
                later = q > p
                yield p[later], q[later]

    def _near(self, leaf: int) -> NDArray[np.int64]:
        """Return the positions, from this leaf on, that its box does not rule out."""
        low, high = self.low[leaf], self.high[leaf]
        near = np.flatnonzero(_gap(self.low[leaf:], self.high[leaf:], low, high) <= self.reach) + leaf
        rows = np.concatenate([np.arange(self.starts[i], self.starts[i + 1]) for i in near])
        shadow = self.shadow[rows]
        return rows[_gap(shadow, shadow, low, high) <= self.reach]


def _shadow(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Return ``(n, m)`` coordinates no two of which are farther apart than their vectors, and the largest length.

    They are the projections on the first principal directions of a sample, and the length of the remainder.
    """
    sample = vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), _SAMPLE)).astype(np.int64)].astype(
        np.float64
    )
    centre = sample.mean(axis=0)
    directions = np.linalg.svd(sample - centre, full_matrices=False)[2][:_DIRECTIONS]
    coordinates = np.empty((len(vectors), len(directions) + 1), np.float32)
    longest = 0.0
    step = max(1, _BLOCK_ITEMS // vectors.shape[1])
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step].astype(np.float64) - centre
        square = np.einsum("nd,nd->n", block, block)
        projected = block @ directions.T
        left_out = np.sqrt(np.maximum(square - np.einsum("nm,nm->n", projected, projected), 0))
        coordinates[start : start + step] = np.column_stack([projected, left_out])
        longest = max(longest, float(np.sqrt(square.max())))
    return coordinates, longest


def _halve(coordinates: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the order of the rows by leaves, and where each leaf starts, and the end."""
    waiting, leaves = [np.arange(len(coordinates))], []
    while waiting:
        rows = waiting.pop()
        if len(rows) <= _LEAF:
            leaves.append(rows)
            continue
        block = coordinates[rows]
        widest = int((block.max(axis=0) - block.min(axis=0)).argmax())
        half = len(rows) // 2
        halves = np.argpartition(block[:, widest], half)
        waiting += [rows[halves[half:]], rows[halves[:half]]]
    return np.concatenate(leaves), np.concatenate([[0], np.cumsum([len(leaf) for leaf in leaves])])


def _gap(low: NDArray, high: NDArray, box_low: NDArray, box_high: NDArray) -> NDArray[np.float64]:
    """Return the distances of ``(b, m)`` boxes to one box."""
    gap = np.maximum(np.maximum(low - box_high, box_low - high), 0).astype(np.float64)
    return np.sqrt(np.einsum("bm,bm->b", gap, gap))


def _maybe_close(a: NDArray[np.float32], b: NDArray[np.float32], radius: float) -> NDArray[np.bool_]:
    """Return ``(a, b)`` whether |a−b|² ≤ radius² is possible: |a|² + |b|² − 2ab in float32, less its rounding.

    A dot product of k terms is off by at most k roundings of the sum of their sizes (Higham 2002, §3.1).
    """
    slack = 4 * (a.shape[1] + 8) * _UNIT
    a_square, b_square = (np.einsum("nd,nd->n", x, x) * (1 - slack) for x in (a, b))
    left = np.column_stack([-2 * a, a_square, np.ones_like(a_square)])
    right = np.column_stack([b, np.ones_like(b_square), b_square])
    bound = np.float32(radius) ** 2 * (1 + 1e-5) + np.finfo(np.float32).tiny
    return left @ right.T <= np.float32(bound)
