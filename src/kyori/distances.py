"""Distances between vectors, differentiable everywhere that training can reach.

Smaller is closer, always. Two forms: every row with every row (`pairwise_distance`), and row by row
(`row_distance`). The gradient at distance zero is zero, never NaN: duplicates in a batch are normal.
Half-precision input is computed in float32, autocast or not.

| kind | definition |
|---|---|
| `euclidean` | ‖a−b‖₂ |
| `squared_euclidean` | ‖a−b‖₂² |
| `cosine` | 1 − cos(a, b) |
| `dot` | −a·b (not a metric) |
| `manhattan` | ‖a−b‖₁ |
| `snr` | var(b−a) / var(a), variance over the d features (asymmetric); 0 where a has none |
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .errors import ArgumentError, nearest_name

__all__ = ["DISTANCES", "Distance", "check_distance", "normalize", "pairwise_distance", "row_distance"]

Distance = Literal["euclidean", "squared_euclidean", "cosine", "dot", "manhattan", "snr"]


def pairwise_distance(a: Tensor, b: Tensor, kind: Distance = "euclidean") -> Tensor:
    """Distance of every row of `a` to every row of `b`.

    Euclidean distances come from one matrix product, accumulated in float64 (float32 on MPS, which has no
    float64): they are right to float32 rounding even for near-duplicates. What is below 3e-7 of the largest
    norm cannot be told from the rounding of the inputs; it is returned as 0 and gets no gradient. The
    backward pass is one pair of matrix products, and no (n, m, d) tensor is ever built.

    Args:
        a: (n, d) floats.
        b: (m, d) floats.
        kind: One of the table above.

    Returns:
        (n, m), float32 or the wider type of the inputs.

    Raises:
        ArgumentError: The shapes do not fit or `kind` is unknown.

    >>> pairwise_distance(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[5., 0.]])
    """
    check_distance(kind)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ArgumentError(
            f"a and b must have shapes (n, d) and (m, d); got {tuple(a.shape)} and {tuple(b.shape)}."
        )
    with torch.autocast(a.device.type, enabled=False):
        return _PAIRWISE[kind](*_common(a, b))


def row_distance(a: Tensor, b: Tensor, kind: Distance = "euclidean") -> Tensor:
    """Distance of each row of `a` to the same row of `b`.

    Args:
        a: (n, d) floats.
        b: (n, d) floats.
        kind: One of the table above.

    Returns:
        (n,), float32 or the wider type of the inputs.

    Raises:
        ArgumentError: The shapes differ or `kind` is unknown.

    >>> row_distance(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, -1.0]]), "manhattan")
    tensor([2.])
    """
    check_distance(kind)
    if a.ndim != 2 or a.shape != b.shape:
        raise ArgumentError(
            f"a and b must have the same shape (n, d); got {tuple(a.shape)} and {tuple(b.shape)}."
        )
    with torch.autocast(a.device.type, enabled=False):
        return _ROWWISE[kind](*_common(a, b))


def normalize(x: Tensor) -> Tensor:
    """Each row of `x` (n, d) divided by its length; a zero row stays zero and gets no gradient.

    >>> normalize(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    return x / _safe_length(x)


def check_distance(kind: str) -> None:
    """Raise `ArgumentError` when no distance is called `kind`."""
    if kind not in _PAIRWISE:
        raise ArgumentError(
            f"distance must be the name of a distance; got {kind!r}{nearest_name(kind, _PAIRWISE)}"
        )


def _common(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return a.to(dtype), b.to(dtype)


def _safe_length(x: Tensor) -> Tensor:
    """(n, 1) lengths, infinite where the vector is zero (or so short that its square underflows)."""
    squared = x.square().sum(1, keepdim=True)
    empty = squared <= torch.finfo(x.dtype).tiny
    return squared.masked_fill(empty, 1.0).sqrt().masked_fill(empty, torch.inf)


class _MatmulEuclidean(torch.autograd.Function):
    """(Squared) euclidean distances by |a|² + |b|² − 2ab, with the gradient written out.

    Some rows at a time: no second matrix in float64 is held, and on the CPU each part stays in the cache.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, squared: bool) -> Tensor:
        wide = torch.float32 if a.device.type == "mps" else torch.float64
        rounding = max((2 * torch.finfo(a.dtype).eps) ** 2, 8 * torch.finfo(wide).eps)
        a_wide, b_wide = a.to(wide), b.to(wide)
        a_square, b_square = a_wide.square().sum(1), b_wide.square().sum(1)
        D = a.new_empty(len(a), len(b))
        if D.numel():
            floor = 2 * rounding * torch.maximum(a_square.max(), b_square.max())
            for rows in _row_blocks(D):
                square = torch.addmm(b_square, a_wide[rows], b_wide.T, alpha=-2.0).add_(a_square[rows, None])
                D[rows] = _zero_up_to(square, floor)
                if not squared:
                    D[rows].sqrt_()
        ctx.squared = squared
        ctx.save_for_backward(a, b, D)
        return D

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        a, b, D = ctx.saved_tensors
        a_gradient = torch.zeros_like(a) if ctx.needs_input_grad[0] else None
        b_gradient = torch.zeros_like(b) if ctx.needs_input_grad[1] else None
        total = b.new_zeros(len(b))
        with torch.autocast(a.device.type, enabled=False):
            for rows in _row_blocks(D):
                # −d D²/da = 2(b−a), −d D/da = (b−a)/D: both are a weighted sum of differences
                W = _pull(D[rows], ctx.squared).mul_(gradient[rows])
                if a_gradient is not None:
                    torch.addmm(a[rows] * -W.sum(1)[:, None], W, b, out=a_gradient[rows])
                if b_gradient is not None:
                    b_gradient.addmm_(W.T, a[rows])
                    total += W.sum(0)
            if b_gradient is not None:
                b_gradient.sub_(b * total[:, None])
        return a_gradient, b_gradient, None


def _row_blocks(D: Tensor) -> list[slice]:
    numbers = 2**20 if D.device.type == "cpu" else 2**25
    step = max(1, numbers // max(1, D.shape[1]))
    return [slice(start, start + step) for start in range(0, len(D), step)]


def _zero_up_to(square: Tensor, floor: Tensor) -> Tensor:
    """0 where a square is at most `floor`, in place; what is not a number stays so."""
    eager = square.device.type == "cpu" and not torch.compiler.is_compiling()
    if eager and floor.isfinite():  # writing booleans is five times slower there
        return torch.threshold_(square, floor.item(), 0.0)
    return square.masked_fill_(square <= floor, 0.0)


def _pull(D: Tensor, squared: bool) -> Tensor:
    """−1/D, or −2 where D is a square; 0 where D is 0."""
    if squared:
        return (D > 0).to(D.dtype).mul_(-2.0)
    return torch.threshold_(torch.div(-1.0, D), -torch.finfo(D.dtype).max, 0.0)


def _pairwise_snr(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return _MatmulEuclidean.apply(a, b, True) / _safe_length(a).square()


def _row_euclidean(a: Tensor, b: Tensor) -> Tensor:
    squared = (a - b).square().sum(1)
    zero = squared == 0
    return squared.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)


def _row_snr(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a - b).square().sum(1) / _safe_length(a)[:, 0].square()


_PAIRWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "euclidean": lambda a, b: _MatmulEuclidean.apply(a, b, False),
    "squared_euclidean": lambda a, b: _MatmulEuclidean.apply(a, b, True),
    "cosine": lambda a, b: 1.0 - normalize(a) @ normalize(b).T,
    "dot": lambda a, b: -(a @ b.T),
    "manhattan": lambda a, b: torch.cdist(a, b, p=1.0),
    "snr": _pairwise_snr,
}
_ROWWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "euclidean": _row_euclidean,
    "squared_euclidean": lambda a, b: (a - b).square().sum(1),
    "cosine": lambda a, b: 1.0 - (normalize(a) * normalize(b)).sum(1),
    "dot": lambda a, b: -(a * b).sum(1),
    "manhattan": lambda a, b: (a - b).abs().sum(1),
    "snr": _row_snr,
}
DISTANCES: tuple[str, ...] = tuple(_PAIRWISE)
