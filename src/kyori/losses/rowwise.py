"""Sums over the masked entries of rows, with their gradients written out: the few passes that ranking losses need.

A row sum of the whole matrix (n, m) is worth writing out by hand; what concerns positives only is done on a flat
list of them, as they are few, by automatic differentiation.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks

from .counting import flat_places, sorted_positives

__all__ = [
    "PositivePairs",
    "attached",
    "by_rows",
    "class_groups",
    "in_cache",
    "known_log_sum",
    "log_sum",
    "log_sum_rows",
    "only",
    "pair_log_sum_exp",
    "pair_maximum",
    "pairs_and_nearest",
    "positive_pairs",
    "rank_sums",
    "row_counts",
    "soft_histogram",
    "with_gradient",
]

_CACHED = 2**17  # numbers that are worked on at a time: they stay in the processor's cache


class PositivePairs(NamedTuple):
    """All positive pairs of b anchors, anchor by anchor: rows, columns and distances, each (q,)."""

    anchors: Tensor
    columns: Tensor
    distances: Tensor

    def sum(self, values: Tensor, b: int) -> Tensor:
        """Sum of the values (q,) of each anchor's pairs, (b,)."""
        return values.new_zeros(b).index_add(0, self.anchors, values)


def positive_pairs(D: Tensor, positive: Tensor) -> PositivePairs:
    """The positive pairs with their distances, which carry the gradient."""
    found, m = flat_places(positive), D.shape[1]
    anchors = found // m
    return PositivePairs(anchors, found - anchors * m, D.flatten().index_select(0, found))


def pairs_and_nearest(D: Tensor, positive: Tensor, negative: Tensor) -> tuple[PositivePairs, Tensor]:
    """The positive pairs, and the distance of each anchor to its closest negative, (b,), infinite without any.

    Both carry the gradient, for which one matrix comes back to `D`.
    """
    pairs, m = positive_pairs(D.detach(), positive), D.shape[1]
    closest = [only(near, mask, torch.inf).min(1) for near, mask in in_cache(D.detach(), negative)]
    nearest, columns = (torch.cat(parts) for parts in zip(*closest, strict=True))
    rows = torch.arange(len(D), device=D.device)
    places = torch.cat([pairs.anchors * m + pairs.columns, rows * m + columns])
    near, far = D.flatten().index_select(0, places).split([len(pairs.anchors), len(D)])
    return pairs._replace(distances=near), far.masked_fill(nearest == torch.inf, torch.inf)


def only(D: Tensor, mask: Tensor, other: float) -> Tensor:
    """`D` without gradient, and `other` where `mask` is False."""
    return torch.where(mask, D.detach(), other)


class _Given(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, D: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0][:, None], None, None


def with_gradient(D: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """`value` (b,) of rows `D` (b, m), which has the known derivative `gradient` (b, m)."""
    given: Tensor = _Given.apply(D, value, gradient)
    return given


class _Attached(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, D: Tensor, places: Tensor, value: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(places, gradient)
        return D.flatten().index_select(0, places), value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        places, gradient = ctx.saved_tensors
        total = gradient * gradients[1][:, None]
        total.view(-1).index_add_(0, places, gradients[0])
        return total, None, None, None


def attached(
    D: Tensor, pairs: PositivePairs, value: Tensor, gradient: Tensor
) -> tuple[PositivePairs, Tensor]:
    """Distances of pairs, and `value` (b,) with the known derivative `gradient` (b, m), both carrying the gradient.

    What `positive_pairs` and `with_gradient` give, but one matrix comes back to `D` and not two.
    """
    places = pairs.anchors * D.shape[1] + pairs.columns
    distances, value = _Attached.apply(D, places, value, gradient)
    return pairs._replace(distances=distances), value


def in_cache(*tables: Tensor) -> list[tuple[Tensor, ...]]:
    """Tables (b, …), of which the first is (b, m), some rows at a time: what is made of them stays in the cache.

    Memory that is asked for anew costs more than work on it, so a matrix that lives for one step is best never whole.
    """
    numbers = _CACHED if tables[0].device.type == "cpu" else 128 * _CACHED
    step = max(1, numbers // max(1, tables[0].shape[1]))
    if step >= len(tables[0]) or torch.compiler.is_compiling():  # which joins the steps by itself
        return [tables]
    return list(zip(*[table.split(step) for table in tables], strict=True))


def row_counts(mask: Tensor) -> Tensor:
    """(b,) how many are True in each row of a mask (b, m), int32."""
    # bytes become floats five times faster than booleans become integers, and are counted exactly to 2²⁴
    parts = [part.view(torch.uint8).to(torch.float32).sum(1) for (part,) in in_cache(mask)]
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).int()


@torch.no_grad()
def by_rows(D: Tensor, formula: Callable[..., tuple[Tensor, ...]], *tables: Tensor) -> tuple[Tensor, ...]:
    """What `formula(D, *tables)` makes of some rows at a time: columns (b,), and last a derivative by D, (b, m)."""
    gradient = torch.empty_like(D)
    found = []
    for rows, into, *more in in_cache(D.detach(), gradient, *tables):
        *columns, slope = formula(rows, *more)
        into.copy_(slope)
        found.append(columns)
    return *[torch.cat(column) for column in zip(*found, strict=True)], gradient


def log_sum_rows(logits: Tensor, slope: float | Tensor) -> tuple[Tensor, Tensor]:
    """log Σ exp of each row of `logits` (b, m), which are used up, −inf where an entry does not count; −inf for rows
    without any. And its derivative, with `slope` that of the logits, a number or (b, m)."""
    top = logits.amax(1)
    empty = top == -torch.inf
    logits[:, 0].masked_fill_(empty, 0.0)  # keeps NaN out of rows without any entry
    share = torch.softmax(logits, 1)
    value = top - share.amax(1).log()  # the largest share is exp(top − log Σ exp)
    share[:, 0].masked_fill_(empty, 0.0)
    return value, share.mul_(slope)


def known_log_sum(D: Tensor, mask: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """log Σ e^{factor · D} over the entries of each row in the mask, (b,), −inf for none, and its derivative (b, m)."""
    outside = math.copysign(torch.inf, -factor)

    def formula(D: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return log_sum_rows(torch.where(mask, D, outside).mul_(factor), factor)

    value, gradient = by_rows(D, formula, mask)
    return value, gradient


def log_sum(D: Tensor, mask: Tensor, factor: Tensor | float) -> Tensor:
    """`known_log_sum` with its gradient, through a factor that is a tensor too."""
    if isinstance(factor, Tensor):
        D, factor = D * factor, 1.0
    return with_gradient(D, *known_log_sum(D, mask, factor))


def pair_maximum(pairs: PositivePairs, b: int) -> Tensor:
    """Largest distance of each anchor to a positive, (b,), −inf without any and without gradient."""
    top = pairs.distances.new_full((b,), -torch.inf)
    return top.scatter_reduce_(0, pairs.anchors, pairs.distances.detach(), "amax")


def pair_log_sum_exp(pairs: PositivePairs, logits: Tensor, b: int) -> Tensor:
    """log Σ exp of the logits (q,) of each anchor's pairs, (b,); −inf for anchors without any."""
    top = pair_maximum(pairs._replace(distances=logits), b)
    total = pairs.sum((logits - top.index_select(0, pairs.anchors)).exp(), b)
    empty = top == -torch.inf
    return (top + total.masked_fill(empty, 1.0).log()).masked_fill(empty, -torch.inf)


class _SoftHistogram(torch.autograd.Function):
    """Triangular kernels: a value between two nodes counts for both, by its distance to each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor | None, nodes: int, low: float, width: float) -> Tensor:
        histogram = x.new_zeros(len(x), nodes)
        cell = torch.empty_like(x, dtype=torch.uint8 if nodes <= 256 else torch.int32)
        for values, bars, cells, *masks in in_cache(x, histogram, cell, *([] if mask is None else [mask])):
            place = (values - low).div_(width).clamp_(0, nodes - 1)
            lower = place.nan_to_num(0.0).clamp_(max=nodes - 2).floor_()
            part = place.sub_(lower)
            lower = lower.to(torch.int32)
            if masks:
                lower = torch.where(masks[0], lower, nodes - 1)
                part = torch.where(masks[0], part, 0.0)
            cells.copy_(lower)
            starts = torch.arange(0, bars.numel(), nodes, device=x.device, dtype=torch.int32)[:, None]
            flat = lower.add_(starts).flatten()
            count, upper = (
                torch.bincount(flat, weights, bars.numel()).view_as(bars)[:, :-1].to(x.dtype)
                for weights in (None, part.flatten())
            )
            bars[:, :-1] += count - upper
            bars[:, 1:] += upper
        ctx.save_for_backward(cell)
        ctx.width = width
        return histogram

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (cell,) = ctx.saved_tensors
        slope = torch.nn.functional.pad(gradients[0].diff(dim=1) / ctx.width, (0, 1))
        gradient = slope.new_empty(cell.shape)
        for into, slopes, cells in in_cache(gradient, slope, cell):
            torch.gather(slopes, 1, cells.long(), out=into)
        return gradient, None, None, None, None


def soft_histogram(x: Tensor, mask: Tensor | None, *, nodes: int, low: float, width: float) -> Tensor:
    """Histogram (b, nodes) of each row of x (b, m) where `mask` is True; two nodes a value, so O(m) a row.

    Node j lies at low + j·width; values beyond the ends count as the ends.
    """
    histogram: Tensor = _SoftHistogram.apply(x, mask, nodes, low, width)
    return histogram


Formula = Callable[[Tensor, Tensor, Tensor], Tensor]


def rank_sums(D: Tensor, positive: Tensor, negative: Tensor, temperature: float, formula: Formula) -> Tensor:
    """Σ over the positives p of each anchor of formula(R₊, R₋, P), (b,).

    R₊ and R₋ say how many other positives, and how many negatives, lie before p: each counts σ((D(a,p) − D)/τ).
    P is the anchor's number of positives. O(b·m·p) time, in O(b·m) memory.
    """
    with torch.no_grad():
        near = sorted_positives(D, positive)
        filled = near.filled
        others = near.distances.masked_fill(~filled, torch.inf)
        negatives = only(D, negative, torch.inf)
        counts = filled.sum(1).to(D.dtype)
        anchors, slots = filled.nonzero(as_tuple=True)
        G, T = torch.zeros_like(D), torch.zeros_like(others)
        value = D.new_zeros(len(D))
        step = max(1, _CACHED // max(1, D.shape[1]))
        for rows, places in zip(anchors.split(step), slots.split(step), strict=True):
            own = others[rows, places]
            after = _before(negatives, rows, own, temperature)
            beside = _before(others, rows, own, temperature)
            with torch.enable_grad(), saved_tensors_hooks(_as_is, _as_is):
                ranks = [beside.sum(1).sub_(0.5).requires_grad_(), after.sum(1).requires_grad_()]
                terms = formula(ranks[0], ranks[1], counts[rows])
                slopes = torch.autograd.grad(terms.sum(), ranks, materialize_grads=True)
            value.index_add_(0, rows, terms.detach())
            push = torch.zeros_like(own)
            for part, slope, gradient in ((beside, slopes[0], T), (after, slopes[1], G)):
                part.addcmul_(part, part, value=-1.0).mul_(slope[:, None] / temperature)
                push += part.sum(1)
                gradient.index_add_(0, rows, part, alpha=-1.0)
            T.index_put_((rows, places), push, accumulate=True)
        G.scatter_add_(1, near.columns, T.masked_fill_(~filled, 0.0))
    return with_gradient(D, value, G)


def _as_is(x: Tensor) -> Tensor:
    """Keep a small graph's tensors, where a checkpoint around it would compute the whole block again to get them."""
    return x


def _before(table: Tensor, rows: Tensor, own: Tensor, temperature: float) -> Tensor:
    return table.index_select(0, rows).sub_(own[:, None]).mul_(-1.0 / temperature).sigmoid_()


class Group(NamedTuple):
    """Anchors that share most of their positives: r rows and the u columns of all their positives."""

    rows: Tensor
    columns: Tensor


def class_groups(labels: Tensor | None, positive: Tensor, size: int) -> Iterator[Group]:
    """Anchors in groups of `size`, classmates together, so that the references each group needs are few."""
    kin = positive.to(torch.uint8).argmax(1) if labels is None else labels
    for rows in kin.argsort(stable=True).split(size):
        yield Group(rows, positive[rows].any(0).nonzero()[:, 0])
