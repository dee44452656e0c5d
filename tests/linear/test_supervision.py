"""Pairs, triplets, quadruplets and chunks: what is learned from them, how they are drawn, and what is refused."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from kyori.errors import ArgumentError, DataError, DegenerateWarning
from kyori.linear import ITML, LSML, MLKR, MMC, NCA, RCA, SCML, SDML, Covariance
from kyori.linear.constraints import draw_chunks, draw_pairs, draw_quadruplets, draw_triplets
from kyori.linear.thresholds import best_threshold

WEAK = {"ITML": ITML(), "MMC": MMC(), "SDML": SDML()}


@pytest.fixture(scope="module")
def told():
    """Items whose first feature tells the class and whose second is loud noise; pairs that say so."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    X = np.column_stack([y + rng.normal(0, 0.2, 200), rng.normal(0, 2, 200)])
    index = rng.integers(0, 200, (400, 2))
    index = index[index[:, 0] != index[:, 1]]
    return X, y, index, y[index[:, 0]] == y[index[:, 1]]


def first_counts_more(metric):
    M = metric.get_mahalanobis_matrix()
    return (
        M[0, 0] > (1.2 if isinstance(metric, LSML) else 5) * M[1, 1]
    )  # LSML's mean weighs little beside the prior


@pytest.mark.parametrize("name", WEAK)
def test_pairs(name, told):
    X, y, index, same = told
    metric = WEAK[name]
    assert first_counts_more(metric.fit_pairs(X[index], same))
    vectors = metric.components_
    metric.fit_pairs(index, np.where(same, 1, -1), X=X)
    if name == "MMC":  # the others look at all rows for their prior or bounds, and here pairs repeat some
        np.testing.assert_allclose(metric.components_, vectors, atol=1e-9)
    assert first_counts_more(metric.fit(X, y))


def test_triplets_quadruplets_chunks(told):
    X, y, index, same = told
    near, far = index[same], index[~same]
    n = min(len(near), len(far))
    assert first_counts_more(LSML().fit_quadruplets(np.hstack([near[:n], far[:n]]), X=X))
    assert first_counts_more(LSML().fit_quadruplets(X[np.hstack([near[:n], far[:n]])]))
    assert first_counts_more(LSML().fit(X, y))
    triplets = draw_triplets(X, y, 500, np.random.default_rng(0), k_same=20, k_other=20)
    assert first_counts_more(SCML().fit_triplets(triplets, X=X))
    assert first_counts_more(SCML(basis=np.eye(2)).fit_triplets(X[triplets]))
    assert first_counts_more(RCA().fit_chunks(X, np.where(np.arange(200) < 150, y, -1)))
    assert first_counts_more(RCA(n_chunks=60, chunk_size=3).fit(X, y))


def test_weights_of_quadruplets(told):
    X = told[0]
    index = np.array([[0, 1, 2, 3], [2, 3, 0, 1]])
    one = LSML().fit_quadruplets(index, [1, 0], X=X)
    np.testing.assert_allclose(one.components_, LSML().fit_quadruplets(index[:1], X=X).components_, atol=1e-6)
    with pytest.raises(ArgumentError, match=r"weights must have shape \(2,\), ≥ 0 and not all 0"):
        LSML().fit_quadruplets(index, [0, 0], X=X)


def test_what_is_drawn_is_what_was_asked_for():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, 60)
    pairs, same = draw_pairs(codes, 100, rng)
    assert ((codes[pairs[:, 0]] == codes[pairs[:, 1]]) == same).all()
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert len(np.unique(np.sort(pairs, 1), axis=0)) == len(pairs)
    assert same.sum() == (~same).sum() == 100
    small, kinds = draw_pairs(np.array([0, 0, 1]), 50, rng)
    assert kinds.sum() == 1  # there is no other
    assert len(small) == 3
    index = draw_quadruplets(codes, 30, rng)
    assert (codes[index[:, 0]] == codes[index[:, 1]]).all()
    assert (codes[index[:, 2]] != codes[index[:, 3]]).all()
    X = rng.normal(size=(60, 3))
    triplets = draw_triplets(X, codes, 200, rng)
    a, p, n = triplets.T
    assert (codes[a] == codes[p]).all()
    assert (a != p).all()
    assert (codes[a] != codes[n]).all()
    chunks = draw_chunks(codes, 10, 3, rng)
    assert all(len(set(codes[chunks == c])) == 1 and (chunks == c).sum() == 3 for c in range(10))
    with pytest.raises(DataError, match=r"only \d+ chunks of 3 items"):
        draw_chunks(codes, 100, 3, rng)


def test_every_class_is_drawn():
    codes = np.repeat(np.arange(10), 20)
    rng = np.random.default_rng(0)
    assert set(codes[draw_chunks(codes, 60, 2, rng) >= 0]) == set(range(10))
    pairs, same = draw_pairs(codes, 300, rng)
    assert set(codes[pairs[same][:, 0]]) == set(range(10))


@pytest.mark.parametrize(
    ("pairs", "X", "message"),
    [
        (np.zeros((3, 3, 2)), None, r"pairs must have shape \(n, 2, f\) with n ≥ 1; got \(3, 3, 2\)"),
        (np.zeros((0, 2, 2)), None, r"got \(0, 2, 2\)"),
        (np.zeros((3, 2)), None, r"For row numbers \(n, 2\) give the rows as X="),
        (np.zeros((3, 2)), np.eye(2), "whole numbers of shape"),
        (np.array([[0, 5]]), np.eye(2), "row numbers of X, 0 to 1; got 0 to 5"),
        (np.full((3, 2, 2), np.nan), None, "contains NaN"),
    ],
)
def test_wrong_pairs(pairs, X, message):
    with pytest.raises(ValueError, match=message):
        ITML().fit_pairs(pairs, [True] * len(pairs), X=X)


def test_wrong_supervision(told):
    X, y, index, same = told
    with pytest.raises(ArgumentError, match=r"same must have shape \(\d+,\), one per pair; got \(3,\)"):
        ITML().fit_pairs(X[index], same[:3])
    with pytest.raises(ArgumentError, match="same must hold booleans"):
        ITML().fit_pairs(X[index], np.where(same, 1, 2))
    with pytest.raises(DataError, match="got one kind only"):
        MMC().fit_pairs(X[index[same]], same[same])
    with pytest.raises(ArgumentError, match=r"bounds must be two squared distances"):
        ITML(bounds=(1, -2)).fit_pairs(X[index], same)
    with pytest.raises(ArgumentError, match="unknown prior 'covarience'; did you mean 'covariance'"):
        ITML(prior="covarience").fit(X, y)
    with pytest.raises(ArgumentError, match="positive definite"):
        ITML(prior=-np.eye(2)).fit(X, y)
    with pytest.raises(ArgumentError, match="gamma must be > 0"):
        ITML(gamma=0).fit(X, y)
    with pytest.raises(ArgumentError, match=r"chunks must be whole numbers of shape \(200,\)"):
        RCA().fit_chunks(X, np.zeros(200))
    with pytest.raises(DataError, match="a chunk of at least 2 items"):
        RCA().fit_chunks(X, np.arange(200))
    with pytest.raises(DataError, match=r"all weights are 0\. Lower beta"):
        SCML(beta=1e9).fit(X, y)
    with pytest.raises(ArgumentError, match=r"basis must be finite, of shape \(k, 2\)"):
        SCML(basis=np.eye(3)).fit(X, y)
    with pytest.raises(ArgumentError, match="at least 2 different numbers"):
        MLKR().fit(X, np.ones(200))
    with pytest.raises(DataError, match="all items are equal"):
        Covariance().fit(np.ones((5, 2)))
    with pytest.raises(ArgumentError, match="batch_size must be None"):
        NCA(batch_size=1).fit(X, y)


def test_degenerate_cases_are_said(told):
    X, _, index, same = told
    both = np.concatenate([X[index], X[:1, None].repeat(2, axis=1)])
    with pytest.warns(DegenerateWarning, match="1 pairs of equal items are said to be different"):
        ITML().fit_pairs(both, np.append(same, False))
    with pytest.warns(DegenerateWarning, match="has rank 2 of 3"):
        RCA().fit_chunks(np.column_stack([X, X[:, 0]]), np.arange(200) // 4)
    with pytest.raises(DataError, match="cannot be inverted; set shrinkage"):
        RCA(shrinkage=0).fit_chunks(np.column_stack([X, X[:, 0]]), np.arange(200) // 4)
    with pytest.warns(DegenerateWarning, match="balance 5 has no minimum with these pairs; lowered to"):
        SDML(5).fit_pairs(X[index], same)


def test_thresholds(told):
    X, _, index, same = told
    metric = ITML().fit_pairs(X[index], same)
    with pytest.raises(NotFittedError, match="ITML has no threshold_ yet; call calibrate_threshold"):
        metric.predict_pairs(X[index])
    metric.calibrate_threshold(X[index], same)
    assert (metric.predict_pairs(index, X) == same).mean() > 0.9
    distances = metric.pair_distance(X[index])
    for rate in (0.0, 0.9, 1.0):
        strict = metric.calibrate_threshold(index, same, "max_tpr", min_rate=rate, X=X).threshold_
        assert (distances[~same] > strict).mean() >= rate
        kind = metric.calibrate_threshold(index, same, "max_tnr", min_rate=rate, X=X).threshold_
        assert (distances[same] <= kind).mean() >= rate
    for strategy in ("accuracy", "f_beta"):
        found = best_threshold(distances, same, strategy)  # type: ignore[arg-type]

        def value(t, strategy=strategy):
            said = distances <= t
            hit = (said & same).sum()
            return (said == same).mean() if strategy == "accuracy" else 2 * hit / (said.sum() + same.sum())

        assert value(found) == max(value(t) for t in [-1, *distances])
    with pytest.raises(ArgumentError, match="unknown strategy 'acuracy'; did you mean 'accuracy'"):
        best_threshold(distances, same, "acuracy")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="pairs must be of both kinds"):
        best_threshold(distances, same | True)
    with pytest.raises(ArgumentError, match=r"min_rate must be in \[0, 1\]"):
        best_threshold(distances, same, "max_tpr")


def test_a_threshold_below_all():
    """When nothing may be accepted, not even distance 0 is."""
    assert best_threshold(np.array([0.0, 1.0]), np.array([False, True]), "max_tpr", min_rate=1.0) < 0
