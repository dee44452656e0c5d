"""Multiple negatives ranking: an anchor picks its own positive out of everybody's, as in training on pairs of texts."""

import math
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..distances import Distance, normalize, pairwise_distance
from ..errors import ArgumentError
from ..relations import Supervision
from .infonce import pick, pick_among
from .loss import Reduction, check_choice, check_matrix, check_positive
from .pairwise import Block, PairwiseLoss, Rows, Seen, Terms, seen
from .rowwise import log_sum

__all__ = ["GISTLoss", "MultipleNegativesLoss"]

Harden = Literal["none", "in_batch", "hard", "all"]
GuideMargin = Literal["absolute", "relative"]
Direction = Literal["forth", "back", "anchors", "references"]


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
        D, scale, own = block.D, self.scale, rows.x is rows.y
        positive, paired = (block.positive, None) if own else _row_first(block)
        negative, limit = block.negative, None
        if guide is not None:
            limit = guide.limit(block.anchors, positive)
            negative = negative & (guide.similarity(block.anchors, "forth") <= limit)
        hardened = self._hardened(D, block.anchors, len(rows.x))
        if own and hardened is D:
            return pick_among(D, positive, negative, scale)
        forth = log_sum(hardened, negative, -scale)
        if paired is None:  # the batch is on both sides already: the other directions hold nothing new
            return pick(D, positive, forth, scale)
        more = self._more(block, rows, guide, limit)
        wider = [
            more[key].masked_fill(~paired, -torch.inf) for key in ("anchors", "references") if key in more
        ]
        back = more.get("back")
        if back is None:
            return pick(D, positive, _join([forth, *wider]), scale)
        if not self.joint:
            one = pick(D, positive, _join([forth, *wider]), scale)
            other = pick(D, positive, torch.where(paired, back, forth), scale)
            return one._replace(value=(one.value + other.value) / 2)
        twice = math.log(2.0) * paired  # the positive stands in both directions: 2e^s + Σ = 2 (e^s + Σ/2)
        both = _join([forth, back.masked_fill(~paired, -torch.inf), *wider]) - twice
        terms = pick(D, positive, both, scale)
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


def _row_first(block: Block) -> tuple[Tensor, Tensor]:
    """Positives (b, m), only the reference in the anchor's row where that is one, and where it is (b,)."""
    columns = torch.arange(block.D.shape[1], device=block.D.device)
    in_row = block.positive & (block.anchors[:, None] == columns)
    paired = in_row.any(1)
    return torch.where(paired[:, None], in_row, block.positive), paired


def _own_row(anchors: Tensor, m: int, n: int) -> Tensor:
    """(b, m) references i + k·n of anchor i."""
    return (torch.arange(m, device=anchors.device) - anchors[:, None]) % n == 0
