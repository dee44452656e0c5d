"""Items as small pictures inside a page: images as data URIs, vectors as bars, texts by their beginning."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from .page import Markup, tag

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["image_of", "image_uri", "thumbnail"]

_LARGEST = 160  # pixels: twice the size on the page, for screens of high density
_SMALL = 64  # up to here an image is enlarged with its pixels sharp
_BARS = 48
_CHARACTERS = 140


def thumbnail(item: Any, label: str) -> Markup:
    """Return an item as an ``img``, ``svg`` or, for a text, ``p`` element.

    Args:
        item: What `image_of` takes, or a vector ``(f,)``, of which at most 48 bars are drawn (averages of neighbouring
            features where there are more), or a text, of which the first 140 characters are shown.
        label: What it is, for those who cannot see it.
    """
    if isinstance(item, str):
        text = " ".join(item.split())  # not textwrap: Japanese has no words to break at
        return tag("p", text[:_CHARACTERS] + "…" * (len(text) > _CHARACTERS), class_="text", title=label)
    if isinstance(item, np.ndarray) and item.ndim == 1:
        return _bars(item, label)
    image = image_of(item)
    sharp = max(image.size) <= _SMALL
    return tag("img", src=_data_uri(image), alt=label, title=label, class_="pixels" if sharp else None)


def image_of(item: Any) -> Image:
    """Return an item as an image of a mode that files know.

    Args:
        item: An image; an array of uint8, ``(h, w)`` or ``(h, w, c)``; or other numbers of two axes and more, a set of
            vectors or channels first, which become a grey map of their mean over all but the last two.
    """
    from PIL import Image

    if not isinstance(item, Image.Image):
        array = np.asarray(item)
        item = Image.fromarray(array.squeeze() if array.dtype == np.uint8 else _grey(array))
    image = item
    if image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    return image


def _grey(numbers: np.ndarray) -> np.ndarray:
    numbers = np.nan_to_num(np.asarray(numbers, np.float64))
    numbers = numbers.mean(axis=tuple(range(numbers.ndim - 2)))
    low, span = numbers.min(initial=0.0), np.ptp(numbers) if numbers.size else 0.0
    return ((numbers - low) / (span or 1.0) * 255).astype(np.uint8)


def _data_uri(image: Image) -> str:
    image = image.copy()
    image.thumbnail((_LARGEST, _LARGEST))  # in place; never enlarges
    return image_uri(image, "png" if max(image.size) <= _SMALL else "webp")


def image_uri(image: Image, kind: str, quality: int = 80) -> str:
    """Return an image as a ``data:`` address of a PNG or WebP file."""
    file = BytesIO()
    image.save(file, kind, optimize=True, quality=quality)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _bars(vector: np.ndarray, label: str) -> Markup:
    parts = np.array_split(np.nan_to_num(np.asarray(vector, dtype=float)), min(_BARS, vector.size))
    heights = np.array([part.mean() for part in parts])
    top, bottom = max(0.0, heights.max()), min(0.0, heights.min())
    scale = 32 / ((top - bottom) or 1.0)
    zero, width = scale * top, 64 / len(heights)
    path = "".join(
        f"M{(i + 0.5) * width:.1f} {zero:.1f}V{zero - scale * height:.1f}" for i, height in enumerate(heights)
    )
    stroke = tag("path", d=path, stroke_width=f"{0.7 * width:.2f}")
    return tag(
        "svg", tag("title", label), stroke, viewBox="-1 -1 66 34", class_="bars", role="img", aria_label=label
    )
