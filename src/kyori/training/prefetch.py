"""Batches that are already on the device when a step asks for them."""

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor

from ..data import Batch

__all__ = ["ahead"]

Loaded = TypeVar("Loaded", bound=tuple[Batch, Tensor, Tensor])


def ahead(batches: Iterator[Loaded], device: torch.device) -> Iterator[Loaded]:
    """Yield the same batches, on a GPU with the next one's copy under way on a stream of its own.

    The copy from pinned memory then runs beside the step before it. Elsewhere nothing is to be won, and the batches
    are passed on as they are.

    Args:
        batches: Loaded batches; what they do on the device is put on the current stream.
        device: Where they lie.
    """
    if device.type != "cuda":
        yield from batches
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))  # what the batches are taken from is there
    waiting = _next(batches, stream)
    while waiting is not None:
        loaded, copied = waiting
        waiting = _next(batches, stream)
        current = torch.cuda.current_stream(device)
        current.wait_event(copied)
        for part in loaded[1:]:
            part.record_stream(current)  # its memory must not be given away before the step has read it
        yield loaded


def _next(batches: Iterator[Loaded], stream: torch.cuda.Stream) -> tuple[Loaded, torch.cuda.Event] | None:
    with torch.cuda.stream(stream):
        loaded = next(batches, None)
        return None if loaded is None else (loaded, stream.record_event())
