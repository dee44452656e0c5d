"""Outliers: items that are unlike everything the vectors were made for, with a threshold that keeps its promise.

A detector is fitted on reference vectors and gives a new item a raw score, larger for stranger. What score is too
large is decided on clean items that the detector was not fitted on, by the rule of split conformal prediction (Vovk et
al. 2005; Bates et al. 2023): with m of them, an item is an outlier when at most ⌊α(m+1)⌋ − 1 of them are as strange.
For a clean item from the same source that happens with probability ⌊α(m+1)⌋/(m+1) ≤ α, exactly and in finite samples,
whatever the distribution of the scores.
"""

import os
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..distances import Distance
from ..errors import ArgumentError, DataError, nearest_name
from ..vectors import VectorTable
from .scorers import SCORERS, Scorer
from .writing import write_columns

__all__ = ["OutlierDetector", "Outliers", "find_outliers"]

Method = Literal["knn", "lof", "mahalanobis"]

_HELD_OUT = 0.2  # of the reference, where no calibration items are given


@dataclass(frozen=True, eq=False)
class Outliers:
    """How strange each item is.

    Attributes:
        ids: ``(n,)`` of the table.
        raw: ``(n,)`` float64 scores of the method, larger for stranger, in the unit of the method.
        scores: ``(n,)`` float64 in (0, 1], lower for stranger: the share of clean items (and this one) that are as
            strange, the conformal p-value. Its steps are 1/(m+1); ``raw`` orders what lies on one step.
        is_outlier: ``(n,)`` bool: ``scores <= false_alarm_rate``.
        threshold: The raw score above which an item is an outlier.
        method: How the raw scores were computed.
        false_alarm_rate: The requested rate.
    """

    ids: NDArray[Any]
    raw: NDArray[np.float64]
    scores: NDArray[np.float64]
    is_outlier: NDArray[np.bool_]
    threshold: float
    method: str
    false_alarm_rate: float

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return one array ``(n,)`` a column, by cleanlab's names; a lower score is worse."""
        return {
            "id": self.ids,
            "is_outlier_issue": self.is_outlier,
            "outlier_score": self.scores,
            "raw_score": self.raw,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`columns` to a ``.parquet`` or ``.csv`` file."""
        write_columns(self.columns(), path)

    def __str__(self) -> str:
        return (
            f"{int(self.is_outlier.sum()):,} of {len(self.ids):,} items are outliers ({self.method} score above"
            f" {self.threshold:.4g}, false-alarm rate {self.false_alarm_rate:g})"
        )


class OutlierDetector:
    """Tell items of the kind that it was fitted on from others: in-distribution or not.

    | method | raw score |
    |---|---|
    | ``knn`` | mean distance to the k nearest reference items |
    | ``lof`` | local outlier factor: the density of the neighbours over one's own (Breunig et al. 2000) |
    | ``mahalanobis`` | distance to the nearest class centre in units of that class's spread (Lee et al. 2018) |

    ``lof`` and ``mahalanobis`` allow for classes of unequal spread; ``mahalanobis`` does not slow down with the number
    of reference items.

    Args:
        method: ``"knn"``, ``"lof"`` or ``"mahalanobis"``.
        k: Neighbours of ``knn`` and ``lof``.
        metric: Distance of ``knn`` and ``lof``.
        false_alarm_rate: Share of clean items that may be called outliers, in (0, 1).
        seed: Of the items that are held out for calibration.

    Attributes:
        threshold: Raw score above which an item is an outlier.
        expected_rate: ⌊α(m+1)⌋/(m+1): the exact chance of a false alarm, over calibration sets, where scores do not tie
            (with ties it is lower).
        rate_interval: 95 % interval of the chance of a false alarm with these very calibration items: it is
            Beta(f, m+1−f) distributed, f = ⌊α(m+1)⌋.
        calibration_items: m.

    >>> generator = np.random.default_rng(0)
    >>> detector = OutlierDetector(k=5, false_alarm_rate=0.05).fit(generator.normal(size=(500, 8)))
    >>> bool(detector.predict(np.full((1, 8), 9.0))[0])
    True
    >>> low, high = detector.rate_interval
    >>> round(low, 3), round(high, 3)
    (0.016, 0.099)
    """

    def __init__(
        self,
        method: Method = "knn",
        *,
        k: int = 10,
        metric: Distance = "euclidean",
        false_alarm_rate: float = 0.05,
        seed: int = 0,
    ):
        _check_method(method)
        if not 0 < false_alarm_rate < 1:
            raise ArgumentError(f"false_alarm_rate must lie between 0 and 1; got {false_alarm_rate}.")
        self.method = method
        self.false_alarm_rate = false_alarm_rate
        self.seed = seed
        self._scorer: Scorer = SCORERS[method](k, metric)
        self._clean: NDArray[np.float64] | None = None

    def fit(
        self,
        reference: VectorTable | ArrayLike,
        labels: ArrayLike | None = None,
        *,
        calibration: VectorTable | ArrayLike | None = None,
    ) -> "OutlierDetector":
        """Learn what is usual, and how strange clean items are.

        Args:
            reference: Vectors ``(n, d)``, with the labels that ``mahalanobis`` takes its classes from; without labels
                it has one class.
            labels: ``(n,)`` where ``reference`` is an array.
            calibration: Clean vectors ``(m, d)``, drawn like the items to come and not in ``reference`` (nor trained
                on: items that the model has learned lie closer than new ones). Left out, a fifth of the reference is
                held out at random, which keeps the promise for items like the reference.

        Raises:
            ArgumentError: The shapes do not fit, or there are too few items for ``k``.
            DataError: Vectors are not finite or leave nothing to measure, or there are too few calibration items for
                the false-alarm rate.
        """
        table = (
            reference if isinstance(reference, VectorTable) else VectorTable(vectors=reference, labels=labels)
        )
        if calibration is None:
            order = np.random.default_rng(self.seed).permutation(len(table))
            held_out = round(_HELD_OUT * len(table))
            clean, table = table.take(order[:held_out]), table.take(np.sort(order[held_out:]))
        else:
            clean = _as_table(calibration)
        _require_enough(len(clean), self.false_alarm_rate, held_out=calibration is None)
        self._scorer.fit(table.vectors, table.labels)
        self._dimensions = table.vectors.shape[1]
        self._clean = np.sort(self.score(clean))
        return self

    def score(self, items: VectorTable | ArrayLike) -> NDArray[np.float64]:
        """Return the ``(n,)`` raw scores of new items, larger for stranger.

        Raises:
            ArgumentError: The detector is not fitted, or the vectors have another number of dimensions.
            DataError: A vector is not finite.
        """
        vectors = _as_table(items).vectors
        if not hasattr(self, "_dimensions"):
            raise ArgumentError("the detector is not fitted; call fit(reference) first.")
        if vectors.shape[1] != self._dimensions:
            raise ArgumentError(
                f"items must have {self._dimensions} dimensions like the reference; got {vectors.shape[1]}."
            )
        return self._scorer.score(vectors)

    def predict(self, items: VectorTable | ArrayLike) -> NDArray[np.bool_]:
        """Return ``(n,)`` bools: True for an outlier, False for what is in the distribution."""
        return self.score(items) > self.threshold

    def detect(self, items: VectorTable | ArrayLike) -> Outliers:
        """Return raw scores, conformal p-values and decisions for new items."""
        table = _as_table(items)
        raw = self.score(table)
        clean = self._calibrated
        as_strange = len(clean) - np.searchsorted(clean, raw, side="left")
        return Outliers(
            ids=table.ids,
            raw=raw,
            scores=(as_strange + 1) / (len(clean) + 1),
            is_outlier=raw > self.threshold,
            threshold=self.threshold,
            method=self.method,
            false_alarm_rate=self.false_alarm_rate,
        )

    @property
    def calibration_items(self) -> int:
        return len(self._calibrated)

    @property
    def threshold(self) -> float:
        return float(self._calibrated[len(self._calibrated) - self._allowed])

    @property
    def expected_rate(self) -> float:
        return self._allowed / (len(self._calibrated) + 1)

    @property
    def rate_interval(self) -> tuple[float, float]:
        from scipy.stats import beta

        low, high = beta.ppf([0.025, 0.975], self._allowed, len(self._calibrated) + 1 - self._allowed)
        return float(low), float(high)

    @property
    def _allowed(self) -> int:
        return _floor(self.false_alarm_rate * (len(self._calibrated) + 1))

    @property
    def _calibrated(self) -> NDArray[np.float64]:
        if self._clean is None:
            raise ArgumentError("the detector is not fitted; call fit(reference) first.")
        return self._clean


def find_outliers(
    table: VectorTable | ArrayLike,
    reference: VectorTable | ArrayLike | None = None,
    *,
    calibration: VectorTable | ArrayLike | None = None,
    method: Method = "knn",
    k: int = 10,
    metric: Distance = "euclidean",
    false_alarm_rate: float = 0.05,
    seed: int = 0,
) -> Outliers:
    """Find the items of a table that are unlike a reference, or unlike the rest of the table.

    With a ``reference`` the threshold keeps the false-alarm rate, see :class:`OutlierDetector`. Without one there is
    nothing clean to calibrate on: each item is scored among the others (never as its own neighbour), its score is the
    share of the table that is as strange, and the strangest ``false_alarm_rate`` of the items are called outliers, be
    there as many or not.

    Raises:
        ArgumentError: The arguments do not fit each other.
        DataError: Vectors are not finite or too few.

    >>> found = find_outliers([[0.0], [0.1], [0.2], [9.0]], k=2, false_alarm_rate=0.25)
    >>> found.is_outlier
    array([False, False, False,  True])
    """
    table = _as_table(table)
    detector = OutlierDetector(method, k=k, metric=metric, false_alarm_rate=false_alarm_rate, seed=seed)
    if reference is not None:
        return detector.fit(reference, calibration=calibration).detect(table)
    if calibration is not None:
        raise ArgumentError("calibration items belong to a reference; give reference= too.")
    if len(table) < 2:
        raise DataError(f"outliers are strange among others: expected at least 2 items; got {len(table)}.")
    scorer = detector._scorer
    scorer.fit(table.vectors, table.labels)
    raw = scorer.among_themselves()
    ordered = np.sort(raw)
    scores = (len(raw) - np.searchsorted(ordered, raw, side="left")) / len(raw)
    allowed = _floor(false_alarm_rate * len(raw))
    threshold = float(ordered[len(raw) - allowed - 1])
    return Outliers(table.ids, raw, scores, raw > threshold, threshold, method, false_alarm_rate)


def _as_table(items: VectorTable | ArrayLike) -> VectorTable:
    return items if isinstance(items, VectorTable) else VectorTable(vectors=items)


def _floor(value: float) -> int:
    return int(np.floor(value + 1e-9))  # 0.05 × 100 is 5, whatever the rounding of 0.05


def _check_method(method: str) -> None:
    if method not in SCORERS:
        raise ArgumentError(
            f"method must be one of {', '.join(SCORERS)}; got {method!r}{nearest_name(method, SCORERS)}"
        )


def _require_enough(items: int, rate: float, *, held_out: bool) -> None:
    needed = int(np.ceil(1 / rate - 1e-9)) - 1
    if items < max(1, needed):
        source = "the fifth of the reference that is held out has" if held_out else "calibration has"
        raise DataError(
            f"a false-alarm rate of {rate:g} needs at least {max(1, needed)} clean items to calibrate on; {source}"
            f" {items}. Give more, or a higher rate."
        )
