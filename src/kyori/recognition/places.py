"""Where a run keeps what recognition needs beside the model: the note of its index, and its model's mark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, FileFormatError
from ..files import write_atomic

__all__ = ["INDEX_NOTE", "find_note", "index_place", "is_folder", "model_mark", "read_note", "write_note"]

#: What `kyori index` leaves in the run folder, so that the others know where to look.
INDEX_NOTE = "index.json"


def model_mark(run: Path) -> str:
    """Return what tells one trained model from another: the checksum of its weights.

    Raises:
        FileFormatError: ``model.json`` is missing or damaged.
    """
    try:
        return str(json.loads((run / "model.json").read_text(encoding="utf-8"))["weights"]["crc32"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(f"{run / 'model.json'} is missing or damaged: {error!r}") from error


def write_note(run: Path, facts: dict[str, Any]) -> None:
    """Keep where the run's index is and what it was made of."""
    text = json.dumps(facts, indent=2, ensure_ascii=False)
    write_atomic(run / INDEX_NOTE, lambda file: file.write(text.encode()))


def find_note(run: Path) -> dict[str, Any]:
    """Return where the run's index is, or nothing where it has none."""
    if not (run / INDEX_NOTE).exists():
        return {}
    try:
        return dict(json.loads((run / INDEX_NOTE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise FileFormatError(f"{run / INDEX_NOTE} is damaged: {error!r}. Run kyori index again.") from error


def read_note(run: Path) -> dict[str, Any]:
    """Return where the run's index is and what it was made of.

    Raises:
        ArgumentError: `kyori index` was not run yet.
        FileFormatError: The note is damaged.
    """
    facts = find_note(run)
    if not facts:
        raise ArgumentError(f"{run} has no index yet; make one with: kyori index {run} DATA")
    return facts


def index_place(run: Path) -> str:
    """Return the URL of the run's index.

    Raises:
        ArgumentError: There is none yet, or its password is not kept in the run.
        FileFormatError: The note is damaged.
    """
    try:
        place = str(read_note(run)["url"])
    except KeyError as error:
        raise FileFormatError(
            f"{run / INDEX_NOTE} is damaged: it lacks {error}. Run kyori index again."
        ) from error
    if ":***@" in place:
        raise ArgumentError(
            f"the password of {place} is not kept in the run; give the whole address with --url."
        )
    return place


def is_folder(place: str) -> bool:
    """Return whether an index's URL is a folder, which readers open without its lock."""
    return Path(place.removeprefix("faiss:")).is_dir()
