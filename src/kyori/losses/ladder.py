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
from .rowwise import row_counts

__all__ = ["LadderLoss"]

Mining = Literal["all", "hard"]
Average = Literal["active", "candidates"]

_NUMBERS = (
    2**18
)  # distances whose triplets are counted at a time; where most are relevant it takes 16 times as many


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
        relevance = block.positive.to(block.D.dtype) if block.relevance is None else block.relevance
        candidates = block.positive | block.negative
        rungs = zip(self.thresholds, self.margins, strict=True)
        found = [self._rung(block.D, (relevance > t) & candidates, candidates, m) for t, m in rungs]
        value, active, every = (torch.stack(part, 1) for part in zip(*found, strict=True))
        value = value * value.new_tensor(self.weights)
        return Terms(value, active if self.average == "active" else every, active.sum(1), every.sum(1))

    def _rung(
        self, D: Tensor, above: Tensor, candidates: Tensor, margin: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sum of the losses across one threshold, pairs with a loss, and pairs, each (b,)."""
        below = candidates & ~above
        if self.mining == "hard":
            picks = mine.hardest(D, above, below)
            gap = (D.gather(1, picks.positives) - D.gather(1, picks.negatives))[:, 0]
            valid = picks.valid[:, 0]
            loss = (gap + margin).clamp(min=0) * valid
            return loss, (loss > 0).long(), valid.long()
        G, active = _counts(D, above, below, margin)
        return (G * D).sum(1) + margin * active, active, row_counts(above).long() * row_counts(below)

    def extra_repr(self) -> str:
        return f"thresholds={self.thresholds}, margin={self.margins}, {super().extra_repr()}"


def _counts(D: Tensor, above: Tensor, below: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """`hinge_counts`, some rows at a time: where half of all is relevant, its tables are wider than D."""
    rows = max(1, _NUMBERS // max(1, D.shape[1]))
    parts = [slice(start, start + rows) for start in range(0, len(D), rows)]
    found = [hinge_counts(D[part], above[part], below[part], margin, "all") for part in parts]
    if len(found) == 1:
        return found[0]
    return torch.cat([G for G, _ in found]), torch.cat([active for _, active in found])
