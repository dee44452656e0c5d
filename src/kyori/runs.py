"""A run: an embedder trained and measured on one data set, and the folder that holds all of it.

```
runs/photos/
  config.yaml       everything that decided the training
  data.json         what it was trained on: name, fingerprint, skipped items
  model.safetensors, model.json
  checkpoints/      to go on after a stop
  metrics.jsonl     one record an epoch
  vectors.parquet   vectors of the test items
  results.json      every measure with its interval and its per-query values
  report.html       the page to look at
```
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from .data import Source, Split, balanced_pairs, make_split, open_source
from .errors import ArgumentError, ConfigError, DataError, FileFormatError, KyoriError
from .evaluation import evaluate, evaluate_pairs
from .files import write_atomic
from .models import Embedder
from .report import Trial, write_run_report
from .results import Result, Results
from .training import ProgressBar, RunConfig, build, read_metrics, train
from .training import recipe as find_recipe
from .vectors import VectorTable

__all__ = [
    "Run",
    "default_folder",
    "encode_part",
    "finished_run",
    "fit",
    "fit_split",
    "open_run",
    "open_table",
    "opening_options",
    "resolve_config",
    "short_name",
    "split_source",
    "table_of",
]

CONFIG, DATA, METRICS = "config.yaml", "data.json", "metrics.jsonl"
RESULTS, VECTORS, REPORT = "results.json", "vectors.parquet", "report.html"
_PARTS = ("train", "validation", "test", "all")
_VALIDATION_ITEMS = 2000


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
    def name(self) -> str:
        """The folder's name, or the loss's."""
        return self.folder.name if self.folder else self.config.loss.name

    def summary(self) -> dict[str, Any]:
        """Return what a script wants to know, ready for JSON."""
        return {
            "folder": str(self.folder) if self.folder else None,
            "loss": self.config.loss.name,
            "seconds": round(self.seconds, 3),
            "parameters": self.embedder.parameter_count,
            "results": json.loads(self.results.to_json())["results"] if self.results else None,
        }

    def __str__(self) -> str:
        trained = (
            f"{self.config.loss.name}: {self.embedder.parameter_count:,} parameters in {self.seconds:.1f} s"
        )
        return f"{trained}\n{self.results}" if self.results is not None else trained


def resolve_config(
    config: RunConfig | str | Path | None = None, recipe: str | None = None, **options: Any
) -> RunConfig:
    """Return the configuration that ``fit`` would use: a recipe or a file, with flat options over it.

    Raises:
        ConfigError: Unknown recipe, key or value, or both a recipe and a configuration.
    """
    if config is not None and recipe is not None:
        raise ConfigError("config and recipe are two starting points; give one of them.")
    base = config
    if isinstance(config, str | Path):
        base = RunConfig.load(config)
    if recipe is not None:
        base = find_recipe(recipe)
    return RunConfig.from_options(base, **options)


def default_folder(data: str, recipe: str | None = None, config: Any = None, **options: Any) -> Path:
    """Return ``runs/<data>-<recipe or loss>``."""
    what = recipe or resolve_config(config, recipe, **options).loss.name
    return Path("runs") / f"{short_name(data)}-{what}"


def short_name(data: str) -> str:
    """Return a name for files made from how the user named the data.

    >>> short_name("../my photos/cats.csv")
    'cats'
    """
    stem = re.sub(r"\.(csv|parquet|npz)$", "", Path(data).resolve().name)
    return re.sub(r"[^\w.-]+", "-", stem).strip("-") or "data"


def split_source(source: Source, config: RunConfig) -> Split:
    """Split a source as the configuration says."""
    data = config.data
    if data.split == "none":
        nothing = source.take([])
        return Split(source, nothing, nothing)
    return make_split(
        source,
        kind=data.split,
        fractions=data.fractions,
        seed=data.split_seed,
        fold=data.fold,
        folds=data.folds,
    )


def fit(
    data: Any,
    *,
    labels: Any = None,
    out: str | Path | None = None,
    config: RunConfig | str | Path | None = None,
    recipe: str | None = None,
    resume: bool = False,
    progress: bool = False,
    report: str | None = "en",
    backbone: str | nn.Module | None = None,
    **options: Any,
) -> Run:
    """Learn a distance from labelled data, measure it on held-out items, and keep all of it in one folder.

    Args:
        data: Whatever :func:`kyori.open_source` opens: a folder of class folders, a manifest, arrays ``(X, y)``, ….
        labels: Labels ``(n,)`` where ``data`` is an array without them.
        out: Run folder to write; None keeps the run in memory only.
        config: Starting point: a :class:`~kyori.training.RunConfig` or a YAML file.
        recipe: Another starting point: the name of a published set-up, e.g. ``"siamese-mlp"``.
        resume: Go on from the last checkpoint in ``out``; the result has the same bits as an uninterrupted run.
        progress: Show a progress bar on stderr.
        report: Language of ``report.html``, ``"en"`` or ``"ja"``; None writes none.
        backbone: A name, or any module that maps ``(b, *input_shape)`` to ``(b, k)`` or ``(b, k, h, w)``.
        **options: Any key of the configuration by its own name: ``loss="arcface", epochs=5, margin=0.3, lr=1e-3``.
            A loss of your own goes with ``kyori.training.train``.

    Returns:
        The run: trained embedder, results on the test items, history.

    Raises:
        ArgumentError: A wrong option, or ``out`` already holds a run.
        DataError: The data cannot be used as they are, or have fewer than two classes.
        TrainingError: The loss became NaN.
        Interrupted: Ctrl-C, after a checkpoint was saved.

    Example:
        >>> run = fit("digits", loss="softmax", epochs=1, seed=0)
        >>> run.embedder.encode(np.zeros((2, 8, 8), dtype=np.uint8)).shape
        (2, 64)
    """
    if backbone is not None:
        options["backbone"] = backbone if isinstance(backbone, str) else type(backbone).__name__
    settings = resolve_config(config, recipe, **options)
    folder = Path(out) if out is not None else None
    source = open_source(
        data,
        labels=labels,
        **({} if isinstance(data, Source) else opening_options(settings)),
    )
    return fit_split(
        split_source(source, settings),
        settings,
        folder=folder,
        resume=resume,
        progress=progress,
        report=report,
        backbone=backbone if isinstance(backbone, nn.Module) else None,
    )


def opening_options(config: RunConfig) -> dict[str, Any]:
    """Return the options of :func:`kyori.open_source` that the configuration decides."""
    data = config.data
    return {"size": data.image_size, "channels": data.channels, "bad_items": data.bad_items}


def fit_split(
    split: Split,
    config: RunConfig,
    *,
    folder: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    report: str | None = None,
    backbone: nn.Module | None = None,
) -> Run:
    """Do what :func:`fit` does on data that are opened and split already.

    Validation chooses among the epochs by ``config.training.measure`` on at most 2,000 validation items (drawn
    once, with the run's seed); the test items are measured once, at the end.
    """
    embedder, loss = build(config, split.train, backbone=backbone)
    if folder is not None:
        _prepare_folder(folder, split, config, resume=resume, overwrite=overwrite)
    start = time.perf_counter()
    history = train(
        embedder,
        loss,
        split.train,
        config,
        validate=_validation(split.validation, config),
        folder=folder,
        resume=resume,
        callbacks=[ProgressBar(measure=config.training.measure)] if progress else [],
    )
    seconds = time.perf_counter() - start
    table = table_of(embedder, split.test) if len(split.test) else None
    results = _measure(embedder, split, table, config, seconds) if table is not None else None
    run = Run(embedder, config, results, table, tuple(history.epochs), seconds, folder)
    if folder is not None:
        _save(run, split, report)
    return run


def _prepare_folder(folder: Path, split: Split, config: RunConfig, *, resume: bool, overwrite: bool) -> None:
    """Write what must be known to go on or to evaluate later, before the first step is taken."""
    started = (folder / CONFIG).exists()
    if resume and not started:
        raise ArgumentError(
            f"{folder} holds no run to go on with; leave --resume (resume=True) out to start one."
        )
    if started and not resume and not overwrite:
        raise ArgumentError(
            f"{folder} already holds a run; go on with --resume (resume=True), or choose another folder with --out."
        )
    if resume:
        return
    folder.mkdir(parents=True, exist_ok=True)
    if started:  # an unfinished or outdated run of ours: nothing of it may be mistaken for this one's
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        for name in (CONFIG, DATA, METRICS, RESULTS, VECTORS, REPORT):
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


def _validation(source: Source, config: RunConfig) -> Callable[[Embedder], Mapping[str, float]] | None:
    if len(source) == 0:
        return None
    if len(source) > _VALIDATION_ITEMS:
        order = np.random.default_rng(config.seed).permutation(len(source))
        source = source.take(np.sort(order[:_VALIDATION_ITEMS]))
    measure = config.training.measure

    def validate(embedder: Embedder) -> Mapping[str, float]:
        results = evaluate(table_of(embedder, source), measures=[measure], bootstrap=0)
        return {measure: results[measure].value}

    return validate


def _measure(
    embedder: Embedder, split: Split, table: VectorTable, config: RunConfig, seconds: float
) -> Results:
    results = evaluate(table, seed=config.seed)
    pairs: list[Result] = []
    if config.batches.kind == "pairs":
        parts = {"train": table_of(embedder, split.train), "test": table}
        pairs = [_pair_accuracy(name, part, config) for name, part in parts.items()]
    training = {"loss": config.loss.name, "seed": config.seed, "seconds": seconds}
    return Results(
        [*results.values(), *pairs],
        curves=results.curves,
        provenance={**results.provenance, "training": training},
    )


def _pair_accuracy(part: str, table: VectorTable, config: RunConfig) -> Result:
    """Measure balanced pairs, the scheme of the pair batches, at half the margin: the Keras example's accuracy."""
    if table.labels is None:
        raise DataError("pair accuracy needs labels.")
    first, second, same = balanced_pairs(table.labels, np.random.default_rng(config.seed))
    distances = np.linalg.norm(table.vectors[first] - table.vectors[second], axis=1)
    threshold = config.loss.options.get("margin", 1.0) / 2
    name = f"accuracy@{threshold:g}"
    found = evaluate_pairs(distances, same, threshold=threshold)
    return replace(found[name], measure=f"{part}-pair-{name}")


def _save(run: Run, split: Split, report: str | None) -> None:
    folder = run.folder
    if folder is None:
        return
    run.embedder.save(folder)
    if run.table is None or run.results is None:
        return
    run.table.save(folder / VECTORS)
    if report is not None:
        trial = Trial(
            method=run.config.loss.name,
            seed=run.config.seed,
            results=run.results,
            table=run.table,
            history=run.history,
            seconds=run.seconds,
            parameters=run.embedder.parameter_count,
        )
        write_run_report(
            trial,
            split.test,
            folder / REPORT,
            data=split.test.name,
            measure=run.config.training.measure,
            lang=report,
            command=f"kyori train {split.test.name} -c {CONFIG}",
        )
    run.results.to_json(folder / RESULTS)  # last: a run with results is complete


def table_of(embedder: Embedder, source: Source) -> VectorTable:
    """Encode a source: vectors ``(n, d)`` with its ids, labels and columns."""
    return VectorTable(
        ids=source.ids,
        vectors=embedder.encode(source),
        labels=source.labels,
        columns=source.columns,
        class_names=source.class_names if source.labels is not None else None,
    )


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
        same_data = _read_facts(folder)["parts"] == _parts(split)
    except KyoriError:
        return None
    return run if same_data and run.config == config else None


def encode_part(folder: str | Path, data: Any, part: str = "auto") -> tuple[VectorTable, str]:
    """Encode one part of ``data`` with the embedder of a run.

    Args:
        folder: A run folder.
        data: Whatever :func:`kyori.open_source` opens.
        part: ``"train"``, ``"validation"``, ``"test"`` as the run's configuration splits the data, ``"all"``, or
            ``"auto"``: the test part if these are the data that the run was trained on, else all of them.

    Returns:
        The vectors, and the name of the part that was taken.
    """
    if part not in (*_PARTS, "auto"):
        raise ArgumentError(f"part must be one of {', '.join(_PARTS)} or auto; got '{part}'.")
    run = open_run(folder)
    source = open_source(data, **({} if isinstance(data, Source) else opening_options(run.config)))
    if part == "auto":
        part = "test" if _is_own_data(Path(folder), source, run.config) else "all"
    if part != "all":
        source = getattr(split_source(source, run.config), part)
    if len(source) == 0:
        raise DataError(f"{source.name}: the part '{part}' is empty; choose another with --part.")
    return table_of(run.embedder, source), part


def _is_own_data(folder: Path, source: Source, config: RunConfig) -> bool:
    try:
        split = split_source(source, config)
    except KyoriError:  # other data may not even be splittable in the run's way
        return False
    return len(split.test) > 0 and _parts(split) == _read_facts(folder)["parts"]


def _read_facts(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / DATA).read_text(encoding="utf-8"))
        return {"parts": dict(facts["parts"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(f"{folder / DATA} is missing or damaged: {error!r}") from error


def open_table(path: str | Path) -> VectorTable:
    """Open vectors: a Parquet file, or the test vectors of a run folder."""
    path = Path(path)
    return VectorTable.load(path / VECTORS if path.is_dir() else path)
