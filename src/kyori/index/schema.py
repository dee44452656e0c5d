"""What an index holds: the kinds of its ids and columns, and rows on their way in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError, DataError, FileFormatError, nearest_name
from ..vectors import VectorTable

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Kind", "Rows", "Schema", "ids_of", "kind_of", "rows_of"]

Kind = Literal["bool", "int", "float", "str"]
_KINDS: dict[str, Kind] = {"b": "bool", "i": "int", "u": "int", "f": "float", "U": "str"}
_LONGEST = {"id": 1_000, "text": 60_000}  # bytes of UTF-8; what every server takes
_LARGEST_INTEGER = 2**63 - 1


@dataclass(frozen=True)
class Schema:
    """What the first batch decided for all that follow.

    Attributes:
        dimension: d, the numbers in a vector.
        ids: ``"int"`` or ``"str"``.
        columns: Kind of each column by name, in order; ``label`` is one of them where there are labels.
    """

    dimension: int
    ids: Kind
    columns: tuple[tuple[str, Kind], ...]

    def kind(self, column: str) -> Kind:
        """Return the kind of a column, or of ``"id"``.

        Raises:
            ArgumentError: There is no such column.
        """
        known = {"id": self.ids, **dict(self.columns)}
        if column not in known:
            raise ArgumentError(f"the index has no column {column!r}{nearest_name(column, known)}")
        return known[column]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {"dimension": self.dimension, "ids": self.ids, "columns": dict(self.columns)}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Schema:
        """Read what :meth:`to_dict` wrote.

        Raises:
            FileFormatError: A key is missing or has a wrong value.
        """
        try:
            columns = tuple((str(name), _known_kind(kind)) for name, kind in facts["columns"].items())
            return cls(int(facts["dimension"]), _known_kind(facts["ids"]), columns)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(f"the description of the index is damaged: {error!r}.") from error


def _known_kind(kind: str) -> Kind:
    if kind not in _KINDS.values():
        raise ValueError(f"unknown kind {kind!r}")
    return kind  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class Rows:
    """Checked rows.

    Attributes:
        items: A table of ``id`` and the columns, in the schema's order.
        vectors: ``(n, d)`` float32, contiguous.
    """

    items: pyarrow.Table
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.vectors)

    def schema(self) -> Schema:
        """Return the schema that these rows have."""
        kinds = [(field.name, kind_of(field.type)) for field in self.items.schema]
        return Schema(self.vectors.shape[1], kinds[0][1], tuple(kinds[1:]))


def kind_of(type_: pyarrow.DataType) -> Kind:
    """Return the kind that an Arrow type stands for."""
    from pyarrow import types

    tests: dict[Kind, Any] = {"bool": types.is_boolean, "int": types.is_integer, "float": types.is_floating}
    return next((kind for kind, test in tests.items() if test(type_)), "str")


def rows_of(table: VectorTable) -> Rows:
    """Turn a table into rows: labels become the column ``label``, by name where there are names.

    Raises:
        DataError: A string holds a NUL or is not Unicode, is too long, or a number is not finite or too large.
    """
    import pyarrow

    columns: dict[str, NDArray[Any]] = {"id": table.ids}
    if table.labels is not None:
        named = table.labels if table.class_names is None else np.array(table.class_names)[table.labels]
        columns["label"] = named
    columns |= table.columns
    arrays = {name: _arrow(name, values) for name, values in columns.items()}
    return Rows(pyarrow.table(arrays), table.vectors)


def ids_of(ids: ArrayLike) -> tuple[pyarrow.Array, Kind]:
    """Check ids that are looked for, which may repeat, and return them with their kind.

    Raises:
        ArgumentError: They are neither integers nor strings.
    """
    values = np.asarray(ids)
    if values.dtype.kind == "O" and all(isinstance(value, str) for value in values):
        values = values.astype(np.str_)
    if values.dtype.kind not in "iuU":
        raise ArgumentError(f"ids must be integers or strings; got an array of {values.dtype}.")
    return _arrow("id", values), _KINDS[values.dtype.kind]


def _arrow(name: str, values: NDArray[Any]) -> pyarrow.Array:
    import pyarrow

    what = "ids" if name == "id" else f"column {name!r}"
    kind = _KINDS[values.dtype.kind]
    if kind == "str":
        _check_strings(what, values.tolist(), _LONGEST["id" if name == "id" else "text"])
        return pyarrow.array(values.tolist(), pyarrow.large_string())
    if kind == "float" and not np.isfinite(values).all():
        raise DataError(f"{what} must be finite numbers; got {values[~np.isfinite(values)][0]}.")
    if kind == "int" and values.dtype == np.uint64 and len(values) and values.max() > _LARGEST_INTEGER:
        raise DataError(f"{what} must be at most 2⁶³ − 1; got {values.max()}.")
    return pyarrow.array(
        values, {"bool": pyarrow.bool_(), "int": pyarrow.int64()}.get(kind, pyarrow.float64())
    )


def _check_strings(what: str, strings: list[str], longest: int) -> None:
    together = "".join(strings)  # one look at all of them is many times quicker than one at each
    try:
        together.encode()
    except UnicodeEncodeError as error:
        letter = error.object[error.start]
        text = next(text for text in strings if letter in text)
        raise DataError(f"{what} must be Unicode text; got {text!r}, which has no UTF-8 form.") from None
    if "\0" in together:
        text = next(text for text in strings if "\0" in text)
        raise DataError(f"{what} must not hold the character NUL; got {text!r}.")
    if 4 * max(map(len, strings), default=0) > longest:
        length = max(len(text.encode()) for text in strings)
        if length > longest:
            raise DataError(
                f"{what} must take at most {longest:,} bytes of UTF-8; got one of {length:,} bytes."
            )
