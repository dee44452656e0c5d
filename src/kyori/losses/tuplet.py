"""Losses of one positive against many negatives, by one log-sum-exp a row."""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..distances import Distance
from ..errors import ArgumentError
from ..relations import relate
from .loss import check_choice, check_positive
from .pairwise import Block, PairwiseLoss, Rows, Seen, Terms, seen
from .rowwise import (
    PositivePairs,
    attached,
    by_rows,
    known_log_sum,
    log_sum,
    log_sum_rows,
    pair_log_sum_exp,
    pair_maximum,
    positive_pairs,
)

__all__ = [
    "CircleLoss",
    "GeneralizedLiftedLoss",
    "LiftedLoss",
    "MultiSimilarityLoss",
    "NPairsLoss",
    "TupletMarginLoss",
]


def _both(block: Block, scale: float) -> tuple[PositivePairs, Tensor]:
    """The positive pairs, and log Σ_n exp(−scale·D(a,n)) over the negatives, (b,)."""
    pairs = positive_pairs(block.D.detach(), block.positive)
    return attached(block.D, pairs, *known_log_sum(block.D, block.negative, -scale))


def _pair_terms(block: Block, pairs: PositivePairs, terms: Tensor) -> Terms:
    """Mean over the positive pairs of anchors that have a negative."""
    b, usable = len(block.D), block.negatives > 0
    weight = block.positives * usable
    active = pairs.sum((terms.detach() > 0).to(terms.dtype), b) * usable
    return Terms(pairs.sum(terms, b)[:, None], weight[:, None], active, weight)


def _anchor_terms(block: Block, values: Tensor) -> Terms:
    """Mean over the anchors that have both."""
    usable = (block.positives > 0) & (block.negatives > 0)
    values = values.masked_fill(~usable, 0.0)
    return Terms(values[:, None], usable[:, None], values > 0, usable)


class NPairsLoss(PairwiseLoss):
    """N-pairs loss: a positive against all negatives at once, log(1 + Σ_n exp(aᵀn − aᵀp)).

    Mean over the positive pairs. With `pairs="all"` every positive pair counts, against every negative of its
    anchor. The paper's batch, N classes with one anchor and one positive each where the negatives are the other
    classes' positives, is `loss(anchors, references=positives)` without labels; or `pairs="one"`, which takes from
    a labelled batch the first item of each class as anchor and its first positive.

    Sohn, "Improved deep metric learning with multi-class N-pair loss objective", NIPS 2016. The paper also adds the
    mean squared norm of the embeddings, which keeps inner products from growing; add it as a regulariser.
    `pairs="one"` is the value of pytorch-metric-learning.

    Args:
        pairs: "all" or "one" a class.
        normalize: Put embeddings on the unit sphere first; the paper does not.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: Unknown `pairs`; or `pairs="one"` with a batch without class labels.

    >>> loss = NPairsLoss()
    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> round(loss(x, torch.tensor([0, 0, 1])).item(), 4)  # log(1 + e^(0−1))
    0.3133
    """

    name: ClassVar[str] = "npairs"
    formula: ClassVar[str] = "mean over positive pairs of log(1 + Σ_n exp(aᵀn − aᵀp))"
    paper: ClassVar[str] = (
        "Sohn, Improved deep metric learning with multi-class N-pair loss objective, NIPS 2016"
    )
    cost: ClassVar[str] = "n m"
    per_anchor: ClassVar[bool] = True

    def __init__(
        self,
        pairs: Literal["all", "one"] = "all",
        *,
        normalize: bool = False,
        block_rows: int | None = None,
    ):
        super().__init__(distance="dot", normalize=normalize, block_rows=block_rows)
        check_choice(pairs, "pairs", ("all", "one"))
        self.pairs = pairs

    def block(self, block: Block) -> Terms:
        pairs, others = _both(block, 1.0)
        terms = softplus(others.index_select(0, pairs.anchors) + pairs.distances)
        return _pair_terms(block, pairs, terms)

    def look(self, rows: Rows) -> list[Seen]:
        if self.pairs == "all":
            return super().look(rows)
        chosen, columns = self._one_pair_a_class(rows)
        n, count = len(rows.x), len(chosen)
        if not count:
            return []
        pairs = relate(None, count, chosen.device, m=count)
        x, y = rows.x.index_select(0, chosen), rows.y.index_select(0, columns)
        parts = super().look(Rows(x, y, pairs, rows.distance, rows.block_rows))
        terms = [torch.cat([getattr(part, name) for part in parts]) for name in ("value", "weight")]
        value, weight = (term.new_zeros(n, 1).index_add(0, chosen, term) for term in terms)
        rest = [part._replace(value=value[:0], weight=weight[:0]) for part in parts[1:]]
        return [parts[0]._replace(value=value, weight=weight), *rest]

    def _one_pair_a_class(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """The first anchor of each class that has a positive, (c,), and its first positive, (c,)."""
        labels, n = rows.relations.labels, len(rows.x)
        if labels is None:
            raise ArgumentError("pairs='one' needs a class label for each item; got none. Use pairs='all'.")
        parts = [
            rows.relations.rows(slice(i, min(n, i + rows.block_rows)))[0].to(torch.uint8).max(1)
            for i in range(0, n, rows.block_rows)
        ]
        has = torch.cat([part.values for part in parts]).bool()
        columns = torch.cat([part.indices for part in parts])
        classes = labels.unique(return_inverse=True)[1]
        place = torch.where(has, torch.arange(n, device=has.device), n)
        first = place.new_full((n,), n).scatter_reduce_(0, classes, place, "amin")
        chosen = (has & (first[classes] == place)).nonzero()[:, 0]
        return chosen, columns[chosen]

    def extra_repr(self) -> str:
        return f"pairs={self.pairs!r}, {super().extra_repr()}"


class TupletMarginLoss(PairwiseLoss):
    """Tuplet margin loss: N-pairs in angles with a slack, log(1 + Σ_n exp(s (cos θ(a,n) − cos(θ(a,p) − β)))).

    Mean over the positive pairs. The slack β forgives positives that are closer than β: they are even pushed a little
    apart, which keeps a class from collapsing.

    Yu & Tao, "Deep metric learning with tuplet margin loss", ICCV 2019; its second part is `IntraPairVarianceLoss`.
    Differs from pytorch-metric-learning in the unit of the slack (radians, not degrees) and on duplicates, where
    theirs is NaN.

    Args:
        margin: β from 0 to below π/2, in radians.
        scale: s > 0.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: An option is out of range.

    >>> loss = TupletMarginLoss(margin=0.0, scale=1.0)
    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> round(loss(x, torch.tensor([0, 0, 1])).item(), 3)  # log(1 + e^(0−1))
    0.313
    """

    name: ClassVar[str] = "tuplet"
    formula: ClassVar[str] = "mean over positive pairs of log(1 + Σ_n exp(s (cos θ(a,n) − cos(θ(a,p) − β))))"
    paper: ClassVar[str] = "Yu & Tao, Deep metric learning with tuplet margin loss, ICCV 2019"
    cost: ClassVar[str] = "n m"
    per_anchor: ClassVar[bool] = True

    def __init__(self, margin: float = 0.1, scale: float = 64.0, *, block_rows: int | None = None):
        super().__init__(distance="cosine", normalize=False, block_rows=block_rows)
        if not 0 <= margin < math.pi / 2:
            raise ArgumentError(f"margin must be from 0 to below π/2 = 1.57, in radians; got {margin}.")
        check_positive(scale, "scale")
        self.margin = margin
        self.scale = scale

    def block(self, block: Block) -> Terms:
        pairs, others = _both(block, self.scale)
        cosine = 1.0 - pairs.distances
        sine = (1.0 - cosine.square()).clamp(min=torch.finfo(cosine.dtype).eps).sqrt()
        slack = math.cos(self.margin) * cosine + math.sin(self.margin) * sine
        others = others + self.scale
        terms = softplus(others.index_select(0, pairs.anchors) - self.scale * slack)
        return _pair_terms(block, pairs, terms)

    def extra_repr(self) -> str:
        return f"margin={self.margin}, scale={self.scale}"


class LiftedLoss(PairwiseLoss):
    """Lifted structure loss: a positive pair against the negatives of both its ends.

    Mean over the positive pairs of ½·[J]₊², J = log(Σ_n exp(m − D(a,n)) + Σ_n exp(m − D(p,n))) + D(a,p) − m₊,
    where each sum runs over the end's own negatives. With references, p and its negatives are references.

    Song, Xiang, Jegelka & Savarese, "Deep metric learning via lifted structured feature embedding", CVPR 2016. The
    value of pytorch-metric-learning with `normalize=True`; with references, theirs mixes up anchors and references.

    Args:
        margin: m, in units of the distance.
        positive_margin: m₊, taken off the distance of the pair; 0 in the paper.
        distance: A name from `kyori.distances`.
        normalize: Put embeddings on the unit sphere first; the paper works on the raw output.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    >>> loss = LiftedLoss()
    >>> x = torch.tensor([[0.0], [1.0], [2.0]])
    >>> round(loss(x, torch.tensor([0, 0, 1])).item(), 4)  # J = log(e^(1−2) + e^(1−1)) + 1
    0.8623
    """

    name: ClassVar[str] = "lifted"
    formula: ClassVar[str] = (
        "mean over positive pairs of ½·[log(Σ_n exp(m − D(a,n)) + Σ_n exp(m − D(p,n))) + D(a,p)]₊²"
    )
    paper: ClassVar[str] = (
        "Song, Xiang, Jegelka & Savarese, Deep metric learning via lifted structured feature embedding, CVPR 2016"
    )
    cost: ClassVar[str] = "n m"
    per_anchor: ClassVar[bool] = True

    def __init__(
        self,
        margin: float = 1.0,
        *,
        positive_margin: float = 0.0,
        distance: Distance = "euclidean",
        normalize: bool = False,
        block_rows: int | None = None,
    ):
        super().__init__(distance=distance, normalize=normalize, block_rows=block_rows)
        self.margin = margin
        self.positive_margin = positive_margin

    def look(self, rows: Rows) -> list[Seen]:
        """Each anchor's own log-sum-exp first; then pairs add those of both ends."""

        def first(block: Block) -> tuple[Seen, PositivePairs, Tensor]:
            nothing = torch.zeros_like(block.D[:, :1])
            return seen(block, Terms(nothing, nothing)), *_both(block, 1.0)

        parts = rows.each(first)
        if rows.y is rows.x:
            at_references = torch.cat([own for _, _, own in parts])
        else:
            among = rows.relations.among_references()
            others = Rows(rows.y, rows.y, among, rows.distance, rows.block_rows)
            at_references = torch.cat(others.each(lambda block: log_sum(block.D, block.negative, -1.0)))
        return [self._joined(*part, at_references) for part in parts]

    def _joined(self, empty: Seen, pairs: PositivePairs, own: Tensor, at_references: Tensor) -> Seen:
        b, nothing = len(own), torch.finfo(own.dtype).min
        ends = [own.index_select(0, pairs.anchors), at_references.index_select(0, pairs.columns)]
        both = torch.logaddexp(*[end.clamp(min=nothing) for end in ends])
        J = (both + self.margin + pairs.distances - self.positive_margin).clamp(min=0)
        usable = torch.maximum(*[end.detach() for end in ends]) > -torch.inf
        weight = pairs.sum(usable.to(J.dtype), b)[:, None]
        active = torch.stack([(J > 0).sum(), usable.sum()]).to(J.dtype)
        return empty._replace(value=pairs.sum(0.5 * J.square(), b)[:, None], weight=weight, active=active)

    def extra_repr(self) -> str:
        return f"margin={self.margin}, {super().extra_repr()}"


class GeneralizedLiftedLoss(PairwiseLoss):
    """Generalised lifted structure loss: all positives of an anchor against all its negatives.

    Mean over the anchors that have both of [log Σ_p exp D(a,p) + log Σ_n exp(m − D(a,n))]₊.

    Hermans, Beyer & Leibe, "In defense of the triplet loss", 2017. The value of pytorch-metric-learning with
    `normalize=True`, except that theirs also counts anchors without a positive.

    Args:
        margin: m, in units of the distance.
        positive_margin: m₊, taken off the distances to positives; 0 in the paper.
        distance: A name from `kyori.distances`.
        normalize: Put embeddings on the unit sphere first; the paper works on the raw output.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    >>> loss = GeneralizedLiftedLoss()
    >>> x = torch.tensor([[0.0], [1.0], [2.0]])
    >>> round(loss(x, torch.tensor([0, 0, 1])).item(), 4)  # ([1 + 1 − 2]₊ + [1 + 1 − 1]₊) / 2
    0.5
    """

    name: ClassVar[str] = "generalizedlifted"
    formula: ClassVar[str] = "mean over anchors of [log Σ_p exp D(a,p) + log Σ_n exp(m − D(a,n))]₊"
    paper: ClassVar[str] = "Hermans, Beyer & Leibe, In defense of the triplet loss, 2017"
    cost: ClassVar[str] = "n m"
    per_anchor: ClassVar[bool] = True

    def __init__(
        self,
        margin: float = 1.0,
        *,
        positive_margin: float = 0.0,
        distance: Distance = "euclidean",
        normalize: bool = False,
        block_rows: int | None = None,
    ):
        super().__init__(distance=distance, normalize=normalize, block_rows=block_rows)
        self.margin = margin
        self.positive_margin = positive_margin

    def block(self, block: Block) -> Terms:
        pairs, near = _both(block, 1.0)
        far = pair_log_sum_exp(pairs, pairs.distances - self.positive_margin, len(block.D))
        return _anchor_terms(block, (far + near + self.margin).clamp(min=0))

    def extra_repr(self) -> str:
        return f"margin={self.margin}, {super().extra_repr()}"


class MultiSimilarityLoss(PairwiseLoss):
    """Multi-similarity loss: positives and negatives of an anchor, each weighed against the others of its kind.

    Mean over the anchors, with cosine S, of
    1/α·log(1 + Σ_p exp(−α (S(a,p) − λ))) + 1/β·log(1 + Σ_n exp(β (S(a,n) − λ))).
    Mining (ε): only positives with S(a,p) − ε < max_n S(a,n) and negatives with S(a,n) + ε > min_p S(a,p) count.

    Wang, Han, Huang, Dong & Scott, "Multi-similarity loss with general pair weighting for deep metric learning",
    CVPR 2019. λ is that of the authors' code. The value of pytorch-metric-learning: its loss with `epsilon=None`, its
    loss and miner with `epsilon=0.1`.

    Args:
        alpha: α > 0, how strongly the farthest positives outweigh the others.
        beta: β > 0, the same for the closest negatives.
        base: λ, the similarity that positives shall exceed and negatives not.
        epsilon: ε of the mining, in units of cosine; None takes all pairs.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: An option is out of range.

    >>> loss = MultiSimilarityLoss(alpha=1.0, beta=1.0, base=0.0, epsilon=None)
    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> round(loss(x, torch.tensor([0, 0, 1])).item(), 4)  # (2 log(1 + e⁻¹) + 2 log 2 + log 3) / 3
    1.0371
    """

    name: ClassVar[str] = "multisimilarity"
    formula: ClassVar[str] = (
        "mean over anchors of 1/α·log(1 + Σ_p exp(−α (S(a,p) − λ))) + 1/β·log(1 + Σ_n exp(β (S(a,n) − λ)))"
    )
    paper: ClassVar[str] = (
        "Wang, Han, Huang, Dong & Scott, Multi-similarity loss with general pair weighting, CVPR 2019"
    )
    cost: ClassVar[str] = "n m"

    def __init__(
        self,
        alpha: float = 2.0,
        beta: float = 50.0,
        base: float = 0.5,
        *,
        epsilon: float | None = 0.1,
        block_rows: int | None = None,
    ):
        super().__init__(distance="cosine", normalize=False, block_rows=block_rows)
        check_positive(alpha, "alpha")
        check_positive(beta, "beta")
        self.alpha = alpha
        self.beta = beta
        self.base = base
        self.epsilon = epsilon

    def look_at_list(self, x: Tensor, listed: object) -> None:
        """Explicit pairs as masks: an anchor's pairs are weighed against each other."""

    def block(self, block: Block) -> Terms:
        D, b = block.D, len(block.D)
        pairs = positive_pairs(D.detach(), block.positive)
        reach = D.new_full((b,), torch.inf)
        if self.epsilon is not None:
            reach = pair_maximum(pairs, b) + self.epsilon

        def formula(D: Tensor, negative: Tensor, reach: Tensor) -> tuple[Tensor, ...]:
            near = torch.where(negative, D, torch.inf)
            held = near < reach[:, None]
            logits = torch.where(held, near, torch.inf).mul_(-self.beta)
            return near.amin(1), held.sum(1), *log_sum_rows(logits, -self.beta)

        closest, held, *known = by_rows(D, formula, block.negative, reach)
        pairs, push = attached(D, pairs, *known)
        pull = self.alpha * (pairs.distances - (1.0 - self.base))
        candidates = active = block.positives + block.negatives
        if self.epsilon is not None:
            far_enough = pairs.distances > closest[pairs.anchors] - self.epsilon
            pull = pull.masked_fill(~far_enough, -torch.inf)
            active = held + pairs.sum(far_enough.to(D.dtype), b)
        push = push + self.beta * (1.0 - self.base)
        value = softplus(pair_log_sum_exp(pairs, pull, b)) / self.alpha + softplus(push) / self.beta
        return Terms(value[:, None], (candidates > 0)[:, None], active, candidates)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, beta={self.beta}, base={self.base}, epsilon={self.epsilon}"


class CircleLoss(PairwiseLoss):
    """Circle loss: each similarity is pulled to its own optimum, the faster the farther it is.

    Mean over the anchors that have both, with cosine S, of
    log(1 + Σ_n exp(γ αₙ (S(a,n) − m)) · Σ_p exp(−γ αₚ (S(a,p) − (1 − m)))),
    with the weights αₙ = [S(a,n) + m]₊ and αₚ = [1 + m − S(a,p)]₊, which are constants to the gradient.

    Sun, Cheng, Zhang, Zhang, Zheng, Wang & Wei, "Circle loss: a unified perspective of pair similarity optimization",
    CVPR 2020. Differs from pytorch-metric-learning in that an anchor without loss counts in the mean.

    Args:
        margin: m, 0.25 for faces and 0.4 for fine-grained retrieval in the paper.
        scale: γ > 0, 256 for faces and 80 for fine-grained retrieval.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: `scale` is not above 0.

    >>> loss = CircleLoss(margin=0.0, scale=1.0)
    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> round(loss(x, torch.tensor([0, 0, 1])).item(), 4)  # both weights and both forces are 0: log 2
    0.6931
    """

    name: ClassVar[str] = "circle"
    formula: ClassVar[str] = (
        "mean over anchors of log(1 + Σ_n exp(γ αₙ (S(a,n) − m)) · Σ_p exp(−γ αₚ (S(a,p) − 1 + m)))"
    )
    paper: ClassVar[str] = (
        "Sun et al., Circle loss: a unified perspective of pair similarity optimization, CVPR 2020"
    )
    cost: ClassVar[str] = "n m"
    per_anchor: ClassVar[bool] = True

    def __init__(self, margin: float = 0.4, scale: float = 80.0, *, block_rows: int | None = None):
        super().__init__(distance="cosine", normalize=False, block_rows=block_rows)
        check_positive(scale, "scale")
        self.margin = margin
        self.scale = scale

    def block(self, block: Block) -> Terms:
        def formula(D: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
            slope = (1.0 + self.margin - D).clamp_(min=0).mul_(-self.scale)
            logits = (D - (1.0 - self.margin)).mul_(slope)
            return log_sum_rows(torch.where(negative, logits, -torch.inf), slope)

        D = block.D
        pairs = positive_pairs(D.detach(), block.positive)
        pairs, near = attached(D, pairs, *by_rows(D, formula, block.negative))
        pull = self.scale * (pairs.distances.detach() + self.margin).clamp(min=0)
        far = pair_log_sum_exp(pairs, pull * (pairs.distances - self.margin), len(D))
        return _anchor_terms(block, softplus(far + near))

    def extra_repr(self) -> str:
        return f"margin={self.margin}, scale={self.scale}"
