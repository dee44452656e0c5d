"""Features of a frozen backbone, kept on disk: each picture goes through the network once, whatever is trained on top.

```
DIR/3f2a91c05d7e8b46/          one folder for each backbone: weights, pooling, preprocessing, number format
  about.json                   what that is, for people
  block-<random>.npy           rows of (content of the item as a hash of 16 bytes, features (k,)), memory-mapped
  stamps-<random>.npy          rows of (path, size and time of a file as a hash, its content as a hash)
```
A file is written whole or not at all, and none is changed after, so that several processes may fill one folder.
"""

import hashlib
import json
import os
import secrets
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data import Batch, Loader, Source
from ..data.features import FeatureStore
from ..errors import ArgumentError, DataWarning
from ..files import make_folder, write_atomic
from .embedder import Embedder

__all__ = ["FeatureCache"]

KEY = "S16"
BLOCK_BYTES = 2**25
BLOCK_SECONDS = 60.0  # a kill loses the work of so long
BATCH = 64


class FeatureCache:
    """The pooled features of an embedder's backbone by the content of the items.

    Args:
        folder: Where the caches of all backbones lie.
        embedder: Its backbone must be frozen, and is run in evaluation mode, in float32; on its device.
        precision: ``"float32"``, or ``"float16"`` for half the size and an error of up to 5e-4 of each number.

    Raises:
        ArgumentError: The pooling has weights that learn (``gem``), or the backbone is not frozen.
    """

    def __init__(self, folder: str | os.PathLike[str], embedder: Embedder, *, precision: str = "float32"):
        if any(p.requires_grad for p in embedder.backbone.parameters()):
            raise ArgumentError(
                "a cache of features needs a frozen backbone; call embedder.freeze('backbone')."
            )
        if any(True for _ in embedder.head.pooling.parameters()):
            raise ArgumentError("a cache of features needs a pooling without weights of its own; use avg.")
        self.embedder, self.width = embedder, embedder.head.pooled_features
        self._row = np.dtype([("key", KEY), ("features", np.dtype(precision), (self.width,))])
        about = {
            "preprocess": embedder.preprocess.to_dict(),
            "architecture": {
                **embedder.architecture,
                "embedding_size": None,
                "head_layers": [],
                "head_norm": False,
            },
            "precision": precision,
            "weights": _print_of(embedder),
        }
        name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = make_folder(Path(folder) / name)
        if not (self.folder / "about.json").exists():
            text = json.dumps(about, indent=2)
            write_atomic(self.folder / "about.json", lambda file: file.write(text.encode()))
        self.reload()

    def reload(self) -> None:
        """Open what lies in the folder now, written by whomever."""
        self._blocks = _opened(self.folder, "block", self._row)
        self._files = np.concatenate(
            [np.zeros((0, 2), KEY), *_opened(self.folder, "stamps", np.dtype(KEY), axes=2)]
        )
        self._files = self._files[np.argsort(self._files[:, 0], kind="stable")]
        keys = [block["key"] for block in self._blocks]
        places = [np.stack([np.full(len(k), i), np.arange(len(k))], 1) for i, k in enumerate(keys)]
        self._keys = np.concatenate([np.zeros(0, KEY), *keys])
        order = np.argsort(self._keys, kind="stable")
        self._keys = self._keys[order]
        self._places = np.concatenate([np.zeros((0, 2), np.int64), *places])[order]

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(block.nbytes for block in self._blocks)

    def fill(self, source: Source, *, progress: Callable[[int, int], None] | None = None) -> int:
        """Compute and keep what is missing.

        Args:
            source: The items.
            progress: Called with (items computed, items to be computed).

        Returns:
            How many were computed; items that are equal are computed once.

        Raises:
            ItemError: A picture cannot be read.
            OSError: The disk is full; what was kept before is whole.
        """
        digests = self._digests(source)
        missing = np.flatnonzero(_search(self._keys, digests) < 0)
        missing = missing[np.sort(np.unique(digests[missing], return_index=True)[1])]
        if len(missing):
            self._compute(source.take(missing), digests[missing], progress)
            self.reload()
        return len(missing)

    def source(self, source: Source) -> Source:
        """The same items as vectors (k,), their features, read from the disk as they are wanted.

        Raises:
            ArgumentError: Some are missing; call `fill` first.
        """
        found = _search(self._keys, self._digests(source))
        if (found < 0).any():
            raise ArgumentError(
                f"{(found < 0).sum()} items of {source.name} are not in the cache; fill it first."
            )
        return Source(
            FeatureStore(self._blocks, self._places[found], self.width),
            rows=np.arange(len(source)),
            ids=source.ids,
            labels=source.labels,
            class_names=source.class_names,
            columns=source.columns,
            skipped=source.skipped,
            name=source.name,
        )

    def _digests(self, source: Source) -> np.ndarray:
        """(n,) hash of each item's content; a file that was hashed before and is as old and long is not read again."""
        rows = np.arange(len(source))
        stamps = source.stamps(rows)
        if stamps is None:
            return _hashed(source, rows)
        found = _search(self._files[:, 0], stamps)
        digests = np.zeros(len(rows), KEY)
        digests[found >= 0] = self._files[found[found >= 0], 1]
        unknown = np.flatnonzero(found < 0)
        if len(unknown):
            digests[unknown] = _hashed(source, unknown)
            new = np.stack([stamps[unknown], digests[unknown]], axis=1)
            _write(self.folder, "stamps", new)
            self._files = np.concatenate([self._files, new])
            self._files = self._files[np.argsort(self._files[:, 0], kind="stable")]
        return digests

    @torch.no_grad()
    def _compute(
        self, source: Source, digests: np.ndarray, progress: Callable[[int, int], None] | None
    ) -> None:
        embedder, device = self.embedder, self.embedder.device
        was_training = embedder.training
        embedder.eval()
        loader = Loader(source, device, prepare=embedder.preprocess.prepare)
        parts = (
            Batch(np.arange(start, min(start + BATCH, len(source)))) for start in range(0, len(source), BATCH)
        )
        rows = np.zeros(max(1, BLOCK_BYTES // self._row.itemsize) + BATCH, self._row)
        held, began = 0, time.monotonic()
        try:
            for batch, raw, _ in loader.batches(parts):
                features = embedder.head.pool(embedder.backbone(embedder.preprocess(raw, device)))
                place = slice(held, held + len(batch.indices))
                rows["features"][place] = features.float().cpu().numpy()
                rows["key"][place] = digests[batch.indices]
                held += len(batch.indices)
                if held + BATCH > len(rows) or time.monotonic() - began > BLOCK_SECONDS:
                    _write(self.folder, "block", rows[:held])
                    held, began = 0, time.monotonic()
                if progress is not None:
                    progress(int(batch.indices[-1]) + 1, len(source))
        finally:  # what was computed before an error or Ctrl-C is kept
            embedder.train(was_training)
            if held:
                _write(self.folder, "block", rows[:held])


def _hashed(source: Source, rows: np.ndarray) -> np.ndarray:
    parts = [source.digests(rows[start : start + 1024]) for start in range(0, len(rows), 1024)]
    return np.concatenate([np.zeros(0, KEY), *parts])


def _search(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where each wanted key stands among sorted keys, -1 where it does not."""
    if len(keys) == 0:
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)


def _print_of(embedder: Embedder) -> str:
    """SHA-256 of the names and bytes of the backbone's state."""
    digest = hashlib.sha256()
    for name, tensor in sorted(embedder.backbone.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _write(folder: Path, kind: str, rows: np.ndarray) -> None:
    path = folder / f"{kind}-{secrets.token_hex(8)}.npy"
    write_atomic(path, lambda file: np.lib.format.write_array(file, rows, allow_pickle=False))


def _opened(folder: Path, kind: str, dtype: np.dtype[Any], axes: int = 1) -> Sequence[np.ndarray]:
    """The files of one kind, memory-mapped; a damaged one is passed over, and its items are computed again."""
    found = []
    for path in sorted(folder.glob(f"{kind}-*.npy")):
        try:
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
            if rows.dtype != dtype or rows.ndim != axes:
                raise ValueError(f"it holds {rows.dtype} {rows.shape}")
        except (ValueError, OSError, EOFError) as error:
            warnings.warn(
                f"{path} is damaged ({error}); its items are computed again. Remove it.",
                DataWarning,
                stacklevel=3,
            )
            continue
        found.append(rows)
    return found
