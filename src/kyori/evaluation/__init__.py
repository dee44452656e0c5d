"""How good are the distances? Retrieval, verification, identification, clustering and geometry, with intervals.

:func:`evaluate` measures a table of vectors, :func:`evaluate_shard` and :func:`merge_shards` do it on several ranks,
and :func:`break_down` shows it by class. :func:`evaluate_pairs` and :func:`evaluate_folds` measure decisions on listed
pairs, :func:`all_pairs` those on all pairs at very small rates, :func:`pool_templates` makes one vector of several.
:func:`calibrate` chooses a threshold, :func:`open_set` measures identification where some are strangers, and
:func:`find_leaks` names what the test shares with the training.
"""

from .all_pairs import all_pairs
from .breakdown import break_down
from .calibration import Calibration, Estimate, calibrate
from .folds import evaluate_folds, flip_summed
from .identification import identify, open_set
from .leaks import Leak, Leaks, find_leaks
from .pairs import evaluate_pairs
from .protocol import evaluate
from .sharding import Shard, evaluate_shard, merge_shards
from .templates import pool_templates

__all__ = [
    "Calibration",
    "Estimate",
    "Leak",
    "Leaks",
    "Shard",
    "all_pairs",
    "break_down",
    "calibrate",
    "evaluate",
    "evaluate_folds",
    "evaluate_pairs",
    "evaluate_shard",
    "find_leaks",
    "flip_summed",
    "identify",
    "merge_shards",
    "open_set",
    "pool_templates",
]
