"""A folder of class folders, or of train/, validation/, test/ folders of them."""

import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import DataError, DataWarning, ItemError
from .images import SUFFIXES
from .pictures import open_files, some
from .sources import SPLIT_ALIASES, Opening, Source

__all__ = ["open_folder"]

# Left behind by operating systems; names that start with a dot are hidden, too.
LITTER = ("Thumbs.db", "desktop.ini", "__MACOSX")
KNOWN = ", ".join(suffix[1:] for suffix in SUFFIXES)


@dataclass
class Listing:
    """What was found under a folder, in alphabetical order."""

    paths: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[ItemError] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)


def open_folder(root: Path, opening: Opening) -> Source:
    """Open `root`: each folder in it is a class, its pictures (at any depth) are the items.

    A folder of pictures without any folder in it is a source without labels.

    Ids are paths relative to `root` with forward slashes. When folders in `root` are named like splits (train,
    training, val, valid, validation, test, testing) and hold folders, these are the classes, unless there are pictures
    in other folders too.

    Raises:
        DataError: The folder is empty, or has no class folders, or no pictures in them.
        ItemError: With ``bad_items="error"``, the first picture that cannot be read.
    """
    listing = Listing()
    folders, loose = _entries(root)
    given = _split_folders(root, folders, listing)
    flat = [path for path in loose if path.lower().endswith(SUFFIXES)] if not folders else []
    listing.paths.extend(flat)
    for path in loose:
        if not flat:
            listing.skipped.append((path, "not in a class folder"))
        elif not path.lower().endswith(SUFFIXES):
            listing.skipped.append((path, f"not a picture ({KNOWN})"))
    if given:
        for split, folder in given:
            _list_classes(folder, listing, split)
    else:
        for folder in folders:
            _list_class(folder, listing, "")
    _check(root, listing, folders, loose)
    if opening.bad_items == "error" and listing.unreadable:
        raise listing.unreadable[0]
    source = open_files(
        listing.paths,
        None if flat else listing.labels,
        np.array([_relative(path, root) for path in listing.paths]),
        {"split": np.array(listing.splits)} if given else {},
        opening,
        skipped=[*listing.skipped, *((error.item, error.reason) for error in listing.unreadable)],
        name=str(root),
    )
    if listing.empty:
        listed = some([_relative(folder, root) for folder in listing.empty])
        warnings.warn(
            f"{root}: folders without any picture: {listed} ({len(listing.empty)} in all).",
            DataWarning,
            stacklevel=2,
        )
    return source


def _relative(path: str, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _split_folders(root: Path, folders: list[str], listing: Listing) -> list[tuple[str, str]]:
    """(split, folder) pairs of the folders that are named like a split and hold folders; none where others are classes.

    Other folders without a picture, such as those of runs, are noted in `listing`.
    """
    named = [(SPLIT_ALIASES.get(os.path.basename(folder).lower(), ""), folder) for folder in folders]
    given = sorted((split, folder) for split, folder in named if split and _holds_folders(folder))
    others = sorted(set(folders) - {folder for _, folder in given})
    if not given or not others:
        return given
    beside = Listing()
    for folder in others:
        _list_class(folder, beside, "")
    if not beside.paths:
        listing.empty.extend(others)
        listing.unreadable.extend(beside.unreadable)
        return given
    parts = [os.path.basename(folder) for split, folder in named if split]
    if len(parts) > 1:
        warnings.warn(
            f"{root}: {some(parts)} are read as classes and not as parts, because of the pictures in"
            f" {some(sorted(set(beside.labels)))}. Move them away to have parts.",
            DataWarning,
            stacklevel=3,
        )
    return []


def _holds_folders(folder: str) -> bool:
    try:
        return bool(_entries(folder)[0])
    except OSError:  # its turn to be reported comes where it is read
        return False


def _list_classes(folder: str, listing: Listing, split: str) -> None:
    folders, loose = _entries(folder)
    listing.skipped.extend((path, "not in a class folder") for path in loose)
    for each in folders:
        _list_class(each, listing, split)


def _list_class(folder: str, listing: Listing, split: str) -> None:
    """Add the pictures under a class folder, following symbolic links but never in a circle."""
    before = len(listing.paths)
    visited: set[str] = set()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        real = os.path.realpath(current)
        if real in visited:
            listing.skipped.append((current, "symbolic link to a folder that was read already"))
            continue
        visited.add(real)
        try:
            folders, files = _entries(current)
        except OSError as error:
            listing.unreadable.append(ItemError(current, f"folder that cannot be read ({error.strerror})"))
            continue
        waiting.extend(reversed(folders))
        for path in files:
            if path.lower().endswith(SUFFIXES):
                listing.paths.append(path)
            else:
                listing.skipped.append((path, f"not a picture ({KNOWN})"))
    added = len(listing.paths) - before
    listing.labels.extend([os.path.basename(folder)] * added)
    listing.splits.extend([split] * added)
    if added == 0:
        listing.empty.append(folder)


def _entries(folder: str | Path) -> tuple[list[str], list[str]]:
    """Folders and files in a folder, sorted, without hidden ones and what operating systems leave behind."""
    with os.scandir(folder) as entries:
        visible = sorted(
            (entry for entry in entries if not entry.name.startswith(".") and entry.name not in LITTER),
            key=lambda entry: entry.name,
        )
    # a link that points to itself is no folder, and as a file it gets its reason when it is read
    return [one.path for one in visible if one.is_dir()], [one.path for one in visible if not one.is_dir()]


def _check(root: Path, listing: Listing, folders: list[str], loose: list[str]) -> None:
    if listing.paths:
        return
    if not folders and not loose:
        raise DataError(f"{root}: the folder is empty; expected {root}/<class>/<picture>.")
    if not folders:
        raise DataError(
            f"{root} holds neither pictures ({KNOWN}) nor class folders; expected {root}/<class>/<picture>, "
            "pictures without labels, or a CSV manifest with the columns path and label."
        )
    detail = (
        f"; the first file is {listing.skipped[0][0]}, {listing.skipped[0][1]}" if listing.skipped else ""
    )
    raise DataError(
        f"{root}: no pictures ({KNOWN}) in its {len(folders)} folders "
        f"({some([os.path.basename(folder) for folder in folders])}){detail}."
    )
