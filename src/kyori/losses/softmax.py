"""The engine of the classification losses: cross-entropy without ever holding all logits.

With z the logits and t the target's logit (where a margin acts), the cross-entropy of one item is
`softplus(log Σ_{j≠y} exp z_j − t)`. The sum over the other classes runs over chunks of classes, keeps only
its logarithm, and is recomputed in the backward pass: exact, in O(n × chunk) memory. What is left for a loss
is its target: one number per item.
"""

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..distances import normalize
from ..errors import ArgumentError
from ..relations import integers
from .loss import Loss, Reduction, check_matrix, check_reduction, reduce, spread

__all__ = ["Logits", "SoftmaxFamilyLoss"]

_CHUNK_NUMBERS = 2**24  # 64 MiB of float32 logits at a time, unless chunk_classes says otherwise


class Logits(NamedTuple):
    """Linear logits, `features @ weight.T + bias`, and how the target's differs.

    `features` (n, d), `weight` (c, d), `bias` (c,) or None, `target` (n,): the target's logit with its
    margin; `plain` (n,): without; `cosine` (n,): cosine of the target's angle, or None where the loss knows
    no angle.
    """

    features: Tensor
    weight: Tensor
    bias: Tensor | None
    target: Tensor
    plain: Tensor
    cosine: Tensor | None = None


class SoftmaxFamilyLoss(Loss):
    """Base of the losses with one learnable vector per class: `loss(embeddings, labels)`.

    A subclass writes `outputs`, the logits of a batch, and its defaults.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        bias: Whether logits have a learnable bias.
        chunk_classes: Classes worked on at a time; by default as many as give 64 MiB of logits.

    Attributes:
        weight: (c, d) class vectors.
        bias: (c,) or None.
    """

    needs_classes: ClassVar[bool] = True
    cost: ClassVar[str] = "n c"

    def __init__(
        self, num_classes: int, embedding_size: int, *, bias: bool = False, chunk_classes: int | None = None
    ):
        super().__init__()
        if num_classes < 2:
            raise ArgumentError(
                f"num_classes must be at least 2, or there is nothing to separate; got {num_classes}."
            )
        if embedding_size < 1:
            raise ArgumentError(f"embedding_size must be at least 1; got {embedding_size}.")
        if chunk_classes is not None and chunk_classes < 1:
            raise ArgumentError(f"chunk_classes must be at least 1 or None; got {chunk_classes}.")
        self.chunk_classes = chunk_classes
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_size))
        self.bias = nn.Parameter(torch.zeros(num_classes)) if bias else None
        nn.init.xavier_uniform_(self.weight)
        self._stats: dict[str, Tensor] = {}
        self._labels_seen = False

    def outputs(self, x: Tensor, labels: Tensor) -> Logits:
        """The logits of x (n, d) for labels (n,)."""
        raise NotImplementedError(f"{type(self).__name__} must define outputs")

    def forward(self, embeddings: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
        """The mean loss of a batch.

        Args:
            embeddings: (n, d) floats; computed in float32 at least.
            labels: (n,) integers from 0 to c − 1.
            reduction: "mean", "sum", or "none" for the (n,) losses of the items.

        Returns:
            Scalar with gradient; 0 with zero gradient, and a `DegenerateWarning` the first time, if n = 0.

        Raises:
            ArgumentError: Shapes or types do not fit, or a label is no class number (looked at in each step
                on the CPU, in the first step elsewhere).
        """
        x, labels = self._check(embeddings, labels)
        check_reduction(reduction)
        if not len(x):
            self._count_starved(1, on_cpu=True)
            nothing = x.sum() * 0.0 + self.weight.sum() * 0.0
            return x.new_zeros(0) + nothing if reduction == "none" else nothing
        with torch.autocast(x.device.type, enabled=False):
            logits = self.outputs(x, labels)
            chunk = self.chunk_classes or max(1, _CHUNK_NUMBERS // len(x))
            others, best = _OtherClasses.apply(logits.features, logits.weight, logits.bias, labels, chunk)
            self._record(x, logits, best)
            return reduce(nn.functional.softplus(others - logits.target), reduction)

    def logits(self, embeddings: Tensor) -> Tensor:
        """Logits (n, c) of embeddings (n, d), without margin: what the classes score at prediction."""
        check_matrix(embeddings, "embeddings", self.weight.shape[1])
        with torch.autocast(embeddings.device.type, enabled=False):
            x = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
            outputs = self.outputs(x, torch.zeros(len(x), dtype=torch.long, device=x.device))
            return nn.functional.linear(outputs.features, outputs.weight, outputs.bias)

    @property
    def stats(self) -> dict[str, float]:
        """What the last step saw; reading it waits for the device.

        `active`: share of items whose class does not score highest; `accuracy`: share of those whose does, no
        margin; `target_angle`: mean angle to the own class vector in radians, where the loss has one;
        `feature_norm`: mean; `spread`: as in `PairwiseLoss.stats`; `degenerate`: number of empty batches so
        far.
        """
        return {name: float(value) for name, value in self._stats.items()} | {
            "degenerate": float(self._starved)
        }

    def extra_repr(self) -> str:
        classes, size = self.weight.shape
        return f"num_classes={classes}, embedding_size={size}"

    def _check(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        classes, size = self.weight.shape
        check_matrix(embeddings, "embeddings", size)
        labels = integers(labels, "labels", len(embeddings), "embedding")
        if labels.numel() and (labels.device.type == "cpu" or not self._labels_seen):
            self._labels_seen = True
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= classes:
                raise ArgumentError(
                    f"labels must be class numbers 0 to {classes - 1} (num_classes={classes}); "
                    f"got {low} to {high}. "
                    "Number the classes without gaps, or pass a larger num_classes."
                )
        x = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        return x, labels.to(x.device)

    @torch.no_grad()
    def _record(self, x: Tensor, logits: Logits, best_other: Tensor) -> None:
        right = (logits.plain > best_other).float().mean()
        self._stats = {
            "active": 1.0 - right,
            "accuracy": right,
            "feature_norm": x.norm(dim=1).mean(),
            "spread": spread(normalize(x)) if self.spherical else spread(x),
        }
        if logits.cosine is not None:
            self._stats["target_angle"] = logits.cosine.clamp(-1, 1).acos().mean()


class _OtherClasses(torch.autograd.Function):
    """log Σ_{j≠y} exp(x·w_j + b_j) and max_{j≠y} (x·w_j + b_j), both (n,), chunk by chunk of classes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor]:
        total = x.new_full((len(x),), -torch.inf)
        best = total.clone()
        for start in range(0, len(weight), chunk):
            z = _others(x, weight, bias, labels, start, chunk)
            total = torch.logaddexp(total, z.logsumexp(1))
            best = torch.maximum(best, z.amax(1))
        ctx.chunk = chunk
        ctx.save_for_backward(x, weight, bias, labels, total)
        ctx.mark_non_differentiable(best)
        return total, best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, labels, total = ctx.saved_tensors
        x_gradient = torch.zeros_like(x)
        weight_gradient = torch.empty_like(weight)
        bias_gradient = None if bias is None else torch.empty_like(bias)
        with torch.autocast(x.device.type, enabled=False):
            for start in range(0, len(weight), ctx.chunk):
                rows = slice(start, start + ctx.chunk)
                share = _others(x, weight, bias, labels, start, ctx.chunk).sub_(total[:, None]).exp_()
                share.mul_(gradient[:, None])
                x_gradient.addmm_(share, weight[rows])
                weight_gradient[rows] = share.T @ x
                if bias_gradient is not None:
                    bias_gradient[rows] = share.sum(0)
        return x_gradient, weight_gradient, bias_gradient, None, None


def _others(x: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, start: int, chunk: int) -> Tensor:
    """Logits (n, ≤ chunk) of the classes from `start` on, −inf at the item's own class."""
    rows = slice(start, start + chunk)
    z = nn.functional.linear(x, weight[rows], None if bias is None else bias[rows])
    inside = (labels >= start) & (labels < start + z.shape[1])
    own = (labels - start).clamp(0, z.shape[1] - 1)[:, None]
    return z.scatter_(1, own, z.gather(1, own).masked_fill(inside[:, None], -torch.inf))
