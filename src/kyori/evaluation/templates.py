"""Templates: several items that stand for one person, compared as one vector (IJB-B and IJB-C)."""

import numpy as np

from ..errors import ArgumentError, DataError, nearest_name
from ..vectors import VectorTable

__all__ = ["pool_templates"]


def pool_templates(
    table: VectorTable, template: str, media: str | None = None, *, normalize: bool = True
) -> VectorTable:
    """Average the vectors of each template, in the manner of IJB: first over each medium, then over the media.

    The frames of one video weigh together as much as one picture (Whitelam et al. 2017; Maze et al. 2018).

    Args:
        table: Vectors with a column that says to which template each belongs.
        template: Name of that column.
        media: Name of the column that says from which picture or video each vector comes; without it each vector is
            a medium of its own.
        normalize: Scale the means to length 1.

    Returns:
        One vector a template, with the templates as ids, in their order, the label of its items, and the columns
        ``items`` and ``media`` (how many).

    Raises:
        ArgumentError: There is no such column.
        DataError: A template holds items of two labels.
    """
    for name in (template, *([] if media is None else [media])):
        if name not in table.columns:
            raise ArgumentError(f"the table has no column {name!r}{nearest_name(name, table.columns)}")
    ids, codes = np.unique(table.columns[template], return_inverse=True)
    if ids.dtype.kind not in "iuU":
        ids = ids.astype(np.str_)
    of_medium = (
        np.arange(len(table)) if media is None else np.unique(table.columns[media], return_inverse=True)[1]
    )
    pairs, medium, counts = np.unique(
        codes.astype(np.int64) * (int(of_medium.max(initial=0)) + 1) + of_medium,
        return_inverse=True,
        return_counts=True,
    )
    means = np.zeros((len(pairs), table.vectors.shape[1]))
    np.add.at(means, medium, table.vectors)
    means /= counts[:, None]
    owner = pairs // (int(of_medium.max(initial=0)) + 1)
    pooled = np.zeros((len(ids), means.shape[1]))
    np.add.at(pooled, owner, means)
    media_counts = np.bincount(owner, minlength=len(ids))
    pooled /= media_counts[:, None]
    if normalize:
        norms = np.linalg.norm(pooled, axis=1, keepdims=True)
        pooled /= np.where(norms > 0, norms, 1)
    labels = None
    if table.labels is not None:
        labels = np.zeros(len(ids), np.int64)
        labels[codes] = table.labels
        mixed = np.flatnonzero(labels[codes] != table.labels)
        if len(mixed):
            raise DataError(f"template {ids[codes[mixed[0]]]} holds items of two labels; expected one.")
    return VectorTable(
        ids=ids,
        vectors=pooled.astype(np.float32),
        labels=labels,
        columns={"items": np.bincount(codes, minlength=len(ids)), "media": media_counts},
        class_names=table.class_names if labels is not None else None,
    )
