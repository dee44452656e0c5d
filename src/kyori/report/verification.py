"""Same or different: ROC and DET curves of all methods, and histograms of their distances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import figures
from .data import Data
from .page import Figure, Heading, Key, Legend, Panels, Prose, Section
from .sections import Method, Trial, has_curve, number, panel, threshold, value_text
from .words import Words

__all__ = ["verification"]


def verification(methods: Sequence[Method], words: Words) -> list[Section]:
    """ROC and DET curves of all methods, each in one figure, then their distance histograms.

    Nothing, where there are no curves.
    """
    drawn = [method for method in methods if all(has_curve(t.results, "roc") for t in method.trials)]
    if not drawn:
        return []
    rates = Panels(
        [_roc_figure(drawn, words), _det_figure(drawn, words)], _method_legend(drawn, words), "large"
    )
    sections: list[Section] = [Heading(words("roc.heading"), "verification", words("roc.note")), rates]
    with_histogram = [method for method in drawn if has_curve(method.first.results, "histogram")]
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


def _paints(methods: Sequence[Method]) -> dict[str, str]:
    return {method.name: method.paint for method in methods}


def _best(methods: Sequence[Method]) -> str:
    return next((method.name for method in methods if method.best), "")


def _roc_figure(methods: Sequence[Method], words: Words) -> Figure:
    drawing = figures.roc(
        {m.name: [far_tar(trial) for trial in m.trials] for m in methods},
        paints=_paints(methods),
        best=_best(methods),
    )
    rows: list[tuple[str, str, float, float, float]] = []
    for method, line in zip(methods, drawing.axes[0].lines, strict=True):
        curve = method.first.results.curves["roc"]
        kept = _thinned(np.asarray(curve["far"], float), np.asarray(curve["tar"], float))
        columns = [np.asarray(curve[name], float)[kept].tolist() for name in ("far", "tar", "threshold")]
        rows += [(method.name, str(method.first.seed), *values) for values in zip(*columns, strict=True)]
        rows += [
            (method.name, "mean", far, tar, float("nan"))
            for far, tar in zip(*(np.asarray(side, float).tolist() for side in line.get_data()), strict=True)
        ]
    names = ("method", "seed", "far", "tar", "threshold")
    data = Data("roc", dict(zip(names, zip(*rows, strict=True), strict=True)))
    svg = figures.to_svg(drawing, words("roc.alt"))
    return Figure(
        svg,
        title=words("roc.title"),
        y_title=words("roc.y"),
        x_title=words("roc.x"),
        data=data,
        data_label=words("figure.data"),
        plot=drawing,
        facts={"kind": "roc"},
    )


def _det_figure(methods: Sequence[Method], words: Words) -> Figure:
    drawing, drawn = figures.det(
        {m.name: [far_tar(trial) for trial in m.trials] for m in methods},
        paints=_paints(methods),
        best=_best(methods),
    )
    data: dict[str, Sequence[str] | np.ndarray] = {
        "method": [name for name, (far, _) in drawn.items() for _ in far],
        "far": np.concatenate([far for far, _ in drawn.values()]),
        "frr": np.concatenate([frr for _, frr in drawn.values()]),
    }
    return Figure(
        figures.to_svg(drawing, words("det.alt")),
        title=words("det.title"),
        caption=words("det.note"),
        y_title=words("det.y"),
        x_title=words("det.x"),
        data=Data("det", data),
        data_label=words("figure.data"),
        plot=drawing,
    )


def far_tar(trial: Trial) -> tuple[np.ndarray, np.ndarray]:
    """Return the ROC curve of a trial with both rates rising."""
    curve = trial.results.curves["roc"]
    order = np.lexsort((curve["tar"], curve["far"]))
    return np.asarray(curve["far"])[order], np.asarray(curve["tar"])[order]


def _thinned(far: np.ndarray, tar: np.ndarray, most: int = 500) -> np.ndarray:
    """Up to so many points of a curve, at even steps of the path along it; the ends are kept."""
    if len(far) <= most:
        return np.arange(len(far))
    log = np.log10(np.maximum(far, 1e-6)) / 6
    path = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(log)) + np.abs(np.diff(tar)))])
    wanted = np.linspace(0, path[-1], most)
    return np.unique(
        np.concatenate([np.searchsorted(path, wanted).clip(max=len(far) - 1), [0, len(far) - 1]])
    )


def _histogram(method: Method, words: Words) -> Figure:
    trial, results = method.first, method.first.results
    curve, line = results.curves["histogram"], threshold(results)
    edges = np.asarray(curve["edges"], float)
    drawing = figures.distances(edges, curve["same"], curve["different"], threshold=line)
    label = words("histogram.alt", method=words.method(method.name))
    eer = f"{value_text('eer', results['eer'].value)}%" if "eer" in results else "–"
    caption = words("histogram.caption", threshold=number(line), eer=eer)
    data = {
        "from": edges[:-1],
        "to": edges[1:],
        **{f"{kind}_share": _shares(curve[kind]) for kind in ("same", "different")},
    }
    facts = {
        "kind": "threshold",
        "method": method.name,
        "seed": trial.seed,
        "threshold": f"{line:.7g}",
        "range": f"{edges[0]:.7g} {edges[-1]:.7g}",
        "scale": figures.scale(drawing),
        "text": words.raw("histogram.said"),
        "label": words("histogram.slider"),
    }
    axes = words("axis.distance"), words("axis.share")
    return panel(
        method,
        drawing,
        label,
        words,
        caption=caption,
        data=Data(f"distances-{method.name}", data),
        facts=facts if np.isfinite(line) else {},
        axes=axes,
    )


def _shares(counts: np.ndarray) -> np.ndarray:
    """The heights that are drawn: each kind of pair sums to 1."""
    values = np.asarray(counts, dtype=float)
    return values / max(float(values.sum()), 1.0)
