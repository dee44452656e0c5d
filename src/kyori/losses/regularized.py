"""The classification losses with a second term: on the spread within classes, or on that of the class vectors."""

from typing import ClassVar, Unpack

import torch
from torch import Tensor

from ..errors import ArgumentError
from .classes import Classes
from .heads import CosFaceLoss, SoftmaxLoss
from .softmax import CosineOptions, SoftmaxOptions

__all__ = ["CenterLoss", "UniformFaceLoss"]


class CenterLoss(SoftmaxLoss):
    """Center loss: softmax plus (λ/2)‖x − c_y‖², which draws items to the centre of their class.

    The centres are buffers, zero at first. Each training step moves those of the batch's classes after its loss is
    computed: c_j += α Σ_{i: y_i=j} (x_i − c_j) / (1 + number of them).

    Wen, Zhang, Li & Qiao, "A discriminative feature learning approach for deep face recognition", ECCV 2016.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        strength: λ ≥ 0.
        rate: α of the centres, from 0 to 1.
        bias: Whether the softmax's logits have a bias.
        **shared: See `SoftmaxFamilyLoss`.

    Attributes:
        centers: (c, d).

    >>> CenterLoss(num_classes=10, embedding_size=64).centers.shape
    torch.Size([10, 64])
    """

    name: ClassVar[str] = "center"
    formula: ClassVar[str] = "cross-entropy of Wx + b, plus (λ/2)‖x − c_y‖²"
    paper: ClassVar[str] = (
        "Wen, Zhang, Li & Qiao, A discriminative feature learning approach for deep face recognition, ECCV 2016"
    )

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        strength: float = 0.003,
        rate: float = 0.5,
        *,
        bias: bool = True,
        **shared: Unpack[SoftmaxOptions],
    ):
        super().__init__(num_classes, embedding_size, bias=bias, **shared)
        _check_strength(strength)
        if not 0 <= rate <= 1:
            raise ArgumentError(f"rate must be from 0 to 1; got {rate}.")
        self.strength, self.rate = strength, rate
        self.centers: Tensor
        self.register_buffer("centers", torch.zeros(num_classes, embedding_size))

    def values(self, x: Tensor, classes: Classes) -> Tensor:
        centers = self.centers[classes.numbers].to(x.dtype)
        pull = 0.5 * (x - centers).square().sum(1)
        if self.training:
            self._follow(x.detach(), classes.numbers)
        return super().values(x, classes) + self.strength * pull

    @torch.no_grad()
    def _follow(self, x: Tensor, labels: Tensor) -> None:
        present, places, counts = labels.unique(return_inverse=True, return_counts=True)
        old = self.centers[present].to(x.dtype)
        sums = torch.zeros_like(old).index_add_(0, places, x)
        move = (sums - counts[:, None] * old) / (1.0 + counts[:, None])
        self.centers[present] = (old + self.rate * move).to(self.centers.dtype)


class UniformFaceLoss(CosFaceLoss):
    """UniformFace: CosFace plus a force that spreads the class vectors evenly over the sphere.

    Added is λ times the mean of 1/(1 + ‖w_i − w_j‖) over the batch's classes i and all other classes j, on vectors
    of length 1. Each step looks at the batch's classes alone, as the authors do where classes are many.

    Duan, Lu & Zhou, "UniformFace: learning deep equidistributed representation for face recognition", CVPR 2019.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        margin: CosFace's m ≥ 0, in cosine.
        scale: s > 0.
        strength: λ ≥ 0.
        **shared: See `CosineLoss`.

    >>> UniformFaceLoss(num_classes=10, embedding_size=64).strength
    1.0
    """

    name: ClassVar[str] = "uniformface"
    formula: ClassVar[str] = "CosFace plus λ · mean over classes i ≠ j of 1/(1 + ‖w_i − w_j‖)"
    paper: ClassVar[str] = (
        "Duan, Lu & Zhou, UniformFace: learning deep equidistributed representation for face recognition, CVPR 2019"
    )

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float = 0.35,
        scale: float = 64.0,
        *,
        strength: float = 1.0,
        **shared: Unpack[CosineOptions],
    ):
        super().__init__(num_classes, embedding_size, margin, scale, **shared)
        _check_strength(strength)
        self.strength = strength

    def values(self, x: Tensor, classes: Classes) -> Tensor:
        return super().values(x, classes) + self.strength * self.crowding(classes)

    def crowding(self, classes: Classes) -> Tensor:
        """The regulariser, a scalar."""
        present = classes.labels.unique()
        between = classes._replace(labels=present, numbers=present, bias=None)
        look = between.look(between.vectors(present), fold=_closeness, log=False)
        assert look.total is not None
        return look.total.mean() / max(1, classes.number - 1)


def _closeness(cosine: Tensor) -> Tensor:
    """Σ_j 1/(1 + ‖w_i − w_j‖) (n,) from cosines; 0 where there is no other class."""
    tiny = torch.finfo(cosine.dtype).eps  # equal vectors push with no gradient instead of an infinite one
    return (1.0 / (1.0 + (2.0 - 2.0 * cosine).clamp(min=tiny).sqrt())).sum(1)


def _check_strength(strength: float) -> None:
    if strength < 0:
        raise ArgumentError(f"strength must be at least 0; got {strength}.")
