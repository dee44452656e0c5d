"""Verification against loops and scikit-learn: all pairs of a table, and listed pairs."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kyori.errors import ArgumentError, DataError, DegenerateWarning
from kyori.evaluation import evaluate, evaluate_pairs
from kyori.vectors import VectorTable
from oracles import evaluation as oracle

from .samples import blobs, perfect

MEASURES = {
    "auc": oracle.auc,
    "eer": oracle.equal_error_rate,
    "tar@far=1e-2": lambda distances, same: oracle.tar_at_far(distances, same, 0.01),
    "tar@far=1e-1": lambda distances, same: oracle.tar_at_far(distances, same, 0.1),
    "best-accuracy": oracle.best_accuracy,
    "accuracy@2": lambda distances, same: float(((distances < 2.0) == same).mean()),
}


def tied_pairs(seed=0, p=300):
    generator = np.random.default_rng(seed)
    return generator.integers(12, size=p) / 4, generator.random(p) < 0.3


@pytest.mark.parametrize("measure", MEASURES)
def test_all_pairs_agree_with_the_loop(measure):
    table = blobs(40)
    expected = MEASURES[measure](*oracle.all_pairs(table.vectors, table.labels))
    found = evaluate(table, measures=[measure], bootstrap=50)[measure]
    # far points whose distances differ by a millionth of the range may share a cell
    assert found.value == pytest.approx(expected, abs=2e-5)
    assert found.n == 40 * 39 / 2
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize("measure", MEASURES)
def test_listed_pairs_agree_with_the_loop_ties_included(measure):
    distances, same = tied_pairs()
    found = evaluate_pairs(distances, same, measures=[measure])[measure]
    assert found.value == pytest.approx(MEASURES[measure](distances, same), abs=1e-12)
    assert found.low <= found.value <= found.high


def test_exact_ties_of_a_table_count_half():
    generator = np.random.default_rng(3)
    table = VectorTable(vectors=generator.integers(3, size=(50, 2)), labels=generator.integers(3, size=50))
    distances, same = oracle.all_pairs(table.vectors, table.labels)
    assert evaluate(table, measures=["auc"])["auc"].value == pytest.approx(oracle.auc(distances, same))


def test_auc_agrees_with_scikit_learn():
    table = blobs(400, spread=2.0, seed=4)
    distances, same = oracle.all_pairs(table.vectors, table.labels)
    expected = roc_auc_score(same, -distances)
    assert evaluate(table, measures=["auc"], bootstrap=0)["auc"].value == pytest.approx(expected, abs=1e-7)
    assert evaluate_pairs(distances, same, bootstrap=0)["auc"].value == pytest.approx(expected, abs=1e-12)


def accuracy(table, metric, threshold):
    (result,) = evaluate(
        table, metric=metric, measures=["accuracy"], threshold=threshold, bootstrap=0
    ).values()
    return result.value


@pytest.mark.parametrize("metric", ["euclidean", "squared_euclidean", "cosine", "dot", "manhattan"])
def test_reported_thresholds_reach_what_they_promise(metric):
    table = blobs(80, seed=5)
    results = evaluate(table, metric=metric, measures=["tar@far=1e-2", "eer", "best-accuracy"], bootstrap=0)
    tar, best = results["tar@far=1e-2"], results["best-accuracy"]
    assert accuracy(table, metric, best.protocol["threshold"]) == pytest.approx(best.value, abs=1e-9)
    assert tar.protocol["far"] <= 0.01
    eer = results["eer"]
    assert accuracy(table, metric, eer.protocol["threshold"]) == pytest.approx(1 - eer.value, abs=0.02)


def test_a_gallery_compares_queries_with_the_gallery_only():
    table, gallery = blobs(20, seed=6), blobs(30, seed=7, ids=np.arange(50, 80))
    D = np.linalg.norm(table.vectors[:, None] - gallery.vectors, axis=2).ravel()
    same = (table.labels[:, None] == gallery.labels).ravel()
    results = evaluate(table, gallery=gallery, measures=["auc", "accuracy"], threshold=2.0)
    assert results["auc"].value == pytest.approx(oracle.auc(D, same), abs=1e-5)
    assert results["accuracy@2"].value == pytest.approx(((D < 2) == same).mean())
    assert results["auc"].n == 600


def test_perfect_and_random_embeddings_score_what_they_must():
    results = evaluate(perfect(), measures=["auc", "eer", "tar", "best-accuracy"])
    assert [result.value for result in results.values()] == [1.0, 0.0, 1.0, 1.0, 1.0]
    generator = np.random.default_rng(8)
    random = VectorTable(vectors=generator.normal(size=(500, 6)), labels=np.repeat(np.arange(5), 100))
    chance = evaluate(random, measures=["auc", "eer"])
    assert chance["auc"].low < 0.5 < chance["auc"].high
    assert chance["eer"].low < 0.5 < chance["eer"].high


def test_the_curves_are_small_and_consistent():
    table = blobs(200, seed=9)
    results = evaluate(table, measures=["auc"], bootstrap=0)
    roc, histogram = results.curves["roc"], results.curves["histogram"]
    assert len(roc["far"]) == len(roc["tar"]) == len(roc["threshold"]) <= 500
    assert (roc["far"][0], roc["far"][-1], roc["tar"][-1]) == (0, 1, 1)
    for name in ("far", "tar", "threshold"):
        assert (np.diff(roc[name]) >= 0).all()
    area = (np.diff(roc["far"]) * (roc["tar"][1:] + roc["tar"][:-1]) / 2).sum()
    assert area == pytest.approx(results["auc"].value, abs=1e-3)
    distances, same = oracle.all_pairs(table.vectors, table.labels)
    assert len(histogram["edges"]) == 81
    assert histogram["edges"][0] == pytest.approx(distances.min(), abs=1e-4)
    width = np.diff(histogram["edges"])
    assert (histogram["same"] * width).sum() == pytest.approx(1)
    mean = (histogram["same"] * width * (histogram["edges"][1:] + histogram["edges"][:-1]) / 2).sum()
    assert mean == pytest.approx(distances[same].mean(), abs=width[0])


def test_without_different_or_same_pairs_the_answer_is_nan():
    table = VectorTable(vectors=[[0.0], [1.0], [5.0]], labels=[0, 1, 2])
    with pytest.warns(DegenerateWarning, match="0 same and 3 different"):
        assert np.isnan(evaluate(table, measures=["auc"])["auc"].value)
    with pytest.warns(DegenerateWarning, match="all 2 pairs are the same"):
        results = evaluate_pairs([0.1, 0.9], [True, True])
    assert results["accuracy@0.5"].value == 0.5
    assert np.isnan(results["auc"].value)


def test_pair_accuracy_is_keras_accuracy_with_one_value_a_pair():
    result = evaluate_pairs([0.1, 0.5, 0.4, 0.8], [1, 1, 0, 0], threshold=0.5)["accuracy@0.5"]
    np.testing.assert_array_equal(result.per_query, [1, 0, 0, 1])
    assert result.value == 0.5
    assert result.protocol["threshold"] == 0.5


@pytest.mark.parametrize(
    ("distances", "same", "error", "message"),
    [
        ([0.1, 0.2], [True], ArgumentError, r"same must both have shape \(p,\); got \(2,\) and \(1,\)"),
        ([0.1], [2], ArgumentError, "same must hold bools"),
        ([], [], DataError, "there are no pairs"),
        ([0.1, np.nan], [True, False], DataError, "1 are not, the first is pair 1"),
    ],
)
def test_unfit_pairs_are_refused(distances, same, error, message):
    with pytest.raises(error, match=message):
        evaluate_pairs(distances, same)


def test_pairs_have_no_retrieval():
    with pytest.raises(ArgumentError, match="pairs have no measure 'map@r'"):
        evaluate_pairs([0.1, 0.2], [True, False], measures=["map@r"])
