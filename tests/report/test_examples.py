"""The examples shown are the ones that the titles promise."""

import numpy as np
import pytest

from kyori.report.examples import confused_pairs, first_pairs, worst_queries

LINE = np.array([[0.0], [1.0], [1.1], [9.0], [5.0]], dtype=np.float32)
LABELS = np.array([0, 0, 1, 1, 0])


def test_first_pairs_are_the_next_that_fit_and_use_an_item_once():
    same, different = first_pairs(LINE, LABELS)
    assert [(p.first, p.second, p.same) for p in same] == [(0, 1, True), (2, 3, True)]
    assert [(p.first, p.second, p.same) for p in different] == [(0, 2, False), (1, 3, False)]
    assert same[1].distance == pytest.approx(7.9, abs=1e-5)


def test_most_confused_pairs_on_a_line():
    apart, close = confused_pairs(LINE, LABELS, count=1)
    assert [(p.first, p.second) for p in apart] == [(2, 3)]
    assert [(p.first, p.second) for p in close] == [(1, 2)]


def test_confused_pairs_are_the_worst_of_all_pairs():
    generator = np.random.default_rng(1)
    vectors, labels = generator.normal(size=(60, 3)).astype(np.float32), np.arange(60) % 7
    apart, close = confused_pairs(vectors, labels, count=5)
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
    same = labels[:, None] == labels[None]
    assert apart[0].distance == pytest.approx(distances[same].max(), rel=1e-5)
    assert close[0].distance == pytest.approx(distances[~same].min(), rel=1e-5)
    for pairs, sign, kind in ((apart, -1, True), (close, 1, False)):
        assert all(p.same is kind and p.first < p.second for p in pairs)
        assert [p.distance for p in pairs] == sorted((p.distance for p in pairs), key=lambda x: sign * x)
        shown = [i for p in pairs for i in (p.first, p.second)]
        assert len(set(shown)) == len(shown)


@pytest.mark.parametrize(("labels", "same", "different"), [([0, 0, 0], 1, 0), ([0, 1, 2], 0, 1), ([0], 0, 0)])
def test_pairs_that_do_not_exist(labels, same, different):
    vectors = np.eye(3, dtype=np.float32)[: len(labels)]
    for found in (first_pairs, confused_pairs):
        assert [len(pairs) for pairs in found(vectors, np.array(labels))] == [same, different]


def test_worst_queries_on_a_line():
    queries = worst_queries(LINE, LABELS, k=2, count=3)
    assert [(q.item, q.score) for q in queries] == [
        (2, 0.0),
        (1, 0.5),
        (4, 0.5),
    ]  # equal scores: wrong and close first
    assert queries[0].neighbors.tolist() == [1, 0]
    assert queries[0].hits.tolist() == [False, False]
    np.testing.assert_allclose(queries[0].distances, [0.1, 1.1], atol=1e-5)


def test_given_scores_rank_and_skipped_queries_are_not_shown():
    scores = np.array([0.5, np.nan, 1.0, 0.1, 0.2])
    assert [q.item for q in worst_queries(LINE, LABELS, scores=scores)] == [3, 4, 0, 2]


def test_one_item_cannot_search():
    assert worst_queries(LINE[:1], LABELS[:1]) == []
