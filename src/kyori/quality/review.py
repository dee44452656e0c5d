"""What a person gets to see and decide: a table of all labels, and a page to go through the doubtful ones."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .. import __version__
from ..errors import ArgumentError
from ..report.page import (
    Code,
    Details,
    Facts,
    Heading,
    Markup,
    Prose,
    Section,
    Table,
    render,
    tag,
    write_page,
)
from ..report.thumbnails import thumbnail
from ..report.words import LANGUAGES, Words
from .labels import LabelErrors
from .noise import NoiseRate
from .review_words import TEXTS
from .writing import write_columns

__all__ = ["write_review", "write_table"]

_FEWEST = 24  # items on the page, so that the border between doubtful and good can be seen
_NEIGHBORS = 6
_CLASSES = 12  # of the noise table, before the rest is folded away
_NAMES = 2000  # classes whose names are offered while typing


class Items(Protocol):
    """What can show its items; a ``Source`` does. Item i belongs to row i."""

    def read(self, index: int) -> Any:
        """Return item ``index``: a PIL image or a vector ``(f,)``."""
        ...


def write_table(errors: LabelErrors, path: str | PathLike[str]) -> None:
    """Write one row an item, in the order of the items: Parquet or CSV, as the path ends. Atomic.

    Columns: ``id``, ``is_label_issue``, ``label_score``, ``given_label`` as cleanlab names them, ``suggested_label``,
    ``suggested_action``, ``judged``, one ``<signal>_score`` a signal, and the neighbours: ``neighbor_ids``,
    ``neighbor_labels``, ``neighbor_distances``, lists in Parquet and JSON lists in CSV.

    Raises:
        ArgumentError: The path ends in something else.
    """
    write_columns({**_columns(errors), **_evidence(errors)}, path)


def _columns(errors: LabelErrors) -> dict[str, np.ndarray]:
    return {
        "id": errors.ids,
        "is_label_issue": errors.is_label_issue,
        "label_score": errors.label_score,
        "given_label": errors.given_label,
        "suggested_label": errors.suggested_label,
        "suggested_action": errors.suggested_action,
        "judged": errors.judged,
        **{f"{name}_score": values for name, values in errors.signals.items()},
    }


def _evidence(errors: LabelErrors) -> dict[str, list[Any]]:
    known = errors.neighbors.ids >= 0
    rows = [ids[there] for ids, there in zip(errors.neighbors.ids, known, strict=True)]
    far = [d[there] for d, there in zip(errors.neighbors.distances, known, strict=True)]
    return {
        "neighbor_ids": [errors.ids[row].tolist() for row in rows],
        "neighbor_labels": [errors.given_label[row].tolist() for row in rows],
        "neighbor_distances": [[float(f"{d:.6g}") for d in row.tolist()] for row in far],
    }


def write_review(
    errors: LabelErrors,
    items: Items | None,
    path: str | PathLike[str],
    *,
    data: str,
    show: int = 200,
    judged_by: str = "",
    lang: str = "en",
) -> Path:
    """Write the page on which a person decides about the doubtful labels.

    It is one file and asks the network for nothing. It shows the worst labels first, at least 24 of them, each with
    its neighbours and the choice keep, relabel or drop; it saves the decisions as ``corrections.csv``, and opens such
    a file again to go on.

    Args:
        errors: What :func:`find_label_errors` returned.
        items: The items, in the same order; a ``Source``. None shows ids only.
        path: The ``.html`` file to write; written in one step.
        data: Name of the data, for the title and the command.
        show: Items on the page, at most.
        judged_by: How the vectors came about, a line among the facts.
        lang: ``"en"`` or ``"ja"``.

    Returns:
        The path.

    Raises:
        ArgumentError: An unknown language, or ``show`` below 1.
    """
    words, say = Words(lang), _Say(lang)
    if show < 1:
        raise ArgumentError(f"show must be at least 1; got {show}.")
    count = int(errors.is_label_issue.sum())
    rows = errors.worst(min(show, max(count, _FEWEST)))
    sections: list[Section] = [
        Prose([say("lead")], "lead"),
        Facts(_facts(errors, data, judged_by, say)),
        Heading(say("items.heading"), "items", say("items.note", shown=len(rows), issues=f"{count:,}")),
        _Review(errors, rows, items, say),
        Heading(say("use.heading"), "use", say("use.note")),
        Code(f"kyori train {data} --corrections corrections.csv"),
        *_noise(errors.noise, say),
    ]
    page = render(
        say("title", issues=f"{count:,}", n=f"{len(errors):,}", data=data),
        sections,
        lang=lang,
        kicker=say("kicker"),
        contents=words("contents"),
        footer=[words("footer", version=__version__)],
    )
    return write_page(path, page)


class _Say:
    """The words of this page in one language."""

    def __init__(self, lang: str):
        self.place = LANGUAGES.index(lang)

    def __call__(self, key: str, **fields: object) -> str:
        return self.template(key).format(**fields)

    def template(self, key: str) -> str:
        """Return a text with its fields in braces, for the script to fill in."""
        return TEXTS[key][self.place]


def _facts(errors: LabelErrors, data: str, judged_by: str, say: _Say) -> list[tuple[object, object]]:
    n, count = int(errors.judged.sum()), int(errors.is_label_issue.sum())
    facts: list[tuple[object, object]] = [
        (say("fact.data"), data),
        (say("fact.items"), f"{len(errors):,}"),
        (say("fact.classes"), f"{len(errors.noise):,}"),
        (say("fact.issues"), f"{count:,} ({count / max(n, 1):.1%})"),
    ]
    if n < len(errors):
        facts.append((say("fact.unjudged"), f"{len(errors) - n:,}"))
    return [*facts, (say("fact.judged_by"), judged_by)] if judged_by else facts


def _noise(noise: tuple[NoiseRate, ...], say: _Say) -> Iterator[Section]:
    """The classes with the most wrong labels; the others folded away."""
    order = sorted((one for one in noise if one.items), key=lambda one: (-one.low, str(one.label)))
    yield Heading(say("noise.heading"), "noise", say("noise.note"))
    yield _noise_table(order[:_CLASSES], say)
    if rest := order[_CLASSES : _CLASSES + 1000]:
        yield Details(say("noise.more", count=len(rest)), _noise_table(rest, say))


def _noise_table(noise: list[NoiseRate], say: _Say) -> Table:
    rows = [
        [one.label, f"{one.items:,}", f"{one.issues:,}", f"{one.rate:.1%}", f"{one.low:.1%} – {one.high:.1%}"]
        for one in noise
    ]
    titles = [say(f"noise.{name}") for name in ("class", "items", "issues", "rate", "interval")]
    return Table(titles, rows, caption=say("noise.heading"))


class _Review:
    """The list of doubtful labels with its buttons, style and script."""

    def __init__(self, errors: LabelErrors, rows: np.ndarray, items: Items | None, say: _Say):
        self.errors, self.rows, self.items, self.say = errors, rows, items, say

    def html(self) -> Markup:
        """Return the list as one element."""
        names = [str(one.label) for one in self.errors.noise[:_NAMES]]
        options = tag("datalist", *(tag("option", value=name) for name in names), id="classes")
        cards = [self._card(number, int(row)) for number, row in enumerate(self.rows)]
        known = tag("template", "\n".join(str(one.label) for one in self.errors.noise), id="known")
        return tag(
            "div",
            tag("style", Markup(_asset("review.css"))),
            self._bar(),
            options,
            known,
            tag("ol", *cards, class_="review"),
            tag("script", Markup(_asset("review.js"))),
        )

    def _bar(self) -> Markup:
        say = self.say
        status = {
            name: say.template(f"status.{name}") for name in ("count", "unknown", "foreign", "unreadable")
        }
        return tag(
            "div",
            tag("button", say("button.accept"), type="button", id="accept"),
            tag("button", say("button.save"), type="button", id="save"),
            tag(
                "label",
                say("button.open"),
                tag("input", type="file", id="open", accept=".csv"),
                class_="button",
            ),
            tag("output", id="status", role="status", **{f"data_{k}": v for k, v in status.items()}),
            class_="review-bar",
        )

    def _card(self, number: int, row: int) -> Markup:
        errors = self.errors
        id_, given, suggested = (
            str(v[row]) for v in (errors.ids, errors.given_label, errors.suggested_label)
        )
        facts = [
            tag("p", tag("b", given), " → ", tag("b", suggested))
            if given != suggested
            else tag("p", tag("b", given)),
            tag("p", self.say("item.score", score=f"{errors.label_score[row]:.3f}"), class_="note"),
            tag("p", id_, class_="id"),
        ]
        return tag(
            "li",
            tag("div", self._picture(row), tag("div", *facts), class_="asked"),
            self._choice(number, suggested if suggested != given else ""),
            tag("div", *self._answers(row, given, suggested), class_="answers"),
            data_id=id_,
            data_given=given,
            data_suggested=suggested,
            data_action=str(errors.suggested_action[row]),
        )

    def _choice(self, number: int, suggested: str) -> Markup:
        say, name = self.say, f"item-{number}"
        choices = [
            tag("label", tag("input", type="radio", name=name, value=action), say(f"action.{action}"))
            for action in ("keep", "relabel", "drop")
        ]
        new = tag("input", type="text", list="classes", value=suggested, aria_label=say("item.new_label"))
        return tag("fieldset", tag("legend", say("item.decide")), choices[0], choices[1], new, choices[2])

    def _answers(self, row: int, given: str, suggested: str) -> Iterator[Markup]:
        errors = self.errors
        found = zip(errors.neighbors.ids[row], errors.neighbors.distances[row], strict=True)
        for other, distance in list(found)[:_NEIGHBORS]:
            if other < 0:
                continue
            label = str(errors.given_label[other])
            kind = "given" if label == given else "suggested" if label == suggested else None
            caption = tag("figcaption", tag("b", label), tag("span", f"{distance:.3g}"))
            yield tag("figure", self._picture(int(other)), caption, class_=kind)

    def _picture(self, row: int) -> Markup:
        if self.items is None:
            return Markup()
        errors = self.errors
        alt = self.say("item.alt", id=errors.ids[row], label=errors.given_label[row])
        return thumbnail(self.items.read(row), alt)


def _asset(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")
