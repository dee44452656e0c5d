"""Names for items that have none, from labelled ones near them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DataError
from ..neighbors import Matches, nearest
from ..vectors import VectorTable

__all__ = ["PropagatedLabels", "propagate_labels"]

_GRAPH = (
    20_000  # items whose exact k-NN graph is made; beyond, each is named by its labelled neighbours alone
)
_CLASSES = 256  # spread at a time
_REST = 1e-6  # share of what spreads that is left out


@dataclass(frozen=True, eq=False)
class PropagatedLabels:
    """What unlabelled items are probably called.

    Attributes:
        labels: ``(n,)`` int64 labels of the reference; meaningless where the confidence is 0.
        confidence: ``(n,)`` in [0, 1]: the share of all that arrived which speaks for the label; 0 where nothing did.
    """

    labels: NDArray[np.int64]
    confidence: NDArray[np.float64]


def propagate_labels(
    table: VectorTable, reference: VectorTable, *, k: int = 10, metric: str = "euclidean", spread: float = 0.9
) -> PropagatedLabels:
    """Name the items of a table by letting the labels of a reference spread over the k-NN graph of both.

    F = (1 − spread) · (I − spread · S)⁻¹ Y with S = D^−½ W D^−½, by iteration (Zhou et al. 2004), where W holds
    exp(−(distance / mean distance of the edges)²) for neighbours. Classes are taken 256 at a time, so that memory does
    not grow with their number. Above 20,000 items in all, the labels go one step: each item hears its k nearest
    labelled ones, with the same weights.

    Args:
        table: Items to be named; labels that it may have are not used.
        reference: Labelled items.
        k: Neighbours in the graph.
        metric: ``"euclidean"`` or ``"cosine"``.
        spread: How much an item listens to its neighbours, in (0, 1).

    Raises:
        ArgumentError: The tables do not fit together or a number is out of range.
        DataError: The reference has no labels.

    >>> reference = VectorTable(vectors=[[0.0], [9.0]], labels=["a", "b"])
    >>> found = propagate_labels(VectorTable(vectors=[[1.0], [2.0], [8.0]]), reference, k=1)
    >>> [reference.class_names[label] for label in found.labels]
    ['a', 'a', 'b']
    """
    if reference.labels is None or len(reference) == 0:
        raise DataError("reference must hold labelled items; got no labels.")
    if table.vectors.shape[1] != reference.vectors.shape[1]:
        raise ArgumentError(
            f"reference must have vectors of {table.vectors.shape[1]} numbers, like the table; got"
            f" {reference.vectors.shape[1]}. Use the same embedder for both."
        )
    if metric not in ("euclidean", "cosine"):
        raise ArgumentError(f"metric must be euclidean or cosine; got {metric!r}.")
    if k < 1 or not 0 < spread < 1:
        raise ArgumentError(f"k must be at least 1 and spread lie in (0, 1); got k={k}, spread={spread}.")
    classes, labels = np.unique(reference.labels, return_inverse=True)
    if len(table) + len(reference) > _GRAPH:
        best, confidence = _vote(table, reference, labels, min(k, len(reference)), metric)
    else:
        best, confidence = _spread(table, reference, labels, k, metric, spread)
    return PropagatedLabels(classes[best], confidence)


def _spread(
    table: VectorTable, reference: VectorTable, labels: NDArray[np.int64], k: int, metric: str, spread: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    from scipy.sparse import csr_array, diags_array

    vectors = np.concatenate([reference.vectors, table.vectors])
    n, known = len(vectors), len(reference)
    found = nearest(vectors, vectors, min(k, n - 1), metric, exclude_self=True)  # type: ignore[arg-type]
    rows = np.repeat(np.arange(n), found.ids.shape[1])
    graph = csr_array((_closeness(found).ravel(), (rows, found.ids.ravel())), shape=(n, n))
    graph = graph.maximum(graph.T)
    degree = np.asarray(graph.sum(axis=1)).ravel()
    scale = diags_array(1 / np.sqrt(np.maximum(degree, np.finfo(float).tiny)))
    step = (spread * (scale @ graph @ scale)).tocsr()
    turns = int(np.ceil(np.log(_REST) / np.log(spread)))
    best, most, total = np.zeros(n, np.int64), np.zeros(n), np.zeros(n)
    for start in range(0, int(labels.max()) + 1, _CLASSES):
        given = np.zeros((n, min(_CLASSES, int(labels.max()) + 1 - start)))
        inside = np.flatnonzero((labels >= start) & (labels < start + given.shape[1]))
        given[inside, labels[inside] - start] = 1 - spread
        arrived = given
        for _ in range(turns):
            arrived = step @ arrived + given
        winner = arrived.argmax(axis=1)
        amount = arrived[np.arange(n), winner]
        best, most = np.where(amount > most, winner + start, best), np.maximum(amount, most)
        total += arrived.sum(axis=1)
    confidence = np.divide(most, total, out=np.zeros(n), where=total > 0)
    return best[known:], confidence[known:]


def _vote(
    table: VectorTable, reference: VectorTable, labels: NDArray[np.int64], k: int, metric: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    found = nearest(table.vectors, reference.vectors, k, metric)  # type: ignore[arg-type]
    weights, heard = _closeness(found), labels[found.ids]
    agreeing = np.stack([(weights * (heard == heard[:, [i]])).sum(axis=1) for i in range(k)], axis=1)
    winner = agreeing.argmax(axis=1)
    rows = np.arange(len(heard))
    return heard[rows, winner], agreeing[rows, winner] / weights.sum(axis=1)


def _closeness(found: Matches) -> NDArray[np.float64]:
    """Return weights in (0, 1] that fall with the distance, measured by the mean distance of all neighbours."""
    distances = found.distances.astype(np.float64)
    mean = distances.mean() if distances.size else 0.0
    return np.exp(-((distances / mean) ** 2)) + 1e-12 if mean > 0 else np.ones_like(distances)
