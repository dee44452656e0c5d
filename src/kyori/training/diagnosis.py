"""When a training goes wrong or is stopped: what happened and what to do, in words."""

from collections.abc import Mapping
from pathlib import Path

from ..errors import DataError, Interrupted, ItemError, TrainingError
from .callbacks import Progress
from .config import RunConfig

__all__ = ["COLLAPSED", "collapse", "interrupted", "not_finite", "not_saved", "unreadable"]

COLLAPSED = 1e-3  # spread of the embeddings, relative to their length, below which they count as one point


def interrupted(progress: Progress, checkpoint: Path | None, failure: OSError | None = None) -> Interrupted:
    """Say where the run was stopped and how to go on.

    Args:
        progress: Where the run is.
        checkpoint: The newest checkpoint, None if there is none.
        failure: Why it is older than the stop, None if it is not.
    """
    return Interrupted(f"stopped {_place(progress)}; {_saved(checkpoint, failure, 'Go on')}")


def unreadable(
    error: DataError, progress: Progress, checkpoint: Path | None, failure: OSError | None = None
) -> DataError:
    """Say that the training items can no longer be read, where the run stopped, and how to go on."""
    reason = error.reason if isinstance(error, ItemError) else str(error)
    saved = _saved(checkpoint, failure, "Put the item back, then go on")
    text = f"{reason.rstrip('.')}. Training stopped {_place(progress)}; {saved}"
    return ItemError(error.item, text) if isinstance(error, ItemError) else DataError(text)


def not_saved(failure: OSError, progress: Progress, newest: Path | None) -> str:
    """Say that a checkpoint could not be written, and what that means."""
    last = "there is none yet" if newest is None else f"the last good one is {newest}"
    return (
        f"the checkpoint of step {progress.step} could not be written ({failure.strerror or failure}); {last}. "
        "Training goes on and tries again when the next one is due. Make room on the disk."
    )


def _place(progress: Progress) -> str:
    epoch = min(progress.epoch + 1, progress.epochs)
    return f"in epoch {epoch} of {progress.epochs} after step {progress.step}"


def _saved(checkpoint: Path | None, failure: OSError | None, go_on: str) -> str:
    """Say what there is to go on from, and how."""
    how = f"{go_on} with the same command and --resume (resume=True)"
    if failure is not None:
        reason = f"that could not be saved ({failure.strerror or failure})"
        if checkpoint is None:
            return f"{reason}, and there is no older checkpoint."
        return (
            f"{reason}; the last good checkpoint is {checkpoint}. {how}: the steps since then are done again."
        )
    if checkpoint is None:
        return "nothing was saved, since the run has no folder."
    return f"saved as {checkpoint}. {how}: the result will be the same as without the interruption."


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
