"""What ranks tell each other in a step, with the gradient: one operation, and one rule that makes it exact.

**The rule.** Each rank r makes a number L_r and differentiates it; afterwards the gradients of the ranks are
averaged, as `torch.nn.parallel.DistributedDataParallel` does. What is differentiated is then the mean of all L_r,
as a function of what every rank put in. So a rank that gets the tensors of others must send their gradients back, and
the owner adds them up: the backward pass of a gather is a sum. Where every rank computes the same loss of the
gathered batch, L_r = L, the averaged gradient is that of L, and it does not matter whether the ranks do all of the work
twice or each a part of it: the sum is the same. There is no other factor anywhere.

**The thread.** A collective operation waits for all ranks, so all must run the same ones in the same order, in the
backward pass too, where autograd runs only what is connected. A scalar, `Exchange.thread`, therefore goes from
each operation to the next, and into the loss.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..errors import ArgumentError
from .group import rank, world

__all__ = ["Exchange", "current", "exchanging", "gather", "own", "own_sum"]

T = TypeVar("T")
_DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
]  # fmt: skip
_AXES = 3
_ALIGNED = 8  # bytes: where any type may begin


class Exchange:
    """The collective operations of one forward pass, in their order."""

    def __init__(self, start: Tensor):
        self.thread = start

    @property
    def rank(self) -> int:
        """This process."""
        return rank()

    @property
    def world(self) -> int:
        """How many there are."""
        return world()

    def gather(
        self, tensors: list[Tensor], most: int | None = None, *, equal: bool = False
    ) -> list[list[Tensor]]:
        """The tensors of every rank, rank by rank, with gradient.

        Args:
            tensors: Of up to three axes, any sizes.
            most: The largest number of tensors that a rank has; by default all have as many as this one.
            equal: Whether shapes and types are known to be the same on all ranks.
        """
        if equal:
            shapes = [[(tuple(x.shape), x.dtype) for x in tensors]] * self.world
        else:
            shapes = _shapes_everywhere(tensors, len(tensors) if most is None else most, self.thread.device)
        self.thread, *found = _Gather.apply(shapes, self.thread, *tensors)
        everywhere, start = [], 0
        for own in shapes:
            everywhere.append(found[start : start + len(own)])
            start += len(own)
        return everywhere

    def join(self, values: list[T], blocks: list[int]) -> list[T]:
        """The values of every rank, one after another: tensors, None, or (named) tuples of these.

        Args:
            values: This rank's, at least one.
            blocks: How many each rank has.
        """
        parts = [_leaves(value) for value in values]
        width = len(parts[0])
        tensors = self.gather([leaf for part in parts for leaf in part], most=width * max(blocks))
        return [
            _like(values[0], iter(own[i : i + width])) for own in tensors for i in range(0, len(own), width)
        ]

    def same(self, tensors: list[Tensor]) -> list[Tensor]:
        """Tensors that all ranks hold alike, to be used by each for its part: their gradient is the ranks' mean."""
        if not tensors:
            return []
        self.thread, *found = _Same.apply(self.thread, *tensors)
        return found


_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


def current() -> Exchange | None:
    """The exchange under way, None where a rank works by itself."""
    return _current.get()


@contextmanager
def exchanging(exchange: Exchange | None) -> Iterator[None]:
    """Within it, work on a batch that all ranks hold is divided among them."""
    token = _current.set(exchange)
    try:
        yield
    finally:
        _current.reset(token)


def gather(x: Tensor) -> Tensor:
    """Rows of all ranks, (Σ n_r, …) from (n_r, …), in the order of the ranks, with gradient.

    Its gradient is the sum of those that the ranks have for this rank's rows, so that averaged gradients are exact.
    """
    if world() == 1:
        return x
    exchange = Exchange(torch.zeros((), device=x.device))
    return torch.cat([part for (part,) in exchange.gather([x])])


def own(x: Tensor) -> Tensor:
    """A tensor that this rank alone holds, to be used in what all ranks make: its gradient is the averaged one."""
    found: Tensor = _Own.apply(x)
    return found


class _Own(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] / world()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shapes: list[list[Any]], thread: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.shapes, ctx.device = shapes, thread.device
        sizes = [sum(_bytes(shape, dtype) for shape, dtype in own) for own in shapes]
        mine = thread.new_zeros(max(sizes), dtype=torch.uint8)
        start = 0
        for x in tensors:
            flat = x.detach().to(thread.device).contiguous().view(-1).view(torch.uint8)
            mine[start : start + len(flat)] = flat
            start += _padded(len(flat))
        everywhere = all_gather(mine)
        found: list[Tensor] = []
        for row, own in zip(everywhere, shapes, strict=True):
            start = 0
            for shape, dtype in own:
                length = _count(shape) * dtype.itemsize
                found.append(row[start : start + length].clone().view(dtype).view(shape))
                start += _padded(length)
        ctx.mark_non_differentiable(*[x for x in found if not x.is_floating_point()])
        return torch.zeros_like(thread), *found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, thread: Tensor, *gradients: Tensor) -> tuple[Any, ...]:
        types = [dtype for own in ctx.shapes for _, dtype in own if dtype.is_floating_point]
        dtype = types[0] if len(set(types)) == 1 else torch.float64
        sizes = [sum(_count(shape) for shape, kind in own if kind.is_floating_point) for own in ctx.shapes]
        if not types or not max(sizes):
            return None, torch.zeros_like(thread), *[None for _ in ctx.shapes[rank()]]
        buffer = torch.zeros(len(sizes), max(sizes), dtype=dtype, device=ctx.device)
        left = iter(gradients)
        for row, own in zip(buffer, ctx.shapes, strict=True):
            start = 0
            for shape, kind in own:
                gradient = next(left)
                if kind.is_floating_point:
                    row[start : start + _count(shape)] = gradient.reshape(-1)
                    start += _count(shape)
        mine, start = own_sum(buffer), 0
        back: list[Tensor | None] = []
        for shape, kind in ctx.shapes[rank()]:
            if not kind.is_floating_point:
                back.append(None)
                continue
            back.append(mine[start : start + _count(shape)].view(shape).to(kind))
            start += _count(shape)
        return None, torch.zeros_like(thread), *back


class _Same(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, thread: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        return torch.zeros_like(thread), *[x.view_as(x) for x in tensors]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, thread: Tensor, *gradients: Tensor) -> tuple[Tensor, ...]:
        dtype = gradients[0].dtype
        for gradient in gradients[1:]:
            dtype = torch.promote_types(dtype, gradient.dtype)
        flat = torch.cat([gradient.reshape(-1).to(dtype) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= world()
        parts = flat.split([gradient.numel() for gradient in gradients])
        return torch.zeros_like(thread), *[
            part.view_as(gradient).to(gradient.dtype) for part, gradient in zip(parts, gradients, strict=True)
        ]


def all_gather(x: Tensor) -> Tensor:
    """(world, …) from a tensor of the same shape on every rank, without gradient."""
    everywhere = x.new_empty(world() * x.numel())
    if x.numel():
        dist.all_gather_into_tensor(everywhere, x.contiguous().view(-1))
    return everywhere.view(world(), *x.shape)


def own_sum(rows: Tensor) -> Tensor:
    """This rank's row of the sum over ranks of (world, k)."""
    if rows.device.type == "cuda":
        mine = torch.empty_like(rows[0])
        dist.reduce_scatter_tensor(mine, rows)
        return mine
    dist.all_reduce(rows)
    return rows[rank()]


def _shapes_everywhere(tensors: list[Tensor], most: int, device: torch.device) -> list[list[Any]]:
    """Shape and type of every rank's tensors; all ranks raise where what they hold does not fit together."""
    width = 2 + _AXES
    facts = [len(tensors)] + [0] * (most * width)
    for i, x in enumerate(tensors[:most]):
        facts[1 + i * width : 1 + (i + 1) * width] = [
            _DTYPES.index(x.dtype), x.ndim, *x.shape, *[0] * (_AXES - x.ndim)
        ]  # fmt: skip
    found = all_gather(torch.tensor(facts, dtype=torch.int64, device=device)).tolist()
    shapes = []
    for count, *more in found:
        rows = [more[i * width : (i + 1) * width] for i in range(min(count, most))]
        shapes.append([(tuple(row[2 : 2 + row[1]]), _DTYPES[row[0]]) for row in rows])
    return shapes


def check_alike(facts: list[int], device: torch.device, message: str) -> None:
    """Raise `ArgumentError` on all ranks unless these few numbers are the same on all; the same length everywhere."""
    found = all_gather(torch.tensor(facts, dtype=torch.int64, device=device)).tolist()
    if any(other != found[0] for other in found):
        raise ArgumentError(message)


def _leaves(value: Any) -> list[Tensor]:
    if value is None:
        return []
    return [value] if isinstance(value, Tensor) else [leaf for part in value for leaf in _leaves(part)]


def _like(value: Any, leaves: Iterator[Tensor]) -> Any:
    """The leaves in the place of those of `value`."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        return next(leaves)
    parts = [_like(part, leaves) for part in value]
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return _padded(_count(shape) * dtype.itemsize)


def _padded(length: int) -> int:
    return -(-length // _ALIGNED) * _ALIGNED
