"""How many labels of a class are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["NoiseRate", "noise_rates", "wilson"]

_Z = 1.959963984540054  # 95 %


@dataclass(frozen=True)
class NoiseRate:
    """Share of the labels of one class that look wrong, with a 95 % interval.

    Attributes:
        label: The class, as the labels name it.
        items: How many of its labels were judged.
        issues: How many of those are issues.
        rate: Share in [0, 1]; NaN where none was judged.
        low: Lower end of Wilson's interval: of the uncertainty of a count, not of the detector's own mistakes.
        high: Upper end.
    """

    label: str | int
    items: int
    issues: int
    rate: float
    low: float
    high: float


def noise_rates(
    labels: NDArray[np.int64],
    issue: NDArray[np.bool_],
    judged: NDArray[np.bool_],
    class_names: Sequence[str] | None,
) -> tuple[NoiseRate, ...]:
    """Count the issues of each class that occurs."""
    classes, codes = np.unique(labels, return_inverse=True)
    items = np.bincount(codes, judged, len(classes)).astype(int)
    issues = np.bincount(codes, issue, len(classes)).astype(int)
    names = classes.tolist() if class_names is None else [class_names[i] for i in classes]
    return tuple(
        NoiseRate(name, n, k, k / n if n else float("nan"), *wilson(k, n))
        for name, n, k in zip(names, items.tolist(), issues.tolist(), strict=True)
    )


def wilson(count: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    >>> [round(end, 3) for end in wilson(10, 100)]
    [0.055, 0.174]
    """
    if n == 0:
        return float("nan"), float("nan")
    share, square = count / n, _Z**2
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = _Z / (1 + square / n) * np.sqrt(share * (1 - share) / n + square / (4 * n**2))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))
