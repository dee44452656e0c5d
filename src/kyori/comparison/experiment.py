"""`compare`: every method trained on the same data with the same budget, several times each."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ..errors import ArgumentError, DataWarning, nearest_name
from ..evaluation.measures import plan_measures
from ..runs import resolve_config, short_name
from ..training import RunConfig
from .board import Board
from .budget import shared_budget
from .cells import raw_table
from .folding import Folding, decide
from .grid import Grid, make_grid, open_all
from .methods import DEFAULT_METHODS, Method, resolve
from .occupied import occupied
from .page import write_report

__all__ = ["QUICKSTART", "compare", "default_folder", "plan", "raw_table"]

#: The settings of ``kyori quickstart``: small enough for two minutes on a laptop's CPU.
QUICKSTART: dict[str, Any] = {
    "backbone": "cnn",
    "epochs": 40,
    "batch_size": 128,
    "per_class": 12,
    "fractions": (0.5, 0.1, 0.4),
}


def default_folder(data: str | Sequence[str]) -> Path:
    """Return ``runs/compare-<data>``.

    >>> default_folder(["digits", "photos/cats.csv"]).as_posix()
    'runs/compare-digits-cats'
    """
    names = [data] if isinstance(data, str) else data
    return Path("runs") / "-".join(["compare", *map(short_name, names)])


def compare(
    data: Any,
    *,
    labels: Any = None,
    methods: Sequence[str | Method | Mapping[str, Any]] | None = None,
    seeds: int = 3,
    folds: int | None = None,
    unseen: bool | None = None,
    measure: str = "map@r",
    trials: int = 0,
    jobs: int = 1,
    threads: int | None = None,
    out: str | Path | None = None,
    config: RunConfig | str | Path | None = None,
    lang: str = "en",
    report: bool = True,
    figures: str | Path | None = None,
    progress: bool = False,
    **options: Any,
) -> Board:
    """Train the methods on the same data with equal budgets and rank them, with intervals.

    The grid is methods × data sets × folds × seeds, and each cell is a training in a folder of its own. All methods see
    the same training items equally often, through the same backbone and augmentation, in batches of the same size, and
    search as often for their hyper-parameters; a method that sets one of these for itself is an error. Each epoch is
    judged on the validation items, each trial of a search on a part of the training items, and the test items are
    measured once, at the end. The parts are the same for all methods and seeds, so that differences are paired query by
    query; a seed changes the initial weights, the batches, the dropout and the search. Linear methods learn on the same
    training items, in the way that :mod:`kyori.comparison.linear` says; they know no epochs.

    Args:
        data: Whatever :func:`kyori.open_source` opens; or several data sets: a list of paths, names or sources, or a
            mapping from names to data.
        labels: Labels ``(n,)`` where ``data`` is an array without them.
        methods: Names of ``kyori.comparison.METHODS`` or mappings such as
            ``{"name": "wide margin", "loss": "triplet", "margin": 0.5}``; by default one of each family.
        seeds: Number of trainings of each method on each fold, ≥ 1.
        folds: K-fold cross-validation: each of K parts is the test part once; 1 makes a single split. None takes 3
            where the question is unseen classes, else 1.
        unseen: Whether the test items shall be of classes that training never sees. None decides by the data: see
            :func:`kyori.comparison.folding.decide`. A split that the data bring is followed.
        measure: The measure that ranks, and that validation and search maximize.
        trials: Trials of a hyper-parameter search (Optuna) for each cell, the first one with the defaults; 0 trains
            with the defaults. ``kyori.comparison.spaces`` holds what is searched.
        jobs: Cells trained at once, each in a process of its own. The numbers do not depend on it, given the same
            ``threads``.
        threads: Threads that each cell computes with. None takes all with ``jobs=1`` and divides them by ``jobs``
            otherwise; another number of threads adds in another order, so the last digits change.
        out: Folder for ``report.html``, ``board.json`` and a run folder for each cell; what is finished in
            it already, with the same data and settings, is not trained again, and what is there with other settings
            stays as it is. None writes nothing.
        config: A configuration (or YAML file) that all methods start from.
        lang: Language of the report, ``"en"`` or ``"ja"``.
        report: Whether ``report.html`` is written, which can take longer than a small grid; the same call with the
            default makes it later out of the finished cells.
        figures: Folder for each figure of the report as SVG, CSV and JSON; needs ``out``. None writes none.
        progress: Say on stderr how far it is.
        **options: Any key of the configuration, for all methods: ``epochs=5, backbone="cnn"``.

    Returns:
        The board: ``board.rows()``, ``board.comparisons()``, ``board.recommendation()``. Cells that failed are in
        ``board.failures``, and the others go on without them.

    Raises:
        ArgumentError: An unknown method, measure or option, budgets that would differ, or another comparison is
            writing into ``out``.
        DataError: The data cannot be used, have one class, or too few for the folds.
        MissingExtraError: ``trials`` without Optuna (``pip install "kyori[tune]"``).
        TrainingError: Every cell failed.
        Interrupted: Ctrl-C; finished cells are kept, and the same call goes on.

    Example:
        >>> board = compare("digits", methods=["raw", "softmax"], seeds=1, epochs=1)
        >>> [row.method for row in board.rows()]  # doctest: +SKIP
        ['softmax', 'raw']
    """
    if figures is not None and (out is None or not report):
        why = "out=None does not write; give out a folder." if out is None else "report=False does not write."
        raise ArgumentError(f"figures are those of the report, which {why}")
    for name, value, least in (
        ("jobs", jobs, 1),
        ("threads", threads, 1),
        ("trials", trials, 0),
        ("seeds", seeds, 1),
    ):
        _check_count(name, value, least)
    folder = Path(out) if out is not None else None
    with contextlib.ExitStack() as stack:
        place = folder
        if folder is not None:
            stack.enter_context(occupied(folder))
        elif jobs > 1:  # other processes hand their cells over as files
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kyori-")))
        grid, base, chosen = _prepare(
            data, labels, methods, seeds, folds, unseen, measure, trials, place, config, progress, options
        )
        leaks = grid.leaks()
        for leak in leaks:
            warnings.warn(str(leak), DataWarning, stacklevel=2)
        cells, failures = grid.run(jobs=jobs, threads=threads, measure=measure, progress=progress)
        if folder is None:
            cells = tuple(replace(cell, folder=None) for cell in cells)
        board = Board(
            data=grid.data,
            measure=measure,
            cells=cells,
            budget=shared_budget(
                grid.foldings, list(grid.splits.values()), cells, base, trials, grid.batch_sizes
            ),
            unit=_unit(grid.foldings),
            command=_command(
                grid.sources.values(), chosen, seeds, measure, folds, unseen, trials, config, options
            ),
            failures=failures,
            sources=grid.sources,
            leaks=leaks,
        )
        if folder is not None:
            file, page = folder / "board.json", folder / "report.html"
            before = file.read_bytes() if file.exists() else b""
            board.to_json(file)
            if report:
                shown = board.of(board.winner)[0]
                items = grid.splits[shown.dataset, shown.fold].test
                write_report(board, items, page, lang=lang, figures_to=figures)
            elif file.read_bytes() != before:
                page.unlink(missing_ok=True)  # it shows another board
    return board


def plan(
    data: Any,
    *,
    labels: Any = None,
    methods: Sequence[str | Method | Mapping[str, Any]] | None = None,
    seeds: int = 3,
    folds: int | None = None,
    unseen: bool | None = None,
    measure: str = "map@r",
    trials: int = 0,
    out: str | Path | None = None,
    config: RunConfig | str | Path | None = None,
    progress: bool = False,
    **options: Any,
) -> Grid:
    """Return the grid that :func:`compare` would run with these arguments; nothing is trained and nothing is written.

    >>> grid = plan("digits", methods=["raw", "softmax"], seeds=2, folds=3)
    >>> len(grid.tasks), grid.foldings[0].unseen
    (9, False)
    """
    _check_count("trials", trials, 0)
    _check_count("seeds", seeds, 1)
    folder = Path(out) if out is not None else None
    return _prepare(
        data, labels, methods, seeds, folds, unseen, measure, trials, folder, config, progress, options
    )[0]


def _prepare(
    data: Any,
    labels: Any,
    methods: Sequence[str | Method | Mapping[str, Any]] | None,
    seeds: int,
    folds: int | None,
    unseen: bool | None,
    measure: str,
    trials: int,
    folder: Path | None,
    config: RunConfig | str | Path | None,
    progress: bool,
    options: Mapping[str, Any],
) -> tuple[Grid, RunConfig, list[Method]]:
    chosen = resolve(DEFAULT_METHODS if methods is None else methods)
    base = resolve_config(config, **{"measure": measure, **options})
    _check_measure(measure)
    foldings = {
        name: decide(source, base, unseen=unseen, folds=folds)
        for name, source in open_all(data, base, labels=labels, progress=progress)
    }
    if progress:
        _say_question(foldings, unseen)
    _unit(list(foldings.values()))
    return make_grid(chosen, foldings, seeds=seeds, trials=trials, folder=folder), base, chosen


def _check_count(name: str, value: int | None, least: int) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise ArgumentError(f"{name} must be a whole number of at least {least}; got {value!r}.")


def _check_measure(measure: str) -> None:
    """Before hours of training, not after: the measures of a cell are the default ones."""
    known = [found.key for found in plan_measures(None, (1, 5, 10), (1e-3, 1e-2), None)]
    if measure not in known:
        raise ArgumentError(
            f"measure '{measure}' is none that a cell is measured by{nearest_name(measure, known)}"
        )


def _unit(foldings: Sequence[Folding]) -> Literal["query", "class"]:
    """What intervals resample: whole classes where all data ask about unseen ones.

    Raises:
        ArgumentError: Some data ask about unseen classes and others do not; one board cannot answer both.
    """
    kinds = {folding.unseen for folding in foldings}
    if len(kinds) > 1:
        said = "; ".join(
            f"{f.source.name}: {'unseen' if f.unseen else 'seen'} classes ({f.reason})" for f in foldings
        )
        raise ArgumentError(
            f"the data sets ask different questions, {said}. Say unseen=True or unseen=False (--unseen, --seen) for "
            "all, or compare on each alone."
        )
    return "class" if kinds == {True} else "query"


def _say_question(foldings: Mapping[str, Folding], unseen: bool | None) -> None:
    for name, folding in foldings.items():
        asked = "unseen classes" if folding.unseen else "seen classes"
        folds = f"{len(folding.folds)} folds" if len(folding.folds) > 1 else "a single split"
        hint = f"; {'--seen' if folding.unseen else '--unseen'} asks the other question" * (unseen is None)
        print(f"{name}: how well for {asked} ({folding.reason}), {folds}{hint}", file=sys.stderr, flush=True)


def _command(
    places: Iterable[str],
    methods: Sequence[Method],
    seeds: int,
    measure: str,
    folds: int | None,
    unseen: bool | None,
    trials: int,
    config: RunConfig | str | Path | None,
    options: Mapping[str, Any],
) -> str:
    words = [
        "kyori",
        "compare",
        *places,
        "--methods",
        ",".join(m.name for m in methods),
        "--seeds",
        str(seeds),
    ]
    words += ["--folds", str(folds)] if folds is not None else []
    words += ["--unseen" if unseen else "--seen"] if unseen is not None else []
    words += ["--trials", str(trials)] if trials else []
    words += ["--measure", measure] if measure != "map@r" else []
    words += ["--config", str(config)] if isinstance(config, str | Path) else []
    for key, value in options.items():
        text = json.dumps(value) if isinstance(value, list | tuple | dict | bool) else str(value)
        words += [f"--{key.replace('_', '-')}", text]
    return shlex.join(words)
