"""What an item can be, and what a batch of each kind looks like before a network sees it.

| kind | an item | a raw batch | what a network is given |
|---|---|---|---|
| image | picture (h, w, c) | uint8 (b, h, w, c) | float32 (b, c, h, w) |
| vector | (f,) | float32 (b, f) | the same |
| array | any fixed shape of two axes or more | float32 (b, …) | the same |
| set | vectors (m, f), m ≥ 1 of its own | (b,) arrays | float32 (b, longest m, f), NaN behind a set's end |
| text | a string | (b,) strings | tokens int64 (b, t) |
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

__all__ = ["Kind", "Resize", "channel_axis", "collate", "is_ragged", "pad"]

Kind = Literal["image", "vector", "array", "set", "text"]
Resize = Literal["crop", "pad", "stretch"]


def is_ragged(kind: str) -> bool:
    """Whether items of this kind have a length of their own, so that a raw batch is an array of objects."""
    return kind in ("set", "text")


def collate(kind: str, items: Sequence[Any]) -> np.ndarray:
    """The raw batch of single items.

    >>> collate("set", [np.zeros((2, 3)), np.zeros((5, 3))]).shape, collate("vector", [np.zeros(3)] * 2).shape
    ((2,), (2, 3))
    """
    if not is_ragged(kind):
        return np.stack(items)
    batch = np.empty(len(items), dtype=object)
    for place, item in enumerate(items):  # assigned at once, sets of one length would be taken for one array
        batch[place] = item
    return batch


def pad(sets: Sequence[np.ndarray] | np.ndarray) -> Tensor:
    """Sets (m, f) as float32 (b, longest m, f), NaN where a set has no more vectors.

    >>> pad([np.ones((1, 2)), np.ones((3, 2))])[0]
    tensor([[1., 1.],
            [nan, nan],
            [nan, nan]])
    """
    batch = np.full((len(sets), max(map(len, sets)), sets[0].shape[1]), np.nan, dtype=np.float32)
    for row, vectors in zip(batch, sets, strict=True):
        row[: len(vectors)] = vectors
    return torch.from_numpy(batch)


def channel_axis(kind: str, axes: int) -> int:
    """Which of an item's axes is scaled number by number: the last one; of arrays of three and more axes the first.

    Networks expect (time, features) and (channels, height, width).
    """
    return 0 if kind == "array" and axes > 2 else axes - 1
