"""`open_source`: one door for every form in which labelled data comes."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import ArgumentError, DataError, nearest_name
from .kinds import Resize
from .sources import Opening, Source

__all__ = ["check_opening", "is_table", "open_source", "read_size"]

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
BUILTIN = ("digits",)


def open_source(
    data: Any,
    *,
    size: int | tuple[int, int] | None = None,
    channels: Literal["auto", 1, 3] = "auto",
    resize: Resize = "crop",
    items: Literal["auto", "array", "set"] = "auto",
    bad_items: Literal["skip", "error"] = "skip",
    labels: Any = None,
    label: str | None = None,
    features: str | Sequence[str] = (),
    columns: Sequence[str] | Literal["all"] = (),
    verify: bool = True,
    memory_limit: int = 2**30,
    progress: Callable[[int, int], None] | None = None,
) -> Source:
    """Open labelled data as a `Source`; labels are known without decoding pixels.

    Args:
        data: One of
            a `Source` (returned as it is);
            ``"digits"``, the 1,797 handwritten digits of scikit-learn, 8×8 pixels (``"./digits"`` is a folder);
            a folder of class folders with jpg, png, webp or bmp files, or of ``train/``, ``validation/``, ``test/``
            folders of them;
            a CSV, TSV, JSON-lines or Parquet manifest with the columns ``path`` and ``label`` (pictures), ``text`` and
            ``label`` (texts), or ``anchor``, ``positive`` and any ``negative…`` (pairs of texts);
            a table in memory (of pandas, Polars or Arrow) with the columns of a manifest, paths being relative to the
            working directory, or with a column ``label`` beside columns of numbers: each row is a vector of them;
            a ``.txt`` file, one text a line, without labels;
            a folder of MNIST idx files, gzipped or not;
            an ``.npz`` file with ``X`` and ``y``;
            a list of strings, with ``labels=`` or without;
            a pair ``(X, y)``, or an array or tensor with ``labels=``: vectors (n, f), pictures (n, h, w),
            (n, h, w, c) or (n, c, h, w) with c 1 or 3, as uint8 or as floats in [0, 1];
            a list of sets of vectors (m, f), each with an m of its own; or an ``.npz`` file of them with ``offsets``;
            tar (WebDataset) or Parquet shards with the items in them, ``"shards/{00..09}.tar"``, and whatever else
            `kyori.data.streams.open_stream` opens, if all of it fits into `memory_limit`;
            a torchvision-style ``Dataset`` (its transform must not be random).
        size: Height and width in pixels of every picture (one number: a square). Default: the median height and the
            median width, each at most 224, so that small pictures of one size stay as they are.
        channels: 1 (grey) or 3 (RGB); ``"auto"`` is 1 when every picture is stored as grey.
        resize: What happens to a picture of another shape. ``"crop"``: scaled to cover the size and cut in the centre;
            ``"pad"``: scaled to fit in, on a black ground; ``"stretch"``: scaled out of proportion.
        items: ``"array"`` takes numbers of any fixed shape as they are (spectrograms, stacks of channels) where they
            would be pictures; ``"set"`` takes each item (m, f) as a set of m vectors, which may be of one length.
            ``"auto"``: one axis an item is a vector, unequal lengths are sets, else pictures.
        bad_items: ``"skip"`` leaves out a picture that cannot be read, with one `DataWarning` for all of them and
            each in ``source.skipped``; ``"error"`` raises an `ItemError` at the first.
        labels: (n,) labels, where `data` is an array or a ``Dataset`` without them.
        label: The column of a manifest that holds the labels (``"label"``).
        features: Columns of a manifest that hold numbers: each row is a vector of them. A list, or one text with
            commas; ``"numeric"`` takes all columns of numbers, in the order of the file.
        columns: Further columns of a manifest to keep, or ``"all"``.
        verify: Decode every picture once, so that bad ones are known before training starts. False trusts the
            headers of what does not fit into memory; a picture that turns out bad later is an `ItemError`.
        memory_limit: Bytes of decoded pictures up to which they are kept in memory (1 GiB); larger sets are
            decoded batch by batch.
        progress: Called with (pictures done, pictures in all) while pictures are decoded.

    Returns:
        The source, in the order of the manifest or array; folders in alphabetical order.

    Raises:
        DataError: The data cannot be used as it is; the message says what to change.
        ItemError: A picture cannot be read and `bad_items` is ``"error"``.
        ArgumentError: An argument has a wrong value.

    Example:
        >>> source = open_source("digits")
        >>> source.item_shape, len(source), source.class_names[:3]
        ((8, 8, 1), 1797, ('0', '1', '2'))
    """
    numbers = features.split(",") if isinstance(features, str) else features
    opening = Opening(
        read_size(size),
        channels,
        resize,
        items,
        bad_items,
        verify,
        memory_limit,
        progress,
        label,
        tuple(name.strip() for name in numbers if name.strip()),
    )
    check_opening(opening)
    from . import streams, texts

    if streams.is_stream(data):
        return _gathered(data, opening, labels, columns)
    if items != "auto" and (
        texts.is_texts(data) or (isinstance(data, (str, Path)) and not _may_hold_numbers(data))
    ):
        raise ArgumentError(
            f"items={items!r} belongs to numbers: arrays, Datasets, .npz files, shards; got {_named(data)}."
        )
    if labels is None and _is_frame(data):
        from . import tables

        if (frame := tables.read_frame(data, opening)) is not None:
            return tables.open_frame(frame, opening, columns)
    if (label or opening.features) and (labels is not None or not is_table(data)):
        raise ArgumentError(
            f"label= and features= name columns of manifests ({', '.join(TABLES)}); got {_named(data)}."
        )
    if isinstance(data, (str, Path)):
        if labels is not None:
            raise ArgumentError(
                "labels= belongs to arrays and Datasets; files and folders bring their own labels."
            )
        return _open_path(data, opening, columns)
    if columns:
        raise ArgumentError(
            f"columns= belongs to manifests ({', '.join(TABLES)}); got data of type {type(data).__name__}."
        )
    if isinstance(data, Source):
        if labels is not None or opening != Opening():
            raise ArgumentError(
                "data is already a Source; give size=, labels= and the like where it is opened."
            )
        return data
    from . import arrays, datasets

    pair = isinstance(data, tuple) and len(data) == 2 and texts.is_texts(data[0]) and labels is None
    if pair:
        return texts.open_texts(data[0], data[1], opening)
    if texts.is_texts(data):
        return texts.open_texts(data, labels, opening)
    if arrays.is_array_like(data):
        return arrays.open_arrays(data, labels, opening)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return datasets.open_dataset(data, labels, opening)
    raise ArgumentError(
        "data must be a path, a built-in name, (X, y), an array with labels=, a Dataset with __len__ and "
        f"__getitem__, or a Source; got {type(data).__name__}."
    )


def _gathered(data: Any, opening: Opening, labels: Any, columns: Sequence[str] | Literal["all"]) -> Source:
    """All items of a stream in memory, for what needs them at hand."""
    from .streams import open_stream

    if labels is not None or columns:
        raise ArgumentError(
            "labels= and columns= belong to arrays and manifests; shards bring their own labels."
        )
    stream = open_stream(
        data,
        size=opening.size,
        channels=opening.channels,
        resize=opening.resize,
        items=opening.items,
        bad_items=opening.bad_items,
    )
    source, whole = stream.gather(2**31, nbytes=opening.memory_limit)
    stream.warn()
    if not whole:
        raise DataError(
            f"{stream.name}: more than {len(source):,} items of shape {stream.item_shape} do not fit into memory_limit "
            f"({opening.memory_limit:,} bytes). Train on the stream (kyori train, kyori.fit), write its vectors (kyori "
            "embed), or give a larger memory_limit."
        )
    if len(source) == 0:
        raise DataError(f"{stream.name}: no item can be read.")
    return source


def _open_path(data: str | Path, opening: Opening, columns: Sequence[str] | Literal["all"]) -> Source:
    path = Path(data)
    suffix = path.suffix.lower()
    if columns and suffix not in TABLES:
        raise ArgumentError(f"columns= belongs to manifests ({', '.join(TABLES)}); got {data}.")
    if isinstance(data, str) and data in BUILTIN:
        from . import arrays

        return arrays.open_digits(opening)
    if path.is_dir():
        if not os.access(path, os.R_OK | os.X_OK):
            raise DataError(f"{data}: no permission to read this folder.")
        from . import folders, idx

        return idx.open_idx(path, opening) if idx.has_idx(path) else folders.open_folder(path, opening)
    if not path.exists():
        raise DataError(
            f"{data}: no such file or folder, and no built-in data{nearest_name(str(data), BUILTIN)}"
        )
    if suffix in TABLES:
        from . import tables

        return tables.open_table(path, opening, columns)
    if suffix == ".txt":
        from . import texts

        return texts.open_lines(path, opening)
    if suffix == ".npz":
        from . import arrays

        return arrays.open_npz(path, opening)
    raise DataError(
        f"{data}: expected a folder or a file that ends in {', '.join(TABLES)}, .txt or .npz; "
        f"got a file that ends in {suffix or 'nothing'}."
    )


def _may_hold_numbers(data: str | Path) -> bool:
    return Path(data).suffix.lower() == ".npz"


def is_table(data: Any) -> bool:
    """Whether `data` has named columns: the path of a manifest, or a table in memory."""
    if isinstance(data, (str, Path)):
        return Path(data).suffix.lower() in TABLES
    return _is_frame(data)


def _is_frame(data: Any) -> bool:
    """Whether `data` is a table in memory, of whatever library."""
    return hasattr(data, "columns") and (hasattr(data, "__arrow_c_stream__") or hasattr(data, "iloc"))


def _named(data: Any) -> str:
    return repr(str(data)) if isinstance(data, (str, Path)) else type(data).__name__


def read_size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Height and width from what a user gives."""
    if size is None:
        return None
    pair = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(pair) != 2 or not all(isinstance(side, int) and 1 <= side <= 8192 for side in pair):
        raise ArgumentError(
            f"size must be pixels between 1 and 8192, or (height, width) of them; got {size!r}."
        )
    return pair[0], pair[1]


def check_opening(opening: Opening) -> None:
    """Raise `ArgumentError` where an option has a wrong value."""
    if opening.channels not in ("auto", 1, 3):
        raise ArgumentError(f"channels must be 'auto', 1 (grey) or 3 (RGB); got {opening.channels!r}.")
    if opening.resize not in get_args(Resize):
        raise ArgumentError(f"resize must be one of {', '.join(get_args(Resize))}; got {opening.resize!r}.")
    if opening.items not in ("auto", "array", "set"):
        raise ArgumentError(f"items must be 'auto', 'array' or 'set'; got {opening.items!r}.")
    if opening.bad_items not in ("skip", "error"):
        raise ArgumentError(f"bad_items must be 'skip' or 'error'; got {opening.bad_items!r}.")
    if opening.memory_limit < 0:
        raise ArgumentError(f"memory_limit must be at least 0 bytes; got {opening.memory_limit}.")
