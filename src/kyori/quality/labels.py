"""Which labels are probably wrong: from vectors, and from the probabilities of a head where there is one.

Three signals speak about the label of an item, each a number in [0, 1], low where it is doubtful:

- **neighbors**: the share of its neighbours' votes, repeated with votes that doubtful neighbours have lost;
- **centres**: the distance to its class's main centre against the nearest main centre of another class;
- **probabilities**: what the head of the loss gives the label (its self-confidence; Northcutt, Jiang & Chuang,
  "Confident learning", JAIR 2021).

Votes and probabilities see the same thing and are averaged; the centres are another view, and multiplied. Nothing is
ever as large as items × classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data import Correction, Corrections
from ..errors import ArgumentError, DataError, DegenerateWarning, nearest_name
from ..neighbors import Matches
from ..vectors import VectorTable
from .beliefs import Beliefs, Suggestions, actions, issues, suggest, sureness
from .crossfit import Fold
from .noise import NoiseRate, noise_rates
from .probabilities import ClassProbabilities
from .signals import centre_scores, count_votes, graph

__all__ = ["LabelErrors", "find_label_errors"]

Method = Literal["aggregate", "neighbors", "centres", "probabilities"]
METHODS = ("aggregate", "neighbors", "centres", "probabilities")
_EVEN = 20  # items that a pair of classes is given beforehand, mixed up as often as all pairs are
_UNKNOWN = 0.5


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """What is known about each label, in the order of the items; cleanlab's names and direction.

    Attributes:
        ids: ``(n,)`` ids of the items.
        given_label: ``(n,)`` labels as they came: names, or integers where there are no names.
        suggested_label: ``(n,)`` the most believable label; the given one where nothing speaks louder.
        suggested_action: ``(n,)`` of ``"keep"``, ``"relabel"`` and ``"drop"``. An issue is relabelled where another
            label is fifty times as believable, and twenty times as believable as the next one; otherwise dropped.
        is_label_issue: ``(n,)`` bool: another label is five times as believable as the given one, and the item would
            not be an oddity among the items of that label; see :func:`kyori.quality.beliefs.issues`.
        label_score: ``(n,)`` in [0, 1], lower is worse; 0.5 where nothing is known (items alone in their class).
        judged: ``(n,)`` bool: False for items alone in their class, which are never issues.
        signals: The single signals by name, each ``(n,)`` in [0, 1]; ``probabilities`` only where they were given.
        neighbors: The evidence: positions ``(n, k)`` of the nearest other items, and their distances.
        noise: Estimated share of wrong labels in each class, in the order of the classes.
    """

    ids: NDArray[Any]
    given_label: NDArray[Any]
    suggested_label: NDArray[Any]
    suggested_action: NDArray[np.str_]
    is_label_issue: NDArray[np.bool_]
    label_score: NDArray[np.float64]
    judged: NDArray[np.bool_]
    signals: dict[str, NDArray[np.float64]]
    neighbors: Matches
    noise: tuple[NoiseRate, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        share = self.is_label_issue.mean()
        return f"LabelErrors({int(self.is_label_issue.sum()):,} of {len(self):,} labels are doubtful, {share:.1%})"

    def worst(self, count: int | None = None) -> NDArray[np.int64]:
        """Return positions, the most doubtful label first: issues before all others, then by score."""
        order = np.lexsort((self.ids, self.label_score, ~self.is_label_issue))
        return order[: len(self) if count is None else count]

    def corrections(self) -> Corrections:
        """Return the suggested actions of all issues, in the order of :meth:`worst`.

        They are what the evidence says without a person having looked: clear mistakes are relabelled, doubtful labels
        left out of the training.

        >>> rng = np.random.default_rng(0)
        >>> labels = np.repeat(["cat", "dog"], 50)
        >>> vectors = rng.normal(size=(100, 4)) + 5 * (labels == "dog")[:, None]
        >>> labels[3] = "dog"
        >>> find_label_errors(VectorTable(vectors=vectors, labels=labels)).corrections().decisions
        (Correction(id='3', action='relabel', label='cat', given_label='dog'),)
        """
        return Corrections(
            [
                Correction(
                    str(self.ids[i]),
                    str(self.suggested_action[i]),
                    str(self.suggested_label[i]) if self.suggested_action[i] == "relabel" else "",
                    str(self.given_label[i]),
                )
                for i in self.worst(int(self.is_label_issue.sum()))
            ],
            "suggestions",
        )


def find_label_errors(
    data: VectorTable | Sequence[Fold],
    *,
    probabilities: ArrayLike | ClassProbabilities | None = None,
    method: Method = "aggregate",
    k: int = 20,
    centres: int = 3,
    rounds: int = 2,
    metric: Literal["euclidean", "cosine"] = "euclidean",
) -> LabelErrors:
    """Rank the labels of a data set by how doubtful they are, and suggest better ones.

    The score of the aggregate is r / (1 + r) with r = (b^(m−1)·c / √t)^(1/m): m signals, b the mean of votes and
    probabilities (the votes where there are no probabilities), c the centres, and t the share in which the suggested
    class is labelled as the given one among the items that look wrong, each counted by how sure that is, and drawn
    towards the mean of all pairs by 20 items. Mistakes that are often made are easier to believe.

    Args:
        data: A table of vectors with labels, all from one model; or, better, what :func:`cross_fit` returns. A
            model that was trained on wrong labels has learnt some of them by heart, and its vectors hide them.
        probabilities: For a table: ``(n, c)`` probabilities of the classes in the order of the table's
            ``class_names`` (of the integers 0 … c − 1 where it has none), from a model that has not seen the
            item; or :class:`ClassProbabilities` where there are many classes. Folds bring their own.
        method: ``"aggregate"``, or one signal by its name.
        k: Neighbours that vote, ≥ 1. Of a class with fewer members, as many vote as it has others.
        centres: Centres of a class, ≥ 1; see :func:`~kyori.quality.signals.centre_scores`.
        rounds: How often the neighbours vote again, ≥ 0.
        metric: Distance of the vectors.

    Returns:
        Scores, suggestions, evidence and noise rates, in the order of the items. Another order of the items gives
        the same answers; only where the k-th and the next neighbour are equally far does the order choose.

    Raises:
        ArgumentError: An argument has the wrong shape or range.
        DataError: No labels, or fewer than two classes.

    Warns:
        DegenerateWarning: Items are alone in their class; nothing can be said of their labels.

    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(["cat", "dog"], 50)
    >>> vectors = rng.normal(size=(100, 4)) + 5 * (labels == "dog")[:, None]
    >>> labels[3] = "dog"
    >>> found = find_label_errors(VectorTable(vectors=vectors, labels=labels))
    >>> found.worst(1), found.suggested_label[3], found.is_label_issue.sum()
    (array([3]), np.str_('cat'), np.int64(1))
    """
    _check(method, k, centres, rounds, metric)
    folds = _as_folds(data, probabilities)
    table = folds[0].table
    labels = _labels_of(table)
    _, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    judged = (sizes[codes] > 1) & np.logical_or.reduce([fold.held_out for fold in folds])
    _warn_alone(int((~judged).sum()))
    vectors = [_scaled(fold.table.vectors, metric) for fold in folds]
    found = _neighbors(folds, vectors, min(k, len(table) - 1))
    votes = count_votes(labels, found, rounds)
    own, other = _centres(folds, vectors, labels, votes.own, centres)
    signals = {"neighbors": votes.own, "centres": own}
    heads = _probabilities(folds, labels)
    if heads is not None:
        signals["probabilities"] = heads.own.astype(np.float64)
    elif method == "probabilities":
        raise ArgumentError(
            "method 'probabilities' needs the probabilities of a head; pass probabilities=, or cross-fit with a loss"
            " that has one, such as softmax or arcface."
        )
    beliefs = Beliefs(votes, heads)
    best = suggest(labels, beliefs, other)
    issue = issues(labels, beliefs, best, judged)
    score = _joined(signals, labels, best, issue) if method == "aggregate" else signals[method]
    return LabelErrors(
        ids=table.ids,
        given_label=_named(labels, table),
        suggested_label=_named(np.where(judged & (best.odds < 1), best.labels, labels), table),
        suggested_action=actions(issue, best),
        is_label_issue=issue,
        label_score=np.where(judged, score, _UNKNOWN),
        judged=judged,
        signals=signals,
        neighbors=found,
        noise=noise_rates(labels, issue, judged, table.class_names),
    )


def _check(method: str, k: int, centres: int, rounds: int, metric: str) -> None:
    if method not in METHODS:
        raise ArgumentError(
            f"method must be one of {', '.join(METHODS)}; got {method!r}{nearest_name(method, METHODS)}"
        )
    for name, value, least in (("k", k, 1), ("centres", centres, 1), ("rounds", rounds, 0)):
        if value < least:
            raise ArgumentError(f"{name} must be at least {least}; got {value}.")
    if metric not in ("euclidean", "cosine"):
        raise ArgumentError(f"metric must be 'euclidean' or 'cosine'; got {metric!r}.")


def _as_folds(
    data: VectorTable | Sequence[Fold], probabilities: ArrayLike | ClassProbabilities | None
) -> Sequence[Fold]:
    if not isinstance(data, VectorTable):
        if not data or not all(isinstance(fold, Fold) for fold in data):
            raise ArgumentError("data must be a VectorTable, or the folds that cross_fit returns.")
        if probabilities is not None:
            raise ArgumentError("folds bring their own probabilities; leave probabilities out.")
        if any(not np.array_equal(fold.table.ids, data[0].table.ids) for fold in data):
            raise ArgumentError("the folds must hold the same items in the same order.")
        return data
    labels = _labels_of(data)
    if probabilities is not None and not isinstance(probabilities, ClassProbabilities):
        probabilities = ClassProbabilities.from_dense(probabilities, labels)
    if probabilities is not None and len(probabilities.own) != len(data):
        raise ArgumentError(
            f"probabilities must have {len(data)} rows, one per vector; got {len(probabilities.own)}."
        )
    return [Fold(data, np.ones(len(data), bool), probabilities)]


def _labels_of(table: VectorTable) -> NDArray[np.int64]:
    if table.labels is None:
        raise DataError(
            "the table has no labels, so none of them can be wrong; pass labels=... to VectorTable."
        )
    count = len(np.unique(table.labels))
    if count < 2:
        raise DataError(
            f"a label can be wrong only where there are others: expected at least 2 classes, got {count}."
        )
    return table.labels


def _warn_alone(count: int) -> None:
    if count:
        warnings.warn(
            f"{count:,} item{'s are' if count > 1 else ' is'} alone in the class, or in no fold: nothing can be said"
            f" of {'those labels' if count > 1 else 'that label'}. The score is {_UNKNOWN}, and never an issue.",
            DegenerateWarning,
            stacklevel=3,
        )


def _scaled(vectors: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    """Vectors whose euclidean distance orders as the metric does."""
    if metric == "euclidean":
        return vectors
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def _neighbors(folds: Sequence[Fold], vectors: Sequence[NDArray[np.float32]], k: int) -> Matches:
    """The neighbours of each item in the space of the model that has not seen it, among all other items."""
    n = len(folds[0].table)
    ids, distances = np.full((n, k), -1, np.int64), np.full((n, k), np.inf, np.float32)
    for fold, space in zip(folds, vectors, strict=True):
        rows = np.flatnonzero(fold.held_out)
        found = graph(space[rows], space, rows, k)
        ids[rows], distances[rows] = found.ids, found.distances
    return Matches(ids, distances)


def _centres(
    folds: Sequence[Fold],
    vectors: Sequence[NDArray[np.float32]],
    labels: NDArray[np.int64],
    trust: NDArray[np.float64],
    centres: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    scores, other = np.full(len(labels), _UNKNOWN), labels.copy()
    for fold, space in zip(folds, vectors, strict=True):
        rows = np.flatnonzero(fold.held_out)
        scores[rows], other[rows] = centre_scores(space, labels, trust, rows, centres=centres)
    return scores, other


def _probabilities(folds: Sequence[Fold], labels: NDArray[np.int64]) -> ClassProbabilities | None:
    """Each item's probabilities by the model that has not seen it."""
    parts = [fold.probabilities for fold in folds]
    if any(part is None for part in parts):
        return None
    m = max(part.classes.shape[1] for part in parts if part is not None)
    classes, values = np.full((len(labels), m), -1, np.int64), np.zeros((len(labels), m), np.float32)
    own = np.full(len(labels), _UNKNOWN, np.float32)
    for fold, part in zip(folds, parts, strict=True):
        if part is not None:
            rows, width = fold.held_out, part.classes.shape[1]
            classes[rows, :width], values[rows, :width] = part.classes[rows], part.values[rows]
            own[rows] = part.own[rows]
    return ClassProbabilities(classes, values, own).calibrated()


def _joined(
    signals: dict[str, NDArray[np.float64]],
    labels: NDArray[np.int64],
    best: Suggestions,
    issue: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """The score of the aggregate; see :func:`find_label_errors`."""
    beliefs = [signal for name, signal in signals.items() if name != "centres"]
    logs = len(beliefs) * np.log(np.maximum(np.mean(beliefs, axis=0), 1e-9))
    logs = logs + np.log(np.maximum(signals["centres"], 1e-9))
    likely = np.log(_confusion(labels, best, sureness(issue, best)))
    odds = np.exp((logs - likely / 2) / len(signals))
    return odds / (1 + odds)


def _confusion(
    labels: NDArray[np.int64], best: Suggestions, sure: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How often the suggested class is labelled as the given one, for each item; issues count by how sure they are.

    Of the unsure ones many are right and lie where two classes meet: they would make these two look mixed up.
    """
    if not sure.any():
        return np.ones(len(labels))
    classes, codes = np.unique(np.concatenate([best.labels, labels]), return_inverse=True)
    true, given = codes[: len(labels)], codes[len(labels) :]
    pairs, place = np.unique(true * len(classes) + given, return_inverse=True)
    count = np.bincount(place, sure, len(pairs))[place]
    members = np.bincount(true, sure, len(classes)) + np.bincount(given, 1 - sure, len(classes))
    return (count + _EVEN * sure.mean()) / (members[true] + _EVEN)


def _named(labels: NDArray[np.int64], table: VectorTable) -> NDArray[Any]:
    return labels if table.class_names is None else np.array(table.class_names)[labels]
