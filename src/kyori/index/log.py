"""The log of acknowledged batches: what is in it survives a kill at any moment.

A record is ``magic (4) | length (8) | CRC of the payload (4) | CRC of these 16 bytes (4) | payload``; the payload is an
Arrow stream of one table. A batch is acknowledged when its record is on the disk (fsync). A record that a stop cut
off at the end of the file was never acknowledged and is dropped; damage anywhere before it is an error.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow

from ..errors import FileFormatError
from .schema import Rows

__all__ = ["Log", "create_log", "read_log"]

_MAGIC, _HEADER = b"KYLG", struct.Struct("<4sQI")
_SIZE = _HEADER.size + 4
_OPERATION, _VECTOR = b"kyori.operation", "vector"


class Log:
    """An open log that records are appended to."""

    def __init__(self, path: Path, size: int):
        self._file = open(path, "r+b", buffering=0)  # noqa: SIM115 (open as long as the index is)
        self._file.truncate(size)
        self._file.seek(size)
        self.size = size

    def append(self, operation: str, rows: Rows | pyarrow.Array) -> None:
        """Write one record; it is on the disk when this returns, or not in the file.

        Raises:
            OSError: The disk is full or fails.
        """
        payload = _encode(operation, rows)
        head = _HEADER.pack(_MAGIC, len(payload), zlib.crc32(payload))
        try:
            for part in (head + struct.pack("<I", zlib.crc32(head)), payload):
                view = memoryview(part)
                while view:
                    view = view[self._file.write(view) :]
            os.fsync(self._file.fileno())
        except BaseException:
            self._file.truncate(self.size)
            self._file.seek(self.size)
            raise
        self.size += _SIZE + len(payload)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def create_log(path: Path) -> None:
    """Make an empty log. It has nothing to bring to the disk but its name, which comes there before the manifest's."""
    path.write_bytes(b"")


def read_log(path: Path) -> Iterator[tuple[str, pyarrow.Table, np.ndarray | None, int]]:
    """Yield operation, items, vectors (None for deletions) and the end of each whole record.

    Raises:
        FileNotFoundError: There is no such file.
        FileFormatError: It is damaged before its last record.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        while file.tell() < size:
            start = file.tell()
            payload = _payload(file.read(_SIZE), start, size, path, file)
            if payload is None:
                return
            try:
                yield (*_decode(payload), file.tell())
            except (pyarrow.ArrowException, KeyError, ValueError) as error:
                raise _damaged(path, start) from error


def _payload(head: bytes, start: int, size: int, path: Path, file: object) -> bytes | None:
    """Return the payload of the record at ``start``; None if it is the torn last one."""
    if len(head) < _SIZE:
        return None
    (crc_of_head,) = struct.unpack("<I", head[-4:])
    if zlib.crc32(head[:-4]) != crc_of_head or not head.startswith(_MAGIC):
        rest = file.read()  # type: ignore[attr-defined]
        if not any(head) and not any(rest):  # the system gave the file its length, but not yet its bytes
            return None
        raise _damaged(path, start)
    _, length, crc = _HEADER.unpack(head[:-4])
    if start + _SIZE + length > size:
        return None
    payload: bytes = file.read(length)  # type: ignore[attr-defined]
    if zlib.crc32(payload) == crc:
        return payload
    if start + _SIZE + length == size:
        return None
    raise _damaged(path, start)


def _damaged(path: Path, start: int) -> FileFormatError:
    return FileFormatError(
        f"{path} is damaged at byte {start:,}, and acknowledged batches follow; restore the folder from a copy, or"
        " build the index anew with kyori index."
    )


def _encode(operation: str, rows: Rows | pyarrow.Array) -> memoryview:
    if isinstance(rows, Rows):
        n, d = rows.vectors.shape
        vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.vectors.reshape(n * d)), d)
        table = rows.items.append_column(_VECTOR, vectors)
    else:
        table = pyarrow.table({"id": rows})
    table = table.replace_schema_metadata({_OPERATION: operation.encode()})
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return memoryview(sink.getvalue())


def _decode(payload: bytes) -> tuple[str, pyarrow.Table, np.ndarray | None]:
    table = pyarrow.ipc.open_stream(payload).read_all()
    operation = table.schema.metadata[_OPERATION].decode()
    place = table.schema.names.index(_VECTOR) if operation != "delete" else -1
    table = table.replace_schema_metadata(None)
    if place < 0:
        return operation, table, None
    lists = table.column(place).combine_chunks()
    d = lists.type.list_size
    vectors = lists.flatten().to_numpy().reshape(-1, d)
    return operation, table.remove_column(place), vectors
