"""Files that are either the old one or the whole new one, whatever happens in between."""

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

__all__ = ["write_atomic"]


def write_atomic(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a crash at any moment leaves the old file or the new one, never half of one.

    The bytes go to a temporary file in the same folder (a rename across file systems is a copy, which is not
    atomic), are flushed to the disk, and take the name of ``path`` in one step.

    Args:
        path: The file to write; its folder must exist.
        write: Called once with the open binary file.

    Raises:
        OSError: The folder does not exist or cannot be written to. Nothing is left behind.

    >>> import tempfile, pathlib
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "note.txt"
    >>> write_atomic(target, lambda file: file.write(b"whole"))
    >>> target.read_bytes()
    b'whole'
    """
    path = Path(path)
    # Not tempfile.mkstemp: its files are readable by the owner only, and the mode would survive the rename.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be opened (not on Windows)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
