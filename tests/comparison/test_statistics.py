"""Intervals and tests: known answers, agreement with SciPy, what seeds, classes, folds and data sets do."""

import numpy as np
import pytest
from scipy import stats

from kyori.comparison.power import power_of
from kyori.comparison.statistics import (
    Block,
    difference,
    estimate,
    higher_is_better,
    holm,
    is_share,
    sign_flips,
)

rng = np.random.default_rng


def one(values, groups=None, **options):
    return estimate([Block(np.atleast_2d(values), groups)], **options)


def gap(first, second, groups=None, **options):
    return difference(
        [Block(np.atleast_2d(first), groups)], [Block(np.atleast_2d(second), groups)], **options
    )


def test_estimate_is_the_mean_over_seeds_and_queries():
    found = one([[1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]], share=True)
    assert found.value == 0.875
    assert 0 <= found.low < found.value < found.high <= 1


def test_skipped_queries_do_not_count():
    assert one([[1.0, np.nan, 0.0], [1.0, np.nan, 0.0]]).value == 0.5
    assert gap([[1.0, np.nan, 0.5]], [[0.0, 0.2, np.nan]]).value == 1.0


def test_nothing_answered_gives_nan_and_not_a_number_out_of_the_air():
    found = one(np.full((2, 3), np.nan))
    assert np.isnan([found.value, found.low, found.high]).all()
    lost = gap(np.full((2, 3), np.nan), np.ones((2, 3)))
    assert np.isnan([lost.value, lost.low, lost.high]).all()
    assert lost.p_value == 1.0


def test_one_seed_is_the_t_interval_over_queries():
    values = rng(0).normal(0.3, 1.0, size=30)
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = one(values)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_one_query_each_is_the_t_interval_over_seeds():
    values = np.array([[0.10], [0.12], [0.08]])
    low, high = stats.ttest_1samp(values[:, 0], 0.0).confidence_interval(0.95)
    assert (one(values).low, one(values).high) == pytest.approx((low, high))


def test_seeds_widen_the_interval_with_two_degrees_of_freedom():
    queries = rng(2).normal(0.5, 0.001, size=(1, 500))
    steady = one(np.repeat(queries, 3, axis=0))
    shaky = one(queries + np.array([[-0.1], [0.0], [0.1]]))
    assert shaky.high - shaky.value == pytest.approx(stats.t.ppf(0.975, 2) * 0.1 / np.sqrt(3), rel=0.01)
    assert shaky.high - shaky.low > 100 * (steady.high - steady.low)


def test_all_hits_do_not_prove_a_hundred_percent():
    found = one(np.ones((3, 200)), share=True)
    assert found.value == found.high == 1
    assert 0.97 < found.low < 0.99
    none = gap(np.ones((1, 200)), np.ones((1, 200)), share=True)
    assert none.high == -none.low == pytest.approx(1 - 0.025 ** (1 / 200))
    assert none.p_value == 1


def test_difference_finds_a_real_gain_and_not_an_imagined_one():
    noise = rng(3).normal(0, 0.5, size=(3, 3, 1000))
    real, none = gap(noise[0] + 0.1, noise[1]), gap(noise[0], noise[2])
    assert real.low > 0
    assert real.p_value < 0.01
    assert none.low < 0 < none.high
    assert none.p_value > 0.05


def test_unpaired_seeds_are_welchs_test():
    a, b = rng(4).normal(0.5, 0.1, (4, 1)), rng(5).normal(0.4, 0.02, (3, 1))
    found, reference = gap(a, b), stats.ttest_ind(a[:, 0], b[:, 0], equal_var=False)
    assert found.value == pytest.approx(a.mean() - b.mean())
    assert found.p_value == pytest.approx(reference.pvalue)


@pytest.mark.parametrize("units", [8, 60, 1500])
def test_sign_flips_agree_with_scipy(units):
    values = rng(units).normal(2 / np.sqrt(units), 1.0, size=units)
    found = stats.permutation_test(
        (values,), np.sum, permutation_type="samples", n_resamples=4999, rng=rng(0)
    ).pvalue
    assert sign_flips(values) == pytest.approx(found, abs=0.02 if units > 12 else 1e-12)
    assert gap(values, np.zeros(units)).test == "sign flips"
    assert gap(values, np.zeros(units)).p_value == pytest.approx(found, abs=0.02 if units > 12 else 1e-12)


def test_one_seed_without_queries_decides_nothing():
    found = gap([[0.3]], [[0.0]])
    assert (found.low, found.high, found.p_value) == (-np.inf, np.inf, 1.0)


def test_the_luck_of_seeds_is_no_difference():
    """With these trainings the first is surely better on any queries; other trainings would not be."""
    queries = rng(6).normal(0.5, 0.1, (1, 2000))
    luck = np.array([[[0.02], [0.05], [0.09]], [[0.03], [0.0], [0.06]]])
    found = gap(queries + luck[0], queries + luck[1])
    assert found.p_given_seeds < 0.001
    assert found.p_value > 0.05
    assert found.low < 0 < found.high


def test_a_measure_without_queries_adds_items_and_seeds_in_squares():
    same = estimate([Block(np.full((3, 1), 0.5), around=(0.1, 0.1))])
    assert (same.value, same.low, same.high) == pytest.approx((0.5, 0.4, 0.6))
    values = np.array([[0.4], [0.5], [0.6]])
    apart = estimate([Block(values, around=(0.1, 0.2))])
    seeds = stats.t.ppf(0.975, 2) * 0.1 / np.sqrt(3)
    assert apart.value - apart.low == pytest.approx(np.hypot(0.1, seeds))
    assert apart.high - apart.value == pytest.approx(np.hypot(0.2, seeds))


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


def test_classes_as_units_give_the_same_mean_and_a_wider_interval():
    groups = np.repeat(np.arange(12), 50)
    values = rng(7).normal(0.5, 0.2, 12)[groups] + rng(8).normal(0, 0.05, 600)
    queries, classes = one(values), one(values, groups)
    assert classes.value == pytest.approx(queries.value)
    assert classes.high - classes.low > 3 * (queries.high - queries.low)
    means = values.reshape(12, 50).mean(axis=1)
    assert (classes.low, classes.high) == pytest.approx(
        tuple(stats.ttest_1samp(means, 0).confidence_interval(0.95))
    )


def test_a_gain_on_one_class_only_is_no_gain_on_classes():
    groups = np.repeat(np.arange(10), 30)
    gains = np.where(groups == 3, 0.5, 0.0) + rng(8).normal(0, 0.01, 300)
    assert gap(gains, np.zeros(300)).p_value < 0.05
    assert gap(gains, np.zeros(300), groups).p_value > 0.05


def test_unequal_classes_weigh_by_their_queries():
    assert one([1.0, 1.0, 1.0, 0.0], np.array([0, 0, 0, 1])).value == 0.75


def test_folds_trained_once_are_one_observation_each():
    blocks = [Block(rng(k).normal(0.5 + 0.1 * k, 0.01, (1, 50))) for k in range(4)]
    means = [float(block.values.mean()) for block in blocks]
    found = estimate(blocks)
    assert (found.low, found.high) == pytest.approx(
        tuple(stats.ttest_1samp(means, 0).confidence_interval(0.95))
    )


def test_data_sets_weigh_the_same_however_many_queries_they_have():
    blocks = [Block(np.zeros((2, 1000)), dataset="a"), Block(np.ones((2, 10)), dataset="b")]
    assert estimate(blocks).value == 0.5
    folds = [*blocks, Block(np.zeros((2, 10)), dataset="b")]
    assert estimate(folds).value == 0.25


def test_cohens_effect():
    gains = np.array([0.1, 0.2, 0.3, 0.0])
    found = gap(gains + 1, np.ones(4))
    assert found.effect == pytest.approx(gains.mean() / gains.std(ddof=1))
    assert gap(np.ones(4), np.ones(4)).effect == 0


def test_power_is_what_it_says():
    """With as many seeds as it asks for, a difference is decided in about 4 of 5 repetitions."""
    generator = rng(9)

    def drawn(seeds, gain):
        queries = generator.normal(0.5, 0.2, 300)
        return [queries + own + generator.normal(0, 0.03, (seeds, 1)) for own in (gain, 0.0)]

    asked = []
    for _ in range(40):
        found = gap(*drawn(3, 0.03))
        asked.append(power_of(0.03, found.spread, 3, 1).seeds)
    seeds = int(np.median(asked))
    decided = np.mean([gap(*drawn(seeds, 0.03), flips=False).p_value < 0.05 for _ in range(300)])
    assert 0.65 < decided < 0.95, (seeds, decided)


def test_power_knows_when_there_is_nothing_to_say():
    found = gap(np.ones((3, 5)), np.ones((3, 5)))
    assert power_of(0.0, found.spread, 3, 1) is None
    noisy = gap(rng(0).normal(size=(1, 50)), rng(1).normal(size=(1, 50)))
    power = power_of(0.1, noisy.spread, 1, 1)
    assert power.seeds is None  # one training says nothing of another
    assert 1 < power.factor < 1000
    assert power_of(1e-9, noisy.spread, 1, 1).factor is None


def test_directions_and_ranges_of_measures():
    assert not higher_is_better("eer")
    assert higher_is_better("map@r")
    assert is_share("tar@far=1e-3")
    assert not is_share("silhouette")
