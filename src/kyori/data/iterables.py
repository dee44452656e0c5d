"""A user's ``IterableDataset`` as what a stream reads: one shard, which is passed through from its beginning."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..errors import DataError, ItemError
from .shards import Sample
from .sources import Source

__all__ = ["Iterated", "is_iterable"]


def is_iterable(data: Any) -> bool:
    """Whether `data` yields items and cannot be indexed, as torch's ``IterableDataset``."""
    if isinstance(data, torch.utils.data.IterableDataset):
        return True
    if isinstance(data, (str, bytes, set, frozenset, torch.Tensor, Source)) or not hasattr(data, "__iter__"):
        return False
    # an iterator or generator can be gone through only once, and training does so again and again
    return not hasattr(data, "__getitem__") and not hasattr(data, "__next__")


class Iterated:
    """Items of a dataset that yields (item, label), or items alone, the same ones each time it is asked."""

    def __init__(self, dataset: Any):
        self.dataset = dataset
        self.names = (type(dataset).__name__,)

    def read(self, shard: int, *, items: bool = True) -> Iterator[Sample]:
        """Yield the items in the order of the dataset."""
        position = 0
        try:
            for found in self.dataset:
                item, label = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
                yield Sample(shard, position, str(position), _plain(item) if items else None, _name(label))
                position += 1
        except (GeneratorExit, DataError):
            raise
        except Exception as error:  # a dataset is code of the user, which may raise anything
            raise ItemError(
                f"{self.names[0]} at item {position}", f"{type(error).__name__}: {error}"
            ) from error

    def size(self) -> tuple[int, bool]:
        """Its own length.

        Raises:
            DataError: It has none.
        """
        try:
            return len(self.dataset), True
        except TypeError as error:
            raise DataError(
                f"{self.names[0]} has no length: say how many items are an epoch, with epoch_items "
                "(kyori.fit(..., epoch_items=100_000))."
            ) from error


def _plain(item: Any) -> Any:
    if isinstance(item, torch.Tensor):
        return item.detach().cpu().numpy()
    return np.asarray(item, dtype=np.float32) if isinstance(item, (list, tuple)) else item


def _name(label: Any) -> str | None:
    if label is None:
        return None
    if isinstance(label, (torch.Tensor, np.generic)):
        label = label.item()
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)
