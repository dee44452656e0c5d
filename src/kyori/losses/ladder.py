"""The ladder loss: triplets between the levels of a graded relevance."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..distances import Distance
from ..errors import ArgumentError
from . import mining as mine
from .counting import hinge_counts
from .loss import check_choice
from .pairwise import Block, PairwiseLoss, Terms
from .rowwise import by_rows, row_counts, with_gradient

__all__ = ["LadderLoss"]

Mining = Literal["all", "hard"]
Average = Literal["active", "candidates"]


class LadderLoss(PairwiseLoss):
    """Ladder loss: what is more relevant shall be closer than what is less, by a margin for each step of the ladder.

    Thresholds on the relevance cut the candidates of an anchor into levels. With i above threshold l and j not,
    `Σ_l β_l · mean over (i, j) of [D(a,i) − D(a,j) + α_l]₊`; the default distance is 1 − cosine, so that this is
    [α_l − s(a,i) + s(a,j)]₊. The sums over all pairs are exact and cost a sort per level, as in `TripletLoss`. Where
    the relevance itself is a level, an integer from 0 to L, the thresholds are 0, 1, …, L − 1.

    Zhou et al., "Ladder loss for coherent visual-semantic embedding", AAAI 2020. The paper sums over the pairs
    (`reduction="sum"`); with one threshold the default is `TripletLoss(mining="all", distance="cosine")`.
    `mining="hard"` is its hard-contrastive sampling: the least similar i and the most similar j of each level.

    Args:
        thresholds: Of the relevance; i is above if its relevance exceeds the threshold. Class labels have relevance 1
            and 0, label sets their Jaccard index, `Relevance` its scores.
        margin: α ≥ 0, one for all thresholds or one for each.
        weights: β > 0, one for each threshold; by default 1.
        mining: "all" pairs across a threshold, or "hard".
        average: "active" (pairs with a loss) or "candidates"; by default as `TripletLoss`, "active" with "all" and
            "candidates" with "hard".
        distance: A name from `kyori.distances`.
        normalize: Put embeddings on the unit sphere first; the cosine distance does so by itself.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: Lengths differ or a number is out of range.

    >>> from kyori.relations import Relevance
    >>> loss = LadderLoss([0.0, 0.5], margin=0.5, distance="euclidean", average="candidates")
    >>> x = torch.tensor([[0.0], [1.0], [1.2], [0.8]])
    >>> relevance = Relevance(torch.tensor([[0.0, 1.0, 0.3, 0.0]] + [[0.0] * 4] * 3))
    >>> round(loss(x, relevance).item(), 4)  # (.7 + .9) / 2 above 0, (.3 + .7) / 2 above .5
    1.3
    """

    name: ClassVar[str] = "ladder"
    formula: ClassVar[str] = "Σ_l β_l mean over i above level l, j below of [α_l − s(a,i) + s(a,j)]₊"
    paper: ClassVar[str] = "Zhou et al., Ladder loss for coherent visual-semantic embedding, AAAI 2020"
    cost: ClassVar[str] = "l n m log p"
    per_anchor: ClassVar[bool] = True
    graded: ClassVar[bool] = True

    def __init__(
        self,
        thresholds: Sequence[float] = (0.0,),
        *,
        margin: float | list[float] = 0.2,
        weights: list[float] | None = None,
        mining: Mining = "all",
        average: Average | None = None,
        distance: Distance = "cosine",
        normalize: bool = False,
        block_rows: int | None = None,
    ):
        super().__init__(distance=distance, normalize=normalize, block_rows=block_rows)
        check_choice(mining, "mining", Mining)
        if average is not None:
            check_choice(average, "average", Average)
        self.thresholds = [float(threshold) for threshold in thresholds]
        levels = len(self.thresholds)
        if not levels or len(set(self.thresholds)) < levels:
            raise ArgumentError(f"thresholds must be one or more different numbers; got {list(thresholds)}.")
        self.margins = (
            [float(m) for m in margin] if isinstance(margin, Sequence) else [float(margin)] * levels
        )
        self.weights = [1.0] * levels if weights is None else [float(w) for w in weights]
        for name, values in (("margin", self.margins), ("weights", self.weights)):
            if len(values) != levels:
                raise ArgumentError(
                    f"{name} must have {levels} numbers, one per threshold; got {len(values)}."
                )
        if min(self.margins) < 0:
            raise ArgumentError(f"margin must be at least 0; got {min(self.margins)}.")
        if min(self.weights) <= 0:
            raise ArgumentError(f"weights must be above 0; got {min(self.weights)}.")
        self.mining = mining
        self.average = average or ("active" if mining == "all" else "candidates")

    def block(self, block: Block) -> Terms:
        found = [self._rung(block, *rung) for rung in zip(self.thresholds, self.margins, strict=True)]
        value, active, every = (torch.stack(part, 1) for part in zip(*found, strict=True))
        value = value * value.new_tensor(self.weights)
        return Terms(value, active if self.average == "active" else every, active.sum(1), every.sum(1))

    def _rung(self, block: Block, threshold: float, margin: float) -> tuple[Tensor, Tensor, Tensor]:
        """Sum of the losses across one threshold, pairs with a loss, and pairs, each (b,)."""

        def formula(
            D: Tensor, positive: Tensor, negative: Tensor, relevance: Tensor | None = None
        ) -> tuple[Tensor, ...]:
            candidates = positive | negative
            above = (positive if relevance is None else relevance) > threshold
            above, below = above & candidates, candidates & ~above
            if self.mining == "hard":
                loss, active, every, G = _hardest(D, above, below, margin)
            else:
                G, active = hinge_counts(D, above, below, margin, "all")
                loss = torch.add((G * D).sum(1), active, alpha=margin)
                every = row_counts(above).long() * row_counts(below)
            return loss, active, every, G

        graded = [] if block.relevance is None else [block.relevance]
        loss, active, every, G = by_rows(block.D, formula, block.positive, block.negative, *graded)
        return with_gradient(block.D, loss, G), active, every

    def extra_repr(self) -> str:
        return f"thresholds={self.thresholds}, margin={self.margins}, {super().extra_repr()}"


def _hardest(D: Tensor, above: Tensor, below: Tensor, margin: float) -> tuple[Tensor, ...]:
    """Of each anchor the least similar above against the most similar below: loss, whether it acts, whether there is
    such a pair, each (b,), and the derivative (b, m)."""
    picks = mine.hardest(D, above, below)
    valid = picks.valid
    loss = (D.gather(1, picks.positives) - D.gather(1, picks.negatives) + margin).clamp(min=0) * valid
    active = loss > 0
    slope = active.to(D.dtype)
    G = torch.zeros_like(D).scatter_add_(1, picks.positives, slope).scatter_add_(1, picks.negatives, -slope)
    return loss[:, 0], active[:, 0].long(), valid[:, 0].long(), G
