"""Around a training: the device, the arithmetic, memory, randomness of its own, and Ctrl-C."""

import ctypes
import random
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

import numpy as np
import torch

from .. import distributed
from ..errors import ConfigError

__all__ = [
    "InterruptFlag",
    "choose_device",
    "keep_memory",
    "own_randomness",
    "seed_everything",
]

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h


def keep_memory() -> None:
    """Let this process keep freed memory for the next step, instead of giving it back to the system each time.

    Where the C library is glibc, on the CPU; elsewhere nothing happens. Activations of a small network are dozens of
    megabytes, and getting them as fresh pages again and again costs a quarter of the training time. It holds for the
    whole process, whose memory then stays as large as it once was, so a library must not decide it: the
    command line calls it before it trains, and a program of your own may.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def choose_device(name: str) -> torch.device:
    """Return the device of that name; ``"auto"`` is the first GPU if there is one, else the CPU.

    Raises:
        ConfigError: No such device here.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"device must be auto, cpu, cuda, cuda:N or mps, and present here; got '{name}' ({error})."
        ) from error
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


@contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """Give the caller's random states, and the flags of cuDNN, back as they were afterwards."""
    indices = [device.index] if device.type == "cuda" else []
    flags = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (a network may draw from it)
    with torch.random.fork_rng(devices=indices):
        try:
            if indices:  # the fastest convolutions give other bits each time
                torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
            if indices:
                torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = flags


def seed_everything(device: torch.device, seed: int, number: int) -> int:
    """Seed the generators that ``own_randomness`` guards from (seed, number) and return the mixed seed.

    Called before each batch, it makes dropout, augmentation and whatever a network of one's own draws from PyTorch,
    NumPy or Python a function of the batch's number, so that a resumed run needs no generator state.
    `torch.manual_seed` would do the same at fifty times the cost (it queues a traceback for every accelerator not
    yet in use).
    """
    mixed = _mix(seed, number)
    torch.default_generator.manual_seed(mixed)
    random.seed(mixed)
    np.random.seed(mixed & 0xFFFFFFFF)  # noqa: NPY002
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(mixed)
    elif device.type == "mps":
        torch.mps.manual_seed(mixed)
    return mixed


def _mix(seed: int, number: int) -> int:
    """SplitMix64 of the two numbers: neighbouring steps get unrelated seeds, also in the low 32 bits."""
    mask = 2**64 - 1
    z = (seed * 0xD1342543DE82EF95 + (number + 1) * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) >> 1


class InterruptFlag:
    """Turns the first Ctrl-C into a flag, so that a step can be finished; the second one stops at once.

    The handler before it is put back at the end. Signals reach the main thread only: elsewhere it does nothing.
    """

    def __init__(self) -> None:
        self.raised = False
        self._former: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._former = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._former is not None:
            # A rank that was told to stop is about to say so and end: a repeated signal must not cut that short.
            told = self.raised and distributed.world() > 1
            signal.signal(signal.SIGINT, signal.SIG_IGN if told else self._former)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # torchrun may repeat the signal, and kills ranks that take too long
        if self.raised and distributed.world() == 1:
            raise KeyboardInterrupt
        self.raised = True
