"""The picture of a loss as springs: what it does to a pair at each distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .figures import INK, PALETTE, SOFT, canvas, frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["spring_figure"]


def spring_figure(
    distance: np.ndarray,
    pull: np.ndarray,
    push: np.ndarray,
    *,
    words: tuple[str, str] = ("positive", "negative"),
    axis: str = "distance",
) -> Figure:
    """Draw the force on a positive and on a negative against their distance; below 0 a force pulls together.

    Args:
        distance: Distances ``(g,)``.
        pull: Force on a positive ``(g,)``.
        push: Force on a negative ``(g,)``.
        words: What the two lines are called.
        axis: What the horizontal axis is called.
    """
    figure, axes = canvas(4.6, 2.6, left=0.11, bottom=0.17)
    for force, paint, word, series in ((pull, PALETTE[0], words[0], 0), (push, PALETTE[1], words[1], 1)):
        axes.fill_between(distance, force, 0, color=paint, alpha=0.12, linewidth=0)
        axes.plot(distance, force, color=paint, linewidth=1.8, gid=f"series-{series}", label=word)
    axes.axhline(0, color=SOFT, linewidth=0.8)
    axes.set_xlim(float(distance[0]), float(distance[-1]))
    top = float(np.nanmax(np.abs(np.concatenate([pull, push])))) or 1.0
    axes.set_ylim(-1.1 * top, 1.1 * top)
    frame(axes, ticks=5)
    axes.set_xlabel(axis, color=SOFT, size=8, labelpad=2)
    axes.set_ylabel("pulls   ·   pushes", color=SOFT, size=8, labelpad=2)
    axes.legend(loc="best", frameon=False, fontsize=8, labelcolor=INK)
    return figure
