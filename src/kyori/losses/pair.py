"""Losses of single pairs."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..distances import Distance
from ..errors import ArgumentError
from .loss import check_choice
from .pairwise import Block, PairwiseLoss, Rows, Seen, Terms, ratio, seen
from .rowwise import PositivePairs, attached, by_rows, only, positive_pairs

__all__ = [
    "ContrastiveLoss",
    "IntraPairVarianceLoss",
    "OnlineContrastiveLoss",
    "ThresholdConsistentLoss",
]

Convention = Literal["hadsell", "keras", "unsquared"]


class ContrastiveLoss(PairwiseLoss):
    """Contrastive loss: a spring pulls equals together, another pushes the different apart up to a margin.

    With y = 1 for the same class, distance D, margin m and positive margin m₊ (0 in the paper):

    | convention | loss |
    |---|---|
    | `hadsell` | mean over pairs of ½·y·[D − m₊]₊² + ½·(1−y)·[m − D]₊² |
    | `keras` | the same without the ½ |
    | `unsquared` | mean of the non-zero y·[D − m₊]₊ plus mean of the non-zero (1−y)·[m − D]₊ |

    Hadsell, Chopra & LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR 2006.
    `unsquared` with `normalize=True` is the loss of pytorch-metric-learning, except that a single positive or
    negative pair counts; with `distance="snr"` as well it is their signal-to-noise ratio contrastive loss (Yuan, Deng,
    Tang, Tang & Chen, CVPR 2019).

    Args:
        margin: Distance at which different items stop pushing each other.
        positive_margin: Distance below which equal items stop pulling each other.
        convention: See the table.
        distance: A name from `kyori.distances`.
        normalize: Put embeddings on the unit sphere first; the paper works on the raw output.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: Unknown convention or distance, or `positive_margin` above `margin`.

    >>> loss = ContrastiveLoss(margin=1.0)
    >>> x = torch.tensor([[0.0], [0.2], [0.7]])
    >>> round(loss(x, torch.tensor([0, 0, 1])).item(), 4)  # (½·.2² + ½·.3² + ½·.5²) / 3
    0.0633
    """

    name: ClassVar[str] = "contrastive"
    formula: ClassVar[str] = "mean over pairs of ½·y·[D − m₊]₊² + ½·(1−y)·[m − D]₊²"
    paper: ClassVar[str] = (
        "Hadsell, Chopra & LeCun, Dimensionality reduction by learning an invariant mapping, CVPR 2006"
    )
    cost: ClassVar[str] = "n m"

    def __init__(
        self,
        margin: float = 1.0,
        *,
        positive_margin: float = 0.0,
        convention: Convention = "hadsell",
        distance: Distance = "euclidean",
        normalize: bool = False,
        block_rows: int | None = None,
    ):
        super().__init__(distance=distance, normalize=normalize, block_rows=block_rows)
        check_choice(convention, "convention", Convention)
        if positive_margin > margin:
            raise ArgumentError(
                "positive_margin must not exceed margin; "
                f"got positive_margin {positive_margin} and margin {margin}."
            )
        self.margin = margin
        self.positive_margin = positive_margin
        self.convention = convention

    def block(self, block: Block) -> Terms:
        squared, b = self.convention != "unsquared", len(block.D)
        factor = 0.5 if self.convention == "hadsell" else 1.0
        pairs, push, pushes = _push(block, self.margin, factor, squared=squared)
        pull = (pairs.distances - self.positive_margin).clamp(min=0)
        pulls = pairs.sum((pull.detach() > 0).to(pull.dtype), b)
        counts = block.positives + block.negatives
        if not squared:
            acting = torch.stack([pulls, pushes], 1)
            return Terms(torch.stack([pairs.sum(pull, b), push], 1), acting, acting.sum(1), counts)
        energy = pairs.sum(factor * pull.square(), b) + push
        return Terms(energy[:, None], counts[:, None], pulls + pushes, counts)

    def extra_repr(self) -> str:
        return f"margin={self.margin}, convention={self.convention!r}, {super().extra_repr()}"


def _push(
    block: Block, reach: float | Tensor, factor: float, *, squared: bool
) -> tuple[PositivePairs, Tensor, Tensor]:
    """The positive pairs; Σ factor·[reach − D(a,n)]₊, or of its square; the number of its terms above zero, (b,)."""

    def formula(D: Tensor, negative: Tensor) -> tuple[Tensor, ...]:
        depth = torch.where(negative, D, torch.inf).neg_().add_(reach).clamp_(min=0)
        acting = torch.gt(depth, 0, out=torch.empty_like(depth))  # booleans are written five times slower
        value = factor * (depth.square() if squared else depth).sum(1)
        slope = depth.mul_(-2.0 * factor) if squared else acting * -factor
        return value, acting.sum(1), slope.sum(1), slope

    value, count, slopes, gradient = by_rows(block.D, formula, block.negative)
    pairs, value = attached(block.D, positive_pairs(block.D.detach(), block.positive), value, gradient)
    if isinstance(reach, Tensor):  # it has a gradient too
        value = value - slopes * (reach - reach.detach())
    return pairs, value, count


class OnlineContrastiveLoss(PairwiseLoss):
    """Online contrastive loss: the contrastive loss of the hard pairs of a batch only.

    Positive pairs count that are farther than the closest negative pair of the batch, with D², and negative pairs
    that are closer than its farthest positive pair, with [m − D]₊²; mean over the pairs that count. A batch without
    positive or without negative pairs has no hard pairs.

    sentence-transformers, `OnlineContrastiveLoss` (no paper); theirs is the sum over explicit `Pairs`
    (`reduction="sum"`), and in a batch of one kind only takes the pairs beyond their own mean.

    Args:
        margin: m, distance at which different items stop pushing each other.
        distance: A name from `kyori.distances`.
        normalize: Put embeddings on the unit sphere first.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    >>> loss = OnlineContrastiveLoss(margin=1.0, distance="euclidean")
    >>> x = torch.tensor([[0.0], [0.5], [0.7]])
    >>> round(loss(x, torch.tensor([0, 0, 1])).item(), 4)  # ½² and (1 − .2)², both ways round
    0.445
    """

    name: ClassVar[str] = "onlinecontrastive"
    formula: ClassVar[str] = "mean over hard pairs of y·D² + (1−y)·[m − D]₊²"
    paper: ClassVar[str] = (
        "Reimers & Gurevych, sentence-transformers, 2019 (software; Hadsell et al.'s loss, CVPR 2006)"
    )
    cost: ClassVar[str] = "n m"

    def __init__(
        self,
        margin: float = 0.5,
        *,
        distance: Distance = "cosine",
        normalize: bool = False,
        block_rows: int | None = None,
    ):
        super().__init__(distance=distance, normalize=normalize, block_rows=block_rows)
        self.margin = margin

    def look(self, rows: Rows) -> list[Seen]:
        """The farthest positive and closest negative pair of all blocks first, then the hard pairs."""
        if rows.single:
            return super().look(rows)
        ends = [torch.stack(end) for end in zip(*rows.each(_ends), strict=True)]
        farthest, closest = ends[0].amax(), ends[1].amin()
        return rows.each(lambda block: seen(block, self._hard(block, farthest, closest)))

    def block(self, block: Block) -> Terms:
        return self._hard(block, *_ends(block))

    def _hard(self, block: Block, farthest: Tensor, closest: Tensor) -> Terms:
        def formula(D: Tensor, negative: Tensor) -> tuple[Tensor, ...]:
            pushes = (negative & (farthest > D)).to(D.dtype)
            depth = (self.margin - D).clamp_(min=0).mul_(pushes)
            return depth.square().sum(1), pushes.sum(1), (depth > 0).sum(1), depth.mul_(-2.0)

        D, b = block.D, len(block.D)
        value, count, acting, gradient = by_rows(D, formula, block.negative)
        pull, push = attached(D, positive_pairs(D.detach(), block.positive), value, gradient)
        pulls = (pull.distances.detach() > closest).to(D.dtype)
        hard = pull.sum(pulls, b)
        value = pull.sum(pull.distances.square() * pulls, b) + push
        return Terms(
            value[:, None], (hard + count)[:, None], hard + acting, block.positives + block.negatives
        )

    def extra_repr(self) -> str:
        return f"margin={self.margin}, {super().extra_repr()}"


def _ends(block: Block) -> tuple[Tensor, Tensor]:
    """Distance of the farthest positive and of the closest negative pair, without gradient."""
    far = positive_pairs(block.D.detach(), block.positive).distances
    farthest = far.max() if len(far) else block.D.new_tensor(-torch.inf)
    return farthest, only(block.D, block.negative, torch.inf).min()


class IntraPairVarianceLoss(PairwiseLoss):
    """Intra-pair variance: similarities of positive pairs shall not fall below their mean, nor negatives' rise above.

    Mean over positive pairs of [(1 − ε₊)·μ₊ − S]₊² plus mean over negative pairs of [S − (1 + ε₋)·μ₋]₊², S the
    cosine and μ its means over all positive and all negative pairs, through which the gradient runs too.

    Yu & Tao, "Deep metric learning with tuplet margin loss", ICCV 2019, where it accompanies `TupletMarginLoss`. The
    value of pytorch-metric-learning.

    Args:
        positive_slack: ε₊ ≥ 0.
        negative_slack: ε₋ ≥ 0.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: A slack is negative.

    >>> loss = IntraPairVarianceLoss(0.0, 0.0)
    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> round(loss(x, torch.tensor([0, 0, 1, 1])).item(), 4)  # (.1² + .0)/2 of 1 and .8, (.3²)/2 of 0 and .6
    0.05
    """

    name: ClassVar[str] = "intrapairvariance"
    formula: ClassVar[str] = (
        "mean over positives of [(1 − ε₊)·μ₊ − S]₊² + mean over negatives of [S − (1 + ε₋)·μ₋]₊²"
    )
    paper: ClassVar[str] = "Yu & Tao, Deep metric learning with tuplet margin loss, ICCV 2019"
    cost: ClassVar[str] = "n m"

    def __init__(
        self, positive_slack: float = 0.01, negative_slack: float = 0.01, *, block_rows: int | None = None
    ):
        super().__init__(distance="cosine", normalize=False, block_rows=block_rows)
        if min(positive_slack, negative_slack) < 0:
            raise ArgumentError(
                "positive_slack and negative_slack must be at least 0; "
                f"got {positive_slack} and {negative_slack}."
            )
        self.positive_slack = positive_slack
        self.negative_slack = negative_slack

    def look(self, rows: Rows) -> list[Seen]:
        """The means of all blocks first, then the pairs beyond them."""
        if rows.single:
            return super().look(rows)
        means = _mean_similarities(rows.each(_similarity_sums))
        return rows.each(lambda block: seen(block, self._beyond(block, means)))

    def block(self, block: Block) -> Terms:
        return self._beyond(block, _mean_similarities([_similarity_sums(block)]))

    def _beyond(self, block: Block, means: Tensor) -> Terms:
        b = len(block.D)
        floor, ceiling = (1 - self.positive_slack) * means[0], (1 + self.negative_slack) * means[1]
        reach = 1.0 - ceiling
        pairs, over, overs = _push(block, reach, 1.0, squared=True)
        short = (floor - 1.0 + pairs.distances).clamp(min=0)
        weights = torch.stack([block.positives, block.negatives], 1)
        acting = pairs.sum((short.detach() > 0).to(over.dtype), b) + overs
        return Terms(torch.stack([pairs.sum(short.square(), b), over], 1), weights, acting, weights.sum(1))

    def extra_repr(self) -> str:
        return f"positive_slack={self.positive_slack}, negative_slack={self.negative_slack}"


def _similarity_sums(block: Block) -> tuple[Tensor, Tensor]:
    """Sums of the cosines, with gradient, and numbers of the positive and negative pairs, both (2,)."""
    counts = torch.stack([block.positives.sum(), block.negatives.sum()]).to(block.D.dtype)
    others, gradient = by_rows(block.D, _masked_sum, block.negative)
    pairs, others = attached(block.D, positive_pairs(block.D.detach(), block.positive), others, gradient)
    return counts - torch.stack([pairs.distances.sum(), others.sum()]), counts


def _masked_sum(D: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    share = mask.to(D.dtype)
    return (D * share).sum(1), share


def _mean_similarities(parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    sums, counts = (torch.stack(part).sum(0) for part in zip(*parts, strict=True))
    return ratio(sums, counts)


class ThresholdConsistentLoss(PairwiseLoss):
    """Threshold-consistent margin: one threshold for all classes, by pairs on the wrong side of fixed similarities.

    λ₊ times the mean of m₊ − S over the positive pairs with S < m₊, plus λ₋ times the mean of S − m₋ over the
    negative pairs with S > m₋, S the cosine. It accompanies another loss and evens out where classes put their
    threshold.

    Zhang et al., "Learning for transductive threshold calibration in open-world recognition" and "Threshold-consistent
    margin loss for open-world deep metric learning", ICLR 2024. The value of pytorch-metric-learning, which takes
    pairs with references from the batch by mistake.

    Args:
        positive_similarity: m₊, cosine that positives shall reach.
        negative_similarity: m₋, cosine that negatives shall not exceed.
        positive_weight: λ₊ ≥ 0.
        negative_weight: λ₋ ≥ 0.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: A weight is negative.

    >>> loss = ThresholdConsistentLoss()
    >>> x = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> round(loss(x, torch.tensor([0, 0, 1])).item(), 4)  # (.9 − .6) + (.8 − .5)
    0.6
    """

    name: ClassVar[str] = "thresholdconsistent"
    formula: ClassVar[str] = "λ₊·mean over S < m₊ of (m₊ − S) + λ₋·mean over S > m₋ of (S − m₋)"
    paper: ClassVar[str] = (
        "Zhang et al., Threshold-consistent margin loss for open-world deep metric learning, ICLR 2024"
    )
    cost: ClassVar[str] = "n m"

    def __init__(
        self,
        positive_similarity: float = 0.9,
        negative_similarity: float = 0.5,
        *,
        positive_weight: float = 1.0,
        negative_weight: float = 1.0,
        block_rows: int | None = None,
    ):
        super().__init__(distance="cosine", normalize=False, block_rows=block_rows)
        if min(positive_weight, negative_weight) < 0:
            raise ArgumentError(
                "positive_weight and negative_weight must be at least 0; "
                f"got {positive_weight} and {negative_weight}."
            )
        self.positive_similarity = positive_similarity
        self.negative_similarity = negative_similarity
        self.positive_weight = positive_weight
        self.negative_weight = negative_weight

    def block(self, block: Block) -> Terms:
        b, reach = len(block.D), 1.0 - self.negative_similarity
        pairs, over, overs = _push(block, reach, self.negative_weight, squared=False)
        short = (pairs.distances - (1.0 - self.positive_similarity)).clamp(min=0)
        shorts = pairs.sum((short.detach() > 0).to(short.dtype), b)
        acting = torch.stack([shorts, overs], 1)
        sums = torch.stack([self.positive_weight * pairs.sum(short, b), over], 1)
        return Terms(sums, acting, acting.sum(1), block.positives + block.negatives)

    def extra_repr(self) -> str:
        return (
            f"positive_similarity={self.positive_similarity}, negative_similarity={self.negative_similarity}"
        )
