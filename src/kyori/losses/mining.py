"""Which triplets of an anchor are chosen, and sums over all of them that no count of triplets gives.

What a count gives, the sums of hinges, is in `counting`.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..distances import Distance
from ..errors import ArgumentError
from .counting import passed, sorted_positives
from .rowwise import in_cache

__all__ = [
    "Draw",
    "Picks",
    "Strategy",
    "batch_picks",
    "check_on_sphere",
    "distance_weighted",
    "facenet",
    "hardest",
    "random_picks",
    "soft_sums",
    "swap_sums",
]


class Picks(NamedTuple):
    """t triplets an anchor: columns of positive and negative (b, t), and whether there is such a triplet."""

    positives: Tensor
    negatives: Tensor
    valid: Tensor


@torch.no_grad()
def facenet(D: Tensor, positive: Tensor, negative: Tensor) -> Picks:
    """For each (a, p) the closest negative farther than p; if there is none, the farthest negative.

    Each negative falls into the bucket between two consecutive positives; the answer for p is the smallest of
    all buckets beyond it: a minimum per bucket, and a running minimum from the right.
    """
    near = sorted_positives(D, positive)
    b, width = near.distances.shape
    negatives = torch.where(negative, D, torch.inf)
    bucket = passed(near.distances, negatives, right=False).long()
    smallest = D.new_full((b, width + 1), torch.inf).scatter_reduce_(1, bucket, negatives, "amin")
    anchors, columns = (negative & (negatives == smallest.gather(1, bucket))).nonzero(as_tuple=True)
    which = columns.new_full((b * (width + 1),), D.shape[1])
    which.scatter_reduce_(0, anchors * (width + 1) + bucket[anchors, columns], columns, "amin")
    beyond, turned = smallest[:, 1:].flip(1).cummin(1)
    chosen = which.view(b, width + 1)[:, 1:].gather(1, width - 1 - turned).flip(1)
    farthest = D.masked_fill(~negative, -torch.inf).argmax(1, keepdim=True)
    chosen = torch.where(beyond.flip(1) < torch.inf, chosen, farthest)
    return Picks(near.columns, chosen, near.filled & negative.any(1, keepdim=True))


@torch.no_grad()
def hardest(D: Tensor, positive: Tensor, negative: Tensor) -> Picks:
    """For each anchor its farthest positive and its closest negative."""
    farthest = D.masked_fill(~positive, -torch.inf).argmax(1, keepdim=True)
    closest = D.masked_fill(~negative, torch.inf).argmin(1, keepdim=True)
    return Picks(farthest, closest, (positive.any(1) & negative.any(1))[:, None])


@torch.no_grad()
def random_picks(positive: Tensor, negative: Tensor, chance: Tensor) -> Picks:
    """Random triplets: `chance` (b, k, 2) in [0, 1) chooses the positive and the negative of each."""
    chosen = []
    for mask, share in ((positive, chance[..., 0]), (negative, chance[..., 1])):
        order = mask.cumsum(1, dtype=torch.int32)
        rank = (share * order[:, -1:]).int() + 1
        chosen.append(torch.searchsorted(order, rank).clamp_(max=mask.shape[1] - 1))
    valid = (positive.any(1) & negative.any(1))[:, None].expand(chance.shape[:2])
    return Picks(chosen[0], chosen[1], valid)


Strategy = Literal["easy", "semihard", "hard"]


@torch.no_grad()
def batch_picks(
    D: Tensor, positive: Tensor, negative: Tensor, positives: Strategy, negatives: Strategy
) -> Picks:
    """For each anchor one positive and one negative.

    Positive: `hard` the farthest, `easy` the closest, `semihard` the farthest that is closer than the negative.
    Negative: `hard` the closest, `easy` the farthest, `semihard` the closest that is farther than the positive.
    An anchor without such a pair has no triplet.
    """
    if positives == "semihard":
        other, near = _pick(D, negative, farthest=negatives == "easy")
        pick, at = _pick(D, positive & (near > D), farthest=True)
        return Picks(pick, other, near.isfinite() & at.isfinite())
    pick, at = _pick(D, positive, farthest=positives == "hard")
    if negatives == "semihard":
        negative = negative & (at < D)
    other, near = _pick(D, negative, farthest=negatives == "easy")
    return Picks(pick, other, near.isfinite() & at.isfinite())


def _pick(D: Tensor, mask: Tensor, *, farthest: bool) -> tuple[Tensor, Tensor]:
    """Column and distance (b, 1) of the farthest or closest entry; infinite where there is none."""
    outside = -torch.inf if farthest else torch.inf
    best = torch.where(mask, D, outside)
    distance, column = best.max(1, keepdim=True) if farthest else best.min(1, keepdim=True)
    return column, distance


_NEAREST, _FARTHEST = 0.5, 1.4  # of the paper's authors: closer ones weigh no more, farther ones not at all


def check_on_sphere(distance: Distance, normalize: bool) -> None:
    """Raise `ArgumentError` unless embeddings are unit vectors and their euclidean distance can be told."""
    if distance == "cosine" or (normalize and distance in ("euclidean", "squared_euclidean")):
        return
    raise ArgumentError(
        "mining='distance_weighted' needs unit vectors: distance 'cosine', or normalize=True with 'euclidean' or "
        f"'squared_euclidean'; got distance {distance!r} and normalize={normalize}."
    )


@torch.no_grad()
def distance_weighted(
    D: Tensor, positive: Tensor, negative: Tensor, chance: Tensor, distance: Distance, d: int
) -> Picks:
    """Triplets of a random positive and a negative drawn with probability ∝ 1/q(D).

    q(D) ∝ D^(d−2)·(1 − D²/4)^((d−3)/2) is the density of euclidean distances on the sphere in d dimensions. Negatives
    closer than 0.5 weigh as if they were at 0.5, those beyond 1.4 nothing unless all are. `chance` (b, k, 2) in [0, 1).
    """
    parts = [_drawn(part, distance, d) for part in in_cache(D, positive, negative, chance)]
    return Picks(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _drawn(tables: tuple[Tensor, ...], distance: Distance, d: int) -> Picks:
    D, positive, negative, chance = tables
    square = {"squared_euclidean": D, "cosine": 2.0 * D}.get(distance)
    square = D.square() if square is None else square
    inside = negative & (square < _FARTHEST**2)
    allowed = torch.where(inside.any(1, keepdim=True), inside, negative)
    square = square.clamp(min=_NEAREST**2, max=_FARTHEST**2)
    log_weight = (2.0 - d) / 2.0 * square.log() - (d - 3) / 2.0 * torch.log1p(-0.25 * square)
    weight = log_weight.masked_fill_(~allowed, -torch.inf).softmax(1).nan_to_num_(0.0)
    order = weight.double().cumsum(1)
    chosen = torch.searchsorted(order, chance[..., 1].double() * order[:, -1:], right=True)
    last = weight.shape[1] - 1 - weight.flip(1).gt(0).to(torch.uint8).argmax(1, keepdim=True)
    picks = random_picks(positive, negative, chance)
    return picks._replace(negatives=torch.minimum(chosen, last))


class Draw(nn.Module):
    """Seeded random numbers, new ones each training step: (n, triplets, 2) in [0, 1)."""

    def __init__(self, triplets: int, seed: int):
        super().__init__()
        self.triplets = triplets
        self.seed = seed
        self.step: Tensor
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def begin(self, n: int, device: torch.device) -> Tensor:
        """Draw for a batch of n anchors."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + int(self.step))
        if self.training:
            self.step += 1
        return torch.rand(n, self.triplets, 2, generator=generator).to(device)


def soft_sums(
    D: Tensor, positive: Tensor, negative: Tensor, margin: float, mining: str
) -> tuple[Tensor, Tensor]:
    """Σ softplus(D(a,p) − D(a,n)) and the number of triplets, both (b,).

    No sum over sorted numbers gives this one; it is taken positive by positive, in O(b·m) memory.
    """
    return _SoftSum.apply(D, positive, negative, margin, mining)


class _SoftSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, D: Tensor, positive: Tensor, negative: Tensor, margin: float, mining: str
    ) -> tuple[Tensor, Tensor]:
        near = sorted_positives(D, positive)
        G = torch.zeros_like(D)
        value = D.new_zeros(len(D))
        triplets = torch.zeros_like(value, dtype=torch.long)
        for column, distance, filled in zip(
            near.columns.T[..., None], near.distances.T[..., None], near.filled.T[..., None], strict=True
        ):
            gap = distance - D
            chosen = negative & filled
            if mining != "all":
                chosen &= gap >= 0 if mining == "hard" else (gap < 0) & (gap > -margin)
            force = torch.sigmoid(gap).mul_(chosen)
            G.sub_(force).scatter_add_(1, column, force.sum(1, keepdim=True))
            value += torch.nn.functional.softplus(gap).mul_(chosen).sum(1)
            triplets += chosen.sum(1)
        ctx.save_for_backward(G)
        ctx.mark_non_differentiable(triplets)
        return value, triplets

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (G,) = ctx.saved_tensors
        return G * gradients[0][:, None], None, None, None, None


_CACHED = 2**18  # numbers worked on at a time


def swap_sums(
    D: Tensor,
    between: Tensor,
    columns: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float | None,
    mining: tuple[str, float],
) -> tuple[Tensor, Tensor]:
    """Σ [D(a,p) − min(D(a,n), D(p,n)) + m]₊, and the number of its terms above 0, both (b,).

    `between` (u, m) holds the distances of the references `columns` (u,), among which are all positives. A margin of
    None takes softplus. `mining` is a name and the margin of its choice. O(b·m·p) time, in O(b·m + u·m) memory.
    """
    return _SwapSum.apply(D, between, columns, positive, negative, margin, mining)


class _SwapSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, D: Tensor, between: Tensor, *more: Any) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(D, between)
        ctx.more = more
        value, count = D.new_zeros(len(D)), D.new_zeros(len(D))
        for anchors, _, _, _, loss, force in _swapped(D, between, *more):
            value.index_add_(0, anchors, loss.sum(1))
            count.index_add_(0, anchors, (force > 0).sum(1).to(D.dtype))
        count = count.long()
        ctx.mark_non_differentiable(count)
        return value, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        D, between = ctx.saved_tensors
        G, H = torch.zeros_like(D), torch.zeros_like(between)
        for anchors, places, near, other, _, force in _swapped(D, between, *ctx.more):
            force.mul_(gradients[0].index_select(0, anchors)[:, None])
            own = torch.le(near, other, out=torch.empty_like(force)).mul_(force)
            G.index_add_(0, anchors, own, alpha=-1.0)
            H.index_add_(0, places, force - own, alpha=-1.0)
            G.index_put_((anchors, ctx.more[0][places]), force.sum(1), accumulate=True)
        return G, H, None, None, None, None, None


def _swapped(
    D: Tensor,
    between: Tensor,
    columns: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float | None,
    mining: tuple[str, float],
) -> Iterator[tuple[Tensor, ...]]:
    """A few pairs (q,) at a time: rows, places among the columns, D(a,·), D(p,·), loss and its slope, (q, m)."""
    step = max(1, _CACHED // max(1, D.shape[1]))
    pairs = positive.index_select(1, columns).nonzero(as_tuple=True)
    for anchors, places in zip(*(part.split(step) for part in pairs), strict=True):
        near, other = D.index_select(0, anchors), between.index_select(0, places)
        far = near.gather(1, columns[places, None])
        chosen = negative.index_select(0, anchors)
        if mining[0] != "all":
            gap = far - near
            chosen &= gap >= 0 if mining[0] == "hard" else (gap < 0) & (gap > -mining[1])
        kept = chosen.to(D.dtype)
        gap = far - torch.minimum(near, other)
        if margin is None:
            yield (
                anchors,
                places,
                near,
                other,
                torch.nn.functional.softplus(gap) * kept,
                gap.sigmoid_() * kept,
            )
        else:
            loss = gap.add_(margin).clamp_(min=0).mul_(kept)
            yield anchors, places, near, other, loss, torch.gt(loss, 0, out=kept)
