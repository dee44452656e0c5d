"""How often each distance of an anchor enters a sum of hinges over its triplets: exact, without a list of triplets.

A hinge triplet loss is piecewise linear in the distances, so all of it is in one matrix: `G[a, i]` says how
often D(a, i) enters as a positive (+) minus as a negative (−). Then
Σ[D(a,p) − D(a,n) + m]₊ = Σ G·D + m·(active triplets), and G is the gradient. G costs a sort of
the positives, a binary search of each negative among them, and a histogram: O(N² log P) for N anchors
with P positives each, where the triplets are N·P·N. Where they are few, comparing all of them at once is cheaper.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["Positives", "flat_places", "hinge_counts", "passed", "sorted_positives"]

_MODERATE = 200  # thresholds up to which comparing with each is faster than searching
_CACHED = 2**18  # numbers worked on at a time: a megabyte
_FEW_CACHED = 2**17  # triplets that each thread compares at a time
_FEW = 2**15  # triplets of an anchor up to which all of them are compared


class Positives(NamedTuple):
    """Positives of b anchors as a table; where there are fewer, distance −inf at column 0."""

    columns: Tensor
    distances: Tensor

    @property
    def filled(self) -> Tensor:
        """(b, P) booleans: False where a row was padded."""
        return self.distances > -torch.inf


def sorted_positives(D: Tensor, positive: Tensor) -> Positives:
    """The positives of each anchor, nearest first, in a table as wide as the largest class; short rows begin late."""
    return _sorted(_positives(D, positive))


def _sorted(near: Positives) -> Positives:
    distances, order = near.distances.sort(1)
    return Positives(near.columns.gather(1, order), distances)


def _positives(D: Tensor, positive: Tensor) -> Positives:
    b, m = D.shape
    found = flat_places(positive)
    distances = D.detach().reshape(-1).index_select(0, found)
    table = _full_table(found, b, m)
    if table is not None:
        return Positives(table, distances.view(table.shape))
    counts = positive.sum(1, dtype=torch.int32)
    anchors, width = found // m, int(counts.max())
    slots = torch.arange(len(found), device=D.device) - (counts.cumsum(0) - counts)[anchors]
    slots += anchors * width
    return Positives(
        found.new_zeros(b * width).index_copy_(0, slots, found % m).view(b, width),
        D.new_full((b * width,), -torch.inf).index_copy_(0, slots, distances).view(b, width),
    )


def _full_table(found: Tensor, b: int, m: int) -> Tensor | None:
    """Columns of what was found in b rows of m, if it is as many in each, as in P×K batches; else None."""
    if not len(found):
        return found.view(b, 0)
    if len(found) % b:
        return None
    table = found.view(b, -1) - torch.arange(0, b * m, m, device=found.device)[:, None]
    first, last = torch.stack(table.aminmax()).tolist()
    return table if first >= 0 and last < m else None


def flat_places(mask: Tensor) -> Tensor:
    """Where a mask (b, m) is True, (q,), counted row by row."""
    if mask.device.type != "cpu" or torch.compiler.is_compiling():
        return mask.reshape(-1).nonzero()[:, 0]
    return torch.from_numpy(np.flatnonzero(mask.numpy()))  # PyTorch's takes four times as long


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
    near = _positives(D, positive)
    negatives = torch.where(negative, D, torch.inf)
    if D.device.type == "cpu" and near.distances.shape[1] * D.shape[1] <= _FEW:
        G, as_positive = _few(near.distances, negatives, margin, mining)
    else:
        near = _sorted(near)
        G, as_positive = _many(near.distances, negatives, margin, mining)
    return G.scatter_add_(1, near.columns, as_positive), as_positive.sum(1)


@torch.library.custom_op("kyori::hinge_counts", mutates_args=())
def _hinge_counts_in_graphs(
    D: Tensor, positive: Tensor, negative: Tensor, margin: float, mining: str
) -> tuple[Tensor, Tensor]:
    return _hinge_counts(D, positive, negative, margin, mining)


@_hinge_counts_in_graphs.register_fake
def _(D: Tensor, positive: Tensor, negative: Tensor, margin: float, mining: str) -> tuple[Tensor, Tensor]:
    return torch.empty_like(D), D.new_empty(len(D))


def _few(near: Tensor, negatives: Tensor, margin: float, mining: str) -> tuple[Tensor, Tensor]:
    """Minus how often each negative (b, m) is active, and how often each positive (b, P): triplet by triplet.

    Some anchors at a time, so that their triplets stay in the cache.
    """
    b, width = near.shape
    G, as_positive = torch.empty_like(negatives), torch.empty_like(near)
    rows = min(b, max(1, _FEW_CACHED * torch.get_num_threads() // max(1, width * negatives.shape[1])))
    active = near.new_empty(rows, width, negatives.shape[1])  # floats: booleans are written five times slower
    below = torch.empty_like(active) if mining == "semihard" else active
    closed = mining == "hard" and margin > 0
    inside, beyond = torch.le if closed else torch.lt, torch.gt if margin > 0 else torch.ge
    low = near[..., None]
    high = low if closed else low + margin
    parts = (table.split(rows) for table in (low, high, negatives[:, None], G, as_positive))
    for lower, upper, others, into_negatives, into_positives in zip(*parts, strict=True):
        some = others.shape[0]
        chosen = active[:some]
        inside(others, upper, out=chosen)
        if mining == "semihard":
            chosen *= beyond(others, lower, out=below[:some])
        torch.sum(chosen, 1, out=into_negatives)
        torch.sum(chosen, 2, out=into_positives)
    return G.neg_(), as_positive


def _many(near: Tensor, negatives: Tensor, margin: float, mining: str) -> tuple[Tensor, Tensor]:
    """The same by ranks of the negatives among the positives, nearest first."""
    if mining == "hard" and margin > 0:
        as_positive, G = _count(near, negatives, closed=True)
    else:
        as_positive, G = _count(near + margin, negatives, closed=False)
    if mining == "semihard":
        too_near, nearer = _count(near, negatives, closed=margin > 0)
        return G.sub_(nearer), as_positive.sub_(too_near)
    return G.sub_(near.shape[1]), as_positive


def _count(thresholds: Tensor, negatives: Tensor, closed: bool) -> tuple[Tensor, Tensor]:
    """How many negatives lie below each threshold (b, P) (or on it, if `closed`), and how many thresholds do
    not lie above each negative (b, m); whole numbers, in the type of the distances."""
    b, width = thresholds.shape
    bins = b * (width + 1)
    rows = torch.arange(0, bins, width + 1, device=negatives.device, dtype=torch.int32)[:, None]
    if _compares(thresholds, negatives):
        beyond, places = torch.empty_like(negatives), torch.empty_like(negatives, dtype=torch.int32)
        for row, place, count in _compared(thresholds, negatives, beyond, not closed, rows, places):
            place.copy_(count).add_(row)  # in the cache still
    else:
        places = passed(thresholds, negatives, right=not closed)
        beyond = places.to(negatives.dtype)
        places += rows
    histogram = torch.bincount(places.view(-1), minlength=bins).view(b, width + 1)
    return histogram.cumsum(1)[:, :width].to(negatives.dtype), beyond


def passed(thresholds: Tensor, values: Tensor, *, right: bool) -> Tensor:
    """`torch.searchsorted` of values (b, m) in sorted thresholds (b, P), without most of its branches on the CPU.

    A branch that goes either way costs more there than several comparisons in a row, so a moderate number of
    thresholds is compared with all values, one after the other.
    """
    if not _compares(thresholds, values):
        return torch.searchsorted(thresholds, values, right=right, out_int32=True)
    counts, places = torch.empty_like(values), torch.empty_like(values, dtype=torch.int32)
    for place, count in _compared(thresholds, values, counts, right, places):
        place.copy_(count)
    return places


def _compares(thresholds: Tensor, values: Tensor) -> bool:
    return values.device.type == "cpu" and 0 < thresholds.shape[1] <= _MODERATE


def _compared(
    thresholds: Tensor, values: Tensor, counts: Tensor, right: bool, *tables: Tensor
) -> Iterator[tuple[Tensor, ...]]:
    """Fill counts (b, m) with the thresholds that each value has passed, some rows at a time so that they stay in the
    cache; yield these rows of the tables and of the counts."""
    compare = torch.ge if right else torch.gt
    rows = max(1, _CACHED // max(1, values.shape[1]))
    out = values.new_empty(min(rows, len(values)), values.shape[1])
    parts = (table.split(rows) for table in (values, thresholds, *tables, counts))
    for some, few, *rest, count in zip(*parts, strict=True):
        beyond = out[: len(some)]
        first, *others = few.T[..., None]
        compare(some, first, out=count)
        for threshold in others:
            count += compare(some, threshold, out=beyond)  # as floats: booleans are written five times slower
        yield (*rest, count)
