"""How good are the distances? Retrieval, verification, clustering and geometry, with intervals.

:func:`evaluate` measures a table of vectors; :func:`evaluate_pairs` measures decisions on listed pairs.
"""

from .pairs import evaluate_pairs
from .protocol import evaluate

__all__ = ["evaluate", "evaluate_pairs"]
