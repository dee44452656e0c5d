"""``kyori quickstart``: compare the methods on the built-in handwritten digits."""

from __future__ import annotations

from pathlib import Path

import typer

from .console import JSON, note, stops_at_ctrl_c

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("quickstart")(quickstart)


@stops_at_ctrl_c
def quickstart(
    out: Path = typer.Option(Path("runs/quickstart"), help="Folder to write."),
    seeds: int = typer.Option(3, min=1, help="Trainings of each method."),
    lang: str = typer.Option("en", help="Language of sentence and report: en or ja."),
    as_json: bool = JSON,
) -> None:
    """Compare the methods on built-in handwritten digits and write a report page."""
    note("Comparing the methods on 1,797 handwritten digits; this takes a minute or two on a laptop.")
    from ..comparison import QUICKSTART, compare
    from ..training import keep_memory
    from .compare import show

    keep_memory()

    board = compare("digits", seeds=seeds, out=out, lang=lang, progress=True, **QUICKSTART)
    show(board, out, lang=lang, as_json=as_json)
