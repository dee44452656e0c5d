"""One cell of a grid: a method trained on one fold of one data set with one seed, in a folder of its own.

```
cells/digits/arcface/fold-0-seed-1/
  settings.json     what decides the cell; written first
  trials.jsonl      the trials of the search, as far as it came
  ...               the files of a run: model, vectors of the test items, results
  cell.json         what was chosen, what it cost; written last: a cell that has it is finished
```
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Source, Split, make_split
from ..errors import DataError, KyoriError, KyoriWarning, TrainingError
from ..evaluation import evaluate
from ..files import write_atomic
from ..results import Results
from ..runs import fit_split, open_run, table_of
from ..runs.folder import prepare_folder
from ..training import RunConfig
from ..vectors import VectorTable
from .board import Cell
from .budget import items_an_epoch
from .linear import config_of, learn_linear
from .memory import PeakMemory
from .methods import Method
from .spaces import defaults_of, space_of
from .tuning import search

__all__ = ["Task", "finished_cell", "place_of", "raw_table", "run_cell"]

SETTINGS, TRIALS, CELL = "settings.json", "trials.jsonl", "cell.json"
RESULTS, VECTORS = "results.json", "vectors.parquet"
INNER = (0.8, 0.2, 0.0)  # of the training items: to learn from and to judge a trial by


@dataclass(frozen=True)
class Task:
    """What makes one cell.

    Attributes:
        method: What is trained.
        dataset: Name of the data set.
        seed: Of initial weights, batches, dropout and search.
        fold: Number of the fold that is held out; None without folds.
        config: The configuration with method, seed and fold in it.
        unseen: Whether the test classes are unseen ones.
        trials: Trials of the search; 0 takes the defaults.
        place: The folder; None keeps nothing.
    """

    method: Method
    dataset: str
    seed: int
    fold: int | None
    config: RunConfig
    unseen: bool
    trials: int = 0
    place: Path | None = None

    @property
    def key(self) -> tuple[str, str, int | None, int]:
        """What tells the cell from the others of its grid."""
        return self.method.name, self.dataset, self.fold, self.seed

    @property
    def name(self) -> str:
        """The cell in words."""
        words = [f"seed {self.seed}", *([f"fold {self.fold}"] if self.fold is not None else []), self.dataset]
        return f"{self.method.name} ({', '.join(word for word in words if word)})"

    def settings(self, prints: Mapping[str, str]) -> dict[str, Any]:
        """Return all that decides the outcome, ready for JSON.

        Args:
            prints: Fingerprints of the parts of the split.
        """
        method = self.method
        found = {
            "method": {"loss": method.loss, "linear": method.linear, "options": dict(method.options)},
            "config": self._deciding(),
            "unseen": self.unseen,
            "trials": self.trials,
            "space": {name: str(found) for name, found in space_of(method, self.config).items()}
            if self.trials
            else {},
            "parts": dict(prints),
        }
        return dict(json.loads(json.dumps(found, default=_print_of)))

    def _deciding(self) -> dict[str, Any]:
        """The part of the configuration that the method looks at: without a network, the data and the seed."""
        config = self.config.to_dict()
        if self.method.loss is not None:
            return config
        measure = {"measure": config["training"]["measure"]} if self.trials else {}
        return {"data": config["data"], "seed": config["seed"], **measure}

    @property
    def evaluation(self) -> dict[str, Any]:
        """Options of ``evaluate`` for the test items."""
        return {"seed": self.seed, "unit": "class" if self.unseen else "query"}


def _print_of(value: Any) -> str:
    """An option that is no JSON: an array, by its content."""
    array = np.asarray(value)
    if array.dtype == object:
        return repr(value)
    return hashlib.sha256(repr((array.shape, array.dtype)).encode() + array.tobytes()).hexdigest()


def place_of(root: Path, task: Task, prints: Mapping[str, str], taken: set[Path]) -> Path:
    """Return the folder of a cell: its plain name, with a digest of its settings where another cell has that name.

    So a cell with other settings (more epochs, another margin) never replaces a finished one, nor is taken for it.
    """
    fold = f"fold-{task.fold}-" if task.fold is not None else ""
    plain = (
        root / "cells" / _file_name(task.dataset) / _file_name(task.method.name) / f"{fold}seed-{task.seed}"
    )
    settings = task.settings(prints)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    other = plain.with_name(f"{plain.name}-{digest}")
    for candidate in (plain, other):
        if candidate not in taken and _read(candidate / SETTINGS) == settings:
            return candidate
    free = plain not in taken and not any(
        (plain / name).exists() for name in (SETTINGS, "config.yaml", RESULTS)
    )
    return plain if free else other


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", text).strip(".") or "data"


def finished_cell(task: Task, prints: Mapping[str, str]) -> Cell | None:
    """Return the cell of ``task`` if its folder holds it whole, with the same settings and data."""
    if task.place is None or _read(task.place / SETTINGS) != task.settings(prints):
        return None
    record = _read(task.place / CELL)
    if record is None or not (task.place / RESULTS).exists():
        return None
    try:
        if task.method.loss is not None:
            run = open_run(task.place)
            if (
                run.config != _tuned(task.config, record["chosen"])
                or run.results is None
                or run.table is None
            ):
                return None
            return _cell(task, record, run.results, run.table, run.history)
        results = Results.from_json(task.place / RESULTS)
        return _cell(task, record, results, VectorTable.load(task.place / VECTORS))
    except (KyoriError, OSError, KeyError, TypeError, ValueError):
        return None


def run_cell(task: Task, split: Split, prints: Mapping[str, str]) -> Cell:
    """Search, train, and measure the test items once; all of it in ``task.place``, where there is one.

    Raises:
        KyoriError: The training failed; the folder stays unfinished.
    """
    place = task.place
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)
        (place / CELL).unlink(missing_ok=True)
        if _read(place / SETTINGS) != task.settings(prints):
            (place / TRIALS).unlink(missing_ok=True)
            _write(place / SETTINGS, task.settings(prints))
    with PeakMemory() as peak:
        chosen, searched = _search(task, split.train)
        make = _train if task.method.loss else _learn if task.method.linear else _look
        made = make(task, split, chosen)
    record = {
        "chosen": chosen,
        "trials": task.trials,
        "search_seconds": searched,
        "seconds": made.seconds,
        "parameters": made.parameters,
        "items_seen": made.items_seen,
        "memory_bytes": peak.bytes,
    }
    if place is not None:
        _write(place / CELL, record)
    return _cell(task, record, made.results, made.table, made.history)


@dataclass(frozen=True)
class _Made:
    """What a training gave."""

    results: Results
    table: VectorTable
    seconds: float = 0.0
    parameters: int = 0
    items_seen: int | None = None
    history: tuple[Mapping[str, Any], ...] = ()


def _search(task: Task, train: Source) -> tuple[dict[str, Any], float]:
    """Choose the settings on a part of the training items; neither validation nor test items are looked at."""
    space = space_of(task.method, task.config)
    if not task.trials or not space:
        return {}, 0.0
    kind = "class-disjoint" if task.unseen else "random"
    try:
        inner = make_split(train, kind, fractions=INNER, seed=task.config.data.split_seed)  # type: ignore[arg-type]
    except KyoriError as error:
        raise TrainingError(f"the search needs a validation part of the training items: {error}") from error
    measure = task.config.training.measure
    test = train.take([])

    def objective(settings: Mapping[str, Any]) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", KyoriWarning)  # the training after the search says them once
            if task.method.linear is not None:
                embedder = _linear(task, inner.train, settings)
                table = table_of(embedder, inner.validation)
                return evaluate(table, measures=[measure], bootstrap=0)[measure].value
            config = _tuned(task.config, settings)
            run = fit_split(Split(inner.train, inner.validation, test), config)
        checks = [epoch["validation"] for epoch in run.history if "validation" in epoch]
        values = [check[measure] for check in checks if measure in check] or [float("nan")]
        return float(max(values) if config.training.keep == "best" else values[-1])

    records = task.place / TRIALS if task.place is not None else None
    best, seconds = search(
        objective,
        space,
        defaults_of(task.method, task.config),
        task.trials,
        seed=task.seed,
        records=records,
    )
    return dict(best.settings), seconds


def _tuned(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    rates = {"lr": "optimizer.lr", "head_lr": "optimizer.head_lr"}
    return RunConfig.from_options(
        config, **{rates.get(name, f"loss.{name}"): value for name, value in settings.items()}
    )


def _train(task: Task, split: Split, chosen: Mapping[str, Any]) -> _Made:
    config = _tuned(task.config, chosen)
    run = fit_split(split, config, folder=task.place, overwrite=True)
    if run.results is None or run.table is None:
        raise TrainingError("no test items were measured.")
    seen = len(run.history) * items_an_epoch(config, split.train)
    return _Made(run.results, run.table, run.seconds, run.embedder.parameter_count, seen, run.history)


def _linear(task: Task, source: Source, chosen: Mapping[str, Any]) -> Any:
    options = {**task.method.options, **chosen}
    features = {"features": int(options.pop("features"))} if "features" in options else {}
    return learn_linear(str(task.method.linear), options, task.seed, source, task.config, **features)


def _learn(task: Task, split: Split, chosen: Mapping[str, Any]) -> _Made:
    start = time.perf_counter()
    embedder = _linear(task, split.train, chosen)
    seconds = time.perf_counter() - start
    table = table_of(embedder, split.test)
    results = evaluate(table, **task.evaluation)
    training = {
        "linear": task.method.linear,
        "options": {**task.method.options, **chosen},
        "seed": task.seed,
        "seconds": seconds,
    }
    training = json.loads(json.dumps(training, default=_print_of))
    provenance = {**results.provenance, "training": training}
    results = Results([*results.values()], curves=results.curves, provenance=provenance)
    if task.place is not None:
        prepare_folder(task.place, split, config_of(embedder, task.config), overwrite=True)
        embedder.save(task.place)
    _keep(task, table, results)
    return _Made(results, table, seconds, embedder.parameter_count)


def _look(task: Task, split: Split, chosen: Mapping[str, Any]) -> _Made:
    """Measure the items as they are; nothing is trained."""
    table = raw_table(split.test)
    results = evaluate(table, **task.evaluation)
    _keep(task, table, results)
    return _Made(results, table)


def _keep(task: Task, table: VectorTable, results: Results) -> None:
    if task.place is not None:
        table.save(task.place / VECTORS)
        results.to_json(task.place / RESULTS)


def raw_table(source: Source) -> VectorTable:
    """Return the items themselves as vectors: pixels in [0, 1] row by row, or the features as they are."""
    if source.kind in ("text", "set"):
        raise DataError(
            f"{source.name}: {source.kind}s have no vectors of their own; leave the method raw out."
        )
    items = source.load(np.arange(len(source)))
    vectors = items.reshape(len(items), -1).astype(np.float32)
    if source.kind == "image":
        vectors /= 255
    return VectorTable(ids=source.ids, vectors=vectors, labels=source.labels, class_names=source.class_names)


def _cell(
    task: Task,
    record: Mapping[str, Any],
    results: Results,
    table: VectorTable,
    history: tuple[Mapping[str, Any], ...] = (),
) -> Cell:
    return Cell(
        method=task.method.name,
        seed=task.seed,
        results=results,
        table=table,
        history=history,
        seconds=float(record["seconds"]),
        parameters=int(record["parameters"]),
        folder=task.place,
        dataset=task.dataset,
        fold=task.fold,
        trials=int(record["trials"]),
        memory_bytes=record["memory_bytes"],
        chosen=record["chosen"],
        items_seen=record["items_seen"],
    )


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where it is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(path: Path, record: Mapping[str, Any]) -> None:
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, lambda file: file.write(text.encode()))
