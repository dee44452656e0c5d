"""Measured values with their intervals, what they were measured on, and how."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ArgumentError, FileFormatError, nearest_name
from .files import write_atomic

__all__ = ["Result", "Results"]

_FORMAT = "kyori-results"


@dataclass(frozen=True, eq=False)
class Result:
    """One measure: its value and how sure it is.

    Attributes:
        measure: Name, e.g. ``"map@r"``.
        value: The measured value; NaN where there was nothing to measure (a warning said why).
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        per_query: ``(q,)`` float32, the values whose mean is ``value``, NaN where a query was skipped;
            None for a measure of the whole table (AUC, NMI).
        n: How many queries, pairs or items the value rests on.
        protocol: Whatever else one must know to repeat it: k, metric, skipped queries, resampled unit.
        influence: ``(q,)`` float32, what each item adds to ``value``, as a query and as an answer to the others: their
            mean is ``value``, and their variance over q (of their means by class, where classes are the unit) is that
            of ``value``, ``chance`` allowed for. None where queries are independent: a gallery of its own, listed
            pairs.
        chance: ``(q,)`` float32, what in ``influence`` is chance of single pairs of a query and an item, counted with
            both: the sum of its squares over q² is too much in that variance. None where it is nothing.
    """

    measure: str
    value: float
    low: float
    high: float
    per_query: NDArray[np.float32] | None = None
    n: int = 0
    protocol: dict[str, Any] = field(default_factory=dict)
    influence: NDArray[np.float32] | None = None
    chance: NDArray[np.float32] | None = None

    def __str__(self) -> str:
        return f"{self.measure} {self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


class _UnknownMeasureError(ArgumentError, KeyError):
    """A KeyError, so that Results is a true Mapping, which prints its message and not the repr of it."""

    __str__ = Exception.__str__


class Results(Mapping[str, Result]):
    """Results by the names of their measures, in the order in which they were asked for.

    Args:
        results: The measured values.
        curves: Arrays for figures by name. ``"roc"`` holds far, tar, threshold, each ``(t,)``;
            ``"histogram"`` holds edges ``(bins + 1,)`` and the densities same and different, ``(bins,)``.
        provenance: Where the numbers come from: version, metric, seed, number of items and classes.

    >>> results = Results([Result("recall@1", 0.5, 0.4, 0.6, n=100)])
    >>> results["recall@1"].value
    0.5
    >>> print(results)
    measure    value   95 % interval         n
    recall@1  0.5000  0.4000 – 0.6000      100
    >>> results["recal@1"]
    Traceback (most recent call last):
    kyori.results._UnknownMeasureError: results hold no measure 'recal@1'; did you mean 'recall@1'?
    """

    def __init__(
        self,
        results: Iterable[Result],
        *,
        curves: Mapping[str, Mapping[str, NDArray[Any]]] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ):
        self._results = {result.measure: result for result in results}
        self.curves = {name: dict(arrays) for name, arrays in (curves or {}).items()}
        self.provenance = dict(provenance or {})

    def __getitem__(self, measure: str) -> Result:
        try:
            return self._results[measure]
        except KeyError:
            raise _UnknownMeasureError(
                f"results hold no measure {measure!r}{nearest_name(str(measure), self._results)}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def table(self) -> list[dict[str, str | float | int]]:
        """Return one row a measure with the columns measure, value, low, high, n."""
        return [
            {"measure": r.measure, "value": r.value, "low": r.low, "high": r.high, "n": r.n}
            for r in self.values()
        ]

    def __str__(self) -> str:
        width = max((len(name) for name in self), default=7)
        head = f"{'measure':<{width}}   value   95 % interval         n"
        rows = [
            f"{r.measure:<{width}}  {r.value:6.4f}  {r.low:6.4f} – {r.high:6.4f}  {r.n:7d}"
            for r in self.values()
        ]
        return "\n".join([head, *rows])

    __repr__ = __str__

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return everything as JSON text (NaN as null) and, given a path, write it there atomically."""
        text = json.dumps(
            {
                "format": _FORMAT,
                "version": 1,
                "provenance": self.provenance,
                "results": [_result_to_dict(result) for result in self.values()],
                "curves": {
                    curve: {name: _to_list(array) for name, array in arrays.items()}
                    for curve, arrays in self.curves.items()
                },
            },
            allow_nan=False,
            ensure_ascii=False,
        )
        if path is not None:
            write_atomic(path, lambda file: file.write(text.encode()))
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> "Results":
        """Read what :meth:`to_json` wrote: a path, or the text itself (which starts with a brace).

        Raises:
            FileNotFoundError: There is no such file.
            FileFormatError: The text is damaged or is something else.
        """
        is_text = isinstance(source, str) and source.lstrip().startswith("{")
        where = "the text" if is_text else str(source)
        try:
            text = source if is_text else Path(source).read_text("utf-8")
            data = json.loads(str(text))
            if data["format"] != _FORMAT or data["version"] != 1:
                raise ValueError(f"expected {_FORMAT} version 1, got {data['format']} {data['version']}")
            return cls(
                [_result_from_dict(result) for result in data["results"]],
                curves={
                    curve: {name: np.array(values, np.float64) for name, values in arrays.items()}
                    for curve, arrays in data["curves"].items()
                },
                provenance=data["provenance"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileFormatError(
                f"{where} is damaged or does not hold results of Kyori: {error!r}"
            ) from error


def _result_to_dict(result: Result) -> dict[str, Any]:
    return {
        "measure": result.measure,
        "value": _number(result.value),
        "low": _number(result.low),
        "high": _number(result.high),
        "n": result.n,
        "protocol": {k: _number(v) if isinstance(v, float) else v for k, v in result.protocol.items()},
        "per_query": None if result.per_query is None else _to_list(result.per_query),
        "influence": None if result.influence is None else _to_list(result.influence),
        "chance": None if result.chance is None else _to_list(result.chance),
    }


def _result_from_dict(data: dict[str, Any]) -> Result:
    per_query = data["per_query"]
    influence, chance = data.get("influence"), data.get("chance")  # files of before have none
    return Result(
        measure=str(data["measure"]),
        value=_float(data["value"]),
        low=_float(data["low"]),
        high=_float(data["high"]),
        per_query=None if per_query is None else np.array(per_query, np.float32),  # None becomes NaN
        n=int(data["n"]),
        protocol=dict(data["protocol"]),
        influence=None if influence is None else np.array(influence, np.float32),
        chance=None if chance is None else np.array(chance, np.float32),
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _to_list(array: NDArray[Any]) -> list[float | None]:
    if array.dtype == np.float32:  # the shortest decimals that read back as the same float32
        return [None if math.isnan(value) else float(str(value)) for value in array]
    return [_number(value) for value in array.tolist()]
