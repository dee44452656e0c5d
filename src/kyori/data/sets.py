"""Sets of vectors as a source: each item holds any number of vectors of one width."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from ..errors import ArgumentError, DataError, ItemError
from .kinds import Kind, collate
from .pictures import warn_skipped
from .sources import Opening, Source, encode_labels

__all__ = ["SetStore", "holds_sets", "open_joined_sets", "open_sets"]


@dataclass(frozen=True, eq=False)
class SetStore:
    """Sets that lie one after another.

    Attributes:
        vectors: float32 (total, f).
        offsets: (n + 1,) where each set begins, and where the last one ends.
    """

    vectors: np.ndarray
    offsets: np.ndarray
    in_memory: bool = True

    kind: ClassVar[Kind] = "set"

    @property
    def item_shape(self) -> tuple[int, ...]:
        return (self.vectors.shape[1],)

    def load(self, rows: np.ndarray) -> np.ndarray:
        """(b,) arrays (m, f)."""
        return collate(
            "set", [self.vectors[self.offsets[row] : self.offsets[row + 1]] for row in rows.tolist()]
        )


def holds_sets(data: Any) -> bool:
    """Whether `data` is a list of arrays (m, f) that are not all of one length.

    >>> holds_sets([np.zeros((2, 3)), np.zeros((5, 3))]), holds_sets([np.zeros((2, 3)), np.zeros((2, 3))])
    (True, False)
    """
    if not isinstance(data, (list, tuple)) and not (isinstance(data, np.ndarray) and data.dtype.kind == "O"):
        return False
    shapes = set()
    for item in data:
        array = _plain(item)
        if array is None or array.ndim != 2 or array.dtype.kind not in "fib":
            return False  # bytes are pictures
        shapes.add(array.shape[0])
    return len(shapes) > 1


def open_sets(
    sets: Sequence[Any] | np.ndarray,
    labels: Any,
    opening: Opening,
    *,
    columns: Mapping[str, np.ndarray] | None = None,
    ids: np.ndarray | None = None,
    name: str,
) -> Source:
    """Open n sets, arrays or tensors (m, f) of one f.

    Raises:
        DataError: They are not of one width, hold NaN, or are no sets of vectors.
        ItemError: A set is empty and ``bad_items`` is ``"error"``.
    """
    if len(sets) == 0:
        raise DataError(f"{name}: expected at least one set of vectors; got none.")
    arrays: list[np.ndarray] = []
    for place, item in enumerate(sets):
        array = _plain(item)
        if array is not None and array.ndim == 1 and len(array) == 0:
            array = array.reshape(0, arrays[0].shape[1] if arrays else 0)  # [] has no width
        if array is None or array.ndim != 2 or array.dtype.kind not in "fiub":
            got = type(item).__name__ if array is None else f"{array.dtype} of shape {array.shape}"
            raise DataError(f"{name}: item {place} must be a set of vectors (m, f) of numbers; got {got}.")
        arrays.append(array)
    width = next((array.shape[1] for array in arrays if len(array)), 0)
    if width == 0:
        raise DataError(f"{name}: none of the {len(arrays)} sets has a vector with a number in it.")
    for place, array in enumerate(arrays):
        if len(array) and array.shape[1] != width:
            raise DataError(
                f"{name}: all sets must have vectors of one width; item {place} has {array.shape[1]} numbers a "
                f"vector, those before it have {width}."
            )
    filled = [array.reshape(-1, width).astype(np.float32) for array in arrays]
    offsets = np.concatenate([[0], np.cumsum([len(array) for array in filled])])
    return open_joined_sets(
        np.concatenate(filled), offsets, labels, opening, columns=columns, ids=ids, name=name
    )


def open_joined_sets(
    vectors: np.ndarray,
    offsets: np.ndarray,
    labels: Any,
    opening: Opening,
    *,
    columns: Mapping[str, np.ndarray] | None = None,
    ids: np.ndarray | None = None,
    name: str,
) -> Source:
    """Open sets that lie one after another: vectors (total, f), and offsets (n + 1,) that rise from 0 to total.

    A set without vectors is a bad item. Raises as `open_sets` does.
    """
    _check_size(opening, name)
    offsets = np.asarray(offsets)
    if vectors.ndim != 2 or vectors.shape[1] == 0 or vectors.dtype.kind not in "fiub":
        raise DataError(
            f"{name}: sets must have vectors (total, f) of numbers with f ≥ 1; got {vectors.dtype} of shape "
            f"{vectors.shape}."
        )
    if (
        offsets.ndim != 1
        or len(offsets) < 2
        or offsets.dtype.kind not in "iu"
        or offsets[0] != 0
        or offsets[-1] != len(vectors)
        or (offsets[1:] < offsets[:-1]).any()
    ):
        raise DataError(
            f"{name}: offsets must be whole numbers (n + 1,) that rise from 0 to {len(vectors)}, the number of all "
            f"vectors; got {offsets.dtype} of shape {offsets.shape}, from {offsets[:1].tolist()} to "
            f"{offsets[-1:].tolist()}."
        )
    vectors, offsets = np.ascontiguousarray(vectors, dtype=np.float32), offsets.astype(np.int64)
    _check_finite(vectors, offsets, name)
    n = len(offsets) - 1
    codes, class_names = (None, ()) if labels is None else encode_labels(labels, n, name)
    ids = np.arange(n) if ids is None else np.asarray(ids)
    good, skipped = _filled(offsets, ids, opening)
    if len(good) == 0:
        raise DataError(f"{name}: none of the {n} sets has a vector.")
    source = Source(
        SetStore(vectors, offsets),
        rows=np.arange(n),
        ids=ids,
        labels=codes,
        class_names=class_names,
        columns=columns,
        skipped=skipped,
        name=name,
    )
    warn_skipped(skipped, name)
    return source.take(good)


def _check_size(opening: Opening, name: str) -> None:
    if opening.size is not None or opening.channels != "auto":
        raise ArgumentError(f"size= and channels= belong to pictures; {name} holds sets of vectors.")


def _check_finite(vectors: np.ndarray, offsets: np.ndarray, name: str) -> None:
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        item = int(np.searchsorted(offsets, bad[0], side="right")) - 1
        raise DataError(
            f"{name}: {len(bad)} of {len(vectors)} vectors hold NaN or infinity (as float32), the first is vector "
            f"{bad[0] - offsets[item]} of item {item}; drop or fill them."
        )


def _filled(
    offsets: np.ndarray, ids: np.ndarray, opening: Opening
) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """The sets that have a vector, and what was left out."""
    lengths = np.diff(offsets)
    names = (
        ids if ids.shape == lengths.shape else np.arange(len(lengths))
    )  # `Source` says what is wrong with them
    skipped = []
    for place in np.flatnonzero(lengths == 0).tolist():
        error = ItemError(f"set {names[place]}", "it has no vectors")
        if opening.bad_items == "error":
            raise error
        skipped.append((error.item, error.reason))
    return np.flatnonzero(lengths), skipped


def _plain(item: Any) -> np.ndarray | None:
    """An item as an array; None where it cannot be one."""
    if isinstance(item, torch.Tensor):
        return item.detach().cpu().numpy()
    if isinstance(item, (str, bytes)):
        return None
    try:
        array = np.asarray(item)
    except (ValueError, TypeError):
        return None
    return array if array.dtype != object else None
