"""Losses of distributions: all positive pairs of a batch against all its negative pairs."""

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from ..distances import Distance
from ..errors import ArgumentError
from .pairwise import Block, PairwiseLoss, Rows, Seen, Terms, seen
from .rowwise import PositivePairs, only, positive_pairs, row_counts, soft_histogram

__all__ = ["DynamicSoftMarginLoss", "HistogramLoss"]


class HistogramLoss(PairwiseLoss):
    """Histogram loss: the chance that a random negative pair is more similar than a random positive pair.

    Σ_r h⁻_r Σ_{q≤r} h⁺_q with the histograms h⁺, h⁻ of the cosines, −1 to 1, of all positive and all negative pairs.
    A cosine counts for the two nodes it lies between, so the cost is O(n·m) whatever the number of bins.

    Ustinova & Lempitsky, "Learning deep embeddings with histogram loss", NIPS 2016. The value of
    pytorch-metric-learning, which leaves out negative pairs of two items that both lack a positive.

    Args:
        bins: Number of bins, at least 2.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: `bins` is below 2.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> HistogramLoss(bins=4)(x, torch.tensor([0, 0, 1])).item()  # a positive at 0; a negative at 1, one at 0
    1.0
    """

    name: ClassVar[str] = "histogram"
    formula: ClassVar[str] = "Σ_r h⁻_r Σ_{q≤r} h⁺_q"
    paper: ClassVar[str] = "Ustinova & Lempitsky, Learning deep embeddings with histogram loss, NIPS 2016"
    cost: ClassVar[str] = "n m"

    def __init__(self, bins: int = 100, *, block_rows: int | None = None):
        super().__init__(distance="cosine", normalize=False, block_rows=block_rows)
        if bins < 2:
            raise ArgumentError(f"bins must be at least 2; got {bins}.")
        self.bins = bins

    def row(self, D: Tensor, positive: Tensor, negative: Tensor) -> Terms:
        histogram = partial(soft_histogram, nodes=self.bins + 1, low=0.0, width=2.0 / self.bins)
        pairs = positive_pairs(D, positive)
        equal = histogram(pairs.distances[None], None)
        other = histogram(D, negative).sum(0, keepdim=True)
        counts = torch.stack([row_counts(mask).sum() for mask in (positive, negative)])
        counts = counts.repeat_interleave(self.bins + 1)[None]
        return Terms(torch.cat([equal, other], 1), counts, counts[0, [0, -1]], counts[0, [0, -1]])

    def combine(self, value: Tensor, weight: Tensor) -> Tensor:
        equal, other = (value / weight.clamp(min=1)).view(2, -1).flip(1)  # from similarity −1 to 1
        return (other * equal.cumsum(0)).sum()

    def extra_repr(self) -> str:
        return f"bins={self.bins}"


class DynamicSoftMarginLoss(PairwiseLoss):
    """Dynamic soft margin: a positive pair weighs by the share of recent pairs that were easier.

    Mean over the positive pairs of C(d)·d with d = D(a,p) − D_n and D_n the distance of either end to its closest
    negative, min(min_n D(a,n), min_b D(b,p)) over the negatives n of a and the anchors b to which p is negative.
    C is the cumulative histogram of d, from −2 to 2, averaged over the training steps; it is a constant to the
    gradient and saved in the state. `loss(anchors, references=positives)` without labels is the paper's batch.

    Zhang & Rusinkiewicz, "Learning local descriptors with a CDF-based dynamic soft margin", ICCV 2019. The first
    value of pytorch-metric-learning without labels; there the gradient also runs through the histogram. With labels
    they take every triplet, which the paper does not.

    Args:
        bins: Number of bins, at least 2.
        rate: Share of the newest batch in the histogram, above 0 and up to 1.
        distance: A name from `kyori.distances`, in which unit vectors are at most 2 apart.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: An option is out of range.

    >>> loss = DynamicSoftMarginLoss(bins=4)
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> round(loss(x, torch.tensor([0, 0, 1])).item(), 4)  # d = √2 twice, C = 0.586 below it
    0.8284
    """

    name: ClassVar[str] = "dynamicsoftmargin"
    formula: ClassVar[str] = (
        "mean over positive pairs of C(d)·d, d = D(a,p) − min(min_n D(a,n), min_b D(b,p))"
    )
    paper: ClassVar[str] = (
        "Zhang & Rusinkiewicz, Learning local descriptors with a CDF-based dynamic soft margin, ICCV 2019"
    )
    cost: ClassVar[str] = "n m"
    per_anchor: ClassVar[bool] = True

    def __init__(
        self,
        bins: int = 10,
        rate: float = 0.01,
        *,
        distance: Distance = "euclidean",
        block_rows: int | None = None,
    ):
        super().__init__(distance=distance, normalize=True, block_rows=block_rows)
        if bins < 2:
            raise ArgumentError(f"bins must be at least 2; got {bins}.")
        if not 0 < rate <= 1:
            raise ArgumentError(f"rate must be above 0 and up to 1; got {rate}.")
        self.bins = bins
        self.rate = rate
        self.histogram: Tensor
        self.register_buffer("histogram", torch.zeros(bins + 1))

    def look(self, rows: Rows) -> list[Seen]:
        """Pairs, and the closest negatives of rows and columns, block by block; then the pairs' gaps together."""
        blocks = rows.each(_closest)
        of_positive = torch.stack([column for *_, column in blocks]).amin(0)
        gaps = [
            pairs.distances
            - torch.minimum(
                of_anchor.index_select(0, pairs.anchors), of_positive.index_select(0, pairs.columns)
            )
            for _, pairs, of_anchor, _ in blocks
        ]
        joined = torch.cat(gaps)
        usable = joined.detach() > -torch.inf
        weights = self._weights(joined.detach().masked_fill(~usable, 0.0), usable)
        sizes = [len(gap) for gap in gaps]
        parts = zip(
            blocks,
            joined.masked_fill(~usable, 0.0).split(sizes),
            weights.split(sizes),
            usable.split(sizes),
            strict=True,
        )
        return [
            empty._replace(
                value=pairs.sum(weight * gap, len(of_anchor))[:, None],
                weight=pairs.sum(held.to(gap.dtype), len(of_anchor))[:, None],
                active=torch.stack([((weight > 0) & held).sum(), held.sum()]).to(gap.dtype),
            )
            for (empty, pairs, of_anchor, _), gap, weight, held in parts
        ]

    @torch.no_grad()
    def _weights(self, gap: Tensor, usable: Tensor) -> Tensor:
        width = 4.0 / self.bins
        newest = soft_histogram(gap[None], usable[None], nodes=self.bins + 1, low=-2.0, width=width)[0]
        newest = newest / newest.sum().clamp(min=1e-12)
        known = self.histogram.to(newest.dtype)
        started = known.sum() > 0
        share = torch.where(started, self.rate, 1.0)
        mixed = (1 - share) * known + share * newest
        if self.training and usable.any():
            self.histogram.copy_(mixed)
        used = mixed if self.training else torch.where(started, known, newest)
        cell = ((gap + 2.0) / width).nan_to_num(0.0).clamp(0, self.bins).floor().long()
        return used.cumsum(0)[cell]

    def extra_repr(self) -> str:
        return f"bins={self.bins}, rate={self.rate}, {super().extra_repr()}"


def _closest(block: Block) -> tuple[Seen, PositivePairs, Tensor, Tensor]:
    """A block's positive pairs, and the distance to the closest negative of each anchor (b,) and reference (m,)."""
    near = only(block.D, block.negative, torch.inf)
    closest = []
    for dim in (1, 0):
        nearest, place = near.min(dim, keepdim=True)
        closest.append(block.D.gather(dim, place).masked_fill(nearest == torch.inf, torch.inf).squeeze(dim))
    empty = seen(block, Terms(torch.zeros_like(near[:, :1]), torch.zeros_like(near[:, :1])))
    return empty, positive_pairs(block.D, block.positive), closest[0], closest[1]
