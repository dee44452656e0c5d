"""Small pictures in a terminal: two pixels a character, upper half block on a coloured ground."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["blocks", "can_show"]

_COLUMNS = 16  # characters wide, so 16 × 16 pixels in 8 lines
_HALF = "\N{UPPER HALF BLOCK}"
_LETTERS = 40
_BARS = "▁▂▃▄▅▆▇█"


def can_show(console: Console) -> bool:
    """Return whether a console is a terminal of 256 colours or more that can write half blocks."""
    if not console.is_terminal or console.color_system not in ("256", "truecolor"):
        return False
    try:
        _HALF.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def blocks(item: Any, columns: int = _COLUMNS) -> Text:
    """Return an item as text: a PIL image in half blocks, a vector as bars, a text as its beginning.

    Args:
        item: A PIL image, a vector ``(f,)``, a string, or None.
        columns: Characters wide.
    """
    import numpy as np
    import PIL.Image
    from rich.text import Text

    if isinstance(item, np.ndarray) and item.ndim == 1 and len(item):
        parts = np.array([part.mean() for part in np.array_split(item, min(columns, len(item)))])
        span = float(np.ptp(parts)) or 1.0
        levels = ((parts - parts.min()) / span * (len(_BARS) - 1)).round().astype(int)
        return Text("".join(_BARS[level] for level in levels))
    if isinstance(item, str):
        return Text(item if len(item) <= _LETTERS else f"{item[: _LETTERS - 1]}…")
    if not isinstance(item, PIL.Image.Image):
        return Text("")
    image = item.convert("RGB")
    rows = max(2, round(columns * image.height / image.width / 2) * 2)
    rows = min(rows, 2 * columns)
    pixels = np.asarray(image.resize((columns, rows), PIL.Image.Resampling.BOX))
    text = Text()
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        if len(text):
            text.append("\n")
        for a, b in zip(upper.tolist(), lower.tolist(), strict=True):
            text.append(_HALF, style=f"rgb({a[0]},{a[1]},{a[2]}) on rgb({b[0]},{b[1]},{b[2]})")
    return text
