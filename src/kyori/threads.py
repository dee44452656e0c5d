"""Several blocks of a large computation at a time.

A matrix product uses all cores, what is done with it afterwards one. Where blocks are computed side by side, each with
its share of the cores, none of them waits.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import threadpoolctl  # type: ignore[import-untyped]

__all__ = ["in_order", "side_by_side"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST = 4  # blocks at a time, each of which needs its memory
_sharing = threading.Lock()  # the number of threads is one of the whole process


def side_by_side() -> int:
    """Return how many blocks :func:`in_order` computes at a time: one where linear algebra has one thread."""
    return min(_MOST, _threads(_linear_algebra()))


def in_order(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield ``work(item)`` of each item, in order.

    Some items are worked on ahead, in threads: as many as :func:`side_by_side` says. Meanwhile linear algebra has
    fewer threads in the whole process. Whoever comes second while another is at it has his items one by one.
    """
    if len(items) < 2:  # to ask for the threads takes milliseconds
        yield from map(work, items)
        return
    libraries = _linear_algebra()
    threads = _threads(libraries)
    workers = min(_MOST, threads, len(items))
    if workers < 2 or not _sharing.acquire(blocking=False):
        yield from map(work, items)
        return
    try:
        with (
            libraries.limit(limits=threads // workers),
            ThreadPoolExecutor(workers, thread_name_prefix="kyori-block") as pool,
        ):
            ahead: deque[Future[Result]] = deque()
            try:
                for item in items:
                    ahead.append(pool.submit(work, item))
                    if len(ahead) > workers:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)
    finally:
        _sharing.release()


def _linear_algebra() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController().select(user_api="blas")


def _threads(libraries: threadpoolctl.ThreadpoolController) -> int:
    return min((library.num_threads for library in libraries.lib_controllers), default=1)
