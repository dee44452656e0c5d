"""The angular loss: the angle at the negative, for all triplets at once."""

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.utils.checkpoint import checkpoint

from ..errors import ArgumentError
from .pairwise import Block, PairwiseLoss, Terms
from .rowwise import class_groups

__all__ = ["AngularLoss"]

_LARGEST = 1.2  # radians; beyond, the exponentials of tan² leave float32
_GROUP = 128  # anchors that look at each other's positives together


class AngularLoss(PairwiseLoss):
    """Angular loss: the triangle of anchor, positive and negative shall have a small angle at the negative.

    Mean over the positive pairs of log(1 + Σ_n exp(4 t (a + p)ᵀn − 2 (1 + t) aᵀp)), t = tan²α, unit vectors.
    It is exact without a list of triplets: Σ_n exp(4t aᵀn)·exp(4t pᵀn) is a product of two matrices, taken over
    classmates only.

    Wang, Zhou, Wen, Liu & Lin, "Deep metric learning with angular loss", ICCV 2017. Differs from
    pytorch-metric-learning in the unit of the angle (radians, not degrees) and in that negatives are normalised too;
    on embeddings that are normalised already the values are equal.

    Args:
        angle: α above 0 and up to 1.2 (69°), in radians.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: `angle` is out of range.

    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> round(AngularLoss()(x, torch.tensor([0, 0, 1])).item(), 4)  # log(1 + e^(0 − 4))
    0.0181
    """

    name: ClassVar[str] = "angular"
    formula: ClassVar[str] = (
        "mean over positive pairs of log(1 + Σ_n exp(4t (a + p)ᵀn − 2 (1 + t) aᵀp)), t = tan²α"
    )
    paper: ClassVar[str] = "Wang, Zhou, Wen, Liu & Lin, Deep metric learning with angular loss, ICCV 2017"
    cost: ClassVar[str] = "n m p"
    per_anchor: ClassVar[bool] = True

    def __init__(self, angle: float = math.pi / 4, *, block_rows: int | None = None):
        super().__init__(distance="cosine", normalize=True, block_rows=block_rows)
        if not 0 < angle <= _LARGEST:
            raise ArgumentError(f"angle must be above 0 and up to {_LARGEST}, in radians; got {angle}.")
        self.angle = angle

    def block(self, block: Block) -> Terms:
        b, m = block.D.shape
        # Of a block as little as can be is held at a time; of a whole batch as little as can be is done twice.
        least = _GROUP // 2 if b == m else _GROUP // 4
        size = min(_GROUP, max(least, b * least // 256), max(1, b))
        groups = list(class_groups(block.labels, block.positive, size))
        order = torch.cat([group.rows for group in groups])
        masks = (
            block.positive.index_select(0, order).split(size),
            block.negative.index_select(0, order).split(size),
        )
        crowded = sum(len(group.columns) for group in groups) > 2 * len(block.D)
        parts = [
            checkpoint(self._terms, *inputs, use_reentrant=False, preserve_rng_state=False)
            if crowded
            else self._terms(*inputs)
            for inputs in (
                (D, block.y, group.columns, *both)
                for group, D, *both in zip(
                    groups, block.D.index_select(0, order).split(size), *masks, strict=True
                )
            )
        ]
        terms = torch.cat(parts)
        back = order.argsort()
        weight = block.positives * (block.negatives > 0)
        active = weight * (terms.detach() > 0)[back]
        return Terms(terms[back][:, None], weight[:, None], active, weight)

    def _terms(self, D: Tensor, y: Tensor, columns: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Σ over the positives of each anchor of a group, (r,)."""
        t = math.tan(self.angle) ** 2
        kin = y.index_select(0, columns)
        from_anchor = torch.where(negative, D, torch.inf).mul_(-4 * t).exp_()
        from_positive = (kin @ y.T).sub_(1.0).mul_(4 * t).exp_()
        both = (from_anchor @ from_positive.T).clamp(min=torch.finfo(D.dtype).tiny)
        cosine = 1.0 - D.index_select(1, columns)
        return (softplus(both.log() + 8 * t - 2 * (1 + t) * cosine) * positive.index_select(1, columns)).sum(
            1
        )

    def extra_repr(self) -> str:
        return f"angle={self.angle}"
