"""The sections that the report of one run and the report of a comparison share."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from ..results import Results
from ..vectors import VectorTable
from . import figures
from .page import Code, Facts, Figure, Heading, Key, Legend, Panels, Prose, Section, Table
from .projection import Projection, project
from .words import Words

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = [
    "Method",
    "Trial",
    "curves",
    "maps",
    "measures",
    "number",
    "reading",
    "reproduce",
    "span_text",
    "threshold",
    "value_text",
    "verification",
]

_MARKED = 20  # classes that get a colour of their own


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


def _has(results: Results, curve: str) -> bool:
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
    if not _has(results, "roc"):
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


def curves(methods: Sequence[Method], measure: str, words: Words) -> list[Section]:
    """Validation measure and loss against epochs, one panel a method. Nothing, if nothing was trained."""
    trained = [method for method in methods if any(trial.history for trial in method.trials)]
    if not trained:
        return []
    several_seeds = max(len(method.trials) for method in trained) > 1
    note = words("curves.note" if several_seeds else "curves.note.one")
    heading = Heading(words("curves.heading"), "training", note)
    validation = _validation_panels(trained, measure, words)
    losses = [_loss_panel(method, words) for method in trained]
    unknown: list[Section] = [] if validation else [Prose([words("curves.no_validation")], "note")]
    if len(trained) == 1:
        titles = [words("curves.validation.one", measure=words.measure(measure))] * len(validation)
        titles.append(words("curves.loss.one"))
        panels = [
            replace(panel, title=title) for panel, title in zip([*validation, *losses], titles, strict=True)
        ]
        return [heading, *unknown, Panels(panels)]
    note = words("curves.validation", measure=words.measure(measure))
    above: list[Section] = [Prose([note], "note"), Panels(validation)] if validation else unknown
    return [heading, *above, Prose([words("curves.loss")], "note"), Panels(losses)]


_Series = tuple[np.ndarray, np.ndarray]


def _series(trial: Trial, measure: str | None) -> _Series:
    """Epochs and values of the loss (None) or of a validation measure, where they were recorded."""
    found = []
    for record in trial.history:
        value = record.get("loss") if measure is None else (record.get("validation") or {}).get(measure)
        if value is not None and "epoch" in record:
            found.append((record["epoch"], value))
    array = np.asarray(found, dtype=float).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def _validation_panels(methods: Sequence[Method], measure: str, words: Words) -> list[Figure]:
    """One panel a method that was validated, all on one scale, in percent."""
    found = {m.name: [s for t in m.trials if len((s := _series(t, measure))[0])] for m in methods}
    series = {
        name: [(epochs, 100 * values) for epochs, values in runs] for name, runs in found.items() if runs
    }
    if not series:
        return []
    every = np.concatenate([values for runs in series.values() for _, values in runs])
    limits = _padded(float(np.nanmin(every)), float(np.nanmax(every)))
    panels = []
    for method in (m for m in methods if m.name in series):
        runs = series[method.name]
        others = [run for name, other in series.items() if name != method.name for run in other]
        drawing = figures.learning(runs, others=others, paint=method.paint, y_limits=limits)
        label = words(
            "curves.validation.alt",
            method=words.method(method.name),
            measure=words.measure(measure),
            last=f"{np.mean([values[-1] for _, values in runs]):.1f}",
        )
        panels.append(_panel(method, drawing, label, words))
    return panels


def _loss_panel(method: Method, words: Words) -> Figure:
    drawing = figures.learning([_series(trial, None) for trial in method.trials], paint=method.paint)
    label = words("curves.loss.alt", method=words.method(method.name))
    return _panel(method, drawing, label, words)


def _panel(method: Method, drawing: Drawing, label: str, words: Words, *, caption: str = "") -> Figure:
    return Figure(
        figures.to_svg(drawing, label),
        title=words.method(method.name),
        caption=caption,
        best=method.best,
    )


def maps(methods: Sequence[Method], measure: str, words: Words, *, max_items: int = 1000) -> list[Section]:
    """A t-SNE picture of each method; classes have the same colour in all of them."""
    table = methods[0].first.table
    groups, legend = _class_groups(table, words)
    marks = [key.mark for key in legend.keys if key.series != "-1"] if legend else []
    found = [project(m.first.table.vectors, seed=0, max_items=max_items) for m in methods]
    panels = [_map_panel(m, f, groups, marks, measure, words) for m, f in zip(methods, found, strict=True)]
    drawn = "map.note" if any(f.method == "tsne" for f in found) else "map.note.pca"
    note = words(drawn, seed=methods[0].first.seed)
    shown, total = len(found[0].items), found[0].total
    if shown < total:
        note = f"{note} {words('map.sampled', shown=shown, total=total)}"
    return [Heading(words("map.heading"), "map", note), Panels(panels, legend)]


def _map_panel(
    method: Method, found: Projection, groups: np.ndarray, marks: Sequence[str], measure: str, words: Words
) -> Figure:
    drawing = figures.scatter(found.points, groups[found.items], marks=marks)
    label = words("map.alt", method=words.method(method.name), shown=len(found.items))
    value = value_text(measure, method.first.results[measure].value)
    caption = words("map.caption", measure=words.measure(measure), value=value)
    return _panel(method, drawing, label, words, caption=caption)


def _class_groups(table: VectorTable, words: Words) -> tuple[np.ndarray, Legend | None]:
    """The colour group of each item, the biggest classes first in line for a colour, and the legend."""
    if table.labels is None:
        return np.full(len(table), -1), None
    classes, counts = np.unique(table.labels, return_counts=True)
    chosen = np.sort(classes[np.argsort(-counts, kind="stable")[:_MARKED]])
    groups = np.full(len(table), -1)
    for group, code in enumerate(chosen):
        groups[table.labels == code] = group
    names = [class_name(table, int(code)) for code in chosen]
    short = all(len(name) <= 3 and name.isascii() and name.isprintable() for name in names)
    keys = [
        Key(str(i), "" if short else name, figures.colour(i), mark=name if short else str(i + 1))
        for i, name in enumerate(names)
    ]
    if len(classes) > len(chosen):
        keys.append(Key("-1", words("map.others", count=len(classes) - len(chosen)), "var(--neutral)"))
    return groups, Legend(keys)


def class_name(table: VectorTable, code: int) -> str:
    """Return the name of a class, or its code where the classes have no names."""
    return table.class_names[code] if table.class_names else str(code)


def verification(methods: Sequence[Method], words: Words) -> list[Section]:
    """ROC curves of all methods in one figure, then their distance histograms. Nothing, without curves."""
    drawn = [method for method in methods if all(_has(trial.results, "roc") for trial in method.trials)]
    if not drawn:
        return []
    sections: list[Section] = [
        Heading(words("roc.heading"), "verification", words("roc.note")),
        Panels([_roc_figure(drawn, words)], _method_legend(drawn, words), "large"),
    ]
    with_histogram = [method for method in drawn if _has(method.first.results, "histogram")]
    if with_histogram:
        keys = [
            Key(str(i), words(f"histogram.{kind}"), figures.colour(i))
            for i, kind in enumerate(("same", "different"))
        ]
        note = Prose([words("histogram.note", seed=drawn[0].first.seed)], "note")
        sections += [note, Panels([_histogram(method, words) for method in with_histogram], Legend(keys))]
    return sections


def _method_legend(methods: Sequence[Method], words: Words) -> Legend:
    return Legend(
        [
            Key(str(i), words.method(m.name), figures.css(m.paint), dashed=m.paint == figures.NEUTRAL)
            for i, m in enumerate(methods)
        ]
    )


def _roc_figure(methods: Sequence[Method], words: Words) -> Figure:
    drawing = figures.roc(
        {m.name: [_far_tar(trial) for trial in m.trials] for m in methods},
        paints={m.name: m.paint for m in methods},
        best=next((m.name for m in methods if m.best), ""),
    )
    svg = figures.to_svg(drawing, words("roc.alt"))
    return Figure(svg, y_title=words("roc.y"), x_title=words("roc.x"))


def _far_tar(trial: Trial) -> _Series:
    curve = trial.results.curves["roc"]
    order = np.lexsort((curve["tar"], curve["far"]))
    return np.asarray(curve["far"])[order], np.asarray(curve["tar"])[order]


def _histogram(method: Method, words: Words) -> Figure:
    results = method.first.results
    curve, line = results.curves["histogram"], threshold(results)
    drawing = figures.distances(curve["edges"], curve["same"], curve["different"], threshold=line)
    label = words("histogram.alt", method=words.method(method.name))
    eer = f"{value_text('eer', results['eer'].value)}%" if "eer" in results else "–"
    caption = words("histogram.caption", threshold=number(line), eer=eer)
    return _panel(method, drawing, label, words, caption=caption)


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
        (words.or_else(f"provenance.{key}", key), value)
        for key, value in provenance.items()
        if value is not None
    ]
    return [*sections, Facts([*facts, *_versions(words)], "terms")]


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
