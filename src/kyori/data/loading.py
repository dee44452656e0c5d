"""`Loader`: raw batches on the device, from memory at once or from files ahead of time."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError
from .batches import Batch
from .kinds import is_ragged
from .sources import Source

__all__ = ["Loader"]

RESIDENT_LIMIT = 2**30  # bytes that are copied to the device as a whole
PREFETCH = 2  # batches under way for each worker


class Loader:
    """Brings the items of batches to the device, in order.

    A source in memory of up to 1 GiB lies on the device as one uint8 (pictures) or float32 (vectors, arrays) tensor,
    and a batch is one indexing operation. Anything else is loaded by threads some batches ahead: decoding leaves
    Python's lock, so threads keep up with processes and leave nothing behind when a run is stopped. The order and
    the values do not depend on `workers`.

    Args:
        source: The items.
        device: Where batches go.
        workers: Threads that load ahead; 0 loads in the calling thread; default: one for each core, at most 8.
        prepare: Makes a tensor of raw items in the loading thread, as ``Preprocess.prepare`` does; a source of texts
            or sets needs one.

    Example:
        >>> from kyori.data import ShuffleBatches, open_source
        >>> source = open_source("digits")
        >>> loader = Loader(source, "cpu")
        >>> batch, raw, labels = next(loader.batches(ShuffleBatches(len(source), 128).epoch(0)))
        >>> raw.shape, raw.dtype, labels.shape
        (torch.Size([128, 8, 8, 1]), torch.uint8, torch.Size([128]))
    """

    def __init__(
        self,
        source: Source,
        device: torch.device | str = "cpu",
        workers: int | None = None,
        prepare: Callable[[np.ndarray], Tensor] = torch.from_numpy,
    ):
        if workers is not None and workers < 0:
            raise ArgumentError(f"workers must be at least 0 threads; got {workers}.")
        self.source = source
        self.device = torch.device(device)
        self.workers = min(8, os.cpu_count() or 1) if workers is None else workers
        labels = np.full(len(source), -1) if source.labels is None else source.labels
        self._labels = torch.from_numpy(labels).to(self.device)
        self._prepare = prepare
        self._resident: Tensor | None = None
        if not is_ragged(source.kind) and source.in_memory and _nbytes(source) <= RESIDENT_LIMIT:
            self._resident = torch.from_numpy(source.load(np.arange(len(source)))).to(self.device)

    def batches(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tensor, Tensor]]:
        """Load batches in their order.

        Args:
            batches: What ``PKBatches(…).epoch(e)`` and its fellows yield.

        Yields:
            The batch, its raw items (b, h, w, c) uint8, (b, f) float32 or tokens (b, t) int64, and its labels (b,)
            int64 (-1 where the source has none), both on the device.

        Raises:
            ItemError: A file can no longer be read; its path is in the message.
        """
        if self._resident is None:
            yield from self._streamed(batches)
            return
        for batch in batches:
            rows = torch.from_numpy(batch.indices).to(self.device, non_blocking=True)
            yield batch, self._resident.index_select(0, rows), self._labels.index_select(0, rows)

    def _streamed(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tensor, Tensor]]:
        if self.workers == 0:
            for batch in batches:
                yield self._place(batch, self._raw(batch))
            return
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="kyori-load")
        try:
            under_way: deque[tuple[Batch, Future[Tensor]]] = deque()
            for batch in batches:
                under_way.append((batch, pool.submit(self._raw, batch)))
                if len(under_way) > PREFETCH * self.workers:
                    ready, raw = under_way.popleft()
                    yield self._place(ready, raw.result())
            while under_way:
                ready, raw = under_way.popleft()
                yield self._place(ready, raw.result())
        finally:  # an error, Ctrl-C, or a consumer that stopped early
            pool.shutdown(wait=True, cancel_futures=True)

    def _raw(self, batch: Batch) -> Tensor:
        raw = self._prepare(self.source.load(batch.indices))
        return raw.pin_memory() if self.device.type == "cuda" else raw

    def _place(self, batch: Batch, raw: Tensor) -> tuple[Batch, Tensor, Tensor]:
        rows = torch.from_numpy(batch.indices).to(self.device)
        return batch, raw.to(self.device, non_blocking=True), self._labels.index_select(0, rows)


def _nbytes(source: Source) -> int:
    return len(source) * int(np.prod(source.item_shape)) * (1 if source.kind == "image" else 4)
