"""How small vectors may become: fewer dimensions, fewer bits, or codes, each with the recall that is left."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, KyoriWarning
from ..evaluation import evaluate
from ..neighbors import nearest
from ..optional import require
from ..vectors import VectorTable

__all__ = ["Size", "compare_sizes"]

_K = 10
_SEED = 0
_POINTS = 39  # a centre, below which FAISS warns that its k-means guesses


@dataclass(frozen=True)
class Size:
    """One way to keep the gallery's vectors.

    Attributes:
        name: ``"float32"``, ``"float16"``, ``"int8"``, ``"first 16"`` (Matryoshka: the first dimensions alone, at
            length 1 where the model's are), ``"pq 8×8"`` (product quantisation: 8 codes of 8 bits).
        bytes: A vector.
        recall: Share of the true 10 nearest (by whole vectors) among the 10 nearest found.
        measures: Recall@1 and MAP@R by labels; empty without labels.
    """

    name: str
    bytes: float
    recall: float
    measures: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


def compare_sizes(table: VectorTable, *, unit: bool = True) -> list[Size]:
    """Compare sizes of the gallery's vectors, the largest first. Queries stay whole (but for Matryoshka sizes).

    Product codes are learned on the vectors themselves, as an index does. Kusupati et al., "Matryoshka representation
    learning", NeurIPS 2022; Jégou et al., "Product quantization for nearest neighbor search", PAMI 2011.

    Args:
        table: Vectors ``(n, d)``, n > 11, with labels if there are any.
        unit: Whether cut vectors get length 1 again, as is right for a model that normalises.

    Raises:
        DataError: Too few vectors.
    """
    n, d = table.vectors.shape
    if n < _K + 2:
        raise DataError(f"sizes are compared on at least {_K + 2} vectors; got {n}.")
    truth = nearest(table.vectors, table.vectors, _K, exclude_self=True).ids
    kept = [("float32", 4.0 * d, table.vectors, table.vectors)]
    kept.append(("float16", 2.0 * d, table.vectors, table.vectors.astype(np.float16).astype(np.float32)))
    kept.append(("int8", 1.0 * d, table.vectors, _eight_bits(table.vectors)))
    for count in _halves(d):
        part = table.vectors[:, :count]
        if unit:
            lengths = np.linalg.norm(part, axis=1, keepdims=True)
            part = np.divide(part, lengths, out=np.zeros_like(part), where=lengths > 0)
        kept.append((f"first {count}", 4.0 * count, part, part))
    bits = max((bits for bits in (4, 5, 6, 7, 8) if n >= _POINTS * 2**bits), default=None)
    if bits is not None:
        counts = [count for count in (64, 32, 16, 8, 4, 2) if d % count == 0 and d // count >= 2]
        kept += [
            (f"pq {count}×{bits}", count * bits / 8, table.vectors, _product(table.vectors, count, bits))
            for count in counts
        ]
    found = [
        Size(name, size, _recall(queries, gallery, truth), _measures(table, queries, gallery))
        for name, size, queries, gallery in kept
    ]
    return sorted(found, key=lambda size: -size.bytes)


def _halves(d: int) -> list[int]:
    counts = []
    while d >= 8:
        d //= 2
        counts.append(d)
    return counts


def _eight_bits(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round each dimension to 256 steps between its smallest and largest value (FAISS's SQ8)."""
    low, high = vectors.min(axis=0), vectors.max(axis=0)
    step = np.where(high > low, (high - low) / 255, 1)
    return (np.round((vectors - low) / step) * step + low).astype(np.float32)


def _product(vectors: NDArray[np.float32], codes: int, bits: int) -> NDArray[np.float32]:
    faiss = require("faiss", extra="", purpose="product quantisation")
    quantizer = faiss.ProductQuantizer(vectors.shape[1], codes, bits)
    quantizer.cp.seed = _SEED
    quantizer.train(vectors)
    return np.asarray(quantizer.decode(quantizer.compute_codes(vectors)), np.float32)


def _recall(queries: NDArray[np.float32], gallery: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    found = nearest(queries, gallery, _K, exclude_self=True).ids
    hits = (found[:, :, None] == truth[:, None, :]).any(axis=2)
    return float(hits.mean())


def _measures(
    table: VectorTable, queries: NDArray[np.float32], gallery: NDArray[np.float32]
) -> dict[str, float]:
    if table.labels is None or len(np.unique(table.labels)) < 2:
        return {}
    asked = VectorTable(table.ids, queries, table.labels)
    kept = VectorTable(table.ids, gallery, table.labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KyoriWarning)
        found = evaluate(asked, gallery=kept, measures=("recall@1", "map@r"), bootstrap=0)
    return {name: float(found[name].value) for name in ("recall@1", "map@r")}
