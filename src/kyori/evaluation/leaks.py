"""Leaks between training and test items: what a fair test must not have seen, by name."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..distances import Distance, check_distance
from ..errors import ArgumentError, DataError
from ..neighbors import nearest
from ..vectors import VectorTable

__all__ = ["Leak", "Leaks", "find_leaks"]

_SAMPLE = 1000  # training items that tell how far a neighbour is


@dataclass(frozen=True)
class Leak:
    """One test item that was seen in training.

    Attributes:
        kind: ``"id"`` (the same id), ``"content"`` (the same vector) or ``"near"`` (nearly the same vector).
        test: Id of the test item.
        train: Id of the training item.
        distance: Between their vectors.
        same_label: Whether their labels agree; None where one is unknown.
    """

    kind: str
    test: str | int
    train: str | int
    distance: float
    same_label: bool | None


@dataclass(frozen=True)
class Leaks:
    """What was found, and what could not be looked at.

    Attributes:
        items: The leaking test items, each once, by its strongest reason (id, then content, then near).
        classes: Classes with items in both tables, named; None where the test is about the same classes.
        near: The distance below which vectors count as nearly the same.
        notes: What was not checked, and why.
    """

    items: tuple[Leak, ...]
    classes: tuple[str, ...] | None
    near: float
    notes: tuple[str, ...] = field(default=())

    def __bool__(self) -> bool:
        """Whether anything leaks."""
        return bool(self.items or self.classes)

    def __str__(self) -> str:
        lines = []
        if self.classes:
            shown = ", ".join(self.classes[:10]) + (" …" if len(self.classes) > 10 else "")
            many = "1 class is" if len(self.classes) == 1 else f"{len(self.classes)} classes are"
            lines.append(f"{many} in training and test: {shown}")
        for kind, words in _WORDS.items():
            found = [leak for leak in self.items if leak.kind == kind]
            if found:
                one, many = words
                lines.append(f"1 test item {one}:" if len(found) == 1 else f"{len(found)} test items {many}:")
                lines += [
                    f"  {leak.test} = {leak.train} (distance {leak.distance:.4g})" for leak in found[:20]
                ]
                lines += [f"  … {len(found) - 20} more"] if len(found) > 20 else []
        lines += [f"not checked: {note}" for note in self.notes]
        return "\n".join(lines or ["no leaks found"])

    def as_dict(self) -> dict[str, Any]:
        """Return everything as numbers, strings, lists and dictionaries."""
        return {
            "items": [vars(leak).copy() for leak in self.items],
            "classes": None if self.classes is None else list(self.classes),
            "near": self.near,
            "notes": list(self.notes),
        }


_WORDS = {
    "id": ("has the id of a training item", "have the id of a training item"),
    "content": (
        "has the vector of a training item to the last bit",
        "have the vector of a training item to the last bit",
    ),
    "near": ("is nearly a training item", "are nearly a training item"),
}


def find_leaks(
    train: VectorTable,
    test: VectorTable,
    *,
    disjoint_classes: bool = True,
    near: float = 0.05,
    metric: Distance = "euclidean",
) -> Leaks:
    """Find test items and classes that are in the training items too.

    Args:
        train: What was trained on.
        test: What is measured.
        disjoint_classes: Whether no class of the test may be in training, as the question about unseen classes wants.
        near: Two vectors are nearly the same when their distance is below so many times the median distance of a
            training item to its nearest neighbour. 0 looks for equal vectors only.
        metric: Distance of :mod:`kyori.distances`.

    Raises:
        ArgumentError: ``near`` is below 0.
        DataError: The tables do not fit, or classes are asked for and labels are missing.

    >>> train = VectorTable(ids=["a", "b", "c"], vectors=[[0.0], [1.0], [2.1]], labels=["x", "x", "y"])
    >>> test = VectorTable(ids=["d", "e"], vectors=[[1.0], [9.0]], labels=["x", "z"])
    >>> print(find_leaks(train, test))
    1 class is in training and test: x
    1 test item has the vector of a training item to the last bit:
      d = b (distance 0)
    """
    check_distance(metric)
    if not near >= 0:
        raise ArgumentError(f"near must be 0 or more; got {near}.")
    if not len(train) or not len(test) or train.vectors.shape[1] != test.vectors.shape[1]:
        raise DataError(
            f"train and test must hold vectors of one length; got {train.vectors.shape} and {test.vectors.shape}."
        )
    notes: list[str] = []
    names = [_class_names(table) for table in (train, test)]
    if disjoint_classes and None in names:
        raise DataError("shared classes cannot be found without labels; pass disjoint_classes=False.")
    found: dict[int, Leak] = {}
    by_id = _shared_ids(train, test, notes)
    matches = nearest(test.vectors, train.vectors, 1, metric)
    equal = _equal_vectors(train.vectors, test.vectors)
    reach = _reach(train.vectors, near, metric, notes)
    for row in range(len(test)):
        at = int(matches.ids[row, 0])
        if row in by_id:
            kind, at = "id", by_id[row]
        elif row in equal:
            kind, at = "content", equal[row]
        elif matches.distances[row, 0] < reach:
            kind = "near"
        else:
            continue
        distance = nearest(test.vectors[row : row + 1], train.vectors[at : at + 1], 1, metric).distances[0, 0]
        agree = None if None in names else names[0][at] == names[1][row]  # type: ignore[index]
        found[row] = Leak(kind, test.ids[row].item(), train.ids[at].item(), float(distance), agree)
    classes = None
    if disjoint_classes:
        classes = tuple(sorted(set(names[0]) & set(names[1])))  # type: ignore[arg-type]
    order = sorted(found, key=lambda row: (list(_WORDS).index(found[row].kind), row))
    return Leaks(tuple(found[row] for row in order), classes, float(reach), tuple(notes))


def _class_names(table: VectorTable) -> list[str] | None:
    if table.labels is None:
        return None
    if table.class_names is None:
        return [str(label) for label in table.labels.tolist()]
    return [table.class_names[label] for label in table.labels.tolist()]


def _shared_ids(train: VectorTable, test: VectorTable, notes: list[str]) -> dict[int, int]:
    counted = [bool((table.ids == np.arange(len(table))).all()) for table in (train, test)]
    if train.ids.dtype.kind != test.ids.dtype.kind:
        notes.append("ids: one table has integers and the other strings.")
        return {}
    if train.ids.dtype.kind != "U" and all(counted):
        notes.append("ids: both tables number their items from 0, so equal ids mean nothing.")
        return {}
    _, rows, columns = np.intersect1d(test.ids, train.ids, assume_unique=True, return_indices=True)
    return dict(zip(rows.tolist(), columns.tolist(), strict=True))


def _equal_vectors(train: NDArray[np.float32], test: NDArray[np.float32]) -> dict[int, int]:
    known = {(row + np.float32(0)).tobytes(): at for at, row in reversed(list(enumerate(train)))}
    found = {row: known.get((vector + np.float32(0)).tobytes()) for row, vector in enumerate(test)}
    return {row: at for row, at in found.items() if at is not None}


def _reach(train: NDArray[np.float32], near: float, metric: Distance, notes: list[str]) -> float:
    """Return the distance below which two vectors are nearly the same."""
    if near == 0:
        return 0.0
    rows = np.unique(np.linspace(0, len(train) - 1, _SAMPLE).astype(np.int64))
    # Asked for two, because the nearest to an item is the item.
    found = nearest(train[rows], train, min(2, len(train)), metric).distances[:, -1]
    found = found[found > 0]
    if len(train) < 2 or not len(found) or metric == "dot":
        notes.append("near-duplicates: the training items do not say how far a neighbour is.")
        return 0.0
    return near * float(np.median(found))
