"""Exact neighbours against a loop: order, ties, padding, blocks."""

import numpy as np
import pytest

from kyori.errors import ArgumentError
from kyori.neighbors import nearest, order_keys
from oracles import evaluation as oracle


@pytest.mark.parametrize("k", [1, 3, 20])
def test_neighbors_agree_with_the_loop(k):
    generator = np.random.default_rng(0)
    queries, gallery = generator.normal(size=(15, 4)), generator.normal(size=(20, 4))
    found = nearest(queries, gallery, k)
    np.testing.assert_array_equal(found.ids, oracle.nearest(queries, gallery, k))
    assert found.distances.dtype == np.float32
    expected = np.linalg.norm(queries[:, None] - gallery[found.ids], axis=2)
    np.testing.assert_allclose(found.distances, expected, rtol=1e-5)


@pytest.mark.parametrize("block_rows", [1, 4, None])
def test_ties_stand_in_gallery_order_whatever_the_blocks(block_rows):
    generator = np.random.default_rng(1)
    items = generator.integers(2, size=(40, 3))
    found = nearest(items, items, 10, block_rows=block_rows)
    np.testing.assert_array_equal(found.ids, oracle.nearest(items, items, 10))


@pytest.mark.parametrize("metric", ["euclidean", "squared_euclidean", "cosine", "dot", "manhattan"])
@pytest.mark.parametrize("kind", ["spread", "grid", "far from the origin", "copies", "huge", "with zeros"])
@pytest.mark.parametrize("exclude_self", [False, True])
def test_many_queries_are_answered_as_each_by_itself(metric, kind, exclude_self):
    """A million pairs are compared in float32 first; one query at a time is not."""
    generator = np.random.default_rng(2)
    items = generator.normal(size=(1100, 6)).astype(np.float32)
    if kind == "grid":  # ties
        items = generator.integers(4, size=items.shape).astype(np.float32)
    if kind == "far from the origin":
        items = items * 1e-2 + (10 if metric == "cosine" else 1000)  # cosines there are chance
    if kind == "copies":  # more of them than could be told apart one by one
        items = items[generator.integers(3, size=len(items))]
    if kind == "huge":
        items *= 1e25
    if kind == "with zeros":
        items[::7] = 0
    some = np.sort(generator.permutation(len(items))[:40])
    for k in (1, 7):
        found = nearest(items, items, k, metric, exclude_self=exclude_self)
        again = nearest(items, items, k, metric, exclude_self=exclude_self, block_rows=300)
        np.testing.assert_array_equal(found.ids, again.ids)
        for i in some.tolist():
            others = np.delete(items, i, axis=0) if exclude_self else items
            alone = nearest(items[i : i + 1], others, k, metric)
            ids = alone.ids[0] + (exclude_self & (alone.ids[0] >= i))
            np.testing.assert_array_equal(found.ids[i], ids)
            np.testing.assert_allclose(found.distances[i], alone.distances[0], rtol=2e-7, atol=0)


def test_what_is_missing_is_padded():
    found = nearest([[0.0]], [[3.0], [1.0]], k=4)
    np.testing.assert_array_equal(found.ids, [[1, 0, -1, -1]])
    np.testing.assert_array_equal(found.distances, np.array([[1, 3, np.inf, np.inf]], np.float32))
    empty = nearest([[0.0]], np.zeros((0, 1)), k=2)
    np.testing.assert_array_equal(empty.ids, [[-1, -1]])


def test_itself_can_be_left_out_even_among_duplicates():
    found = nearest([[1.0], [1.0], [5.0]], [[1.0], [1.0], [5.0]], k=3, exclude_self=True)
    np.testing.assert_array_equal(found.ids, [[1, 2, -1], [0, 2, -1], [0, 1, -1]])


def test_near_duplicates_keep_their_order_far_from_the_origin():
    gallery = np.array([[1000.0], [1000.002], [1000.001]])
    np.testing.assert_array_equal(nearest([[1000.0]], gallery, 3).ids, [[0, 2, 1]])


def test_negative_distances_and_negative_zero_sort_right():
    distances = np.array([[0.5, -2.0, -0.0, 0.0, -0.5]], np.float32)
    np.testing.assert_array_equal(np.argsort(order_keys(distances), axis=1), [[1, 4, 2, 3, 0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[0.0]], [[0.0]], 0), "k must be at least 1; got 0"),
        (([[0.0]], [[0.0, 1.0]], 1), r"shapes \(q, d\) and \(m, d\)"),
        (([[0.0]], [[0.0]], 1, "euclid"), "did you mean 'euclidean'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        nearest(*arguments)
    with pytest.raises(ArgumentError, match="the same items; got 1 queries and 2"):
        nearest([[0.0]], [[0.0], [1.0]], 1, exclude_self=True)
