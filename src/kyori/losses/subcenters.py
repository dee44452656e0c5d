"""The classification losses with several vectors a class: sub-centre ArcFace and SoftTriple."""

import math
from typing import ClassVar, Literal, Unpack

import torch
from torch import Tensor

from ..distances import normalize
from ..errors import ArgumentError
from .classes import Classes, unit_rows
from .heads import ArcFaceLoss, CosineLoss
from .loss import check_positive
from .softmax import CosineOptions

__all__ = ["SoftTripleLoss", "SubCenterArcFaceLoss"]

_ITEMS = 2**16  # of a whole training set that are looked at at a time


class SubCenterArcFaceLoss(ArcFaceLoss):
    """Sub-centre ArcFace: K vectors a class, of which the nearest to the item counts.

    cos θ_j is the largest cosine to the K vectors of class j; the rest is ArcFace. Mislabelled items of a class
    gather around other vectors of it than the clean ones, so that the class's dominant vector stays clean;
    `label_errors` finds them.

    Deng, Guo, Liu, Gong & Zafeiriou, "Sub-center ArcFace: boosting face recognition by large-scale noisy web
    faces", ECCV 2020.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        margin: m in radians, from 0 to below π. (pytorch-metric-learning takes degrees.)
        scale: s > 0.
        subcenters: K ≥ 1.
        gradient: As in `ArcFaceLoss`.
        **shared: See `CosineLoss`.

    >>> SubCenterArcFaceLoss(num_classes=10, embedding_size=64).weight.shape
    torch.Size([10, 3, 64])
    """

    name: ClassVar[str] = "subcenterarcface"
    formula: ClassVar[str] = "ArcFace with cos θ_j = max_k cos(x, w_jk)"
    paper: ClassVar[str] = (
        "Deng, Guo, Liu, Gong & Zafeiriou, Sub-center ArcFace: boosting face recognition by large-scale noisy "
        "web faces, ECCV 2020"
    )

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        margin: float = 0.5,
        scale: float = 64.0,
        subcenters: int = 3,
        gradient: Literal["exact", "straight_through"] = "straight_through",
        **shared: Unpack[CosineOptions],
    ):
        if subcenters < 1:
            raise ArgumentError(f"subcenters must be at least 1; got {subcenters}.")
        CosineLoss.__init__(self, num_classes, embedding_size, scale=scale, vectors=subcenters, **shared)
        self._set(margin, gradient)

    @torch.no_grad()
    def dominant_centers(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The vector (c, d), of length 1, of each class that is nearest to most of its items.

        Args:
            embeddings: (n, d), of the whole training set.
            labels: (n,) class numbers. A class without items keeps its first vector; ties go to the first.
        """
        x, labels = self._check(embeddings, labels)
        centers = unit_rows(self._subcenters())
        votes = torch.zeros(centers.shape[:2], device=x.device)
        for rows in torch.arange(len(x), device=x.device).split(_ITEMS):
            cosines = (normalize(x[rows])[:, None] * centers[labels[rows]]).sum(2)
            ones = torch.ones(len(rows), device=x.device)
            votes.index_put_((labels[rows], cosines.argmax(1)), ones, accumulate=True)
        return centers[torch.arange(len(centers), device=x.device), votes.argmax(1)]

    @torch.no_grad()
    def label_errors(self, embeddings: Tensor, labels: Tensor, beyond: float = math.radians(75)) -> Tensor:
        """Which items (n,) are suspected to be mislabelled: those far from their class's dominant vector.

        Args:
            embeddings: (n, d), of the whole training set, as the trained embedder gives them.
            labels: (n,) class numbers.
            beyond: Angle in radians from which on an item is suspected, above 0 and below π.

        >>> loss = SubCenterArcFaceLoss(num_classes=2, embedding_size=2, subcenters=1)
        >>> _ = loss.weight.data.copy_(torch.eye(2))
        >>> loss.label_errors(torch.eye(2)[[0, 0, 1]], torch.tensor([0, 1, 1]))
        tensor([False,  True, False])
        """
        if not 0 < beyond < math.pi:
            raise ArgumentError(f"beyond must be above 0 and below π = 3.14, in radians; got {beyond}.")
        centers = self.dominant_centers(embeddings, labels)
        x, labels = self._check(embeddings, labels)
        return (normalize(x) * centers[labels]).sum(1) < math.cos(beyond)

    def _subcenters(self) -> Tensor:
        if self.shard is not None:
            raise ArgumentError(
                "dominant centers need the vectors of all classes, and each rank holds a shard of them; load the "
                "state_dict into a loss without shards."
            )
        return self.weight if self.weight.ndim == 3 else self.weight[:, None]


class SoftTripleLoss(CosineLoss):
    """SoftTriple: K vectors a class, blended by their nearness; a softmax that acts as a smoothed triplet loss.

    The similarity to class j is S_j = Σ_k softmax_k(cos_jk / γ) cos_jk. The logits are λ(S_y − δ) and λS_j; added is
    τ Σ_j Σ_{k<l} √(2 − 2w_jk·w_jl) / (c K(K − 1)), which draws vectors of a class together that it does not need.

    Qian, Shang, Sun, Hu, Li & Jin, "SoftTriple loss: deep metric learning without triplet sampling", ICCV 2019.
    Differs from pytorch-metric-learning, which leaves out the regulariser: `strength=0`.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        scale: λ > 0.
        margin: δ ≥ 0, in cosine.
        temperature: γ > 0.
        subcenters: K ≥ 1.
        strength: τ ≥ 0.
        **shared: See `CosineLoss`; `filter_above` filters by S_j.

    >>> SoftTripleLoss(num_classes=10, embedding_size=64, subcenters=4).weight.shape
    torch.Size([10, 4, 64])
    """

    name: ClassVar[str] = "softtriple"
    formula: ClassVar[str] = (
        "cross-entropy with target λ(S_y − δ), others λS_j, S_j = Σ_k softmax_k(cos_jk/γ) cos_jk; plus "
        "τ · mean over a class's vectors of √(2 − 2w_jk·w_jl)/2"
    )
    paper: ClassVar[str] = (
        "Qian, Shang, Sun, Hu, Li & Jin, SoftTriple loss: deep metric learning without triplet sampling, ICCV 2019"
    )

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        scale: float = 20.0,
        margin: float = 0.01,
        temperature: float = 0.1,
        subcenters: int = 10,
        *,
        strength: float = 0.2,
        **shared: Unpack[CosineOptions],
    ):
        if subcenters < 1:
            raise ArgumentError(f"subcenters must be at least 1; got {subcenters}.")
        super().__init__(num_classes, embedding_size, scale=scale, vectors=subcenters, **shared)
        if margin < 0:
            raise ArgumentError(f"margin must be at least 0; got {margin}.")
        check_positive(temperature, "temperature")
        if strength < 0:
            raise ArgumentError(f"strength must be at least 0; got {strength}.")
        self.margin, self.temperature, self.strength = margin, temperature, strength

    def merge(self, z: Tensor) -> Tensor:
        return ((z / (self.scale * self.temperature)).softmax(1) * z).sum(1)

    def target(self, cosine: Tensor) -> Tensor:
        return cosine - self.margin

    def values(self, x: Tensor, classes: Classes) -> Tensor:
        values = super().values(x, classes)
        if not self.strength or classes.weight.ndim == 2:
            return values
        share = len(classes.weight) / classes.number  # of the classes, where ranks hold some of them each
        spread = classes.over_all(self.spread_of_subcenters(classes.weight) * share)
        return values + self.strength * spread

    def spread_of_subcenters(self, weight: Tensor) -> Tensor:
        """The regulariser of class vectors (c, k, d), a scalar."""
        c, k, _ = weight.shape
        w = unit_rows(weight)
        first, second = torch.triu_indices(k, k, offset=1, device=weight.device)
        squared = 2.0 - 2.0 * torch.einsum("ckd,cld->ckl", w, w)[:, first, second]
        tiny = torch.finfo(weight.dtype).eps  # equal vectors need no force; the root has none at 0
        return squared.clamp(min=tiny).sqrt().sum() / (c * k * (k - 1))
