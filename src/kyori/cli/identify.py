"""``kyori identify``: who is this, if it is anybody known?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from ..errors import ArgumentError
from .console import JSON, note, print_json, stops_at_ctrl_c

if TYPE_CHECKING:
    from ..recognition import Detection, Identity, Recogniser

__all__ = ["register"]

Pooling = Literal["nearest", "mean"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("identify")(identify)


@stops_at_ctrl_c
def identify(
    run: Path = typer.Argument(..., help="A run folder with an index of labelled items."),
    items: list[str] = typer.Argument(
        ...,
        metavar="ITEM…",
        help="Pictures, arrays (.npy: items or vectors), ids of items of the index, or with --boxes nothing else.",
    ),
    k: int = typer.Option(5, "-k", min=1, help="How many candidates to name."),
    pooling: Pooling | None = typer.Option(None, help="nearest item or mean of an identity; as calibrated."),
    threshold: float | None = typer.Option(
        None, help="A distance of your own instead of the calibrated threshold."
    ),
    boxes: bool = typer.Option(
        False, "--boxes", help="ITEM is a table (.csv, .parquet) with path and x_1,y_1,x_2,y_2 or x,y,w,h."
    ),
    detector: str | None = typer.Option(
        None,
        help="package.module:function, which takes a picture (h, w, 3) and returns boxes x_1, y_1, x_2, y_2.",
    ),
    url: str | None = typer.Option(None, help="Where the index is, if not where kyori index put it."),
    exit_code: bool = typer.Option(False, "--exit-code", help="Exit with 1 if an item is unknown."),
    as_json: bool = JSON,
) -> None:
    """Name the identity of each ITEM, or say unknown; with the candidates, their distances and probabilities."""
    from ..recognition import Recogniser

    if boxes and detector is not None:
        raise ArgumentError("give --boxes or --detector, not both: one has the boxes, the other finds them.")
    find = None if detector is None else _detector(detector)
    with Recogniser.open(run, url=url) as recogniser:
        recogniser.index  # noqa: B018 (says what is missing, before the threshold does)
        recogniser.gallery_threshold(pooling, threshold)
        options: dict[str, Any] = {"pooling": pooling, "threshold": threshold}
        if boxes or find is not None:
            found = _in_boxes(recogniser, items, boxes, find, k, options)
            names = [f"{one.item} [{', '.join(f'{edge:g}' for edge in one.box)}]" for one in found]
            answers, rows = [one.identity for one in found], [one.as_dict() for one in found]
        else:
            answers = _each(recogniser, items, k, options)
            names, rows = items, [{"item": i, **one.as_dict()} for i, one in zip(items, answers, strict=True)]
        _note_growth(recogniser)
    if as_json:
        print_json({"answers": rows})
    else:
        for name, answer in zip(names, answers, strict=True):
            _print(name, answer)
        if not answers:
            note("no box was found.")
    if exit_code and not all(answer.known for answer in answers):
        raise typer.Exit(1)


def _each(recogniser: Recogniser, items: list[str], k: int, options: dict[str, Any]) -> list[Identity]:
    import numpy as np

    from .queries import vector_of

    asked = [vector_of(recogniser, item) for item in items]
    inside = [item for item, (_, own) in zip(items, asked, strict=True) if own is not None]
    if inside:
        note(f"note: {inside[0]} is an item of the index, and so finds itself; ask with new ones.")
    return recogniser.identify_vectors(np.stack([vector for vector, _ in asked]), k, **options)


def _in_boxes(
    recogniser: Recogniser, items: list[str], boxes: bool, find: Any, k: int, options: dict[str, Any]
) -> list[Detection]:
    from ..recognition import identify_boxes, identify_in, read_boxes

    if recogniser.takes not in ("image", "any"):
        raise ArgumentError(
            f"boxes are parts of pictures; the model of {recogniser.name} takes {recogniser.takes}s."
        )
    if boxes:
        listed = [box for item in items for box in read_boxes(item)]
        return identify_boxes(recogniser, listed, k, **options)
    return identify_in(recogniser, items, find, k, **options)


def _detector(name: str) -> Any:
    """Import the user's function; the working directory counts, as with `python -m`."""
    import importlib
    import sys

    module, _, function = name.partition(":")
    if not module or not function:
        raise ArgumentError(f"--detector must look like package.module:function; got {name!r}.")
    sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ArgumentError(f"--detector {name} cannot be imported: {error}") from error
    finally:
        sys.path.remove("")
    if not callable(found):
        raise ArgumentError(f"--detector {name} is no function; got {type(found).__name__}.")
    return found


def _note_growth(recogniser: Recogniser) -> None:
    """FPIR grows with the gallery: say so where it is no longer the one that was calibrated."""
    calibration = recogniser.calibration
    made = None if calibration is None else calibration.identification
    if made is not None and len(recogniser.index) > 1.5 * made.items:
        note(
            f"note: the index has grown from {made.items:,} to {len(recogniser.index):,} items since it was calibrated;"
            " more strangers are now taken for known. Run kyori calibrate again."
        )


def _print(name: str, answer: Identity) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from .queries import chance

    said = str(answer.identity) if answer.known else "unknown"
    sign = "<" if answer.known else "≥"
    print(
        f"{name}: {said}   distance {answer.distance:.4f} {sign} threshold {answer.threshold:.4f} ({answer.target})"
    )
    table = Table()
    for column in ("candidate", "distance", "probability", "nearest item"):
        table.add_column(
            column, justify="left" if column in ("candidate", "nearest item") else "right", overflow="fold"
        )
    for one in answer.candidates:
        nearest = "" if one.nearest is None else str(one.nearest)
        table.add_row(Text(str(one.identity)), f"{one.distance:.4f}", chance(one.probability), Text(nearest))
    if table.row_count:
        Console().print(table)
