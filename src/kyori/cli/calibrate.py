"""``kyori calibrate``: find the threshold that a run decides by, and keep it in the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from ..errors import ArgumentError, DataError
from .console import JSON, note, print_json, stops_at_ctrl_c

if TYPE_CHECKING:
    from ..recognition import Calibrated, Recogniser, RunCalibration
    from ..vectors import VectorTable

__all__ = ["register"]

Metric = Literal["euclidean", "cosine"]
Method = Literal["isotonic", "platt"]
Pooling = Literal["nearest", "mean"]
Unit = Literal["item", "class"]
_RATES = (1e-4, 1e-3, 1e-2, 0.05, 0.1)


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("calibrate")(calibrate)


@stops_at_ctrl_c
def calibrate(
    run: Path = typer.Argument(..., help="A run folder."),
    items: str = typer.Argument(
        ...,
        metavar="PAIRS|DATA",
        help="A file of pairs (.csv, .tsv, .txt: item, item, 1 or 0), or labelled data.",
    ),
    far: float | None = typer.Option(None, help="Wanted false-accept rate of verify, e.g. 1e-3."),
    precision: float | None = typer.Option(None, help="Wanted precision of verify, e.g. 0.99."),
    f_beta: float | None = typer.Option(None, help="Largest F measure instead, of this β, e.g. 1."),
    fpir: float | None = typer.Option(
        None, help="Wanted false-positive identification rate of identify, e.g. 0.01; needs an index."
    ),
    data: str | None = typer.Option(None, help="With PAIRS: the data whose ids it uses."),
    root: Path | None = typer.Option(None, help="With PAIRS: the folder its paths are relative to."),
    part: str = typer.Option(
        "auto", help="train, validation, test or all of DATA; auto: test of the run's own data, else all."
    ),
    trained: bool = typer.Option(False, help="Calibrate even with items that the run was trained on."),
    metric: Metric | None = typer.Option(None, help="euclidean or cosine; the index's if there is one."),
    method: Method = typer.Option("isotonic", help="How probabilities are fitted: isotonic or platt."),
    pooling: Pooling = typer.Option("nearest", help="With --fpir: an identity's nearest item, or its mean."),
    prior: float | None = typer.Option(None, help="Share of same pairs where probabilities will be used."),
    confidence: float = typer.Option(0.95, help="Of the intervals."),
    unit: Unit | None = typer.Option(
        None,
        help="What intervals are about: new items, or new classes; class where the run was split by classes.",
    ),
    limit: int = typer.Option(500_000, min=1, help="Most pairs of DATA; beyond it a sample of so many."),
    rerank: bool = typer.Option(False, help="Also train the pairwise re-ranker of `kyori search` on DATA."),
    url: str | None = typer.Option(None, help="Where the index is, if not where kyori index put it."),
    seed: int = typer.Option(0, help="Of samples and intervals."),
    html: Path | None = typer.Option(None, help="Also write a page with the curve to this file."),
    as_json: bool = JSON,
) -> None:
    """Find the threshold for a target, with its interval and curve, and keep it in RUN for verify and identify.

    Exactly one of --far, --precision, --f-beta is for pairs; --fpir is for a gallery. Use items that RUN was not
    trained on: distances among those are smaller than among others.
    """
    target = {
        name: value
        for name, value in (("far", far), ("precision", precision), ("f_beta", f_beta))
        if value is not None
    }
    if len(target) > 1:
        raise ArgumentError("give one of --far, --precision and --f-beta.")
    if not target and fpir is None and not rerank:
        raise ArgumentError("say what to reach: --far 1e-3, --precision 0.99, --f-beta 1, or --fpir 0.01.")
    from ..recognition import Recogniser, is_pairs_file

    listed = is_pairs_file(items)
    if listed and (fpir is not None or rerank):
        raise ArgumentError(
            "--fpir and --rerank need labelled DATA; a file of pairs does not say who is who."
        )
    if not listed and (data is not None or root is not None):
        raise ArgumentError(
            f"--data and --root belong to a file of pairs; {items} is taken as labelled data."
        )
    if unit is not None and (listed or not target):
        raise ArgumentError("--unit belongs to labelled DATA with --far, --precision or --f-beta.")
    _check_html(html)
    options = {"method": method, "confidence": confidence, "seed": seed}
    with Recogniser.open(run, url=url) as recogniser:
        distance = _metric(recogniser, metric)
        stored = _stored(run, recogniser, distance)
        facts: dict[str, Any] = {"run": str(run), "metric": distance}
        table = None if listed else _table(run, items, part, trained)
        if target:
            found = (
                _from_pairs(
                    run,
                    items,
                    recogniser,
                    distance,
                    data,
                    root,
                    trained,
                    {**target, **options, "prior": prior},
                )
                if table is None
                else _from_table(
                    table,
                    distance,
                    limit,
                    {**target, **options, "prior": prior, "unit": unit or _unit_of(run)},
                )
            )
            described = {"items_from": items, **found.data, "part": None if listed else part}
            stored = stored.with_verification(found.calibration, described)
            facts["verification"] = {**found.calibration.as_dict(), "data": described}
        if fpir is not None and table is not None:
            stored, facts["identification"] = _gallery(
                stored, recogniser, table, items, distance, fpir, pooling, options
            )
        if rerank and table is not None:
            facts["rerank"] = _reranker(run, table, distance, seed)
        if target or fpir is not None:
            facts["file"] = str(stored.save(run))
    if html is not None:
        _write_page(html, run, facts, stored)
    if as_json:
        print_json(facts)
    else:
        _print(facts, stored)
    if html is not None:
        note(f"page: {html}")


def _unit_of(run: Path) -> Unit:
    from ..runs import open_run, unit_of

    return "class" if unit_of(open_run(run).config) == "class" else "item"


def _check_html(html: Path | None) -> None:
    if html is not None and not html.parent.is_dir():
        raise ArgumentError(f"--html must name a file in a folder that is there; {html.parent} is not.")


def _metric(recogniser: Recogniser, metric: Metric | None) -> Any:
    if recogniser.has_index and metric not in (None, recogniser.metric):
        raise ArgumentError(
            f"the index of {recogniser.name} measures {recogniser.metric} distances; leave --metric out, or make the"
            f" index again with --metric {metric}."
        )
    return metric or (recogniser.metric if recogniser.has_index else "euclidean")


def _stored(run: Path, recogniser: Recogniser, metric: Any) -> RunCalibration:
    """What is kept so far; thresholds of another distance would be mixed up with the new ones."""
    from ..recognition import RunCalibration
    from ..recognition.places import model_mark

    old = recogniser.calibration
    if old is None or old.metric != metric:
        return RunCalibration(model_mark(run), metric)
    return old


def _table(run: Path, data: str, part: str, trained: bool) -> VectorTable:
    from ..runs import open_data, open_part, open_run, table_of, trained_items

    whole = open_data(data, open_run(run).config)
    mask = trained_items(run, whole)
    opened, source, used = open_part(run, whole, part)
    table = table_of(opened.embedder, source)
    if table.labels is None:
        raise DataError(f"{data} has no labels; calibration needs labelled data or a file of pairs.")
    if mask is not None:
        known = dict(zip(whole.ids.tolist(), mask.tolist(), strict=True))
        _refuse_trained(
            sum(known[id_] for id_ in table.ids.tolist()), len(table), trained, "choose --part test"
        )
    elif used == "all":
        note("note: these are not the data that the run was trained on, as far as their ids tell.")
    note(f"{used}: {len(table):,} items")
    return table


def _refuse_trained(count: int, total: int, asked: bool, instead: str) -> None:
    if not count:
        return
    text = (
        f"the run was trained on {count:,} of these {total:,} items, whose distances are smaller than those of"
        " others"
    )
    if not asked:
        raise DataError(f"{text}; {instead}, or calibrate all the same with --trained.")
    note(f"note: {text}: expect more false accepts and fewer true ones than stated.")


def _from_table(table: VectorTable, metric: Any, limit: int, options: dict[str, Any]) -> Calibrated:
    from ..recognition import calibrate_table

    found = calibrate_table(table, metric, limit=limit, **options)
    if found.data["pairs"] < found.data["of_pairs"]:
        note(f"a sample of {found.data['pairs']:,} of {found.data['of_pairs']:,} pairs; more with --limit")
    return found


def _from_pairs(
    run: Path,
    path: str,
    recogniser: Recogniser,
    metric: Any,
    data: str | None,
    root: Path | None,
    trained: bool,
    options: dict[str, Any],
) -> Calibrated:
    from ..recognition import calibrate_pairs, read_pairs
    from ..recognition.listed import resolve_pairs
    from ..runs import open_data, open_run

    pairs = read_pairs(path, labelled=True)
    assert pairs.same is not None  # labelled=True
    source = None if data is None else open_data(data, open_run(run).config)
    listed = resolve_pairs(pairs, recogniser, source=source, root=root, run=run)
    if listed.trained is None:
        note("note: give the run's data with --data to have it checked that no pair was trained on.")
    else:
        inside = listed.trained[listed.rows].any(axis=1)
        _refuse_trained(
            int(listed.trained.sum()), len(listed.names), trained, f"leave {int(inside.sum()):,} pairs out"
        )
    note(f"{len(pairs):,} pairs of {len(listed.names):,} items")
    return calibrate_pairs(listed.vectors, listed.rows, pairs.same, metric, **options)


def _gallery(
    stored: RunCalibration,
    recogniser: Recogniser,
    table: VectorTable,
    items: str,
    metric: Any,
    fpir: float,
    pooling: Any,
    options: dict[str, Any],
) -> tuple[RunCalibration, dict[str, Any]]:
    from ..recognition import calibrate_gallery
    from ..recognition.identities import gallery_of

    gallery, _ = gallery_of(recogniser.index)
    made, facts = calibrate_gallery(table, gallery, metric, fpir=fpir, pooling=pooling, **options)
    described = {"items_from": items, **facts}
    return stored.with_identification(made, described), {**made.as_dict(), "data": described}


def _reranker(run: Path, table: VectorTable, metric: Any, seed: int) -> dict[str, Any]:
    from ..recognition import PairwiseReranker

    model = PairwiseReranker.fit(table, metric=metric, seed=seed)
    path = model.save(run / PairwiseReranker.FILE)
    return {"file": str(path), **model.facts}


def _rows(calibration: Any) -> list[dict[str, float]]:
    """Points of the curve at round false-accept rates that the pairs resolve, and at the threshold."""
    import numpy as np

    curve = calibration.curve
    rows = []
    for rate in _RATES:
        if rate * calibration.different_pairs < 1:
            continue
        at = max(int(np.searchsorted(curve["far"], rate * (1 + 1e-12), side="right")) - 1, 0)
        rows.append({name: float(curve[name][at]) for name in ("far", "tar", "precision", "threshold")})
    return rows


def _print(facts: dict[str, Any], stored: RunCalibration) -> None:
    from rich.console import Console
    from rich.table import Table

    if "verification" in facts and stored.verification is not None:
        print(f"verification\n{stored.verification}")
        table = Table("FAR", "TAR", "precision", "threshold", title="the curve, at round rates")
        for row in _rows(stored.verification):
            table.add_row(*(f"{row[name]:.4g}" for name in ("far", "tar", "precision", "threshold")))
        if table.row_count:
            Console().print(table)
    if "identification" in facts and stored.identification is not None:
        made, rank_1 = stored.identification, facts["identification"]["data"]["rank_1"]
        print(
            f"identification ({made.pooling}, {made.identities:,} identities of {made.items:,} items)\n"
            f"threshold {made.calibration.threshold:.6g}"
            f" [{made.calibration.threshold_low:.6g}, {made.calibration.threshold_high:.6g}]\n"
            f"fpir {made.calibration.far}   tpir {made.tpir:.4g}   rank-1 {rank_1:.4g}"
        )
    if "rerank" in facts:
        note(f"re-ranker: {facts['rerank']['file']}; use it with kyori search --rerank pairwise")
    if "file" in facts:
        note(f"kept in {facts['file']}; use it with: kyori verify {facts['run']} A B")


def _write_page(path: Path, run: Path, facts: dict[str, Any], stored: RunCalibration) -> None:
    from ..report.figures import PALETTE, roc, to_svg
    from ..report.page import Facts, Figure, Heading, Section, Table, render, write_page

    sections: list[Section] = []
    named = {
        "verification": stored.verification,
        "identification": stored.identification.calibration if stored.identification is not None else None,
    }
    for name, calibration in named.items():
        if name not in facts or calibration is None:
            continue
        rate = "FPIR" if name == "identification" else "FAR"
        sections += [
            Heading(
                name.capitalize(), name, f"{calibration.target[0]} {calibration.target[1]:g} was asked for"
            ),
            Facts(
                [
                    ("threshold", f"{calibration.threshold:.5g}"),
                    ("its interval", f"{calibration.threshold_low:.5g} – {calibration.threshold_high:.5g}"),
                    (rate, calibration.far),
                    ("TAR", calibration.tar),
                    ("same pairs", f"{calibration.same_pairs:,}"),
                    ("different pairs", f"{calibration.different_pairs:,}"),
                ]
            ),
            Figure(
                to_svg(
                    roc(
                        {"run": [(calibration.curve["far"], calibration.curve["tar"])]},
                        paints={"run": PALETTE[0]},
                    ),
                    f"true accepts against false accepts, {name}",
                ),
                x_title=rate,
                y_title="TAR",
            ),
            Table(
                (rate, "TAR", "precision", "threshold"),
                [
                    [f"{row[key]:.4g}" for key in ("far", "tar", "precision", "threshold")]
                    for row in _rows(calibration)
                ],
                f"{name}: the curve at round rates",
                text_columns=0,
            ),
        ]
    write_page(
        path, render(f"Calibration of {run}", sections, lang="en", kicker="Kyori", contents="Contents")
    )
