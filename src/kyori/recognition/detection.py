"""Detect, then identify: parts of pictures, cut out by boxes, go through identification one by one."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.images import crop, picture
from ..errors import ArgumentError, DataError
from .calibrations import Pooling
from .recogniser import Recogniser
from .values import Identity

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Box", "Detection", "Detector", "cut_out", "identify_boxes", "identify_in", "read_boxes"]

#: x_1, y_1, x_2, y_2: left, top, right and bottom edge in pixels of the upright picture.
Box = tuple[float, float, float, float]
#: Finds the parts of an upright RGB picture that are worth a look: an array (h, w, 3) of uint8 → boxes.
Detector = Callable[[np.ndarray], Sequence[Sequence[float]]]

_EDGES, _SIZES = ("x_1", "y_1", "x_2", "y_2"), ("x", "y", "w", "h")
_BLOCK = 256  # parts that are embedded at a time


@dataclass(frozen=True)
class Detection:
    """A part of a picture and who is on it.

    Attributes:
        item: Path of the picture, or its position among those given.
        box: As it was cut out: clipped to the picture.
        identity: The answer.
        columns: Further columns of the file that the box came from.
    """

    item: str | int
    box: Box
    identity: Identity
    columns: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {"item": self.item, "box": list(self.box), **self.columns, **self.identity.as_dict()}


def cut_out(image: Image, box: Sequence[float]) -> tuple[Image, Box]:
    """Return the part of an upright picture inside of a box, and the box as far as it lies on the picture.

    Detectors like to reach over the edge: a box is clipped to the picture.

    Raises:
        DataError: The box is not four finite numbers, has no area, or lies beside the picture.
    """
    edges = tuple(float(edge) for edge in box)
    if len(edges) != 4 or not np.isfinite(edges).all():
        raise DataError(f"a box must be 4 finite numbers, x_1, y_1, x_2, y_2; got {list(edges)}.")
    left, top = max(edges[0], 0.0), max(edges[1], 0.0)
    right, bottom = min(edges[2], float(image.width)), min(edges[3], float(image.height))
    if not (left < right and top < bottom):
        raise DataError(
            f"the box x_1, y_1, x_2, y_2 = {list(edges)} holds nothing of a picture of {image.width}×{image.height}"
            " pixels."
        )
    clipped = (left, top, right, bottom)
    return crop(image, clipped), clipped


def identify_in(
    recogniser: Recogniser,
    items: Sequence[Any],
    detector: Detector,
    k: int = 5,
    *,
    pooling: Pooling | None = None,
    threshold: float | None = None,
) -> list[Detection]:
    """Find the parts of pictures that a detector sees, and say who is on each.

    Args:
        recogniser: With an index of identities, made of parts cut out alike.
        items: Paths, PIL images or arrays ``(h, w)`` or ``(h, w, 3)`` of uint8.
        detector: Takes an upright RGB picture ``(h, w, 3)`` uint8 and returns boxes.
        k: How many candidates to name.
        pooling, threshold: As in :meth:`Recogniser.identify`.

    Returns:
        One detection a box, in the order of the pictures and their boxes; none for a picture without boxes.

    Raises:
        ItemError: A picture cannot be read.
        DataError: The detector returns something else than boxes on the picture.
    """
    recogniser.gallery_threshold(pooling, threshold)
    found: list[Detection] = []
    waiting: list[tuple[str | int, Box, Image]] = []

    def answer() -> None:
        found.extend(_identified(recogniser, waiting, k, pooling, threshold))
        waiting.clear()

    for position, item in enumerate(items):
        image = _upright(item)
        name = os.fspath(item) if isinstance(item, (str, os.PathLike)) else position
        for box in _detected(detector, image, name):
            part, clipped = cut_out(image, box)
            waiting.append((name, clipped, part))
            if len(waiting) == _BLOCK:
                answer()
    answer()
    return found


def identify_boxes(
    recogniser: Recogniser,
    boxes: Sequence[tuple[str, Sequence[float], Mapping[str, str]]],
    k: int = 5,
    *,
    pooling: Pooling | None = None,
    threshold: float | None = None,
) -> list[Detection]:
    """Say who is in each box of pictures that a detector has looked at already.

    Args:
        recogniser: As in :func:`identify_in`.
        boxes: Path, box and further columns of each, as :func:`read_boxes` gives them.
        k, pooling, threshold: As in :meth:`Recogniser.identify`.

    Raises:
        ItemError: A picture cannot be read.
        DataError: A box lies beside its picture.
    """
    recogniser.gallery_threshold(pooling, threshold)
    found: list[Detection] = []
    last: tuple[str, Image] | None = None
    for start in range(0, len(boxes), _BLOCK):
        parts = []
        for path, box, _ in boxes[start : start + _BLOCK]:
            if last is None or last[0] != path:  # the boxes of a picture mostly stand together
                last = path, picture(path)
            try:
                part, clipped = cut_out(last[1], box)
            except DataError as error:
                raise DataError(f"{path}: {error}") from error
            parts.append((path, clipped, part))
        answers = _identified(recogniser, parts, k, pooling, threshold)
        found += [
            Detection(one.item, one.box, one.identity, dict(columns))
            for one, (_, _, columns) in zip(answers, boxes[start : start + _BLOCK], strict=True)
        ]
    return found


def read_boxes(path: str | os.PathLike[str]) -> list[tuple[str, Box, dict[str, str]]]:
    """Read boxes from a CSV or Parquet file.

    Columns: ``path`` (relative to the file's folder, or absolute), and ``x_1, y_1, x_2, y_2`` or ``x, y, w, h`` in
    pixels of the upright picture. Other columns (a score, a class) are handed on with the answers.

    Raises:
        FileNotFoundError: There is no such file.
        DataError: A column is missing, or a value is no number.
    """
    path = Path(path)
    rows = _table(path)
    if not rows:
        raise DataError(f"{path} lists no boxes.")
    names = rows[0].keys()
    columns = next((c for c in (_EDGES, _SIZES) if set(c) <= set(names)), None)
    if "path" not in names or columns is None:
        raise DataError(
            f"{path}: expected the columns path and x_1, y_1, x_2, y_2 (or x, y, w, h); got"
            f" {', '.join(map(str, names))}."
        )
    found = []
    for number, row in enumerate(rows, 1):
        try:
            a, b, c, d = (float(row[name]) for name in columns)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{path}, row {number}: {', '.join(columns)} must be numbers: {error}."
            ) from error
        if columns == _SIZES:
            c, d = a + c, b + d
        if not row["path"]:
            raise DataError(f"{path}, row {number}: the path is missing.")
        rest = {name: str(value) for name, value in row.items() if name not in ("path", *columns)}
        found.append((os.path.join(path.parent, str(row["path"])), (a, b, c, d), rest))
    return found


def _table(path: Path) -> list[dict[str, Any]]:
    if path.suffix.lower() == ".parquet":
        import pyarrow
        from pyarrow import parquet

        try:
            return list(parquet.read_table(path).to_pylist())
        except pyarrow.ArrowException as error:
            raise DataError(f"{path} cannot be read as a Parquet table: {error}") from error
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a CSV table: {error}") from error
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise DataError(f"{path}, row {number}: expected {len(reader.fieldnames or ())} values.")
    return rows


def _upright(item: Any) -> Image:
    import PIL.Image
    from PIL import ImageOps

    if isinstance(item, (str, os.PathLike)):
        return picture(os.fspath(item))
    if isinstance(item, PIL.Image.Image):
        return ImageOps.exif_transpose(item)
    array = np.asarray(item)
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] not in (1, 3))
    ):
        raise ArgumentError(
            "a picture must be a path, a PIL image or an array (h, w) or (h, w, 3) of uint8; got"
            f" {type(item).__name__} of {array.dtype} with shape {array.shape}."
        )
    return PIL.Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def _detected(detector: Detector, image: Image, name: str | int) -> list[Sequence[float]]:
    boxes = detector(np.asarray(image.convert("RGB")))
    try:
        found = [[float(edge) for edge in box] for box in boxes]
    except (TypeError, ValueError) as error:
        raise DataError(
            f"the detector must return a list of boxes x_1, y_1, x_2, y_2; got {boxes!r} for picture {name}."
        ) from error
    return list(found)


def _identified(
    recogniser: Recogniser,
    parts: Sequence[tuple[str | int, Box, Image]],
    k: int,
    pooling: Pooling | None,
    threshold: float | None,
) -> list[Detection]:
    if not parts:
        return []
    vectors = recogniser.embed([part for _, _, part in parts])
    answers = recogniser.identify_vectors(vectors, k, pooling=pooling, threshold=threshold)
    return [Detection(item, box, answer) for (item, box, _), answer in zip(parts, answers, strict=True)]
