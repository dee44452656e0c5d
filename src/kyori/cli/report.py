"""``kyori report``: write the page of a finished run again, in another language or with its figures as files."""

from __future__ import annotations

from pathlib import Path

import typer

from .console import JSON, note, print_json, stops_at_ctrl_c

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("report")(report)


@stops_at_ctrl_c
def report(
    run: Path = typer.Argument(..., help="A run folder of kyori train."),
    data: str = typer.Argument(..., help="The data that the run was trained on."),
    out: Path | None = typer.Option(
        None, help="The page to write. By default report.html in the run folder."
    ),
    lang: str = typer.Option("en", help="Language of the page: en or ja."),
    layout: str = typer.Option(
        "tsne", "--map", help="How the map is laid out: tsne, pca, or umap where umap-learn is installed."
    ),
    figures: Path | None = typer.Option(
        None, help="Also write each figure into this folder: .svg to print, .csv and .json with its numbers."
    ),
    as_json: bool = JSON,
) -> None:
    """Write the report page of a finished run again, and its figures as files."""
    from ..errors import ArgumentError, nearest_name
    from ..report import layouts
    from ..runs import open_part, report_run

    known = {name: name for name in layouts()}
    if layout not in known:
        raise ArgumentError(
            f"--map must be one of {', '.join(known)}; got '{layout}'{nearest_name(layout, list(known))}"
        )
    opened, items, _ = open_part(run, data, "test")
    page = report_run(
        opened, items, out or run / "report.html", lang=lang, layout=known[layout], figures_to=figures
    )
    files = sorted(str(path) for path in figures.iterdir()) if figures is not None else []
    if as_json:
        print_json({"report": str(page), "figures": files})
        return
    note(f"report: {page}" + (f"    figures: {len(files)} files in {figures}" if figures is not None else ""))
