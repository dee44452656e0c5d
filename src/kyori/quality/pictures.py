"""Which pictures are the same one, shifted a little, compressed, or brighter? Found pixel by pixel, among all pairs.

The magnitudes of a picture's Fourier transform do not change when it is shifted (cyclically), and two pictures are at
least as far apart as their magnitudes are, at any shift. So what is far apart there is not looked at, and what is near
is compared at every small shift over the part that both pictures show.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .radius import pairs_within

__all__ = ["PictureLoading", "agreement", "same_pictures"]

_SIDE = 32  # larger pictures are averaged down to less than twice this: noise of compression fades
_SHIFT = 2  # pixels of the reduced picture, each way
_SAME = 0.99  # correlation of two pictures that are the same
_NEAR = 0.25  # between magnitudes of length 1; 0.14 is a correlation of 0.99, and what moves out of sight needs room
_BLOCK = 2048  # pictures, or pairs of them, at a time


class PictureLoading(Protocol):
    """Pictures that are read where they lie, such as those of a :class:`kyori.Source`."""

    def __len__(self) -> int: ...

    def load(self, indices: Any, /) -> NDArray[Any]: ...


def same_pictures(pictures: PictureLoading) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the positions ``(p,)`` and ``(p,)`` of pictures whose :func:`agreement` is at least 0.99.

    Memory is some 2 to 8 kB a picture. Pictures of one colour are the same as others of one colour.

    Raises:
        DataError: The items are not pictures.
    """
    magnitudes = np.concatenate([_magnitudes(block) for block in _blocks(pictures)])
    for pairs in pairs_within(magnitudes, _NEAR):
        same = agreement(pictures, pairs.first, pairs.second) >= _SAME
        yield pairs.first[same], pairs.second[same]


def _blocks(pictures: PictureLoading) -> Iterator[NDArray[Any]]:
    for start in range(0, len(pictures), _BLOCK):
        block = pictures.load(np.arange(start, min(start + _BLOCK, len(pictures))))
        if block.ndim not in (3, 4):
            raise DataError(
                f"pictures must load as (b, h, w) or (b, h, w, c) arrays; got shape {block.shape}. Leave pictures out."
            )
        yield block


def _magnitudes(pictures: NDArray[Any]) -> NDArray[np.float32]:
    """Return ``(b, m)``: Fourier magnitudes of the pictures at mean 0 and length 1, each frequency once."""
    reduced = _reduced(pictures)
    reduced -= reduced.mean(axis=(1, 2, 3), keepdims=True)
    length = np.sqrt(np.square(reduced).sum(axis=(1, 2, 3), keepdims=True))
    reduced = np.divide(reduced, length, out=np.zeros_like(reduced), where=length > 1)
    found = np.abs(np.fft.rfft2(reduced, axes=(1, 2), norm="ortho"))
    found[:, :, 1 : (reduced.shape[2] + 1) // 2] *= 2**0.5  # these stand for two frequencies each
    return found.reshape(len(found), -1).astype(np.float32)


def agreement(
    pictures: PictureLoading, first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return ``(p,)`` the correlation of the pixels of two pictures in [−1, 1], at the shift where it is largest.

    All shifts of up to two pixels each way are tried, over the part that both pictures show. A correlation does not
    change with brightness and contrast. Two pictures of one colour each agree.

    Args:
        pictures: Whose ``load`` returns ``(b, h, w)`` or ``(b, h, w, c)`` pictures.
        first: ``(p,)`` positions.
        second: ``(p,)`` positions.
    """
    found = np.empty(len(first))
    for start in range(0, len(first), _BLOCK):
        rows = slice(start, start + _BLOCK)
        needed, place = np.unique(np.stack([first[rows], second[rows]]), return_inverse=True)
        reduced = _reduced(pictures.load(needed))
        a, b = reduced[place.reshape(2, -1)[0]], reduced[place.reshape(2, -1)[1]]
        found[rows] = np.max([_correlation(a, b, *shift) for shift in _shifts(a.shape[1:3])], axis=0)
    return found


def _reduced(pictures: NDArray[Any]) -> NDArray[np.float32]:
    """Return ``(b, h, w, c)`` float32, sides averaged down by a whole factor."""
    pictures = pictures.reshape(*pictures.shape[:3], -1).astype(np.float32)
    b, h, w, c = pictures.shape
    factor = max(1, max(h, w) // _SIDE)
    h, w = h // factor, w // factor
    whole = pictures[:, : h * factor, : w * factor]
    return whole.reshape(b, h, factor, w, factor, c).mean(axis=(2, 4))


def _shifts(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the shifts that leave at least half of each side in sight."""
    down, right = (min(_SHIFT, side // 4) for side in shape)
    return [(y, x) for y in range(-down, down + 1) for x in range(-right, right + 1)]


def _correlation(
    a: NDArray[np.float32], b: NDArray[np.float32], down: int, right: int
) -> NDArray[np.float64]:
    """Return the ``(p,)`` correlations where ``b`` is ``a`` moved down and right."""
    h, w = a.shape[1:3]
    a = a[:, max(0, -down) : h - max(0, down), max(0, -right) : w - max(0, right)].reshape(len(a), -1)
    b = b[:, max(0, down) : h + min(0, down), max(0, right) : w + min(0, right)].reshape(len(b), -1)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(a, axis=1).astype(np.float64), np.linalg.norm(b, axis=1).astype(np.float64)
    product = lengths[0] * lengths[1]
    flat = (lengths[0] < 1) & (lengths[1] < 1)
    dot = np.einsum("pd,pd->p", a, b).astype(np.float64)
    return np.where(flat, 1.0, np.divide(dot, product, out=np.zeros(len(a)), where=product > 0))
