"""Pairs, triplets, quadruplets and chunks drawn from labels, by a seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DataError
from ..neighbors import nearest

__all__ = ["draw_chunks", "draw_pairs", "draw_quadruplets", "draw_triplets", "pair_count"]

Indices = NDArray[np.int64]


def pair_count(n_pairs: int | None, classes: int) -> int:
    """How many pairs of each kind: as asked, or 20·c² (at least 100, at most 20,000)."""
    if n_pairs is None:
        return int(np.clip(20 * classes**2, 100, 20_000))
    if n_pairs < 1:
        raise ArgumentError(f"n_pairs must be ≥ 1 or None; got {n_pairs}.")
    return n_pairs


def draw_pairs(
    codes: Indices, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Draw up to ``count`` pairs of the same class and as many of different ones, none twice.

    Small data have fewer pairs than asked for; then there are fewer.

    Returns:
        Row numbers ``(n, 2)``, and whether the pair is of the same class ``(n,)``.

    Raises:
        DataError: No class has two items.
    """
    draw = _Partners(codes, rng)
    same = _without_doubles(draw.same, count)
    different = _without_doubles(draw.different, count)
    truth = np.repeat([True, False], [len(same), len(different)])
    return np.concatenate([same, different]), truth


def draw_quadruplets(codes: Indices, count: int, rng: np.random.Generator) -> Indices:
    """Draw quadruplets (a, b, c, d) with a, b of one class and c, d of two: row numbers ``(n, 4)``."""
    pairs, same = draw_pairs(codes, count, rng)
    near, far = pairs[same], pairs[~same]
    n = max(len(near), len(far))
    return np.concatenate([near[np.arange(n) % len(near)], far[np.arange(n) % len(far)]], axis=1)


def draw_triplets(
    X: NDArray[np.float64],
    codes: Indices,
    count: int,
    rng: np.random.Generator,
    *,
    k_same: int = 3,
    k_other: int = 10,
) -> Indices:
    """Draw triplets (anchor, one of its nearest of the class, one of its nearest of others): row numbers ``(n, 3)``.

    Raises:
        DataError: No class has two items.
    """
    sizes = np.bincount(codes)
    able = np.flatnonzero(sizes[codes] > 1)
    if len(able) == 0:
        raise DataError("y must have a class of at least 2 items; every item is alone in its class.")
    anchors = rng.permutation(able)[: max(1, -(-count // (k_same * k_other)))]
    parts = []
    for code in np.unique(codes[anchors]):
        members, others = np.flatnonzero(codes == code), np.flatnonzero(codes != code)
        own = anchors[codes[anchors] == code]
        k, m = min(k_same, len(members) - 1), min(k_other, len(others))
        near = members[_nearest_others(X, own, members, k)]
        far = others[nearest(X[own], X[others], m).ids]
        grid = np.empty((len(own), k, m, 3), dtype=np.int64)
        grid[..., 0], grid[..., 1], grid[..., 2] = own[:, None, None], near[:, :, None], far[:, None, :]
        parts.append(grid.reshape(-1, 3))
    return rng.permutation(np.concatenate(parts))[:count]


def draw_chunks(codes: Indices, n_chunks: int | None, chunk_size: int, rng: np.random.Generator) -> Indices:
    """Chunk number of each item ``(n,)``, −1 for none: whole classes, or so many chunks of items of one class.

    Raises:
        DataError: There are not as many chunks of that size.
    """
    if n_chunks is None:
        return codes
    if n_chunks < 1 or chunk_size < 2:
        raise ArgumentError(f"n_chunks must be ≥ 1 and chunk_size ≥ 2; got {n_chunks} and {chunk_size}.")
    order = rng.permutation(len(codes))
    pieces = []
    for code in range(codes.max() + 1):
        members = order[codes[order] == code]
        usable = len(members) // chunk_size * chunk_size
        pieces.append(members[:usable].reshape(-1, chunk_size))
    possible = np.concatenate(pieces)
    if len(possible) < n_chunks:
        raise DataError(
            f"n_chunks is {n_chunks}, but the classes have only {len(possible)} chunks of {chunk_size} items; "
            "ask for fewer or smaller ones."
        )
    chunks = np.full(len(codes), -1)
    chosen = possible[rng.permutation(len(possible))[:n_chunks]]
    chunks[chosen] = np.arange(n_chunks)[:, None]
    return chunks


class _Partners:
    """Draws items and partners: items are numbered by class, so a partner is an offset inside or outside the run."""

    def __init__(self, codes: Indices, rng: np.random.Generator):
        self.rng, self.n = rng, len(codes)
        self.order = np.argsort(codes, kind="stable")
        sizes = np.bincount(codes)
        self.sizes = sizes[codes[self.order]]
        self.starts = (np.cumsum(sizes) - sizes)[codes[self.order]]
        self.able = np.flatnonzero(self.sizes > 1)
        if len(self.able) == 0:
            raise DataError("y must have a class of at least 2 items; every item is alone in its class.")

    def same(self, count: int) -> Indices:
        first = self.rng.choice(self.able, count)
        start, size = self.starts[first], self.sizes[first]
        second = start + (first - start + 1 + self.rng.integers(0, size - 1)) % size
        return self.order[np.stack([first, second], axis=1)]

    def different(self, count: int) -> Indices:
        first = self.rng.integers(0, self.n, count)
        start, size = self.starts[first], self.sizes[first]
        second = (start + size + self.rng.integers(0, self.n - size)) % self.n
        return self.order[np.stack([first, second], axis=1)]


def _without_doubles(draw, count: int) -> Indices:  # type: ignore[no-untyped-def]  # a bound method of _Partners
    drawn = np.sort(draw(2 * count), axis=1)
    _, first = np.unique(drawn, axis=0, return_index=True)
    return drawn[np.sort(first)[:count]]


def _nearest_others(X: NDArray[np.float64], own: Indices, members: Indices, k: int) -> Indices:
    """Places in ``members`` of the k nearest of each of ``own``, itself left out."""
    found = nearest(X[own], X[members], k + 1).ids
    itself = members[found] == own[:, None]
    itself[~itself.any(1), -1] = True  # more than k copies of it are nearer in the order than itself
    return found[~itself].reshape(len(own), k)
