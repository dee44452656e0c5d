"""The clustering methods: settings in, one cluster number an item out."""

import random
import warnings
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DataError
from ..neighbors import distance_blocks, nearest
from ..optional import require
from .linkage import Dendrogram, average_linkage

__all__ = ["ALGORITHMS", "Agglomerative", "Algorithm", "Communities", "Hdbscan", "KMeans"]

_MINI_BATCHES = 50_000  # items above which k-means takes them a batch at a time
_BATCH = 8_192
_LEAVES = 4_096  # small clusters that stand for the items of a larger table
_GRAPH = 20_000  # items whose exact k-NN graph is made
_DENSITY = 50_000  # items that HDBSCAN takes


class Algorithm(Protocol):
    """Settings of a method."""

    def assign(self, vectors: NDArray[np.float32], metric: str, seed: int) -> NDArray[np.int64]:
        """Return ``(n,)`` cluster codes, −1 for an item in none."""
        ...


@dataclass(frozen=True)
class KMeans:
    """k-means++ and Lloyd, the best of three starts; mini-batches (Sculley 2010) above 50,000 items."""

    clusters: int | None = None

    def assign(self, vectors: NDArray[np.float32], metric: str, seed: int) -> NDArray[np.int64]:
        if self.clusters is None:
            raise ArgumentError("kmeans needs clusters=, their number; got none. agglomerative finds it.")
        _check_clusters(self.clusters, len(vectors))
        return _k_means(vectors, self.clusters, seed)[0]


@dataclass(frozen=True)
class Agglomerative:
    """Average linkage, cut at a distance or at a number of clusters.

    Attributes:
        threshold: Root of the mean squared distance of two clusters up to which they are merged; for the cosine, the
            mean distance.
        clusters: Their number, instead of a threshold.
    """

    threshold: float | None = None
    clusters: int | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and self.clusters is not None:
            raise ArgumentError("threshold and clusters exclude each other; give one of them.")
        if self.threshold is not None and not self.threshold >= 0:
            raise ArgumentError(f"threshold must be at least 0; got {self.threshold}.")

    @property
    def decided(self) -> bool:
        return self.threshold is not None or self.clusters is not None

    def assign(self, vectors: NDArray[np.float32], metric: str, seed: int) -> NDArray[np.int64]:
        if self.clusters is not None:
            _check_clusters(self.clusters, len(vectors))
        tree, leaf = self.tree(vectors, seed)
        if self.clusters is not None:
            return tree.after(max(0, len(tree.heights) + 1 - self.clusters))[leaf]
        threshold = self.threshold or 0.0
        return tree.cut(2 * threshold if metric == "cosine" else threshold**2)[leaf]

    @staticmethod
    def from_height(height: float, metric: str) -> float:
        """Return the threshold that cuts the tree at ``height``."""
        return height / 2 if metric == "cosine" else height**0.5

    @staticmethod
    def tree(vectors: NDArray[np.float32], seed: int) -> tuple[Dendrogram, NDArray[np.int64]]:
        """Return the tree of the items, or of small clusters where they are many, and each item's leaf ``(n,)``."""
        if len(vectors) <= _LEAVES:
            counts, spreads = np.ones(len(vectors), np.int64), np.zeros(len(vectors))
            return average_linkage(vectors, counts, spreads), np.arange(len(vectors))
        leaf, centres = _k_means(vectors, _LEAVES, seed)
        counts = np.bincount(leaf, minlength=len(centres))
        off = vectors - centres[leaf]
        squares = np.bincount(leaf, np.einsum("nd,nd->n", off, off), minlength=len(centres))
        return average_linkage(centres, counts, squares / counts), leaf


@dataclass(frozen=True)
class Hdbscan:
    """HDBSCAN (Campello et al. 2013, scikit-learn's): clusters of any density; the rest is in none.

    Attributes:
        min_size: Items that make a cluster.
    """

    min_size: int = 10

    def assign(self, vectors: NDArray[np.float32], metric: str, seed: int) -> NDArray[np.int64]:
        from sklearn.cluster import HDBSCAN

        if self.min_size < 2:
            raise ArgumentError(f"min_size must be at least 2; got {self.min_size}.")
        if len(vectors) > _DENSITY:
            raise DataError(
                f"hdbscan takes up to {_DENSITY:,} items, its time grows with their square; got {len(vectors):,}. Use"
                " agglomerative or communities, which go on with small clusters, or a sample."
            )
        if len(vectors) < self.min_size:
            return np.full(len(vectors), -1)
        model = HDBSCAN(min_cluster_size=self.min_size, allow_single_cluster=False, copy=True)
        return model.fit_predict(vectors.astype(np.float64)).astype(np.int64)


@dataclass(frozen=True)
class Communities:
    """Leiden communities (Traag et al. 2019) of the k-NN graph, by modularity.

    Two items are tied when either is among the nearest of the other, by the share of neighbours that they have in
    common (Jaccard, as in PhenoGraph, Levine et al. 2015).

    Attributes:
        neighbors: Neighbours of an item in the graph.
        resolution: Above 1 for more and smaller communities.
    """

    neighbors: int = 15
    resolution: float = 1.0

    def assign(self, vectors: NDArray[np.float32], metric: str, seed: int) -> NDArray[np.int64]:
        if self.neighbors < 1 or not self.resolution > 0:
            raise ArgumentError(
                "neighbors must be at least 1 and resolution above 0; got"
                f" neighbors={self.neighbors}, resolution={self.resolution}."
            )
        igraph = require("igraph", extra="graph", purpose="clustering by communities")
        if len(vectors) > _GRAPH:
            leaf, centres = _k_means(vectors, _LEAVES, seed)
            return self.assign(centres, metric, seed)[leaf]
        if len(vectors) == 1:
            return np.zeros(1, np.int64)
        edges, weights = _shared_neighbors(vectors, min(self.neighbors, len(vectors) - 1))
        graph = igraph.Graph(n=len(vectors), edges=edges)
        # igraph draws from one generator of the process: it gets ours for the call, and Python's own back afterwards.
        igraph.set_random_number_generator(random.Random(seed))
        try:
            found = graph.community_leiden(
                objective_function="modularity", weights=weights, resolution=self.resolution, n_iterations=-1
            )
        finally:
            igraph.set_random_number_generator(random)
        return np.array(found.membership, np.int64)


ALGORITHMS: dict[str, Any] = {
    "kmeans": KMeans,
    "agglomerative": Agglomerative,
    "hdbscan": Hdbscan,
    "communities": Communities,
}


def _check_clusters(clusters: int, items: int) -> None:
    if not 1 <= clusters <= items:
        raise ArgumentError(f"clusters must lie in 1 … {items}, the number of items; got {clusters}.")


def _k_means(
    vectors: NDArray[np.float32], clusters: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return ``(n,)`` codes and the ``(m, d)`` means of the clusters that are not empty."""
    from sklearn.cluster import KMeans as Lloyd
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    many = clusters > 256  # k-means++ would take longer than the rest, and gain little
    settings: dict[str, Any] = {"init": "random" if many else "k-means++", "random_state": seed}
    if len(vectors) > _MINI_BATCHES or many:
        model = MiniBatchKMeans(
            clusters, n_init=1 if many else 3, batch_size=_BATCH, max_iter=3 if many else 20,
            reassignment_ratio=0.0, **settings,
        )  # fmt: skip
    else:
        model = Lloyd(clusters, n_init=3, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # fewer distinct vectors than clusters: some stay empty
        model.fit(vectors)
    codes = np.empty(len(vectors), np.int64)
    for rows, found in distance_blocks(
        vectors, model.cluster_centers_.astype(np.float32), "squared_euclidean"
    ):
        codes[rows] = found.argmin(axis=1)
    kept, codes = np.unique(codes, return_inverse=True)
    centres = np.zeros((len(kept), vectors.shape[1]))
    np.add.at(centres, codes, vectors)
    return codes, (centres / np.bincount(codes)[:, None]).astype(np.float32)


def _shared_neighbors(vectors: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the ``(e, 2)`` edges of the k-NN graph and the Jaccard overlap of the two neighbourhoods of each."""
    from scipy.sparse import csr_array

    n = len(vectors)
    ids = nearest(vectors, vectors, k, exclude_self=True).ids
    around = np.column_stack([np.arange(n), ids])  # an item belongs to its own neighbourhood
    rows = np.repeat(np.arange(n), k)
    pairs = np.stack([np.minimum(rows, ids.ravel()), np.maximum(rows, ids.ravel())], axis=1)
    edges = np.unique(pairs, axis=0)
    member = csr_array((np.ones(around.size), (np.repeat(np.arange(n), k + 1), around.ravel())), shape=(n, n))
    shared = np.concatenate(
        [
            np.asarray(member[block[:, 0]].multiply(member[block[:, 1]]).sum(axis=1)).ravel()
            for block in np.array_split(edges, len(edges) // 100_000 + 1)
        ]
    )
    return edges, shared / (2 * (k + 1) - shared)
