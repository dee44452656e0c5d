"""The pairwise re-ranker learns what the distance cannot know, and says when there is nothing to learn."""

import numpy as np
import pytest
import torch

import kyori
from kyori.errors import ArgumentError, DataError, FileFormatError
from kyori.index import KReciprocal, QueryExpansion
from kyori.recognition import PairwiseReranker, measure_reranking


def noisy(n, seed):
    """Ten classes in two coordinates, and four of noise that the distance weighs alike."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, n)
    angle = 2 * np.pi * labels / 10
    clean = np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.1 * rng.normal(size=(n, 2))
    return kyori.VectorTable(
        vectors=np.concatenate([clean, rng.normal(size=(n, 4)) * 0.6], axis=1), labels=labels
    )


@pytest.fixture(scope="module")
def model():
    return PairwiseReranker.fit(noisy(400, 0), first=60, epochs=8, seed=0)


def test_it_gains_where_coordinates_are_noise(model):
    rows = measure_reranking(noisy(400, 1), {"pairwise": model}, queries=200)
    gains = {(row.rerank, row.measure): row for row in rows}
    for measure in ("recall@1", "map@r"):
        found = gains["pairwise", measure]
        assert found.gain > 0.05
        assert found.low > 0
        assert found.low <= found.gain <= found.high
        assert found.value == pytest.approx(gains["none", measure].value + found.gain)
    assert model.facts["loss"] < model.facts["loss_of_distance"]


def test_a_search_with_it_orders_the_first_and_leaves_the_rest(model, tmp_path):
    table = noisy(300, 2)
    with kyori.open_index(tmp_path / "i") as index:
        index.add([f"é{i}" for i in range(300)], table.vectors, labels=table.labels)
        plain = index.search(table.vectors[:5], 100)
        found = index.search(table.vectors[:5], 100, rerank=model)
    names = {f"é{i}": i for i in range(300)}
    for row in range(5):
        assert set(found.ids[row, :60]) == set(plain.ids[row, :60])
        assert found.ids[row, 60:].tolist() == plain.ids[row, 60:].tolist()
        assert (np.diff(found.distances[row]) >= 0).all()
        first = [names[id_] for id_ in found.ids[row, :60]]
        expected = model.measure(np.repeat(table.vectors[[row]], 60, axis=0), table.vectors[first])
        np.testing.assert_allclose(found.distances[row, :60], expected, atol=1e-6)
        assert ((expected >= 0) & (expected <= 1)).all()


def test_it_is_symmetric_and_the_same_seed_gives_the_same_model(model):
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 20, 6)).astype(np.float32)
    np.testing.assert_array_equal(model.measure(a, b), model.measure(b, a))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again = PairwiseReranker.fit(noisy(400, 0), first=60, epochs=8, seed=0)
    np.testing.assert_array_equal(again.measure(a, b), model.measure(a, b))
    assert torch.equal(torch.get_rng_state(), state)


def test_it_comes_back_from_its_file_and_damage_is_noticed(model, tmp_path):
    path = model.save(tmp_path / PairwiseReranker.FILE)
    back = PairwiseReranker.load(path)
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 20, 6)).astype(np.float32)
    np.testing.assert_array_equal(back.measure(a, b), model.measure(a, b))
    assert (back.first, back.metric, back.facts) == (60, "euclidean", model.facts)
    content = path.read_bytes()
    for damaged in (content[:200], content[:-4] + b"\x01\x02\x03\x04", b"nothing"):
        path.write_bytes(damaged)
        with pytest.raises(FileFormatError):
            PairwiseReranker.load(path)
    with pytest.raises(FileFormatError, match="does not exist"):
        PairwiseReranker.load(tmp_path / "none")


def test_where_there_is_nothing_to_learn_it_says_so(model):
    with pytest.raises(DataError, match="at least 10"):
        PairwiseReranker.fit(noisy(5, 0))
    apart = kyori.VectorTable(vectors=np.repeat([[0.0], [9.0]], 10, axis=0), labels=np.repeat([0, 1], 10))
    with pytest.raises(DataError, match="nothing to learn"):
        PairwiseReranker.fit(apart, first=5)
    with pytest.raises(ArgumentError, match="first ≥ 2"):
        PairwiseReranker.fit(noisy(50, 0), first=1)
    with pytest.raises(ArgumentError, match="vectors of 6 numbers"):
        model.measure(np.zeros((1, 3)), np.zeros((1, 3)))
    with pytest.raises(DataError, match="no labels"):
        PairwiseReranker.fit(kyori.VectorTable(vectors=np.eye(12)))


def test_measures_agree_with_the_evaluation():
    """Recall@1 and MAP@R of the plain search are those of kyori.evaluate."""
    table = noisy(150, 5)
    rows = measure_reranking(table, {"qe": QueryExpansion(top=1), "kr": KReciprocal(weight=1.0)}, queries=150)
    known = kyori.evaluate(table, measures=["recall@1", "map@r"], bootstrap=0)
    for row in rows:
        if row.rerank in ("none", "kr"):  # λ = 1 is the old distance
            assert row.value == pytest.approx(known[row.measure].value, abs=1e-6)
    with pytest.raises(DataError, match="there are none"):
        measure_reranking(table.take([0]), {})
    with pytest.raises(ArgumentError, match="queries"):
        measure_reranking(table, {}, queries=0)
