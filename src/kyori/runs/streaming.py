"""Runs on streams: how a stream is split, and how its vectors are written without ever lying in memory together."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import Source, Split
from ..data.kinds import Kind, collate
from ..data.shards import Sample
from ..data.streams import Stream, open_stream
from ..errors import ArgumentError, ConfigError, DataError, ItemError
from ..files import write_atomic
from ..models import Embedder
from ..training import RunConfig
from .folder import open_run

if TYPE_CHECKING:
    import pyarrow

__all__ = ["embed_stream", "open_stream_as", "split_stream"]

VALIDATION_ITEMS = 2_000
TEST_ITEMS = 10_000
PARTS = ("train", "validation", "test")
BATCH = 256
ROW_GROUP = 16_384  # vectors that lie in memory at once


def open_stream_as(data: Any, config: RunConfig) -> Stream:
    """Open a stream as the configuration says."""
    wanted = config.data
    return open_stream(
        data,
        size=wanted.image_size,
        channels=wanted.channels,
        resize=wanted.resize,
        items=wanted.items,
        bad_items=wanted.bad_items,
        buffer=wanted.buffer,
        epoch_items=wanted.epoch_items,
    )


def split_stream(stream: Stream, config: RunConfig) -> Split:
    """Split a stream: what to train on stays a stream, validation and test items are read into memory.

    An item's part is a function of the seed and its key (``random``) or the name of its class (``class-disjoint``), so
    that no list of items is needed; ``given`` goes by the samples' own ``split``. At most 2,000 validation and 10,000
    test items are taken, the first ones when all shards are read in turn, as far as they fit into 1 GiB.

    Raises:
        ConfigError: A k-fold split.
        DataError: A part that was asked for is empty.
    """
    parts = {name: _part(stream, name, config) for name in PARTS}
    limits = {"validation": VALIDATION_ITEMS, "test": TEST_ITEMS}
    held = {name: _held(parts[name], limit) for name, limit in limits.items()}
    train = parts["train"]
    if train is None:
        raise DataError(f"{stream.name}: nothing is left to train on.")
    return Split(train, held["validation"], held["test"])  # type: ignore[arg-type]


def _held(part: Stream | None, limit: int) -> Source:
    if part is None:
        return Source(_Nothing(), rows=np.arange(0), ids=np.arange(0), labels=np.arange(0))
    source, _ = part.gather(limit)
    part.warn()
    if len(source) == 0:
        raise DataError(f"{part.name}: a part of the split is empty; give it a larger share, or 0.")
    return source


@dataclass(frozen=True)
class _Nothing:
    """A store without items."""

    in_memory: bool = True
    kind: Kind = "vector"
    item_shape: tuple[int, ...] = (1,)

    def load(self, rows: np.ndarray) -> np.ndarray:
        return np.zeros((len(rows), 1), dtype=np.float32)


def _part(stream: Stream, name: str, config: RunConfig) -> Stream | None:
    """One part of a stream, None where it is to be empty."""
    data = config.data
    kind = data.split
    if kind == "auto":
        kind = "given" if any(sample.split for sample in islice(stream.samples(), 64)) else "random"
    share = data.fractions[PARTS.index(name)]
    if kind == "none":
        return stream if name == "train" else None
    if kind == "given":
        return stream.part(name, lambda sample: sample.split == name, 1.0)
    if kind not in ("random", "class-disjoint"):
        raise ConfigError(
            f"a stream is split random, class-disjoint, given or none; got data.split '{kind}'."
        )
    if share == 0:
        return None
    return stream.part(f"{kind}/{data.split_seed}/{name}", _chooser(name, kind, config), share)


def _chooser(name: str, kind: str, config: RunConfig) -> Callable[[Sample], bool]:
    data = config.data
    edges = np.cumsum((0.0, *data.fractions)).tolist()
    place = PARTS.index(name)
    low, high = edges[place], 2.0 if place == 2 else edges[place + 1]

    def chosen(sample: Sample) -> bool:
        what = f"{sample.shard}/{sample.key}" if kind == "random" else str(sample.label)
        digest = hashlib.blake2b(f"{data.split_seed}/{what}".encode(), digest_size=8).digest()
        return low <= int.from_bytes(digest, "little") / 2**64 < high

    return chosen


def embed_stream(
    folder: str | Path,
    data: Any,
    out: str | Path,
    *,
    part: str = "all",
    progress: Callable[[int], None] | None = None,
) -> tuple[int, int]:
    """Write the vectors of a stream to a Parquet file, in row groups, in bounded memory.

    Args:
        folder: A run folder.
        data: Shards, an ``IterableDataset``, or a `Stream`.
        out: The file: columns ``id``, ``label`` and ``vector``, as :meth:`kyori.VectorTable.save` writes them. Where
            the first item has no label, there is no column for them; else an item without one is a bad item.
        part: ``"all"``, or ``"train"``, ``"validation"`` or ``"test"`` as the run's configuration splits the stream.
        progress: Called with the items done.

    Returns:
        How many vectors were written, and their size.

    Raises:
        DataError: Nothing can be read.
        ItemError: An item cannot be read and the run's ``bad_items`` is ``"error"``.
    """
    if part not in ("all", *PARTS):
        raise ArgumentError(f"part must be one of all, {', '.join(PARTS)}; got '{part}'.")
    run = open_run(folder)
    stream = open_stream_as(data, run.config)
    if stream.kind != run.embedder.preprocess.kind:
        raise ArgumentError(
            f"this model takes {run.embedder.preprocess.kind}s; {stream.name} holds {stream.kind}s."
        )
    chosen = stream if part == "all" else _part(stream, part, run.config)
    if chosen is None:
        raise DataError(f"{stream.name}: the part '{part}' is empty; choose another with --part.")
    count = 0

    def write(file: Any) -> None:
        nonlocal count
        count = _write(run.embedder, chosen, file, progress)

    write_atomic(out, write)
    chosen.warn()
    return count, run.embedder.embedding_size


def _write(embedder: Embedder, stream: Stream, file: Any, progress: Callable[[int], None] | None) -> int:
    import pyarrow
    from pyarrow import parquet

    vector = pyarrow.list_(pyarrow.float32(), embedder.embedding_size)
    names = {"id": pyarrow.string(), "label": pyarrow.string(), "vector": vector}
    first = next(stream.samples(), None)
    if first is not None and first.label is None:
        del names["label"]
    schema = pyarrow.schema(names)
    count, rows = 0, []
    with parquet.ParquetWriter(file, schema, use_dictionary=["label"], write_page_checksum=True) as writer:
        for part in _encoded(embedder, stream, labelled="label" in names):
            rows.append(part)
            count += len(part[1])
            if sum(len(vectors) for _, vectors in rows) >= ROW_GROUP:
                writer.write_table(_table(rows, schema, stream))
                rows = []
            if progress is not None:
                progress(count)
        if rows:
            writer.write_table(_table(rows, schema, stream))
    if count == 0:
        why = f"; the first: {': '.join(stream.skipped[0])}" if stream.skipped else ""
        raise DataError(f"{stream.name}: no item can be read{why}.")
    return count


def _table(
    rows: list[tuple[list[Sample], np.ndarray]], schema: pyarrow.Schema, stream: Stream
) -> pyarrow.Table:
    import pyarrow

    samples = [sample for part, _ in rows for sample in part]
    flat = np.concatenate([vectors for _, vectors in rows])
    values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(flat.ravel()), flat.shape[1])
    many = len(stream.reader.names) > 1  # keys need not be unique across shards
    ids = [f"{os.path.basename(stream.address(s))}" if many else s.key for s in samples]
    found = {"id": ids, "label": [s.label for s in samples], "vector": values}
    return pyarrow.table([found[name] for name in schema.names], schema=schema)


def _encoded(
    embedder: Embedder, stream: Stream, *, labelled: bool
) -> Iterator[tuple[list[Sample], np.ndarray]]:
    """Samples without their data, and vectors (b, d), batch by batch; threads decode some batches ahead."""
    samples = stream.samples()
    workers = min(8, os.cpu_count() or 1)

    def load(batch: list[Sample]) -> tuple[list[Sample], list[Any]]:
        kept, items = [], []
        for sample in batch:
            try:
                if labelled and sample.label is None:
                    raise ItemError(stream.address(sample), "it has no label, and others have one")
                items.append(stream.decode(sample))
            except ItemError as error:
                stream.fail(error)
            else:
                kept.append(Sample(sample.shard, sample.position, sample.key, label=sample.label))
        return kept, items

    with ThreadPoolExecutor(workers, thread_name_prefix="kyori-decode") as pool:
        under_way: deque[Future[tuple[list[Sample], list[Any]]]] = deque()
        while True:
            while len(under_way) <= 2 * workers and (batch := list(islice(samples, BATCH))):
                under_way.append(pool.submit(load, batch))
            if not under_way:
                return
            kept, items = under_way.popleft().result()
            if items:
                yield kept, embedder.encode(collate(stream.kind, items))
