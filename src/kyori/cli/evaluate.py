"""``kyori evaluate``: every measure of a run's embedding on DATA."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from .console import JSON, note, stops_at_ctrl_c

__all__ = ["register"]

Metric = Literal["euclidean", "squared_euclidean", "cosine", "dot", "manhattan", "snr"]
Unit = Literal["query", "class"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("evaluate")(evaluate)


@stops_at_ctrl_c
def evaluate(
    run: Path = typer.Argument(..., help="A run folder, or a table of vectors (.parquet)."),
    data: str | None = typer.Argument(None, help="Labelled items; not needed with a table of vectors."),
    part: str = typer.Option(
        "auto", help="train, validation, test or all; auto: the test part of the run's own data, else all."
    ),
    metric: Metric = typer.Option("euclidean", help="euclidean, cosine, …"),
    threshold: float | None = typer.Option(None, help="Also the pair accuracy at this distance."),
    unit: Unit = typer.Option("query", help="What is resampled for the intervals: query or class."),
    out: Path | None = typer.Option(None, help="Also write the results to this JSON file."),
    as_json: bool = JSON,
) -> None:
    """Measure retrieval, verification and clustering of a run's embedding on DATA, with 95 % intervals."""
    from ..evaluation import evaluate as measure
    from ..runs import encode_part, open_table

    if data is None:
        table = open_table(run)
    else:
        table, used = encode_part(run, data, part)
        note(f"{used}: {len(table):,} items")
    results = measure(table, metric=metric, threshold=threshold, unit=unit)
    if out is not None:
        results.to_json(out)
    print(results.to_json() if as_json else results)
