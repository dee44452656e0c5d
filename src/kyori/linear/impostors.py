"""LMNN's sum over impostors, exact, in two ways that give the same number.

Over all pairs: in row blocks with `kyori.losses.mining.hinge_counts`, O(n² log k) time and O(block × n) memory.

Over near pairs: a pair (i, l) counts only if l is nearer to i than the farthest target plus the margin, which few are.
With E the change of L since the list of near pairs was made, a distance has changed by at most ‖Ex_i‖ + ‖Ex_l‖. So
while every anchor's threshold plus that bound stays below the radius of its list, no impostor can be missing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from ..losses.mining import hinge_counts
from .classes import ClassRuns
from .neighbourhood import Rows, differences_gradient, row_blocks, transformed

__all__ = ["MarginSum"]

Matrix = NDArray[np.float64]

_SHARE = 25  # near pairs may be 1/25 of all: beyond that all pairs are cheaper
_MOST = 4_000_000  # … and so many at most, about 100 MB
_REST = 2  # evaluations over all pairs after there were too many near ones
_STEPS = 3.0  # a list reaches so many of the last step's lengths farther than needed now …
_RESERVE = 0.05  # … and at most three times this share
_CHUNK = 16_384


class _Near(NamedTuple):
    """Pairs (anchor, other) nearer than radius ``(n,)`` under ``L``, of different classes."""

    L: Matrix
    anchors: Tensor
    others: Tensor
    radius: Tensor


class MarginSum:
    """pull·Σ_ij D²(i,j) + push·Σ_ijl [1 + D²(i,j) − D²(i,l)]₊ over targets j and impostors l, with its gradient by L.

    Args:
        rows: m rows; the first n are the anchors, and the impostors of each other.
        codes: Classes of the anchors, ``(n,)``, in rising order.
        targets: Rows that are targets of each anchor, ``(n, k)``, −1 for none.
        push: Weight of the hinges.
        pull: Weight of the distances to targets.
    """

    def __init__(
        self, rows: Rows, codes: NDArray[np.int64], targets: NDArray[np.int64], *, push: float, pull: float
    ):
        self.rows, self.push, self.pull = rows, push, pull
        self.n = len(codes)
        self.classes = ClassRuns(codes)
        self.targets = torch.from_numpy(targets)
        self.anchors, self.slots = (self.targets >= 0).nonzero(as_tuple=True)
        self.columns = self.targets[self.anchors, self.slots]
        self._near: _Near | None = None
        self._last: Matrix | None = None
        self._rest = 0

    @torch.no_grad()
    def __call__(self, L: Matrix) -> tuple[float, Matrix]:
        """Value and gradient ``(d, f)``, over near pairs where they are known or can be."""
        Z, X = transformed(L, self.rows)
        distances = _row_distances(Z, self.anchors, self.columns)
        thresholds = Z.new_full(self.targets.shape, -torch.inf)
        thresholds[self.anchors, self.slots] = distances + 1.0
        near = self._find_near(L, Z, thresholds.amax(1))
        return self.over_all(L) if near is None else self._over_near(L, Z, X, near, distances, thresholds)

    @torch.no_grad()
    def over_all(self, L: Matrix) -> tuple[float, Matrix]:
        """Value and gradient ``(d, f)``, over all pairs."""
        Z, X = transformed(L, self.rows)
        n, lengths = self.n, Z.square().sum(1)
        value = 0.0
        sums = torch.zeros(len(X), dtype=torch.float64)
        S = torch.zeros(X.shape[1], X.shape[1], dtype=torch.float64)
        for block in row_blocks(n, len(X)):
            D = _squares(Z, lengths, block)
            positive, negative = torch.zeros_like(D, dtype=torch.bool), torch.zeros_like(D, dtype=torch.bool)
            inside = (self.anchors >= block.start) & (self.anchors < block.stop)
            anchors, columns = self.anchors[inside] - block.start, self.columns[inside]
            positive[anchors, columns] = True
            run, same = self.classes.same(block)
            negative[:, :n] = True
            negative[:, run] &= ~same
            W, active = hinge_counts(D, positive, negative, 1.0, "all")
            W.mul_(self.push)
            W[anchors, columns] += self.pull
            value += self.push * float(active.sum()) + float(torch.dot(W.view(-1), D.view(-1)))
            sums += W.sum(0)
            sums[block] += W.sum(1)
            S += X[block].T @ (W @ X)
        return value, differences_gradient(L, self.rows.wide, sums, S)

    def _over_near(
        self, L: Matrix, Z: Tensor, X: Tensor, near: _Near, distances: Tensor, thresholds: Tensor
    ) -> tuple[float, Matrix]:
        gaps = thresholds[near.anchors] - _row_distances(Z, near.anchors, near.others)[:, None]
        active = gaps > 0
        hinges = gaps.clamp_(min=0).sum(dtype=torch.float64)
        value = self.pull * float(distances.sum(dtype=torch.float64)) + self.push * float(hinges)
        pulls = torch.zeros_like(thresholds).index_add_(0, near.anchors, active.to(Z.dtype))
        counts = active.sum(1)
        chosen = counts > 0
        weights = torch.cat(
            [
                self.pull + self.push * pulls[self.anchors, self.slots],
                -self.push * counts[chosen].to(Z.dtype),
            ]
        ).numpy()
        first = torch.cat([self.anchors, near.anchors[chosen]]).numpy()
        second = torch.cat([self.columns, near.others[chosen]]).numpy()
        m = len(X)
        W = csr_array((weights, (first, second)), shape=(m, m))
        S = torch.from_numpy((X.numpy().T @ (W @ X.numpy())).astype(np.float64))
        sums = np.bincount(first, weights, m) + np.bincount(second, weights, m)
        return value, differences_gradient(L, self.rows.wide, torch.from_numpy(sums), S)

    def _find_near(self, L: Matrix, Z: Tensor, thresholds: Tensor) -> _Near | None:
        """A list of near pairs that cannot lack an impostor; None where there is none yet, or too many are near."""
        needed = thresholds.clamp(min=0).sqrt()
        if self._near is not None:
            if bool((needed + self._moved(L, self._near.L) <= self._near.radius).all()):
                self._last = L.copy()
                return self._near
            self._near = None
        last, self._last = self._last, L.copy()
        if self._rest > 0:
            self._rest -= 1
            return None
        reserve = 0.0 if last is None else _STEPS * self._moved(L, last).minimum(_RESERVE * needed)
        radius = torch.where(thresholds > 0, needed + reserve, 0.0)
        found = self._pairs_within(Z, radius)
        if found is None:
            self._rest = _REST
            return None
        self._near = _Near(L.copy(), *found, radius)
        return self._near

    def _moved(self, L: Matrix, before: Matrix) -> Tensor:
        """How much at most a distance of each anchor to any row has changed, ``(n,)``."""
        moved = (self.rows.wide @ torch.from_numpy(L - before).T).norm(dim=1)
        return moved[: self.n] + moved.max()

    def _pairs_within(self, Z: Tensor, radius: Tensor) -> tuple[Tensor, Tensor] | None:
        n, lengths = self.n, Z.square().sum(1)
        most = min(_MOST, max(10_000, n * n // _SHARE))
        rounding = 16 * torch.finfo(Z.dtype).eps * lengths.max()
        reach = (radius.square() + rounding - lengths[:n]).to(Z.dtype)[:, None]
        found: list[Tensor] = []
        total = 0
        for block in row_blocks(n, n):
            within = torch.addmm(lengths[:n], Z[block], Z[:n].T, alpha=-2.0) < reach[block]
            run, same = self.classes.same(block)
            within[:, run] &= ~same
            pairs = within.nonzero()
            pairs[:, 0] += block.start
            found.append(pairs)
            total += len(pairs)
            if total > most:
                return None
        anchors, others = torch.cat(found).T.contiguous()
        return anchors, others


def _squares(Z: Tensor, lengths: Tensor, block: slice) -> Tensor:
    """Squared distances of a block of rows to all, (b, m)."""
    return torch.addmm(lengths, Z[block], Z.T, alpha=-2.0).add_(lengths[block, None]).clamp_(min=0)


def _row_distances(Z: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Squared distances of pairs of rows, in chunks that stay in the cache."""
    found = Z.new_empty(len(first))
    for start in range(0, len(first), _CHUNK):
        part = slice(start, start + _CHUNK)
        found[part] = (Z[first[part]] - Z[second[part]]).square_().sum(1)
    return found
