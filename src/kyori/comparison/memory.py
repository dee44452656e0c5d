"""The peak memory of a piece of work."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["PeakMemory"]

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Measures the largest resident memory of this process while a block runs, libraries and data included.

    Under Linux the kernel's mark (VmHWM) is put back at the start, after freed memory was given back, so that work
    before the block does not count. Elsewhere the mark cannot be put back (``getrusage``), and the block is measured
    only where it needs more than all before it.

    Attributes:
        bytes: The peak after the block; None where it cannot be measured.

    >>> with PeakMemory() as peak:
    ...     block = bytearray(10_000_000)
    >>> peak.bytes is None or peak.bytes > 10_000_000
    True
    """

    def __init__(self) -> None:
        self.bytes: int | None = None
        self._before: int | None = None

    def __enter__(self) -> Self:
        self._before = None if _put_mark_back() else _largest_ever()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        now = _mark() if self._before is None else _largest_ever()
        self.bytes = now if self._before is None or (now or 0) > self._before else None


def _put_mark_back() -> bool:
    if sys.platform != "linux":
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc
    if trim is not None:
        trim(0)
    try:
        _RESET.write_text("5")
        return _mark() is not None
    except OSError:  # a container may forbid it
        return False


def _mark() -> int | None:
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return None


def _largest_ever() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
