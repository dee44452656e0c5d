"""From a URL to an index."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..errors import ArgumentError, nearest_name
from .base import Index
from .servers import redacted
from .store import Metric, Settings, Store

__all__ = ["open_index"]

_SCHEMES = ("faiss", "postgresql", "postgres", "milvus", "http", "https")
_NAME = "kyori_index"


def open_index(
    url: str | os.PathLike[str],
    *,
    metric: Metric | None = None,
    factory: str | None = None,
    recall: float | None = None,
    create: bool = True,
    read_only: bool = False,
) -> Index:
    """Open an index of vectors, or make one.

    | url | where the vectors lie |
    |---|---|
    | ``runs/photos/index``, ``faiss:PATH`` | a folder, searched by FAISS in this process |
    | ``postgresql://user@host/database#name`` | a table of PostgreSQL with pgvector |
    | ``milvus:FILE.db#name`` | Milvus Lite, a file |
    | ``http://host:19530#name`` | a Milvus server or cluster; ``http://user:password@host`` where it asks for one |

    Args:
        url: As above; ``#name`` names the table or collection, ``kyori_index`` if left out.
        metric: ``"euclidean"`` or ``"cosine"``; as the index was made if left out, euclidean for a new one.
        factory: A FAISS factory string like ``"Flat"``, ``"HNSW32"``, ``"IVF4096,Flat"`` (servers build these three
            kinds), or ``"auto"``, the default: exact below 100,000 vectors, HNSW32 below 2 million, then IVF, decided
            when an index is built or compacted.
        recall: The share of the true first 10 neighbours that approximate search must find; 0.95 for a new index. An
            index in a folder searches as wide as that takes.
        create: Make an index where there is none; False makes that an error.
        read_only: Open a folder without taking its lock, as it is now; for many readers beside one writer.

    Raises:
        ArgumentError: The URL or a setting is wrong, or differs from what the index was made with, or there is none.
        KyoriError: The server cannot be reached, or another process writes to the folder.
        FileFormatError: A file of the index is damaged.
        MissingExtraError: The package for this kind of URL is not installed.
    """
    if metric not in (None, "euclidean", "cosine"):
        raise ArgumentError(f"metric must be 'euclidean' or 'cosine'; got {metric!r}.")
    if recall is not None and not 0 < recall <= 1:
        raise ArgumentError(f"recall must lie in (0, 1]; got {recall}.")
    given = {"metric": metric, "factory": factory, "recall": recall}
    insist = tuple(name for name, value in given.items() if value is not None)
    settings = Settings(
        metric or "euclidean", "auto" if factory is None else factory, 0.95 if recall is None else recall
    )
    return Index(
        _store(os.fspath(url), settings, insist, create=create and not read_only, read_only=read_only)
    )


def _store(url: str, settings: Settings, insist: tuple[str, ...], *, create: bool, read_only: bool) -> Store:
    scheme = _scheme(url)
    if scheme in ("", "faiss"):
        return _folder(Path(url.removeprefix("faiss:")), settings, insist, create=create, read_only=read_only)
    if read_only:
        raise ArgumentError(
            f"read_only is for indexes in folders; give a user of {scheme} the right to read instead."
        )
    address, _, name = url.partition("#")
    name = _checked_name(name or _NAME)
    if scheme in ("postgresql", "postgres"):
        from .postgres import PostgresStore

        return PostgresStore(address, name, settings, insist, create=create)
    from .milvus import MilvusStore

    return MilvusStore(address.removeprefix("milvus:"), name, settings, insist, create=create)


def _scheme(url: str) -> str:
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", url)  # two letters at least: C:\ is a path
    if not found or os.path.exists(url):
        return ""
    if found[1] not in _SCHEMES:
        raise ArgumentError(f"the URL of an index begins with one of {', '.join(_SCHEMES)}, or is a folder; got"
                            f" {redacted(url)!r}{nearest_name(found[1], _SCHEMES)}")  # fmt: skip
    return found[1]


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,50}", name):
        raise ArgumentError(
            f"the name after # must be of letters, digits and _, 51 at most, not a digit first; got {name!r}."
        )
    return name


def _folder(
    path: Path, settings: Settings, insist: tuple[str, ...], *, create: bool, read_only: bool
) -> Store:
    from .folder import FolderStore
    from .snapshot import MANIFEST

    if path.exists() and not path.is_dir():
        raise ArgumentError(f"{path} is a file; an index lies in a folder.")
    if not create and not (path / MANIFEST).is_file():
        raise ArgumentError(
            f"{path} holds no index. Make one with kyori index RUN DATA, or open_index(path)."
        )
    return FolderStore(path, settings, read_only=read_only, insist=insist)
