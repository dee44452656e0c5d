"""The search for hyper-parameters: trials one after the other, each kept on disk, proposed by Optuna's TPE sampler."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import Interrupted, KyoriError, TrainingError
from ..optional import require
from .spaces import Range

__all__ = ["Trial", "need_optuna", "search"]


@dataclass(frozen=True)
class Trial:
    """One setting that was tried.

    Attributes:
        number: From 0, which is the defaults.
        settings: Values by name; those that are left out have their defaults.
        value: The measure on the inner validation items, larger is better; None where the training failed.
        error: Why it failed.
    """

    number: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    value: float | None = None
    error: str = ""


def need_optuna() -> ModuleType:
    """Import Optuna, or say which extra brings it."""
    return require("optuna", extra="tune", purpose="a search for hyper-parameters (trials=)")


def search(
    objective: Callable[[Mapping[str, Any]], float],
    space: Mapping[str, Range],
    defaults: Mapping[str, Any],
    trials: int,
    *,
    seed: int,
    records: Path | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Trial, float]:
    """Try settings and return the best trial, with the seconds that the search took in all.

    Trial 0 is the defaults, so a search of T trials proposes T − 1 settings and its choice is never worse than the
    defaults on the items that it looks at. The others come from the tree-structured Parzen estimator (Bergstra et al.,
    "Algorithms for hyper-parameter optimization", NeurIPS 2011; Optuna's sampler). Trial t is a pure function of the
    seed, t and the trials before it: a search that was stopped goes on to the same end.

    Args:
        objective: Trains with these settings and returns the measure to maximize.
        space: What to draw from.
        defaults: The value that each setting has without a search.
        trials: T ≥ 1; a trial whose training fails counts.
        seed: Seed of the proposals.
        records: A file of one line a trial, which are not run again; None keeps none.
        clock: Where the seconds come from.

    Raises:
        TrainingError: No trial had a value.
        MissingExtraError: Optuna is not installed.
    """
    done, seconds = _read(records)
    for number in range(len(done), trials):
        start = clock()
        settings = {} if number == 0 else _propose(space, defaults, done, seed)
        trial = _run(objective, number, settings)
        seconds += clock() - start
        done.append(trial)
        _append(records, trial, clock() - start)
    tried = [trial for trial in done[:trials] if trial.value is not None]
    if not tried:
        raise TrainingError(f"none of {trials} trials of the search had a value; the first: {done[0].error}")
    return max(tried, key=lambda trial: (trial.value, -trial.number)), seconds


def _run(objective: Callable[[Mapping[str, Any]], float], number: int, settings: Mapping[str, Any]) -> Trial:
    try:
        value = float(objective(settings))
    except Interrupted:
        raise
    except (KyoriError, RuntimeError, ArithmeticError, np.linalg.LinAlgError) as error:
        if number == 0 and not isinstance(error, TrainingError):  # not the settings are wrong, but the data
            raise
        return Trial(number, settings, error=str(error))
    if not math.isfinite(value):
        return Trial(number, settings, error="the measure has no value on the inner validation items")
    return Trial(number, settings, value)


def _propose(
    space: Mapping[str, Range], defaults: Mapping[str, Any], done: list[Trial], seed: int
) -> dict[str, Any]:
    optuna = need_optuna()
    drawn = {name: _distribution(optuna, found) for name, found in space.items()}
    mixed = int(np.random.SeedSequence([seed, len(done)]).generate_state(1)[0])
    with _quiet(optuna):
        sampler = optuna.samplers.TPESampler(seed=mixed, n_startup_trials=5)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for trial in done:
            values = {name: trial.settings.get(name, defaults[name]) for name in space}
            if trial.value is not None and all(values[name] in found for name, found in space.items()):
                study.add_trial(
                    optuna.trial.create_trial(params=values, distributions=drawn, value=trial.value)
                )
        return dict(study.ask(fixed_distributions=drawn).params)


def _distribution(optuna: ModuleType, found: Range) -> Any:
    if found.whole:
        return optuna.distributions.IntDistribution(int(found.low), int(found.high), log=found.log)
    return optuna.distributions.FloatDistribution(found.low, found.high, log=found.log)


@contextmanager
def _quiet(optuna: ModuleType) -> Iterator[None]:
    """Without a line on stderr for each study; the caller's own level comes back."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def _read(records: Path | None) -> tuple[list[Trial], float]:
    """The trials on disk, as far as they are whole: a line that was cut off ends them, and is cut away."""
    if records is None or not records.exists():
        return [], 0.0
    done: list[Trial] = []
    seconds, size = 0.0, 0
    for line in records.read_bytes().splitlines(keepends=True):
        try:
            record = json.loads(line)
            trial = Trial(**{key: record[key] for key in ("number", "settings", "value", "error")})
        except (ValueError, KeyError, TypeError):
            break
        if not line.endswith(b"\n") or trial.number != len(done):
            break
        done.append(trial)
        seconds, size = seconds + float(record["seconds"]), size + len(line)
    os.truncate(records, size)
    return done, seconds


def _append(records: Path | None, trial: Trial, seconds: float) -> None:
    if records is None:
        return
    line = json.dumps({**asdict(trial), "seconds": seconds}, allow_nan=False) + "\n"
    with open(records, "ab") as file:
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())
