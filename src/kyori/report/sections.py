"""The sections that the report of one run and the report of a comparison share."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from ..results import Results
from ..vectors import VectorTable
from . import figures
from .page import Code, Facts, Figure, Heading, Prose, Section, Table
from .words import Words

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = [
    "Method",
    "Trial",
    "class_name",
    "has_curve",
    "machine",
    "measures",
    "number",
    "panel",
    "reading",
    "reproduce",
    "span_text",
    "threshold",
    "value_text",
]


@dataclass(frozen=True)
class Trial:
    """One training as the report sees it.

    Attributes:
        method: Name of the method.
        seed: Seed of the training.
        results: Every measure on the test items, with the curves.
        table: Vectors ``(n, d)`` of the test items with their labels.
        history: Epoch records: ``epoch``, ``loss`` and, where something was validated, ``validation``.
        seconds: Wall-clock time of the training.
        parameters: Number of trained numbers.
    """

    method: str
    seed: int
    results: Results
    table: VectorTable
    history: Sequence[Mapping[str, Any]] = ()
    seconds: float = 0.0
    parameters: int = 0


@dataclass(frozen=True)
class Method:
    """The trials of one method, by seed, and how it is drawn; the first trial stands for it in pictures."""

    name: str
    trials: Sequence[Trial]
    paint: str = figures.PALETTE[0]
    best: bool = False

    @property
    def first(self) -> Trial:
        """The trial of the lowest seed."""
        return self.trials[0]


def number(value: float) -> str:
    """Return a distance with three significant digits, never in powers of ten for usual sizes.

    >>> number(0.123456), number(12.3456), number(1234.5), number(0.0)
    ('0.123', '12.3', '1234', '0')
    """
    if not np.isfinite(value):
        return "–"
    if value == 0 or not 1e-4 <= abs(value) < 1e6:
        return f"{value:.3g}"
    return f"{value:.{max(0, 2 - int(np.floor(np.log10(abs(value)))))}f}"


#: Measures that are no shares, and are not shown in percent.
_PLAIN = ("distance-ratio", "alignment", "uniformity")


def has_curve(results: Results, curve: str) -> bool:
    """Whether a curve was measured: data of one class have none, or one that is not finite."""
    arrays = results.curves.get(curve)
    return bool(arrays) and all(len(a) and np.isfinite(a[1:]).all() for a in (arrays or {}).values())


def value_text(measure: str, value: float) -> str:
    """Return a value of a measure: shares in percent without the sign, a dash for what was not measured.

    >>> value_text("map@r", 0.6954), value_text("uniformity", -2.5), value_text("map@r", float("nan"))
    ('69.5', '-2.50', '–')
    """
    if not np.isfinite(value):
        return "–"
    return number(value) if measure in _PLAIN else f"{100 * value:.1f}"


def span_text(measure: str, low: float, high: float) -> str:
    """Return an interval in the form of :func:`value_text`, or a dash where it is not finite."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return "–"
    return f"{value_text(measure, low)}–{value_text(measure, high)}"


def threshold(results: Results) -> float:
    """Return the distance at which both error rates are equal (NaN without a ROC curve)."""
    if not has_curve(results, "roc"):
        return float("nan")
    curve = results.curves["roc"]
    at = np.abs(np.asarray(curve["far"]) - (1 - np.asarray(curve["tar"]))).argmin()
    return float(curve["threshold"][at])


def measures(results: Results, words: Words) -> list[Section]:
    """A table of every measure of one run."""
    columns = [
        words("measures.measure"),
        words("measures.value"),
        words("board.interval"),
        words("measures.n"),
    ]
    rows = [
        [words.measure(name), value_text(name, r.value), span_text(name, r.low, r.high), f"{r.n:,}"]
        for name, r in results.items()
    ]
    return [
        Heading(words("measures.heading"), "measures", words("measures.note")),
        Table(columns, rows, caption=words("measures.heading")),
    ]


def panel(
    method: Method, drawing: Drawing, label: str, words: Words, *, caption: str = "", **more: Any
) -> Figure:
    """Return a drawing as the panel of a method; ``more`` are further fields of :class:`~kyori.report.page.Figure`."""
    return Figure(
        figures.to_svg(drawing, label),
        title=words.method(method.name),
        caption=caption,
        best=method.best,
        plot=drawing,
        data_label=words("figure.data"),
        **more,
    )


def class_name(table: VectorTable, code: int) -> str:
    """Return the name of a class, or its code where the classes have no names."""
    return table.class_names[code] if table.class_names else str(code)


def reading(names: Iterable[str], words: Words, *, intervals: str) -> list[Section]:
    """What each measure means, and what the intervals are."""
    terms = {words.measure(name): words.explain(name) for name in names if words.explain(name)}
    return [
        Heading(words("reading.heading"), "reading"),
        Facts(list(terms.items()), "terms"),
        Prose([intervals]),
    ]


def reproduce(command: str, provenance: Mapping[str, Any], words: Words) -> list[Section]:
    """The command that makes the same again, and what it was made with."""
    sections: list[Section] = [Heading(words("reproduce.heading"), "reproduce", words("reproduce.note"))]
    if command:
        sections.append(Code(command))
    facts = [
        (words.or_else(f"provenance.{key}", key), _said(value))
        for key, value in provenance.items()
        if value is not None
    ]
    return [*sections, Facts([*facts, *_versions(words)], "terms")]


def _said(value: Any) -> object:
    """A value as text; a mapping as its entries, without those that are empty."""
    if not isinstance(value, Mapping):
        return value
    entries = {
        k: f"{v:.4g}" if isinstance(v, float) else _said(v) for k, v in value.items() if v not in ({}, None)
    }
    return ", ".join(f"{key} {entry}" for key, entry in entries.items())


def machine(words: Words) -> str:
    """Return the machine in a few words."""
    return words("fact.cores", count=os.cpu_count())


def _versions(words: Words) -> list[tuple[str, str]]:
    packages = ("torch", "numpy", "scikit-learn", "matplotlib")
    return [
        (words("provenance.system"), platform.platform()),
        ("Python", platform.python_version()),
        *((name, metadata.version(name)) for name in packages),
    ]
