"""One comparison at a time in a folder: two that write the same cells would spoil them for each other."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import ArgumentError
from ..files import make_folder

__all__ = ["occupied"]

LOCK = ".comparison.lock"
_BEYOND = 1 << 20  # the locked byte: Windows lets nobody read it, and the text before it is for others


@contextlib.contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Keep a folder, made if need be, for this comparison alone while the block runs.

    The lock is the system's, so that it goes with the process, however that ends: what a killed comparison left
    behind does not lock out the next one.

    Raises:
        ArgumentError: Another comparison writes there; which one is said.
    """
    new = not folder.exists()
    make_folder(folder)
    file = _locked(folder / LOCK)
    try:
        file.truncate(0)
        file.write(json.dumps(_myself()).encode())
        file.flush()
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file
            (folder / LOCK).unlink()
        file.close()
        if new:
            with contextlib.suppress(OSError):  # there is something in it
                folder.rmdir()


def _locked(path: Path) -> BinaryIO:
    while True:
        file = open(path, "a+b")  # noqa: SIM115 (open as long as the lock is held)
        try:
            _lock(file)
        except OSError as error:
            file.close()
            raise ArgumentError(
                f"out={str(path.parent)!r} is being written by another comparison ({_other(path)}). Wait until it has"
                " ended, stop it, or give another folder."
            ) from error
        # Its former holder may have removed the file between the opening and the locking: then it locks nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(file.fileno())):
                return file
        file.close()


def _lock(file: BinaryIO) -> None:
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows
        import msvcrt

        file.seek(_BEYOND)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        file.seek(0)


def _myself() -> dict[str, object]:
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _other(path: Path) -> str:
    """Say who holds the lock, as far as it has said so itself."""
    try:
        other = json.loads(path.read_bytes())
        return f"process {other['process']} on {other['host']}, since {other['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "which is just beginning"
