"""The network as it leaves Kyori: raw items in, vectors out, preprocessing and normalisation inside."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import Preprocess
from ..errors import ArgumentError
from ..models import Embedder

__all__ = ["Network", "example", "facts_of"]


class Network(nn.Module):
    """From a raw batch to vectors ``(n, d)`` float32.

    Input: pictures uint8 ``(n, h, w, c)`` of the model's size, vectors or arrays float32 ``(n, …)``, sets float32
    ``(n, m, f)`` padded with NaN, or tokens int64 ``(n, t)``.

    Args:
        embedder: The trained embedder; copied, and left as it is.
        half: Compute in float16 between the preprocessing and the normalisation, which stay in float32: the sum of
            squares of an embedding may be too large for float16.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, embedder: Embedder, *, half: bool = False):
        super().__init__()
        embedder = copy.deepcopy(embedder).cpu().eval()
        self.backbone, self.head, self.normalize = embedder.backbone, embedder.head, embedder.normalize
        self.kind = embedder.preprocess.kind
        self.half_precision = half
        preprocess = embedder.preprocess
        if isinstance(preprocess, Preprocess):
            mean, std = preprocess.scales(255.0 if self.kind == "image" else 1.0)
            self.register_buffer("mean", mean)
            self.register_buffer("std", std)
        if half:
            self.backbone.half()
            self.head.half()

    def forward(self, items: Tensor) -> Tensor:
        """Return the vectors of a raw batch."""
        x = items
        if self.kind != "text":
            x = (x.to(torch.float32) - self.mean) / self.std
        if self.kind == "image":
            x = x.permute(0, 3, 1, 2)
        if self.half_precision:
            x = x.half() if self.kind != "text" else x
            # The pooling may compute in float32 (GeM does), and the projection wants what its weights are.
            features = self.head.project(self.head.pool(self.backbone(x)).half())
        else:
            features = self.head(self.backbone(x))
        features = features.float()
        return F.normalize(features, dim=1) if self.normalize else features


def example(embedder: Embedder, count: int = 2) -> Tensor:
    """Return a raw batch of the right shape, for tracing."""
    kind, shape = embedder.preprocess.kind, embedder.preprocess.shape
    if kind == "image":
        return torch.zeros((count, *shape), dtype=torch.uint8)
    if kind in ("vector", "array"):
        return torch.zeros((count, *shape), dtype=torch.float32)
    if kind == "set":
        return torch.zeros((count, 8, *shape), dtype=torch.float32)
    if kind == "text":
        return torch.zeros((count, 8), dtype=torch.int64)
    raise ArgumentError(f"a model of {kind}s cannot be exported.")


_RESIZED = {
    "crop": "scaled to cover it (bicubic with antialiasing, as Pillow's ImageOps.fit does) and cut in the centre",
    "pad": "scaled to fit into it (bicubic with antialiasing, as Pillow's ImageOps.pad does), on a black ground",
    "stretch": "scaled to it, each side for itself (bicubic with antialiasing, as Pillow's resize does)",
}


def facts_of(embedder: Embedder) -> dict[str, Any]:
    """Return what a user of the exported file must know, as JSON values."""
    from .. import __version__

    kind, shape = embedder.preprocess.kind, list(embedder.preprocess.shape)
    inputs = {
        "image": "uint8 (n, h, w, c), 0 to 255, of the size below; another size is first "
        + _RESIZED[getattr(embedder.preprocess, "resize", "crop")],
        "vector": "float32 (n, f), as they are: scaling is inside",
        "array": "float32 (n, …) of the shape below, as they are: scaling is inside",
        "set": "float32 (n, m, f), as they are, NaN behind the end of a set; f is below, m is free",
        "text": "int64 (n, t) tokens, padded with -1; the tokenizer stays in Kyori (model.json)",
    }
    return {
        "kyori": __version__,
        "kind": kind,
        "input": inputs[kind],
        "shape": shape,
        "output": "float32 (n, d)" + (", of length 1" if embedder.normalize else ""),
        "embedding_size": embedder.embedding_size,
        "class_names": list(embedder.class_names),
    }
