"""The triplet loss, over triplets chosen in six ways."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..distances import Distance, row_distance
from ..errors import ArgumentError
from ..relations import Pairs, Triplets
from . import mining as mine
from .loss import check_choice
from .pairwise import Block, PairwiseLoss, Seen, Terms, seen

__all__ = ["TripletLoss"]

Mining = Literal["all", "hard", "semihard", "facenet", "batch_hard", "random"]
Average = Literal["active", "candidates"]


class TripletLoss(PairwiseLoss):
    """Triplet loss: a positive shall be closer than a negative by a margin, [D(a,p) − D(a,n) + m]₊.

    | mining | triplets | averaged over |
    |---|---|---|
    | `all` | every (a, p, n) | those with a loss |
    | `hard` | D(a,n) ≤ D(a,p) | those with a loss |
    | `semihard` | D(a,p) < D(a,n) < D(a,p) + m | those with a loss |
    | `facenet` | for each (a, p) the closest n with D(a,n) > D(a,p), else the farthest n | every (a, p) |
    | `batch_hard` | for each a the farthest p and the closest n | every a that has both |
    | `random` | `triplets` random ones for each a | those with a loss |

    The sums are exact and cost O(n² log p) time and O(n²) memory; no list of triplets is built. Only
    `soft=True` with `all`, `hard` or `semihard` costs O(n² p) time.

    Schroff, Kalenichenko & Philbin, "FaceNet", CVPR 2015 (with `distance="squared_euclidean"`,
    `mining="facenet"`); Hermans, Beyer & Leibe, "In defense of the triplet loss", 2017
    (`batch_hard`, `soft`).

    Args:
        margin: m ≥ 0, in units of the distance.
        mining: See the table.
        soft: Use softplus(D(a,p) − D(a,n)) in place of the hinge: every triplet has a loss, and the margin only
            bounds `semihard`.
        average: "active" or "candidates" (every triplet the table's second column draws from, with a loss or
            without) in place of the table's last column.
        triplets: Triplets an anchor for `random`.
        seed: Seed for `random`. Each training step draws anew; the step is saved in the state.
        distance: A name from `kyori.distances`.
        normalize: Put embeddings on the unit sphere first.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: Unknown option value, negative margin or `triplets` below 1.

    >>> loss = TripletLoss(margin=0.5, mining="all", normalize=False)
    >>> x = torch.tensor([[0.0], [1.0], [1.2]])
    >>> round(loss(x, torch.tensor([0, 0, 1])).item(), 4)  # (1 − 1.2 + .5 and 1 − .2 + .5) / 2
    0.8
    """

    name: ClassVar[str] = "triplet"
    formula: ClassVar[str] = "mean over triplets of [D(a,p) − D(a,n) + m]₊"
    paper: ClassVar[str] = "Schroff, Kalenichenko & Philbin, FaceNet, CVPR 2015"
    cost: ClassVar[str] = "n m log p"
    per_anchor: ClassVar[bool] = True

    def __init__(
        self,
        margin: float = 0.2,
        mining: Mining = "semihard",
        *,
        soft: bool = False,
        average: Average | None = None,
        triplets: int = 4,
        seed: int = 0,
        distance: Distance = "euclidean",
        normalize: bool = True,
        block_rows: int | None = None,
    ):
        super().__init__(distance=distance, normalize=normalize, block_rows=block_rows)
        check_choice(mining, "mining", Mining)
        if average not in (None, "active", "candidates"):
            raise ArgumentError(f"average must be 'active', 'candidates' or None; got {average!r}.")
        if margin < 0:
            raise ArgumentError(f"margin must be at least 0; got {margin}.")
        if triplets < 1:
            raise ArgumentError(f"triplets must be at least 1; got {triplets}.")
        self.margin = margin
        self.mining = mining
        self.soft = soft
        self.average = average or ("candidates" if mining in ("facenet", "batch_hard") else "active")
        self.triplets = triplets
        self.seed = seed
        self.step: Tensor
        self._chance: Tensor
        self.register_buffer("step", torch.zeros((), dtype=torch.long) if mining == "random" else None)

    def begin(self, n: int, device: torch.device) -> None:
        if self.mining != "random":
            return
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + int(self.step))
        self._chance = torch.rand(n, self.triplets, 2, generator=generator).to(device)
        if self.training:
            self.step += 1

    def look_at_list(self, x: Tensor, listed: Pairs | Triplets) -> list[Seen] | None:
        """Explicit triplets one by one, whatever the mining; pairs as masks."""
        if isinstance(listed, Pairs):
            return None
        if not len(listed):
            return []
        anchors, positives, negatives = x[listed.anchors], x[listed.positives], x[listed.negatives]
        columns = [row_distance(anchors, other, self.distance) for other in (positives, negatives)]
        D = torch.stack(columns, 1)
        first = torch.tensor([True, False], device=x.device).expand(len(D), 2)
        block = Block(D, first, ~first, listed.anchors, anchors, positives)
        zero = torch.zeros(len(D), 1, dtype=torch.long, device=x.device)
        return [seen(block, self._picked(D, mine.Picks(zero, zero + 1, first[:, :1])))]

    def block(self, block: Block) -> Terms:
        D, positive, negative = block.D, block.positive, block.negative
        if self.mining == "random":
            return self._picked(D, mine.random_picks(positive, negative, self._chance[block.anchors]))
        if self.mining == "facenet":
            return self._picked(D, mine.facenet(D, positive, negative))
        if self.mining == "batch_hard":
            return self._picked(D, mine.hardest(D, positive, negative))
        every = block.positives.long() * block.negatives
        if self.soft:
            value, triplets = mine.soft_sums(D, positive, negative, self.margin, self.mining)
            return self._terms(value, triplets, every)
        G, active = mine.hinge_counts(D, positive, negative, self.margin, self.mining)
        return self._terms((G * D).sum(1) + self.margin * active, active, every)

    def _picked(self, D: Tensor, picks: mine.Picks) -> Terms:
        gap = D.gather(1, picks.positives) - D.gather(1, picks.negatives)
        loss = torch.nn.functional.softplus(gap) if self.soft else (gap + self.margin).clamp(min=0)
        candidates = picks.valid.sum(1)
        active = ((loss > 0) & picks.valid).sum(1)
        return self._terms((loss * picks.valid).sum(1), active, candidates)

    def _terms(self, value: Tensor, active: Tensor, candidates: Tensor) -> Terms:
        weight = active if self.average == "active" else candidates
        return Terms(value[:, None], weight[:, None], active, candidates)

    def extra_repr(self) -> str:
        return f"margin={self.margin}, mining={self.mining!r}, soft={self.soft}, {super().extra_repr()}"
