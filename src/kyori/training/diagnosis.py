"""When a training goes wrong or is stopped: what happened and what to do, in words."""

from collections.abc import Mapping
from pathlib import Path

from ..errors import Interrupted, TrainingError
from .callbacks import Progress
from .config import RunConfig

__all__ = ["COLLAPSED", "collapse", "interrupted", "not_finite"]

COLLAPSED = 1e-3  # spread of the embeddings, relative to their length, below which they count as one point


def interrupted(progress: Progress, checkpoint: Path | None) -> Interrupted:
    """Say where the run was stopped and how to go on."""
    epoch = min(progress.epoch + 1, progress.epochs)
    where = f"stopped in epoch {epoch} of {progress.epochs} after step {progress.step}"
    if checkpoint is None:
        return Interrupted(f"{where}; nothing was saved, since the run has no folder.")
    return Interrupted(
        f"{where}; saved as {checkpoint}. Go on with the same command and --resume (resume=True): the result will be "
        "the same as without the interruption."
    )


def not_finite(value: float, progress: Progress, config: RunConfig, *, half: bool) -> TrainingError:
    """Say that the loss is infinite or NaN, and what usually helps.

    Args:
        value: The loss.
        progress: Where the run is.
        config: Its configuration.
        half: Whether it runs in fp16, whose numbers end at 65,504.
    """
    hints = [f"a smaller optimizer.lr (now {config.optimizer.lr:g})"]
    if config.training.clip_norm is None:
        hints.append("training.clip_norm, for example 1")
    if half:
        hints.append("training.precision bf16 or float32")
    hints.append("a look at the data for NaN and very large values")
    return TrainingError(
        f"the loss became {value} by step {progress.step + 1} (epoch {progress.epoch + 1}), so training cannot go on. "
        f"Try {'; '.join(hints)}."
    )


def collapse(stats: Mapping[str, float], step: int) -> str | None:
    """Say that all embeddings have become one point, None if they have not."""
    if stats.get("spread", 1.0) >= COLLAPSED:
        return None
    kinds = {"positive_distance": "same class", "negative_distance": "different class"}
    seen = [f"{kind} {stats[key]:.2g}" for key, kind in kinds.items() if key in stats]
    seen.append(f"spread {stats['spread']:.1g}")
    return (
        f"by step {step} all distances shrink to 0 ({', '.join(seen)}): the embeddings collapse to one point. Try a "
        "smaller optimizer.lr, triplets with mining 'all' or 'semihard' rather than 'hard', or a larger batch."
    )
