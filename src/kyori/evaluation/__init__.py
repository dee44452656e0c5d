"""How good are the distances? Retrieval, verification, identification, clustering and geometry, with intervals.

:func:`evaluate` measures a table of vectors; :func:`evaluate_pairs` measures decisions on listed pairs;
:func:`calibrate` chooses a threshold; :func:`open_set` measures identification where some are strangers.
"""

from .calibration import Calibration, Estimate, calibrate
from .identification import identify, open_set
from .pairs import evaluate_pairs
from .protocol import evaluate

__all__ = ["Calibration", "Estimate", "calibrate", "evaluate", "evaluate_pairs", "identify", "open_set"]
