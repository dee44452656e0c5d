"""``kyori cluster``: which items of DATA belong together, and what they are called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from .console import JSON, note, print_json, stops_at_ctrl_c

if TYPE_CHECKING:
    from ..vectors import VectorTable

__all__ = ["register"]

Method = Literal["agglomerative", "kmeans", "hdbscan", "communities"]
Metric = Literal["euclidean", "cosine"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("cluster")(cluster)


@stops_at_ctrl_c
def cluster(
    run: Path = typer.Argument(..., help="A run folder, or a table of vectors (.parquet)."),
    data: str | None = typer.Argument(
        None, help="Items, labelled or not; not needed with a table of vectors."
    ),
    method: Method = typer.Option("agglomerative", help="agglomerative, kmeans, hdbscan or communities."),
    clusters: int | None = typer.Option(None, help="kmeans, agglomerative: their number."),
    threshold: float | None = typer.Option(
        None, help="agglomerative: distance up to which clusters are merged."
    ),
    min_size: int | None = typer.Option(None, help="hdbscan: items that make a cluster. Default 10."),
    neighbors: int | None = typer.Option(None, help="communities: neighbours in the graph. Default 15."),
    resolution: float | None = typer.Option(None, help="communities: above 1 for more of them. Default 1."),
    metric: Metric = typer.Option("euclidean", help="euclidean or cosine."),
    reference: Path | None = typer.Option(
        None,
        help="Labelled vectors (a run or .parquet) to calibrate the threshold on and to take names from. By default"
        " the test vectors of RUN.",
    ),
    part: str = typer.Option(
        "auto", help="train, validation, test or all; auto: the test part of the run's own data, else all."
    ),
    stability: int = typer.Option(
        0, min=0, help="Also cluster so many subsamples and say how far they agree."
    ),
    seed: int = typer.Option(0, help="Of everything random."),
    out: Path = typer.Option(Path("clusters.parquet"), help="The .parquet or .csv file to write."),
    as_json: bool = JSON,
) -> None:
    """Put the items of DATA into clusters, name them where labels are known, and write id, cluster, name, confidence.

    Without --threshold or --clusters, agglomerative calibrates its threshold on labelled vectors.
    """
    from ..quality import cluster as find_clusters
    from ..quality import cluster_stability
    from ..quality.writing import check_table_path
    from ..runs import encode_part, open_table

    check_table_path(out)
    given = {
        "clusters": clusters,
        "threshold": threshold,
        "min_size": min_size,
        "neighbors": neighbors,
        "resolution": resolution,
    }
    options = {name: value for name, value in given.items() if value is not None}
    if data is None:
        table, used = open_table(run), run.name
    else:
        table, used = encode_part(run, data, part)
    known = _reference(run, data, reference)
    found = find_clusters(table, method, metric=metric, reference=known, seed=seed, **options)
    found.save(out)
    steady = (
        cluster_stability(
            table, method, metric=metric, reference=known, resamples=stability, seed=seed, **options
        )
        if stability
        else None
    )
    if as_json:
        print_json(
            {
                "path": str(out),
                "part": used,
                "items": len(table),
                "algorithm": {"method": method, **vars(found.algorithm)},
                "note": found.note,
                "in_none": int((found.clusters < 0).sum()),
                "clusters": found.table(),
                "stability": vars(steady) if steady else None,
            }
        )
        return
    note(f"{used}: {found} in {out}{'; ' if found.note else ''}{found.note}")
    print(f"{'cluster':>7}  {'items':>7}  {'confidence':>10}  name")
    for row in found.table()[:20]:
        print(f"{row['cluster']:7d}  {row['items']:7,}  {row['confidence']:10.3f}  {row['name']}")
    if found.count > 20:
        print(f"… and {found.count - 20:,} smaller ones")
    if steady:
        print(f"stability: adjusted Rand {steady.mean:.3f} ({steady.low:.3f} – {steady.high:.3f})")


def _reference(run: Path, data: str | None, reference: Path | None) -> VectorTable | None:
    """The labelled vectors that were named, or the run's own."""
    from ..runs import open_table

    if reference is not None:
        return open_table(reference)
    if data is None or not (run / "vectors.parquet").is_file():
        return None
    return open_table(run)
