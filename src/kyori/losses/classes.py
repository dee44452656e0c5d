"""The engine of all losses with class vectors: one look at all classes, chunk by chunk, never all logits at once.

A look finds per item what a loss needs of its logits z: the own class's logit, `log Σ_{j≠y} exp z_j` over the
others, and any sum over them. Logits are recomputed in the backward pass, so memory is O(n × chunk) beside the
class vectors and their gradient, which is written once, chunk by chunk. Class vectors are scaled to length 1
within the chunk: no second copy of them is ever held.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .. import distributed
from ..distances import before_sphere, full_precision, normalize, sphere_factor
from .rowwise import in_cache

__all__ = ["Change", "Classes", "Largest", "Look", "finite", "lengths"]

_CPU_NUMBERS = 2**20  # 4 MiB of float32 logits at a time stay in the cache: twice as fast as 64 MiB
_DEVICE_NUMBERS = 2**24
_LEAST_VECTORS = (
    512  # class vectors at a time at least: each chunk reads all items, which many thin ones pay for
)
_KEPT_NUMBERS = 2**24  # logits up to 64 MiB in all are kept for the backward pass instead of made again
_FEW = 64  # classes below which a chunk's logits lie class by class on the CPU: short rows cost a sixth more

Change = Callable[[Tensor], Tensor]


class Look(NamedTuple):
    """What one look at all classes finds.

    `own` (n,): logit of the item's class. `others` (n,): log Σ_{j≠y} exp z_j, −inf where there is none. `best`
    (n,): the largest other logit, without gradient. `total`: the sum over chunks of what `fold` made of them.
    """

    own: Tensor
    others: Tensor
    best: Tensor
    total: Tensor | None


class Classes(NamedTuple):
    """The classes that a step works on: all, or those drawn for it.

    `weight` (c, d), or (c, k, d) with k vectors a class; `bias` (c,) or None; `labels` (n,): each item's row in
    them; `numbers` (n,): each item's class number; `unit`: whether vectors count as if of length 1; `chunk`:
    classes at a time, None for as many as give 4 MiB of logits on the CPU, 64 MiB elsewhere, 512 vectors at least.
    Where each rank holds a shard of the classes, `weight` and `bias` are this rank's, `first` is its first row
    among all, `whole` the number of all; `labels` count all of them.
    """

    weight: Tensor
    bias: Tensor | None
    labels: Tensor
    numbers: Tensor
    unit: bool
    chunk: int | None = None
    first: int = 0
    whole: int | None = None

    @property
    def number(self) -> int:
        """How many there are, on all ranks together."""
        return len(self.weight) if self.whole is None else self.whole

    def look(
        self,
        features: Tensor,
        *,
        radius: Tensor | float | None = None,
        merge: Change | None = None,
        above: Tensor | float | None = None,
        bend: Change | None = None,
        fold: Change | None = None,
        log: bool = True,
        squares: bool = False,
    ) -> Look:
        """Look at the logits `features @ weight.T + bias` of features (n, d).

        Args:
            features: (n, d).
            radius: Length that features are given first, a number that is not learned; None leaves them as they are.
            merge: (n, k, b) → (n, b), one logit a class from those of its k vectors; a new tensor.
            above: Other classes whose logit exceeds it are left out: a number, or one an item (n, 1).
            bend: (n, b) → (n, b), changes the logits of the other classes.
            fold: (n, b) → any shape, what to sum over the chunks; it sees −inf where there is no other class.
            log: Whether `others` is wanted.
            squares: Whether `total` is Σ_{j≠y} z_j² (n,), in place of `fold` and `others`.
        """
        vectors = self.weight.shape[1] if self.weight.ndim == 3 else 1
        numbers = _CPU_NUMBERS if features.device.type == "cpu" else _DEVICE_NUMBERS
        chunk = self.chunk or max(1, max(numbers // max(features.shape), _LEAST_VECTORS) // vectors)
        keep = self.chunk is None and len(features) * vectors * len(self.weight) <= _KEPT_NUMBERS
        if squares:
            fold, log = sum_of_squares, False
        exchange = distributed.current()
        alone = exchange is None or (self.whole is None and len(self.weight) < exchange.world)
        complete = alone and chunk >= len(self.weight)
        plan = _Plan(chunk, keep, complete, radius, self.unit, merge, above, bend, fold, log)
        if exchange is None or alone:
            return Look(*_LookAtAll.apply(features, self.weight, self.bias, self.labels, plan))
        first, weight, bias = self._share(exchange)
        if len(weight):
            found = Look(*_LookAtAll.apply(features, weight, bias, self.labels - first, plan))
        else:
            found = _nothing(features, fold)
        return _merged(exchange.join([found], [1] * exchange.world))

    def _share(self, exchange: distributed.Exchange) -> tuple[int, Tensor, Tensor | None]:
        """The classes that this rank looks at: the number of the first, their vectors and biases."""
        if self.whole is not None:
            return self.first, self.weight, self.bias
        first, last = ((exchange.rank + i) * len(self.weight) // exchange.world for i in (0, 1))
        return first, self.weight[first:last], None if self.bias is None else self.bias[first:last]

    def over_all(self, value: Tensor) -> Tensor:
        """The sum over all ranks of what each finds for the classes it holds; where all hold all, the value itself."""
        exchange = distributed.current()
        if self.whole is None or exchange is None:
            return value
        return torch.stack([part for (part,) in exchange.gather([value], equal=True)]).sum(0)

    def vectors(self, rows: Tensor) -> Tensor:
        """The vectors (b, d) or (b, k, d) of some rows, of length 1 if they count as such."""
        if self.whole is None:
            picked = self.weight[rows]
        elif not len(self.weight):  # none of the classes drawn for this step
            picked = self.over_all(self.weight.new_zeros(len(rows), *self.weight.shape[1:]))
        else:
            here = (rows >= self.first) & (rows < self.first + len(self.weight))
            own = self.weight[(rows - self.first).clamp(0, len(self.weight) - 1)]
            picked = self.over_all(own.masked_fill(~here.view(-1, *[1] * (own.ndim - 1)), 0.0))
        return unit_rows(picked) if self.unit else picked


def _nothing(features: Tensor, fold: Change | None) -> Look:
    """A look at no class at all."""
    none = features.new_full((len(features),), -torch.inf)
    total = none.new_zeros(len(none)) if fold is sum_of_squares else None
    if fold is not None and total is None:
        total = fold(none.detach()[:, None])
    return Look(torch.zeros_like(none), none, none, total)


def _merged(parts: list[Look]) -> Look:
    """One look from those at the classes of each rank."""
    others = torch.stack([part.others for part in parts])
    top = _safe(others.detach().amax(0))
    exps = (others - top).exp().sum(0)
    empty = exps == 0
    total = None if parts[0].total is None else torch.stack([part.total for part in parts]).sum(0)  # type: ignore[misc]
    return Look(
        torch.stack([part.own for part in parts]).sum(0),
        (top + exps.masked_fill(empty, 1.0).log()).masked_fill(empty, -torch.inf),
        torch.stack([part.best for part in parts]).amax(0),
        total,
    )


def unit_rows(weight: Tensor) -> Tensor:
    """Vectors (…, d) divided by their length."""
    return normalize(weight.flatten(0, -2)).view_as(weight)


def lengths(x: Tensor) -> Tensor:
    """Lengths (n,) of the rows of x (n, d), with a gradient of 0 at 0."""
    squared = x.square().sum(1)
    empty = squared <= torch.finfo(x.dtype).tiny
    return squared.masked_fill(empty, 1.0).sqrt().masked_fill(empty, 0.0)


def finite(z: Tensor) -> Tensor:
    """Logits with 0 where there is no class."""
    return z.masked_fill(z == -torch.inf, 0.0)


def sum_of_squares(z: Tensor) -> Tensor:
    """Σ_j z_j² (n,) of logits (n, b)."""
    return z.square().sum(1)


class Largest(torch.autograd.Function):
    """max_k z (n, b) of logits (n, k, b); equal ones share the gradient."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        top = z.amax(1)
        ctx.save_for_backward(z, top)
        return top

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        z, top = ctx.saved_tensors
        hits = torch.ge(z, top[:, None], out=torch.empty_like(z))  # floats are written faster than booleans
        return hits.mul_((gradients[0] / hits.sum(1))[:, None])


class _Plan(NamedTuple):
    """How to look; `complete` says that the one chunk holds every item's own class."""

    chunk: int
    keep: bool
    complete: bool
    radius: Tensor | float | None
    unit: bool
    merge: Change | None
    above: Tensor | float | None
    bend: Change | None
    fold: Change | None
    log: bool

    @property
    def plain(self) -> bool:
        """Whether logits, merged or not, are used as they are, so that their gradient is written by hand."""
        return self.bend is None and self.fold in (None, sum_of_squares)


class _Chunk(NamedTuple):
    """Logits z (n, b) or (n, k, b) of a chunk of classes, their vectors w (k·b, d) and, if scaled, lengths."""

    z: Tensor
    w: Tensor
    length: Tensor | None


class _LookAtAll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, plan: _Plan
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        if not plan.complete:
            own, best = x.new_zeros(len(x)), x.new_full((len(x),), -torch.inf)
        factor = None if plan.radius is None else sphere_factor(x, plan.radius)
        x = x if factor is None else x * factor
        others: Tensor | None = None
        total: Tensor | None = None
        kept: list[Tensor | None] = []
        for start in range(0, len(weight), plan.chunk):
            raw, w, length = _chunk(x, weight, bias, plan, start)
            logits = raw.clone() if plan.keep and plan.merge is None and not plan.plain else raw
            z, unit = raw if plan.merge is None else plan.merge(raw), None
            place, inside = _own_place(labels, start, z.shape[1], plan)
            logit = z.gather(1, place)
            own = logit[:, 0] if inside is None else torch.where(inside, logit, own[:, None])[:, 0]
            peak = _set_own(z, place, inside, -torch.inf).amax(1)
            best = peak if plan.complete else torch.maximum(best, peak)
            if plan.above is not None or plan.bend is not None:
                z = _others(z, plan)
                peak = z.amax(1)
            if plan.fold is sum_of_squares:
                _set_own(z, place, inside, 0.0)
            if plan.fold is not None:
                part = plan.fold(z)
                total = part if total is None else total + part
            if plan.log:
                z, unit, log = _exps(z, peak)
                others = log if others is None else torch.logaddexp(others, log)
            if plan.keep:
                kept += [z if plan.plain and plan.merge is None else logits, w, length, unit]
        if others is None:
            others = x.new_full((len(x),), -torch.inf)
        ctx.plan = plan
        ctx.save_for_backward(x, factor, weight, bias, labels, others, *kept)
        ctx.mark_non_differentiable(best)
        return own, others, best, total

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, own: Tensor, others: Tensor, _: Tensor, total: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        x, factor, weight, bias, labels, log, *kept = ctx.saved_tensors
        plan: _Plan = ctx.plan
        log = _safe(log)
        x_gradient: Tensor | None = None
        whole = plan.chunk >= len(weight) and weight.ndim == 2  # the one chunk's gradient is that of all
        weight_gradient = None if whole else torch.empty_like(weight)
        bias_gradient = None if bias is None else torch.empty_like(bias)
        with full_precision(x.device):
            for start in range(0, len(weight), plan.chunk):
                if kept:
                    z, w, length, unit = kept[:4]
                    del kept[:4]
                else:
                    (z, w, length), unit = _chunk(x, weight, bias, plan, start), None
                back = _Back(plan, *_own_place(labels, start, z.shape[-1], plan), log, own, others, total)
                if plan.plain and plan.merge is None:
                    g = _gradient_by_hand(z, back, unit)
                elif plan.plain:
                    g = _gradient_through_merge(z, back).flatten(1)
                else:
                    g = _gradient_by_autograd(z, back).flatten(1)
                x_gradient = g @ w if x_gradient is None else x_gradient.addmm_(g, w)
                part = g.T @ x
                if length is not None:  # through w = v/‖v‖
                    part = part.sub_(w * (part * w).sum(1, keepdim=True)).div_(length)
                rows = slice(start, start + plan.chunk)
                if weight.ndim == 3:
                    part = part.unflatten(0, (weight.shape[1], -1)).transpose(0, 1)
                if weight_gradient is None:
                    weight_gradient = part
                else:
                    weight_gradient[rows] = part
                if bias_gradient is not None:
                    bias_gradient[rows] = g.sum(0)
            if x_gradient is None:
                x_gradient = torch.zeros_like(x)
            if plan.radius is not None:
                before_sphere(x_gradient, x, factor, plan.radius)
        return x_gradient, weight_gradient, bias_gradient, None, None


def _chunk(x: Tensor, weight: Tensor, bias: Tensor | None, plan: _Plan, start: int) -> _Chunk:
    """The logits of the classes from `start` on."""
    part = weight[start : start + plan.chunk]
    w, length = part if part.ndim == 2 else part.transpose(0, 1).flatten(0, 1), None
    if plan.unit:
        length = torch.linalg.vector_norm(w, dim=1, keepdim=True)
        length.masked_fill_(length <= math.sqrt(torch.finfo(w.dtype).tiny), torch.inf)
        w = w / length
    z = _logits(x, w, None if bias is None else bias[start : start + plan.chunk])
    return _Chunk(z if part.ndim == 2 else z.unflatten(1, (part.shape[1], -1)), w, length)


def _logits(x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    """x @ w.T + bias (n, b)."""
    if x.device.type == "cpu" and len(w) < _FEW:
        return (w @ x.T if bias is None else torch.addmm(bias[:, None], w, x.T)).T
    return torch.nn.functional.linear(x, w, bias)


def _own_place(labels: Tensor, start: int, classes: int, plan: _Plan) -> tuple[Tensor, Tensor | None]:
    """Each item's column (n, 1) in a chunk, and whether its class stands there (n, 1), None if all do."""
    if plan.complete:
        return labels[:, None], None
    inside = (labels >= start) & (labels < start + classes)
    return (labels - start).clamp(0, classes - 1)[:, None], inside[:, None]


def _set_own(z: Tensor, place: Tensor, inside: Tensor | None, value: float) -> Tensor:
    """z with `value` at the item's own class, in place."""
    if inside is None:
        return z.scatter_(1, place, value)
    return z.scatter_(1, place, z.gather(1, place).masked_fill_(inside, value))


def _others(z: Tensor, plan: _Plan) -> Tensor:
    """Logits as the loss uses them, −inf where they are left out; z is overwritten."""
    if plan.above is not None:
        z.masked_fill_(z > plan.above, -torch.inf)
    if plan.bend is None:
        return z
    out = z == -torch.inf
    return plan.bend(z.masked_fill_(out, 0.0)).masked_fill(out, -torch.inf)


def _safe(log: Tensor) -> Tensor:
    """Logarithms with the least number for −inf, to be subtracted from −inf."""
    return log.clamp(min=torch.finfo(log.dtype).min)


def _exps(z: Tensor, peak: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """exp z (n, b) in units of exp(unit), those units (n,), and log Σ exp z (n,); z, of which `peak` (n,) is the
    largest, is overwritten."""
    if z.stride(1) > 1:  # class by class
        unit = _safe(peak)
        exps = z.sub_(unit[:, None]).exp_()
        return exps, unit, exps.sum(1).log_().add_(unit)
    empty = peak == -torch.inf
    z[:, 0].masked_fill_(empty, 0.0)  # keeps NaN out of rows without any class
    for (rows,) in in_cache(z):
        rows.copy_(torch.softmax(rows, 1))  # a second matrix would be memory asked for anew
    log = peak - z.amax(1).log_()  # the largest share is exp(peak − log Σ exp)
    z[:, 0].masked_fill_(empty, 0.0)
    return z, _safe(log), log


class _Back(NamedTuple):
    """What the way back through a chunk needs: each item's own place, log Σ exp of the others over all chunks, and the
    gradients (n,) of `own`, `others` and the sum of what was folded."""

    plan: _Plan
    place: Tensor
    inside: Tensor | None
    log: Tensor
    own: Tensor
    others: Tensor
    total: Tensor | None


def _gradient_by_hand(z: Tensor, back: _Back, unit: Tensor | None) -> Tensor:
    """∂/∂z (n, b); z are logits, which are overwritten, or with `unit` kept exps in units of exp(unit)."""
    plan, place, inside = back.plan, back.place, back.inside
    if plan.fold is not None and back.total is not None:
        share = z * (2.0 * back.total)[:, None]
    elif unit is not None:
        share = z * ((unit - back.log).exp_() * back.others)[:, None]
    else:
        if plan.above is not None:
            z.masked_fill_(z > plan.above, -torch.inf)
        share = z.sub_(back.log[:, None]).exp_().mul_(back.others[:, None])
    own = back.own[:, None]
    return share.scatter_(
        1, place, own if inside is None else torch.where(inside, own, share.gather(1, place))
    )


def _gradient_through_merge(z: Tensor, back: _Back) -> Tensor:
    """∂/∂z (n, k, b), by hand down to the merged logits."""
    plan = back.plan
    assert plan.merge is not None
    leaf = z.detach().requires_grad_()
    with torch.enable_grad():
        merged = plan.merge(leaf)
    used = merged.detach().clone()
    if plan.fold is sum_of_squares:
        _set_own(used, back.place, back.inside, 0.0)
    return torch.autograd.grad(merged, leaf, _gradient_by_hand(used, back, None))[0]


def _gradient_by_autograd(z: Tensor, back: _Back) -> Tensor:
    """The same through `merge`, `bend` and `fold`, which are differentiated within the chunk."""
    plan, place = back.plan, back.place
    leaf = z.detach().requires_grad_()
    with torch.enable_grad():
        merged = leaf.view_as(leaf) if plan.merge is None else plan.merge(leaf)
        here = torch.ones_like(place, dtype=torch.bool) if back.inside is None else back.inside
        hidden = torch.zeros_like(merged, dtype=torch.bool).scatter_(1, place, here)
        if plan.above is not None:
            hidden |= merged.detach() > plan.above
        used = merged.masked_fill(hidden, 0.0)
        used = (used if plan.bend is None else plan.bend(used)).masked_fill(hidden, -torch.inf)
        outputs = [merged.gather(1, place)[:, 0]]
        gradients = [back.own * here[:, 0]]
        if plan.log:
            outputs.append(used)
            gradients.append((used.detach() - back.log[:, None]).exp_().mul_(back.others[:, None]))
        if plan.fold is not None and back.total is not None:
            outputs.append(plan.fold(used))
            gradients.append(back.total)
    return torch.autograd.grad(outputs, leaf, gradients)[0]
