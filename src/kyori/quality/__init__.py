"""Quality of labelled data: wrong labels, outliers, duplicates, clusters."""

from .clusters import Clusters, Stability, calibrate_clusters, cluster, cluster_stability
from .crossfit import Fold, cross_fit
from .duplicates import Duplicates, content_groups, find_duplicates, suggest_threshold
from .labels import LabelErrors, find_label_errors
from .naming import PropagatedLabels, propagate_labels
from .noise import NoiseRate
from .outliers import OutlierDetector, Outliers, find_outliers
from .probabilities import ClassProbabilities
from .review import write_review, write_table

__all__ = [
    "ClassProbabilities",
    "Clusters",
    "Duplicates",
    "Fold",
    "LabelErrors",
    "NoiseRate",
    "OutlierDetector",
    "Outliers",
    "PropagatedLabels",
    "Stability",
    "calibrate_clusters",
    "cluster",
    "cluster_stability",
    "content_groups",
    "cross_fit",
    "find_duplicates",
    "find_label_errors",
    "find_outliers",
    "propagate_labels",
    "suggest_threshold",
    "write_review",
    "write_table",
]
