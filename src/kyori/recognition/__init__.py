"""Recognition: search, verify and identify with a run's model, its index and its calibrated thresholds."""

from .calibrations import GalleryCalibration, Pooling, RunCalibration
from .detection import Box, Detection, Detector, identify_boxes, identify_in, read_boxes
from .pairs import PairFile, is_pairs_file, pair_distances, pairs_of, read_pairs
from .pairwise import PairwiseReranker
from .recogniser import Encoder, Recogniser
from .reranked import Gain, measure_reranking
from .thresholds import Calibrated, calibrate_gallery, calibrate_pairs, calibrate_table
from .values import Candidate, Hit, Identity, Verdict

__all__ = [
    "Box",
    "Calibrated",
    "Candidate",
    "Detection",
    "Detector",
    "Encoder",
    "Gain",
    "GalleryCalibration",
    "Hit",
    "Identity",
    "PairFile",
    "PairwiseReranker",
    "Pooling",
    "Recogniser",
    "RunCalibration",
    "Verdict",
    "calibrate_gallery",
    "calibrate_pairs",
    "calibrate_table",
    "identify_boxes",
    "identify_in",
    "is_pairs_file",
    "measure_reranking",
    "pair_distances",
    "pairs_of",
    "read_boxes",
    "read_pairs",
]
