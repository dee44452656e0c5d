"""The report of a comparison: a board as a page of one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from .. import __version__
from ..report import Spring, figures
from ..report.confusion import confusion
from ..report.curves import curves
from ..report.maps import maps
from ..report.norms import norms
from ..report.page import (
    Code,
    Details,
    Facts,
    Heading,
    Markup,
    Prose,
    Section,
    Table,
    render,
    tag,
    write_page,
)
from ..report.plates import write_figures
from ..report.projection import Layout
from ..report.sections import Method, machine, reading, reproduce, span_text, value_text
from ..report.showcase import Items, pairs, queries
from ..report.springs import springs
from ..report.verification import verification
from ..report.words import Words
from ..runs import spring_of
from .board import Board, Cell
from .dataset_page import over_datasets
from .methods import BASELINES
from .next_steps import next_steps
from .statistics import Comparison, Row
from .tables import gap, memory_text

__all__ = ["write_report"]

#: Measures of the leaderboard beside the ranked one, as far as the board has them: the beginnings of their names.
_COLUMNS = ("recall@1", "map@r", "auc", "eer", "tar@far=", "accuracy", "nmi")


def write_report(
    board: Board,
    source: Items,
    path: str | PathLike[str],
    lang: str = "en",
    *,
    layout: Layout = "tsne",
    figures_to: str | PathLike[str] | None = None,
) -> Path:
    """Write the report of a comparison as a page of one file that opens without a network.

    Args:
        board: All cells of the comparison.
        source: The test items, in the order of the cells' tables.
        path: The ``.html`` file to write; written in one step.
        lang: ``"en"`` or ``"ja"``.
        layout: How the maps are laid out: ``"tsne"``, ``"pca"``, or ``"umap"`` where that is installed.
        figures_to: A folder for each figure as SVG, CSV and JSON; None writes none.

    Returns:
        The path.

    Raises:
        ArgumentError: An unknown language or layout.
    """
    words = Words(lang)
    methods = _methods(board)
    winner = next(method for method in methods if method.best).first
    verdict, *details = _sentences(board.recommendation(lang), lang)
    sections: list[Section] = [
        Prose(["".join(details) if lang == "ja" else " ".join(details)] if details else [], "lead"),
        Facts(_facts(board, words)),
        *_leaderboard(board, methods, words),
        *over_datasets(board, {method.name: method.paint for method in methods}, words),
        *curves(methods, board.measure, words),
        *maps(_raw_first(methods), board.measure, words, items=source, layout=layout),
        *verification(methods, words),
        *confusion(winner, words),
        *pairs(winner, source, words),
        *queries(winner, source, board.measure, words),
        *springs(methods, _forces(methods), words),
        *norms(methods, winner, source, words),
        *_next(board, words),
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
    if figures_to is not None:
        write_figures(sections, figures_to, lang)
    return write_page(path, page)


def _next(board: Board, words: Words) -> list[Section]:
    """What to do with the winner, where its model was kept."""
    commands = next_steps(board)
    if not commands:
        return []
    note = words("next.note", seed=board.of(board.winner)[0].seed)
    return [Heading(words("next.heading", method=board.winner), "next", note), Code("\n".join(commands))]


def _forces(methods: Sequence[Method]) -> dict[str, Spring]:
    """The springs of the methods that were trained with a loss."""
    found = {}
    for method in methods:
        labels = method.first.table.labels
        classes = None if labels is None else len(np.unique(labels))
        spring = spring_of(method.first.results, classes=classes)
        if spring is not None:
            found[method.name] = spring
    return found


def _sentences(text: str, lang: str) -> list[str]:
    """Part the recommendation into sentences: the first one is the headline of the page."""
    if lang == "ja":
        return [f"{part}。" for part in text.split("。") if part]
    head, *rest = text.split(". ")
    return [f"{head}." if rest else head, *([". ".join(rest)] if rest else [])]


def _methods(board: Board) -> list[Method]:
    """The methods in the order of the board, each with its colour; what learns nothing is grey.

    The pictures need one set of items: that of the first data set and fold, where a method was trained on it.
    """
    methods = []
    first = board.of(board.winner)[0].place
    paints = iter(figures.PALETTE * (1 + len(board.methods) // len(figures.PALETTE)))
    for row in board.rows():
        paint = figures.NEUTRAL if row.method in BASELINES else next(paints)
        cells = [cell for cell in board.of(row.method) if cell.place == first]
        if cells:
            methods.append(Method(row.method, cells, paint, best=row.method == board.winner))
    return methods


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
        (words("fact.seeds"), max(len({c.seed for c in board.of(method)}) for method in board.methods)),
    ]
    folds, datasets = len({cell.fold for cell in board.cells}), len(board.datasets)
    facts += [(words("fact.folds"), folds)] if folds > 1 else []
    facts += [(words("fact.datasets"), datasets)] if datasets > 1 else []
    facts += [
        (words.or_else(f"budget.{key}", key), _allowed(value, words)) for key, value in board.budget.items()
    ]
    total = sum(cell.seconds for cell in board.cells)
    return [
        *facts,
        (words("fact.total_seconds"), words.duration(total)),
        (words("fact.machine"), machine(words)),
    ]


def _allowed(value: object, words: Words) -> str:
    """Return a part of the budget as it is shown; one that is given by method with equal ones together."""
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, Mapping):
        return words.or_else(f"value.{value}", str(value))
    together: dict[str, list[str]] = {}
    for method, amount in value.items():
        number = f"{amount:,}" if isinstance(amount, int) else amount
        shown = words.or_else(f"value.{amount}", words("value.so_many_items", n=number))
        together.setdefault(shown, []).append(method)
    return "; ".join(f"{', '.join(methods)}: {shown}" for shown, methods in together.items())


def _leaderboard(board: Board, methods: Sequence[Method], words: Words) -> list[Section]:
    rows = board.rows()
    columns = _columns(board, methods, words)
    note = words("board.note", measure=words.measure(board.measure))
    missing = [
        words("board.missing", cell=str(failure).removeprefix("missing: ")) for failure in board.failures
    ]
    leaks = [
        words(
            f"board.leak.{leak.kind}",
            found=f"{leak.found:,}",
            of=f"{leak.of:,}",
            data=leak.dataset,
            named=leak.named,
        )
        for leak in board.leaks
    ]
    several = len({cell.place for cell in board.cells}) > 1
    first = [words("board.first", place=_place(board.of(board.winner)[0], words))] if several else []
    return [
        Heading(words("board.heading"), "leaderboard", note),
        Table(
            [title for title, _ in columns],
            [[draw(row) for _, draw in columns] for row in rows],
            caption=words("board.caption"),
            best=frozenset(i for i, row in enumerate(rows) if row.method == board.winner),
            text_columns=2,
        ),
        *([Prose([*missing, *leaks, *first], "note")] if missing or leaks or first else []),
        Details(words("board.all"), _all_measures(rows, words)),
    ]


def _place(cell: Cell, words: Words) -> str:
    fold = [words("board.fold", fold=cell.fold)] if cell.fold is not None else []
    return ", ".join([*([cell.dataset] if cell.dataset else []), *fold])


def _columns(
    board: Board, methods: Sequence[Method], words: Words
) -> list[tuple[object, Callable[[Row], object]]]:
    """The columns of the leaderboard: a title, and how the cell of a row is drawn."""
    rows, ranked = board.rows(), board.measure
    against = _against(board, words)
    limits = _limits(rows, ranked)
    paints = {method.name: figures.css(method.paint) for method in methods}
    neutral = figures.css(figures.NEUTRAL)
    scale = tag("span", *(tag("span", f"{100 * end:.0f}") for end in limits), class_="scale")

    def whisker(row: Row) -> Markup:
        found = row.measures[ranked]
        ends = {key: value_text(ranked, end) for key, end in vars(found).items()}
        label = words("board.interval.label", **ends)
        return figures.interval(
            **vars(found), limits=limits, paint=paints.get(row.method, neutral), label=label
        )

    columns: list[tuple[object, Callable[[Row], object]]] = [
        (words("board.method"), lambda row: words.method(row.method)),
        (words("board.against"), lambda row: against[row.method]),
        (words.measure(ranked), lambda row: _with_interval(row, ranked)),
        (Markup(tag("span", words("board.interval")) + scale), whisker),
    ]
    for name in _other_measures(rows[0], ranked):
        title = f"{words.measure(name)} ↓" if name == "eer" else words.measure(name)
        columns.append((title, lambda row, name=name: value_text(name, row.measures[name].value)))  # type: ignore[misc]
    columns.append((words("board.seconds"), lambda row: _duration(row, words)))
    if any(row.memory_bytes is not None for row in rows):
        columns.append((words("board.memory"), lambda row: memory_text(row.memory_bytes)))
    columns.append((words("board.parameters"), lambda row: f"{row.parameters:,}" if row.parameters else "–"))
    if any(row.trials for row in rows):
        columns.append((words("board.trials"), lambda row: row.trials))
    return columns


def _duration(row: Row, words: Words) -> object:
    if not row.parameters:
        return "–"
    return tag("span", words.duration(row.seconds), data_value=f"{row.seconds:.6g}")


def _other_measures(row: Row, ranked: str) -> list[str]:
    found = []
    for beginning in _COLUMNS:
        exact = not beginning.endswith("=") and beginning != "accuracy"
        found += [
            name for name in row.measures if (name == beginning if exact else name.startswith(beginning))
        ]
    return [name for name in found if name != ranked]


def _limits(rows: Sequence[Row], measure: str) -> tuple[float, float]:
    """The common scale of all whiskers: round numbers around every interval, within 0 and 1 where those are."""
    ends = [end for row in rows for end in vars(row.measures[measure]).values() if np.isfinite(end)]
    if not ends:
        return 0.0, 1.0
    return float(np.floor(10 * min(ends)) / 10), float(np.ceil(10 * max(ends)) / 10)


def _against(board: Board, words: Words) -> dict[str, Markup]:
    """What the comparison with the winner says of each method."""
    said = {board.winner: tag("span", words("board.best"), class_="badge best")}
    for found in board.comparisons():
        other = found.worse if found.better == board.winner else found.better
        said[other] = _verdict(found, board.measure, board.winner, words)
    return said


def _verdict(found: Comparison, measure: str, winner: str, words: Words) -> Markup:
    if not found.decided:
        return tag("span", words("board.tied"), class_="badge tied")
    key = "board.behind" if found.better == winner else "board.ahead"
    ends = dict(zip(("difference", "low", "high"), gap(measure, found), strict=True))
    return tag("span", words(key, **ends), class_="gap")


def _all_measures(rows: Sequence[Row], words: Words) -> Table:
    names = list(rows[0].measures)
    cells = [[words.method(row.method), *(_with_interval(row, name) for name in names)] for row in rows]
    return Table([words("board.method"), *map(words.measure, names)], cells, caption=words("board.all"))


def _with_interval(row: Row, name: str) -> Markup:
    found = row.measures[name]
    return Markup(
        tag("b", value_text(name, found.value)) + tag("small", span_text(name, found.low, found.high))
    )
