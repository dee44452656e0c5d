"""Perfect, random and permuted embeddings have the analytic value of every measure; loops agree to 1e-12."""

import math

import numpy as np
import pytest
from scipy.stats import skew
from sklearn.metrics.cluster import pair_confusion_matrix

from kyori.errors import ArgumentError
from kyori.evaluation import evaluate
from kyori.evaluation.clustering import Contingency, b_cubed, pairwise_f1, purity
from kyori.evaluation.measures import CLUSTERING, RETRIEVAL
from kyori.vectors import VectorTable
from oracles import evaluation as oracle

from .samples import blobs, perfect

CLASSES, EACH = 8, 5
N = CLASSES * EACH
R = EACH - 1

# Of a perfect embedding: classes far apart, items of a class close together.
PERFECT = {
    "recall@1": 1, "recall@10": 1, "precision@4": 1, "precision@10": R / 10, "r-precision": 1, "map@r": 1, "map@3": 1,
    "map@10": 1, "map": 1, "ndcg@10": 1, "mrr": 1, "auc": 1, "eer": 0, "tar@far=1e-3": 1, "accuracy@1": 1,
    "best-accuracy": 1, "nmi": 1, "ami": 1, "ari": 1, "purity": 1, "b-cubed": 1, "pairwise-f1": 1,
}  # fmt: skip

# What a random order of the other n − 1 items has on average, each being a positive with the chance p = R / (n − 1).
P = R / (N - 1)
NONE_IN_3 = math.prod((N - 1 - R - i) / (N - 1 - i) for i in range(3))


def expected_average_precision(limit: int, divisor: int) -> float:
    """E[(1/divisor) Σ_{i≤limit} Precision@i · hit_i]: hit i and each of those before it, drawn without replacement."""
    both = P * (R - 1) / (N - 2)
    return sum((P + (i - 1) * both) / i for i in range(1, limit + 1)) / divisor


def expected_reciprocal_rank() -> float:
    total, none_before = 0.0, 1.0
    for rank in range(1, N - R + 1):
        left = N - rank  # items not yet seen
        total += none_before * R / left / rank
        none_before *= 1 - R / left
    return total


GAIN = [1 / math.log2(i + 1) for i in range(1, 11)]
RANDOM = {
    "recall@1": P, "recall@3": 1 - NONE_IN_3, "precision@5": P, "r-precision": P,
    "map@r": expected_average_precision(R, R), "map@3": expected_average_precision(3, 3),
    "map": expected_average_precision(N - 1, R), "ndcg@10": P * sum(GAIN) / sum(GAIN[:R]),
    "mrr": expected_reciprocal_rank(), "auc": 0.5, "ari": 0.0, "ami": 0.0, "distance-ratio": 1.0,
}  # fmt: skip


def test_every_measure_of_a_perfect_embedding():
    results = evaluate(perfect(CLASSES, EACH), measures=list(PERFECT), bootstrap=0)
    assert {name: result.value for name, result in results.items()} == pytest.approx(PERFECT, abs=1e-12)


@pytest.mark.parametrize("kind", ["random", "permuted"])
def test_every_measure_of_an_embedding_that_knows_nothing(kind):
    """The mean over many such embeddings lies within four standard errors of the analytic value."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), EACH)
    rows = []
    for _ in range(25):
        if kind == "random":
            table = VectorTable(vectors=generator.normal(size=(N, 16)), labels=labels)
        else:
            table = VectorTable(vectors=perfect(CLASSES, EACH).vectors, labels=generator.permutation(labels))
        results = evaluate(table, measures=list(RANDOM), bootstrap=0)
        rows.append([results[name].value for name in RANDOM])
    means, errors = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1) / np.sqrt(len(rows))
    for name, expected, mean, error in zip(RANDOM, RANDOM.values(), means, errors, strict=True):
        assert abs(mean - expected) < 4 * error + 1e-6, name


def test_the_order_of_the_rows_changes_nothing():
    table = blobs(80, classes=6, seed=5, ids=np.arange(80))
    order = np.random.default_rng(1).permutation(80)
    measures = [*PERFECT, "silhouette", "alignment", "uniformity", "effective-rank", "hubness", "robin-hood"]
    measures = [
        name for name in measures if name.partition("@")[0] not in CLUSTERING
    ]  # k-means starts by position
    before = evaluate(table, measures=measures, bootstrap=0)
    after = evaluate(table.take(order), measures=measures, bootstrap=0)
    for name in measures:
        assert after[name].value == pytest.approx(before[name].value, abs=1e-9), name


LOOPS = {
    "recall@1": lambda hits: oracle.recall_at(hits, 1), "recall@7": lambda hits: oracle.recall_at(hits, 7),
    "precision@5": lambda hits: oracle.precision_at(hits, 5), "r-precision": oracle.r_precision,
    "map@r": oracle.map_at_r, "map@3": lambda hits: oracle.map_at_k(hits, 3),
    "map@40": lambda hits: oracle.map_at_k(hits, 40), "map": oracle.average_precision,
    "ndcg@10": lambda hits: oracle.ndcg_at(hits, 10), "mrr": oracle.reciprocal_rank,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*have no positive")
@pytest.mark.parametrize(("n", "classes"), [(60, 4), (300, 75)])
def test_retrieval_agrees_with_the_loops_to_1e_12(n, classes):
    table = blobs(n, classes=classes, seed=6)
    hits = [oracle.ranked_hits(table.vectors, table.labels, row) for row in range(n)]
    hits = [ranking for ranking in hits if any(ranking)]
    assert {name.partition("@")[0] for name in LOOPS} >= {name.partition("@")[0] for name in RETRIEVAL}
    results = evaluate(table, measures=list(LOOPS), bootstrap=0)
    for name, loop in LOOPS.items():
        assert results[name].value == pytest.approx(
            np.mean([loop(ranking) for ranking in hits]), abs=1e-12
        ), name


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_partitions_agree_with_loops_and_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    a, b = generator.integers(5, size=80), generator.integers(7, size=80)
    b[:30] = a[:30]
    table = Contingency.of(a, b)
    assert purity(table) == pytest.approx(oracle.purity(a, b), abs=1e-12)
    assert b_cubed(table) == pytest.approx(oracle.b_cubed(a, b), abs=1e-12)
    (_, false_pairs), (missed, true_pairs) = pair_confusion_matrix(a, b)
    assert pairwise_f1(table) == pytest.approx(
        2 * true_pairs / (2 * true_pairs + false_pairs + missed), abs=1e-12
    )


def test_trivial_partitions_have_known_scores():
    labels = np.repeat(np.arange(4), 5)
    alone, together = Contingency.of(labels, np.arange(20)), Contingency.of(labels, np.zeros(20, np.int64))
    assert (purity(alone), pairwise_f1(alone)) == (1, 0)
    assert b_cubed(alone) == pytest.approx(2 * 0.2 / 1.2)
    assert purity(together) == pytest.approx(1 / 4)
    assert b_cubed(together) == pytest.approx(2 * 0.25 / 1.25)
    assert pairwise_f1(together) == pytest.approx(2 * 40 / (40 + 190))


def test_effective_rank_is_the_number_of_directions_in_use():
    generator = np.random.default_rng(0)
    labels = np.arange(4000) % 2
    ball = generator.normal(size=(4000, 6))
    found = evaluate(VectorTable(vectors=ball, labels=labels), measures=["effective-rank"])["effective-rank"]
    assert found.value == pytest.approx(6, abs=0.02)
    assert found.low <= found.value <= found.high
    flat = np.concatenate([ball[:, :3], np.zeros((4000, 5))], axis=1) + 7
    value = evaluate(VectorTable(vectors=flat, labels=labels), measures=["effective-rank"])[
        "effective-rank"
    ].value
    assert value == pytest.approx(3, abs=0.02)
    scaled = ball[:200] * np.array([9.0, 4, 1, 1, 0.5, 0.1])
    result = evaluate(
        VectorTable(vectors=scaled, labels=labels[:200]), measures=["effective-rank"], bootstrap=0
    )
    singular = np.linalg.svd(
        scaled.astype(np.float32) - scaled.astype(np.float32).mean(axis=0), compute_uv=False
    )
    shares = singular / singular.sum()
    assert result["effective-rank"].value == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-5)
    assert np.isnan(result["effective-rank"].low)


def test_hubs_are_counted():
    table = blobs(120, d=30, seed=7)
    results = evaluate(table, measures=["hubness", "robin-hood@5", "hubness@5"])
    for k, name in ((10, "hubness"), (5, "hubness@5")):
        counts = oracle.k_occurrence(table.vectors, k)
        assert results[name].value == pytest.approx(skew(counts), abs=1e-9)
        assert results[name].low <= results[name].value <= results[name].high
    moved = np.abs(oracle.k_occurrence(table.vectors, 5) - 5).sum() / (2 * 5 * 120)
    assert results["robin-hood@5"].value == pytest.approx(moved, abs=1e-12)
    ring = np.stack([np.cos(np.arange(40) * np.pi / 20), np.sin(np.arange(40) * np.pi / 20)], axis=1)
    even = evaluate(
        VectorTable(vectors=ring, labels=np.arange(40) % 2), measures=["robin-hood@2"], bootstrap=0
    )
    assert even["robin-hood@2"].value == 0  # on a ring everybody is the neighbour of two
    with pytest.raises(ArgumentError, match="k of hubness@k must be at least 1"):
        evaluate(table, measures=["hubness@0"])


def test_clustering_is_left_out_by_default_where_it_is_slow(monkeypatch):
    from kyori.evaluation import protocol

    monkeypatch.setattr(protocol, "FEW_DISTANCES", 100)
    results = evaluate(blobs(60), bootstrap=0)
    assert not set(results) & set(CLUSTERING)
    assert results.provenance["left_out"]["measures"] == ["nmi", "ami", "ari"]
    assert "nmi" in evaluate(blobs(60), measures=["nmi"], bootstrap=0)
