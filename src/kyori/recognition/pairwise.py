"""A pairwise model over the first neighbours: a small network that looks at both vectors and says whether they match.

A distance weighs every direction of the embedding alike. The network sees |a − b| and a·b coordinate by coordinate and
may weigh them, which costs one small matrix product a pair; hence it is asked about the first neighbours only.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..distances import row_distance
from ..errors import ArgumentError, DataError, FileFormatError
from ..models.weights import read_tensors, state_tensors, write_tensors
from ..neighbors import nearest
from ..vectors import VectorTable
from .identities import labels_of

__all__ = ["PairwiseReranker", "ids_digest"]

FORMAT, VERSION = "kyori.pairwise", 1
_MOST_QUERIES = 4_000
_HELD_OUT = 0.2  # of the queries: they decide when to stop
_BATCH = 1_024
_PATIENCE = 4  # epochs without a better held-out loss


class _Network(nn.Module):
    """Log odds that two vectors are of one class: a line in their distance, and a correction that starts at 0."""

    def __init__(self, d: int, hidden: int):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(1.0))
        self.offset = nn.Parameter(torch.tensor(0.0))
        self.inner = nn.Linear(2 * d, hidden)
        self.outer = nn.Linear(hidden, 1)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)
        for name, value in (
            ("mean", torch.zeros(2 * d)),
            ("std", torch.ones(2 * d)),
            ("unit", torch.tensor(1.0)),
        ):
            self.register_buffer(name, value)

    mean: Tensor
    std: Tensor
    unit: Tensor

    def features(self, a: Tensor, b: Tensor) -> Tensor:
        """Return ``(p, 2 d)``: |a − b| and a·b by coordinate; both the same when a and b are swapped."""
        a, b = a / self.unit, b / self.unit
        return torch.cat([(a - b).abs(), a * b], dim=1)

    def forward(self, a: Tensor, b: Tensor, distance: Tensor) -> Tensor:
        x = (self.features(a, b) - self.mean) / self.std
        correction = self.outer(F.relu(self.inner(x)))[:, 0]
        return self.offset - self.slope.abs() * distance / self.unit + correction


class PairwiseReranker:
    """Orders the first neighbours by a small network trained on pairs of labelled vectors.

    The new distance is 1 − P(same class), in [0, 1]. Made with :meth:`fit` or :meth:`load`; goes into
    ``index.search(..., rerank=model)``.

    Attributes:
        first: How many neighbours are looked at again.
        metric: The distance it was trained with.
        facts: What it was trained on.

    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(200) % 5
    >>> vectors = rng.normal(size=(5, 4))[labels] + rng.normal(size=(200, 4)) * [0.1, 0.1, 3, 3]
    >>> model = PairwiseReranker.fit(VectorTable(vectors=vectors, labels=labels), first=50, epochs=3)
    >>> model.measure(vectors[:2], vectors[5:7]).shape
    (2,)
    """

    #: Its name in a run folder.
    FILE = "reranker.safetensors"

    def __init__(
        self,
        network: _Network,
        *,
        first: int,
        metric: Literal["euclidean", "cosine"],
        facts: Mapping[str, Any],
    ):
        self._network = network.eval()
        self.first = first
        self.metric = metric
        self.facts = dict(facts)

    @classmethod
    def fit(
        cls,
        table: VectorTable,
        *,
        metric: Literal["euclidean", "cosine"] = "euclidean",
        first: int = 50,
        hidden: int = 64,
        epochs: int = 30,
        learning_rate: float = 1e-3,
        seed: int = 0,
    ) -> Self:
        """Train on pairs of an item with each of its first neighbours.

        A fifth of the items as queries is held out; training stops when their loss no longer falls, and the best epoch
        counts. Where the network finds nothing, it stays the distance's own order. Use vectors of items that the
        embedding was not trained on: among those every neighbour is right and there is nothing to learn.

        Args:
            table: Labelled vectors ``(n, d)``, n ≥ 10.
            metric: The index's distance.
            first: Neighbours to learn from, and to look at again in a search, ≥ 2.
            hidden: Units of the one hidden layer, ≥ 1.
            epochs: At most so many, ≥ 1.
            learning_rate: Of Adam.
            seed: Of everything random.

        Raises:
            ArgumentError: An option is out of range.
            DataError: No labels, fewer than 10 items, or the first neighbours are all right or all wrong.
        """
        if first < 2 or hidden < 1 or epochs < 1 or not learning_rate > 0:
            raise ArgumentError(
                "a pairwise re-ranker needs first ≥ 2, hidden ≥ 1, epochs ≥ 1 and a learning rate above 0; got"
                f" first={first}, hidden={hidden}, epochs={epochs}, learning_rate={learning_rate}."
            )
        if metric not in ("euclidean", "cosine"):
            raise ArgumentError(f"metric must be 'euclidean' or 'cosine'; got {metric!r}.")
        if len(table) < 10:
            raise DataError(f"a pairwise re-ranker needs at least 10 labelled items; got {len(table)}.")
        generator = np.random.default_rng(seed)
        rows, held, distances, same = _training_pairs(table, metric, first, generator)
        vectors = torch.from_numpy(_scaled(table.vectors, metric))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            network = _Network(vectors.shape[1], hidden)
        pairs = _Pairs(vectors, torch.from_numpy(rows), torch.from_numpy(distances), torch.from_numpy(same))
        _standardise(network, pairs)
        before, after, used = _train(network, pairs, held, epochs, learning_rate, generator)
        facts = {
            "items": len(table),
            "pairs": len(rows),
            "loss_of_distance": before,
            "loss": after,
            "epochs": used,
            "ids": ids_digest(table),
        }
        return cls(network, first=first, metric=metric, facts=facts)

    @torch.no_grad()
    def measure(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return 1 − P(same class) ``(p,)`` for each row of ``a`` ``(p, d)`` with the same row of ``b``.

        Raises:
            ArgumentError: Vectors of another length than those it was trained on.
        """
        left, right = (
            torch.from_numpy(_scaled(np.asarray(side, np.float32), self.metric)) for side in (a, b)
        )
        d = self._network.inner.in_features // 2
        if left.ndim != 2 or left.shape != right.shape or left.shape[1] != d:
            raise ArgumentError(
                f"this re-ranker was trained on vectors of {d} numbers; got {tuple(left.shape)} and"
                f" {tuple(right.shape)}."
            )
        found = torch.sigmoid(-self._network(left, right, row_distance(left, right, self.metric)))
        return found.numpy()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one safetensors file, atomically, and return its path."""
        path = Path(path)
        facts = {
            "format": FORMAT,
            "version": VERSION,
            "first": self.first,
            "metric": self.metric,
            "hidden": self._network.inner.out_features,
            "d": self._network.inner.in_features // 2,
            "facts": self.facts,
        }
        write_tensors(path, state_tensors(self._network.state_dict()), facts)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            FileFormatError: The file is missing, damaged, of another kind or of a newer version.
        """
        tensors, facts = read_tensors(path)
        if facts.get("format") != FORMAT:
            raise FileFormatError(f"{path} holds no pairwise re-ranker (format '{FORMAT}').")
        if facts.get("version") != VERSION:
            raise FileFormatError(
                f"{path} has version {facts.get('version')} of the format, and this Kyori reads {VERSION}."
            )
        try:
            network = _Network(int(facts["d"]), int(facts["hidden"]))
            network.load_state_dict(tensors)
            first, metric, about = int(facts["first"]), facts["metric"], dict(facts["facts"])
            if metric not in ("euclidean", "cosine") or first < 2:
                raise ValueError(f"first is {first}, metric is {metric!r}")
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise FileFormatError(f"{path} is damaged: {error}. Train it again.") from error
        return cls(network, first=first, metric=metric, facts=about)


class _Pairs:
    """Pairs of rows with their distance and whether they are the same."""

    def __init__(self, vectors: Tensor, rows: Tensor, distances: Tensor, same: Tensor):
        self.vectors, self.rows, self.distances, self.same = vectors, rows, distances, same

    def take(self, which: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        a, b = self.rows[which].T
        return self.vectors[a], self.vectors[b], self.distances[which], self.same[which]


def ids_digest(table: VectorTable) -> str:
    """Return a mark of which items a table holds, whatever their order."""
    return hashlib.sha256("\0".join(sorted(map(str, table.ids.tolist()))).encode()).hexdigest()[:16]


def _training_pairs(
    table: VectorTable, metric: Any, first: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]:
    """Return rows ``(m, 2)``, which are held out ``(m,)``, distances and 1 or 0 for same ``(m,)``."""
    n = len(table)
    labels = np.unique(labels_of(table).astype(str), return_inverse=True)[1]
    chosen = np.sort(generator.permutation(n)[:_MOST_QUERIES])
    count = min(first, n - 1)
    found = nearest(table.vectors[chosen], table.vectors, count + 1, metric)
    others = found.ids != chosen[:, None]
    others &= np.cumsum(others, axis=1) <= count  # duplicates may stand before the item itself
    rows = np.stack([np.repeat(chosen, count), found.ids[others]], axis=1)
    same = labels[rows[:, 0]] == labels[rows[:, 1]]
    if same.all() or not same.any():
        what = "of its class" if same.all() else "of another class"
        raise DataError(
            f"the first {count} neighbours of every item are {what}: there is nothing to learn. Use more neighbours, or"
            " items that the embedding was not trained on."
        )
    held_items = np.zeros(n, np.bool_)
    held_items[generator.permutation(chosen)[: max(1, int(_HELD_OUT * len(chosen)))]] = True
    return rows, held_items[rows[:, 0]], found.distances[others], same.astype(np.float32)


def _standardise(network: _Network, pairs: _Pairs) -> None:
    sample = torch.arange(0, len(pairs.rows), max(1, len(pairs.rows) // 20_000))
    a, b, distance, _ = pairs.take(sample)
    network.unit.fill_(float(distance.mean()) or 1.0)
    features = network.features(a, b)
    network.mean.copy_(features.mean(0))
    std = features.std(0)
    network.std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))


def _train(
    network: _Network,
    pairs: _Pairs,
    held: NDArray[np.bool_],
    epochs: int,
    learning_rate: float,
    generator: np.random.Generator,
) -> tuple[float, float, int]:
    """Train, keep the best epoch, and return the held-out losses of the distance alone and of it, and the epoch."""
    learn, check = (torch.from_numpy(np.flatnonzero(mask)) for mask in (~held, held))
    _fit_line(network, pairs, learn)
    before = best = _loss(network, pairs, check)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    used = 0
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, weight_decay=1e-4)
    for epoch in range(1, epochs + 1):
        network.train()
        for part in torch.from_numpy(generator.permutation(learn.numpy())).split(_BATCH):
            a, b, distance, same = pairs.take(part)
            loss = F.binary_cross_entropy_with_logits(network(a, b, distance), same)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found = _loss(network, pairs, check)
        if found < best:
            best, used = found, epoch
            state = {name: value.clone() for name, value in network.state_dict().items()}
        elif epoch - used >= _PATIENCE:
            break
    network.load_state_dict(state)
    return before, best, used


def _fit_line(network: _Network, pairs: _Pairs, learn: Tensor) -> None:
    """Fit the line in the distance first, so that training starts from the order that the distance gives."""
    distance, same = pairs.distances[learn] / network.unit, pairs.same[learn]
    line = torch.optim.LBFGS([network.slope, network.offset], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        line.zero_grad()
        loss = F.binary_cross_entropy_with_logits(network.offset - network.slope.abs() * distance, same)
        loss.backward()
        return loss

    line.step(closure)


@torch.no_grad()
def _loss(network: _Network, pairs: _Pairs, which: Tensor) -> float:
    network.eval()
    total = 0.0
    for part in which.split(16 * _BATCH):
        a, b, distance, same = pairs.take(part)
        total += float(F.binary_cross_entropy_with_logits(network(a, b, distance), same, reduction="sum"))
    return total / len(which)


def _scaled(vectors: NDArray[np.float32], metric: str) -> NDArray[np.float32]:
    """With cosine, bring vectors to length 1, as an index keeps them."""
    if metric != "cosine":
        return np.ascontiguousarray(vectors, np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
