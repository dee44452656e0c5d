"""How far the exported model is from the one in PyTorch: on vectors, on neighbours, on the measures, on the clock."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, KyoriWarning
from ..evaluation import evaluate
from ..neighbors import nearest
from ..vectors import VectorTable

__all__ = ["Parity", "compare", "encode_all", "items_per_second"]

Encode = Callable[[NDArray[Any]], NDArray[np.float32]]
_BATCH = 64
_MEASURES = ("recall@1", "map@r")


@dataclass(frozen=True)
class Parity:
    """What changed between the model in PyTorch and the exported one, on the same items.

    Attributes:
        items: How many items were compared.
        max_difference: Largest absolute difference of a coordinate.
        min_cosine: Smallest cosine between an item's two vectors.
        same_neighbour: Share of items whose nearest other item is the same by both.
        tied: Items whose nearest neighbour differs, but whose two candidates lie within 1e-6 of each other, as equal
            items do: no order of them is wrong. They count as the same.
        before: Measures with the PyTorch model; empty without labels.
        after: Measures with the exported model.
        speed: Items a second by batch size: ``{"1": {"pytorch": …, "exported": …}, …}``.
        threads: Threads that both used.
    """

    items: int
    max_difference: float
    min_cosine: float
    same_neighbour: float
    tied: int
    before: dict[str, float]
    after: dict[str, float]
    speed: dict[str, dict[str, float]]
    threads: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


def compare(
    original: Encode,
    exported: Encode,
    rows: NDArray[Any],
    labels: NDArray[np.int64] | None,
    *,
    seconds: float = 0.5,
    batches: tuple[int, ...] = (1, 64),
) -> Parity:
    """Run both models on raw rows and compare.

    Args:
        original: The model in PyTorch, raw rows → vectors.
        exported: The exported one.
        rows: ``(n, ...)``, n ≥ 2.
        labels: ``(n,)``; None leaves the measures out.
        seconds: How long each speed is measured.
        batches: Batch sizes whose speed is measured.

    Raises:
        ArgumentError: Fewer than 2 rows.
    """
    import torch

    if len(rows) < 2:
        raise ArgumentError(f"a comparison needs at least 2 items; got {len(rows)}.")
    ours, theirs = encode_all(original, rows), encode_all(exported, rows)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    cosines = np.divide((ours * theirs).sum(axis=1), lengths, out=np.ones(len(rows)), where=lengths > 0)
    same, tied = _same_neighbours(ours, theirs)
    return Parity(
        items=len(rows),
        max_difference=float(np.abs(ours - theirs).max()),
        min_cosine=float(cosines.min()),
        same_neighbour=same,
        tied=tied,
        before=_measures(ours, labels),
        after=_measures(theirs, labels),
        speed={
            str(size): {
                "pytorch": items_per_second(original, rows, size, seconds),
                "exported": items_per_second(exported, rows, size, seconds),
            }
            for size in batches
        },
        threads=torch.get_num_threads(),
    )


def encode_all(encode: Encode, rows: NDArray[Any]) -> NDArray[np.float32]:
    """Return the vectors of all rows, in batches."""
    return np.concatenate([encode(rows[start : start + _BATCH]) for start in range(0, len(rows), _BATCH)])


def items_per_second(encode: Encode, rows: NDArray[Any], size: int, seconds: float) -> float:
    """Return the best speed of a few rounds; the best, since a busy machine only ever makes it slower."""
    batch = np.ascontiguousarray(np.resize(rows[:size], (size, *rows.shape[1:])))
    encode(batch)
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        start = time.perf_counter()
        encode(batch)
        times.append(time.perf_counter() - start)
    return size / min(times)


def _same_neighbours(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> tuple[float, int]:
    first = nearest(ours, ours, 1, exclude_self=True)
    second = nearest(theirs, theirs, 1, exclude_self=True).ids[:, 0]
    differs = np.flatnonzero(first.ids[:, 0] != second)
    distances = np.linalg.norm(ours[differs] - ours[second[differs]], axis=1)
    tied = int((np.abs(distances - first.distances[differs, 0]) < 1e-6).sum())
    return 1 - (len(differs) - tied) / len(ours), tied


def _measures(vectors: NDArray[np.float32], labels: NDArray[np.int64] | None) -> dict[str, float]:
    if labels is None or len(np.unique(labels)) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KyoriWarning)
        found = evaluate(VectorTable(vectors=vectors, labels=labels), measures=_MEASURES, bootstrap=0)
    return {name: float(found[name].value) for name in _MEASURES}
