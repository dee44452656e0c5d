"""Heads: from features or feature maps to an embedding."""

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, nearest_name

__all__ = ["POOLINGS", "GeM", "Head"]


class GeM(nn.Module):
    """Generalised mean over the cells of a map: (mean x^p)^(1/p) with a learned p (Radenović et al. 2018).

    Args:
        p: Starting exponent, > 0; 1 is the average, a large p comes near the maximum.

    >>> GeM()(torch.full((2, 3, 4, 4), 0.5)).shape
    torch.Size([2, 3])
    """

    smallest = 1e-6  # keeps the power differentiable where the map is zero

    def __init__(self, p: float = 3.0):
        super().__init__()
        self.p = nn.Parameter(torch.tensor(float(p)))

    def forward(self, maps: Tensor) -> Tensor:
        """Return (b, d) for maps (b, d, h, w); values below 1e-6 count as 1e-6. In float32 under autocast too."""
        with torch.autocast(maps.device.type, enabled=False):
            cells = maps.float().clamp(min=self.smallest)
            return cells.pow(self.p).mean(dim=(2, 3)).pow(1 / self.p)


class _Average(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3))


class _Maximum(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.amax(dim=(2, 3))


POOLINGS: dict[str, type[nn.Module]] = {"avg": _Average, "max": _Maximum, "gem": GeM}
"""Poolings of feature maps (b, d, h, w) → (b, d) by name."""


class Head(nn.Module):
    """Pooling of maps, then a linear projection.

    Args:
        in_features: Features (or channels of the map) that come in.
        embedding_size: Size d of the embedding; None passes the pooled features on as they are.
        pooling: ``"avg"``, ``"max"`` or ``"gem"``; flat features need none and are not pooled.
        maps: Whether maps (b, c, h, w) come in rather than flat features (b, c).

    >>> Head(5, 2, pooling="max", maps=True)(torch.zeros(3, 5, 4, 4)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self, in_features: int, embedding_size: int | None, *, pooling: str = "avg", maps: bool = False
    ):
        super().__init__()
        if pooling not in POOLINGS:
            raise ArgumentError(f"unknown pooling '{pooling}'{nearest_name(pooling, POOLINGS)}")
        if embedding_size is not None and embedding_size < 1:
            raise ArgumentError(
                f"embedding_size must be ≥ 1, or None to keep the {in_features} features; got {embedding_size}."
            )
        self.pooling = POOLINGS[pooling]() if maps else nn.Identity()
        self.projection = nn.Identity() if embedding_size is None else nn.Linear(in_features, embedding_size)
        self.embedding_size = in_features if embedding_size is None else embedding_size

    def forward(self, features: Tensor) -> Tensor:
        """Return embeddings (b, d)."""
        return self.projection(self.pooling(features))
