"""Export a run: write the model, run what was written, and report how far it is from the original."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data import Source
from ..data.images import convert
from ..errors import ArgumentError, DataError
from ..files import write_atomic
from ..models import Embedder
from ..runs import open_part
from .formats import FORMATS, Encode, Format, Quantize, check, write
from .network import facts_of
from .parity import Parity, compare

__all__ = ["Export", "export"]

_CALIBRATION = 512  # items that int8 learns its scales from


@dataclass(frozen=True)
class Export:
    """A written model and its report.

    Attributes:
        path: The file, or for safetensors the folder.
        report: The JSON file beside it.
        format: ``"onnx"``, ``"torch"`` or ``"safetensors"``.
        quantize: ``"int8"``, ``"float16"`` or None.
        bytes: Size of what was written.
        part: Which part of the data it was compared on.
        parity: What changed.
    """

    path: Path
    report: Path
    format: Format
    quantize: Quantize | None
    bytes: int
    part: str
    parity: Parity

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "path": str(self.path),
            "format": self.format,
            "quantize": self.quantize,
            "bytes": self.bytes,
            "part": self.part,
            "parity": self.parity.as_dict(),
        }


def export(
    run: str | Path,
    data: Any,
    out: str | Path | None = None,
    *,
    format: Format = "onnx",
    quantize: Quantize | None = None,
    items: int = 1000,
    part: str = "auto",
    seconds: float = 0.5,
) -> Export:
    """Write a run's model for other tools, and compare it with the original on real items.

    The file takes raw items (pictures of the model's size as bytes, vectors as they are) in batches of any size:
    preprocessing and normalisation are inside. Beside it goes a report, ``NAME.report.json``.

    Args:
        run: A run folder.
        data: Whatever :func:`kyori.open_source` opens; the run's own data are best.
        out: The file to write; for safetensors a folder. ``model.onnx``, ``model.pt2`` or ``safetensors`` in the run
            folder if left out, with the kind of quantisation in the name.
        format: ``"onnx"``, ``"torch"`` (torch.export) or ``"safetensors"`` (opened by ``kyori.Embedder.load``).
        quantize: ``"float16"``, or with ONNX ``"int8"``, whose scales come from training items.
        items: On how many items at most it is compared.
        part: ``"test"``, ``"all"``, …; ``"auto"``: the test part of the run's own data, else all.
        seconds: How long each speed is measured.

    Raises:
        ArgumentError: A combination that does not exist.
        DataError: The data cannot be used.
        MissingExtraError: ONNX is not installed.
        KyoriError: PyTorch cannot trace this network.
    """
    check(format, quantize)
    if items < 2:
        raise ArgumentError(f"items must be at least 2; got {items}.")
    opened, source, part = open_part(run, data, part)
    embedder = opened.embedder
    path = Path(out) if out is not None else Path(run) / _name(format, quantize)
    if not path.parent.is_dir():
        raise ArgumentError(f"{path.parent} is no folder; make it, or choose another --out.")
    if format != "safetensors" and path.is_dir():
        raise ArgumentError(f"{path} is a folder; {format} writes a file.")
    rows, labels = _rows(embedder, source, items)
    calibration = _calibration(embedder, run, data, source) if quantize == "int8" else None
    written = write(embedder, path, format, quantize, calibration)
    parity = compare(_original(embedder), written.encode, rows, labels, seconds=seconds)
    report = path.with_name(f"{path.name}.report.json")
    found = Export(path, report, format, quantize, written.bytes, part, parity)
    text = json.dumps({**found.as_dict(), "model": facts_of(embedder)}, indent=2, ensure_ascii=False)
    write_atomic(report, lambda file: file.write(text.encode()))
    return found


def _name(format: Format, quantize: Quantize | None) -> str:
    stem = "safetensors" if format == "safetensors" else "model"
    return stem + (f".{quantize}" if quantize else "") + FORMATS[format]


def _rows(embedder: Embedder, source: Source, count: int) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """Return raw rows of up to ``count`` items, evenly taken, and their labels."""
    chosen = np.unique(np.linspace(0, len(source) - 1, min(count, len(source))).astype(np.int64))
    if len(chosen) < 2:
        raise DataError(f"{source.name}: a comparison needs at least 2 items; got {len(chosen)}.")
    part = source.take(chosen)
    raw = part.load(np.arange(len(part)))
    kind = embedder.preprocess.kind
    if kind != part.kind:
        raise DataError(f"this model takes {kind}s; {source.name} holds {part.kind}s.")
    if kind == "image":
        scale = embedder.scale
        assert scale is not None
        rows = convert(raw, scale.size, scale.channels, scale.resize)
    else:  # of texts their tokens and of sets what is padded, which is what the network takes
        rows = embedder.preprocess.prepare(raw).numpy()
    return np.ascontiguousarray(rows), part.labels


def _original(embedder: Embedder) -> Encode:
    """Return what `Embedder.encode` computes for raw rows."""

    def encode(rows: NDArray[Any]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(embedder(embedder.preprocess(torch.from_numpy(rows))).float().numpy())

    return encode


def _calibration(embedder: Embedder, run: str | Path, data: Any, source: Source) -> NDArray[Any]:
    """Return training items; of other data than the run's own, the items at hand."""
    with contextlib.suppress(DataError):
        source = open_part(run, data, "train")[1]
    return _rows(embedder, source, _CALIBRATION)[0]
