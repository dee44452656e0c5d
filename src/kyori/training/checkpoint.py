"""Checkpoints: everything a run needs to go on as if it had never stopped, in one file each, without pickle.

A file is written beside its place, flushed to the disk and renamed, so it is whole or not there; its SHA-256 over
every fact and every tensor tells a file that was damaged later.
"""

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor

from ..errors import ConfigError, FileFormatError, TrainingWarning
from ..files import make_folder, remove_unfinished
from ..models.weights import read_tensors, write_tensors

__all__ = ["Checkpoint", "Checkpoints", "Interval", "check_same", "load_optimizer", "optimizer_tensors"]

FORMAT = "kyori.checkpoint"
VERSION = 2


class Interval(NamedTuple):
    """How often something is done: every so many steps, minutes or epochs.

    >>> Interval.parse("500 steps"), str(Interval.parse("1.5 min"))
    (Interval(amount=500, unit='steps'), '1.5 minutes')
    """

    amount: float
    unit: Literal["steps", "minutes", "epochs"]

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read ``"500 steps"``, ``"10 minutes"`` or ``"2 epochs"``; a bare number counts steps.

        Raises:
            ValueError: It says something else.
        """
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(value).lower())
        units: dict[str, Literal["steps", "minutes", "epochs"]] = {
            "": "steps", "step": "steps", "steps": "steps", "epoch": "epochs", "epochs": "epochs",
            "min": "minutes", "minute": "minutes", "minutes": "minutes",
        }  # fmt: skip
        unit = units.get(found[2]) if found else None
        if found is None or unit is None or float(found[1]) <= 0:
            raise ValueError(f"must be like '500 steps', '10 minutes' or '2 epochs'; got {value!r}")
        amount = float(found[1])
        if unit == "minutes":
            return cls(amount, unit)
        if not amount.is_integer():
            raise ValueError(f"must be a whole number of {unit}; got {value!r}")
        return cls(int(amount), unit)

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit[:-1] if self.amount == 1 else self.unit}"


class Checkpoint(NamedTuple):
    """A checkpoint as read: its file, tensors on the CPU, and facts (JSON values)."""

    path: Path
    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names start with ``prefix``, without it."""
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}


class Checkpoints:
    """The checkpoints in a folder, ``step-000000123.safetensors``: the newest ones and the best one.

    Args:
        folder: Where they lie; made when the first is saved.
        keep: How many of the newest stay. The disk must have room for two more: the best one, and the one that is
            being written.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder = folder
        self.keep = keep

    def paths(self) -> list[Path]:
        """Return the checkpoint files, the newest first."""
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)

    def save(
        self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], *, best: int | None = None
    ) -> Path:
        """Write the checkpoint of a step, whole or not at all, then remove those that are no longer kept.

        Args:
            step: Steps done so far.
            tensors: By name.
            facts: JSON values.
            best: The step whose checkpoint stays however old it is.

        Raises:
            OSError: The disk is full or cannot be written to; all checkpoints are as they were.
        """
        make_folder(self.folder)
        path = self._path(step)
        facts = {"format": FORMAT, "version": VERSION, **facts}
        write_tensors(path, tensors, {**facts, "sha256": _digest(tensors, facts)})
        # A later step can only be one that could not be read when the run went on from an earlier one.
        paths = [other for other in self.paths() if other <= path]
        kept = {*paths[: self.keep], *([] if best is None else [self._path(best)])}
        for old in set(self.paths()) - kept:
            old.unlink(missing_ok=True)
        return path

    def clear(self) -> None:
        """Remove all checkpoints, which belong to a run that now starts anew."""
        self.tidy()
        for path in self.paths():
            path.unlink()

    def tidy(self) -> None:
        """Remove what is left of a checkpoint that was being written when the process was killed."""
        remove_unfinished(self.folder)

    def load(self) -> Checkpoint | None:
        """Return the newest undamaged checkpoint, None if there is no file at all.

        A damaged one is passed over with a `TrainingWarning` that names it.

        Raises:
            FileFormatError: There are files, and all of them are damaged.
        """
        damaged: list[FileFormatError] = []
        for path in self.paths():
            try:
                checkpoint = _read(path)
            except FileFormatError as error:
                damaged.append(error)
                continue
            if damaged:
                found = " ".join(map(str, damaged))
                warnings.warn(f"{found} Going on from {path} before it.", TrainingWarning, stacklevel=2)
            return checkpoint
        if damaged:
            raise FileFormatError(
                f"no checkpoint in {self.folder} can be read; the last one tried: {damaged[-1]} Start anew without "
                "resume."
            ) from damaged[-1]
        return None

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}.safetensors"


def _read(path: Path) -> Checkpoint:
    tensors, facts = read_tensors(path)
    if facts.get("format") != FORMAT or facts.get("version") != VERSION:
        raise FileFormatError(f"{path} is no checkpoint of format version {VERSION}.")
    expected = facts.pop("sha256", None)
    if _digest(tensors, facts) != expected:
        raise FileFormatError(f"{path} is damaged: its content does not have the SHA-256 that it states.")
    return Checkpoint(path, tensors, facts)


def _digest(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """SHA-256 of all that a checkpoint says: facts, and name, type, shape and bytes of every tensor."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        plain = tensors[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        weight = weights[int(number)]
        if (
            value.shape == weight.shape
        ):  # in the memory order of its weight: fused kernels walk both as one array
            value = torch.empty_like(weight, dtype=value.dtype).copy_(value)
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
