"""From a distance to the probability that the pair is the same: isotonic regression, or Platt's sigmoid.

Both fall, or stay, as the distance grows. No finite number of pairs proves certainty: with m pairs no probability is
below 1/(m + 2) or above 1 − 1/(m + 2) (Laplace's rule).
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DegenerateWarning

__all__ = ["Isotonic", "Platt", "fit_isotonic", "fit_platt", "probability_from_dict"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Isotonic:
    """A falling curve: straight lines between knots, level outside them.

    Attributes:
        distances: ``(t,)`` ascending.
        probabilities: ``(t,)`` not ascending.
        shift: Added to the log odds, for another share of same pairs than that of the fit.
    """

    distances: Floats
    probabilities: Floats
    shift: float = 0.0

    def __call__(self, distances: Floats) -> Floats:
        return _shifted(np.interp(distances, self.distances, self.probabilities), self.shift)

    def as_dict(self) -> dict[str, Any]:
        return {
            "method": "isotonic",
            "distances": self.distances.tolist(),
            "probabilities": self.probabilities.tolist(),
            "shift": self.shift,
        }


@dataclass(frozen=True)
class Platt:
    """1 / (1 + exp(slope · distance + offset)), slope ≥ 0, within Laplace's bounds.

    Attributes:
        slope: Of the log odds, per unit of distance.
        offset: Of the log odds at distance 0, negated.
        least: The smallest probability; the largest is one less it.
        shift: Added to the log odds, for another share of same pairs than that of the fit.
    """

    slope: float
    offset: float
    least: float
    shift: float = 0.0

    def __call__(self, distances: Floats) -> Floats:
        # A slope of 0 times an infinite distance is no number; finite bounds give the same probability.
        largest = np.finfo(np.float64).max
        with np.errstate(over="ignore"):
            odds = -(self.slope * np.clip(distances, -largest, largest) + self.offset)
        values = 0.5 * (1 + np.tanh(0.5 * odds))
        return _shifted(np.clip(values, self.least, 1 - self.least), self.shift)

    def as_dict(self) -> dict[str, Any]:
        return {
            "method": "platt",
            "slope": self.slope,
            "offset": self.offset,
            "least": self.least,
            "shift": self.shift,
        }


def fit_isotonic(
    levels: Floats, same: NDArray[np.int64], different: NDArray[np.int64], prior: float | None
) -> Isotonic:
    """Fit a falling curve to the share of same pairs at each of the ``(t,)`` ascending distances."""
    from sklearn.isotonic import isotonic_regression

    total = same + different
    fitted = isotonic_regression(same / total, sample_weight=total.astype(np.float64), increasing=False)
    least = 1 / (int(total.sum()) + 2)
    fitted = np.minimum.accumulate(np.clip(fitted, least, 1 - least))
    changes = np.flatnonzero(np.diff(fitted))  # inside a level stretch only its two ends are needed
    knots = np.unique(np.concatenate([[0], changes, changes + 1, [len(levels) - 1]]))
    return Isotonic(levels[knots], fitted[knots], _prior_shift(same, different, prior))


def fit_platt(
    levels: Floats, same: NDArray[np.int64], different: NDArray[np.int64], prior: float | None
) -> Platt:
    """Fit Platt's sigmoid (1999) by Newton's method, with his targets (n₊+1)/(n₊+2) and 1/(n₋+2)."""
    positives, negatives = int(same.sum()), int(different.sum())
    high, low = (positives + 1) / (positives + 2), 1 / (negatives + 2)
    total = (same + different).astype(np.float64)
    wanted = same * high + different * low
    centre = float(np.average(levels, weights=total))
    scale = math.sqrt(float(np.average((levels - centre) ** 2, weights=total))) or 1.0
    x = (levels - centre) / scale
    design = np.stack([x, np.ones_like(x)], axis=1)
    parameters = np.array([0.0, math.log(wanted.sum() / (total.sum() - wanted.sum()))])
    constant = parameters[1]

    def loss(at: Floats) -> float:
        odds = design @ at
        return float((total * np.logaddexp(0, odds) - wanted * odds).sum())

    for _ in range(100):
        p = 0.5 * (1 + np.tanh(0.5 * (design @ parameters)))
        gradient = design.T @ (total * p - wanted)
        weights = total * p * (1 - p)
        hessian = (design * weights[:, None]).T @ design + 1e-10 * np.eye(2)
        step, before = np.linalg.solve(hessian, gradient), loss(parameters)
        share = 1.0
        while loss(parameters - share * step) > before and share > 1e-6:
            share /= 2
        parameters = parameters - share * step
        if np.abs(share * step).max() < 1e-10:
            break
    slope, offset = -float(parameters[0]) / scale, -float(parameters[1] - parameters[0] * centre / scale)
    if slope < 0:
        warnings.warn(
            "same pairs are not closer than different ones: the probability is the same at every distance.",
            DegenerateWarning,
            stacklevel=4,
        )
        slope, offset = 0.0, -float(constant)
    least = 1 / (positives + negatives + 2)
    return Platt(slope, offset, least, _prior_shift(same, different, prior))


def probability_from_dict(data: Mapping[str, Any]) -> Isotonic | Platt:
    """Rebuild what ``as_dict`` gave; ValueError or KeyError where that is not possible."""
    shift = float(data["shift"])
    if data["method"] == "platt":
        numbers = [float(data[name]) for name in ("slope", "offset", "least")]
        if not np.isfinite([*numbers, shift]).all() or numbers[0] < 0 or not 0 < numbers[2] <= 0.5:
            raise ValueError("the sigmoid is out of range")
        return Platt(numbers[0], numbers[1], numbers[2], shift)
    if data["method"] != "isotonic":
        raise ValueError(f"unknown method {data['method']!r}")
    x, y = (np.array(data[name], np.float64) for name in ("distances", "probabilities"))
    if x.ndim != 1 or x.shape != y.shape or not len(x) or not np.isfinite([*x, *y, shift]).all():
        raise ValueError("the knots are not two lists of finite numbers")
    if (np.diff(x) < 0).any() or (np.diff(y) > 0).any() or y[0] >= 1 or y[-1] <= 0:
        raise ValueError("the knots do not fall")
    return Isotonic(x, y, shift)


def _prior_shift(same: NDArray[Any], different: NDArray[Any], prior: float | None) -> float:
    if prior is None:
        return 0.0
    return math.log(prior / (1 - prior)) - math.log(int(same.sum()) / int(different.sum()))


def _shifted(probabilities: Floats, shift: float) -> Floats:
    if shift == 0:
        return probabilities
    odds = np.log(probabilities / (1 - probabilities)) + shift
    return 0.5 * (1 + np.tanh(0.5 * odds))
