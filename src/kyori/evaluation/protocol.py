"""Every measure of a table of vectors, with intervals."""

import contextlib
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, get_args

import numpy as np

from ..distances import Distance, check_distance
from ..errors import ArgumentError, DegenerateWarning, nearest_name
from ..results import Result, Results
from ..vectors import VectorTable
from .bootstrap import Bootstrap
from .clustering import FEW_DISTANCES, clustering_results
from .context import Context, NoPositive, Unit, unknown
from .geometry import geometry_results
from .measures import CLUSTERING, DEFAULT, GEOMETRY, RETRIEVAL, VERIFICATION, Measure, plan_measures
from .pairs import verification_results
from .per_query import PerQueryFile
from .retrieval import retrieval_results
from .roles import SEQUENCE, split_roles
from .task import Task

__all__ = ["Preparation", "evaluate", "finish", "prepare"]


def evaluate(
    table: VectorTable,
    *,
    gallery: VectorTable | None = None,
    metric: Distance = "euclidean",
    measures: Iterable[str] | None = None,
    ks: Sequence[int] = (1, 5, 10),
    far: Sequence[float] = (1e-3, 1e-2),
    threshold: float | None = None,
    unit: Unit = "query",
    bootstrap: int = 1000,
    seed: int = 0,
    no_positive: NoPositive = "skip",
    block_rows: int | None = None,
    memory: int | None = None,
    rules: bool = True,
    per_query: str | os.PathLike[str] | None = None,
) -> Results:
    """Measure how well distances between vectors tell the classes apart, exactly, with 95 % intervals.

    Each item of the table is a query against all other items, or against the gallery, where an item with the
    query's id is left out. Clustering and geometry look at the table alone.

    Args:
        table: The queries, with labels.
        gallery: What the queries are compared with; the table itself when left out.
        metric: Distance of :mod:`kyori.distances`.
        measures: Names, each one of ``recall precision r-precision map@r map ndcg mrr auc eer tar accuracy
            best-accuracy nmi ami ari purity b-cubed pairwise-f1 silhouette distance-ratio alignment uniformity
            effective-rank hubness robin-hood``, or with its argument ``recall@1 precision@5 map@10 ndcg@10
            mrr@10 tar@far=1e-3 accuracy@0.5 hubness@5``. A usual choice when left out; clustering is in it where
            k-means is quick, that is up to 10⁷ pairs of an item and a class (see provenance ``left_out``).
        ks: The k of a bare ``recall``, ``precision``, ``ndcg``.
        far: The false-accept rates of a bare ``tar``, between 0 and 1.
        threshold: Distance below which a pair counts as the same, for a bare ``accuracy``.
        unit: What is resampled for the intervals: ``"query"``, the items; ``"class"``, whole classes, for a
            claim about classes that were not seen.
        bootstrap: Number of resamples; 0 gives no intervals (NaN), which is quickest.
        seed: Seed of the resamples and of k-means.
        no_positive: A query that has no other item of its class is left out and counted (``"skip"``, with a
            warning), scores 0 (``"zero"``), or is an error (``"error"``).
        block_rows: Queries computed at a time; chosen for a bounded memory when left out.
        memory: Bytes that the working arrays of the retrieval measures may take, on top of the vectors; when left
            out 512 MiB for each block in work, of which there are up to four.
        rules: Whether the columns of the table that say who is compared with whom are followed: ``is_query`` and
            ``is_gallery`` (bools; without ``gallery=``), and ``sequence`` (a query is not compared with items of
            its own sequence). They stand in the provenance.
        per_query: A Parquet file to write the retrieval measures of each query to, block after block.

    Returns:
        The results in the order of the measures, with the curves ``"roc"`` and ``"histogram"`` where a
        verification measure is among them. A measure that has nothing to work on (one class, one item, all
        vectors equal) is NaN, with a warning.

    Raises:
        ArgumentError: An option is unknown or out of range.
        DataError: The table has no labels, is empty, or does not fit the gallery.

    >>> table = VectorTable(vectors=[[0.0], [1.0], [9.0], [8.0]], labels=["a", "a", "b", "b"])
    >>> results = evaluate(table, measures=["recall@1", "map@r", "auc"])
    >>> results["recall@1"].value, results["map@r"].value, results["auc"].value
    (1.0, 1.0, 1.0)
    """
    _check_options(metric, unit, bootstrap, no_positive)
    ready = prepare(table, gallery, metric, rules)
    left_out, why = _left_out(ready) if measures is None else ((), "")
    if left_out:
        measures = [name for name in DEFAULT if name not in left_out]
        measures += [] if threshold is None else ["accuracy"]
    plan = plan_measures(measures, ks, far, threshold)
    provenance = {
        "kyori": version("kyori"),
        "metric": metric,
        "seed": seed,
        "bootstrap": bootstrap,
        "unit": unit,
        "n": len(ready.queries),
        "gallery": ready.gallery,
        "dimensions": table.vectors.shape[1],
        "classes": ready.classes,
    }
    if ready.rules:
        provenance["rules"] = ready.rules
    if left_out:
        provenance["left_out"] = {"measures": [name for name in DEFAULT if name in left_out], "why": why}
    if per_query is not None and not any(measure.family in RETRIEVAL for measure in plan):
        raise ArgumentError(
            "per_query writes the retrieval measures of each query, and measures names none of them."
        )
    with contextlib.ExitStack() as stack:
        stream = None if per_query is None else stack.enter_context(PerQueryFile(per_query, ready.queries))
        options = {"block_rows": block_rows, "memory": memory, "per_query": stream}
        return finish(ready, plan, provenance, unit, bootstrap, seed, no_positive, options)


def _left_out(ready: "Preparation") -> tuple[tuple[str, ...], str]:
    """Default measures that make no sense here or cost too much, and why."""
    if ready.gallery is not None and ready.classes == len(ready.queries):
        return (
            *CLUSTERING,
            *GEOMETRY,
        ), "every query is alone in its class, and its own kind is in the gallery"
    if len(ready.queries) * ready.classes > FEW_DISTANCES:
        return CLUSTERING, "k-means is slow with so many items and classes"
    return (), ""


@dataclass(frozen=True, eq=False)
class Preparation:
    """Who is compared with whom, after the rules of the table.

    Attributes:
        queries: The table of the queries.
        task: The comparison.
        gallery: Size of the gallery, None when it is the queries themselves.
        classes: Number of classes among the queries.
        rules: What was followed, in words.
    """

    queries: VectorTable
    task: Task
    gallery: int | None
    classes: int
    rules: list[str]


def prepare(table: VectorTable, gallery: VectorTable | None, metric: Distance, rules: bool) -> Preparation:
    """Apply the rules of the table and set up the comparison."""
    followed: list[str] = []
    if rules and gallery is None:
        table, gallery, followed = split_roles(table)
    sequence = None
    tables = [one for one in (table, gallery) if isinstance(one, VectorTable)]
    if rules and tables and all(SEQUENCE in one.columns for one in tables):
        sequence = SEQUENCE
        followed = [*followed, "items of a query's own sequence are left out"]
    task = Task.from_tables(table, gallery, metric, sequence)
    classes = len(np.unique(task.query_classes))
    return Preparation(table, task, None if gallery is None else len(gallery), classes, followed)


def finish(
    ready: Preparation,
    plan: Sequence[Measure],
    provenance: dict[str, Any],
    unit: Unit,
    bootstrap: int,
    seed: int,
    no_positive: NoPositive,
    options: dict[str, Any],
) -> Results:
    """Compute what was planned; ``options`` go to the :class:`Context`."""
    task = ready.task
    reason = task.degenerate()
    if reason is not None:
        warnings.warn(f"nothing can be measured: {reason}.", DegenerateWarning, stacklevel=3)
        return Results([unknown(measure) for measure in plan], provenance=provenance)
    n = len(ready.queries)
    resamples = Bootstrap(n, bootstrap, seed, task.query_classes if unit == "class" else None)
    context = Context(task, resamples, seed, no_positive, **options)
    undirected = int(task.undirected().sum())
    if undirected:
        context.notes.append(
            f"{undirected} of {n} vectors are zero and have no direction; they are skipped as queries, and"
            " their cosine distance to all others is 1."
        )
    found: dict[str, Result] = {}
    for family, measured in _FAMILIES:
        wanted = [measure for measure in plan if measure.family in family]
        if wanted:
            found |= {result.measure: result for result in measured(context, wanted)}
    for note in context.notes:
        warnings.warn(note, DegenerateWarning, stacklevel=3)
    return Results([found[measure.key] for measure in plan], curves=context.curves, provenance=provenance)


_FAMILIES = (
    (RETRIEVAL, retrieval_results),
    (VERIFICATION, verification_results),
    (CLUSTERING, clustering_results),
    (GEOMETRY, geometry_results),
)


def _check_options(metric: str, unit: str, bootstrap: int, no_positive: str) -> None:
    check_distance(metric)
    for argument, value, known in (
        ("unit", unit, get_args(Unit)),
        ("no_positive", no_positive, get_args(NoPositive)),
    ):
        if value not in known:
            raise ArgumentError(f"unknown {argument} {value!r}{nearest_name(value, known)}")
    if bootstrap < 0:
        raise ArgumentError(f"bootstrap must be 0 or a number of resamples; got {bootstrap}.")
