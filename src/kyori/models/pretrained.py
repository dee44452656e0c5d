"""Weights that others have trained, from a local safetensors file, and the scale of the pictures that they expect."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import ArgumentError, FileFormatError
from ..optional import require

__all__ = ["load_weights", "published_scale", "published_weights"]

_PICKLES = (b"PK\x03\x04", b"\x80")  # what PyTorch writes now, and what it wrote before version 1.6
_PREFIXES = ("module.", "backbone.", "model.", "encoder.", "state_dict.")
_COUNTER = "num_batches_tracked"  # absent in files that are older than it
_SHOWN = 3


def load_weights(backbone: nn.Module, path: str | os.PathLike[str], name: str = "this backbone") -> None:
    """Put the weights in a safetensors file into a backbone; all of them must fit.

    What is not the backbone's part is left out: the classifier that timm's description of the model names. A prefix
    that all names share (``module.``, ``backbone.``, …) is taken away, the first convolution of a colour network is
    summed over its colours for grey pictures, and timm's own conversion of older files is applied.

    Args:
        backbone: The network, changed in place only if everything fits.
        path: A ``.safetensors`` file.
        name: The backbone in messages.

    Raises:
        FileFormatError: The file is missing, damaged, or a pickle.
        ArgumentError: Weights are missing, unknown, or of another shape; the message counts them and names the first.
    """
    wanted = backbone.state_dict()
    found = _fitted(backbone, _read(Path(path)), wanted)
    missing = [key for key in wanted if key not in found and not key.endswith(_COUNTER)]
    unknown = [key for key in found if key not in wanted]
    shapes = [
        f"{key} {tuple(found[key].shape)} for {tuple(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in found and found[key].shape != tensor.shape
    ]
    parts = {"missing": missing, "unknown": unknown, "of another shape": shapes}
    wrong = [f"{len(names)} {what} ({_some(names)})" for what, names in parts.items() if names]
    if wrong:
        raise ArgumentError(
            f"the weights in {path} do not fit {name}, which has {len(wanted)} tensors: {', '.join(wrong)}. Give the "
            "backbone they were trained with, and its options."
        )
    counters = {key: torch.zeros_like(wanted[key]) for key in wanted if key not in found}
    backbone.load_state_dict({**found, **counters})


def published_weights(name: str, facts: Mapping[str, Any]) -> Path:
    """Return the safetensors file with the published weights of a timm model, downloaded if it is not there yet.

    timm itself would fall back on a pickle where a model has no such file.

    Args:
        name: The model.
        facts: timm's description of its weights.

    Raises:
        ArgumentError: There are none, only a pickle, or the network cannot be reached.
    """
    repository = facts.get("hf_hub_id")
    if not repository:
        raise ArgumentError(
            f"timm knows no weights of '{name}' as safetensors; choose a name with a tag of "
            "timm.list_pretrained(), give a file (model.weights_file), or set pretrained to false."
        )
    hub = require("huggingface_hub", extra="image", purpose="published weights")
    named = facts.get("hf_hub_filename") or "model.safetensors"
    file = named.replace("pytorch_model.bin", "model.safetensors")
    try:
        return Path(hub.hf_hub_download(repository, file))
    except Exception as error:  # of the hub's client, of requests, of the disk
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ArgumentError(
            f"the published weights of '{name}' ({repository}, {file}) cannot be had ({reason}). Connect to the "
            "network once (they are kept in Hugging Face's cache), give a safetensors file (model.weights_file), or "
            "set pretrained to false."
        ) from error


def published_scale(name: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and deviation of each channel that the published weights of a timm model expect, in [0, 1].

    One channel gets the mean over the three, which is exact where they are equal. None for other backbones.
    """
    timm = sys.modules.get("timm")  # loaded by then if the backbone is one of timm's
    if timm is None or not timm.is_model(name):
        return None
    facts = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if facts is None or len(facts.mean) != 3:
        return None
    if channels == 3:
        return tuple(facts.mean), tuple(facts.std)
    return (sum(facts.mean) / 3,) * channels, (sum(facts.std) / 3,) * channels


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileFormatError(f"the weights {path} do not exist; expected a .safetensors file.")
    with open(path, "rb") as file:
        start = file.read(4)
    if start.startswith(_PICKLES):
        raise FileFormatError(
            f"{path} is a pickle (.pth, .pt, .bin), and opening one can run code; Kyori reads safetensors. Convert it "
            'once where you trust it, with the lines in docs/models.md ("Weights from a file").'
        )
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise FileFormatError(f"{path} is damaged or no safetensors file: {error}") from error


def _fitted(
    backbone: nn.Module, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors under the backbone's names, as far as names and conversions tell."""
    found = _without_prefix(tensors, wanted)
    facts = getattr(backbone, "pretrained_cfg", None) or {}
    same = set(found) == set(wanted) and all(found[key].shape == wanted[key].shape for key in found)
    if facts and not same:
        convert = getattr(sys.modules.get(type(backbone).__module__), "checkpoint_filter_fn", None)
        if convert is not None:
            found = dict(_converted(convert, found, backbone))
    classifiers = tuple(f"{name}." for name in _listed(facts.get("classifier")))
    found = {key: tensor for key, tensor in found.items() if key in wanted or not key.startswith(classifiers)}
    for layer in _listed(facts.get("first_conv")):
        key = f"{layer}.weight"
        if key in found and key in wanted and found[key].ndim == 4:
            found[key] = _channels(found[key], wanted[key].shape[1])
    return found


def _converted(convert: Any, tensors: dict[str, Tensor], backbone: nn.Module) -> Mapping[str, Tensor]:
    try:
        result: Mapping[str, Tensor] = convert(dict(tensors), backbone)
    except Exception:  # it knows the model's own older files; others are judged as they are
        return tensors
    return result


def _without_prefix(tensors: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
    """The tensors without the prefix behind which most of the wanted names stand."""
    names = set(wanted)
    best = dict(tensors)
    for prefix in _PREFIXES:
        inside = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if len(names & set(inside)) > len(names & set(best)):
            best = inside
    return best


def _channels(weight: Tensor, channels: int) -> Tensor:
    """A first convolution (k, 3, h, w) for grey pictures: the same answer as for three equal channels."""
    return weight.sum(dim=1, keepdim=True) if weight.shape[1] == 3 and channels == 1 else weight


def _listed(names: Any) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
