"""Losses of single pairs."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..distances import Distance
from ..errors import ArgumentError
from .loss import check_choice
from .pairwise import PairwiseLoss, Terms

__all__ = ["ContrastiveLoss"]

Convention = Literal["hadsell", "keras", "unsquared"]


class ContrastiveLoss(PairwiseLoss):
    """Contrastive loss: a spring pulls equals together, another pushes the different apart up to a margin.

    With y = 1 for the same class, distance D, margin m and positive margin m₊ (0 in the paper):

    | convention | loss |
    |---|---|
    | `hadsell` | mean over pairs of ½·y·[D − m₊]₊² + ½·(1−y)·[m − D]₊² |
    | `keras` | the same without the ½ |
    | `unsquared` | mean of the non-zero y·[D − m₊]₊ plus mean of the non-zero (1−y)·[m − D]₊ |

    Hadsell, Chopra & LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR 2006.
    `unsquared` with `normalize=True` is the loss of pytorch-metric-learning, except that a single positive or
    negative pair counts.

    Args:
        margin: Distance at which different items stop pushing each other.
        positive_margin: Distance below which equal items stop pulling each other.
        convention: See the table.
        distance: A name from `kyori.distances`.
        normalize: Put embeddings on the unit sphere first; the paper works on the raw output.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: Unknown convention or distance, or `positive_margin` above `margin`.

    >>> loss = ContrastiveLoss(margin=1.0)
    >>> x = torch.tensor([[0.0], [0.2], [0.7]])
    >>> round(loss(x, torch.tensor([0, 0, 1])).item(), 4)  # (½·.2² + ½·.3² + ½·.5²) / 3
    0.0633
    """

    name: ClassVar[str] = "contrastive"
    formula: ClassVar[str] = "mean over pairs of ½·y·[D − m₊]₊² + ½·(1−y)·[m − D]₊²"
    paper: ClassVar[str] = (
        "Hadsell, Chopra & LeCun, Dimensionality reduction by learning an invariant mapping, CVPR 2006"
    )
    cost: ClassVar[str] = "n m"

    def __init__(
        self,
        margin: float = 1.0,
        *,
        positive_margin: float = 0.0,
        convention: Convention = "hadsell",
        distance: Distance = "euclidean",
        normalize: bool = False,
        block_rows: int | None = None,
    ):
        super().__init__(distance=distance, normalize=normalize, block_rows=block_rows)
        check_choice(convention, "convention", Convention)
        if positive_margin > margin:
            raise ArgumentError(
                "positive_margin must not exceed margin; "
                f"got positive_margin {positive_margin} and margin {margin}."
            )
        self.margin = margin
        self.positive_margin = positive_margin
        self.convention = convention

    def row(self, D: Tensor, positive: Tensor, negative: Tensor) -> Terms:
        pull = (D - self.positive_margin).clamp(min=0) * positive
        push = (self.margin - D).clamp(min=0) * negative
        acting = torch.stack([(pull > 0).sum(1), (push > 0).sum(1)], 1)
        pairs = (positive | negative).sum(1)
        if self.convention == "unsquared":
            return Terms(torch.stack([pull.sum(1), push.sum(1)], 1), acting, acting.sum(1), pairs)
        factor = 0.5 if self.convention == "hadsell" else 1.0
        energy = factor * (pull.square().sum(1) + push.square().sum(1))
        return Terms(energy[:, None], pairs[:, None], acting.sum(1), pairs)

    def extra_repr(self) -> str:
        return f"margin={self.margin}, convention={self.convention!r}, {super().extra_repr()}"
