"""LMNN's sum over impostors, exact, in two ways that give the same number.

Over all pairs: in row blocks, each compared with the thresholds of its rows, in O(n²·(f + k)) time and O(block × n)
memory.

Over near pairs: a pair (i, l) counts only if l is nearer to i than the farthest target plus the margin, which few are.
See `kyori.linear.near`.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .classes import ClassRuns
from .near import Listed, NearPairs, Pairs, row_distances
from .neighbourhood import Rows, differences_gradient, row_blocks, transformed

__all__ = ["MarginSum"]

Matrix = NDArray[np.float64]
Indices = NDArray[np.int64]

_NO_TARGET = -1.0  # a threshold that no distance is below


class MarginSum:
    """pull·Σ_ij D²(i,j) + push·Σ_ijl [1 + D²(i,j) − D²(i,l)]₊ over targets j and impostors l, with its gradient by L.

    Args:
        rows: m rows, the first n of which are anchors or impostors.
        codes: Classes of these, ``(n,)``, in rising order.
        targets: Rows that are targets of each anchor, ``(a, k)``, −1 for none.
        push: Weight of the hinges.
        pull: Weight of the distances to targets.
        anchors: Which of the n rows are anchors, ``(a,)`` in rising order; None for all.
    """

    def __init__(
        self,
        rows: Rows,
        codes: Indices,
        targets: Indices,
        *,
        push: float,
        pull: float,
        anchors: Indices | None = None,
    ):
        self.rows, self.push, self.pull = rows, push, pull
        self.n = len(codes)
        chosen = np.arange(self.n) if anchors is None else anchors
        self.anchors = torch.from_numpy(chosen)
        self.classes = ClassRuns(codes, chosen)
        self._aims = _pairs_of(torch.from_numpy(targets))
        self._slots = (torch.from_numpy(targets) >= 0).nonzero(as_tuple=True)
        self._k = targets.shape[1]
        self.near = NearPairs(rows, self.n, self.anchors, self._blank)

    @torch.no_grad()
    def __call__(self, L: Matrix) -> tuple[float, Matrix]:
        """Value and gradient ``(d, f)``, over near pairs where they are known or can be."""
        Z, X = transformed(L, self.rows)
        distances, thresholds = self._thresholds(Z)
        farthest = thresholds.amax(1)
        if self.near.complete(L, farthest.double().clamp(min=0).sqrt()):
            near = self.near.listed(Z)
        else:
            near = self.near.search(L, Z, lambda _, block: farthest[block])
        if near is None:
            return self._over_all(L, Z, X, distances, thresholds)
        return self._over_near(L, X, near, distances, thresholds)

    @torch.no_grad()
    def over_all(self, L: Matrix) -> tuple[float, Matrix]:
        """Value and gradient ``(d, f)``, over all pairs."""
        Z, X = transformed(L, self.rows)
        return self._over_all(L, Z, X, *self._thresholds(Z))

    def _thresholds(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances to the targets, one after the other, and 1 more than them as a table ``(a, k)``."""
        own = self.anchors[self._aims.anchors]
        distances = row_distances(Z, own, self._aims.columns)
        thresholds = Z.new_full((len(self.anchors), self._k), _NO_TARGET)
        thresholds[self._slots] = distances + 1.0
        return distances, thresholds

    def _blank(self, D: Tensor, block: slice) -> None:
        run, same = self.classes.same(block)
        D[:, run].masked_fill_(same, torch.inf)

    def _over_all(
        self, L: Matrix, Z: Tensor, X: Tensor, distances: Tensor, thresholds: Tensor
    ) -> tuple[float, Matrix]:
        a, n = len(self.anchors), self.n
        Z, candidates = Z[:n], X[:n]
        lengths = Z.square().sum(1)
        pulls = torch.zeros_like(thresholds)
        counts, columns = Z.new_zeros(a), torch.zeros(n, dtype=torch.float64)
        products = X.new_empty(a, X.shape[1])
        passed = 0.0
        for block in row_blocks(a, n):
            own = self.anchors[block]
            D = torch.addmm(lengths, Z[own], Z.T, alpha=-2.0).add_(lengths[own, None]).clamp_(min=0)
            self._blank(D, block)
            W, below = torch.zeros_like(D), torch.empty_like(D)
            for slot in range(self._k):
                torch.lt(D, thresholds[block, slot, None], out=below)  # as floats: faster than booleans
                pulls[block, slot] = below.sum(1)
                W += below
            counts[block] = pulls[block].sum(1)
            passed += float(torch.dot(W.view(-1), D.nan_to_num_(posinf=0.0).view(-1)))
            columns += W.sum(0)
            products[block] = W @ candidates
        hinges = float((pulls * thresholds).sum(dtype=torch.float64)) - passed
        return self._finish(L, X, distances, pulls, hinges, counts, columns, products)

    def _over_near(
        self, L: Matrix, X: Tensor, near: Listed, distances: Tensor, thresholds: Tensor
    ) -> tuple[float, Matrix]:
        n, (pairs, D) = self.n, near
        pulls, W = torch.zeros_like(thresholds), torch.zeros_like(D)
        hinges = 0.0
        for slot in range(self._k):
            gaps = thresholds[:, slot].index_select(0, pairs.anchors).sub_(D).clamp_(min=0)
            hinges += float(gaps.sum(dtype=torch.float64))
            active = torch.gt(gaps, 0, out=gaps)
            pulls[:, slot] = pairs.sums(active)
            W += active
        products = pairs.product(W, X[:n])
        return self._finish(L, X, distances, pulls, hinges, pulls.sum(1), pairs.column_sums(W, n), products)

    def _finish(
        self,
        L: Matrix,
        X: Tensor,
        distances: Tensor,
        pulls: Tensor,
        hinges: float,
        counts: Tensor,
        columns: Tensor,
        products: Tensor,
    ) -> tuple[float, Matrix]:
        """Value and gradient from how often each pair counts.

        Args:
            L: The map.
            X: The rows.
            distances: To the targets.
            pulls: How many impostors are too near for each target, ``(a, k)``.
            hinges: Sum of the hinges.
            counts: How often impostors of each anchor count, ``(a,)``.
            columns: How often each row is one, ``(n,)``.
            products: WX ``(a, f)`` with W how often row l is an impostor of anchor i.
        """
        value = self.pull * float(distances.sum(dtype=torch.float64)) + self.push * hinges
        aims = self._aims
        weights = self.pull + self.push * pulls[self._slots]
        own = X[self.anchors]
        S = own.T @ aims.product(weights, X).sub_(products, alpha=self.push)
        sums = aims.column_sums(weights, len(X))
        sums[: self.n] -= self.push * columns
        sums[self.anchors] += aims.sums(weights).double() - self.push * counts
        return value, differences_gradient(L, self.rows.wide, sums, S.double())


def _pairs_of(targets: Tensor) -> Pairs:
    """Anchors and their targets, as pairs."""
    filled = targets >= 0
    starts = torch.zeros(len(targets) + 1, dtype=torch.int32)
    starts[1:] = filled.sum(1).cumsum(0)
    return Pairs(filled.nonzero()[:, 0], targets[filled], starts)
