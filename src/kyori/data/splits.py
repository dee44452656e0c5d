"""Splits: random, class-disjoint, given, k-fold; no item and, if asked, no class on two sides."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from ..errors import ArgumentError, DataError, nearest_name
from .sources import Source

__all__ = ["KINDS", "Split", "make_split"]

KINDS = ("auto", "random", "class-disjoint", "given", "kfold", "class-disjoint-kfold")
FEWEST_CLASSES = 2  # a part needs a same-class and a different-class pair to learn from or to score


class Split(NamedTuple):
    """Three sources without a common item."""

    train: Source
    validation: Source
    test: Source


def make_split(
    source: Source,
    kind: Literal["auto", "random", "class-disjoint", "given", "kfold", "class-disjoint-kfold"] = "auto",
    *,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    fold: int | None = None,
    folds: int = 5,
) -> Split:
    """Split a source into train, validation and test.

    Args:
        source: What to split.
        kind: ``"random"``: items at random, in each class by the fractions (±1 item); a class keeps at least one
            item in train, so a class of one item is there.
            ``"class-disjoint"``: whole classes at random; no class is on two sides; at least 2 classes each.
            ``"given"``: the column ``split``; a missing part is taken from train at random.
            ``"kfold"``: test is one of `folds` parts, in each class evenly; a class of one item is never in test.
            ``"class-disjoint-kfold"``: the same with whole classes.
            ``"auto"``: given if the source has the column ``split`` with train and another part; class-disjoint for
            rows of anchor and positive, whose items must stay together; else random.
        fractions: Shares of train, validation and test: numbers ≥ 0 with sum 1, train > 0; of classes where
            whole classes are split. k-fold takes validation from what is not test, validation / (train +
            validation) of it.
        seed: The split is a pure function of the source and the seed.
        fold: Which fold is test, 0 … folds − 1.
        folds: Number of folds, at least 2.

    Returns:
        Split(train, validation, test); a part with fraction 0 is empty. Items keep the order of the source.

    Raises:
        ArgumentError: A fraction, fold or kind that cannot be.
        DataError: Too few items or classes for a part that was asked for.

    Example:
        >>> from kyori.data import open_source
        >>> split = make_split(open_source("digits"), "class-disjoint", fractions=(0.5, 0.2, 0.3))
        >>> [len(np.unique(part.labels)) for part in split]
        [5, 2, 3]
    """
    if kind not in KINDS:
        raise ArgumentError(
            f"kind must be one of {', '.join(KINDS)}; got {kind!r}{nearest_name(kind, KINDS)}"
        )
    shares = _shares(fractions)
    rng = np.random.default_rng(seed)
    if kind == "auto":
        kind = "class-disjoint" if source.in_rows else "random"
        kind = "given" if _has_given(source) else kind
    if kind == "given":
        return _given(source, shares, rng)
    groups = _groups(source, kind)
    if kind.endswith("kfold"):
        test = _fold(groups, kind == "kfold", fold, folds, rng)
        shares = (shares[0] / (shares[0] + shares[1]), shares[1] / (shares[0] + shares[1]), 0.0)
    elif fold is not None:
        raise ArgumentError(f"fold= belongs to the k-fold splits; got kind {kind!r}.")
    else:
        test = np.zeros(len(source), dtype=bool)
    rest = np.flatnonzero(~test)
    part = np.full(len(source), 2)
    if kind.startswith("class-disjoint"):
        part[rest] = _by_class(groups[rest], shares, rng, source.name)
    else:
        part[rest] = _by_item(groups[rest], shares, rng)
    return _cut(source, part, (True, shares[1] > 0, shares[2] > 0 or bool(test.any())))


def _shares(fractions: Sequence[float]) -> tuple[float, float, float]:
    shares = tuple(float(fraction) for fraction in fractions)
    if len(shares) != 3 or min(shares) < 0 or not abs(sum(shares) - 1) <= 1e-6 or shares[0] == 0:
        raise ArgumentError(
            "fractions must be (train, validation, test), numbers of at least 0 with sum 1 and train above 0; "
            f"got {tuple(fractions)}."
        )
    return shares[0], shares[1], shares[2]


def _groups(source: Source, kind: str) -> np.ndarray:
    if source.in_rows:
        return _row_groups(source, kind)
    if source.labels is not None:
        return source.labels
    if kind.startswith("class-disjoint"):
        raise DataError(f"{source.name}: a {kind} split needs labels; this source has none.")
    return np.zeros(len(source), dtype=np.int64)


def _row_groups(source: Source, kind: str) -> np.ndarray:
    """The class of each item's row, which is that of its anchor: negatives go where their row goes."""
    if kind in ("random", "kfold"):
        raise DataError(
            f"{source.name}: a {kind} split would part anchors from their positives; use class-disjoint"
            f"{'-kfold' * (kind == 'kfold')}, which keeps rows together."
        )
    assert source.labels is not None
    anchors = np.flatnonzero(source.columns["role"] == "anchor")
    rows = source.columns["row"]
    order = np.argsort(rows[anchors], kind="stable")
    return source.labels[anchors[order][np.searchsorted(rows[anchors], rows, sorter=order)]]


def _has_given(source: Source) -> bool:
    present = set(np.unique(source.columns["split"]).tolist()) if "split" in source.columns else set()
    return "train" in present and len(present) > 1


def _given(source: Source, shares: tuple[float, float, float], rng: np.random.Generator) -> Split:
    parts = [source.part(name) for name in Split._fields]
    train, missing = parts[0], [place for place in (1, 2) if len(parts[place]) == 0]
    if len(train) == 0:
        raise DataError(
            f"{source.name}: the given split has no train items; make_split(source, 'random') makes one."
        )
    asked = [shares[place] if place in missing else 0.0 for place in (1, 2)]
    total = shares[0] + sum(asked)
    shares = (shares[0] / total, asked[0] / total, asked[1] / total)
    groups = _groups(train, "given")
    whole = source.in_rows
    carved = _by_class(groups, shares, rng, source.name) if whole else _by_item(groups, shares, rng)
    cut = _cut(train, carved, (True, asked[0] > 0, asked[1] > 0))
    return Split(cut.train, *(cut[place] if place in missing else parts[place] for place in (1, 2)))


def _by_item(groups: np.ndarray, shares: tuple[float, float, float], rng: np.random.Generator) -> np.ndarray:
    """Part (0, 1, 2) of each item: in each class by the shares, in all exactly by them up to rounding."""
    classes, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = rng.permutation(len(classes))
    quota = np.zeros((3, len(classes)), dtype=np.int64)
    for place in (1, 2):
        # rounding the running total leaves each class within one item of its share, and the sum exact
        totals = np.floor(np.cumsum(sizes[order]) * shares[place] + 0.5).astype(np.int64)
        quota[place, order] = np.diff(totals, prepend=0)
    over = np.maximum(quota[1] + quota[2] - (sizes - 1), 0)  # train keeps one item of each class
    from_validation = np.minimum(over, quota[1])
    quota[1] -= from_validation
    quota[2] -= over - from_validation
    rank = _ranks(codes, sizes, rng)
    return np.where(rank < quota[2][codes], 2, np.where(rank < (quota[1] + quota[2])[codes], 1, 0))


def _ranks(codes: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Place of each item in a random order of its class, 0 … size − 1."""
    order = np.lexsort((rng.random(len(codes)), codes))
    ranks = np.empty(len(codes), dtype=np.int64)
    ranks[order] = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return ranks


def _by_class(
    groups: np.ndarray, shares: tuple[float, float, float], rng: np.random.Generator, name: str
) -> np.ndarray:
    """Part (0, 1, 2) of each item when whole classes are dealt out."""
    classes, codes = np.unique(groups, return_inverse=True)
    counts = [max(FEWEST_CLASSES, round(len(classes) * share)) if share else 0 for share in shares[1:]]
    if len(classes) - sum(counts) < FEWEST_CLASSES:
        parts = 1 + sum(count > 0 for count in counts)
        raise DataError(
            f"{name}: a class-disjoint split into {parts} parts by {tuple(round(s, 3) for s in shares)} needs "
            f"at least {FEWEST_CLASSES} classes in each; got {len(classes)} classes to split. "
            "Use kind='random', or set a fraction to 0."
        )
    part = np.zeros(len(classes), dtype=np.int64)
    order = rng.permutation(len(classes))
    part[order[: counts[1]]] = 2
    part[order[counts[1] : sum(counts)]] = 1
    return part[codes]


def _fold(
    groups: np.ndarray, by_item: bool, fold: int | None, folds: int, rng: np.random.Generator
) -> np.ndarray:
    """Mask of the items in test."""
    if folds < 2:
        raise ArgumentError(f"folds must be at least 2; got {folds}.")
    if fold is None or not 0 <= fold < folds:
        raise ArgumentError(f"fold must be a number from 0 to {folds - 1}; got {fold}.")
    classes, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if not by_item:
        if len(classes) < FEWEST_CLASSES * folds:
            raise DataError(
                f"{folds} class-disjoint folds need at least {FEWEST_CLASSES * folds} classes; got {len(classes)}."
            )
        return (rng.permutation(len(classes)) % folds == fold)[codes]
    if len(groups) < folds:
        raise DataError(f"{folds} folds need at least {folds} items; got {len(groups)}.")
    rank = _ranks(codes, sizes, rng)
    start = np.cumsum(sizes) - sizes  # goes on where the last class stopped, so that folds are even in all
    return ((rank + start[codes]) % folds == fold) & (sizes > 1)[codes]


def _cut(source: Source, part: np.ndarray, asked: tuple[bool, bool, bool]) -> Split:
    split = Split(*(source.take(np.flatnonzero(part == place)) for place in (0, 1, 2)))
    for name, wanted, found in zip(Split._fields, asked, split, strict=True):
        if wanted and len(found) == 0:
            raise DataError(
                f"{source.name}: {name} would be empty, with {len(source)} items to split; "
                "give more items, a larger fraction for it, or the fraction 0."
            )
    return split
