"""Agreement with the peers where the definitions agree; docs/evaluation.md says where they differ and why."""

import numpy as np
import pytest
from sklearn import metrics

from kyori.evaluation import evaluate
from kyori.vectors import VectorTable

from .samples import blobs


def sample(n=240, classes=24) -> VectorTable:
    """Every class has at least two items, so that no peer meets a query without a positive."""
    table = blobs(n, classes=classes, seed=8)
    labels = np.concatenate([np.arange(classes), np.arange(classes), table.labels[2 * classes :]])
    return VectorTable(
        vectors=table.vectors + table.labels[:, None] * 0, labels=labels, ids=[f"i{i}" for i in range(n)]
    )


def test_pytorch_metric_learning():
    calculator = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    names = {
        "precision_at_1": "recall@1", "r_precision": "r-precision", "mean_average_precision_at_r": "map@r",
        "mean_reciprocal_rank": "mrr", "mean_average_precision": "map",
    }  # fmt: skip
    table = sample()
    theirs = calculator.AccuracyCalculator(include=tuple(names)).get_accuracy(table.vectors, table.labels)
    ours = evaluate(table, measures=list(names.values()), bootstrap=0)
    for name, measure in names.items():
        assert ours[measure].value == pytest.approx(theirs[name], abs=1e-6), name


@pytest.mark.slow  # its import takes long
def test_sentence_transformers():
    evaluation = pytest.importorskip("sentence_transformers.evaluation")
    table = sample(120, 12)
    documents = {id_: id_ for id_ in table.ids.tolist()}
    relevant = {
        f"q{id_}": {
            other for other, label in zip(table.ids.tolist(), table.labels, strict=True) if label == own
        }
        for id_, own in zip(table.ids.tolist(), table.labels, strict=True)
    }
    evaluator = evaluation.InformationRetrievalEvaluator(
        {f"q{id_}": id_ for id_ in documents}, documents, relevant, accuracy_at_k=[1, 5], precision_recall_at_k=[5],
        mrr_at_k=[10, 1000], ndcg_at_k=[10], map_at_k=[20], write_csv=False, show_progress_bar=False,
    )  # fmt: skip
    cosine = metrics.pairwise.cosine_similarity(table.vectors)
    ranked = [
        [{"corpus_id": table.ids[j].item(), "score": float(row[j])} for j in np.argsort(-row, kind="stable")]
        for row in cosine
    ]
    theirs = evaluator.compute_metrics(ranked)
    gallery = VectorTable(
        vectors=table.vectors, labels=table.labels, ids=[f"g{i:03d}" for i in range(len(table))]
    )
    ours = evaluate(
        table, gallery=gallery, metric="cosine", bootstrap=0,
        measures=["recall@1", "recall@5", "precision@5", "mrr", "mrr@10", "ndcg@10", "map@20"],
    )  # fmt: skip
    pairs = {
        "recall@1": theirs["accuracy@k"][1], "recall@5": theirs["accuracy@k"][5],
        "precision@5": theirs["precision@k"][5], "mrr": theirs["mrr@k"][1000], "mrr@10": theirs["mrr@k"][10],
        "ndcg@10": theirs["ndcg@k"][10], "map@20": theirs["map@k"][20],
    }  # fmt: skip
    for measure, value in pairs.items():
        assert ours[measure].value == pytest.approx(value, abs=1e-9), measure


def test_scikit_learn():
    table = sample()
    gallery = VectorTable(
        vectors=table.vectors[::2] + 0.01, labels=table.labels[::2], ids=[f"g{i:03d}" for i in range(120)]
    )
    ours = evaluate(table, gallery=gallery, measures=["map", "ndcg@10", "auc"], bootstrap=0)
    distances = metrics.pairwise_distances(table.vectors, gallery.vectors)
    same = table.labels[:, None] == gallery.labels
    rows = same.any(axis=1)
    scores = -distances
    precision = [metrics.average_precision_score(s, d) for s, d in zip(same[rows], scores[rows], strict=True)]
    assert ours["map"].value == pytest.approx(np.mean(precision), abs=1e-9)
    assert ours["ndcg@10"].value == pytest.approx(
        metrics.ndcg_score(same[rows], scores[rows], k=10), abs=1e-9
    )
    assert ours["auc"].value == pytest.approx(metrics.roc_auc_score(same.ravel(), scores.ravel()), abs=1e-6)


def test_why_two_peers_are_no_oracle():
    """What peers.md lists still holds for these definitions: ours is the textbook's."""
    table = VectorTable(
        vectors=[[0.0], [1.0], [1.5], [9.0], [9.5], [10.0], [1.7]], labels=[0, 1, 0, 0, 0, 0, 1]
    )
    value = evaluate(table, measures=["map@1", "map@2"], bootstrap=0)
    # One hit, at rank 2: over min(k, R), and not over the number of hits, which would make it 1/2.
    assert value["map@2"].per_query[0] == pytest.approx((1 / 2) / 2)
