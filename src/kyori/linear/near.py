"""Which rows are near: a list of pairs that stays complete while the map changes a little.

The sums of LMNN and NCA are over all pairs of rows, but only near pairs count. A list made under L₀ holds all pairs
with ‖L₀v‖ < r_i, v their difference. Under L a pair that is missing is at least at distance r_i − ‖Ex_i‖ − max_l ‖Ex_l‖
with E = L − L₀, and, where L is square, at least at r_i/‖L₀L⁻¹‖: while what is needed stays below either, no pair that
counts is missing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from .neighbourhood import Rows, row_blocks

__all__ = ["Listed", "NearPairs", "Pairs", "row_distances"]

Matrix = NDArray[np.float64]
Blank = Callable[[Tensor, slice], None]
Reach = Callable[[Tensor, slice], Tensor]

_SHARE = 8  # near pairs may be 1/8 of all: beyond that all pairs are cheaper
_MOST = 4_000_000  # … and so many at most, about 100 MB
_REST = 2  # searches that are saved after there were too many near pairs
_STEPS = (
    2.0  # a list reaches farther than needed now, by what so many steps like the last one may bring nearer …
)
_RESERVES = (0.01, 0.05)  # … within these shares
_HOPELESS = 0.1  # … and no farther where steps are so long that no list would last
_LASTS = (
    8.0  # when the work on a list has been so many times that of comparing all pairs, a shorter one may pay
)
_PAIR = 6.0  # work of a listed pair over that of comparing one
_CHUNK = 2_048


class Pairs(NamedTuple):
    """p pairs of one of a anchors and a row: the anchor's number and the row ``(p,)``; those of anchor i are one run.

    `starts` ``(a + 1,)`` says where the runs begin and end.
    """

    anchors: Tensor
    columns: Tensor
    starts: Tensor

    def distances(self, Za: Tensor, Z: Tensor) -> Tensor:
        """Squared distances ``(p,)`` between anchors ``Za`` (a, d) and rows ``Z`` (n, d)."""
        zeros = Za.new_zeros(len(self.columns))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)
            wanted = torch.sparse_csr_tensor(
                self.starts, self.columns, zeros, (len(Za), len(Z)), check_invariants=False
            )
        dots = torch.sparse.sampled_addmm(wanted, Za, Z.T, beta=0.0).values()
        own, other = Za.square().sum(1), Z.square().sum(1)
        found = own.index_select(0, self.anchors).add_(other.index_select(0, self.columns))
        return found.sub_(dots, alpha=2.0).clamp_(min=0)

    def sums(self, values: Tensor) -> Tensor:
        """Sum of the values ``(p,)`` of each anchor, ``(a,)``."""
        return torch.segment_reduce(values, "sum", offsets=self.starts.long(), initial=0)

    def least(self, values: Tensor) -> Tensor:
        """Smallest of the values ``(p,)`` of each anchor, ``(a,)``; infinite without pairs."""
        return torch.segment_reduce(values, "min", offsets=self.starts.long(), initial=torch.inf)

    def product(self, weights: Tensor, X: Tensor) -> Tensor:
        """WX ``(a, f)`` for the matrix W of weights ``(p,)``."""
        return torch.from_numpy(self._matrix(weights, len(X)) @ X.numpy())

    def column_sums(self, weights: Tensor, n: int) -> Tensor:
        """Sum of the weights ``(p,)`` over each of n rows, in float64."""
        W = self._matrix(weights, n)
        return torch.from_numpy(W.T @ np.ones(W.shape[0]))

    def _matrix(self, weights: Tensor, n: int) -> csr_array:
        shape = (len(self.starts) - 1, n)
        return csr_array((weights.numpy(), self.columns.numpy(), self.starts.numpy()), shape=shape)


class Listed(NamedTuple):
    """Pairs, and their squared distances ``(p,)``."""

    pairs: Pairs
    distances: Tensor


class NearPairs:
    """Keeps a list of near pairs and makes a new one when the old one may lack a pair.

    Args:
        rows: The rows.
        n: The first n of them are candidates.
        anchors: Candidates whose near ones are wanted, in rising order.
        blank: Sets to infinity what is no pair, in the distances ``(b, n)`` of a block of anchors.
    """

    def __init__(self, rows: Rows, n: int, anchors: Tensor, blank: Blank):
        self.rows, self.n, self.anchors, self.blank = rows, n, anchors, blank
        self.pairs: Pairs | None = None
        self._made = self._last = np.empty((0, 0))
        self._radius = torch.empty(0)
        self._reserve = self._step = 0.1
        self._uses = self._rest = 0

    def complete(self, L: Matrix, needed: Tensor) -> bool:
        """Whether the list has all pairs nearer than ``needed`` (a,), a distance, under L, and is not far too long."""
        if self._last.size:
            left, stretch = self._left(self._last, L, needed)
            self._step = 1 - max(float((left / needed.clamp(min=1e-9)).min()), stretch)
        self._last = L.copy()
        if self.pairs is None:
            return False
        left, stretch = self._left(self._made, L, self._radius)
        if not bool((needed <= left.maximum(self._radius * stretch)).all()):
            return False
        self._uses += 1
        spent = self._uses * _PAIR * len(self.pairs.columns)
        return spent < _LASTS * len(self.anchors) * self.n or self._share() > 0.5 * self._reserve

    def listed(self, Z: Tensor) -> Listed | None:
        """The list as it is, with the distances between rows Z under the map of now; None without a list."""
        if self.pairs is None:
            return None
        return Listed(self.pairs, self.pairs.distances(Z[self.anchors], Z[: self.n]))

    def _left(self, before: Matrix, after: Matrix, distances: Tensor) -> tuple[Tensor, float]:
        """What is left at least of distances ``(a,)`` from one map to another, and the share that is left at least."""
        moved = (self.rows.wide[: self.n] @ torch.from_numpy(after - before).T).norm(dim=1)
        return distances - moved[self.anchors] - moved.max(), _least_stretch(before, after)

    def _share(self) -> float:
        wanted = _STEPS * self._step
        return 0.0 if wanted > _HOPELESS else float(np.clip(wanted, *_RESERVES))

    def search(self, L: Matrix, Z: Tensor, reach: Reach) -> Listed | None:
        """Make a list; None where there would be too many pairs, or were a moment ago.

        Args:
            L: The map.
            Z: Rows under it.
            reach: From squared distances ``(b, n)`` of a block of anchors, infinite where there is no pair, to the
                squared distance ``(b,)`` below which pairs are needed.
        """
        self.pairs = None
        if self._rest > 0:
            self._rest -= 1
            return None
        self._reserve, self._made, self._uses = self._share(), L.copy(), 0
        found = self._within(Z, reach)
        if found is None:
            self._rest = _REST
            return None
        self.pairs = found.pairs
        return found

    def _within(self, Z: Tensor, reach: Reach) -> Listed | None:
        a, n = len(self.anchors), self.n
        Z = Z[:n]
        lengths = Z.square().sum(1)
        rounding = 16 * torch.finfo(Z.dtype).eps * float(lengths.max())
        most = min(_MOST, max(10_000, a * n // _SHARE))
        self._radius = torch.empty(a, dtype=torch.float64)
        columns: list[NDArray[np.int32]] = []
        distances: list[NDArray[np.floating]] = []
        counts = np.zeros(a + 1, dtype=np.int64)
        total = 0
        blocks = row_blocks(a, n)
        space = Z.new_empty(blocks[0].stop, n)
        for block in blocks:
            own = self.anchors[block]
            D = torch.addmm(lengths, Z[own], Z.T, alpha=-2.0, out=space[: len(own)])
            D.add_(lengths[own, None])
            self.blank(D, block)
            needed = reach(D, block).clamp(min=0).double()
            radius = torch.where(needed > 0, needed.sqrt() * (1 + self._reserve), 0.0)
            self._radius[block] = radius
            limit = torch.where(radius > 0, radius.square() + rounding, 0.0).to(D.dtype)
            places = np.flatnonzero(
                D.numpy() < limit.numpy()[:, None]
            )  # NumPy's comparison is the faster one
            total += len(places)
            if total > most:
                return None
            firsts = np.arange(len(own) + 1) * n
            found = np.diff(np.searchsorted(places, firsts))
            counts[block.start + 1 : block.stop + 1] = found
            columns.append((places - np.repeat(firsts[:-1], found)).astype(np.int32))
            distances.append(D.numpy().ravel()[places])
        starts = np.cumsum(counts).astype(np.int32)
        anchors = np.repeat(np.arange(a, dtype=np.int32), counts[1:])
        pairs = Pairs(*(torch.from_numpy(part) for part in (anchors, np.concatenate(columns), starts)))
        return Listed(pairs, torch.from_numpy(np.concatenate(distances)).clamp_(min=0))


def _least_stretch(before: Matrix, after: Matrix) -> float:
    """The share of its length that a difference keeps at least, from one map to another; 0 where none is known."""
    if after.shape[0] != after.shape[1]:
        return 0.0
    try:
        return 1.0 / float(np.linalg.norm(np.linalg.solve(after.T, before.T), 2))
    except np.linalg.LinAlgError:
        return 0.0


def row_distances(Z: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Squared distances of pairs of rows, in chunks that stay in the cache."""
    found = Z.new_empty(len(first))
    for start in range(0, len(first), _CHUNK):
        part = slice(start, start + _CHUNK)
        found[part] = (Z.index_select(0, first[part]) - Z.index_select(0, second[part])).square_().sum(1)
    return found
