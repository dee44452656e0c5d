"""`Source`: items with ids, labels and columns, whatever they were read from."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from ..errors import ArgumentError, DataError, nearest_name
from .features import digest_rows
from .kinds import Kind, Resize
from .strings import Strings

__all__ = ["SPLITS", "ArrayStore", "Opening", "Source", "encode_labels", "split_names"]

SPLITS = ("train", "validation", "test")
SPLIT_ALIASES = {
    **{name: name for name in SPLITS},
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "testing": "test",
}


class Store(Protocol):
    """Where the items of a source lie; rows are positions in the store."""

    @property
    def kind(self) -> Kind: ...

    @property
    def item_shape(self) -> tuple[int, ...]: ...

    @property
    def in_memory(self) -> bool: ...

    def load(self, rows: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class ArrayStore:
    """Items in one array: pictures uint8 (n, h, w, c), or vectors or arrays float32 (n, …)."""

    array: np.ndarray
    in_memory: bool = True
    resize: Resize = "crop"

    @property
    def kind(self) -> Kind:
        if self.array.dtype == np.uint8:
            return "image"
        return "vector" if self.array.ndim == 2 else "array"

    @property
    def item_shape(self) -> tuple[int, ...]:
        return self.array.shape[1:]

    def load(self, rows: np.ndarray) -> np.ndarray:
        return self.array[rows]


@dataclass(frozen=True)
class Opening:
    """How `open_source` was asked to read: its options, on their way to a reader."""

    size: tuple[int, int] | None = None
    channels: Literal["auto", 1, 3] = "auto"
    resize: Resize = "crop"
    items: Literal["auto", "array", "set"] = "auto"
    bad_items: Literal["skip", "error"] = "skip"
    verify: bool = True
    memory_limit: int = 2**30
    progress: Callable[[int, int], None] | None = None
    label: str | None = None
    features: tuple[str, ...] = ()

    def report(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done, total)


class Source:
    """Items with ids, labels and columns: the one form in which Kyori sees data.

    Made by :func:`kyori.data.open_source`; a `Source` is a light view, so :meth:`take` copies no pixels.

    Attributes:
        ids: (n,) strings (paths) or integers, unique.
        labels: (n,) int64 codes into `class_names`, or None when the items are unlabelled.
        class_names: Names of the classes; a part of a source keeps all names, so that codes stay comparable.
        columns: Further columns by name, each (n,): ``split``, ``is_query``, ``is_gallery``, ``category``, …
        kind: ``"image"``, ``"vector"``, ``"array"``, ``"set"`` or ``"text"``: see `kyori.data.kinds`.
        skipped: Pairs (item, reason) of everything that was left out when the source was opened.
        name: Where the items came from, for messages and reports.

    Example:
        >>> from kyori.data import open_source
        >>> source = open_source(([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], ["a", "b", "b"]))
        >>> source
        Source('arrays': 3 vectors (2,), 2 classes)
        >>> source.take([2, 0]).labels, source.class_names
        (array([1, 0]), ('a', 'b'))
        >>> source.load([1])
        array([[1., 0.]], dtype=float32)
    """

    def __init__(
        self,
        store: Store,
        *,
        rows: np.ndarray,
        ids: np.ndarray | Strings,
        labels: np.ndarray | None = None,
        class_names: Sequence[str] = (),
        columns: Mapping[str, np.ndarray] | None = None,
        skipped: Sequence[tuple[str, str]] = (),
        name: str = "data",
    ):
        self._store = store
        self._rows = rows
        self.ids: Any = ids
        self.labels = labels
        self.class_names = tuple(class_names)
        self.columns = dict(columns or {})
        self.skipped = list(skipped)
        self.name = name
        self._check()

    def _check(self) -> None:
        n = len(self._rows)
        aligned = {"ids": self.ids, "labels": self.labels, **self.columns}
        for column, values in aligned.items():
            if values is not None and values.shape != (n,):
                raise DataError(
                    f"{self.name}: {column} must have shape ({n},), one per item; got {values.shape}."
                )
        repeated = _repeated(self.ids)
        if repeated is not None:
            number, first, times = repeated
            raise DataError(
                f"{self.name}: ids must be unique; {number} of them occur more than once, "
                f"the first is {first!r} ({times} times)."
            )

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        classes = f"{len(self.class_names)} classes" if self.labels is not None else "no labels"
        shape = f" {self.item_shape}" if self.item_shape else ""
        return f"Source({self.name!r}: {len(self)} {self.kind}s{shape}, {classes})"

    @property
    def kind(self) -> Kind:
        return self._store.kind

    @property
    def item_shape(self) -> tuple[int, ...]:
        """(h, w, c) of a picture, (f,) of a vector, that of an array, (f,) of each vector of a set, () of a text."""
        return self._store.item_shape

    @property
    def resize(self) -> Resize:
        """How a picture of another shape was brought to `item_shape`: see `kyori.data.images.to_array`."""
        return getattr(self._store, "resize", "crop")

    @property
    def in_rows(self) -> bool:
        """Whether the items are cells of rows of anchor, positive and negatives (columns ``row`` and ``role``)."""
        columns = self.columns  # a user's own column may have one of these names
        return self.labels is not None and "row" in columns and "anchor" in columns.get("role", ())

    @property
    def in_memory(self) -> bool:
        """Whether the items already lie decoded in memory."""
        return self._store.in_memory

    def take(self, indices: Any) -> "Source":
        """The items at `indices` (integers, a boolean mask or a slice), in that order, as a source."""
        index = np.arange(len(self))[np.asarray(indices, dtype=np.int64) if _is_empty(indices) else indices]
        return Source(
            self._store,
            rows=self._rows[index],
            ids=self.ids[index],
            labels=None if self.labels is None else self.labels[index],
            class_names=self.class_names,
            columns={name: values[index] for name, values in self.columns.items()},
            skipped=self.skipped,
            name=self.name,
        )

    def part(self, split: str) -> "Source":
        """The items whose column ``split`` is ``"train"``, ``"validation"`` or ``"test"``.

        Raises:
            ArgumentError: `split` is none of the three.
            DataError: The source has no column ``split``.
        """
        if split not in SPLITS:
            raise ArgumentError(f"split must be one of {SPLITS}; got {split!r}{nearest_name(split, SPLITS)}")
        if "split" not in self.columns:
            raise DataError(
                f"{self.name} has no given split; make one with kyori.data.make_split(source, 'random')."
            )
        return self.take(np.flatnonzero(self.columns["split"] == split))

    def load(self, indices: Any) -> np.ndarray:
        """Raw items: pictures uint8 (b, h, w, c), vectors and arrays float32 (b, …), texts and sets as objects (b,).

        Raises:
            ItemError: A file can no longer be read (its path is in the message).
        """
        return self._store.load(self._rows[np.asarray(indices, dtype=np.int64)])

    def digests(self, indices: Any) -> np.ndarray:
        """(b,) hash, 16 bytes, of what each item holds: of its file's bytes where it has a file, else of the item.

        Raises:
            ItemError: A file can no longer be read.
        """
        rows = self._rows[np.asarray(indices, dtype=np.int64)]
        own = getattr(self._store, "digests", None)
        return own(rows) if own is not None else digest_rows(self._store.load(rows))

    def stamps(self, indices: Any) -> np.ndarray | None:
        """(b,) hash, 16 bytes, of each file's path, length and time, which change with it; None for other items."""
        own = getattr(self._store, "stamps", None)
        return None if own is None else own(self._rows[np.asarray(indices, dtype=np.int64)])

    def read(self, index: int) -> Any:
        """One item for display: a PIL image as the network sees it, an array, or a text."""
        item = self.load([index])[0]
        if self.kind != "image":
            return item
        from PIL import Image

        return Image.fromarray(item[:, :, 0] if item.shape[2] == 1 else item)

    def fingerprint(self) -> str:
        """Hash of shape, ids, labels and class names: two sources with the same one list the same items."""
        digest = hashlib.sha256(repr((self.item_shape, self.class_names, str(self.ids.dtype))).encode())
        digest.update(
            self.ids.digest() if isinstance(self.ids, Strings) else np.ascontiguousarray(self.ids).tobytes()
        )
        if self.labels is not None:
            digest.update(self.labels.tobytes())
        return digest.hexdigest()


def _repeated(ids: "np.ndarray | Strings") -> tuple[int, Any, int] | None:
    """How many ids occur more than once, the first of them and how often; None if all are different."""
    if isinstance(ids, Strings):
        return ids.repeated()
    if len(ids) == 0 or (ids.dtype.kind in "iu" and (ids[1:] > ids[:-1]).all()):
        return None
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) == len(ids):
        return None
    twice = unique[counts > 1]
    return len(twice), twice[0].item(), int(counts[counts > 1][0])


def _is_empty(indices: Any) -> bool:
    return not isinstance(indices, slice) and len(indices) == 0


def encode_labels(values: Any, n: int, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turn class names or numbers into codes: (n,) int64 and the name of each code.

    Numbers, and strings that all are whole numbers, are ordered by value, other strings by the alphabet.

    >>> encode_labels(["10", "9", "10"], 3, "data")
    (array([1, 0, 1]), ('9', '10'))
    """
    labels = np.asarray(values)
    if labels.shape != (n,):
        raise DataError(f"{name}: labels must have shape ({n},), one per item; got {labels.shape}.")
    if labels.dtype.kind == "f" and np.all(np.isfinite(labels)) and np.all(labels == np.round(labels)):
        labels = labels.astype(np.int64)
    if labels.dtype.kind == "O":
        labels = _label_strings(labels, name)
    if labels.dtype.kind in "US":
        labels = labels.astype(np.str_)
        if all(_is_whole(label) for label in np.unique(labels)):
            labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iubU":
        raise DataError(
            f"{name}: labels must be whole numbers or strings, one class each; got {labels.dtype} "
            f"such as {labels[:3].tolist()}."
        )
    classes, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.int64), tuple(str(label) for label in classes)


def _label_strings(labels: np.ndarray, name: str) -> np.ndarray:
    """Labels of an object array as strings; a missing one is an error that says where."""
    for position, label in enumerate(labels):
        if not isinstance(label, (str, int, np.integer)):
            raise DataError(f"{name}: label {position} is {label!r}; expected a string or a whole number.")
    return labels.astype(np.str_)


def _is_whole(text: str) -> bool:
    """Whether the text is a number in its only spelling ("7", not "007"), below 10^18."""
    return len(text) < 19 and text.lstrip("-").isdecimal() and text == str(int(text))


def split_names(values: Any, name: str) -> np.ndarray:
    """A column of split names, spelled ``train``, ``validation``, ``test``."""
    values = np.asarray(values).astype(np.str_)
    unique, codes = np.unique(values, return_inverse=True)
    for value in unique:
        if value.lower() not in SPLIT_ALIASES:
            row = int(np.flatnonzero(values == value)[0])
            raise DataError(
                f"{name}: split of item {row} must be train, validation or test; got {str(value)!r}."
            )
    return np.array([SPLIT_ALIASES[value.lower()] for value in unique], dtype=np.str_)[codes]
