"""A board as a table for other documents: Markdown, LaTeX, CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..report import Words
from .statistics import Comparison, Estimate, Row, is_share

if TYPE_CHECKING:
    from .board import Board

__all__ = ["amount", "columns", "csv_text", "gap", "latex", "markdown", "memory_text"]

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&])")
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "–": "--", "−": "$-$", "×": r"$\times$", "≥": r"$\ge$", "↓": r"$\downarrow$",
}  # fmt: skip


def amount(measure: str, value: float, digits: int = 1) -> str:
    """Return a value as it is said: in hundredths where the measure is a share.

    >>> amount("map@r", 0.7134), amount("uniformity", -2.5)
    ('71.3', '-2.500')
    """
    return f"{100 * value:.{digits}f}" if is_share(measure) else f"{value:.{digits + 2}f}"


def gap(measure: str, found: Comparison) -> tuple[str, str, str]:
    """Return a difference and its ends, with as many digits as a decided one needs to be seen above zero.

    >>> gap("map@r", Comparison("a", "b", 0.004, 0.0002, 0.0078, 0.04, 3, 3))
    ('0.40', '0.02', '0.78')
    """
    digits = 1
    while found.decided and digits < 6 and float(amount(measure, found.low, digits)) == 0:
        digits += 1
    said = [amount(measure, value, digits) for value in (found.difference, found.low, found.high)]
    return said[0], said[1], said[2]


def memory_text(size: int | None) -> str:
    """Return bytes in MiB, or a dash.

    >>> memory_text(512 * 2**20), memory_text(None)
    ('512 MiB', '–')
    """
    return "–" if size is None else f"{size / 2**20:,.0f} MiB"


def columns(board: Board) -> list[tuple[str, Callable[[Row], str]]]:
    """Return the columns of the leaderboard: a title, and the text of a row."""
    measure, winner = board.measure, board.winner
    against = {c.worse if c.better == winner else c.better: c for c in board.comparisons()}
    found: list[tuple[str, Callable[[Row], str]]] = [
        ("Method", lambda row: row.method),
        (Words().measure(measure), lambda row: _interval(measure, row.measures[measure])),
        ("Behind the best", lambda row: _behind(measure, winner, against.get(row.method))),
        ("p", lambda row: _p(against.get(row.method))),
        ("Won", lambda row: _won(winner, against.get(row.method))),
        ("d", lambda row: _effect(winner, against.get(row.method))),
        ("Seconds", lambda row: f"{row.seconds:.1f}" if row.parameters else "–"),
        ("Memory", lambda row: memory_text(row.memory_bytes)),
        ("Parameters", lambda row: f"{row.parameters:,}" if row.parameters else "–"),
    ]
    if any(row.trials for row in board.rows()):
        found.append(("Trials", lambda row: str(row.trials)))
    return found


def markdown(board: Board) -> str:
    """Return a pipe table, and below it what is missing and the sentence."""
    titles, rows = _texts(board)
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)]]
    lines[0] = [_escape_markdown(title) for title in titles]
    for cells in rows:
        escaped = [_escape_markdown(cell) for cell in cells]
        lines.append(
            [f"**{cell}**" for cell in escaped[:2]] + escaped[2:] if cells[0] == board.winner else escaped
        )
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    below = [_escape_markdown(text) for text in (*_notes(board), board.recommendation())]
    return "\n\n".join([table, *below]) + "\n"


def latex(board: Board) -> str:
    """Return a ``table`` with the rules of booktabs; the best method is bold, the sentence is the caption."""
    titles, rows = _texts(board)
    body = []
    for cells in rows:
        escaped = [_escape_latex(cell) for cell in cells]
        if cells[0] == board.winner:
            escaped[:2] = [rf"\textbf{{{cell}}}" for cell in escaped[:2]]
        body.append(" & ".join(escaped) + r" \\")
    notes = [f"% {' '.join(note.split())}" for note in _notes(board)]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            *notes,
            r"\begin{table}",
            r"\centering",
            rf"\begin{{tabular}}{{l{'r' * (len(titles) - 1)}}}",
            r"\toprule",
            " & ".join(_escape_latex(title) for title in titles) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            rf"\caption{{{_escape_latex(board.recommendation())}}}",
            r"\end{table}",
            "",
        ]
    )


def _notes(board: Board) -> list[str]:
    return [*map(str, board.failures), *map(str, board.leaks)]


def csv_text(board: Board) -> str:
    """Return a line for each method and measure, numbers with all digits."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["method", "measure", "value", "low", "high", "seconds", "memory_bytes", "parameters", "trials"]
    )
    for row in board.rows():
        for name, found in row.measures.items():
            cost = [
                row.seconds,
                "" if row.memory_bytes is None else row.memory_bytes,
                row.parameters,
                row.trials,
            ]
            writer.writerow([row.method, name, found.value, found.low, found.high, *cost])
    return file.getvalue()


def _texts(board: Board) -> tuple[list[str], list[list[str]]]:
    found = columns(board)
    return [title for title, _ in found], [[draw(row) for _, draw in found] for row in board.rows()]


def _interval(measure: str, found: Estimate) -> str:
    ends = (amount(measure, end) for end in (found.value, found.low, found.high))
    return "{} ({}–{})".format(*ends)


def _behind(measure: str, winner: str, found: Comparison | None) -> str:
    if found is None:
        return "–"
    difference, low, high = gap(measure, found)
    said = f"{difference} ({low} to {high})"
    if found.better != winner:
        said = f"ahead by {said}"
    return said if found.decided else f"{said}, undecided"


def _p(found: Comparison | None) -> str:
    if found is None:
        return "–"
    return "< 0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}"


def _won(winner: str, found: Comparison | None) -> str:
    if found is None:
        return "–"
    return f"{found.seeds_won if found.better == winner else found.seeds - found.seeds_won}/{found.seeds}"


def _effect(winner: str, found: Comparison | None) -> str:
    return "–" if found is None else f"{found.effect if found.better == winner else -found.effect:.2f}"


def _escape_markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))
