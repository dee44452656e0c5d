"""``kyori mine``: hard negatives for rows of anchor and positive."""

from __future__ import annotations

import math
from pathlib import Path

import typer

from .console import JSON, note, print_json, stops_at_ctrl_c

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("mine")(mine)


@stops_at_ctrl_c
def mine(
    model: str = typer.Argument(
        ..., help="A run folder, or a text model of transformers, by folder or name."
    ),
    pairs: str = typer.Argument(..., help="Table with the columns anchor and positive."),
    out: Path = typer.Option(..., "--out", "-o", help="Table to write: .parquet or .csv."),
    per_row: int = typer.Option(5, "--per-row", "-k", help="Negatives wanted for a row."),
    skip: int = typer.Option(0, help="Pass over so many of the closest candidates."),
    depth: int = typer.Option(100, help="Neighbours that are looked at."),
    relative: float = typer.Option(
        0.95, help="Highest similarity of a negative, times the positive's; 0: any."
    ),
    absolute: float | None = typer.Option(None, help="Highest similarity of a negative."),
    approximate: bool = typer.Option(False, help="Search an HNSW graph instead of everything."),
    as_json: bool = JSON,
) -> None:
    """Find hard negatives: texts that the model holds for close and that are not the row's positive."""
    from ..data import open_source
    from ..mining import mine_negatives
    from ..models import Embedder
    from ..runs import open_run

    source = open_source(pairs)
    if (Path(model) / "config.yaml").exists():
        embedder = open_run(model).embedder
    else:
        embedder = Embedder.create(model, (), pretrained=True, embedding_size=None)
    rows = mine_negatives(
        source,
        embedder,
        per_row=per_row,
        skip=skip,
        depth=depth,
        relative=relative or None,
        absolute=absolute,
        approximate=approximate,
    )
    rows.save(out)
    hardest = [value for value in rows.similarities[:, 0].tolist() if not math.isnan(value)]
    facts = {
        "rows": len(rows.anchors),
        "filled": rows.found,
        "rows_without": int((rows.negatives < 0).all(1).sum()),
        "positive_similarity": float(rows.positive_similarities.mean()),
        "hardest_similarity": sum(hardest) / len(hardest) if hardest else None,
        "out": str(out),
    }
    if as_json:
        print_json(facts)
    else:
        note(
            f"{facts['rows']:,} rows, {rows.found:.0%} of the {per_row} places for negatives filled "
            f"({facts['rows_without']:,} rows have none); written to {out}"
        )
