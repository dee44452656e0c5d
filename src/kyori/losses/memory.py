"""Cross-batch memory: past embeddings as further references of each batch."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..relations import Supervision, integers
from .composition import MatryoshkaLoss, SumLoss
from .loss import Loss, Reduction, check_matrix
from .pairwise import PairwiseLoss
from .regularizers import Regularizer

__all__ = ["CrossBatchMemory"]


class CrossBatchMemory(Loss):
    """A loss whose anchors see, beside their batch, the embeddings of past batches: many negatives on small memory.

    `loss(batch, labels, references=[batch, queue])`: the batch with gradient, as without a memory, and then the newest
    `size` items of former steps, without. A copy of an anchor in the queue is neither its positive nor its negative; it
    is known by its item id, so pass `ids` (without them every row is a new item). The queue, its ids and its
    position are in `state_dict`. In evaluation mode the queue is read but not changed.

    Wang et al., "Cross-batch memory for embedding learning" (XBM), CVPR 2020. Differs from pytorch-metric-learning in
    that the batch's own part keeps the gradient of both of its sides, and copies of an item from former epochs are
    known by id.

    Args:
        loss: Any pair, triplet or ranking loss (`PairwiseLoss`), or a `MatryoshkaLoss` or `SumLoss` of these.
        embedding_size: d.
        size: Items in the queue, at least 1.
        warmup: Training steps during which the queue is filled but not used, while embeddings still move fast.

    Raises:
        ArgumentError: The loss takes no references, a size is out of range; in a call, labels are no integers.

    >>> from kyori.losses import ContrastiveLoss
    >>> loss = CrossBatchMemory(ContrastiveLoss(), embedding_size=2, size=100)
    >>> for step in range(3):
    ...     value = loss(torch.eye(2).repeat(2, 1), torch.tensor([0, 1, 0, 1]))
    >>> loss.stats["memory"]
    12.0
    """

    name: ClassVar[str] = "memory"
    formula: ClassVar[str] = "loss(batch; references = batch and queue)"
    paper: ClassVar[str] = "Wang et al., Cross-batch memory for embedding learning, CVPR 2020"
    cost: ClassVar[str] = "that of its loss with m = n + size"

    def __init__(self, loss: Loss, embedding_size: int, size: int = 1024, *, warmup: int = 0):
        super().__init__()
        if not _takes_references(loss):
            raise ArgumentError(
                f"loss must be a pair, triplet or ranking loss, which takes references; got {type(loss).__name__}."
            )
        for name, value, least in (
            ("embedding_size", embedding_size, 1),
            ("size", size, 1),
            ("warmup", warmup, 0),
        ):
            if value < least:
                raise ArgumentError(f"{name} must be at least {least}; got {value}.")
        self.loss = loss
        self.size = size
        self.warmup = warmup
        self.queue: Tensor
        self.queue_labels: Tensor
        self.queue_ids: Tensor
        self.step: Tensor
        self.seen: Tensor
        self.register_buffer("queue", torch.zeros(size, embedding_size))
        self.register_buffer("queue_labels", torch.zeros(size, dtype=torch.long))
        self.register_buffer("queue_ids", torch.zeros(size, dtype=torch.long))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))  # training steps so far
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))  # items put in so far

    @property
    def spherical(self) -> bool:  # type: ignore[override]
        """As its loss."""
        return self.loss.spherical

    def forward(
        self,
        embeddings: Tensor,
        labels: Supervision | None = None,
        *,
        ids: Tensor | None = None,
        reduction: Reduction = "mean",
    ) -> Tensor:
        """The loss of a batch among itself and the queue; then, in training, the batch enters the queue.

        Args:
            embeddings: (n, d) floats.
            labels: (n,) integers.
            ids: (n,) item ids of 0 and above; without them every row is an item never seen before.
            reduction: As in the loss.
        """
        check_matrix(embeddings, "embeddings", self.queue.shape[1])
        classes = self._classes(labels, len(embeddings)).to(embeddings.device)
        own = self._ids(ids, len(embeddings), embeddings.device)
        filled = min(int(self.seen), self.size)
        if not filled or (self.training and self.step < self.warmup):
            value = self.loss(embeddings, classes, ids=own, reduction=reduction)
        else:
            value = self.loss(
                embeddings, classes, ids=own, reduction=reduction,
                references=torch.cat([embeddings, self.queue[:filled].to(embeddings.dtype)]),
                reference_labels=torch.cat([classes, self.queue_labels[:filled]]),
                reference_ids=torch.cat([own, self.queue_ids[:filled]]),
            )  # fmt: skip
        if self.training:
            self._enqueue(embeddings.detach(), classes, own)
        return value

    def clear(self) -> None:
        """Empty the queue."""
        self.seen.zero_()
        self.step.zero_()

    @property
    def stats(self) -> dict[str, float]:
        """The loss's own statistics, and `memory`, the items in the queue."""
        return self.loss.stats | {"memory": float(min(int(self.seen), self.size))}

    def extra_repr(self) -> str:
        return f"size={self.size}, warmup={self.warmup}"

    @torch.no_grad()
    def _enqueue(self, x: Tensor, labels: Tensor, ids: Tensor) -> None:
        start = int(self.seen) + max(0, len(x) - self.size)
        x, labels, ids = x[-self.size :], labels[-self.size :], ids[-self.size :]
        place = (torch.arange(len(x), device=x.device) + start) % self.size
        self.queue[place] = x.to(self.queue.dtype)
        self.queue_labels[place] = labels
        self.queue_ids[place] = ids
        self.seen.fill_(start + len(x))
        self.step += 1

    def _ids(self, ids: Tensor | None, n: int, device: torch.device) -> Tensor:
        if ids is None:
            return -1 - int(self.seen) - torch.arange(n, device=device)  # below 0: no item's id
        own = integers(ids, "ids", n, "embedding").to(device)
        if device.type == "cpu" and n and int(own.min()) < 0:
            raise ArgumentError(f"ids must be at least 0 with a memory; got {int(own.min())}.")
        return own

    @staticmethod
    def _classes(labels: Any, n: int) -> Tensor:
        if not isinstance(labels, Tensor) or labels.dtype == torch.bool:
            got = "booleans" if isinstance(labels, Tensor) else type(labels).__name__
            raise ArgumentError(
                f"labels must be integers of shape ({n},) with a memory, which keeps one class per item; got {got}."
            )
        return integers(labels, "labels", n, "embedding")


def _takes_references(loss: nn.Module) -> bool:
    if isinstance(loss, MatryoshkaLoss | SumLoss):
        return all(_takes_references(part) for part in loss.losses)
    return isinstance(loss, PairwiseLoss | Regularizer)
