"""Re-ranking against slow readable oracles written from the papers."""

import math

import numpy as np
import pytest

import kyori
from kyori.errors import ArgumentError
from kyori.index import KReciprocal, QueryExpansion


def groups(n=40, d=6, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(6, d))[np.arange(n) % 6] + 0.5 * rng.normal(size=(n, d))
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)


def expansion_oracle(X, query, top, alpha):
    """α-QE with unit vectors: order of the gallery by similarity to the normalised weighted sum."""
    similarity = [float(x @ query) for x in X]
    first = sorted(range(len(X)), key=lambda i: -similarity[i])[:top]
    total = query.astype(float).copy()
    for i in first:
        total += max(0.0, similarity[i]) ** alpha * X[i]
    total /= np.linalg.norm(total)
    return sorted(range(len(X)), key=lambda i: -float(X[i] @ total))


def reciprocal_oracle(X, query, k1, k2, weight):
    """Zhong et al. 2017, equations 1 to 12, with sets and loops; item 0 is the query."""
    items = [query, *X]
    n = len(items)
    d = [[math.dist(a, b) for b in items] for a in items]
    largest = max(max(row) for row in d)
    d = [[value / largest for value in row] for row in d]

    def near(p, k):
        others = sorted((g for g in range(n) if g != p), key=lambda g: d[p][g])
        return [p, *others[:k]]

    def mutual(p, k):
        return {g for g in near(p, k) if p in near(g, k)}

    V = []
    for p in range(n):
        reached = set(mutual(p, k1))
        for g in mutual(p, k1):
            half = mutual(g, max(1, round(k1 / 2)))
            if len(mutual(p, k1) & half) >= 2 / 3 * len(half) - 1e-12:
                reached |= half
        V.append([math.exp(-d[p][g]) if g in reached else 0.0 for g in range(n)])
    if k2 > 1:
        V = [[sum(V[q][g] for q in near(p, k2 - 1)) / k2 for g in range(n)] for p in range(n)]
    result = []
    for g in range(1, n):
        least = sum(min(a, b) for a, b in zip(V[0], V[g], strict=True))
        most = sum(max(a, b) for a, b in zip(V[0], V[g], strict=True))
        result.append((1 - weight) * (1 - least / most) + weight * d[0][g])
    return result


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(("top", "alpha"), [(1, 3.0), (5, 3.0), (10, 0.0)])
def test_query_expansion_is_the_papers(metric, top, alpha, tmp_path):
    X, queries = groups(), groups(seed=1)[:8]
    with kyori.open_index(tmp_path / "i", metric=metric) as index:
        index.add(np.arange(40), X)
        found = index.search(queries, 40, rerank=QueryExpansion(top, alpha))
    for row, query in enumerate(queries):
        assert found.ids[row].tolist() == expansion_oracle(X, query, top, alpha)


@pytest.mark.parametrize(("k1", "k2", "weight"), [(10, 3, 0.3), (6, 1, 0.0), (20, 6, 0.3), (5, 4, 1.0)])
def test_k_reciprocal_is_the_papers(k1, k2, weight, tmp_path):
    X, queries = groups(), groups(seed=1)[:3]
    with kyori.open_index(tmp_path / "i") as index:
        index.add(np.arange(40), X)
        found = index.search(queries, 40, rerank=KReciprocal(k1, k2, weight, first=40))
    for row, query in enumerate(queries):
        true = np.array(reciprocal_oracle(X, query, k1, k2, weight))
        np.testing.assert_allclose(found.distances[row], true[found.ids[row]], atol=1e-5)
        assert (np.diff(found.distances[row]) >= 0).all()
        assert sorted(found.ids[row].tolist()) == list(range(40))


def test_only_the_first_are_looked_at_again(tmp_path):
    X = groups()
    with kyori.open_index(tmp_path / "i") as index:
        index.add([f"é{i}" for i in range(40)], X)
        plain = index.search(X[:4], 10)
        again = index.search(X[:4], 10, rerank=KReciprocal(first=10))
        assert [set(row) for row in again.ids.tolist()] == [set(row) for row in plain.ids.tolist()]
        few = index.search(X[:1], 20, where={"id": ["é1", "é2", "é3"]}, rerank=KReciprocal())
        assert few.ids[0, 3:].tolist() == [None] * 17


def test_it_helps_where_neighbours_know_more_than_distances(tmp_path):
    """Two long clusters side by side: k-reciprocal neighbours stay on their own side."""
    rng = np.random.default_rng(0)
    along = rng.uniform(0, 10, 200)
    X = np.stack([along, np.repeat([0.0, 1.2], 100) + 0.1 * rng.normal(size=200)], axis=1).astype(np.float32)
    labels = np.repeat([0, 1], 100)
    with kyori.open_index(tmp_path / "i") as index:
        index.add(np.arange(200), X)
        share = [
            (labels[index.search(X, 30, rerank=how).ids] == labels[:, None]).mean()
            for how in (None, KReciprocal(k1=10, k2=3, first=80))
        ]
    assert share[1] > share[0] + 0.02


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QueryExpansion(top=0), "top ≥ 1"),
        (lambda: QueryExpansion(alpha=-1), "α ≥ 0"),
        (lambda: KReciprocal(k1=0), "k1 ≥ 1"),
        (lambda: KReciprocal(weight=1.5), r"weight in \[0, 1\]"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_another_kind_of_reranking_is_refused(tmp_path):
    with kyori.open_index(tmp_path / "i") as index:
        index.add([1, 2], [[1.0], [2.0]])
        with pytest.raises(ArgumentError, match="rerank must be QueryExpansion"):
            index.search([1.0], rerank="expansion")


class Straight:
    """The model of pairs that measures what was measured before."""

    first = 10

    def measure(self, a, b):
        return np.linalg.norm(a - b, axis=1)


@pytest.mark.parametrize("names", ["é{}", None], ids=["strings", "integers"])
@pytest.mark.parametrize("how", [QueryExpansion(top=10), KReciprocal(k1=5, k2=3, first=10), Straight()])
def test_what_is_deleted_between_the_search_and_the_look_at_its_vector_is_left_out(
    how, names, tmp_path, monkeypatch
):
    """What other threads do now and then happens here at every search."""
    X = groups()
    with kyori.open_index(tmp_path / "i") as index:
        index.add([names.format(i) for i in range(40)] if names else np.arange(40), X)
        find, gone = index._find, []

        def find_and_delete(vectors, k, conditions):
            found = find(vectors, k, conditions)
            if k >= 10:  # not the second search of an expanded query
                gone.extend(found.ids[0, [1, 4]].tolist())
                index.delete(found.ids[0, [1, 4]])
            return found

        for _ in range(4):
            with monkeypatch.context() as patch:
                patch.setattr(index, "_find", find_and_delete)
                found = index.search(X[:3], 9, rerank=how)
            assert not set(found.ids[0].tolist()) & set(gone)
            true = dict(zip(index.ids().tolist(), index.get(index.ids()).vectors, strict=True))
            there = np.isfinite(found.distances)
            assert (np.diff(found.distances, axis=1)[there[:, 1:]] >= 0).all()
            assert (found.ids[~there] == (None if names else -1)).all()
            if isinstance(how, QueryExpansion):
                first = list(index.search(X[:1], 8).ids[0])
                weights = [max(0.0, float(true[id_] @ X[0])) ** 3 for id_ in first]
                middle = sum([w * true[i] for w, i in zip(weights, first, strict=True)], X[0])
                assert found.ids[0].tolist() == index.search(middle / (1 + sum(weights)), 9).ids[0].tolist()
                continue
            assert there.sum(axis=1)[0] == 8
            fewer = KReciprocal(k1=5, k2=3, first=8) if isinstance(how, KReciprocal) else None
            alone = index.search(X[:1], 8, rerank=fewer)
            assert found.ids[0, :8].tolist() == alone.ids[0].tolist()
            np.testing.assert_allclose(found.distances[0, :8], alone.distances[0], rtol=1e-4, atol=1e-6)

        monkeypatch.setattr(index, "_find", lambda *given: (find(*given), index.delete(index.ids()))[0])
        found = index.search(X[:3], 9, rerank=how)
        assert not np.isfinite(found.distances).any()
        assert (found.ids == (None if names else -1)).all()


def test_what_lies_behind_the_first_closes_up_when_one_of_the_first_is_deleted(tmp_path, monkeypatch):
    X = np.arange(20.0)[:, None]
    with kyori.open_index(tmp_path / "i") as index:
        index.add(np.arange(20), X)
        find = index._find
        monkeypatch.setattr(index, "_find", lambda *given: (find(*given), index.delete([3]))[0])
        found = index.search([0.0], 13, rerank=Straight())
    assert found.ids.tolist() == [[0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, -1]]
    assert np.isfinite(found.distances).sum() == 12
