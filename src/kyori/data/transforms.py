"""From raw items to what a network takes: `Preprocess`, always the same."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import ArgumentError, DataError, FileFormatError
from .sources import Source

__all__ = ["Preprocess"]

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
