"""A column of a table as colours on a map: classes in the order of the legend, or numbers on a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..report.sections import class_name
from ..vectors import VectorTable

__all__ = ["NO_CLASS", "Classes", "Numbers", "column_names", "read_column"]

NO_CLASS = np.uint32(2**32 - 1)  # the code of an item whose value is missing
_DISTINCT = 20  # classes whose colours differ; up to here they stand in their own order
_MOST = 1000  # different whole numbers up to which each is a class; beyond they are a scale
_TAILS = (
    1.0,
    99.0,
)  # percentiles between which the colours of numbers run, so that one outlier takes no scale


@dataclass(frozen=True, eq=False)
class Classes:
    """A column of classes.

    Attributes:
        names: The classes in the order of the legend: their own, or the largest first where there are more than 20.
        counts: Items of each.
        codes: ``(n,)`` uint32 positions in ``names``.
    """

    names: list[str]
    counts: list[int]
    codes: NDArray[np.uint32]

    def legend(self) -> dict[str, Any]:
        """Return what the page shows beside the map, ready for JSON."""
        return {"kind": "classes", "names": self.names, "counts": self.counts}

    def data(self) -> bytes:
        """Return the codes as little-endian uint32."""
        return self.codes.astype("<u4").tobytes()


@dataclass(frozen=True, eq=False)
class Numbers:
    """A column of numbers.

    Attributes:
        values: ``(n,)`` float32; not finite where there is none.
        low: The number of the first colour: the 1st percentile.
        high: The number of the last colour: the 99th percentile.
    """

    values: NDArray[np.float32]
    low: float
    high: float

    def legend(self) -> dict[str, Any]:
        """Return what the page shows beside the map, ready for JSON."""
        missing = int((~np.isfinite(self.values)).sum())
        return {"kind": "numbers", "low": self.low, "high": self.high, "missing": missing}

    def data(self) -> bytes:
        """Return the numbers as little-endian float32."""
        return self.values.astype("<f4").tobytes()


def column_names(table: VectorTable) -> list[str]:
    """Return the columns that items can be coloured by, the label first where there are labels."""
    return [*(["label"] if table.labels is not None else []), *table.columns]


def read_column(table: VectorTable, name: str) -> Classes | Numbers:
    """Return a column of :func:`column_names` as classes or numbers.

    Strings, truth values and whole numbers of at most 1,000 different values are classes, other numbers a scale.
    """
    if name == "label" and table.labels is not None:
        return _labels(table)
    values = table.columns[name]
    if values.dtype.kind == "f":
        return _numbers(values)
    present, codes = np.unique(values, return_inverse=True)
    if values.dtype.kind in "iu" and len(present) > _MOST:
        return _numbers(values)
    return _classes([str(value) for value in present.tolist()], codes)


def _labels(table: VectorTable) -> Classes:
    assert table.labels is not None
    present, codes = np.unique(table.labels, return_inverse=True)
    names = [class_name(table, code) for code in present.tolist()]
    return _classes(names, codes)


def _classes(names: list[str], codes: NDArray[Any]) -> Classes:
    counts = np.bincount(codes, minlength=len(names))
    order = np.arange(len(names)) if len(names) <= _DISTINCT else np.argsort(-counts, kind="stable")
    place = np.empty(len(names), np.uint32)
    place[order] = np.arange(len(names))
    return Classes([names[i] for i in order], counts[order].tolist(), place[codes])


def _numbers(values: NDArray[Any]) -> Numbers:
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32)
    finite = numbers[np.isfinite(numbers)]
    low, high = np.percentile(finite, _TAILS) if len(finite) else (0.0, 0.0)
    return Numbers(numbers, float(low), float(high))
