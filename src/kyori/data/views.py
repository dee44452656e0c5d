"""Batches for learning without labels: each item twice, to be changed by chance, as a class of its own."""

from collections.abc import Iterator

import numpy as np

from .batches import Batch, ShuffleBatches

__all__ = ["ViewBatches"]


class ViewBatches:
    """Every item once an epoch, in random order, and twice in its batch: first all first views, then all second ones.

    With a loss of pairs and the item's number as its label the other view is the positive, and the views of the other
    items are the negatives (SimCLR: Chen, Kornblith, Norouzi & Hinton 2020).

    Args:
        n: Number of items.
        size: Items in a (global) batch, which has twice as many rows.
        seed, rank, world: As in `ShuffleBatches`.

    Example:
        >>> batch = next(ViewBatches(10, 4).epoch(0))
        >>> (batch.indices[:4] == batch.indices[4:]).all(), batch.views
        (np.True_, array([0, 0, 0, 0, 1, 1, 1, 1]))
    """

    excluded = 0

    def __init__(self, n: int, size: int, *, seed: int = 0, rank: int = 0, world: int = 1):
        self._items = ShuffleBatches(n, size, seed=seed, rank=rank, world=world)

    def __len__(self) -> int:
        return len(self._items)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, without the first `start`."""
        for batch in self._items.epoch(epoch, start):
            items = batch.indices
            yield Batch(np.concatenate([items, items]), views=np.repeat([0, 1], len(items)))
