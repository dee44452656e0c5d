"""What is added to a loss to keep embeddings or class vectors in shape: losses in a `SumLoss`, without labels."""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..distances import normalize
from ..errors import ArgumentError
from .loss import Loss, Reduction, check_matrix, check_positive, check_reduction, reduce, spread

__all__ = [
    "CenterInvariantRegularizer",
    "NormRegularizer",
    "RegularFaceRegularizer",
    "Regularizer",
    "SparseCentersRegularizer",
    "SpreadOutRegularizer",
    "ZeroMeanRegularizer",
]


class Regularizer(Loss):
    """Base: `regularizer(embeddings)`, labels not looked at. A subclass writes `items`."""

    cost: ClassVar[str] = "n d"
    spherical: bool = False

    def __init__(self) -> None:
        super().__init__()
        self._sums: dict[str, Tensor] = {}

    def items(self, x: Tensor) -> Tensor:
        """The terms (t,) whose mean is the regulariser."""
        raise NotImplementedError(f"{type(self).__name__} must define items")

    def forward(self, embeddings: Tensor, labels: Any = None, *, reduction: Reduction = "mean") -> Tensor:
        """The regulariser of a batch: a scalar with gradient, 0 for an empty one."""
        check_matrix(embeddings, "embeddings")
        check_reduction(reduction)
        with torch.autocast(embeddings.device.type, enabled=False):
            x = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
            terms = self.items(x)
            self._sums = {"spread": spread(x.detach())}
            if len(terms):
                self._sums["active"] = (terms.detach() != 0).to(x.dtype).mean()
            self._count_starved(int(not len(terms)), on_cpu=True)
            return reduce(terms, reduction) if len(terms) else terms.sum() + x.sum() * 0.0

    @property
    def stats(self) -> dict[str, float]:
        """`active`: share of its terms that are not zero; `spread` and `degenerate` as in other losses."""
        sums = {name: float(value) for name, value in self._sums.items()}
        return sums | {"degenerate": float(self._starved)}


class NormRegularizer(Regularizer):
    """Mean of ‖x‖_p^power: short embeddings.

    Args:
        p: Order of the norm, > 0.
        power: Of the norm, > 0.

    >>> NormRegularizer()(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).item()
    2.5
    """

    name: ClassVar[str] = "norm"
    formula: ClassVar[str] = "mean ‖x‖_p^power"
    paper: ClassVar[str] = ""

    def __init__(self, p: float = 2.0, power: float = 1.0):
        super().__init__()
        check_positive(p, "p")
        check_positive(power, "power")
        self.p = p
        self.power = power

    def items(self, x: Tensor) -> Tensor:
        if self.p == self.power:
            return x.abs().pow(self.p).sum(1)
        norm = torch.linalg.vector_norm(x, self.p, dim=1)
        return norm if self.power == 1 else norm.pow(self.power)


class ZeroMeanRegularizer(Regularizer):
    """Mean of |Σ_k x_k|: the coordinates of an embedding shall balance.

    >>> ZeroMeanRegularizer()(torch.tensor([[1.0, -1.0], [1.0, 0.0]])).item()
    0.5
    """

    name: ClassVar[str] = "zeromean"
    formula: ClassVar[str] = "mean |Σ_k x_k|"
    paper: ClassVar[str] = ""

    def items(self, x: Tensor) -> Tensor:
        return x.sum(1).abs()


class SpreadOutRegularizer(Regularizer):
    """Global orthogonal regularisation: cosines of different items like those of random directions.

    `w₁ · (mean cos)² + w₂ · [mean cos² − 1/d]₊` over all pairs of different items.

    Zhang et al., "Learning spread-out local feature descriptors", ICCV 2017.

    Args:
        mean_weight: w₁ ≥ 0.
        second_moment_weight: w₂ ≥ 0.

    >>> SpreadOutRegularizer()(torch.tensor([[1.0, 0.0], [1.0, 0.0]])).item()  # 1 + (1 − ½)
    1.5
    """

    name: ClassVar[str] = "spreadout"
    formula: ClassVar[str] = "w₁ (mean cos)² + w₂ [mean cos² − 1/d]₊"
    paper: ClassVar[str] = "Zhang et al., Learning spread-out local feature descriptors, ICCV 2017"

    def __init__(self, mean_weight: float = 1.0, second_moment_weight: float = 1.0):
        super().__init__()
        for name, value in (("mean_weight", mean_weight), ("second_moment_weight", second_moment_weight)):
            if not value >= 0:
                raise ArgumentError(f"{name} must be at least 0; got {value}.")
        self.mean_weight = mean_weight
        self.second_moment_weight = second_moment_weight

    def items(self, x: Tensor) -> Tensor:
        n, d = x.shape
        if n < 2:
            return x.new_zeros(0) + x.sum() * 0.0
        unit = normalize(x)
        own = unit.square().sum(1)
        pairs = n * (n - 1)
        mean = (unit.sum(0).square().sum() - own.sum()) / pairs  # sums over pairs without the (n, n) cosines
        second = ((unit.T @ unit).square().sum() - own.square().sum()) / pairs
        value = self.mean_weight * mean.square()
        return (value + self.second_moment_weight * (second - 1.0 / d).clamp(min=0))[None]


class _ClassVectors(Regularizer):
    """Base of the regularisers of a head's class vectors: `regularizer(embeddings)` looks at the head alone.

    Args:
        head: The loss whose `weight` (c, d), or (c, k, d) with k vectors a class, is regularised row by row; it stays
            where it is, its parameters are not ours.
    """

    cost: ClassVar[str] = "c d"

    def __init__(self, head: nn.Module):
        super().__init__()
        weight = getattr(head, "weight", None)
        if not isinstance(weight, Tensor) or weight.ndim not in (2, 3):
            raise ArgumentError(
                f"head must be a loss with class vectors, weight of shape (c, d); got {type(head).__name__}."
            )
        self._head = (head,)  # in a tuple, so that its parameters do not count twice

    def forward(self, embeddings: Tensor, labels: Any = None, *, reduction: Reduction = "mean") -> Tensor:
        """The regulariser of the head's vectors, whatever the embeddings."""
        if getattr(self._head[0], "shard", None) is not None:
            raise ArgumentError(
                f"{type(self).__name__} needs the vectors of all classes, and each rank holds a shard of them; "
                "use across_ranks(loss) without shard_classes."
            )
        weight: Tensor = self._head[0].weight  # type: ignore[assignment]
        return super().forward(weight.flatten(0, -2), reduction=reduction)


class CenterInvariantRegularizer(_ClassVectors):
    """Mean over classes of (‖w_c‖² − mean ‖w‖²)² / 4: class vectors of equal length.

    Wu et al., "Deep face recognition with center invariant loss", ACM Multimedia Workshops 2017.
    """

    name: ClassVar[str] = "centerinvariant"
    formula: ClassVar[str] = "mean_c (‖w_c‖² − mean ‖w‖²)² / 4"
    paper: ClassVar[str] = "Wu et al., Deep face recognition with center invariant loss, 2017"

    def items(self, x: Tensor) -> Tensor:
        square = x.square().sum(1)
        return (square - square.mean()).square() / 4


class RegularFaceRegularizer(_ClassVectors):
    """Mean over classes of the cosine to the nearest other class: class vectors apart.

    Zhao, Xu & Cheng, "RegularFace", CVPR 2019. Costs O(c² d) in rows of bounded memory.
    """

    name: ClassVar[str] = "regularface"
    formula: ClassVar[str] = "mean_c max_{k≠c} cos(w_c, w_k)"
    paper: ClassVar[str] = (
        "Zhao, Xu & Cheng, RegularFace: deep face recognition via exclusive regularization, CVPR 2019"
    )
    cost: ClassVar[str] = "c² d"

    def items(self, x: Tensor) -> Tensor:
        if len(x) < 2:
            return x.new_zeros(0) + x.sum() * 0.0
        unit = normalize(x)
        with torch.no_grad():
            nearest = []
            for rows in torch.arange(len(x), device=x.device).split(max(1, 2**24 // len(x))):
                cosine = unit[rows] @ unit.T
                nearest.append(cosine.scatter_(1, rows[:, None], -torch.inf).argmax(1))
        return (unit * unit[torch.cat(nearest)]).sum(1)


class SparseCentersRegularizer(_ClassVectors):
    """Half the mean distance √(2 − 2 cos) between the sub-centres of each class: superfluous ones merge.

    Qian et al., "SoftTriple loss", ICCV 2019.

    Args:
        head: A loss with sub-centres, or whose rows of `weight` are those of class 0, then of class 1, and so on.
        centers: Sub-centres of a class, at least 2.
    """

    name: ClassVar[str] = "sparsecenters"
    formula: ClassVar[str] = "½ mean over pairs of a class's centres of √(2 − 2 cos)"
    paper: ClassVar[str] = (
        "Qian et al., SoftTriple loss: deep metric learning without triplet sampling, ICCV 2019"
    )
    cost: ClassVar[str] = "c k² d"

    def __init__(self, head: nn.Module, centers: int):
        super().__init__(head)
        rows = math.prod(head.weight.shape[:-1])  # type: ignore[index]
        if centers < 2 or rows % centers:
            raise ArgumentError(
                f"centers must be at least 2 and divide the {rows} rows of weight; got {centers}."
            )
        self.centers = centers

    def items(self, x: Tensor) -> Tensor:
        unit = normalize(x).view(-1, self.centers, x.shape[1])
        first, second = torch.triu_indices(self.centers, self.centers, 1, device=x.device)
        square = (
            (unit[:, first] - unit[:, second]).square().sum(2).flatten()
        )  # 2 − 2 cos, without cancellation
        equal = square <= torch.finfo(x.dtype).tiny
        return square.masked_fill(equal, 1.0).sqrt().masked_fill(equal, 0.0) / 2
