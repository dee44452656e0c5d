"""Losses of two views of the same items without negatives: what keeps the embeddings apart is their own spread."""

from typing import ClassVar

import torch
from torch import Tensor

from ..errors import ArgumentError
from ..relations import Supervision, relate
from .loss import Loss, Reduction, check_matrix, check_positive, spread

__all__ = ["BarlowTwinsLoss", "VICRegLoss", "ViewLoss"]


class ViewLoss(Loss):
    """Base of the losses of views: `loss(view1, references=view2)`, row i of both from the same item.

    With labels, every two items of a class are two views of one thing: `loss(embeddings, labels)`. A subclass writes
    `views`.
    """

    spherical: bool = False
    cost: ClassVar[str] = "n d²"

    def __init__(self) -> None:
        super().__init__()
        self._sums: dict[str, Tensor] = {}

    def views(self, x: Tensor, y: Tensor, pairs: Tensor | None) -> Tensor:
        """The loss of x (n, d) and y (m, d), with the pairs (n, m) as 0 and 1, or row by row if None."""
        raise NotImplementedError(f"{type(self).__name__} must define views")

    def forward(
        self,
        embeddings: Tensor,
        labels: Supervision | None = None,
        *,
        references: Tensor | None = None,
        reference_labels: Tensor | None = None,
        ids: Tensor | None = None,
        reference_ids: Tensor | None = None,
        reduction: Reduction = "mean",
    ) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (n, d) floats, not normalised; computed in float32 at least.
            labels: None with references row by row; else as in `PairwiseLoss.forward`.
            references: (n, d) the other views, or (m, d) with labels.
            reference_labels: Of the same kind as labels.
            ids: (n,) item ids; an item is never its own other view. Not used where views come row by row.
            reference_ids: (m,) item ids.
            reduction: "mean" only: the terms are statistics of the batch.

        Returns:
            Scalar with gradient; 0 with zero gradient, and a `DegenerateWarning` the first time, if there are fewer
            than 2 items or no two views of one.

        Raises:
            ArgumentError: Shapes or types do not fit.
        """
        check_matrix(embeddings, "embeddings")
        if reduction != "mean":
            raise ArgumentError(
                f"reduction must be 'mean': {type(self).__name__} is no sum over items; got {reduction!r}."
            )
        with torch.autocast(embeddings.device.type, enabled=False):
            x = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
            y = x
            if references is not None:
                check_matrix(references, "references", x.shape[1])
                y = references.to(x.dtype)
            pairs = None
            if labels is not None or references is None or len(y) != len(x):
                m = None if references is None else len(y)
                relations = relate(
                    labels, len(x), x.device, ids,
                    m=m, reference_labels=reference_labels, reference_ids=reference_ids,
                )  # fmt: skip
                pairs = relations.rows(slice(0, len(x)))[0].to(x.dtype)
            self._sums = {"spread": spread(x.detach())}
            nothing = x.sum() * 0.0 + y.sum() * 0.0
            if len(x) < 2 or len(y) < 2:
                self._count_starved(1, on_cpu=True)
                return nothing
            starved = torch.zeros_like(nothing, dtype=torch.bool) if pairs is None else pairs.sum() == 0
            self._count_starved(starved.int(), x.device.type == "cpu")
            return self.views(x, y, pairs).masked_fill(starved, 0.0) + nothing

    @property
    def stats(self) -> dict[str, float]:
        """What the last step saw, by name; reading it waits for the device.

        `active`: share of the coordinates that a term still acts on. `spread`: root mean square distance of the
        embeddings to their centre over their root mean square norm. `degenerate`: steps with nothing to learn from.
        """
        self._warn_if_starved()
        sums = {name: float(value) for name, value in self._sums.items()}
        return sums | {"degenerate": float(self._starved)}

    def _starvation(self) -> str:
        return "it has fewer than 2 items, or no two views of one. Pass references=, the other view of each item."


class VICRegLoss(ViewLoss):
    """Variance-invariance-covariance regularisation of two views.

    `λ · mean (x − y)² + μ · ½ Σ_{views} mean_k [1 − √(var_k + ε)]₊ + ν · Σ_{views} Σ_{k≠l} cov_kl² / d`.

    Bardes, Ponce & LeCun, "VICReg", ICLR 2022; the values are those of pytorch-metric-learning, except that its
    averages leave out coordinates and items whose own term is zero only with a reducer that says so.

    Args:
        invariance: λ ≥ 0.
        variance: μ ≥ 0.
        covariance: ν ≥ 0.
        epsilon: ε > 0 under the root.

    >>> loss = VICRegLoss()
    >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [1.0, 2.0]])
    >>> round(loss(x, references=x + 0.1).item(), 4)  # 25 · .01, and 25 · (1 − √(2/3 + 1e-4))
    4.8361
    """

    name: ClassVar[str] = "vicreg"
    formula: ClassVar[str] = "λ mean (x − y)² + μ/2 Σ_views mean_k [1 − σ_k]₊ + ν/d Σ_views Σ_{k≠l} cov_kl²"
    paper: ClassVar[str] = (
        "Bardes, Ponce & LeCun, VICReg: variance-invariance-covariance regularization, ICLR 2022"
    )

    def __init__(
        self,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        *,
        epsilon: float = 1e-4,
    ):
        super().__init__()
        for name, value in (("invariance", invariance), ("variance", variance), ("covariance", covariance)):
            if not value >= 0:
                raise ArgumentError(f"{name} must be at least 0; got {value}.")
        check_positive(epsilon, "epsilon")
        self.invariance = invariance
        self.variance = variance
        self.covariance = covariance
        self.epsilon = epsilon

    def views(self, x: Tensor, y: Tensor, pairs: Tensor | None) -> Tensor:
        narrow, entangled = [], x.new_zeros(())
        for view in (x, y):
            centred = view - view.mean(0)
            C = centred.T @ centred / (len(view) - 1)
            diagonal = C.diagonal()
            narrow.append((1.0 - (diagonal + self.epsilon).sqrt()).clamp(min=0))
            entangled = entangled + (C.square().sum() - diagonal.square().sum()) / x.shape[1]
        self._sums["active"] = (torch.stack(narrow).detach() > 0).to(x.dtype).mean()
        apart = _mean_square(x, y, pairs) / x.shape[1]
        spreading = torch.stack(narrow).mean(1).sum() / 2
        return self.invariance * apart + self.variance * spreading + self.covariance * entangled


class BarlowTwinsLoss(ViewLoss):
    """Barlow Twins: each coordinate shall agree between the views, and no two coordinates shall tell the same.

    With C the correlations (d, d) between the coordinates of both views, over the pairs:
    `Σ_k (1 − C_kk)² + λ · Σ_{k≠l} C_kl²`.

    Zbontar et al., "Barlow Twins", ICML 2021. A coordinate without variance correlates with nothing: C = 0.

    Args:
        redundancy: λ ≥ 0.

    >>> loss = BarlowTwinsLoss()
    >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [1.0, 2.0]])
    >>> round(loss(x, references=-x).item(), 4)  # C = −I: 2 · 2²
    8.0
    """

    name: ClassVar[str] = "barlowtwins"
    formula: ClassVar[str] = "Σ_k (1 − C_kk)² + λ Σ_{k≠l} C_kl²"
    paper: ClassVar[str] = (
        "Zbontar et al., Barlow Twins: self-supervised learning via redundancy reduction, ICML 2021"
    )

    def __init__(self, redundancy: float = 0.0051):
        super().__init__()
        if not redundancy >= 0:
            raise ArgumentError(f"redundancy must be at least 0; got {redundancy}.")
        self.redundancy = redundancy

    def views(self, x: Tensor, y: Tensor, pairs: Tensor | None) -> Tensor:
        first, second = _standard(x), _standard(y)
        C = (
            first.T @ second / len(first)
            if pairs is None
            else first.T @ (pairs @ second) / pairs.sum().clamp(min=1)
        )
        diagonal = C.diagonal()
        self._sums["active"] = (C.detach().diagonal() < 1 - 1e-3).to(x.dtype).mean()
        others = C.square().sum() - diagonal.square().sum()
        return (1.0 - diagonal).square().sum() + self.redundancy * others


def _standard(x: Tensor) -> Tensor:
    """Each coordinate with mean 0 and variance 1 over the batch; 0 where it does not vary."""
    centred = x - x.mean(0)
    variance = centred.square().mean(0)
    flat = variance <= torch.finfo(x.dtype).eps ** 2 * x.square().mean(0)
    return centred / variance.masked_fill(flat, 1.0).sqrt().masked_fill(flat, torch.inf)


def _mean_square(x: Tensor, y: Tensor, pairs: Tensor | None) -> Tensor:
    """Mean squared distance of the pairs."""
    if pairs is None:
        return (x - y).square().sum(1).mean()
    both = pairs.sum(1) @ x.square().sum(1) + pairs.sum(0) @ y.square().sum(1)
    return (both - 2 * (x * (pairs @ y)).sum()) / pairs.sum().clamp(min=1)
