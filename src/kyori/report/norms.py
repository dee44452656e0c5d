"""What the length of the unconstrained features says: short features are hard items (Ranjan et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..neighbors import distance_blocks
from ..vectors import VectorTable
from . import figures
from .data import Data
from .page import Figure, Gallery, Heading, Key, Legend, Markup, Panels, Prose, Section, Tile, tag
from .sections import Method, Trial, class_name, number, panel, value_text
from .thumbnails import thumbnail
from .words import Words

__all__ = ["THIRDS", "NormRates", "norm_rates", "norms"]

THIRDS = ("short", "middle", "long")
_ITEMS = 1000  # of each third at most: half a million pairs
_POINTS = 300
_SHOWN = 10
_COLUMN = "feature_norm"


@dataclass(frozen=True, eq=False)
class NormRates:
    """Verification among the items of one third of the norms.

    Attributes:
        third: ``"short"``, ``"middle"`` or ``"long"``.
        items: How many items were compared; all of the third, or a sample.
        same: How many pairs of one class there are among them.
        different: How many pairs of different classes.
        eer: Equal error rate; NaN where one kind of pair is missing.
        far: False accept rates ``(t,)``, rising.
        tar: True accept rates ``(t,)``.
    """

    third: str
    items: int
    same: int
    different: int
    eer: float
    far: np.ndarray
    tar: np.ndarray


def norms(
    methods: Sequence[Method], shown: Trial, items: Any, words: Words, *, count: int = _SHOWN
) -> list[Section]:
    """Histogram of the norms, ROC by thirds of them, and the items with the shortest and longest features.

    Nothing, where no table has a column ``feature_norm`` with different values: raw input, and runs of older versions.

    Args:
        methods: Each gets a panel; the first trial of each is drawn.
        shown: The trial whose shortest and longest items are shown.
        items: What can ``read(index)`` an item.
        words: The language.
        count: How many items of each kind.
    """
    drawn = [method for method in methods if _known(method.first.table)]
    if not drawn:
        return []
    constrained = words.method("l2softmax")
    both = {"softmax", "l2softmax"} <= {method.name for method in drawn}
    if both:  # the two to be compared come first
        first = ("softmax", "l2softmax")
        drawn.sort(key=lambda method: first.index(method.name) if method.name in first else len(first))
    note = words("norms.note", seed=drawn[0].first.seed)
    if both:
        free = words.method("softmax")
        note = words.sentences(note, words("norms.note.both", free=free, constrained=constrained))
    keys = [Key(str(i), words(f"norms.{third}"), figures.colour(i)) for i, third in enumerate(THIRDS)]
    histograms = [_histogram(method, words) for method in drawn]
    found = [(method, norm_rates(method.first.table)) for method in drawn]
    curves = [_roc(method, rates, words) for method, rates in found if any(len(r.far) for r in rates)]
    sections: list[Section] = [
        Heading(words("norms.heading"), "norms", note),
        Panels(histograms, Legend(keys)),
    ]
    if curves:
        sections += [Prose([words("norms.roc")], "note"), Panels(curves, Legend(keys))]
        if any(
            r.items < third_size
            for (m, rates) in found
            for r, third_size in zip(rates, _sizes(m), strict=True)
        ):
            sections.append(Prose([words("norms.sampled", most=f"{_ITEMS:,}")], "note"))
    return [*sections, *_extremes(shown, items, words, count)]


def norm_rates(table: VectorTable, *, seed: int = 0, most: int = _ITEMS) -> list[NormRates]:
    """Verify all pairs within each third of the norms: short, middle and long ones (methods: Ranjan et al. 2017).

    Args:
        table: With labels and a column ``feature_norm``; distances are those of the vectors, euclidean.
        seed: Of the sample.
        most: More items than this in a third are sampled evenly at random.

    Returns:
        One entry a third, by rising norm; its curve is empty where it has no pairs of one of the kinds.
    """
    return [_rates(table, name, rows, seed, most) for name, rows in zip(THIRDS, _thirds(table), strict=True)]


def _thirds(table: VectorTable) -> list[np.ndarray]:
    return np.array_split(np.argsort(table.columns[_COLUMN], kind="stable"), 3)


def _sizes(method: Method) -> list[int]:
    return [len(rows) for rows in _thirds(method.first.table)]


def _rates(table: VectorTable, third: str, rows: np.ndarray, seed: int, most: int) -> NormRates:
    if len(rows) > most:
        rows = np.random.default_rng(seed).choice(rows, most, replace=False)
    nothing = np.zeros(0)
    if table.labels is None or len(rows) < 2:
        return NormRates(third, len(rows), 0, 0, float("nan"), nothing, nothing)
    vectors, labels = table.vectors[rows], table.labels[rows]
    distances, same = [], []
    for block, found in distance_blocks(vectors, vectors):
        upper = np.arange(len(rows))[None] > np.arange(block.start, block.stop)[:, None]
        distances.append(found[upper])
        same.append((labels[block, None] == labels[None])[upper])
    return _curve(third, len(rows), np.concatenate(distances), np.concatenate(same))


def _curve(third: str, items: int, distances: np.ndarray, same: np.ndarray) -> NormRates:
    positives, negatives = int(same.sum()), int((~same).sum())
    if not positives or not negatives:
        return NormRates(third, items, positives, negatives, float("nan"), np.zeros(0), np.zeros(0))
    order = np.argsort(distances, kind="stable")
    last = np.append(np.diff(distances[order]) > 0, True)  # equal distances are accepted together
    tar = np.concatenate([[0.0], (np.cumsum(same[order]) / positives)[last]])
    far = np.concatenate([[0.0], (np.cumsum(~same[order]) / negatives)[last]])
    gap = far + tar - 1  # FAR − FRR, from −1 to 1 along the curve
    after = int(np.argmax(gap >= 0))
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    eer = float(far[after - 1] + share * (far[after] - far[after - 1]))
    even = np.concatenate([np.geomspace(1 / negatives, 1, _POINTS // 2), np.linspace(0, 1, _POINTS // 2)])
    kept = np.unique(np.concatenate([np.searchsorted(far, even, side="right") - 1, [0, len(far) - 1]]))
    return NormRates(third, items, positives, negatives, eer, far[kept], tar[kept])


def _known(table: VectorTable) -> bool:
    values = table.columns.get(_COLUMN)
    if values is None or values.dtype.kind != "f" or len(values) < 2 or not np.isfinite(values).all():
        return False
    return bool(np.ptp(values) > 1e-5 * np.abs(values).max())


def _histogram(method: Method, words: Words) -> Figure:
    values = method.first.table.columns[_COLUMN]
    edges = np.histogram_bin_edges(values, bins=40)
    parts = [values[rows] for rows in _thirds(method.first.table)]
    counts = [np.histogram(part, edges)[0] for part in parts]
    stacked = _stacked(edges, counts)
    low, middle, high = (number(float(v)) for v in np.quantile(values, (0, 0.5, 1)))
    caption = words("norms.caption", low=low, median=middle, high=high)
    columns = {
        "from": edges[:-1],
        "to": edges[1:],
        **dict(zip(THIRDS, counts, strict=True)),
    }
    label = words("norms.alt", method=words.method(method.name), low=low, median=middle, high=high)
    axes = words("axis.norm"), words("axis.items")
    data = Data(f"norms-{method.name}", columns)
    return panel(method, stacked, label, words, caption=caption, data=data, axes=axes)


def _stacked(edges: np.ndarray, counts: Sequence[np.ndarray]) -> Any:
    """One histogram of all items whose thirds have colours; they meet in two bins at most, where they stand stacked."""
    figure, axes = figures.canvas(2.4, 1.45, left=0.03, bottom=0.17)
    below = np.zeros(len(edges) - 1)
    for i, values in enumerate(counts):
        axes.stairs(
            below + values,
            edges,
            baseline=below,
            fill=True,
            color=figures.PALETTE[i],
            alpha=0.6,
            gid=f"series-{i}",
        )
        below = below + values
    axes.set_xlim(float(edges[0]), float(edges[-1]))
    axes.set_ylim(bottom=0)
    figures.frame(axes, ticks=3)
    axes.set_yticks([])
    return figure


def _roc(method: Method, rates: Sequence[NormRates], words: Words) -> Figure:
    drawn = [r for r in rates if len(r.far)]
    drawing = figures.roc(
        {r.third: [(r.far, r.tar)] for r in drawn},
        paints={third: figures.PALETTE[i] for i, third in enumerate(THIRDS)},
        small=True,
    )
    for line, r in zip(drawing.axes[0].lines, drawn, strict=True):
        line.set_gid(f"series-{THIRDS.index(r.third)}")
    errors = ", ".join(f"{words(f'norms.{r.third}')} {value_text('eer', r.eer)}" for r in rates)
    label = words("norms.roc.alt", method=words.method(method.name), errors=errors)
    columns: dict[str, Sequence[str] | np.ndarray] = {
        "third": [r.third for r in drawn for _ in r.far],
        "far": np.concatenate([r.far for r in drawn]),
        "tar": np.concatenate([r.tar for r in drawn]),
    }
    return panel(
        method,
        drawing,
        label,
        words,
        caption=words("norms.eer", errors=errors),
        data=Data(f"norms-roc-{method.name}", columns),
        axes=(words("roc.x"), words("roc.y")),
    )


def _extremes(trial: Trial, items: Any, words: Words, count: int) -> list[Section]:
    if not _known(trial.table):
        return []
    order = np.argsort(trial.table.columns[_COLUMN], kind="stable")
    count = min(count, len(order) // 2)
    return [
        Gallery(
            words(f"norms.items.{kind}", method=words.method(trial.method)),
            [_item(trial, items, int(i), words) for i in chosen],
            kind="small",
        )
        for kind, chosen in (("shortest", order[:count]), ("longest", order[::-1][:count]))
    ]


def _item(trial: Trial, items: Any, index: int, words: Words) -> Tile:
    table = trial.table
    named = table.labels is not None
    name = class_name(table, int(np.asarray(table.labels)[index])) if named else ""
    alt = (
        words("item.alt", id=table.ids[index], name=name)
        if named
        else words("item.alt.unlabelled", id=table.ids[index])
    )
    norm = number(float(table.columns[_COLUMN][index]))
    return Tile([thumbnail(items.read(index), alt)], Markup(tag("b", norm) + tag("span", name)))
