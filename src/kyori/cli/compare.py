"""``kyori compare``: train the methods on DATA with equal budgets and say which wins, by how much, how surely."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .console import JSON, note, print_json, stops_at_ctrl_c
from .overrides import OVERRIDES, ConfigCommand, parse_overrides

if TYPE_CHECKING:
    from ..comparison import Board
    from ..comparison.grid import Grid

__all__ = ["register", "show"]

_FORMATS = ("table", "markdown", "latex", "json")


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("compare", cls=ConfigCommand)(compare)


@stops_at_ctrl_c
def compare(
    data: list[str] = typer.Argument(
        ..., help="A folder of class folders, manifest, idx folder, .npz or 'digits'; or several of them."
    ),
    methods: str | None = typer.Option(
        None, help="Names with commas between. By default one of each family."
    ),
    seeds: int = typer.Option(3, min=1, help="Trainings of each method, on each fold."),
    folds: int | None = typer.Option(
        None, min=1, help="Cross-validation with so many folds; by default 3 for unseen classes, else 1."
    ),
    unseen: bool | None = typer.Option(
        None,
        "--unseen/--seen",
        help="Test on classes never trained on, or on known ones. By default the data decide.",
    ),
    measure: str = typer.Option("map@r", help="The measure that ranks."),
    trials: int = typer.Option(0, min=0, help="Trials of a hyper-parameter search for each training."),
    jobs: int = typer.Option(1, min=1, help="Trainings at once, each in its own process."),
    threads: int | None = typer.Option(
        None, min=1, help="Threads of each training; by default all, divided by jobs."
    ),
    out: Path | None = typer.Option(None, help="Folder to write. By default runs/compare-DATA."),
    config: Path | None = typer.Option(None, "-c", "--config", help="YAML file that all methods start from."),
    backbone: str | None = typer.Option(None, help="mlp, cnn, or any timm name."),
    epochs: int | None = typer.Option(None, help="Times that the training items are seen."),
    batch_size: int | None = typer.Option(None, help="Items in a batch."),
    lr: float | None = typer.Option(None, help="Learning rate."),
    lang: str = typer.Option("en", help="Language of sentence and report: en or ja."),
    report: bool = typer.Option(
        True,
        "--report/--no-report",
        help="Whether the report page is written; the same command without --no-report makes it later.",
    ),
    figures: Path | None = typer.Option(
        None, help="Also write each figure of the report into this folder: .svg, .csv and .json."
    ),
    form: str = typer.Option(
        "table", "--format", help="How the board is printed: table, markdown, latex, json."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show what would be trained, and train nothing."),
    overrides: list[str] = OVERRIDES,
    as_json: bool = JSON,
) -> None:
    """Find the method that suits DATA: equal budgets, several seeds, intervals, a recommendation.

    Any key of the configuration is an option for all methods: `--embedding-size 128`, `--flip`.
    The exit code is 1 where some trainings failed and the board is of the others.
    """
    from ..comparison import compare as run_comparison
    from ..comparison import default_folder, plan
    from ..errors import ArgumentError, nearest_name
    from ..runs import resolve_config
    from ..training import keep_memory

    if form not in _FORMATS:
        raise ArgumentError(f"unknown format '{form}'{nearest_name(form, _FORMATS)}")
    keep_memory()

    folder = out or default_folder(data)
    options = parse_overrides(overrides, backbone=backbone, epochs=epochs, batch_size=batch_size, lr=lr)
    resolve_config(config, **options)  # says here what is no key, before it is taken for an argument
    grid: dict[str, Any] = {
        "methods": [name.strip() for name in methods.split(",")] if methods else None,
        "seeds": seeds,
        "folds": folds,
        "unseen": unseen,
        "measure": measure,
        "trials": trials,
        "out": folder,
        "config": config,
        "progress": True,
        **options,
    }
    what = data[0] if len(data) == 1 else data
    if dry_run:
        _show_plan(plan(what, **grid), as_json=as_json)
        return
    board = run_comparison(
        what, jobs=jobs, threads=threads, lang=lang, report=report, figures=figures, **grid
    )
    show(board, folder, lang=lang, as_json=as_json, form=form, report=report)


def _show_plan(grid: Grid, *, as_json: bool) -> None:
    state = grid.state()
    if as_json:
        print_json(state)
        return
    missing = [cell for cell in state if not cell["finished"]]
    for cell in state:
        fold = "" if cell["fold"] is None else f"fold {cell['fold']} "
        done = "finished" if cell["finished"] else "to train"
        print(f"{done}  {cell['dataset']}  {cell['method']:<18} {fold}seed {cell['seed']}")
    trainings = sum(cell["trials"] + 1 for cell in missing)
    print(
        f"{len(missing)} of {len(state)} cells to train: {trainings} trainings with the trials of the search"
    )


def show(
    board: Board, folder: Path, *, lang: str, as_json: bool, form: str = "table", report: bool = True
) -> None:
    """Print a board the way ``compare`` and ``quickstart`` do; end with exit code 1 where cells are missing."""
    if as_json or form == "json":
        print(board.to_json())
    elif form in ("markdown", "latex"):
        print(board.to_markdown() if form == "markdown" else board.to_latex(), end="")
    else:
        print(f"\n{board}\n\n{board.recommendation(lang)}")
        from ..comparison.next_steps import next_steps

        if commands := next_steps(board):
            note("\nnext:\n  " + "\n  ".join(commands))
        note(f"\n{'report' if report else 'board'}: {folder / ('report.html' if report else 'board.json')}")
    if board.failures:
        note(f"{len(board.failures)} cells are missing, see above; the same command tries them again.")
        raise typer.Exit(1)
