"""The proxy losses: a learned vector a class stands for its items, and items meet proxies instead of each other."""

from typing import ClassVar, Unpack

import torch
from torch import Tensor

from ..distances import normalize
from ..errors import ArgumentError
from .classes import Change, Classes
from .loss import Reduction, check_positive
from .softmax import ClassLoss, ClassOptions, SoftmaxFamilyLoss, SoftmaxOptions

__all__ = ["ProxyAnchorLoss", "ProxyNCALoss", "ProxyNCAPlusPlusLoss"]


class ProxyNCALoss(ClassLoss):
    """Proxy-NCA: an item is to be closer to its own proxy than to all others, −log e^{−sd_y} / Σ_{j≠y} e^{−sd_j}.

    d_j = ‖x − p_j‖² on unit vectors. The own proxy does not stand in the denominator, so that the loss has no
    lower bound of 0; `ProxyNCAPlusPlusLoss` is the softmax with it.

    Movshovitz-Attias, Toshev, Leung, Ioffe & Singh, "No fuss distance metric learning using proxies", ICCV 2017.
    Differs from pytorch-metric-learning, whose ProxyNCALoss has the own proxy in the denominator: that is
    `ProxyNCAPlusPlusLoss(temperature=1)`.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        scale: s > 0 of the squared distance; 9, because implementations put vectors on a sphere of radius 3.
        **shared: See `ClassLoss`.

    >>> ProxyNCALoss(num_classes=10, embedding_size=64).logits(torch.zeros(3, 64)).shape
    torch.Size([3, 10])
    """

    name: ClassVar[str] = "proxynca"
    formula: ClassVar[str] = "−log e^{−s‖x − p_y‖²} / Σ_{j≠y} e^{−s‖x − p_j‖²}"
    paper: ClassVar[str] = (
        "Movshovitz-Attias, Toshev, Leung, Ioffe & Singh, No fuss distance metric learning using proxies, ICCV 2017"
    )
    unit_vectors: ClassVar[bool] = True

    def __init__(
        self, num_classes: int, embedding_size: int, scale: float = 9.0, **shared: Unpack[ClassOptions]
    ):
        super().__init__(num_classes, embedding_size, **shared)
        check_positive(scale, "scale")
        self.scale = scale

    def values(self, x: Tensor, classes: Classes) -> Tensor:
        look = classes.look(x, radius=2.0 * self.scale)  # −s‖x − p‖² = 2s cos − 2s
        self.record(x, look.own, look.best, look.own.detach() / (2.0 * self.scale))
        return look.others - look.own

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return 2.0 * self.scale * (normalize(x) @ weight.T - 1.0)


class ProxyNCAPlusPlusLoss(SoftmaxFamilyLoss):
    """Proxy-NCA++: the softmax of −‖x − p_j‖²/T over all proxies, on unit vectors.

    It is `NormFaceLoss` at scale 2/T, written as its authors do. Their proxies learn at 4,000 times the rate of the
    network: see `head_lr`.

    Teh, DeVries & Taylor, "ProxyNCA++: revisiting and revitalizing proxy neighborhood component analysis", ECCV
    2020. `temperature=1` is ProxyNCALoss of pytorch-metric-learning.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        temperature: T > 0.
        **shared: See `SoftmaxFamilyLoss`.

    >>> ProxyNCAPlusPlusLoss(num_classes=10, embedding_size=64).logits(torch.zeros(3, 64)).shape
    torch.Size([3, 10])
    """

    name: ClassVar[str] = "proxynca++"
    formula: ClassVar[str] = "cross-entropy of −‖x − p_j‖²/T"
    paper: ClassVar[str] = (
        "Teh, DeVries & Taylor, ProxyNCA++: revisiting and revitalizing proxy neighborhood component analysis, "
        "ECCV 2020"
    )
    unit_vectors: ClassVar[bool] = True

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        temperature: float = 1.0 / 9.0,
        **shared: Unpack[SoftmaxOptions],
    ):
        super().__init__(num_classes, embedding_size, **shared)
        check_positive(temperature, "temperature")
        self.temperature = temperature

    @property
    def sphere(self) -> float:
        return 2.0 / self.temperature

    def cosine(self, own: Tensor, x: Tensor) -> Tensor | None:
        return own * self.temperature / 2.0

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return super().scores(x, weight) - 2.0 / self.temperature


class ProxyAnchorLoss(ClassLoss):
    """Proxy-Anchor: each proxy pulls the items of its class and pushes all others, the hardest most.

    L = 1/|P⁺| Σ_{p∈P⁺} log(1 + Σ_{x∈p} e^{−α(cos(x,p) − δ)}) + 1/c Σ_p log(1 + Σ_{x∉p} e^{α(cos(x,p) + δ)}), with P⁺
    the proxies of the batch's classes. A sum over proxies, not items: there is no `trim`, and the reduction is "mean".

    Kim, Kim, Cho & Kwak, "Proxy anchor loss for deep metric learning", CVPR 2020.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        alpha: α > 0.
        margin: δ, in cosine.
        chunk_classes: See `ClassLoss`.
        sample: See `ClassLoss`; the second sum is then a mean over the proxies drawn.
        seed: See `ClassLoss`.

    >>> ProxyAnchorLoss(num_classes=10, embedding_size=64).logits(torch.zeros(3, 64)).shape
    torch.Size([3, 10])
    """

    name: ClassVar[str] = "proxyanchor"
    formula: ClassVar[str] = (
        "mean_{p∈P⁺} log(1 + Σ_{x∈p} e^{−α(cos(x,p) − δ)}) + mean_p log(1 + Σ_{x∉p} e^{α(cos(x,p) + δ)})"
    )
    paper: ClassVar[str] = "Kim, Kim, Cho & Kwak, Proxy anchor loss for deep metric learning, CVPR 2020"
    unit_vectors: ClassVar[bool] = True

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        alpha: float = 32.0,
        margin: float = 0.1,
        *,
        chunk_classes: int | None = None,
        sample: float | None = None,
        seed: int = 0,
    ):
        super().__init__(num_classes, embedding_size, chunk_classes=chunk_classes, sample=sample, seed=seed)
        check_positive(alpha, "alpha")
        self.alpha, self.margin = alpha, margin

    def values(self, x: Tensor, classes: Classes) -> Tensor:
        look = classes.look(x, radius=self.alpha, fold=_pushes(self.alpha * self.margin), log=False)
        assert look.total is not None
        self.record(x, look.own, look.best, look.own.detach() / self.alpha)
        present, places = classes.labels.unique(return_inverse=True)
        pulls = _segment_log1p_sum_exp(self.alpha * self.margin - look.own, places, len(present))
        return pulls.mean() + look.total / classes.number

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return normalize(x) @ weight.T

    def _reduce(self, values: Tensor, reduction: Reduction) -> Tensor:
        if reduction != "mean":
            raise ArgumentError(
                f"reduction must be 'mean': ProxyAnchorLoss is no sum over items; got {reduction!r}."
            )
        return values


def _pushes(shift: float) -> Change:
    """Σ_p log(1 + Σ_x e^{z + shift}) of logits (n, b), −inf where the item belongs to the proxy."""

    def push(z: Tensor) -> Tensor:
        top = (z.detach().amax(0) + shift).clamp(min=0.0)  # the 1 is an e⁰ among the others
        return (top + ((z + shift - top).exp().sum(0) + (-top).exp()).log()).sum()

    return push


def _segment_log1p_sum_exp(values: Tensor, places: Tensor, segments: int) -> Tensor:
    """log(1 + Σ e^value) (segments,) over the values (n,) at each place."""
    top = values.new_zeros(segments).scatter_reduce(0, places, values.detach(), "amax")
    exps = torch.zeros_like(top).index_add(0, places, (values - top[places]).exp())
    return top + (exps + (-top).exp()).log()
