"""Cells in processes of their own, several at once: each ends with its files written, or with a reason."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any

import threadpoolctl  # type: ignore[import-untyped]
import torch

from ..data import Split
from ..errors import ArgumentError, Interrupted, KyoriError, KyoriWarning
from ..training import keep_memory
from .cells import Task, run_cell

__all__ = ["limited_threads", "reason_of", "run_here", "run_in_processes"]

_GUARD = (
    "a process for jobs= could not start: a script that calls compare(jobs=2) is read again by each of its processes, "
    "so put the call under: if __name__ == '__main__':"
)

Job = tuple[Task, Split, Mapping[str, str]]


def run_in_processes(
    work: Iterable[Job], jobs: int, threads: int
) -> Generator[tuple[Task, str | None], None, None]:
    """Run cells in other processes, ``jobs`` at once, and yield each with None or why it failed.

    The processes are spawned, so that they share nothing with the caller but the items sent, and each takes one cell
    after the other; one that was killed is replaced. They end when the caller does, however it ends: two grids never
    write into one folder because of a process that was left over.

    Args:
        work: Cells with their splits and fingerprints; taken when a process is free.
        jobs: Processes at once.
        threads: Threads of each.

    Raises:
        ArgumentError: The items cannot be sent to a process, or the calling script starts itself again.
    """
    waiting = iter(work)
    busy: dict[int, _Worker] = {}
    free: list[_Worker] = []
    try:
        while True:
            while len(busy) < jobs and (job := next(waiting, None)) is not None:
                worker = free.pop() if free else _Worker(threads)
                busy[id(worker)] = worker  # before it is sent anything, so that it is ended whatever happens
                worker.send(job)
            if not busy:
                return
            ready = set(connection.wait([worker.channel for worker in busy.values()]))
            for worker in [worker for worker in busy.values() if worker.channel in ready]:
                if not worker.listen():
                    continue
                del busy[id(worker)]
                free += [worker] if worker.alive else []
                yield worker.task, worker.reason
    finally:
        for worker in [*busy.values(), *free]:
            worker.end()


class _Worker:
    """A process seen from outside: one cell at a time goes in, warnings and a reason come out."""

    task: Task
    reason: str | None

    def __init__(self, threads: int):
        context = multiprocessing.get_context("spawn")
        self.channel, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(threads, theirs), name="kyori-cell")
        with _deaf_to_ctrl_c():
            self.process.start()
        theirs.close()
        self.started, self.alive = False, True
        self._held: Split | None = None  # what was sent last: cells of one fold follow each other

    def send(self, job: Job) -> None:
        """Give the process its next cell."""
        self.task, split, prints = job
        try:
            self.channel.send((self.task, None if split is self._held else split, prints))
        except OSError:  # it has ended; listen() says why
            return
        except Exception as error:  # whatever pickling an object of the caller's can raise
            raise ArgumentError(
                f"jobs= sends the items to other processes, and these cannot be sent ({error}); use jobs=1, or give "
                "the data as files or arrays."
            ) from error
        self._held = split

    def listen(self) -> bool:
        """Take one message; return whether the cell is done, or the process is."""
        try:
            kind, *content = self.channel.recv()
        except (EOFError, OSError):
            self.reason, self.alive = self._end_reason(), False
            return True
        if kind == "started":
            self.started = True
        elif kind == "warning":
            warnings.warn(f"{self.task.name}: {content[1]}", content[0], stacklevel=3)
        else:
            self.reason = content[0]
        return bool(kind == "done")

    def _end_reason(self) -> str:
        self.process.join()
        code = self.process.exitcode or 0
        if not self.started and code == 1:
            raise ArgumentError(_GUARD)
        return f"its process ended with code {code}" if code >= 0 else _killed(-code)

    def end(self) -> None:
        """End the process, and wait until it has."""
        self.process.terminate()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.channel.close()


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Start processes that do not hear Ctrl-C, not even while they still import what they need."""
    if threading.current_thread() is not threading.main_thread():  # only there may signals be set
        yield
        return
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def _killed(number: int) -> str:
    name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
    hint = "; the system does that when memory runs out: try fewer jobs" if name == "SIGKILL" else ""
    return f"its process was stopped by {name}{hint}"


def _work(threads: int, channel: Connection) -> None:  # pragma: no cover (in another process)
    _end_with_parent()
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C at the terminal is for the caller, who ends this process
    keep_memory()
    channel.send(("started",))
    held: Split | None = None
    with warnings.catch_warnings(), limited_threads(threads):
        warnings.showwarning = _send_warnings(channel)
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", KyoriWarning)
        while True:
            try:
                task, split, prints = channel.recv()
            except EOFError:  # the caller has no more
                return
            held = held if split is None else split
            try:
                run_cell(task, held, prints)  # type: ignore[arg-type]  # the first one is sent
            except Exception as error:  # whatever it is, the other cells go on
                channel.send(("done", reason_of(task, error)))
            else:
                channel.send(("done", None))


def _send_warnings(channel: Connection) -> Callable[..., None]:
    def send(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        channel.send(("warning", category, str(message)))

    return send


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def reason_of(task: Task, error: Exception) -> str:
    """Say in one line why a cell failed; what is not Kyori's own error leaves its traceback in the folder."""
    if isinstance(error, KyoriError):
        return " ".join(str(error).split())
    where = ""
    if task.place is not None and task.place.is_dir():
        path = task.place / "error.txt"
        with contextlib.suppress(OSError):
            path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
            where = f" (see {path})"
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}{where}"


@contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Compute with so many threads, and with the former number again afterwards; None changes nothing."""
    if threads is None:
        yield
        return
    former = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpoolctl.threadpool_limits(limits=threads):
            yield
    finally:
        torch.set_num_threads(former)


def run_here(work: Iterable[Job], threads: int | None) -> Generator[tuple[Task, Any], None, None]:
    """Run the cells one after the other in this process; yield each with its cell, or why it failed."""
    for task, split, prints in work:
        try:
            with limited_threads(threads):
                found: Any = run_cell(task, split, prints)
        except Interrupted:
            raise
        except Exception as error:  # whatever it is, the other cells go on
            found = reason_of(task, error)
        yield task, found
