"""The margin loss: pairs against a learned boundary."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ..distances import Distance
from ..errors import ArgumentError
from ..relations import Pairs, Triplets
from . import mining as mine
from .loss import check_choice
from .pairwise import Block, PairwiseLoss, Seen, Terms
from .rowwise import attached, by_rows, positive_pairs

__all__ = ["MarginLoss"]

Mining = Literal["distance_weighted", "all"]


class MarginLoss(PairwiseLoss):
    """Margin loss: positives within a boundary β, negatives beyond it, both by a margin; β is learned.

    Sum of [D(a,p) − β + m]₊ + [β − D(a,n) + m]₊ over triplets, divided by the number of its parts that are not zero,
    plus ν times the mean β of the anchors.

    | mining | triplets |
    |---|---|
    | `distance_weighted` | `triplets` for each a: random p, n with probability ∝ 1/q(D(a,n)) |
    | `all` | every (a, p, n): a positive counts as often as there are negatives, and the other way round |

    q is the density of distances between random points on the sphere, see `TripletLoss`.

    Wu, Manmatha, Smola & Krähenbühl, "Sampling matters in deep embedding learning", ICCV 2017. With `mining="all"` the
    value of pytorch-metric-learning.

    Args:
        margin: m ≥ 0, in units of the distance.
        beta: β at the beginning.
        learnable: Learn β; give it a smaller learning rate if it runs away.
        beta_per_class: A β for each class; then labels must be class numbers.
        num_classes: Number of classes, needed with `beta_per_class`; `create` and `fit` fill it in.
        regularization: ν, the pull on β.
        mining: See the table.
        triplets: Triplets an anchor for `distance_weighted`.
        seed: Seed for `distance_weighted`. Each training step draws anew; the step is saved in the state.
        distance: A name from `kyori.distances`.
        normalize: Put embeddings on the unit sphere first.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: An option is out of range, or `beta_per_class` without `num_classes`.

    >>> loss = MarginLoss(margin=0.0, beta=1.0, mining="all", normalize=False)
    >>> x = torch.tensor([[0.0], [1.5], [2.0]])
    >>> round(loss(x, torch.tensor([0, 0, 1])).item(), 4)  # 1.5 − 1 twice, 1 − .5 once
    0.5
    """

    name: ClassVar[str] = "margin"
    formula: ClassVar[str] = "mean of the non-zero [D(a,p) − β + m]₊ and [β − D(a,n) + m]₊"
    paper: ClassVar[str] = (
        "Wu, Manmatha, Smola & Krähenbühl, Sampling matters in deep embedding learning, ICCV 2017"
    )
    cost: ClassVar[str] = "n m"
    per_anchor: ClassVar[bool] = True

    def __init__(
        self,
        margin: float = 0.2,
        beta: float = 1.2,
        *,
        learnable: bool = True,
        beta_per_class: bool = False,
        num_classes: int | None = None,
        regularization: float = 0.0,
        mining: Mining = "distance_weighted",
        triplets: int = 4,
        seed: int = 0,
        distance: Distance = "euclidean",
        normalize: bool = True,
        block_rows: int | None = None,
    ):
        super().__init__(distance=distance, normalize=normalize, block_rows=block_rows)
        check_choice(mining, "mining", Mining)
        if margin < 0:
            raise ArgumentError(f"margin must be at least 0; got {margin}.")
        if triplets < 1:
            raise ArgumentError(f"triplets must be at least 1; got {triplets}.")
        if beta_per_class and num_classes is None:
            raise ArgumentError("beta_per_class needs num_classes, a β for each class; got num_classes=None.")
        if mining == "distance_weighted":
            mine.check_on_sphere(distance, normalize)
        self.margin = margin
        self.beta_per_class = beta_per_class
        self.regularization = regularization
        self.mining = mining
        start = (
            torch.full((num_classes,), float(beta))
            if beta_per_class and num_classes
            else torch.tensor(float(beta))
        )
        self.beta = nn.Parameter(start, requires_grad=learnable)
        self.draw = mine.Draw(triplets, seed) if mining == "distance_weighted" else None

    def begin(self, n: int, device: torch.device) -> Tensor | None:
        return None if self.draw is None else self.draw.begin(n, device)

    def look_at_list(self, x: Tensor, listed: Pairs | Triplets) -> list[Seen] | None:
        """Explicit triplets and pairs as masks."""

    def block(self, block: Block) -> Terms:
        beta = self._boundary(block)
        D = block.D
        if block.chance is not None:
            picks = mine.distance_weighted(
                D, block.positive, block.negative, block.chance, self.distance, block.x.shape[1]
            )
            pull = (D.gather(1, picks.positives) - beta + self.margin).clamp(min=0) * picks.valid
            push = (beta - D.gather(1, picks.negatives) + self.margin).clamp(min=0) * picks.valid
            pulled, pushed = (pull > 0).sum(1), (push > 0).sum(1)
            sums, candidates = pull.sum(1) + push.sum(1), 2 * picks.valid.sum(1)
        else:
            sums, pulled, pushed, candidates = self._every(block, beta)
        usable = ((block.positives > 0) & (block.negatives > 0)).to(D.dtype)
        pull_on_beta = self.regularization * beta.squeeze(-1) * usable
        active = pulled + pushed
        values = torch.stack([sums, pull_on_beta.expand_as(sums)], 1)
        return Terms(values, torch.stack([active.to(D.dtype), usable], 1), active, candidates)

    def _every(self, block: Block, beta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Every triplet: each positive as often as there are negatives, and the other way round."""

        def formula(D: Tensor, negative: Tensor, reach: Tensor) -> tuple[Tensor, ...]:
            acting = (negative & (reach > D)).to(D.dtype)
            return ((reach - D) * acting).sum(1), acting.sum(1), -acting

        D, b = block.D, len(block.D)
        positives, negatives = block.positives.long(), block.negatives.long()
        beta = beta.expand(b, 1)
        push, pushed, gradient = by_rows(D, formula, block.negative, beta.detach() + self.margin)
        pairs, push = attached(D, positive_pairs(D.detach(), block.positive), push, gradient)
        push = push + pushed * (beta - beta.detach())[:, 0]
        pull = (pairs.distances - beta[:, 0].index_select(0, pairs.anchors) + self.margin).clamp(min=0)
        pulled = pairs.sum((pull.detach() > 0).to(D.dtype), b)
        sums = pairs.sum(pull, b) * negatives + push * positives
        return sums, pulled * negatives, pushed * positives, 2 * positives * negatives

    def _boundary(self, block: Block) -> Tensor:
        """β of each anchor, (b, 1), or the one of all, ()."""
        beta = self.beta.to(block.D.dtype)
        if not self.beta_per_class:
            return beta
        if block.labels is None:
            raise ArgumentError(
                "beta_per_class needs a class label for each item; got label sets, pairs or none."
            )
        low, high = int(block.labels.min()), int(block.labels.max())
        if low < 0 or high >= len(beta):
            raise ArgumentError(
                f"labels must be class numbers 0 to {len(beta) - 1} (num_classes={len(beta)}); got {low} to {high}."
            )
        return beta.index_select(0, block.labels)[:, None]

    def extra_repr(self) -> str:
        return f"margin={self.margin}, mining={self.mining!r}, {super().extra_repr()}"
