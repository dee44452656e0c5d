"""The two ways to rank agree to the last bit, whatever the blocks, the memory, the ranks and the ties."""

import numpy as np
import pytest

from kyori.errors import ArgumentError, DataError, FileFormatError
from kyori.evaluation import Shard, evaluate, evaluate_shard, merge_shards, ranking, screening
from kyori.neighbors import Screen
from kyori.vectors import VectorTable
from oracles import evaluation as oracle

MEASURES = ("recall@1", "precision@3", "r-precision", "map@r", "map@10", "map", "ndcg@10", "mrr")


def products(n=700, classes=200, spread=0.3, d=12, seed=0, copies=60, far=0.0) -> VectorTable:
    """Many small classes, as in product data, with exact copies of some items under other labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=n)
    vectors = (generator.normal(size=(classes, d))[labels] + spread * generator.normal(size=(n, d))).astype(
        np.float32
    )
    vectors[n - copies :] = vectors[:copies]
    columns = {"sequence": generator.integers(4, size=n)}
    return VectorTable(vectors=vectors + np.float32(far), labels=labels, columns=columns)


def both_ways(monkeypatch, table, **options):
    """Results of the screen, made sure of, and of sorting every row."""
    seen = []
    screened = ranking.screened
    monkeypatch.setattr(ranking, "screened", lambda *a, **b: seen.append(screened(*a, **b)) or seen[-1])
    fast = evaluate(table, measures=MEASURES, bootstrap=0, rules=False, **options)
    monkeypatch.setattr(ranking, "_LEAST_ITEMS", 10**9)
    return fast, evaluate(table, measures=MEASURES, bootstrap=0, rules=False, **options), seen


@pytest.mark.filterwarnings("ignore:.*have no positive")
@pytest.mark.parametrize("metric", Screen.METRICS)
@pytest.mark.parametrize("far", [0.0, 50.0])
def test_the_screen_and_sorting_agree_to_the_last_bit_ties_included(monkeypatch, metric, far):
    fast, slow, seen = both_ways(monkeypatch, products(far=far), metric=metric)
    assert seen
    if far == 0:
        assert all(ranks is not None for ranks in seen)
        assert fast["recall@1"].protocol["tied_queries"] >= 60
    for name in MEASURES:
        np.testing.assert_array_equal(fast[name].per_query, slow[name].per_query)
        assert fast[name].value == slow[name].value
    if metric == "euclidean" and far == 0:
        assert fast["map"].protocol["tied_queries"] == slow["map"].protocol["tied_queries"]


def test_the_screen_agrees_with_the_loop():
    table = products(n=300, classes=80, copies=20)
    found = evaluate(table, measures=["map", "mrr"], bootstrap=0, rules=False, no_positive="zero")
    for row in range(0, 300, 7):
        hits = oracle.ranked_hits(table.vectors, table.labels, row)
        expected = (oracle.average_precision(hits), oracle.reciprocal_rank(hits)) if any(hits) else (0, 0)
        got = found["map"].per_query[row], found["mrr"].per_query[row]
        assert got == pytest.approx(expected, rel=1e-6)


@pytest.mark.filterwarnings("ignore:.*have no positive")
@pytest.mark.parametrize("passes", [0, 12])
def test_a_poor_embedding_is_counted_row_by_row(monkeypatch, passes):
    monkeypatch.setattr(screening, "_PASSES", passes)
    fast, slow, seen = both_ways(monkeypatch, products(spread=50.0), block_rows=100)
    assert all(ranks is not None for ranks in seen)
    assert fast["map"].value < 0.1
    for name in MEASURES:
        np.testing.assert_array_equal(fast[name].per_query, slow[name].per_query)


@pytest.mark.filterwarnings("ignore:.*have no positive")
def test_many_positives_are_not_too_close_for_the_screen(monkeypatch):
    """They lie in windows of their own, one in forty of all pairs."""
    fast, slow, seen = both_ways(monkeypatch, products(classes=40, spread=50.0, copies=0))
    assert all(ranks is not None for ranks in seen)
    for name in MEASURES:
        np.testing.assert_array_equal(fast[name].per_query, slow[name].per_query)


@pytest.mark.filterwarnings("ignore:.*have no positive")
def test_what_is_too_close_for_the_screen_is_sorted_after_all(monkeypatch):
    generator = np.random.default_rng(0)
    table = VectorTable(
        vectors=generator.integers(2, size=(600, 3)), labels=generator.integers(150, size=600)
    )
    fast, slow, seen = both_ways(monkeypatch, table)
    assert seen == [None]
    np.testing.assert_array_equal(fast["map"].per_query, slow["map"].per_query)


@pytest.mark.filterwarnings("ignore:.*have no positive")
def test_memory_and_blocks_change_nothing(monkeypatch):
    table = products()
    whole = evaluate(table, measures=MEASURES, bootstrap=0)
    monkeypatch.setattr(screening, "BLOCK_WIDTH", 97)  # the gallery in blocks too
    for options in ({"memory": 64 * 700}, {"block_rows": 13}):
        parts = evaluate(table, measures=MEASURES, bootstrap=0, **options)
        for name in MEASURES:
            np.testing.assert_array_equal(parts[name].per_query, whole[name].per_query)
    with pytest.raises(ArgumentError, match="memory must hold the distances of one query, 44,800 bytes"):
        evaluate(table, measures=MEASURES, memory=1000)


@pytest.mark.filterwarnings("ignore:.*have no positive")
def test_ranks_give_the_results_of_one_bit_for_bit(tmp_path):
    table = products()
    whole = evaluate(table, measures=MEASURES)
    for rank in (2, 0, 1):
        evaluate_shard(table, rank=rank, world=3, measures=MEASURES).save(tmp_path / f"{rank}.npz")
    shards = [Shard.load(tmp_path / f"{rank}.npz") for rank in (1, 2, 0)]
    merged = merge_shards(shards, table)
    for name in MEASURES:
        assert (merged[name].value, merged[name].low, merged[name].high) == (
            whole[name].value, whole[name].low, whole[name].high,
        )  # fmt: skip
        np.testing.assert_array_equal(merged[name].per_query, whole[name].per_query)
        assert merged[name].protocol == whole[name].protocol
    with pytest.raises(DataError, match="each once; got"):
        merge_shards(shards[:2], table)
    with pytest.raises(DataError, match="another evaluation"):
        merge_shards(shards, table.take(np.arange(500)))
    with pytest.raises(ArgumentError, match="only retrieval measures"):
        evaluate_shard(table, rank=0, world=2, measures=["auc"])
    with pytest.raises(ArgumentError, match="rank must be from 0 to 1"):
        evaluate_shard(table, rank=2, world=2)
    (tmp_path / "0.npz").write_bytes((tmp_path / "0.npz").read_bytes()[:100])
    with pytest.raises(FileFormatError, match=r"0\.npz"):
        Shard.load(tmp_path / "0.npz")


def test_more_ranks_than_queries_leave_some_without_any():
    table = VectorTable(vectors=np.random.default_rng(0).normal(size=(5, 3)), labels=[0, 0, 1, 1, 1])
    shards = [evaluate_shard(table, rank=rank, world=8, measures=["map@r"]) for rank in range(8)]
    assert merge_shards(shards, table)["map@r"].value == evaluate(table, measures=["map@r"])["map@r"].value


@pytest.mark.filterwarnings("ignore:.*have no positive")
def test_values_of_queries_stream_to_parquet(tmp_path):
    from pyarrow import parquet

    table = products()
    path = tmp_path / "queries.parquet"
    results = evaluate(
        table, measures=["recall@1", "map@r", "auc"], per_query=path, block_rows=100, bootstrap=0
    )
    read = parquet.read_table(path)
    assert read.column_names == ["id", "label", "positives", "recall@1", "map@r"]
    assert parquet.ParquetFile(path).num_row_groups >= 7  # at most block_rows queries each
    np.testing.assert_array_equal(read["id"].to_numpy(), table.ids)
    np.testing.assert_allclose(read["map@r"].to_numpy(), results["map@r"].per_query, rtol=1e-6)
    assert read["map@r"].null_count == results["map@r"].protocol["skipped"] > 0
    assert [file.name for file in tmp_path.iterdir()] == ["queries.parquet"]
    with pytest.raises(DataError, match="no positive"):
        evaluate(table, measures=["map@r"], per_query=tmp_path / "no.parquet", no_positive="error")
    with pytest.raises(ArgumentError, match="names none of them"):
        evaluate(table, measures=["auc"], per_query=path)
    assert not (tmp_path / "no.parquet").exists()


def test_the_error_of_the_screen_is_within_its_bound():
    generator = np.random.default_rng(0)
    for metric in Screen.METRICS:
        for scale, offset in ((1, 0), (1e-3, 3), (100, 0)):
            x = (scale * generator.normal(size=(300, 40)) + offset).astype(np.float32)
            screen = Screen(x, x, metric)
            rows, columns = np.divmod(np.arange(300 * 300), 300)
            coarse = screen.block(slice(0, 300), slice(0, 300)).ravel()
            values = screen.exact(rows, columns)[1]
            assert (np.abs(coarse - values) <= screen.slack(rows, values)).all()
