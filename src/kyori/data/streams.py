"""`Stream`: items that are read in passes, shard after shard, and never lie in memory as a whole."""

import hashlib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from PIL import Image

from ..errors import ArgumentError, DataError, DataWarning, ItemError
from . import images
from .datasets import as_image
from .iterables import Iterated, is_iterable
from .kinds import Kind, Resize, collate
from .pictures import common_size, some
from .sets import SetStore, holds_sets
from .shards import Reader, Sample, Shards, expand, is_shards
from .sources import ArrayStore, Opening, Source
from .texts import TextStore

__all__ = ["Stream", "is_stream", "open_stream"]

SAMPLED = 64  # items looked at to learn the kind and the common size
COUNTED = 256 * 2**20  # bytes of shards up to which items are counted one by one
NOTED = 1000  # reasons that are remembered
OPEN = 4  # shards read in turn, so that neighbours of one shard are apart


def is_stream(data: Any) -> bool:
    """Whether `data` is read as a stream: tar or Parquet shards, an ``IterableDataset``, or a `Stream`."""
    return isinstance(data, Stream) or is_shards(data) or is_iterable(data)


def open_stream(
    data: Any,
    *,
    size: int | tuple[int, int] | None = None,
    channels: Literal["auto", 1, 3] = "auto",
    resize: Resize = "crop",
    items: Literal["auto", "array", "set"] = "auto",
    bad_items: Literal["skip", "error"] = "skip",
    buffer: int = 8192,
    epoch_items: int | None = None,
    classes: Sequence[str] | None = None,
) -> "Stream":
    """Open shards or an ``IterableDataset`` as a stream; 64 items are read, no more.

    Args:
        data: Addresses of tar files (WebDataset) or Parquet files with the items in them, as a pattern
            (``"shards/{00..99}.tar"``, ``"shards/*.parquet"``, ``"s3://bucket/{0..9}.tar"``; URLs need the extra
            ``stream``) or a list of patterns; or anything that can be iterated over again and again and yields
            (item, label) or items.
        size, channels, resize, items: As in `open_source`; by default from the first 64 items.
        bad_items: ``"skip"`` leaves out items and rests of shards that cannot be read, counted in ``stream.skipped``
            and warned about once; ``"error"`` raises an `ItemError` at the first.
        buffer: Items among which batches are drawn, in each rank; they lie in memory as they are stored.
        epoch_items: Items that count as an epoch; default: all of them, counted (Parquet, tars of up to 256 MiB) or
            estimated (larger tars, by the first shard).
        classes: Names of all classes; default: found where they are needed, by a pass over the labels.

    Raises:
        DataError: Nothing can be read, or what is found is of no known kind.
        ItemError: The first shard is missing or damaged and `bad_items` is ``"error"``.
        MissingExtraError: A URL without fsspec.
    """
    from .opening import check_opening, read_size

    if isinstance(data, Stream):
        return data
    if buffer < 2:
        raise ArgumentError(f"buffer must be at least 2 items; got {buffer}.")
    if epoch_items is not None and epoch_items < 1:
        raise ArgumentError(f"epoch_items must be at least 1 item; got {epoch_items}.")
    opening = Opening(read_size(size), channels, resize, items, bad_items)
    check_opening(opening)
    if is_shards(data):
        reader: Reader = Shards(expand(data))
        first, last = reader.names[0], reader.names[-1]
        name = data if isinstance(data, str) else first if first == last else f"{first} … {last}"
    else:
        reader = Iterated(data)
        name = type(data).__name__
    stream = Stream(reader, opening, name=str(name), buffer=buffer, epoch_items=epoch_items, classes=classes)
    _ = stream.item_shape  # what cannot be used is told here, not in the first step
    return stream


class Stream:
    """Items in shards, read in passes: what `Source` is for data that do not fit, or are far away.

    Attributes:
        name: Where the items come from.
        skipped: Pairs (item, reason) of what could not be read or used, the last 1,000.
        buffer: Items among which batches are drawn.

    Example:
        >>> from torch.utils.data import IterableDataset
        >>> class Points(IterableDataset):
        ...     def __iter__(self):
        ...         return (([float(k % 3), 1.0], k % 3) for k in range(60))
        >>> stream = open_stream(Points(), epoch_items=60)
        >>> stream.kind, stream.item_shape, stream.class_names
        ('vector', (2,), ('0', '1', '2'))
    """

    def __init__(
        self,
        reader: Reader,
        opening: Opening,
        *,
        name: str,
        buffer: int = 8192,
        epoch_items: int | None = None,
        classes: Sequence[str] | None = None,
        part: str = "all",
        chosen: Callable[[Sample], bool] | None = None,
        share: float = 1.0,
    ):
        self.reader, self.opening, self.name, self.buffer = reader, opening, name, buffer
        self.skipped: list[tuple[str, str]] = []
        self._noted: set[tuple[str, str]] = set()
        self._skipped_count = 0
        self._epoch_items, self._given = epoch_items, None if classes is None else tuple(classes)
        self._part, self._chosen, self._share = part, chosen, share
        self.in_memory = False
        self.columns: dict[str, np.ndarray] = {}

    def __repr__(self) -> str:
        shards = f"{len(self.reader.names)} shard{'s' * (len(self.reader.names) > 1)}"
        return f"Stream({self.name!r}: {self.kind}s {self.item_shape} in {shards})"

    # -- what it holds ------------------------------------------------------------------------------------------

    @cached_property
    def _look(self) -> tuple[Kind, tuple[int, ...]]:
        """Kind and shape of an item, by the first ones."""
        found = []
        for sample in self.samples():
            if sample.data is not None:
                found.append(sample)
            if len(found) == SAMPLED:
                break
        if not found:
            why = f"; the first: {': '.join(self.skipped[0])}" if self.skipped else ""
            raise DataError(f"{self.name}: no item can be read{why}.")
        first = found[0].data
        if isinstance(first, str):
            return "text", ()
        wanted, shape = self.opening.items, np.shape(first)
        if isinstance(first, (bytes, Image.Image)) or (
            wanted == "auto" and (len(shape) >= 3 or _is_grey(first))
        ):
            return "image", self._picture_shape(found)
        if len(shape) == 2 and (
            wanted == "set" or (wanted == "auto" and holds_sets([s.data for s in found]))
        ):
            return "set", shape[1:]
        if len(shape) >= 2 and wanted == "array":
            return "array", shape
        if len(shape) != 1 or wanted == "set":
            raise DataError(
                f"{self.name}: items must be pictures, texts or vectors (f,); got shape {shape}. Arrays of a fixed "
                "shape are taken with items='array' (data.items), sets of vectors (m, f) with items='set'."
            )
        return "vector", shape

    def _picture_shape(self, found: Sequence[Sample]) -> tuple[int, ...]:
        headers = []
        for sample in found:
            item = sample.data
            try:
                if isinstance(item, bytes):
                    headers.append(images.probe(io.BytesIO(item)))
                else:
                    picture = as_image(item)
                    headers.append(images.Header(picture.height, picture.width, picture.mode in images.GREY))
            except (ItemError, DataError) as error:
                reason = error.reason if isinstance(error, ItemError) else str(error)
                if self.opening.bad_items == "error":
                    raise ItemError(self.address(sample), reason) from error
        if not headers:
            raise DataError(f"{self.name}: none of the first {len(found)} pictures can be read: {reason}.")
        channels = self.opening.channels
        if channels == "auto":
            channels = 1 if all(header.grey for header in headers) else 3
        return (*(self.opening.size or common_size([(h.height, h.width) for h in headers])), channels)

    @property
    def kind(self) -> Kind:
        return self._look[0]

    @property
    def item_shape(self) -> tuple[int, ...]:
        """(h, w, c) of a picture, (f,) of a vector, that of an array, (f,) of each vector of a set, () of a text."""
        return self._look[1]

    def __len__(self) -> int:
        """Items of an epoch: as given, counted, or estimated."""
        return self._epoch_items or self._size

    @cached_property
    def _size(self) -> int:
        reader = self.reader
        if isinstance(reader, Shards) and sum(map(reader.bytes_of, range(len(reader.names)))) <= COUNTED:
            return max(1, sum(1 for _ in self._labels()))
        return max(1, round(self.reader.size()[0] * self._share))

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, sorted; unless they were given, a pass over the labels finds them."""
        if self._given is not None:
            return self._given
        names = {sample.label for sample in self._labels() if sample.label is not None}
        if all(name.lstrip("-").isdecimal() for name in names):
            return tuple(sorted(names, key=int))
        return tuple(sorted(names))

    def _labels(self) -> Iterator[Sample]:
        for shard in range(len(self.reader.names)):
            try:
                for sample in self.reader.read(shard, items=False):
                    if self._chosen is None or self._chosen(sample):
                        yield sample
            except ItemError as error:
                if self.opening.bad_items == "error":
                    raise
                self.note(error.item, error.reason)

    def fingerprint(self) -> str:
        """Hash of the addresses, the part and the form of the items; what is in the shards is not read for it."""
        facts = (tuple(self.reader.names), self._part, self.kind, self.item_shape)
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    # -- reading ------------------------------------------------------------------------------------------------

    def note(self, item: str, reason: str) -> None:
        """Count something that was left out."""
        if len(self._noted) < NOTED:
            if (item, reason) in self._noted:
                return  # another pass over the same damage
            self._noted.add((item, reason))
            self.skipped = [*self.skipped, (item, reason)][-NOTED:]
        self._skipped_count += 1

    def warn(self) -> None:
        """One `DataWarning` for everything that was left out since the last one."""
        if self._skipped_count:
            listed = some(sorted(f"{item} ({reason})" for item, reason in self._noted))
            count, self._skipped_count = self._skipped_count, 0
            self._noted.clear()
            warnings.warn(f"{self.name}: {count} skipped while reading: {listed}.", DataWarning, stacklevel=2)

    def accepts(self, sample: Sample) -> bool:
        """Whether a sample is of this part and can be used; one that cannot is counted or raised."""
        if self._chosen is not None and not self._chosen(sample):
            return False
        fault = sample.fault or (
            "it is empty" if isinstance(sample.data, str) and not sample.data.strip() else ""
        )
        if fault:
            self.fail(ItemError(self.address(sample), fault))
        return not fault

    def fail(self, error: ItemError) -> None:
        """Raise, or count, as `bad_items` says."""
        if self.opening.bad_items == "error":
            raise error
        self.note(error.item, error.reason)

    def address(self, sample: Sample) -> str:
        """Where a sample stands, for messages."""
        return f"{self.reader.names[sample.shard]}#{sample.key}"

    def samples(self) -> Iterator[Sample]:
        """One pass in the order of the shards, a few of which are read in turn."""
        waiting = list(range(len(self.reader.names)))
        active: list[Iterator[Sample]] = []
        while waiting or active:
            while waiting and len(active) < OPEN:
                active.append(self.reader.read(waiting.pop(0)))
            for iterator in list(active):
                try:
                    sample = next(iterator, None)
                except ItemError as error:
                    self.fail(error)
                    sample = None
                if sample is None:
                    active.remove(iterator)
                elif self.accepts(sample):
                    yield sample

    def decode(self, sample: Sample) -> Any:
        """The item as a `Source` would hold it: uint8 (h, w, c), float32 (f,), (…) or (m, f), or a text.

        Raises:
            ItemError: It cannot be decoded, or has another shape.
        """
        try:
            if self.kind == "text":
                if not isinstance(sample.data, str):
                    raise ValueError(f"expected a text; got {type(sample.data).__name__}")
                return sample.data
            if self.kind != "image":
                return self._numbers(np.asarray(sample.data, dtype=np.float32))
            height, width, channels = self.item_shape
            if isinstance(sample.data, bytes):
                return images.decode(
                    io.BytesIO(sample.data), (height, width), channels, resize=self.opening.resize
                )
            return images.to_array(as_image(sample.data), (height, width), channels, self.opening.resize)
        except ItemError as error:
            raise ItemError(self.address(sample), error.reason) from error
        except (ValueError, TypeError, OSError) as error:
            raise ItemError(self.address(sample), str(error)) from error

    def _numbers(self, values: np.ndarray) -> np.ndarray:
        """A vector, an array or a set, if it is one of this stream's shape."""
        if self.kind == "set":
            fits = values.ndim == 2 and values.shape[1:] == self.item_shape and len(values) > 0
            expected = f"a set of at least one vector of {self.item_shape[0]} finite numbers"
        else:
            fits, expected = values.shape == self.item_shape, f"finite numbers of shape {self.item_shape}"
        if not fits or not np.isfinite(values).all():
            raise ValueError(f"expected {expected}; got {values.shape}")
        return values

    # -- parts --------------------------------------------------------------------------------------------------

    def part(self, name: str, chosen: Callable[[Sample], bool], share: float) -> "Stream":
        """The samples that `chosen` takes, about `share` of all, as a stream."""
        part = Stream(
            self.reader,
            self.opening,
            name=self.name,
            buffer=self.buffer,
            epoch_items=None if self._epoch_items is None else max(1, round(self._epoch_items * share)),
            classes=self._given,
            part=f"{self._part}/{name}",
            chosen=chosen,
            share=share,
        )
        part.__dict__["_look"] = self._look  # the parts have one form
        return part

    def gather(self, limit: int, *, nbytes: int = 2**30) -> tuple[Source, bool]:
        """The first items, read from all shards in turn, as a `Source` in memory, and whether these are all.

        Args:
            limit: Items at most.
            nbytes: Bytes of decoded items at most.
        """
        each = max(1, int(np.prod(self.item_shape)) * (1 if self.kind == "image" else 4))
        held = 0
        items: list[Any] = []
        kept: list[Sample] = []
        whole = True
        for sample in self.samples():
            if len(items) >= max(2, limit) or (len(items) >= 2 and held + each > nbytes):
                whole = False
                break
            try:
                items.append(self.decode(sample))
                held += len(items[-1]) * each if self.kind == "set" else each
            except ItemError as error:
                self.fail(error)
                continue
            kept.append(replace(sample, data=None))
        return _as_source(self, items, kept), whole


def _as_source(stream: Stream, items: list[Any], samples: list[Sample]) -> Source:
    store: Any
    if stream.kind == "text":
        store = TextStore(collate("text", items))
    elif stream.kind == "set":
        ends = np.cumsum([0, *map(len, items)])
        store = SetStore(np.concatenate([np.zeros((0, *stream.item_shape), np.float32), *items]), ends)
    else:
        dtype = np.uint8 if stream.kind == "image" else np.float32
        numbers = np.array(items, dtype=dtype).reshape(len(items), *stream.item_shape)
        store = ArrayStore(numbers, resize=stream.opening.resize)
    labels = [sample.label for sample in samples]
    known = len(labels) > 0 and all(label is not None for label in labels)
    names, codes = np.unique(np.array(labels, dtype=np.str_), return_inverse=True) if known else ((), None)
    if known and all(name.lstrip("-").isdecimal() for name in names):
        order = np.argsort([int(name) for name in names])
        names, codes = names[order], np.argsort(order)[codes]
    keys = [sample.key for sample in samples]
    if len(set(keys)) < len(keys):  # keys need not be unique across shards
        keys = [stream.address(sample) for sample in samples]
    if len(set(keys)) < len(keys):
        keys = [f"{stream.address(sample)}@{sample.position}" for sample in samples]
    splits = [sample.split for sample in samples]
    return Source(
        store,
        rows=np.arange(len(items)),
        ids=np.array(keys, dtype=np.str_),
        labels=None if codes is None else codes.astype(np.int64),
        class_names=[str(name) for name in names],
        columns={"split": np.array(splits)} if splits and all(splits) else {},
        skipped=stream.skipped,
        name=stream.name,
    )


def _is_grey(item: Any) -> bool:
    return np.ndim(item) == 2 and getattr(item, "dtype", None) == np.uint8
