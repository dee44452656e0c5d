"""The report of a comparison: a board as a page of one file."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from .. import __version__
from ..report import figures
from ..report.page import Details, Facts, Heading, Markup, Prose, Section, Table, render, tag, write_page
from ..report.sections import (
    Method,
    Trial,
    curves,
    duration,
    maps,
    percent,
    reading,
    reproduce,
    span,
    verification,
)
from ..report.showcase import Items, pairs, queries
from ..report.words import Words
from .board import BASELINES, Board, Cell, Comparison, Row

__all__ = ["write_report"]

#: Columns of the leaderboard after the ranked measure, as far as the board has them.
_COLUMNS = (
    "recall@1",
    "map@r",
    "r-precision",
    "auc",
    "eer",
    "tar@far=1e-2",
    "tar@far=1e-3",
    "accuracy@threshold",
    "nmi",
)


def write_report(board: Board, source: Items, path: str | PathLike[str], lang: str = "en") -> Path:
    """Write the report of a comparison as a page of one file that opens without a network.

    Args:
        board: All cells of the comparison.
        source: The test items, in the order of the cells' tables.
        path: The ``.html`` file to write; written in one step.
        lang: ``"en"`` or ``"ja"``.

    Returns:
        The path.

    Raises:
        ArgumentError: An unknown language.
    """
    words = Words(lang)
    methods = _methods(board)
    winner = next(method for method in methods if method.best).first
    verdict, *details = _sentences(board.recommendation(lang), lang)
    sections: list[Section] = [
        Prose(["".join(details) if lang == "ja" else " ".join(details)] if details else [], "lead"),
        Facts(_facts(board, words)),
        *_leaderboard(board, words),
        *curves(methods, board.measure, words),
        *maps(_raw_first(methods), board.measure, words),
        *verification(methods, words),
        *pairs(winner, source, words),
        *queries(winner, source, board.measure, words),
        *reading(winner.results, words, intervals=words("reading.intervals")),
        *reproduce(board.command, winner.results.provenance, words),
    ]
    page = render(
        verdict,
        sections,
        lang=lang,
        kicker=words("kicker.compare", data=board.data),
        contents=words("contents"),
        footer=[words("footer", version=__version__)],
    )
    return write_page(path, page)


def _sentences(text: str, lang: str) -> list[str]:
    """Part the recommendation into sentences: the first one is the headline of the page."""
    if lang == "ja":
        return [f"{part}。" for part in text.split("。") if part]
    head, *rest = text.split(". ")
    return [f"{head}." if rest else head, *([". ".join(rest)] if rest else [])]


def _methods(board: Board) -> list[Method]:
    """The methods in the order of the board, each with its colour; what learns nothing is grey."""
    methods = []
    paints = iter(figures.PALETTE * (1 + len(board.methods) // len(figures.PALETTE)))
    for row in board.rows():
        paint = figures.NEUTRAL if row.method in BASELINES else next(paints)
        trials = [_trial(cell) for cell in board.of(row.method)]
        methods.append(Method(row.method, trials, paint, best=row.method == board.winner))
    return methods


def _trial(cell: Cell) -> Trial:
    return Trial(
        cell.method, cell.seed, cell.results, cell.table, cell.history, cell.seconds, cell.parameters
    )


def _raw_first(methods: Sequence[Method]) -> list[Method]:
    """Begin with what learns nothing: the pictures are read against it."""
    return sorted(methods, key=lambda method: method.name not in BASELINES)


def _facts(board: Board, words: Words) -> list[tuple[object, object]]:
    table = board.cells[0].table
    facts: list[tuple[object, object]] = [
        (words("fact.data"), board.data),
        (words("fact.items"), f"{len(table):,}"),
    ]
    if table.labels is not None:
        facts.append((words("fact.classes"), f"{len(np.unique(table.labels)):,}"))
    facts += [
        (words("fact.methods"), len(board.methods)),
        (words("fact.seeds"), max(len(board.of(method)) for method in board.methods)),
    ]
    facts += [(words.or_else(f"budget.{key}", key), value) for key, value in board.budget.items()]
    return [*facts, (words("fact.total_seconds"), duration(sum(cell.seconds for cell in board.cells)))]


def _leaderboard(board: Board, words: Words) -> list[Section]:
    rows = board.rows()
    others = [name for name in _COLUMNS if name != board.measure and name in rows[0].measures]
    limits = _limits(rows, board.measure)
    note = words(
        "board.note", measure=words.measure(board.measure), low=percent(limits[0]), high=percent(limits[1])
    )
    columns = [
        words("board.method"),
        words("board.against"),
        words.measure(board.measure),
        words("board.interval"),
        *(f"{words.measure(name)} ↓" if name == "eer" else words.measure(name) for name in others),
        words("board.seconds"),
        words("board.parameters"),
    ]
    paints = {method.name: method.paint for method in _methods(board)}
    against = _against(board, words)
    return [
        Heading(words("board.heading"), "leaderboard", note),
        Table(
            columns,
            [_board_row(row, board, others, limits, paints[row.method], against, words) for row in rows],
            caption=words("board.caption"),
            best=frozenset(i for i, row in enumerate(rows) if row.method == board.winner),
            text_columns=2,
        ),
        Details(words("board.all"), _all_measures(rows, words)),
    ]


def _limits(rows: Sequence[Row], measure: str) -> tuple[float, float]:
    """The common scale of all whiskers: round numbers around every interval, within 0 and 1 where those are."""
    ends = [end for row in rows for end in vars(row.measures[measure]).values() if np.isfinite(end)]
    if not ends:
        return 0.0, 1.0
    return float(np.floor(10 * min(ends)) / 10), float(np.ceil(10 * max(ends)) / 10)


def _board_row(
    row: Row,
    board: Board,
    others: Sequence[str],
    limits: tuple[float, float],
    paint: str,
    against: dict[str, Markup],
    words: Words,
) -> list[object]:
    ranked = row.measures[board.measure]
    ends = {"value": percent(ranked.value), "low": percent(ranked.low), "high": percent(ranked.high)}
    whisker = figures.interval(
        ranked.value,
        ranked.low,
        ranked.high,
        limits=limits,
        paint=figures.css(paint),
        label=words("board.interval.label", **ends),
    )
    untrained = row.method in BASELINES
    return [
        words.method(row.method),
        against[row.method],
        tag("b", ends["value"]),
        Markup(whisker + tag("small", span(ranked))),
        *(percent(row.measures[name].value) for name in others),
        "–" if untrained else duration(row.seconds),
        "–" if untrained else f"{row.parameters:,}",
    ]


def _against(board: Board, words: Words) -> dict[str, Markup]:
    """What the comparison with the winner says of each method."""
    said = {board.winner: tag("span", words("board.best"), class_="badge best")}
    for found in board.comparisons():
        other = found.worse if found.better == board.winner else found.better
        said[other] = _verdict(found, board.winner, words)
    return said


def _verdict(found: Comparison, winner: str, words: Words) -> Markup:
    if not found.decided:
        return tag("span", words("board.tied"), class_="badge tied")
    key = "board.behind" if found.better == winner else "board.ahead"
    ends = {name: percent(getattr(found, name)) for name in ("difference", "low", "high")}
    return tag("span", words(key, **ends), class_="gap")


def _all_measures(rows: Sequence[Row], words: Words) -> Table:
    names = list(rows[0].measures)
    cells = [[words.method(row.method), *(_with_interval(row, name) for name in names)] for row in rows]
    return Table([words("board.method"), *map(words.measure, names)], cells, caption=words("board.all"))


def _with_interval(row: Row, name: str) -> Markup:
    found = row.measures[name]
    return Markup(tag("span", percent(found.value)) + tag("small", span(found)))
