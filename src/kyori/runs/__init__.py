"""Runs: one training, measured, in one folder."""

from .bulk import encode_on_ray
from .fitting import (
    default_folder,
    encode_part,
    fit,
    fit_split,
    open_data,
    open_part,
    resolve_config,
    split_source,
    table_of,
    trained_items,
    unit_of,
)
from .folder import Run, finished_run, open_run, open_table, short_name
from .forces import settled_of, spring_of
from .reporting import report_run
from .streaming import embed_stream

__all__ = [
    "Run",
    "default_folder",
    "embed_stream",
    "encode_on_ray",
    "encode_part",
    "finished_run",
    "fit",
    "fit_split",
    "open_data",
    "open_part",
    "open_run",
    "open_table",
    "report_run",
    "resolve_config",
    "settled_of",
    "short_name",
    "split_source",
    "spring_of",
    "table_of",
    "trained_items",
    "unit_of",
]
