"""The report of one training run."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from .. import __version__
from .confusion import confusion
from .curves import curves
from .maps import maps
from .norms import norms
from .page import Facts, Prose, Section, render, write_page
from .plates import write_figures
from .projection import Layout
from .sections import Method, Trial, machine, measures, reading, reproduce, span_text, value_text
from .showcase import Items, pairs, queries
from .springs import Spring, springs
from .verification import verification
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
    forces: Spring | None = None,
    layout: Layout = "tsne",
    figures_to: str | PathLike[str] | None = None,
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
        forces: The forces of the loss, from :func:`kyori.runs.spring_of`; None leaves the springs out.
        layout: How the map is laid out: ``"tsne"``, ``"pca"``, or ``"umap"`` where that is installed.
        figures_to: A folder for each figure as SVG, CSV and JSON; None writes none.

    Returns:
        The path.

    Raises:
        ArgumentError: An unknown language or layout, or a measure that was not evaluated.
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
        *maps([method], measure, words, items=items, layout=layout),
        *verification([method], words),
        *confusion(trial, words),
        *pairs(trial, items, words),
        *queries(trial, items, measure, words),
        *springs([method], {} if forces is None else {method.name: forces}, words),
        *norms([method], trial, items, words),
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
    if figures_to is not None:
        write_figures(sections, figures_to, lang)
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
