"""How the training went: validation measure, loss and share of active terms against epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from . import figures
from .data import Data
from .page import Figure, Heading, Panels, Prose, Section
from .sections import Method, Trial, panel
from .words import Words

__all__ = ["curves"]

_Series = tuple[np.ndarray, np.ndarray]
_Read = Callable[[Mapping[str, Any]], Any]


def curves(methods: Sequence[Method], measure: str, words: Words) -> list[Section]:
    """Validation measure, loss and active share against epochs, a panel a method. Nothing, if nothing was trained."""
    trained = [method for method in methods if any(trial.history for trial in method.trials)]
    if not trained:
        return []
    several_seeds = max(len(method.trials) for method in trained) > 1
    note = words("curves.note" if several_seeds else "curves.note.one")
    heading = Heading(words("curves.heading"), "training", note)
    validation = _validation_panels(trained, measure, words)
    losses = [_loss_panel(method, words) for method in trained]
    active = _active_panels(trained, words)
    unknown: list[Section] = [] if validation else [Prose([words("curves.no_validation")], "note")]
    if len(trained) == 1:
        titles = [words("curves.validation.one", measure=words.measure(measure))] * len(validation)
        titles += [words("curves.loss.one"), *[words("curves.active.one")] * len(active)]
        panels = [
            replace(figure, title=title)
            for figure, title in zip([*validation, *losses, *active], titles, strict=True)
        ]
        return [heading, *unknown, Panels(panels)]
    note = words("curves.validation", measure=words.measure(measure))
    above: list[Section] = [Prose([note], "note"), Panels(validation)] if validation else unknown
    below: list[Section] = [Prose([words("curves.active")], "note"), Panels(active)] if active else []
    return [heading, *above, Prose([words("curves.loss")], "note"), Panels(losses), *below]


def _series(trial: Trial, read: _Read) -> _Series:
    """Epochs and values, where they were recorded."""
    found = [(r["epoch"], read(r)) for r in trial.history if "epoch" in r and read(r) is not None]
    array = np.asarray(found, dtype=float).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _data(name: str, method: Method, runs: Mapping[int, _Series], column: str) -> Data:
    """The lines of a panel as a table: seed, epoch, value."""
    return Data(
        f"{name}-{method.name}",
        {
            "seed": [seed for seed, (epochs, _) in runs.items() for _ in epochs],
            "epoch": [int(epoch) for epochs, _ in runs.values() for epoch in epochs],
            column: [float(value) for _, values in runs.values() for value in values],
        },
    )


def _recorded(method: Method, read: _Read) -> dict[int, _Series]:
    found = {trial.seed: _series(trial, read) for trial in method.trials}
    return {seed: series for seed, series in found.items() if len(series[0])}


def _validation_panels(methods: Sequence[Method], measure: str, words: Words) -> list[Figure]:
    """One panel a method that was validated, all on one scale, in percent."""

    def read(record: Mapping[str, Any]) -> Any:
        value = (record.get("validation") or {}).get(measure)
        return None if value is None else 100 * value

    found = {method.name: runs for method in methods if (runs := _recorded(method, read))}
    if not found:
        return []
    every = np.concatenate([values for runs in found.values() for _, values in runs.values()])
    limits = _padded(float(np.nanmin(every)), float(np.nanmax(every))) if np.isfinite(every).any() else None
    panels = []
    for method in (m for m in methods if m.name in found):
        runs = found[method.name]
        others = [run for name, other in found.items() if name != method.name for run in other.values()]
        drawing = figures.learning(list(runs.values()), others=others, paint=method.paint, y_limits=limits)
        label = words(
            "curves.validation.alt",
            method=words.method(method.name),
            measure=words.measure(measure),
            last=f"{np.mean([values[-1] for _, values in runs.values()]):.1f}",
        )
        axes = words("axis.epoch"), words.measure(measure)
        data = _data("validation", method, runs, f"{measure} (%)")
        panels.append(panel(method, drawing, label, words, data=data, axes=axes))
    return panels


def _loss_panel(method: Method, words: Words) -> Figure:
    runs = _recorded(method, lambda record: record.get("loss"))
    drawing = figures.learning(list(runs.values()), paint=method.paint)
    label = words("curves.loss.alt", method=words.method(method.name))
    axes = words("axis.epoch"), words("axis.loss")
    return panel(method, drawing, label, words, data=_data("loss", method, runs, "loss"), axes=axes)


def _active_panels(methods: Sequence[Method], words: Words) -> list[Figure]:
    """One panel a method whose loss has terms that can be at rest."""
    panels = []
    for method in methods:
        runs = _recorded(method, lambda record: record.get("active"))
        if not runs:
            continue
        drawing = figures.learning(list(runs.values()), paint=method.paint, share=True)
        last = f"{100 * np.mean([values[-1] for _, values in runs.values()]):.0f}"
        label = words("curves.active.alt", method=words.method(method.name), last=last)
        axes = words("axis.epoch"), words("axis.active")
        panels.append(
            panel(method, drawing, label, words, data=_data("active", method, runs, "active"), axes=axes)
        )
    return panels


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin
