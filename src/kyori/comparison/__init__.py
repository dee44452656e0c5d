"""Comparison: which method suits the data, by how much, and how surely."""

from .board import Board, Cell, Failure
from .experiment import QUICKSTART, compare, default_folder, plan
from .methods import DEFAULT_METHODS, METHODS, Method
from .statistics import Comparison, Estimate, Row

__all__ = [
    "DEFAULT_METHODS",
    "METHODS",
    "QUICKSTART",
    "Board",
    "Cell",
    "Comparison",
    "Estimate",
    "Failure",
    "Method",
    "Row",
    "compare",
    "default_folder",
    "plan",
]
