"""The ways of re-ranking by name, for the commands that search with them and that measure them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from ..errors import ArgumentError, nearest_name
from .console import note

if TYPE_CHECKING:
    from ..index import Rerank
    from ..vectors import VectorTable

__all__ = ["Way", "gain_line", "gains", "reranker"]

Way = Literal["expansion", "reciprocal", "pairwise"]


def reranker(run: Path, way: Way, metric: str) -> Rerank:
    """Return a re-ranker for vectors of a run compared by ``metric``.

    Raises:
        ArgumentError: A pairwise one is not trained yet, or for another distance.
    """
    from ..index import KReciprocal, QueryExpansion
    from ..recognition import PairwiseReranker

    if way != "pairwise":
        return QueryExpansion() if way == "expansion" else KReciprocal()
    path = run / PairwiseReranker.FILE
    if not path.exists():
        raise ArgumentError(
            f"{run} has no pairwise re-ranker; train one on labelled items with: kyori calibrate {run} DATA --rerank"
        )
    model = PairwiseReranker.load(path)
    if model.metric != metric:
        raise ArgumentError(
            f"{path} was trained with {model.metric} distances, and here distances are {metric}; train it again."
        )
    return model


def gains(run: Path, table: VectorTable, ways: list[str], metric: str) -> list[dict[str, Any]]:
    """Measure what each way gains and costs on a table, print nothing, and return plain values."""
    from ..recognition import PairwiseReranker, measure_reranking
    from ..recognition.pairwise import ids_digest

    if metric not in ("euclidean", "cosine"):
        raise ArgumentError(
            f"--rerank is for euclidean and cosine distances, as indexes have them; got {metric}."
        )
    for way in ways:
        if way not in get_args(Way):
            raise ArgumentError(f"--rerank: unknown way {way!r}{nearest_name(way, get_args(Way))}")
    chosen = {way: reranker(run, cast(Way, way), metric) for way in dict.fromkeys(ways)}
    model = chosen.get("pairwise")
    if isinstance(model, PairwiseReranker) and model.facts.get("ids") == ids_digest(table):
        note("note: the pairwise re-ranker was trained on these very items; its gain on others is smaller.")
    return [row.as_dict() for row in measure_reranking(table, chosen, metric=metric)]


def gain_line(row: dict[str, Any]) -> str:
    """Return one row of :func:`gains` as a line of text."""
    gain = (
        ""
        if row["rerank"] == "none"
        else f"   gain {row['gain']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
    )
    cost = f"{row['milliseconds']:.2f} ms a query"
    return f"{row['rerank']:<11} {row['measure']:<9} {row['value']:.4f}{gain}   {cost}"
