"""``kyori clean``: find the labels of DATA that are probably wrong, and a page to decide about them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from .console import JSON, note, print_json

if TYPE_CHECKING:
    from ..data import Source
    from ..quality import Fold, LabelErrors
    from ..runs import Run
    from ..vectors import VectorTable

__all__ = ["register"]

Method = Literal["aggregate", "neighbors", "centres", "probabilities"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("clean")(clean)


def clean(
    run: Path = typer.Argument(..., help="A run folder, or a table of vectors with labels (.parquet)."),
    data: str | None = typer.Argument(
        None, help="Labelled items; with a table of vectors only for the pictures."
    ),
    cross_fit: bool = typer.Option(
        True, help="Judge each item by a model that has not seen it; --no-cross-fit takes RUN's own vectors."
    ),
    folds: int = typer.Option(
        5, min=2, help="Models of the cross-fitting; each learns from all folds but one."
    ),
    epochs: int | None = typer.Option(None, min=1, help="Epochs of each; by default those of RUN."),
    method: Method = typer.Option("aggregate", help="aggregate, or one signal."),
    k: int = typer.Option(20, min=1, help="Neighbours that vote."),
    show: int = typer.Option(200, min=1, help="Items on the page, at most."),
    out: Path | None = typer.Option(None, help="Folder to write. By default RUN/clean."),
    lang: str = typer.Option("en", help="Language of the page: en or ja."),
    as_json: bool = JSON,
) -> None:
    """Find the labels of DATA that are probably wrong.

    Trains RUN's configuration anew, once a fold, so that no label is judged by a model that has learnt it. Writes all
    labels as label_errors.csv and .parquet, and review.html, where you keep, relabel or drop each doubtful one; `kyori
    train DATA --corrections corrections.csv` uses what it saves, and takes suggestions.csv, what the page suggests, as
    well. DATA are never changed.
    """
    from ..errors import Interrupted
    from ..quality import find_label_errors, write_review, write_table
    from ..report.words import Words

    Words(lang)  # before anything takes minutes
    folder = out or _default_folder(run)
    try:
        judged, source, judged_by = _evidence(
            run, data, folder, cross_fit=cross_fit, folds=folds, epochs=epochs, lang=lang
        )
    except Interrupted:
        raise Interrupted(
            f"stopped; the same command goes on where it was (folds are kept in {folder})."
        ) from None
    except KeyboardInterrupt:
        raise Interrupted("stopped; the same command goes on where it was.") from None
    found = find_label_errors(judged, method=method, k=k)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("label_errors.csv", "label_errors.parquet"):
        write_table(found, folder / name)
    found.corrections().save(folder / "suggestions.csv")
    name = data or run.name
    write_review(found, source, folder / "review.html", data=name, show=show, judged_by=judged_by, lang=lang)
    if as_json:
        print_json(_summary(found, folder))
        return
    _print(found)
    note(
        f"table: {folder / 'label_errors.csv'}    decide: {folder / 'review.html'}    or take the suggestions:"
        f" {folder / 'suggestions.csv'}"
    )


def _default_folder(run: Path) -> Path:
    return run / "clean" if run.suffix != ".parquet" else run.with_name(f"{run.stem}-clean")


def _evidence(
    path: Path, data: str | None, folder: Path, *, cross_fit: bool, folds: int, epochs: int | None, lang: str
) -> tuple[VectorTable | list[Fold], Source | None, str]:
    """Vectors to judge by, the items to show, and how the vectors came about, in words."""
    from ..errors import ArgumentError, DataWarning
    from ..quality.review_words import TEXTS
    from ..report import LANGUAGES
    from ..runs import open_data, open_run, table_of
    from ..vectors import VectorTable

    language = LANGUAGES.index(lang)
    if path.suffix == ".parquet":
        table = VectorTable.load(path)
        return table, _same_items(table, data), TEXTS["judged.table"][language]
    if data is None:
        raise ArgumentError(f"DATA is missing: kyori clean {path} DATA; only a table of vectors needs none.")
    run = open_run(path)
    source = open_data(data, run.config, progress=True)
    if cross_fit:
        text = TEXTS["judged.cross_fit"][language].format(folds=folds)
        return _cross_fit(run, source, folder, folds, epochs), source, text
    warnings.warn(
        "these vectors come from a model that may have been trained on these very labels: it has learnt some wrong ones"
        " by heart, and they look right to it. Without --no-cross-fit each item is judged by a model that has not seen"
        " it.",
        DataWarning,
        stacklevel=2,
    )
    return table_of(run.embedder, source), source, TEXTS["judged.own"][language]


def _same_items(table: VectorTable, data: str | None) -> Source | None:
    """The items of the table, in its order."""
    from ..data import open_source
    from ..errors import DataError

    if data is None:
        return None
    source = open_source(data)
    place = {id_: i for i, id_ in enumerate(source.ids.tolist())}
    missing = [id_ for id_ in table.ids.tolist() if id_ not in place]
    if missing:
        raise DataError(f"{len(missing)} ids of the table are not in {data}, the first is {missing[0]!r}.")
    return source.take([place[id_] for id_ in table.ids.tolist()])


def _cross_fit(run: Run, source: Source, folder: Path, folds: int, epochs: int | None) -> list[Fold]:
    from ..quality import cross_fit
    from ..training import ProgressBar, RunConfig

    config = run.config if epochs is None else RunConfig.from_options(run.config, epochs=epochs)

    def progress(fold: int) -> list[Any]:
        note(f"fold {fold + 1} of {folds}")
        return [ProgressBar(measure=config.training.measure)]

    return cross_fit(source, config, folds=folds, folder=folder / "folds", callbacks=progress)


def _summary(found: LabelErrors, folder: Path) -> dict[str, Any]:
    worst = found.worst(int(found.is_label_issue.sum()))
    return {
        "folder": str(folder),
        "items": len(found),
        "judged": int(found.judged.sum()),
        "issues": [
            {
                "id": found.ids[i].item(),
                "given_label": found.given_label[i].item(),
                "suggested_label": found.suggested_label[i].item(),
                "suggested_action": found.suggested_action[i].item(),
                "label_score": float(found.label_score[i]),
            }
            for i in worst
        ],
        "noise": [
            vars(one) if one.items else vars(one) | dict.fromkeys(("rate", "low", "high"))
            for one in found.noise
        ],
    }


def _print(found: LabelErrors, count: int = 10) -> None:
    print(found)
    worst = [i for i in found.worst(count) if found.is_label_issue[i]]
    if worst:
        print(f"\n{'score':>7}  {'given':<20} {'suggested':<20} id")
    for i in worst:
        print(
            f"{found.label_score[i]:7.3f}  {found.given_label[i]!s:<20} {found.suggested_label[i]!s:<20} {found.ids[i]}"
        )
