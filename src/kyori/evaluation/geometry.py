"""Geometry: how the classes lie in space."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..distances import Distance
from ..neighbors import distance_blocks
from ..results import Result
from .bootstrap import ratio, shifted_interval
from .context import Context, unknown
from .hubs import effective_rank_result, hubness_result, k_occurrence, robin_hood_result
from .measures import Measure

__all__ = ["ClassDistances", "alignment_sums", "class_distances", "geometry_results", "uniformity_sums"]

Floats = NDArray[np.float64]


def geometry_results(context: Context, measures: Sequence[Measure]) -> list[Result]:
    """Measure the queries among themselves."""
    _, classes = np.unique(context.task.query_classes, return_inverse=True)
    sizes = np.bincount(classes)
    if len(sizes) == 1 or sizes.max() == 1:
        context.notes.append(
            "geometry needs at least 2 classes, one of them with 2 items or more; got"
            f" {len(sizes)} classes, the largest of {sizes.max()}."
        )
        return [unknown(measure) for measure in measures]
    # Two measures need them, and they cost a pass over all distances.
    between = functools.cache(
        lambda: class_distances(context.task.queries, classes, context.task.metric, context.block_rows)
    )
    occurrences = functools.cache(lambda k: k_occurrence(context, k))
    computed: dict[str, Callable[[Measure], Result]] = {
        "silhouette": lambda _: _silhouette(context, between()),
        "distance-ratio": lambda _: _distance_ratio(context, between()),
        "alignment": lambda _: _alignment(context, classes),
        "uniformity": lambda _: _uniformity(context),
        "effective-rank": lambda _: effective_rank_result(context),
        "hubness": lambda measure: hubness_result(context, measure, *occurrences(measure.k)),
        "robin-hood": lambda measure: robin_hood_result(context, measure, *occurrences(measure.k)),
    }
    return [computed[measure.family](measure) for measure in measures]


@dataclass(frozen=True, eq=False)
class ClassDistances:
    """Sums of the distances from each item to the others.

    Attributes:
        own: ``(n,)`` sum over the other items of its class.
        own_count: ``(n,)`` how many those are.
        other: ``(n,)`` sum over all items of other classes.
        nearest: ``(n,)`` the mean distance to the class, not its own, that is nearest by that mean.
    """

    own: Floats
    own_count: NDArray[np.int64]
    other: Floats
    nearest: Floats

    def silhouette(self) -> Floats:
        """Return (b − a) / max(a, b) of each item ``(n,)``, a = mean own distance, b = nearest; 0 for a class of one.

        Rousseeuw (1987).
        """
        a = self.own / np.maximum(self.own_count, 1)
        largest = np.maximum(a, self.nearest)
        score = np.divide(self.nearest - a, largest, out=np.zeros_like(a), where=largest > 0)
        return np.where(self.own_count > 0, score, 0.0)


def class_distances(
    vectors: NDArray[np.float32], classes: NDArray[np.int64], metric: Distance, block_rows: int | None = None
) -> ClassDistances:
    """Sum the distances of each item to each class, in blocks; at least two classes ``0 … c−1``, none empty."""
    n = len(vectors)
    order = np.argsort(classes, kind="stable")
    sizes = np.bincount(classes)
    starts = np.cumsum(sizes) - sizes
    own, other, nearest = np.empty(n), np.empty(n), np.empty(n)
    for rows, distances in distance_blocks(vectors, vectors[order], metric, block_rows):
        sums = np.add.reduceat(distances, starts, axis=1, dtype=np.float64)
        mine = np.arange(len(sums)), classes[rows]
        own[rows] = sums[mine]
        other[rows] = sums.sum(axis=1) - sums[mine]
        means = sums / sizes
        means[mine] = np.inf
        nearest[rows] = means.min(axis=1)
    return ClassDistances(own, sizes[classes] - 1, other, nearest)


def alignment_sums(vectors: NDArray[np.float32], classes: NDArray[np.int64]) -> Floats:
    """Return ``(n,)`` sums of ‖x − y‖² over the other items of the class, on unit vectors.

    Their mean over same pairs is the alignment of Wang & Isola (2020); 0 is perfect, 2 is what random directions have.
    """
    unit = _unit(vectors)
    sums = np.zeros((int(classes.max()) + 1, unit.shape[1]))
    np.add.at(sums, classes, unit)
    return 2 * np.bincount(classes)[classes] - 2 * (unit * sums[classes]).sum(axis=1)


def uniformity_sums(vectors: NDArray[np.float32], block_rows: int | None = None) -> Floats:
    """Return ``(n,)`` sums of exp(−2‖x − y‖²) over all other items, on unit vectors.

    The logarithm of their mean over pairs is the uniformity of Wang & Isola (2020); lower spreads better.
    """
    unit = _unit(vectors).astype(np.float32)
    sums = np.empty(len(unit))
    for rows, distances in distance_blocks(unit, unit, "squared_euclidean", block_rows):
        sums[rows] = torch.exp(torch.from_numpy(distances) * -2).sum(dim=1, dtype=torch.float64).numpy() - 1
    return sums


def _silhouette(context: Context, between: ClassDistances) -> Result:
    values = between.silhouette()
    interval = context.resamples.mean(values)
    protocol = context.protocol | {"singletons": int((between.own_count == 0).sum())}
    return Result(
        "silhouette", float(values.mean()), *interval, values.astype(np.float32), len(values), protocol
    )


def _distance_ratio(context: Context, between: ClassDistances) -> Result:
    """Mean distance within classes over mean distance between classes; small is good."""
    own_count, n = between.own_count, len(between.own)
    own = np.stack([between.own, own_count], axis=1)
    other = np.stack([between.other, n - 1 - own_count], axis=1)
    drawn_own = context.resamples.pair_sums(own, within=True, same_class=True)
    drawn_other = context.resamples.pair_sums(other, within=True, same_class=False)
    drawn = ratio(ratio(*drawn_own.T), ratio(*drawn_other.T))
    value = float(own[:, 0].sum() / own[:, 1].sum() / (other[:, 0].sum() / other[:, 1].sum()))
    interval = shifted_interval(value, drawn, (0.0, math.inf))
    return Result("distance-ratio", value, *interval, None, n, context.protocol)


def _alignment(context: Context, classes: NDArray[np.int64]) -> Result:
    sums = alignment_sums(context.task.queries, classes)
    value, drawn = _pair_mean(context, sums, np.bincount(classes)[classes] - 1, same_class=True)
    interval = shifted_interval(value, drawn, (0.0, 4.0))
    return Result("alignment", value, *interval, None, len(sums), context.protocol)


def _uniformity(context: Context) -> Result:
    sums = uniformity_sums(context.task.queries, context.block_rows)
    value, drawn = _pair_mean(context, sums, np.full(len(sums), len(sums) - 1), same_class=False)
    interval = shifted_interval(math.log(value), np.log(drawn), (-8.0, 0.0))
    return Result("uniformity", math.log(value), *interval, None, len(sums), context.protocol)


def _pair_mean(
    context: Context, sums: Floats, counts: NDArray[np.int64], *, same_class: bool
) -> tuple[float, Floats]:
    """Return the mean over pairs out of the sums and counts of each item's pairs, and that of each resample."""
    both = np.stack([sums, counts], axis=1)
    drawn = context.resamples.pair_sums(both, within=True, same_class=same_class)
    return float(sums.sum() / counts.sum()), ratio(*drawn.T)


def _unit(vectors: NDArray[np.float32]) -> Floats:
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)
