"""The port behind which every backend stands: rows in, nearest rows out.

A store sees checked values only, and squared Euclidean distances only: the index in front of it has scaled vectors
to length 1 where the metric is cosine, and turns what comes back into the metric's distances.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow
from numpy.typing import NDArray

from ..errors import KyoriError
from ..neighbors import Matches
from .filters import Condition
from .schema import Rows, Schema

__all__ = ["Metric", "Settings", "Store", "empty_matches"]

Metric = Literal["euclidean", "cosine"]


@dataclass(frozen=True)
class Settings:
    """What an index was made with and keeps.

    Attributes:
        metric: ``"euclidean"`` or ``"cosine"``.
        factory: A FAISS factory string, or ``"auto"``.
        recall: The share of true neighbours among the first 10 that approximate search must find.
    """

    metric: Metric = "euclidean"
    factory: str = "auto"
    recall: float = 0.95


class Store(ABC):
    """A place for vectors. All methods may raise ``KyoriError``; none sees a value that the index did not check."""

    #: What it was made with.
    settings: Settings
    #: What it holds; None until the first batch.
    schema: Schema | None

    @abstractmethod
    def create(self, schema: Schema) -> None:
        """Prepare for rows of this schema, before the first batch.

        Where another writer has brought a first batch since the caller looked, its schema stays and becomes this one's.
        """

    @abstractmethod
    def write(self, rows: Rows, *, replace: bool) -> None:
        """Add rows; when this returns they are durable.

        Raises:
            DataError: An id is there already and ``replace`` is False. Nothing was written then.
        """

    @abstractmethod
    def delete(self, ids: pyarrow.Array) -> int:
        """Remove the rows with these ids and return how many there were."""

    @abstractmethod
    def nearest(self, queries: NDArray[np.float32], k: int, conditions: Sequence[Condition]) -> Matches:
        """Return ids and **squared** Euclidean distances, nearest first, padded with None or −1 and inf.

        The distances are float32, not negative, and a fresh array that the caller may change.
        """

    @abstractmethod
    def fetch(self, ids: pyarrow.Array) -> Rows:
        """Return those of the rows that exist, in any order."""

    @abstractmethod
    def ids(self) -> list[Any]:
        """Return all ids, in any order."""

    @abstractmethod
    def count(self) -> int:
        """Return how many rows there are."""

    @abstractmethod
    def statistics(self) -> dict[str, Any]:
        """Return facts about the place, ready for JSON."""

    @abstractmethod
    def save(self) -> None:
        """Bring what was written into the form that is quickest to open and to search."""

    @abstractmethod
    def compact(self, factory: str | None) -> None:
        """Build anew from the rows that are left, with another factory if one is given."""

    @abstractmethod
    def clear(self) -> None:
        """Remove all rows and the schema; the settings stay."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections; may be called twice."""

    def steady(self) -> AbstractContextManager[object]:
        """Let several calls of this thread see the same rows, as far as the place can promise it."""
        return nullcontext()

    def _known(self) -> Schema:
        """Return the schema.

        Raises:
            KyoriError: Another thread has cleared the index since the caller looked.
        """
        if self.schema is None:
            raise KyoriError("the index was cleared by another thread meanwhile; ask again.")
        return self.schema


def empty_matches(queries: int, k: int, ids: str) -> Matches:
    """Return matches without any, padded."""
    padding = np.full((queries, k), -1, np.int64) if ids == "int" else np.full((queries, k), None, object)
    return Matches(padding, np.full((queries, k), np.inf, np.float32))
