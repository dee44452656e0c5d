"""The classification losses with a factor on the angle: SphereFace and the large-margin softmax before it."""

from typing import ClassVar, Unpack

import torch
from torch import Tensor

from ..errors import ArgumentError
from .angles import angle, psi
from .classes import Classes, lengths
from .loss import Reduction, check_positive
from .softmax import SoftmaxFamilyLoss, SoftmaxOptions

__all__ = ["LargeMarginSoftmaxLoss", "SphereFaceLoss"]


class SphereFaceLoss(SoftmaxFamilyLoss):
    """SphereFace: logits ‖x‖ cos θ_j, the target's ‖x‖(λ cos θ_y + ψ(θ_y)) / (1 + λ).

    ψ(θ) = (−1)^k cos(mθ) − 2k on θ in [kπ/m, (k+1)π/m] falls from 1 to 1 − 2m without turning back, which cos(mθ)
    does not. λ starts at 1000, where the loss is almost the plain one, and falls with the training steps t as
    1000 / (1 + 0.12 t) to 5, as the authors trained. The step is a buffer, advanced in training mode only.

    Liu et al., "SphereFace: deep hypersphere embedding for face recognition", CVPR 2017. Differs from
    pytorch-metric-learning, which has no λ: `anneal=False` gives its values.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        margin: m ≥ 1, a factor on the angle; any real number.
        scale: If given, takes the place of ‖x‖ (the scaled form).
        anneal: Whether there is a λ; else it is 0.
        **shared: See `SoftmaxFamilyLoss`.

    >>> loss = SphereFaceLoss(num_classes=10, embedding_size=64)
    >>> loss.annealing.item()
    1000.0
    """

    name: ClassVar[str] = "sphereface"
    formula: ClassVar[str] = "cross-entropy with target ‖x‖(λ cos θ_y + ψ(θ_y))/(1 + λ), others ‖x‖ cos θ_j"
    paper: ClassVar[str] = (
        "Liu et al., SphereFace: deep hypersphere embedding for face recognition, CVPR 2017"
    )
    unit_vectors: ClassVar[bool] = True

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float = 4.0,
        scale: float | None = None,
        *,
        anneal: bool = True,
        **shared: Unpack[SoftmaxOptions],
    ):
        super().__init__(num_classes, embedding_size, **shared)
        if margin < 1:
            raise ArgumentError(f"margin must be at least 1, a factor on the angle; got {margin}.")
        if scale is not None:
            check_positive(scale, "scale")
        self.margin = margin
        self.scale = scale
        self.anneal = anneal
        self.step: Tensor
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    @property
    def annealing(self) -> Tensor:
        """λ of the coming step, a scalar."""
        return (1000.0 / (1.0 + 0.12 * self.step)).clamp(min=5.0) if self.anneal else self.step * 0.0

    def forward(self, embeddings: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
        loss = super().forward(embeddings, labels, reduction=reduction)
        if self.training:
            self.step += 1
        return loss

    @property
    def sphere(self) -> float | None:
        return self.scale

    def radius(self, x: Tensor, classes: Classes) -> Tensor:
        """What the cosine to the own class is multiplied by, (n,)."""
        if self.scale is None:
            return lengths(x)
        return x.new_full((len(x),), self.scale)

    def target_logit(self, own: Tensor, x: Tensor, classes: Classes) -> Tensor:
        radius = self.radius(x, classes)
        cosine = own / radius.masked_fill(radius == 0, torch.inf)
        target = (self.annealing * cosine + psi(self.margin * angle(cosine))) / (1.0 + self.annealing)
        return radius * target

    def cosine(self, own: Tensor, x: Tensor) -> Tensor | None:
        length = x.norm(dim=1) if self.scale is None else self.scale
        return own / length

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, margin={self.margin}, scale={self.scale}"


class LargeMarginSoftmaxLoss(SphereFaceLoss):
    """Large-margin softmax: as SphereFace, with class vectors of free length: logits ‖w_j‖‖x‖ cos θ_j.

    Liu, Wen, Yu & Yang, "Large-margin softmax loss for convolutional neural networks", ICML 2016. Differs from
    pytorch-metric-learning in λ, see `SphereFaceLoss`.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        margin: m ≥ 1, a factor on the angle; any real number.
        anneal: Whether there is a λ, as in `SphereFaceLoss`; else it is 0.
        **shared: See `SoftmaxFamilyLoss`.

    >>> LargeMarginSoftmaxLoss(num_classes=10, embedding_size=64, margin=2).margin
    2
    """

    name: ClassVar[str] = "largemargin"
    formula: ClassVar[str] = (
        "cross-entropy with target ‖w_y‖‖x‖(λ cos θ_y + ψ(θ_y))/(1 + λ), others ‖w_j‖‖x‖ cos θ_j"
    )
    paper: ClassVar[str] = (
        "Liu, Wen, Yu & Yang, Large-margin softmax loss for convolutional neural networks, ICML 2016"
    )
    unit_vectors: ClassVar[bool] = False

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float = 4.0,
        *,
        anneal: bool = True,
        **shared: Unpack[SoftmaxOptions],
    ):
        super().__init__(num_classes, embedding_size, margin, anneal=anneal, **shared)

    def radius(self, x: Tensor, classes: Classes) -> Tensor:
        weight, labels = classes.weight, classes.labels
        if classes.whole is None and len(weight) < len(labels):
            own = lengths(weight)[labels]
        else:
            own = lengths(classes.vectors(labels))
        return super().radius(x, classes) * own

    def cosine(self, own: Tensor, x: Tensor) -> Tensor | None:
        return None  # the own vector's length is not at hand
