"""Losses of class centroids, the means of the batch's own items."""

from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ..distances import Distance, normalize, pairwise_distance, row_distance
from ..errors import ArgumentError
from .loss import check_choice
from .pairwise import Block, PairwiseLoss, Rows, Seen, Terms, seen
from .rowwise import log_sum, only

__all__ = ["CentroidTripletLoss", "GE2ELoss"]


class _Centroids(NamedTuple):
    """Means of c classes (c, d), and the number of each reference's class (m,)."""

    means: Tensor
    classes: Tensor


class _CentroidLoss(PairwiseLoss):
    """Base of the losses that compare an anchor with the centroid of its positives and those of other classes."""

    per_anchor: ClassVar[bool] = True

    def against(self, block: Block, own: Tensor, others: Tensor, foreign: Tensor) -> Terms:
        """Terms from the centroids of positives (b, d) and of all classes (c, d), and which are foreign (b, c)."""
        raise NotImplementedError

    def look_at_list(self, x: Tensor, listed: object) -> list[Seen] | None:
        raise ArgumentError(
            f"{type(self).__name__} needs a class label for each item; got {type(listed).__name__}."
        )

    def look(self, rows: Rows) -> list[Seen]:
        labels = rows.relations.reference_labels
        if labels is None:
            raise ArgumentError(
                f"{type(self).__name__} needs a class label for each item; got label sets, relevance or none."
            )
        known, classes = labels.unique(return_inverse=True)
        total = torch.zeros(len(known), rows.y.shape[1], dtype=rows.y.dtype, device=rows.y.device)
        means = total.index_add(0, classes, rows.y) / classes.bincount()[:, None]
        return rows.each(lambda block: seen(block, self._terms(block, _Centroids(means, classes))))

    def _terms(self, block: Block, centroids: _Centroids) -> Terms:
        """The centroid of an anchor's own class is that of its positives: the anchor is not in it."""
        dtype, count = block.D.dtype, block.positives.clamp(min=1)[:, None]
        own = block.positive.to(dtype) @ block.y / count
        first = torch.zeros(len(centroids.means), dtype=torch.long, device=own.device)
        first[centroids.classes] = torch.arange(len(centroids.classes), device=own.device)
        return self.against(block, own, centroids.means, block.negative[:, first])


Form = Literal["softmax", "contrast"]


class GE2ELoss(_CentroidLoss):
    """Generalised end-to-end loss: an item shall be most like the centroid of its own class.

    With s_k = w·cos(a, c_k) + b for the centroid c_k of each class in the batch, that of its own class taken without
    the item itself, mean over the anchors of −s_own + log Σ_k exp s_k (`softmax`) or
    1 − σ(s_own) + max_{k≠own} σ(s_k) (`contrast`). w and b are learned; w is kept positive.

    Wan, Wang, Papir & Moreno, "Generalized end-to-end loss for speaker verification", ICASSP 2018, whose sum is
    `reduction="sum"`.

    Args:
        form: "softmax" or "contrast".
        scale: w > 0 at the beginning.
        bias: b at the beginning.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: Unknown form, `scale` not above 0, or a batch without one class label an item.

    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> round(GE2ELoss(scale=1.0)(x, torch.tensor([0, 0, 1])).item(), 4)  # log(1 + e^(0 − 1))
    0.3133
    """

    name: ClassVar[str] = "ge2e"
    formula: ClassVar[str] = "mean over anchors of −s_own + log Σ_k exp s_k, s_k = w·cos(a, c_k) + b"
    paper: ClassVar[str] = (
        "Wan, Wang, Papir & Moreno, Generalized end-to-end loss for speaker verification, ICASSP 2018"
    )
    cost: ClassVar[str] = "n m"

    def __init__(
        self,
        form: Form = "softmax",
        *,
        scale: float = 10.0,
        bias: float = -5.0,
        block_rows: int | None = None,
    ):
        super().__init__(distance="cosine", normalize=True, block_rows=block_rows)
        check_choice(form, "form", Form)
        if not scale > 0:
            raise ArgumentError(f"scale must be above 0; got {scale}.")
        self.form = form
        self.scale = nn.Parameter(torch.tensor(float(scale)))
        self.bias = nn.Parameter(torch.tensor(float(bias)))

    def against(self, block: Block, own: Tensor, others: Tensor, foreign: Tensor) -> Terms:
        scale = self.scale.clamp(min=1e-6).to(own.dtype)
        bias = self.bias.to(own.dtype)
        to_own = scale * (1.0 - row_distance(block.x, own, "cosine")) + bias
        to_others = scale * (normalize(block.x) @ normalize(others).T) + bias
        usable = (block.positives > 0) & foreign.any(1)
        if self.form == "softmax":
            rest = log_sum(to_others, foreign, 1.0)
            value = softplus(rest - to_own)
        else:
            closest = torch.sigmoid(to_others).masked_fill(~foreign, 0.0).amax(1)
            value = 1.0 - torch.sigmoid(to_own) + closest
        value = value.masked_fill(~usable, 0.0)
        return Terms(value[:, None], usable[:, None], (value > 0) & usable, usable)

    def extra_repr(self) -> str:
        return f"form={self.form!r}"


class CentroidTripletLoss(_CentroidLoss):
    """Centroid triplet loss: closer to the centroid of one's own class than to any other, by a margin.

    [D(a, c_own) − D(a, c_k) + m]₊ over the anchors that have a positive and every other class k of the batch, mean
    over those with a loss; c_own is the centroid of the anchor's positives, without the anchor.

    Wieczorek, Rychalska & Dąbrowski, "On the unreasonable effectiveness of centroids in image retrieval", ICONIP 2021.

    Args:
        margin: m ≥ 0, in units of the distance.
        hardest: Only the closest foreign centroid of each anchor.
        distance: A name from `kyori.distances`.
        normalize: Put embeddings on the unit sphere first; centroids are not.
        block_rows: Anchors worked on at a time, see `PairwiseLoss`.

    Raises:
        ArgumentError: Negative margin, or a batch without one class label an item.

    >>> loss = CentroidTripletLoss(margin=2.0, distance="euclidean", normalize=False)
    >>> x = torch.tensor([[0.0], [1.0], [3.0]])
    >>> round(loss(x, torch.tensor([0, 0, 1])).item(), 4)  # [1 − 3 + 2]₊ = 0 and 1 − 2 + 2
    1.0
    """

    name: ClassVar[str] = "centroidtriplet"
    formula: ClassVar[str] = "mean over anchors and other classes of [D(a, c_own) − D(a, c_k) + m]₊"
    paper: ClassVar[str] = (
        "Wieczorek, Rychalska & Dąbrowski, On the unreasonable effectiveness of centroids in image retrieval, "
        "ICONIP 2021"
    )
    cost: ClassVar[str] = "n m"

    def __init__(
        self,
        margin: float = 0.2,
        *,
        hardest: bool = False,
        distance: Distance = "squared_euclidean",
        normalize: bool = True,
        block_rows: int | None = None,
    ):
        super().__init__(distance=distance, normalize=normalize, block_rows=block_rows)
        if margin < 0:
            raise ArgumentError(f"margin must be at least 0; got {margin}.")
        self.margin = margin
        self.hardest = hardest

    def against(self, block: Block, own: Tensor, others: Tensor, foreign: Tensor) -> Terms:
        near = row_distance(block.x, own, self.distance)[:, None]
        far = pairwise_distance(block.x, others, self.distance)
        if self.hardest:
            place = only(far, foreign, torch.inf).argmin(1, keepdim=True)
            far, foreign = far.gather(1, place), foreign.gather(1, place)
        candidates = foreign & (block.positives > 0)[:, None]
        loss = (near - far + self.margin).clamp(min=0) * candidates
        active = (loss.detach() > 0).sum(1)
        return Terms(loss.sum(1)[:, None], active[:, None], active, candidates.sum(1))

    def extra_repr(self) -> str:
        return f"margin={self.margin}, hardest={self.hardest}, {super().extra_repr()}"
