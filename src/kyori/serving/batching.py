"""Rows of concurrent requests, gathered into batches for one model."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .limits import Refused

__all__ = ["Batcher"]

_MEMORY = 0.9  # weight of the past in the estimate of the time an item takes


@dataclass(eq=False)
class _Job:
    rows: list[Any]
    answer: asyncio.Future[NDArray[np.float32]]
    deadline: float


class Batcher:
    """Gives a model the rows of many requests at once.

    While the model works, requests gather; when it is done, it takes as many as fit into a batch, the oldest first.
    So a lone request does not wait, and a busy server works in large batches. One thread runs the model.

    Args:
        model: A list of n rows → vectors ``(n, d)``.
        batch: Rows that the model is given at once.
        queue: Rows that may wait.
        wait_seconds: How long a row may wait.
        observe: Called with the rows and the seconds of each batch.

    Use it inside a running event loop only; it belongs to that loop.
    """

    def __init__(
        self,
        model: Callable[[list[Any]], NDArray[np.float32]],
        *,
        batch: int,
        queue: int,
        wait_seconds: float,
        observe: Callable[[int, float], None] = lambda rows, seconds: None,
    ):
        self._model, self._observe = model, observe
        self._batch, self._queue, self._wait = batch, queue, wait_seconds
        self._jobs: deque[_Job] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kyori-model")
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self._row_seconds = 0.0
        self.waiting = 0  # rows

    async def __call__(self, rows: list[Any]) -> NDArray[np.float32]:
        """Return the vectors of rows that belong together.

        Raises:
            Refused: The queue is full, or the model did not come to these rows in time (503).
        """
        if self._closed:
            raise Refused(503, "the server is stopping; ask again in a moment.", 1)
        if self.waiting + len(rows) > self._queue:
            raise Refused(
                503,
                f"the server is overloaded: {self.waiting} items wait for the model, {self._queue} may.",
                self.retry_after(),
            )
        loop = asyncio.get_running_loop()
        job = _Job(rows, loop.create_future(), loop.time() + self._wait)
        self._jobs.append(job)
        self.waiting += len(rows)
        if self._worker is None:
            self._worker = loop.create_task(self._work())
        return await job.answer

    def retry_after(self) -> int:
        """Return in how many whole seconds the queue of now will be done."""
        return max(1, math.ceil(self.waiting * self._row_seconds))

    async def close(self) -> None:
        """Finish what waits, then let the thread go."""
        self._closed = True
        if self._worker is not None:
            await self._worker
        self._thread.shutdown()

    async def _work(self) -> None:
        try:
            while jobs := self._next():
                await self._serve(jobs)
        finally:
            self._worker = None

    def _next(self) -> list[_Job]:
        """Take the oldest jobs that fit into a batch, and turn away those that waited too long."""
        taken: list[_Job] = []
        rows = 0
        now = asyncio.get_running_loop().time()
        while self._jobs and (not taken or rows + len(self._jobs[0].rows) <= self._batch):
            job = self._jobs.popleft()
            self.waiting -= len(job.rows)
            if job.answer.done():  # the request was given up
                continue
            if job.deadline < now:
                job.answer.set_exception(
                    Refused(
                        503,
                        f"the model did not come to this request within {self._wait:g} s.",
                        self.retry_after(),
                    )
                )
                continue
            taken.append(job)
            rows += len(job.rows)
        return taken

    async def _serve(self, jobs: list[_Job]) -> None:
        try:
            vectors = await self._run([row for job in jobs for row in job.rows])
            parts = np.split(vectors, np.cumsum([len(job.rows) for job in jobs])[:-1])
        except Exception as error:
            if len(jobs) == 1:
                if not jobs[0].answer.done():
                    jobs[0].answer.set_exception(error)
                return
            for job in jobs:  # one request's trouble is not its neighbours'
                await self._serve([job])
            return
        for job, part in zip(jobs, parts, strict=True):
            if not job.answer.done():
                job.answer.set_result(part)

    async def _run(self, rows: list[Any]) -> NDArray[np.float32]:
        start = time.perf_counter()
        parts = [
            await asyncio.get_running_loop().run_in_executor(
                self._thread, self._model, rows[first : first + self._batch]
            )
            for first in range(0, len(rows), self._batch)
        ]
        seconds = time.perf_counter() - start
        each = seconds / len(rows)
        self._row_seconds = (
            each if not self._row_seconds else _MEMORY * self._row_seconds + (1 - _MEMORY) * each
        )
        self._observe(len(rows), seconds)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
