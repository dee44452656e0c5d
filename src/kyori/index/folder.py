"""An index in a folder: FAISS for the search, a log for safety, one writer at a time."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow
from numpy.typing import NDArray

from ..errors import ArgumentError, DataError, DataWarning, KyoriError
from ..neighbors import Matches
from .factory import build, check_factory, choose, flat_vectors, ordered, tune
from .filters import Condition
from .log import Log, create_log, read_log
from .schema import Rows, Schema
from .segments import Base, Delta, sorted_keys
from .snapshot import (
    LOCK,
    MANIFEST,
    Manifest,
    is_unfinished,
    open_base,
    read_manifest,
    remove_leftovers,
    verify,
    write_base,
)
from .store import Settings, Store, empty_matches

__all__ = ["FolderStore"]

_FOLD = 20_000  # rows that are searched exactly beside the base, at least
_FOLD_SHARE = 1 / 8
_DEAD_SHARE = 1 / 2  # of the base: from here on it is built anew when it is saved
_ATTEMPTS = 5  # to open while a writer replaces files


class FolderStore(Store):
    """A base that FAISS searches, a delta of what came since, and the log that brings the delta back.

    Args:
        folder: Where; made if it is not there.
        settings: For a new index; for an old one those that the caller insists on.
        read_only: Take no lock, write nothing, and see the index as it is now.
        insist: Names of the settings that must be as given.

    Raises:
        ArgumentError: The folder holds other files, or the index was made with other settings.
        KyoriError: Another process has it open for writing.
        FileFormatError: A file is damaged.
    """

    def __init__(
        self, folder: Path, settings: Settings, *, read_only: bool = False, insist: Sequence[str] = ()
    ):
        self.folder = folder
        self._guard = threading.RLock()
        self._lock: BinaryIO | None = None
        self._log: Log | None = None
        self._broken: str | None = None
        self._manifest: Manifest
        if not read_only:
            self._make(settings)
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        for name in insist:
            if (made := getattr(self.settings, name)) != getattr(settings, name):
                self.close()
                hint = "; change it with compact(factory=...)" if name == "factory" else ""
                raise ArgumentError(
                    f"{folder} was made with {name} {made!r}{hint}; got {getattr(settings, name)!r}."
                )

    @property
    def settings(self) -> Settings:  # type: ignore[override]
        """What the manifest says."""
        return self._manifest.settings

    @property
    def schema(self) -> Schema | None:  # type: ignore[override]
        """What the manifest says."""
        return self._manifest.schema

    def create(self, schema: Schema) -> None:
        """Check that the factory can be for such vectors; the record of the batch in the log brings the schema back."""
        with self._writing():
            if self.schema is None:  # no other thread was first
                check_factory(self.settings.factory, schema.dimension)  # an error comes now, or never
                self._decide(schema)

    def write(self, rows: Rows, *, replace: bool) -> None:
        """Log the batch, then take it in; a batch as large as the index becomes a new base at once instead."""
        with self._writing() as log:
            if rows.schema() != self._known():
                raise KyoriError("the index was cleared and filled by another thread meanwhile; ask again.")
            if not replace:
                self._refuse_known(rows.items["id"].combine_chunks())
            known = 0 if self._base is None else len(self._base)
            if len(rows) >= max(_FOLD, known):
                self._remove(rows.items["id"].combine_chunks())
                self._fold(rows)
                return
            log.append("upsert", rows)
            self._apply(rows)
            if len(self._delta) > max(_FOLD, _FOLD_SHARE * known):
                self._fold()

    def delete(self, ids: pyarrow.Array) -> int:
        """Log the ids, then mark the rows."""
        with self._writing() as log:
            present = self._present(ids)
            if present:
                log.append("delete", pyarrow.array(present, ids.type))
                self._remove(ids)
            return len(present)

    def nearest(self, queries: NDArray[np.float32], k: int, conditions: Sequence[Condition]) -> Matches:
        """Search the base and the delta, and merge."""
        with self._reading():
            schema, base, delta = self._known(), self._base, self._delta
            found = []
            if base is not None and len(base) > base.dead:
                report = self._manifest.report
                effort = report.effort if report else None
                squares, rows = base.nearest(queries, k, conditions, effort)
                if rows.shape[1] == k and len(delta) == delta.dead:
                    return Matches(base.ids_at(rows), squares)
                found.append((squares, base.ids_at(rows)))
            if len(delta) > delta.dead:
                squares, rows = delta.nearest(queries, k, conditions)
                found.append((squares, delta.ids_at(rows)))
            return _merged(found, len(queries), k, schema.ids)

    def fetch(self, ids: pyarrow.Array) -> Rows:
        """Gather rows of both parts."""
        with self._reading():
            schema, parts = self._known(), []
            if self._base is not None:
                rows = self._base.find(ids)
                parts.append(_taken(self._base.items, self._base.vectors, rows[rows >= 0]))
            if len(self._delta):
                rows = self._delta.find(ids.to_pylist())
                parts.append(_taken(self._delta.items(), self._delta.vectors, rows[rows >= 0]))
            return _joined(parts, schema)

    def ids(self) -> list[Any]:
        """Return the ids of the living rows."""
        with self._reading():
            found: list[Any] = []
            if self._base is not None:
                found += self._base.ids_at(np.flatnonzero(self._base.alive)).tolist()
            return found + self._delta.ids_at(np.flatnonzero(self._delta.alive)).tolist()

    def count(self) -> int:
        """Return how many rows live."""
        with self._reading():
            base = 0 if self._base is None else len(self._base) - self._base.dead
            return base + len(self._delta) - self._delta.dead

    def statistics(self) -> dict[str, Any]:
        """Return sizes, the base's kind and recall, and what waits."""
        with self._reading():
            base, manifest = self._base, self._manifest
            live = self.count()
            suggested = choose(live) if manifest.settings.factory == "auto" else manifest.settings.factory
            return {
                "place": str(self.folder),
                "built": manifest.built,
                "suggested": suggested if base is not None and suggested != manifest.built else None,
                "search": manifest.report.to_dict() if manifest.report else None,
                "in_base": 0 if base is None else len(base) - base.dead,
                "in_delta": len(self._delta) - self._delta.dead,
                "deleted": (0 if base is None else base.dead) + self._delta.dead,
                "bytes": sum(_size(entry) for entry in self.folder.iterdir()),
            }

    def save(self) -> None:
        """Take the delta into the base and write it, if there is anything to write."""
        with self._writing() as log:
            if log.size or self._unbuilt():
                self._fold()

    def compact(self, factory: str | None) -> None:
        """Check the files, then build the base anew."""
        with self._writing():
            if factory is not None:
                check_factory(factory, self.schema.dimension if self.schema else None)
            verify(self.folder, self._manifest)
            if factory is not None:
                self._manifest = replace(
                    self._manifest, settings=replace(self._manifest.settings, factory=factory)
                )
            if self.schema is not None:
                self._fold(anew=True)
            else:
                self._manifest.write(self.folder)

    def clear(self) -> None:
        """Begin again with an empty generation."""
        with self._writing() as log:
            log.close()
            self._manifest = Manifest(self.settings, generation=self._manifest.generation + 1)
            create_log(self.folder / self._manifest.log)
            self._manifest.write(self.folder)
            remove_leftovers(self.folder, self._manifest)
            self._load()

    def steady(self) -> AbstractContextManager[object]:
        """Let other threads wait; other processes change nothing that this one sees."""
        return self._guard

    def close(self) -> None:
        """Let go of the log and the lock."""
        with self._guard:
            if self._log is not None:
                self._log.close()
            if self._lock is not None:
                self._lock.close()
            self._log = self._lock = None
            self._broken = self._broken or "is closed; open it again"

    # Opening -----------------------------------------------------------------------------------------------------

    def _make(self, settings: Settings) -> None:
        """Take the lock; write a first manifest where there is none."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / MANIFEST).exists() and not is_unfinished(self.folder):
            raise ArgumentError(
                f"{self.folder} holds other files and no index; name a folder of its own, e.g. {self.folder / 'index'}."
            )
        self._lock = _locked(self.folder / LOCK)
        if not (self.folder / MANIFEST).exists():
            try:
                check_factory(settings.factory)
                create_log(self.folder / Manifest(settings).log)
                Manifest(settings).write(self.folder)
            except BaseException:
                self.close()
                raise

    def _open(self) -> None:
        for attempt in range(_ATTEMPTS):
            self._manifest = read_manifest(self.folder)
            try:
                self._load()
                break
            except FileNotFoundError as error:  # a writer has replaced the files since
                if attempt == _ATTEMPTS - 1 or self._lock is not None:
                    raise _missing(error) from error
                time.sleep(0.05)
        if self._lock is not None:
            remove_leftovers(self.folder, self._manifest)

    def _load(self) -> None:
        """Map the base and bring back what the log holds."""
        self._base = open_base(self.folder, self._manifest)
        self._delta = Delta(self.schema.dimension if self.schema else 1)
        path = self.folder / self._manifest.log
        end = 0
        for operation, items, vectors, end in read_log(path):  # noqa: B007 (the last end is used below)
            if operation == "delete":
                self._remove(items["id"].combine_chunks())
                continue
            rows = Rows(items, np.ascontiguousarray(vectors))
            if self.schema is None:
                self._decide(rows.schema())
            self._apply(rows)
        if self._lock is not None:
            if torn := path.stat().st_size - end:
                warnings.warn(
                    f"{path}: dropped {torn:,} bytes of a batch that was being written when its writer stopped; it"
                    " was never acknowledged.",
                    DataWarning,
                    stacklevel=5,
                )
            self._log = Log(path, end)

    # Changing ----------------------------------------------------------------------------------------------------

    def _decide(self, schema: Schema) -> None:
        """Keep to this schema from now on. The next manifest states it; till then the first record of the log does."""
        self._manifest = replace(self._manifest, schema=schema)
        self._delta = Delta(schema.dimension)

    def _apply(self, rows: Rows) -> None:
        self._remove(rows.items["id"].combine_chunks())
        self._delta.append(rows)

    def _remove(self, ids: pyarrow.Array) -> None:
        if self._base is not None:
            rows = self._base.find(ids)
            self._base.kill(rows[rows >= 0])
        if len(self._delta):
            rows = self._delta.find(ids.to_pylist())
            self._delta.kill(rows[rows >= 0])

    def _present(self, ids: pyarrow.Array) -> list[Any]:
        there = np.zeros(len(ids), bool)
        if self._base is not None:
            there |= self._base.find(ids) >= 0
        if len(self._delta):
            there |= self._delta.find(ids.to_pylist()) >= 0
        return ids.filter(pyarrow.array(there)).to_pylist() if there.any() else []

    def _refuse_known(self, ids: pyarrow.Array) -> None:
        if present := self._present(ids):
            raise DataError(
                f"ids must be new; {present[0]!r} is in the index already ({len(present)} of {len(ids)} are). Use"
                " upsert to replace them."
            )

    def _unbuilt(self) -> bool:
        """Return whether the base waits for enough vectors to train the factory that was asked for."""
        wanted = self.settings.factory
        return self._base is not None and wanted not in ("auto", self._manifest.built)

    def _fold(self, rows: Rows | None = None, *, anew: bool = False) -> None:
        """Bring delta and ``rows`` into the base and write it as the next generation."""
        try:
            parts = (
                [_living(self._delta.items(), self._delta.vectors, self._delta.alive)]
                if len(self._delta)
                else []
            )
            parts += [rows] if rows is not None else []
            base, built = self._rebuilt(parts, anew)
            assert self._log is not None
            assert self.schema is not None
            if base is None:  # nothing is left
                self._begin_again()
                return
            measure = partial(tune, base.index, base.vectors, self.settings.recall)
            self._manifest = write_base(self.folder, self._manifest, base, built, measure)
            self._log.close()
            self._log = Log(self.folder / self._manifest.log, 0)
            self._base, self._delta = open_base(self.folder, self._manifest), Delta(self.schema.dimension)
        except BaseException:
            self._broken = "could not be written; what was acknowledged is on the disk: open it again"
            raise

    def _begin_again(self) -> None:
        """Write an empty generation that keeps the schema."""
        assert self._log is not None
        assert self.schema is not None
        self._log.close()
        self._manifest = Manifest(self.settings, self.schema, self._manifest.generation + 1)
        create_log(self.folder / self._manifest.log)
        self._manifest.write(self.folder)
        remove_leftovers(self.folder, self._manifest)
        self._load()

    def _rebuilt(self, parts: list[Rows], anew: bool) -> tuple[Base | None, str]:
        base = self._base
        assert self.schema is not None
        if base is not None and not (anew or self._unbuilt() or base.dead > _DEAD_SHARE * len(base)):
            return self._grown(base.alive, parts), self._manifest.built or "Flat"
        if base is not None:
            parts = [_living(base.items, base.vectors, base.alive), *parts]
        rows = _joined(parts, self.schema)
        if len(rows) == 0:
            return None, ""
        index, built = build(rows.vectors, self.settings.factory)
        keys, key_rows = sorted_keys(rows.items["id"].combine_chunks())
        return Base(index, rows.vectors, rows.items, np.ones(len(rows), bool), keys, key_rows), built

    def _grown(self, alive: NDArray[np.bool_], parts: list[Rows]) -> Base:
        base = open_base(self.folder, self._manifest, mapped=False)  # a mapped file cannot be added to
        assert base is not None
        assert self.schema is not None
        new = _joined(parts, self.schema)
        vectors = None
        if flat_vectors(base.index) is None:
            vectors = np.concatenate([base.vectors, new.vectors])
        if len(new):
            base.index.add(new.vectors)
        items = pyarrow.concat_tables([base.items, new.items]).combine_chunks()
        keys, key_rows = sorted_keys(items["id"].combine_chunks())
        alive = np.concatenate([alive, np.ones(len(new), bool)])
        return Base(base.index, vectors, items, alive, keys, key_rows)

    # Guarding ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._guard:
            if self._broken:  # perhaps by the thread that this one waited for
                raise KyoriError(f"the index {self.folder} {self._broken}.")
            yield

    @contextmanager
    def _writing(self) -> Iterator[Log]:
        with self._reading():
            if self._log is None:
                raise KyoriError(
                    f"the index {self.folder} was opened with read_only=True; open it without to write."
                )
            yield self._log


def _locked(path: Path) -> BinaryIO:
    """Take the lock of the one writer; the system gives it back when the process ends, however it ends."""
    file = open(path, "a+b")  # noqa: SIM115 (open as long as the lock is held)
    try:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError as error:
        file.close()
        raise KyoriError(
            f"the index {path.parent} is open for writing already, here or in another process; close it there, or"
            " open it with read_only=True."
        ) from error
    return file


def _missing(error: FileNotFoundError) -> KyoriError:
    from ..errors import FileFormatError

    return FileFormatError(
        f"{error.filename} is missing; the index cannot be opened without it. Copy the folder again."
    )


def _size(path: Path) -> int:
    """Return the bytes of a file; 0 if the writer has removed it since it was listed."""
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _taken(items: pyarrow.Table, vectors: NDArray[np.float32], rows: NDArray[np.int64]) -> Rows:
    return Rows(items.take(pyarrow.array(rows)), np.ascontiguousarray(vectors[rows]))


def _living(items: pyarrow.Table, vectors: NDArray[np.float32], alive: NDArray[np.bool_]) -> Rows:
    if alive.all():
        return Rows(items, vectors)
    return _taken(items, vectors, np.flatnonzero(alive))


def _joined(parts: Sequence[Rows], schema: Schema) -> Rows:
    """Return one table of all parts; a single part as it is."""
    if not parts:
        kinds = {"bool": pyarrow.bool_(), "int": pyarrow.int64(), "float": pyarrow.float64()}
        fields = [("id", schema.ids), *schema.columns]
        empty = pyarrow.schema([(name, kinds.get(kind, pyarrow.large_string())) for name, kind in fields])
        return Rows(empty.empty_table(), np.zeros((0, schema.dimension), np.float32))
    if len(parts) == 1:
        return parts[0]
    items = pyarrow.concat_tables([part.items for part in parts]).combine_chunks()
    return Rows(items, np.concatenate([part.vectors for part in parts]))


def _merged(found: list[tuple[NDArray[np.float32], NDArray[Any]]], queries: int, k: int, ids: str) -> Matches:
    """Merge the answers of the parts, and pad."""
    padding = empty_matches(queries, k, ids)
    squares = np.concatenate([*(part[0] for part in found), padding.distances], axis=1)
    names = np.concatenate([*(part[1].astype(padding.ids.dtype) for part in found), padding.ids], axis=1)
    squares, names = ordered(squares, names, k)
    return Matches(names, squares)
