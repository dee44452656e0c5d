"""From distances to items to distances to identities: the nearest item of each, or the mean of them (a template)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..index import Index
from ..neighbors import nearest
from ..vectors import VectorTable
from .values import Label

__all__ = [
    "Found",
    "Templates",
    "gallery_of",
    "labelled_items",
    "labels_by_id",
    "labels_of",
    "nearest_identities",
]

_WIDER = 4  # items that are asked for at first, for each identity wanted


@dataclass(frozen=True)
class Found:
    """An identity, its distance, and its nearest item (None for a template)."""

    identity: Label
    distance: float
    nearest: Label | None


def gallery_of(index: Index) -> tuple[VectorTable, NDArray[np.object_]]:
    """Return all items of an index, and their labels ``(n,)`` as the index keeps them.

    Raises:
        DataError: The index is empty, or its items have no labels.
    """
    table, labels = labelled_items(index)
    if len(table) == 0:
        raise DataError("the index is empty; there is nobody to be identified. Fill it with kyori index.")
    return table, labels


def labelled_items(index: Index) -> tuple[VectorTable, NDArray[np.object_]]:
    """Do what :func:`gallery_of` does, also where there are no items.

    Raises:
        DataError: The items have no labels.
    """
    with index.steady():
        table = index.get(index.ids(), missing="skip")
    if len(table) == 0:
        return table, np.empty(0, object)
    if table.labels is None:
        raise DataError("the items of this index have no labels; identification needs them.")
    return table, labels_of(table)


def labels_of(table: VectorTable) -> NDArray[np.object_]:
    """Return labels ``(n,)`` as strings where there are names, else integers."""
    if table.labels is None:
        raise DataError("these vectors have no labels; identification needs them.")
    if table.class_names is None:
        return table.labels.astype(object)
    return np.array(table.class_names, dtype=object)[table.labels]


def labels_by_id(index: Index, ids: Sequence[Any]) -> dict[Any, Any]:
    """Return the label of each id that is still there; None for items without labels."""
    table = index.get(ids, missing="skip")
    labels = labels_of(table).tolist() if table.labels is not None else [None] * len(table)
    return dict(zip(table.ids.tolist(), labels, strict=True))


def nearest_identities(index: Index, vectors: NDArray[np.float32], k: int) -> list[list[Found]]:
    """Return the ``k`` identities of each query whose nearest items are nearest; fewer where there are fewer.

    More and more items are asked for until enough identities are among them. An item that is deleted between the search
    and the look at its label, which a server does not prevent, is left out.
    """
    with index.steady():
        return _nearest_identities(index, vectors, k)


def _nearest_identities(index: Index, vectors: NDArray[np.float32], k: int) -> list[list[Found]]:
    answers: list[list[Found]] = [[] for _ in vectors]
    waiting, count, total = np.arange(len(vectors)), _WIDER * k, len(index)
    while len(waiting) and total:
        found = index.search(vectors[waiting], min(count, total))
        reached = np.isfinite(found.distances)
        ids = list(dict.fromkeys(found.ids[reached].tolist()))
        labels = labels_by_id(index, ids)
        short = []
        for row, place in enumerate(waiting):
            best: dict[Label, Found] = {}
            for id_, distance in zip(found.ids[row].tolist(), found.distances[row].tolist(), strict=True):
                if distance != float("inf") and id_ in labels:
                    best.setdefault(labels[id_], Found(labels[id_], distance, id_))
            answers[place] = list(best.values())[:k]
            if len(best) < k:
                short.append(place)
        if count >= total:
            break
        waiting, count = np.array(short, np.int64), 4 * count
    return answers


@dataclass(frozen=True, eq=False)
class Templates:
    """The mean vector of each identity's items, as :func:`kyori.evaluation.open_set` pools them.

    Attributes:
        identities: ``(c,)`` labels in ascending order.
        vectors: ``(c, d)`` float32.
    """

    identities: NDArray[np.object_]
    vectors: NDArray[np.float32]

    @classmethod
    def of(cls, vectors: NDArray[np.float32], labels: NDArray[np.object_]) -> Templates:
        """Pool vectors ``(n, d)`` by their labels ``(n,)``."""
        identities, codes = _codes(labels)
        sums = np.zeros((len(identities), vectors.shape[1]))
        np.add.at(sums, codes, vectors)
        counts = np.bincount(codes, minlength=len(identities))
        return cls(identities, (sums / counts[:, None]).astype(np.float32))

    def nearest(self, vectors: NDArray[np.float32], k: int, metric: str) -> list[list[Found]]:
        """Return the ``k`` nearest templates of each query, exactly."""
        if not len(self.identities):
            return [[] for _ in vectors]
        found = nearest(vectors, self.vectors, k, metric)  # type: ignore[arg-type]
        return [
            [
                Found(self.identities[i], distance, None)
                for i, distance in zip(ids, distances, strict=True)
                if i >= 0
            ]
            for ids, distances in zip(found.ids.tolist(), found.distances.tolist(), strict=True)
        ]


def _codes(labels: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Return the distinct labels in ascending order and the position of each item's among them."""
    present = sorted(set(labels.tolist()))
    place = {label: i for i, label in enumerate(present)}
    distinct = np.empty(len(present), dtype=object)
    distinct[:] = present
    return distinct, np.array([place[label] for label in labels.tolist()], np.int64)
