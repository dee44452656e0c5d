"""Margins: what becomes of the cosine to the own class. Pure functions of cosines (n,), safe at both ends."""

import math

import torch
from torch import Tensor

__all__ = ["angle", "arc", "psi"]


def angle(cosine: Tensor) -> Tensor:
    """Angle in radians; just short of 0 and π at the ends, where arccos has no gradient.

    >>> angle(torch.tensor([0.0]))
    tensor([1.5708])
    """
    edge = 1.0 - torch.finfo(cosine.dtype).eps
    return cosine.clamp(-edge, edge).acos()


def arc(cosine: Tensor, margin: Tensor | float) -> Tensor:
    """cos(θ + m) for a margin in radians, a number or one an item; past θ + m > π its continuation cos θ − m sin m.

    >>> arc(torch.tensor([1.0]), 0.5)  # cos 0.5
    tensor([0.8776])
    """
    m = margin if isinstance(margin, Tensor) else cosine.new_tensor(margin)
    squared = 1.0 - cosine.square()
    flat = squared < torch.finfo(cosine.dtype).eps  # rounding; and at 0 the root has no finite gradient
    sine = squared.masked_fill(flat, 1.0).sqrt().masked_fill(flat, 0.0)
    shifted = cosine * m.cos() - sine * m.sin()
    return torch.where(cosine > -m.cos(), shifted, cosine - m * m.sin())


def psi(phi: Tensor) -> Tensor:
    """ψ(φ) = (−1)^k cos φ − 2k on φ ∈ [kπ, (k+1)π]: cos φ, but falling without end.

    >>> psi(torch.tensor([0.0, math.pi, 2 * math.pi]))
    tensor([ 1., -1., -3.])
    """
    with torch.no_grad():
        k = (phi / math.pi).floor()
    return (1.0 - 2.0 * (k % 2)) * torch.cos(phi) - 2.0 * k
