"""Shards: tar files (WebDataset) and Parquet files, on this disk or behind a URL, each read from beginning to end."""

import contextlib
import glob
import gzip
import io
import itertools
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Protocol, cast

import numpy as np

from ..errors import DataError, ItemError
from ..optional import require
from .images import SUFFIXES
from .sources import SPLIT_ALIASES

__all__ = ["Reader", "Sample", "Shards", "expand", "is_shards"]

TARS = (".tar", ".tar.gz", ".tgz")
PICTURES = tuple(suffix[1:] for suffix in SUFFIXES)
NUMBERS = ("vector", "array", "set")
ITEM_COLUMNS = ("image", *PICTURES, *NUMBERS, "text")  # of a Parquet file, the first that is there
LABELS = ("label", "cls", "class")
KEYS = ("id", "key", "__key__")
ROWS = 512  # of a Parquet file that are decoded at once
BLOCK = 512  # bytes of a tar file's unit
URL = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]+://")
RANGE = re.compile(r"^(\d+)\.\.(\d+)$")


@dataclass(frozen=True, eq=False)
class Sample:
    """One item of a stream, as it is stored.

    Attributes:
        shard, position: Where it stands: number of the shard, number in the shard, both from 0.
        key: Its name in the shard.
        data: An encoded picture (bytes), a text, an array, or None where only the label was asked for.
        label: Name of its class, None if it has none.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``""``.
        fault: Why it cannot be used, ``""`` if it can.
    """

    shard: int
    position: int
    key: str
    data: Any = None
    label: str | None = None
    split: str = ""
    fault: str = ""

    @property
    def place(self) -> int:
        """One number for shard and position, unique in a stream."""
        return self.shard << 32 | self.position


class Reader(Protocol):
    """What a stream reads: numbered shards, each from its beginning to its end."""

    @property
    def names(self) -> Sequence[str]: ...

    def read(self, shard: int, *, items: bool = True) -> Iterator[Sample]:
        """Yield the samples of a shard; without `items`, keys and labels alone."""
        ...

    def size(self) -> tuple[int, bool]:
        """How many items there are, and whether that was counted (True) or estimated."""
        ...


def is_shards(data: Any) -> bool:
    """Whether `data` names shards: tar files, or Parquet files that hold the items themselves.

    >>> is_shards("shards/{00..09}.tar"), is_shards("items.csv"), is_shards("s3://bucket/a.parquet")
    (True, False, True)
    """
    if isinstance(data, (list, tuple)):
        return len(data) > 0 and all(isinstance(one, (str, os.PathLike)) and is_shards(one) for one in data)
    if not isinstance(data, (str, os.PathLike)):
        return False
    name = os.fspath(data)
    if name.lower().endswith(TARS):
        return True
    if not name.lower().endswith(".parquet"):
        return False
    return bool(URL.match(name)) or (not os.path.exists(name) and _is_pattern(name)) or _holds_items(name)


def _is_pattern(name: str) -> bool:
    return any(mark in name for mark in "{*?[")


def _holds_items(path: str) -> bool:
    """Whether a Parquet file on this disk has pictures or vectors in it; a manifest has their paths."""
    import pyarrow
    from pyarrow import parquet

    try:
        names = parquet.read_schema(path).names
    except (pyarrow.ArrowException, OSError):  # its reader will say what is wrong with it
        return False
    return "path" not in names and any(column in names for column in ("image", *PICTURES, *NUMBERS))


def expand(data: Any) -> tuple[str, ...]:
    """The addresses that a pattern stands for: ``{00..09}``, ``{a,b}``, ``*`` and ``?``, or a list of patterns.

    Raises:
        DataError: A pattern with ``*`` matches nothing.

    >>> expand("a/{08..10}.tar")
    ('a/08.tar', 'a/09.tar', 'a/10.tar')
    """
    if isinstance(data, (list, tuple)):
        return tuple(itertools.chain.from_iterable(map(expand, data)))
    found: list[str] = []
    for name in _braces(os.fspath(data)):
        if not any(mark in name for mark in "*?["):
            found.append(name)
            continue
        matches = _glob(name)
        if not matches:
            raise DataError(f"{name}: no shard matches; expected .tar or .parquet files.")
        found.extend(matches)
    return tuple(found)


def _braces(name: str) -> list[str]:
    match = re.search(r"\{([^{}]*)\}", name)
    if match is None:
        return [name]
    inner = RANGE.match(match[1])
    if inner:
        first, last = inner.groups()
        if int(last) < int(first):
            raise DataError(f"{name}: a range counts upwards; got {{{match[1]}}}.")
        choices = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    else:
        choices = match[1].split(",")
    return [
        one for choice in choices for one in _braces(name[: match.start()] + choice + name[match.end() :])
    ]


def _glob(pattern: str) -> list[str]:
    if not URL.match(pattern):
        return sorted(glob.glob(pattern))
    fsspec = require("fsspec", extra="stream", purpose=f"reading {pattern}")
    system, path = _reached(pattern, lambda: fsspec.core.url_to_fs(pattern))
    return sorted(system.unstrip_protocol(one) for one in _reached(pattern, lambda: system.glob(path)))


def _reached(address: str, action: Any) -> Any:
    """The result of asking a remote file system, whose many errors become one."""
    try:
        return action()
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise DataError(f"{address}: cannot be reached ({type(error).__name__}: {error}).") from error


@dataclass(frozen=True)
class Shards:
    """Tar and Parquet files by address.

    A tar file holds the members of an item one after another, with one name up to the first dot: a picture (jpg,
    png, webp, bmp), a text (``.txt``) or an array (``.npy``); its class in ``.cls`` or in the ``.json`` under
    ``label``; ``split`` may stand in the ``.json``. A Parquet file has a column ``image`` (bytes, or a struct with
    ``bytes``), ``vector``, ``array`` (lists of lists of one shape), ``set`` (lists of vectors) or ``text``, and may
    have ``label``, ``id`` and ``split``.
    """

    names: tuple[str, ...]

    def read(self, shard: int, *, items: bool = True) -> Iterator[Sample]:
        """Yield the samples of a shard.

        Raises:
            ItemError: The shard is missing, damaged or cut off; all samples before the damage were yielded.
        """
        import pyarrow

        name = self.names[shard]
        try:
            with open_shard(name) as file:
                found = (
                    _read_parquet(file, items)
                    if name.lower().endswith(".parquet")
                    else _read_tar(file, items)
                )
                for position, sample in enumerate(found):
                    yield replace(sample, shard=shard, position=position)
        except ItemError:
            raise
        except FileNotFoundError as error:
            raise ItemError(name, "no such shard") from error
        except (OSError, EOFError, ValueError, tarfile.TarError, pyarrow.ArrowException) as error:
            raise ItemError(name, f"damaged shard ({error or type(error).__name__})") from error

    def size(self) -> tuple[int, bool]:
        """Parquet: the rows, from the footers. Tar: estimated from the first shard and the sizes of all."""
        if all(name.lower().endswith(".parquet") for name in self.names):
            return sum(map(self._rows, range(len(self.names)))), True
        first = sum(1 for _ in self.read(0, items=False))
        sizes = [self.bytes_of(shard) for shard in range(len(self.names))]
        return max(1, round(first * sum(sizes) / max(sizes[0], 1))), len(self.names) == 1

    def _rows(self, shard: int) -> int:
        import pyarrow
        from pyarrow import parquet

        try:
            with open_shard(self.names[shard]) as file:
                return int(parquet.ParquetFile(file).metadata.num_rows)
        except (OSError, pyarrow.ArrowException):  # skipped or raised where it is read
            return 0

    def bytes_of(self, shard: int) -> int:
        """Size of a shard's file; 0 if it cannot be asked."""
        name = self.names[shard]
        if not URL.match(name):
            return os.path.getsize(name) if os.path.exists(name) else 0
        fsspec = require("fsspec", extra="stream", purpose=f"reading {name}")
        with contextlib.suppress(OSError):
            system, path = fsspec.core.url_to_fs(name)
            return int(system.size(path) or 0)
        return 0


@contextlib.contextmanager
def open_shard(name: str) -> Iterator[BinaryIO]:
    """Open a local file, or a URL through fsspec."""
    if URL.match(name):
        fsspec = require("fsspec", extra="stream", purpose=f"reading {name}")
        handle = _reached(name, lambda: fsspec.core.url_to_fs(name))
        opened: Any = handle[0].open(handle[1], "rb")
    else:
        opened = open(name, "rb")  # noqa: SIM115
    with opened as file:
        if name.lower().endswith((".gz", ".tgz")):
            with gzip.open(file) as unpacked:
                yield cast(BinaryIO, unpacked)
        else:
            yield file


# -- tar --------------------------------------------------------------------------------------------------------


def _read_tar(file: BinaryIO, items: bool) -> Iterator[Sample]:
    key, fields = "", dict[str, bytes]()
    for name, body in _members(file, None if items else ("cls", "json")):
        folder, base = os.path.split(name)
        stem, _, suffix = base.partition(".")
        if not stem:  # hidden files
            continue
        one = os.path.join(folder, stem)
        if one != key and fields:
            yield _from_fields(key, fields, items)
            fields = {}
        key = one
        fields[suffix.lower()] = body
    if fields:
        yield _from_fields(key, fields, items)


def _members(file: BinaryIO, wanted: tuple[str, ...] | None) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files in a tar; contents of unwanted suffixes are passed over.

    Python's tarfile takes a damaged header for the end of the archive; here it is an error.
    """
    longer: str | None = None
    while True:
        block = file.read(BLOCK)
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            return
        except tarfile.HeaderError as error:
            raise tarfile.ReadError("cut off" if len(block) < BLOCK else str(error)) from error
        padding = -info.size % BLOCK
        if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
            body = _exactly(file, info.size + padding)[: info.size]
            longer = _long_name(body, info.type) or longer
            continue
        name, longer = longer or info.name, None
        if not info.isreg() or (wanted is not None and not name.lower().endswith(wanted)):
            _pass_over(file, info.size + padding)
            if info.isreg():
                yield name, b""
            continue
        yield name, _exactly(file, info.size + padding)[: info.size]


def _long_name(body: bytes, kind: bytes) -> str | None:
    if kind == tarfile.GNUTYPE_LONGNAME:
        return body.rstrip(b"\0").decode("utf-8", "surrogateescape")
    match = re.search(rb"\d+ path=([^\n]*)\n", body)
    return match[1].decode("utf-8", "surrogateescape") if match else None


def _exactly(file: BinaryIO, size: int) -> bytes:
    body = file.read(size)
    if len(body) < size:
        raise tarfile.ReadError("cut off")
    return body


def _pass_over(file: BinaryIO, size: int) -> None:
    if file.seekable():
        file.seek(size, io.SEEK_CUR)
    else:
        _exactly(file, size)


def _from_fields(key: str, fields: Mapping[str, bytes], items: bool) -> Sample:
    sample = Sample(0, 0, key)
    try:
        facts = json.loads(fields["json"]) if fields.get("json") else {}
        if not isinstance(facts, dict):
            raise ValueError("its .json is no object")
        label = fields["cls"].decode().strip() if "cls" in fields else _first(facts, LABELS)
        sample = replace(sample, label=_name(label), split=_split(facts.get("split")))
        return replace(sample, data=_item(fields)) if items else sample
    except UnicodeDecodeError as error:
        return replace(sample, fault=f"not UTF-8 ({error.reason})")
    except ValueError as error:  # JSON, NumPy
        return replace(sample, fault=str(error))


def _item(fields: Mapping[str, bytes]) -> Any:
    for suffix, body in fields.items():
        kind = suffix.rpartition(".")[2]
        if kind in PICTURES:
            return body
        if kind == "txt":
            return body.decode()
        if kind == "npy":
            return np.load(io.BytesIO(body), allow_pickle=False)
    raise ValueError(f"no picture, .txt or .npy among its members ({', '.join(fields)})")


# -- Parquet ----------------------------------------------------------------------------------------------------


def _read_parquet(file: BinaryIO, items: bool) -> Iterator[Sample]:
    from pyarrow import parquet

    shard = parquet.ParquetFile(file)
    names = shard.schema_arrow.names
    item = next((name for name in ITEM_COLUMNS if name in names), None)
    if item is None:
        raise ValueError(f"no column {', '.join(ITEM_COLUMNS)}; got {', '.join(names)}")
    key, label = (next((name for name in known if name in names), None) for known in (KEYS, LABELS))
    columns = [name for name in (key, label, "split" if "split" in names else None) if name]
    number = 0
    for batch in shard.iter_batches(ROWS, columns=[*columns, item] if items else columns or [item]):
        rows = batch.to_pydict()
        for place in range(batch.num_rows):
            data, fault = None, ""
            if items:
                try:
                    data = _cell(rows[item][place])
                except ValueError as error:
                    fault = str(error)
            yield Sample(
                0,
                0,
                str(rows[key][place]) if key else str(number),
                data,
                _name(rows[label][place]) if label else None,
                _split(rows["split"][place]) if "split" in rows else "",
                fault,
            )
            number += 1


def _cell(value: Any) -> Any:
    if isinstance(value, dict):  # the pictures of Hugging Face's datasets
        value = value.get("bytes")
    if value is None:
        raise ValueError("it is missing")
    return np.asarray(value, dtype=np.float32) if isinstance(value, list) else value


def _first(facts: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((facts[name] for name in names if name in facts), None)


def _name(label: Any) -> str | None:
    """A class name; a whole number loses its ".0"; nothing, or an empty one, is no label."""
    if label is None or label == "":
        return None
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    return str(label)


def _split(value: Any) -> str:
    if value is None or value == "":
        return ""
    name = SPLIT_ALIASES.get(str(value).lower())
    if name is None:
        raise ValueError(f"split must be train, validation or test; got {value!r}")
    return name
