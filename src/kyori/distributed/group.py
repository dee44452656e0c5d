"""The processes that work together: how many there are, which one this is, how they meet and how they part."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from ..errors import ConfigError

__all__ = ["Failure", "first", "joined", "launched", "rank", "world"]

_TIMEOUT = timedelta(minutes=30)  # a rank may validate or save for long while the others wait
_FAILED = "kyori/failed"


def world() -> int:
    """How many processes work together; 1 outside of a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0; 0 outside of a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def first() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def launched() -> bool:
    """Whether `torchrun` started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def local_rank() -> int:
    """The number of this process on its machine, which chooses its GPU."""
    return int(os.environ.get("LOCAL_RANK", rank()))


class Failure:
    """Who failed first, so that one reason is told and not one a rank."""

    def __init__(self, store: dist.Store | None):
        self._store = store

    def claim(self) -> bool:
        """Whether this rank is the first that failed: then it tells why, the others end in silence."""
        if self._store is None:
            return True
        try:
            return int(self._store.add(_FAILED, 1)) == 1
        except RuntimeError:  # the store's process has ended already
            return False


@contextmanager
def joined(device: str = "auto") -> Iterator[Failure]:
    """Meet the other processes that `torchrun` started; without it, nothing happens.

    NCCL where they have GPUs, gloo on the CPU.

    Args:
        device: As `training.device`: "cpu" keeps GPUs out of it.
    """
    if not launched() or dist.is_initialized():
        yield Failure(None)
        return
    gpu = device != "cpu" and torch.cuda.is_available()
    if gpu:
        if local_rank() >= torch.cuda.device_count():
            raise ConfigError(
                f"each rank needs a GPU of its own: local rank {local_rank()} of {os.environ['WORLD_SIZE']}, and this "
                f"machine has {torch.cuda.device_count()}. Start fewer ranks, or use --training.device cpu."
            )
        torch.cuda.set_device(local_rank())
    store, number, count = next(iter(dist.rendezvous("env://", timeout=_TIMEOUT)))
    dist.init_process_group(
        "nccl" if gpu else "gloo", store=store, rank=number, world_size=count, timeout=_TIMEOUT
    )
    try:
        yield Failure(store)
    finally:
        dist.destroy_process_group()
