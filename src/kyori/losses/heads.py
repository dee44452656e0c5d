"""The classification losses: how the logits of a batch are made, one class each.

`cos θ_j` is the cosine between an embedding and the vector of class j; y is the item's class. Margins are in
radians (ArcFace) or in cosine (CosFace); SphereFace's m is a factor.
"""

import math
import warnings
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ..distances import normalize
from ..errors import ArgumentError, TrainingWarning
from .loss import Reduction, check_positive
from .softmax import Logits, SoftmaxFamilyLoss

__all__ = [
    "ArcFaceLoss",
    "CosFaceLoss",
    "CosineLoss",
    "L2SoftmaxLoss",
    "NormFaceLoss",
    "SoftmaxLoss",
    "SphereFaceLoss",
    "lower_bound",
]


class SoftmaxLoss(SoftmaxFamilyLoss):
    """Plain softmax classification, logits Wx + b; its features are the baseline of the family.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        bias: Whether there is a b.
        chunk_classes: Classes worked on at a time, see `SoftmaxFamilyLoss`.

    >>> loss = SoftmaxLoss(num_classes=10, embedding_size=64)
    >>> loss.logits(torch.zeros(3, 64)).shape
    torch.Size([3, 10])
    """

    name: ClassVar[str] = "softmax"
    formula: ClassVar[str] = "cross-entropy of Wx + b"
    paper: ClassVar[str] = (
        "Bridle, Probabilistic interpretation of feedforward classification network outputs, 1990"
    )

    def __init__(
        self, num_classes: int, embedding_size: int, *, bias: bool = True, chunk_classes: int | None = None
    ):
        super().__init__(num_classes, embedding_size, bias=bias, chunk_classes=chunk_classes)

    def outputs(self, x: Tensor, labels: Tensor) -> Logits:
        plain = (x * self.weight[labels]).sum(1)
        if self.bias is not None:
            plain = plain + self.bias[labels]
        return Logits(x, self.weight, self.bias, plain, plain)


class L2SoftmaxLoss(SoftmaxFamilyLoss):
    """L2-constrained softmax: the features are put on a sphere of radius α, logits W(α x/‖x‖) + b.

    Below a radius of log(p(c−2)/(1−p)) even perfect features cannot reach an average probability p for their
    class.

    Ranjan, Castillo & Chellappa, "L2-constrained softmax loss for discriminative face verification", 2017.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        alpha: Radius α > 0, or where it starts if `learnable`.
        learnable: Learn α, as one number (attribute `alpha`).
        bias: Whether there is a b.
        chunk_classes: Classes worked on at a time, see `SoftmaxFamilyLoss`.

    Warns:
        TrainingWarning: `alpha` is below the bound for p = 0.9.

    >>> L2SoftmaxLoss(num_classes=10, embedding_size=64).alpha.item()
    16.0
    """

    name: ClassVar[str] = "l2softmax"
    formula: ClassVar[str] = "cross-entropy of W(α x/‖x‖) + b"
    paper: ClassVar[str] = (
        "Ranjan, Castillo & Chellappa, L2-constrained softmax loss for discriminative face verification, 2017"
    )

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        alpha: float = 16.0,
        *,
        learnable: bool = False,
        bias: bool = True,
        chunk_classes: int | None = None,
    ):
        super().__init__(num_classes, embedding_size, bias=bias, chunk_classes=chunk_classes)
        check_positive(alpha, "alpha")
        bound = lower_bound(num_classes)
        if alpha < bound:
            warnings.warn(
                f"alpha must be at least {bound:.2f} for {num_classes} classes (log(p(c−2)/(1−p)), p = 0.9), "
                f"or no features can reach that probability; got {alpha}. Pass a larger alpha.",
                TrainingWarning,
                stacklevel=2,
            )
        self.alpha: Tensor
        if learnable:
            self.alpha = nn.Parameter(torch.tensor(float(alpha)))
        else:
            self.register_buffer("alpha", torch.tensor(float(alpha)))

    def outputs(self, x: Tensor, labels: Tensor) -> Logits:
        features = self.alpha * normalize(x)
        plain = (features * self.weight[labels]).sum(1)
        if self.bias is not None:
            plain = plain + self.bias[labels]
        return Logits(features, self.weight, self.bias, plain, plain)


class CosineLoss(SoftmaxFamilyLoss):
    """Base of the losses on logits s cos θ_j: a subclass writes `target`, the margin.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        scale: s > 0, the steepness of the softmax.
        chunk_classes: Classes worked on at a time, see `SoftmaxFamilyLoss`.
    """

    def __init__(
        self, num_classes: int, embedding_size: int, *, scale: float, chunk_classes: int | None = None
    ):
        super().__init__(num_classes, embedding_size, chunk_classes=chunk_classes)
        check_positive(scale, "scale")
        self.scale = scale

    def target(self, cosine: Tensor) -> Tensor:
        """The target's cosine (n,) with its margin."""
        raise NotImplementedError(f"{type(self).__name__} must define target")

    def outputs(self, x: Tensor, labels: Tensor) -> Logits:
        x, weight = normalize(x), normalize(self.weight)
        cosine = (x * weight[labels]).sum(1)
        return Logits(
            self.scale * x,
            weight,
            None,
            self.scale * self.target(cosine),
            self.scale * cosine,
            cosine.detach(),
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale}"


class NormFaceLoss(CosineLoss):
    """Normalised softmax, logits s cos θ_j, no margin.

    Wang, Xiang, Cheng & Yuille, "NormFace: L2 hypersphere embedding for face verification", 2017.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        scale: s > 0.
        chunk_classes: Classes worked on at a time, see `SoftmaxFamilyLoss`.

    >>> loss = NormFaceLoss(num_classes=2, embedding_size=2, scale=20)
    >>> loss.logits(torch.eye(2)).abs().max() <= 20
    tensor(True)
    """

    name: ClassVar[str] = "normface"
    formula: ClassVar[str] = "cross-entropy of s cos θ_j"
    paper: ClassVar[str] = (
        "Wang, Xiang, Cheng & Yuille, NormFace: L2 hypersphere embedding for face verification, ACM MM 2017"
    )

    def __init__(
        self, num_classes: int, embedding_size: int, scale: float = 20.0, *, chunk_classes: int | None = None
    ):
        super().__init__(num_classes, embedding_size, scale=scale, chunk_classes=chunk_classes)

    def target(self, cosine: Tensor) -> Tensor:
        return cosine


class CosFaceLoss(CosineLoss):
    """CosFace: the target's logit is s(cos θ_y − m).

    Wang et al., "CosFace: large margin cosine loss for deep face recognition", CVPR 2018.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        margin: m ≥ 0, in cosine.
        scale: s > 0.
        chunk_classes: Classes worked on at a time, see `SoftmaxFamilyLoss`.

    >>> CosFaceLoss(num_classes=10, embedding_size=64).target(torch.tensor([1.0]))
    tensor([0.6500])
    """

    name: ClassVar[str] = "cosface"
    formula: ClassVar[str] = "cross-entropy with target s(cos θ_y − m), others s cos θ_j"
    paper: ClassVar[str] = (
        "Wang et al., CosFace: large margin cosine loss for deep face recognition, CVPR 2018"
    )

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float = 0.35,
        scale: float = 64.0,
        *,
        chunk_classes: int | None = None,
    ):
        super().__init__(num_classes, embedding_size, scale=scale, chunk_classes=chunk_classes)
        if margin < 0:
            raise ArgumentError(f"margin must be at least 0; got {margin}.")
        self.margin = margin

    def target(self, cosine: Tensor) -> Tensor:
        return cosine - self.margin


class ArcFaceLoss(CosineLoss):
    """ArcFace: the target's logit is s cos(θ_y + m), and past π its continuation s(cos θ_y − m sin m).

    Deng, Guo, Xue & Zafeiriou, "ArcFace: additive angular margin loss for deep face recognition", CVPR 2019.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        margin: m in radians, from 0 to below π. (pytorch-metric-learning takes degrees.)
        scale: s > 0.
        gradient: "exact", or "straight_through": ∂logit/∂cos θ_y = s whatever the margin, as insightface
            trains.
        chunk_classes: Classes worked on at a time, see `SoftmaxFamilyLoss`.

    >>> ArcFaceLoss(num_classes=10, embedding_size=64, margin=0.5).target(torch.tensor([1.0]))  # cos 0.5
    tensor([0.8776])
    """

    name: ClassVar[str] = "arcface"
    formula: ClassVar[str] = "cross-entropy with target s cos(θ_y + m), others s cos θ_j"
    paper: ClassVar[str] = (
        "Deng, Guo, Xue & Zafeiriou, ArcFace: additive angular margin loss for deep face recognition, CVPR 2019"
    )

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float = 0.5,
        scale: float = 64.0,
        gradient: Literal["exact", "straight_through"] = "exact",
        *,
        chunk_classes: int | None = None,
    ):
        super().__init__(num_classes, embedding_size, scale=scale, chunk_classes=chunk_classes)
        if not 0 <= margin < math.pi:
            raise ArgumentError(
                f"margin must be from 0 to below π = 3.14, in radians; got {margin}. "
                "For degrees use math.radians."
            )
        if gradient not in ("exact", "straight_through"):
            raise ArgumentError(f"gradient must be 'exact' or 'straight_through'; got {gradient!r}.")
        self.margin = margin
        self.gradient = gradient

    def target(self, cosine: Tensor) -> Tensor:
        squared = 1.0 - cosine.square()
        flat = squared < torch.finfo(cosine.dtype).eps  # rounding; and at 0 the root has no finite gradient
        sine = squared.masked_fill(flat, 1.0).sqrt().masked_fill(flat, 0.0)
        shifted = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        beyond = cosine - self.margin * math.sin(self.margin)
        target = torch.where(cosine > -math.cos(self.margin), shifted, beyond)
        return cosine + (target - cosine).detach() if self.gradient == "straight_through" else target


class SphereFaceLoss(SoftmaxFamilyLoss):
    """SphereFace: logits ‖x‖ cos θ_j, the target's ‖x‖(λ cos θ_y + ψ(θ_y)) / (1 + λ).

    ψ(θ) = (−1)^k cos(mθ) − 2k on θ in [kπ/m, (k+1)π/m] falls from 1 to 1 − 2m without turning back, which cos(mθ)
    does not. λ starts at 1000, where the loss is almost the plain one, and falls with the training steps t as
    1000 / (1 + 0.12 t) to 5, as the authors trained. The step is a buffer, advanced in training mode only.

    Liu et al., "SphereFace: deep hypersphere embedding for face recognition", CVPR 2017.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        margin: m ≥ 1, a factor on the angle; any real number.
        scale: If given, takes the place of ‖x‖ (the scaled form).
        chunk_classes: Classes worked on at a time, see `SoftmaxFamilyLoss`.

    >>> loss = SphereFaceLoss(num_classes=10, embedding_size=64)
    >>> loss.annealing.item()
    1000.0
    """

    name: ClassVar[str] = "sphereface"
    formula: ClassVar[str] = "cross-entropy with target ‖x‖(λ cos θ_y + ψ(θ_y))/(1 + λ), others ‖x‖ cos θ_j"
    paper: ClassVar[str] = (
        "Liu et al., SphereFace: deep hypersphere embedding for face recognition, CVPR 2017"
    )

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float = 4.0,
        scale: float | None = None,
        *,
        chunk_classes: int | None = None,
    ):
        super().__init__(num_classes, embedding_size, chunk_classes=chunk_classes)
        if margin < 1:
            raise ArgumentError(f"margin must be at least 1, a factor on the angle; got {margin}.")
        if scale is not None:
            check_positive(scale, "scale")
        self.margin = margin
        self.scale = scale
        self.step: Tensor
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    @property
    def annealing(self) -> Tensor:
        """λ of the coming step, a scalar."""
        return (1000.0 / (1.0 + 0.12 * self.step)).clamp(min=5.0)

    def forward(self, embeddings: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
        loss = super().forward(embeddings, labels, reduction=reduction)
        if self.training:
            self.step += 1
        return loss

    def outputs(self, x: Tensor, labels: Tensor) -> Logits:
        direction, weight = normalize(x), normalize(self.weight)
        cosine = (direction * weight[labels]).sum(1)
        if self.scale is None:
            features, radius = x, (x * direction).sum(1)  # ‖x‖, safe at zero
        else:
            features, radius = self.scale * direction, torch.full_like(cosine, self.scale)
        target = radius * (self.annealing * cosine + self._psi(cosine)) / (1.0 + self.annealing)
        return Logits(features, weight, None, target, radius * cosine, cosine.detach())

    def _psi(self, cosine: Tensor) -> Tensor:
        edge = 1.0 - torch.finfo(cosine.dtype).eps
        angle = cosine.clamp(-edge, edge).acos()  # acos has no gradient at ±1
        with torch.no_grad():
            k = (angle * self.margin / math.pi).floor()
        return (1.0 - 2.0 * (k % 2)) * torch.cos(self.margin * angle) - 2.0 * k

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, margin={self.margin}, scale={self.scale}"


def lower_bound(num_classes: int, probability: float = 0.9) -> float:
    """Smallest radius at which evenly spread class vectors of length 1 can give their class that probability.

    >>> round(lower_bound(10), 2)
    4.28
    """
    if num_classes <= 2:
        return 0.0
    return math.log(probability * (num_classes - 2) / (1.0 - probability))
