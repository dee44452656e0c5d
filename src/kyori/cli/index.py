"""``kyori index``: make the items of DATA searchable by a run's embedding; enroll and remove some."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from ..errors import ArgumentError, KyoriError
from .console import JSON, note, print_json, stops_at_ctrl_c

if TYPE_CHECKING:
    from ..index import Index
    from ..recognition import Recogniser

__all__ = ["register"]

Metric = Literal["euclidean", "cosine"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("index")(index)


@stops_at_ctrl_c
def index(
    run: Path = typer.Argument(..., help="A run folder."),
    data: list[str] = typer.Argument(
        None,
        metavar="[DATA]",
        help="A folder, manifest, idx folder, .npz or 'digits'; with --enroll: single items.",
    ),
    url: str | None = typer.Option(
        None, help="A folder, postgresql://…, milvus:FILE.db or http://…; RUN/index by default."
    ),
    factory: str | None = typer.Option(None, help="auto, Flat, HNSW32, 'IVF4096,Flat', …"),
    metric: Metric | None = typer.Option(None, help="euclidean (default) or cosine."),
    recall: float | None = typer.Option(None, help="Share of true neighbours to be found, 0.95 by default."),
    part: str = typer.Option("all", help="train, validation, test or all."),
    overwrite: bool = typer.Option(False, help="Remove what the index holds first."),
    copy_to: str | None = typer.Option(
        None, metavar="URL", help="Copy the run's index (or --url) there, and search it there from now on."
    ),
    enroll: str | None = typer.Option(
        None, metavar="NAME", help="Add the items given as further ones of this identity."
    ),
    remove: list[str] = typer.Option([], metavar="ID", help="Remove an item; may be given several times."),
    remove_identity: list[str] = typer.Option(
        [], metavar="NAME", help="Remove all items of an identity (label)."
    ),
    as_json: bool = JSON,
) -> None:
    """Index the vectors of DATA, so that `kyori search RUN QUERY` finds them. Items that are there are replaced.

    With --enroll NAME the arguments are single pictures (or .npy arrays) of that identity, and are added to an index
    that is there; --remove and --remove-identity take items out of it.
    """
    data = data or []
    if copy_to is not None:
        if data or enroll is not None or remove or remove_identity or metric is not None or part != "all":
            raise ArgumentError("--copy-to goes with --url, --factory, --recall and --overwrite alone.")
        facts = _copy(run, url, copy_to, factory, recall, overwrite)
        _say_built(run, facts, as_json)
        return
    changes = enroll is not None or bool(remove) or bool(remove_identity)
    if changes:
        if any(option is not None for option in (factory, metric, recall)) or overwrite or part != "all":
            raise ArgumentError(
                "--factory, --metric, --recall, --part and --overwrite are for indexing DATA, not for single items."
            )
        if enroll is None and data:
            raise ArgumentError("DATA with --remove: give the two one after the other, or --enroll NAME.")
        if enroll is not None and not data:
            raise ArgumentError("--enroll needs the items to add: pictures or .npy arrays.")
        facts = _change(run, data, url, enroll, remove, remove_identity)
        if as_json:
            print_json(facts)
        else:
            done = f"{facts['added']:,} added, {facts['removed']:,} removed"
            note(f"{done}; {facts['vectors']:,} vectors in {facts['url']}")
        return
    if len(data) != 1:
        raise ArgumentError(f"give the DATA to index, one; got {len(data)}.")
    facts = _build(run, data[0], url, factory, metric, recall, part, overwrite)
    _say_built(run, facts, as_json)


def _say_built(run: Path, facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(facts)
        return
    built = facts["built"] or "exact"
    print(
        f"{facts['vectors']:,} vectors in {facts['url']} ({built}, {facts['metric']}) in {facts['seconds']:.1f} s;"
        f" recall@10 against exact search {facts['recall_at_10']:.3f}"
    )
    note(f"search it with: kyori search {run} QUERY, a file, a text or an id")


def _build(
    run: Path,
    data: str,
    url: str | None,
    factory: str | None,
    metric: Metric | None,
    recall: float | None,
    part: str,
    overwrite: bool,
) -> dict[str, Any]:
    from ..index import open_index, redacted
    from ..recognition.places import find_note, model_mark, write_note
    from ..runs import encode_part
    from ..vectors import VectorTable

    table, used = encode_part(run, data, part)
    # A measurement of this run's report; items that are enrolled one by one could not bring it.
    columns = {name: values for name, values in table.columns.items() if name != "feature_norm"}
    table = VectorTable(table.ids, table.vectors, table.labels, columns, table.class_names)
    note(f"{used}: {len(table):,} vectors of {table.vectors.shape[1]} numbers")
    place = url or str(run / "index")
    model = model_mark(run)
    with open_index(place, metric=metric, factory=factory, recall=recall) as opened:
        if overwrite:
            opened.clear()
        elif len(opened) and find_note(run).get("model") != model:
            raise ArgumentError(
                f"{redacted(place)} holds {len(opened):,} vectors that this run's present model did not make;"
                " replace them with --overwrite, or name another --url."
            )
        start = time.perf_counter()
        opened.add_table(table, replace=True)
        opened.save()
        facts = _facts(opened, place, time.perf_counter() - start)
    write_note(run, {"url": redacted(place), "data": data, "model": model})
    return facts


def _copy(
    run: Path, url: str | None, target: str, factory: str | None, recall: float | None, overwrite: bool
) -> dict[str, Any]:
    from ..index import open_index, redacted
    from ..recognition.places import index_place, is_folder, read_note, write_note

    known = read_note(run)
    place = url or index_place(run)
    if redacted(place) != known["url"]:
        raise ArgumentError(f"--copy-to copies the index that the run made, in {known['url']}; --url is for its"
                            f" password only. Got {redacted(place)}.")  # fmt: skip
    if redacted(place) == redacted(target):
        raise ArgumentError(f"--copy-to must name another place; the index is in {redacted(place)} already.")
    with (
        open_index(place, create=False, read_only=is_folder(place)) as source,
        open_index(target, metric=source.metric, factory=factory, recall=recall) as opened,
    ):
        if overwrite:
            opened.clear()
        elif len(opened):
            raise ArgumentError(
                f"{redacted(target)} holds {len(opened):,} vectors already; replace them with --overwrite, or name"
                " another place."
            )
        start = time.perf_counter()
        source.copy_to(opened)
        facts = _facts(opened, target, time.perf_counter() - start)
    write_note(run, {**known, "url": redacted(target)})
    return facts


def _facts(opened: Index, place: str, seconds: float) -> dict[str, Any]:
    from ..index import redacted

    found = opened.statistics()
    measured = found.get("search")  # a folder measures when it builds
    return {
        "url": redacted(place),
        **found,
        "seconds": round(seconds, 3),
        "recall_at_10": round(measured["recall"] if measured else opened.recall(), 4),
    }


def _change(
    run: Path, items: list[str], url: str | None, enroll: str | None, remove: list[str], identities: list[str]
) -> dict[str, Any]:
    from ..index import redacted
    from ..recognition import Recogniser
    from ..recognition.places import index_place
    from .queries import id_of

    with Recogniser.open(run, url=url, writable=True) as recogniser:
        opened = recogniser.index
        gone = [id_of(opened, text) for text in remove]
        unknown = sorted(set(map(str, gone)) - set(map(str, opened.ids().tolist())))
        if unknown:
            raise ArgumentError(
                f"--remove needs ids of the index; {unknown[0]!r} is none ({len(unknown)} are not)."
            )
        names = [_identity(recogniser, name) for name in identities]
        added = _enroll(recogniser, items, enroll) if enroll is not None else 0
        removed = recogniser.delete(gone) if gone else 0
        for name, given in zip(names, identities, strict=True):
            count = recogniser.remove(name)
            if not count:
                note(f"note: nobody called {given} is in the index.")
            removed += count
        opened.save()
        facts = {"added": added, "removed": removed, "vectors": len(opened)}
    return {**facts, "url": redacted(url or index_place(run))}


def _identity(recogniser: Recogniser, name: str) -> Any:
    kind = recogniser.index.columns.get("label")
    if kind is None:
        raise ArgumentError("the items of this index have no labels, and so no identities.")
    if kind != "int":
        return name
    if not name.lstrip("-").isdigit():
        raise ArgumentError(f"the labels of this index are integers; got {name!r}.")
    return int(name)


def _enroll(recogniser: Recogniser, items: list[str], name: str) -> int:
    import numpy as np

    from .queries import vector_of

    opened = recogniser.index
    label = _identity(recogniser, name)
    further = [column for column in opened.columns if column != "label"]
    if further:
        raise ArgumentError(
            f"the items of this index have further columns ({', '.join(further)}), which single items lack; add them"
            " with a manifest: kyori index RUN MANIFEST.csv."
        )
    vectors = []
    for item in items:
        if recogniser.takes == "text":
            vectors.append(vector_of(recogniser, item, "text")[0])
        elif Path(item).is_file():
            vectors.append(vector_of(recogniser, item)[0])
        else:
            raise ArgumentError(f"--enroll takes files; {item!r} is none.")
    ids: list[Any] = list(items)
    if opened.statistics().get("ids") == "int":
        start = max(opened.ids().tolist(), default=-1) + 1
        ids = list(range(start, start + len(items)))
        note(f"their ids are {ids[0]} to {ids[-1]}, as those of this index are integers.")
    if len(set(ids)) < len(ids):
        raise ArgumentError("--enroll needs each item once.")
    try:
        recogniser.add_vectors(np.stack(vectors), [label] * len(ids), ids)
    except ValueError as error:
        if isinstance(error, KyoriError):
            raise
        raise ArgumentError(f"the items must have vectors of one length: {error}") from error
    return len(ids)
