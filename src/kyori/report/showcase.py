"""Sections that show items themselves: pairs with their distances, and queries with their neighbours."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from .examples import Pair, Query, confused_pairs, first_pairs, worst_queries
from .page import Gallery, Heading, Markup, Section, Tile, tag
from .sections import Trial, class_name, number, threshold, value_text
from .thumbnails import thumbnail
from .words import Words

__all__ = ["Items", "pairs", "queries"]


class Items(Protocol):
    """What can show its items; a ``Source`` does. Item i belongs to row i of the trial's table."""

    def read(self, index: int) -> Any:
        """Return item ``index``: a PIL image or a vector ``(f,)``."""
        ...


def pairs(trial: Trial, items: Items, words: Words, *, count: int = 6) -> list[Section]:
    """First and most confused pairs with their distances. Nothing, where there are no labels or fewer than 2 items."""
    vectors, labels = trial.table.vectors, trial.table.labels
    if labels is None or len(labels) < 2:
        return []
    line = threshold(trial.results)
    note = "pairs.note" if np.isfinite(line) else "pairs.note.no_threshold"
    heading = words("pairs.heading", method=words.method(trial.method))
    sections: list[Section] = [
        Heading(heading, "pairs", words(note, seed=trial.seed, threshold=number(line)))
    ]
    titles = ("pairs.first_same", "pairs.first_different", "pairs.apart", "pairs.close")
    lists = (*first_pairs(vectors, labels, count), *confused_pairs(vectors, labels, count))
    for title, found in zip(titles, lists, strict=True):
        tiles = [_pair_tile(pair, trial, items, line, words) for pair in found]
        sections.append(Gallery(words(title), tiles, note="" if tiles else words("pairs.none")))
    return sections


def _pair_tile(pair: Pair, trial: Trial, items: Items, line: float, words: Words) -> Tile:
    pictures = [_picture(trial, items, i, words) for i in (pair.first, pair.second)]
    distance = tag("b", number(pair.distance))
    if not np.isfinite(line):
        return Tile(pictures, distance)
    says_same = pair.distance <= line
    right = says_same == pair.same
    verdict = words("pairs.says_same" if says_same else "pairs.says_different")
    caption = Markup(distance + tag("span", f"{'✓' if right else '✗'} {verdict}"))
    return Tile(pictures, caption, "right" if right else "wrong")


def _picture(trial: Trial, items: Items, index: int, words: Words) -> Markup:
    return thumbnail(items.read(index), _label(trial, index, words))


def _label(trial: Trial, index: int, words: Words) -> str:
    table = trial.table
    if table.labels is None:
        return words("item.alt.unlabelled", id=table.ids[index])
    return words("item.alt", id=table.ids[index], name=class_name(table, int(table.labels[index])))


def queries(
    trial: Trial, items: Items, measure: str, words: Words, *, count: int = 6, k: int = 10
) -> list[Section]:
    """The queries that ``measure`` rates lowest with their first neighbours. Nothing, where there are no labels."""
    vectors, labels = trial.table.vectors, trial.table.labels
    if labels is None:
        return []
    scores = trial.results[measure].per_query
    scores = scores if scores is not None and len(scores) == len(labels) else None
    found = worst_queries(vectors, labels, scores=scores, count=count, k=k)
    failed = [query for query in found if query.score < 1]
    shown = words.measure(measure)
    note = words("queries.note", measure=shown, method=words.method(trial.method), seed=trial.seed)
    empty = words("queries.none") if found else words("queries.too_few")
    heading = Heading(words("queries.heading"), "queries", note if failed else empty)
    tiles = [_query_tile(query, trial, items, measure, words) for query in failed]
    return (
        [heading, Gallery(words("queries.title", measure=shown), tiles, kind="rows")] if tiles else [heading]
    )


def _query_tile(query: Query, trial: Trial, items: Items, measure: str, words: Words) -> Tile:
    asked = tag(
        "figure",
        _picture(trial, items, query.item, words),
        tag(
            "figcaption",
            words("queries.query"),
            tag("b", _name(trial, query.item)),
            f"{words.measure(measure)} {value_text(measure, query.score)}",
        ),
        class_="asked",
    )
    answers = zip(query.neighbors, query.distances, query.hits, strict=True)
    return Tile([asked, *(_answer(trial, items, int(i), d, hit, words) for i, d, hit in answers)])


def _answer(trial: Trial, items: Items, index: int, distance: float, hit: bool, words: Words) -> Markup:
    mark = tag(
        "i", "✓" if hit else "✗", role="img", aria_label=words("queries.hit" if hit else "queries.miss")
    )
    caption = tag("figcaption", mark, tag("b", _name(trial, index)), number(float(distance)))
    return tag("figure", _picture(trial, items, index, words), caption, class_="hit" if hit else "miss")


def _name(trial: Trial, index: int) -> str:
    labels = trial.table.labels
    return class_name(trial.table, int(labels[index])) if labels is not None else ""
