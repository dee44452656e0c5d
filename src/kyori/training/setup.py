"""From a configuration and the training items to the parts of a run."""

import warnings

import numpy as np
import torch
from torch import nn

from .. import losses
from ..data import AlignedBatches, Augment, PairBatches, PKBatches, Preprocess, ShuffleBatches, Source
from ..errors import ConfigError, DataError, DataWarning
from ..models import Embedder
from .config import AugmentConfig, RunConfig

__all__ = ["build", "create_augment", "create_batches", "train_classes"]


def build(
    config: RunConfig, source: Source, *, backbone: nn.Module | None = None
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
    """
    classes, _ = train_classes(source)
    model = config.model
    loss = _create_loss(config, num_classes=len(classes), embedding_size=1)  # to ask what it compares
    normalize = getattr(loss, "spherical", True) if model.unit_norm == "auto" else model.unit_norm
    embedder = Embedder.create(
        model.backbone if backbone is None else backbone,
        _inputs(config, source),
        embedding_size=model.embedding_size,
        normalize=normalize,
        pooling=model.pooling,
        pretrained=model.pretrained and backbone is None,
        options=model.backbone_options if backbone is None else None,
        class_names=[source.class_names[code] for code in classes],
        seed=config.seed,
    )
    sizes = config.loss.matryoshka
    if sizes is not None and max(sizes) > embedder.embedding_size:
        raise ConfigError(
            f"loss.matryoshka must be sizes of at most {embedder.embedding_size}, that of the embedding; "
            f"got {max(sizes)}."
        )
    loss = _create_loss(config, num_classes=len(classes), embedding_size=embedder.embedding_size)
    return embedder, loss


def _inputs(config: RunConfig, source: Source) -> Source | Preprocess | tuple[int, ...]:
    """What decides the preprocessing: the items' own scale, their shape alone, or, for texts, the model."""
    if source.kind == "text":
        return source
    return Preprocess.fit(source) if config.data.scaling == "standardize" else source.item_shape


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


def train_classes(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes that occur (c,) and each item's place among them (n,).

    A part of a class-disjoint split keeps the codes of the whole; a head must have the classes it will see, no more.
    """
    if source.labels is None:
        raise DataError(
            f"training needs labels, and {source.name} has none; give labels=, a label column or class folders."
        )
    classes, codes = np.unique(source.labels, return_inverse=True)
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
) -> PKBatches | ShuffleBatches | PairBatches | AlignedBatches:
    """Build the batches for the training items, whose classes are ``codes`` (n,).

    ``heads`` says that the loss has a vector for each class, ``references`` that it takes references. A rank gets its
    share of each batch.

    With kind ``pk`` a batch has batch_size // per_class classes; where there are fewer, it has all of them and more
    items of each, so that it stays as large. Items alone in their class cannot form pairs: a `DataWarning` names them.
    """
    wanted, kind = config.batches, config.batches.kind
    if kind == "auto":
        aligned = "role" in source.columns and references
        kind = "shuffle" if heads else "aligned" if aligned else "pk"
    if kind == "aligned":
        _check_aligned(config, source, references)
        columns = source.columns
        return AlignedBatches(
            columns["row"], columns["role"], wanted.batch_size, seed=config.seed, rank=rank, world=world
        )
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
    if "role" not in source.columns:
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


def create_augment(config: AugmentConfig) -> Augment | None:
    """Return the augmentation, None if nothing is to be changed."""
    if config == AugmentConfig():
        return None
    return Augment(
        flip=config.flip,
        shift=config.shift,
        rotate=config.rotate,
        scale=config.zoom,
        noise=config.noise,
        erase=config.erase,
    )
