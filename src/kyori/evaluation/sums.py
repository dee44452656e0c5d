"""Sums of what several threads add, the same to the last bit whichever of them comes first."""

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sums"]

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


class Sums:
    """Sums over queries, for each measure, side and unit: an item or a class.

    They are kept in whole numbers of a very small part: unlike floats, those can be added in any order.

    Args:
        measures: How many.
        units: How many.
        most: No sum will be farther from 0 than this.
    """

    def __init__(self, measures: int, units: int, most: int):
        self.units = units
        self._whole = np.zeros((measures, 2, units), np.int64)
        self._parts = 2.0 ** (62 - math.frexp(most)[1])
        self._adding = threading.Lock()

    def add(self, measure: int, side: int, at: slice | Counts, values: Floats) -> None:
        """Add values ``(e,)`` to units of one side, each of which is there once."""
        whole = self._wholes(values)
        with self._adding:
            self._whole[measure, side, at] += whole

    def scatter(self, measure: int, side: Counts, units: Counts, values: Floats) -> None:
        """Add values ``(e,)`` to units, each of its side; a unit may be there many times."""
        found = np.bincount(side * self.units + units, values, 2 * self.units)
        whole = self._wholes(found).reshape(2, self.units)
        with self._adding:
            self._whole[measure] += whole

    def values(self) -> Floats:
        """Return ``(s, 2, m)``."""
        return self._whole / self._parts

    def _wholes(self, values: NDArray[Any]) -> Counts:
        return np.rint(values * self._parts).astype(np.int64)
