"""What happens beside the training: a progress bar, the metrics file, TensorBoard."""

import json
import os
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from torch import Tensor

from ..errors import TrainingError, TrainingWarning
from ..files import make_folder, remove_unfinished, write_atomic
from ..optional import require

__all__ = ["Callback", "MetricsFile", "Progress", "ProgressBar", "TensorBoard", "read_metrics"]


@dataclass
class Progress:
    """Where a run is; one object that is updated in place.

    Attributes:
        epochs: Epochs in all.
        steps_per_epoch: Optimizer steps an epoch.
        step: Steps done since the start of the run, before a resume too.
        epoch: Epochs finished.
        epoch_step: Steps done in the present epoch.
        items: Items seen since the start of the present process.
        loss: Loss of the last step, a detached tensor: reading it waits for the device.
        active: Share of the active terms when last looked at; None where the loss has no such notion.
        lr: Learning rate of the model's weights in the last step.
    """

    epochs: int
    steps_per_epoch: int
    step: int = 0
    epoch: int = 0
    epoch_step: int = 0
    items: int = 0
    loss: Tensor | None = None
    active: float | None = None
    lr: float = 0.0


class Callback:
    """Follows a run; override what is needed. Exceptions pass through and end the run."""

    def on_start(self, progress: Progress) -> None:
        """Training starts or goes on at ``progress.step``."""

    def on_step(self, progress: Progress) -> None:
        """A step is done. Called very often: be quick, and read ``progress.loss`` seldom."""

    def on_epoch(self, record: Mapping[str, Any], progress: Progress) -> None:
        """An epoch is done and validated; ``record`` is its line of ``metrics.jsonl``."""

    def on_end(self, progress: Progress) -> None:
        """Training is over: finished, interrupted or failed."""


class MetricsFile(Callback):
    """Writes ``metrics.jsonl``: one JSON object a line, every 50th step and every epoch.

    When a run goes on, records from after its checkpoint are removed first, so that no step stands there twice. A
    full disk is a warning: the records wait in memory until there is room, and no half line is left in the file.
    """

    every = 50

    def __init__(self, path: Path):
        self.path = path
        self._file: BinaryIO | None = None
        self._waiting = b""  # records that are not in the file yet
        self._warned = False

    def on_start(self, progress: Progress) -> None:
        kept = [record for record in read_metrics(self.path) if _happened(record, progress)]
        lines = "".join(json.dumps(record) + "\n" for record in kept if progress.step)
        make_folder(self.path.parent)
        remove_unfinished(self.path.parent)
        try:
            write_atomic(self.path, lambda file: file.write(lines.encode()))
        except OSError as error:
            self._warn(error)
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 (closed in on_end)

    def on_step(self, progress: Progress) -> None:
        if progress.step % self.every == 0 and progress.loss is not None:
            record = {"kind": "step", "epoch": progress.epoch + 1, "step": progress.step}
            self._write(
                {**record, "loss": float(progress.loss), "active": progress.active, "lr": progress.lr}
            )

    def on_epoch(self, record: Mapping[str, Any], progress: Progress) -> None:
        self._write(record)

    def on_end(self, progress: Progress) -> None:
        if self._file is not None:
            if self._waiting:
                self._flush(self._file)
            self._file.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        if self._file is None:
            raise TrainingError("MetricsFile was told of a step before on_start.")
        self._waiting += json.dumps(record).encode() + b"\n"
        self._flush(self._file)

    def _flush(self, file: BinaryIO) -> None:
        end = os.fstat(file.fileno()).st_size
        try:
            view = memoryview(self._waiting)
            while view:
                view = view[file.write(view) :]
        except OSError as error:
            os.ftruncate(file.fileno(), end)
            self._warn(error)
        else:
            self._waiting = b""

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{self.path} cannot be written to ({error.strerror or error}); training goes on, and the records wait "
                "until there is room.",
                TrainingWarning,
                stacklevel=2,
            )


def _happened(record: Mapping[str, Any], progress: Progress) -> bool:
    """Whether a record is from before the moment that a run goes on from."""
    finished = record["kind"] != "epoch" or record.get("epoch", 0) <= progress.epoch
    return bool(record["step"] <= progress.step and finished)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the records of a metrics file; a last line cut short by a crash is left out."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


class TensorBoard(Callback):
    """Writes scalars for TensorBoard (extra ``track``): loss, active share and lr a step, validation an epoch."""

    every = 10

    def __init__(self, folder: Path):
        self.folder = folder
        self._board = require("torch.utils.tensorboard", extra="track", purpose="training.tensorboard")
        self._writer: Any = None

    def on_start(self, progress: Progress) -> None:
        self._writer = self._board.SummaryWriter(str(self.folder), purge_step=progress.step or None)

    def on_step(self, progress: Progress) -> None:
        if progress.step % self.every == 0 and progress.loss is not None:
            self._writer.add_scalar("train/loss", float(progress.loss), progress.step)
            self._writer.add_scalar("train/lr", progress.lr, progress.step)
            if progress.active is not None:
                self._writer.add_scalar("train/active", progress.active, progress.step)

    def on_epoch(self, record: Mapping[str, Any], progress: Progress) -> None:
        for name, value in record.get("validation", {}).items():
            self._writer.add_scalar(f"validation/{name.replace('@', '_at_')}", value, progress.step)

    def on_end(self, progress: Progress) -> None:
        if self._writer is not None:
            self._writer.close()


class ProgressBar(Callback):
    """A bar on the terminal with loss, active share, speed and time left; plain lines, one an epoch, elsewhere.

    Args:
        measure: The validation measure to show.
        stream: Where to write; standard error by default.
    """

    interval = 0.1  # seconds between redraws; a tiny network does thousands of steps a second

    def __init__(self, *, measure: str | None = None, stream: TextIO | None = None):
        self.measure = measure
        self.stream = stream
        self._bar: Any = None
        self._task: Any = None
        self._drawn = self._started = 0.0
        self._first_step = 0

    def on_start(self, progress: Progress) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._started, self._first_step, self._drawn = time.monotonic(), progress.step, 0.0
        console = Console(file=self.stream or sys.stderr)
        if not console.is_terminal:
            return
        columns = "epoch {task.fields[epoch]}", "{task.percentage:3.0f}%", "{task.fields[state]}"
        texts = [TextColumn(column) for column in columns]
        self._bar = Bar(
            texts[0], BarColumn(), *texts[1:], TimeRemainingColumn(), TextColumn("left"), console=console,
            auto_refresh=False, transient=True,
        )  # fmt: skip
        total = progress.epochs * progress.steps_per_epoch
        self._task = self._bar.add_task("", total=total, completed=progress.step, epoch="", state="")
        self._bar.start()

    def on_step(self, progress: Progress) -> None:
        now = time.monotonic()
        if self._bar is None or now - self._drawn < self.interval:
            return
        self._drawn = now
        parts = [f"loss {float(progress.loss):.4f}" if progress.loss is not None else ""]
        if progress.active is not None:
            parts.append(f"active {progress.active:.0%}")
        parts.append(f"{progress.items / max(now - self._started, 1e-9):,.0f} items/s")
        epoch = f"{progress.epoch + 1}/{progress.epochs}"
        self._bar.update(self._task, completed=progress.step, epoch=epoch, state=" · ".join(parts))
        self._bar.refresh()

    def on_epoch(self, record: Mapping[str, Any], progress: Progress) -> None:
        line = f"epoch {record['epoch']}/{progress.epochs}  loss {record['loss']:.4f}"
        if record.get("active") is not None:
            line += f"  active {record['active']:.0%}"
        if self.measure in record.get("validation", {}):
            line += f"  {self.measure} {record['validation'][self.measure]:.4f}"
        line += f"  {record['seconds']:.1f} s"
        if self._bar is not None:
            self._bar.console.print(line, highlight=False)
        else:
            print(line, file=self.stream or sys.stderr, flush=True)

    def on_end(self, progress: Progress) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
