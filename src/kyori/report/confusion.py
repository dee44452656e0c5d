"""Which classes are mistaken for one another: of each item, the class of its nearest neighbour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..neighbors import nearest
from ..vectors import VectorTable
from . import figures
from .data import Data
from .page import Figure, Heading, Markup, Panels, Section, Table, tag
from .sections import Trial, class_name
from .words import Words

__all__ = ["Confusion", "confusion", "count_confusion"]

_MATRIX = 20  # classes up to which the whole matrix is drawn
_PAIRS = 12


@dataclass(frozen=True, eq=False)
class Confusion:
    """How often an item of one class has its nearest neighbour in another; cells that are 0 are left out.

    Attributes:
        classes: Codes ``(c,)`` of the classes that occur, ascending.
        sizes: Items of each ``(c,)``.
        rows: Class of the item, a position in ``classes``, of each cell ``(m,)``.
        columns: Class of its nearest other item ``(m,)``.
        counts: How often ``(m,)``.
    """

    classes: np.ndarray
    sizes: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    counts: np.ndarray

    @property
    def wrong(self) -> int:
        """How many items have a nearest neighbour of another class."""
        return int(self.counts[self.rows != self.columns].sum())

    def matrix(self) -> np.ndarray:
        """Return the counts as ``(c, c)``, rows for the items, columns for their neighbours."""
        whole = np.zeros((len(self.classes), len(self.classes)), dtype=np.int64)
        whole[self.rows, self.columns] = self.counts
        return whole

    def pairs(self) -> list[tuple[int, int, int, int]]:
        """Return ``(i, j, i taken for j, j taken for i)`` with i < j, the most confused first, without zeros."""
        found: dict[tuple[int, int], list[int]] = {}
        for i, j, count in zip(self.rows.tolist(), self.columns.tolist(), self.counts.tolist(), strict=True):
            if i != j:
                found.setdefault((min(i, j), max(i, j)), [0, 0])[int(i > j)] += count
        ranked = sorted(found.items(), key=lambda pair: (-sum(pair[1]), pair[0]))
        return [(i, j, forth, back) for (i, j), (forth, back) in ranked]


def count_confusion(table: VectorTable) -> Confusion:
    """Count the classes of nearest neighbours over all items; euclidean distances, an item is not its own neighbour.

    The table needs labels and at least two items.

    >>> table = VectorTable(vectors=[[0.0], [1.0], [1.1], [5.0]], labels=[0, 0, 1, 1])
    >>> count_confusion(table).matrix()
    array([[1, 1],
           [1, 1]])
    """
    classes, codes, sizes = np.unique(np.asarray(table.labels), return_inverse=True, return_counts=True)
    neighbor = np.asarray(nearest(table.vectors, table.vectors, 1, exclude_self=True).ids)[:, 0]
    cells, counts = np.unique(codes * len(classes) + codes[neighbor], return_counts=True)
    rows, columns = np.divmod(cells, len(classes))
    return Confusion(classes, sizes, rows, columns, counts)


def confusion(trial: Trial, words: Words) -> list[Section]:
    """The confusion between the classes of one trial. Nothing without labels or with one class."""
    table = trial.table
    if table.labels is None or len(np.unique(table.labels)) < 2:
        return []
    found = count_confusion(table)
    heading = Heading(
        words("confusion.heading", method=words.method(trial.method)),
        "confusion",
        words("confusion.note", wrong=f"{found.wrong:,}", n=f"{len(table):,}", seed=trial.seed),
    )
    names = [class_name(table, int(code)) for code in found.classes]
    pairs = found.pairs()
    sections: list[Section] = [heading]
    if len(names) <= _MATRIX:
        sections.append(_matrix_figure(found, names, words))
    if pairs:
        sections.append(_pair_table(found, names, pairs, words))
    if len(names) > _MATRIX:
        sections.append(_pair_data(names, pairs, words))
    return sections


def _pair_table(
    found: Confusion, names: list[str], pairs: list[tuple[int, int, int, int]], words: Words
) -> Table:
    sizes = found.sizes
    rows = []
    for i, j, forth, back in pairs[:_PAIRS]:
        share = f"{100 * (forth + back) / (sizes[i] + sizes[j]):.1f}"
        rows.append([names[i], names[j], f"{forth:,}", f"{back:,}", share])
    columns = [words(f"confusion.{name}") for name in ("first", "second", "forth", "back", "share")]
    shown, total = len(rows), len(pairs)
    caption = words("confusion.pairs", shown=shown, total=total)
    return Table(columns, rows, caption=caption, text_columns=2, title=caption)


def _pair_data(names: list[str], pairs: list[tuple[int, int, int, int]], words: Words) -> Section:
    """All confused pairs as a file, where there are too many classes for a matrix."""
    columns: dict[str, Sequence[str] | Sequence[int]] = {
        "first": [names[i] for i, _, _, _ in pairs],
        "second": [names[j] for _, j, _, _ in pairs],
        "first_taken_for_second": [forth for _, _, forth, _ in pairs],
        "second_taken_for_first": [back for _, _, _, back in pairs],
    }
    figure = Figure(Markup(), data=Data("confusion", columns), data_label=words("figure.data"))
    return Panels([figure], size="large")


def _matrix_figure(found: Confusion, names: list[str], words: Words) -> Section:
    """The whole matrix: rows are the items' classes, columns those of their nearest neighbours, in percent of a row."""
    counts = found.matrix()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    top = max(float((share - np.diag(np.diag(share))).max()), 1e-9)
    head = [tag("td"), *(tag("th", name, scope="col") for name in names)]
    rows = [tag("tr", *head)]
    for i, name in enumerate(names):
        cells = [_cell(share[i, j], int(counts[i, j]), i == j, top) for j in range(len(names))]
        rows.append(tag("tr", tag("th", name, scope="row"), *cells))
    label = words("confusion.alt")
    body = tag("table", tag("caption", label), tag("tbody", *rows), class_="matrix")
    box = tag("div", body, class_="scroll", role="region", tabindex=0, aria_label=label)
    row, column = np.indices(counts.shape).reshape(2, -1)
    columns = {
        "class": [names[a] for a in row],
        "neighbor_class": [names[b] for b in column],
        "count": counts.ravel(),
        "share": share.ravel(),
    }
    figure = Figure(
        box,
        y_title=words("confusion.rows"),
        data=Data("confusion", columns),
        data_label=words("figure.data"),
        plot=figures.matrix(share, names),
        axes=(words("confusion.neighbor"), words("confusion.item")),
    )
    return Panels([figure], size="large")


def _cell(share: float, count: int, own: bool, top: float) -> Markup:
    if count == 0:
        return tag("td")
    strength = 18 if own else 12 + 78 * share / top
    paint = "var(--good)" if own else "var(--bad)"
    style = f"background:color-mix(in srgb,{paint} {strength:.0f}%,transparent)"
    return tag("td", f"{100 * share:.0f}" if share >= 0.005 else "<1", style=style, title=f"{count:,}")
