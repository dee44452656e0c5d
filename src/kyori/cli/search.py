"""``kyori search``: what is most like a picture, a vector, a text, or an item of the index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import ArgumentError
from .console import JSON, note, print_json, stops_at_ctrl_c
from .queries import Kind, Pictures, chance, drawn, vector_of
from .rerankers import Way, reranker

if TYPE_CHECKING:
    from ..index import Index
    from ..recognition import Hit

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("search")(search)


@stops_at_ctrl_c
def search(
    run: Path = typer.Argument(..., help="A run folder with an index."),
    query: str = typer.Argument(
        ...,
        help="A picture, an array (.npy: an item or its vector), the id of an item of the index, or a text.",
    ),
    k: int = typer.Option(10, "-k", min=1, help="How many items to show."),
    kind: Kind = typer.Option(
        "auto",
        "--as",
        help="What QUERY is: item (a picture or what else the model takes), vector (its embedding), id or text; "
        "found out if left out.",
    ),
    url: str | None = typer.Option(None, help="Where the index is, if not where kyori index put it."),
    label: list[str] = typer.Option([], help="Only items of this label; may be given several times."),
    rerank: Way | None = typer.Option(
        None, help="expansion (α query expansion), reciprocal, or pairwise (trained)."
    ),
    pictures: bool | None = typer.Option(
        None,
        "--pictures/--no-pictures",
        help="Small pictures in the table; where the terminal can, if left out.",
    ),
    html: Path | None = typer.Option(None, help="Also write a page with pictures to this file."),
    as_json: bool = JSON,
) -> None:
    """Show the items of the index that are nearest to QUERY, with labels, distances and (calibrated) probabilities."""
    from ..recognition import Recogniser

    if html is not None and not html.parent.is_dir():
        raise ArgumentError(f"--html must name a file in a folder that is there; {html.parent} is not.")
    with Recogniser.open(run, url=url) as recogniser:
        index = recogniser.index
        way = None if rerank is None else reranker(run, rerank, recogniser.metric)
        vector, own = vector_of(recogniser, query, kind)
        where: dict[str, Any] | None = {"label": [_label(index, name) for name in label]} if label else None
        # An item's own entry is not what is asked for; one more is asked for and it is left out.
        hits = recogniser.search_vectors(vector, k + (own is not None), where, rerank=way)[0]
        hits = [hit for hit in hits if own is None or hit.id != own][:k]
        metric = index.metric
    unit = (
        f"{metric} distance"
        if rerank in (None, "expansion")
        else "1 − probability"
        if rerank == "pairwise"
        else "d*"
    )
    if html is not None:
        _write_page(html, run, query, own, kind, hits, unit)
    if as_json:
        rows = [{"rank": rank, **hit.as_dict()} for rank, hit in enumerate(hits, 1)]
        print_json({"query": query, "metric": metric, "rerank": rerank, "matches": rows})
    else:
        _print(run, hits, unit, pictures)
    if html is not None:
        note(f"page: {html}")


def _label(index: Index, name: str) -> Any:
    if "label" not in index.columns:
        raise ArgumentError("the items of this index have no labels; leave --label out.")
    if index.columns["label"] == "int":
        if not name.lstrip("-").isdigit():
            raise ArgumentError(f"--label must be an integer, as the labels of this index are; got {name!r}.")
        return int(name)
    return name


def _print(run: Path, hits: list[Hit], unit: str, pictures: bool | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from .blocks import blocks, can_show

    console = Console()
    wanted = can_show(console) if pictures is None else pictures
    shown = Pictures(run) if wanted else None
    probable = any(hit.probability is not None for hit in hits)
    table = Table(show_lines=shown is not None)
    table.add_column("rank", justify="right")
    if shown is not None:
        table.add_column("", no_wrap=True)
    table.add_column("id", overflow="fold")
    table.add_column("label", overflow="fold")
    table.add_column(unit, justify="right")
    if probable:
        table.add_column("probability", justify="right")
    for rank, hit in enumerate(hits, 1):
        cells: list[Any] = [str(rank), *([blocks(shown.of(hit.id))] if shown is not None else [])]
        cells += [Text(str(hit.id)), Text("" if hit.label is None else str(hit.label)), f"{hit.distance:.4f}"]
        if probable:
            cells.append(chance(hit.probability))
        table.add_row(*cells)
    console.print(table)


def _write_page(path: Path, run: Path, query: str, own: Any, kind: Kind, hits: list[Hit], unit: str) -> None:
    """Write the query and what was found as a page, with pictures where the data are still there."""
    from ..report.page import Gallery, Heading, Section, Tile, render, tag, write_page
    from ..report.thumbnails import thumbnail

    pictures = Pictures(run)
    asked = pictures.of(own) if own is not None else drawn(query, kind)
    tiles = [Tile([thumbnail("" if asked is None else asked, f"query {query}")], tag("b", query))]
    for hit in hits:
        item = pictures.of(hit.id)
        label = "" if hit.label is None else str(hit.label)
        picture = thumbnail(str(hit.id) if item is None else item, f"{hit.id} {label}")
        probable = "" if hit.probability is None else f" p {chance(hit.probability)}"
        caption = [tag("b", label or hit.id), tag("span", f" {hit.distance:.4f}{probable}")]
        tiles.append(Tile([picture], tag("span", *caption, title=str(hit.id))))
    sections: list[Section] = [
        Heading("Query", "query"),
        Gallery("", tiles[:1]),
        Heading(f"The {len(hits)} nearest items", "found", f"{unit} below each picture"),
        Gallery("", tiles[1:]),
    ]
    write_page(path, render(f"Most like {query}", sections, lang="en", kicker="Kyori", contents="Contents"))
