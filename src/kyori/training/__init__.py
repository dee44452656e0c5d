"""Training: a configuration, the parts it describes, and a loop that can be stopped and gone on with at any step."""

from .callbacks import Callback, MetricsFile, Progress, ProgressBar, TensorBoard, read_metrics
from .config import RunConfig
from .environment import keep_memory
from .loop import History, train
from .profiling import Profile
from .recipes import RECIPES, recipe
from .rows import RowOptimizer
from .setup import build

__all__ = [
    "RECIPES",
    "Callback",
    "History",
    "MetricsFile",
    "Profile",
    "Progress",
    "ProgressBar",
    "RowOptimizer",
    "RunConfig",
    "TensorBoard",
    "build",
    "keep_memory",
    "read_metrics",
    "recipe",
    "train",
]
