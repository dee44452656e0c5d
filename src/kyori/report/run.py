"""The report of one training run."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from .. import __version__
from .page import Facts, Prose, Section, render, write_page
from .sections import (
    Method,
    Trial,
    curves,
    machine,
    maps,
    measures,
    reading,
    reproduce,
    span_text,
    value_text,
    verification,
)
from .showcase import Items, pairs, queries
from .words import Words

__all__ = ["write_run_report"]


def write_run_report(
    trial: Trial,
    items: Items,
    path: str | PathLike[str],
    *,
    data: str,
    measure: str = "map@r",
    lang: str = "en",
    command: str = "",
) -> Path:
    """Write the report of one run as a page of one file that opens without a network.

    Args:
        trial: What was trained and measured.
        items: The test items, in the order of ``trial.table``; a ``Source``.
        path: The ``.html`` file to write; written in one step.
        data: Name of the data, for the title.
        measure: The measure to follow through the page.
        lang: ``"en"`` or ``"ja"``.
        command: The command that makes the run again.

    Returns:
        The path.

    Raises:
        ArgumentError: An unknown language, or a measure that was not evaluated.
    """
    words = Words(lang)
    method = Method(trial.method, [trial])
    shown = trial.results[measure]
    value, interval = value_text(measure, shown.value), span_text(measure, shown.low, shown.high)
    sections: list[Section] = [
        Prose([words("run.lead", measure=words.measure(measure), value=value, interval=interval)], "lead"),
        Facts(_facts(trial, data, words)),
        *measures(trial.results, words),
        *curves([method], measure, words),
        *maps([method], measure, words),
        *verification([method], words),
        *pairs(trial, items, words),
        *queries(trial, items, measure, words),
        *reading(trial.results, words, intervals=words("reading.intervals.run")),
        *reproduce(command, trial.results.provenance, words),
    ]
    page = render(
        words("title.run", method=words.method(trial.method), data=data),
        sections,
        lang=lang,
        kicker=words("kicker.run"),
        contents=words("contents"),
        footer=[words("footer", version=__version__)],
    )
    return write_page(path, page)


def _facts(trial: Trial, data: str, words: Words) -> list[tuple[object, object]]:
    n, d = trial.table.vectors.shape
    facts: list[tuple[object, object]] = [(words("fact.data"), data), (words("fact.items"), f"{n:,}")]
    if trial.table.labels is not None:
        facts.append((words("fact.classes"), f"{len(set(trial.table.labels.tolist())):,}"))
    return [
        *facts,
        (words("fact.dimensions"), f"{d:,}"),
        (words("fact.parameters"), f"{trial.parameters:,}"),
        (words("fact.seconds"), words.duration(trial.seconds)),
        (words("fact.seed"), trial.seed),
        (words("fact.machine"), machine(words)),
    ]
