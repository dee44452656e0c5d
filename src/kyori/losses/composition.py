"""Losses made of losses: weighted sums, and one loss at several sizes of the embedding."""

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..distances import normalize
from ..errors import ArgumentError
from ..relations import Supervision
from .loss import Loss, Reduction, check_matrix
from .regularizers import Regularizer

__all__ = ["MatryoshkaLoss", "SumLoss", "call"]


class SumLoss(Loss):
    """A weighted sum of losses and regularisers, `Σ w_i · loss_i(embeddings, labels)`.

    Args:
        losses: Two or more; those with class vectors keep them here, as parameters of the sum.
        weights: One number per loss; by default 1.

    Raises:
        ArgumentError: No losses, or not one weight per loss.

    >>> from kyori.losses import ContrastiveLoss, TripletLoss
    >>> loss = SumLoss([TripletLoss(mining="all"), ContrastiveLoss()], weights=[1.0, 0.5])
    >>> x, labels = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.6, 0.8]]), torch.tensor([0, 0, 1])
    >>> bool(loss(x, labels) == loss.losses[0](x, labels) + 0.5 * loss.losses[1](x, labels))
    True
    """

    name: ClassVar[str] = "sum"
    formula: ClassVar[str] = "Σ w_i · loss_i"
    paper: ClassVar[str] = ""
    cost: ClassVar[str] = "that of its losses"

    def __init__(self, losses: Sequence[Loss], weights: Sequence[float] | None = None):
        super().__init__()
        _check_losses(losses, "losses")
        self.losses = nn.ModuleList(losses)
        self.weights = _weights(weights, len(losses), "loss")
        self._values: dict[str, Tensor] = {}

    @property
    def needs_classes(self) -> bool:  # type: ignore[override]
        """Whether a part has class vectors, so that labels must be class numbers."""
        return any(loss.needs_classes for loss in self.losses)

    @property
    def spherical(self) -> bool:  # type: ignore[override]
        """Whether all parts compare directions only; a part that looks at lengths needs them."""
        return all(loss.spherical for loss in self.losses)

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
        """The weighted sum; a part without references takes none, and one that needs labels must get them."""
        more = {
            "references": references, "reference_labels": reference_labels,
            "ids": ids, "reference_ids": reference_ids, "reduction": reduction,
        }  # fmt: skip
        values = [call(loss, embeddings, labels, **more) for loss in self.losses]
        self._values = {
            f"{i}.{loss.name}": value.detach().sum()
            for i, (loss, value) in enumerate(zip(self.losses, values, strict=True))
        }
        return torch.stack([weight * value for weight, value in zip(self.weights, values, strict=True)]).sum(
            0
        )

    @property
    def stats(self) -> dict[str, float]:
        """The first loss's statistics, each loss's value as `i.name`, and the sum of their `degenerate` counts."""
        parts: list[dict[str, float]] = [loss.stats for loss in self.losses]  # type: ignore[misc]
        values = {name: float(value) for name, value in self._values.items()}
        return parts[0] | values | {"degenerate": sum(part["degenerate"] for part in parts)}

    def extra_repr(self) -> str:
        return f"weights={self.weights}"


class MatryoshkaLoss(Loss):
    """One loss at several sizes: the first k coordinates of an embedding shall be a good embedding by themselves.

    `Σ_k w_k · loss(embeddings[:, :k], labels)`.

    Kusupati et al., "Matryoshka representation learning", NeurIPS 2022.

    Args:
        loss: A loss without class vectors, used at every size; or a list with one loss per size (losses with class
            vectors need one of each size).
        sizes: Numbers of coordinates, each at most the size of the embedding.
        weights: One number per size; by default 1.
        normalize: Put the shortened vectors on the unit sphere; by default if the loss compares directions only.

    Raises:
        ArgumentError: Sizes, weights and losses do not fit together; in a call, a size above the embedding's.

    >>> from kyori.losses import TripletLoss
    >>> loss = MatryoshkaLoss(TripletLoss(mining="all"), sizes=[4, 2])
    >>> x, labels = torch.eye(4), torch.tensor([0, 0, 1, 1])
    >>> bool(loss(x, labels) == loss.losses[0](x, labels) + loss.losses[0](x[:, :2], labels))
    True
    """

    name: ClassVar[str] = "matryoshka"
    formula: ClassVar[str] = "Σ_k w_k · loss of the first k coordinates"
    paper: ClassVar[str] = "Kusupati et al., Matryoshka representation learning, NeurIPS 2022"
    cost: ClassVar[str] = "that of its losses"

    def __init__(
        self,
        loss: Loss | Sequence[Loss],
        sizes: Sequence[int],
        weights: Sequence[float] | None = None,
        *,
        normalize: bool | None = None,
    ):
        super().__init__()
        if not sizes or min(sizes) < 1 or len(set(sizes)) < len(sizes):
            raise ArgumentError(
                f"sizes must be one or more different numbers of at least 1; got {list(sizes)}."
            )
        losses = [loss] if isinstance(loss, Loss) else list(loss)
        _check_losses(losses, "loss")
        if len(losses) == 1 and len(sizes) > 1 and losses[0].needs_classes:
            raise ArgumentError(
                f"loss must be a list with one loss per size, {len(sizes)} of them, for losses with class vectors; "
                f"got one {type(losses[0]).__name__}."
            )
        if len(losses) not in (1, len(sizes)):
            raise ArgumentError(f"loss must be one, or one per size, {len(sizes)}; got {len(losses)}.")
        self.losses = nn.ModuleList(losses)
        self.sizes = [int(size) for size in sizes]
        self.weights = _weights(weights, len(sizes), "size")
        self.normalize = losses[0].spherical if normalize is None else normalize

    @property
    def needs_classes(self) -> bool:  # type: ignore[override]
        """Whether its losses have class vectors."""
        return self.losses[0].needs_classes  # type: ignore[return-value]

    @property
    def spherical(self) -> bool:  # type: ignore[override]
        """Whether its losses compare directions only."""
        return self.losses[0].spherical  # type: ignore[return-value]

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
        """The weighted sum over the sizes, see the loss's own forward."""
        check_matrix(embeddings, "embeddings")
        if max(self.sizes) > embeddings.shape[1]:
            raise ArgumentError(
                f"sizes must be at most {embeddings.shape[1]}, the size of the embeddings; got {max(self.sizes)}."
            )
        total = []
        for i, (size, weight) in enumerate(zip(self.sizes, self.weights, strict=True)):
            others = None if references is None else self._part(references, size)
            value = call(
                self.losses[i if len(self.losses) > 1 else 0], self._part(embeddings, size), labels,
                references=others, reference_labels=reference_labels,
                ids=ids, reference_ids=reference_ids, reduction=reduction,
            )  # fmt: skip
            total.append(weight * value)
        return torch.stack(total).sum(0)

    def _part(self, x: Tensor, size: int) -> Tensor:
        part = x[:, :size]
        return normalize(part.to(torch.promote_types(part.dtype, torch.float32))) if self.normalize else part

    @property
    def stats(self) -> dict[str, float]:
        """The statistics of the loss at the last of the sizes (with one loss per size, of the first)."""
        return self.losses[0].stats  # type: ignore[return-value]

    def extra_repr(self) -> str:
        return f"sizes={self.sizes}, weights={self.weights}"


def call(loss: nn.Module, embeddings: Tensor, labels: Any, **more: Any) -> Tensor:
    """Call a loss with those of the keyword arguments it takes, ids dropped where it has no use for them.

    Raises:
        ArgumentError: The loss takes no references, and there are some. Regularisers look at the embeddings alone.
    """
    known = inspect.signature(loss.forward).parameters
    for name in () if isinstance(loss, Regularizer) else ("references", "reference_labels"):
        if name not in known and more.get(name) is not None:
            raise ArgumentError(
                f"{type(loss).__name__} takes no {name}; leave them out or choose another loss."
            )
    taken = {name: value for name, value in more.items() if name in known and value is not None}
    value: Tensor = loss(embeddings, labels, **taken)
    return value


def _check_losses(losses: Sequence[Any], name: str) -> None:
    if not losses or not all(isinstance(loss, Loss) for loss in losses):
        got = ", ".join(type(loss).__name__ for loss in losses) or "none"
        raise ArgumentError(f"{name} must be losses, modules of kyori.losses.Loss; got {got}.")


def _weights(weights: Sequence[float] | None, count: int, unit: str) -> list[float]:
    found = [1.0] * count if weights is None else [float(weight) for weight in weights]
    if len(found) != count:
        raise ArgumentError(f"weights must have {count} numbers, one per {unit}; got {len(found)}.")
    return found
