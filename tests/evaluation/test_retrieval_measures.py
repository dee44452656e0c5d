"""Retrieval against loops (tests/oracles/evaluation.py), known scores, ties and policies."""

import numpy as np
import pytest

from kyori.errors import ArgumentError, DataError, DegenerateWarning
from kyori.evaluation import evaluate
from kyori.vectors import VectorTable
from oracles import evaluation as oracle

from .samples import blobs, perfect

MEASURES = {
    "recall@1": lambda hits: oracle.recall_at(hits, 1),
    "recall@7": lambda hits: oracle.recall_at(hits, 7),
    "precision@5": lambda hits: oracle.precision_at(hits, 5),
    "r-precision": oracle.r_precision,
    "map@r": oracle.map_at_r,
    "map@3": lambda hits: oracle.map_at_k(hits, 3),
    "map@40": lambda hits: oracle.map_at_k(hits, 40),
    "map": oracle.average_precision,
    "ndcg@10": lambda hits: oracle.ndcg_at(hits, 10),
    "mrr": oracle.reciprocal_rank,
    "mrr@2": lambda hits: oracle.reciprocal_rank(hits, 2),
}


def per_query(table, measure, **options):
    return evaluate(table, measures=[measure], bootstrap=0, **options)[measure].per_query


@pytest.mark.parametrize("measure", MEASURES)
def test_each_query_agrees_with_the_loop(measure):
    table = blobs()
    expected = [
        MEASURES[measure](oracle.ranked_hits(table.vectors, table.labels, i)) for i in range(len(table))
    ]
    np.testing.assert_allclose(per_query(table, measure), expected, rtol=1e-6)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_gallery_agrees_with_the_loop(measure):
    table, gallery = blobs(30, seed=1), blobs(50, seed=2, ids=np.arange(100, 150))
    expected = [
        MEASURES[measure](oracle.ranked_hits(table.vectors, table.labels, i, gallery.vectors, gallery.labels))
        for i in range(len(table))
    ]
    np.testing.assert_allclose(per_query(table, measure, gallery=gallery), expected, rtol=1e-6)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_value_is_the_mean_of_the_queries_and_all_measures_agree_with_one(measure):
    table = blobs(seed=3)
    alone = evaluate(table, measures=[measure], bootstrap=0)[measure]
    together = evaluate(table, measures=list(MEASURES), bootstrap=0)[measure]
    assert alone.value == pytest.approx(alone.per_query.mean())
    np.testing.assert_array_equal(alone.per_query, together.per_query)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_table_as_its_own_gallery_is_leave_one_out(measure):
    table = blobs(seed=4)
    np.testing.assert_array_equal(per_query(table, measure, gallery=table), per_query(table, measure))


@pytest.mark.parametrize("measure", [m for m in MEASURES if m not in ("precision@5", "map@40")])
def test_a_perfect_embedding_scores_one(measure):
    assert evaluate(perfect(), measures=[measure])[measure].value == 1.0


def test_precision_at_k_divides_by_k_even_where_there_are_fewer_positives():
    assert evaluate(perfect(each=3), measures=["precision@4"])["precision@4"].value == 0.5


def test_map_at_k_divides_by_min_k_r_and_never_by_the_hits_found():
    # one hit at rank 1 among R = 5 positives: the textbook says 1/5, a divisor of hits found says 1
    vectors = [[0.0], [0.1], [0.2], [0.3], [0.4], [0.5], [9.0], [9.1], [9.2], [9.3]]
    table = VectorTable(vectors=vectors, labels=[0, 0, 1, 1, 1, 1, 0, 0, 0, 0])
    assert per_query(table, "map@5")[0] == pytest.approx(1 / 5)


def test_random_vectors_score_their_expectation():
    table = VectorTable(
        vectors=np.random.default_rng(0).normal(size=(1000, 8)), labels=np.repeat(np.arange(10), 100)
    )
    results = evaluate(table, measures=["recall@1", "r-precision", "precision@10"], bootstrap=300)
    for result in results.values():
        assert result.low < 99 / 999 < result.high


def test_shuffled_labels_bring_a_good_embedding_down_to_chance():
    table = blobs(400, spread=0.1)
    shuffled = VectorTable(vectors=table.vectors, labels=np.random.default_rng(1).permutation(table.labels))
    assert evaluate(table, measures=["map@r"], bootstrap=0)["map@r"].value > 0.9
    assert evaluate(shuffled, measures=["map@r"], bootstrap=0)["map@r"].value < 0.2


def test_the_order_of_the_rows_does_not_matter_ties_included():
    generator = np.random.default_rng(2)
    table = VectorTable(vectors=generator.integers(3, size=(80, 3)), labels=generator.integers(4, size=80))
    order = generator.permutation(80)
    for measure in MEASURES:
        values = per_query(table, measure)
        np.testing.assert_array_equal(per_query(table.take(order), measure), values[order])


@pytest.mark.parametrize("measure", ["recall@1", "map@r"])
def test_tied_queries_are_counted_and_broken_by_id(measure):
    # the query 0 has one positive and one negative at distance 1; the smaller id comes first
    table = VectorTable(vectors=[[0.0], [1.0], [-1.0], [50.0]], labels=[0, 0, 1, 1], ids=[5, 6, 7, 8])
    swapped = VectorTable(vectors=table.vectors, labels=table.labels, ids=[5, 7, 6, 8])
    first = evaluate(table, measures=[measure])[measure]
    assert first.per_query[0] == 1
    assert per_query(swapped, measure)[0] == 0
    assert first.protocol["tied_queries"] == 1
    assert evaluate(blobs(), measures=[measure])[measure].protocol["tied_queries"] == 0


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("block_rows", [1, 7, 1000])
def test_blocks_change_nothing(block_rows, metric):
    table = blobs(seed=5)
    names = [*MEASURES, "auc", "eer", "tar", "silhouette", "uniformity"]
    blocked = evaluate(table, measures=names, metric=metric, block_rows=block_rows, bootstrap=20)
    whole = evaluate(table, measures=names, metric=metric, bootstrap=20)
    for measure, result in whole.items():
        assert blocked[measure].value == pytest.approx(result.value, abs=1e-6)
        assert blocked[measure].low == pytest.approx(result.low, abs=1e-5)


def test_metrics_that_rank_alike_score_alike():
    table = blobs(seed=6)
    np.testing.assert_array_equal(
        per_query(table, "map"), per_query(table, "map", metric="squared_euclidean")
    )
    unit = VectorTable(
        vectors=table.vectors / np.linalg.norm(table.vectors, axis=1, keepdims=True), labels=table.labels
    )
    np.testing.assert_allclose(per_query(unit, "map"), per_query(table, "map", metric="cosine"), rtol=1e-5)


def test_negative_scores_rank_as_well_as_positive_ones():
    # all dot products negative, and all cosines: a perfect ranking must still score 1
    vectors = [[-1.0, 0.0], [0.9, 0.1], [-1.0, 0.1], [1.0, 0.0]]
    table = VectorTable(vectors=vectors, labels=[0, 1, 0, 1])
    for metric in ("cosine", "dot"):
        assert evaluate(table, metric=metric, measures=["map"])["map"].value == 1.0
    away = VectorTable(vectors=[[1.0, 0.0], [-1.0, 0.2], [-1.0, 3.0]], labels=[0, 1, 0])
    assert per_query(away.take([0]), "map", metric="cosine", gallery=away)[0] == 1.0


def test_queries_without_a_positive_follow_the_policy():
    table = VectorTable(vectors=[[0.0], [1.0], [5.0]], labels=[0, 0, 1])
    with pytest.warns(DegenerateWarning, match="1 of 3 queries have no positive"):
        skipped = evaluate(table, measures=["recall@1"])["recall@1"]
    assert (skipped.value, skipped.n, skipped.protocol["skipped"]) == (1.0, 2, 1)
    assert np.isnan(skipped.per_query[2])
    zero = evaluate(table, measures=["recall@1"], no_positive="zero")["recall@1"]
    assert (zero.value, zero.n) == (pytest.approx(2 / 3), 3)
    with pytest.raises(DataError, match=r"1 of 3 queries have no positive.*row 2"):
        evaluate(table, measures=["recall@1"], no_positive="error")


def test_no_query_with_a_positive_is_nan_and_not_zero():
    table = VectorTable(vectors=[[0.0], [1.0], [5.0]], labels=[0, 1, 2])
    with pytest.warns(DegenerateWarning, match="3 of 3"):
        result = evaluate(table, measures=["map@r"])["map@r"]
    assert np.isnan([result.value, result.low, result.high]).all()
    assert result.n == 0


def test_a_gallery_is_matched_by_class_name_and_leaves_out_the_same_id():
    table = VectorTable(ids=["x"], vectors=[[0.0]], labels=["cat"])
    gallery = VectorTable(ids=["x", "y", "z"], vectors=[[0.0], [2.0], [1.0]], labels=["cat", "cat", "ant"])
    assert per_query(table, "mrr", gallery=gallery)[0] == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measures": ["recal@1"]}, "unknown measure 'recal@1'; did you mean 'recall@1'?"),
        ({"measures": ["map@x"]}, "unknown measure 'map@x'"),
        ({"measures": ["accuracy@x"]}, "unknown measure 'accuracy@x'; did you mean 'accuracy'?"),
        ({"measures": "map"}, "measures must be a list of names"),
        ({"measures": ["recall@0"]}, "k of recall@k must be at least 1; got 0"),
        ({"measures": ["tar@far=2"]}, "must lie between 0 and 1; got 2"),
        ({"threshold": np.inf}, "threshold must be a finite distance; got inf"),
        ({"measures": ["accuracy"]}, "'accuracy' needs a threshold"),
        ({"metric": "euclidian"}, "did you mean 'euclidean'"),
        ({"unit": "clas"}, "unknown unit 'clas'; did you mean 'class'?"),
        ({"no_positive": "skp"}, "unknown no_positive 'skp'; did you mean 'skip'?"),
        ({"bootstrap": -1}, "bootstrap must be 0 or a number of resamples; got -1"),
        ({"block_rows": 0}, "block_rows must be at least 1; got 0"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ArgumentError) as error:
        evaluate(blobs(), **options)
    assert message in str(error.value)


def test_unfit_tables_are_refused():
    table = blobs()
    with pytest.raises(ArgumentError, match="table must be a VectorTable"):
        evaluate(table.vectors)
    with pytest.raises(DataError, match="table has no labels"):
        evaluate(VectorTable(vectors=table.vectors))
    with pytest.raises(DataError, match="table holds no vectors"):
        evaluate(table.take([]))
    with pytest.raises(DataError, match="vectors of one length; got 5 and 1"):
        evaluate(table, gallery=VectorTable(vectors=[[1.0]], labels=[0]))
    with pytest.raises(DataError, match="both have class names"):
        evaluate(table, gallery=VectorTable(vectors=table.vectors, labels=["a"] * len(table)))
    with pytest.raises(DataError, match="integer ids or both string ids"):
        evaluate(table, gallery=VectorTable(ids=list("ab"), vectors=table.vectors[:2], labels=[0, 1]))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (VectorTable(vectors=[[1.0]], labels=[0]), "1 items leave nothing to compare"),
        (VectorTable(vectors=[[1.0], [2.0], [3.0]], labels=[7, 7, 7]), "one class"),
        (VectorTable(vectors=[[1.0, 2.0]] * 6, labels=[0, 0, 0, 1, 1, 1]), "collapsed"),
        (VectorTable(vectors=[[0.0, 0.0]] * 4, labels=[0, 0, 1, 1]), "collapsed"),
    ],
)
def test_what_cannot_be_measured_is_nan_with_a_warning(table, message):
    with pytest.warns(DegenerateWarning, match=message):
        results = evaluate(table, threshold=1.0)
    assert len(results) > 10
    assert all(np.isnan(result.value) for result in results.values())


def test_a_collapse_of_direction_is_seen_by_the_cosine():
    table = VectorTable(vectors=[[1.0, 2.0], [2.0, 4.0], [3.0, 6.0], [4.0, 8.0]], labels=[0, 0, 1, 1])
    with pytest.warns(DegenerateWarning, match="collapsed"):
        assert np.isnan(evaluate(table, metric="cosine", measures=["map"])["map"].value)


def test_zero_vectors_have_no_direction():
    vectors = [[0.0, 0.0], [1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]
    table = VectorTable(vectors=vectors, labels=[0, 0, 0, 1, 1])
    with pytest.warns(DegenerateWarning, match="1 of 5 vectors are zero"):
        result = evaluate(table, metric="cosine", measures=["recall@1"])["recall@1"]
    assert np.isnan(result.per_query[0])
    assert (result.n, result.value) == (4, 1.0)
