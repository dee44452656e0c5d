"""The grid of a comparison: methods × data sets × seeds × folds, each cell a task with a folder."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data import Source, Split
from ..errors import ArgumentError, Interrupted, TrainingError
from ..runs import open_data, short_name
from ..training import RunConfig
from .board import Cell, Failure
from .budget import equal_batches, method_config, with_batch_size
from .cells import Task, finished_cell, place_of
from .folding import Folding
from .leaks import Leak, find_leaks
from .methods import Method
from .spaces import space_of
from .tuning import need_optuna
from .workers import run_here, run_in_processes

__all__ = ["Grid", "make_grid", "open_all"]

Key = tuple[str, int | None]


@dataclass(frozen=True)
class Grid:
    """What a comparison will train, and on what.

    Attributes:
        tasks: One a cell: by method, data set, fold, seed.
        foldings: How each data set is dealt out.
        splits: The parts by data set and fold.
        prints: The fingerprints of these parts.
    """

    tasks: tuple[Task, ...]
    foldings: tuple[Folding, ...]
    splits: Mapping[Key, Split]
    prints: Mapping[Key, Mapping[str, str]]

    @property
    def batch_sizes(self) -> list[int]:
        """The batch sizes of the networks; several where a data set or fold has few items."""
        return sorted({task.config.batches.batch_size for task in self.tasks if task.method.loss is not None})

    @property
    def data(self) -> str:
        """The data as the user named them; a folder that was named by dots by its own name."""
        if len(self.sources) > 1:
            return ", ".join(self.sources)
        name = self.foldings[0].source.name
        return name if Path(name).name.strip(".") else short_name(name)

    @property
    def sources(self) -> dict[str, str]:
        """What each data set was opened from, by its name on the board: a path, or a built-in name."""
        names = dict.fromkeys(name for name, _ in self.splits)
        return {name: folding.source.name for name, folding in zip(names, self.foldings, strict=True)}

    def leaks(self) -> tuple[Leak, ...]:
        """Return what training sees of the test parts; all items, or their files, are read once."""
        names = dict.fromkeys(name for name, _ in self.splits)
        return find_leaks(dict(zip(names, self.foldings, strict=True)), self.splits)

    def finished(self, task: Task) -> Cell | None:
        """Return the cell of a task, if it is finished already."""
        return finished_cell(task, self.prints[task.dataset, task.fold])

    def state(self) -> list[dict[str, Any]]:
        """Return one record a cell: what it is, where it lies, and whether it is finished."""
        return [
            {
                "method": task.method.name,
                "dataset": task.dataset,
                "fold": task.fold,
                "seed": task.seed,
                "trials": task.trials,
                "folder": str(task.place) if task.place else None,
                "finished": self.finished(task) is not None,
            }
            for task in self.tasks
        ]

    def run(
        self, *, jobs: int, threads: int | None, measure: str, progress: bool
    ) -> tuple[tuple[Cell, ...], tuple[Failure, ...]]:
        """Make all cells that are not finished; return the cells, and the failures of the others.

        Raises:
            Interrupted: Ctrl-C; what is finished is kept.
            TrainingError: Every cell failed.
        """
        made: dict[Any, Cell | str] = {task.key: cell for task in self.tasks if (cell := self.finished(task))}
        say = _Progress(len(self.tasks), len(made), measure) if progress else None
        waiting = [task for task in self.tasks if task.key not in made]
        try:
            with closing(self._make(waiting, jobs, threads)) as outcomes:
                for task, outcome in outcomes:
                    made[task.key] = outcome
                    if say is not None:
                        say(task, outcome)
        except (KeyboardInterrupt, Interrupted) as error:
            done = sum(isinstance(found, Cell) for found in made.values())
            kept = (
                "the same command goes on with the rest"
                if self.tasks[0].place
                else "nothing is kept without out="
            )
            raise Interrupted(f"stopped; {done} of {len(self.tasks)} cells are finished, {kept}.") from error
        cells = tuple(found for task in self.tasks if isinstance(found := made[task.key], Cell))
        failures = tuple(
            Failure(task.method.name, task.seed, reason, task.dataset, task.fold)
            for task in self.tasks
            if isinstance(reason := made[task.key], str)
        )
        if not cells:
            raise TrainingError(f"no cell could be trained; the first: {failures[0].reason}")
        return cells, failures

    def _make(
        self, tasks: Sequence[Task], jobs: int, threads: int | None
    ) -> Generator[tuple[Task, Cell | str], None, None]:
        work = (
            (task, self.splits[task.dataset, task.fold], self.prints[task.dataset, task.fold])
            for task in tasks
        )
        if jobs == 1 or not tasks:
            yield from run_here(work, threads)
            return
        each = threads if threads is not None else max(1, torch.get_num_threads() // jobs)
        with closing(run_in_processes(work, jobs, each)) as outcomes:
            for task, reason in outcomes:
                if reason is not None:
                    yield task, reason
                else:
                    yield task, self.finished(task) or "its folder changed while it was read"


def open_all(data: Any, config: RunConfig, *, labels: Any, progress: bool) -> list[tuple[str, Source]]:
    """Open one data set, or several: a list of paths, names or sources, or a mapping from names to data."""
    if isinstance(data, Mapping):
        named = [(str(name), open_data(one, config, progress=progress)) for name, one in data.items()]
    elif _is_several(data) and labels is None:
        named = [
            (short_name(source.name), source)
            for source in (open_data(one, config, progress=progress) for one in data)
        ]
    else:
        source = open_data(data, config, labels=labels, progress=progress)
        return [(short_name(source.name), source)]
    if labels is not None:
        raise ArgumentError("labels= belongs to one array; give several as a mapping {name: (X, y)}.")
    if not named:
        raise ArgumentError("data is empty; give at least one data set.")
    names = [name for name, _ in named]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ArgumentError(
            f"data sets must have different names; '{twice[0]}' stands twice. Give a mapping {{name: data}}."
        )
    return named


def _is_several(data: Any) -> bool:
    return isinstance(data, list) and all(isinstance(one, str | os.PathLike | Source) for one in data)


def make_grid(
    methods: Sequence[Method],
    foldings: Mapping[str, Folding],
    *,
    seeds: int,
    trials: int,
    folder: Path | None,
) -> Grid:
    """Lay out the cells; nothing is trained and nothing is written.

    Raises:
        ArgumentError: A method that would have another budget than the others.
        MissingExtraError: A search without Optuna.
    """
    if trials:
        need_optuna()
    splits: dict[Key, Split] = {
        (name, fold): split for name, folding in foldings.items() for fold, split in folding.splits()
    }
    prints = {
        key: {part: _print_of(source) for part, source in split._asdict().items()}
        for key, split in splits.items()
    }
    configs = {
        (method.name, *key): method_config(method, foldings[key[0]].config_of(key[1]))
        for method in methods
        for key in splits
    }
    for key, split in splits.items():
        deep = [(method.name, *key) for method in methods if method.loss is not None]
        size = equal_batches([configs[place] for place in deep], split.train)
        if size is not None:
            configs |= {place: with_batch_size(configs[place], size) for place in deep}
    taken: set[Path] = set()
    tasks = []
    for method in methods:
        for name, fold in splits:
            folding = foldings[name]
            base = configs[method.name, name, fold]
            learns = method.loss is not None or method.linear is not None
            for seed in range(base.seed, base.seed + (seeds if learns else 1)):
                config = base.model_copy(update={"seed": seed})
                searched = trials if learns and space_of(method, config) else 0
                task = Task(method, name, seed, fold, config, folding.unseen, searched)
                if folder is not None:
                    place = place_of(folder, task, prints[name, fold], taken)
                    taken.add(place)
                    task = Task(method, name, seed, fold, config, folding.unseen, searched, place)
                tasks.append(task)
    return Grid(tuple(tasks), tuple(foldings.values()), splits, prints)


def _print_of(source: Source) -> str:
    """What tells a part from any other: its ids and labels, and what its items hold.

    Items in memory count all; of others, which would have to be decoded, 64 that are spread evenly do.
    """
    digest = hashlib.sha256(source.fingerprint().encode())
    n = len(source)
    rows = np.arange(n) if source.in_memory else np.unique(np.linspace(0, n - 1, min(n, 64)).astype(int))
    for start in range(0, len(rows), 4096):
        items = source.load(rows[start : start + 4096])
        digest.update(repr(items.tolist()).encode() if items.dtype == object else items.tobytes())
    return digest.hexdigest()


class _Progress:
    """One line a cell on stderr: what was measured, how long it took, what is left."""

    def __init__(self, total: int, finished: int, measure: str):
        self.total, self.measure, self.done, self.start = total, measure, finished, time.monotonic()
        self.before = finished
        if finished:
            print(f"{finished} of {total} cells are finished already", file=sys.stderr, flush=True)

    def __call__(self, task: Task, outcome: Cell | str) -> None:
        self.done += 1
        each = (time.monotonic() - self.start) / (self.done - self.before)
        if isinstance(outcome, Cell):
            value = 100 * outcome.results[self.measure].value
            said = f"{self.measure} {value:5.1f}  {outcome.seconds:6.1f} s"
        else:
            said = f"failed: {outcome}"
        words = [f"seed {task.seed}", *([f"fold {task.fold}"] if task.fold is not None else [])]
        print(
            f"[{self.done:>{len(str(self.total))}}/{self.total}] {task.method.name:<18} {' '.join(words)}  "
            f"{said}  about {each * (self.total - self.done):.0f} s left",
            file=sys.stderr,
            flush=True,
        )
