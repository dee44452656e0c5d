"""Losses that make an anchor pick its positive out of many negatives: InfoNCE and its relatives.

All of them need one number per anchor, the log-sum-exp ℓ of its negatives. A positive at similarity s then costs
softplus(ℓ − s), which neither overflows nor loses its gradient, and no (positives × negatives) list is ever built.
"""

import math
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..distances import Distance, normalize, pairwise_distance
from ..errors import ArgumentError
from ..relations import Supervision
from .loss import Reduction, check_choice, check_matrix, check_positive
from .pairwise import Block, PairwiseLoss, Rows, Seen, Terms, seen
from .rowwise import (
    PositivePairs,
    attached,
    by_rows,
    known_log_sum,
    log_sum,
    log_sum_rows,
    positive_pairs,
    with_gradient,
)

__all__ = [
    "GISTLoss",
    "MegaBatchMarginLoss",
    "MultipleNegativesLoss",
    "NTXentLoss",
    "SigLIPLoss",
    "SupConLoss",
]

Harden = Literal["none", "in_batch", "hard", "all"]
GuideMargin = Literal["absolute", "relative"]


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
        scale = 1.0 / self.temperature
        if torch.compiler.is_compiling():
            return _pick(D, positive, log_sum(D, negative, -scale), scale)
        near = known_log_sum(D, negative, -scale)
        pairs, others = attached(D, positive_pairs(D.detach(), positive), *near)
        return _pick_pairs(pairs, len(D), others, scale)

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


class MultipleNegativesLoss(PairwiseLoss):
    """Multiple negatives ranking: anchor i shall pick reference i out of all references, by cross-entropy.

    `loss(anchors, references=positives)`: row i of the references is the positive of anchor i, all others are its
    negatives; further references, after the first n, are hard negatives of everybody. Labels (of anchors and
    references) mask false negatives: a reference with the anchor's label is never its negative. Where reference i is
    no positive of anchor i (its label differs, or its id says that it is the anchor itself), and without references,
    each item with the anchor's label is a positive in its turn, against the items with other labels.

    With `logits = scale · s` and ℓ the log-sum-exp of an anchor's negatives, a pair costs softplus(ℓ − scale · s_p).
    Options widen ℓ for pairs in rows:

    | option | more negatives of the pair (anchor i, reference i) |
    |---|---|
    | `symmetric` | anchors, seen from reference i; the mean of both directions, or one softmax with `joint` |
    | `contrast_anchors` | other anchors, seen from anchor i |
    | `contrast_references` | other references, seen from reference i, but for the other references i + k·n of its row |

    Henderson et al., "Efficient natural language response suggestion for Smart Reply", 2017; CLIP (Radford et al.,
    ICML 2021) is `symmetric=True, learnable=True`; the improved contrastive loss of GTE (Li et al., 2023) is
    `symmetric=True, joint=True, contrast_anchors=True, contrast_references=True`; hardness weighting: Lan et al.,
    "LLaVE", 2025.

    Args:
        scale: Factor on the similarities, 1/τ.
        symmetric: See the table.
        joint: Both directions in one softmax; needs `symmetric`. The positive then stands in it twice, as in GTE.
        contrast_anchors: See the table.
        contrast_references: See the table.
        harden: Which negatives weigh more the harder they are: "hard" (references i + k·n, the hard negatives of the
            anchor's own row), "in_batch" (the others), "all", or "none".
        hardness: α ≥ 0; α·s, without gradient, is added to their logits.
        learnable: Learn the logarithm of the scale.
        distance: A name from `kyori.distances`; s = −D, for cosine 1 − D.
        normalize: Put embeddings on the unit sphere first; the cosine distance does so by itself.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: A number out of range, or `joint` without `symmetric`.

    >>> loss = MultipleNegativesLoss(scale=1.0)
    >>> round(loss(torch.eye(2), references=torch.eye(2)).item(), 4)  # log(1 + e^(0 − 1))
    0.3133
    """

    name: ClassVar[str] = "mnr"
    formula: ClassVar[str] = "mean over pairs (a, p) of −log e^{γ s_p} / (e^{γ s_p} + Σ_n e^{γ s_n})"
    paper: ClassVar[str] = (
        "Henderson et al., Efficient natural language response suggestion for Smart Reply, 2017"
    )
    cost: ClassVar[str] = "n m"
    per_anchor: ClassVar[bool] = True

    def __init__(
        self,
        scale: float = 20.0,
        *,
        symmetric: bool = False,
        joint: bool = False,
        contrast_anchors: bool = False,
        contrast_references: bool = False,
        harden: Harden = "none",
        hardness: float = 0.0,
        learnable: bool = False,
        distance: Distance = "cosine",
        normalize: bool = False,
        block_rows: int | None = None,
    ):
        super().__init__(distance=distance, normalize=normalize, block_rows=block_rows)
        check_positive(scale, "scale")
        check_choice(harden, "harden", Harden)
        if not hardness >= 0:
            raise ArgumentError(f"hardness must be at least 0; got {hardness}.")
        if joint and not symmetric:
            raise ArgumentError(
                "joint puts both directions in one softmax and needs symmetric=True; got False."
            )
        self.symmetric = symmetric
        self.joint = joint
        self.contrast_anchors = contrast_anchors
        self.contrast_references = contrast_references
        self.harden = harden
        self.hardness = hardness
        self._scale = scale
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale))) if learnable else None

    @property
    def scale(self) -> Tensor | float:
        """The factor on the similarities."""
        return self._scale if self.log_scale is None else self.log_scale.exp()

    def look(self, rows: Rows) -> list[Seen]:
        guide = self._guide(rows)
        return rows.each(lambda block: seen(block, self._terms(block, rows, guide)))

    def _guide(self, rows: Rows) -> "_Guide | None":
        """Who says which negatives are false ones."""
        return None

    def _terms(self, block: Block, rows: Rows, guide: "_Guide | None") -> Terms:
        D, scale = block.D, self.scale
        positive, paired = _row_first(block)
        negative, limit = block.negative, None
        if guide is not None:
            limit = guide.limit(block.anchors, positive)
            negative = negative & (guide.similarity(block.anchors, "forth") <= limit)
        forth = log_sum(self._hardened(D, block.anchors, len(rows.x)), negative, -scale)
        if rows.x is rows.y:  # the batch is on both sides already: the other directions hold nothing new
            return _pick(D, positive, forth, scale)
        more = self._more(block, rows, guide, limit)
        wider = [
            more[key].masked_fill(~paired, -torch.inf) for key in ("anchors", "references") if key in more
        ]
        back = more.get("back")
        if back is None:
            return _pick(D, positive, _join([forth, *wider]), scale)
        if not self.joint:
            one = _pick(D, positive, _join([forth, *wider]), scale)
            other = _pick(D, positive, torch.where(paired, back, forth), scale)
            return one._replace(value=(one.value + other.value) / 2)
        twice = math.log(2.0) * paired  # the positive stands in both directions: 2e^s + Σ = 2 (e^s + Σ/2)
        both = _join([forth, back.masked_fill(~paired, -torch.inf), *wider]) - twice
        terms = _pick(D, positive, both, scale)
        return terms._replace(value=terms.value + twice[:, None])

    def _hardened(self, D: Tensor, anchors: Tensor, n: int) -> Tensor:
        """Distances whose logits, −scale · D, have α·s added where negatives are to weigh more."""
        if self.harden == "none" or not self.hardness:
            return D
        similarity = (1.0 if self.distance == "cosine" else 0.0) - D.detach()
        push = similarity * (-self.hardness / self.scale)
        if self.harden != "all":
            own = _own_row(anchors, D.shape[1], n)
            push = push * (own if self.harden == "hard" else ~own)
        return D + push

    def _more(
        self, block: Block, rows: Rows, guide: "_Guide | None", limit: Tensor | None
    ) -> dict[str, Tensor]:
        """Log-sum-exps (b,) of what the other directions add for pairs in rows."""
        n, m = len(rows.x), len(rows.y)
        found: dict[str, Tensor] = {}

        def direction(name: Direction, left: Tensor, right: Tensor, negative: Tensor) -> None:
            if guide is not None and limit is not None:
                negative = negative & (guide.similarity(block.anchors, name) <= limit)
            D = pairwise_distance(left, right, self.distance)
            found[name] = log_sum(D, negative, -self.scale)

        partner = rows.y[block.anchors.clamp(max=m - 1)]
        if self.contrast_anchors or self.symmetric:
            others = rows.relations.apart(block.anchors, n)
        if self.contrast_anchors:
            direction("anchors", block.x, rows.x, others)
        if self.contrast_references:
            reach = m if guide is None else min(n, m)
            apart = block.negative & ~_own_row(block.anchors, m, n)
            direction("references", partner, rows.y[:reach], apart[:, :reach])
        if self.symmetric:
            direction("back", partner, rows.x, others)
        return found

    def extra_repr(self) -> str:
        scale = float(torch.as_tensor(self.scale).detach())
        return f"scale={scale:.4g}, symmetric={self.symmetric}, {super().extra_repr()}"


class GISTLoss(MultipleNegativesLoss):
    """Multiple negatives ranking whose false negatives a guide finds: those that it holds for closer than the positive.

    `loss(anchors, references=positives, guide=g, reference_guide=h)`: a candidate of anchor i is dropped if the guide's
    cosine similarity to what it is compared with exceeds that of the pair (anchor i, reference i), less a margin.
    Without a guide the embeddings guide themselves. Where an anchor has several positives, its closest one to the
    guide counts.

    Solatorio, "GISTEmbed: guided in-sample selection of training negatives for text embedding fine-tuning", 2024;
    margins: Moreira et al., "NV-Retriever", 2024.

    Args:
        scale: Factor on the similarities, 1/τ.
        guide_margin: With "absolute" the limit is g_p − margin, with "relative" g_p − |g_p| · margin.
        margin_kind: "absolute" or "relative".
        contrast_anchors: Other anchors are negatives of an anchor too.
        contrast_references: Other positives are negatives of a positive too.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    >>> loss = GISTLoss(scale=1.0, contrast_anchors=False, contrast_references=False)
    >>> x, guide = torch.eye(2), torch.ones(2, 1)  # to this guide all are equally close, and none is closer
    >>> round(loss(x, references=x, guide=guide, reference_guide=guide).item(), 4)
    0.3133
    """

    name: ClassVar[str] = "gist"
    formula: ClassVar[str] = (
        "mean over pairs (a, p) of −log e^{γ s_p} / (e^{γ s_p} + Σ_{n: g_n ≤ g_p − m} e^{γ s_n})"
    )
    paper: ClassVar[str] = (
        "Solatorio, GISTEmbed: guided in-sample selection of training negatives for text embedding fine-tuning, 2024"
    )

    def __init__(
        self,
        scale: float = 100.0,
        *,
        guide_margin: float = 0.0,
        margin_kind: GuideMargin = "absolute",
        contrast_anchors: bool = True,
        contrast_references: bool = True,
        block_rows: int | None = None,
    ):
        super().__init__(
            scale,
            contrast_anchors=contrast_anchors,
            contrast_references=contrast_references,
            block_rows=block_rows,
        )
        check_choice(margin_kind, "margin_kind", GuideMargin)
        self.guide_margin = guide_margin
        self.margin_kind = margin_kind
        self._given: tuple[Tensor | None, Tensor | None] = (None, None)

    def forward(
        self,
        embeddings: Tensor,
        labels: Supervision | None = None,
        *,
        guide: Tensor | None = None,
        reference_guide: Tensor | None = None,
        references: Tensor | None = None,
        reference_labels: Tensor | None = None,
        ids: Tensor | None = None,
        reference_ids: Tensor | None = None,
        reduction: Reduction = "mean",
    ) -> Tensor:
        """The loss of a batch, see `PairwiseLoss.forward`.

        Args:
            guide: (n, g) the guide's embeddings of the anchors, or (n, m) its similarities to the references if
                neither option `contrast_…` is on and `reference_guide` is left out.
            reference_guide: (m, g) its embeddings of the references.
        """
        check_matrix(embeddings, "embeddings")
        self._given = self._check_guide(embeddings, references, guide, reference_guide)
        try:
            return super().forward(
                embeddings, labels, references=references, reference_labels=reference_labels,
                ids=ids, reference_ids=reference_ids, reduction=reduction,
            )  # fmt: skip
        finally:
            self._given = (None, None)

    def _check_guide(
        self, x: Tensor, references: Tensor | None, guide: Tensor | None, others: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        if guide is None:
            if others is not None:
                raise ArgumentError("reference_guide was given without guide; pass both, or neither.")
            return None, None
        m = len(x) if references is None else len(references)
        for value, name, length in ((guide, "guide", len(x)), (others, "reference_guide", m)):
            if value is None:
                continue
            check_matrix(value, name)
            if len(value) != length:
                raise ArgumentError(f"{name} must have {length} rows, one per embedding; got {len(value)}.")
        contrasts = self.contrast_anchors or self.contrast_references
        if others is None and references is not None and (guide.shape[1] != m or contrasts):
            raise ArgumentError(
                f"guide without reference_guide must hold similarities of shape ({len(x)}, {m}), with "
                f"contrast_anchors and contrast_references off; got {tuple(guide.shape)}. "
                "Pass the guide's embeddings of the references as reference_guide."
            )
        return guide, others

    def _guide(self, rows: Rows) -> "_Guide":
        given, others = self._given
        relative = self.margin_kind == "relative"
        if given is not None and others is None and rows.x is not rows.y:
            return _Guide(None, None, given.detach(), self.guide_margin, relative)
        own = normalize((rows.x if given is None else given).detach().to(rows.x.dtype))
        if rows.x is rows.y:
            return _Guide(own, own, None, self.guide_margin, relative)
        other = normalize((rows.y if others is None else others).detach().to(rows.x.dtype))
        return _Guide(own, other, None, self.guide_margin, relative)


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
        similarity = 1.0 - D if self.distance == "cosine" else -D
        z = self.log_scale.exp() * similarity + self.bias
        pairs = (positive | negative).sum(1)
        loss = softplus(torch.where(positive, -z, z)) * (positive | negative)
        active = (loss.detach() > 0).sum(1)
        return Terms(loss.sum(1, keepdim=True), (pairs > 0).int()[:, None], active, pairs)


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
        pull = (D - (1.0 - self.positive_margin)).clamp(min=0) * positive
        closest = torch.where(negative, D, torch.inf).amin(1)
        push = (1.0 - self.negative_margin - closest).clamp(min=0)
        pairs, anchors = positive.sum(1), negative.any(1).int()
        active = (pull > 0).sum(1) + (push > 0)
        value = torch.stack([pull.sum(1), push], 1)
        return Terms(value, torch.stack([pairs, anchors], 1), active, pairs + anchors)


Direction = Literal["forth", "back", "anchors", "references"]


class _Guide(NamedTuple):
    """Similarities by which a guide finds false negatives, from unit embeddings or as a matrix."""

    x: Tensor | None
    y: Tensor | None
    matrix: Tensor | None
    margin: float
    relative: bool

    def similarity(self, anchors: Tensor, direction: Direction) -> Tensor:
        """Of b anchors or their partners to what they are compared with in that direction."""
        if self.matrix is not None:
            return self.matrix[anchors]
        assert self.x is not None
        assert self.y is not None
        if direction in ("forth", "anchors"):
            return self.x[anchors] @ (self.y if direction == "forth" else self.x).T
        partner = self.y[anchors.clamp(max=len(self.y) - 1)]
        return partner @ (self.x if direction == "back" else self.y[: len(self.x)]).T

    def limit(self, anchors: Tensor, positive: Tensor) -> Tensor:
        """(b, 1) similarities above which a negative is held for a false one."""
        nearest = self.similarity(anchors, "forth").masked_fill(~positive, -torch.inf).amax(1, keepdim=True)
        return nearest - self.margin * (nearest.abs() if self.relative else 1.0)


def _join(logs: list[Tensor]) -> Tensor:
    """Log-sum-exp of several log-sum-exps (b,), of which any may be −inf."""
    if len(logs) == 1:
        return logs[0]
    together = torch.stack(logs, 1)
    return log_sum(together, together != -torch.inf, 1.0)


def _pick(D: Tensor, positive: Tensor, negatives: Tensor, scale: Tensor | float) -> Terms:
    """softplus(ℓ + scale · D) of every positive pair, summed by anchor."""
    if torch.compiler.is_compiling():  # whose graphs break where a shape depends on the data
        count = positive.sum(1)
        cost = softplus(negatives[:, None] + scale * D) * positive
        return Terms(cost.sum(1, keepdim=True), count[:, None], (cost > 0).sum(1), count)
    return _pick_pairs(positive_pairs(D, positive), len(D), negatives, scale)


def _pick_pairs(pairs: PositivePairs, b: int, negatives: Tensor, scale: Tensor | float) -> Terms:
    cost = softplus(negatives.index_select(0, pairs.anchors) + scale * pairs.distances)
    count = pairs.sum(torch.ones_like(cost), b)
    return Terms(pairs.sum(cost, b)[:, None], count[:, None], pairs.sum((cost > 0).to(cost.dtype), b), count)


def _row_first(block: Block) -> tuple[Tensor, Tensor]:
    """Positives (b, m), only the reference in the anchor's row where that is one, and where it is (b,)."""
    columns = torch.arange(block.D.shape[1], device=block.D.device)
    in_row = block.positive & (block.anchors[:, None] == columns)
    paired = in_row.any(1)
    return torch.where(paired[:, None], in_row, block.positive), paired


def _own_row(anchors: Tensor, m: int, n: int) -> Tensor:
    """(b, m) references i + k·n of anchor i."""
    return (torch.arange(m, device=anchors.device) - anchors[:, None]) % n == 0
