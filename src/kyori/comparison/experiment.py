"""`compare`: every method trained on the same data with the same budget, several times each."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Source, Split
from ..errors import ArgumentError, DataError, KyoriError
from ..evaluation import evaluate
from ..runs import (
    finished_run,
    fit_split,
    open_data,
    resolve_config,
    short_name,
    split_source,
    unit_of,
)
from ..training import RunConfig
from ..vectors import VectorTable
from .board import Board, Cell
from .linear import linear_cell
from .methods import DEFAULT_METHODS, Method, resolve
from .page import write_report

__all__ = ["QUICKSTART", "compare", "default_folder", "raw_table"]

#: The settings of ``kyori quickstart``: small enough for two minutes on a laptop's CPU.
QUICKSTART: dict[str, Any] = {
    "backbone": "cnn",
    "epochs": 40,
    "batch_size": 128,
    "per_class": 12,
    "fractions": (0.5, 0.1, 0.4),
}


def default_folder(data: str) -> Path:
    """Return ``runs/compare-<data>``."""
    return Path("runs") / f"compare-{short_name(data)}"


def compare(
    data: Any,
    *,
    labels: Any = None,
    methods: Sequence[str | Method | Mapping[str, Any]] | None = None,
    seeds: int = 3,
    measure: str = "map@r",
    out: str | Path | None = None,
    config: RunConfig | str | Path | None = None,
    lang: str = "en",
    progress: bool = False,
    **options: Any,
) -> Board:
    """Train the methods on the same data with equal budgets and rank them, with intervals.

    All methods see the same training items equally often, through the same backbone, batches of the same size and the
    same optimizer; each epoch is judged on the validation items, and the test items are measured once, at the end. The
    split is the same for all methods and seeds, so that differences are paired query by query; a seed changes
    the initial weights, the batches and the dropout. Linear methods learn on the same training items, in the way that
    :mod:`kyori.comparison.linear` says; the budget of the networks is not theirs.

    Args:
        data: Whatever :func:`kyori.open_source` opens.
        labels: Labels ``(n,)`` where ``data`` is an array without them.
        methods: Names of ``kyori.comparison.METHODS`` or mappings such as
            ``{"name": "wide margin", "loss": "triplet", "margin": 0.5}``; by default one of each family.
        seeds: Number of trainings of each method, ≥ 1.
        measure: The measure that ranks.
        out: Folder for ``report.html``, ``board.json`` and a run folder for each training; what is finished in
            it already, with the same data and configuration, is not trained again. None writes nothing.
        config: A configuration (or YAML file) that all methods start from.
        lang: Language of the report, ``"en"`` or ``"ja"``.
        progress: Say on stderr how far it is.
        **options: Any key of the configuration, for all methods: ``epochs=5, backbone="cnn"``.

    Returns:
        The board: ``board.rows()``, ``board.comparisons()``, ``board.recommendation()``.

    Raises:
        ArgumentError: An unknown method, measure or option.
        DataError: The data cannot be used, or leave no test items.

    Example:
        >>> board = compare("digits", methods=["raw", "softmax"], seeds=1, epochs=1)
        >>> [row.method for row in board.rows()]  # doctest: +SKIP
        ['softmax', 'raw']
    """
    if seeds < 1:
        raise ArgumentError(f"seeds must be at least 1; got {seeds}.")
    chosen = resolve(DEFAULT_METHODS if methods is None else methods)
    base = resolve_config(config, **options)
    configs = {m.name: _config_of(m, base, measure) for m in chosen if m.loss is not None}
    source = open_data(data, base, labels=labels, progress=progress)
    split = split_source(source, base)
    if len(split.test) == 0:
        raise DataError(f"{source.name} leaves no test items; give a split with a test part.")
    folder = Path(out) if out is not None else None
    trained = [method for method in chosen if method.loss is not None or method.linear is not None]
    say = _Progress(len(trained) * seeds, measure) if progress else None
    cells: list[Cell] = []
    for method in chosen:
        if method not in trained:
            cells.append(_raw_cell(method.name, split.test, base))
            continue
        for seed in range(base.seed, base.seed + seeds):
            cell = (
                _linear_cell(method, seed, split, base, folder)
                if method.linear is not None
                else _train_cell(method.name, seed, split, configs[method.name], folder)
            )
            cells.append(cell)
            if say is not None:
                say(cell)
    board = Board(
        data=source.name,
        measure=measure,
        cells=tuple(cells),
        budget=_budget(split, base),
        unit=unit_of(base),
        command=_command(source.name, [m.name for m in chosen], seeds, measure, options),
    )
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        board.to_json(folder / "board.json")
        write_report(board, split.test, folder / "report.html", lang=lang)
    return board


def raw_table(source: Source) -> VectorTable:
    """Return the items themselves as vectors: pixels in [0, 1] row by row, or the features as they are."""
    items = source.load(np.arange(len(source)))
    vectors = items.reshape(len(items), -1).astype(np.float32)
    if source.kind == "image":
        vectors /= 255
    return VectorTable(ids=source.ids, vectors=vectors, labels=source.labels, class_names=source.class_names)


def _config_of(method: Method, base: RunConfig, measure: str) -> RunConfig:
    try:
        return RunConfig.from_options(base, loss=method.loss, **{"measure": measure, **method.options})
    except KyoriError as error:
        raise ArgumentError(f"method '{method.name}': {error}") from error


def _raw_cell(name: str, test: Source, config: RunConfig) -> Cell:
    table = raw_table(test)
    results = evaluate(table, seed=config.seed, unit=unit_of(config))
    return Cell(name, config.seed, results, table)


def _train_cell(name: str, seed: int, split: Split, config: RunConfig, folder: Path | None) -> Cell:
    config = config.model_copy(update={"seed": seed})
    place = _place(name, seed, folder)
    run = finished_run(place, split, config) if place is not None else None
    if run is None:
        run = fit_split(split, config, folder=place, overwrite=True)
    if run.results is None or run.table is None:
        raise DataError("no test items were measured.")
    return Cell(
        method=name,
        seed=seed,
        results=run.results,
        table=run.table,
        history=run.history,
        seconds=run.seconds,
        parameters=run.embedder.parameter_count,
        folder=place,
    )


def _linear_cell(method: Method, seed: int, split: Split, config: RunConfig, folder: Path | None) -> Cell:
    place = _place(method.name, seed, folder)
    try:
        return linear_cell(method.name, str(method.linear), method.options, seed, split, config, place)
    except ArgumentError as error:
        raise ArgumentError(f"method '{method.name}': {error}") from error


def _place(name: str, seed: int, folder: Path | None) -> Path | None:
    return folder / "cells" / re.sub(r"[^\w.-]+", "-", name) / f"seed-{seed}" if folder else None


class _Progress:
    """One line a cell on stderr: what was measured, how long it took, what is left."""

    def __init__(self, total: int, measure: str):
        self.total, self.measure, self.done, self.start = total, measure, 0, time.monotonic()

    def __call__(self, cell: Cell) -> None:
        self.done += 1
        left = (time.monotonic() - self.start) / self.done * (self.total - self.done)
        value = 100 * cell.results[self.measure].value
        print(
            f"[{self.done:>{len(str(self.total))}}/{self.total}] {cell.method:<18} seed {cell.seed}  "
            f"{self.measure} {value:5.1f}  {cell.seconds:6.1f} s  about {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )


def _budget(split: Split, config: RunConfig) -> dict[str, Any]:
    training = config.training
    chosen = training.keep == "best" and len(split.validation) > 0
    return {
        "train_items": len(split.train),
        "validation_items": len(split.validation),
        "split": config.data.split,
        "epochs": training.epochs,
        "items_seen": training.epochs * len(split.train),
        "kept": "best epoch" if chosen else "last epoch",
        "backbone": config.model.backbone,
        "embedding_size": config.model.embedding_size,
        "batch_size": config.batches.batch_size,
        "optimizer": config.optimizer.name,
        "lr": config.optimizer.lr,
    }


def _command(name: str, methods: Sequence[str], seeds: int, measure: str, options: Mapping[str, Any]) -> str:
    words = ["kyori", "compare", name, "--methods", ",".join(methods), "--seeds", str(seeds)]
    words += ["--measure", measure] if measure != "map@r" else []
    for key, value in options.items():
        text = json.dumps(value) if isinstance(value, list | tuple | dict | bool) else str(value)
        words += [f"--{key.replace('_', '-')}", text]
    return shlex.join(words)
