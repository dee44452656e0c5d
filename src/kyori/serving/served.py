"""The run that is served: opened, replaced by a new one while requests go on, and closed when the last has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.images import decode, probe
from ..errors import ArgumentError, ItemError
from ..index import Index, open_index
from ..models import Embedder
from ..recognition import Recogniser, RunCalibration
from ..recognition.places import find_note, index_place, is_folder, model_mark
from ..runs import open_run
from .batching import Batcher
from .limits import Limits, Refused

__all__ = ["Served", "Shelf"]

log = logging.getLogger("kyori.serving")


class Served:
    """One opened run: its recogniser, its model's batches, and who still uses it.

    Attributes:
        recogniser: Answers; safe for many threads.
        embedder: The network in it.
        mark: What tells its model from another.
        place: Where its index is; None without one.
        batcher: Rows of many requests → vectors.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        embedder: Embedder,
        mark: str,
        place: str | None,
        limits: Limits,
        observe: Callable[[int, float], None],
    ):
        self.recogniser, self.embedder, self.mark, self.place = recogniser, embedder, mark, place
        self.batcher = Batcher(
            self._encode,
            batch=limits.batch,
            queue=limits.queue,
            wait_seconds=limits.wait_seconds,
            observe=observe,
        )
        self._limits = limits
        self._users = 0
        self._free = asyncio.Event()
        self._free.set()

    @contextmanager
    def used(self) -> Iterator[None]:
        """Keep the run open meanwhile."""
        self._users += 1
        self._free.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._free.set()

    async def close(self, *, keep_index: bool) -> None:
        """Close when nobody uses it any more."""
        await self._free.wait()
        await self.batcher.close()
        if not keep_index:
            self.recogniser.close()

    def row_of_picture(self, content: bytes) -> NDArray[np.uint8]:
        """Decode a picture to the model's size (h, w, c), if it is one and not too large.

        Raises:
            Refused: It is none, or has more pixels than allowed (422, 413).
        """
        scale = self.embedder.scale
        assert scale is not None
        assert scale.size is not None
        try:
            header = probe(BytesIO(content))
            if header.height * header.width > self._limits.pixels:
                raise Refused(
                    413,
                    f"a picture may have {self._limits.pixels} pixels; got {header.width}×{header.height}.",
                )
            return decode(BytesIO(content), scale.size, scale.channels, resize=scale.resize)
        except ItemError as error:
            raise Refused(422, f"the picture cannot be read: {error.reason[:200]}.") from None

    def row_of_features(self, values: Sequence[float]) -> NDArray[np.float32]:
        """Return a row for a model of vectors.

        Raises:
            Refused: It has not as many numbers as the model takes.
        """
        wanted = self.embedder.preprocess.shape
        if len(values) != wanted[0]:
            raise Refused(422, f"features must be {wanted[0]} numbers; got {len(values)}.")
        return np.asarray(values, np.float32)

    def _encode(self, rows: list[Any]) -> NDArray[np.float32]:
        embedder = self.embedder
        if embedder.preprocess.kind == "text":
            return embedder.encode(rows)
        with torch.inference_mode():
            vectors = embedder(embedder.preprocess(np.stack(rows), embedder.device))
        return vectors.float().cpu().numpy()


class Shelf:
    """Holds the run that new requests get.

    Args:
        run: The folder; opened again at each reload, so that it may be a link that is moved on.
        url: Where its index is, if not where ``kyori index`` put it.
        writable: Whether items may be added and removed.
        device: Where the model runs.
        limits: Of the queue and of pictures.
        observe: Called with the rows and the seconds of each batch.
    """

    def __init__(
        self,
        run: Path,
        *,
        url: str | None,
        writable: bool,
        device: str,
        limits: Limits,
        observe: Callable[[int, float], None],
    ):
        self._run, self._url, self._device = run, url, device
        self.writable = writable
        self._limits, self._observe = limits, observe
        self._current: Served | None = None
        self._reloading = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def current(self) -> Served:
        """The run of now."""
        if self._current is None:
            raise Refused(503, "the server is not ready yet, or is stopping; ask again in a moment.", 1)
        return self._current

    @property
    def ready(self) -> bool:
        """Whether there is one."""
        return self._current is not None

    def open(self) -> None:
        """Open the run for the first time.

        Raises:
            KyoriError: It cannot be opened; the message is for the person who starts the server.
        """
        self._current = self._opened(None)

    async def reload(self) -> Served:
        """Open the run again and give it to new requests; those under way finish with the old one.

        Raises:
            KyoriError: It cannot be opened; the old one goes on.
        """
        async with self._reloading:
            old = self.current
            new = await asyncio.to_thread(self._opened, old)
            self._current = new
            shared = new.recogniser.has_index and old.recogniser.has_index
            shared = shared and new.recogniser.index is old.recogniser.index
            task = asyncio.create_task(old.close(keep_index=shared))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            log.info("reloaded: model %s", new.mark)
            return new

    async def close(self) -> None:
        """Finish everything and let go."""
        last, self._current = self._current, None
        if self._closing:
            await asyncio.gather(*self._closing)
        if last is not None:
            await last.close(keep_index=False)

    def _opened(self, old: Served | None) -> Served:
        embedder = open_run(self._run).embedder.to(self._device)
        mark = model_mark(self._run)
        calibration = RunCalibration.load(self._run, mark)
        note = find_note(self._run)
        place = self._url or (index_place(self._run) if note else None)
        if place is not None and self._url is None and note.get("model") != mark:
            raise ArgumentError(
                f"the index of {self._run} was made by another model than its present one; make it again with:"
                f" kyori index {self._run} DATA --overwrite"
            )
        index, fresh = self._index(place, old)
        try:
            if index is not None and index.dimension not in (None, embedder.embedding_size):
                raise ArgumentError(
                    f"the index holds vectors of {index.dimension} numbers, and the model makes"
                    f" {embedder.embedding_size}."
                )
            recogniser = Recogniser(embedder, index, calibration)  # no name: it would tell clients a path
        except BaseException:
            if index is not None and fresh:
                index.close()
            raise
        return Served(recogniser, embedder, mark, _resolved(place), self._limits, self._observe)

    def _index(self, place: str | None, old: Served | None) -> tuple[Index | None, bool]:
        """Open the index; one that this server writes to is taken over as it is, since it holds the lock."""
        if place is None:
            return None, False
        if self.writable and old is not None and old.place == _resolved(place):
            return old.recogniser.index, False
        return open_index(place, create=False, read_only=is_folder(place) and not self.writable), True


def _resolved(place: str | None) -> str | None:
    if place is None or not is_folder(place):
        return place
    return str(Path(place.removeprefix("faiss:")).resolve())
