"""Clustering: do k-means clusters of the vectors fall together with the classes?

The scores take the non-empty cells of the contingency table: ``counts (z,)`` items, with the class and the cluster of
each cell. They agree with scikit-learn's of the same names.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..distances import Distance
from ..results import Result
from .bootstrap import Bootstrap, shifted_interval
from .context import Context
from .measures import Measure

__all__ = [
    "FEW_DISTANCES",
    "Contingency",
    "adjusted_rand",
    "b_cubed",
    "clustering_results",
    "k_means",
    "mutual_information",
    "pairwise_f1",
    "purity",
]

#: k-means compares each item with each centre, dozens of times. Up to so many pairs (10,000 items of 1,000 classes)
#: it is quick enough to be among the default measures.
FEW_DISTANCES = 10_000_000
#: With few clusters a start by itself may put two of them into one class; with many, what they lose by that averages
#: out, and the starts are what takes the time.
_FEW_CLUSTERS = 100


def clustering_results(context: Context, measures: Sequence[Measure]) -> list[Result]:
    """Cluster the queries into as many clusters as they have classes, and score the agreement.

    The intervals are over items (or classes) given the clusters: k-means is not run again on each resample.
    """
    _, classes = np.unique(context.task.query_classes, return_inverse=True)
    wanted = int(classes.max()) + 1
    starts = 3 if wanted <= _FEW_CLUSTERS else 1
    clusters = k_means(context.task.queries, wanted, context.task.metric, context.seed, starts)
    made = len(np.unique(clusters))
    if made < wanted:
        context.notes.append(f"k-means found {made} distinct clusters for {wanted} classes: vectors repeat.")
    table = Contingency.of(classes, clusters)
    # Chance agreement hardly moves between resamples and costs far more than the rest, so it is computed once.
    chance = table.expected_information() if any(measure.key == "ami" for measure in measures) else 0.0
    scores: dict[str, Callable[[Contingency], float]] = {
        "nmi": mutual_information,
        "ami": lambda cells: mutual_information(cells, chance),
        "ari": adjusted_rand,
        "purity": purity,
        "b-cubed": b_cubed,
        "pairwise-f1": pairwise_f1,
    }
    resampled = list(_resample(table, context.resamples, context.seed))
    protocol = context.protocol | {"algorithm": "k-means", "clusters": made, "starts": starts}
    results = []
    for measure in measures:
        score = scores[measure.key]
        value = score(table)
        low, high = shifted_interval(value, np.array([score(cells) for cells in resampled]), (-1.0, 1.0))
        results.append(Result(measure.key, value, low, high, None, len(classes), protocol))
    return results


@dataclass(frozen=True, eq=False)
class Contingency:
    """The non-empty cells of a table of classes against clusters.

    Attributes:
        counts: ``(z,)`` items in each cell; floats for a resample.
        classes: ``(z,)`` class of each cell, ``0 … c−1``.
        clusters: ``(z,)`` cluster of each cell.
    """

    counts: NDArray
    classes: NDArray[np.int64]
    clusters: NDArray[np.int64]

    @classmethod
    def of(cls, classes: NDArray[np.int64], clusters: NDArray[np.int64]) -> "Contingency":
        width = int(clusters.max()) + 1
        cells, counts = np.unique(classes * width + clusters, return_counts=True)
        return cls(counts, cells // width, cells % width)

    def with_counts(self, counts: NDArray) -> "Contingency":
        return Contingency(counts, self.classes, self.clusters)

    @property
    def margins(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Items of each class, and of each cluster."""
        return np.bincount(self.classes, self.counts), np.bincount(self.clusters, self.counts)

    def expected_information(self) -> float:
        """Return the mutual information, in nats, that random clusters of the same sizes would have."""
        from scipy import sparse
        from sklearn.metrics.cluster import expected_mutual_information

        table = sparse.csr_matrix((self.counts, (self.classes, self.clusters)))
        return float(expected_mutual_information(table, int(self.counts.sum())))


def k_means(
    vectors: NDArray[np.float32], clusters: int, metric: Distance, seed: int, starts: int = 3
) -> NDArray[np.int64]:
    """Return ``(n,)`` cluster codes: k-means++ and Lloyd, the best of some starts; directions for ``cosine``."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.preprocessing import normalize

    if metric == "cosine":
        vectors = normalize(vectors)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # fewer distinct vectors than clusters: some stay empty
        return KMeans(clusters, n_init=starts, random_state=seed).fit_predict(vectors).astype(np.int64)


def mutual_information(table: Contingency, expected: float = 0.0) -> float:
    """Return the mutual information over the mean entropy (NMI), both less ``expected`` of chance (AMI)."""
    n = table.counts.sum()
    of_class, of_cluster = table.margins
    filled = table.counts > 0
    p = table.counts[filled] / n
    independent = of_class[table.classes[filled]] * of_cluster[table.clusters[filled]] / n**2
    information = float((p * np.log(p / independent)).sum())
    mean_entropy = (_entropy(of_class / n) + _entropy(of_cluster / n)) / 2
    if mean_entropy - expected < 1e-12:  # one cluster and one class: equal partitions
        return 1.0
    return (information - expected) / (mean_entropy - expected)


def adjusted_rand(table: Contingency) -> float:
    """Return the Rand index, adjusted so that random clusters of the same sizes score 0 (ARI)."""
    of_class, of_cluster = table.margins
    together, by_class, by_cluster = (_pairs(counts) for counts in (table.counts, of_class, of_cluster))
    expected = by_class * by_cluster / _pairs(np.array([table.counts.sum()]))
    best = (by_class + by_cluster) / 2
    return 1.0 if best == expected else (together - expected) / (best - expected)


def purity(table: Contingency) -> float:
    """Return the share of items that are of the most frequent class of their cluster."""
    largest = np.zeros(int(table.clusters.max()) + 1)
    np.maximum.at(largest, table.clusters, table.counts)
    return float(largest.sum() / table.counts.sum())


def b_cubed(table: Contingency) -> float:
    """Return the F measure of B-cubed (Bagga & Baldwin 1998; Amigó et al. 2009).

    Precision is the mean over items of the share of the item's cluster that is of its class, itself included; recall
    that of its class that is in its cluster.
    """
    of_class, of_cluster = table.margins
    filled = table.counts > 0
    cells = table.counts[filled].astype(np.float64)
    n = cells.sum()
    precise = float((cells**2 / of_cluster[table.clusters[filled]]).sum() / n)
    complete = float((cells**2 / of_class[table.classes[filled]]).sum() / n)
    return 2 * precise * complete / (precise + complete)


def pairwise_f1(table: Contingency) -> float:
    """Return the F measure of "in one cluster" as an answer to "of one class", over all pairs of items.

    1 where there is neither a same pair nor a pair in one cluster.
    """
    of_class, of_cluster = table.margins
    together, by_class, by_cluster = (_pairs(counts) for counts in (table.counts, of_class, of_cluster))
    # In a resample scaled to fractions of items a class can hold less than one; its pairs are then none.
    return 2 * together / (by_class + by_cluster) if by_class + by_cluster > 0 else 1.0


def _resample(table: Contingency, resamples: Bootstrap, seed: int) -> Iterator[Contingency]:
    """Yield the table of each resample, scaled to any total; the measures do not depend on it."""
    if resamples.classes is not None:
        for weights in resamples.counts:
            yield table.with_counts(table.counts * weights[table.classes].astype(np.float64))
        return
    n = int(table.counts.sum())  # drawing n items is drawing their n cells
    generator = np.random.default_rng(seed)
    for _ in range(resamples.replicates):
        yield table.with_counts(generator.multinomial(n, table.counts / n))


def _entropy(p: NDArray[np.float64]) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def _pairs(counts: NDArray) -> float:
    return float((counts * (counts - 1.0)).sum() / 2)
