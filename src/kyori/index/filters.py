"""Filters on columns: a small form that every store can run, checked before any store sees it.

```
{"label": "cat"}                          label is cat
{"label": ["cat", "dog"]}                 label is one of these
{"price": ("<", 3)}                       price is below 3
{"price": [(">=", 1), ("<", 3)]}          both hold
{"label": ("not in", ["cat"]), "ok": True}   all columns' conditions hold
```
Operators: ``== != < <= > >= in "not in"``. A filter is data: no store ever pastes a value or a name into a query.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, nearest_name
from .schema import Kind, Schema

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Condition", "mask", "parse"]

_ORDER = ("<", "<=", ">", ">=")
_OPERATORS = ("==", "!=", *_ORDER, "in", "not in")
_ARROW = {
    "==": "equal", "!=": "not_equal", "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal",
}  # fmt: skip
_ACCEPTS: dict[Kind, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "str": (str,),
}


@dataclass(frozen=True)
class Condition:
    """One comparison: ``column operator values``; a single value unless the operator is in or not in."""

    column: str
    operator: str
    values: tuple[Any, ...]


def parse(where: Mapping[str, Any] | None, schema: Schema) -> tuple[Condition, ...]:
    """Check a filter against the columns of an index.

    Args:
        where: The form above; None for no filter.
        schema: What the index holds.

    Raises:
        ArgumentError: A column or an operator is unknown, or a value is of another kind than its column.

    >>> parse({"price": ("<", 3)}, Schema(2, "int", (("price", "float"),)))
    (Condition(column='price', operator='<', values=(3.0,)),)
    """
    if where is None:
        return ()
    if not isinstance(where, Mapping):
        raise ArgumentError(f'where must be like {{"label": "cat", "price": ("<", 3)}}; got {where!r}.')
    conditions = []
    for column, wanted in where.items():
        kind = schema.kind(column)
        several = (
            isinstance(wanted, list) and bool(wanted) and all(isinstance(part, tuple) for part in wanted)
        )
        conditions += [_condition(column, kind, part) for part in (wanted if several else [wanted])]
    return tuple(conditions)


def _condition(column: str, kind: Kind, wanted: Any) -> Condition:
    if isinstance(wanted, tuple):
        if len(wanted) != 2 or not isinstance(wanted[0], str):
            raise ArgumentError(
                f"where[{column!r}] must be a value, a list, or (operator, value); got {wanted!r}."
            )
        operator, value = wanted
    else:
        operator, value = ("in" if _is_list(wanted) else "=="), wanted
    if operator not in _OPERATORS:
        raise ArgumentError(
            f"where[{column!r}]: unknown operator {operator!r}{nearest_name(operator, _OPERATORS)}"
        )
    if operator in ("in", "not in") and not _is_list(value):
        raise ArgumentError(f"where[{column!r}]: {operator!r} needs a list of values; got {value!r}.")
    if kind == "bool" and operator in _ORDER:
        raise ArgumentError(f"where[{column!r}]: a column of bools knows == and !=, not {operator!r}.")
    values = value if operator in ("in", "not in") else [value]
    return Condition(column, operator, tuple(_value(column, kind, part) for part in values))


def _is_list(value: Any) -> bool:
    return (isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | tuple)) or (
        hasattr(value, "dtype") and value.ndim == 1
    )


def _value(column: str, kind: Kind, value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()  # a NumPy scalar
    fits = isinstance(value, _ACCEPTS[kind]) and (kind == "bool" or not isinstance(value, bool))
    if fits and kind == "int":
        fits = -(2**63) <= value < 2**63
    if fits and kind == "float":
        fits = math.isfinite(value)
    if fits and kind == "str":
        fits = "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
    if not fits:
        raise ArgumentError(f"where[{column!r}] needs values of the column's kind, {kind}; got {value!r}.")
    return float(value) if kind == "float" else value


def mask(conditions: Sequence[Condition], items: pyarrow.Table) -> Any:
    """Return which rows of an Arrow table meet all conditions, as ``(n,)`` bools."""
    import numpy as np
    from pyarrow import array, compute

    kept = np.ones(items.num_rows, bool)
    for condition in conditions:
        column = items[condition.column]
        if condition.operator in _ARROW:
            found = getattr(compute, _ARROW[condition.operator])(column, condition.values[0])
        else:
            found = compute.is_in(column, value_set=array(condition.values, column.type))
        kept &= found.to_numpy() if condition.operator != "not in" else ~found.to_numpy()
    return kept
