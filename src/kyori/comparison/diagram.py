"""The critical-difference diagram: average ranks over data sets, and bars over those that cannot be told apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..report import figures
from .ranks import Ranks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["rank_diagram", "rank_records"]


def rank_diagram(ranks: Ranks, paints: Mapping[str, str]) -> Figure:
    """Draw the ranks on a line, the best at the left, each method with its name (Demšar 2006).

    Args:
        ranks: The average ranks.
        paints: Colour by method.
    """
    k = len(ranks.methods)
    rows, bars = (k + 1) // 2, len(ranks.groups)
    depth = 1.0 + 0.35 * bars
    figure, axes = figures.canvas(7.2, 0.5 + 0.24 * (rows + depth))
    axes.axis("off")
    margin = 0.36 * max(k - 1, 1)
    axes.set(xlim=(1 - margin, k + margin), ylim=(-depth - rows + 0.4, 2.3))
    axes.plot([1, k], [0, 0], color=figures.SOFT, linewidth=0.8)
    for rank in range(1, k + 1):
        axes.plot([rank, rank], [0, 0.22], color=figures.SOFT, linewidth=0.8)
        axes.text(rank, 0.4, str(rank), size=8, color=figures.SOFT, ha="center", va="bottom")
    wide = min(ranks.critical, k - 1)
    axes.plot([1, 1 + wide], [1.75, 1.75], color=figures.INK, linewidth=1.2)
    beyond = "" if wide == ranks.critical else " >"
    label = f"CD {ranks.critical:.2f}{beyond}"
    axes.text(1 + wide + 0.02 * k, 1.75, label, size=8, color=figures.INK, ha="left", va="center")
    for number, (first, last) in enumerate(ranks.groups):
        y, pad = -0.4 - 0.35 * number, 0.012 * k
        ends = [ranks.average[first] - pad, ranks.average[last] + pad]
        axes.plot(ends, [y, y], color=figures.INK, linewidth=3, solid_capstyle="round")
    for i, (name, rank) in enumerate(zip(ranks.methods, ranks.average, strict=True)):
        left = i < rows
        y = -depth - (i if left else k - 1 - i)
        end = 1 - 0.06 * margin if left else k + 0.06 * margin
        paint = paints.get(name, figures.INK)
        axes.plot([rank, rank, end], [0, y, y], color=paint, linewidth=1)
        text = f"{name}  {rank:.2f}" if left else f"{rank:.2f}  {name}"
        place = 1 - 0.12 * margin if left else k + 0.12 * margin
        drawn = axes.text(place, y, text, size=8, color=figures.INK, va="center", parse_math=False)
        drawn.set_ha("right" if left else "left")
    return figure


def rank_records(ranks: Ranks) -> list[dict[str, object]]:
    """Return what the diagram shows: a record a method."""
    return [
        {
            "method": name,
            "average_rank": rank,
            "datasets": ranks.datasets,
            "critical_difference": ranks.critical,
            "told_apart_from": [
                other for other in ranks.methods if other != name and ranks.differ(name, other)
            ],
        }
        for name, rank in zip(ranks.methods, ranks.average, strict=True)
    ]
