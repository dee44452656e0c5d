"""``kyori outliers``: the items of DATA that are unlike what the run knows."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from .console import JSON, note, print_json, stops_at_ctrl_c

__all__ = ["register"]

Method = Literal["knn", "lof", "mahalanobis"]
Metric = Literal["euclidean", "squared_euclidean", "cosine", "manhattan"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("outliers")(outliers)


@stops_at_ctrl_c
def outliers(
    run: Path = typer.Argument(..., help="A run folder, or a table of vectors (.parquet)."),
    data: str | None = typer.Argument(
        None, help="Items to judge; without them, those of RUN among themselves."
    ),
    method: Method = typer.Option("knn", help="knn, lof or mahalanobis."),
    k: int = typer.Option(10, help="Neighbours of knn and lof."),
    metric: Metric = typer.Option("euclidean", help="Distance of knn and lof."),
    false_alarm_rate: float = typer.Option(0.05, help="Share of usual items that may be called outliers."),
    reference: Path | None = typer.Option(
        None,
        help="Clean vectors (a run or .parquet) that say what is usual. By default the test vectors of RUN.",
    ),
    part: str = typer.Option("all", help="train, validation, test or all."),
    seed: int = typer.Option(0, help="Of the clean vectors that are held out for calibration."),
    out: Path = typer.Option(Path("outliers.parquet"), help="The .parquet or .csv file to write."),
    as_json: bool = JSON,
) -> None:
    """Find the items of DATA that are unlike the clean items of RUN, at a requested rate of false alarms."""
    import numpy as np

    from ..quality import find_outliers
    from ..quality.writing import check_table_path
    from ..runs import encode_part, open_table

    check_table_path(out)
    if data is None:
        table, used = open_table(run), run.name
    else:
        table, used = encode_part(run, data, part)
    clean = reference if reference is not None or data is None else run
    found = find_outliers(
        table,
        None if clean is None else open_table(clean),
        method=method,
        k=k,
        metric=metric,
        false_alarm_rate=false_alarm_rate,
        seed=seed,
    )
    found.save(out)
    strangest = [int(i) for i in np.argsort(-found.raw, kind="stable")[: found.is_outlier.sum()]]
    rows = [
        {"id": found.ids[i].item(), "score": float(found.scores[i]), "raw": float(found.raw[i])}
        for i in strangest
    ]
    if as_json:
        print_json(
            {
                "path": str(out),
                "part": used,
                "items": len(table),
                "method": method,
                "threshold": found.threshold,
                "false_alarm_rate": false_alarm_rate,
                "calibrated": clean is not None,
                "outliers": rows,
            }
        )
        return
    note(f"{used}: {found} in {out}")
    if clean is None:
        note(
            "nothing clean to calibrate on: these are the strangest of the table, not more (see --reference)"
        )
    print(f"{'score':>7}  {'raw':>9}  id")
    for row in rows[:20]:
        print(f"{row['score']:7.4f}  {row['raw']:9.4f}  {row['id']}")
