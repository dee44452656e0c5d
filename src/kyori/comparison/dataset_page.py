"""The section of the report about several data sets: the table of values and the critical-difference diagram."""

from __future__ import annotations

from collections.abc import Mapping

from ..report.data import Data
from ..report.page import Figure, Heading, Panels, Section, Table
from ..report.sections import value_text
from ..report.words import Words
from .board import Board
from .diagram import rank_columns, rank_diagram

__all__ = ["over_datasets"]


def over_datasets(board: Board, paints: Mapping[str, str], words: Words) -> list[Section]:
    """The value of each method on each data set, and their average ranks. Nothing, if there is one data set."""
    if len(board.datasets) < 2:
        return []
    datasets, values = board.values()
    order = [board.methods.index(row.method) for row in board.rows()]
    rows = [
        [words.method(board.methods[j]), *(value_text(board.measure, value) for value in values[:, j])]
        for j in order
    ]
    titles: list[object] = [words("board.method"), *datasets]
    ranks = board.ranks()
    if ranks is not None:
        titles.append(words("ranks.average"))
        for row, j in zip(rows, order, strict=True):
            row.append(f"{ranks.average[ranks.methods.index(board.methods[j])]:.2f}")
    caption = words("ranks.caption", measure=words.measure(board.measure))
    found: list[Section] = [
        Heading(words("ranks.heading"), "datasets", words("ranks.note") if ranks is not None else ""),
        Table(titles, rows, caption=caption),
    ]
    if ranks is None:
        return found
    shown = {words.method(name): paint for name, paint in paints.items()}
    named = ranks.named([words.method(name) for name in ranks.methods])
    drawing = rank_diagram(named, shown, words("ranks.label"))
    return [
        *found,
        Panels(
            [Figure(drawing, data=Data("ranks", rank_columns(ranks)), data_label=words("figure.data"))],
            size="large",
        ),
    ]
