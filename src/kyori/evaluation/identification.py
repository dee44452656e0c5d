"""Open-set identification: who is this, if it is anybody we know?

A gallery holds enrolled identities. A probe whose identity is among them is mated, another one is not. The answer to a
probe is its nearest identity when that is below the threshold, and "nobody" otherwise.

FPIR is the share of probes without a mate that get any answer; TPIR the share of probes with a mate whose own identity
is below the threshold and among the first ``rank`` identities (Grother & Ngan, NIST FRVT 1:N). The DIR curve is TPIR at
rank 1 against FPIR (Phillips, Grother & Micheals 2011).
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..distances import Distance, check_distance
from ..errors import ArgumentError, DataError, DegenerateWarning, nearest_name
from ..neighbors import distance_blocks
from ..results import Result, Results
from ..vectors import VectorTable
from .bootstrap import percentiles
from .task import Task

__all__ = ["OpenSet", "identify", "open_set", "rank_identities"]

Floats = NDArray[np.float64]
Pooling = Literal["nearest", "mean"]
Label = TypeVar("Label")


def identify(distances: ArrayLike, labels: Sequence[Label] | NDArray[Any], threshold: float) -> Label | None:
    """Return the identity of the nearest gallery item, or None when none is below the threshold.

    Args:
        distances: ``(m,)`` distances of one probe to the gallery items.
        labels: ``(m,)`` their identities.
        threshold: The nearest distance must be below it.

    Raises:
        ArgumentError: The shapes differ.
        DataError: A distance is NaN.

    >>> identify([0.9, 0.2, 0.4], ["ann", "bob", "ann"], threshold=0.3)
    'bob'
    >>> identify([0.9, 0.2, 0.4], ["ann", "bob", "ann"], threshold=0.2) is None
    True
    """
    values = np.asarray(distances, np.float64)
    if values.ndim != 1 or len(labels) != len(values):
        raise ArgumentError(
            f"distances and labels must both have shape (m,); got {values.shape} and {len(labels)} labels."
        )
    if np.isnan(values).any():
        raise DataError(f"distances must be numbers; {int(np.isnan(values).sum())} are NaN.")
    if not len(values):
        return None
    nearest = int(np.argmin(values))  # the first of equal ones
    if not values[nearest] < threshold:
        return None
    found = labels[nearest]
    return found.item() if isinstance(found, np.generic) else found


@dataclass(frozen=True, eq=False)
class OpenSet:
    """What the measures need to know of each probe.

    Attributes:
        nearest: ``(p,)`` distance to the nearest identity that is not the probe's own.
        mate: ``(p,)`` distance to its own identity, inf where it has no mate.
        rank: ``(p,)`` rank of its own identity, from 1; 0 where it has no mate.
        tied: Number of mated probes with another identity at exactly the distance of their own.
    """

    nearest: Floats
    mate: Floats
    rank: NDArray[np.int64]
    tied: int

    @property
    def mated(self) -> NDArray[np.bool_]:
        return self.rank > 0

    def threshold(self, fpir: float) -> float:
        """Return the largest threshold at which FPIR is at most ``fpir``."""
        return _largest_threshold(np.sort(self.nearest[~self.mated]), fpir)

    def tpir(self, threshold: float, rank: int = 1) -> float:
        """Return the share of mated probes that are found below the threshold and within the rank."""
        mated = self.mated
        return float(((self.mate < threshold) & (self.rank <= rank))[mated].mean())

    def curve(self, points: int = 500) -> dict[str, Floats]:
        """Return fpir, dir (TPIR at rank 1) and threshold, at up to ``points`` thresholds."""
        impostors = np.sort(self.nearest[~self.mated])
        hits = np.sort(self.mate[self.mated & (self.rank == 1)])
        n = len(impostors)
        kept = np.unique(
            np.concatenate([np.geomspace(1, n, points // 2), np.linspace(0, n, points // 2)]).astype(np.int64)
        )
        last = np.nextafter(max(impostors[-1], hits[-1] if len(hits) else impostors[-1]), np.inf)
        thresholds = np.unique(np.append(impostors, last)[kept])
        return {
            "fpir": np.searchsorted(impostors, thresholds) / n,
            "dir": np.searchsorted(hits, thresholds) / int(self.mated.sum()),
            "threshold": thresholds,
        }


def rank_identities(
    probes: VectorTable,
    gallery: VectorTable,
    metric: Distance = "euclidean",
    *,
    pooling: Pooling = "nearest",
    block_rows: int | None = None,
) -> OpenSet:
    """Compare each probe with each identity of the gallery, exactly and in blocks.

    An identity is as far as its nearest item (``"nearest"``), or as the mean of its vectors (``"mean"``, of unit
    vectors for the cosine). Among identities at one distance the order is that of their labels.
    """
    task = Task.from_tables(probes, gallery, metric)
    identities, codes = np.unique(task.gallery_classes, return_inverse=True)
    own = np.searchsorted(identities, task.query_classes)
    own[own == len(identities)] = 0
    known = identities[own] == task.query_classes
    if pooling == "mean":
        columns, starts = _means(task.gallery, codes, metric), None
        if (task.excluded >= 0).any():
            raise DataError(
                "with pooling='mean' no probe may be an item of the gallery: it would be part of its own template."
                " Leave it out of one of the two, or use pooling='nearest'."
            )
    else:
        order = np.argsort(codes, kind="stable")
        columns, starts = task.gallery[order], np.searchsorted(codes[order], np.arange(len(identities)))
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
    p = len(task.queries)
    nearest, mate, rank, tied = np.full(p, np.inf), np.full(p, np.inf), np.zeros(p, np.int64), 0
    for rows, distances in distance_blocks(task.queries, columns, metric, block_rows):
        if starts is not None:
            itself = np.flatnonzero(task.excluded[rows] >= 0)
            distances[itself, place[task.excluded[rows][itself]]] = np.inf
            distances = np.minimum.reduceat(distances, starts, axis=1)
        b = np.arange(len(distances))
        mine = np.where(known[rows], distances[b, own[rows]], np.inf)
        has_mate = np.isfinite(mine)  # an identity whose only item is the probe itself is no mate
        before = (distances < mine[:, None]).sum(axis=1)
        equal = distances == mine[:, None]
        before += (equal & (np.arange(distances.shape[1]) < own[rows][:, None])).sum(axis=1)
        tied += int(((equal.sum(axis=1) > 1) & has_mate).sum())
        distances[b[known[rows]], own[rows][known[rows]]] = np.inf
        nearest[rows], mate[rows] = distances.min(axis=1), mine
        rank[rows] = np.where(has_mate, before + 1, 0)
    return OpenSet(nearest, mate, rank, tied)


def open_set(
    probes: VectorTable,
    gallery: VectorTable,
    *,
    metric: Distance = "euclidean",
    pooling: Pooling = "nearest",
    fpir: Sequence[float] = (1e-2, 1e-1),
    ranks: Sequence[int] = (1, 5, 10),
    bootstrap: int = 1000,
    seed: int = 0,
    block_rows: int | None = None,
) -> Results:
    """Measure identification of probes, some of which are nobody in the gallery.

    Args:
        probes: Labelled; those whose label is not in the gallery have no mate. A probe that is itself an item of
            the gallery (same id) is not compared with that item.
        gallery: The enrolled items, labelled by identity.
        metric: Distance of :mod:`kyori.distances`.
        pooling: What stands for an identity: its ``"nearest"`` item or the ``"mean"`` of its vectors.
        fpir: False-positive identification rates, between 0 and 1.
        ranks: Ranks of ``rank@k``: share of mated probes whose identity is among the first k.
        bootstrap: Number of resamples of the probes; 0 gives no intervals (NaN).
        seed: Of the resamples.
        block_rows: Probes computed at a time.

    Returns:
        ``rank@k`` and ``tpir@fpir=…`` with intervals, and the curve ``"dir"`` (fpir, dir, threshold). Without
        unmated probes the rates at an FPIR are NaN, without mated ones everything is, with a warning.

    Raises:
        ArgumentError: An option is out of range.
        DataError: A table has no labels or does not fit the other.

    >>> probes = VectorTable(vectors=[[0.1], [1.1], [5.0], [7.0]], labels=["ann", "bob", "eve", "dan"], ids=[*"pqrs"])
    >>> gallery = VectorTable(vectors=[[0.0], [1.0]], labels=["ann", "bob"], ids=["a", "b"])
    >>> results = open_set(probes, gallery, fpir=[0.5], bootstrap=0)
    >>> results["rank@1"].value, results["tpir@fpir=5e-1"].value
    (1.0, 1.0)
    """
    check_distance(metric)
    if pooling not in get_args(Pooling):
        raise ArgumentError(f"unknown pooling {pooling!r}{nearest_name(pooling, get_args(Pooling))}")
    for rate in fpir:
        if not 0 < rate < 1:
            raise ArgumentError(f"fpir must lie between 0 and 1; got {rate:g}.")
    for k in ranks:
        if k < 1:
            raise ArgumentError(f"ranks must be at least 1; got {k}.")
    if bootstrap < 0:
        raise ArgumentError(f"bootstrap must be 0 or a number of resamples; got {bootstrap}.")
    found = rank_identities(probes, gallery, metric, pooling=pooling, block_rows=block_rows)
    return _results(found, fpir, ranks, bootstrap, seed, {"metric": metric, "pooling": pooling})


def _results(
    found: OpenSet,
    fpir: Sequence[float],
    ranks: Sequence[int],
    replicates: int,
    seed: int,
    options: dict[str, Any],
) -> Results:
    mated, unmated = int(found.mated.sum()), int((~found.mated).sum())
    protocol = options | {"mated": mated, "unmated": unmated, "tied_queries": found.tied, "unit": "query"}
    provenance = {"kyori": version("kyori"), "seed": seed, "bootstrap": replicates, **protocol}
    keys = [f"rank@{k}" for k in ranks], [_rate_key(rate) for rate in fpir]
    if not mated or not unmated:
        missing, what = ("mated", "nothing") if not mated else ("unmated", "no rate at an FPIR")
        warnings.warn(
            f"there are no {missing} probes; {what} can be measured.", DegenerateWarning, stacklevel=3
        )
    generator = np.random.default_rng(seed)
    results = [
        _rank_result(found, key, k, replicates, generator, protocol) if mated else _nothing(key)
        for key, k in zip(keys[0], ranks, strict=True)
    ]
    both = bool(mated and unmated)
    for key, rate in zip(keys[1], fpir, strict=True):
        results.append(
            _rate_result(found, key, rate, replicates, generator, protocol) if both else _nothing(key)
        )
    return Results(results, curves={"dir": found.curve()} if both else {}, provenance=provenance)


def _rank_result(
    found: OpenSet,
    key: str,
    k: int,
    replicates: int,
    generator: np.random.Generator,
    protocol: dict[str, Any],
) -> Result:
    values = np.where(found.mated, found.rank <= k, np.nan)
    n = protocol["mated"]
    share = float(np.nanmean(values))
    drawn = generator.binomial(n, share, replicates) / n  # what resampling the probes amounts to
    return Result(key, share, *percentiles(drawn), values.astype(np.float32), n, protocol | {"k": k})


def _rate_result(
    found: OpenSet,
    key: str,
    rate: float,
    replicates: int,
    generator: np.random.Generator,
    protocol: dict[str, Any],
) -> Result:
    impostors = np.sort(found.nearest[~found.mated])
    hits = np.sort(found.mate[found.mated & (found.rank == 1)])
    mated, unmated = protocol["mated"], protocol["unmated"]
    if unmated * rate * (1 + 1e-12) < 1:
        warnings.warn(
            f"{unmated} probes without a mate cannot resolve an FPIR of {rate:g}; at least {math.ceil(1 / rate):,}"
            " are needed. The threshold lies below all of them.",
            DegenerateWarning,
            stacklevel=4,
        )
    threshold = _largest_threshold(impostors, rate)
    drawn = np.empty(replicates)
    for i in range(replicates):
        at = _largest_threshold(impostors[np.sort(generator.integers(unmated, size=unmated))], rate)
        drawn[i] = generator.binomial(mated, np.searchsorted(hits, at) / mated) / mated
    extra = {"threshold": threshold, "fpir": float(np.searchsorted(impostors, threshold) / unmated)}
    return Result(key, found.tpir(threshold), *percentiles(drawn), None, mated + unmated, protocol | extra)


def _largest_threshold(impostors: Floats, rate: float) -> float:
    """Return the largest threshold that accepts at most the share ``rate`` of ascending ``(n,)`` distances."""
    allowed = int(len(impostors) * rate * (1 + 1e-12))
    return float(impostors[allowed]) if allowed < len(impostors) else math.inf


def _means(vectors: NDArray[np.float32], codes: NDArray[np.int64], metric: Distance) -> NDArray[np.float32]:
    rows = vectors.astype(np.float64)
    if metric == "cosine":
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows /= np.where(norms > 0, norms, 1)
    sums = np.zeros((int(codes.max()) + 1, rows.shape[1]))
    np.add.at(sums, codes, rows)
    return (sums / np.bincount(codes)[:, None]).astype(np.float32)


def _rate_key(rate: float) -> str:
    mantissa, exponent = f"{rate:e}".split("e")
    return f"tpir@fpir={mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def _nothing(key: str) -> Result:
    return Result(key, math.nan, math.nan, math.nan)
