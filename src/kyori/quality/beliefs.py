"""What the label of an item probably is, by votes and probabilities together, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .probabilities import ClassProbabilities
from .signals import Votes

__all__ = ["Beliefs", "Suggestions", "actions", "issues", "suggest", "sureness"]

_DOUBTFUL = 0.2  # a label is an issue when another one is five times as believable …
_UNLIKE = 0.05  # … unless the item is less like that class than nineteen of twenty of its members …
_CERTAIN = 0.02  # … or the other one is fifty times as believable
_RIVAL = 0.05  # a label is replaced by one that is so certain and twenty times as believable as the next
_TINY = 1e-9


class Beliefs:
    """How believable each class is for each item: the mean of votes and probabilities, or the votes alone.

    Attributes:
        own: ``(n,)`` belief in the given label.
        known: ``(n, m)`` classes that votes or probabilities speak of, −1 where there are fewer.
    """

    def __init__(self, votes: Votes, heads: ClassProbabilities | None):
        self._votes, self._heads = votes, heads
        if heads is None:
            self.own, self.known = votes.own, votes.classes
        else:
            self.own = (votes.own + np.maximum(heads.own, _TINY)) / 2
            self.known = np.concatenate([votes.classes, heads.classes], axis=1)

    def of(self, classes: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return how far items ``rows`` ``(q,)`` are believed to be of ``classes`` ``(q, e)``, not their own."""
        votes, heads = self._votes, self._heads
        voted = _value_of(classes, votes.classes[rows], votes.shares[rows], votes.least[rows])
        if heads is None:
            return voted
        tiny = np.full(len(rows), _TINY)
        return (voted + _value_of(classes, heads.classes[rows], heads.values[rows], tiny)) / 2


def _value_of(
    candidates: NDArray[np.int64], classes: NDArray[np.int64], values: NDArray, least: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Look up each candidate ``(n, e)`` among the row's classes ``(n, m)``; ``least`` where it is not there."""
    found = np.repeat(least[:, None], candidates.shape[1], axis=1)
    for i in range(classes.shape[1]):
        found = np.maximum(found, np.where(candidates == classes[:, i : i + 1], values[:, i : i + 1], 0))
    return found


@dataclass(frozen=True, eq=False)
class Suggestions:
    """The most believable other label of each item.

    Attributes:
        labels: ``(n,)`` int64; the given label where nothing speaks for another.
        odds: ``(n,)`` belief in the given label over that in the suggested one.
        rival: ``(n,)`` in [0, 1]: belief in the next other label over that in the suggested one.
    """

    labels: NDArray[np.int64]
    odds: NDArray[np.float64]
    rival: NDArray[np.float64]


def suggest(labels: NDArray[np.int64], beliefs: Beliefs, nearest: NDArray[np.int64]) -> Suggestions:
    """Find the most believable other label; ``nearest`` ``(n,)`` is the class of the nearest other centre."""
    rows = np.arange(len(labels))
    candidates = np.concatenate([beliefs.known, nearest[:, None]], axis=1)
    candidates.sort(axis=1)  # so that a tie goes to the first class
    belief = beliefs.of(candidates, rows)
    again = np.zeros(candidates.shape, bool)
    again[:, 1:] = candidates[:, 1:] == candidates[:, :-1]
    belief[again | (candidates < 0) | (candidates == labels[:, None])] = 0
    best = belief.argmax(axis=1)
    strongest = belief[rows, best]
    belief[rows, best] = 0
    there = strongest > 0
    return Suggestions(
        np.where(there, candidates[rows, best], labels),
        np.divide(beliefs.own, strongest, out=np.full(len(labels), np.inf), where=there),
        np.divide(belief.max(axis=1), strongest, out=np.zeros(len(labels)), where=there),
    )


def issues(
    labels: NDArray[np.int64], beliefs: Beliefs, found: Suggestions, judged: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Decide which labels ``(n,)`` are issues: five times less believable than another, and no borderline case.

    A wrong label says nothing about its item: among the members of its true class the item stands anywhere. An odd but
    rightly labelled item is where the classes meet: hardly a member of the suggested class is believed so much to be
    of the given one. So the item is left alone when fewer than 5 % of the members are (a conformal p-value), which one
    wrong label in twenty escapes by chance; where another label is fifty times as believable this is not asked.
    """
    doubtful = judged & (found.odds < _DOUBTFUL)
    asked = np.flatnonzero(doubtful & (found.odds >= _CERTAIN))
    issue = doubtful.copy()
    issue[asked] = _alike(labels, beliefs, found, asked) >= _UNLIKE
    return issue


def _alike(
    labels: NDArray[np.int64], beliefs: Beliefs, found: Suggestions, asked: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the share ``(q,)`` of the suggested class, the item among them, that is as much of the given class.

    Members are the items that carry the label and are believed to be of no other class more.
    """
    members = np.flatnonzero(found.odds >= 1)
    members = members[np.argsort(labels[members], kind="stable")]
    of_class = labels[members]
    order = asked[np.lexsort((labels[asked], found.labels[asked]))]
    pair = np.stack([found.labels[order], labels[order]])
    starts = np.flatnonzero(np.any(np.diff(pair, prepend=-1) != 0, axis=0))
    share = np.ones(len(labels))
    for rows in np.split(order, starts[1:]) if len(order) else []:
        suggested, given = found.labels[rows[0]], labels[rows[0]]
        inside = members[np.searchsorted(of_class, suggested) : np.searchsorted(of_class, suggested, "right")]
        odds = beliefs.of(np.full((len(inside), 1), given), inside)[:, 0] / beliefs.own[inside]
        as_much = len(inside) - np.searchsorted(np.sort(odds), found.odds[rows])
        share[rows] = (as_much + 1) / (len(inside) + 1)
    return share[asked]


def actions(issue: NDArray[np.bool_], found: Suggestions) -> NDArray[np.str_]:
    """Say ``(n,)`` what to do: keep what is no issue, relabel what is clear, drop the issues between."""
    clear = (found.odds < _CERTAIN) & (found.rival < _RIVAL)
    return np.where(issue, np.where(clear, "relabel", "drop"), "keep")


def sureness(issue: NDArray[np.bool_], found: Suggestions) -> NDArray[np.float64]:
    """Say ``(n,)`` in [0, 1] how far an issue is from being none and from being of a third class; 0 for the others."""
    doubt = np.where(issue, found.odds, _DOUBTFUL) / _DOUBTFUL
    return np.clip(1 - doubt, 0, 1) * (1 - found.rival)
