"""What a run writes into its folder beside its checkpoints."""

from pathlib import Path

from ..errors import ConfigError
from .callbacks import Callback, MetricsFile, TensorBoard
from .config import TrainingConfig
from .profiling import Trace

__all__ = ["recorders"]


def recorders(folder: Path | None, settings: TrainingConfig) -> list[Callback]:
    """Return the callbacks that write the metrics, and the trace if one is wanted.

    Raises:
        ConfigError: A trace without a folder for it.
    """
    if folder is None:
        if settings.trace_steps is not None:
            raise ConfigError(
                "training.trace_steps writes trace.json into the run folder; got no folder (out=)."
            )
        return []
    found: list[Callback] = [MetricsFile(folder / "metrics.jsonl")]
    if settings.tensorboard:
        found.append(TensorBoard(folder / "tensorboard"))
    if settings.trace_steps is not None:
        found.append(Trace(folder / "trace.json", settings.trace_steps))
    return found
