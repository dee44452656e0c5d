"""Figures of the report: arrays in, matplotlib figures out.

The figures hold numbers only. Titles and names stand in the page around them, where a browser sets them in the
reader's own fonts: matplotlib's fonts have no Japanese. Nothing here touches pyplot or the global settings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np

from .page import Markup, tag

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "GRID",
    "INK",
    "NEUTRAL",
    "PALETTE",
    "PAPER",
    "SOFT",
    "canvas",
    "colour",
    "css",
    "det",
    "distances",
    "frame",
    "interval",
    "learning",
    "matrix",
    "roc",
    "scale",
    "scatter",
    "to_svg",
]

#: Twenty colours, the first ten told apart with any kind of colour vision, all readable on light and dark paper.
PALETTE = (
    "#0072b2", "#d55e00", "#008f68", "#b4508c", "#b87d00", "#2f8fc9", "#857a00", "#8c564b", "#5b6770", "#6a51a3",
    "#006d77", "#a4133c", "#4d7c0f", "#d6478f", "#1f3a75", "#9a6b3f", "#009c9c", "#8e2a8b", "#2f5d3a", "#b04a3a",
)  # fmt: skip
NEUTRAL = "#8a8f98"
INK, SOFT, GRID, PAPER = "#1c2024", "#667079", "#dcdcd8", "#fffffe"
_SANS = "DejaVu Sans"

#: The page's style sheet gives each colour a second value for dark paper.
_VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    GRID: "--rule",
    PAPER: "--paper",
    NEUTRAL: "--neutral",
    **{value: f"--c{i}" for i, value in enumerate(PALETTE)},
}


def colour(index: int) -> str:
    """Return the colour of a series as CSS, with its value for dark paper.

    >>> colour(0)
    'var(--c0,#0072b2)'
    """
    return css(PALETTE[index % len(PALETTE)])


def css(value: str) -> str:
    """Return a colour of the figures as CSS, with its value for dark paper."""
    name = _VARIABLES.get(value)
    return f"var({name},{value})" if name else value


def scatter(
    points: np.ndarray, groups: np.ndarray, *, marks: Sequence[str] = (), colours: Sequence[str] = PALETTE
) -> Figure:
    """Draw points ``(n, 2)`` coloured by group, each group marked at its median.

    Args:
        points: Positions ``(n, 2)``; the axes have no meaning of their own and are not drawn.
        groups: Group of each point ``(n,)``, an index of ``colours``; −1 is drawn grey below the others.
        marks: Short text at the median of each group, by index.
        colours: Colours by group.
    """
    figure, axes = canvas(2.4, 2.4)
    axes.axis("off")
    span = float(np.ptp(points, axis=0).max()) or 1.0
    size = float(np.clip(60 / np.sqrt(len(points)), 2.0, 5.0))
    for group in np.unique(groups):
        members = points[groups == group]
        paint = NEUTRAL if group < 0 else colours[group % len(colours)]
        axes.add_patch(_dots(members, span * 1e-3, size, paint, f"series-{group}"))
    centre, half = (points.min(axis=0) + points.max(axis=0)) / 2, 0.54 * span
    axes.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] - half, centre[1] + half))
    for group, mark in enumerate(marks):
        if (groups == group).any():
            x, y = np.median(points[groups == group], axis=0)
            text = axes.text(x, y, mark, size=8, weight="bold", color=INK, parse_math=False)
            text.set(ha="center", va="center", gid=f"series-{group}")
    return figure


def _dots(points: np.ndarray, length: float, size: float, paint: str, gid: str):  # type: ignore[no-untyped-def]
    """One path of tiny strokes with round ends: 20 bytes a point in SVG where a marker takes 100."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    ends = np.repeat(points, 2, axis=0)
    ends[1::2, 0] += length
    path = Path(ends, np.tile([Path.MOVETO, Path.LINETO], len(points)))
    path.should_simplify = False  # simplifying drops strokes this short
    patch = PathPatch(path, fill=False, edgecolor=paint, linewidth=size, capstyle="round", alpha=0.75)
    patch.set_gid(gid)
    return patch


def learning(
    runs: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    others: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    paint: str = PALETTE[0],
    y_limits: tuple[float, float] | None = None,
    share: bool = False,
) -> Figure:
    """Draw values against epochs: one thin line a run, the runs of other methods in grey behind them.

    Args:
        runs: ``(epochs, values)`` of each seed; values that are not finite leave a gap.
        others: The same of what is to be shown for comparison.
        paint: Colour of the runs.
        y_limits: Common limits of several panels.
        share: Whether the values are shares, so that the axis goes from 0 to 1 and says percent.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = canvas(2.4, 1.5, left=0.17, bottom=0.17)
    for epochs, values in others:
        axes.plot(epochs, values, color=GRID, linewidth=0.9)
    for epochs, values in runs:
        axes.plot(epochs, values, color=paint, linewidth=1.4, alpha=0.85)
    for stroke, lines in ((GRID, others), (paint, runs)):
        for epochs, values in lines:
            if len(epochs) == 1:  # a line of one point is not seen
                axes.add_patch(_dots(np.stack([epochs, values], axis=1), 1e-3, 4.0, stroke, "epoch"))
    if len(seen := {float(epoch) for epochs, _ in [*others, *runs] for epoch in epochs}) == 1:
        axes.set_xlim(min(seen) - 0.5, max(seen) + 0.5)
    if y_limits is not None:
        axes.set_ylim(*y_limits)
    if share:
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    frame(axes, ticks=3)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    return figure


def roc(
    curves: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]],
    *,
    paints: Mapping[str, str],
    best: str = "",
    small: bool = False,
) -> Figure:
    """Draw true accept rates against false accept rates (logarithmic), the best curve thick and on top.

    Args:
        curves: By series, ``(far, tar)`` of each seed, in [0, 1] and both rising. Their mean is drawn, on straight
            lines between the points.
        paints: Colour by series.
        best: The series to bring out.
        small: Draw it as small as one panel of many.
    """
    size = (2.4, 1.7, 0.17, 0.16) if small else (7.2, 4.0, 0.08, 0.085)
    figure, axes = canvas(*size[:2], left=size[2], bottom=size[3])
    every = [far for seeds in curves.values() for far, _ in seeds]
    smallest = min((far[far > 0].min() for far in every if (far > 0).any()), default=1e-3)
    floor = 10.0 ** np.clip(np.floor(np.log10(smallest)), -5, -2)
    grid = np.geomspace(floor, 1, 240)
    for number, (name, seeds) in enumerate(curves.items()):
        mean = np.mean([np.interp(grid, far, tar) for far, tar in seeds], axis=0)
        dashed = paints[name] == NEUTRAL
        (line,) = axes.plot(grid, mean, color=paints[name], linewidth=2.6 if name == best else 1.3)
        line.set(linestyle="--" if dashed else "-", zorder=3 if name == best else 2, gid=f"series-{number}")
    axes.set_xscale("log")
    axes.set(xlim=(floor, 1), ylim=(0, 1.01))
    frame(axes, ticks=3 if small else 5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.{max(0, -round(np.log10(value)) - 2)}%}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.minorticks_off()
    axes.tick_params(axis="x", pad=7)  # clear of the lowest number of the other axis
    return figure


#: Rates that a normal-deviate axis names.
_RATES = (1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5, 0.8)


def det(
    curves: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]],
    *,
    paints: Mapping[str, str],
    best: str = "",
) -> tuple[Figure, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Draw false reject rates against false accept rates, both on axes of normal deviates (Martin et al. 1997).

    Distances that are normally distributed give a straight line; where it crosses the diagonal, both rates are equal.

    Args:
        curves: As in :func:`roc`; the means over the seeds are drawn.
        paints: Colour by series.
        best: The series to bring out.

    Returns:
        The figure, and by series the rates ``(far, frr)`` that are drawn.
    """
    from scipy.special import ndtri

    figure, axes = canvas(7.2, 4.0, left=0.08, bottom=0.085)
    every = [far for seeds in curves.values() for far, _ in seeds]
    smallest = min((far[far > 0].min() for far in every if (far > 0).any()), default=1e-3)
    floor = 10.0 ** np.clip(np.floor(np.log10(smallest)), -5, -2)
    grid = np.unique(np.concatenate([np.geomspace(floor, 0.1, 160), np.linspace(0.1, 0.9, 80)]))
    drawn = {}
    for number, (name, seeds) in enumerate(curves.items()):
        frr = 1 - np.mean([np.interp(grid, far, tar) for far, tar in seeds], axis=0)
        drawn[name] = grid, frr
        dashed = paints[name] == NEUTRAL
        inside = np.where((frr >= floor) & (frr <= 0.9), frr, np.nan)  # the page does not clip
        (line,) = axes.plot(ndtri(grid), ndtri(inside), color=paints[name])
        line.set(linewidth=2.6 if name == best else 1.3, zorder=3 if name == best else 2)
        line.set(linestyle="--" if dashed else "-", gid=f"series-{number}")
    ends = ndtri(floor), ndtri(0.9)
    axes.plot(ends, ends, color=GRID, linewidth=0.9, zorder=1)  # equal error rates
    axes.set(xlim=ends, ylim=ends)
    frame(axes, ticks=5)
    named = [rate for rate in _RATES if floor <= rate <= 0.9]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ndtri(named), [f"{100 * rate:g}%" for rate in named])
    axes.tick_params(axis="x", pad=7)
    return figure, drawn


def matrix(share: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw a matrix ``(c, c)`` of shares with its names: for a file, the page has a table of its own."""
    side = 1.6 + 0.32 * len(names)
    figure, axes = canvas(side, side, left=0.3, bottom=0.3)
    axes.imshow(share, cmap="Greys", vmin=0, vmax=1)
    places = range(len(names))
    axes.set_xticks(places, names, rotation=60, ha="right")
    axes.set_yticks(places, names)
    for i, j in np.argwhere(share >= 0.005):
        paint = PAPER if share[i, j] > 0.5 else INK
        axes.text(j, i, f"{100 * share[i, j]:.0f}", ha="center", va="center", size=7, color=paint)
    axes.tick_params(length=0, labelsize=8)
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set_parse_math(False)
    return figure


def scale(figure: Figure) -> str:
    """Return ``"a b c d"``: a point (x, y) stands at (a + b·x, c + d·y) in the SVG of a figure with linear axes."""
    axes = figure.axes[0]
    (left, bottom), (right, top) = (
        np.multiply(axes.transData.transform(corner), 72 / figure.dpi)
        for corner in ((axes.get_xlim()[0], axes.get_ylim()[0]), (axes.get_xlim()[1], axes.get_ylim()[1]))
    )
    height = 72 * figure.get_size_inches()[1]
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    b, d = (right - left) / (x1 - x0), -(top - bottom) / (y1 - y0)
    return " ".join(f"{value:.7g}" for value in (left - b * x0, b, height - bottom - d * y0, d))


def distances(
    edges: np.ndarray, same: np.ndarray, different: np.ndarray, *, threshold: float | None = None
) -> Figure:
    """Draw how far apart pairs of the same and of different classes lie, as two overlaid histograms.

    Args:
        edges: Bin edges ``(bins + 1,)``.
        same: Count of same-class pairs in each bin ``(bins,)``; drawn as shares, so that the rare kind is seen.
        different: The same for pairs of different classes.
        threshold: A distance at which to draw a line.
    """
    figure, axes = canvas(2.4, 1.45, left=0.03, bottom=0.17)
    for counts, paint, gid in ((different, PALETTE[1], "series-1"), (same, PALETTE[0], "series-0")):
        shares = counts / max(float(np.sum(counts)), 1.0)
        axes.stairs(shares, edges, fill=True, color=paint, alpha=0.3, linewidth=0, gid=gid)
        axes.stairs(shares, edges, color=paint, linewidth=1.3, gid=gid)
    if threshold is not None and np.isfinite(threshold):
        axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (3, 2)), gid="mark-threshold")
    axes.set_xlim(float(edges[0]), float(edges[-1]))
    axes.set_ylim(bottom=0)
    frame(axes, ticks=3)
    axes.set_yticks([])
    return figure


def canvas(width: float, height: float, *, left: float = 0.02, bottom: float = 0.02) -> tuple[Figure, Axes]:
    """An empty figure of so many inches (72 units of the SVG each), transparent."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left, bottom, 0.97 - left, 0.96 - bottom))
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    return figure, axes


def frame(axes: Axes, *, ticks: int) -> None:
    """Leave of the frame what helps reading: light horizontal lines and the numbers."""
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.spines["bottom"].set(color=SOFT, linewidth=0.6)
    axes.tick_params(length=0, labelsize=8, labelcolor=SOFT, pad=3)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    if axes.get_yscale() == "linear":
        axes.locator_params(axis="y", nbins=ticks)
    if axes.get_xscale() == "linear":
        axes.locator_params(axis="x", nbins=4)


def interval(
    value: float, low: float, high: float, *, limits: tuple[float, float], paint: str, label: str
) -> Markup:
    """Return a dot with its whisker as inline SVG, on the scale of ``limits``, 120 units wide.

    Ends beyond the limits (an interval may be infinite) run to the edge.
    """
    if not np.isfinite(value):
        return Markup()
    span = (limits[1] - limits[0]) or 1.0

    def place(number: float) -> float:
        share = (np.nan_to_num(number, nan=value, posinf=np.inf, neginf=-np.inf) - limits[0]) / span
        return round(5 + 110 * float(np.clip(share, 0, 1)), 2)

    drawn = [
        tag("line", x1=5, x2=115, y1=8, y2=8, class_="rail"),
        tag("line", x1=place(low), x2=place(high), y1=8, y2=8, style=f"stroke:{paint}", class_="whisker"),
        tag("circle", cx=place(value), cy=8, r=4, style=f"fill:{paint}"),
    ]
    return tag("svg", *drawn, viewBox="0 0 120 16", class_="interval", role="img", aria_label=label)


def to_svg(figure: Figure, label: str) -> Markup:
    """Return a figure as inline SVG that takes the fonts and the light or dark colours of the page.

    Args:
        figure: The figure to draw.
        label: What it shows, for those who cannot see it.
    """
    import matplotlib as mpl

    file = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "kyori", "font.sans-serif": [_SANS]}):
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    drawing = file.getvalue()
    for pattern, replacement in _CLEANING:
        drawing = re.sub(pattern, replacement, drawing, flags=re.DOTALL)
    body = drawing[drawing.index(">", drawing.index("<svg")) + 1 : drawing.rindex("</svg>")]
    width, height = 72 * figure.get_size_inches()
    box = f"0 0 {width:g} {height:g}"
    return tag("svg", Markup(body.strip()), viewBox=box, class_="plot", role="img", aria_label=label)


def _paint(found: re.Match[str]) -> str:
    return css(found[0])


#: In this order. Ids would clash between the figures of a page, and the style element would reach all of it.
_CLEANING: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"<metadata>.*?</metadata>|<!--.*?-->|<defs>.*?</defs>", ""),
    (r' clip-path="[^"]*"', ""),
    (r'id="series-(-?\d+)"', r'data-series="\1"'),
    (r'id="mark-(\w+)"', r'data-mark="\1"'),
    (r' id="[^"]*"', ""),
    (r"font: (?:\w+ )*?([\d.]+px) [^;\"]*", r"font-size: \1"),
    (r"(\d\.\d{2})\d+(?=[^<>]*>)", r"\1"),  # coordinates, not the numbers that are read
    (r"#[0-9a-f]{6}\b", _paint),
    (r"<g>\s*</g>|\n\s*", " "),
    (r" {2,}", " "),
)
