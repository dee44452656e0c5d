"""What training needs of a stream, where a source would say it at once: classes, a sample to fit to, batches."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..data import Source
from ..data.buffers import StreamBatches, StreamLoader, label_code
from ..data.streams import Stream
from ..errors import ConfigError, DataError
from ..losses import LOSSES
from .config import RunConfig

__all__ = ["flowing", "stream_classes", "stream_sample"]

SAMPLE = 2048  # items that decide the scale of all


def stream_sample(stream: Stream) -> Source:
    """Some items of a stream, to which the preprocessing is fitted."""
    return stream.gather(SAMPLE)[0]


def stream_classes(config: RunConfig, stream: Stream) -> tuple[str, ...]:
    """Names of the classes where the loss has a vector for each, which takes a pass over the labels; else none.

    Raises:
        DataError: There are fewer than two.
    """
    if not LOSSES[config.loss.name].needs_classes:
        return ()
    if len(stream.class_names) < 2:
        raise DataError(
            f"training needs items of at least 2 classes; {stream.name} has {len(stream.class_names)}."
        )
    return stream.class_names


def flowing(
    config: RunConfig,
    stream: Stream,
    *,
    heads: bool,
    device: torch.device,
    prepare: Callable[[np.ndarray], Tensor],
    rank: int,
    world: int,
) -> tuple[StreamBatches, StreamLoader]:
    """The batches of a stream and what loads them, as the configuration says.

    Raises:
        ConfigError: Batches of a kind that needs all items at hand.
    """
    wanted, kind = config.batches, config.batches.kind
    if kind == "auto":
        kind = "shuffle" if heads else "pk"
    if kind not in ("shuffle", "pk"):
        raise ConfigError(f"batches of a stream are of kind pk or shuffle; got batches.kind '{kind}'.")
    batches = StreamBatches(
        stream,
        wanted.batch_size,
        kind="pk" if kind == "pk" else "shuffle",
        per_class=wanted.per_class,
        seed=config.seed,
        rank=rank,
        world=world,
    )
    code = None if heads else label_code
    return batches, StreamLoader(stream, device, workers=config.training.workers, prepare=prepare, code=code)
