"""Many picture files as one source: common size, bad items, memory or stream."""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np

from ..errors import DataError, DataWarning, ItemError
from . import images
from .kinds import Kind, Resize
from .sources import ArrayStore, Opening, Source, Store, encode_labels

__all__ = ["FileStore", "common_size", "open_files", "some", "warn_skipped"]

BLOCK = 256  # pictures handed to the threads at once: few futures in memory, regular progress
LARGEST = 224  # pixels; what most pretrained networks were trained with
SHOWN = 5

T = TypeVar("T")


@dataclass(frozen=True)
class FileStore:
    """Pictures that are decoded when they are asked for."""

    paths: Sequence[str]
    boxes: np.ndarray | None
    size: tuple[int, int]
    channels: int
    resize: Resize = "crop"
    in_memory: bool = False

    kind: ClassVar[Kind] = "image"

    @property
    def item_shape(self) -> tuple[int, ...]:
        return (*self.size, self.channels)

    def box(self, row: int) -> images.Box | None:
        return None if self.boxes is None else tuple(self.boxes[row].tolist())

    def decode(self, row: int) -> np.ndarray:
        return images.decode(self.paths[row], self.size, self.channels, self.box(row), self.resize)

    def digests(self, rows: np.ndarray) -> np.ndarray:
        """(b,) hashes of the files' bytes, and of how they become items."""
        found = []
        for row in rows.tolist():
            try:
                with open(self.paths[row], "rb") as file:
                    digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
            except OSError as error:
                raise ItemError(self.paths[row], error.strerror or str(error)) from error
            digest.update(self._form(row))
            found.append(digest.digest())
        return np.array(found, dtype="S16")

    def stamps(self, rows: np.ndarray) -> np.ndarray:
        """(b,) hashes of the files' paths, lengths and times, and of how they become items."""
        found = []
        for row in rows.tolist():
            path = os.path.abspath(self.paths[row])
            try:
                facts = os.stat(path)
            except OSError as error:
                raise ItemError(self.paths[row], error.strerror or str(error)) from error
            stamp = f"{path} {facts.st_size} {facts.st_mtime_ns} ".encode() + self._form(row)
            found.append(hashlib.blake2b(stamp, digest_size=16).digest())
        return np.array(found, dtype="S16")

    def _form(self, row: int) -> bytes:
        form = (tuple(self.size), self.channels, self.box(row))
        return repr(form if self.resize == "crop" else (*form, self.resize)).encode()

    def load(self, rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), *self.item_shape), dtype=np.uint8)
        for place, row in zip(out, rows, strict=True):
            place[:] = self.decode(row)
        return out


def open_files(
    paths: Sequence[str],
    labels: Sequence[str] | np.ndarray | None,
    ids: np.ndarray,
    columns: Mapping[str, np.ndarray],
    opening: Opening,
    *,
    boxes: np.ndarray | None = None,
    skipped: Sequence[tuple[str, str]] = (),
    name: str,
) -> Source:
    """Open the pictures at `paths` (n) with their labels (n), if they have any, ids (n) and boxes (n, 4)."""
    bad: dict[int, ItemError] = {}
    rows = range(len(paths))

    def header(row: int) -> images.Header:
        return images.probe(paths[row], None if boxes is None else tuple(boxes[row].tolist()))

    strict = opening.bad_items == "error"
    headers = [found for _, found in _each(header, rows, bad, strict)]
    if not headers:
        raise _nothing_readable(name, bad)
    files = FileStore(
        paths,
        boxes,
        opening.size or common_size([(one.height, one.width) for one in headers]),
        (1 if all(one.grey for one in headers) else 3) if opening.channels == "auto" else opening.channels,
        opening.resize,
    )
    store = _settle(files, [row for row in rows if row not in bad], bad, opening)
    good = np.array([row for row in rows if row not in bad], dtype=np.int64)
    if len(good) == 0:
        raise _nothing_readable(name, bad)
    skipped = [*skipped, *((error.item, error.reason) for _, error in sorted(bad.items()))]
    warn_skipped(skipped, name)
    codes: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    if labels is not None:
        codes, class_names = encode_labels(np.asarray(labels)[good], len(good), name)
        _warn_singletons(codes, class_names, name)
    columns = {column: values[good] for column, values in columns.items()}
    return Source(
        store,
        rows=good,
        ids=ids[good],
        labels=codes,
        class_names=class_names,
        columns=columns,
        skipped=skipped,
        name=name,
    )


def _settle(store: FileStore, rows: Sequence[int], bad: dict[int, ItemError], opening: Opening) -> Store:
    """Decode what fits into memory; otherwise see that each picture can be decoded, if asked to."""
    strict = opening.bad_items == "error"
    shape = (len(store.paths), *store.item_shape)
    if int(np.prod(shape)) <= opening.memory_limit:
        pictures = np.zeros(shape, dtype=np.uint8)
        for row, picture in _each(store.decode, rows, bad, strict, opening.report):
            pictures[row] = picture
        return ArrayStore(pictures, resize=opening.resize)
    if opening.verify:
        for _ in _each(store.decode, rows, bad, strict, opening.report):
            pass
    return store


def _each(
    task: Callable[[int], T],
    rows: Sequence[int],
    bad: dict[int, ItemError],
    strict: bool,
    report: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, T]]:
    """Yield (row, task(row)) in order, worked on by threads; failures go to `bad`, or are raised if `strict`."""

    def attempt(row: int) -> T | ItemError:
        try:
            return task(row)
        except ItemError as error:
            return error

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="kyori-open") as pool:
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            for row, found in zip(block, pool.map(attempt, block), strict=True):
                if not isinstance(found, ItemError):
                    yield row, found
                elif strict:
                    raise found
                else:
                    bad[row] = found
            if report is not None:
                report(start + len(block), len(rows))


def common_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The median height and width, each at most 224 pixels.

    >>> common_size([(28, 28), (28, 28)]), common_size([(480, 640), (640, 480), (100, 900)])
    ((28, 28), (224, 224))
    """
    height, width = np.median(np.array(sizes), axis=0)
    return min(int(height), LARGEST), min(int(width), LARGEST)


def some(items: Sequence[str]) -> str:
    """The first few items, and how many more there are."""
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more


def warn_skipped(skipped: Sequence[tuple[str, str]], name: str) -> None:
    if skipped:
        listed = some([f"{item} ({reason})" for item, reason in skipped])
        warnings.warn(
            f"{name}: {len(skipped)} skipped: {listed}. source.skipped lists all of them.",
            DataWarning,
            stacklevel=2,
        )


def _warn_singletons(codes: np.ndarray, class_names: Sequence[str], name: str) -> None:
    single = np.flatnonzero(np.bincount(codes) == 1)
    if len(single):
        listed = some([class_names[code] for code in single.tolist()])
        warnings.warn(
            f"{name}: classes with a single picture, which has no partner to form a same-class pair with: {listed} "
            f"({len(single)} of {len(class_names)} classes).",
            DataWarning,
            stacklevel=2,
        )


def _nothing_readable(name: str, bad: Mapping[int, ItemError]) -> DataError:
    first = bad[min(bad)]
    return DataError(f"{name}: none of the {len(bad)} pictures can be read; the first is {first}.")
