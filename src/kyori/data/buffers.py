"""Batches drawn from a buffer that a stream flows through, and how they come to the device.

What a batch holds is a function of (seed, epoch, rank) and of what the shards hold. Where the stream stands after a
batch is a small value that a checkpoint keeps: which shards are open and how far they are read, and which samples wait
in the buffer. Going on from it reads those shards again up to there, without decoding anything.
"""

import copy
import hashlib
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError, DataError, DataWarning, ItemError
from .batches import Batch
from .kinds import collate
from .shards import Sample
from .streams import OPEN, Stream

__all__ = ["StreamBatch", "StreamBatches", "StreamLoader", "label_code"]

TOLERATED = 0.05  # share of an epoch's items that may be without fellows before that is worth a word
PREFETCH = 2  # batches under way for each worker


@dataclass(frozen=True, eq=False)
class StreamBatch(Batch):
    """A batch with the samples themselves.

    Attributes:
        samples: (b,) what is stored, to be decoded.
        position: Where the stream stands after this batch, ready for JSON.
    """

    samples: tuple[Sample, ...] = ()
    position: dict[str, Any] = field(default_factory=dict)


def label_code(name: str) -> int:
    """A number below 2^63 for a class name where the list of all classes is not known; the same everywhere.

    >>> label_code("cat") == label_code("cat"), label_code("cat") == label_code("dog")
    (True, False)
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") >> 1


class StreamBatches:
    """Batches of a stream: plain shuffled ones, or P classes with K items each.

    ``"shuffle"``: a random sample of the buffer leaves it for the batch, the next one of the stream takes its place.

    ``"pk"``: when the buffer is full, P classes that have K items waiting are drawn, and K items of each. Where there
    are fewer such classes, those with two items or more join in, repeating items; where there are fewer than P of
    these, the batch has fewer classes and more items of each, so that it keeps its size. If even two classes are
    missing, the older half of the buffer is given up and more is read; more than 5 % of an epoch is warned about.

    Shards are in random order in each pass and shared among the ranks; with fewer shards than ranks, the ranks share
    the items of each shard. An epoch has the same number of steps on all ranks: one that comes to its end early begins
    its next pass, and the rest of a longer one is left out in this epoch.

    Args:
        stream: What is read.
        size: Items in a (global) batch.
        kind: ``"shuffle"`` or ``"pk"``.
        per_class: K, at least 2.
        seed: ≥ 0.
        rank, world: This process, and how many there are.
    """

    def __init__(
        self,
        stream: Stream,
        size: int,
        *,
        kind: Literal["shuffle", "pk"] = "shuffle",
        per_class: int = 4,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ):
        if kind not in ("shuffle", "pk"):
            raise ArgumentError(f"batches of a stream are of kind shuffle or pk; got {kind!r}.")
        if seed < 0:
            raise ArgumentError(f"seed must be at least 0; got {seed}.")
        if not 0 <= rank < world:
            raise ArgumentError(f"rank must be from 0 to world - 1; got rank {rank} of {world}.")
        own = (rank + 1) * size // world - rank * size // world
        least = 2 * per_class if kind == "pk" else 1
        if own < least:
            raise ArgumentError(f"size must be at least {least} items for each of {world} ranks; got {size}.")
        if stream.buffer < own:
            raise ArgumentError(f"buffer must hold a batch of {own} items; got {stream.buffer}.")
        self.stream, self.kind, self.size, self.own, self.per_class = stream, kind, size, own, per_class
        self.seed, self.rank, self.world = seed, rank, world
        self.excluded = self.alone = 0
        full, rest = divmod(len(stream), size)
        # as in ShuffleBatches, no batch of one item; here it waits for another epoch
        self._steps = max(1, full + (rest >= max(world, 2)))
        self._resumed: dict[str, Any] | None = None

    def __len__(self) -> int:
        return self._steps

    def resume(self, position: dict[str, Any]) -> None:
        """Let the next `epoch` with the epoch and start of `position` go on from there."""
        self._resumed = position

    def epoch(self, epoch: int, start: int = 0) -> Iterator[StreamBatch]:
        """The batches of an epoch, without the first `start`.

        Raises:
            DataError: A whole pass gives no batch.
            ItemError: A shard cannot be read and ``bad_items`` is ``"error"``.
        """
        state = self._resumed
        self._resumed = None
        place = {"epoch": epoch, "rank": self.rank, "world": self.world}
        fits = state is not None and all(state.get(key) == value for key, value in place.items())
        draw = _Draw(self, epoch, state if fits and state is not None and state["step"] == start else None)
        for _ in range(0 if draw.restored else start):
            draw.batch()
        for step in range(start, self._steps):
            samples = draw.batch(last=step == self._steps - 1)
            indices = np.array([sample.place for sample in samples], dtype=np.int64)
            position = {**place, "step": step + 1, **draw.position()}
            yield StreamBatch(indices, samples=tuple(samples), position=position)
        alone, self.alone = self.alone, 0
        if alone > TOLERATED * (self._steps * self.own + alone):
            warnings.warn(
                f"{self.stream.name}: {alone} items were given up in an epoch, with no other of their class among the "
                f"{self.stream.buffer} of the buffer; mix the shards, or enlarge data.buffer.",
                DataWarning,
                stacklevel=2,
            )


def changed(stream: Stream, shard: int, position: int) -> DataError:
    """The error of going on with other shards."""
    return DataError(
        f"{stream.name}: the shards are not those that the run was interrupted on; sample {position} of "
        f"{stream.reader.names[shard]} is gone. Start anew."
    )


class _Walk:
    """The samples of one rank, a few shards in turn, in passes; and where it stands."""

    def __init__(self, batches: StreamBatches, epoch: int, state: dict[str, Any] | None):
        self._stream, self._key = batches.stream, [batches.seed, epoch]
        self._rank, self._world = batches.rank, batches.world
        self._shards = len(batches.stream.reader.names)
        self.turn = 0
        self._open: list[list[Any]] = []  # [shard, samples read of it, iterator]
        self._begin(0)
        if state is not None:
            self._begin(state["pass"])
            self.next, self.turn = state["next"], state["turn"]
            for shard, count in state["open"]:
                iterator = self._stream.reader.read(shard)
                for _ in range(count):
                    if next(iterator, None) is None:
                        raise changed(self._stream, shard, count)
                self._open.append([shard, count, iterator])

    def _begin(self, number: int) -> None:
        self.number = number
        order = np.random.default_rng([*self._key, 0]).permutation(self._shards)
        self._whole = (
            self._shards >= self._world
        )  # whole shards for each rank, the same ones for a whole epoch
        own = order[self._rank :: self._world] if self._whole else order
        turned = own if number == 0 else np.random.default_rng([*self._key, number]).permutation(own)
        self._order = turned.tolist()
        self.next = 0

    def position(self) -> dict[str, Any]:
        opened = [[shard, count] for shard, count, _ in self._open]
        return {"pass": self.number, "next": self.next, "turn": self.turn, "open": opened}

    def take(self) -> Sample | None:
        """The next sample of this rank, None at the end of a pass; after that the next pass begins."""
        while True:
            while self.next < len(self._order) and len(self._open) < OPEN:
                shard = self._order[self.next]
                self._open.append([shard, 0, self._stream.reader.read(shard)])
                self.next += 1
            if not self._open:
                self._begin(self.number + 1)
                return None
            self.turn %= len(self._open)
            entry = self._open[self.turn]
            try:
                sample = next(entry[2], None)
            except ItemError as error:
                self._stream.fail(error)
                sample = None
            if sample is None:
                del self._open[self.turn]
                continue
            entry[1] += 1
            self.turn += 1
            mine = self._whole or sample.position % self._world == self._rank
            if mine and self._stream.accepts(sample):
                return sample


class _Draw:
    """The buffer of one epoch: samples by class (all in one for plain shuffling), in the order in which they came."""

    def __init__(self, batches: StreamBatches, epoch: int, state: dict[str, Any] | None):
        self._batches, self._stream = batches, batches.stream
        self._by_class = batches.kind == "pk"
        self._waiting: dict[str, list[Sample]] = {}
        self._count = 0
        self._ended = False  # the pass has come to its end, and what waits is drained
        self._fruitless = 0  # passes without a batch
        self._rng = np.random.default_rng([batches.seed, epoch, batches.rank, 1])
        self._walk = _Walk(batches, epoch, state)
        self.restored = state is not None
        if state is not None:
            self._rng.bit_generator.state = copy.deepcopy(state["random"])
            self._ended = state["ended"]
            self._refill(state["buffer"])

    def position(self) -> dict[str, Any]:
        places = [sample.place for samples in self._waiting.values() for sample in samples]
        return {
            **self._walk.position(),
            "random": self._rng.bit_generator.state,
            "ended": self._ended,
            "buffer": places,
        }

    def _refill(self, places: list[int]) -> None:
        wanted: dict[int, set[int]] = {}
        for place in places:
            wanted.setdefault(place >> 32, set()).add(place)
        found: dict[int, Sample] = {}
        for shard, some in wanted.items():
            last = max(some)
            for sample in self._stream.reader.read(shard):
                if sample.place in some:
                    found[sample.place] = sample
                if sample.place == last:
                    break
        try:
            for place in places:
                self._put(found[place])
        except KeyError as error:
            raise changed(self._stream, *divmod(error.args[0], 1 << 32)) from error

    def _put(self, sample: Sample) -> None:
        self._waiting.setdefault(str(sample.label) if self._by_class else "", []).append(sample)
        self._count += 1

    def _fill(self) -> None:
        """Read until the buffer is full or the pass is over."""
        while self._count < self._stream.buffer and not self._ended:
            sample = self._walk.take()
            if sample is None:
                self._ended = True
            elif sample.label is None:
                self._stream.fail(ItemError(self._stream.address(sample), "it has no label"))
            else:
                self._put(sample)

    def batch(self, *, last: bool = False) -> list[Sample]:
        """The samples of the next batch; the last one of an epoch may be smaller."""
        chosen: list[Sample] = []
        while True:
            self._fill()
            found = (
                self._choose_classes() if self._by_class else self._choose(self._batches.own - len(chosen))
            )
            chosen += found
            if found:
                self._fruitless = 0
            if len(chosen) >= (1 if self._by_class else self._batches.own):
                return chosen
            if not self._ended:  # a buffer of items without fellows
                self._give_up_half()
                continue
            if self._by_class:
                self._batches.alone += self._count
                self._waiting.clear()
                self._count = 0
            if last and chosen:
                return chosen
            self._ended = False
            self._fruitless += 1
            if self._fruitless > 2:
                raise self._nothing()

    def _choose(self, number: int) -> list[Sample]:
        waiting = self._waiting.get("", [])
        chosen = []
        for _ in range(min(number, len(waiting))):
            place = int(self._rng.integers(len(waiting)))
            waiting[place], waiting[-1] = waiting[-1], waiting[place]
            chosen.append(waiting.pop())
        self._count -= len(chosen)
        if chosen and not self._ended:
            self._fill()
        return chosen

    def _choose_classes(self) -> list[Sample]:
        k = self._batches.per_class
        p = self._batches.own // k
        ready = [name for name, samples in self._waiting.items() if len(samples) >= k]
        if len(ready) < p:
            ready += [name for name, samples in self._waiting.items() if 2 <= len(samples) < k]
            if len(ready) < 2:
                return []
        chosen = [ready[i] for i in self._rng.permutation(len(ready))[:p]]
        k = max(k, round(p * k / len(chosen)))
        return [sample for name in chosen for sample in self._pop(name, k)]

    def _pop(self, name: str, k: int) -> list[Sample]:
        """K samples of a class leave the buffer, in random order; fewer are repeated."""
        waiting = self._waiting[name]
        order = self._rng.permutation(len(waiting))[:k]
        taken = [waiting[i] for i in order]
        left = np.ones(len(waiting), dtype=bool)
        left[order] = False
        rest = [sample for sample, stays in zip(waiting, left.tolist(), strict=True) if stays]
        self._count -= len(taken)
        if rest:
            self._waiting[name] = rest
        else:
            del self._waiting[name]
        return [taken[i % len(taken)] for i in range(k)]

    def _give_up_half(self) -> None:
        goal = self._count // 2
        for name in list(self._waiting):
            gone = min(len(self._waiting[name]), max(0, self._count - goal))
            self._waiting[name] = self._waiting[name][gone:]
            self._count -= gone
            self._batches.alone += gone
            if not self._waiting[name]:
                del self._waiting[name]

    def _nothing(self) -> DataError:
        stream = self._stream
        why = (
            f" {len(stream.skipped)} were skipped, the first: {': '.join(stream.skipped[0])}."
            if stream.skipped
            else ""
        )
        if self._by_class:
            return DataError(
                f"{stream.name}: a whole pass gives no batch of two classes with two items each: the shards hold one "
                f"class after another, or classes of one item. Mix the items over the shards, or enlarge data.buffer "
                f"(now {stream.buffer}).{why}"
            )
        return DataError(
            f"{stream.name}: a whole pass gives no labelled item for rank {self._batches.rank}.{why}"
        )


class StreamLoader:
    """Brings the batches of a stream to the device: one thread reads, others decode, some batches ahead.

    An item that cannot be decoded is left out of its batch and counted, or raised, as ``bad_items`` says.

    Args:
        stream: What is read.
        device: Where batches go.
        workers: Threads that decode; default: one for each core, at most 8; 0: the calling thread does everything.
        prepare: Makes a tensor of raw items, as ``Preprocess.prepare`` does.
        code: Gives the number of a class by its name; default: its place in ``stream.class_names``.
    """

    def __init__(
        self,
        stream: Stream,
        device: torch.device | str = "cpu",
        workers: int | None = None,
        prepare: Callable[[np.ndarray], Tensor] = torch.from_numpy,
        code: Callable[[str], int] | None = None,
    ):
        if workers is not None and workers < 0:
            raise ArgumentError(f"workers must be at least 0 threads; got {workers}.")
        self.stream, self.device, self._prepare = stream, torch.device(device), prepare
        self.workers = min(8, os.cpu_count() or 1) if workers is None else workers
        if code is None:
            code = {name: number for number, name in enumerate(stream.class_names)}.__getitem__
        self._code = code

    def batches(self, batches: Iterable[StreamBatch]) -> Iterator[tuple[StreamBatch, Tensor, Tensor]]:
        """Load batches in their order: the batch, raw items (b, …) and class numbers (b,) int64 on the device.

        Raises:
            ItemError: An item or shard cannot be read and ``bad_items`` is ``"error"``, or a whole batch cannot.
        """
        if self.workers == 0:
            for batch in batches:
                yield self._place(*self._load(batch))
            self.stream.warn()
            return
        iterator = iter(batches)
        reader = ThreadPoolExecutor(1, thread_name_prefix="kyori-read")
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="kyori-decode")
        under_way: deque[Future[tuple[StreamBatch, Tensor, Tensor]]] = deque()
        try:
            coming: Future[StreamBatch | None] | None = reader.submit(next, iterator, None)
            while coming is not None or under_way:
                while coming is not None and (
                    not under_way or (coming.done() and len(under_way) < PREFETCH * self.workers)
                ):
                    read = coming.result()
                    coming = None if read is None else reader.submit(next, iterator, None)
                    if read is not None:
                        under_way.append(pool.submit(self._load, read))
                if under_way:
                    yield self._place(*under_way.popleft().result())
        finally:  # an error, Ctrl-C, or a consumer that stopped early
            for executor in (reader, pool):
                executor.shutdown(wait=True, cancel_futures=True)
        self.stream.warn()

    def _load(self, batch: StreamBatch) -> tuple[StreamBatch, Tensor, Tensor]:
        items, labels, good = [], [], []
        error: ItemError | None = None
        for place, sample in enumerate(batch.samples):
            try:
                item, label = self.stream.decode(sample), self._number(sample)
            except ItemError as found:
                error = found
                self.stream.fail(found)
                continue
            items.append(item)
            labels.append(label)
            good.append(place)
        if not items and error is not None:
            raise error
        if len(items) < len(batch.samples):
            samples = tuple(batch.samples[place] for place in good)
            batch = StreamBatch(batch.indices[good], samples=samples, position=batch.position)
        tensor = self._prepare(collate(self.stream.kind, items))
        return batch, tensor.pin_memory() if self.device.type == "cuda" else tensor, torch.tensor(labels)

    def _number(self, sample: Sample) -> int:
        try:
            return self._code(str(sample.label))
        except KeyError as error:
            reason = f"its class {sample.label!r} is not among the {len(self.stream.class_names)} classes"
            raise ItemError(self.stream.address(sample), reason) from error

    def _place(self, batch: StreamBatch, raw: Tensor, labels: Tensor) -> tuple[StreamBatch, Tensor, Tensor]:
        return batch, raw.to(self.device, non_blocking=True), labels.to(self.device)
