"""``kyori explore``: a map of all items in the browser, with pictures and nearest neighbours."""

from __future__ import annotations

import threading
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from .console import JSON, note, print_json, stops_at_ctrl_c

if TYPE_CHECKING:
    from ..exploring import Explorer

__all__ = ["register"]

Metric = Literal["euclidean", "cosine"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("explore")(explore)


@stops_at_ctrl_c
def explore(
    run: Path = typer.Argument(..., help="A run folder, or vectors that kyori embed wrote (.parquet, .npz)."),
    data: str | None = typer.Argument(
        None,
        help="Items to encode in place of RUN's test items; with a file of vectors only for the pictures.",
    ),
    part: str = typer.Option(
        "auto",
        help="train, validation, test or all of DATA; auto: the test part of the run's own data, else all.",
    ),
    projection: str | None = typer.Option(
        None, help="tsne, umap or pca, of all items. By default tsne up to 20,000 items, pca beyond."
    ),
    color: str | None = typer.Option(None, help="Column to colour by. By default the label."),
    metric: Metric = typer.Option("euclidean", help="Distance of the neighbours: euclidean or cosine."),
    lang: str = typer.Option("en", help="Language of the page: en or ja."),
    port: int = typer.Option(8001, min=0, max=65535, help="TCP port of this machine; 0 takes a free one."),
    browser: bool = typer.Option(True, "--browser/--no-browser", help="Open the page in the browser."),
    seed: int = typer.Option(0, help="Of the map."),
    as_json: bool = JSON,
) -> None:
    """Explore RUN in the browser: a map of all items, pictures, nearest neighbours, search, selections.

    The page is served to this machine only, and loads nothing from elsewhere. Ctrl-C stops it.
    """
    from ..exploring import Explorer, open_scene
    from ..optional import require
    from ..report.words import Words

    Words(lang)  # before anything takes minutes
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        require(package, extra="serve", purpose="kyori explore")
    scene = open_scene(run, data, part)
    if scene.note:
        note(f"note: {scene.note}")
    explorer = Explorer(
        scene, port=port, projection=projection, colour=color, metric=metric, lang=lang, seed=seed
    )
    layouts = explorer.desk.layouts
    if as_json:
        print_json(
            {
                "address": explorer.address,
                "items": len(scene.table),
                "projection": layouts.wanted,
                "columns": explorer.desk.columns,
                "metric": metric,
            }
        )
    else:
        note(f"{scene.name}: {len(scene.table):,} items at {explorer.address}    (Ctrl-C stops)")
        if projection is None and layouts.wanted == "pca":
            note("all items are on the map, by PCA as there are many; --projection tsne takes minutes")
    if browser:
        threading.Thread(target=_open, args=(explorer,), daemon=True).start()
    explorer.run()


def _open(explorer: Explorer) -> None:
    while not explorer.started:
        time.sleep(0.05)
    if not webbrowser.open(explorer.address):
        note(f"no browser was found; open {explorer.address}")
