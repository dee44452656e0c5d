"""The folder of a run: what is written when, and how it is opened again.

```
runs/photos/
  config.yaml       everything that decided the training
  data.json         what it was trained on: sizes and fingerprints of the parts, skipped items
  model.safetensors, model.json
  checkpoints/      to go on after a stop
  metrics.jsonl     one record an epoch
  vectors.parquet   vectors of the test items
  report.html       the page to look at
  results.json      every measure with its interval and its per-query values; written last
```
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..data import Split
from ..errors import ArgumentError, FileFormatError, KyoriError
from ..files import write_atomic
from ..models import Embedder
from ..results import Results
from ..training import RunConfig, read_metrics
from ..vectors import VectorTable
from .reporting import report_run

__all__ = [
    "Run",
    "check_folder",
    "finished_run",
    "is_own_split",
    "open_run",
    "open_table",
    "prepare_folder",
    "save_run",
    "short_name",
]

CONFIG, DATA, METRICS = "config.yaml", "data.json", "metrics.jsonl"
MODEL = ("model.safetensors", "model.json")
RESULTS, VECTORS, REPORT = "results.json", "vectors.parquet", "report.html"


@dataclass(frozen=True)
class Run:
    """What a training leaves behind.

    Attributes:
        embedder: The trained network; ``run.embedder.encode(items)`` gives vectors ``(n, d)``.
        config: Everything that decided the training.
        results: Every measure on the test items; None where the data left none.
        table: Vectors of the test items; None where the data left none.
        history: One record an epoch.
        seconds: Wall-clock time of the training.
        folder: The run folder; None if nothing was written.
    """

    embedder: Embedder
    config: RunConfig
    results: Results | None = None
    table: VectorTable | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    seconds: float = 0.0
    folder: Path | None = None

    @property
    def method(self) -> str:
        """What it was trained by: the loss's name, or that of the linear method on a comparison's board."""
        training = {} if self.results is None else self.results.provenance.get("training", {})
        return str(training.get("linear", self.config.loss.name))

    @property
    def name(self) -> str:
        """The folder's name, or the method's."""
        return self.folder.name if self.folder else self.method

    def summary(self) -> dict[str, Any]:
        """Return what a script wants to know, ready for JSON."""
        return {
            "folder": str(self.folder) if self.folder else None,
            "loss": self.method,
            "seconds": round(self.seconds, 3),
            "parameters": self.embedder.parameter_count,
            "results": json.loads(self.results.to_json())["results"] if self.results else None,
        }

    def __str__(self) -> str:
        trained = f"{self.method}: {self.embedder.parameter_count:,} parameters in {self.seconds:.1f} s"
        return f"{trained}\n{self.results}" if self.results is not None else trained


def short_name(data: str) -> str:
    """Return a name for files made from how the user named the data.

    >>> short_name("../my photos/cats.csv")
    'cats'
    """
    stem = re.sub(r"\.(csv|parquet|npz)$", "", Path(data).resolve().name)
    return re.sub(r"[^\w.-]+", "-", stem).strip("-") or "data"


def check_folder(folder: Path, *, resume: bool) -> None:
    """Refuse to write over a run, or to go on with one that is not there."""
    started = (folder / CONFIG).exists()
    if resume and not started:
        raise ArgumentError(
            f"{folder} holds no run to go on with; leave --resume (resume=True) out to start one."
        )
    if started and not resume:
        raise ArgumentError(
            f"{folder} already holds a run; go on with --resume (resume=True), or choose another folder with --out."
        )


def prepare_folder(folder: Path, split: Split, config: RunConfig, *, overwrite: bool) -> None:
    """Write what must be known to go on or to evaluate later, before the first step is taken."""
    if not overwrite:
        check_folder(folder, resume=False)
    started = (folder / CONFIG).exists()
    folder.mkdir(parents=True, exist_ok=True)
    if started:  # an unfinished or outdated run of ours: nothing of it may be mistaken for this one's
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        for name in (CONFIG, DATA, *MODEL, METRICS, RESULTS, VECTORS, REPORT):
            (folder / name).unlink(missing_ok=True)
    facts = {"name": split.train.name, "parts": _parts(split), "skipped": split.train.skipped}
    text = json.dumps(facts, indent=2, ensure_ascii=False)
    write_atomic(folder / DATA, lambda file: file.write(text.encode()))
    write_atomic(folder / CONFIG, lambda file: file.write(config.to_yaml().encode()))


def _parts(split: Split) -> dict[str, dict[str, Any]]:
    """Size and fingerprint of each part: equal ones mean the same items in the same parts."""
    return {
        name: {"items": len(part), "fingerprint": part.fingerprint()}
        for name, part in split._asdict().items()
    }


def save_run(run: Run, split: Split, report: str | None) -> None:
    folder = run.folder
    if folder is None:
        return
    run.embedder.save(folder)
    if run.table is None or run.results is None:
        return
    run.table.save(folder / VECTORS)
    if report is not None:
        report_run(run, split.test, folder / REPORT, lang=report)
    run.results.to_json(folder / RESULTS)  # last: a run with results is complete


def open_run(folder: str | Path, *, backbone: nn.Module | None = None) -> Run:
    """Open a finished run folder.

    Args:
        folder: What ``fit(..., out=folder)`` wrote.
        backbone: The network, where it was a module of the caller's own.

    Raises:
        FileFormatError: The folder is missing, holds no finished run, or a file in it is damaged.
    """
    folder = Path(folder)
    if not (folder / CONFIG).exists():
        raise FileFormatError(f"{folder} is not a run folder: it has no {CONFIG}. Make one with kyori train.")
    config = RunConfig.load(folder / CONFIG)
    embedder = Embedder.load(folder, backbone=backbone)
    measured = (folder / RESULTS).exists()
    results = Results.from_json(folder / RESULTS) if measured else None
    return Run(
        embedder=embedder,
        config=config,
        results=results,
        table=VectorTable.load(folder / VECTORS) if measured else None,
        history=tuple(r for r in read_metrics(folder / METRICS) if r["kind"] == "epoch"),
        seconds=float(results.provenance["training"]["seconds"]) if results is not None else 0.0,
        folder=folder,
    )


def finished_run(folder: Path, split: Split, config: RunConfig) -> Run | None:
    """Return the run in ``folder`` if it is finished, on the same parts and with the same configuration."""
    if not (folder / RESULTS).exists():
        return None
    try:
        run = open_run(folder)
        same_data = _read_parts(folder) == _parts(split)
    except KyoriError:
        return None
    return run if same_data and run.config == config else None


def is_own_split(folder: Path, split: Split) -> bool:
    """Return whether these parts are the ones that the run in ``folder`` was trained on."""
    return _read_parts(folder) == _parts(split)


def _read_parts(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / DATA).read_text(encoding="utf-8"))["parts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(f"{folder / DATA} is missing or damaged: {error!r}") from error


def open_table(path: str | Path) -> VectorTable:
    """Open vectors: a Parquet file, or the test vectors of a run folder."""
    path = Path(path)
    return VectorTable.load(path / VECTORS if path.is_dir() else path)
