"""Clusters: known answers, a tree against a loop, names, propagation, stability, many items, wrong input."""

import numpy as np
import pytest

from kyori import VectorTable
from kyori.errors import ArgumentError, DataError
from kyori.quality import calibrate_clusters, cluster, cluster_stability, propagate_labels
from kyori.quality.agreement import b_cubed, rand_agreement, with_singles
from kyori.quality.linkage import average_linkage
from oracles import quality as oracle

OPTIONS = {
    "kmeans": {"clusters": 4},
    "agglomerative": {"clusters": 4},
    "hdbscan": {},
    "communities": {"resolution": 0.5},
}


@pytest.fixture(params=list(OPTIONS))
def method(request):
    if request.param == "communities":
        pytest.importorskip("igraph")
    return request.param


def blobs(n=200, seed=0, spread=0.5):
    generator = np.random.default_rng(seed)
    labels = generator.integers(4, size=n)
    centres = np.array([[0, 0], [10, 0], [0, 10], [10, 10]])
    return VectorTable(vectors=centres[labels] + spread * generator.normal(size=(n, 2)), labels=labels)


def unlabelled(table):
    return VectorTable(ids=table.ids, vectors=table.vectors)


def moons(n=300):
    generator = np.random.default_rng(0)
    angle = np.pi * generator.random(n)
    side = generator.integers(2, size=n)
    x = np.where(side, 1 - np.cos(angle), np.cos(angle))
    y = np.where(side, 0.5 - np.sin(angle), np.sin(angle))
    return VectorTable(vectors=np.stack([x, y], axis=1) + 0.03 * generator.normal(size=(n, 2)), labels=side)


def test_separate_blobs_are_the_clusters(method):
    table = blobs()
    found = cluster(table, method, **OPTIONS[method])
    inside = found.clusters >= 0
    assert rand_agreement(table.labels[inside], found.clusters[inside]) == 1.0
    assert inside.mean() > 0.7
    sizes = np.bincount(found.clusters[inside])
    assert list(sizes) == sorted(sizes, reverse=True)
    np.testing.assert_array_equal(found.names[inside], table.labels[inside].astype(str))
    assert (found.confidence[inside] == 1).all()
    assert (found.names[~inside] == "").all()
    assert f"{found.count:,} clusters" in str(found)


def test_the_order_of_the_items_does_not_matter(method):
    table = blobs()
    order = np.random.default_rng(1).permutation(len(table))
    one, two = (cluster(t, method, **OPTIONS[method]).clusters for t in (table, table.take(order)))
    assert rand_agreement(with_singles(one[order]), with_singles(two)) > 0.97


def test_the_same_seed_gives_the_same_clusters(method):
    table = blobs(spread=4.0)
    one, two = (cluster(table, method, seed=3, **OPTIONS[method]).clusters for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_communities_leave_pythons_random_numbers_alone():
    pytest.importorskip("igraph")
    import random

    random.seed(0)
    expected = random.random()
    random.seed(0)
    cluster(blobs(), "communities")
    assert random.random() == expected


@pytest.mark.parametrize("method", ["hdbscan", "communities"])
def test_two_moons_are_followed_by_density(method):
    if method == "communities":
        pytest.importorskip("igraph")
    table = moons()
    options = {"communities": {"resolution": 0.02, "neighbors": 20}, "hdbscan": {}}[method]
    found = cluster(table, method, **options)
    assert found.count == 2
    assert rand_agreement(table.labels, found.clusters) > 0.98


class TestTree:
    def test_it_is_the_loop_and_scipys(self):
        from scipy.cluster.hierarchy import fcluster, linkage

        vectors = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
        tree = average_linkage(vectors, np.ones(40, int), np.zeros(40))
        for count in (1, 2, 5, 17, 40):
            codes = tree.after(40 - count)
            found = {frozenset(np.flatnonzero(codes == c).tolist()) for c in range(codes.max() + 1)}
            assert found == oracle.average_linkage(vectors, count)
        from scipy.spatial.distance import pdist

        peer = linkage(pdist(vectors.astype(np.float64), "sqeuclidean"), method="average")
        np.testing.assert_allclose(tree.heights, peer[:, 2], rtol=1e-4)
        height = float(np.mean(peer[25:27, 2]))
        assert rand_agreement(tree.cut(height), fcluster(peer, height, "distance")) == 1.0

    def test_it_may_start_from_small_clusters(self):
        """Linking pairs first and going on from their sizes, means and spreads gives the heights of the items' tree."""
        generator = np.random.default_rng(0)
        starts = generator.normal(size=(20, 3))
        vectors = np.concatenate([starts, starts + 1e-3 * generator.normal(size=(20, 3))])
        pairs = np.stack([vectors[:20], vectors[20:]])
        spreads = ((pairs - pairs.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0)
        small = average_linkage(pairs.mean(axis=0), np.full(20, 2), spreads)
        whole = average_linkage(vectors, np.ones(40, int), np.zeros(40))
        np.testing.assert_allclose(small.heights, whole.heights[20:], rtol=1e-3)

    def test_the_threshold_is_a_distance(self):
        line = np.array([[0.0], [1.0], [4.0]])
        assert cluster(line, "agglomerative", threshold=0.99).count == 3
        assert cluster(line, "agglomerative", threshold=1.01).count == 2
        angles = np.deg2rad([0, 60, 180])
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array([[1.0], [5.0], [9.0]])
        assert cluster(circle, "agglomerative", threshold=0.49, metric="cosine").count == 3
        assert cluster(circle, "agglomerative", threshold=0.51, metric="cosine").count == 2


def test_a_calibrated_threshold_finds_the_classes_of_other_items():
    threshold, f = calibrate_clusters(blobs(seed=1))
    assert f == 1.0
    found = cluster(unlabelled(blobs(seed=2)), "agglomerative", reference=blobs(seed=1))
    assert found.count == 4
    assert found.algorithm.threshold == threshold
    assert "B-cubed F 1.000 on the reference; names are propagated" in found.note


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_calibration_takes_the_best_of_all_cuts(metric):
    generator = np.random.default_rng(0)
    table = VectorTable(vectors=generator.normal(size=(60, 2)) + 3, labels=generator.integers(3, size=60))
    threshold, f = calibrate_clusters(table, metric=metric)
    scores = []
    for count in range(1, 61):
        codes = cluster(table, "agglomerative", clusters=count, metric=metric).clusters
        scores.append(oracle.b_cubed(table.labels, codes))
    assert f == pytest.approx(max(scores))
    codes = cluster(table, "agglomerative", threshold=threshold, metric=metric).clusters
    assert oracle.b_cubed(table.labels, codes) == pytest.approx(f)


def test_b_cubed_is_the_loop():
    generator = np.random.default_rng(0)
    for _ in range(5):
        classes, clusters = generator.integers(4, size=30), generator.integers(-1, 6, size=30)
        assert b_cubed(classes, clusters) == pytest.approx(oracle.b_cubed(classes, clusters))


def test_a_cluster_is_called_after_most_of_its_labels():
    table = VectorTable(
        vectors=[[0.0], [0.1], [0.2], [9.0], [9.1]], labels=["owl", "owl", "cat", "cat", "cat"]
    )
    found = cluster(table, "agglomerative", threshold=1.0)
    assert found.names.tolist() == ["owl"] * 3 + ["cat"] * 2
    np.testing.assert_allclose(found.confidence, [2 / 3] * 3 + [1.0] * 2)
    assert found.table()[0] == {"cluster": 0, "items": 3, "name": "owl", "confidence": pytest.approx(2 / 3)}


def test_the_table_is_written(tmp_path):
    found = cluster(blobs(20), "kmeans", clusters=2)
    found.save(tmp_path / "found.csv")
    assert (tmp_path / "found.csv").read_text().splitlines()[0] == '"id","cluster","name","confidence"'


class TestPropagation:
    @pytest.mark.parametrize("k", [1, 3, 8])
    def test_it_is_the_formula(self, k):
        generator = np.random.default_rng(0)
        vectors = generator.normal(size=(40, 3)).astype(np.float32)
        labels = generator.integers(3, size=10)
        reference = VectorTable(vectors=vectors[:10], labels=labels)
        found = propagate_labels(VectorTable(vectors=vectors[10:]), reference, k=k)
        F = oracle.propagate(vectors, [*labels.tolist(), *[-1] * 30], k, 0.9)[10:]
        reached = F.sum(axis=1) > 0
        F = F[reached]
        np.testing.assert_array_equal(found.labels[reached], F.argmax(axis=1))
        np.testing.assert_allclose(found.confidence[reached], F.max(axis=1) / F.sum(axis=1), rtol=1e-3)
        assert (found.confidence[~reached] == 0).all()

    def test_a_few_names_travel_along_the_moons(self):
        table = moons()
        ends = np.array([np.flatnonzero(table.labels == side)[:2] for side in (0, 1)]).ravel()
        found = propagate_labels(unlabelled(table), table.take(ends))
        assert (found.labels == table.labels).mean() > 0.98

    def test_classes_in_portions_are_those_of_one(self, monkeypatch):
        from kyori.quality import naming

        table, reference = blobs(seed=1, spread=4), blobs(40, spread=4)
        whole = propagate_labels(table, reference)
        monkeypatch.setattr(naming, "_CLASSES", 1)
        portions = propagate_labels(table, reference)
        np.testing.assert_array_equal(whole.labels, portions.labels)
        np.testing.assert_allclose(whole.confidence, portions.confidence, rtol=1e-12)

    def test_many_items_hear_their_labelled_neighbors(self, monkeypatch):
        from kyori.quality import naming

        monkeypatch.setattr(naming, "_GRAPH", 100)
        table = blobs(seed=1)
        found = propagate_labels(unlabelled(table), blobs(40))
        np.testing.assert_array_equal(found.labels, table.labels)
        assert found.confidence.min() > 0.9

    def test_an_item_that_nothing_reaches_has_no_name(self):
        reference = VectorTable(vectors=[[0.0], [0.1]], labels=["a", "a"])
        table = VectorTable(vectors=[[0.2], [50.0], [50.1], [50.2]])
        found = propagate_labels(table, reference, k=1)
        assert found.confidence[0] == 1.0
        assert (found.confidence[1:] == 0).all()

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"reference": blobs(4).take([0])}, None, None),
            ({"reference": unlabelled(blobs(9))}, DataError, "reference must hold labelled items"),
            (
                {"reference": VectorTable(vectors=[[0.0]], labels=[0])},
                ArgumentError,
                "vectors of 2 numbers.*got 1",
            ),
            ({"k": 0}, ArgumentError, "k must be at least 1"),
            ({"spread": 1.0}, ArgumentError, "spread lie in"),
            ({"metric": "dot"}, ArgumentError, "euclidean or cosine; got 'dot'"),
        ],
    )
    def test_wrong_arguments_are_named(self, options, error, message):
        arguments = {"reference": blobs(20), **options}
        if error is None:
            assert len(propagate_labels(blobs(9), **arguments).labels) == 9
            return
        with pytest.raises(error, match=message):
            propagate_labels(blobs(9), **arguments)


class TestStability:
    def test_clear_clusters_are_stable_and_noise_is_not(self):
        clear = cluster_stability(blobs(), "kmeans", clusters=4, resamples=5)
        assert clear.mean == clear.low == clear.high == 1.0
        assert clear.clusters == (4,) * 5
        noise = VectorTable(vectors=np.random.default_rng(0).normal(size=(200, 10)))
        vague = cluster_stability(noise, "kmeans", clusters=4, resamples=5)
        assert vague.mean < 0.6
        assert vague.low <= vague.mean <= vague.high
        assert vague == cluster_stability(noise, "kmeans", clusters=4, resamples=5)

    def test_every_method(self, method):
        least = 0.5 if method == "hdbscan" else 0.95  # each item in none counts as a cluster
        assert cluster_stability(blobs(), method, resamples=3, **OPTIONS[method]).mean > least

    def test_wrong_arguments_are_named(self):
        with pytest.raises(ArgumentError, match="at least 2 and share"):
            cluster_stability(blobs(), "kmeans", clusters=2, resamples=1)
        with pytest.raises(ArgumentError, match="share=0"):
            cluster_stability(blobs(), "kmeans", clusters=2, share=0)


@pytest.mark.parametrize("name", ["kmeans", "agglomerative", "communities"])
def test_many_items_go_through_small_clusters(name, monkeypatch):
    if name == "communities":
        pytest.importorskip("igraph")
    from kyori.quality import algorithms

    for limit in ("_MINI_BATCHES", "_GRAPH"):
        monkeypatch.setattr(algorithms, limit, 500)
    monkeypatch.setattr(algorithms, "_LEAVES", 300)
    table = blobs(2000)
    options = {"communities": {"resolution": 0.1}}.get(name, {"clusters": 4})
    found = cluster(table, name, **options)
    assert rand_agreement(table.labels, found.clusters) > 0.99


def test_hdbscan_says_how_many_it_takes(monkeypatch):
    from kyori.quality import algorithms

    monkeypatch.setattr(algorithms, "_DENSITY", 100)
    with pytest.raises(DataError, match=r"up to 100 items.*got 101.*Use agglomerative or communities"):
        cluster(blobs(101), "hdbscan")


def test_degenerate_tables(method):
    options = {
        name: min(value, 1) if name == "clusters" else value for name, value in OPTIONS[method].items()
    }
    one = cluster([[1.0, 2.0]], method, **options)
    assert one.clusters.tolist() == [-1 if method == "hdbscan" else 0]
    same = cluster(np.ones((40, 3)), method, **options)
    assert len(same.clusters) == 40
    assert same.count == 1 or method in ("hdbscan", "communities")  # a graph of copies has no shape
    with pytest.raises(DataError, match="nothing to cluster"):
        cluster(np.zeros((0, 3)), method, **options)
    with pytest.raises(DataError, match="row 1 holds nan"):
        cluster([[0.0], [np.nan]], method, **options)


def test_fewer_distinct_vectors_than_clusters_leave_some_empty():
    assert cluster(np.repeat([[0.0], [1.0]], 5, axis=0), "kmeans", clusters=3).count == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("kmean", {}), "kmeans, agglomerative, hdbscan, communities; got 'kmean'; did you mean 'kmeans'"),
        (("kmeans", {}), "kmeans needs clusters="),
        (("kmeans", {"clusters": 21}), "clusters must lie in 1 … 20, the number of items; got 21"),
        (("kmeans", {"cluster": 3}), "kmeans has no option 'cluster'; did you mean 'clusters'"),
        (("kmeans", {"threshold": 3}), "kmeans has no option 'threshold'"),
        (("agglomerative", {}), "threshold=, clusters=, or labelled reference="),
        (("agglomerative", {"threshold": -1}), "threshold must be at least 0; got -1"),
        (("agglomerative", {"threshold": 1, "clusters": 2}), "exclude each other"),
        (("agglomerative", {"clusters": 0}), "clusters must lie in 1 … 20"),
        (("hdbscan", {"min_size": 1}), "min_size must be at least 2; got 1"),
        (("communities", {"resolution": 0}), "resolution above 0"),
        (("hdbscan", {"metric": "manhattan"}), "euclidean or cosine; got 'manhattan'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    name, options = arguments
    with pytest.raises(ArgumentError, match=message):
        cluster(blobs(20), name, **options)


def test_a_threshold_needs_labels_of_two_classes():
    with pytest.raises(DataError, match="at least 2 classes; got no labels"):
        calibrate_clusters(unlabelled(blobs(20)))
    with pytest.raises(DataError, match="got one class"):
        calibrate_clusters(VectorTable(vectors=[[0.0], [1.0]], labels=[1, 1]))
