"""The report page of a run, written when the run ends, and written again when somebody asks."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from ..data import Source
from ..errors import ArgumentError, DataError
from ..report import Layout, Trial, write_run_report
from .forces import spring_of

if TYPE_CHECKING:
    from .folder import Run

__all__ = ["report_run"]


def report_run(
    run: Run,
    items: Source,
    path: str | PathLike[str],
    *,
    lang: str = "en",
    layout: Layout = "tsne",
    figures_to: str | PathLike[str] | None = None,
) -> Path:
    """Write the report page of a finished run.

    Args:
        run: A run with results.
        items: The test items whose vectors the run holds, in that order.
        path: The ``.html`` file to write.
        lang: ``"en"`` or ``"ja"``.
        layout: How the map is laid out: ``"tsne"``, ``"pca"``, or ``"umap"`` where that is installed.
        figures_to: A folder for each figure as SVG, CSV and JSON; None writes none.

    Returns:
        The path.

    Raises:
        ArgumentError: The run has no results, or an unknown language or layout.
        DataError: ``items`` are not the items of the run's vectors.
    """
    if run.results is None or run.table is None:
        raise ArgumentError(f"{run.name} has no test results to report; train on data that leave test items.")
    if len(items) != len(run.table) or (items.ids != run.table.ids).any():
        raise DataError(
            f"{items.name}: these are not the {len(run.table)} test items of {run.name}; give the data that it was "
            "trained on."
        )
    trial = Trial(
        method=run.method,
        seed=run.config.seed,
        results=run.results,
        table=run.table,
        history=run.history,
        seconds=run.seconds,
        parameters=run.embedder.parameter_count,
    )
    return write_run_report(
        trial,
        items,
        path,
        data=items.name,
        measure=run.config.training.measure,
        lang=lang,
        command=f"kyori train {items.name} -c config.yaml",
        forces=spring_of(run.results, classes=len(run.embedder.class_names) or None),
        layout=layout,
        figures_to=figures_to,
    )
