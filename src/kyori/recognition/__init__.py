"""Recognition: search, verify and identify with a run's model, its index and its calibrated thresholds."""

from .calibrations import GalleryCalibration, Pooling, RunCalibration
from .recogniser import Encoder, Recogniser
from .values import Candidate, Hit, Identity, Verdict

__all__ = [
    "Candidate",
    "Encoder",
    "GalleryCalibration",
    "Hit",
    "Identity",
    "Pooling",
    "Recogniser",
    "RunCalibration",
    "Verdict",
]
