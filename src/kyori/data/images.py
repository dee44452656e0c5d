"""One picture, from a file to a uint8 array (h, w, c).

Conventions: the EXIF rotation is applied; transparency lies on white; 16-bit grey is scaled to 8 bits;
CMYK and palettes become RGB; another shape is brought to the wanted one as `to_array` says.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, WebPImagePlugin

from ..errors import ItemError
from .kinds import Resize

__all__ = ["SUFFIXES", "Box", "Header", "convert", "crop", "decode", "picture", "probe", "to_array"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # no others: EPS, for one, would start Ghostscript
DEEP_GREY = ("I", "I;16", "I;16L", "I;16B", "I;16N")
GREY = ("1", "L", "LA", "La", *DEEP_GREY)
ORIENTATION = 0x0112

_ = WebPImagePlugin  # registers itself here, once, and not in whichever thread opens the first WebP

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Header:
    """What a file says of its picture before any pixel is decoded: pixels high and wide, stored as grey."""

    height: int
    width: int
    grey: bool


def probe(path: str | BinaryIO, box: Box | None = None) -> Header:
    """Read the header of a picture, by path or from a file object; `box` is the part of it that counts.

    Raises:
        ItemError: The file is no picture that Kyori reads.
    """
    with _open(path) as image:
        width, height = image.size
        # asking a PNG without an EXIF block for its orientation would decode it
        if "exif" in image.info and image.getexif().get(ORIENTATION, 1) >= 5:
            width, height = height, width
        if box is not None:
            width, height = round(box[2] - box[0]), round(box[3] - box[1])
        return Header(max(height, 1), max(width, 1), image.mode in GREY)


def decode(
    path: str | BinaryIO,
    size: tuple[int, int],
    channels: int,
    box: Box | None = None,
    resize: Resize = "crop",
) -> np.ndarray:
    """Decode a picture to uint8 (h, w, channels) of the given (h, w).

    Args:
        path: The file, by path or open: bytes that came over a network never need a name.
        size: Height and width in pixels.
        channels: 1 or 3.
        box: x_1, y_1, x_2, y_2 in pixels of the upright picture: only this part is used.
        resize: As in `to_array`.

    Raises:
        ItemError: The file is damaged, too large, or the box lies outside of the picture.
    """
    with _open(path) as image:
        if box is None:
            _draft(image, size)
        upright = ImageOps.exif_transpose(image)
        if box is not None:
            upright = crop(upright, box)
        return to_array(upright, size, channels, resize)


def picture(path: str) -> Image.Image:
    """Read a whole picture, upright.

    Raises:
        ItemError: The file is damaged or too large.
    """
    with _open(path) as image:
        upright = ImageOps.exif_transpose(image)
        upright.load()
        return upright


def to_array(image: Image.Image, size: tuple[int, int], channels: int, resize: Resize = "crop") -> np.ndarray:
    """A PIL image as uint8 (h, w, channels) of the given (h, w).

    Args:
        image: Any mode.
        size: Height and width in pixels.
        channels: 1 or 3.
        resize: What happens to another shape. ``"crop"``: scaled until it covers the size, and cut in the centre;
            ``"pad"``: scaled until it fits in, in the middle of a black ground; ``"stretch"``: each side for itself.
    """
    image = _flatten(image)
    image = image.convert("L" if channels == 1 else "RGB")
    height, width = size
    if image.size != (width, height):
        image = _RESIZED[resize](image, (width, height), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(height, width, channels)


_RESIZED: dict[Resize, Callable[..., Image.Image]] = {
    "crop": ImageOps.fit,
    "pad": ImageOps.pad,
    "stretch": Image.Image.resize,
}


def convert(
    pictures: np.ndarray, size: tuple[int, int] | None, channels: Any, resize: Resize = "crop"
) -> np.ndarray:
    """Bring uint8 pictures (n, h, w, c) to another size or number of channels; unchanged ones are not copied."""
    n, height, width, have = pictures.shape
    size = size or (height, width)
    channels = have if channels == "auto" else channels
    if (size, channels) == ((height, width), have):
        return pictures
    if size == (height, width) and channels == 3:
        return np.repeat(pictures, 3, axis=3)
    out = np.empty((n, *size, channels), dtype=np.uint8)
    for row, picture in zip(out, pictures, strict=True):
        row[:] = to_array(Image.fromarray(picture[:, :, 0] if have == 1 else picture), size, channels, resize)
    return out


@contextmanager
def _open(source: str | BinaryIO) -> Iterator[Image.Image]:
    """Open a picture; whatever Pillow raises on a damaged one becomes an `ItemError` with the path."""
    path = source if isinstance(source, str) else "picture"
    try:
        if isinstance(source, str) and os.path.getsize(source) == 0:
            raise ItemError(path, "the file is empty (0 bytes)")
        with Image.open(source, formats=FORMATS) as image:
            _check_pixels(path, image)
            yield image
    except ItemError:
        raise
    except FileNotFoundError as error:
        what = "broken symbolic link" if os.path.islink(path) else "no such file"
        raise ItemError(path, what) from error
    except PermissionError as error:
        raise ItemError(path, "no permission to read it") from error
    except UnidentifiedImageError as error:
        raise ItemError(path, "not a picture (jpg, png, webp or bmp), whatever its name says") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ItemError(path, f"more pixels than Pillow's limit ({Image.MAX_IMAGE_PIXELS})") from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, zlib.error, …
        raise ItemError(path, f"damaged picture ({error})") from error


def _check_pixels(path: str, image: Image.Image) -> None:
    """Pillow itself only warns between once and twice its limit."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise ItemError(path, f"{image.width}×{image.height} pixels, more than Pillow's limit ({limit})")


def _draft(image: Image.Image, size: tuple[int, int]) -> None:
    """Let a JPEG decoder shrink a large picture, to no less than twice what is needed."""
    if image.format not in ("JPEG", "MPO"):  # MPO: several pictures in one JPEG, from phones
        return
    height, width = size
    if image.getexif().get(ORIENTATION, 1) >= 5:
        height, width = width, height
    scale = 2 * max(height / image.height, width / image.width)
    if scale < 1:
        image.draft(None, (int(image.width * scale) + 1, int(image.height * scale) + 1))


def crop(image: Image.Image, box: Box) -> Image.Image:
    """Return the part of an upright picture inside of a box x_1, y_1, x_2, y_2 in pixels, at least one pixel.

    Raises:
        ValueError: The box does not lie inside of the picture.
    """
    left, top, right, bottom = box
    if not (0 <= left < right <= image.width and 0 <= top < bottom <= image.height):
        raise ValueError(
            f"the box x_1, y_1, x_2, y_2 = {box} must lie inside of {image.width}×{image.height} pixels"
        )
    left, top = int(left), int(top)
    return image.crop((left, top, max(round(right), left + 1), max(round(bottom), top + 1)))


def _flatten(image: Image.Image) -> Image.Image:
    """The picture without transparency (white behind it) and without more than 8 bits."""
    if image.mode in DEEP_GREY:
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"grey values must fit into 16 bits; got {values.min()} to {values.max()}")
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.has_transparency_data:
        grey = image.mode in GREY
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("L" if grey else "RGB")
    return image.convert("L" if image.mode in GREY else "RGB")
