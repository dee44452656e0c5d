"""Where to put the threshold, how sure that is, and how probable it is that a pair is the same.

A pair is accepted as the same when its distance is **below** the threshold. Pairs are counted as they are given: the
mixture of same and different pairs decides precision and probability, and nothing else.
"""

import json
import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError, DataError, DegenerateWarning, FileFormatError, nearest_name
from ..files import write_atomic
from .probability import Isotonic, Platt, fit_isotonic, fit_platt, probability_from_dict
from .verification import PairCounts, last_within

__all__ = ["Calibration", "Estimate", "calibrate", "clopper_pearson"]

Floats = NDArray[np.float64]
Method = Literal["isotonic", "platt"]

_FORMAT = "kyori-calibration"
_BINS = 2048  # of the bootstrap; as dense as the data where few different pairs are accepted


@dataclass(frozen=True)
class Estimate:
    """A measured value with the ends of its interval; NaN where there was nothing to measure."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True, eq=False)
class Calibration:
    """A threshold that was chosen on pairs, what it does there, and the probability of every distance.

    Attributes:
        threshold: Pairs of a smaller distance are accepted as the same.
        threshold_low: Lower end of the interval of the threshold (bootstrap).
        threshold_high: Upper end.
        target: What was asked for: ``("far", 0.001)``, ``("precision", 0.99)`` or ``("f_beta", 1.0)``.
        far: Share of different pairs that are accepted.
        tar: Share of same pairs that are accepted.
        precision: Share of same pairs among the accepted ones, in the mixture of the given pairs.
        recall: The same number as ``tar``, under the name that goes with precision.
        f_beta: The F measure at the threshold, of the β asked for (1 for another target).
        same_pairs: Number of same pairs.
        different_pairs: Number of different pairs.
        resolved: False where there are too few different pairs to reach the false-accept rate with even one of them
            accepted: the threshold then lies below all of them, and ``far.high`` says how little is known.
        metric: Name of the distance; empty when it was not given.
        confidence: Of all intervals.
        resampled: ``"pairs"``, or ``"items"`` where the items of the pairs were given.
        curve: Arrays far, tar, precision, threshold, each ``(t,)``.
    """

    threshold: float
    threshold_low: float
    threshold_high: float
    target: tuple[str, float]
    far: Estimate
    tar: Estimate
    precision: Estimate
    recall: Estimate
    f_beta: Estimate
    same_pairs: int
    different_pairs: int
    resolved: bool
    metric: str
    confidence: float
    resampled: str
    mapping: Isotonic | Platt
    curve: dict[str, Floats] = field(default_factory=dict)

    def decide(self, distances: ArrayLike) -> NDArray[np.bool_]:
        """Return for ``(m,)`` distances whether each pair is accepted as the same.

        Raises:
            DataError: A distance is NaN.
        """
        return _known(distances) < self.threshold

    def probability(self, distances: ArrayLike) -> Floats:
        """Return ``(m,)`` the probability that each pair is the same; never grows with the distance.

        Raises:
            DataError: A distance is NaN.
        """
        return self.mapping(_known(distances))

    def __str__(self) -> str:
        name, value = self.target
        lines = [
            f"threshold {self.threshold:.6g} [{self.threshold_low:.6g}, {self.threshold_high:.6g}]"
            f" for {name} {value:g}{f', {self.metric}' if self.metric else ''}",
            f"far        {self.far}",
            f"tar        {self.tar}",
            f"precision  {self.precision}",
            f"{self.same_pairs:,} same and {self.different_pairs:,} different pairs;"
            f" {self.confidence:.0%} intervals over {self.resampled}",
        ]
        return "\n".join(lines)

    __repr__ = __str__

    def as_dict(self) -> dict[str, Any]:
        """Return everything as numbers, strings, lists and dictionaries; NaN as None."""
        data: dict[str, Any] = {"format": _FORMAT, "version": 1}
        for name in _NUMBERS:
            data[name] = getattr(self, name)
        data["target"] = {"name": self.target[0], "value": self.target[1]}
        for name in _ESTIMATES:
            estimate = getattr(self, name)
            data[name] = {end: _or_none(getattr(estimate, end)) for end in ("value", "low", "high")}
        data["probability"] = self.mapping.as_dict()
        data["curve"] = {
            name: [_or_none(value) for value in values.tolist()] for name, values in self.curve.items()
        }
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Calibration":
        """Rebuild what :meth:`as_dict` gave.

        Raises:
            FileFormatError: Something is missing, of the wrong type or not finite.
        """
        try:
            if data["format"] != _FORMAT or data["version"] != 1:
                raise ValueError(f"expected {_FORMAT} version 1, got {data['format']} {data['version']}")
            numbers = {name: kind(data[name]) for name, kind in _NUMBERS.items()}
            if not all(math.isfinite(value) for value in numbers.values() if isinstance(value, float)):
                raise ValueError("a threshold is not finite")
            estimates: dict[str, Any] = {
                name: Estimate(*(_or_nan(data[name][end]) for end in ("value", "low", "high")))
                for name in _ESTIMATES
            }
            return cls(
                **numbers,
                **estimates,
                target=(str(data["target"]["name"]), float(data["target"]["value"])),
                mapping=probability_from_dict(data["probability"]),
                curve={
                    str(name): np.array([_or_nan(value) for value in values], np.float64)
                    for name, values in data["curve"].items()
                },
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileFormatError(f"this is no calibration of Kyori, or a damaged one: {error!r}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the calibration as strict JSON, atomically."""
        text = json.dumps(self.as_dict(), allow_nan=False, ensure_ascii=False, indent=1)
        write_atomic(path, lambda file: file.write(text.encode()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Calibration":
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            FileFormatError: It is damaged or something else.
        """
        try:
            data = json.loads(Path(path).read_text("utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise FileFormatError(f"{path} is no JSON, expected a calibration of Kyori: {error}") from error
        try:
            return cls.from_dict(data)
        except FileFormatError as error:
            raise FileFormatError(f"{path}: {error}") from error


_NUMBERS: dict[str, Any] = {
    "threshold": float,
    "threshold_low": float,
    "threshold_high": float,
    "same_pairs": int,
    "different_pairs": int,
    "resolved": bool,
    "metric": str,
    "confidence": float,
    "resampled": str,
}
_ESTIMATES = ("far", "tar", "precision", "recall", "f_beta")


def calibrate(
    distances: ArrayLike,
    same: ArrayLike,
    *,
    far: float | None = None,
    precision: float | None = None,
    f_beta: float | None = None,
    method: Method = "isotonic",
    confidence: float = 0.95,
    metric: str = "",
    items: ArrayLike | None = None,
    prior: float | None = None,
    bootstrap: int = 500,
    seed: int = 0,
) -> Calibration:
    """Choose a threshold on listed pairs, for exactly one target, and fit the probability of a distance.

    Use pairs of items that were not trained on. With ``far`` the threshold is the largest at which FAR ≤ ``far``;
    with ``precision`` the largest at which the precision is at least that; with ``f_beta`` the one of the largest
    F measure.

    Args:
        distances: ``(m,)`` finite distances.
        same: ``(m,)`` bools, whether the pair is the same.
        far: Wanted false-accept rate, between 0 and 1.
        precision: Wanted precision, between 0 and 1.
        f_beta: β > 0 of the F measure to maximise; 1 weighs precision and recall alike.
        method: Probability by isotonic regression (any falling curve) or Platt's sigmoid (needs fewer pairs).
        confidence: Of the intervals.
        metric: Name of the distance, to be kept with the threshold.
        items: ``(m, 2)`` ids of the two items of each pair. Pairs that share an item stand and fall together;
            with the ids the intervals resample items, without them pairs, as if no item occurred twice
            (Clopper–Pearson for FAR, TAR and precision).
        prior: Share of same pairs where the probability will be used; that of the given pairs when left out.
        bootstrap: Number of resamples.
        seed: Of the resamples.

    Returns:
        The calibration. ``resolved`` is False, with a :class:`DegenerateWarning`, when there are fewer than
        1/far different pairs.

    Raises:
        ArgumentError: Not exactly one target, or an option is out of range.
        DataError: There are no same or no different pairs, a distance is not finite, or no threshold reaches the
            precision.

    >>> found = calibrate([0.1, 0.2, 0.3, 0.6, 0.7, 0.9], [1, 1, 1, 0, 1, 0], far=0.5)
    >>> found.threshold, found.far.value, found.tar.value
    (0.9, 0.5, 1.0)
    >>> found.decide([0.5, 0.95]).tolist()
    [True, False]
    """
    from .pairs import check_pairs

    target = _target(far, precision, f_beta)
    _check_options(method, confidence, prior, bootstrap)
    levels, kinds = check_pairs(distances, same)
    ends = _check_items(items, len(levels))
    positives, negatives = int(kinds.sum()), int((~kinds).sum())
    if not positives or not negatives:
        raise DataError(
            f"calibration needs same and different pairs; got {positives} same and {negatives} different."
        )
    counts = PairCounts.from_pairs(levels, kinds)
    at = _choose(counts, target)
    accepted_same, accepted_different = int(counts.same[:at].sum()), int(counts.different[:at].sum())
    resolved = _warn_of_few(target, positives, negatives, accepted_same)
    beta = target[1] if target[0] == "f_beta" else 1.0
    drawn = _Drawn.of(counts, levels, kinds, ends, bootstrap, seed)
    tail = (1 - confidence) / 2
    estimates = drawn.estimates(at, beta, tail)
    if ends is None:
        estimates |= {
            "far": clopper_pearson(accepted_different, negatives, confidence),
            "tar": clopper_pearson(accepted_same, positives, confidence),
            "precision": clopper_pearson(accepted_same, accepted_same + accepted_different, confidence),
        }
    threshold = float(counts.thresholds[at])
    low, high = drawn.threshold(target, threshold, tail)
    fit = fit_isotonic if method == "isotonic" else fit_platt
    return Calibration(
        threshold=threshold,
        threshold_low=low,
        threshold_high=high,
        target=target,
        far=estimates["far"],
        tar=estimates["tar"],
        precision=estimates["precision"],
        recall=estimates["tar"],
        f_beta=estimates["f_beta"],
        same_pairs=positives,
        different_pairs=negatives,
        resolved=resolved,
        metric=metric,
        confidence=confidence,
        resampled="pairs" if ends is None else "items",
        mapping=fit(counts.thresholds[:-1], counts.same, counts.different, prior),
        curve=_curve(counts),
    )


def clopper_pearson(hits: int, n: int, confidence: float = 0.95) -> Estimate:
    """Return the share of hits with its exact binomial interval (Clopper & Pearson 1934); NaN for n = 0.

    >>> print(clopper_pearson(0, 1000))
    0 [0, 0.003682]
    """
    from scipy.stats import beta

    if n == 0:
        return Estimate(math.nan, math.nan, math.nan)
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, n - hits + 1))
    high = 1.0 if hits == n else float(beta.ppf(1 - tail, hits + 1, n - hits))
    return Estimate(hits / n, low, high)


def _target(far: float | None, precision: float | None, f_beta: float | None) -> tuple[str, float]:
    given = {"far": far, "precision": precision, "f_beta": f_beta}
    chosen = [(name, float(value)) for name, value in given.items() if value is not None]
    if len(chosen) != 1:
        got = " and ".join(name for name, _ in chosen) or "none"
        raise ArgumentError(f"calibrate needs exactly one of far, precision, f_beta; got {got}.")
    name, value = chosen[0]
    if name == "f_beta":
        if not (math.isfinite(value) and value > 0):
            raise ArgumentError(f"f_beta must be above 0; got {value:g}.")
    elif not 0 < value < 1 and not (name == "precision" and value == 1):
        raise ArgumentError(f"{name} must lie between 0 and 1; got {value:g}.")
    return name, value


def _check_options(method: str, confidence: float, prior: float | None, bootstrap: int) -> None:
    if method not in get_args(Method):
        raise ArgumentError(f"unknown method {method!r}{nearest_name(method, get_args(Method))}")
    if not 0 < confidence < 1:
        raise ArgumentError(f"confidence must lie between 0 and 1; got {confidence:g}.")
    if prior is not None and not 0 < prior < 1:
        raise ArgumentError(f"prior must lie between 0 and 1; got {prior:g}.")
    if bootstrap < 1:
        raise ArgumentError(f"bootstrap must be at least 1 resample; got {bootstrap}.")


def _check_items(items: ArrayLike | None, m: int) -> NDArray[np.int64] | None:
    """Return ``(m, 2)`` codes ``0 … n−1`` of the items of each pair."""
    if items is None:
        return None
    ids = np.asarray(items)
    if ids.shape != (m, 2):
        raise ArgumentError(f"items must have shape ({m}, 2), two ids a pair; got {ids.shape}.")
    return np.unique(ids, return_inverse=True)[1].reshape(m, 2).astype(np.int64)


def _choose(counts: PairCounts, target: tuple[str, float]) -> int:
    name, value = target
    if name == "far":
        return last_within(counts.curve()[0], value)
    true, false = _accepted(counts.same, counts.different)
    if name == "f_beta":
        return int(np.argmax(_f_measure(true, false, float(true[-1]), value)))
    precise = _quotient(true, true + false)
    enough = np.flatnonzero(precise >= value * (1 - 1e-12))
    if not len(enough):
        best = float(np.nanmax(precise))
        raise DataError(
            f"no threshold reaches the precision {value:g}; the best of these {int(true[-1] + false[-1])} pairs"
            f" is {best:.4g}. Ask for less, or use a better embedding."
        )
    return int(enough[-1])


def _warn_of_few(target: tuple[str, float], positives: int, negatives: int, accepted: int) -> bool:
    name, value = target
    resolved = name != "far" or negatives * value * (1 + 1e-12) >= 1
    if not resolved:
        warnings.warn(
            f"{negatives:,} different pairs cannot resolve a false-accept rate of {value:g}: the threshold lies"
            f" below all of them. At least {math.ceil(1 / value):,} are needed, and {math.ceil(3 / value):,} to be"
            " 95 % sure of it.",
            DegenerateWarning,
            stacklevel=3,
        )
    if accepted == 0:
        warnings.warn(
            f"at {name} {value:g} not one of the {positives:,} same pairs is accepted.",
            DegenerateWarning,
            stacklevel=3,
        )
    return resolved


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Counts of each resample in coarse bins of ascending distance.

    Attributes:
        starts: ``(bins,)`` first entry of the counts that is in each bin.
        edges: ``(bins + 1,)`` distances; ``edges[j]`` accepts the first j bins.
        same: ``(r + 1, bins)``; row 0 are the counts themselves.
        different: ``(r + 1, bins)``.
    """

    counts: PairCounts
    starts: NDArray[np.int64]
    edges: Floats
    same: Floats
    different: Floats

    @classmethod
    def of(
        cls,
        counts: PairCounts,
        levels: Floats,
        kinds: NDArray[np.bool_],
        ends: NDArray[np.int64] | None,
        replicates: int,
        seed: int,
    ) -> "_Drawn":
        generator = np.random.default_rng(seed)
        starts = _bin_starts(counts)
        edges = np.append(counts.thresholds[starts], counts.thresholds[-1])
        real = [np.add.reduceat(kind, starts) for kind in (counts.same, counts.different)]
        drawn: list[NDArray[Any]]
        if ends is None:
            drawn = [generator.multinomial(kind.sum(), kind / kind.sum(), replicates) for kind in real]
        else:
            bins = np.searchsorted(edges[:-1], levels, side="right") - 1 + kinds * len(starts)
            drawn = _draw_items(ends, bins, len(starts), replicates, generator)
        both = [
            np.concatenate([kind[None], some]).astype(np.float64)
            for kind, some in zip(real, drawn, strict=True)
        ]
        return cls(counts, starts, edges, both[0], both[1])

    def estimates(self, at: int, beta: float, tail: float) -> dict[str, Estimate]:
        """Return the rates at the threshold of entry ``at`` with percentile intervals."""
        whole = (
            int(np.searchsorted(self.starts, at, side="right")) - 1
            if at < len(self.counts.same)
            else len(self.starts)
        )
        # The threshold may lie inside a bin, which then counts by the share of it that lies below.
        true, false = (self._below(whole, at, kind, real) for kind, real in (
            (self.same, self.counts.same), (self.different, self.counts.different)
        ))  # fmt: skip
        of_same, of_different = self.same.sum(axis=1), self.different.sum(axis=1)
        drawn = {
            "far": _quotient(false, of_different),
            "tar": _quotient(true, of_same),
            "precision": _quotient(true, true + false),
            "f_beta": _f_measure(true, false, of_same, beta),
        }
        return {name: _estimate(float(values[0]), values[1:], tail) for name, values in drawn.items()}

    def threshold(self, target: tuple[str, float], value: float, tail: float) -> tuple[float, float]:
        found = []
        for same, different in zip(self.same[1:], self.different[1:], strict=True):
            if same.any() and different.any():
                try:
                    found.append(self.edges[_choose(PairCounts(self.edges, same, different), target)])
                except DataError:  # this resample does not reach the precision: nothing would be accepted
                    found.append(self.edges[0])
        if not found:
            return value, value
        low, high = np.quantile(found, [tail, 1 - tail])
        return min(float(low), value), max(float(high), value)

    def _below(self, whole: int, at: int, drawn: Floats, real: NDArray[Any]) -> Floats:
        accepted = drawn[:, :whole].sum(axis=1)
        if whole == len(self.starts):
            return accepted
        last = self.starts[whole + 1] if whole + 1 < len(self.starts) else len(real)
        inside = real[self.starts[whole] : last].sum()
        share = real[self.starts[whole] : at].sum() / inside if inside else 0.0
        return accepted + share * drawn[:, whole]


def _bin_starts(counts: PairCounts) -> NDArray[np.int64]:
    """Return the entries at which bins start: even in both kinds, and each by itself where few are accepted."""
    parts = [np.zeros(1, np.int64)]
    for kind in (counts.same, counts.different):
        total = np.cumsum(kind)
        levels = [
            np.linspace(0, total[-1], _BINS // 4, endpoint=False),
            np.geomspace(1, total[-1], _BINS // 4),
        ]
        parts += [np.searchsorted(total, level, side="right") for level in levels]
        parts += [np.flatnonzero(kind)[: _BINS // 8]]
    starts = np.unique(np.concatenate(parts))
    return starts[starts < len(counts.same)]


def _draw_items(
    ends: NDArray[np.int64],
    bins: NDArray[np.int64],
    width: int,
    replicates: int,
    generator: np.random.Generator,
) -> list[Floats]:
    """Draw items with replacement; a pair of items drawn v and w times counts v·w times."""
    n = int(ends.max()) + 1
    drawn = np.empty((replicates, 2 * width))
    for row in drawn:
        weights = np.bincount(generator.integers(n, size=n), minlength=n)
        row[:] = np.bincount(bins, weights[ends[:, 0]] * weights[ends[:, 1]], minlength=2 * width)
    return [drawn[:, width:], drawn[:, :width]]


def _estimate(value: float, drawn: Floats, tail: float) -> Estimate:
    drawn = drawn[~np.isnan(drawn)]
    if math.isnan(value) or not len(drawn):
        return Estimate(value, math.nan, math.nan)
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(value, min(float(low), value), max(float(high), value))


def _accepted(same: NDArray[Any], different: NDArray[Any]) -> tuple[Floats, Floats]:
    return tuple(np.concatenate([[0.0], np.cumsum(kind)]) for kind in (same, different))  # type: ignore[return-value]


def _f_measure(true: Floats, false: Floats, positives: Floats | float, beta: float) -> Floats:
    square = beta * beta
    return _quotient((1 + square) * true, true + false + square * positives)


def _quotient(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)


def _curve(counts: PairCounts) -> dict[str, Floats]:
    curve = counts.roc()
    true, false = _accepted(counts.same, counts.different)
    at = np.searchsorted(counts.thresholds, curve["threshold"])
    return curve | {"precision": _quotient(true, true + false)[at]}


def _known(distances: ArrayLike) -> Floats:
    values = np.asarray(distances, np.float64)
    if np.isnan(values).any():
        raise DataError(f"distances must be numbers; {int(np.isnan(values).sum())} are NaN.")
    return values


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
