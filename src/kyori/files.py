"""Files that are either the old one or the whole new one, whatever happens in between."""

import contextlib
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

__all__ = ["make_folder", "remove_unfinished", "write_atomic"]

UNFINISHED = re.compile(r"^\..+\.[0-9a-f]{12}\.tmp$")


def write_atomic(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a crash at any moment leaves the old file or the new one, never half of one.

    The bytes go to a temporary file in the same folder (a rename across file systems is a copy, which is not
    atomic), are flushed to the disk, and take the name of ``path`` in one step.

    Args:
        path: The file to write; its folder must exist.
        write: Called once with the open binary file.

    Raises:
        OSError: The folder does not exist or cannot be written to, or the disk is full; it names the file. Nothing is
            left behind.

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
    except OSError as error:
        if (
            error.errno is not None and error.filename is None
        ):  # a full disk does not say which file had no room
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """Make a folder, and those above it, so that it is still there after a power cut; return it as a path."""
    folder = Path(folder)
    if not folder.is_dir():
        if folder.parent != folder:
            make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)
    return folder


def remove_unfinished(folder: str | os.PathLike[str]) -> None:
    """Remove what a killed `write_atomic` left in a folder that nobody else is writing to."""
    with contextlib.suppress(FileNotFoundError):
        for path in Path(folder).iterdir():
            if UNFINISHED.match(path.name):
                path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be opened (not on Windows)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with contextlib.suppress(OSError):  # some network file systems refuse
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
