"""Training a head on features that a frozen backbone made once."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from .. import distributed
from ..data import Source, Split
from ..errors import ConfigError
from ..models import Embedder
from ..models.features import FeatureCache
from ..training import RunConfig
from ..training.environment import choose_device

__all__ = ["cached_split"]


def cached_split(
    embedder: Embedder, split: Split, config: RunConfig, *, note: bool = False
) -> tuple[Embedder, Split]:
    """Return the head of ``embedder``, which shares its weights, and the parts of the split as features.

    Args:
        embedder: With a frozen backbone; moved to the device of the training.
        split: The items.
        config: ``training.cache_features`` says where the features are kept, ``cache_precision`` how.
        note: Say on stderr how much was computed, and how large the cache is.

    Raises:
        ConfigError: The items come as a stream.
        ItemError: A picture cannot be read.
    """
    folder = config.training.cache_features
    assert folder is not None
    if not all(isinstance(part, Source) for part in split):
        raise ConfigError(
            "training.cache_features needs items that can be asked for one by one; a stream is read in its own order. "
            "Leave it out, or write the features once with kyori embed and train on the vectors."
        )
    embedder.to(choose_device(config.training.device))
    cache = FeatureCache(Path(folder), embedder, precision=config.training.cache_precision)
    computed = 0
    for part in split:
        own = np.arange(distributed.rank(), len(part), distributed.world())  # each rank computes its share
        computed += cache.fill(part.take(own), progress=_Note() if note else None)
    distributed.wait()
    cache.reload()
    if note:
        found = f"features of {sum(map(len, split)):,} items, {computed:,} of them computed now"
        print(f"{found}: {cache.nbytes / 1e6:,.1f} MB in {cache.folder}", file=sys.stderr, flush=True)
    return embedder.on_features(), Split(*(cache.source(part) for part in split))


class _Note:
    """Says on stderr, every two seconds, how many pictures went through the backbone."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._last > 2:
            self._last = time.monotonic()
            print(f"computing features: {done:,} of {total:,}", file=sys.stderr, flush=True)
