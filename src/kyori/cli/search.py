"""``kyori search``: what is most like a picture, a vector, or an item of the index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from ..errors import ArgumentError, DataError, FileFormatError
from .console import JSON, note, print_json, stops_at_ctrl_c
from .index import read_note

if TYPE_CHECKING:
    import numpy as np

    from ..index import Index
    from ..vectors import VectorTable

__all__ = ["register"]

Rerank = Literal["expansion", "reciprocal"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("search")(search)


@stops_at_ctrl_c
def search(
    run: Path = typer.Argument(..., help="A run folder with an index."),
    query: str = typer.Argument(..., help="A picture, a vector (.npy), or the id of an item of the index."),
    k: int = typer.Option(10, "-k", min=1, help="How many items to show."),
    url: str | None = typer.Option(None, help="Where the index is, if not where kyori index put it."),
    label: list[str] = typer.Option([], help="Only items of this label; may be given several times."),
    rerank: Rerank | None = typer.Option(None, help="expansion (α query expansion) or reciprocal."),
    html: Path | None = typer.Option(None, help="Also write a page with pictures to this file."),
    as_json: bool = JSON,
) -> None:
    """Show the items of the index that are nearest to QUERY, with their labels and distances."""
    from ..index import KReciprocal, QueryExpansion, open_index

    place = url or _noted(run)
    options = {"expansion": QueryExpansion(), "reciprocal": KReciprocal(), None: None}
    with open_index(place, create=False, read_only=_is_folder(place)) as index:
        vector, own = _vector(run, query, index)
        where: dict[str, Any] | None = {"label": [_label(index, name) for name in label]} if label else None
        # An item's own entry is not what is asked for; one more is asked for and it is left out.
        found = index.search(vector, k + (own is not None), where, rerank=options[rerank])
        pairs = [
            (id_, float(distance))
            for id_, distance in zip(found.ids[0].tolist(), found.distances[0].tolist(), strict=True)
            if distance != float("inf") and (own is None or id_ != own)
        ][:k]
        items = index.get([id_ for id_, _ in pairs])
        metric = index.metric
    rows = [
        {"rank": rank, "id": id_, "label": _name(items, rank - 1), "distance": distance}
        for rank, (id_, distance) in enumerate(pairs, 1)
    ]
    if html is not None:
        _write_page(html, run, query, own, rows, metric)
    if as_json:
        print_json({"query": query, "metric": metric, "matches": rows})
    else:
        _print(rows, metric)
    if html is not None:
        note(f"page: {html}")


def _noted(run: Path) -> str:
    place = str(read_note(run)["url"])
    if ":***@" in place:
        raise ArgumentError(
            f"the password of {place} is not kept in the run; give the whole address with --url."
        )
    return place


def _is_folder(place: str) -> bool:
    return Path(place.removeprefix("faiss:")).is_dir()


def _vector(run: Path, query: str, index: Index) -> tuple[np.ndarray, Any]:
    """Return the query's vector, and its id where it is an item of the index."""
    import numpy as np

    if Path(query).is_file():
        if query.endswith(".npy"):
            try:
                return np.load(query, allow_pickle=False), None
            except ValueError as error:
                raise FileFormatError(f"{query} is no NumPy array of numbers: {error}") from error
        from ..runs import open_run

        return open_run(run).embedder.encode([query])[0], None
    own: Any = query
    if index.statistics().get("ids") == "int":
        if not query.lstrip("-").isdigit():
            raise ArgumentError(
                f"QUERY must be a file or the id of an item, an integer in this index; got {query!r}."
            )
        own = int(query)
    try:
        return index.get([own]).vectors[0], own
    except DataError as error:
        raise ArgumentError(f"QUERY must be a file or the id of an item; {query!r} is neither.") from error


def _label(index: Index, name: str) -> Any:
    if "label" not in index.columns:
        raise ArgumentError("the items of this index have no labels; leave --label out.")
    if index.columns["label"] == "int":
        if not name.lstrip("-").isdigit():
            raise ArgumentError(f"--label must be an integer, as the labels of this index are; got {name!r}.")
        return int(name)
    return name


def _name(items: VectorTable, row: int) -> Any:
    if items.labels is None:
        return None
    label = int(items.labels[row])
    return items.class_names[label] if items.class_names else label


def _print(rows: list[dict[str, Any]], metric: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("rank", justify="right")
    table.add_column("id", overflow="fold")
    table.add_column("label", overflow="fold")
    table.add_column(f"{metric} distance", justify="right")
    for row in rows:
        label = "" if row["label"] is None else str(row["label"])
        table.add_row(str(row["rank"]), Text(str(row["id"])), Text(label), f"{row['distance']:.4f}")
    Console().print(table)


def _write_page(path: Path, run: Path, query: str, own: Any, rows: list[dict[str, Any]], metric: str) -> None:
    """Write the query and what was found as a page, with pictures where the data are still there."""
    from ..report.page import Gallery, Heading, Section, Tile, render, tag, write_page
    from ..report.thumbnails import thumbnail

    pictures = _Pictures(run)
    asked = pictures.of(own) if own is not None else _picture(query)
    tiles = [Tile([thumbnail(asked, f"query {query}") if asked is not None else ""], tag("b", query))]
    for row in rows:
        item = pictures.of(row["id"])
        label = "" if row["label"] is None else str(row["label"])
        picture = thumbnail(item, f"{row['id']} {label}") if item is not None else tag("p", row["id"])
        caption = [tag("b", label or row["id"]), tag("span", f" {row['distance']:.4f}")]
        tiles.append(Tile([picture], tag("span", *caption, title=str(row["id"]))))
    sections: list[Section] = [
        Heading("Query", "query"),
        Gallery("", tiles[:1]),
        Heading(f"The {len(rows)} nearest items", "found", f"{metric} distance below each picture"),
        Gallery("", tiles[1:]),
    ]
    write_page(path, render(f"Most like {query}", sections, lang="en", kicker="Kyori", contents="Contents"))


def _picture(query: str) -> Any:
    """Return the query file's picture; None for a vector."""
    if query.endswith(".npy"):
        return None
    from PIL import Image

    with Image.open(query) as file:
        return file.copy()


class _Pictures:
    """The items that the index was made of, by id; opened when the first is asked for."""

    def __init__(self, run: Path):
        from ..errors import KyoriError
        from ..runs import open_data, open_run

        self._source: Any = None
        try:
            self._source = open_data(read_note(run)["data"], open_run(run).config)
            self._place = {id_: row for row, id_ in enumerate(self._source.ids.tolist())}
        except (KyoriError, OSError) as error:
            note(f"note: the page shows no pictures, as the data cannot be opened: {error}")

    def of(self, id_: Any) -> Any:
        """Return the picture or vector of an item; None where the data no longer have it."""
        if self._source is None or id_ not in self._place:
            return None
        return self._source.read(self._place[id_])
