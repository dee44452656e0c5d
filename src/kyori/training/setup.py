"""From a configuration and the training items to the parts of a run."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from .. import losses
from ..data import (
    AlignedBatches,
    Augment,
    PairBatches,
    PKBatches,
    Preprocess,
    ShuffleBatches,
    Source,
    ViewBatches,
)
from ..data.streams import Stream
from ..errors import ArgumentError, ConfigError, DataError, DataWarning
from ..models import Embedder
from .config import AugmentConfig, RunConfig
from .streaming import stream_classes, stream_sample

__all__ = ["build", "create_augment", "create_batches", "train_classes"]


def build(
    config: RunConfig, source: Source | Stream, *, backbone: nn.Module | None = None
) -> tuple[Embedder, nn.Module]:
    """Build the embedder and the loss for training on ``source``; both depend on the seed alone.

    Args:
        config: Sections model, loss and data.scaling count here.
        source: The training items: the preprocessing is fitted to them, a head gets their classes.
        backbone: A module of the caller's own in place of ``model.backbone``.

    Returns:
        The embedder, and the loss with its head, if it has one, sized to fit.

    Raises:
        DataError: ``source`` has no labels or fewer than two classes.
        ArgumentError: The backbone does not exist or cannot take these items.
        ConfigError: A setting contradicts the model in ``model.init``, or does not suit this backbone.
    """
    model = config.model
    names: Sequence[str]
    if isinstance(source, Stream):
        names = stream_classes(config, source)
        count, source = max(2, len(names)), stream_sample(source)
    else:
        classes, _ = train_classes(source, views=config.batches.kind == "views")
        count = len(classes)
        codes = () if source.labels is None else np.flatnonzero(np.bincount(source.labels))
        names = [source.class_names[code] for code in codes]
    loss = _create_loss(config, num_classes=count, embedding_size=1)  # to ask what it compares
    normalize = getattr(loss, "spherical", True) if model.unit_norm == "auto" else model.unit_norm
    if model.init is not None:
        embedder = _continued(config, backbone)
        embedder.normalize, embedder.class_names = normalize, tuple(names)
    else:
        embedder = Embedder.create(
            model.backbone if backbone is None else backbone,
            _inputs(config, source),
            embedding_size=model.embedding_size,
            normalize=normalize,
            pooling=model.pooling,
            layers=model.head_layers,
            norm=model.head_norm,
            pretrained=model.pretrained and backbone is None,
            weights=model.weights_file if backbone is None else None,
            options=model.backbone_options if backbone is None else None,
            class_names=names,
            seed=config.seed,
        )
    if model.freeze != "none":
        try:
            embedder.freeze(model.freeze)
        except ArgumentError as error:
            raise ConfigError(f"model.freeze: {error}") from error
        if (
            model.freeze_epochs is not None
        ):  # the optimizer shall know all weights; the loop freezes them in time
            embedder.freeze("none")
    sizes = config.loss.matryoshka
    if sizes is not None and max(sizes) > embedder.embedding_size:
        raise ConfigError(
            f"loss.matryoshka must be sizes of at most {embedder.embedding_size}, that of the embedding; "
            f"got {max(sizes)}."
        )
    loss = _create_loss(config, num_classes=count, embedding_size=embedder.embedding_size)
    return embedder, loss


def _continued(config: RunConfig, backbone: nn.Module | None) -> Embedder:
    """The model in the folder ``model.init``; what the configuration says about its architecture must agree."""
    model = config.model
    assert model.init is not None
    embedder = Embedder.load(model.init, backbone=backbone)
    saved, default = embedder.architecture, type(model)()
    for name, value in saved.items():
        wanted = getattr(model, name)
        if backbone is not None and name == "backbone":
            continue
        if wanted not in (getattr(default, name), value):
            raise ConfigError(
                f"model.{name} contradicts model.init: {model.init} has {value!r}, and {wanted!r} is asked for. Leave "
                f"{name} out, or init."
            )
    return embedder


def _inputs(config: RunConfig, source: Source) -> Source | Preprocess:
    """What decides the preprocessing: the items or the weights, the items' own scale, or their shape alone."""
    if source.kind == "text" or config.data.scaling == "auto":
        return source
    if config.data.scaling == "standardize":
        return Preprocess.fit(source)
    plain = Preprocess.plain(source.kind, source.item_shape)
    return replace(plain, resize=source.resize)


def _create_loss(config: RunConfig, *, num_classes: int, embedding_size: int) -> losses.Loss:
    """The loss by name, at several sizes of the embedding and with a memory around it, if these are asked for."""
    wanted, options = config.loss, config.loss.options
    if "seed" in losses.options(wanted.name):
        options.setdefault("seed", config.seed)

    def create(size: int) -> losses.Loss:
        return losses.create(wanted.name, num_classes=num_classes, embedding_size=size, **options)

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        if wanted.matryoshka is None:
            loss = create(embedding_size)
        elif losses.LOSSES[wanted.name].needs_classes:
            loss = losses.MatryoshkaLoss([create(size) for size in wanted.matryoshka], wanted.matryoshka)
        else:
            loss = losses.MatryoshkaLoss(create(embedding_size), wanted.matryoshka)
    if wanted.memory is None:
        return loss
    return losses.CrossBatchMemory(loss, embedding_size, wanted.memory, warmup=wanted.memory_warmup)


def train_classes(source: Source, *, views: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes that occur (c,) and each item's place among them (n,).

    A part of a class-disjoint split keeps the codes of the whole; a head must have the classes it will see, no more.
    With ``views`` each item is a class of its own, labelled or not.
    """
    if views:
        items = np.arange(len(source))
        if len(items) < 2:
            raise DataError(f"training needs at least 2 items; {source.name} has {len(items)} to train on.")
        return items, items
    if source.labels is None:
        raise DataError(
            f"training needs labels, and {source.name} has none; give labels=, a label column or class folders, or "
            "learn from two views of each item, which needs none: --batches views --loss ntxent."
        )
    occurs = np.bincount(source.labels) > 0  # labels are codes: no need to sort them
    classes, codes = np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[source.labels]
    if len(classes) < 2:
        raise DataError(
            f"training needs items of at least 2 classes; the {len(source)} training items of {source.name} have "
            f"{len(classes)}."
        )
    return classes, codes


def create_batches(
    config: RunConfig,
    source: Source,
    codes: np.ndarray,
    *,
    heads: bool,
    references: bool = False,
    rank: int = 0,
    world: int = 1,
) -> PKBatches | ShuffleBatches | PairBatches | AlignedBatches | ViewBatches:
    """Build the batches for the training items, whose classes are ``codes`` (n,).

    ``heads`` says that the loss has a vector for each class, ``references`` that it takes references. A rank gets its
    share of each batch.

    With kind ``pk`` a batch has batch_size // per_class classes; where there are fewer, it has all of them and more
    items of each, so that it stays as large. Items alone in their class cannot form pairs: a `DataWarning` names them.
    """
    wanted, kind = config.batches, config.batches.kind
    if kind == "auto":
        aligned = source.in_rows and references
        kind = "shuffle" if heads else "aligned" if aligned else "pk"
    if kind == "aligned":
        _check_aligned(config, source, references)
        columns = source.columns
        return AlignedBatches(
            columns["row"], columns["role"], wanted.batch_size, seed=config.seed, rank=rank, world=world
        )
    if kind == "views":
        return ViewBatches(len(codes), wanted.batch_size, seed=config.seed, rank=rank, world=world)
    if kind == "shuffle":
        return ShuffleBatches(len(codes), wanted.batch_size, seed=config.seed, rank=rank, world=world)
    if kind == "pk" and wanted.batch_size < 2 * wanted.per_class:
        raise ConfigError(
            f"batches.batch_size must hold 2 classes of batches.per_class = {wanted.per_class} items, so at least "
            f"{2 * wanted.per_class}; got {wanted.batch_size}."
        )
    batches = (
        PairBatches(codes, wanted.batch_size, seed=config.seed, rank=rank, world=world)
        if kind == "pairs"
        else PKBatches(
            codes,
            wanted.batch_size // wanted.per_class,
            wanted.per_class,
            seed=config.seed,
            rank=rank,
            world=world,
        )
    )
    if batches.excluded:
        _warn_alone(source, codes)
    return batches


def _check_aligned(config: RunConfig, source: Source, references: bool) -> None:
    if not source.in_rows:
        raise ConfigError(
            f"batches.kind aligned needs rows of anchor and positive; {source.name} has single items. Use pk."
        )
    if not references or config.loss.memory is not None:
        what = "a memory" if config.loss.memory is not None else f"the loss '{config.loss.name}'"
        raise ConfigError(f"batches.kind aligned does not go with {what}, which takes no references; use pk.")


def _warn_alone(source: Source, codes: np.ndarray) -> None:
    alone = np.flatnonzero(np.bincount(codes)[codes] == 1)
    labels = np.zeros(len(codes), dtype=np.int64) if source.labels is None else source.labels
    names = [f"'{source.class_names[labels[i]]}'" for i in alone[:5]] + ["…"] * (len(alone) > 5)
    warnings.warn(
        f"{len(alone)} training item{'s are' if len(alone) > 1 else ' is'} left out of the batches: alone in the "
        f"class {', '.join(names)}, and one item cannot form a pair.",
        DataWarning,
        stacklevel=2,
    )


SIMCLR = Augment(flip=True, crop=0.2, jitter=0.4, hue=0.1, grey=0.2, blur=0.5)
"""Two views of a picture after Chen et al. 2020, with half their strength of colours, as is usual for small ones."""


def create_augment(config: AugmentConfig, *, views: bool = False, kind: str = "image") -> Augment | None:
    """Return the augmentation, None if nothing is to be changed.

    With ``views`` something must change, or both views of an item would be the same: by default pictures get SimCLR's
    changes and vectors noise of a tenth of their deviation. Two views of a text differ by dropout (SimCSE: Gao, Yao &
    Chen 2021).
    """
    if config == AugmentConfig():
        if not views or kind == "text":
            return None
        return SIMCLR if kind == "image" else Augment(noise=0.1)
    return Augment(
        flip=config.flip,
        shift=config.shift,
        rotate=config.rotate,
        scale=config.zoom,
        noise=config.noise,
        erase=config.erase,
        crop=config.crop,
        jitter=config.jitter,
        hue=config.hue,
        grey=config.grey,
        blur=config.blur,
        policy=config.policy,
    )
