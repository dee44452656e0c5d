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
from .pair_units import Estimate, PairUnits, Unit
from .probability import Isotonic, Platt, fit_isotonic, fit_platt, probability_from_dict
from .threshold_choice import Target, accepted_pairs, checked_target, choose, quotient, resampled_threshold
from .verification import PairCounts, last_within

__all__ = ["Calibration", "Estimate", "calibrate"]

Floats = NDArray[np.float64]
Method = Literal["isotonic", "platt"]

_FORMAT = "kyori-calibration"


@dataclass(frozen=True, eq=False)
class Calibration:
    """A threshold that was chosen on pairs, what it does there, and the probability of every distance.

    Attributes:
        threshold: Pairs of a smaller distance are accepted as the same.
        threshold_low: Lower end of the interval of the threshold.
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
        resampled: What the intervals take for drawn anew: ``"pairs"``, or ``"items"`` or ``"classes"`` where those of
            the pairs were given.
        curve: Arrays far, tar, precision, threshold, each ``(t,)``.
    """

    threshold: float
    threshold_low: float
    threshold_high: float
    target: Target
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
    resampled: Unit
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


def _unit(value: object) -> Unit:
    if value not in get_args(Unit):
        raise ValueError(f"intervals are over {get_args(Unit)}, got {value!r}")
    return value  # type: ignore[return-value]


_NUMBERS: dict[str, Any] = {
    "threshold": float,
    "threshold_low": float,
    "threshold_high": float,
    "same_pairs": int,
    "different_pairs": int,
    "resolved": bool,
    "metric": str,
    "confidence": float,
    "resampled": _unit,
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
    classes: ArrayLike | None = None,
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
        items: ``(m, 2)`` ids of the two items of each pair. Pairs that share an item are no independent witnesses;
            the intervals are then about new items of the same classes (:mod:`kyori.evaluation.pair_units`).
            Without them each pair counts as if no item occurred twice (Clopper–Pearson).
        classes: ``(m, 2)`` labels of the two items instead, where other classes than these will come: people or
            products that nobody has seen yet.
        prior: Share of same pairs where the probability will be used; that of the given pairs when left out.
        bootstrap: Number of resamples, for the interval of the threshold of a precision or an F measure; that of a
            FAR follows from the interval of the rate (Woodruff 1952).
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

    target = checked_target(far, precision, f_beta)
    _check_options(method, confidence, prior, bootstrap)
    levels, kinds = check_pairs(distances, same)
    units = PairUnits.of(items, classes, len(levels))
    positives, negatives = int(kinds.sum()), int((~kinds).sum())
    if not positives or not negatives:
        raise DataError(
            f"calibration needs same and different pairs; got {positives} same and {negatives} different."
        )
    counts = PairCounts.from_pairs(levels, kinds)
    at = choose(counts, target)
    threshold = float(counts.thresholds[at])
    resolved = _warn_of_few(target, positives, negatives, int(counts.same[:at].sum()))
    estimates = _estimates(levels, kinds, threshold, target, units, confidence)
    if target[0] == "far":
        ends = (_largest_at(counts, estimates["far"].low), _largest_at(counts, estimates["far"].high))
    else:
        ends = resampled_threshold(
            target,
            counts,
            levels,
            kinds,
            units,
            confidence=confidence,
            replicates=bootstrap,
            seed=seed,
        )
    fit = fit_isotonic if method == "isotonic" else fit_platt
    return Calibration(
        threshold=threshold,
        threshold_low=min(ends[0], threshold),
        threshold_high=max(ends[1], threshold),
        target=target,
        **estimates,
        same_pairs=positives,
        different_pairs=negatives,
        resolved=resolved,
        metric=metric,
        confidence=confidence,
        resampled=units.kind,
        mapping=fit(counts.thresholds[:-1], counts.same, counts.different, prior),
        curve=_curve(counts),
    )


def _estimates(
    levels: Floats,
    same: NDArray[np.bool_],
    threshold: float,
    target: Target,
    units: PairUnits,
    confidence: float,
) -> dict[str, Estimate]:
    """Return the rates at a threshold with their intervals."""
    accepted, gaps = levels < threshold, np.abs(levels - threshold)
    square = (target[1] if target[0] == "f_beta" else 1.0) ** 2
    true = accepted & same
    tar = units.share(true, same, confidence, gaps)
    return {
        "far": units.share(accepted & ~same, ~same, confidence, gaps),
        "tar": tar,
        "precision": units.share(true, accepted, confidence),
        "recall": tar,
        "f_beta": units.share((1 + square) * true, accepted + square * same, confidence),
    }


def _largest_at(counts: PairCounts, far: float) -> float:
    return float(counts.thresholds[last_within(counts.curve()[0], far)])


def _check_options(method: str, confidence: float, prior: float | None, bootstrap: int) -> None:
    if method not in get_args(Method):
        raise ArgumentError(f"unknown method {method!r}{nearest_name(method, get_args(Method))}")
    if not 0 < confidence < 1:
        raise ArgumentError(f"confidence must lie between 0 and 1; got {confidence:g}.")
    if prior is not None and not 0 < prior < 1:
        raise ArgumentError(f"prior must lie between 0 and 1; got {prior:g}.")
    if bootstrap < 1:
        raise ArgumentError(f"bootstrap must be at least 1 resample; got {bootstrap}.")


def _warn_of_few(target: Target, positives: int, negatives: int, accepted: int) -> bool:
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


def _curve(counts: PairCounts) -> dict[str, Floats]:
    curve = counts.roc()
    true, false = accepted_pairs(counts.same, counts.different)
    at = np.searchsorted(counts.thresholds, curve["threshold"])
    return curve | {"precision": quotient(true, true + false)[at]}


def _known(distances: ArrayLike) -> Floats:
    values = np.asarray(distances, np.float64)
    if np.isnan(values).any():
        raise DataError(f"distances must be numbers; {int(np.isnan(values).sum())} are NaN.")
    return values


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
