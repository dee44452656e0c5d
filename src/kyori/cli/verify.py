"""``kyori verify``: are these two the same?"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import ArgumentError
from .console import JSON, note, print_json, stops_at_ctrl_c

if TYPE_CHECKING:
    from ..recognition import PairFile, Recogniser, Verdict

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("verify")(verify)


@stops_at_ctrl_c
def verify(
    run: Path = typer.Argument(..., help="A calibrated run folder."),
    a: str | None = typer.Argument(
        None, help="A picture, an array (.npy: an item or its vector), or the id of an item of the index."
    ),
    b: str | None = typer.Argument(None, help="The other one."),
    pairs: Path | None = typer.Option(None, help="Many at once: a file of pairs (.csv, .tsv, .txt), as CSV."),
    out: Path | None = typer.Option(None, help="With --pairs: write the CSV to this file."),
    data: str | None = typer.Option(None, help="With --pairs: the data whose ids it uses."),
    root: Path | None = typer.Option(None, help="With --pairs: the folder its paths are relative to."),
    url: str | None = typer.Option(None, help="Where the index is, if not where kyori index put it."),
    exit_code: bool = typer.Option(False, "--exit-code", help="Exit with 0 for the same, 1 for different."),
    as_json: bool = JSON,
) -> None:
    """Decide whether A and B are the same: distance, probability, and the false-accept rate of the decision."""
    from ..recognition import Recogniser

    if (pairs is None) == (a is None and b is None) or (pairs is None and b is None):
        raise ArgumentError("give A and B, or many pairs with --pairs FILE.")
    if pairs is None and (out is not None or data is not None or root is not None):
        raise ArgumentError("--out, --data and --root belong to --pairs.")
    if pairs is not None and exit_code:
        raise ArgumentError("--exit-code is for one pair; with --pairs look at the column same.")
    if out is not None and not out.parent.is_dir():
        raise ArgumentError(f"--out must name a file in a folder that is there; {out.parent} is not.")
    with Recogniser.open(run, url=url) as recogniser:
        recogniser.require_verification()
        if pairs is not None:
            _verify_all(recogniser, run, pairs, out, data, root, as_json)
            return
        verdict = _verify_one(recogniser, str(a), str(b))
    if as_json:
        print_json({"a": a, "b": b, **verdict.as_dict()})
    else:
        print(_in_words(verdict))
    if exit_code and not verdict.same:
        raise typer.Exit(1)


def _verify_one(recogniser: Recogniser, a: str, b: str) -> Verdict:
    from .queries import vector_of

    vectors = [vector_of(recogniser, item)[0] for item in (a, b)]
    if vectors[0].shape != vectors[1].shape:
        raise ArgumentError(
            f"A and B must be vectors of one length; got {len(vectors[0])} and {len(vectors[1])}."
        )
    return recogniser.verify_vectors(vectors[0][None], vectors[1][None])[0]


def _in_words(verdict: Verdict) -> str:
    from .queries import chance

    sign = "<" if verdict.same else "≥"
    return (
        f"{'same' if verdict.same else 'different'}   distance {verdict.distance:.4f} {sign} threshold"
        f" {verdict.threshold:.4f}   probability of same {chance(verdict.probability)}\n"
        f"false-accept rate at this threshold {verdict.far:.3g} [{verdict.far_low:.3g}, {verdict.far_high:.3g}]"
        f" (calibrated for {verdict.target})"
    )


def _verify_all(
    recogniser: Recogniser,
    run: Path,
    path: Path,
    out: Path | None,
    data: str | None,
    root: Path | None,
    as_json: bool,
) -> None:
    from ..files import write_atomic
    from ..recognition import read_pairs
    from ..recognition.listed import resolve_pairs
    from ..runs import open_data, open_run

    pairs = read_pairs(path)
    source = None if data is None else open_data(data, open_run(run).config)
    listed = resolve_pairs(pairs, recogniser, source=source, root=root, run=run)
    verdicts = recogniser.verify_vectors(listed.vectors[listed.rows[:, 0]], listed.vectors[listed.rows[:, 1]])
    text = _as_csv(pairs, verdicts)
    if out is not None:
        write_atomic(out, lambda file: file.write(text.encode()))
    summary = _summary(pairs, verdicts)
    if as_json:
        rows = [] if out is not None else [
            {"a": x, "b": y, **verdict.as_dict()}
            for x, y, verdict in zip(pairs.first, pairs.second, verdicts, strict=True)
        ]  # fmt: skip
        print_json({"file": None if out is None else str(out), **summary, "verdicts": rows})
        return
    if out is None:
        print(text, end="")
    accepted = f"{summary['accepted']:,} of {summary['pairs']:,} pairs are the same"
    note(accepted + (f"; in {out}" if out is not None else ""))
    if "far" in summary:
        note(
            f"held against the file: FAR {_interval(summary['far'])}, TAR {_interval(summary['tar'])}"
            f" (calibrated FAR {verdicts[0].far:.3g} [{verdicts[0].far_low:.3g}, {verdicts[0].far_high:.3g}])"
        )


def _as_csv(pairs: PairFile, verdicts: list[Verdict]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    expected = pairs.same is not None
    writer.writerow(
        ["a", "b", "same", "distance", "probability", "threshold", "far", *(["expected"] if expected else [])]
    )
    for i, (a, b, verdict) in enumerate(zip(pairs.first, pairs.second, verdicts, strict=True)):
        row: list[Any] = [a, b, int(verdict.same), f"{verdict.distance:.6g}", f"{verdict.probability:.6g}"]
        row += [f"{verdict.threshold:.6g}", f"{verdict.far:.6g}"]
        writer.writerow(row + ([int(pairs.same[i])] if pairs.same is not None else []))
    return file.getvalue()


def _summary(pairs: PairFile, verdicts: list[Verdict]) -> dict[str, Any]:
    import numpy as np

    from ..evaluation.pair_units import clopper_pearson

    accepted = np.array([verdict.same for verdict in verdicts])
    facts: dict[str, Any] = {"pairs": len(verdicts), "accepted": int(accepted.sum())}
    if pairs.same is not None:
        for name, kind in (("far", ~pairs.same), ("tar", pairs.same)):
            found = clopper_pearson(int(accepted[kind].sum()), int(kind.sum()))
            ends = {"value": found.value, "low": found.low, "high": found.high}
            facts[name] = {end: None if value != value else value for end, value in ends.items()}
    return facts


def _interval(found: dict[str, float | None]) -> str:
    if found["value"] is None:
        return "not measured"
    return f"{found['value']:.3g} [{found['low']:.3g}, {found['high']:.3g}]"
