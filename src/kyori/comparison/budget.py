"""Equal budgets: what all methods of a comparison share, what each of them saw, and what a search chose for it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, DataWarning, KyoriError, KyoriWarning
from ..losses import LOSSES
from ..training import RunConfig
from ..training.setup import create_batches, train_classes
from .methods import Method

if TYPE_CHECKING:
    from ..data import Source, Split
    from .board import Cell
    from .folding import Folding

__all__ = ["chosen_values", "method_config", "shared_budget"]

TOLERANCE = 1.1  # between the items that two methods see in an epoch

#: Settings that are a method's own; all others of the configuration are the same for all methods.
OWN = {
    "loss",
    "optimizer",
    "schedule",
    "model.unit_norm",
    "batches.per_class",
    "training.clip_norm",
    "training.cache_rows",
}


def method_config(method: Method, base: RunConfig) -> RunConfig:
    """Return the configuration of a method: the shared one with its loss and its own options.

    Raises:
        ArgumentError: An unknown option, or one that would give this method another budget than the others have.
    """
    if method.loss is None:
        return base
    try:
        config = RunConfig.from_options(base, loss=method.loss, **method.options)
    except KyoriError as error:
        raise ArgumentError(f"method '{method.name}': {error}") from error
    ours, theirs = _flat(config.to_dict()), _flat(base.to_dict())
    for name, value in ours.items():
        if _is_own(name) or theirs.get(name) == value:
            continue
        if name == "batches.kind" and "pairs" not in (value, theirs[name]):
            continue  # the same number of items, put together in another way
        raise ArgumentError(
            f"method '{method.name}' sets {name} to {value}, and all methods share it (here: {theirs.get(name)}), "
            "so that their budgets are equal; give it to the comparison itself."
        )
    return config


def items_an_epoch(config: RunConfig, source: Source) -> int:
    """Return how many items the batches of an epoch hold, repeats counted."""
    heads = LOSSES[config.loss.name].needs_classes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KyoriWarning)  # items alone in their class: the training says it
        batches = create_batches(config, source, train_classes(source)[1], heads=heads)
    return sum(len(batch.indices) for batch in batches.epoch(0))


def equal_batches(configs: Sequence[RunConfig], source: Source) -> int | None:
    """Return the batch size with which all methods see about as many items an epoch; None where they do already.

    Batches of classes are always full, so few items that do not fill the last batch are repeated: with 130 items and
    batches of 128, twice. Batches of 65 hold all items once, and are as many. The largest such size from half of the
    one that was asked for is taken; where there is none, a warning says so.
    """
    if not _apart(configs, source):
        return None
    asked = min(configs[0].batches.batch_size, len(source))
    least = max(2 * config.batches.per_class for config in configs)
    for size in range(asked, max(least, asked // 2) - 1, -1):
        if not _apart([with_batch_size(config, size) for config in configs], source):
            return size
    warnings.warn(
        f"{source.name}: the methods do not see equally many items in an epoch, as the items do not fill whole batches "
        "or many are alone in their class; the board says what each of them saw.",
        DataWarning,
        stacklevel=2,
    )
    return None


def with_batch_size(config: RunConfig, size: int) -> RunConfig:
    """Return the configuration with another batch size."""
    return config.model_copy(update={"batches": config.batches.model_copy(update={"batch_size": size})})


def _apart(configs: Sequence[RunConfig], source: Source) -> bool:
    seen = [items_an_epoch(config, source) for config in configs]
    return bool(seen) and max(seen) > TOLERANCE * min(seen)


def _is_own(name: str) -> bool:
    return name in OWN or name.partition(".")[0] in OWN


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{section}.{key}" if isinstance(values, Mapping) else section: value
        for section, values in tree.items()
        for key, value in (values.items() if isinstance(values, Mapping) else [(section, values)])
    }


def shared_budget(
    foldings: Sequence[Folding],
    splits: Sequence[Split],
    cells: Sequence[Cell],
    config: RunConfig,
    trials: int,
    batch_sizes: Sequence[int],
) -> dict[str, Any]:
    """Say what all methods were given, and what each of them saw."""
    training = config.training
    chosen = training.keep == "best" and all(len(split.validation) for split in splits)
    questions = dict.fromkeys("unseen classes" if f.unseen else "seen classes" for f in foldings)
    kinds = dict.fromkeys(f.config.data.split for f in foldings)
    folds = max(len(f.folds) for f in foldings)
    return {
        "train_items": _amount(len(split.train) for split in splits),
        "validation_items": _amount(len(split.validation) for split in splits),
        "split": ", ".join(kinds),
        "question": ", ".join(questions),
        **({"folds": folds} if folds > 1 else {}),
        "epochs": training.epochs,
        "items_seen": _amount(training.epochs * len(split.train) for split in splits),
        "seen_by_method": _seen(cells),
        "kept": "best epoch" if chosen else "last epoch",
        "trials": trials,
        **({"chosen": _listed(chosen_values(cells))} if trials else {}),
        "backbone": config.model.backbone,
        "embedding_size": config.model.embedding_size,
        "batch_size": _amount(batch_sizes) if batch_sizes else config.batches.batch_size,
        "augmentation": _augmentation(config),
        "optimizer": config.optimizer.name,
        "lr": config.optimizer.lr,
    }


def _listed(values: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {text}" for name, text in values.items())


def _augmentation(config: RunConfig) -> str:
    changed = config.augment.model_dump(exclude_defaults=True)
    return (
        ", ".join(name if value is True else f"{name} {value}" for name, value in changed.items()) or "none"
    )


def _amount(values: Iterable[int]) -> int | str:
    found = sorted(set(values))
    return found[0] if len(found) == 1 else f"{found[0]:,}–{found[-1]:,}"


def _seen(cells: Sequence[Cell]) -> dict[str, int | str]:
    """What each method was trained on: a number of items, their range, or words."""
    found = {}
    for method in dict.fromkeys(cell.method for cell in cells):
        own = [cell for cell in cells if cell.method == method]
        seen = [cell.items_seen for cell in own if cell.items_seen is not None]
        untrained = "all training items, no epochs" if any(cell.parameters for cell in own) else "nothing"
        found[method] = _amount(seen) if seen else untrained
    return found


def chosen_values(cells: Sequence[Cell]) -> dict[str, str]:
    """Return what the searches chose, by method: each setting with its smallest and largest value over the cells.

    A cell in which the defaults won counts as "default".
    """
    found = {}
    for method in dict.fromkeys(cell.method for cell in cells if cell.trials):
        own = [cell for cell in cells if cell.method == method]
        tuned = [cell.chosen for cell in own if cell.chosen]
        names = dict.fromkeys(name for settings in tuned for name in settings)
        words = [
            f"{name} {_span([settings[name] for settings in tuned if name in settings])}" for name in names
        ]
        if len(tuned) < len(own):
            count = len(own) - len(tuned)
            words.append("defaults" if not tuned else f"defaults in {count} of {len(own)} cells")
        if any(cell.parameters for cell in own):
            found[method] = ", ".join(words)
    return found


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} – {high}"
