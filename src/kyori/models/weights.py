"""Tensors and the facts about them in one safetensors file: no code in it, and damage is noticed.

The format stores a JSON header and raw numbers; reading one never runs code, which is why Kyori has no other weight
file. The header carries Kyori's facts (any JSON) and a checksum, since safetensors itself notices a short file only.
"""

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import ArgumentError, FileFormatError
from ..files import write_atomic

__all__ = ["checksum", "read_tensors", "state_tensors", "write_tensors"]


def state_tensors(state: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
    """Return a ``state_dict`` with ``prefix`` before each name.

    Raises:
        ArgumentError: An entry is not a tensor, so that only pickle could store it.
    """
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ArgumentError(
                f"the state '{name}' must be a tensor to be saved without pickle; got {type(value).__name__}. Keep "
                "it in a buffer (register_buffer) rather than in get_extra_state."
            )
    return {prefix + name: value for name, value in state.items()}


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """Return the CRC-32 of names and bytes, in the order of the names, as 8 hexadecimal digits."""
    crc = 0
    for name in sorted(tensors):
        crc = zlib.crc32(name.encode(), crc)
        data = tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        crc = zlib.crc32(data.numpy().data, crc)
    return f"{crc:08x}"


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> str:
    """Write tensors and facts (JSON values) in one atomic step and return the checksum."""
    # A copy of each: safetensors refuses tensors that share memory (tied weights).
    plain = {
        name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()
    }
    crc = checksum(plain)
    header = json.dumps({"crc32": crc, "facts": facts}, allow_nan=False)
    content = save(plain, metadata={"kyori": header})  # one entry: safetensors writes several in random order
    write_atomic(path, lambda file: file.write(content))
    return crc


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read back what `write_tensors` wrote: tensors on the CPU, and the facts.

    Raises:
        FileFormatError: The file is missing, cut short, altered, or not one of Kyori's.
    """
    path = Path(path)
    if not path.is_file():
        raise FileFormatError(f"{path} does not exist.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Copies: the tensors of safetensors are windows on the file.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise FileFormatError(f"{path} is damaged or no safetensors file: {error}") from error
    if "kyori" not in metadata:
        raise FileFormatError(f"{path} was not written by Kyori: its header has no facts and no checksum.")
    try:
        header = json.loads(metadata["kyori"])
        expected, facts = header["crc32"], header["facts"]
    except (ValueError, KeyError, TypeError) as error:
        raise FileFormatError(f"{path} is damaged: its header cannot be read ({error!r}).") from error
    if checksum(tensors) != expected:
        raise FileFormatError(
            f"{path} is damaged: its tensors have checksum {checksum(tensors)}, its header says "
            f"{expected}. Copy it again from where it came."
        )
    return tensors, facts
