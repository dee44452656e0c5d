"""How much memory a training step takes, measured on a small batch and scaled."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import ArgumentError
from .embedder import Embedder

__all__ = ["training_memory"]

_PROBE = 4  # items in the measured batch
_COPIES = 4  # weights, gradients and Adam's two moments
_MATRICES = 4  # distances, two masks' worth of work space, gradient


def training_memory(
    backbone: str, shape: Sequence[int], *, batch_size: int, embedding_size: int = 64
) -> dict[str, int]:
    """Return the bytes that one training step in float32 keeps.

    The activations are those that autograd saves for a batch of 4, counted once each and scaled to ``batch_size``;
    what an operation needs only while it runs is not in it.

    Args:
        backbone: ``"mlp"``, ``"cnn"`` or a timm name.
        shape: Shape of an item, ``(h, w, c)`` or ``(f,)``.
        batch_size: Items b in a batch, ≥ 1.
        embedding_size: d.

    Returns:
        ``parameters`` (a count), ``weights_bytes`` (with gradients and Adam), ``activations_bytes``,
        ``distances_bytes`` (matrices b × b of a pair or triplet loss) and ``total_bytes``.

    >>> memory = training_memory("mlp", (28, 28, 1), batch_size=256)
    >>> memory["parameters"]
    141760
    """
    if batch_size < 1:
        raise ArgumentError(f"batch_size must be ≥ 1; got {batch_size}.")
    embedder = Embedder.create(backbone, shape, embedding_size=embedding_size).train()
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Any:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    own = {p.untyped_storage().data_ptr() for p in embedder.parameters()}
    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        held = embedder.features(torch.zeros(_PROBE, *embedder.input_shape))
    activations = sum(size for place, size in saved.items() if place not in own) + held.nbytes
    parameters = embedder.parameter_count
    parts = {
        "weights_bytes": parameters * 4 * _COPIES,
        "activations_bytes": activations * batch_size // _PROBE,
        "distances_bytes": batch_size**2 * 4 * _MATRICES,
    }
    return {"parameters": parameters, **parts, "total_bytes": sum(parts.values())}
