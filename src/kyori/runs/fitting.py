"""`fit`: from labelled data to a measured run, in one call."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from .. import distributed
from ..data import Corrections, Source, Split, balanced_pairs, make_split, open_source
from ..data.opening import is_table
from ..data.streams import is_stream
from ..errors import ArgumentError, ConfigError, DataError, KyoriError, nearest_name
from ..evaluation import evaluate, evaluate_pairs
from ..models import Embedder
from ..report import LANGUAGES
from ..results import Result, Results
from ..training import ProgressBar, RunConfig, build, train
from ..training import recipe as find_recipe
from ..vectors import VectorTable
from .caching import cached_split
from .folder import Run, check_folder, is_own_split, open_run, prepare_folder, save_run, short_name
from .streaming import open_stream_as, split_stream

__all__ = [
    "default_folder",
    "encode_part",
    "fit",
    "fit_split",
    "open_data",
    "open_part",
    "resolve_config",
    "split_source",
    "table_of",
    "trained_items",
    "unit_of",
]

CORRECTIONS = "corrections.csv"
_PARTS = ("train", "validation", "test", "all")
_VALIDATION_ITEMS = 2000


def resolve_config(
    config: RunConfig | str | Path | None = None, recipe: str | None = None, **options: Any
) -> RunConfig:
    """Return the configuration that ``fit`` would use: a recipe or a file, with flat options over it.

    Raises:
        ConfigError: Unknown recipe, key or value, or both a recipe and a configuration.
    """
    if config is not None and recipe is not None:
        raise ConfigError("config and recipe are two starting points; give one of them.")
    base = RunConfig.load(config) if isinstance(config, str | Path) else config
    return RunConfig.from_options(base if recipe is None else find_recipe(recipe), **options)


def split_source(source: Source, config: RunConfig) -> Split:
    """Split a source as the configuration says."""
    data = config.data
    if data.split == "none" or source.labels is None:  # nothing to measure unlabelled items by
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


def corrected_split(source: Source, config: RunConfig, corrections: Corrections | None) -> Split:
    """Split a source as the configuration says, with the corrections applied.

    Items are split as they came and corrected then, so that runs with and without corrections share their test items.
    Whole classes are corrected first: an item that goes to another class must go to that class's side.
    """
    if corrections is None:
        return split_source(source, config)
    corrected = corrections.apply(source)
    if config.data.split.startswith("class-disjoint"):
        return split_source(corrected, config)
    return Split(*(corrected.take(np.isin(corrected.ids, part.ids)) for part in split_source(source, config)))


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
    corrections: Corrections | str | Path | None = None,
    **options: Any,
) -> Run:
    """Learn a distance from labelled data, measure it on held-out items, and keep all of it in one folder.

    Args:
        data: Whatever :func:`kyori.open_source` opens: a folder of class folders, a manifest, arrays ``(X, y)``, …; or
            what is read as a stream: tar or Parquet shards, by path, pattern or URL, or an ``IterableDataset``.
        labels: Labels ``(n,)`` where ``data`` is an array without them.
        out: Run folder to write; None keeps the run in memory only.
        config: Starting point: a :class:`~kyori.training.RunConfig` or a YAML file.
        recipe: Another starting point: the name of a published set-up, e.g. ``"siamese-mlp"``.
        resume: Go on from the last checkpoint in ``out``; the result has the same bits as an uninterrupted run.
        progress: Show a progress bar on stderr.
        report: Language of ``report.html``, ``"en"`` or ``"ja"``; None writes none.
        backbone: A name, or any module that maps ``(b, *input_shape)`` to ``(b, k)`` or ``(b, k, h, w)``.
        corrections: Decisions about wrong labels, or the CSV file of them that the page of ``kyori clean`` saves: items
            are relabelled or left out, and stay in the part of the split that they were in. Kept in ``out``.
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
    if report is not None and report not in LANGUAGES:
        raise ArgumentError(
            f"report must be None or a language{nearest_name(report, LANGUAGES)}; got {report!r}."
        )
    settings = _sized(resolve_config(config, recipe, **options))
    folder = Path(out) if out is not None else None
    if folder is not None:
        check_folder(folder, resume=resume)  # before minutes go into reading pictures
        distributed.wait()  # all ranks have looked before one writes
    decided = Corrections.load(corrections) if isinstance(corrections, str | Path) else corrections
    split = _opened(data, settings, labels, decided, progress=progress)
    if folder is not None and decided is not None and distributed.first():
        folder.mkdir(parents=True, exist_ok=True)
        decided.save(folder / CORRECTIONS)
    return fit_split(
        split,
        settings,
        folder=folder,
        resume=resume,
        progress=progress,
        report=report,
        backbone=backbone if isinstance(backbone, nn.Module) else None,
    )


def _opened(
    data: Any, config: RunConfig, labels: Any, corrections: Corrections | None, *, progress: bool
) -> Split:
    """The parts of data of any form."""
    if not is_stream(data):
        return corrected_split(
            open_data(data, config, labels=labels, progress=progress, training=True), config, corrections
        )
    for name, given in (("labels=", labels), ("corrections", corrections)):
        if given is not None:
            raise ArgumentError(
                f"{name} belongs to data that are opened as a whole; streams bring their own labels."
            )
    return split_stream(open_stream_as(data, config), config)


def unit_of(config: RunConfig) -> Literal["query", "class"]:
    """Return what intervals resample: whole classes where the split asks about unseen ones, else single queries."""
    return "class" if config.data.split.startswith("class-disjoint") else "query"


def _sized(config: RunConfig) -> RunConfig:
    """The configuration with the form of the items that the model in ``model.init`` takes."""
    saved = None if config.model.init is None else Embedder.saved_scale(config.model.init)
    if saved is None or saved.kind == "vector":
        return config
    data = config.data
    update: dict[str, Any]
    given: dict[str, Any]
    if saved.kind == "image":
        height, width, channels = saved.shape
        size = (data.image_size,) * 2 if isinstance(data.image_size, int) else data.image_size
        update = {"image_size": (height, width), "channels": channels, "resize": saved.resize}
        given = {"image_size": size, "channels": data.channels, "resize": data.resize}
        what = f"pictures of {height}×{width} pixels and {channels} channels, resize {saved.resize}"
    else:
        update, given = {"items": saved.kind}, {"items": data.items}
        what = f"{saved.kind}s"
    for name, value in update.items():
        if given[name] not in (type(data).model_fields[name].default, value):
            raise ConfigError(
                f"data.{name} contradicts model.init: {config.model.init} takes {what}; got {given[name]!r}. Leave "
                f"{name} out, or init."
            )
    return config.model_copy(update={"data": data.model_copy(update=update)})


def open_data(
    data: Any,
    config: RunConfig,
    *,
    labels: Any = None,
    progress: bool = False,
    training: bool = False,
    late: bool = False,
) -> Source:
    """Open ``data`` as the configuration says; a ``Source`` stays as it is.

    With ``progress``, reading that takes longer than two seconds says on stderr how far it is. ``late`` decodes no
    picture before it is asked for, and a damaged one is found then; so does a ``training`` on cached features.
    """
    if isinstance(data, Source):
        return open_source(data, labels=labels)
    wanted = config.data
    late |= training and config.training.cache_features is not None and isinstance(data, str | Path)
    return open_source(
        data,
        labels=labels,
        size=wanted.image_size,
        channels=wanted.channels,
        resize=wanted.resize,
        items=wanted.items,
        bad_items=wanted.bad_items,
        # a run on a table may be asked about arrays, too, which have no columns
        label=wanted.label if is_table(data) else None,
        features=wanted.features if is_table(data) else (),
        verify=not late,
        memory_limit=0 if late else 2**30,
        progress=_ReadingNote() if progress else None,
    )


class _ReadingNote:
    """Says on stderr, every two seconds, how many pictures are read."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._last > 2:
            self._last = time.monotonic()
            print(f"reading pictures: {done:,} of {total:,}", file=sys.stderr, flush=True)


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
    if folder is not None and not resume and distributed.first():
        prepare_folder(folder, split, config, overwrite=overwrite)
    start = time.perf_counter()
    learner, parts = embedder, split
    if config.training.cache_features is not None:
        learner, parts = cached_split(embedder, split, config, note=progress)
    history = train(
        learner,
        loss,
        parts.train,
        config,
        validate=_validation(parts.validation, config),
        folder=folder,
        resume=resume,
        callbacks=[ProgressBar(measure=config.training.measure)] if progress else [],
    )
    seconds = time.perf_counter() - start
    embedder.eval()
    table = table_of(learner, parts.test) if len(parts.test) else None
    trained = table_of(learner, parts.train) if config.batches.kind == "pairs" else None
    if not distributed.first():  # one rank measures and writes
        distributed.wait()
        return Run(embedder, config, None, table, tuple(history.epochs), seconds, folder)
    results = _measure(table, trained, config, seconds) if table is not None else None
    run = Run(embedder, config, results, table, tuple(history.epochs), seconds, folder)
    if folder is not None:
        save_run(run, split, report)
    distributed.wait()
    return run


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


def _measure(table: VectorTable, trained: VectorTable | None, config: RunConfig, seconds: float) -> Results:
    results = evaluate(table, seed=config.seed, unit=unit_of(config))
    pairs: list[Result] = []
    if trained is not None:
        parts = {"train": trained, "test": table}
        pairs = [_pair_accuracy(name, part, config) for name, part in parts.items()]
    training = {
        "loss": config.loss.name,
        "options": config.loss.options,  # the report draws the forces of this loss
        "seed": config.seed,
        "seconds": seconds,
    }
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


def default_folder(data: str, recipe: str | None = None, config: Any = None, **options: Any) -> Path:
    """Return ``runs/<data>-<recipe or loss>``."""
    what = recipe or resolve_config(config, recipe, **options).loss.name
    return Path("runs") / f"{short_name(data)}-{what}"


def table_of(embedder: Embedder, source: Source) -> VectorTable:
    """Encode a source: vectors ``(n, d)`` with its ids, labels and columns.

    A further column ``feature_norm`` holds the lengths of the features before they were scaled to length 1.
    """
    return table_from(source, *_encode(embedder, source))


def table_from(source: Source, vectors: np.ndarray, norms: np.ndarray) -> VectorTable:
    """Put vectors ``(n, d)`` and the norms of their features ``(n,)`` together with what is known of the items."""
    return VectorTable(
        ids=source.ids,
        vectors=vectors,
        labels=source.labels,
        columns={**source.columns, "feature_norm": norms},
        class_names=source.class_names if source.labels is not None else None,
    )


def _encode(embedder: Embedder, source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (n, d) and norms (n,), on all ranks, each of which encodes its share of the items."""
    rank, world = distributed.rank(), distributed.world()
    if world == 1 or len(source) < world:
        return embedder.encode_with_norms(source)
    own = np.arange(rank * len(source) // world, (rank + 1) * len(source) // world)
    vectors, norms = embedder.encode_with_norms(source.take(own))
    device = next((p.device for p in embedder.parameters()), torch.device("cpu"))
    both = [distributed.gather(torch.as_tensor(part, device=device)) for part in (vectors, norms)]
    return both[0].cpu().numpy(), both[1].cpu().numpy()


def encode_part(folder: str | Path, data: Any, part: str = "auto") -> tuple[VectorTable, str]:
    """Encode one part of ``data`` with the embedder of a run; the arguments are those of :func:`open_part`.

    Returns:
        The vectors, and the name of the part that was taken.
    """
    run, source, part = open_part(folder, data, part)
    return table_of(run.embedder, source), part


def open_part(folder: str | Path, data: Any, part: str = "auto") -> tuple[Run, Source, str]:
    """Open one part of ``data`` as the run in ``folder`` splits it.

    Args:
        folder: A run folder.
        data: Whatever :func:`kyori.open_source` opens.
        part: ``"train"``, ``"validation"``, ``"test"`` as the run's configuration splits the data, ``"all"``, or
            ``"auto"``: the test part if these are the data that the run was trained on, else all of them. Parts are
            corrected as they were for the training, all of the data are taken as they are.

    Returns:
        The run, the items of the part, and the name of the part that was taken.
    """
    if part not in (*_PARTS, "auto"):
        raise ArgumentError(f"part must be one of {', '.join(_PARTS)} or auto; got '{part}'.")
    run = open_run(folder)
    source = open_data(data, run.config)
    corrections = _corrections_of(Path(folder), source)
    if part == "auto":
        part = "test" if _is_own_data(Path(folder), source, run.config, corrections) else "all"
    if part != "all":
        source = getattr(corrected_split(source, run.config, corrections), part)
    if len(source) == 0:
        raise DataError(f"{source.name}: the part '{part}' is empty; choose another with --part.")
    return run, source, part


def trained_items(folder: str | Path, source: Source) -> np.ndarray | None:
    """Say which items of a source a run was trained on.

    Args:
        folder: The run folder.
        source: All of the data, not a part of them.

    Returns:
        ``(n,)`` bools; None where these are not the data of the run, as far as their ids and labels tell.
    """
    folder = Path(folder)
    config = open_run(folder).config
    try:
        split = corrected_split(source, config, _corrections_of(folder, source))
    except KyoriError:  # other data may not even be splittable in the run's way
        return None
    return np.isin(source.ids, split.train.ids) if is_own_split(folder, split) else None


def _corrections_of(folder: Path, source: Source) -> Corrections | None:
    """The corrections that the run was trained with, if they fit these data."""
    if not (folder / CORRECTIONS).exists():
        return None
    corrections = Corrections.load(folder / CORRECTIONS)
    try:
        corrections.apply(source)
    except DataError:  # other data
        return None
    return corrections


def _is_own_data(folder: Path, source: Source, config: RunConfig, corrections: Corrections | None) -> bool:
    try:
        split = corrected_split(source, config, corrections)
    except KyoriError:  # other data may not even be splittable in the run's way
        return False
    return len(split.test) > 0 and is_own_split(folder, split)
