"""Large margin nearest neighbour."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError, DataError
from .coordinates import even_coordinates
from .impostors import MarginSum
from .metric import LinearMetric
from .neighbourhood import LONGEST, Rows, row_blocks
from .scatter import ROWS
from .solvers import Solution, adam, check_batches, lbfgs
from .starting import Init, first_transformation, generator

__all__ = ["LMNN"]

Matrix = NDArray[np.float64]
Indices = NDArray[np.int64]

_CANDIDATES = 20_000  # of a class among which targets are looked for …
_BATCH_CANDIDATES = 5_000  # … and with batches, so that the search takes about as long as an epoch


class LMNN(LinearMetric):
    """Large margin nearest neighbour (Weinberger & Saul 2009): k targets near, impostors a margin of 1 farther.

    Minimises (1−μ)·Σ_i Σ_{j∈T(i)} D²(i,j) + μ·Σ_i Σ_{j∈T(i)} Σ_{l: y_l≠y_i} [1 + D²(i,j) − D²(i,l)]₊ where T(i) are
    the k nearest items of the class of i in the input. The sum over impostors l is exact, without a list of triplets:
    see `kyori.linear.impostors`.

    Items of a class with fewer than k others have all of those as targets; an item that is alone in its class has
    none and is an impostor only. In classes of more than 20,000 items (5,000 with batches), targets are the nearest
    among so many drawn ones.

    Args:
        n_neighbors: k ≥ 1.
        n_components: d ≤ f; None keeps f. With d = f the problem is convex in M = LᵀL.
        init: Where to start: ``"auto"``, ``"pca"``, ``"lda"``, ``"identity"``, ``"random"`` or a matrix ``(d, f)``.
        push: μ in (0, 1), the weight of the impostors.
        max_iter: Iterations of L-BFGS at most, over all rows.
        tol: L-BFGS stops when a step gains less than this share.
        batch_size: None sums over all rows in blocks. A number ≥ 2 goes down by Adam on batches of so many
            anchors with their targets; impostors are the other rows of the batch, weighted so that the gradient
            is right in the mean. O(batch²) memory and O(n · batch) time an epoch.
        epochs: Times that each row is an anchor, with ``batch_size``.
        learning_rate: Of Adam, relative to the start; falls to 0.
        random_state: Seed of ``"random"``, of drawn candidates and of the batches.

    Attributes:
        components_: L, ``(d, f)``.
        objective_: The sum above at the end (with batches: n times the mean over the last epoch's batches).
        n_iter_: Iterations, or steps of Adam.
        classes_: The labels.

    Example:
        >>> from sklearn.datasets import load_wine
        >>> X, y = load_wine(return_X_y=True)
        >>> LMNN(n_components=2).fit((X - X.mean(0)) / X.std(0), y).transform(X).shape
        (178, 2)
    """

    def __init__(
        self,
        n_neighbors: int = 3,
        n_components: int | None = None,
        *,
        init: Init | NDArray[np.floating] = "auto",
        push: float = 0.5,
        max_iter: int = 200,
        tol: float = 1e-5,
        batch_size: int | None = None,
        epochs: int = 10,
        learning_rate: float = 0.01,
        random_state: Any = 0,
    ):
        self.n_neighbors = n_neighbors
        self.n_components = n_components
        self.init = init
        self.push = push
        self.max_iter = max_iter
        self.tol = tol
        self.batch_size = batch_size
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from items ``(n, f)`` and labels ``(n,)`` of at least two classes, one of them with two items."""
        rows, codes = self._check_labels(X, y)
        if self.n_neighbors < 1:
            raise ArgumentError(f"n_neighbors must be ≥ 1; got {self.n_neighbors}.")
        if not 0 < self.push < 1:
            raise ArgumentError(f"push must be between 0 and 1; got {self.push}.")
        check_batches(self.batch_size, self.epochs, self.learning_rate, 2)
        rng = generator(self.random_state)
        start = first_transformation(self.init, rows, codes, self.n_components, rng)
        most = _CANDIDATES if self._batch_of(len(rows)) is None else _BATCH_CANDIDATES
        targets = target_neighbours(rows, codes, self.n_neighbors, rng, most)
        even = even_coordinates(_target_covariance(rows, targets))
        found = self._solve(start @ even.back, rows, even.to, codes, targets, rng)
        self.components_ = found.L @ even.to
        self.objective_, self.n_iter_ = found.value, found.iterations
        return self

    def _batch_of(self, n: int) -> int | None:
        return None if self.batch_size is None or self.batch_size >= n else self.batch_size

    def _solve(
        self,
        start: Matrix,
        X: Matrix,
        to: Matrix,
        codes: Indices,
        targets: Indices,
        rng: np.random.Generator,
    ) -> Solution:
        n = len(X)
        order = np.argsort(codes, kind="stable")  # a class is one run of columns
        codes, targets = codes[order], targets[order]
        batch_size = self._batch_of(n)
        if batch_size is None:
            places = np.empty(n + 1, dtype=np.int64)
            places[order], places[-1] = np.arange(n), -1  # a missing target, −1, stays one
            rows = Rows(X[order] @ to)
            total = MarginSum(rows, codes, places[targets], push=self.push, pull=1 - self.push)
            return lbfgs(total, start, max_iter=self.max_iter, tol=self.tol)

        def batch(L: Matrix, anchors: Indices) -> tuple[float, Matrix]:
            wanted = targets[anchors]
            drawn, places = np.unique(wanted[wanted >= 0], return_inverse=True)
            local = np.full(wanted.shape, -1)
            local[wanted >= 0] = len(anchors) + places
            rows = Rows(X[np.concatenate([order[anchors], drawn])] @ to, narrow=True)
            weight = self.push * (n - 1) / (len(anchors) - 1)
            part = MarginSum(rows, codes[anchors], local, push=weight, pull=1 - self.push)
            value, gradient = part.over_all(L)
            return value * n / len(anchors), gradient * (n / len(anchors))

        return adam(
            batch,
            start,
            n,
            batch_size=batch_size,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            rng=rng,
        )


def _target_covariance(X: Matrix, targets: Indices) -> Matrix:
    """Mean vvᵀ of the differences v between an item and its targets, ``(f, f)``.

    In coordinates in which it is the identity, the first sum is a multiple of ‖L‖².
    """
    anchors, slots = np.nonzero(targets >= 0)
    total = np.zeros((X.shape[1], X.shape[1]))
    for start in range(0, len(anchors), ROWS):
        chosen = anchors[start : start + ROWS]
        V = X[chosen] - X[targets[chosen, slots[start : start + ROWS]]]
        total += V.T @ V
    return total / len(anchors)


def target_neighbours(
    X: Matrix, codes: Indices, k: int, rng: np.random.Generator, most: int = _CANDIDATES
) -> Indices:
    """The k nearest rows of the same class, ``(n, k)``; −1 where the class has no more.

    In classes of more than ``most`` rows, the nearest among so many drawn ones.
    """
    targets = np.full((len(X), k), -1)
    order = np.argsort(codes, kind="stable")
    for members in np.split(order, np.cumsum(np.bincount(codes))[:-1]):
        available = min(k, len(members) - 1)
        if available < 1:
            continue
        candidates = members
        if len(members) > most:
            candidates = np.sort(rng.choice(members, most, replace=False))
        targets[members, :available] = candidates[_nearest_others(X, members, candidates, available)]
    if (targets < 0).all():
        raise DataError(
            "y must have a class of at least 2 items, so that there are targets; every item is alone."
        )
    return targets


def _nearest_others(X: Matrix, members: Indices, candidates: Indices, k: int) -> Indices:
    """Places among the candidates of the k nearest to each member but itself, ``(m, k)``."""
    centre = X[candidates].mean(0)
    pool = torch.from_numpy(X[candidates] - centre)
    lengths = pool.square().sum(1)
    if (
        len(candidates) < len(members) and float(lengths.max()) < LONGEST
    ):  # a sample of targets need not be exact
        pool, lengths = pool.float(), lengths.float()
    places = np.searchsorted(candidates, members)  # both rising
    drawn = candidates.take(places, mode="clip") == members
    found = np.empty((len(members), k), dtype=np.int64)
    for block in row_blocks(len(members), len(candidates)):
        rows = torch.from_numpy(X[members[block]] - centre).to(pool.dtype)
        D = torch.addmm(lengths, rows, pool.T, alpha=-2.0)
        own = np.flatnonzero(drawn[block])
        D[own, places[block][own]] = torch.inf
        found[block] = D.topk(k, largest=False).indices.numpy()
    return found
