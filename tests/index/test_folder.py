"""What is particular to an index in a folder: which FAISS index is built, when, and how it is searched."""

import numpy as np
import pytest

import kyori
from kyori.errors import ArgumentError
from kyori.index import factory, segments
from kyori.neighbors import nearest


def vectors(n, d=16, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def shared(found, true):
    return np.mean(
        [len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), true.tolist(), strict=True)]
    )


@pytest.mark.parametrize(
    ("made", "n"),
    [
        ("Flat", 500),
        ("HNSW16", 500),
        ("HNSW16,Flat", 500),
        ("IVF8,Flat", 500),
        ("SQ8", 10_500),
        ("PQ4x4np", 10_500),
        ("IVF8,PQ4x4np", 10_500),
        ("PCA8,Flat", 10_500),
    ],
)
def test_any_factory_string_searches_filters_deletes_and_opens_again(made, n, tmp_path):
    X = vectors(n)
    index = kyori.open_index(tmp_path / "i", factory=made, recall=0.9)
    index.add(np.arange(n), X, columns={"even": np.arange(n) % 2 == 0})
    index.save()
    assert index.statistics()["built"] == made
    for _ in range(2):
        true = nearest(X[:25], X, 5)
        found = index.search(X[:25], 5)
        assert shared(found.ids, true.ids) > (0.85 if "P" not in made else 0.3)
        rows = X[found.ids] - X[:25, None]
        np.testing.assert_allclose(
            found.distances, np.sqrt((rows**2).sum(-1)), rtol=1e-4, atol=1e-6
        )  # true ones
        even = index.search(X[:25], 5, where={"even": True})
        assert (even.ids % 2 == 0).all()
        np.testing.assert_array_equal(index.get([7, 3]).vectors, X[[7, 3]])  # as they came, lossy or not
        index.close()
        index = kyori.open_index(tmp_path / "i")
    index.delete(np.arange(1, n, 2))
    assert (index.search(X[:25], 5).ids % 2 == 0).all()
    index.upsert([2], X[[2]] + 9, columns={"even": [True]})
    index.save()
    assert index.search(X[2] + 9, 1).ids.tolist() == [[2]]
    index.compact()
    assert index.statistics()["deleted"] == 0
    assert len(index) == n // 2
    index.close()


def test_too_few_to_train_is_exact_until_there_are_enough(tmp_path):
    with kyori.open_index(tmp_path / "i", factory="IVF16,Flat") as index:
        index.add(np.arange(100), vectors(100))
        index.save()
        facts = index.statistics()
        assert (facts["built"], facts["suggested"]) == ("Flat", "IVF16,Flat")
        index.add(np.arange(100, 700), vectors(600, seed=1))
        index.save()
        assert index.statistics()["built"] == "IVF16,Flat"
        assert index.recall() > 0.9


def test_auto_chooses_by_size(tmp_path, monkeypatch):
    monkeypatch.setattr(factory, "_FLAT_BELOW", 300)
    with kyori.open_index(tmp_path / "i") as index:
        index.add(np.arange(200), vectors(200))
        index.save()
        assert index.statistics()["built"] == "Flat"
        index.add(np.arange(200, 400), vectors(200, seed=1))
        index.save()
        assert index.statistics()["suggested"] == "HNSW32"  # only said: building it may take long
        index.compact()
        assert index.statistics()["built"] == "HNSW32"
        assert index.statistics()["search"]["recall"] >= 0.95


@pytest.mark.parametrize("wrong", ["Flatt", "IDMap,Flat", "", "PQ0"])
def test_factories_that_cannot_be_are_refused_at_once(wrong, tmp_path):
    with pytest.raises(ArgumentError, match=r"FAISS|factory"):
        kyori.open_index(tmp_path / "i", factory=wrong).add([1], vectors(1))


def test_codes_must_divide_the_dimension_that_comes(tmp_path):
    with kyori.open_index(tmp_path / "index", factory="IVF2,PQ16x4np") as index:
        with pytest.raises(ArgumentError, match=r"no index 'IVF2,PQ16x4np' for vectors of 24 numbers"):
            index.add([0], np.ones((1, 24)))
        assert len(index) == 0
        index.add([0], np.ones((1, 32)))
        with pytest.raises(ArgumentError, match="vectors of 32 numbers"):
            index.compact("PQ5")
        assert len(index) == 1


@pytest.mark.parametrize("made", ["Flat", "HNSW8", "IVF8,Flat"])
def test_growth_in_steps_is_the_same_as_at_once(made, tmp_path, monkeypatch):
    """The delta is taken into the base again and again; deletions, replacements and filters hold throughout."""
    monkeypatch.setattr("kyori.index.folder._FOLD", 150)
    rng, X, held = np.random.default_rng(0), vectors(2_000), {}
    index = kyori.open_index(tmp_path / "i", factory=made, recall=0.99)
    for i in range(40):
        ids = rng.choice(2_000, 50, replace=False)
        rows = rng.choice(2_000, 50, replace=False)
        index.upsert(ids, X[rows], labels=rows % 3)
        held |= dict(zip(ids.tolist(), rows.tolist(), strict=True))
        gone = rng.choice(2_000, 20, replace=False).tolist()
        assert index.delete(gone) == sum(held.pop(id_, None) is not None for id_ in gone)
        if i % 9 == 4:
            index.close()
            index = kyori.open_index(tmp_path / "i")
    ids = np.array(sorted(held))
    rows = np.array([held[id_] for id_ in ids.tolist()])
    assert index.ids().tolist() == ids.tolist()
    table = index.get(ids)
    np.testing.assert_array_equal(table.vectors, X[rows])
    np.testing.assert_array_equal(table.labels, rows % 3)
    queries = vectors(40, seed=3)
    assert shared(index.search(queries, 10).ids, ids[nearest(queries, X[rows], 10).ids]) > 0.95
    kept = rows % 3 == 1
    found = index.search(queries, 10, where={"label": 1})
    assert shared(found.ids, ids[kept][nearest(queries, X[rows[kept]], 10).ids]) > 0.95
    assert index.statistics()["in_base"] > 0
    index.close()


def test_ids_with_the_same_key_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "_hash", lambda strings: np.zeros(len(strings), np.int64))
    names = [f"n{i}" for i in range(50)]
    with kyori.open_index(tmp_path / "i") as index:
        index.add(names, vectors(50))
        index.compact()
        index.delete(names[:10])
        index.upsert(names[5:15], vectors(10, seed=1))
        assert index.ids().tolist() == sorted(names[5:])
        np.testing.assert_array_equal(
            index.get(["n7", "n14", "n20"]).vectors[:2], vectors(10, seed=1)[[2, 9]]
        )


def test_a_narrow_filter_on_a_graph_finds_all(tmp_path):
    """A graph whose neighbours are nearly all left out would find nothing; few wanted rows are searched exactly."""
    X, n = vectors(5_000), 5_000
    with kyori.open_index(tmp_path / "i", factory="HNSW8") as index:
        index.add(np.arange(n), X, columns={"share": np.arange(n) % 100})
        index.save()
        for below in (1, 15, 60):
            wanted = np.flatnonzero(np.arange(n) % 100 < below)
            found = index.search(X[:30], 10, where={"share": ("<", below)})
            assert shared(found.ids, wanted[nearest(X[:30], X[wanted], 10).ids]) > 0.9, below


@pytest.mark.parametrize("saved", [True, False])
def test_small_distances_far_from_the_origin_are_true_in_batches(saved, tmp_path, monkeypatch):
    """|q|² + |x|² − 2qx, which FAISS computes for large batches, has no digits left here."""
    # What it does with thousands of queries:
    monkeypatch.setattr(factory.faiss().cvar, "distance_compute_blas_threshold", 1)
    X = vectors(1_000, 64) + 3
    Q = X[:40] + np.float32(1e-3)
    with kyori.open_index(tmp_path / "i", factory="Flat") as index:
        index.add(np.arange(1_000), X)
        if saved:
            index.save()
        found = index.search(Q, 1)
        assert found.ids[:, 0].tolist() == list(range(40))
        np.testing.assert_allclose(found.distances[:, 0], np.linalg.norm(Q - X[:40], axis=1), rtol=1e-3)


@pytest.mark.parametrize("n", [30, 700, 20_001])  # of no group, of one block, of a block and a bit
@pytest.mark.parametrize("q", [1, 19, 20, 150])
def test_exact_search_of_few_and_of_many_queries_finds_the_true_neighbours(q, n):
    X = vectors(n, 24) + 2
    queries = vectors(q, 24, seed=1) + 2
    squares, rows = factory.search_exactly(queries, X, 10)
    true = nearest(queries, X, 10)
    np.testing.assert_array_equal(rows, true.ids)
    np.testing.assert_allclose(np.sqrt(squares), true.distances, rtol=1e-5)
    chosen = np.arange(0, n, 3)
    _, rows = factory.search_exactly(queries, X, 10, chosen)
    np.testing.assert_array_equal(rows, chosen[nearest(queries, X[chosen], 10).ids])


@pytest.mark.parametrize("made", ["Flat", "HNSW8"])
def test_what_was_added_is_the_indexs_own(made, tmp_path):
    """A Flat index borrows the vectors while it is built; the caller may do what they like with them afterwards."""
    X, ids = vectors(21_000), np.arange(21_000)  # so many that they become a base at once
    with kyori.open_index(tmp_path / "i", factory=made) as index:
        given = X.copy()
        index.add(ids, given)
        assert index.statistics()["in_base"] == len(X)
        given[:] = 0
        np.testing.assert_array_equal(index.get([7, 20_000]).vectors, X[[7, 20_000]])
        assert index.search(X[:30], 1).ids[:, 0].tolist() == ids[:30].tolist()
        index.add([30_000], X[[0]] + 100)
        index.delete([8])
        index.save()  # grows what lies in a mapped file
        assert index.search(X[0] + 100, 1).ids.tolist() == [[30_000]]
        index.compact()
        assert len(index) == len(X)
        np.testing.assert_array_equal(index.get([7, 20_000]).vectors, X[[7, 20_000]])


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_large_queries_and_vectors_are_measured_or_refused(metric, tmp_path):
    """The quick check of a batch is one sum; what is too large for that is looked at closely."""
    with kyori.open_index(tmp_path / "i", metric=metric) as index:
        index.add([0, 1], [[3e17, 4e17], [4e17, 3e17]])
        queries = np.repeat(
            np.float32([[3e17, 4e17]]), 40, axis=0
        )  # each is short enough, all together are not
        assert index.search(queries, 1).ids.tolist() == [[0]] * 40
        for wrong in (np.inf, -np.inf, np.nan):
            queries[3, 1] = wrong
            with pytest.raises(kyori.errors.DataError, match="query 3 is not"):
                index.search(queries, 1)
        with pytest.raises(kyori.errors.DataError, match=r"queries must have a norm of at most 1e\+18"):
            index.search([[1e19, 0.0]], 1)
        assert index.search(np.zeros((0, 2)), 3).ids.shape == (0, 3)


def test_k_beyond_the_index_gives_every_item(tmp_path):
    X = np.repeat(vectors(3), 100, axis=0)  # duplicates: a graph of them falls apart
    with kyori.open_index(tmp_path / "i", factory="HNSW4") as index:
        index.add(np.arange(300), X)
        index.save()
        found = index.search(X[:5], 300)
        assert (np.sort(found.ids, axis=1) == np.arange(300)).all()


def test_settings_of_opening_are_checked(tmp_path):
    for message, settings in [
        (r"metric must be 'euclidean' or 'cosine'; got 'dot'", {"metric": "dot"}),
        (r"recall must lie in \(0, 1\]; got 2", {"recall": 2}),
    ]:
        with pytest.raises(ArgumentError, match=message):
            kyori.open_index(tmp_path / "i", **settings)
    with pytest.raises(ArgumentError, match=r"begins with one of .*did you mean 'postgres"):
        kyori.open_index("postgre://ann:secret@host/db")
    with pytest.raises(ArgumentError) as caught:
        kyori.open_index("redis://ann:secret@host/db")
    assert "secret" not in str(caught.value)
    with pytest.raises(ArgumentError, match="the name after #"):
        kyori.open_index('postgresql://host/db#x";DROP')
    with pytest.raises(ArgumentError, match="read_only is for indexes in folders"):
        kyori.open_index("postgresql://host/db", read_only=True)


def test_a_server_that_is_not_there_is_one_clear_error():
    pytest.importorskip("psycopg")
    with pytest.raises(
        kyori.errors.KyoriError, match=r"cannot reach postgresql://ann:\*\*\*@127\.0\.0\.1:9/x"
    ) as caught:
        kyori.open_index("postgresql://ann:secret@127.0.0.1:9/x?connect_timeout=1")
    assert "secret" not in str(caught.value)


def test_one_index_from_several_threads(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    X = vectors(400)
    with kyori.open_index(tmp_path / "i") as index, ThreadPoolExecutor(4) as pool:
        index.add(np.arange(100), X[:100])

        def work(i):
            if i % 4 == 0:
                index.add([100 + i], X[[100 + i]])
            return index.search(X[i], 1).ids[0, 0]

        assert list(pool.map(work, range(100))) == list(range(100))
        assert len(index) == 125


@pytest.mark.slow
@pytest.mark.parametrize("made", ["Flat", "HNSW16", "IVF256,Flat"])
def test_a_hundred_thousand(made, tmp_path):
    rng = np.random.default_rng(0)
    X = (
        rng.normal(size=(500, 16))[rng.integers(500, size=100_000)] * 2 + rng.normal(size=(100_000, 16))
    ).astype("f4")
    with kyori.open_index(tmp_path / "i", factory=made) as index:
        index.add(np.arange(100_000), X)
        assert index.statistics()["built"] == made
        assert index.statistics()["search"]["recall"] >= 0.95
    with kyori.open_index(tmp_path / "i") as index:
        queries = X[:200] + 0.1
        assert shared(index.search(queries, 10).ids, nearest(queries, X, 10).ids) > 0.93


@pytest.mark.parametrize("where", [None, {"part": 1}])
@pytest.mark.parametrize("compacted", [False, True], ids=["delta", "base"])
def test_near_neighbours_far_from_the_origin_are_told_apart(tmp_path, where, compacted):
    """|q|² + |x|² − 2qx, which FAISS uses for many vectors, has no digits left for them."""
    vectors = (1000 + 0.1 * np.random.default_rng(0).normal(size=(5000, 64))).astype(np.float32)
    with kyori.open_index(tmp_path / "index", factory="Flat") as index:
        index.add(np.arange(5000), vectors, columns={"part": [1] * 5000})
        if compacted:
            index.compact()
        found = index.search(vectors, 1, where=where)
    assert found.ids[:, 0].tolist() == list(range(5000))
    assert not found.distances.any()


def test_recall_is_measured_with_what_could_come_too(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 64))[rng.integers(100, size=12_000)] + 0.3 * rng.normal(size=(12_000, 64))
    with kyori.open_index(tmp_path / "i", factory="HNSW6", recall=0.3) as index:
        index.add(np.arange(len(X)), X.astype(np.float32))
        index.compact()
        report = index.statistics()["search"]
        assert (
            report["recall"] < index.recall(10, sample=200) - 0.01
        )  # the graph's own vectors are found more easily
        assert report["queries"] == 200


def test_a_batch_that_does_not_fit_what_another_thread_has_made_since_is_refused(tmp_path, monkeypatch):
    """In the log it would be what no process can open."""
    with kyori.open_index(tmp_path / "i") as index:
        index.add([1], [[1.0, 2.0]])
        fitted = index._fitted

        def late(rows):
            monkeypatch.undo()
            rows = fitted(rows)
            index.clear()
            index.add([2], [[1.0, 2.0, 3.0]])
            return rows

        monkeypatch.setattr(index, "_fitted", late)
        with pytest.raises(kyori.errors.KyoriError, match="cleared and filled by another thread"):
            index.add([3], [[1.0, 2.0]])
    with kyori.open_index(tmp_path / "i") as index:
        assert index.ids().tolist() == [2]


def test_recall_is_measured_while_others_delete(tmp_path, monkeypatch):
    with kyori.open_index(tmp_path / "i") as index:
        index.add(np.arange(300), vectors(300))
        everything = index.ids()
        index.delete(np.arange(100, 300))
        monkeypatch.setattr(index, "ids", lambda: everything)
        assert index.recall() == 1.0
        monkeypatch.setattr("kyori.index.base._BLOCK", 100)  # nothing is left of whole blocks
        assert index.recall() == 1.0
        index.delete(everything)
        assert index.recall() == 1.0
