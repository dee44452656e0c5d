"""The items that a pairs file names: which they are, their vectors, and which of them were trained on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Source
from ..errors import DataError
from ..runs import trained_items
from .pairs import PairFile
from .recogniser import Recogniser

__all__ = ["Listed", "resolve_pairs"]

_PICTURES = ("", ".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(frozen=True, eq=False)
class Listed:
    """The items of a pairs file.

    Attributes:
        names: ``(n,)`` as the file writes them.
        vectors: ``(n, d)``.
        rows: ``(m, 2)`` which items make each pair.
        trained: ``(n,)`` whether the run was trained on each; None where that cannot be known.
    """

    names: Sequence[str]
    vectors: NDArray[np.float32]
    rows: NDArray[np.int64]
    trained: NDArray[np.bool_] | None


def resolve_pairs(
    pairs: PairFile,
    recogniser: Recogniser,
    *,
    source: Source | None = None,
    root: str | os.PathLike[str] | None = None,
    run: str | Path | None = None,
) -> Listed:
    """Find and embed the items that a pairs file names.

    A name is the id of an item of ``source``, a file (below ``root``, else beside the pairs file, else from the working
    directory), or the id of an item of the index, whichever is found first.

    Args:
        pairs: The file.
        recogniser: Embeds the items.
        source: Data whose ids the file uses; all of them, not a part.
        root: Folder that paths are relative to.
        run: The run folder, to know which items of ``source`` were trained on.

    Raises:
        DataError: A name is none of these.
        ItemError: A file cannot be read.
    """
    names = list(dict.fromkeys([*pairs.first, *pairs.second]))
    place = {name: i for i, name in enumerate(names)}
    rows = np.array([[place[a], place[b]] for a, b in zip(pairs.first, pairs.second, strict=True)], np.int64)
    found: dict[str, NDArray[np.float32]] = {}
    trained = np.zeros(len(names), np.bool_)
    mask = trained_items(run, source) if source is not None and run is not None else None
    if source is not None:
        positions = _in_source(names, source)
        wanted = sorted(set(positions.values()))
        vectors = dict(zip(wanted, recogniser.embed(source.take(wanted)) if wanted else [], strict=True))
        found |= {name: vectors[position] for name, position in positions.items()}
        if mask is not None:
            for name, position in positions.items():
                trained[place[name]] = mask[position]
    folders = [Path(root)] if root is not None else [pairs.path.parent, Path()]
    files = {
        name: path
        for name in names
        if recogniser.takes != "text" and name not in found and (path := _file(name, folders))
    }
    if files:
        found |= dict(zip(files, recogniser.embed([str(path) for path in files.values()]), strict=True))
    rest = [name for name in names if name not in found]
    if rest:
        found |= _in_index(rest, recogniser)
    texts = [name for name in rest if name not in found] if recogniser.takes == "text" else []
    if texts:
        found |= dict(zip(texts, recogniser.embed(texts), strict=True))
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(
            f"{pairs.path}: {missing[0]!r} is neither a file{_where(root)} nor the id of an item of"
            f" {'--data or ' if source is not None else ''}the index ({len(missing)} of {len(names)} items are not"
            f" found).{'' if source is not None else ' Give the data that its ids belong to with --data.'}"
        )
    return Listed(
        names, np.stack([found[name] for name in names]), rows, trained if mask is not None else None
    )


def _where(root: str | os.PathLike[str] | None) -> str:
    return f" below {root}" if root is not None else " beside the pairs file"


def _in_source(names: Sequence[str], source: Source) -> dict[str, int]:
    """Return the position of each name that is an id of the source, or the path of one of its files."""
    position = {str(id_): i for i, id_ in enumerate(source.ids.tolist())}
    base = Path(source.name)
    folder = base if base.is_dir() else base.parent
    full = {os.path.abspath(folder / id_): i for id_, i in position.items()} if base.exists() else {}
    found = {}
    for name in names:
        at = position.get(name, full.get(os.path.abspath(name)))
        if at is not None:
            found[name] = at
    return found


def _file(name: str, folders: Sequence[Path]) -> Path | None:
    for folder in folders:
        for suffix in _PICTURES:
            path = folder / f"{name}{suffix}"
            if path.is_file():
                return path
    return None


def _in_index(names: Sequence[str], recogniser: Recogniser) -> dict[str, Any]:
    if not recogniser.has_index or len(recogniser.index) == 0:
        return {}
    kind = recogniser.index.statistics().get("ids")
    known = set(recogniser.index.ids().tolist())
    ids = {name: int(name) if kind == "int" and name.lstrip("-").isdigit() else name for name in names}
    there = [name for name in names if ids[name] in known]
    if not there:
        return {}
    return dict(zip(there, recogniser.stored([ids[name] for name in there]), strict=True))
