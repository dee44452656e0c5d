"""The triplet loss, over triplets chosen in nine ways."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..distances import Distance, pairwise_distance, row_distance
from ..errors import ArgumentError
from ..relations import Pairs, Triplets
from . import mining as mine
from .counting import hinge_counts
from .loss import check_choice
from .pairwise import Block, PairwiseLoss, Rows, Seen, Terms, seen
from .rowwise import class_groups

__all__ = ["TripletLoss"]

Mining = Literal[
    "all",
    "hard",
    "semihard",
    "facenet",
    "batch_hard",
    "easy_positive",
    "batch",
    "distance_weighted",
    "random",
]
Average = Literal["active", "candidates"]
_BATCH: dict[str, tuple[mine.Strategy, mine.Strategy]] = {
    "batch_hard": ("hard", "hard"),
    "easy_positive": ("easy", "semihard"),
    "batch": ("hard", "hard"),
}
_DRAWN = ("random", "distance_weighted")
_FEW_GROUPS = 8  # up to which rows of the whole matrix are cheaper than distances computed anew
_GROUP = 128  # anchors whose positives are looked up together with `swap`


class TripletLoss(PairwiseLoss):
    """Triplet loss: a positive shall be closer than a negative by a margin, [D(a,p) − D(a,n) + m]₊.

    | mining | triplets | averaged over |
    |---|---|---|
    | `all` | every (a, p, n) | those with a loss |
    | `hard` | D(a,n) ≤ D(a,p) | those with a loss |
    | `semihard` | D(a,p) < D(a,n) < D(a,p) + m | those with a loss |
    | `facenet` | for each (a, p) the closest n with D(a,n) > D(a,p), else the farthest n | every (a, p) |
    | `batch_hard` | for each a the farthest p and the closest n | every a that has both |
    | `easy_positive` | for each a the closest p and the closest n with D(a,n) > D(a,p) | every a that has both |
    | `batch` | for each a one p and one n by `positives` and `negatives`, below | every a that has both |
    | `distance_weighted` | `triplets` for each a: random p, n with probability ∝ 1/q(D(a,n)) | those with a loss |
    | `random` | `triplets` random ones for each a | those with a loss |

    | | `hard` | `semihard` | `easy` |
    |---|---|---|---|
    | `positives` | the farthest | the farthest that is closer than the negative | the closest |
    | `negatives` | the closest | the closest that is farther than the positive | the farthest |

    q is the density of distances between random points on the unit sphere; negatives closer than 0.5 weigh as if at
    0.5, those beyond 1.4 are drawn only if there are no others.

    With `swap`, the negative's distance to the nearer of anchor and positive counts, min(D(a,n), D(p,n)); triplets are
    chosen by D(a,n) as without. With references p and n are both references (pytorch-metric-learning looks p up among
    the anchors there).

    The sums are exact and cost O(n² log p) time and O(n²) memory; no list of triplets is built. Only
    `soft=True` and `swap=True` with `all`, `hard` or `semihard` cost O(n² p) time.

    Schroff, Kalenichenko & Philbin, "FaceNet", CVPR 2015 (with `distance="squared_euclidean"`,
    `mining="facenet"`); Hermans, Beyer & Leibe, "In defense of the triplet loss", 2017
    (`batch_hard`, `soft`); Wu, Manmatha, Smola & Krähenbühl, "Sampling matters in deep embedding learning", ICCV 2017
    (`distance_weighted`); Xuan, Stylianou & Pless, "Improved embeddings with easy positive triplet mining", WACV 2020
    (`easy_positive`); Balntas et al., "Learning local feature descriptors with triplets", BMVC 2016 (`swap`).

    Args:
        margin: m ≥ 0, in units of the distance.
        mining: See the table.
        soft: Use softplus(D(a,p) − D(a,n)) in place of the hinge: every triplet has a loss, and the margin only
            bounds `semihard`.
        average: "active" or "candidates" (every triplet the table's second column draws from, with a loss or
            without) in place of the table's last column.
        swap: Use min(D(a,n), D(p,n)) in place of D(a,n).
        positives: "hard" (default), "semihard" or "easy", for `batch` only.
        negatives: The same.
        triplets: Triplets an anchor for `random` and `distance_weighted`.
        seed: Seed for these two. Each training step draws anew; the step is saved in the state.
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
        swap: bool = False,
        positives: mine.Strategy | None = None,
        negatives: mine.Strategy | None = None,
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
        if mining == "distance_weighted":
            mine.check_on_sphere(distance, normalize)
        self.margin = margin
        self.mining = mining
        self.soft = soft
        self.average = average or ("candidates" if mining == "facenet" or mining in _BATCH else "active")
        self.swap = swap
        self.strategies = _strategies(mining, positives, negatives)
        self.draw = mine.Draw(triplets, seed) if mining in _DRAWN else None

    def begin(self, n: int, device: torch.device) -> Tensor | None:
        return None if self.draw is None else self.draw.begin(n, device)

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
        gap_to_positive = row_distance(positives, negatives, self.distance)[:, None] if self.swap else None
        near = D[:, 1:] if gap_to_positive is None else torch.minimum(D[:, 1:], gap_to_positive)
        return [seen(block, self._hinges(D[:, :1], near, first[:, :1]))]

    def look(self, rows: Rows) -> list[Seen]:
        if not self.swap:
            return super().look(rows)
        own = rows.single and rows.y is rows.x  # distances among the references are those of the anchors
        return rows.each(lambda block: seen(block, self._block(block, block.D if own else None)))

    def block(self, block: Block) -> Terms:
        return self._block(block, None)

    def _block(self, block: Block, among: Tensor | None) -> Terms:
        D, positive, negative = block.D, block.positive, block.negative
        if self.mining not in ("all", "hard", "semihard"):
            return self._picked(block, self._picks(block))
        every = block.positives.long() * block.negatives
        if self.swap:
            return self._terms(*self._swapped(block, among), every)
        if self.soft:
            value, triplets = mine.soft_sums(D, positive, negative, self.margin, self.mining)
            return self._terms(value, triplets, every)
        G, active = hinge_counts(D, positive, negative, self.margin, self.mining)
        return self._terms(torch.add((G * D).sum(1), active, alpha=self.margin), active, every)

    def _picks(self, block: Block) -> mine.Picks:
        D, positive, negative = block.D, block.positive, block.negative
        if self.mining == "facenet":
            return mine.facenet(D, positive, negative)
        if self.strategies is not None:
            return mine.batch_picks(D, positive, negative, *self.strategies)
        chance = block.chance
        assert chance is not None
        if self.mining == "random":
            return mine.random_picks(positive, negative, chance)
        return mine.distance_weighted(D, positive, negative, chance, self.distance, block.x.shape[1])

    def _picked(self, block: Block, picks: mine.Picks) -> Terms:
        near = block.D.gather(1, picks.negatives)
        if self.swap:
            p, n = (block.y.index_select(0, pick.flatten()) for pick in (picks.positives, picks.negatives))
            near = torch.minimum(near, row_distance(p, n, self.distance).view_as(near))
        return self._hinges(block.D.gather(1, picks.positives), near, picks.valid)

    def _hinges(self, far: Tensor, near: Tensor, valid: Tensor) -> Terms:
        loss = self._loss(far - near)
        active = ((loss > 0) & valid).sum(1)
        return self._terms((loss * valid).sum(1), active, valid.sum(1))

    def _loss(self, gap: Tensor) -> Tensor:
        return torch.nn.functional.softplus(gap) if self.soft else (gap + self.margin).clamp(min=0)

    def _swapped(self, block: Block, among: Tensor | None) -> tuple[Tensor, Tensor]:
        """Sum and number of the chosen triplets of each anchor, (b,), positive pair by positive pair."""
        groups = list(class_groups(block.labels, block.positive, _GROUP))
        if len(groups) > _FEW_GROUPS:
            among = None
        order = torch.cat([group.rows for group in groups])
        tables = (block.D, block.positive, block.negative)
        parts = []
        for group, D, positive, negative in zip(
            groups, *(table.index_select(0, order).split(_GROUP) for table in tables), strict=True
        ):
            columns = group.columns
            between = (
                pairwise_distance(block.y.index_select(0, columns), block.y, self.distance)
                if among is None
                else among.index_select(0, columns)
            )
            margin = None if self.soft else self.margin
            choice = (self.mining, self.margin)
            parts.append(mine.swap_sums(D, between, columns, positive, negative, margin, choice))
        value, count = (torch.cat(part).index_select(0, order.argsort()) for part in zip(*parts, strict=True))
        return value, count

    def _terms(self, value: Tensor, active: Tensor, candidates: Tensor) -> Terms:
        weight = active if self.average == "active" else candidates
        return Terms(value[:, None], weight[:, None], active, candidates)

    def extra_repr(self) -> str:
        return f"margin={self.margin}, mining={self.mining!r}, soft={self.soft}, {super().extra_repr()}"


def _strategies(
    mining: Mining, positives: mine.Strategy | None, negatives: mine.Strategy | None
) -> tuple[mine.Strategy, mine.Strategy] | None:
    """How positive and negative of an anchor are chosen, where there is one of each."""
    if mining != "batch":
        if positives is not None or negatives is not None:
            raise ArgumentError(
                f"positives and negatives go with mining='batch'; got mining={mining!r}. "
                "Choose 'batch', or leave them out."
            )
        return _BATCH.get(mining)
    chosen = positives or "hard", negatives or "hard"
    for value, name in zip(chosen, ("positives", "negatives"), strict=True):
        check_choice(value, name, mine.Strategy)
    if chosen == ("semihard", "semihard"):
        raise ArgumentError(
            "positives and negatives cannot both be 'semihard': each would wait for the other."
        )
    return chosen
