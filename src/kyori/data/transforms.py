"""From raw items to what a network takes: `Preprocess`, always the same."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError, DataError, FileFormatError
from .kinds import Resize, channel_axis, pad
from .sources import Source

__all__ = ["Preprocess"]

BLOCK = 4096  # items whose sums are taken at once
BLOCK_NUMBERS = 2**26  # or so many numbers
CACHED = 2**16  # pixels whose sums are taken while they are in the cache
AXES = {
    "image": (3, 3),
    "vector": (1, 1),
    "array": (2, 32),
    "set": (1, 1),
}  # of an item, at least and at most
SAMPLE = 2048  # items that are decoded for the statistics of a source that streams


@dataclass(frozen=True)
class Preprocess:
    """Scales raw items to mean 0 and deviation 1: of each channel of a picture, of each feature of a vector.

    Pictures come as uint8 or as floats in [0, 1] (b, h, w, c) and leave as float32 (b, c, h, w); vectors and arrays
    keep their shape; sets leave as (b, m, f), padded with NaN. It is part of a saved model, so that new items meet the
    same scale.

    Attributes:
        kind: ``"image"``, ``"vector"``, ``"array"`` or ``"set"``.
        shape: Raw shape of an item: (h, w, c), (f,), that of an array, or (f,) of each vector of a set.
        mean: For each channel (pictures in [0, 1]) or feature. The channels of an array are its last axis if it has
            two, as (time, features), else its first, as (c, h, w).
        std: The same; 1 where the training items are constant, so that nothing is divided by 0.
        resize: How a picture of another shape becomes one of this: see `kyori.data.images.to_array`.

    Example:
        >>> from kyori.data import open_source
        >>> digits = open_source("digits")
        >>> pre = Preprocess.fit(digits)
        >>> x = pre(digits.load([0, 1]))
        >>> x.shape, x.dtype
        (torch.Size([2, 1, 8, 8]), torch.float32)
        >>> Preprocess.from_dict(pre.to_dict()) == pre
        True
    """

    kind: Literal["image", "vector", "array", "set"]
    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: Resize = "crop"

    def __post_init__(self) -> None:
        if self.kind not in AXES:
            raise ArgumentError(f"kind must be one of {', '.join(AXES)}; got {self.kind!r}.")
        least, most = AXES[self.kind]
        if not least <= len(self.shape) <= most or min(self.shape) < 1:
            axes = least if most == least else f"{least} or more"
            raise ArgumentError(f"shape of a {self.kind} must have {axes} numbers above 0; got {self.shape}.")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels or not all(math.isfinite(value) for value in values):
                raise ArgumentError(f"{name} must be {self.channels} finite numbers; got {values[:5]}.")
        if min(self.std) <= 0:
            raise ArgumentError(f"std must be above 0; got {min(self.std)}.")
        if self.resize not in get_args(Resize):
            raise ArgumentError(f"resize must be one of {', '.join(get_args(Resize))}; got {self.resize!r}.")

    @property
    def size(self) -> tuple[int, int] | None:
        """(h, w) of a picture, None for vectors."""
        return (self.shape[0], self.shape[1]) if self.kind == "image" else None

    @property
    def channels(self) -> int:
        """Channels of a picture or an array, or features of a vector: how many have a scale of their own."""
        return self.shape[channel_axis(self.kind, len(self.shape))]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """What a network is given of each item: (c, h, w) of a picture; of a set (2, f), where 2 is any number."""
        if self.kind == "image":
            return (self.shape[-1], *self.shape[:-1])
        return (2, *self.shape) if self.kind == "set" else self.shape

    @classmethod
    def plain(cls, kind: Literal["image", "vector", "array", "set"], shape: Sequence[int]) -> "Preprocess":
        """One that leaves vectors, arrays and sets as they are, and pictures in [0, 1]."""
        n = tuple(shape)[channel_axis(kind, len(shape))]
        return cls(kind, tuple(shape), (0.0,) * n, (1.0,) * n)

    @classmethod
    def fit(cls, source: Source) -> "Preprocess":
        """Measure mean and deviation on the training items (a source that streams: on 2,048 of them, evenly taken).

        Raises:
            DataError: The source is empty.
        """
        n = len(source)
        if source.kind == "text":
            raise DataError(f"{source.name}: texts have no mean; a text model brings its tokenizer.")
        if n == 0:
            raise DataError(f"{source.name}: mean and deviation need at least 1 item; got none.")
        rows = np.arange(n)
        if not source.in_memory and n > SAMPLE:
            rows = np.linspace(0, n - 1, SAMPLE).astype(np.int64)
        moments = _image_moments if source.kind == "image" else _number_moments
        mean, std = moments(source, rows)
        # a deviation below the resolution of float32 is rounding of a constant, not spread to blow up
        std = np.where(std > np.finfo(np.float32).eps * np.abs(mean), std, 1.0)
        return cls(source.kind, source.item_shape, tuple(mean.tolist()), tuple(std.tolist()), source.resize)

    def prepare(self, raw: np.ndarray) -> Tensor:
        """A raw batch as a tensor on the CPU: the part of the work that loading threads do ahead."""
        return pad(raw) if self.kind == "set" else torch.from_numpy(raw)

    def files(self) -> dict[str, bytes]:
        """What is saved beside ``model.json``, by file name: nothing."""
        return {}

    def __call__(self, raw: np.ndarray | Tensor, device: torch.device | str | None = None) -> Tensor:
        """Scale a raw batch.

        Args:
            raw: Pictures (b, h, w, c), uint8 or floats in [0, 1], vectors or arrays (b, …), or sets (b,).
            device: Where the result lies (default: where `raw` lies).

        Returns:
            float32 (b, *input_shape).

        Raises:
            ArgumentError: The items have another shape than those it was fitted on.
        """
        x = torch.as_tensor(raw if isinstance(raw, Tensor) else self.prepare(raw), device=device)
        if tuple(x.shape[1 + (self.kind == "set") :]) != self.shape:
            raise ArgumentError(
                f"items must have the shape {self.shape} that the model was made for; got {tuple(x.shape[1:])}."
            )
        mean, std = self.scales(255.0 if x.dtype == torch.uint8 and self.kind == "image" else 1.0, x.device)
        floats = x.to(torch.float32)
        x = (floats.sub(mean) if floats is x else floats.sub_(mean)).div_(std)  # never what the caller holds
        return x.permute(0, 3, 1, 2).contiguous() if self.kind == "image" else x

    def scales(self, unit: float = 1.0, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Mean and deviation, times `unit`, as float32 tensors that broadcast over a raw batch."""
        axes = len(self.shape)
        after = axes - 1 - channel_axis(self.kind, axes)
        both = torch.tensor((self.mean, self.std), dtype=torch.float32, device=device) * unit
        mean, std = both.view(2, -1, *[1] * after).unbind()
        return mean, std

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }
        if self.resize == "crop":  # a model that needs nothing new stays readable for what was before
            del found["resize"]
        return found

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocess":
        """The inverse of :meth:`to_dict`.

        Raises:
            FileFormatError: A value is missing, unknown or wrong.
        """
        known = {"kind", "shape", "mean", "std"}
        if set(values) - {"resize"} != known:
            raise FileFormatError(f"preprocessing must have the keys {sorted(known)}; got {sorted(values)}.")
        try:
            shape, mean, std = (tuple(values[key]) for key in ("shape", "mean", "std"))
            return cls(values["kind"], shape, mean, std, values.get("resize", "crop"))
        except (TypeError, ArgumentError) as error:
            raise FileFormatError(f"preprocessing cannot be read: {error}") from error


def _image_moments(source: Source, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel, in [0, 1], exact: float64 adds whole numbers up to 2**53 without rounding."""
    channels = source.item_shape[2]
    total, squares, count = [0] * channels, [0] * channels, 0
    size = max(1, 4 * CACHED // math.prod(source.item_shape)) if source.in_memory else BLOCK
    for start in range(0, len(rows), size):
        pictures = np.require(source.load(rows[start : start + size]), requirements=["C", "W"])
        pixels = torch.from_numpy(pictures).view(-1, channels)
        count += len(pixels)
        for part in pixels.split(CACHED):
            for channel in range(channels):
                column = part[:, channel].to(torch.float64)
                total[channel] += int(column.sum())
                squares[channel] += int(column.dot(column))
    spread = [math.sqrt(count * square - mean**2) for mean, square in zip(total, squares, strict=True)]
    return np.array(total) / (255 * count), np.array(spread) / (255 * count)


def _number_moments(source: Source, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel; two passes, since one pass loses digits on large offsets."""
    many = math.prod(source.item_shape)
    size = max(1, min(BLOCK, BLOCK_NUMBERS // many))
    blocks = [rows[start : start + size] for start in range(0, len(rows), size)]
    count, total = 0, np.zeros(())
    for block in blocks:
        found = _by_channel(source, block)
        count, total = count + len(found), total + found.sum(axis=0, dtype=np.float64)
    mean = total / count
    square = sum(((_by_channel(source, block) - mean) ** 2).sum(axis=0) for block in blocks)
    return mean, np.sqrt(square / count)


def _by_channel(source: Source, rows: np.ndarray) -> np.ndarray:
    """Everything that the items hold, as (numbers, channels)."""
    raw = source.load(rows)
    if source.kind == "set":
        return np.concatenate(list(raw))
    axis = 1 + channel_axis(source.kind, raw.ndim - 1)
    return np.moveaxis(raw, axis, -1).reshape(-1, raw.shape[axis])
