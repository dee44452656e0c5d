"""Pairs of items: listed in a file, or all pairs of labelled vectors."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..distances import Distance, row_distance
from ..errors import ArgumentError, DataError, FileFormatError
from ..vectors import VectorTable
from .identities import labels_of

__all__ = ["PairFile", "is_pairs_file", "pair_distances", "pairs_of", "read_pairs"]

_TRUE, _FALSE = ("1", "true", "yes", "same"), ("0", "-1", "false", "no", "different")
_SUFFIXES = (".csv", ".tsv", ".txt")
_HEADS = (
    "a",
    "b",
    "path",
    "id",
    "left",
    "right",
    "first",
    "second",
    "image",
    "item",
    "file",
    "img",
    "anchor",
    "other",
)
_MANIFESTS = ({"path", "label"}, {"text", "label"}, {"anchor", "positive"})  # what labelled data look like
_BLOCK = 65_536


@dataclass(frozen=True, eq=False)
class PairFile:
    """Pairs as a file lists them.

    Attributes:
        first: Paths or ids, one a pair.
        second: The same of the other item.
        same: ``(m,)`` bools, or None where the file does not say.
        path: The file.
    """

    first: Sequence[str]
    second: Sequence[str]
    same: NDArray[np.bool_] | None
    path: Path

    def __len__(self) -> int:
        return len(self.first)


def is_pairs_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a file lists pairs: ``.txt``, or a ``.csv`` or ``.tsv`` without the columns of a manifest."""
    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES or not path.is_file():
        return False
    if path.suffix.lower() == ".txt":
        return True
    rows = _rows(path, 1)
    head = {cell.strip() for cell in rows[0]} if rows else set()
    return not any(head >= columns for columns in _MANIFESTS)


def read_pairs(path: str | os.PathLike[str], *, labelled: bool | None = None) -> PairFile:
    """Read pairs from a text file.

    Columns are separated by commas, tabs, semicolons or spaces: two paths or ids, and whether they are the same (1/0,
    true/false, yes/no, same/different) behind or, as VoxCeleb has it, before them. A header line is optional. The
    ``pairs.txt`` of Labeled Faces in the Wild is read as such: ``name n m`` and ``name n other m`` become
    ``name/name_000n.jpg`` ….

    Args:
        path: The file.
        labelled: True: each pair must say whether it is the same; None: as the file has it.

    Raises:
        FileNotFoundError: There is no such file.
        FileFormatError: A line is not a pair.
    """
    path = Path(path)
    rows = _rows(path)
    if not rows:
        raise FileFormatError(f"{path} lists no pairs; expected a line for each: item, item, 1 or 0.")
    if (
        len(rows) > 1
        and len(rows[0]) <= 2
        and all(cell.isdecimal() for cell in rows[0])
        and len(rows[1]) in (3, 4)
    ):
        return _lfw(path, rows[1:])
    width = len(rows[0])
    if width not in (2, 3):
        raise FileFormatError(f"{path}, line 1: expected item, item and 1 or 0; got {width} columns.")
    if _is_header(rows[0]):
        rows = rows[1:]
    for number, row in enumerate(rows, 1):
        if len(row) != width or not all(row):
            raise FileFormatError(f"{path}, pair {number}: expected {width} values as in line 1; got {row}.")
    if not rows:
        raise FileFormatError(f"{path} has a header and no pairs below it.")
    if width == 2:
        if labelled:
            raise FileFormatError(
                f"{path} does not say which pairs are the same; a third column with 1 or 0 is needed."
            )
        return PairFile([row[0] for row in rows], [row[1] for row in rows], None, path)
    answers = _TRUE + _FALSE
    place = (
        0
        if all(r[0].lower() in answers for r in rows) and any(r[2].lower() not in answers for r in rows)
        else 2
    )
    a, b = (1, 2) if place == 0 else (0, 1)
    same = np.array([_answer(path, number, row[place]) for number, row in enumerate(rows, 1)])
    return PairFile([row[a] for row in rows], [row[b] for row in rows], same, path)


def pairs_of(
    table: VectorTable, *, limit: int = 500_000, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return pairs of rows ``(m, 2)`` of a labelled table and whether they are the same ``(m,)``.

    All pairs if they are at most ``limit``, else a sample of about that many, drawn evenly without replacement, so that
    same pairs stay as frequent as they are.

    Raises:
        ArgumentError: ``limit`` is below 1.
        DataError: No labels, or fewer than 2 items.
    """
    if limit < 1:
        raise ArgumentError(f"limit must be at least 1 pair; got {limit}.")
    labels, n = labels_of(table), len(table)
    if n < 2:
        raise DataError(f"pairs need at least 2 items; got {n}.")
    total = n * (n - 1) // 2
    if total <= limit:
        rows = np.stack(np.triu_indices(n, 1), axis=1)
    else:
        drawn = np.random.default_rng(seed).integers(0, n, (limit + limit // 8 + n, 2))
        drawn.sort(axis=1)
        codes = np.unique((drawn[:, 0] * n + drawn[:, 1])[drawn[:, 0] < drawn[:, 1]])
        if len(codes) > limit:
            codes = np.sort(np.random.default_rng(seed + 1).permutation(codes)[:limit])
        rows = np.stack([codes // n, codes % n], axis=1)
    codes = np.unique(labels.astype(str), return_inverse=True)[1]
    return rows, codes[rows[:, 0]] == codes[rows[:, 1]]


def pair_distances(
    vectors: NDArray[np.float32], rows: NDArray[np.int64], metric: Distance
) -> NDArray[np.float32]:
    """Return the distance ``(m,)`` of each pair of rows ``(m, 2)``, computed as :meth:`Recogniser.verify` does."""
    found = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _BLOCK):
        part = rows[start : start + _BLOCK]
        a, b = (torch.from_numpy(vectors[part[:, side]].astype(np.float64)) for side in (0, 1))
        found[start : start + len(part)] = row_distance(a, b, metric).clamp_(min=0).float().numpy()
    return found


def _rows(path: Path, most: int | None = None) -> list[list[str]]:
    """Return the stripped cells of each line that is not empty."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = [line for line in file if line.strip()] if most is None else _first_lines(file, most)
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is no text file: {error}") from error
    if not lines:
        return []
    mark = next((one for one in ("\t", ",", ";") if one in lines[-1]), None)
    if mark is None:
        return [line.split() for line in lines]
    try:
        return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=mark)]
    except csv.Error as error:
        raise FileFormatError(f"{path} cannot be read as a table: {error}") from error


def _first_lines(file: object, most: int) -> list[str]:
    found: list[str] = []
    for line in file:  # type: ignore[attr-defined]
        if line.strip():
            found.append(line)
        if len(found) == most:
            break
    return found


def _is_header(row: Sequence[str]) -> bool:
    """Whether a line names columns: two of them as people call items, or an answer that is none."""
    named = [
        cell.lower().rstrip("0123456789_-ab ") in ("", *_HEADS) and not cell.isdecimal() for cell in row[:2]
    ]
    if len(row) == 2:
        return all(named)
    if row[2].lower() in _TRUE + _FALSE:
        return row[2].lower() == "same" and all(named)
    return row[0].lower() not in _TRUE + _FALSE


def _answer(path: Path, number: int, text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise FileFormatError(f"{path}, pair {number}: same must be 1 or 0 (true or false); got {text!r}.")
    return text.lower() in _TRUE


def _lfw(path: Path, rows: Sequence[Sequence[str]]) -> PairFile:
    first, second, same = [], [], []
    for number, row in enumerate(rows, 1):
        if len(row) == 3 and row[1].isdecimal() and row[2].isdecimal():
            name, n, other, m = row[0], row[1], row[0], row[2]
        elif len(row) == 4 and row[1].isdecimal() and row[3].isdecimal():
            name, n, other, m = row
        else:
            raise FileFormatError(f"{path}, pair {number}: expected name n m or name n other m; got {row}.")
        first.append(f"{name}/{name}_{int(n):04d}.jpg")
        second.append(f"{other}/{other}_{int(m):04d}.jpg")
        same.append(len(row) == 3)
    return PairFile(first, second, np.array(same), path)
