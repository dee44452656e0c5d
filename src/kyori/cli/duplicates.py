"""``kyori duplicates``: items of DATA that are there twice, across splits, or under two labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from .console import JSON, note, print_json, stops_at_ctrl_c

if TYPE_CHECKING:
    import numpy as np

    from ..data import Source
    from ..vectors import VectorTable

__all__ = ["register"]

Metric = Literal["euclidean", "squared_euclidean", "cosine"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("duplicates")(duplicates)


@stops_at_ctrl_c
def duplicates(
    run: Path = typer.Argument(..., help="A run folder, or a table of vectors (.parquet)."),
    data: str | None = typer.Argument(None, help="Items; not needed with a table of vectors."),
    threshold: float | None = typer.Option(
        None, help="Largest distance of near-duplicates; by default a quarter of the median nearest distance."
    ),
    metric: Metric = typer.Option("euclidean", help="euclidean, squared_euclidean or cosine."),
    compare_pictures: bool = typer.Option(
        True,
        "--pictures/--no-pictures",
        help="Also compare the pixels of pictures: shifted, compressed or brighter copies, whatever their vectors.",
    ),
    split: str = typer.Option("split", help="The column that tells the splits."),
    seed: int = typer.Option(0, help="Of the sample that the proposed threshold rests on."),
    out: Path = typer.Option(Path("duplicates.parquet"), help="The .parquet or .csv file to write."),
    as_json: bool = JSON,
) -> None:
    """Find near-duplicates of DATA, pairs that leak between its splits, and duplicates with different labels.

    Copies of the same pixels are found whatever their vectors, and pictures that agree after a small shift. DATA
    without splits of their own are split as the run's configuration says.
    """
    from ..quality import find_duplicates
    from ..quality.writing import check_table_path

    check_table_path(out)
    table, contents, pictures = _table(run, data)
    if not compare_pictures:
        pictures = None
    found = find_duplicates(
        table, threshold, metric=metric, contents=contents, pictures=pictures, split=split, seed=seed
    )
    found.save(out)
    if as_json:
        print_json({"path": str(out), **found.summary()})
        return
    note(f"{found}; written to {out}")
    for leak in found.leaks[:10]:
        print(
            f"leak: {leak.id} ({leak.split}) and {leak.other_id} ({leak.other_split}), distance {leak.distance:.4g}"
        )
    for conflict in found.conflicts[:10]:
        labels = ", ".join(f"{count} × {name}" for name, count in conflict.labels.items())
        print(f"conflict: group {conflict.group} holds {labels}")


def _table(run: Path, data: str | None) -> tuple[VectorTable, np.ndarray | None, Source | None]:
    """The vectors with their splits, which items have the same content, and the items where they are pictures."""
    import numpy as np

    from ..errors import KyoriError
    from ..quality import content_groups
    from ..runs import open_data, open_run, open_table, split_source, table_of

    if data is None:
        return open_table(run), None, None
    opened = open_run(run)
    source = open_data(data, opened.config, progress=True)
    table = table_of(opened.embedder, source)
    if "split" not in table.columns:
        try:
            parts = split_source(source, opened.config)._asdict()
        except KyoriError:  # other data may not even be splittable in the run's way
            parts = {}
        of_id = {item: name for name, part in parts.items() for item in part.ids.tolist()}
        if len(of_id) == len(table):
            table.columns["split"] = np.array([of_id[item] for item in table.ids.tolist()])
    return table, content_groups(source), source if source.kind == "image" else None
