"""A board as JSON, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FileFormatError
from ..results import Result, Results
from ..vectors import VectorTable
from .leaks import Leak
from .ranks import Ranks
from .statistics import Comparison, Estimate, Power, Row

if TYPE_CHECKING:
    from .board import Board, Cell, Failure

__all__ = ["from_json", "to_json"]


def to_json(board: Board) -> str:
    """Return everything but vectors and values of queries; NaN and infinities are null."""
    document = {
        "data": board.data,
        "measure": board.measure,
        "unit": board.unit,
        "sources": dict(board.sources),
        "budget": dict(board.budget),
        "command": board.command,
        "failures": [vars(failure) for failure in board.failures],
        "leaks": [vars(leak) for leak in board.leaks],
        "winner": board.winner,
        "recommendation": board.recommendation(),
        "rows": [
            {
                "method": row.method,
                "seconds": row.seconds,
                "parameters": row.parameters,
                "memory_bytes": row.memory_bytes,
                "trials": row.trials,
                "per_seed": {name: _finite(values) for name, values in row.per_seed.items()},
                "measures": {
                    name: dict(zip(("value", "low", "high"), _finite(vars(e).values()), strict=True))
                    for name, e in row.measures.items()
                },
            }
            for row in board.rows()
        ],
        "comparisons": [_of_comparison(c) for c in board.comparisons()],
        "ranks": _of_ranks(board.ranks()),
        "cells": [_of_cell(cell) for cell in board.cells],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)


def _of_comparison(found: Comparison) -> dict[str, Any]:
    numbers = {
        key: _finite([value])[0] if isinstance(value, float) else value
        for key, value in vars(found).items()
        if key != "power"
    }
    return {**numbers, "decided": found.decided, "power": None if found.power is None else vars(found.power)}


def _of_ranks(ranks: Ranks | None) -> dict[str, Any] | None:
    if ranks is None:
        return None
    return {
        "datasets": ranks.datasets,
        "average": dict(zip(ranks.methods, ranks.average, strict=True)),
        "friedman": _finite([ranks.friedman])[0],
        "critical": ranks.critical,
        "p_values": [[*pair, p] for pair, p in ranks.p_values.items()],
        "groups": [list(group) for group in ranks.groups],
    }


def _of_cell(cell: Cell) -> dict[str, Any]:
    return {
        "method": cell.method,
        "dataset": cell.dataset,
        "fold": cell.fold,
        "seed": cell.seed,
        "seconds": cell.seconds,
        "parameters": cell.parameters,
        "memory_bytes": cell.memory_bytes,
        "trials": cell.trials,
        "chosen": dict(cell.chosen),
        "items_seen": cell.items_seen,
        "folder": None if cell.folder is None else cell.folder.as_posix(),
        "measures": {
            r.measure: dict(zip(("value", "low", "high"), _finite((r.value, r.low, r.high)), strict=True))
            for r in cell.results.values()
        },
    }


def from_json(
    board_type: type[Board], cell_type: type[Cell], failure_type: type[Failure], source: str | Path
) -> Board:
    """Open a board; one that was written before cells were kept gets them out of its rows."""
    is_text = isinstance(source, str) and source.lstrip().startswith("{")
    where = "the text" if is_text else str(source)
    try:
        text = str(source) if is_text else Path(source).read_text("utf-8")
        read = json.loads(text)
        rows = [_row(entry) for entry in read["rows"]]
        cells = [_cell(cell_type, entry) for entry in read.get("cells") or _cells_of_rows(read["rows"])]
        board = board_type(
            data=str(read["data"]),
            measure=str(read["measure"]),
            cells=tuple(cells),
            budget=read["budget"],
            command=str(read["command"]),
            unit=read.get("unit", "query"),
            failures=tuple(failure_type(**entry) for entry in read.get("failures", ())),
            leaks=tuple(_leak(entry) for entry in read.get("leaks", ())),
            sources={str(name): str(place) for name, place in read.get("sources", {}).items()},
        )
        # The values of queries are not in the file: what they gave stands there, and is taken as it is.
        board.__dict__["_rows"] = rows
        board.__dict__["_comparisons"] = [_comparison(entry) for entry in read["comparisons"]]
        board.__dict__["_ranks"] = _ranks(read.get("ranks"))
        return board
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise FileFormatError(f"{where} is damaged or does not hold a board of Kyori: {error!r}") from error


def _leak(entry: Mapping[str, Any]) -> Leak:
    return Leak(**{**entry, "examples": tuple(tuple(example) for example in entry["examples"])})


def _row(entry: Mapping[str, Any]) -> Row:
    return Row(
        method=str(entry["method"]),
        measures={
            name: Estimate(_read(e["value"], math.nan), *_ends(e)) for name, e in entry["measures"].items()
        },
        per_seed={name: [_read(v, math.nan) for v in values] for name, values in entry["per_seed"].items()},
        seconds=float(entry["seconds"]),
        parameters=int(entry["parameters"]),
        memory_bytes=entry.get("memory_bytes"),
        trials=int(entry.get("trials", 0)),
    )


def _ends(entry: Mapping[str, Any]) -> tuple[float, float]:
    if entry["value"] is None:
        return math.nan, math.nan
    return _read(entry["low"], -math.inf), _read(entry["high"], math.inf)


def _comparison(entry: Mapping[str, Any]) -> Comparison:
    power = entry.get("power")
    return Comparison(
        better=str(entry["better"]),
        worse=str(entry["worse"]),
        difference=_read(entry["difference"], math.nan),
        low=_read(entry["low"], -math.inf),
        high=_read(entry["high"], math.inf),
        p_value=float(entry["p_value"]),
        seeds_won=int(entry["seeds_won"]),
        seeds=int(entry["seeds"]),
        effect=_read(entry.get("effect"), math.nan),
        test=str(entry.get("test", "sign flips")),
        p_given_seeds=_read(entry.get("p_given_seeds"), math.nan),
        power=None if power is None else Power(power["seeds"], power["factor"]),
    )


def _ranks(entry: Mapping[str, Any] | None) -> Ranks | None:
    if entry is None:
        return None
    return Ranks(
        tuple(entry["average"]),
        tuple(entry["average"].values()),
        int(entry["datasets"]),
        _read(entry["friedman"], math.nan),
        float(entry["critical"]),
        {(a, b): float(p) for a, b, p in entry["p_values"]},
        tuple((int(i), int(j)) for i, j in entry["groups"]),
    )


def _cell(cell_type: type[Cell], entry: Mapping[str, Any]) -> Cell:
    results = Results(
        [Result(name, _read(e["value"], math.nan), *_ends(e)) for name, e in entry["measures"].items()]
    )
    folder = entry.get("folder")
    return cell_type(
        method=str(entry["method"]),
        seed=int(entry["seed"]),
        results=results,
        table=VectorTable(vectors=np.empty((0, 1), np.float32)),
        seconds=float(entry["seconds"]),
        parameters=int(entry["parameters"]),
        folder=None if folder is None else Path(folder),
        dataset=str(entry.get("dataset", "")),
        fold=entry.get("fold"),
        trials=int(entry.get("trials", 0)),
        memory_bytes=entry.get("memory_bytes"),
        chosen=entry.get("chosen", {}),
        items_seen=entry.get("items_seen"),
    )


def _cells_of_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            **{key: row[key] for key in ("method", "seconds", "parameters")},
            "seed": seed,
            "measures": {
                name: {"value": values[seed], "low": None, "high": None}
                for name, values in row["per_seed"].items()
            },
        }
        for row in rows
        for seed in range(len(next(iter(row["per_seed"].values()))))
    ]


def _finite(values: Iterable[float]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _read(value: float | None, missing: float) -> float:
    return missing if value is None else float(value)
