"""The sums that are minimised: against slow readable loops, finite differences, and each other."""

import numpy as np
import pytest
import torch
from scipy.linalg import eigh
from scipy.optimize import linprog
from sklearn.covariance import graphical_lasso

from kyori.linear import ITML, LFDA, LMNN, LSML, MLKR, MMC, NCA
from kyori.linear.impostors import MarginSum
from kyori.linear.itml import _slack_loss
from kyori.linear.lfda import local_scatter
from kyori.linear.lmnn import target_neighbours
from kyori.linear.lsml import _residuals
from kyori.linear.mlkr import _squared_errors
from kyori.linear.mmc import _log_ratio
from kyori.linear.nca import ShareSum, own_share
from kyori.linear.neighbourhood import Rows, soft_neighbours
from kyori.linear.scml import sparse_weights
from kyori.linear.sdml import sparse_logdet


def data(n=40, f=5, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = np.sort(rng.integers(0, classes, n))
    return rng.normal(size=(n, f)) + 0.8 * y[:, None], y, rng.normal(size=(3, f)) * 0.5


def slow_nca(L, X, y):
    total = 0.0
    for i in range(len(X)):
        weights = [0.0 if j == i else np.exp(-np.sum((L @ (X[i] - X[j])) ** 2)) for j in range(len(X))]
        total += sum(w for w, label in zip(weights, y, strict=True) if label == y[i]) / sum(weights)
    return total


def slow_mlkr(L, X, y):
    total = 0.0
    for i in range(len(X)):
        weights = [0.0 if j == i else np.exp(-np.sum((L @ (X[i] - X[j])) ** 2)) for j in range(len(X))]
        total += (np.dot(weights, y) / sum(weights) - y[i]) ** 2
    return total


def slow_lmnn(L, X, y, k, push):
    total = 0.0
    for i in range(len(X)):
        own = [j for j in range(len(X)) if j != i and y[j] == y[i]]
        for j in sorted(own, key=lambda j: np.sum((X[i] - X[j]) ** 2))[:k]:
            near = np.sum((L @ (X[i] - X[j])) ** 2)
            total += (1 - push) * near
            for other in range(len(X)):
                if y[other] != y[i]:
                    total += push * max(0.0, 1 + near - np.sum((L @ (X[i] - X[other])) ** 2))
    return total


def check_gradient(function, L, tolerance=1e-5):
    gradient = function(L)[1]
    for place in np.ndindex(L.shape):
        step = np.zeros_like(L)
        step[place] = 1e-6
        slope = (function(L + step)[0] - function(L - step)[0]) / 2e-6
        assert slope == pytest.approx(gradient[place], rel=tolerance, abs=tolerance * np.abs(gradient).max())


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("kyori.linear.neighbourhood._BLOCK_ITEMS", 7 * 40)


@pytest.mark.usefixtures("small_blocks")
def test_nca():
    X, y, L = data()
    value, _ = soft_neighbours(L, Rows(X), own_share(y))
    assert -value == pytest.approx(slow_nca(L, X, y), rel=1e-12)
    check_gradient(lambda L: soft_neighbours(L, Rows(X), own_share(y)), L)
    narrow = soft_neighbours(L, Rows(X, narrow=True), own_share(y))
    assert narrow[0] == pytest.approx(value, rel=1e-5)
    metric = NCA(2).fit(X, y)
    assert metric.objective_ == pytest.approx(slow_nca(metric.components_, X, y))


@pytest.mark.usefixtures("small_blocks")
def test_mlkr():
    X, _, L = data()
    y = np.sin(X[:, 0])
    assert soft_neighbours(L, Rows(X), _squared_errors(y))[0] == pytest.approx(slow_mlkr(L, X, y), rel=1e-12)
    check_gradient(lambda L: soft_neighbours(L, Rows(X), _squared_errors(y)), L)
    metric = MLKR(2).fit(X, y)
    assert metric.objective_ == pytest.approx(slow_mlkr(metric.components_, X, y))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("k", [1, 3, 30])
def test_lmnn(k):
    X, y, L = data()
    targets = target_neighbours(X, y, k, np.random.default_rng(0))
    total = MarginSum(Rows(X), y, targets, push=0.3, pull=0.7)
    value, _ = total.over_all(L)
    assert value == pytest.approx(slow_lmnn(L, X, y, k, 0.3), rel=1e-12)
    check_gradient(total.over_all, L)
    if k < 30:
        metric = LMNN(k, push=0.3).fit(X, y)
        assert metric.objective_ == pytest.approx(slow_lmnn(metric.components_, X, y, k, 0.3))


def test_near_pairs_miss_no_impostor():
    """Along a path of small and large steps, the lists of near pairs give the sum over all pairs."""
    X, y, _ = data(n=300, f=6, classes=4)
    X *= 3
    total = MarginSum(Rows(X), y, target_neighbours(X, y, 3, np.random.default_rng(0)), push=0.5, pull=0.5)
    rng = np.random.default_rng(1)
    L, used, kept = np.eye(6), 0, 0
    for step in range(60):
        before = total.near.pairs
        value, gradient = total(L)
        used += total.near.pairs is not None
        kept += total.near.pairs is not None and total.near.pairs is before
        expected, slope = total.over_all(L)
        assert value == pytest.approx(expected, rel=1e-9)
        np.testing.assert_allclose(gradient, slope, rtol=1e-7, atol=1e-7 * np.abs(slope).max())
        L = L + rng.normal(size=L.shape) * (0.1 if step % 15 == 0 else 0.001)
    assert used > 40
    assert kept > 20


def test_a_part_of_the_anchors_sums_over_their_impostors_alone():
    X, y, L = data(n=120)
    targets = target_neighbours(X, y, 2, np.random.default_rng(0))
    every = MarginSum(Rows(X), y, targets, push=0.5, pull=0.5).over_all(L)
    parts = [
        MarginSum(Rows(X), y, targets[rows], push=0.5, pull=0.5, anchors=rows)
        for rows in (np.arange(0, 120, 2), np.arange(1, 120, 2))
    ]
    for way in (MarginSum.over_all, MarginSum.__call__):
        assert sum(way(part, L)[0] for part in parts) == pytest.approx(every[0])
        np.testing.assert_allclose(sum(way(part, L)[1] for part in parts), every[1])


def test_near_pairs_leave_out_no_neighbour_that_float32_can_tell():
    """NCA over lists of near pairs is NCA over all pairs, along a path of small and large steps."""
    X, y, _ = data(n=400, f=6, classes=4)
    rows = Rows(X * 5, narrow=True)
    total = ShareSum(rows, y)
    rng = np.random.default_rng(1)
    L, used, kept = np.eye(6), 0, 0
    for step in range(40):
        before = total.near.pairs
        value, gradient = total(L)
        used += total.near.pairs is not None
        kept += total.near.pairs is not None and total.near.pairs is before
        expected, slope = soft_neighbours(L, rows, own_share(y))
        assert value == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(gradient, slope, rtol=1e-3, atol=1e-4 * np.abs(slope).max())
        L = L + rng.normal(size=L.shape) * (0.1 if step % 15 == 0 else 0.001)
    assert used > 20
    assert kept > 10


def test_lmnn_batches_are_right_in_the_mean():
    X, y, L = data(n=60)
    targets = target_neighbours(X, y, 2, np.random.default_rng(0))
    whole = MarginSum(Rows(X), y, targets, push=0.5, pull=0.5).over_all(L)[0]
    rng, values = np.random.default_rng(0), []
    for _ in range(400):
        anchors = np.sort(rng.permutation(60)[:20])
        drawn, places = np.unique(targets[anchors], return_inverse=True)
        rows = Rows(X[np.concatenate([anchors, drawn])], narrow=False)
        part = MarginSum(rows, y[anchors], 20 + places.reshape(20, 2), push=0.5 * 59 / 19, pull=0.5)
        values.append(3 * part.over_all(L)[0])
    assert np.mean(values) == pytest.approx(whole, abs=4 * np.std(values) / 20)


def test_gradients_of_the_losses_of_pairs():
    rng = np.random.default_rng(0)
    V, W, same = rng.normal(size=(30, 4)), rng.normal(size=(30, 4)), rng.random(30) < 0.5
    L = rng.normal(size=(4, 4))

    def through_m(loss):
        def function(L):
            value, slope = loss(L)
            return value, 2 * L @ slope

        return function

    check_gradient(through_m(_slack_loss(V, same, np.where(same, 1.0, 4.0), 0.7)), L, 1e-4)
    check_gradient(through_m(_residuals(V, W, np.full(30, 1 / 30))), L, 1e-4)
    check_gradient(_log_ratio(V), L)


@pytest.mark.parametrize(
    "metric", [ITML(tol=1e-12), LSML(tol=1e-12), MMC(tol=1e-12)], ids=lambda m: type(m).__name__
)
def test_no_neighbour_is_better(metric, iris):
    """Convex problems: random small changes of M never lower the objective, which a slow formula computes."""
    X, y = iris
    rng = np.random.default_rng(0)
    index = rng.integers(0, 150, (200, 4))
    same = y[index[:, 0]] == y[index[:, 1]]
    V, W = X[index[:, 0]] - X[index[:, 1]], X[index[:, 2]] - X[index[:, 3]]

    def squares(M, V):
        return np.einsum("ni,ij,nj->n", V, M, V)

    def objective(M):
        if isinstance(metric, MMC):
            return -np.sqrt(squares(M, V[~same])).sum() / np.sqrt(squares(M, V[same]).sum())
        divergence = np.trace(M) - np.linalg.slogdet(M)[1] - 4
        if isinstance(metric, LSML):
            gap = np.maximum(np.sqrt(squares(M, V)) - np.sqrt(squares(M, W)), 0)
            return divergence + np.mean(gap**2)
        upper, lower = metric.bounds_
        slack = np.where(
            same, np.maximum(squares(M, V), upper) / upper, np.minimum(squares(M, V), lower) / lower
        )
        return divergence + np.sum(slack - np.log(slack) - 1)

    if isinstance(metric, LSML):
        metric.fit_quadruplets(index, X=X)
    else:
        keep = (V != 0).any(1)
        index, same, V = index[keep], same[keep], V[keep]
        metric.fit_pairs(index[:, :2], same, X=X)
    best = metric.get_mahalanobis_matrix()
    value = objective(best)
    reported = -metric.objective_ if isinstance(metric, MMC) else metric.objective_
    assert reported == pytest.approx(value, rel=1e-6)
    # M^{1/2}(I + εE)M^{1/2} stays positive semidefinite; MMC's best may lie at the edge, where Cholesky fails
    variances, directions = np.linalg.eigh(best)
    root = directions * np.sqrt(variances.clip(min=0))
    for _ in range(100):
        E = rng.normal(size=(4, 4))
        near = root @ (np.eye(4) + 1e-2 * (E + E.T)) @ root.T
        assert objective(near) >= value - 1e-9 * abs(value)


def test_sdml_is_the_graphical_lasso(rng):
    A = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6)) + rng.normal(size=(50, 6))
    S = np.cov(A, rowvar=False)
    M, value, _ = sparse_logdet(S, 0.3, 5000, 1e-9)
    _, expected = graphical_lasso(S, alpha=0.3, enet_tol=1e-10, max_iter=1000)
    np.testing.assert_allclose(M, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    penalty = 0.3 * (np.abs(M).sum() - np.abs(np.diag(M)).sum())
    assert value == pytest.approx(np.sum(S * M) - np.linalg.slogdet(M)[1] + penalty)
    assert (M == 0).any()


@pytest.mark.usefixtures("small_blocks")
def test_lfda_is_the_sum_over_pairs():
    X, y, _ = data(n=50)
    n, k = len(X), 4
    sizes, within, between = np.bincount(y), np.zeros((5, 5)), np.zeros((5, 5))
    D = np.linalg.norm(X[:, None] - X[None], axis=2)
    sigma = [np.sort(D[i, y == y[i]])[k] for i in range(n)]
    for i in range(n):
        for j in range(n):
            V = np.outer(X[i] - X[j], X[i] - X[j]) / 2
            if y[i] == y[j]:
                A = np.exp(-(D[i, j] ** 2) / (sigma[i] * sigma[j]))
                within += A / sizes[y[i]] * V
                between += A * (1 / n - 1 / sizes[y[i]]) * V
            else:
                between += V / n
    found = local_scatter(X - X.mean(0), y, k)
    np.testing.assert_allclose(found[0], within, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], between, rtol=1e-5, atol=1e-5)
    metric = LFDA(2, k=k, weighting="plain").fit(X, y)
    values, vectors = eigh(between, within)
    np.testing.assert_allclose(
        metric.get_mahalanobis_matrix(), vectors[:, -2:] @ vectors[:, -2:].T, rtol=1e-3, atol=1e-4
    )
    weighted = LFDA(2, k=k).fit(X, y).get_mahalanobis_matrix()
    expected = (vectors[:, -2:] * values[-2:]) @ vectors[:, -2:].T
    np.testing.assert_allclose(weighted, expected, rtol=1e-3, atol=1e-4)
    flat = LFDA(2, k=k, weighting="orthonormalized").fit(X, y).components_
    np.testing.assert_allclose(flat @ flat.T, np.eye(2), atol=1e-12)


def test_scml_is_the_linear_programme(rng):
    gaps = rng.normal(size=(60, 15)) - 0.3
    weights, value, _ = sparse_weights(gaps, 0.01, 2000, 1e-12)
    cost = np.concatenate([np.full(15, 0.01), np.full(60, 1 / 60)])
    exact = linprog(cost, A_ub=np.hstack([gaps, -np.eye(60)]), b_ub=-np.ones(60), bounds=(0, None))
    assert exact.fun <= value * (1 + 1e-9)
    assert value == pytest.approx(exact.fun, rel=5e-3)
    assert (weights >= 0).all()


def test_rows_fall_back_to_float64():
    X = np.random.default_rng(0).normal(size=(3, 2)) * 1e4
    from kyori.linear.neighbourhood import transformed

    assert transformed(np.eye(2), Rows(X, narrow=True))[0].dtype == torch.float64
    assert transformed(np.eye(2) * 1e-3, Rows(X, narrow=True))[0].dtype == torch.float32
