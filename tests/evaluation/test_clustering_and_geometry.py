"""Clustering and geometry against scikit-learn and loops."""

import numpy as np
import pytest
from sklearn import metrics
from sklearn.preprocessing import normalize

from kyori.errors import DegenerateWarning
from kyori.evaluation import evaluate
from kyori.evaluation.clustering import Contingency, adjusted_rand, k_means, mutual_information
from kyori.vectors import VectorTable
from oracles import evaluation as oracle

from .samples import blobs, perfect


@pytest.mark.parametrize("seed", range(5))
def test_scores_of_any_two_partitions_agree_with_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    a, b = generator.integers(5, size=60), generator.integers(7, size=60)
    b[:20] = a[:20]
    table = Contingency.of(a, b)
    chance = table.expected_information()
    assert mutual_information(table) == pytest.approx(metrics.normalized_mutual_info_score(a, b))
    assert mutual_information(table, chance) == pytest.approx(metrics.adjusted_mutual_info_score(a, b))
    assert adjusted_rand(table) == pytest.approx(metrics.adjusted_rand_score(a, b))


def test_evaluate_scores_its_own_k_means():
    table = blobs(120)
    clusters = k_means(table.vectors, 4, "euclidean", seed=3)
    results = evaluate(table, measures=["nmi", "ami", "ari"], seed=3)
    assert results["nmi"].value == pytest.approx(metrics.normalized_mutual_info_score(table.labels, clusters))
    assert results["ami"].value == pytest.approx(metrics.adjusted_mutual_info_score(table.labels, clusters))
    assert results["ari"].value == pytest.approx(metrics.adjusted_rand_score(table.labels, clusters))
    assert results["nmi"].protocol["clusters"] == 4
    for result in results.values():
        assert result.low < result.value < result.high


def test_perfect_and_random_clusters_score_what_they_must():
    assert [r.value for r in evaluate(perfect(), measures=["nmi", "ami", "ari"]).values()] == [1.0, 1.0, 1.0]
    generator = np.random.default_rng(1)
    chance = VectorTable(vectors=generator.normal(size=(400, 4)), labels=generator.integers(4, size=400))
    results = evaluate(chance, measures=["ami", "ari"])
    assert abs(results["ami"].value) < 0.03
    assert abs(results["ari"].value) < 0.03


def test_repeated_vectors_leave_clusters_empty_and_say_so():
    table = VectorTable(vectors=[[0.0], [0.0], [1.0], [1.0]], labels=[0, 1, 2, 2])
    with pytest.warns(DegenerateWarning, match="2 distinct clusters for 3 classes"):
        evaluate(table, measures=["nmi"])


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_silhouettes_agree_with_scikit_learn_a_class_of_one_included(metric):
    table = blobs(90, seed=2)
    labels = table.labels.copy()
    labels[7] = 99
    result = evaluate(
        VectorTable(vectors=table.vectors, labels=labels), measures=["silhouette"], metric=metric
    )["silhouette"]
    expected = metrics.silhouette_samples(table.vectors, labels, metric=metric)
    np.testing.assert_allclose(result.per_query, expected, atol=1e-5)
    assert result.value == pytest.approx(expected.mean(), abs=1e-5)
    assert result.protocol["singletons"] == 1


def test_alignment_uniformity_and_distance_ratio_agree_with_loops():
    table = blobs(40, seed=3)
    results = evaluate(table, measures=["alignment", "uniformity", "distance-ratio"])
    unit = normalize(table.vectors)
    assert results["alignment"].value == pytest.approx(oracle.alignment(unit, table.labels), rel=1e-5)
    assert results["uniformity"].value == pytest.approx(oracle.uniformity(unit), rel=1e-5)
    distances, same = oracle.all_pairs(table.vectors, table.labels)
    expected = distances[same].mean() / distances[~same].mean()
    assert results["distance-ratio"].value == pytest.approx(expected, rel=1e-5)
    for result in results.values():
        assert result.low < result.value < result.high


def test_geometry_without_a_class_of_two_is_nan():
    table = VectorTable(vectors=[[0.0], [1.0], [5.0]], labels=[0, 1, 2])
    with pytest.warns(DegenerateWarning, match="geometry needs at least 2 classes"):
        assert np.isnan(evaluate(table, measures=["silhouette"])["silhouette"].value)
