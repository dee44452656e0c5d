"""Coordinates in which descent needs fewer steps: there, neighbours of a class differ alike in all directions.

L-BFGS and Adam know no curvature at the start: a direction in which all items are near each other asks for other steps
than one in which they are spread. The change of coordinates evens that out. It changes no value: L·P⁻¹ on Px is L on x.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Coordinates", "even_coordinates"]

Matrix = NDArray[np.float64]

_FLATTEST = 1e-8  # variance, as a share of the largest, below which a direction is not stretched further


class Coordinates(NamedTuple):
    """P and P⁻¹ ``(f, f)``, both symmetric: rows ``X @ to``, maps ``L @ back``; what is found there is ``L @ to``."""

    to: Matrix
    back: Matrix

    @classmethod
    def as_given(cls, f: int) -> Self:
        """No change, for f features."""
        return cls(np.eye(f), np.eye(f))


def even_coordinates(covariance: Matrix) -> Coordinates:
    """Coordinates in which differences with this covariance ``(f, f)`` have variance 1 in every direction."""
    values, vectors = np.linalg.eigh(covariance)
    if not values[-1] > 0:
        return Coordinates.as_given(len(values))
    roots = np.sqrt(np.maximum(values, _FLATTEST * values[-1]))
    return Coordinates((vectors / roots) @ vectors.T, (vectors * roots) @ vectors.T)
