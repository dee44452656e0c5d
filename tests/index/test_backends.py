"""What every backend must do, the same tests for all of them."""

import threading

import numpy as np
import pytest

import kyori
from kyori.errors import ArgumentError, DataError
from kyori.index import KReciprocal, QueryExpansion
from kyori.neighbors import nearest

EVIL = "\"; DROP TABLE kyori_index; --\\\n\t'é\x01{}%s$1 鳥🦉"


def vectors(n, d=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def shared(found, true):
    """Share of the true neighbours found."""
    return np.mean(
        [len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), true.tolist(), strict=True)]
    )


def filled(place, n=240, **settings):
    """An index whose base is built: approximate where the backend is."""
    index = place.open(**settings)
    X = vectors(n)
    index.add(np.arange(n), X, labels=[f"c{i % 4}" for i in range(n)], columns={"price": np.arange(n) / 2})
    index.compact()
    return index, X


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_true_distances_and_their_order(place, metric):
    index, X = filled(place, metric=metric)
    queries = vectors(30, seed=1)
    found, true = index.search(queries, 10), nearest(queries, X, 240, metric)
    assert found.ids.shape == found.distances.shape == (30, 10)
    assert shared(found.ids, true.ids[:, :10]) > 0.95
    D = np.take_along_axis(true.distances, np.argsort(true.ids, axis=1), axis=1)  # in the order of the items
    np.testing.assert_allclose(
        found.distances, np.take_along_axis(D, found.ids, axis=1), rtol=1e-4, atol=1e-6
    )
    assert (np.diff(found.distances) >= 0).all()
    assert index.recall() > 0.95
    one = index.search(queries[0], 3)
    assert one.ids.shape == (1, 3)
    itself = index.search(X[:25], 1)  # a batch, where FAISS's matrix form would give 1e-3
    assert itself.ids[:, 0].tolist() == list(range(25))
    assert itself.distances.max() < 1e-6


def test_life_of_an_item(place):
    index, X = filled(place)
    index.upsert([3, 1000], X[[4, 5]] + 50, labels=["new", "new"], columns={"price": [-1, -2]})
    assert len(index) == 241
    assert set(index.search(X[4] + 50, 2).ids[0].tolist()) == {3, 1000}
    assert 3 not in index.search(X[3], 5).ids
    assert index.delete([3, 4, 4, 77_777]) == 2
    assert len(index) == 239
    assert not {3, 4} & set(index.search(X[[3, 4]], 239).ids.ravel().tolist())
    index.add([3], X[[3]], labels=["back"], columns={"price": [9]})
    assert index.search(X[3], 1).ids[0, 0] == 3
    got = index.get([1000, 3, 0])
    assert got.ids.tolist() == [1000, 3, 0]
    assert [got.class_names[i] for i in got.labels] == ["new", "back", "c0"]
    np.testing.assert_array_equal(got.vectors, [X[5] + 50, X[3], X[0]])
    np.testing.assert_array_equal(got.columns["price"], [-2, 9, 0])
    assert index.get([4, 0, 77_777, 3], missing="skip").ids.tolist() == [0, 3]
    assert len(index.get([4, 77_777], missing="skip")) == len(index.get([], missing="skip")) == 0
    assert index.ids().tolist() == sorted({*range(240), 1000} - {4})


def test_reopened_it_holds_the_same(place):
    index, X = filled(place, metric="cosine")
    index.upsert([5], X[[6]], labels=["moved"], columns={"price": [1]})
    index.delete([0])
    before = index.search(X[:5], 8)
    facts = (index.columns, index.dimension, index.metric, len(index))
    index.close()
    for _ in range(2):
        index = place.open()
        assert (index.columns, index.dimension, index.metric, len(index)) == facts
        after = index.search(X[:5], 8)
        np.testing.assert_array_equal(after.ids[:, :3], before.ids[:, :3])
        np.testing.assert_allclose(after.distances, before.distances, atol=1e-6)
        index.save()
        index.close()


def test_filters_hold_and_find_all(place):
    index, X = filled(place)
    price, n = np.arange(240) / 2, 240
    label = np.array([f"c{i % 4}" for i in range(n)])
    cases = [
        ({"label": "c1"}, label == "c1"),
        ({"label": ["c1", "c2", "nothing"]}, np.isin(label, ["c1", "c2"])),
        ({"label": ("!=", "c1"), "price": ("<", 3)}, (label != "c1") & (price < 3)),
        ({"price": [(">=", 10), ("<=", 20.5)]}, (price >= 10) & (price <= 20.5)),
        ({"label": ("not in", ["c0", "c3"])}, ~np.isin(label, ["c0", "c3"])),
        ({"label": (">", "c2")}, label > "c2"),
        ({"id": ("<", 7)}, np.arange(n) < 7),
        ({"label": []}, np.zeros(n, bool)),
        ({"label": ("not in", [])}, np.ones(n, bool)),
    ]
    for where, kept in cases:
        wanted = np.flatnonzero(kept)
        found = index.search(X[:3], 240, where=where)
        for row in range(3):
            ids = found.ids[row][np.isfinite(found.distances[row])]
            assert sorted(ids.tolist()) == wanted.tolist(), where
        if len(wanted) >= 5:
            true = wanted[nearest(X[:3], X[wanted], 5).ids]
            assert shared(index.search(X[:3], 5, where=where).ids, true) > 0.9, where


def test_strings_are_only_ever_data(place):
    """Ids, values and column names with quotes, SQL, control characters and every script."""
    index = place.open()
    names = [f"{i}{EVIL}" for i in range(6)] + ["é", "e\u0301", "鳥", "", " ", "' OR 1=1 --", "%", "\x7f\x1f"]
    n = len(names)
    X = vectors(n, 3)
    columns = {
        EVIL: np.arange(n),
        "x" * 100: [f"{EVIL}{i % 2}" for i in range(n)],
        "select": np.arange(n) % 2 == 0,
    }
    index.add(names, X, labels=[EVIL] * n, columns=columns)
    assert index.ids().tolist() == sorted(names)
    assert index.search(X, 1).ids[:, 0].tolist() == names
    for where, count in [
        ({EVIL: ("<", 2)}, 2),
        ({"x" * 100: f"{EVIL}1"}, n // 2),
        ({"x" * 100: ["' OR 1=1 --", f"{EVIL}0"]}, n - n // 2),
        ({"label": "' OR 1=1 --"}, 0),
        ({"label": EVIL, "select": True}, n - n // 2),
        ({"id": ["' OR 1=1 --"]}, 1),
    ]:
        assert np.isfinite(index.search(X[0], n, where=where).distances).sum() == count, where
    assert index.get(["鳥", f"0{EVIL}"]).columns["x" * 100].tolist() == [f"{EVIL}0"] * 2
    assert index.delete(["' OR 1=1 --", "%"]) == 2
    assert len(index) == n - 2
    index.close()
    assert place.open().columns == {"label": "str", EVIL: "int", "x" * 100: "str", "select": "bool"}


def test_padding_and_emptiness(place):
    index = place.open()
    assert len(index) == 0
    assert index.search([[1.0, 2.0]], 3).distances.tolist() == [[np.inf] * 3]
    assert index.ids().tolist() == []
    assert index.delete(["a"]) == 0
    index.add([], np.zeros((0, 2), np.float32))
    index.add(["a"], [[1.0, 2.0]])
    found = index.search([[1.0, 2.0], [4.0, 6.0]], 3)
    assert found.ids.tolist() == [["a", None, None]] * 2
    np.testing.assert_allclose(found.distances, [[0, np.inf, np.inf], [5, np.inf, np.inf]], atol=1e-6)
    assert index.delete(["a"]) == 1
    assert index.search([[1.0, 2.0]], 2).ids.tolist() == [[None, None]]
    index.clear()
    index.add([7], [[1.0, 2.0, 3.0]])  # another dimension, another kind of id
    assert index.search([1.0, 2.0, 3.0], 2).ids.tolist() == [[7, -1]]


def test_what_does_not_fit_is_refused_and_changes_nothing(place):
    index, X = filled(place)
    good = {"labels": ["a"], "columns": {"price": [1.0]}}
    for error, message, change in [
        (ArgumentError, r"vectors must have 8 numbers; got 5", lambda: index.add([900], vectors(1, 5), **good)),
        (ArgumentError, r"kind that the index holds, int; got str", lambda: index.add(["x"], X[:1], **good)),
        (ArgumentError, r"columns must be label, price", lambda: index.add([900], X[:1], labels=["a"])),
        (ArgumentError, r"column 'price' must hold float values; got str",
         lambda: index.add([900], X[:1], ["a"], {"price": ["1"]})),
        (DataError, r"finite.*row 0 holds nan", lambda: index.add([900], X[:1] * np.nan, **good)),
        (DataError, r"norm of at most 1e\+18", lambda: index.add([900], X[:1] * 1e30, **good)),
        (DataError, r"ids must be unique; 900 occurs 2",
         lambda: index.add([900, 900], X[:2], ["a"] * 2, {"price": [1, 2]})),
        (DataError, r"ids must be new; .*5", lambda: index.add([900, 5], X[:2], ["a"] * 2, {"price": [1, 2]})),
        (DataError, r"ids must be in the index; 900 is not \(1 of 2", lambda: index.get([5, 900])),
        (ArgumentError, r"kind that the index holds, int; got str", lambda: index.delete(["x"])),
        (ArgumentError, r"queries must have shape \(q, 8\); got \(5,\)", lambda: index.search(np.zeros(5))),
        (DataError, r"query 1 is not", lambda: index.search([[0] * 8, [np.inf] * 8])),
        (ArgumentError, r"k must be at least 1", lambda: index.search(X[0], 0)),
        (ArgumentError, r"no column 'prise'; did you mean 'price'", lambda: index.search(X[0], where={"prise": 1})),
        (ArgumentError, r"unknown operator '=<'", lambda: index.search(X[0], where={"price": ("=<", 1)})),
        (ArgumentError, r"column's kind, float; got '1'", lambda: index.search(X[0], where={"price": "1"})),
        (DataError, r"NUL", lambda: index.upsert([900], X[:1], ["a\0b"], {"price": [1]})),
    ]:  # fmt: skip
        with pytest.raises(error, match=message):
            change()
    assert len(index) == 240
    assert 900 not in index.ids()


def test_settings_are_kept_and_held(place):
    index, X = filled(place, metric="cosine")
    with pytest.raises(DataError, match="must not be zero"):
        index.add([900], np.zeros((1, 8)), labels=["a"], columns={"price": [1]})
    np.testing.assert_allclose(np.linalg.norm(index.get([0]).vectors), 1, rtol=1e-6)
    index.compact("Flat")
    assert (index.search(X[:50], 5).ids == nearest(X[:50], X, 5, "cosine").ids).all()
    index.close()
    with pytest.raises(ArgumentError, match="made with metric 'cosine'"):
        place.open(metric="euclidean")
    with pytest.raises(ArgumentError, match=r"made with factory 'Flat'; change it with compact"):
        place.open(factory="HNSW16")
    assert place.open().statistics()["factory"] == "Flat"


def test_an_index_that_is_not_there_can_be_an_error(place):
    with pytest.raises(ArgumentError, match=r"Make .* with kyori index RUN DATA"):
        place.open(create=False)


def test_reranking_works_everywhere(place):
    index, X = filled(place)
    plain = index.search(X[:4], 10)
    expanded = index.search(X[:4], 10, rerank=QueryExpansion(top=5, alpha=3))
    looked = index.search(X[:4], 10, rerank=KReciprocal(k1=5, k2=2, first=30))
    assert expanded.ids.shape == looked.ids.shape == (4, 10)
    assert (looked.ids[:, 0] == plain.ids[:, 0]).all()
    assert (np.diff(looked.distances) >= 0).all()


def test_it_moves_to_another_place_and_back(place, tmp_path, monkeypatch):
    monkeypatch.setattr("kyori.index.base._BLOCK", 100)  # several batches
    index, X = filled(place, metric="cosine")
    index.delete([7])
    with kyori.open_index(tmp_path / "copy", metric="cosine") as copy:
        assert index.copy_to(copy) == len(copy) == 239
        assert copy.columns == index.columns
        np.testing.assert_array_equal(copy.search(X[:9], 3).ids[:, 0], index.search(X[:9], 3).ids[:, 0])
        index.delete(np.arange(100))
        index.upsert([200], X[[0]], labels=["else"], columns={"price": [0]})
        copy.copy_to(index)
        assert index.ids().tolist() == copy.ids().tolist()
        assert index.get([200]).columns["price"].tolist() == [100.0]
    with (
        kyori.open_index(tmp_path / "other") as other,
        pytest.raises(ArgumentError, match="must measure cosine"),
    ):
        index.copy_to(other)


@pytest.mark.slow
def test_a_hundred_thousand_vectors(place):
    n, X = 100_000, vectors(100_000, 4)
    index = place.open(factory="Flat")
    index.add([f"鳥{i}" for i in range(n)], X, labels=np.arange(n) % 7)
    assert len(index) == n
    assert index.search(X[::5000], 1).ids[:, 0].tolist() == [f"鳥{i}" for i in range(0, n, 5000)]
    assert index.delete(["鳥0", "鳥14"]) == 2
    index.close()
    index = place.open()
    assert len(index) == n - 2
    kept = np.setdiff1d(np.arange(0, n, 7), [0, 14])
    true = kept[nearest(X[:1], X[kept], 5).ids[0]]
    assert index.search(X[0], 5, where={"label": 0}).ids[0].tolist() == [f"鳥{i}" for i in true]


def test_many_batches(place, monkeypatch):
    if place.name.startswith("milvus"):
        monkeypatch.setattr("kyori.index.milvus._IDS", 37)  # many pages
    index = place.open()
    X = vectors(300, 4)
    for start in range(0, 300, 60):
        index.upsert(np.arange(start, start + 60), X[start : start + 60])
        index.delete([start])
        if start == 120:
            index.save()
    kept = np.setdiff1d(np.arange(300), np.arange(0, 300, 60))
    assert index.ids().tolist() == kept.tolist()
    found = index.search(X[kept], 1).ids[:, 0]
    assert (found == kept).mean() > 0.98


def test_two_threads_may_bring_the_first_batch(place, monkeypatch):
    """The second finds no table when it looks, and one when it makes its own."""
    index, X = place.open(), vectors(3)
    create = index._store.create

    def late(schema):
        monkeypatch.undo()
        index.add([0], X[:1], labels=["other"])
        create(schema)

    monkeypatch.setattr(index._store, "create", late)
    index.add([1, 2], X[1:], labels=["mine", "mine"])
    assert index.ids().tolist() == [0, 1, 2]
    index.clear()
    monkeypatch.setattr(index._store, "create", late)
    with pytest.raises(ArgumentError, match="vectors must have 8 numbers; got 5"):
        index.add([1], X[:1, :5], labels=["mine"])
    assert index.ids().tolist() == [0]


def test_several_threads_share_an_index(place):
    index, X = filled(place)
    wrong = []

    def work(thread):
        try:
            for i in range(6):
                id_ = 1_000 + 10 * thread + i
                row = {"labels": ["c9"], "columns": {"price": [0.0]}}
                index.upsert([id_], 50.0 + np.full((1, 8), id_, np.float32), **row)
                assert index.search(X[i], 1).ids.tolist() == [[i]]
                assert index.get([id_, i]).ids.tolist() == [id_, i]
                assert index.delete([id_]) == 1
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]
    assert len(index) == 240
