"""Points of a plane that settle under the forces of a loss, as a picture that moves.

The picture itself is the last moment with the ways to it, which is what is printed, and what is seen without a script
or by readers who want nothing to move; the page's script moves the points along the same ways.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .data import Data
from .figures import colour, css
from .page import Figure, Markup, Panels, Prose, render, tag
from .words import Words

__all__ = ["Settled", "settling_figure", "settling_page"]

_SIDE, _EDGE = 172, 10  # of the picture, in its own units: as wide as the small panels of matplotlib
_SECONDS = 6


@dataclass(frozen=True, eq=False)
class Settled:
    """Where points were at some moments.

    Attributes:
        points: Positions ``(t, n, 2)``.
        labels: Class of each point ``(n,)``, from 0.
        vectors: Positions of the class vectors ``(t, m, 2)``; m may be 0.
        vector_labels: Class of each class vector ``(m,)``.
        values: The loss ``(t,)``.
        spherical: Whether all points lie on the unit circle, which is drawn then.
    """

    points: np.ndarray
    labels: np.ndarray
    vectors: np.ndarray
    vector_labels: np.ndarray
    values: np.ndarray
    spherical: bool


def settling_figure(
    settled: Settled, words: Words, *, title: str = "", name: str = "", best: bool = False
) -> Figure:
    """Return the moving picture of one loss.

    Args:
        settled: The moments.
        words: The language.
        title: Stands above it.
        name: What the data are of, for the name of their file.
        best: Whether it belongs to the best method.
    """
    places = np.concatenate([settled.points, settled.vectors], axis=1)
    classes = np.concatenate([settled.labels, settled.vector_labels])
    kinds = ["item"] * len(settled.labels) + ["class vector"] * len(settled.vector_labels)
    offset, factor = _scale(places, settled.spherical)
    x, y = offset[0] + factor * places[..., 0], offset[1] - factor * places[..., 1]
    drawn = [_guide(settled.spherical, offset, factor)]
    drawn += [_trail(x[:, i], y[:, i], classes[i]) for i in range(len(classes))]
    drawn += [_mark(kind, x[-1, i], y[-1, i], classes[i]) for i, kind in enumerate(kinds)]
    values = {"first": _value(settled.values[0]), "last": _value(settled.values[-1])}
    label = words("settling.alt", name=title or name, n=len(settled.labels))
    svg = tag("svg", *drawn, viewBox=f"0 0 {_SIDE} {_SIDE}", class_="plot", role="img", aria_label=label)
    t, n = places.shape[:2]
    columns = {
        "frame": np.repeat(np.arange(t), n),
        "point": np.tile(np.arange(n), t),
        "class": np.tile(classes, t),
        "kind": kinds * t,
        "x": np.round(places[..., 0].ravel(), 3),
        "y": np.round(places[..., 1].ravel(), 3),
    }
    facts = {
        "kind": "settling",
        "scale": f"{offset[0]:.6g} {factor:.6g} {offset[1]:.6g} {-factor:.6g}",
        "seconds": _SECONDS,
        "play": words("settling.play"),
        "pause": words("settling.pause"),
        "time": words("settling.time"),
    }
    return Figure(
        svg,
        title=title,
        caption=words("settling.caption", **values),
        best=best,
        data=Data(f"settling-{name}", columns),
        data_label=words("figure.data"),
        facts=facts,
    )


def _value(loss: float) -> str:
    """Three digits, and plain zeros for what differs from 0 by rounding only."""
    return f"{loss:.3g}" if abs(loss) >= 1e-3 else f"{abs(loss):.3f}"


def settling_page(settled: Settled, *, title: str, note: str = "", lang: str = "en") -> str:
    """Return the moving picture as a page of its own, to be framed in another one or opened by itself.

    Args:
        settled: The moments.
        title: Its heading.
        note: A line below the heading.
        lang: ``"en"`` or ``"ja"``.

    Raises:
        ArgumentError: An unknown language.
    """
    words = Words(lang)
    figure = settling_figure(settled, words, name=title)
    return render(title, [Prose([note or words("settling.note")], "note"), Panels([figure])], lang=lang)


def _scale(places: np.ndarray, spherical: bool) -> tuple[tuple[float, float], float]:
    """Where the origin stands in the picture, and how long the unit is; x and y have one scale."""
    low, high = places.reshape(-1, 2).min(axis=0), places.reshape(-1, 2).max(axis=0)
    if spherical:
        low, high = np.minimum(low, -1.0), np.maximum(high, 1.0)
    span = float((high - low).max()) or 1.0
    factor = (_SIDE - 2 * _EDGE) / span
    centre = (low + high) / 2
    return (_SIDE / 2 - factor * float(centre[0]), _SIDE / 2 + factor * float(centre[1])), factor


def _guide(spherical: bool, origin: tuple[float, float], factor: float) -> Markup:
    """The unit circle, or a cross at the origin."""
    x, y = (round(value, 2) for value in origin)
    style = "fill:none;stroke:var(--rule)"
    if spherical:
        return tag("circle", cx=x, cy=y, r=round(factor, 2), style=style)
    return tag("path", d=f"M{x - 4} {y}h8M{x} {y - 4}v8", style=style)


def _trail(x: np.ndarray, y: np.ndarray, group: int) -> Markup:
    way = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    style = f"fill:none;stroke:{colour(int(group))};stroke-width:.8;opacity:.3"
    return tag("polyline", points=way, style=style, data_series=int(group))


def _mark(kind: str, x: float, y: float, group: int) -> Markup:
    paint = colour(int(group))
    shape = (
        tag("circle", r=3.4, style=f"fill:{paint};fill-opacity:.85")
        if kind == "item"
        else tag(
            "path", d="M0-6.5 5 0 0 6.5-5 0Z", style=f"fill:{paint};stroke:{css('#1c2024')};stroke-width:1.2"
        )
    )
    return tag("g", shape, transform=f"translate({x:.2f} {y:.2f})", data_point=True, data_series=int(group))
