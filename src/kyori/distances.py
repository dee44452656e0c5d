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

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .errors import ArgumentError, nearest_name

__all__ = [
    "DISTANCES",
    "Distance",
    "check_distance",
    "distances_to",
    "full_precision",
    "normalize",
    "on_sphere",
    "pairwise_distance",
    "row_distance",
]

Distance = Literal["euclidean", "squared_euclidean", "cosine", "dot", "manhattan", "snr"]


def pairwise_distance(a: Tensor, b: Tensor, kind: Distance = "euclidean") -> Tensor:
    """Distance of every row of `a` to every row of `b`.

    Euclidean distances come from one matrix product, accumulated in float64 (float32 on MPS, which has no
    float64): they are right to float32 rounding even for near-duplicates. What is below 3e-7 of the largest
    norm cannot be told from the rounding of the inputs; it is returned as 0 and gets no gradient. The
    backward pass is one pair of matrix products, and no (n, m, d) tensor is ever built. Of a set to itself (`b`
    is `a`, the same tensor) half of the products do, and one in the backward pass.

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
    with full_precision(a.device):
        own = a is b
        a, b = _common(a, b)
        return _PAIRWISE[kind](a, a if own else b)


def distances_to(b: Tensor, kind: Distance = "euclidean") -> Callable[[Tensor], Tensor]:
    """`pairwise_distance` of many blocks of rows to the same `b`, whose part of the work is done once; no gradient.

    Args:
        b: (m, d) float32 or float64.
        kind: One of the table above.

    Returns:
        A function from (n, d) rows of the same type to (n, m) distances.

    Raises:
        ArgumentError: `kind` is unknown.

    >>> distances_to(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))(torch.tensor([[0.0, 0.0]]))
    tensor([[5., 0.]])
    """
    check_distance(kind)
    # The others have nothing to prepare.
    prepare = _PREPARED.get(kind, lambda b: lambda a: _PAIRWISE[kind](a, b))
    with torch.no_grad(), full_precision(b.device):
        prepared = prepare(b)

    def distances(a: Tensor) -> Tensor:
        with torch.no_grad(), full_precision(a.device):
            return prepared(a)

    return distances


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
    with full_precision(a.device):
        return _ROWWISE[kind](*_common(a, b))


def normalize(x: Tensor) -> Tensor:
    """Each row of `x` (n, d) divided by its length; a zero row stays zero and gets no gradient.

    >>> normalize(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    return x / _safe_length(x)


def on_sphere(x: Tensor, radius: Tensor | float = 1.0) -> Tensor:
    """Rows of x (n, d) scaled to a length that is not learned; a zero row stays zero and gets no gradient.

    `radius * normalize(x)` in fewer passes, whose gradient has none of its own.
    """
    scaled: Tensor = _OnSphere.apply(x, radius)
    return scaled


class _OnSphere(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, radius: Tensor | float) -> Tensor:
        factor = sphere_factor(x, radius)
        y = x * factor
        ctx.radius = radius
        ctx.save_for_backward(y, factor)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        y, factor = ctx.saved_tensors
        return before_sphere(gradients[0].clone(), y, factor, ctx.radius), None


def sphere_factor(x: Tensor, radius: Tensor | float) -> Tensor:
    """What rows of x (n, d) are multiplied by to get a length of `radius`, (n, 1); 0 for zero rows."""
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    length.masked_fill_(length <= math.sqrt(torch.finfo(x.dtype).tiny), torch.inf)
    return (radius / length).to(x.dtype)


def before_sphere(gradient: Tensor, y: Tensor, factor: Tensor, radius: Tensor | float) -> Tensor:
    """The gradient by x (n, d), written over that by y = x · `factor`, see `sphere_factor`."""
    along = (gradient * y).sum(1, keepdim=True).div_(radius**2)
    return gradient.addcmul_(y, along, value=-1.0).mul_(factor)


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """The context in which autocast rounds nothing; none where nothing would, as entering one costs ten small steps."""
    enabled = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if enabled else nullcontext()


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
    """(Squared) euclidean distances with the gradient written out."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, squared: bool) -> Tensor:
        D = _euclidean_to(b, squared)(a)
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
        with full_precision(a.device):
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


class _Own(torch.autograd.Function):
    """Distances of a set to itself: half of the products forward, and one product backward.

    Some rows at a time, against the columns from there on; the rest is their mirror image.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: str) -> Tensor:
        n, blocks = len(x), _own_blocks(x)
        tile = _euclidean_tile(x, kind == "squared_euclidean") if kind in _EUCLIDEAN else _dot_tile(x, kind)
        if len(blocks) == 1:
            D = tile(blocks[0])
        else:
            D = x.new_empty(n, n)
            for rows in blocks:
                part = tile(rows)
                D[rows, rows.start :] = part
                D[rows.stop :, rows] = part[:, rows.stop - rows.start :].T
        ctx.kind = kind
        ctx.save_for_backward(x, *([D] if kind in _EUCLIDEAN else []))
        return D

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, *distances = ctx.saved_tensors
        x_gradient = torch.empty_like(x)
        with full_precision(x.device):
            for rows in _own_blocks(x):
                # D is symmetric, so what comes back for (i, j) and for (j, i) acts on the same difference
                both = gradient[rows] + gradient[:, rows].contiguous().T
                if distances:
                    W = _pull(distances[0][rows], ctx.kind == "squared_euclidean").mul_(both)
                    torch.addmm(x[rows] * -W.sum(1)[:, None], W, x, out=x_gradient[rows])
                else:
                    torch.mm(both.neg_(), x, out=x_gradient[rows])
        return x_gradient, None


def _euclidean_to(b: Tensor, squared: bool) -> Callable[[Tensor], Tensor]:
    """(Squared) euclidean distances to b (m, d) by |a|² + |b|² − 2ab.

    Some rows at a time: no second matrix in float64 is held, and on the CPU each part stays in the cache.
    """
    wide, rounding = _precision(b)
    b_wide = b.to(wide)
    b_square = b_wide.square().sum(1)

    def distances(a: Tensor) -> Tensor:
        D = a.new_empty(len(a), len(b))
        if D.numel():
            a_wide = a.to(wide)
            a_square = a_wide.square().sum(1)
            floor = 2 * rounding * torch.maximum(a_square.max(), b_square.max())
            for rows in _row_blocks(D):
                square = torch.addmm(b_square, a_wide[rows], b_wide.T, alpha=-2.0).add_(a_square[rows, None])
                D[rows] = _zero_up_to(square, floor)
                if not squared:
                    D[rows].sqrt_()
        return D

    return distances


Tile = Callable[[slice], Tensor]
_EUCLIDEAN = ("euclidean", "squared_euclidean")
_OWN_ROWS = 124  # in the cache; a power of two would put the rows of a column into the same few places of it
_SMALL = 2**17  # distances up to which all of them take less time than half of them in parts


def _own_blocks(x: Tensor) -> list[slice]:
    n = len(x)
    many = x.device.type == "cpu" and n * n > _SMALL
    step = _OWN_ROWS if many else max(1, 2**25 // max(1, n))
    return [slice(start, min(n, start + step)) for start in range(0, n, step)]


def _euclidean_tile(x: Tensor, squared: bool) -> Tile:
    """(Squared) distances of rows of x to those from their first on."""
    wide, rounding = _precision(x)
    x_wide = x.to(wide)
    square = x_wide.square().sum(1)
    floor = 2 * rounding * square.max() if len(x) else square.sum()

    def tile(rows: slice) -> Tensor:
        rest = slice(rows.start, None)
        products = torch.addmm(square[rest], x_wide[rows], x_wide[rest].T, alpha=-2.0)
        part = _zero_up_to(products.add_(square[rows, None]), floor).to(x.dtype)
        return part if squared else part.sqrt_()

    return tile


def _dot_tile(x: Tensor, kind: str) -> Tile:
    """1 − x·y of unit vectors, or −x·y."""
    offset = 1.0 if kind == "cosine" else 0.0
    return lambda rows: torch.rsub(x[rows] @ x[rows.start :].T, offset)


def _precision(x: Tensor) -> tuple[torch.dtype, float]:
    """The type that squares are summed in, and the share of the largest that its rounding and the inputs' are."""
    wide = torch.float32 if x.device.type == "mps" else torch.float64
    return wide, max((2 * torch.finfo(x.dtype).eps) ** 2, 8 * torch.finfo(wide).eps)


def _row_blocks(D: Tensor) -> list[slice]:
    numbers = 2**20 if D.device.type == "cpu" else 2**25
    step = max(1, numbers // max(1, D.shape[1]))
    return [slice(start, start + step) for start in range(0, len(D), step)]


def _zero_up_to(square: Tensor, floor: Tensor) -> Tensor:
    """0 where a square is at most `floor`, in place; what is not a number stays so."""
    eager = square.device.type == "cpu" and not torch.compiler.is_compiling()
    if eager and math.isfinite(least := floor.item()):  # writing booleans is five times slower there
        return torch.threshold_(square, least, 0.0)
    return square.masked_fill_(square <= floor, 0.0)


def _pull(D: Tensor, squared: bool) -> Tensor:
    """−1/D, or −2 where D is a square; 0 where D is 0."""
    if squared:
        return (D > 0).to(D.dtype).mul_(-2.0)
    return torch.threshold_(torch.div(-1.0, D), -torch.finfo(D.dtype).max, 0.0)


def _euclidean(a: Tensor, b: Tensor) -> Tensor:
    D: Tensor = _Own.apply(a, "euclidean") if a is b else _MatmulEuclidean.apply(a, b, False)
    return D


def _squared_euclidean(a: Tensor, b: Tensor) -> Tensor:
    D: Tensor = _Own.apply(a, "squared_euclidean") if a is b else _MatmulEuclidean.apply(a, b, True)
    return D


def _cosine_to(b: Tensor) -> Callable[[Tensor], Tensor]:
    unit = normalize(b)
    return lambda a: 1.0 - normalize(a) @ unit.T


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    if a is not b:
        return _cosine_to(b)(a)
    D: Tensor = _Own.apply(normalize(a), "cosine")
    return D


def _dot(a: Tensor, b: Tensor) -> Tensor:
    if a is not b:
        return -(a @ b.T)
    D: Tensor = _Own.apply(a, "dot")
    return D


def _pairwise_snr(a: Tensor, b: Tensor) -> Tensor:
    centred = a - a.mean(1, keepdim=True)
    others = centred if a is b else b - b.mean(1, keepdim=True)
    D: Tensor = _RowsDivided.apply(_squared_euclidean(centred, others), _safe_length(centred).square())
    return D


class _RowsDivided(torch.autograd.Function):
    """Rows of D (n, m) divided by numbers (n, 1), whose gradient is summed without a matrix of its own."""

    @staticmethod
    def forward(ctx: Any, D: Tensor, divisor: Tensor) -> Tensor:
        divided = D / divisor
        ctx.save_for_backward(divided, divisor)
        return divided

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        divided, divisor = ctx.saved_tensors
        (gradient,) = gradients
        of_divisor = torch.einsum("nm,nm->n", gradient, divided)[:, None] / -divisor
        return gradient / divisor, of_divisor


def _row_euclidean(a: Tensor, b: Tensor) -> Tensor:
    squared = (a - b).square().sum(1)
    zero = squared == 0
    return squared.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)


def _row_snr(a: Tensor, b: Tensor) -> Tensor:
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a - b).square().sum(1) / _safe_length(a)[:, 0].square()


_PAIRWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "euclidean": _euclidean,
    "squared_euclidean": _squared_euclidean,
    "cosine": _cosine,
    "dot": _dot,
    "manhattan": lambda a, b: torch.cdist(a, b, p=1.0),
    "snr": _pairwise_snr,
}
_PREPARED: dict[str, Callable[[Tensor], Callable[[Tensor], Tensor]]] = {
    "euclidean": lambda b: _euclidean_to(b, squared=False),
    "squared_euclidean": lambda b: _euclidean_to(b, squared=True),
    "cosine": _cosine_to,
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
