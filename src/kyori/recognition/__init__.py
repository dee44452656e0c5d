"""Recognition: search, verify and identify with a run's model, its index and its calibrated thresholds."""

from .calibrations import GalleryCalibration, Pooling, RunCalibration
from .pairs import PairFile, is_pairs_file, pair_distances, pairs_of, read_pairs
from .recogniser import Encoder, Recogniser
from .thresholds import Calibrated, calibrate_gallery, calibrate_pairs, calibrate_table
from .values import Candidate, Hit, Identity, Verdict

__all__ = [
    "Calibrated",
    "Candidate",
    "Encoder",
    "GalleryCalibration",
    "Hit",
    "Identity",
    "PairFile",
    "Pooling",
    "Recogniser",
    "RunCalibration",
    "Verdict",
    "calibrate_gallery",
    "calibrate_pairs",
    "calibrate_table",
    "is_pairs_file",
    "pair_distances",
    "pairs_of",
    "read_pairs",
]
