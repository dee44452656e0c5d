"""Intervals: they cover as often as they say, and a seed fixes them."""

import numpy as np
import pytest

from kyori.evaluation import evaluate, evaluate_pairs
from kyori.evaluation.bootstrap import Bootstrap
from kyori.evaluation.measures import plan_measures
from kyori.vectors import VectorTable

from .samples import blobs


def test_the_interval_of_a_share_is_that_of_the_binomial():
    values = np.zeros(400)
    values[:120] = 1
    low, high = Bootstrap(400, 4000, seed=0).mean(values)
    half = 1.96 * np.sqrt(0.3 * 0.7 / 400)
    assert low == pytest.approx(0.3 - half, abs=0.006)
    assert high == pytest.approx(0.3 + half, abs=0.006)


def test_resampling_classes_widens_the_interval_of_values_that_hang_together():
    classes = np.repeat(np.arange(20), 50)
    values = (classes % 2).astype(float)
    low, high = Bootstrap(1000, 2000, seed=0, classes=classes).mean(values)
    half = 1.96 * np.sqrt(0.25 / 20)
    assert low == pytest.approx(0.5 - half, abs=0.06)
    assert high == pytest.approx(0.5 + half, abs=0.06)


def draw_table(generator, n=150):
    """Two overlapping classes; AUC of a fresh draw is known from a very large one."""
    labels = generator.integers(2, size=n)
    return VectorTable(vectors=generator.normal(size=(n, 1)) + 2 * labels[:, None], labels=labels)


def test_intervals_over_pairs_cover_the_truth():
    """Resampling only one end of each pair would cover about 67 % of the time."""
    generator = np.random.default_rng(0)
    measures = ["auc", "eer", "tar@far=1e-1", "distance-ratio"]
    truth = evaluate(draw_table(generator, 3000), measures=measures, bootstrap=0)
    covered = dict.fromkeys(measures, 0)
    for _ in range(100):
        results = evaluate(draw_table(generator), measures=measures, bootstrap=200)
        for measure, result in results.items():
            covered[measure] += result.low <= truth[measure].value <= result.high
    assert all(count >= 86 for count in covered.values()), covered


def test_intervals_of_listed_pairs_cover_the_truth():
    generator = np.random.default_rng(1)

    def draw(p):
        same = generator.random(p) < 0.5
        return generator.normal(size=p) - same, same

    truth = evaluate_pairs(*draw(200_000), bootstrap=0)
    covered = dict.fromkeys(("auc", "eer", "best-accuracy"), 0)
    for _ in range(100):
        results = evaluate_pairs(*draw(300), bootstrap=200, measures=list(covered))
        for measure in covered:
            covered[measure] += results[measure].low <= truth[measure].value <= results[measure].high
    assert all(count >= 85 for count in covered.values()), covered


@pytest.mark.parametrize("unit", ["query", "class"])
def test_the_same_seed_gives_the_same_bits(unit):
    table = blobs(80, classes=8)
    one, two = (evaluate(table, unit=unit, threshold=2.0, seed=5, bootstrap=100) for _ in range(2))
    assert one.to_json() == two.to_json()
    other = evaluate(table, unit=unit, threshold=2.0, seed=6, bootstrap=100)
    assert other["nmi"].n == one["nmi"].n
    assert other["nmi"].low != one["nmi"].low
    assert (other["auc"].low, other["auc"].high) == (
        one["auc"].low,
        one["auc"].high,
    )  # nothing is drawn for it


@pytest.mark.parametrize("unit", ["query", "class"])
def test_every_measure_has_an_interval_around_its_value(unit):
    table = blobs(120, classes=10)
    names = [m.key for m in plan_measures(None, (1, 5), (0.01,), True)]
    results = evaluate(table, measures=[*names, "distance-ratio"], threshold=2.0, unit=unit, bootstrap=200)
    for result in results.values():
        assert result.low <= result.value <= result.high, result
        assert result.high - result.low < 0.6, result


def test_no_bootstrap_means_no_interval():
    result = evaluate(blobs(), measures=["map@r"], bootstrap=0)["map@r"]
    assert np.isfinite(result.value)
    assert np.isnan([result.low, result.high]).all()


def test_default_measures_and_provenance():
    results = evaluate(blobs(), bootstrap=10)
    assert {"recall@1", "r-precision", "map@r", "map", "ndcg@10", "mrr", "auc", "eer"} <= set(results)
    assert {"tar@far=1e-3", "tar@far=1e-2", "nmi", "ami", "ari", "silhouette"} <= set(results)
    assert results.provenance["metric"] == "euclidean"
    assert (results.provenance["n"], results.provenance["classes"]) == (60, 4)
    assert results["recall@1"].protocol["against"] == "the other items"
