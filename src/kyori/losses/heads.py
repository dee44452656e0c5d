"""The classification losses whose margin stays the same: how the logits of a batch are made.

`cos θ_j` is the cosine between an embedding and the vector of class j; y is the item's class. Margins are in
radians (ArcFace) or in cosine (CosFace). All take the options of `SoftmaxFamilyLoss`: `label_smoothing`, `trim`,
`sample`, `seed`, `chunk_classes`; those on cosines take `filter_above` too.
"""

import math
import warnings
from typing import ClassVar, Literal, Unpack

import torch
from torch import Tensor, nn

from ..distances import normalize
from ..errors import ArgumentError, TrainingWarning
from .angles import angle, arc, psi
from .classes import Change, Classes, Largest, Look
from .loss import check_positive
from .softmax import CosineOptions, SoftmaxFamilyLoss, SoftmaxOptions, sums_and_counts

__all__ = [
    "ArcFaceLoss",
    "CombinedMarginLoss",
    "CosFaceLoss",
    "CosineLoss",
    "L2SoftmaxLoss",
    "NormFaceLoss",
    "SoftmaxLoss",
    "lower_bound",
]


class SoftmaxLoss(SoftmaxFamilyLoss):
    """Plain softmax classification, logits Wx + b; its features are the baseline of the family.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        bias: Whether there is a b.
        **shared: See `SoftmaxFamilyLoss`.

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
        self, num_classes: int, embedding_size: int, *, bias: bool = True, **shared: Unpack[SoftmaxOptions]
    ):
        super().__init__(num_classes, embedding_size, bias=bias, **shared)


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
        **shared: See `SoftmaxFamilyLoss`.

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
        **shared: Unpack[SoftmaxOptions],
    ):
        super().__init__(num_classes, embedding_size, bias=bias, **shared)
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

    def features(self, x: Tensor) -> Tensor:
        return self.alpha * normalize(x)


class CosineLoss(SoftmaxFamilyLoss):
    """Base of the losses on logits s cos θ_j: a subclass writes `target`, the margin.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        scale: s > 0, the steepness of the softmax.
        vectors: k ≥ 1 vectors a class.
        filter_above: Leave out, item by item, the other classes whose cosine exceeds this number from −1 to 1.
            Where labels are noisy, one person stands under two class numbers, and such a class is not to be
            pushed away (An et al., Killing two birds with one stone, CVPR 2022, filter from about 0.4 on).
        **shared: See `SoftmaxFamilyLoss`.
    """

    unit_vectors: ClassVar[bool] = True

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        *,
        scale: float,
        vectors: int = 1,
        filter_above: float | None = None,
        **shared: Unpack[SoftmaxOptions],
    ):
        super().__init__(num_classes, embedding_size, vectors=vectors, **shared)
        check_positive(scale, "scale")
        if filter_above is not None and not -1 <= filter_above <= 1:
            raise ArgumentError(
                f"filter_above must be a cosine, −1 to 1, or None to filter nothing; got {filter_above}."
            )
        self.scale = scale
        self.filter_above = filter_above

    def target(self, cosine: Tensor) -> Tensor:
        """The target's cosine (n,) with its margin."""
        raise NotImplementedError(f"{type(self).__name__} must define target")

    def target_logit(self, own: Tensor, x: Tensor, classes: Classes) -> Tensor:
        return self.scale * self.target(own / self.scale)

    def merge(self, z: Tensor) -> Tensor:
        """One logit a class (n, b) from those of its vectors (n, k, b): the largest."""
        largest: Tensor = Largest.apply(z)
        return largest

    def bend(self, x: Tensor, classes: Classes) -> Change | None:
        """How the logits (n, b) of other classes are changed, for items x (n, d); here they are not."""
        return None

    @property
    def sphere(self) -> Tensor | float | None:
        return self.scale

    def look(self, x: Tensor, classes: Classes) -> Look:
        return classes.look(
            self.features(x),
            radius=self.sphere,
            merge=self.merge if classes.weight.ndim == 3 else None,
            above=None if self.filter_above is None else self.scale * self.filter_above,
            bend=self.bend(x, classes),
            fold=sums_and_counts if self.label_smoothing else None,
        )

    def cosine(self, own: Tensor, x: Tensor) -> Tensor | None:
        return own / self.scale

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        if weight.ndim == 2:
            return super().scores(x, weight)
        return self.merge(torch.einsum("nd,ckd->nkc", self.placed(x), weight))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale}"


class NormFaceLoss(CosineLoss):
    """Normalised softmax, logits s cos θ_j, no margin.

    Wang, Xiang, Cheng & Yuille, "NormFace: L2 hypersphere embedding for face verification", 2017.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        scale: s > 0.
        **shared: See `CosineLoss`.

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
        self, num_classes: int, embedding_size: int, scale: float = 20.0, **shared: Unpack[CosineOptions]
    ):
        super().__init__(num_classes, embedding_size, scale=scale, **shared)

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
        **shared: See `CosineLoss`.

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
        **shared: Unpack[CosineOptions],
    ):
        super().__init__(num_classes, embedding_size, scale=scale, **shared)
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
        gradient: "straight_through": ∂logit/∂cos θ_y = s whatever the margin, as insightface trains. Or "exact",
            the derivative, as pytorch-metric-learning: it is 0 at θ_y = π − m, so that items far from their class
            stay there, and trains worse on classes that overlap.
        **shared: See `CosineLoss`.

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
        gradient: Literal["exact", "straight_through"] = "straight_through",
        **shared: Unpack[CosineOptions],
    ):
        super().__init__(num_classes, embedding_size, scale=scale, **shared)
        self._set(margin, gradient)

    def _set(self, margin: float, gradient: str) -> None:
        _check_angle(margin, "margin")
        if gradient not in ("exact", "straight_through"):
            raise ArgumentError(f"gradient must be 'exact' or 'straight_through'; got {gradient!r}.")
        self.margin = margin
        self.gradient = gradient

    def target(self, cosine: Tensor) -> Tensor:
        target = arc(cosine, self.margin)
        return cosine + (target - cosine).detach() if self.gradient == "straight_through" else target


class CombinedMarginLoss(CosineLoss):
    """The margins of SphereFace, ArcFace and CosFace in one: the target's logit is s(cos(m₁θ_y + m₂) − m₃).

    Past m₁θ + m₂ = π the cosine goes on falling as SphereFace's ψ does; (1, m₂, 0) is `ArcFaceLoss` up to there.

    Deng, Guo, Xue & Zafeiriou, "ArcFace: additive angular margin loss for deep face recognition", CVPR 2019, §3.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        m1: Factor on the angle, at least 1.
        m2: Added to the angle, in radians from 0 to below π.
        m3: Taken off the cosine, at least 0.
        scale: s > 0.
        **shared: See `CosineLoss`.

    >>> loss = CombinedMarginLoss(num_classes=10, embedding_size=64, m1=1.0, m2=0.3, m3=0.2)
    >>> loss.target(torch.tensor([1.0]))  # cos 0.3 − 0.2
    tensor([0.7552])
    """

    name: ClassVar[str] = "combined"
    formula: ClassVar[str] = "cross-entropy with target s(cos(m₁θ_y + m₂) − m₃), others s cos θ_j"
    paper: ClassVar[str] = (
        "Deng, Guo, Xue & Zafeiriou, ArcFace: additive angular margin loss for deep face recognition, CVPR 2019"
    )

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        m1: float = 1.0,
        m2: float = 0.5,
        m3: float = 0.0,
        scale: float = 64.0,
        **shared: Unpack[CosineOptions],
    ):
        super().__init__(num_classes, embedding_size, scale=scale, **shared)
        if m1 < 1:
            raise ArgumentError(f"m1 must be at least 1, a factor on the angle; got {m1}.")
        _check_angle(m2, "m2")
        if m3 < 0:
            raise ArgumentError(f"m3 must be at least 0; got {m3}.")
        self.m1, self.m2, self.m3 = m1, m2, m3

    def target(self, cosine: Tensor) -> Tensor:
        return psi(self.m1 * angle(cosine) + self.m2) - self.m3


def lower_bound(num_classes: int, probability: float = 0.9) -> float:
    """Smallest radius at which evenly spread class vectors of length 1 can give their class that probability.

    >>> round(lower_bound(10), 2)
    4.28
    """
    if num_classes <= 2:
        return 0.0
    return math.log(probability * (num_classes - 2) / (1.0 - probability))


def _check_angle(value: float, name: str) -> None:
    if not 0 <= value < math.pi:
        raise ArgumentError(
            f"{name} must be from 0 to below π = 3.14, in radians; got {value}. For degrees use math.radians."
        )
