"""Class numbers in rising order, so that the items of a class are one run of columns."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["ClassRuns"]


class ClassRuns:
    """Class numbers ``(n,)`` in rising order: what is positive for a block of rows lies in one run of columns.

    Args:
        codes: The numbers.
        rows: The rows that blocks are cut from, in rising order; None for all.
    """

    def __init__(self, codes: NDArray[np.int64], rows: NDArray[np.int64] | None = None):
        own = codes if rows is None else codes[rows]
        self.codes, self.own = torch.from_numpy(codes), torch.from_numpy(own)
        self.starts = torch.from_numpy(np.searchsorted(codes, own, side="left"))
        self.stops = torch.from_numpy(np.searchsorted(codes, own, side="right"))

    def same(self, block: slice) -> tuple[slice, Tensor]:
        """The run of columns that hold the block's classes, and which of them are of the row's own class."""
        run = slice(int(self.starts[block.start]), int(self.stops[block.stop - 1]))
        return run, self.own[block, None] == self.codes[None, run]
