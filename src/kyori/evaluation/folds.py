"""Listed pairs in folds: the protocol of Labeled Faces in the Wild."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError, DataError
from ..results import Result, Results
from .bootstrap import mean_interval
from .pairs import check_pairs, evaluate_pairs
from .verification import PairCounts, right_decisions

__all__ = ["evaluate_folds", "flip_summed"]


def evaluate_folds(
    distances: ArrayLike,
    same: ArrayLike,
    *,
    folds: int | ArrayLike = 10,
    far: Sequence[float] = (1e-3, 1e-2),
    bootstrap: int = 1000,
    seed: int = 0,
) -> Results:
    """Measure listed pairs as LFW does: each fold is decided by the threshold that is best for the others.

    The accuracy is the mean over folds, its interval that of a mean of ``folds`` values (Student's t). Folds are
    contiguous, as the lines of ``pairs.txt`` are. (Huang et al. 2007; the published set-up takes squared euclidean
    distances of unit vectors, each the sum of those of the picture and its mirror image: :func:`flip_summed`.)

    Args:
        distances: ``(p,)`` distances in the order of the file.
        same: ``(p,)`` bools.
        folds: How many contiguous folds of equal size, or ``(p,)`` the fold of each pair.
        far: The false-accept rates of the further measures.
        bootstrap: Resamples of their intervals.
        seed: Of the resamples.

    Returns:
        ``accuracy@folds`` with ``accuracies`` and ``thresholds`` of the folds in its protocol and one value a pair,
        then ``auc``, ``eer`` and ``tar@far=…`` over all pairs, with the curves of :func:`evaluate_pairs`.

    Raises:
        ArgumentError: The shapes differ, or there are fewer than 2 folds or than ``folds`` pairs.
        DataError: A distance is NaN, or all pairs are of one kind.

    >>> results = evaluate_folds([0.1, 0.9, 0.2, 0.8], [1, 0, 1, 0], folds=2, far=[0.5], bootstrap=0)
    >>> results["accuracy@folds"].value
    1.0
    """
    levels, kinds = check_pairs(distances, same)
    if kinds.all() or not kinds.any():
        raise DataError(f"folds need same and different pairs; all {len(kinds)} are of one kind.")
    fold = _fold_of(folds, len(levels))
    names = np.unique(fold)
    right = np.empty(len(levels), np.bool_)
    thresholds = []
    for name in names:
        held_out = fold == name
        counts = PairCounts.from_pairs(levels[~held_out], kinds[~held_out])
        decided = right_decisions(counts.same, counts.different)
        # Where several thresholds are as good, the middle of them, as for a pair between two distances.
        best = np.flatnonzero(decided == decided.max())
        thresholds.append(_between(counts, int(best[len(best) // 2])))
        right[held_out] = (levels[held_out] < thresholds[-1]) == kinds[held_out]
    accuracies = [float(right[fold == name].mean()) for name in names]
    mean, k = float(np.mean(accuracies)), len(names)
    spread = float(np.var(accuracies, ddof=1))
    low, high = mean_interval(mean, spread / k, k - 1)
    protocol = {
        "folds": k, "accuracies": accuracies, "thresholds": thresholds,
        "standard_deviation": float(np.sqrt(spread)), "unit": "fold",
        "same_pairs": int(kinds.sum()), "different_pairs": int((~kinds).sum()),
    }  # fmt: skip
    first = Result(
        "accuracy@folds", mean, max(0.0, low), min(1.0, high), right.astype(np.float32), len(levels), protocol
    )
    others = evaluate_pairs(
        levels, kinds, measures=["auc", "eer", "tar"], far=far, bootstrap=bootstrap, seed=seed
    )
    return Results(
        [first, *(replace(other) for other in others.values())],
        curves=others.curves,
        provenance=others.provenance | {"protocol": f"{k} folds"},
    )


def flip_summed(vectors: NDArray[np.float32], mirrored: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the ``(n, d)`` unit vectors of the sums of each picture's vector and its mirror image's.

    Raises:
        ArgumentError: The shapes differ.
    """
    if vectors.shape != mirrored.shape:
        raise ArgumentError(
            f"vectors and mirrored must have one shape; got {vectors.shape} and {mirrored.shape}."
        )
    sums = vectors.astype(np.float64) + mirrored
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return (sums / np.where(norms > 0, norms, 1)).astype(np.float32)


def _fold_of(folds: int | ArrayLike, p: int) -> NDArray[np.int64]:
    given = np.asarray(folds)
    if given.ndim == 0:
        count = int(given)
        if not 2 <= count <= p:
            raise ArgumentError(f"folds must be at least 2 and at most the {p} pairs; got {count}.")
        return np.arange(p) * count // p
    if given.shape != (p,) or len(np.unique(given)) < 2:
        raise ArgumentError(
            f"folds must name the fold of each of {p} pairs, at least 2 of them; got {given.shape}."
        )
    return np.unique(given, return_inverse=True)[1].astype(np.int64)


def _between(counts: PairCounts, at: int) -> float:
    """Return a threshold that accepts the first ``at`` entries, halfway to the next."""
    if 0 < at < len(counts.same):
        return float((counts.thresholds[at - 1] + counts.thresholds[at]) / 2)
    return float(counts.thresholds[at])
