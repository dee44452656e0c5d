"""Shards that tests write."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 6


def png(number: int, label: int) -> bytes:
    """A grey picture whose brightness is its class."""
    rng = np.random.default_rng(number)
    body = io.BytesIO()
    Image.fromarray((rng.integers(0, 40, (SIDE, SIDE)) + 50 * label).astype(np.uint8)).save(body, "PNG")
    return body.getvalue()


def write_tar(path: Path, items, **options) -> Path:
    """Write (key, {suffix: bytes or str}) in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for key, members in items:
            for suffix, body in members.items():
                body = body.encode() if isinstance(body, str) else body
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
    return path


def write_shards(
    folder: Path, shards: int = 5, items: int = 120, classes: int = 4, *, mixed: bool = True
) -> str:
    """Write `items` pictures of `classes` classes into `shards` tars; returns their pattern."""
    labels = np.arange(items) % classes if mixed else np.arange(items) * classes // items
    numbers = np.array_split(np.arange(items), shards)
    for shard, part in enumerate(numbers):
        write_tar(
            folder / f"{shard:02d}.tar",
            (
                (
                    f"{number:05d}",
                    {"png": png(number, labels[number]), "json": json.dumps({"label": f"c{labels[number]}"})},
                )
                for number in part.tolist()
            ),
        )
    return str(folder / f"{{00..{shards - 1:02d}}}.tar")
