"""``kyori embed``: the vectors of DATA as a table that Polars, DuckDB and others open."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from .console import JSON, is_first, note, print_json, stops_at_ctrl_c

__all__ = ["register"]

Format = Literal["parquet", "numpy", "projector", "atlas"]
_NAMES: dict[Format, str] = {
    "parquet": "vectors.parquet",
    "numpy": "vectors.npz",
    "projector": "projector",
    "atlas": "atlas.parquet",
}


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("embed")(embed)


@stops_at_ctrl_c
def embed(
    run: Path = typer.Argument(..., help="A run folder."),
    data: str = typer.Argument(..., help="A folder, manifest, idx folder, .npz or 'digits'."),
    out: Path | None = typer.Option(
        None, help="The file to write (projector: folder); vectors.parquet here if left out."
    ),
    part: str = typer.Option("all", help="train, validation, test or all."),
    format: Format = typer.Option(
        "parquet", help="parquet, numpy (.npz), projector (TensorBoard's TSV) or atlas (embedding-atlas)."
    ),
    on_ray: bool = typer.Option(
        False, "--ray", help="Encode on a Ray cluster (RAY_ADDRESS, or this machine)."
    ),
    workers: int | None = typer.Option(None, help="With --ray: processes that encode."),
    as_json: bool = JSON,
) -> None:
    """Write the vectors of DATA: ids, vectors, labels and columns.

    `torchrun --nproc-per-node 4 -m kyori embed …` divides the items among processes, `--ray` among a cluster.
    """
    from .. import distributed
    from ..errors import ArgumentError
    from ..exporting import write_vectors
    from ..runs import encode_on_ray, encode_part

    if on_ray and distributed.launched():
        raise ArgumentError("--ray starts its own processes; leave torchrun or --ray out.")
    if workers is not None and not on_ray:
        raise ArgumentError("--workers goes with --ray; leave it out, or add --ray.")
    from ..data.streams import is_stream

    out = out or Path(_NAMES[format])
    if is_stream(data):
        _embed_stream(run, data, out, part, format, on_ray=on_ray, as_json=as_json)
        return
    table, used = encode_on_ray(run, data, part, workers=workers) if on_ray else encode_part(run, data, part)
    if not is_first():  # of several processes, each of which embedded a share
        return
    write_vectors(table, out, format)
    if as_json:
        print_json(
            {"path": str(out), "part": used, "items": len(table), "dimensions": table.vectors.shape[1]}
        )
    else:
        note(f"{used}: {len(table):,} vectors of {table.vectors.shape[1]} numbers in {out}")


def _embed_stream(
    run: Path, data: str, out: Path, part: str, format: Format, *, on_ray: bool, as_json: bool
) -> None:
    """Shards go to Parquet row group by row group; the other formats need all vectors at hand."""
    from .. import distributed
    from ..errors import ArgumentError
    from ..runs import embed_stream

    if format != "parquet" or on_ray or distributed.launched():
        raise ArgumentError(
            "shards are embedded by one process, as Parquet; leave --format, --ray and torchrun out, or give each "
            "process shards and a file of its own."
        )
    items, dimensions = embed_stream(run, data, out, part=part)
    if as_json:
        print_json({"path": str(out), "part": part, "items": items, "dimensions": dimensions})
    else:
        note(f"{part}: {items:,} vectors of {dimensions} numbers in {out}")
