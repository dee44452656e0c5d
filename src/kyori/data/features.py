"""Features that were computed once, as the items of a source: rows of memory-mapped blocks."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .kinds import Kind

__all__ = ["FeatureStore", "digest_rows"]


@dataclass(frozen=True)
class FeatureStore:
    """Vectors float32 (n, k) that lie in blocks on a disk.

    Attributes:
        blocks: Structured arrays with a field ``features`` (k,).
        places: (n, 2) block and row of each item.
        width: k.
    """

    blocks: Sequence[np.ndarray]
    places: np.ndarray
    width: int
    in_memory: bool = (
        True  # what is read stays in the system's cache; up to a limit it is copied to the device
    )

    kind: ClassVar[Kind] = "vector"

    @property
    def item_shape(self) -> tuple[int, ...]:
        return (self.width,)

    def load(self, rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), self.width), dtype=np.float32)
        block, row = self.places[rows].T
        for number in np.unique(block):
            here = np.flatnonzero(block == number)
            out[here] = self.blocks[number]["features"][row[here]]
        return out


def digest_rows(items: np.ndarray) -> np.ndarray:
    """(b,) hashes of 16 bytes of what the items (b, …) hold, and of their type and shape."""
    what = f"{items.dtype} {items.shape[1:]}".encode()
    found = [
        hashlib.blake2b(item.encode() if isinstance(item, str) else item.tobytes(), digest_size=16)
        for item in items
    ]
    for digest, item in zip(found, items, strict=True):
        digest.update(what if isinstance(item, str) else f"{item.dtype} {item.shape}".encode())
    return np.array([digest.digest() for digest in found], dtype="S16")
