"""Losses that make an anchor pick its positive out of many negatives: InfoNCE and its relatives.

All of them need one number per anchor, the log-sum-exp ℓ of its negatives. A positive at similarity s then costs
softplus(ℓ − s), which neither overflows nor loses its gradient, and no (positives × negatives) list is ever built.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..distances import Distance
from .loss import check_positive
from .pairwise import Block, PairwiseLoss, Terms
from .rowwise import (
    PositivePairs,
    attached,
    by_rows,
    known_log_sum,
    log_sum,
    log_sum_rows,
    pairs_and_nearest,
    positive_pairs,
    row_counts,
    with_gradient,
)

__all__ = [
    "MegaBatchMarginLoss",
    "NTXentLoss",
    "SigLIPLoss",
    "SupConLoss",
    "pick",
    "pick_among",
]


class NTXentLoss(PairwiseLoss):
    """NT-Xent: a positive shall win against all negatives of its anchor, −log e^{s_p/τ} / (e^{s_p/τ} + Σ_n e^{s_n/τ}).

    The mean is over positive pairs. The other positives of the anchor are not in the denominator. s = −D: with the
    default distance the cosine similarity, up to a constant that cancels.

    Sohn, "Improved deep metric learning with multi-class N-pair loss objective", NeurIPS 2016; Chen et al., "A simple
    framework for contrastive learning of visual representations" (SimCLR), ICML 2020. Two views of unlabelled items
    are `loss(torch.cat([view1, view2]), torch.arange(n).repeat(2))`; `loss(view1, references=view2)` compares between
    the views only.

    Differs from pytorch-metric-learning, whose loss takes positives × negatives of memory, and loses its gradient where
    a positive is hopeless (its logarithm is cut off at float32's smallest number); otherwise the values agree.

    Args:
        temperature: τ > 0.
        distance: A name from `kyori.distances`.
        normalize: Put embeddings on the unit sphere first; the cosine distance does so by itself.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    >>> loss = NTXentLoss(temperature=1.0)
    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> round(loss(x, torch.tensor([0, 0, 1])).item(), 4)  # log(1 + e^(0 − 1))
    0.3133
    """

    name: ClassVar[str] = "ntxent"
    formula: ClassVar[str] = "mean over positive pairs of −log e^{s_p/τ} / (e^{s_p/τ} + Σ_n e^{s_n/τ})"
    paper: ClassVar[str] = (
        "Chen, Kornblith, Norouzi & Hinton, A simple framework for contrastive learning of visual "
        "representations, ICML 2020"
    )
    cost: ClassVar[str] = "n m"
    per_anchor: ClassVar[bool] = True

    def __init__(
        self,
        temperature: float = 0.07,
        *,
        distance: Distance = "cosine",
        normalize: bool = False,
        block_rows: int | None = None,
    ):
        super().__init__(distance=distance, normalize=normalize, block_rows=block_rows)
        check_positive(temperature, "temperature")
        self.temperature = temperature

    def row(self, D: Tensor, positive: Tensor, negative: Tensor) -> Terms:
        return pick_among(D, positive, negative, 1.0 / self.temperature)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, {super().extra_repr()}"


class SupConLoss(PairwiseLoss):
    """Supervised contrastive loss: −mean_p log e^{s_p/τ} / Σ_{j≠a} e^{s_j/τ}, averaged over anchors with a positive.

    All others, positives too, are in the denominator. Where relevance is graded (label sets: the Jaccard index of
    two sets; `Relevance`), the mean over positives is weighted by it.

    Khosla et al., "Supervised contrastive learning", NeurIPS 2020 (L_out); the weighted form is Zhang et al., "Use
    all the labels: a hierarchical multi-label contrastive learning framework", CVPR 2022, in spirit.

    Args:
        temperature: τ > 0.
        distance: A name from `kyori.distances`; s = −D.
        normalize: Put embeddings on the unit sphere first; the cosine distance does so by itself.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    >>> loss = SupConLoss(temperature=1.0)
    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> round(loss(x, torch.tensor([0, 0, 1])).item(), 4)  # log(e + 1) − 1
    0.3133
    """

    name: ClassVar[str] = "supcon"
    formula: ClassVar[str] = "mean over anchors of −mean_p log e^{s_p/τ} / Σ_{j≠a} e^{s_j/τ}"
    paper: ClassVar[str] = "Khosla et al., Supervised contrastive learning, NeurIPS 2020"
    cost: ClassVar[str] = "n m"
    per_anchor: ClassVar[bool] = True

    def __init__(
        self,
        temperature: float = 0.1,
        *,
        distance: Distance = "cosine",
        normalize: bool = False,
        block_rows: int | None = None,
    ):
        super().__init__(distance=distance, normalize=normalize, block_rows=block_rows)
        check_positive(temperature, "temperature")
        self.temperature = temperature

    def block(self, block: Block) -> Terms:
        scale = 1.0 / self.temperature

        def formula(
            D: Tensor, positive: Tensor, negative: Tensor, relevance: Tensor | None = None
        ) -> tuple[Tensor, ...]:
            weights = positive.to(D.dtype)
            if relevance is not None:
                weights *= relevance
            total = weights.sum(1)
            weights /= total.masked_fill(total == 0, 1.0)[:, None]
            pull = (D * weights).sum(1)
            rest, slope = log_sum_rows(torch.where(positive | negative, D, torch.inf).mul_(-scale), -scale)
            some = total > 0
            value = (rest + scale * pull).masked_fill(~some, 0.0)
            return value, some.int(), slope.add_(weights, alpha=scale).mul_(some[:, None])

        graded = [] if block.relevance is None else [block.relevance]
        value, count, gradient = by_rows(block.D, formula, block.positive, block.negative, *graded)
        value = with_gradient(block.D, value, gradient)
        return Terms(value[:, None], count[:, None], (value > 0).int() * count, count)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, {super().extra_repr()}"


class SigLIPLoss(PairwiseLoss):
    """Sigmoid loss: every pair by itself is told whether it belongs together, −log σ(±(e^{t'} s + b)).

    The sum over all pairs is divided by the number of anchors, as in the paper. `loss(images, references=texts)`
    compares row by row; labels make every pair of a class a positive.

    Zhai et al., "Sigmoid loss for language image pre-training", ICCV 2023.

    Args:
        scale: e^{t'} at the start, 1/τ.
        bias: b at the start; strongly negative, since most pairs are negative.
        learnable: Learn t' and b.
        distance: A name from `kyori.distances`; s = −D, for cosine 1 − D.
        normalize: Put embeddings on the unit sphere first; the cosine distance does so by itself.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    >>> loss = SigLIPLoss(scale=1.0, bias=0.0)
    >>> round(loss(torch.eye(2), references=torch.eye(2)).item(), 4)  # log(1 + e⁻¹) + log 2
    1.0064
    """

    name: ClassVar[str] = "siglip"
    formula: ClassVar[str] = "1/n Σ over pairs of −log σ(±(γ s + b))"
    paper: ClassVar[str] = "Zhai et al., Sigmoid loss for language image pre-training, ICCV 2023"
    cost: ClassVar[str] = "n m"

    def __init__(
        self,
        scale: float = 10.0,
        bias: float = -10.0,
        *,
        learnable: bool = True,
        distance: Distance = "cosine",
        normalize: bool = False,
        block_rows: int | None = None,
    ):
        super().__init__(distance=distance, normalize=normalize, block_rows=block_rows)
        check_positive(scale, "scale")
        log_scale, bias_value = torch.tensor(math.log(scale)), torch.tensor(float(bias))
        self.log_scale = nn.Parameter(log_scale, requires_grad=learnable)
        self.bias = nn.Parameter(bias_value, requires_grad=learnable)

    def row(self, D: Tensor, positive: Tensor, negative: Tensor) -> Terms:
        scale, bias, offset = self.log_scale.exp(), self.bias, float(self.distance == "cosine")

        def formula(D: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, ...]:
            similarity, pairs = offset - D, positive | negative
            z = similarity * scale + bias
            z = torch.where(positive, -z, z)
            loss = softplus(z) * pairs
            slope = z.sigmoid_().mul_(pairs)
            slope = torch.where(positive, -slope, slope)
            sums = loss.sum(1), (slope * similarity).sum(1), slope.sum(1)
            return *sums, row_counts(loss > 0), row_counts(pairs), slope.mul_(-scale)

        loss, by_scale, by_bias, active, pairs, gradient = by_rows(D, formula, positive, negative)
        value = with_gradient(D, loss, gradient)
        value = value + (scale - scale.detach()) * by_scale + (bias - bias.detach()) * by_bias
        return Terms(value[:, None], (pairs > 0).int()[:, None], active, pairs)


class MegaBatchMarginLoss(PairwiseLoss):
    """Mega-batch margin: a positive at least this similar, and the hardest negative at most that similar.

    `[m_p − s_p]₊ + [max_n s_n − m_n]₊`: the first is averaged over the positive pairs, the second over the anchors
    that have a negative.

    Wieting & Gimpel, "ParaNMT-50M: pushing the limits of paraphrastic sentence embeddings with millions of machine
    translations", ACL 2018, with both margins, as in sentence-transformers. For batches too large for the
    memory of the model, use `kyori.losses.cached_backward`.

    Args:
        positive_margin: m_p, a cosine similarity.
        negative_margin: m_n, a cosine similarity.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    >>> loss = MegaBatchMarginLoss()
    >>> round(loss(torch.eye(2), references=torch.tensor([[0.6, 0.8], [0.0, 1.0]])).item(), 4)  # (.2 + .5)/2
    0.35
    """

    name: ClassVar[str] = "megabatchmargin"
    formula: ClassVar[str] = "mean_p [m_p − s_p]₊ + mean_a [max_n s_n − m_n]₊"
    paper: ClassVar[str] = "Wieting & Gimpel, ParaNMT-50M, ACL 2018"
    cost: ClassVar[str] = "n m"
    per_anchor: ClassVar[bool] = True

    def __init__(
        self,
        positive_margin: float = 0.8,
        negative_margin: float = 0.3,
        *,
        block_rows: int | None = None,
    ):
        super().__init__(distance="cosine", normalize=False, block_rows=block_rows)
        self.positive_margin = positive_margin
        self.negative_margin = negative_margin

    def row(self, D: Tensor, positive: Tensor, negative: Tensor) -> Terms:
        b = len(D)
        pairs, closest = pairs_and_nearest(D, positive, negative)
        pull = (pairs.distances - (1.0 - self.positive_margin)).clamp(min=0)
        push = (1.0 - self.negative_margin - closest).clamp(min=0)
        pulling, pushing = row_counts(positive), (closest < torch.inf).int()
        active = pairs.sum((pull > 0).to(D.dtype), b) + (push > 0)
        value = torch.stack([pairs.sum(pull, b), push], 1)
        return Terms(value, torch.stack([pulling, pushing], 1), active, pulling + pushing)


def pick_among(D: Tensor, positive: Tensor, negative: Tensor, scale: Tensor | float) -> Terms:
    """softplus(ℓ + scale · D) of every positive pair, ℓ the log-sum-exp of the anchor's negatives; summed by anchor."""
    if isinstance(scale, Tensor) or torch.compiler.is_compiling():
        return pick(D, positive, log_sum(D, negative, -scale), scale)
    others = known_log_sum(D, negative, -scale)
    pairs, log = attached(D, positive_pairs(D.detach(), positive), *others)
    return pick_pairs(pairs, len(D), log, scale)


def pick(D: Tensor, positive: Tensor, negatives: Tensor, scale: Tensor | float) -> Terms:
    """softplus(ℓ + scale · D) of every positive pair, summed by anchor."""
    if torch.compiler.is_compiling():  # whose graphs break where a shape depends on the data
        count = positive.sum(1)
        cost = softplus(negatives[:, None] + scale * D) * positive
        return Terms(cost.sum(1, keepdim=True), count[:, None], (cost > 0).sum(1), count)
    return pick_pairs(positive_pairs(D, positive), len(D), negatives, scale)


def pick_pairs(pairs: PositivePairs, b: int, negatives: Tensor, scale: Tensor | float) -> Terms:
    cost = softplus(negatives.index_select(0, pairs.anchors) + scale * pairs.distances)
    count = pairs.sum(torch.ones_like(cost), b)
    return Terms(pairs.sum(cost, b)[:, None], count[:, None], pairs.sum((cost > 0).to(cost.dtype), b), count)
