"""Clusters: which items belong together, how surely, and what they are called."""

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError, DataError, nearest_name
from ..vectors import VectorTable
from .agreement import b_cubed, rand_agreement, with_singles
from .algorithms import ALGORITHMS, Agglomerative, Algorithm
from .naming import propagate_labels
from .writing import write_columns

__all__ = ["Clusters", "Stability", "calibrate_clusters", "cluster", "cluster_stability"]

ClusterMetric = Literal["euclidean", "cosine"]

_CUTS = 200  # places of the tree that are tried as the threshold


@dataclass(frozen=True, eq=False)
class Clusters:
    """Which cluster each item is in.

    Attributes:
        ids: ``(n,)`` of the table.
        clusters: ``(n,)`` int64 from 0, the largest cluster first; −1 for an item that is in none (``hdbscan``).
        names: ``(n,)`` name of the item's cluster, empty where nothing is known.
        confidence: ``(n,)`` in [0, 1]: the share of the cluster's labels that agree with its name; 0 without a name.
        algorithm: What made them, with its settings.
        note: How a threshold was chosen or names were found, in words.
    """

    ids: NDArray[Any]
    clusters: NDArray[np.int64]
    names: NDArray[np.str_]
    confidence: NDArray[np.float64]
    algorithm: Algorithm
    note: str = ""

    @property
    def count(self) -> int:
        return int(self.clusters.max(initial=-1)) + 1

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return one array ``(n,)`` a column: id, cluster, name, confidence."""
        return {"id": self.ids, "cluster": self.clusters, "name": self.names, "confidence": self.confidence}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`columns` to a ``.parquet`` or ``.csv`` file."""
        write_columns(self.columns(), path)

    def table(self) -> list[dict[str, Any]]:
        """Return one row a cluster: its number, size, name and confidence."""
        first = np.unique(self.clusters[self.clusters >= 0], return_index=True)[1]
        inside = np.flatnonzero(self.clusters >= 0)[first]
        sizes = np.bincount(self.clusters[self.clusters >= 0])
        return [
            {
                "cluster": number,
                "items": int(sizes[number]),
                "name": str(self.names[i]),
                "confidence": float(self.confidence[i]),
            }
            for number, i in enumerate(inside.tolist())
        ]

    def __str__(self) -> str:
        outside = int((self.clusters < 0).sum())
        rest = f", {outside:,} in none" if outside else ""
        return f"{len(self.ids):,} items in {self.count:,} clusters{rest} ({self.algorithm})"


@dataclass(frozen=True)
class Stability:
    """How much clusters depend on the very items.

    Attributes:
        mean: Mean adjusted Rand index between the clusterings of two subsamples, on the items they share: 1 where they
            always agree, 0 as by chance.
        low: The 2.5th percentile over the pairs of subsamples.
        high: The 97.5th percentile.
        clusters: How many clusters each subsample gave.
    """

    mean: float
    low: float
    high: float
    clusters: tuple[int, ...]


def cluster(
    table: VectorTable | ArrayLike,
    method: str = "agglomerative",
    *,
    metric: ClusterMetric = "euclidean",
    reference: VectorTable | None = None,
    seed: int = 0,
    **options: Any,
) -> Clusters:
    """Put the items of a table into clusters, and name them where labels are known.

    | method | options | for many items |
    |---|---|---|
    | ``kmeans`` | ``clusters`` | mini-batches above 50,000 |
    | ``agglomerative`` | ``threshold`` or ``clusters`` | above 4,096 the tree starts from small clusters |
    | ``hdbscan`` | ``min_size=10`` | an error above 50,000 |
    | ``communities`` | ``neighbors=15, resolution=1.0`` | above 20,000 the graph is one of small clusters |

    The small clusters are 4,096 of k-means. Without either option, ``agglomerative`` calibrates its threshold on
    ``reference``. ``communities`` needs the extra ``graph``.

    A cluster is called after the label that most of its items carry. A table without labels gets its names by
    propagation from ``reference`` (:func:`propagate_labels`).

    Args:
        table: Vectors, or an array ``(n, d)``.
        method: One of the table above.
        metric: ``"euclidean"``, or ``"cosine"`` to cluster directions (a zero vector stays one).
        reference: Labelled vectors of the same embedder.
        seed: Of everything random.
        **options: Of the method.

    Raises:
        ArgumentError: An unknown method or option, more clusters than items, or nothing that decides how many.
        DataError: There is nothing to cluster, or too much for the method.
        MissingExtraError: ``communities`` without its package.

    >>> table = VectorTable(vectors=[[0.0], [0.1], [5.0], [5.2]], labels=["a", "a", "b", "a"])
    >>> found = cluster(table, "agglomerative", threshold=1.0)
    >>> found.clusters, found.names, found.confidence
    (array([0, 0, 1, 1]), array(['a', 'a', 'a', 'a'], dtype='<U1'), array([1. , 1. , 0.5, 0.5]))
    """
    table = _checked(table, metric)
    algorithm, note = _algorithm(method, options, reference, metric, seed)
    codes = _by_size(algorithm.assign(_rows(table, metric), metric, seed))
    labels, weights, classes = _known_labels(table, reference, metric)
    names, confidence = _name(codes, labels, weights, classes)
    if table.labels is None and reference is not None:
        note = "; ".join(filter(None, [note, "names are propagated from the reference"]))
    return Clusters(table.ids, codes, names, confidence, algorithm, note)


def calibrate_clusters(
    table: VectorTable, *, metric: ClusterMetric = "euclidean", seed: int = 0
) -> tuple[float, float]:
    """Find the threshold of ``agglomerative`` that reproduces the classes of labelled items best.

    The tree of the items is cut at 200 places, and the one with the highest B-cubed F wins, the lower of equal ones;
    the threshold lies half-way to the next merge.

    Returns:
        The threshold (root of the mean squared distance between two clusters, or their mean cosine distance), and the
        B-cubed F there.

    Raises:
        DataError: The table has no labels or fewer than two classes.

    >>> table = VectorTable(vectors=[[0.0], [1.0], [5.0], [6.0]], labels=[0, 0, 1, 1])
    >>> threshold, f = calibrate_clusters(table)
    >>> 1 < threshold < 5, f
    (True, 1.0)
    """
    table = _checked(table, metric)
    if table.labels is None or len(np.unique(table.labels)) < 2:
        raise DataError(
            "a threshold is calibrated on labelled items of at least 2 classes; got"
            f" {'no labels' if table.labels is None else 'one class'}. Give threshold= or clusters=."
        )
    tree, leaf = Agglomerative().tree(_rows(table, metric), seed)
    merges = np.unique(np.linspace(0, len(tree.heights), _CUTS).astype(int))
    scores = [b_cubed(table.labels, tree.after(int(count))[leaf]) for count in merges]
    best = int(np.argmax(scores))
    around = np.append(np.concatenate([[0.0], tree.heights]), tree.heights[-1] * 2)
    height = float(np.mean(around[[merges[best], merges[best] + 1]]))
    return Agglomerative.from_height(height, metric), scores[best]


def cluster_stability(
    table: VectorTable | ArrayLike,
    method: str = "agglomerative",
    *,
    metric: ClusterMetric = "euclidean",
    reference: VectorTable | None = None,
    resamples: int = 10,
    share: float = 0.8,
    seed: int = 0,
    **options: Any,
) -> Stability:
    """Cluster subsamples, and compare each two on the items they share by the adjusted Rand index.

    Subsamples are drawn without replacement: the copies of a bootstrap sample would be clusters of their own. An
    item in no cluster counts as a cluster of one. A calibrated threshold is calibrated once.

    Args:
        table: Vectors, or an array ``(n, d)``.
        method: As for :func:`cluster`, with its options.
        metric: As for :func:`cluster`.
        reference: As for :func:`cluster`.
        resamples: Number of subsamples, at least 2.
        share: Of the items in each, in (0, 1].
        seed: Of the draws and of the method.
        **options: Of the method.

    Raises:
        ArgumentError: An argument is out of range, or as for :func:`cluster`.
    """
    if resamples < 2 or not 0 < share <= 1:
        raise ArgumentError(
            f"resamples must be at least 2 and share lie in (0, 1]; got resamples={resamples}, share={share}."
        )
    table = _checked(table, metric)
    algorithm, _ = _algorithm(method, options, reference, metric, seed)
    rows, generator = _rows(table, metric), np.random.default_rng(seed)
    size = max(1, round(share * len(table)))
    found = []
    for number in range(resamples):
        items = np.sort(generator.permutation(len(table))[:size])
        codes = np.full(len(table), -2, np.int64)  # not drawn
        codes[items] = with_singles(algorithm.assign(rows[items], metric, seed + number))
        found.append(codes)
    values = [_shared_agreement(found[i], found[j]) for i in range(resamples) for j in range(i)]
    low, high = np.nanquantile(values, [0.025, 0.975])
    counts = tuple(len(np.unique(codes[codes >= 0])) for codes in found)
    return Stability(float(np.nanmean(values)), float(low), float(high), counts)


def _shared_agreement(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    both = (first >= 0) & (second >= 0)
    return rand_agreement(first[both], second[both]) if both.sum() > 1 else float("nan")


def _checked(table: VectorTable | ArrayLike, metric: str) -> VectorTable:
    if metric not in ("euclidean", "cosine"):
        raise ArgumentError(
            f"metric must be euclidean or cosine; got {metric!r}{nearest_name(metric, ['euclidean', 'cosine'])}"
        )
    table = table if isinstance(table, VectorTable) else VectorTable(vectors=table)
    if len(table) == 0:
        raise DataError("there is nothing to cluster: expected at least 1 vector, got 0.")
    return table


def _rows(table: VectorTable, metric: ClusterMetric) -> NDArray[np.float32]:
    if metric == "euclidean":
        return table.vectors
    lengths = np.linalg.norm(table.vectors, axis=1, keepdims=True)
    return (table.vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _algorithm(
    method: str, options: dict[str, Any], reference: VectorTable | None, metric: ClusterMetric, seed: int
) -> tuple[Algorithm, str]:
    if method not in ALGORITHMS:
        raise ArgumentError(
            f"method must be one of {', '.join(ALGORITHMS)}; got {method!r}{nearest_name(method, ALGORITHMS)}"
        )
    made: Callable[..., Algorithm] = ALGORITHMS[method]
    known = [field.name for field in fields(ALGORITHMS[method])]
    for name in options:
        if name not in known:
            raise ArgumentError(f"{method} has no option {name!r}{nearest_name(name, known)}")
    algorithm = made(**options)
    if not isinstance(algorithm, Agglomerative) or algorithm.decided:
        return algorithm, ""
    if reference is None:
        raise ArgumentError(
            "agglomerative needs threshold=, clusters=, or labelled reference= vectors to calibrate the threshold"
            " on; got none of them."
        )
    threshold, f = calibrate_clusters(reference, metric=metric, seed=seed)
    return Agglomerative(threshold=threshold), f"the threshold gives B-cubed F {f:.3f} on the reference"


def _by_size(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number clusters by falling size, of equal ones by first item; −1 stays."""
    numbers, first, sizes = np.unique(codes[codes >= 0], return_index=True, return_counts=True)
    rank = np.empty(len(numbers) + 1, np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(numbers))
    rank[-1] = -1
    return rank[np.where(codes < 0, len(numbers), np.searchsorted(numbers, codes))]


def _known_labels(
    table: VectorTable, reference: VectorTable | None, metric: ClusterMetric
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.str_]]:
    """Return label codes ``(n,)`` with −1 for unknown, their weights, and the names of the codes."""
    if table.labels is not None:
        present, labels = np.unique(table.labels, return_inverse=True)
        return labels.astype(np.int64), np.ones(len(table)), _label_names(present, table)
    if reference is not None and reference.labels is not None:
        found = propagate_labels(table, reference, metric=metric)
        present, labels = np.unique(found.labels, return_inverse=True)
        names = _label_names(present, reference)
        return np.where(found.confidence > 0, labels, -1), found.confidence, names
    return np.full(len(table), -1), np.zeros(len(table)), np.zeros(0, np.str_)


def _label_names(present: NDArray[np.int64], table: VectorTable) -> NDArray[np.str_]:
    if table.class_names is None:
        return present.astype(np.str_)
    return np.array(table.class_names, np.str_)[present]


def _name(
    codes: NDArray[np.int64],
    labels: NDArray[np.int64],
    weights: NDArray[np.float64],
    classes: NDArray[np.str_],
) -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    """Return for each item the name of its cluster and the share of the weight that agrees."""
    from scipy.sparse import coo_array

    known = (codes >= 0) & (labels >= 0)
    if not known.any():
        return np.full(len(codes), "", dtype=classes.dtype if len(classes) else "<U1"), np.zeros(len(codes))
    shape = (int(codes.max()) + 1, len(classes))
    votes = coo_array((weights[known], (codes[known], labels[known])), shape=shape).tocsr()
    total, best = np.asarray(votes.sum(axis=1)).ravel(), votes.max(axis=1).toarray().ravel()
    winner = np.asarray(votes.argmax(axis=1)).ravel()
    names = np.where(total > 0, classes[winner], "")
    confidence = np.divide(best, total, out=np.zeros(len(total)), where=total > 0)
    outside = codes < 0
    return np.where(outside, "", names[codes]), np.where(outside, 0.0, confidence[codes])
