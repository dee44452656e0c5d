"""Losses of graded pairs: similarities shall follow scores.

Scores come as `Relevance` (every reference to every anchor), as `ScoredPairs`, or as 1 and 0 from labels or `Pairs`.
"""

from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad, softplus

from ..distances import normalize
from ..relations import Pairs, Triplets
from .loss import check_positive
from .pairwise import Block, PairwiseLoss, Rows, Seen, Terms, seen
from .rowwise import (
    attached,
    by_rows,
    in_cache,
    known_log_sum,
    log_sum,
    only,
    positive_pairs,
    row_counts,
    with_gradient,
)

__all__ = ["AnglELoss", "CoSENTLoss", "CosineMSELoss"]


class CosineMSELoss(PairwiseLoss):
    """Mean over pairs of (score − cos)².

    Reimers & Gurevych, "Sentence-BERT", EMNLP 2019; `CosineSimilarityLoss` of sentence-transformers. Labels and `Pairs`
    ask for the cosine 1 within a class and 0 between classes.

    Args:
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    >>> from kyori.relations import ScoredPairs
    >>> pairs = ScoredPairs(torch.tensor([0]), torch.tensor([1]), torch.tensor([0.5]))
    >>> CosineMSELoss()(torch.eye(2), pairs).item()  # (.5 − 0)²
    0.25
    """

    name: ClassVar[str] = "cosinemse"
    formula: ClassVar[str] = "mean over pairs of (score − cos)²"
    paper: ClassVar[str] = "Reimers & Gurevych, Sentence-BERT, EMNLP 2019"
    cost: ClassVar[str] = "n m"
    graded: ClassVar[bool] = True

    def __init__(self, *, block_rows: int | None = None):
        super().__init__(distance="cosine", normalize=False, block_rows=block_rows)

    def block(self, block: Block) -> Terms:
        def formula(
            D: Tensor, positive: Tensor, negative: Tensor, score: Tensor | None = None
        ) -> tuple[Tensor, ...]:
            pairs = positive | negative
            missing = only((positive.to(D.dtype) if score is None else score) - 1.0 + D, pairs, 0.0)
            return missing.square().sum(1), row_counts(pairs), row_counts(missing != 0), missing.mul_(2.0)

        graded = [] if block.relevance is None else [block.relevance]
        value, count, active, gradient = by_rows(block.D, formula, block.positive, block.negative, *graded)
        value = with_gradient(block.D, value, gradient)
        return Terms(value[:, None], count[:, None], active, count)


class CoSENTLoss(PairwiseLoss):
    """CoSENT: of two pairs the one with the higher score shall be the more similar.

    `log(1 + Σ e^{λ (s(k,l) − s(i,j))})`, the sum over all two pairs of which (i,j) has the higher score. Pairs are
    gathered by their score: with P pairs and L different scores the cost is O(P log L), not that of P² comparisons.

    Su, "CoSENT: a more efficient sentence vector scheme than Sentence-BERT", 2022.

    Args:
        scale: λ > 0.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`; all at once where graded relevance has more
            different scores than a block has pairs, as a block holds two sums for each.

    >>> from kyori.relations import ScoredPairs
    >>> pairs = ScoredPairs(torch.tensor([0, 0]), torch.tensor([1, 2]), torch.tensor([0.9, 0.1]))
    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> round(CoSENTLoss(scale=1.0)(x, pairs).item(), 4)  # log(1 + e^(0 − 1))
    0.3133
    """

    name: ClassVar[str] = "cosent"
    formula: ClassVar[str] = "log(1 + Σ_{score(i,j) > score(k,l)} e^{λ (s(k,l) − s(i,j))})"
    paper: ClassVar[str] = "Su, CoSENT: a more efficient sentence vector scheme than Sentence-BERT, 2022"
    cost: ClassVar[str] = "n m log(n m)"
    graded: ClassVar[bool] = True

    def __init__(self, scale: float = 20.0, *, block_rows: int | None = None):
        super().__init__(distance="cosine", normalize=False, block_rows=block_rows)
        check_positive(scale, "scale")
        self.scale = scale

    def scaled(self, block: Block) -> tuple[Tensor, float]:
        """(b, m) numbers, or (p, 1) of listed pairs, and the factor that makes λs of them, but for a constant: only
        differences count."""
        return block.D, -self.scale

    def look(self, rows: Rows) -> list[Seen]:
        scores = None
        if rows.relations.relevance(slice(0, 0)) is not None:
            starts = range(0, len(rows.x), rows.block_rows)
            scores = torch.cat([_scores(rows, slice(s, s + rows.block_rows)) for s in starts]).unique()
            if len(scores) > rows.block_rows * len(rows.y):  # every block would hold more sums than pairs
                rows = replace(rows, block_rows=len(rows.x))
        found = rows.each(lambda block: self._levels(block, scores))
        return self._settle(found)

    def look_at_list(self, x: Tensor, listed: Pairs | Triplets) -> list[Seen] | None:
        if isinstance(listed, Triplets) or not len(listed):
            return None if isinstance(listed, Triplets) else []
        block = self.listed_block(x, listed)
        scores = None if block.relevance is None else block.relevance.unique()
        return self._settle([self._levels(block, scores)])

    def _levels(self, block: Block, scores: Tensor | None) -> "_Levels":
        """Log-sum-exps of λs and of −λs over the pairs of each score, in rising order."""
        values, scale = self.scaled(block)
        nothing = Terms(block.D.new_zeros(len(block.D), 1), block.positives[:, None])
        pairs = block.positive | block.negative
        if scores is None or block.relevance is None:
            rise, fall = _two_levels(values, block.positive, block.negative, scale)
        else:
            size = max(1, len(scores))  # a single item has no pair
            place = torch.searchsorted(scores, block.relevance, out_int32=True).masked_fill_(~pairs, size)
            rise, fall = _LevelSums.apply(values, place, scale, size)
        return _Levels(seen(block, nothing), rise, fall)

    def _settle(self, found: "list[_Levels]") -> list[Seen]:
        """The loss, in equal shares for every anchor, since it is no sum over anchors."""
        rise, fall = (
            part[0] if len(part) == 1 else log_sum(torch.stack(part, 1), _there(torch.stack(part, 1)), 1.0)
            for part in ([f.rise for f in found], [f.fall for f in found])
        )
        total = _Compared.apply(rise, fall)
        value = softplus(total)
        n = sum(len(f.seen.value) for f in found)
        some = total != -torch.inf  # a pair and another of a lower score
        active = torch.stack([(value > 0) & some, some]).to(value.dtype)
        done = []
        for f in found:
            share = (value / n).expand(len(f.seen.value), 1)
            one = torch.full_like(share, 1.0 / n)
            done.append(f.seen._replace(value=share, weight=one, active=active.detach()))
        return done

    def combine(self, value: Tensor, weight: Tensor) -> Tensor:
        return value.sum()


class AnglELoss(CoSENTLoss):
    """AnglE: CoSENT on the angle between embeddings read as complex vectors, where the cosine saturates.

    The halves of an embedding are its real and its imaginary part; on unit vectors s(x, y) = |cos(x, y) + Im⟨x, y⟩|.

    Li & Li, "AnglE-optimized text embeddings", ACL 2024; as in sentence-transformers (its authors' code divides by the
    number of coordinates elsewhere). Vectors of odd length get a zero.

    Args:
        scale: λ > 0.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    >>> from kyori.relations import ScoredPairs
    >>> pairs = ScoredPairs(torch.tensor([0, 0]), torch.tensor([1, 2]), torch.tensor([0.9, 0.1]))
    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> round(AnglELoss(scale=1.0)(x, pairs).item(), 4)  # both pairs at 1: log(1 + e⁰)
    0.6931
    """

    name: ClassVar[str] = "angle"
    formula: ClassVar[str] = (
        "log(1 + Σ_{score(i,j) > score(k,l)} e^{λ (a(k,l) − a(i,j))}), a = |cos + Im⟨·,·⟩|"
    )
    paper: ClassVar[str] = "Li & Li, AnglE-optimized text embeddings, ACL 2024"

    def scaled(self, block: Block) -> tuple[Tensor, float]:
        x, y = normalize(block.x), normalize(block.y)
        if x.shape[1] % 2:
            x, y = pad(x, (0, 1)), pad(y, (0, 1))
        real, imaginary = y.chunk(2, 1)
        turned = y + torch.cat([-imaginary, real], 1)  # ⟨x, turned⟩ = Re⟨x, y⟩ + Im⟨x, y⟩
        listed = block.D.shape[1] == 1 and len(x) == len(y)
        return _Size.apply((x * turned).sum(1, keepdim=True) if listed else x @ turned.T), self.scale


class _Size(torch.autograd.Function):
    """|s| in place of s, which nobody else needs; for the gradient a byte of each is kept."""

    @staticmethod
    def forward(ctx: Any, s: Tensor) -> Tensor:
        ctx.save_for_backward(s.sign().to(torch.int8))
        ctx.mark_dirty(s)
        return s.abs_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (sign,) = ctx.saved_tensors
        return gradients[0] * sign


class _Levels(NamedTuple):
    """A block as seen, and log-sum-exps (l,) over its pairs of each score."""

    seen: Seen
    rise: Tensor
    fall: Tensor


def _scores(rows: Rows, part: slice) -> Tensor:
    relevance = rows.relations.relevance(part)
    assert relevance is not None
    positive, negative = rows.relations.rows(part)
    return relevance[positive | negative].unique()


def _there(logs: Tensor) -> Tensor:
    return logs != -torch.inf


def _total(logs: Tensor) -> Tensor:
    """Log-sum-exp of log-sum-exps (b,), ()."""
    return log_sum(logs[None], _there(logs)[None], 1.0)[0]


def _two_levels(s: Tensor, positive: Tensor, negative: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Log-sum-exps (2,) of λs and of −λs for the scores 0 and 1, of which only the former's rise and the latter's fall
    are ever compared."""
    if torch.compiler.is_compiling():  # whose graphs break where a shape depends on the data
        above = _total(log_sum(s, positive, -scale))
        below = log_sum(s, negative, scale)
    else:
        pairs, below = attached(s, positive_pairs(s.detach(), positive), *known_log_sum(s, negative, scale))
        above = (pairs.distances * -scale).logsumexp(0)
    nothing = above.new_full((), -torch.inf)
    return torch.stack([_total(below), nothing]), torch.stack([nothing, above])


class _LevelSums(torch.autograd.Function):
    """Log-sum-exps (size,) of λs and of −λs over the similarities (b, m) at each place; place `size` is left out.

    There may be as many places as similarities: beside these and the two results little is held.
    """

    @staticmethod
    def forward(
        ctx: Any, similarity: Tensor, place: Tensor, scale: float, size: int
    ) -> tuple[Tensor, Tensor]:
        sums = [_log_scatter(similarity, place, factor, size) for factor in (scale, -scale)]
        ctx.scale = scale
        ctx.save_for_backward(similarity, place, *sums)
        return sums[0][:size], sums[1][:size]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        similarity, place, *sums = ctx.saved_tensors
        gradient = torch.zeros_like(similarity)
        for values, places, into in in_cache(similarity, place, gradient):
            level = places.flatten()
            known = level.clamp(max=len(sums[0]) - 2)
            for factor, total, slope in zip((ctx.scale, -ctx.scale), sums, gradients, strict=True):
                share = (values * factor).flatten().sub_(total.index_select(0, level)).exp_()
                share.mul_(slope.index_select(0, known))
                into.add_(share.view_as(into), alpha=factor)
        return gradient, None, None, None


def _log_scatter(similarity: Tensor, place: Tensor, factor: float, size: int) -> Tensor:
    """log Σ e^{factor · s} at each place, (size + 1,), −inf where there is nothing; the last is +inf: exps in its units
    are 0."""
    top = similarity.new_full((size + 1,), -torch.inf)
    for values, places in in_cache(similarity, place):
        top.scatter_reduce_(0, places.flatten().long(), (values * factor).flatten(), "amax")
    total = torch.zeros_like(top)
    for values, places in in_cache(similarity, place):
        level = places.flatten()
        total.index_add_(0, level, (values * factor).flatten().sub_(top.index_select(0, level)).exp_())
    total.log_().add_(top)
    total[size] = torch.inf
    return total


class _Compared(torch.autograd.Function):
    """log Σ_{k < l} e^{rise_k + fall_l} over all two levels (l,), (); −inf if there are no two."""

    @staticmethod
    def forward(ctx: Any, rise: Tensor, fall: Tensor) -> Tensor:
        lower, upper = torch.full_like(rise, -torch.inf), torch.full_like(fall, -torch.inf)
        lower[1:] = rise.logcumsumexp(0)[:-1]
        upper[:-1] = fall.flip(0).logcumsumexp(0)[:-1].flip(0)
        with_lower, with_upper = lower.add_(fall), upper.add_(rise)
        total = with_lower.logsumexp(0)
        unit = total.clamp(min=torch.finfo(total.dtype).min)
        ctx.save_for_backward(with_upper.sub_(unit).exp_(), with_lower.sub_(unit).exp_())
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        rise, fall = ctx.saved_tensors
        return rise * gradients[0], fall * gradients[0]
