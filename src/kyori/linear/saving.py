"""A learned metric as two files, ``model.safetensors`` and ``model.json``: numbers and JSON, no code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ArgumentError, FileFormatError
from ..files import write_atomic
from ..models.weights import checksum, read_tensors, write_tensors

__all__ = ["read", "write"]

FORMAT = "kyori.linear"
VERSION = 1
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


def write(metric: Any, folder: str | os.PathLike[str]) -> None:
    """Write a fitted metric into ``folder``."""
    from .. import __version__

    tensors = {"components": torch.from_numpy(np.ascontiguousarray(metric.components_))}
    parameters: dict[str, Any] = {}
    for name, value in metric.get_params(deep=False).items():
        if isinstance(value, np.ndarray):
            tensors[f"parameter.{name}"] = torch.from_numpy(np.ascontiguousarray(value))
        else:
            parameters[name] = _plain(name, value)
    names = getattr(metric, "feature_names_in_", None)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    crc = write_tensors(folder / WEIGHTS, tensors, {"format": FORMAT})
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "kyori": __version__,
        "method": type(metric).__name__,
        "parameters": parameters,
        "threshold": getattr(metric, "threshold_", None),
        "feature_names": None if names is None else list(names),
        "weights": {"file": WEIGHTS, "crc32": crc},
    }
    text = json.dumps(facts, indent=2, ensure_ascii=False)
    write_atomic(folder / DESCRIPTION, lambda file: file.write(text.encode()))


def read(folder: str | os.PathLike[str]) -> Any:
    """Return the metric that `write` wrote, fitted.

    Raises:
        FileFormatError: A file is missing, damaged, of another kind or of a newer version.
    """
    folder = Path(folder)
    facts = _description(folder / DESCRIPTION)
    tensors, header = read_tensors(folder / WEIGHTS)
    try:
        if header.get("format") != FORMAT or tensors["components"].ndim != 2:
            raise KeyError("components")
        if checksum(tensors) != facts["weights"]["crc32"]:
            raise ValueError(f"{WEIGHTS} is not from the same save")
        metric = _method(facts["method"])(**facts["parameters"])
        arrays = {name: t.numpy() for name, t in tensors.items() if name.startswith("parameter.")}
        metric.set_params(**{name.removeprefix("parameter."): array for name, array in arrays.items()})
        metric.components_ = tensors["components"].numpy()
        metric.n_features_in_ = metric.components_.shape[1]
        if facts["threshold"] is not None:
            metric.threshold_ = float(facts["threshold"])
        if facts["feature_names"] is not None:
            metric.feature_names_in_ = np.asarray(facts["feature_names"], dtype=object)
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{folder / DESCRIPTION} is damaged: {error!r}. Copy it again.") from error
    return metric


def _method(name: str) -> type:
    from . import LINEAR

    found = {cls.__name__: cls for cls in LINEAR.values()}
    if name not in found:
        raise KeyError(f"method {name!r}")
    return found[name]


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.random.RandomState):
        raise ArgumentError(
            f"{name} must be a number to be saved; got a RandomState. Give a whole number before saving."
        )
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"parameter {name} must be a number, a string, a list of them or an array to be saved; got {value!r}."
        ) from error


def _description(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileFormatError(
            f"{path} does not exist; expected a folder that holds {WEIGHTS} and {DESCRIPTION}."
        ) from error
    except (ValueError, OSError) as error:
        raise FileFormatError(f"{path} is damaged: {error}") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise FileFormatError(f"{path} does not describe a linear metric (format '{FORMAT}').")
    if facts.get("version") != VERSION:
        raise FileFormatError(
            f"{path} has version {facts.get('version')} of the format, and this Kyori reads {VERSION}; "
            f"install the Kyori that wrote it ({facts.get('kyori')}) or a newer one."
        )
    return facts
