"""From raw items to what a network takes: `Preprocess` (always the same) and `Augment` (random, training only)."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError, DataError, FileFormatError
from .sources import Source

__all__ = ["Augment", "Preprocess"]

BLOCK = 4096  # items whose sums are taken at once
SAMPLE = 2048  # items that are decoded for the statistics of a source that streams


@dataclass(frozen=True)
class Preprocess:
    """Scales raw items to mean 0 and deviation 1: of each channel of a picture, of each feature of a vector.

    Pictures come as uint8 or as floats in [0, 1] (b, h, w, c) and leave as float32 (b, c, h, w); vectors (b, f)
    stay (b, f). It is part of a saved model, so that new items meet the same scale.

    Attributes:
        kind: ``"image"`` or ``"vector"``.
        shape: Raw shape of an item: (h, w, c) or (f,).
        mean: For each channel (pictures in [0, 1]) or feature.
        std: The same; 1 where the training items are constant, so that nothing is divided by 0.

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

    kind: Literal["image", "vector"]
    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        axes = {"image": 3, "vector": 1}.get(self.kind)
        if axes is None:
            raise ArgumentError(f"kind must be 'image' or 'vector'; got {self.kind!r}.")
        if len(self.shape) != axes or min(self.shape) < 1:
            raise ArgumentError(f"shape of a {self.kind} must have {axes} numbers above 0; got {self.shape}.")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.shape[-1] or not all(math.isfinite(value) for value in values):
                raise ArgumentError(f"{name} must be {self.shape[-1]} finite numbers; got {values[:5]}.")
        if min(self.std) <= 0:
            raise ArgumentError(f"std must be above 0; got {min(self.std)}.")

    @property
    def size(self) -> tuple[int, int] | None:
        """(h, w) of a picture, None for vectors."""
        return (self.shape[0], self.shape[1]) if self.kind == "image" else None

    @property
    def channels(self) -> int:
        """Channels of a picture, or features of a vector."""
        return self.shape[-1]

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
        moments = _image_moments if source.kind == "image" else _vector_moments
        mean, std = moments(source, rows)
        # a deviation below the resolution of float32 is rounding of a constant, not spread to blow up
        std = np.where(std > np.finfo(np.float32).eps * np.abs(mean), std, 1.0)
        return cls(source.kind, source.item_shape, tuple(mean.tolist()), tuple(std.tolist()))

    def prepare(self, raw: np.ndarray) -> Tensor:
        """A raw batch as a tensor on the CPU: the part of the work that loading threads do ahead."""
        return torch.from_numpy(raw)

    def files(self) -> dict[str, bytes]:
        """What is saved beside ``model.json``, by file name: nothing."""
        return {}

    def __call__(self, raw: np.ndarray | Tensor, device: torch.device | str | None = None) -> Tensor:
        """Scale a raw batch.

        Args:
            raw: Pictures (b, h, w, c), uint8 or floats in [0, 1], or vectors (b, f).
            device: Where the result lies (default: where `raw` lies).

        Returns:
            float32 (b, c, h, w) or (b, f).

        Raises:
            ArgumentError: The items have another shape than those it was fitted on.
        """
        x = torch.as_tensor(raw, device=device)
        if tuple(x.shape[1:]) != self.shape:
            raise ArgumentError(
                f"items must have the shape {self.shape} that the model was made for; got {tuple(x.shape[1:])}."
            )
        scale = 255.0 if x.dtype == torch.uint8 and self.kind == "image" else 1.0
        mean = torch.tensor(self.mean, dtype=torch.float32, device=x.device) * scale
        std = torch.tensor(self.std, dtype=torch.float32, device=x.device) * scale
        x = x.to(torch.float32).sub(mean).div_(std)
        return x.permute(0, 3, 1, 2).contiguous() if self.kind == "image" else x

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocess":
        """The inverse of :meth:`to_dict`.

        Raises:
            FileFormatError: A value is missing, unknown or wrong.
        """
        known = {"kind", "shape", "mean", "std"}
        if set(values) != known:
            raise FileFormatError(f"preprocessing must have the keys {sorted(known)}; got {sorted(values)}.")
        try:
            shape, mean, std = (tuple(values[key]) for key in ("shape", "mean", "std"))
            return cls(values["kind"], shape, mean, std)
        except (TypeError, ArgumentError) as error:
            raise FileFormatError(f"preprocessing cannot be read: {error}") from error


def _image_moments(source: Source, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel, in [0, 1], exact: from a histogram of the 256 values."""
    channels = source.item_shape[2]
    counts = torch.zeros((channels, 256), dtype=torch.int64)
    for start in range(0, len(rows), BLOCK):
        pictures = source.load(rows[start : start + BLOCK])
        for channel in range(channels):
            column = torch.from_numpy(np.require(pictures[..., channel].ravel(), requirements="W"))
            counts[channel] += torch.bincount(
                column, minlength=256
            )  # NumPy's takes four times as long on bytes
    values = np.arange(256) / 255
    found = counts.numpy()
    share = found / found.sum(axis=1, keepdims=True)
    mean = share @ values
    return mean, np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1))


def _vector_moments(source: Source, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each feature; two passes, since one pass loses digits on large offsets."""
    blocks = [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
    mean = sum(source.load(block).sum(axis=0, dtype=np.float64) for block in blocks) / len(rows)
    square = sum(((source.load(block) - mean) ** 2).sum(axis=0) for block in blocks)
    return mean, np.sqrt(square / len(rows))


@dataclass(frozen=True)
class Augment:
    """Random changes to a preprocessed batch, on its device, each item its own. The default changes nothing.

    Flip, rotation, scale and shift are one bilinear resampling; what comes in from outside repeats the edge.
    Vectors know only `noise`.

    Attributes:
        flip: Mirror left and right with probability ½.
        shift: Largest shift in pixels, each way.
        rotate: Largest rotation in degrees, each way.
        scale: Largest change of size: 0.1 means between 1/1.1 and 1.1 times.
        noise: Deviation of added Gaussian noise, in deviations of the training data.
        erase: Probability that a rectangle of 2 % to 20 % of a picture is set to the mean.

    Example:
        >>> x = torch.zeros(4, 1, 8, 8)
        >>> Augment(shift=1, noise=0.1)(x, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 1, 8, 8])
    """

    flip: bool = False
    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    noise: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        limits = {"shift": 1000.0, "rotate": 180.0, "scale": 10.0, "noise": 100.0, "erase": 1.0}
        for name, limit in limits.items():
            value = getattr(self, name)
            if not 0 <= value <= limit:
                raise ArgumentError(f"augment {name} must be between 0 and {limit:g}; got {value}.")

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return self != Augment()

    @property
    def _moves(self) -> bool:
        return self.flip or self.shift > 0 or self.rotate > 0 or self.scale > 0

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Change a batch.

        Args:
            x: Preprocessed pictures (b, c, h, w) or vectors (b, f).
            generator: Where the changes are drawn from; a CPU generator gives the same changes on every device.

        Returns:
            The changed batch, of the same shape; `x` itself when there is nothing to change.

        Raises:
            ArgumentError: Vectors are to be flipped, moved or erased.
        """
        if x.ndim != 4 and (self._moves or self.erase):
            raise ArgumentError(
                f"flip, shift, rotate, scale and erase need pictures (b, c, h, w); got shape {tuple(x.shape)}."
            )
        if self._moves:
            x = self._move(x, generator)
        if self.erase:
            x = self._erase(x, generator)
        if self.noise:
            drawn = torch.randn(x.shape, generator=generator, device=generator.device)
            x = x + self.noise * drawn.to(x)
        return x

    def _move(self, x: Tensor, generator: torch.Generator) -> Tensor:
        b, _, height, width = x.shape
        angle, zoom, down, right, side = _uniform(5, b, generator)
        angle = angle * math.radians(self.rotate)
        factor = (1 + self.scale) ** zoom  # as often larger as smaller
        mirror = torch.where(side < 0, -1.0, 1.0) if self.flip else torch.ones(b)
        mirror = mirror.to(angle)
        cos, sin = torch.cos(angle) / factor, torch.sin(angle) / factor
        # grid_sample asks where each output pixel comes from, in units of half the width and half the height
        across = torch.stack([cos * mirror, -sin * (height / width), 2 * self.shift / width * right], dim=1)
        upright = torch.stack([sin * mirror * (width / height), cos, 2 * self.shift / height * down], dim=1)
        theta = torch.stack([across, upright], dim=1).to(x)
        grid = torch.nn.functional.affine_grid(theta, list(x.shape), align_corners=False)
        return torch.nn.functional.grid_sample(x, grid, padding_mode="border", align_corners=False)

    def _erase(self, x: Tensor, generator: torch.Generator) -> Tensor:
        b, _, height, width = x.shape
        chance, area, shape, top, left = ((value + 1) / 2 for value in _uniform(5, b, generator))
        side = torch.sqrt(0.02 + 0.18 * area)
        stretch = torch.exp((shape - 0.5) * math.log(3.0))  # height : width between 1/3 and 3
        tall, wide = (side * torch.sqrt(stretch)).clamp(max=1), (side / torch.sqrt(stretch)).clamp(max=1)
        rows = (torch.arange(height, device=tall.device) + 0.5) / height
        columns = (torch.arange(width, device=tall.device) + 0.5) / width
        first, start = top * (1 - tall), left * (1 - wide)
        in_rows = (rows >= first[:, None]) & (rows < (first + tall)[:, None])
        in_columns = (columns >= start[:, None]) & (columns < (start + wide)[:, None])
        hole = in_rows[:, :, None] & in_columns[:, None, :] & (chance < self.erase)[:, None, None]
        return x.masked_fill(hole[:, None].to(x.device), 0.0)


def _uniform(rows: int, b: int, generator: torch.Generator) -> Tensor:
    """(rows, b) numbers between -1 and 1."""
    return torch.rand(rows, b, generator=generator, device=generator.device) * 2 - 1
