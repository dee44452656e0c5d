"""The three formats: ONNX, torch.export and safetensors."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ArgumentError, KyoriError
from ..files import write_atomic
from ..models import Embedder
from ..optional import require
from .network import Network, example, facts_of

__all__ = ["FORMATS", "Exported", "Format", "Quantize", "check", "write"]

Format = Literal["onnx", "torch", "safetensors"]
Quantize = Literal["int8", "float16"]
Encode = Callable[[NDArray[Any]], NDArray[np.float32]]
#: Suffix of each format's file; safetensors is a folder, as `kyori.Embedder.load` wants it.
FORMATS: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ""}
_OPSET = 18
_CALIBRATION = 64  # items a step of int8 calibration


@dataclass(frozen=True)
class Exported:
    """A written model.

    Attributes:
        path: The file, or the folder.
        bytes: Its size.
        encode: Raw rows → vectors ``(n, d)``, run from what was written.
    """

    path: Path
    bytes: int
    encode: Encode


def check(format: str, quantize: str | None) -> None:
    """Refuse combinations that do not exist.

    Raises:
        ArgumentError: An unknown format, or int8 for another format than ONNX.
    """
    if format not in FORMATS:
        raise ArgumentError(f"format must be one of {', '.join(FORMATS)}; got {format!r}.")
    if quantize not in (None, "int8", "float16"):
        raise ArgumentError(f"quantize must be int8 or float16; got {quantize!r}.")
    if quantize == "int8" and format != "onnx":
        raise ArgumentError(f"int8 needs the format onnx; {format} knows float16.")


def write(
    embedder: Embedder,
    path: Path,
    format: Format,
    quantize: Quantize | None = None,
    calibration: NDArray[Any] | None = None,
) -> Exported:
    """Write a model.

    Args:
        embedder: The trained embedder.
        path: The file to write; for safetensors a folder.
        format: ``"onnx"``, ``"torch"`` (torch.export, .pt2) or ``"safetensors"``.
        quantize: ``"float16"``, or ``"int8"`` (ONNX).
        calibration: Raw rows ``(m, ...)`` that show int8 what values come; training items are right.

    Raises:
        ArgumentError: A combination that does not exist, or int8 without calibration rows.
        MissingExtraError: ONNX is not installed.
        KyoriError: PyTorch cannot trace this network.
    """
    check(format, quantize)
    if format == "safetensors":
        return _safetensors(embedder, path, half=quantize == "float16")
    if format == "torch":
        return _torch(embedder, path, half=quantize == "float16")
    return _onnx(embedder, path, quantize, calibration)


def _safetensors(embedder: Embedder, path: Path, *, half: bool) -> Exported:
    """Write a folder that ``kyori.Embedder.load`` opens; its own reader is what the report runs."""
    if path.exists() and not path.is_dir():
        raise ArgumentError(
            f"{path} is a file; safetensors are written into a folder (model.safetensors, model.json)."
        )
    if half:
        import copy

        embedder = copy.deepcopy(embedder).cpu().half()
    embedder.save(path)
    read = Embedder.load(path, backbone=None)
    size = sum((path / name).stat().st_size for name in ("model.safetensors", "model.json"))
    return Exported(path, size, _runs(Network(read)))


def _torch(embedder: Embedder, path: Path, *, half: bool) -> Exported:
    network = Network(embedder, half=half)
    with _quiet("torch.export"):
        program = torch.export.export(network, (example(embedder),), dynamic_shapes=_dynamic(embedder))
    buffer = io.BytesIO()
    facts = {"kyori.json": json.dumps(facts_of(embedder), ensure_ascii=False)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, buffer, extra_files=facts)
    write_atomic(path, lambda file: file.write(buffer.getvalue()))
    # What was written is what is run: the program comes back from the file's bytes.
    buffer.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = torch.export.load(buffer).module()
    return Exported(path, path.stat().st_size, _runs(read))


def _onnx(
    embedder: Embedder, path: Path, quantize: Quantize | None, calibration: NDArray[Any] | None
) -> Exported:
    require("onnxscript", extra="export", purpose="the export to ONNX")
    onnx = require("onnx", extra="export", purpose="the export to ONNX")
    network = Network(embedder, half=quantize == "float16")
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        with _quiet("torch.onnx"):
            torch.onnx.export(
                network,
                (example(embedder),),
                plain,
                dynamo=True,
                dynamic_shapes=_dynamic(embedder),
                input_names=["items"],
                output_names=["vectors"],
                opset_version=_OPSET,
                external_data=False,
                verbose=False,
            )
        if quantize == "int8":
            if calibration is None or not len(calibration):
                raise ArgumentError(
                    "int8 needs calibration items; give the data that the model was trained on."
                )
            plain = _quantized(plain, Path(folder), calibration)
        model = onnx.load(plain)
        onnx.checker.check_model(model)
        for key, value in facts_of(embedder).items():
            entry = model.metadata_props.add()
            entry.key, entry.value = f"kyori.{key}", json.dumps(value, ensure_ascii=False)
        content = model.SerializeToString()
    write_atomic(path, lambda file: file.write(content))
    return Exported(path, path.stat().st_size, onnx_encoder(path))


def _quantized(plain: Path, folder: Path, calibration: NDArray[Any]) -> Path:
    """Quantise weights and activations of convolutions and products to 8 bits (QDQ), scales from the rows."""
    tools: Any = require("onnxruntime.quantization", extra="export", purpose="int8")
    shapes = require("onnxruntime.quantization.shape_inference", extra="export", purpose="int8")

    reader: Any = tools.CalibrationDataReader

    class Rows(reader):
        def __init__(self) -> None:
            steps = range(0, len(calibration), _CALIBRATION)
            self._parts: Iterator[dict[str, Any]] = iter(
                {"items": calibration[start : start + _CALIBRATION]} for start in steps
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self._parts, None)

    prepared, quantized = folder / "prepared.onnx", folder / "int8.onnx"
    with _quiet("onnxruntime.quantization"):
        shapes.quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        tools.quantize_static(
            str(prepared),
            str(quantized),
            Rows(),
            quant_format=tools.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm", "MatMul"],
            per_channel=True,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
            extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
        )
    return quantized


def onnx_encoder(path: Path, threads: int | None = None) -> Encode:
    """Return a function that runs an ONNX file: raw rows → vectors.

    Args:
        path: The file.
        threads: Of one operator; those that PyTorch uses if left out, so that speeds compare.
    """
    runtime = require("onnxruntime", extra="export", purpose="running ONNX")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3
    session = runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    return lambda rows: np.asarray(session.run(None, {"items": rows})[0], np.float32)


def _runs(network: torch.nn.Module) -> Encode:
    def encode(rows: NDArray[Any]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(network(torch.from_numpy(rows)).numpy(), np.float32)

    return encode


def _dynamic(embedder: Embedder) -> tuple[dict[int, Any]]:
    """Any number of items; of texts, any number of tokens; of sets, any number of vectors."""
    axes: dict[int, Any] = {0: torch.export.Dim("n", min=1, max=1_000_000)}
    if embedder.preprocess.kind in ("text", "set"):
        axes[1] = torch.export.Dim("t", min=1, max=100_000)
    return (axes,)


@contextlib.contextmanager
def _quiet(what: str) -> Iterator[None]:
    """Keep the exporters' chatter off the terminal, and turn their errors into one line."""
    said = io.StringIO()
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")
            yield
    except KyoriError:
        raise
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise KyoriError(
            f"{what} cannot take this network: {first[:300]}. Export it with --format safetensors, or change the"
            " backbone's code so that its shapes do not depend on values."
        ) from error
    finally:
        logging.disable(level)


def remove(path: Path) -> None:
    """Remove what :func:`write` has written."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
