"""Losses for any training loop: `loss(embeddings, labels)` on (n, d) floats and (n,) integers.

Pair, triplet and ranking losses stand on one engine (`kyori.losses.pairwise`), classification losses on another
(`kyori.losses.softmax`). `LOSSES` is the table of names, `create` builds by name.
"""

import inspect
from typing import Any

from ..errors import ArgumentError, nearest_name
from ..relations import Pairs, Relevance, Triplets
from .heads import (
    ArcFaceLoss,
    CosFaceLoss,
    CosineLoss,
    L2SoftmaxLoss,
    NormFaceLoss,
    SoftmaxLoss,
    SphereFaceLoss,
)
from .loss import Loss
from .pair import ContrastiveLoss
from .pairwise import Block, PairwiseLoss, Rows, Seen, Terms, seen
from .softmax import Logits, SoftmaxFamilyLoss
from .triplet import TripletLoss

__all__ = [
    "LOSSES",
    "ArcFaceLoss",
    "Block",
    "ContrastiveLoss",
    "CosFaceLoss",
    "CosineLoss",
    "L2SoftmaxLoss",
    "Logits",
    "Loss",
    "NormFaceLoss",
    "Pairs",
    "PairwiseLoss",
    "Relevance",
    "Rows",
    "Seen",
    "SoftmaxFamilyLoss",
    "SoftmaxLoss",
    "SphereFaceLoss",
    "Terms",
    "TripletLoss",
    "Triplets",
    "create",
    "options",
    "seen",
]

LOSSES: dict[str, type[Loss]] = {
    loss.name: loss
    for loss in (
        ContrastiveLoss,
        TripletLoss,
        SoftmaxLoss,
        NormFaceLoss,
        L2SoftmaxLoss,
        SphereFaceLoss,
        CosFaceLoss,
        ArcFaceLoss,
    )
}


def options(name: str) -> dict[str, Any]:
    """The options of a loss and their defaults.

    >>> options("normface")
    {'scale': 20.0, 'chunk_classes': None}
    """
    parameters = inspect.signature(_find(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in ("num_classes", "embedding_size")}


def create(
    name: str, *, num_classes: int | None = None, embedding_size: int | None = None, **settings: Any
) -> Loss:
    """Build a loss by name.

    Args:
        name: A key of `LOSSES`.
        num_classes: For losses with class vectors (`needs_classes`); others do not use it.
        embedding_size: The same.
        **settings: Options of the loss, see `options(name)`; an unknown one is an error.

    Raises:
        ArgumentError: Unknown name, unknown option, or a size that the loss needs is missing.

    >>> create("triplet", margin=0.3).margin
    0.3
    """
    loss = _find(name)
    known = options(name)
    for option in settings:
        if option not in known:
            raise ArgumentError(
                f"{option!r} is no option of {name}{nearest_name(option, known)} "
                f"(options: {', '.join(known)})"
            )
    if not loss.needs_classes:
        return loss(**settings)
    if num_classes is None or embedding_size is None:
        raise ArgumentError(
            f"{name} has a vector for each class and needs num_classes and embedding_size; "
            f"got num_classes={num_classes}, embedding_size={embedding_size}."
        )
    return loss(num_classes, embedding_size, **settings)  # type: ignore[call-arg]


def _find(name: str) -> type[Loss]:
    if name not in LOSSES:
        raise ArgumentError(f"loss must be the name of a loss; got {name!r}{nearest_name(name, LOSSES)}")
    return LOSSES[name]
