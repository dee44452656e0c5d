"""What the columns of a table say about who is compared with whom."""

import numpy as np

from ..errors import DataError
from ..vectors import VectorTable

__all__ = ["SEQUENCE", "split_roles"]

SEQUENCE = "sequence"


def split_roles(table: VectorTable) -> tuple[VectorTable, VectorTable | None, list[str]]:
    """Split a table by its columns ``is_query`` and ``is_gallery``, and say so; None where it has neither.

    With one of the two columns only, the other role is played by all items. An item may have both roles; a query is
    then not compared with itself.

    Raises:
        DataError: A column holds no bools (or 0 and 1), or nobody has a role.
    """
    if not isinstance(table, VectorTable) or not {"is_query", "is_gallery"} & set(table.columns):
        return table, None, []
    parts, followed = [], []
    for name in ("is_query", "is_gallery"):
        if name not in table.columns:
            parts.append(table)
            continue
        chosen = table.columns[name]
        if not np.isin(chosen, (0, 1)).all() if chosen.dtype.kind in "biuf" else True:
            raise DataError(
                f"column {name!r} must hold bools; got {chosen.dtype}. Pass rules=False to ignore it."
            )
        rows = np.flatnonzero(chosen)
        if not len(rows):
            raise DataError(
                f"column {name!r} is false for all {len(table)} items. Pass rules=False to ignore it."
            )
        parts.append(table.take(rows))
        followed.append(f"{name}: {len(rows)} of {len(table)} items")
    return parts[0], parts[1], followed
