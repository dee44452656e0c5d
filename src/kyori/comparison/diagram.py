"""The critical-difference diagram: average ranks over data sets, and bars over those that cannot be told apart.

It is drawn as SVG and not by matplotlib: it holds names, which may be in any script, and the page sets them.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..report import figures
from ..report.page import Markup, tag
from .ranks import Ranks

__all__ = ["rank_columns", "rank_diagram"]

_WIDTH, _SIDE = 720, 190  # units, and the part of them left for names on each side
_LINE, _BAR = 20, 10


def rank_diagram(ranks: Ranks, paints: Mapping[str, str], label: str) -> Markup:
    """Draw the ranks on a line, the best at the left, each method with its name (Demšar 2006).

    Args:
        ranks: The average ranks.
        paints: Colour by method.
        label: What it shows, for those who cannot see it.
    """
    k = len(ranks.methods)
    top, rows = 58.0, (k + 1) // 2
    names_from = top + 18 + _BAR * len(ranks.groups)

    def at(rank: float) -> float:
        return round(_SIDE + (_WIDTH - 2 * _SIDE) * (rank - 1) / max(k - 1, 1), 1)

    soft, ink = figures.css(figures.SOFT), figures.css(figures.INK)
    end = min(at(1 + ranks.critical), _WIDTH - 80)
    drawn = [
        _line([(at(1), 16), (end, 16)], ink, 2),
        _text(end + 6, 20, f"CD {ranks.critical:.2f}", ink, "start"),
        _line([(at(1), top), (at(k), top)], soft, 1),
    ]
    for tick in range(1, k + 1):
        drawn += [
            _line([(at(tick), top), (at(tick), top - 6)], soft, 1),
            _text(at(tick), top - 10, tick, soft, "middle"),
        ]
    for number, (first, last) in enumerate(ranks.groups):
        bar = top + 10.0 + _BAR * number
        drawn.append(_line([(at(ranks.average[first]) - 4, bar), (at(ranks.average[last]) + 4, bar)], ink, 5))
    for i, (name, rank) in enumerate(zip(ranks.methods, ranks.average, strict=True)):
        left = i < rows
        y = names_from + _LINE * (i if left else k - 1 - i)
        side = _SIDE - 14 if left else _WIDTH - _SIDE + 14
        paint = figures.css(paints.get(name, figures.NEUTRAL))
        drawn.append(_line([(at(rank), top), (at(rank), y), (side, y)], paint, 1.5))
        text = f"{name}  {rank:.2f}" if left else f"{rank:.2f}  {name}"
        drawn.append(_text(side + (-6 if left else 6), y + 4, text, ink, "end" if left else "start"))
    height = round(names_from + _LINE * rows)
    return tag("svg", *drawn, viewBox=f"0 0 {_WIDTH} {height}", class_="plot", role="img", aria_label=label)


def rank_columns(ranks: Ranks) -> dict[str, list[object]]:
    """Return what the diagram shows, by column: a line a method."""
    apart = [
        ", ".join(other for other in ranks.methods if other != name and ranks.differ(name, other))
        for name in ranks.methods
    ]
    return {
        "method": list(ranks.methods),
        "average_rank": list(ranks.average),
        "critical_difference": [ranks.critical] * len(apart),
        "told_apart_from": list(apart),
    }


def _line(points: list[tuple[float, float]], paint: str, width: float) -> Markup:
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    return tag(
        "polyline", points=path, style=f"fill:none;stroke:{paint};stroke-width:{width:g};stroke-linecap:round"
    )


def _text(x: float, y: float, text: object, paint: str, anchor: str) -> Markup:
    return tag(
        "text", text, x=f"{x:g}", y=f"{y:g}", style=f"fill:{paint};font-size:12px;text-anchor:{anchor}"
    )
