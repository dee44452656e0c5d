"""A folder of MNIST idx files (MNIST, Fashion-MNIST, KMNIST, EMNIST), gzipped or not."""

import gzip
import math
import re
import zlib
from pathlib import Path

import numpy as np

from ..errors import DataError
from .arrays import pictures_source
from .sources import Opening, Source

__all__ = ["has_idx", "open_idx", "read_idx"]

NAME = re.compile(r"(?P<prefix>.*)[-.](?P<what>images|labels)[-.]idx(?P<ndim>[13])-ubyte(\.gz)?$")
PARTS = {"train": "train", "t10k": "test", "test": "test"}
UNSIGNED_BYTE = 0x08


def has_idx(folder: Path) -> bool:
    """Whether a folder holds idx files."""
    return any(NAME.fullmatch(entry.name) for entry in folder.iterdir())


def open_idx(folder: Path, opening: Opening) -> Source:
    """Open ``train-images-idx3-ubyte[.gz]`` and its fellows; ``t10k`` is the split test. One part alone is enough.

    Raises:
        DataError: Wrong magic number, damaged gzip, sizes that do not match, or a missing file.
    """
    pictures: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    splits: list[np.ndarray] = []
    for split, (images_path, labels_path) in sorted(_parts(folder).items(), reverse=True):
        part_pictures, part_labels = read_idx(images_path, 3), read_idx(labels_path, 1)
        if len(part_pictures) != len(part_labels):
            raise DataError(
                f"{images_path} holds {len(part_pictures)} pictures, but {labels_path.name} holds "
                f"{len(part_labels)} labels; they must be as many."
            )
        if pictures and pictures[0].shape[1:] != part_pictures.shape[1:]:
            raise DataError(
                f"{folder}: the parts must have pictures of one size; "
                f"got {pictures[0].shape[1:]} and {part_pictures.shape[1:]}."
            )
        pictures.append(part_pictures)
        labels.append(part_labels)
        splits.append(np.full(len(part_labels), split))
    return pictures_source(
        np.concatenate(pictures)[..., None],
        np.concatenate(labels),
        opening,
        columns={"split": np.concatenate(splits)},
        name=str(folder),
    )


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """Read an idx file of unsigned bytes with `ndim` axes."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            magic = file.read(4)
            expected = bytes([0, 0, UNSIGNED_BYTE, ndim])
            if magic != expected:
                raise DataError(
                    f"{path}: wrong magic number; expected 0x{expected.hex()} "
                    f"(unsigned bytes, {ndim} axes), got 0x{magic.hex()}."
                )
            header = file.read(4 * ndim)
            shape = tuple(int(size) for size in np.frombuffer(header[: len(header) // 4 * 4], ">u4"))
            if len(shape) < ndim:
                raise DataError(f"{path}: the file ends inside of its header ({4 + len(header)} bytes).")
            values = file.read(math.prod(shape) + 1)  # one more shows that the header promises too little
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error}); fetch it again.") from error
    except (OSError, OverflowError, MemoryError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from error
    if len(values) != math.prod(shape):
        got = "more" if len(values) > math.prod(shape) else str(len(values))
        raise DataError(f"{path}: the header promises {shape} = {math.prod(shape)} bytes; got {got}.")
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)


def _parts(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Picture and label file of each split; an unpacked file goes before its gzipped twin."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        match = NAME.fullmatch(path.name)
        if match is None:
            continue
        part = re.split(r"[-.]", match["prefix"])[-1]
        if part not in PARTS:
            raise DataError(
                f"{path}: idx files must be named train-… or t10k-… (or test-…); got {path.name}."
            )
        files = found.setdefault(PARTS[part], {})
        twin = files.setdefault(match["what"], path)
        if path.name.removesuffix(".gz") != twin.name.removesuffix(".gz"):
            raise DataError(f"{folder}: one data set a folder is expected; got {twin.name} and {path.name}.")
    for files in found.values():
        for what, other in (("images", "labels"), ("labels", "images")):
            if what not in files:
                raise DataError(f"{files[other]}: the {what} file of this part is missing beside it.")
    return {split: (files["images"], files["labels"]) for split, files in found.items()}
