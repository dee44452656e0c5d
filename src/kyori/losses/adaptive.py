"""The classification losses that set their own strength: by the item's quality, by the course of the training."""

import math
from typing import ClassVar, Unpack

import torch
from torch import Tensor

from ..distances import normalize
from ..errors import ArgumentError
from .angles import angle, arc
from .classes import Change, Classes, lengths
from .heads import ArcFaceLoss, CosineLoss
from .loss import check_positive
from .softmax import ClassLoss, ClassOptions, CosineOptions

__all__ = ["AdaCosLoss", "AdaFaceLoss", "CurricularFaceLoss", "MagFaceLoss", "P2SGradLoss"]


class AdaFaceLoss(CosineLoss):
    """AdaFace: a margin by image quality, which the length of the feature stands for.

    q = clip(h(‖x‖ − μ)/σ, −1, 1), μ and σ being running means over batches of the norms' mean and deviation. The
    target's logit is s(cos(θ_y − mq) − m(1 + q)): long features get an additive margin that stresses hard items,
    short ones an angular margin that does not. No gradient flows through q.

    Kim, Jain & Liu, "AdaFace: quality adaptive margin for face recognition", CVPR 2022. As there, norms count from
    0.001 to 100, and θ_y − mq is kept 0.001 away from 0 and π.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        margin: m ≥ 0.
        concentration: h > 0.
        rate: Share of a batch in μ and σ, above 0 and up to 1. A batch of one item leaves σ as it is.
        scale: s > 0.
        **shared: See `CosineLoss`.

    Attributes:
        norm_mean: μ, a buffer; 20 at first.
        norm_deviation: σ, a buffer; 100 at first.

    >>> AdaFaceLoss(num_classes=10, embedding_size=64).norm_mean
    tensor(20.)
    """

    name: ClassVar[str] = "adaface"
    formula: ClassVar[str] = (
        "cross-entropy with target s(cos(θ_y − mq) − m(1 + q)), q = clip(h(‖x‖ − μ)/σ), others s cos θ_j"
    )
    paper: ClassVar[str] = "Kim, Jain & Liu, AdaFace: quality adaptive margin for face recognition, CVPR 2022"

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float = 0.4,
        concentration: float = 0.333,
        rate: float = 0.01,
        scale: float = 64.0,
        **shared: Unpack[CosineOptions],
    ):
        super().__init__(num_classes, embedding_size, scale=scale, **shared)
        if margin < 0:
            raise ArgumentError(f"margin must be at least 0; got {margin}.")
        check_positive(concentration, "concentration")
        _check_rate(rate)
        self.margin, self.concentration, self.rate = margin, concentration, rate
        self.norm_mean: Tensor
        self.norm_deviation: Tensor
        self.register_buffer("norm_mean", torch.tensor(20.0))
        self.register_buffer("norm_deviation", torch.tensor(100.0))

    @torch.no_grad()
    def quality(self, x: Tensor) -> Tensor:
        """q (n,) of the embeddings x (n, d), from −1 to 1."""
        norms = x.norm(dim=1).clamp(0.001, 100.0)
        return (self.concentration * (norms - self.norm_mean) / (self.norm_deviation + 0.001)).clamp(-1, 1)

    def target_logit(self, own: Tensor, x: Tensor, classes: Classes) -> Tensor:
        if self.training:
            self._follow(x)
        q = self.quality(x)
        theta = (angle(own / self.scale) - self.margin * q).clamp(0.001, math.pi - 0.001)
        return self.scale * (theta.cos() - self.margin * (1.0 + q))

    @torch.no_grad()
    def _follow(self, x: Tensor) -> None:
        norms = x.norm(dim=1).clamp(0.001, 100.0).to(self.norm_mean.dtype)
        self.norm_mean.lerp_(norms.mean(), self.rate)
        if len(norms) > 1:
            self.norm_deviation.lerp_(norms.std(), self.rate)


class MagFaceLoss(CosineLoss):
    """MagFace: the margin grows with the length of the feature, and a regulariser rewards length.

    With a = ‖x‖ kept in [l, u]: m(a) grows in a straight line from the lower to the upper margin, the target's logit
    is s cos(θ_y + m(a)) as in ArcFace, and λ(a/u² + 1/a) is added. Easy items become long, so that the length
    tells the quality.

    Meng, Zhao, Huang & Zhou, "MagFace: a universal representation for face recognition and quality assessment",
    CVPR 2021.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        margins: Lower and upper margin in radians, from 0 to below π.
        norms: l and u, 0 < l < u.
        strength: λ ≥ 0 of the regulariser.
        scale: s > 0.
        **shared: See `CosineLoss`.

    >>> loss = MagFaceLoss(num_classes=10, embedding_size=64)
    >>> loss.margin_at(torch.tensor([5.0, 10.0, 60.0, 110.0]))
    tensor([0.4500, 0.4500, 0.6250, 0.8000])
    """

    name: ClassVar[str] = "magface"
    formula: ClassVar[str] = (
        "cross-entropy with target s cos(θ_y + m(‖x‖)), others s cos θ_j, plus λ(‖x‖/u² + 1/‖x‖)"
    )
    paper: ClassVar[str] = (
        "Meng, Zhao, Huang & Zhou, MagFace: a universal representation for face recognition and quality "
        "assessment, CVPR 2021"
    )

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margins: tuple[float, float] = (0.45, 0.8),
        norms: tuple[float, float] = (10.0, 110.0),
        strength: float = 35.0,
        scale: float = 64.0,
        **shared: Unpack[CosineOptions],
    ):
        super().__init__(num_classes, embedding_size, scale=scale, **shared)
        if len(margins) != 2 or not 0 <= margins[0] <= margins[1] < math.pi:
            raise ArgumentError(
                f"margins must be two angles in radians, 0 ≤ lower ≤ upper < π; got {margins}."
            )
        if len(norms) != 2 or not 0 < norms[0] < norms[1]:
            raise ArgumentError(f"norms must be two lengths, 0 < lower < upper; got {norms}.")
        if strength < 0:
            raise ArgumentError(f"strength must be at least 0; got {strength}.")
        self.margins, self.norms, self.strength = tuple(margins), tuple(norms), strength

    def margin_at(self, length: Tensor) -> Tensor:
        """The margin in radians for features of some length."""
        (low, high), (short, long) = self.margins, self.norms
        return low + (high - low) / (long - short) * (length.clamp(short, long) - short)

    def values(self, x: Tensor, classes: Classes) -> Tensor:
        length = lengths(x).clamp(*self.norms)
        return super().values(x, classes) + self.strength * (length / self.norms[1] ** 2 + 1.0 / length)

    def target_logit(self, own: Tensor, x: Tensor, classes: Classes) -> Tensor:
        return self.scale * arc(own / self.scale, self.margin_at(lengths(x)))


class CurricularFaceLoss(ArcFaceLoss):
    """CurricularFace: ArcFace whose hard negatives count little at first, and more and more.

    A negative is hard if cos θ_j > cos(θ_y + m); its logit is s cos θ_j (t + cos θ_j). t is a running mean of the
    batches' mean cos θ_y (a buffer, 0 at first, moved in training mode only), so that it grows as training goes well.

    Huang et al., "CurricularFace: adaptive curriculum learning loss for deep face recognition", CVPR 2020.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        margin: m in radians, from 0 to below π.
        scale: s > 0.
        rate: Share of a batch in t, above 0 and up to 1.
        **shared: See `CosineLoss`.

    Attributes:
        t: The running mean.

    >>> CurricularFaceLoss(num_classes=10, embedding_size=64).t
    tensor(0.)
    """

    name: ClassVar[str] = "curricularface"
    formula: ClassVar[str] = (
        "cross-entropy with target s cos(θ_y + m), others s cos θ_j, of hard ones s cos θ_j (t + cos θ_j)"
    )
    paper: ClassVar[str] = (
        "Huang et al., CurricularFace: adaptive curriculum learning loss for deep face recognition, CVPR 2020"
    )

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float = 0.5,
        scale: float = 64.0,
        *,
        rate: float = 0.01,
        **shared: Unpack[CosineOptions],
    ):
        super().__init__(num_classes, embedding_size, margin, scale, "exact", **shared)
        _check_rate(rate)
        self.rate = rate
        self.t: Tensor
        self.register_buffer("t", torch.zeros(()))

    @torch.no_grad()
    def bend(self, x: Tensor, classes: Classes) -> Change:
        cosine = (normalize(x) * classes.vectors(classes.labels)).sum(1)
        if self.training:
            self.t.lerp_(cosine.mean().to(self.t.dtype), self.rate)
        t, s = self.t.clone(), self.scale
        shifted = (angle(cosine) + self.margin).cos()[:, None]

        def stress(z: Tensor) -> Tensor:
            return torch.where(z.detach() > s * shifted, z * (t + z / s), z)

        return stress


class AdaCosLoss(CosineLoss):
    """AdaCos: the normalised softmax without anything to set; its scale follows from the number of classes.

    Fixed: s = √2 log(c − 1). Dynamic: in each training step s = log B / cos(min(π/4, θ_med)), with θ_med the median
    angle to the own class and B the mean over items of Σ_{j≠y} exp(s cos θ_j) at the former s. s is a buffer, never
    below 1 (the formulas give 0 for two classes). The dynamic form looks at the classes twice.

    Zhang, Zhao, Qiao, Wang & Li, "AdaCos: adaptively scaling cosine logits for effectively learning deep face
    representations", CVPR 2019.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        dynamic: Whether s follows the training.
        **shared: See `CosineLoss`.

    >>> AdaCosLoss(num_classes=100, embedding_size=64).scale
    tensor(6.4985)
    """

    name: ClassVar[str] = "adacos"
    formula: ClassVar[str] = "cross-entropy of s cos θ_j, s = log B / cos(min(π/4, median θ_y))"
    paper: ClassVar[str] = (
        "Zhang, Zhao, Qiao, Wang & Li, AdaCos: adaptively scaling cosine logits for effectively learning deep "
        "face representations, CVPR 2019"
    )
    scale: Tensor  # type: ignore[assignment]

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        *,
        dynamic: bool = True,
        **shared: Unpack[CosineOptions],
    ):
        fixed = max(1.0, math.sqrt(2.0) * math.log(max(1, num_classes - 1)))
        super().__init__(num_classes, embedding_size, scale=fixed, **shared)
        del self.scale
        self.register_buffer("scale", torch.tensor(fixed))
        self.dynamic = dynamic

    def target(self, cosine: Tensor) -> Tensor:
        return cosine

    def values(self, x: Tensor, classes: Classes) -> Tensor:
        if self.dynamic and self.training:
            self._follow(x, classes)
        return super().values(x, classes)

    @torch.no_grad()
    def _follow(self, x: Tensor, classes: Classes) -> None:
        look = self.look(x, classes)
        log_b = look.others.logsumexp(0) - math.log(len(x))
        median = angle(look.own / self.scale).median().clamp(max=math.pi / 4)
        self.scale.copy_((log_b / median.cos()).clamp(min=1.0))


class P2SGradLoss(ClassLoss):
    """P2SGrad: cosines themselves are to be 1 for the own class and 0 for others, with no scale or margin to set.

    L = ½ Σ_j (cos θ_j − [j = y])², whose gradient is Σ_j (cos θ_j − [j = y]) ∇cos θ_j: the paper's, which puts the
    cosine where the softmax's gradient has the probability.

    Zhang, Zhao, Yan, Li & Wang, "P2SGrad: refined gradients for optimizing deep face models", CVPR 2019. Differs
    from pytorch-metric-learning, whose value is ours · 2/c.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        **shared: See `ClassLoss`.

    >>> loss = P2SGradLoss(num_classes=2, embedding_size=2)
    >>> loss.logits(torch.eye(2)).abs().max() <= 1
    tensor(True)
    """

    name: ClassVar[str] = "p2sgrad"
    formula: ClassVar[str] = "½ Σ_j (cos θ_j − [j = y])²"
    paper: ClassVar[str] = (
        "Zhang, Zhao, Yan, Li & Wang, P2SGrad: refined gradients for optimizing deep face models, CVPR 2019"
    )
    unit_vectors: ClassVar[bool] = True

    def __init__(self, num_classes: int, embedding_size: int, **shared: Unpack[ClassOptions]):
        super().__init__(num_classes, embedding_size, **shared)

    def values(self, x: Tensor, classes: Classes) -> Tensor:
        look = classes.look(x, radius=1.0, squares=True)
        assert look.total is not None
        self.record(x, look.own, look.best, look.own.detach())
        return 0.5 * ((look.own - 1.0).square() + look.total)

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return normalize(x) @ weight.T


def _check_rate(rate: float) -> None:
    if not 0 < rate <= 1:
        raise ArgumentError(f"rate must be above 0 and up to 1; got {rate}.")
