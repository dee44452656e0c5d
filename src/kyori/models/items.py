"""Items as people have them (paths, pictures, arrays, texts, sources) as batches that a model's preprocessing takes."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import torch

from ..data import Batch, Loader, Preprocess, Source, open_source
from ..data.images import convert, decode, to_array
from ..data.kinds import collate, is_ragged
from ..errors import ArgumentError
from .tokens import NGrams, Tokenizer, read_texts

__all__ = ["Preprocessing", "batches_of"]


Preprocessing = Preprocess | NGrams | Tokenizer


def batches_of(
    items: Any, preprocess: Preprocessing, batch_size: int, *, longest_first: bool = True
) -> Iterator[tuple[np.ndarray | None, Any]]:
    """Yield batches that ``preprocess`` can take, each with the positions (b,) of its items; None: the next in order.

    Pictures are uint8 (b, h, w, c), vectors and arrays float32 (b, …). Texts are tokens (b, t), sets (b, m, f), the
    longest first, unless ``longest_first`` is false: those of one length need no padding, and a batch that is too large
    for the memory says so at once.

    Raises:
        ArgumentError: ``items`` is neither a Source, a list nor an array, or an item has the wrong shape or kind.
        ItemError: A file cannot be read.
    """
    if isinstance(items, Source) and items.kind != preprocess.kind:
        raise ArgumentError(f"this model takes {preprocess.kind}s; got a source of {items.kind}s.")
    if is_ragged(preprocess.kind):
        yield from _from_ragged(items, preprocess, batch_size, longest_first)
        return
    assert isinstance(preprocess, Preprocess)
    for raw in _in_order(items, preprocess, batch_size):
        yield None, raw


def _from_ragged(
    items: Any, preprocess: Preprocessing, batch_size: int, longest_first: bool
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """Batches of texts or sets."""
    what = "texts or a list of strings" if preprocess.kind == "text" else "sets or a list of arrays (m, f)"
    if isinstance(items, Source):
        items = items.load(np.arange(len(items)))
    if not isinstance(items, (list, tuple, np.ndarray, torch.Tensor)):
        hint = " Put it into a list: [text]." if isinstance(items, str) else ""
        raise ArgumentError(f"items must be a Source of {what}; got {type(items).__name__}.{hint}")
    read: list[Any]
    if isinstance(preprocess, Preprocess):
        read = [_set(item, place, preprocess.shape[0]) for place, item in enumerate(items)]
    else:
        read = read_texts(items)
    order = np.arange(len(read))
    if longest_first:
        order = np.argsort([-len(item) for item in read], kind="stable")
    for start in range(0, len(read), batch_size):
        places = order[start : start + batch_size]
        yield places, preprocess.prepare(collate(preprocess.kind, [read[place] for place in places.tolist()]))


def _set(item: Any, position: int, width: int) -> np.ndarray:
    array = _numbers(item, position, f"a set of vectors (m, {width})")
    if array.ndim != 2 or array.shape[1] != width or len(array) == 0 or not np.isfinite(array).all():
        raise ArgumentError(
            f"item {position} must be a set of at least one vector of {width} finite numbers, (m, {width}); got shape "
            f"{array.shape}{'' if np.isfinite(array).all() else ' with NaN or infinity'}."
        )
    return array


def _numbers(item: Any, position: int, expected: str) -> np.ndarray:
    """An item as a float32 array."""
    if isinstance(item, (str, os.PathLike)):
        raise ArgumentError(f"item {position} must be {expected}, which this model takes; got a path.")
    if isinstance(item, torch.Tensor):
        item = item.detach().cpu()
    try:
        return np.asarray(item, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise ArgumentError(
            f"item {position} must be {expected}, which this model takes; got {type(item).__name__} ({error})."
        ) from error


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
        return open_source(array, items="array" if preprocess.kind == "array" else "auto")
    return open_source(array, size=preprocess.size, channels=_channels(preprocess), resize=preprocess.resize)


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
        if preprocess.kind == "image":
            raw = convert(raw, preprocess.size, preprocess.channels, preprocess.resize)
        yield raw


def _from_list(items: Sequence[Any], preprocess: Preprocess, batch_size: int) -> Iterator[np.ndarray]:
    read = _picture if preprocess.kind == "image" else _array
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:  # decoding lets go of the GIL
        for start in range(0, len(items), batch_size):
            part = range(start, min(start + batch_size, len(items)))
            yield np.stack(list(pool.map(lambda i: read(items[i], i, preprocess), part)))


def _picture(item: Any, position: int, preprocess: Preprocess) -> np.ndarray:
    from PIL import Image

    size = preprocess.shape[0], preprocess.shape[1]
    if isinstance(item, (str, os.PathLike)):
        return decode(os.fspath(item), size, preprocess.channels, resize=preprocess.resize)
    if isinstance(item, Image.Image):
        return to_array(item, size, preprocess.channels, preprocess.resize)
    array = np.asarray(item)
    if array.ndim not in (2, 3):
        raise ArgumentError(
            f"item {position} must be a path, a PIL image, or an array (h, w) or (h, w, c) with c 1 or 3; got "
            f"{type(item).__name__} of shape {array.shape}."
        )
    return _open(array[None], preprocess).load([0])[0]


def _array(item: Any, position: int, preprocess: Preprocess) -> np.ndarray:
    shape = preprocess.shape
    array = _numbers(item, position, f"a {preprocess.kind} {shape}")
    if array.shape != shape:
        raise ArgumentError(
            f"item {position} must be a {preprocess.kind} of shape {shape}; got {array.shape}."
        )
    return array
