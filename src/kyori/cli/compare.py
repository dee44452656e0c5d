"""``kyori compare``: train the methods on DATA with equal budgets and say which wins, by how much, how surely."""

from __future__ import annotations

from pathlib import Path

import typer

from .console import JSON, note, stops_at_ctrl_c
from .overrides import OVERRIDES, ConfigCommand, parse_overrides

__all__ = ["register", "show"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("compare", cls=ConfigCommand)(compare)


@stops_at_ctrl_c
def compare(
    data: str = typer.Argument(
        ..., help="A folder of class folders, manifest, idx folder, .npz or 'digits'."
    ),
    methods: str | None = typer.Option(
        None, help="Names with commas between. By default one of each family."
    ),
    seeds: int = typer.Option(3, min=1, help="Trainings of each method."),
    measure: str = typer.Option("map@r", help="The measure that ranks."),
    out: Path | None = typer.Option(None, help="Folder to write. By default runs/compare-DATA."),
    config: Path | None = typer.Option(None, "-c", "--config", help="YAML file that all methods start from."),
    backbone: str | None = typer.Option(None, help="mlp, cnn, or any timm name."),
    epochs: int | None = typer.Option(None, help="Times that the training items are seen."),
    batch_size: int | None = typer.Option(None, help="Items in a batch."),
    lr: float | None = typer.Option(None, help="Learning rate."),
    lang: str = typer.Option("en", help="Language of sentence and report: en or ja."),
    overrides: list[str] = OVERRIDES,
    as_json: bool = JSON,
) -> None:
    """Find the method that suits DATA: equal budgets, several seeds, intervals, a recommendation.

    Any key of the configuration is an option for all methods: `--embedding-size 128`, `--flip true`.
    """
    from ..comparison import compare as run_comparison
    from ..comparison import default_folder
    from ..training import keep_memory

    keep_memory()

    folder = out or default_folder(data)
    board = run_comparison(
        data,
        methods=[name.strip() for name in methods.split(",")] if methods else None,
        seeds=seeds,
        measure=measure,
        out=folder,
        config=config,
        lang=lang,
        progress=True,
        **parse_overrides(overrides, backbone=backbone, epochs=epochs, batch_size=batch_size, lr=lr),
    )
    show(board, folder, lang=lang, as_json=as_json)


def show(board, folder: Path, *, lang: str, as_json: bool) -> None:  # type: ignore[no-untyped-def]  # Board is heavy
    """Print a board the way ``compare`` and ``quickstart`` do."""
    if as_json:
        print(board.to_json())
        return
    print(f"\n{board}\n\n{board.recommendation(lang)}")
    note(f"\nreport: {folder / 'report.html'}")
