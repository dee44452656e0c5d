"""Cross-fitting: every item is seen by a model that was not trained on it.

The items are dealt into folds. The model of a fold learns from all other folds and then embeds *all* items, its own
fold as items it never saw. Vectors of two models live in two spaces and are never compared: an item is judged in
the space of its own fold's model, among all other items as the same model embeds them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..data import Source, Split, make_split
from ..errors import ArgumentError, DataError, FileFormatError
from ..models import Embedder
from ..models.items import batches_of
from ..runs.folder import is_own_split, prepare_folder
from ..training import Callback, RunConfig, build, train
from ..training.setup import train_classes
from ..vectors import VectorTable
from .probabilities import ClassProbabilities

__all__ = ["Fold", "cross_fit"]

VECTORS = "vectors.parquet"  # of all items; written last: a fold that has it is finished
_HELD_OUT = "held_out"
_BATCH = 512


@dataclass(frozen=True, eq=False)
class Fold:
    """All items as one model embeds them, and which of them it has never seen.

    Attributes:
        table: Vectors ``(n, d)`` of all items, in one order for all folds, with their given labels.
        held_out: ``(n,)`` bool: the items that the model was not trained on, and that are judged with it.
        probabilities: The classes that the head of the loss gives each item; None where the loss has no head.
    """

    table: VectorTable
    held_out: NDArray[np.bool_]
    probabilities: ClassProbabilities | None = None


def cross_fit(
    source: Source,
    config: RunConfig,
    *,
    folds: int = 5,
    folder: str | Path | None = None,
    callbacks: Callable[[int], Sequence[Callback]] | None = None,
) -> list[Fold]:
    """Train one model a fold on all other folds, and embed all items with each.

    The folds are dealt within each class, with ``config.data.split_seed``. All items that are not in the fold are
    trained on, for all epochs of the configuration: nothing is kept aside for validation, so the last weights count.

    Args:
        source: Labelled items.
        config: Everything that decides a training; its split is not used.
        folds: Number of models, at least 2. More folds leave each model more to learn from.
        folder: Where ``fold-0/``, ``fold-1/``, … are kept as run folders. A call with the same items and
            configuration takes the finished ones as they are and goes on with a half-trained one at its last
            checkpoint. None keeps nothing.
        callbacks: Given the number of a fold, returns callbacks for its training: a progress bar.

    Returns:
        One :class:`Fold` a model. An item that is alone in its class is in every training set, and in no
        ``held_out``.

    Raises:
        ArgumentError: Fewer than 2 folds.
        DataError: No labels, fewer than two classes, or fewer items than folds.
        Interrupted: Ctrl-C; the same call goes on there.
    """
    if folds < 2:
        raise ArgumentError(f"folds must be at least 2; got {folds}.")
    if source.labels is None:
        raise DataError(
            f"{source.name} has no labels, so none of them can be wrong; give labels=, a label column or class folders."
        )
    found = []
    for fold in range(folds):
        settings = RunConfig.from_options(
            config, split="kfold", fold=fold, folds=folds, fractions=(1.0, 0.0, 0.0)
        )
        split = make_split(
            source, "kfold", fractions=(1.0, 0.0, 0.0), seed=config.data.split_seed, fold=fold, folds=folds
        )
        place = None if folder is None else Path(folder) / f"fold-{fold}"
        finished = None if place is None else _finished(place, source, split, settings)
        found.append(finished or _fit(source, split, settings, place, callbacks(fold) if callbacks else ()))
    return found


def _fit(
    source: Source, split: Split, config: RunConfig, folder: Path | None, callbacks: Sequence[Callback]
) -> Fold:
    embedder, loss = build(config, split.train)
    resume = folder is not None and _is_same(folder, split, config)
    if folder is not None and not resume:
        prepare_folder(folder, split, config, overwrite=True)
    train(embedder, loss, split.train, config, folder=folder, resume=resume, callbacks=callbacks)
    vectors, probabilities = _embed(embedder, loss, source, train_classes(split.train)[0])
    held_out = np.isin(source.ids, split.test.ids)
    columns = {_HELD_OUT: held_out}
    table = VectorTable(source.ids, vectors, source.labels, class_names=source.class_names)
    if folder is not None:
        embedder.save(folder)
        if probabilities is not None:
            columns |= probabilities.to_columns()
        VectorTable(source.ids, vectors, source.labels, columns, source.class_names).save(folder / VECTORS)
    return Fold(table, held_out, probabilities)


@torch.no_grad()
def _embed(
    embedder: Embedder, loss: nn.Module, source: Source, classes: NDArray[np.int64]
) -> tuple[NDArray[np.float32], ClassProbabilities | None]:
    """Vectors (n, d) of all items and, where the loss has a head, the probabilities of their classes."""
    logits: Any = getattr(loss, "logits", None)  # only heads have them
    vectors, parts, start = [], [], 0
    for _, raw in batches_of(source, embedder.preprocess, _BATCH, longest_first=False):
        features = embedder.features(embedder.preprocess(raw, embedder.device)).float()
        found = nn.functional.normalize(features, dim=1) if embedder.normalize else features
        vectors.append(found.cpu().numpy())
        if logits is not None:
            shares = torch.softmax(logits(features), dim=1).cpu().numpy()
            labels = source.labels[start : start + len(shares)]  # type: ignore[index]  # checked by cross_fit
            parts.append(ClassProbabilities.from_dense(shares, labels, classes=classes))
        start += len(raw)
    return np.concatenate(vectors), ClassProbabilities.concatenate(parts) if parts else None


def _is_same(folder: Path, split: Split, config: RunConfig) -> bool:
    """Whether the folder holds this very training, begun or finished."""
    try:
        return RunConfig.load(folder / "config.yaml") == config and is_own_split(folder, split)
    except (ArgumentError, FileFormatError):
        return False


def _finished(folder: Path, source: Source, split: Split, config: RunConfig) -> Fold | None:
    if not (folder / VECTORS).exists() or not _is_same(folder, split, config):
        return None
    saved = VectorTable.load(folder / VECTORS)
    if not np.array_equal(saved.ids, source.ids):
        return None
    table = VectorTable(saved.ids, saved.vectors, source.labels, class_names=source.class_names)
    held_out = saved.columns[_HELD_OUT].astype(bool)
    return Fold(table, held_out, ClassProbabilities.from_columns(saved.columns))
