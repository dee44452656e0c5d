"""Sums are the same to the last bit whatever the order, and right."""

import numpy as np

from kyori.evaluation.sums import Sums


def added(parts, order):
    sums = Sums(2, 50, most=len(parts) * 100)
    for i in order:
        side, units, values = parts[i]
        sums.scatter(0, side, units, values)
        sums.add(1, int(side[0]), np.unique(units), values[: len(np.unique(units))])
    return sums.values()


def test_the_order_of_adding_changes_no_bit_and_the_sums_are_right():
    rng = np.random.default_rng(0)
    parts = [
        (rng.integers(2, size=100), rng.integers(50, size=100), rng.uniform(-1, 1, size=100) / 3)
        for _ in range(40)
    ]
    forwards, backwards = added(parts, range(40)), added(parts, range(39, -1, -1))
    np.testing.assert_array_equal(forwards, backwards)
    expected = np.zeros((2, 2, 50))
    for side, units, values in parts:
        for one, unit, value in zip(side, units, values, strict=True):
            expected[0, one, unit] += value
        for unit, value in zip(np.unique(units), values, strict=False):
            expected[1, side[0], unit] += value
    np.testing.assert_allclose(forwards, expected, rtol=0, atol=1e-12)
