"""Where the time of a training goes: a table of its parts, and a trace of a few steps."""

import json
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from ..files import write_atomic
from .callbacks import Callback, Progress

__all__ = ["Profile", "Trace"]

PARTS = {
    "data": "waiting for batches",
    "preprocess": "scaling and augmentation",
    "forward": "network, items to embeddings",
    "loss": "embeddings to loss",
    "backward": "gradients of loss and network",
    "step": "optimizer, clipping, averaging",
    "validation": "measures on the validation items",
    "checkpoint": "saving",
    "other": "the loop, callbacks, progress",
}
WARM_UP = 3  # steps before a trace: the first ones allocate
_NOTHING = nullcontext()


class Profile:
    """Adds up the seconds that the parts of a training take; a part inside another one is taken off the outer one.

    Waiting for the device at each border makes the parts true on a GPU, and the training slower there.

    Args:
        device: The device to wait for.
        enabled: If not, nothing is measured.

    >>> profile = Profile(torch.device("cpu"))
    >>> with profile("forward"):
    ...     pass
    >>> sorted(profile.seconds)
    ['forward']
    """

    def __init__(self, device: torch.device, *, enabled: bool = True):
        self.device = device
        self.enabled = enabled
        self.seconds: dict[str, float] = {}
        self.steps = 0
        self._open: list[str] = []
        self._last = self._start = time.perf_counter()

    def __call__(self, part: str) -> AbstractContextManager[Any]:
        """The context in which the time belongs to ``part``."""
        return _Section(self, part) if self.enabled else _NOTHING

    def table(self) -> str:
        """Seconds, share and milliseconds a step of each part, as text."""
        return _table(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"steps", "seconds", "parts": {part: seconds}}``, ready for JSON."""
        whole = time.perf_counter() - self._start
        parts = {part: self.seconds.get(part, 0.0) for part in PARTS}
        parts["other"] = max(0.0, whole - sum(parts.values()))
        return {"device": str(self.device), "steps": self.steps, "seconds": whole, "parts": parts}

    def save(self, path: Path) -> None:
        """Write `to_dict` as JSON."""
        text = json.dumps(self.to_dict(), indent=2)
        write_atomic(path, lambda file: file.write(text.encode()))

    @staticmethod
    def read_table(path: Path) -> str:
        """Return the table of a file that `save` wrote."""
        return _table(json.loads(path.read_text(encoding="utf-8")))

    def _enter(self, part: str) -> None:
        self._count()
        self._open.append(part)

    def _leave(self) -> None:
        self._count()
        self._open.pop()

    def _count(self) -> None:
        """Give the time since the last border to the innermost open part."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] = self.seconds.get(self._open[-1], 0.0) + now - self._last
        self._last = now


class _Section:
    def __init__(self, profile: Profile, part: str):
        self.profile = profile
        self.part = part

    def __enter__(self) -> Self:
        self.profile._enter(self.part)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.profile._leave()


def _table(facts: dict[str, Any]) -> str:
    whole, steps = facts["seconds"], facts["steps"]
    lines = [f"{'part':<12}{'seconds':>10}{'share':>8}{'ms/step':>10}"]
    for part, seconds in [*facts["parts"].items(), ("all", whole)]:
        share = seconds / whole if whole else 0.0
        per_step = f"{1e3 * seconds / steps:10.2f}" if steps else f"{'–':>10}"
        lines.append(f"{part:<12}{seconds:>10.2f}{share:>8.1%}{per_step}  {PARTS.get(part, '')}".rstrip())
    return "\n".join(lines) + f"\n{steps} steps on {facts['device']}"


class Trace(Callback):
    """Writes what PyTorch's profiler sees of a few steps, for chrome://tracing or https://ui.perfetto.dev.

    Args:
        path: The file to write; JSON.
        steps: How many steps, after three that are left out.
    """

    def __init__(self, path: Path, steps: int):
        self.path = path
        self.steps = steps
        self._profiler: torch.profiler.profile | None = None
        self._seen = 0

    def on_step(self, progress: Progress) -> None:
        self._seen += 1
        if self._seen == WARM_UP:
            activities = [torch.profiler.ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(torch.profiler.ProfilerActivity.CUDA)
            self._profiler = torch.profiler.profile(activities=activities)
            self._profiler.start()
        elif self._seen == WARM_UP + self.steps:
            self._write()

    def on_end(self, progress: Progress) -> None:
        self._write()

    def _write(self) -> None:
        if self._profiler is None:
            return
        self._profiler.stop()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._profiler.export_chrome_trace(str(self.path))
        self._profiler = None
