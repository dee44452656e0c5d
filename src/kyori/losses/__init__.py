"""Losses for any training loop: `loss(embeddings, labels)` on (n, d) floats and (n,) integers.

Pair, triplet and ranking losses stand on one engine (`kyori.losses.pairwise`), classification losses on another
(`kyori.losses.softmax`). `LOSSES` is the table of names, `create` builds by name.
"""

import inspect
from typing import Any

from ..errors import ArgumentError, nearest_name
from ..relations import Pairs, Relevance, ScoredPairs, Triplets
from .adaptive import AdaCosLoss, AdaFaceLoss, CurricularFaceLoss, MagFaceLoss, P2SGradLoss
from .angular import AngularLoss
from .caching import cached_backward
from .centroid import CentroidTripletLoss, GE2ELoss
from .composition import MatryoshkaLoss, SumLoss
from .forces import Springs, springs
from .graded import AnglELoss, CoSENTLoss, CosineMSELoss
from .heads import (
    ArcFaceLoss,
    CombinedMarginLoss,
    CosFaceLoss,
    CosineLoss,
    L2SoftmaxLoss,
    NormFaceLoss,
    SoftmaxLoss,
)
from .histogram import DynamicSoftMarginLoss, HistogramLoss
from .infonce import MegaBatchMarginLoss, NTXentLoss, SigLIPLoss, SupConLoss
from .ladder import LadderLoss
from .loss import Loss
from .margin import MarginLoss
from .memory import CrossBatchMemory
from .multiple_negatives import GISTLoss, MultipleNegativesLoss
from .nca import NCALoss
from .pair import (
    ContrastiveLoss,
    IntraPairVarianceLoss,
    OnlineContrastiveLoss,
    ThresholdConsistentLoss,
)
from .pairwise import Block, PairwiseLoss, Rows, Seen, Terms, seen
from .proxy import ProxyAnchorLoss, ProxyNCALoss, ProxyNCAPlusPlusLoss
from .ranking import FastAPLoss, PNPLoss, RankedListLoss, RecallAtKLoss, SmoothAPLoss
from .ranks import AcrossRanks, across_ranks
from .regularized import CenterLoss, UniformFaceLoss
from .regularizers import (
    CenterInvariantRegularizer,
    NormRegularizer,
    RegularFaceRegularizer,
    Regularizer,
    SparseCentersRegularizer,
    SpreadOutRegularizer,
    ZeroMeanRegularizer,
)
from .settling import Settling, settle
from .softmax import ClassLoss, SoftmaxFamilyLoss
from .sphereface import LargeMarginSoftmaxLoss, SphereFaceLoss
from .subcenters import SoftTripleLoss, SubCenterArcFaceLoss
from .triplet import TripletLoss
from .tuplet import (
    CircleLoss,
    GeneralizedLiftedLoss,
    LiftedLoss,
    MultiSimilarityLoss,
    NPairsLoss,
    TupletMarginLoss,
)
from .views import BarlowTwinsLoss, VICRegLoss, ViewLoss

__all__ = [
    "LOSSES",
    "AcrossRanks",
    "AdaCosLoss",
    "AdaFaceLoss",
    "AnglELoss",
    "AngularLoss",
    "ArcFaceLoss",
    "BarlowTwinsLoss",
    "Block",
    "CenterInvariantRegularizer",
    "CenterLoss",
    "CentroidTripletLoss",
    "CircleLoss",
    "ClassLoss",
    "CoSENTLoss",
    "CombinedMarginLoss",
    "ContrastiveLoss",
    "CosFaceLoss",
    "CosineLoss",
    "CosineMSELoss",
    "CrossBatchMemory",
    "CurricularFaceLoss",
    "DynamicSoftMarginLoss",
    "FastAPLoss",
    "GE2ELoss",
    "GISTLoss",
    "GeneralizedLiftedLoss",
    "HistogramLoss",
    "IntraPairVarianceLoss",
    "L2SoftmaxLoss",
    "LadderLoss",
    "LargeMarginSoftmaxLoss",
    "LiftedLoss",
    "Loss",
    "MagFaceLoss",
    "MarginLoss",
    "MatryoshkaLoss",
    "MegaBatchMarginLoss",
    "MultiSimilarityLoss",
    "MultipleNegativesLoss",
    "NCALoss",
    "NPairsLoss",
    "NTXentLoss",
    "NormFaceLoss",
    "NormRegularizer",
    "OnlineContrastiveLoss",
    "P2SGradLoss",
    "PNPLoss",
    "Pairs",
    "PairwiseLoss",
    "ProxyAnchorLoss",
    "ProxyNCALoss",
    "ProxyNCAPlusPlusLoss",
    "RankedListLoss",
    "RecallAtKLoss",
    "RegularFaceRegularizer",
    "Regularizer",
    "Relevance",
    "Rows",
    "ScoredPairs",
    "Seen",
    "Settling",
    "SigLIPLoss",
    "SmoothAPLoss",
    "SoftTripleLoss",
    "SoftmaxFamilyLoss",
    "SoftmaxLoss",
    "SparseCentersRegularizer",
    "SphereFaceLoss",
    "SpreadOutRegularizer",
    "Springs",
    "SubCenterArcFaceLoss",
    "SumLoss",
    "SupConLoss",
    "Terms",
    "ThresholdConsistentLoss",
    "TripletLoss",
    "Triplets",
    "TupletMarginLoss",
    "UniformFaceLoss",
    "VICRegLoss",
    "ViewLoss",
    "ZeroMeanRegularizer",
    "across_ranks",
    "cached_backward",
    "create",
    "describe",
    "options",
    "seen",
    "settle",
    "springs",
]

LOSSES: dict[str, type[Loss]] = {
    loss.name: loss
    for loss in (
        ContrastiveLoss,
        OnlineContrastiveLoss,
        IntraPairVarianceLoss,
        ThresholdConsistentLoss,
        MarginLoss,
        TripletLoss,
        CentroidTripletLoss,
        AngularLoss,
        NPairsLoss,
        TupletMarginLoss,
        LiftedLoss,
        GeneralizedLiftedLoss,
        MultiSimilarityLoss,
        CircleLoss,
        RankedListLoss,
        FastAPLoss,
        SmoothAPLoss,
        PNPLoss,
        RecallAtKLoss,
        HistogramLoss,
        DynamicSoftMarginLoss,
        GE2ELoss,
        NTXentLoss,
        SupConLoss,
        MultipleNegativesLoss,
        GISTLoss,
        SigLIPLoss,
        MegaBatchMarginLoss,
        VICRegLoss,
        BarlowTwinsLoss,
        LadderLoss,
        CoSENTLoss,
        AnglELoss,
        CosineMSELoss,
        SoftmaxLoss,
        NormFaceLoss,
        L2SoftmaxLoss,
        LargeMarginSoftmaxLoss,
        SphereFaceLoss,
        CosFaceLoss,
        ArcFaceLoss,
        CombinedMarginLoss,
        SubCenterArcFaceLoss,
        AdaFaceLoss,
        MagFaceLoss,
        CurricularFaceLoss,
        AdaCosLoss,
        P2SGradLoss,
        UniformFaceLoss,
        CenterLoss,
        NCALoss,
        ProxyNCALoss,
        ProxyNCAPlusPlusLoss,
        ProxyAnchorLoss,
        SoftTripleLoss,
    )
}


def options(name: str) -> dict[str, Any]:
    """The options of a loss and their defaults.

    >>> options("nca")
    {'scale': 1.0, 'distance': 'squared_euclidean', 'normalize': True, 'block_rows': None}
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
        if "num_classes" in inspect.signature(loss).parameters:
            settings["num_classes"] = num_classes
        return loss(**settings)
    if num_classes is None or embedding_size is None:
        raise ArgumentError(
            f"{name} has a vector for each class and needs num_classes and embedding_size; "
            f"got num_classes={num_classes}, embedding_size={embedding_size}."
        )
    return loss(num_classes, embedding_size, **settings)  # type: ignore[call-arg]


def describe(name: str) -> dict[str, Any]:
    """What a loss is, as plain values: name, class, formula, paper, cost, options with defaults.

    >>> describe("triplet")["formula"]
    'mean over triplets of [D(a,p) − D(a,n) + m]₊'
    """
    loss = _find(name)
    return {
        "name": name,
        "class": loss.__name__,
        "formula": loss.formula,
        "paper": loss.paper,
        "cost": loss.cost,
        "options": options(name),
    }


def _find(name: str) -> type[Loss]:
    if name not in LOSSES:
        raise ArgumentError(f"loss must be the name of a loss; got {name!r}{nearest_name(name, LOSSES)}")
    return LOSSES[name]
