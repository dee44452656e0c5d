"""Quality of labelled data: wrong labels, outliers, duplicates, clusters."""

from .crossfit import Fold, cross_fit
from .labels import LabelErrors, find_label_errors
from .noise import NoiseRate
from .probabilities import ClassProbabilities
from .review import write_review, write_table

__all__ = [
    "ClassProbabilities",
    "Fold",
    "LabelErrors",
    "NoiseRate",
    "cross_fit",
    "find_label_errors",
    "write_review",
    "write_table",
]
