"""``kyori index``: make the items of DATA searchable by a run's embedding."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Literal

import typer

from ..errors import ArgumentError, FileFormatError
from .console import JSON, note, print_json, stops_at_ctrl_c

__all__ = ["NOTE", "read_note", "register"]

#: What `kyori index` leaves in the run folder, so that `kyori search` knows where to look.
NOTE = "index.json"
Metric = Literal["euclidean", "cosine"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("index")(index)


@stops_at_ctrl_c
def index(
    run: Path = typer.Argument(..., help="A run folder."),
    data: str = typer.Argument(..., help="A folder, manifest, idx folder, .npz or 'digits'."),
    url: str | None = typer.Option(
        None, help="A folder, postgresql://…, milvus:FILE.db or http://…; RUN/index by default."
    ),
    factory: str | None = typer.Option(None, help="auto, Flat, HNSW32, 'IVF4096,Flat', …"),
    metric: Metric | None = typer.Option(None, help="euclidean (default) or cosine."),
    recall: float | None = typer.Option(None, help="Share of true neighbours to be found, 0.95 by default."),
    part: str = typer.Option("all", help="train, validation, test or all."),
    overwrite: bool = typer.Option(False, help="Remove what the index holds first."),
    as_json: bool = JSON,
) -> None:
    """Index the vectors of DATA, so that `kyori search RUN QUERY` finds them. Items that are there are replaced."""
    from ..index import open_index, redacted
    from ..runs import encode_part

    table, used = encode_part(run, data, part)
    note(f"{used}: {len(table):,} vectors of {table.vectors.shape[1]} numbers")
    place = url or str(run / "index")
    model = _model(run)
    with open_index(place, metric=metric, factory=factory, recall=recall) as opened:
        if overwrite:
            opened.clear()
        elif len(opened) and _note(run).get("model") != model:
            raise ArgumentError(
                f"{redacted(place)} holds {len(opened):,} vectors that this run's present model did not make;"
                " replace them with --overwrite, or name another --url."
            )
        start = time.perf_counter()
        opened.add_table(table, replace=True)
        opened.save()
        seconds = time.perf_counter() - start
        found = opened.statistics()
        measured = found.get("search")  # a folder measures when it builds
        facts = {
            "url": redacted(place),
            **found,
            "seconds": round(seconds, 3),
            "recall_at_10": round(measured["recall"] if measured else opened.recall(), 4),
        }
    _write_note(run, {"url": redacted(place), "data": data, "model": model})
    if as_json:
        print_json(facts)
    else:
        built = facts["built"] or "exact"
        print(
            f"{facts['vectors']:,} vectors in {facts['url']} ({built}, {facts['metric']}) in {seconds:.1f} s;"
            f" recall@10 against exact search {facts['recall_at_10']:.3f}"
        )
        note(f"search it with: kyori search {run} PICTURE")


def _model(run: Path) -> Any:
    """Return what tells one trained model from another."""
    try:
        return json.loads((run / "model.json").read_text(encoding="utf-8"))["weights"]["crc32"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(f"{run / 'model.json'} is missing or damaged: {error!r}") from error


def _write_note(run: Path, facts: dict[str, Any]) -> None:
    from ..files import write_atomic

    text = json.dumps(facts, indent=2, ensure_ascii=False)
    write_atomic(run / NOTE, lambda file: file.write(text.encode()))


def _note(run: Path) -> dict[str, Any]:
    if not (run / NOTE).exists():
        return {}
    try:
        return dict(json.loads((run / NOTE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise FileFormatError(f"{run / NOTE} is damaged: {error!r}. Run kyori index again.") from error


def read_note(run: Path) -> dict[str, Any]:
    """Return where the run's index is and what it was made of.

    Raises:
        ArgumentError: `kyori index` was not run yet.
    """
    facts = _note(run)
    if not facts:
        raise ArgumentError(f"{run} has no index yet; make one with: kyori index {run} DATA")
    return facts
