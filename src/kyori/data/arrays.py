"""Arrays as sources: (X, y), tensors, .npz files, and the built-in digits."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ArgumentError, DataError
from . import images, sets
from .sources import ArrayStore, Opening, Source, encode_labels, split_names

__all__ = ["as_pictures", "is_array_like", "open_arrays", "open_digits", "open_npz", "pictures_source"]

ITEM_KEYS = ("X", "x", "images", "vectors", "data")
LABEL_KEYS = ("y", "labels", "label", "target")
KERAS_PARTS = {"train": "train", "val": "validation", "test": "test"}


def is_array_like(data: Any) -> bool:
    """Whether `data` is an array, a tensor, a list of rows, or a pair of one of these and its labels."""
    return isinstance(data, (tuple, list, np.ndarray, torch.Tensor)) or hasattr(data, "__array__")


def open_arrays(data: Any, labels: Any, opening: Opening, name: str = "arrays") -> Source:
    """Open ``(X, y)``, or ``X`` with ``labels``."""
    if isinstance(data, tuple):
        if len(data) != 2:
            raise ArgumentError(f"data must be a pair (X, y); got a tuple of {len(data)}.")
        if labels is not None:
            raise ArgumentError("labels are given twice: in the pair (X, y) and as labels=.")
        data, labels = data
    if opening.items == "set" or (opening.items == "auto" and sets.holds_sets(data)):
        return sets.open_sets(data, None if labels is None else _to_numpy(labels), opening, name=name)
    return _from_arrays(_to_numpy(data), labels, opening, name=name)


def open_digits(opening: Opening) -> Source:
    """The 1,797 handwritten digits of scikit-learn: 8×8 grey pixels, 0..16 scaled to 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    return pictures_source(pictures, digits.target, opening, name="digits")


def open_npz(path: Path, opening: Opening) -> Source:
    """Open an ``.npz`` file with ``X`` (or x, images, vectors, data) and ``y`` (or labels, label, target).

    Optional: ``split`` and ``ids``, (n,) each. With ``offsets`` (n + 1,) the items are sets of vectors, which lie one
    after another in ``X`` (total, f). The layout x_train, y_train, x_test, y_test is read, too.

    Raises:
        DataError: The file is damaged, holds Python objects, or lacks an array.
    """
    arrays = _read_npz(path)
    if "x_train" in arrays or "X_train" in arrays:
        items, labels, splits = _join_parts(path, arrays)
        return _from_arrays(items, labels, opening, columns={"split": splits}, name=str(path))
    items = _pick(path, arrays, ITEM_KEYS, "items")
    labels = _pick(path, arrays, LABEL_KEYS, "labels")
    columns = {"split": split_names(arrays["split"], str(path))} if "split" in arrays else {}
    more: dict[str, Any] = {"columns": columns, "ids": arrays.get("ids"), "name": str(path)}
    if "offsets" not in arrays:
        return _from_arrays(items, labels, opening, **more)
    if opening.items == "array":
        raise DataError(f"{path}: has offsets, so it holds sets of vectors; got items='array'.")
    return sets.open_joined_sets(items, arrays["offsets"], labels, opening, **more)


def pictures_source(
    pictures: np.ndarray,
    labels: Any,
    opening: Opening,
    *,
    columns: Mapping[str, np.ndarray] | None = None,
    ids: np.ndarray | None = None,
    name: str,
) -> Source:
    """A source of uint8 pictures (n, h, w, c), brought to the size and channels that were asked for."""
    pictures = images.convert(pictures, opening.size, opening.channels, opening.resize)
    return _source(ArrayStore(pictures, resize=opening.resize), labels, columns or {}, ids, name)


def _from_arrays(
    items: np.ndarray,
    labels: Any,
    opening: Opening,
    *,
    columns: Mapping[str, np.ndarray] | None = None,
    ids: np.ndarray | None = None,
    name: str,
) -> Source:
    if len(items.shape) == 0 or len(items) == 0:
        raise DataError(f"{name}: expected at least one item; got an array of shape {items.shape}.")
    if opening.items == "set":  # each of one length
        return sets.open_sets(items, labels, opening, columns=columns, ids=ids, name=name)
    if items.ndim == 2 or opening.items == "array":
        if opening.size is not None or opening.channels != "auto":
            raise ArgumentError(
                f"size= and channels= belong to pictures; {name} holds {_what(items)}s {items.shape}."
            )
        return _source(ArrayStore(_numbers(items, name)), labels, columns or {}, ids, name)
    return pictures_source(as_pictures(items, name), labels, opening, columns=columns, ids=ids, name=name)


def _source(
    store: ArrayStore, labels: Any, columns: Mapping[str, np.ndarray], ids: np.ndarray | None, name: str
) -> Source:
    n = len(store.array)
    codes, class_names = (None, ()) if labels is None else encode_labels(_to_numpy(labels), n, name)
    return Source(
        store,
        rows=np.arange(n),
        ids=np.arange(n) if ids is None else ids,
        labels=codes,
        class_names=class_names,
        columns=columns,
        name=name,
    )


def _what(items: np.ndarray) -> str:
    return "vector" if items.ndim == 2 else "array"


def _numbers(items: np.ndarray, name: str) -> np.ndarray:
    """Vectors (n, f) or arrays (n, …) as float32."""
    what = _what(items)
    if items.ndim < 2 or 0 in items.shape:
        least = "at least one feature" if items.ndim == 2 else "at least one number each"
        raise DataError(f"{name}: {what}s must have {least}; got shape {items.shape}.")
    if items.dtype.kind not in "fiub":
        raise DataError(f"{name}: {what}s must be numbers; got {items.dtype}.")
    numbers = np.ascontiguousarray(items, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(numbers).reshape(len(numbers), -1).all(axis=1))
    if len(bad):
        raise DataError(
            f"{name}: {len(bad)} of {len(numbers)} {what}s hold NaN or infinity (as float32), "
            f"the first is item {bad[0]}; drop or fill them."
        )
    return numbers


def as_pictures(items: np.ndarray, name: str) -> np.ndarray:
    """Pictures as uint8 (n, h, w, c); the channel axis is the last of length 1 or 3, else the second."""
    if items.ndim == 3:
        items = items[..., None]
    elif items.ndim == 4 and items.shape[3] not in (1, 3) and items.shape[1] in (1, 3):
        items = items.transpose(0, 2, 3, 1)
    if items.ndim != 4 or items.shape[3] not in (1, 3) or 0 in items.shape:
        raise DataError(
            f"{name}: expected vectors (n, f) or pictures (n, h, w), (n, h, w, c) or (n, c, h, w) with c 1 or 3; "
            f"got shape {items.shape}. Arrays of other shapes are taken with items='array' (data.items)."
        )
    if items.dtype == np.uint8:
        return np.ascontiguousarray(items)
    if items.dtype.kind not in "fiub":
        raise DataError(f"{name}: pictures must be uint8 or floats in [0, 1]; got {items.dtype}.")
    low, high, top = items.min(), items.max(), 1 if items.dtype.kind in "fb" else 255
    if not (low >= 0 and high <= top):  # NaN fails, too
        raise DataError(
            f"{name}: pictures of type {items.dtype} must lie in [0, {top}]; got [{low}, {high}]. "
            "Scale them; or take them as they are, with items='array' (data.items), or 'set' for sets of vectors."
        )
    return np.round(items * (255.0 if top == 1 else 1.0)).astype(np.uint8)


def _to_numpy(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().numpy()
    if isinstance(values, np.ndarray) and values.dtype.kind == "O" and values.ndim == 1:
        values = list(values)  # of arrays, perhaps of one shape
    try:
        return np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise DataError(f"arrays: the rows must all have one shape ({error}).") from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: damaged .npz file (it is no zip archive, or cut off).")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except ValueError as error:
        if "pickle" not in str(error):
            raise DataError(f"{path}: damaged .npz file ({error}).") from error
        raise DataError(
            f"{path}: holds Python objects, which may carry code and are never loaded; "
            "save arrays of numbers or strings."
        ) from error
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, MemoryError) as error:
        raise DataError(f"{path}: damaged .npz file ({error}).") from error


def _pick(path: Path, arrays: Mapping[str, np.ndarray], keys: tuple[str, ...], what: str) -> np.ndarray:
    found = [key for key in keys if key in arrays]
    if len(found) != 1:
        have = ", ".join(arrays) or "nothing"
        raise DataError(f"{path}: expected one array named {' or '.join(keys)} with the {what}; got {have}.")
    return arrays[found[0]]


def _join_parts(path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Items, labels and splits of the layout x_train, y_train, x_test, y_test (and x_val, y_val)."""
    items, labels, splits = [], [], []
    for part, split in KERAS_PARTS.items():
        x = next((arrays[key] for key in (f"x_{part}", f"X_{part}") if key in arrays), None)
        if x is None:
            continue
        y = arrays.get(f"y_{part}")
        if y is None or x.shape[:1] != y.shape:
            got = "none" if y is None else y.shape
            raise DataError(f"{path}: y_{part} must have shape {x.shape[:1]}, one label an item; got {got}.")
        items.append(x)
        labels.append(y)
        splits.append(np.full(len(y), split))
    if len({x.shape[1:] for x in items}) != 1:
        raise DataError(f"{path}: the parts must have items of one shape; got {[x.shape for x in items]}.")
    return np.concatenate(items), np.concatenate(labels), np.concatenate(splits)
