"""Corrections of labels, decided by a person: kept in a file of their own, never written into the data."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError, nearest_name
from ..files import write_atomic
from .sources import Source

__all__ = ["ACTIONS", "Correction", "Corrections"]

ACTIONS = ("keep", "relabel", "drop")
COLUMNS = ("id", "action", "label", "given_label")


@dataclass(frozen=True)
class Correction:
    """What was decided about one item.

    Attributes:
        id: The item's id, as text.
        action: ``"keep"``, ``"relabel"`` or ``"drop"``.
        label: The new label's name with ``relabel``, else empty.
        given_label: The label that was looked at, or empty; where it stands, the data must still say so.
    """

    id: str
    action: str
    label: str = ""
    given_label: str = ""


class Corrections:
    """Decisions about items, from a CSV file with the columns ``id, action, label`` and perhaps ``given_label``.

    Raises:
        DataError: An id occurs twice, an action is unknown, or a relabel names no label.

    >>> Corrections([Correction("7", "relabel", "cat"), Correction("9", "drop")])
    Corrections(1 relabelled, 1 dropped, 0 kept)
    """

    def __init__(self, decisions: Sequence[Correction], name: str = "corrections"):
        self.decisions = tuple(decisions)
        self.name = name
        seen: set[str] = set()
        for one in self.decisions:
            if one.id in seen:
                raise DataError(f"{name}: id {one.id!r} occurs more than once; decide once for each item.")
            seen.add(one.id)
            if one.action not in ACTIONS:
                raise DataError(
                    f"{name}: the action of {one.id!r} must be keep, relabel or drop; got {one.action!r}"
                    f"{nearest_name(one.action, ACTIONS)}"
                )
            if one.action == "relabel" and not one.label:
                raise DataError(f"{name}: {one.id!r} is to be relabelled, but the column 'label' is empty.")

    def __len__(self) -> int:
        return len(self.decisions)

    def __repr__(self) -> str:
        return f"Corrections({self})"

    def __str__(self) -> str:
        return ", ".join(
            f"{self.count(action):,} {word}"
            for action, word in (("relabel", "relabelled"), ("drop", "dropped"), ("keep", "kept"))
        )

    def count(self, action: str) -> int:
        """Return how many decisions have this action."""
        return sum(one.action == action for one in self.decisions)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Corrections:
        """Read the file that the review page saved, or one made by hand.

        Raises:
            DataError: The file is missing, is not UTF-8, lacks a column, or contradicts itself.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig")  # spreadsheets put a mark in front
        except OSError as error:
            raise DataError(f"cannot read the corrections {path}: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path} is not UTF-8 text ({error.reason}); save the corrections as CSV in UTF-8."
            ) from error
        rows = csv.DictReader(io.StringIO(text, newline=""))
        columns = rows.fieldnames or []
        if missing := [name for name in ("id", "action") if name not in columns]:
            raise DataError(
                f"{path} must have the columns id, action and label; {' and '.join(missing)} not found among"
                f" {', '.join(columns) or 'none'}."
            )
        return cls([_decision(row) for row in rows], path.name)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file that :meth:`load` reads, atomically."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([getattr(one, name) for name in COLUMNS] for one in self.decisions)
        write_atomic(path, lambda file: file.write(text.getvalue().encode()))

    def apply(self, source: Source) -> Source:
        """Return the source with new labels and without the dropped items; the data themselves stay as they are.

        Raises:
            DataError: An id or a label is unknown, an item's label is not the one that was looked at, or the
                source has no labels.
        """
        if source.labels is None:
            raise DataError(f"{source.name} has no labels to correct.")
        place = {str(id_): i for i, id_ in enumerate(source.ids.tolist())}
        codes = {name: code for code, name in enumerate(source.class_names)}
        self._check(source, place, codes)
        labels, kept = source.labels.copy(), np.ones(len(source), bool)
        for one in self.decisions:
            if one.action == "relabel":
                labels[place[one.id]] = codes[one.label]
            kept[place[one.id]] = one.action != "drop"
        corrected = source.take(kept)
        corrected.labels = labels[kept]
        return corrected

    def _check(self, source: Source, place: dict[str, int], codes: dict[str, int]) -> None:
        if unknown := [one.id for one in self.decisions if one.id not in place]:
            raise DataError(
                f"{self.name}: {len(unknown)} of {len(self)} ids are not in {source.name}, the first is {unknown[0]!r}."
                " Corrections belong to the data they were made for."
            )
        for one in self.decisions:
            if one.action == "relabel" and one.label not in codes:
                raise DataError(
                    f"{self.name}: {one.id!r} is to be labelled {one.label!r}, which is no class of {source.name}"
                    f"{nearest_name(one.label, codes)}"
                )
            now = source.class_names[source.labels[place[one.id]]]  # type: ignore[index]  # checked by apply
            if one.given_label and one.given_label != now:
                raise DataError(
                    f"{self.name}: {one.id!r} was labelled {one.given_label!r} when it was looked at and is {now!r}"
                    " now. The data have changed since; look at it again."
                )


def _decision(row: dict[str, str | None]) -> Correction:
    return Correction(
        **{
            name: (row.get(name) or "").strip() if name == "action" else row.get(name) or ""
            for name in COLUMNS
        }
    )
