"""Mini-batches: near the optimum of all rows, and in bounded memory."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from kyori.linear import LMNN, MLKR, NCA
from kyori.linear.impostors import MarginSum
from kyori.linear.lmnn import target_neighbours
from kyori.linear.nca import own_share
from kyori.linear.neighbourhood import Rows, soft_neighbours


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    order = np.argsort(y, kind="stable")
    return (X[order] / 8.0)[:, X.std(0) > 0], y[order]


def test_nca(digits):
    X, y = digits
    metric = NCA(16, batch_size=300, epochs=15).fit(X, y)
    start = -soft_neighbours(NCA(16, max_iter=1, tol=1e9).fit(X, y).components_, Rows(X), own_share(y))[0]
    found = -soft_neighbours(metric.components_, Rows(X), own_share(y))[0]
    assert found > start
    assert found > 0.98 * len(X)
    assert metric.n_iter_ == 15 * (1797 // 300)


def test_lmnn(digits):
    X, y = digits
    total = MarginSum(Rows(X), y, target_neighbours(X, y, 3, np.random.default_rng(0)), push=0.5, pull=0.5)
    whole = LMNN(max_iter=15).fit(X, y)
    shuffled = np.random.default_rng(1).permutation(len(X))
    batched = LMNN(batch_size=300, epochs=15).fit(X[shuffled], y[shuffled])
    at_start, found = total(np.eye(X.shape[1]))[0], total(batched.components_)[0]
    assert found < whole.objective_ + 0.15 * (at_start - whole.objective_)


def test_mlkr(digits):
    X, y = digits
    start = MLKR(8, max_iter=1, tol=1e9).fit(X, y.astype(float)).objective_
    assert MLKR(8, batch_size=300, epochs=10).fit(X, y.astype(float)).objective_ < 0.5 * start


def test_targets_among_drawn_candidates(rng):
    """In large classes the nearest of a sample, never the item itself, and of its class."""
    X, y = rng.normal(size=(200, 3)), rng.integers(0, 3, 200)
    targets = target_neighbours(X, y, 2, np.random.default_rng(0), most=30)
    assert (targets != np.arange(200)[:, None]).all()
    for c in range(3):
        own = np.flatnonzero(y == c)
        candidates = np.unique(targets[own])
        assert len(candidates) <= 30
        D = np.linalg.norm(X[own][:, None] - X[candidates], axis=2)
        D[own[:, None] == candidates] = np.inf
        assert np.array_equal(candidates[D.argsort(1)[:, :2]], targets[own])


@pytest.mark.parametrize("method", [NCA, LMNN])
def test_the_order_of_rows_does_not_matter(method, wine):
    X, y = wine
    y = np.where(np.arange(len(y)) < 2, 9, y)  # a class of two, with fewer targets than asked for
    order = np.random.default_rng(0).permutation(len(y))
    found = [method(max_iter=5).fit(X[rows], y[rows]).objective_ for rows in (slice(None), order)]
    assert found[0] == pytest.approx(found[1], rel=1e-9)


@pytest.mark.parametrize("method", [NCA, LMNN])
def test_a_batch_of_all_rows_is_all_rows(method, iris):
    X, y = iris
    assert np.array_equal(method(batch_size=150).fit(X, y).components_, method().fit(X, y).components_)


def test_neighbours_of_many_rows():
    """20,000 rows in seconds, with neighbours as good as the data allow."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 20, 20_000)
    X = (
        rng.normal(size=(20, 24))[y] @ np.diag(np.r_[np.ones(8), np.zeros(16)])
        + rng.normal(size=(20_000, 24)) * (np.r_[np.full(8, 0.4), np.full(16, 3.0)])
    )
    plain = KNeighborsClassifier(5).fit(X[:5000], y[:5000]).score(X[19_000:], y[19_000:])
    metric = NCA(8, batch_size=500, epochs=3).fit(X, y)
    Z = metric.transform(X)
    assert KNeighborsClassifier(5).fit(Z[:5000], y[:5000]).score(Z[19_000:], y[19_000:]) > plain + 0.3
