"""Which question a comparison asks, classes seen in training or unseen ones, and the folds that answer it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..data import Source, Split
from ..errors import ArgumentError, DataError, DataWarning
from ..runs import split_source
from ..training import RunConfig

__all__ = ["DEFAULT_FOLDS", "FEWEST_CLASSES", "Folding", "decide"]

DEFAULT_FOLDS = 3  # of classes, where the question is unseen ones and no number is given
FEWEST_CLASSES = 20  # below this a guess would be "seen": few classes are rarely followed by new ones


@dataclass(frozen=True)
class Folding:
    """How one data set is dealt out into training and test items.

    Attributes:
        source: The items.
        config: The shared configuration with the kind of split that was decided on.
        folds: The folds to train on, in order; ``(None,)`` is a single split.
        unseen: Whether the test items are of classes that training never sees.
        reason: Why this question is asked, in words.
    """

    source: Source
    config: RunConfig
    folds: tuple[int | None, ...]
    unseen: bool
    reason: str

    def config_of(self, fold: int | None) -> RunConfig:
        """Return the shared configuration with this fold held out."""
        data = self.config.data.model_copy(update={"fold": fold})
        return self.config.model_copy(update={"data": data})

    def splits(self) -> Iterator[tuple[int | None, Split]]:
        """Deal the items out: each fold once, its test items those of no other fold."""
        for fold in self.folds:
            split = split_source(self.source, self.config_of(fold))
            if len(split.test) == 0:
                raise DataError(f"{self.source.name} leaves no test items; give a split with a test part.")
            yield fold, split


def decide(source: Source, config: RunConfig, *, unseen: bool | None, folds: int | None) -> Folding:
    """Decide how a data set is split: as its own column says, as the configuration says, or by the question.

    Without any word from the user the question is *unseen classes* where the data have at least 20 classes and more
    classes than items in the median class: there the next item is likelier of a new class than of a known one, and a
    random split would leave a class hardly a test item (faces, products, characters). The classes are then dealt out
    into 3 folds, each held out once. Else the question is seen classes, and one random split is made, in each class by
    the fractions.

    Args:
        source: The items with their labels.
        config: ``data.split`` other than ``"auto"`` is followed.
        unseen: True or False decides the question; None leaves it to the rule.
        folds: Number of folds, each held out once; 1 makes a single split; None is 3 for unseen classes, else 1.

    Raises:
        ArgumentError: ``unseen`` or ``folds`` contradict the split that the data bring or the configuration names.
        DataError: No labels, one class only, or too few classes or items for the folds.
    """
    if folds is not None and folds < 1:
        raise ArgumentError(f"folds must be at least 1 (1 makes a single split); got {folds}.")
    sizes = _class_sizes(source)
    wanted = config.data.split
    if wanted == "given" or (wanted == "auto" and _brings_split(source)):
        return _given(source, config, unseen, folds)
    if wanted == "none":
        raise DataError(f"{source.name} leaves no test items with split none; give a split with a test part.")
    if wanted == "auto":
        asked, reason = _question(sizes) if unseen is None else (unseen, "as was asked for")
    else:
        asked, reason = wanted.startswith("class-disjoint"), f"split {wanted}"
        if unseen is not None and unseen != asked:
            raise ArgumentError(
                f"unseen={unseen} contradicts split {wanted}, whose test classes are "
                f"{'unseen' if asked else 'seen'}; leave one of the two out."
            )
    one_fold = config.data.fold
    if folds is None:
        folds = (
            config.data.folds
            if wanted.endswith("kfold")
            else DEFAULT_FOLDS
            if wanted == "auto" and asked
            else 1
        )
    if folds == 1:
        if wanted.endswith("kfold"):
            raise ArgumentError(f"split {wanted} needs at least 2 folds; got folds=1.")
        kind = "class-disjoint" if asked else "random"
        return Folding(source, _with(config, split=kind), (None,), asked, reason)
    _check_folds(source, sizes, folds, asked)
    kind = "class-disjoint-kfold" if asked else "kfold"
    numbers = tuple(range(folds)) if one_fold is None else (one_fold,)
    fold = numbers[0]
    return Folding(source, _with(config, split=kind, folds=folds, fold=fold), numbers, asked, reason)


def _with(config: RunConfig, **data: object) -> RunConfig:
    return config.model_copy(update={"data": config.data.model_copy(update=data)})


def _class_sizes(source: Source) -> np.ndarray:
    if source.labels is None:
        raise DataError(f"{source.name} has no labels; a comparison needs the class of each item.")
    sizes = np.unique(source.labels, return_counts=True)[1]
    if len(sizes) < 2:
        raise DataError(f"{source.name}: a comparison needs items of at least 2 classes; got {len(sizes)}.")
    return sizes


def _brings_split(source: Source) -> bool:
    present = set(np.unique(source.columns["split"]).tolist()) if "split" in source.columns else set()
    return "train" in present and len(present) > 1


def _question(sizes: np.ndarray) -> tuple[bool, str]:
    classes, median = len(sizes), float(np.median(sizes))
    unseen = classes >= FEWEST_CLASSES and classes > median
    return unseen, f"{classes:,} classes with {median:,.0f} items in the median class"


def _given(source: Source, config: RunConfig, unseen: bool | None, folds: int | None) -> Folding:
    if folds is not None and folds > 1:
        raise ArgumentError(
            f"{source.name} brings its own split, which folds={folds} would ignore; leave folds out, or say so with "
            "split='kfold' or 'class-disjoint-kfold'."
        )
    settled = _with(config, split="given")
    split = split_source(source, settled)
    shared = np.intersect1d(np.asarray(split.train.labels), np.asarray(split.test.labels))
    found = len(shared) == 0
    if unseen is not None and unseen != found:
        says = "no class" if found else f"{len(shared):,} classes" if len(shared) > 1 else "1 class"
        raise ArgumentError(
            f"unseen={unseen} contradicts the split that {source.name} brings: {says} on both sides. Leave unseen "
            "out, or make another split with split='random' or 'class-disjoint'."
        )
    return Folding(source, settled, (None,), found, "the split that the data bring")


def _check_folds(source: Source, sizes: np.ndarray, folds: int, unseen: bool) -> None:
    if unseen:
        if len(sizes) < 2 * folds:
            raise DataError(
                f"{source.name}: {folds} folds of classes need at least {2 * folds} classes, 2 in each; got "
                f"{len(sizes)}. Give fewer folds, or folds=1 for a single split."
            )
        return
    small = int((sizes < folds).sum())
    if small == len(sizes):
        raise DataError(
            f"{source.name}: {folds} folds need classes of at least {folds} items; the largest of {len(sizes)} classes "
            f"has {sizes.max()}. Give fewer folds, or ask about unseen classes (unseen=True)."
        )
    if small:
        warnings.warn(
            f"{source.name}: {small:,} of {len(sizes):,} classes have fewer items than there are folds ({folds}) and "
            "are missing from some test parts.",
            DataWarning,
            stacklevel=4,
        )
