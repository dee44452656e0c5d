"""Intervals hold the truth as often as they say, and tests reject nothing as often as they say."""

import numpy as np
import pytest
from scipy.stats import binom

from kyori.evaluation.bootstrap import Bootstrap
from oracles.simulations import SCENARIOS, TABLES, family_wise, measure

REPEATS = 400


def within(low: float, high: float, share: float) -> bool:
    """Whether a share of so many repeats is one that a rate between low and high gives 99.8 % of the time."""
    return binom.ppf(0.001, REPEATS, low) <= share * REPEATS <= binom.ppf(0.999, REPEATS, high)


@pytest.mark.parametrize("name", SCENARIOS)
def test_coverage(name):
    rates = measure(SCENARIOS[name], REPEATS, flips=False)
    assert within(0.935, 0.965, rates.mean), rates
    assert within(0.94, 0.965, rates.difference), rates
    assert within(0.035, 0.06, rates.rejected), rates


def test_flipping_signs_alone_would_take_the_luck_of_seeds_for_a_difference():
    rates = measure(SCENARIOS["3 seeds far apart"], 150)
    assert rates.given_seeds > 0.4
    assert rates.rejected < 0.1


def test_the_best_of_equals_is_seldom_called_better():
    """Correcting for the pairs with the winner only would forget that it was chosen."""
    scenario = SCENARIOS["3 seeds, queries"]
    assert within(0.02, 0.055, family_wise(scenario, 4, REPEATS))
    assert family_wise(scenario, 4, REPEATS, all_pairs=False) > 0.05


@pytest.mark.parametrize("n", [50, 200, 1000])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.05, 0.5, 0.95, 0.995, 0.999])
def test_shares_near_0_and_1_exactly(n, share):
    """Summed over all outcomes; the old percentiles held 0.999 of n = 200 in 18 % of all data sets."""
    hits = np.arange(n + 1)
    chance = binom.pmf(hits, n, share)
    resamples = Bootstrap(n, 1, 0)
    covered = 0.0
    for k in hits[chance > 1e-7]:
        low, high = resamples.mean((np.arange(n) < k).astype(float))
        covered += chance[k] * (low <= share <= high)
    assert covered > 0.91, covered


@pytest.mark.parametrize(
    ("name", "measures", "repeats"),
    [
        ("200 items, 10 classes", ["recall@1", "map@r", "mrr"], 200),
        ("240 items, 30 new classes", ["recall@1", "map@r"], 150),
    ],
)
def test_tables_that_are_their_own_gallery(name, measures, repeats):
    """Queries taken for independent would hold 0.72 (MAP@R) to 0.89 (MRR), and tell 29 % of equal methods apart.

    Classes whose chance is left in would hold 0.98, and tell 1 % apart by Recall@1.
    """
    for found, (held, rejected) in TABLES[name].measure(measures, repeats).items():
        assert binom.cdf(held * repeats, repeats, 0.93) > 0.001, (found, held)
        assert binom.sf(rejected * repeats - 1, repeats, 0.06) > 0.001, (found, rejected)
        assert binom.cdf(rejected * repeats, repeats, 0.05) > 0.01, (found, rejected)
