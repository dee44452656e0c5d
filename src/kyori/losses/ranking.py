"""Losses of ranks: the order in which an anchor finds its positives, made differentiable."""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..errors import ArgumentError
from .loss import check_choice, check_positive
from .pairwise import Block, PairwiseLoss, Terms
from .rowwise import PositivePairs, attached, by_rows, positive_pairs, rank_sums, soft_histogram

__all__ = ["FastAPLoss", "PNPLoss", "RankedListLoss", "RecallAtKLoss", "SmoothAPLoss"]


class _RankLoss(PairwiseLoss):
    """Base of the losses that count, for each positive, what lies before it by a sigmoid of cosine differences."""

    per_anchor: ClassVar[bool] = True

    def __init__(self, temperature: float, block_rows: int | None):
        super().__init__(distance="cosine", normalize=False, block_rows=block_rows)
        check_positive(temperature, "temperature")
        self.temperature = temperature

    def quality(self, positives: Tensor, negatives: Tensor, count: Tensor) -> Tensor:
        """What each positive loses (q,), with `positives` and `negatives` before it, of `count` positives."""
        raise NotImplementedError

    def block(self, block: Block) -> Terms:
        value = rank_sums(block.D, block.positive, block.negative, self.temperature, self.quality)
        usable = block.positives > 0
        mean = value / block.positives.clamp(min=1)
        return Terms(mean[:, None], usable[:, None], (mean > 0) & usable, usable)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"


class SmoothAPLoss(_RankLoss):
    """Smooth-AP: one minus the average precision of each anchor's ranking, with sigmoids in place of steps.

    Mean over the anchors that have a positive of 1 − 1/P·Σ_p (1 + R₊(p)) / (1 + R₊(p) + R₋(p)), where
    R₊(p) = Σ σ((S(a,j) − S(a,p))/τ) over the other positives j, R₋(p) the same over the negatives, S the cosine.

    Brown, Xie, Kalogeiton & Zisserman, "Smooth-AP: smoothing the path towards large-scale image retrieval",
    ECCV 2020. Cubic by nature: O(n·m·p) time, in O(n·m) memory. Differs from pytorch-metric-learning, where every
    anchor is its own first hit, classes must be of one size and memory is O(n³); with the batch as `references` and
    without ids the values are equal.

    Args:
        temperature: τ > 0, in units of cosine.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: `temperature` is not above 0.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> round(SmoothAPLoss()(x, torch.tensor([0, 0, 1])).item(), 3)  # one finds its positive second, one first or not
    0.417
    """

    name: ClassVar[str] = "smoothap"
    formula: ClassVar[str] = "mean over anchors of 1 − 1/P·Σ_p (1 + R₊) / (1 + R₊ + R₋)"
    paper: ClassVar[str] = "Brown, Xie, Kalogeiton & Zisserman, Smooth-AP, ECCV 2020"
    cost: ClassVar[str] = "n m p"

    def __init__(self, temperature: float = 0.01, *, block_rows: int | None = None):
        super().__init__(temperature, block_rows)

    def quality(self, positives: Tensor, negatives: Tensor, count: Tensor) -> Tensor:
        return negatives / (1 + positives + negatives)


Variant = Literal["O", "Ds", "Dq", "Iu", "Ib"]


class PNPLoss(_RankLoss):
    """PNP: only negatives before positives are penalised. R₋(p) = Σ_n σ((S(a,n) − S(a,p))/τ), S the cosine.

    | variant | loss of a positive | weight of its gradient as R₋ grows |
    |---|---|---|
    | `O` | R₋ | equal |
    | `Ds` | log(1 + R₋) | falls slowly |
    | `Dq` | 1 − 1/(1 + R₋)^α | falls fast |
    | `Iu` | (1 + R₋) log(1 + R₋) | grows without bound |
    | `Ib` | (b R₋ − log(1 + b R₋)) / b² | grows to a bound |

    Mean over the positives of an anchor, then over the anchors that have one.

    Li, Guan, Li, Wang, Song, Jin, Hui & Zhang, "Rethinking the optimization of average precision: only penalizing
    negative instances before positive ones is enough", AAAI 2022. O(n·m·p) time, in O(n·m) memory. Differs from
    pytorch-metric-learning, where every anchor is a positive of itself; with the batch as `references` and without
    ids the values are equal.

    Args:
        variant: See the table.
        alpha: α > 0 of `Dq`.
        b: b > 0 of `Ib`.
        temperature: τ > 0, in units of cosine.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: Unknown variant, or a number is not above 0.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> round(PNPLoss("O")(x, torch.tensor([0, 0, 1])).item(), 3)  # one negative before; one at the same place
    0.75
    """

    name: ClassVar[str] = "pnp"
    formula: ClassVar[str] = "mean over anchors and positives of f(R₋), R₋ = Σ_n σ((S(a,n) − S(a,p))/τ)"
    paper: ClassVar[str] = "Li et al., Rethinking the optimization of average precision, AAAI 2022"
    cost: ClassVar[str] = "n m p"

    def __init__(
        self,
        variant: Variant = "Dq",
        *,
        alpha: float = 4.0,
        b: float = 2.0,
        temperature: float = 0.01,
        block_rows: int | None = None,
    ):
        super().__init__(temperature, block_rows)
        check_choice(variant, "variant", Variant)
        check_positive(alpha, "alpha")
        check_positive(b, "b")
        self.variant = variant
        self.alpha = alpha
        self.b = b

    def quality(self, positives: Tensor, negatives: Tensor, count: Tensor) -> Tensor:
        R = negatives
        if self.variant == "Ds":
            return R.log1p()
        if self.variant == "Dq":
            return 1 - (1 + R) ** -self.alpha
        if self.variant == "Iu":
            return (1 + R) * R.log1p()
        if self.variant == "Ib":
            return (self.b * R - (self.b * R).log1p()) / self.b**2
        return R

    def extra_repr(self) -> str:
        return f"variant={self.variant!r}, {super().extra_repr()}"


class RecallAtKLoss(_RankLoss):
    """Recall@k surrogate: the share of an anchor's positives within its first k, with sigmoids in place of steps.

    Mean over the anchors that have a positive, and over all k, of 1 − Σ_p σ((k − r(p))/τ₁) / min(k, P), with the rank
    r(p) = 1 + Σ_j σ((S(a,j) − S(a,p))/τ₂) over all other references j, S the cosine. The divisor is the most that k
    places can hold, as in the authors' code; up to the sigmoids this is precision@k for k ≤ P and recall@k beyond.

    Patel, Tolias & Matas, "Recall@k surrogate loss with large batches and similarity mixup", CVPR 2022, without the
    mixup. O(n·m·p) time, in O(n·m) memory.

    Args:
        k: One or more numbers of places, each at least 1.
        temperature: τ₂ > 0 of the ranks, in units of cosine.
        k_temperature: τ₁ > 0 of the step at k, in ranks.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: An option is out of range.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> loss = RecallAtKLoss(k=[1], k_temperature=0.1)
    >>> round(loss(x, torch.tensor([0, 0, 1])).item(), 3)  # ranks 2 and 1½ of one place
    0.997
    """

    name: ClassVar[str] = "recallk"
    formula: ClassVar[str] = "mean over anchors and k of 1 − Σ_p σ((k − rank(p))/τ₁) / min(k, P)"
    paper: ClassVar[str] = (
        "Patel, Tolias & Matas, Recall@k surrogate loss with large batches and similarity mixup, CVPR 2022"
    )
    cost: ClassVar[str] = "n m p"

    def __init__(
        self,
        k: Sequence[int] = (1, 2, 4, 8, 16),
        *,
        temperature: float = 0.01,
        k_temperature: float = 1.0,
        block_rows: int | None = None,
    ):
        super().__init__(temperature, block_rows)
        if not len(k) or min(k) < 1:
            raise ArgumentError(f"k must be numbers of at least 1; got {list(k)}.")
        check_positive(k_temperature, "k_temperature")
        self.k = tuple(k)
        self.k_temperature = k_temperature

    def quality(self, positives: Tensor, negatives: Tensor, count: Tensor) -> Tensor:
        rank = 1 + positives + negatives
        found = [torch.sigmoid((k - rank) / self.k_temperature) / count.clamp(max=k) for k in self.k]
        return 1 - count * torch.stack(found).mean(0)

    def extra_repr(self) -> str:
        return f"k={self.k}, {super().extra_repr()}"


class FastAPLoss(PairwiseLoss):
    """FastAP: one minus the average precision of each anchor's ranking, from a histogram of its distances.

    Mean over the anchors that have a positive of 1 − 1/P·Σ_j h⁺_j H⁺_j / H_j, with h⁺ the histogram of squared
    distances of unit vectors, 0 to 4, to the positives, H⁺ its cumulative sum and H that of positives and negatives.
    A distance counts for the two nodes it lies between, so the cost is O(n·m) whatever the number of bins.

    Cakir, He, Xia, Kulis & Sclaroff, "Deep metric learning to rank", CVPR 2019. The value of
    pytorch-metric-learning.

    Args:
        bins: Number of bins, at least 2.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: `bins` is below 2.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> FastAPLoss(bins=2)(x, torch.tensor([0, 0, 1])).item()  # half, and half
    0.5
    """

    name: ClassVar[str] = "fastap"
    formula: ClassVar[str] = "mean over anchors of 1 − 1/P·Σ_j h⁺_j H⁺_j / H_j"
    paper: ClassVar[str] = "Cakir, He, Xia, Kulis & Sclaroff, Deep metric learning to rank, CVPR 2019"
    cost: ClassVar[str] = "n m"
    per_anchor: ClassVar[bool] = True

    def __init__(self, bins: int = 10, *, block_rows: int | None = None):
        super().__init__(distance="squared_euclidean", normalize=True, block_rows=block_rows)
        if bins < 2:
            raise ArgumentError(f"bins must be at least 2; got {bins}.")
        self.bins = bins

    def block(self, block: Block) -> Terms:
        D = block.D
        histogram = partial(soft_histogram, nodes=self.bins + 1, low=0.0, width=4.0 / self.bins)
        hits = histogram(D, block.positive)
        found, seen = hits.cumsum(1), (hits + histogram(D, block.negative)).cumsum(1)
        empty = seen <= 0
        precision = (found / seen.masked_fill(empty, 1.0)).masked_fill(empty, 0.0)
        usable = block.positives > 0
        value = (1 - (hits * precision).sum(1) / block.positives.clamp(min=1)) * usable
        return Terms(value[:, None], usable[:, None], (value > 0) & usable, usable)

    def extra_repr(self) -> str:
        return f"bins={self.bins}"


class RankedListLoss(PairwiseLoss):
    """Ranked list loss: positives within a sphere around the anchor, negatives outside a larger one.

    Mean over the anchors of (1 − λ)·L₊ + λ·L₋ with L₊ the weighted mean of D(a,p) − (α − m) over the positives
    outside the inner sphere, weights exp(T₊ D(a,p)), and L₋ the weighted mean of α − D(a,n) over the negatives
    inside the outer one, weights exp(T₋ (α − D(a,n))).

    Wang, Hua, Kodirov, Hu, Garnier & Robertson, "Ranked list loss for deep metric learning", CVPR 2019 and TPAMI
    2021 (λ = ½ is half of the first's L₊ + L₋). The gradient runs through the weights. Differs from
    pytorch-metric-learning in that no 1e-5 is added to each weight, which there depends on the batch size.

    Args:
        margin: m ≥ 0, between the two spheres.
        alpha: α, radius of the outer sphere.
        balance: λ from 0 to 1.
        temperature: T₋ ≥ 0, how strongly the closest negatives outweigh the others.
        positive_temperature: T₊ ≥ 0, the same for the farthest positives.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: An option is out of range.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> round(RankedListLoss()(x, torch.tensor([0, 0, 1])).item(), 4)
    0.6047
    """

    name: ClassVar[str] = "rankedlist"
    formula: ClassVar[str] = (
        "mean over anchors of (1 − λ)·mean_p [D − (α − m)]₊ + λ·Σ_n w_n [α − D]₊ / Σ_n w_n"
    )
    paper: ClassVar[str] = "Wang et al., Ranked list loss for deep metric learning, CVPR 2019 and TPAMI 2021"
    cost: ClassVar[str] = "n m"

    def __init__(
        self,
        margin: float = 0.4,
        alpha: float = 1.2,
        balance: float = 0.5,
        *,
        temperature: float = 10.0,
        positive_temperature: float = 0.0,
        block_rows: int | None = None,
    ):
        super().__init__(distance="euclidean", normalize=True, block_rows=block_rows)
        if not 0 <= balance <= 1:
            raise ArgumentError(f"balance must be from 0 to 1; got {balance}.")
        for value, name in (
            (margin, "margin"),
            (temperature, "temperature"),
            (positive_temperature, "positive_temperature"),
        ):
            if value < 0:
                raise ArgumentError(f"{name} must be at least 0; got {value}.")
        self.margin = margin
        self.alpha = alpha
        self.balance = balance
        self.temperature = temperature
        self.positive_temperature = positive_temperature

    def look_at_list(self, x: Tensor, listed: object) -> None:
        """Explicit pairs as masks: an anchor's pairs are weighed against each other."""

    def block(self, block: Block) -> Terms:
        push, pushed, gradient = by_rows(block.D, self._inside, block.negative)
        pairs, push = attached(block.D, positive_pairs(block.D.detach(), block.positive), push, gradient)
        pull, pulled = self._outside(pairs, len(block.D))
        value = (1 - self.balance) * pull + self.balance * push
        candidates = block.positives + block.negatives
        return Terms(value[:, None], (candidates > 0)[:, None], pulled + pushed, candidates)

    def _inside(self, D: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """L₋ (b,), the number of negatives in it, and its derivative (b, m)."""
        inside = negative & (self.alpha > D)
        count = inside.sum(1)
        weight = torch.where(inside, D * -self.temperature, -torch.inf).softmax(1)
        weight.masked_fill_((count == 0)[:, None], 0.0)
        depth = self.alpha - D
        value = (weight * depth).sum(1)
        return value, count, depth.sub_(value[:, None]).mul_(-self.temperature).sub_(1.0).mul_(weight)

    def _outside(self, pairs: PositivePairs, b: int) -> tuple[Tensor, Tensor]:
        """L₊ (b,) and the number of positives in it."""
        excess = (pairs.distances - (self.alpha - self.margin)).clamp(min=0)
        outside = (excess > 0).to(excess.dtype)
        weight = (
            outside * (self.positive_temperature * (excess - excess.detach().max())).exp()
            if len(excess)
            else outside
        )
        total = pairs.sum(weight, b)
        none = total == 0
        value = pairs.sum(weight * excess, b) / total.masked_fill(none, 1.0)
        return value.masked_fill(none, 0.0), pairs.sum(outside, b)

    def extra_repr(self) -> str:
        return f"margin={self.margin}, alpha={self.alpha}, balance={self.balance}"
