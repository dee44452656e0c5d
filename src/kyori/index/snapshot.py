"""The files of an index in a folder.

```
index/
  manifest.json      what holds: settings, schema, the names and sizes of the files below; replaced in one step
  base-7.faiss       the FAISS index, mapped when opened
  items-7.arrow      ids, columns, who is alive, sorted keys; mapped when opened
  vectors-7.npy      the vectors as they came, where FAISS keeps them shortened or shuffled; mapped when opened
  log-7.bin          batches since then: kyori.index.log
  lock               held by the one process that writes
```
A new generation of files is written in full before the manifest names it, so a stop at any moment leaves the old one or
the new one. What the manifest does not name is a leftover, and is removed by the next writer.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray

from ..errors import FileFormatError, KyoriError
from ..files import write_atomic
from .factory import Report, faiss, flat_vectors, set_effort
from .log import create_log
from .schema import Schema
from .segments import Base, plain
from .store import Settings

__all__ = ["MANIFEST", "Manifest", "open_base", "read_manifest", "remove_leftovers", "verify", "write_base"]

MANIFEST, LOCK = "manifest.json", "lock"
_FORMAT, _VERSION = "kyori.index", 1
_OURS = re.compile(
    r"(base|items|vectors|log)-\d+\.(faiss|arrow|npy|bin)|\.manifest\.json\.[0-9a-f]+\.tmp|lock"
)
_FIRST = re.compile(r"log-0\.bin|\.manifest\.json\.[0-9a-f]+\.tmp|lock")  # written before the first manifest
_COLUMN = "column:"  # a prefix keeps the caller's names apart from ours


@dataclass(frozen=True)
class Manifest:
    """What holds.

    Attributes:
        settings, schema: What the index was made with.
        generation: Number of the files.
        built: Factory string of the base; None without one.
        report: How well the base is searched; None without one.
        files: Size and, where it was computed, CRC of each file of the base by name.
    """

    settings: Settings
    schema: Schema | None = None
    generation: int = 0
    built: str | None = None
    report: Report | None = None
    files: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def log(self) -> str:
        """Name of the log."""
        return f"log-{self.generation}.bin"

    def write(self, folder: Path) -> None:
        """Make this what holds, in one step."""
        facts = {
            "format": _FORMAT,
            "version": _VERSION,
            "settings": vars(self.settings),
            "schema": self.schema.to_dict() if self.schema else None,
            "generation": self.generation,
            "built": self.built,
            "report": self.report.to_dict() if self.report else None,
            "files": self.files,
        }
        facts["check"] = _checksum(facts)
        text = json.dumps(facts, indent=2, ensure_ascii=False)
        write_atomic(folder / MANIFEST, lambda file: file.write(text.encode()))


def _checksum(facts: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps({k: v for k, v in facts.items() if k != "check"}, sort_keys=True).encode())


def read_manifest(folder: Path) -> Manifest:
    """Read what holds.

    Raises:
        FileFormatError: The manifest is damaged, of another kind or of a newer version.
    """
    path = folder / MANIFEST
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["format"] != _FORMAT:
            raise ValueError(f"its format is {facts['format']!r}")
        if facts["version"] > _VERSION:
            raise FileFormatError(
                f"{path} was written by a newer Kyori (format {facts['version']}); upgrade kyori."
            )
        if facts["check"] != _checksum(facts):
            raise ValueError("its checksum does not fit")
        report = facts["report"]
        if report:
            report = Report(
                report["recall"], report["queries"], tuple(report["effort"]) if report["effort"] else None
            )
        return Manifest(
            settings=Settings(**facts["settings"]),
            schema=Schema.from_dict(facts["schema"]) if facts["schema"] else None,
            generation=int(facts["generation"]),
            built=facts["built"],
            report=report,
            files=facts["files"],
        )
    except FileFormatError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(f"{path} is damaged or is no description of an index: {error}.") from error


def is_unfinished(folder: Path) -> bool:
    """Return whether the folder holds nothing, or only what a creation that was cut off left.

    Raises:
        FileFormatError: It holds files of an index, but no manifest.
    """
    names = {entry.name for entry in folder.iterdir()}
    if any(_OURS.fullmatch(name) and not _FIRST.fullmatch(name) for name in names):
        raise FileFormatError(
            f"{folder / MANIFEST} is missing; the index cannot be opened without it. Copy it again."
        )
    return all(_FIRST.fullmatch(name) for name in names)


def remove_leftovers(folder: Path, manifest: Manifest) -> None:
    """Remove the files of other generations."""
    kept = {*manifest.files, manifest.log, LOCK, MANIFEST}
    for entry in folder.iterdir():
        if entry.name not in kept and _OURS.fullmatch(entry.name):
            entry.unlink(missing_ok=True)


def write_base(
    folder: Path, manifest: Manifest, base: Base, built: str, measure: Callable[[], Report]
) -> Manifest:
    """Write a base as the next generation with an empty log, make it hold, and return its manifest.

    Args:
        folder: The index's.
        manifest: What holds so far.
        base: What is written.
        built: Factory string of its FAISS index.
        measure: Finds out how well it is searched, while the disk is busy with the files. The effort that it tries
            meanwhile may stand in FAISS's file: the one that counts stands in the manifest.
    """
    generation = manifest.generation + 1
    following = replace(manifest, generation=generation, built=built)
    writers: dict[str, Callable[[Path], object]] = {
        f"base-{generation}.faiss": lambda path: faiss().write_index(base.index, str(path)),
        f"items-{generation}.arrow": lambda path: _write_items(path, base),
    }
    if flat_vectors(base.index) is None:
        writers[f"vectors-{generation}.npy"] = lambda path: np.save(path, base.vectors)
    create_log(folder / following.log)
    with ThreadPoolExecutor() as pool:
        written = {name: pool.submit(_written, folder / name, write) for name, write in writers.items()}
        with _one_core_free():
            report = measure()
    files = {name: done.result() for name, done in written.items()}  # raises what failed
    following = replace(following, report=report, files=files)
    following.write(folder)
    remove_leftovers(folder, following)
    return following


@contextmanager
def _one_core_free() -> Iterator[None]:
    """Leave a core to the threads that write: FAISS's wait for each other by spinning, and a late one stops all."""
    threads = faiss().omp_get_max_threads()
    faiss().omp_set_num_threads(max(1, threads - 1))
    try:
        yield
    finally:
        faiss().omp_set_num_threads(threads)


def _written(path: Path, write: Callable[[Path], object]) -> dict[str, int]:
    """Write a file, bring it to the disk, and return its size and its CRC."""
    write(path)
    with ThreadPoolExecutor(1) as pool:  # the sum is computed while the disk writes
        synced = pool.submit(_sync, path)
        crc = _crc(path)
    synced.result()
    return {"bytes": path.stat().st_size, "crc32": crc}


def _sync(path: Path) -> None:
    """Bring a file to the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _crc(path: Path) -> int:
    value = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


def _write_items(path: Path, base: Base) -> None:
    arrays = {
        "alive": pyarrow.array(base.alive.view(np.uint8)),
        "key": pyarrow.array(base.keys),
        "row": pyarrow.array(base.key_rows),
    }
    arrays |= {_COLUMN + name: base.items[name].combine_chunks() for name in base.items.column_names}
    table = pyarrow.table(arrays)
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=max(1, len(base)))


def open_base(folder: Path, manifest: Manifest, *, mapped: bool = True) -> Base | None:
    """Open the base that the manifest names; None if it names none.

    Args:
        folder: The index's.
        manifest: What holds.
        mapped: Leave FAISS's file on the disk and map it; it cannot be added to then.

    Raises:
        FileFormatError: A file is missing, cut off or damaged.
        FileNotFoundError: A file is gone (a writer has replaced it since the manifest was read).
    """
    if not manifest.files:
        return None
    for name, facts in manifest.files.items():
        if (size := (folder / name).stat().st_size) != facts["bytes"]:
            raise FileFormatError(
                f"{folder / name} is damaged: it has {size:,} bytes instead of {facts['bytes']:,}."
            )
    names = {name.partition("-")[0]: name for name in manifest.files}
    try:
        items = _read_items(folder / names["items"], manifest.files[names["items"]]["crc32"])
        flags = faiss().IO_FLAG_MMAP_IFC if mapped else 0
        index = faiss().read_index(str(folder / names["base"]), flags)
        vectors = np.load(folder / names["vectors"], mmap_mode="r") if "vectors" in names else None
    except (KeyError, RuntimeError, ValueError, pyarrow.ArrowException) as error:
        if isinstance(error, KyoriError):
            raise
        for name in manifest.files:
            (folder / name).stat()  # FAISS does not say that a file is gone
        raise FileFormatError(f"{folder} holds a damaged index: {str(error)[-300:]}") from error
    columns = [name for name in items.column_names if name.startswith(_COLUMN)]
    kept = items.select(columns).rename_columns([name.removeprefix(_COLUMN) for name in columns])
    alive = _numpy(items["alive"], np.uint8).astype(bool)
    if index.ntotal != len(alive):
        raise FileFormatError(f"{folder} holds a damaged index: {index.ntotal} vectors and {len(alive)} ids.")
    if manifest.report and manifest.report.effort:
        set_effort(index, manifest.report.effort)
    return Base(index, vectors, kept, alive, _numpy(items["key"], np.int64), _numpy(items["row"], np.int64))


def _numpy(column: pyarrow.ChunkedArray, dtype: type) -> NDArray[Any]:
    return plain(column.combine_chunks() if column.num_chunks != 1 else column.chunk(0), dtype)


def _read_items(path: Path, crc: int) -> pyarrow.Table:
    with pyarrow.memory_map(str(path)) as file:
        content = file.read_buffer()
        if zlib.crc32(content) != crc:
            raise FileFormatError(f"{path} is damaged: its checksum does not fit. Restore it from a copy.")
        return pyarrow.ipc.open_file(content).read_all()


def verify(folder: Path, manifest: Manifest) -> None:
    """Read all of the base's files and compare their checksums.

    Raises:
        FileFormatError: A byte of a file has changed.
    """
    for name, facts in manifest.files.items():
        if _crc(folder / name) != facts["crc32"]:
            raise FileFormatError(
                f"{folder / name} is damaged: its checksum does not fit. Restore it from a copy."
            )
