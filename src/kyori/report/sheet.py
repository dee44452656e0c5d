"""Thumbnails of many items in one picture: what a map shows of the item under the pointer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .page import Markup, tag
from .thumbnails import image_of, image_uri

__all__ = ["LARGEST", "sheet"]

LARGEST = 40  # pixels a side: enough to know an item again, and 1,000 of them weigh some hundred kilobytes
_COLUMNS = 32


def sheet(items: Any, indices: Sequence[int] | np.ndarray, label: str) -> Markup:
    """Return the items side by side in one hidden ``img``, or nothing where they are vectors or texts.

    Args:
        items: What can ``read(index)`` an item.
        indices: The items in the order of the points of a map: number i stands in column i mod 32.
        label: What the picture is, for those who cannot see it.
    """
    from PIL import Image

    first = items.read(int(indices[0])) if len(indices) else None
    if first is None or isinstance(first, str) or (isinstance(first, np.ndarray) and first.ndim == 1):
        return Markup()
    tile = min(LARGEST, max(image_of(first).size))
    rows = -(-len(indices) // _COLUMNS)
    whole = Image.new("RGB", (tile * min(len(indices), _COLUMNS), tile * rows), "white")
    for place, index in enumerate(indices):
        image = image_of(items.read(int(index))).convert("RGB")
        image.thumbnail((tile, tile))
        x, y = place % _COLUMNS * tile, place // _COLUMNS * tile
        whole.paste(image, (x + (tile - image.width) // 2, y + (tile - image.height) // 2))
    grey = whole.convert("L")
    plain = np.array_equal(np.asarray(grey.convert("RGB")), np.asarray(whole))
    return tag(
        "img",
        src=image_uri(grey if plain else whole, "webp", quality=70),
        alt=label,
        class_="sheet",
        hidden=True,
        data_columns=_COLUMNS,
        data_tile=tile,
    )
