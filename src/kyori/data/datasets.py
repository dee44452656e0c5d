"""torchvision-style datasets (``__len__``, ``__getitem__`` -> (item, label)) as sources."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from ..errors import DataError, ItemError
from . import images
from .arrays import as_pictures, open_arrays
from .kinds import Kind, Resize
from .pictures import common_size, warn_skipped
from .sets import holds_sets
from .sources import ArrayStore, Opening, Source, encode_labels

__all__ = ["as_image", "open_dataset"]

SAMPLED = 64  # items looked at to learn the common size


@dataclass(frozen=True)
class DatasetStore:
    """Pictures that the dataset decodes when they are asked for."""

    dataset: Any
    size: tuple[int, int]
    channels: int
    resize: Resize = "crop"
    in_memory: bool = False

    kind: ClassVar[Kind] = "image"

    @property
    def item_shape(self) -> tuple[int, ...]:
        return (*self.size, self.channels)

    def decode(self, row: int) -> tuple[np.ndarray, Any]:
        """The picture uint8 (h, w, c), and the label that the dataset gives with it."""
        item, label = _item(self.dataset, row)
        try:
            return images.to_array(as_image(item), self.size, self.channels, self.resize), label
        except (ValueError, OSError) as error:  # DataError is a ValueError
            raise ItemError(_name(self.dataset, row), str(error)) from error

    def load(self, rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), *self.item_shape), dtype=np.uint8)
        for place, row in zip(out, rows, strict=True):
            place[:] = self.decode(int(row))[0]
        return out


def open_dataset(dataset: Any, labels: Any, opening: Opening) -> Source:
    """Open a dataset of PIL images, of pictures as arrays or tensors, or of vectors; ids are positions.

    Labels are `labels`, or the dataset's ``targets``, ``labels``, ``samples`` or ``imgs``, found without decoding
    anything; else they are collected while the items are decoded into memory.

    Raises:
        DataError: The dataset is empty, or it does not fit into memory and has no labels that are cheap to find.
        ItemError: An item cannot be read and ``bad_items`` is ``"error"``.
    """
    name = type(dataset).__name__
    if len(dataset) == 0:
        raise DataError(f"{name}: the dataset is empty; expected at least one item.")
    known = known_labels(dataset) if labels is None else labels
    sample = _sample(dataset)
    if opening.items != "auto" or np.ndim(sample[0]) == 1 or holds_sets(sample):
        return _open_numbers(dataset, known, opening, name)
    store = _picture_store(dataset, sample, opening)
    fits = len(dataset) * int(np.prod(store.item_shape)) <= opening.memory_limit
    if known is None and not fits:
        raise DataError(
            f"{name}: has no attribute targets, labels, samples or imgs, and finding the labels would decode all "
            f"{len(dataset)} items; give labels=."
        )
    if fits or opening.verify:
        pictures, found, good, skipped = _decode_all(store, fits, opening)
        warn_skipped(skipped, name)
    else:
        pictures, found, good, skipped = None, [], np.arange(len(dataset)), []
    if len(good) == 0:
        raise DataError(f"{name}: none of its {len(dataset)} items can be read; the first: {skipped[0][1]}.")
    if known is not None:
        found = _aligned(known, good, dataset)
    codes, class_names = encode_labels(found, len(good), name)
    return Source(
        store if pictures is None else ArrayStore(pictures, resize=opening.resize),
        rows=good,
        ids=good,
        labels=codes,
        class_names=_class_names(dataset, class_names),
        skipped=skipped,
        name=name,
    )


def known_labels(dataset: Any) -> Any:
    """(n,) labels that stand in an attribute of the dataset, a ``Subset`` included, or None."""
    if isinstance(dataset, torch.utils.data.Subset):
        inner = known_labels(dataset.dataset)
        return None if inner is None else np.asarray(inner)[np.asarray(dataset.indices, dtype=np.int64)]
    for attribute in ("targets", "labels", "_labels"):
        values = getattr(dataset, attribute, None)
        if values is not None and np.shape(values) == (len(dataset),):
            return np.asarray(values)
    for attribute in ("samples", "imgs"):
        values = getattr(dataset, attribute, None)
        if values is not None and len(values) == len(dataset):
            return np.array([label for _, label in values])
    return None


def _aligned(labels: Any, good: np.ndarray, dataset: Any) -> Any:
    labels = np.asarray(labels)
    if labels.shape != (len(dataset),):
        raise DataError(
            f"{type(dataset).__name__}: labels must have shape ({len(dataset)},), one per item; got {labels.shape}."
        )
    return labels[good]


def _class_names(dataset: Any, names: tuple[str, ...]) -> tuple[str, ...]:
    """The dataset's own names of its classes, where its labels are positions in ``dataset.classes``."""
    classes = getattr(dataset, "classes", None)
    if not isinstance(classes, (list, tuple)) or not all(name.isdecimal() for name in names):
        return names
    return tuple(str(classes[int(name)]) for name in names) if int(names[-1]) < len(classes) else names


def _open_numbers(dataset: Any, labels: Any, opening: Opening, name: str) -> Source:
    """Vectors, arrays or sets, all of them in memory."""
    pairs = [_item(dataset, row) for row in range(len(dataset))]
    items = [np.asarray(item) for item, _ in pairs]
    return open_arrays(items, [label for _, label in pairs] if labels is None else labels, opening, name)


def _sample(dataset: Any) -> list[Any]:
    """Some readable items, evenly taken."""
    sample = []
    for row in np.unique(np.linspace(0, len(dataset) - 1, SAMPLED).astype(int)):
        try:
            sample.append(_item(dataset, int(row))[0])
        except ItemError as error:  # counted where all items are decoded
            last = error
    if not sample:
        raise DataError(f"{type(dataset).__name__}: none of the sampled items can be read; {last}.")
    return sample


def _picture_store(dataset: Any, sample: Sequence[Any], opening: Opening) -> DatasetStore:
    """The common size and channels, from a sample of the items where they are not given."""
    pictures = [as_image(item) for item in sample]
    size = opening.size or common_size([(picture.height, picture.width) for picture in pictures])
    grey = all(picture.mode in images.GREY for picture in pictures)
    channels = (1 if grey else 3) if opening.channels == "auto" else opening.channels
    return DatasetStore(dataset, size, channels, opening.resize)


def _decode_all(
    store: DatasetStore, keep: bool, opening: Opening
) -> tuple[np.ndarray | None, list[Any], np.ndarray, list[tuple[str, str]]]:
    """Decode every item once: pictures (if kept), their labels, the good rows, and what was skipped."""
    n = len(store.dataset)
    pictures = np.zeros((n, *store.item_shape), dtype=np.uint8) if keep else None
    labels, good, skipped = [], [], []
    for row in range(n):
        try:
            picture, label = store.decode(row)
        except ItemError as error:
            if opening.bad_items == "error":
                raise
            skipped.append((error.item, error.reason))
            continue
        if pictures is not None:
            pictures[row] = picture
        labels.append(label)
        good.append(row)
        opening.report(row + 1, n)
    return pictures, labels, np.array(good, dtype=np.int64), skipped


def _item(dataset: Any, row: int) -> tuple[Any, Any]:
    """(item, label) of a row; a dataset of bare items gives the label None."""
    try:
        found = dataset[row]
    except Exception as error:  # a dataset is code of the user, which may raise anything
        raise ItemError(_name(dataset, row), f"{type(error).__name__}: {error}") from error
    if not isinstance(found, tuple):
        return found, None
    return found[0], found[1] if len(found) > 1 else None


def as_image(item: Any) -> Image.Image:
    """A picture that a user's dataset gives: PIL, or an array or tensor as `open_source` takes them."""
    if isinstance(item, Image.Image):
        return item
    array = item.detach().cpu().numpy() if isinstance(item, torch.Tensor) else np.asarray(item)
    picture = as_pictures(array[None], "item")[0]
    return Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)


def _name(dataset: Any, row: int) -> str:
    return f"{type(dataset).__name__}[{row}]"
