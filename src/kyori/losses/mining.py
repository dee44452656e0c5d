"""Which triplets of an anchor count, and how often: exact, without a list of triplets.

A hinge triplet loss is piecewise linear in the distances, so all of it is in one matrix: `G[a, i]` says how
often D(a, i) enters as a positive (+) minus as a negative (−). Then
Σ[D(a,p) − D(a,n) + m]₊ = Σ G·D + m·(active triplets), and G is the gradient. G costs a sort of
the positives, a binary search of each negative among them, and a histogram: O(N² log P) for N anchors
with P positives each, where the triplets are N·P·N.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..distances import Distance
from ..errors import ArgumentError

_MODERATE = 200  # thresholds up to which comparing with each is faster than searching
_CACHED = 2**17  # numbers worked on at a time: half a megabyte

__all__ = [
    "Draw",
    "Picks",
    "Positives",
    "Strategy",
    "batch_picks",
    "check_on_sphere",
    "distance_weighted",
    "facenet",
    "hardest",
    "hinge_counts",
    "random_picks",
    "soft_sums",
    "swap_sums",
]


class Positives(NamedTuple):
    """Positives of b anchors as a table, nearest first; short rows begin with distance −inf at column 0."""

    columns: Tensor
    distances: Tensor

    @property
    def filled(self) -> Tensor:
        """(b, P) booleans: False where a row was padded."""
        return self.distances > -torch.inf


class Picks(NamedTuple):
    """t triplets an anchor: columns of positive and negative (b, t), and whether there is such a triplet."""

    positives: Tensor
    negatives: Tensor
    valid: Tensor


def sorted_positives(D: Tensor, positive: Tensor) -> Positives:
    """The positives of each anchor, in a table as wide as the largest class."""
    anchors, columns = positive.nonzero(as_tuple=True)
    counts = positive.sum(1)
    width = int(counts.max())
    slots = torch.arange(len(anchors), device=D.device) - (counts.cumsum(0) - counts)[anchors]
    place = anchors * width + slots
    distances = D.new_full((len(D) * width,), -torch.inf)
    table = columns.new_zeros(len(D) * width)
    distances[place], table[place] = D[anchors, columns], columns
    distances, order = distances.view(len(D), width).sort(1)
    return Positives(table.view(len(D), width).gather(1, order), distances)


@torch.no_grad()
def hinge_counts(
    D: Tensor, positive: Tensor, negative: Tensor, margin: float, mining: str
) -> tuple[Tensor, Tensor]:
    """G (b, m) and the active triplets (b,) of `all`, `hard` or `semihard`.

    `all`: D(a,n) < D(a,p) + m. `hard`: D(a,n) ≤ D(a,p), of which those without loss (equal, with m = 0) are
    left out. `semihard`: D(a,p) < D(a,n) < D(a,p) + m, the difference of the two.
    """
    if torch.compiler.is_compiling():  # whose graphs break where a shape depends on the data
        return _hinge_counts_in_graphs(D.detach(), positive, negative, margin, mining)
    return _hinge_counts(D, positive, negative, margin, mining)


def _hinge_counts(
    D: Tensor, positive: Tensor, negative: Tensor, margin: float, mining: str
) -> tuple[Tensor, Tensor]:
    near = sorted_positives(D, positive)
    negatives = torch.where(negative, D, torch.inf)
    if mining == "hard" and margin > 0:
        as_positive, passed = _count(near.distances, negatives, closed=True)
    else:
        as_positive, passed = _count(near.distances + margin, negatives, closed=False)
    if mining == "semihard":
        too_near, nearer = _count(near.distances, negatives, closed=margin > 0)
        as_positive, G = as_positive - too_near, passed.sub_(nearer)
    else:
        G = passed.sub_(near.distances.shape[1])
    return G.scatter_add_(1, near.columns, as_positive), as_positive.sum(1)


@torch.library.custom_op("kyori::hinge_counts", mutates_args=())
def _hinge_counts_in_graphs(
    D: Tensor, positive: Tensor, negative: Tensor, margin: float, mining: str
) -> tuple[Tensor, Tensor]:
    return _hinge_counts(D, positive, negative, margin, mining)


@_hinge_counts_in_graphs.register_fake
def _(D: Tensor, positive: Tensor, negative: Tensor, margin: float, mining: str) -> tuple[Tensor, Tensor]:
    return torch.empty_like(D), D.new_empty(len(D))


def _count(thresholds: Tensor, negatives: Tensor, closed: bool) -> tuple[Tensor, Tensor]:
    """How many negatives lie below each threshold (b, P) (or on it, if `closed`), and how many thresholds do
    not lie above each negative (b, m); whole numbers, in the type of the distances."""
    b, width = thresholds.shape
    bins = b * (width + 1)
    passed = _passed(thresholds, negatives, right=not closed)
    row = torch.arange(0, bins, width + 1, device=passed.device, dtype=passed.dtype)[:, None]
    histogram = torch.bincount((passed + row).view(-1), minlength=bins).view(b, width + 1)
    return histogram.cumsum(1)[:, :width].to(negatives.dtype), passed.to(negatives.dtype)


def _passed(thresholds: Tensor, values: Tensor, *, right: bool) -> Tensor:
    """`torch.searchsorted` of values (b, m) in sorted thresholds (b, P), without most of its branches on the CPU.

    A branch that goes either way costs more there than several comparisons in a row, so a moderate number of
    thresholds is compared with all values, one after the other, some rows at a time so that they stay in the cache.
    """
    if values.device.type != "cpu" or not 0 < thresholds.shape[1] <= _MODERATE:
        return torch.searchsorted(thresholds, values, right=right, out_int32=True)
    compare = torch.ge if right else torch.gt
    passed = torch.zeros_like(values)
    rows = max(1, _CACHED // max(1, values.shape[1]))
    out = values.new_empty(min(rows, len(values)), values.shape[1])
    for some, few, count in zip(values.split(rows), thresholds.split(rows), passed.split(rows), strict=True):
        beyond = out[: len(some)]
        for threshold in few.T[..., None]:
            count += compare(some, threshold, out=beyond)  # as floats: booleans are written five times slower
    return passed.int()


@torch.no_grad()
def facenet(D: Tensor, positive: Tensor, negative: Tensor) -> Picks:
    """For each (a, p) the closest negative farther than p; if there is none, the farthest negative.

    Each negative falls into the bucket between two consecutive positives; the answer for p is the smallest of
    all buckets beyond it: a minimum per bucket, and a running minimum from the right.
    """
    near = sorted_positives(D, positive)
    b, width = near.distances.shape
    negatives = torch.where(negative, D, torch.inf)
    bucket = _passed(near.distances, negatives, right=False).long()
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
