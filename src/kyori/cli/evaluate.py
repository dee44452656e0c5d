"""``kyori evaluate``: every measure of a run's embedding on DATA, by the protocol that is asked for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from ..errors import ArgumentError, DataError
from ..files import write_atomic
from .console import JSON, note, stops_at_ctrl_c
from .rerankers import gain_line, gains

if TYPE_CHECKING:
    from ..results import Results
    from ..vectors import VectorTable

__all__ = ["register"]

Metric = Literal["euclidean", "squared_euclidean", "cosine", "dot", "manhattan", "snr"]
Unit = Literal["query", "class"]
Protocol = Literal["pairs", "lfw"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("evaluate")(evaluate)


@stops_at_ctrl_c
def evaluate(
    run: Path = typer.Argument(..., help="A run folder, or a table of vectors (.parquet)."),
    data: str | None = typer.Argument(None, help="Labelled items; not needed with a table of vectors."),
    part: str = typer.Option(
        "auto", help="train, validation, test or all; auto: the test part of the run's own data, else all."
    ),
    metric: Metric | None = typer.Option(
        None, help="euclidean, cosine, …; euclidean when left out, squared_euclidean for --protocol lfw."
    ),
    measures: str | None = typer.Option(
        None, help="Only these, with commas: recall@1,map@r,b-cubed,hubness,…"
    ),
    far: str = typer.Option(
        "1e-3,1e-2", help="False-accept rates of tar, with commas; for --open-set the FPIRs."
    ),
    threshold: float | None = typer.Option(None, help="Also the pair accuracy at this distance."),
    unit: Unit = typer.Option("query", help="What is resampled for the intervals: query or class."),
    query: str | None = typer.Option(
        None, help="The queries, in place of DATA: labelled items or a .parquet table."
    ),
    gallery: str | None = typer.Option(
        None, help="What they are compared with: labelled items or a .parquet table."
    ),
    rules: bool = typer.Option(
        True, help="Follow the columns is_query, is_gallery and sequence of the data."
    ),
    protocol: Protocol | None = typer.Option(
        None, help="Listed pairs of --pairs: pairs, or lfw (ten folds)."
    ),
    pairs: Path | None = typer.Option(
        None, help="A pairs file (CSV, TSV, or pairs.txt of LFW) for --protocol."
    ),
    folds: int = typer.Option(10, min=2, help="Contiguous folds of --protocol lfw."),
    all_pairs: bool = typer.Option(
        False, "--all-pairs", help="TAR over all pairs with exact thresholds, for small --far."
    ),
    templates: str | None = typer.Option(
        None, help="Pool the vectors by this column first, one template a value."
    ),
    media: str | None = typer.Option(None, help="Within a template, average by this column first (IJB)."),
    open_set: bool = typer.Option(
        False, "--open-set", help="Identify against --gallery; strangers are expected."
    ),
    per: str | None = typer.Option(None, help="Also a table by 'class', or by this column, worst first."),
    leaks: str | None = typer.Option(
        None, help="Training items (data, .parquet, or 'train': the run's own) to compare with."
    ),
    seen: bool = typer.Option(
        False, "--seen", help="For --leaks: the test is about classes seen in training."
    ),
    memory: int | None = typer.Option(
        None, min=1, help="MiB that the working arrays may take, besides the vectors."
    ),
    per_query: Path | None = typer.Option(
        None, help="Write the retrieval measures of each query to this .parquet."
    ),
    rerank: list[str] = typer.Option(
        [], help="Also the gain and cost of re-ranking: expansion, reciprocal, pairwise; several times."
    ),
    out: Path | None = typer.Option(None, help="Also write everything to this JSON file."),
    as_json: bool = JSON,
) -> None:
    """Measure retrieval, verification and clustering of a run's embedding on DATA, with 95 % intervals."""
    rates = _numbers("far", far)
    named = None if measures is None else [name.strip() for name in measures.split(",") if name.strip()]
    _check(locals())
    if protocol is not None and pairs is not None:
        results = _listed(run, data, pairs, protocol, metric, rates, threshold, folds)
        _show(results, None, None, out, as_json)
        return
    distance: Metric = metric or "euclidean"
    table = _table(run, data if query is None else query, part if query is None else "all")
    other = None if gallery is None else _table(run, gallery, "all")
    found = None
    if leaks is not None:  # before pooling: leaks are of items
        found = _leaks(run, data, leaks, table, disjoint=not seen, metric=distance)
    if templates is not None:
        from ..evaluation import pool_templates

        table = pool_templates(table, templates, media)
        other = None if other is None else pool_templates(other, templates, media)
        note(f"{len(table):,} templates")
    limit = None if memory is None else memory << 20
    if open_set:
        from ..evaluation import open_set as identification

        if other is None:
            raise ArgumentError("--open-set needs the enrolled items: --gallery DATA or a .parquet table.")
        results = identification(table, other, metric=distance, fpir=rates)
    elif all_pairs:
        from ..evaluation import all_pairs as exact

        options = {} if limit is None else {"memory": limit}
        results = exact(table, gallery=other, metric=distance, far=rates, unit=unit, rules=rules, **options)
    else:
        from ..evaluation import evaluate as measure

        results = measure(
            table,
            gallery=other,
            metric=distance,
            measures=named,
            far=rates,
            threshold=threshold,
            unit=unit,
            memory=limit,
            rules=rules,
            per_query=per_query,
        )
    gained = gains(run, table, rerank, distance) if rerank else None
    _show(results, _groups(results, table, per, rules and other is None), found, out, as_json, gained)


def _check(options: dict[str, Any]) -> None:
    """Refuse what would be ignored."""
    listed = options["protocol"] is not None
    if listed != (options["pairs"] is not None):
        raise ArgumentError("--protocol and --pairs belong together: --protocol lfw --pairs pairs.txt.")
    chosen = [name for name in ("protocol", "all_pairs", "open_set") if options[name] not in (None, False)]
    if len(chosen) > 1:
        flags = " and ".join("--" + name.replace("_", "-") for name in chosen)
        raise ArgumentError(f"{flags} are different protocols; choose one.")
    if options["media"] is not None and options["templates"] is None:
        raise ArgumentError("--media is for --templates COLUMN.")
    if options["seen"] and options["leaks"] is None:
        raise ArgumentError("--seen is for --leaks TRAIN.")
    if options["rerank"] and (chosen or options["query"] is not None or options["gallery"] is not None):
        raise ArgumentError("--rerank compares DATA with itself; leave protocols, --query and --gallery out.")
    if options["query"] is not None and options["data"] is not None:
        raise ArgumentError("--query stands in place of DATA; give one of them.")
    if chosen:
        ignored = {
            "measures", "per_query", "per", *({"threshold"} if chosen != ["protocol"] else set()),
            *({"query", "gallery", "templates", "leaks", "memory"} if listed else set()),
            *({"memory"} if options["open_set"] else set()),
        } - ({"per"} if options["open_set"] else set())  # fmt: skip
        given = sorted(name for name in ignored if options[name] is not None)
        if given:
            name = given[0].replace("_", "-")
            raise ArgumentError(f"--{name} has no use with --{chosen[0].replace('_', '-')}; leave it out.")


def _table(run: Path, data: str | None, part: str) -> VectorTable:
    from ..runs import encode_part, open_table

    if data is None:
        return open_table(run)
    if data.endswith(".parquet") and (not run.is_dir() or _holds_vectors(Path(data))):
        return open_table(Path(data))
    table, used = encode_part(run, data, part)
    note(f"{used}: {len(table):,} items")
    return table


def _holds_vectors(path: Path) -> bool:
    from pyarrow import ArrowException, parquet

    try:
        return "vector" in parquet.read_schema(path).names
    except (OSError, ArrowException):
        return False


def _listed(
    run: Path,
    data: str | None,
    path: Path,
    protocol: Protocol,
    metric: Metric | None,
    rates: list[float],
    threshold: float | None,
    folds: int,
) -> Results:
    """Measure the pairs of a file whose items are in a table of vectors, or are embedded by the run."""
    import numpy as np

    from ..evaluation import evaluate_folds, evaluate_pairs
    from ..recognition import pair_distances, read_pairs

    listed = read_pairs(path, labelled=True)
    assert listed.same is not None  # labelled=True
    if run.is_dir():
        vectors, rows = _embedded(run, data, listed)
    else:
        table = _table(run, data, "all")
        place = {str(id_): row for row, id_ in enumerate(table.ids.tolist())}
        missing = [name for name in (*listed.first, *listed.second) if name not in place]
        if missing:
            raise DataError(
                f"{path} names {missing[0]!r}, which is not an id of the table; {len(missing)} are not."
            )
        rows = np.array(
            [[place[a], place[b]] for a, b in zip(listed.first, listed.second, strict=True)], np.int64
        )
        vectors = table.vectors
    if protocol == "lfw":
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
        distances = pair_distances(vectors, rows, metric or "squared_euclidean")
        return evaluate_folds(distances, listed.same, folds=folds, far=rates)
    distances = pair_distances(vectors, rows, metric or "euclidean")
    names = ["best-accuracy", "auc", "eer", "tar", *([] if threshold is None else ["accuracy"])]
    return evaluate_pairs(
        distances, listed.same, far=rates, measures=names, threshold=0.5 if threshold is None else threshold
    )


def _embedded(run: Path, data: str | None, listed: Any) -> tuple[Any, Any]:
    from ..recognition import Recogniser
    from ..recognition.listed import resolve_pairs
    from ..runs import open_run
    from ..runs.fitting import open_data

    source = None if data is None else open_data(data, open_run(run).config)
    with Recogniser.open(run) as recogniser:
        found = resolve_pairs(listed, recogniser, source=source, run=run)
    if found.trained is not None and found.trained.any():
        note(f"note: {int(found.trained.sum())} of {len(found.names)} items of the pairs were trained on.")
    return found.vectors, found.rows


def _leaks(
    run: Path, data: str | None, leaks: str, table: VectorTable, *, disjoint: bool, metric: Metric
) -> Any:
    from ..evaluation import find_leaks

    if leaks == "train":
        if data is None:
            raise ArgumentError("--leaks train is the training part of DATA as the run splits it; give DATA.")
        train = _table(run, data, "train")
    else:
        train = _table(run, leaks, "all")
    return find_leaks(train, table, disjoint_classes=disjoint, metric=metric)


def _groups(
    results: Results, table: VectorTable, per: str | None, rules: bool
) -> list[dict[str, Any]] | None:
    if per is None:
        return None
    import numpy as np

    from ..errors import nearest_name
    from ..evaluation import break_down
    from ..evaluation.roles import split_roles

    if rules:
        table = split_roles(table)[0]
    groups: Any
    if per == "class":
        groups = table.labels if table.class_names is None else np.array(table.class_names)[table.labels]
    elif per in table.columns:
        groups = table.columns[per]
    else:
        raise ArgumentError(f"--per needs 'class' or a column{nearest_name(per, ['class', *table.columns])}")
    return break_down(results, groups)


def _show(
    results: Results,
    groups: list[dict[str, Any]] | None,
    leaks: Any,
    out: Path | None,
    as_json: bool,
    gained: list[dict[str, Any]] | None = None,
) -> None:
    document = json.loads(results.to_json())
    if groups is not None:
        document["groups"] = [{k: None if v != v else v for k, v in row.items()} for row in groups]
    if leaks is not None:
        document["leaks"] = leaks.as_dict()
    if gained is not None:
        document["reranking"] = gained
    text = json.dumps(document, allow_nan=False, ensure_ascii=False)
    if out is not None:
        write_atomic(out, lambda file: file.write(text.encode()))
    if as_json:
        print(text)
        return
    print(results)
    for row in gained or ():
        print(gain_line(row))
    protocol = next(iter(results.values())).protocol if len(results) else {}
    if "thresholds" in protocol:
        print("\naccuracy of the folds  " + "  ".join(f"{value:.4f}" for value in protocol["accuracies"]))
    for rule in results.provenance.get("rules", []):
        note(f"rule: {rule}")
    if "left_out" in results.provenance:
        left = results.provenance["left_out"]
        note(f"left out: {', '.join(left['measures'])} ({left['why']}); ask for them with --measures.")
    if groups is not None:
        print("\n" + _table_of(groups))
    if leaks is not None:
        print("\n" + str(leaks))


def _table_of(groups: list[dict[str, Any]], most: int = 50) -> str:
    names = [name for name in groups[0] if not name.endswith((" low", " high"))] if groups else []
    rows = [names, *([_cell(row[name]) for name in names] for row in groups[:most])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(names))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    if len(groups) > most:
        lines.append(f"… {len(groups) - most} more in the JSON")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4f}"
    return str(value)


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",") if word.strip()]
    except ValueError:
        raise ArgumentError(
            f"--{option} must be numbers with commas, such as 1e-3,1e-2; got {text!r}."
        ) from None
