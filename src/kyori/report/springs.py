"""The picture of a loss as springs: what it does to a pair at each distance, and where the pairs of the data lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..vectors import VectorTable
from . import figures
from .data import Data
from .figures import INK, PALETTE, SOFT, canvas, frame
from .page import Figure, Heading, Key, Legend, Panels, Prose, Section
from .sections import Method, Trial, has_curve, panel
from .settling import Settled, settling_figure
from .words import Words

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot

__all__ = ["Spring", "angles_to_means", "spring_figure", "springs"]

_BINS = 60
_ITEMS, _CLASSES = 2000, 200  # of the histogram of angles: at most 400,000 of them


@dataclass(frozen=True, eq=False)
class Spring:
    """What a loss does, as values.

    Attributes:
        distance: Distances, or angles to a class vector in radians, ``(g,)``.
        pull: Force on a positive, or towards the own class, ``(g,)``; below 0 it pulls together.
        push: Force on a negative, or from another class, ``(g,)``.
        angles: Whether ``distance`` holds angles.
        settled: Points of the plane under these forces, where the loss takes such points.
    """

    distance: np.ndarray
    pull: np.ndarray
    push: np.ndarray
    angles: bool = False
    settled: Settled | None = None


def springs(methods: Sequence[Method], forces: Mapping[str, Spring], words: Words) -> list[Section]:
    """Force against distance for each method whose forces are known, over the distances of the test items.

    Args:
        methods: The methods of the page.
        forces: Springs by the names of methods; nothing is drawn for the others.
        words: The language.
    """
    drawn = [method for method in methods if method.name in forces]
    if not drawn:
        return []
    keys = [
        Key(str(i), words(f"springs.{kind}"), figures.colour(i)) for i, kind in enumerate(("pull", "push"))
    ]
    panels = [_force_panel(method, forces[method.name], words) for method in drawn]
    sections: list[Section] = [
        Heading(words("springs.heading"), "springs", words("springs.note")),
        Panels(panels, Legend(keys)),
    ]
    moving = [
        settling_figure(settled, words, title=words.method(method.name), name=method.name, best=method.best)
        for method in drawn
        if (settled := forces[method.name].settled) is not None
    ]
    if moving:
        sections += [Prose([words("settling.note")], "note"), Panels(moving)]
    return sections


def spring_figure(
    distance: np.ndarray,
    pull: np.ndarray,
    push: np.ndarray,
    *,
    words: tuple[str, str] = ("positive", "negative"),
    axis: str = "distance",
) -> Plot:
    """Draw the force on a positive and on a negative against their distance; below 0 a force pulls together.

    Args:
        distance: Distances ``(g,)``.
        pull: Force on a positive ``(g,)``.
        push: Force on a negative ``(g,)``.
        words: What the two lines are called.
        axis: What the horizontal axis is called.
    """
    figure, axes = canvas(4.6, 2.6, left=0.11, bottom=0.17)
    _draw_forces(axes, Spring(distance, pull, push), words)
    frame(axes, ticks=5)
    axes.set_xlabel(axis, color=SOFT, size=8, labelpad=2)
    axes.set_ylabel("pulls   ·   pushes", color=SOFT, size=8, labelpad=2)
    axes.legend(loc="best", frameon=False, fontsize=8, labelcolor=INK)
    return figure


def _draw_forces(axes, spring: Spring, words: tuple[str, str] = ("", "")) -> None:  # type: ignore[no-untyped-def]
    for i, force in enumerate((spring.pull, spring.push)):
        axes.fill_between(spring.distance, force, 0, color=PALETTE[i], alpha=0.12, linewidth=0)
        axes.plot(spring.distance, force, color=PALETTE[i], linewidth=1.8, gid=f"series-{i}", label=words[i])
    axes.axhline(0, color=SOFT, linewidth=0.8)
    axes.set_xlim(float(spring.distance[0]), float(spring.distance[-1]))
    top = float(np.nanmax(np.abs(np.concatenate([spring.pull, spring.push])))) or 1.0
    axes.set_ylim(-1.1 * top, 1.1 * top)


def _force_panel(method: Method, spring: Spring, words: Words) -> Figure:
    found = angles_to_means(method.first.table) if spring.angles else _distances(method.first)
    drawing, axes = canvas(2.4, 1.9, left=0.15, bottom=0.14)
    shares: dict[str, np.ndarray] = {}
    if found is not None:
        edges, *counts = found
        heap = drawing.add_axes(axes.get_position().bounds)
        heap.patch.set_visible(False)
        heap.axis("off")
        for i, (name, values) in enumerate(zip(("same", "different"), counts, strict=True)):
            shares[name] = values / max(float(np.sum(values)), 1e-12)
            heap.stairs(
                shares[name], edges, fill=True, color=PALETTE[i], alpha=0.22, linewidth=0, gid=f"series-{i}"
            )
        heap.set_xlim(float(spring.distance[0]), float(spring.distance[-1]))
        heap.set_ylim(0, 1.6 * max(max(float(s.max()) for s in shares.values()), 1e-12))
        heap.set_zorder(0)
        axes.set_zorder(1)
    _draw_forces(axes, spring)
    frame(axes, ticks=3)
    axes.grid(visible=False)
    kind = "angle" if spring.angles else "distance"
    label = words(f"springs.alt.{kind}", method=words.method(method.name))
    return panel(
        method,
        drawing,
        label,
        words,
        caption=words(f"springs.caption.{kind}"),
        data=_data(method.name, spring, None if found is None else found[0], shares, kind),
        axes=(words(f"axis.{kind}"), words("axis.force")),
    )


def _data(
    name: str, spring: Spring, edges: np.ndarray | None, shares: Mapping[str, np.ndarray], kind: str
) -> Data:
    """Forces and histogram in one table: a row a point of the lines, then a row a bin, told apart by ``what``."""
    columns: dict[str, list[object]] = {"what": [], kind: [], "same": [], "different": []}
    for row in zip(spring.distance.tolist(), spring.pull.tolist(), spring.push.tolist(), strict=True):
        for column, value in zip(columns.values(), ("force", *row), strict=True):
            column.append(value)
    if edges is not None:
        middles = ((edges[1:] + edges[:-1]) / 2).tolist()
        for row in zip(middles, shares["same"].tolist(), shares["different"].tolist(), strict=True):
            for column, value in zip(columns.values(), ("share", *row), strict=True):
                column.append(value)
    return Data(f"springs-{name}", columns)


def _distances(trial: Trial) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    if not has_curve(trial.results, "histogram"):
        return None
    curve = trial.results.curves["histogram"]
    edges, same, different = (np.asarray(curve[name], float) for name in ("edges", "same", "different"))
    return edges, same, different


def angles_to_means(table: VectorTable, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Count the angles of items to the mean direction of their own class and to those of the other classes.

    The means of the test items stand for the class vectors, which the classes of a test may not have. An item is
    left out of the mean that it is compared with.

    Args:
        table: Vectors with labels.
        seed: Of the sample, where there are more than 2,000 items or 200 classes.

    Returns:
        Bin edges from 0 to π ``(61,)`` and the counts of own and of other classes ``(60,)``; None without labels, and
        where no class has two items or there is one class.
    """
    if table.labels is None:
        return None
    _, codes, sizes = np.unique(table.labels, return_inverse=True, return_counts=True)
    if len(sizes) < 2 or sizes.max() < 2:
        return None
    directions = _unit(table.vectors.astype(np.float64))
    sums = np.zeros((len(sizes), directions.shape[1]))
    np.add.at(sums, codes, directions)
    random = np.random.default_rng(seed)
    items = np.sort(random.permutation(len(codes))[:_ITEMS])
    classes = np.sort(random.permutation(len(sizes))[:_CLASSES])
    several = items[sizes[codes[items]] > 1]
    own = (directions[several] * _unit(sums[codes[several]] - directions[several])).sum(axis=1)
    others = directions[items] @ _unit(sums[classes]).T
    others = others[codes[items][:, None] != classes[None]]
    edges = np.linspace(0, np.pi, _BINS + 1)
    same, different = (np.histogram(np.arccos(c.clip(-1, 1)), edges)[0] for c in (own, others))
    return edges, same, different


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
