"""Intervals and tests: known answers, coverage, and agreement with SciPy."""

import numpy as np
import pytest
from scipy import stats

from kyori.comparison.statistics import difference, estimate, holm, unpaired_estimate


def test_estimate_is_the_mean_over_seeds_and_queries():
    found = estimate(np.array([[1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]))
    assert found.value == 0.875
    assert 0.5 <= found.low < found.value < found.high <= 1.0


def test_skipped_queries_do_not_count():
    found = estimate(np.array([[1.0, np.nan, 0.0], [1.0, np.nan, 0.0]]))
    assert found.value == 0.5


def test_nothing_answered_gives_nan_and_not_a_number_out_of_the_air():
    found = estimate(np.full((2, 3), np.nan))
    assert np.isnan([found.value, found.low, found.high]).all()


def test_interval_agrees_with_the_normal_approximation():
    values = np.random.default_rng(0).normal(0.3, 1.0, size=(1, 4000))
    found = estimate(values)
    half = 1.96 * values.std() / np.sqrt(values.size)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def test_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = [
        (e := estimate(rng.binomial(1, 0.7, size=(1, 200)).astype(float), seed=i)).low <= 0.7 <= e.high
        for i in range(200)
    ]
    assert 0.90 <= np.mean(hits) <= 0.99  # nominal 0.95, 200 draws


def test_seeds_widen_the_interval():
    rng = np.random.default_rng(2)
    queries = rng.normal(0.5, 0.01, size=(1, 500))
    steady = estimate(np.repeat(queries, 3, axis=0))
    shaky = estimate(queries + np.array([[-0.1], [0.0], [0.1]]))
    assert shaky.high - shaky.low > 10 * (steady.high - steady.low)


def test_difference_finds_a_real_gain_and_not_an_imagined_one():
    rng = np.random.default_rng(3)
    real = difference(rng.normal(0.1, 0.5, size=(3, 1000)))
    none = difference(rng.normal(0.0, 0.5, size=(3, 1000)))
    assert real.low > 0
    assert real.p_value < 0.01
    assert none.low < 0 < none.high
    assert none.p_value > 0.05


def test_p_value_is_uniform_when_nothing_differs():
    rng = np.random.default_rng(4)
    p = [difference(rng.normal(size=(1, 40)), seed=i).p_value for i in range(150)]
    assert np.mean(np.array(p) < 0.05) < 0.1
    assert 0.4 < np.mean(p) < 0.6


def test_p_value_agrees_with_scipys_sign_flips():
    x = np.random.default_rng(5).normal(0.2, 1.0, size=60)
    ours = difference(x[None]).p_value
    theirs = stats.permutation_test(
        (x,), np.mean, permutation_type="samples", n_resamples=5000, rng=np.random.default_rng(0)
    ).pvalue
    assert ours == pytest.approx(theirs, abs=0.03)


def test_without_queries_seeds_are_the_unit():
    gains = np.array([[0.10], [0.12], [0.08]])
    found = difference(gains)
    reference = stats.ttest_1samp(gains[:, 0], 0.0)
    assert found.p_value == pytest.approx(reference.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(reference.confidence_interval(0.95)))


def test_one_seed_without_queries_decides_nothing():
    found = difference(np.array([[0.3]]))
    assert (found.low, found.high, found.p_value) == (-np.inf, np.inf, 1.0)


def test_unpaired_interval_adds_queries_and_seeds_in_squares():
    same = unpaired_estimate([(0.5, 0.4, 0.6)] * 3)
    assert (same.value, same.low, same.high) == pytest.approx((0.5, 0.4, 0.6))
    values = np.array([0.4, 0.5, 0.6])
    apart = unpaired_estimate([(v, v - 0.1, v + 0.1) for v in values])
    half = np.hypot(0.1, 1.96 * values.std(ddof=1) / np.sqrt(3))
    assert apart.high - apart.value == pytest.approx(half)


@pytest.mark.parametrize(
    ("raw", "corrected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([], []),
        ([0.02], [0.02]),
    ],
)
def test_holm(raw, corrected):
    assert holm(raw) == pytest.approx(corrected)


def test_same_seed_same_interval():
    values = np.random.default_rng(6).random((2, 50))
    assert estimate(values, seed=1) == estimate(values, seed=1)
    assert estimate(values, seed=1) != estimate(values, seed=2)


def test_classes_as_units_give_the_same_mean_and_a_wider_interval():
    rng = np.random.default_rng(7)
    groups = np.repeat(np.arange(12), 50)
    values = (rng.normal(0.5, 0.2, 12)[groups] + rng.normal(0, 0.05, 600))[None]
    queries, classes = estimate(values), estimate(values, groups=groups)
    assert classes.value == pytest.approx(queries.value)
    assert classes.high - classes.low > 3 * (queries.high - queries.low)
    means = values.reshape(12, 50).mean(axis=1)
    half = 1.96 * means.std(ddof=1) / np.sqrt(12)
    assert classes.high - classes.low == pytest.approx(2 * half, rel=0.2)


def test_a_gain_on_one_class_only_is_no_gain_on_classes():
    groups = np.repeat(np.arange(10), 30)
    gains = np.where(groups == 3, 0.5, 0.0)[None] + np.random.default_rng(8).normal(0, 0.01, (1, 300))
    assert difference(gains).p_value < 0.05
    assert difference(gains, groups=groups).p_value > 0.05


def test_unequal_classes_weigh_by_their_queries():
    groups = np.array([0, 0, 0, 1])
    assert estimate(np.array([[1.0, 1.0, 1.0, 0.0]]), groups=groups).value == 0.75
