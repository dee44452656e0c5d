"""What is asked of servers alone: several writers, snapshots, answers that lag behind."""

import numpy as np
import pytest

from kyori.errors import ArgumentError

from .test_backends import filled, vectors

MILVUS_SERVER = pytest.param("milvus-server", marks=pytest.mark.slow)


@pytest.mark.parametrize("place", ["postgres", MILVUS_SERVER], indirect=True)
def test_two_writers_on_a_server_may_bring_the_first_batch(place):
    first, second, X = place.open(), place.open(), vectors(3)
    first.add([0], X[:1], columns={"price": [1.0]})
    second.add([1], X[1:2], columns={"price": [2]})
    assert first.ids().tolist() == second.ids().tolist() == [0, 1]
    assert second.columns == {"price": "float"}


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_an_index_that_a_server_cannot_make_is_not_there(place):
    index = place.open()
    with pytest.raises(ArgumentError, match="at most 2,000 numbers"):
        index.add([0], np.ones((1, 2_001)))
    index.add([0], np.ones((1, 8)))
    assert len(index) == 1


@pytest.mark.parametrize("place", ["milvus-lite", MILVUS_SERVER], indirect=True)
def test_a_search_waits_for_what_was_written_while_another_one_ran(place, monkeypatch):
    index, X = filled(place)
    client, levels = index._store._client, []
    search = client.search

    def recorded(*given, consistency_level, **settings):
        found = search(*given, consistency_level="Session", **settings)
        levels.append(consistency_level)
        if len(levels) == 1:
            index.delete([0])
        return found

    monkeypatch.setattr(client, "search", recorded)
    monkeypatch.setattr(index._store, "_strong", "Strong")
    monkeypatch.setattr(index._store, "_query", lambda ids, fields: [{"id": id_} for id_ in ids])
    for _ in range(3):
        index.search(X[:1], 3)
    assert levels == ["Strong", "Strong", "Session"]


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
def test_steady_calls_on_postgresql_are_answered_from_one_snapshot(place):
    index, X = filled(place)
    other = place.open()
    with index.steady():
        assert index.search(X[0], 1).ids.tolist() == [[0]]
        other.delete([0])
        with index.steady():
            np.testing.assert_array_equal(index.get([0]).vectors, X[:1])
        assert (len(index), len(other)) == (240, 239)
    assert len(index) == 239
