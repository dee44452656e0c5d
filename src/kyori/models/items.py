"""Items as people have them (paths, pictures, arrays, texts, sources) as batches that a model's preprocessing takes."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import torch

from ..data import Batch, Loader, Preprocess, Source, open_source
from ..data.images import convert, decode, to_array
from ..errors import ArgumentError
from .tokens import NGrams, Tokenizer, read_texts

__all__ = ["Preprocessing", "batches_of"]


Preprocessing = Preprocess | NGrams | Tokenizer


def batches_of(
    items: Any, preprocess: Preprocessing, batch_size: int, *, longest_first: bool = True
) -> Iterator[tuple[np.ndarray | None, Any]]:
    """Yield batches that ``preprocess`` can take, each with the positions (b,) of its items; None: the next in order.

    Pictures are uint8 (b, h, w, c), vectors float32 (b, f). Texts are tokens (b, t), the longest texts first, unless
    ``longest_first`` is false: texts of one length need no padding, and a batch that is too large for the memory says
    so at once.

    Raises:
        ArgumentError: ``items`` is neither a Source, a list nor an array, or an item has the wrong shape or kind.
        ItemError: A file cannot be read.
    """
    if isinstance(items, Source) and items.kind != preprocess.kind:
        raise ArgumentError(f"this model takes {preprocess.kind}s; got a source of {items.kind}s.")
    if not isinstance(preprocess, Preprocess):
        yield from _from_texts(items, preprocess, batch_size, longest_first)
        return
    for raw in _in_order(items, preprocess, batch_size):
        yield None, raw


def _from_texts(
    items: Any, preprocess: NGrams | Tokenizer, batch_size: int, longest_first: bool
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    if isinstance(items, Source):
        items = items.load(np.arange(len(items)))
    if not isinstance(items, (list, tuple, np.ndarray)):
        hint = " Put it into a list: [text]." if isinstance(items, str) else ""
        raise ArgumentError(
            f"items must be a Source of texts or a list of strings; got {type(items).__name__}.{hint}"
        )
    texts = read_texts(items)
    order = np.arange(len(texts))
    if longest_first:
        order = np.argsort([-len(text) for text in texts], kind="stable")
    for start in range(0, len(texts), batch_size):
        places = order[start : start + batch_size]
        yield places, preprocess.prepare([texts[place] for place in places.tolist()])


def _in_order(items: Any, preprocess: Preprocess, batch_size: int) -> Iterator[np.ndarray]:
    if isinstance(items, (np.ndarray, torch.Tensor)):
        if len(items) == 0:
            return
        items = _open(items, preprocess)
    if isinstance(items, Source):
        yield from _from_source(items, preprocess, batch_size)
    elif isinstance(items, (list, tuple)):
        yield from _from_list(items, preprocess, batch_size)
    else:
        hint = " Put it into a list: [item]." if isinstance(items, (str, os.PathLike)) else ""
        raise ArgumentError(
            f"items must be a Source, a list of paths, pictures and arrays, or an array of them; got "
            f"{type(items).__name__}.{hint}"
        )


def _open(array: Any, preprocess: Preprocess) -> Source:
    if preprocess.size is None:
        return open_source(array)
    return open_source(array, size=preprocess.size, channels=_channels(preprocess))


def _channels(preprocess: Preprocess) -> Literal[1, 3]:
    if preprocess.channels not in (1, 3):
        raise ArgumentError(f"pictures have 1 or 3 channels; this model was made for {preprocess.channels}.")
    return 1 if preprocess.channels == 1 else 3


def _from_source(source: Source, preprocess: Preprocess, batch_size: int) -> Iterator[np.ndarray]:
    rows = np.arange(len(source))
    parts = (Batch(rows[start : start + batch_size]) for start in range(0, len(source), batch_size))
    loaded = (
        (source.load(part.indices) for part in parts)
        if source.in_memory
        else (raw.numpy() for _, raw, _ in Loader(source).batches(parts))  # threads decode some batches ahead
    )
    for raw in loaded:
        yield convert(raw, preprocess.size, preprocess.channels) if preprocess.kind == "image" else raw


def _from_list(items: Sequence[Any], preprocess: Preprocess, batch_size: int) -> Iterator[np.ndarray]:
    read = _picture if preprocess.kind == "image" else _vector
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:  # decoding lets go of the GIL
        for start in range(0, len(items), batch_size):
            part = range(start, min(start + batch_size, len(items)))
            yield np.stack(list(pool.map(lambda i: read(items[i], i, preprocess), part)))


def _picture(item: Any, position: int, preprocess: Preprocess) -> np.ndarray:
    from PIL import Image

    size = preprocess.shape[0], preprocess.shape[1]
    if isinstance(item, (str, os.PathLike)):
        return decode(os.fspath(item), size, preprocess.channels)
    if isinstance(item, Image.Image):
        return to_array(item, size, preprocess.channels)
    array = np.asarray(item)
    if array.ndim not in (2, 3):
        raise ArgumentError(
            f"item {position} must be a path, a PIL image, or an array (h, w) or (h, w, c) with c 1 or 3; got "
            f"{type(item).__name__} of shape {array.shape}."
        )
    return _open(array[None], preprocess).load([0])[0]


def _vector(item: Any, position: int, preprocess: Preprocess) -> np.ndarray:
    features = preprocess.shape[0]
    if isinstance(item, (str, os.PathLike)):
        raise ArgumentError(
            f"item {position} must be a vector ({features},), which this model takes; got a path."
        )
    array = np.asarray(item, dtype=np.float32)
    if array.shape != (features,):
        raise ArgumentError(f"item {position} must be a vector of shape ({features},); got {array.shape}.")
    return array
