"""Neighbourhood components analysis as a loss: each item finds its class among soft neighbours."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..distances import Distance
from .loss import check_positive
from .pairwise import PairwiseLoss, Terms
from .rowwise import attached, known_log_sum, pair_log_sum_exp, positive_pairs

__all__ = ["NCALoss"]


class NCALoss(PairwiseLoss):
    """NCA: −log of the probability that an item's soft neighbour is of its class.

    The neighbour of a is j ≠ a with probability e^{−sD(a,j)} / Σ_k e^{−sD(a,k)}. Items without a positive do not
    count; those without a negative have a loss of 0.

    Goldberger, Roweis, Hinton & Salakhutdinov, "Neighbourhood components analysis", NeurIPS 2004, in the form that
    maximises the sum of the logarithms. Differs from pytorch-metric-learning, which leaves out the items whose
    probability underflows to 0; those have the largest loss.

    Args:
        scale: s > 0.
        distance: A name from `kyori.distances`.
        normalize: Put embeddings on the unit sphere first.
        block_rows: See `PairwiseLoss`.

    >>> loss = NCALoss(normalize=False)
    >>> loss(torch.tensor([[0.0], [0.0], [99.0], [99.0]]), torch.tensor([0, 0, 1, 1]))
    tensor(0.)
    """

    name: ClassVar[str] = "nca"
    formula: ClassVar[str] = "−log Σ_{p} e^{−sD(a,p)} / Σ_{j≠a} e^{−sD(a,j)}"
    paper: ClassVar[str] = (
        "Goldberger, Roweis, Hinton & Salakhutdinov, Neighbourhood components analysis, NeurIPS 2004"
    )
    cost: ClassVar[str] = "n m"
    per_anchor: ClassVar[bool] = True

    def __init__(
        self,
        scale: float = 1.0,
        *,
        distance: Distance = "squared_euclidean",
        normalize: bool = True,
        block_rows: int | None = None,
    ):
        super().__init__(distance=distance, normalize=normalize, block_rows=block_rows)
        check_positive(scale, "scale")
        self.scale = scale

    def row(self, D: Tensor, positive: Tensor, negative: Tensor) -> Terms:
        pairs = positive_pairs(D.detach(), positive)
        pairs, far = attached(D, pairs, *known_log_sum(D, negative, -self.scale))
        near = pair_log_sum_exp(pairs, -self.scale * pairs.distances, len(D))
        usable = near > -torch.inf
        value = softplus(far - near.masked_fill(~usable, 0.0)).masked_fill(~usable, 0.0)[:, None]
        weight = usable.to(D.dtype)[:, None]
        active = (value.detach() > torch.finfo(D.dtype).eps).to(
            D.dtype
        )  # wrong neighbours are more than rounding
        return Terms(value, weight, active.sum(1), weight[:, 0])
