"""The numbers of a figure, to take along: CSV and JSON of exactly what was drawn."""

from __future__ import annotations

import base64
import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np

from ..errors import ArgumentError

__all__ = ["Data", "stem"]


@dataclass(frozen=True, eq=False)
class Data:
    """Columns of one length with their names.

    Numbers are written with seven significant digits, more than a drawing shows; what is not finite is an empty
    field in CSV and null in JSON.

    Attributes:
        name: Begin of the names of the files; any text, see :func:`stem`.
        columns: One-dimensional arrays or lists by name.

    Raises:
        ArgumentError: Columns of different lengths.

    >>> print(Data("roc", {"far": [0.0, 0.5], "method": ["a", "b"]}).csv(), end="")
    far,method
    0,a
    0.5,b
    """

    name: str
    columns: Mapping[str, Sequence[Any] | np.ndarray]

    def __post_init__(self) -> None:
        lengths = {name: len(values) for name, values in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ArgumentError(f"columns must have one length; got {lengths}.")

    def csv(self) -> str:
        """Return the columns as CSV with a header."""
        file = StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(zip(*([_text(v) for v in _list(c)] for c in self.columns.values()), strict=True))
        return file.getvalue()

    def json(self) -> dict[str, list[Any]]:
        """Return the columns as what ``json.dumps(..., allow_nan=False)`` takes."""
        return {name: [_rounded(value) for value in _list(values)] for name, values in self.columns.items()}

    def uri(self) -> str:
        """Return the CSV as a ``data:`` address, in which no text of a user can end an attribute."""
        coded = base64.b64encode(self.csv().encode("utf-8", "replace")).decode("ascii")
        return f"data:text/csv;charset=utf-8;base64,{coded}"

    def json_text(self, **facts: Any) -> str:
        """Return the columns and some facts about them as a JSON document."""
        return json.dumps({**facts, "columns": self.json()}, ensure_ascii=False, allow_nan=False, indent=1)


def stem(name: str) -> str:
    """Return a name as the begin of a file name: letters, digits, dots, hyphens, at most 60 of them.

    >>> stem("map of <b>a/b</b>"), stem("…")
    ('map-of-b-a-b-b', 'figure')
    """
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")[:60] or "figure"


def _list(values: Sequence[Any] | np.ndarray) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.7g}" if np.isfinite(value) else ""
    return str(value)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}") if np.isfinite(value) else None
    return value if isinstance(value, bool | int) or value is None else str(value)
