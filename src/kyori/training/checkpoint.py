"""Checkpoints: everything a run needs to go on as if it had never stopped, in one file each, without pickle."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError, FileFormatError, TrainingWarning
from ..models.weights import read_tensors, write_tensors

__all__ = ["Checkpoint", "Checkpoints", "check_same", "load_optimizer", "optimizer_tensors"]

FORMAT = "kyori.checkpoint"
VERSION = 1
KEPT = 2  # the newest, and the one before it in case the newest is damaged


class Checkpoint(NamedTuple):
    """A checkpoint as read: its file, tensors on the CPU, and facts (JSON values)."""

    path: Path
    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names start with ``prefix``, without it."""
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}


class Checkpoints:
    """The checkpoints in a folder: ``step-000000123.safetensors``, the newest two of them.

    Args:
        folder: Where they lie; made when the first is saved.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def paths(self) -> list[Path]:
        """Return the checkpoint files, the newest first."""
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)

    def save(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
        """Write the checkpoint of a step, whole or not at all, then remove all but the newest two."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:09d}.safetensors"
        write_tensors(path, tensors, {"format": FORMAT, "version": VERSION, **facts})
        for old in self.paths()[KEPT:]:
            old.unlink(missing_ok=True)
        return path

    def clear(self) -> None:
        """Remove all checkpoints, which belong to a run that now starts anew."""
        for path in self.paths():
            path.unlink()

    def load(self) -> Checkpoint | None:
        """Return the newest undamaged checkpoint, None if there is no file at all.

        A damaged one is passed over with a `TrainingWarning` that names it.

        Raises:
            FileFormatError: There are files, and all of them are damaged.
        """
        damage: FileFormatError | None = None
        for path in self.paths():
            try:
                tensors, facts = read_tensors(path)
                if facts.get("format") != FORMAT or facts.get("version") != VERSION:
                    raise FileFormatError(f"{path} is no checkpoint of format version {VERSION}.")
            except FileFormatError as error:
                damage = error
                warnings.warn(f"{error} Trying the checkpoint before it.", TrainingWarning, stacklevel=2)
            else:
                return Checkpoint(path, tensors, facts)
        if damage is not None:
            raise FileFormatError(
                f"no checkpoint in {self.folder} can be read; the last one tried: {damage} Start anew without resume."
            ) from damage
        return None


def optimizer_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """Return the optimizer's state as ``{prefix}{parameter number}.{name}``; what it has not made yet is absent."""
    return {
        f"{prefix}{number}.{name}": value
        for number, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
        if value is not None
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` took; the groups and rates stay those of the configuration."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def check_same(saved: Mapping[str, Any], config: Mapping[str, Any], may_differ: set[str], path: Path) -> None:
    """Raise a `ConfigError` that lists every setting in which a checkpoint's run and this one differ.

    Args:
        saved: The configuration in the checkpoint, nested dicts.
        config: The configuration now.
        may_differ: Dotted names of settings that do not touch the result.
        path: The checkpoint, for the message.
    """
    before, now = _flat(saved), _flat(config)
    changed = [
        f"{name}: {before.get(name)!r} then, {now.get(name)!r} now"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name) and name not in may_differ
    ]
    if changed:
        raise ConfigError(
            f"cannot resume from {path}: it was trained with another configuration.\n  "
            + "\n  ".join(changed)
            + "\nResume with the former settings, or start anew in another folder."
        )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
