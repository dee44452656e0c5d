"""Heads: from features, feature maps or tokens to an embedding."""

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, nearest_name

__all__ = ["POOLINGS", "Arrangement", "GeM", "Head"]

Arrangement = Literal["flat", "maps", "maps-last", "tokens"]
"""What a backbone gives: (b, c), maps (b, c, h, w), maps with the channels last (b, h, w, c), or tokens (b, t, c)."""


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


class _AverageAndMaximum(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)


POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "avg": _Average,
    "max": _Maximum,
    "avg+max": _AverageAndMaximum,
    "gem": GeM,
}
"""Poolings of feature maps (b, c, h, w) by name, to (b, c), for ``avg+max`` to (b, 2c)."""


class Head(nn.Module):
    """Pooling of maps or tokens, then dense layers, a linear projection, and a batch normalisation if wanted.

    Args:
        in_features: Features (or channels of the map, or numbers of a token) that come in.
        embedding_size: Size d of the embedding; None passes the pooled features on as they are.
        pooling: ``"avg"``, ``"max"``, ``"avg+max"`` (both, one after the other), ``"gem"``, or ``"cls"``, the first
            token; ``"auto"`` is ``"avg"``. Flat features are not pooled.
        arrangement: What comes in.
        prefix_tokens: Tokens at the front that stand for no part of the picture (class token, registers); all
            poolings but ``"cls"`` leave them out.
        layers: Units of dense layers with ReLU between pooling and projection.
        norm: Batch normalisation without a shift after the projection, as networks of re-identification (the
            "BNNeck" of Luo et al. 2019) and of face recognition end in. Every loss sees the embeddings behind it.

    Raises:
        ArgumentError: An unknown pooling, one that does not suit what comes in, or a size below 1.

    >>> Head(5, 2, pooling="avg+max", arrangement="maps")(torch.zeros(3, 5, 4, 4)).shape
    torch.Size([3, 2])
    >>> Head(5, None, pooling="cls", arrangement="tokens", prefix_tokens=1)(torch.zeros(3, 17, 5)).shape
    torch.Size([3, 5])
    """

    def __init__(
        self,
        in_features: int,
        embedding_size: int | None,
        *,
        pooling: str = "auto",
        arrangement: Arrangement = "flat",
        prefix_tokens: int = 0,
        layers: Sequence[int] = (),
        norm: bool = False,
    ):
        super().__init__()
        known = ["auto", *POOLINGS, "cls"]
        if pooling not in known:
            raise ArgumentError(f"unknown pooling '{pooling}'{nearest_name(pooling, known)}")
        if embedding_size is not None and embedding_size < 1:
            raise ArgumentError(
                f"embedding_size must be ≥ 1, or None to keep the {in_features} features; got {embedding_size}."
            )
        if any(isinstance(width, bool) or not isinstance(width, int) or width < 1 for width in layers):
            raise ArgumentError(f"head_layers must be whole numbers ≥ 1, one per layer; got {list(layers)}.")
        if pooling == "cls" and (arrangement != "tokens" or prefix_tokens < 1):
            raise ArgumentError(
                "pooling 'cls' takes the class token of a transformer, and this backbone has none; use 'avg', 'max', "
                "'avg+max' or 'gem'."
            )
        self.arrangement, self.prefix_tokens = arrangement, prefix_tokens
        self.first_token = pooling == "cls"
        pooled = arrangement != "flat" and not self.first_token
        self.pooling = POOLINGS["avg" if pooling == "auto" else pooling]() if pooled else nn.Identity()
        width = in_features * 2 if pooled and pooling == "avg+max" else in_features
        self.pooled_features = width
        if layers:
            steps = [
                part
                for fan_in, fan_out in itertools.pairwise([width, *layers])
                for part in (nn.Linear(fan_in, fan_out), nn.ReLU())
            ]
            self.layers = nn.Sequential(*steps)
            width = layers[-1]
        else:
            self.layers = nn.Sequential()
        self.projection = nn.Identity() if embedding_size is None else nn.Linear(width, embedding_size)
        self.embedding_size = width if embedding_size is None else embedding_size
        self.norm: nn.Module = nn.Identity()
        if norm:
            self.norm = nn.BatchNorm1d(self.embedding_size)
            self.norm.bias.requires_grad_(False)

    def after_pooling(self) -> "Head":
        """The rest of this head, with the same weights, for features that are pooled already."""
        rest = copy.copy(self)
        rest._modules = dict(self._modules)  # a module's copy would share the table of its parts
        rest.arrangement, rest.first_token = "flat", False
        rest.pooling = nn.Identity()
        return rest

    def pool(self, features: Tensor) -> Tensor:
        """Return pooled features (b, pooled_features)."""
        if self.arrangement == "tokens":
            if self.first_token:
                return features[:, 0]
            features = features[:, self.prefix_tokens :].transpose(1, 2).unsqueeze(-1)
        elif self.arrangement == "maps-last":
            features = features.permute(0, 3, 1, 2)
        return self.pooling(features)

    def project(self, pooled: Tensor) -> Tensor:
        """Return embeddings (b, d) of pooled features."""
        return self.norm(self.projection(self.layers(pooled)))

    def forward(self, features: Tensor) -> Tensor:
        """Return embeddings (b, d)."""
        return self.project(self.pool(features))
