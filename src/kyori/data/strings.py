"""Millions of ids as Arrow keeps them: no Python string is made before one is asked for."""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Strings"]

BLOCK = 1 << 18  # strings that are hashed at once
LONGEST = 1 << 12  # characters with a weight of their own in the hash


class Strings:
    """A column of strings (n,) that takes indices as an array does; `numpy.asarray` makes one of it.

    >>> names = Strings(pa.chunked_array([["a", "bc"], ["d"]]))
    >>> names.shape, str(names[1]), names[[2, 0]].tolist(), (names == ["a", "x", "d"]).tolist()
    ((3,), 'bc', ['d', 'a'], [True, False, True])
    """

    def __init__(self, column: pa.ChunkedArray, rows: np.ndarray | None = None):
        self._column, self._rows = column, rows

    dtype = np.dtype(np.str_)
    ndim = 1

    @property
    def shape(self) -> tuple[int]:
        return (len(self),)

    def __len__(self) -> int:
        return len(self._column) if self._rows is None else len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (int, np.integer)):
            row = index if self._rows is None else self._rows[index]
            return np.str_(self._column[int(row)].as_py())
        rows = np.arange(len(self._column)) if self._rows is None else self._rows
        return Strings(self._column, rows[index])

    def _taken(self) -> pa.ChunkedArray:
        return self._column if self._rows is None else pc.take(self._column, pa.array(self._rows))

    def tolist(self) -> list[str]:
        """Python strings."""
        return self._taken().to_pylist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.tolist(), dtype=dtype or np.str_)

    def __eq__(self, other: object) -> Any:
        return np.asarray(self) == np.asarray(other)

    def __ne__(self, other: object) -> Any:
        return np.asarray(self) != np.asarray(other)

    __hash__ = None  # type: ignore[assignment]

    def digest(self) -> bytes:
        """A hash of the strings and their order."""
        return hashlib.sha256(self._hashes().tobytes()).digest()

    def repeated(self) -> tuple[int, str, int] | None:
        """How many strings occur more than once, the first of them and how often; None if all are different."""
        hashes = self._hashes()
        ordered = np.sort(hashes)
        again = ordered[1:] == ordered[:-1]
        if not again.any():
            return None
        # equal hashes are looked at in full: two strings may share one
        suspects = self[np.flatnonzero(np.isin(hashes, ordered[1:][again]))].tolist()
        names, counts = np.unique(np.array(suspects, dtype=object), return_counts=True)
        if (counts == 1).all():
            return None
        return int((counts > 1).sum()), str(names[counts > 1][0]), int(counts[counts > 1][0])

    def _hashes(self) -> np.ndarray:
        """(n,) uint64: sums of (byte + 1) × an odd number for its place, modulo 2^64, and of the length."""
        weights = np.random.default_rng(0).integers(0, 2**63, LONGEST + 1, dtype=np.uint64) * 2 + 1
        parts = [_hashed(chunk, weights) for chunk in self._column.chunks]
        whole = np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)
        return whole if self._rows is None else whole[self._rows]


def _hashed(chunk: pa.Array, weights: np.ndarray) -> np.ndarray:
    chunk = chunk.cast(pa.large_string())
    offsets = np.frombuffer(chunk.buffers()[1], np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
    characters = np.frombuffer(chunk.buffers()[2] or b"", np.uint8)
    out = np.zeros(len(chunk), dtype=np.uint64)
    for start in range(0, len(chunk), BLOCK):
        edges = offsets[start : start + BLOCK + 1]
        values = characters[edges[0] : edges[-1]].astype(np.uint64)
        values += np.uint64(1)
        lengths = np.diff(edges)
        begins = edges[:-1] - edges[0]
        # one weight for a place, later places share the last one
        places = np.minimum(np.arange(len(values)) - np.repeat(begins, lengths), LONGEST - 1)
        values *= weights[places]
        sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(values, dtype=np.uint64)])
        out[start : start + len(lengths)] = (
            sums[edges[1:] - edges[0]] - sums[begins] + lengths.astype(np.uint64) * weights[LONGEST]
        )
    return out
