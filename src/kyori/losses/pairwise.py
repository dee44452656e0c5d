"""The engine of all pair, triplet and ranking losses: one distance matrix, many small formulas.

A loss is a function of rows, `row(D, positive, negative) -> Terms`. The engine owns everything else, once for
all: distance and normalisation, relations and self-exclusion, references, explicit pairs and triplets, row
blocks with recomputation, float32 arithmetic, the reduction, batches with nothing to learn from, and the
statistics of the step.

    class SpringLoss(PairwiseLoss):
        name = "spring"

        def row(self, D, positive, negative):
            return Terms((positive * D.square()).sum(1, keepdim=True), positive.sum(1, keepdim=True))
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .. import distributed
from ..distances import (
    Distance,
    check_distance,
    full_precision,
    on_sphere,
    pairwise_distance,
    row_distance,
)
from ..errors import ArgumentError
from ..relations import Pairs, Relations, ScoredPairs, Supervision, Triplets, relate
from .loss import Loss, Reduction, check_matrix, check_reduction, spread
from .rowwise import in_cache, row_counts

__all__ = ["Block", "PairwiseLoss", "Rows", "Seen", "Terms", "ratio", "seen"]

T = TypeVar("T")


class Terms(NamedTuple):
    """What a loss makes of b anchors: the loss is the sum over its t terms of Σvalue[:, t] / Σweight[:, t].

    `value` (b, t) carries the gradient; `weight` (b, t) counts. `active` and `candidates` (b,) count the
    terms that pull or push and those that could, for the statistics.
    """

    value: Tensor
    weight: Tensor
    active: Tensor | None = None
    candidates: Tensor | None = None


@dataclass(frozen=True)
class Block:
    """b anchors against m references.

    Attributes:
        D: (b, m) distances.
        positive: (b, m) booleans.
        negative: (b, m) booleans.
        rows: Where the anchors stand in the batch, (b,) or a slice.
        x: (b, d) embeddings of the anchors, as the distance saw them.
        y: (m, d) embeddings of the references.
        labels: (b,) class numbers of the anchors, None where items have no single class.
        relevance: (b, m) graded relevance, None where a positive is a positive.
        chance: (b, …) random numbers of the anchors, as `PairwiseLoss.begin` drew them for this step.
    """

    D: Tensor
    positive: Tensor
    negative: Tensor
    rows: Tensor | slice
    x: Tensor
    y: Tensor
    labels: Tensor | None = None
    relevance: Tensor | None = None
    chance: Tensor | None = None
    _counts: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def anchors(self) -> Tensor:
        """(b,) the anchors' rows in the batch."""
        if isinstance(self.rows, Tensor):
            return self.rows
        return torch.arange(self.rows.start, self.rows.stop, device=self.D.device)

    @property
    def positives(self) -> Tensor:
        """(b,) number of positives of each anchor."""
        return self._count("positives", self.positive)

    @property
    def negatives(self) -> Tensor:
        """(b,) number of negatives of each anchor."""
        return self._count("negatives", self.negative)

    def _count(self, name: str, mask: Tensor) -> Tensor:
        if name not in self._counts:  # not a cached_property, whose lock breaks the graphs of torch.compile
            self._counts[name] = row_counts(mask)
        return self._counts[name]


@dataclass(frozen=True)
class Rows:
    """A batch against its references, to be looked at block by block, as often as a loss needs.

    Attributes:
        x: (n, d) embeddings of the anchors.
        y: (m, d) embeddings of the references; x itself where the batch is its own reference.
        relations: Who is positive and negative to whom.
        distance: A name from `kyori.distances`.
        block_rows: Anchors in a block.
        chance: (n, …) random numbers of this step, None where the loss draws none.
    """

    x: Tensor
    y: Tensor
    relations: Relations
    distance: Distance
    block_rows: int
    chance: Tensor | None = None

    @property
    def single(self) -> bool:
        """Whether all anchors are in one block."""
        return self.block_rows >= len(self.x) and self._exchange is None

    def each(self, look: Callable[[Block], T]) -> list[T]:
        """`look` at every block. Where there are several, their distances are recomputed in the backward pass.

        Across ranks each looks at its share of the anchors, and all get what all have seen.
        """
        exchange, n = self._exchange, len(self.x)
        if exchange is None:
            return self._each(look, 0, n)
        edges = [rank * n // exchange.world for rank in range(exchange.world + 1)]
        blocks = [-(-(end - start) // self.block_rows) for start, end in pairwise(edges)]
        own = self._each(look, edges[exchange.rank], edges[exchange.rank + 1])
        return exchange.join(own, blocks)

    @torch.no_grad()
    def distance_sums(self) -> Tensor:
        """(2,) sums of the distances to positives and to negatives, each rank for itself."""
        n = len(self.x)
        starts = range(0, n, self.block_rows)
        parts = [slice(start, min(n, start + self.block_rows)) for start in starts]
        with full_precision(self.x.device):
            return _added([_distance_sums(self._block(self.x, self.y, part)) for part in parts])

    def detached(self) -> "Rows":
        """The same without gradient."""
        x = self.x.detach()
        return replace(self, x=x, y=x if self.y is self.x else self.y.detach())

    @property
    def _exchange(self) -> distributed.Exchange | None:
        """How the anchors are divided; not at all where there are fewer of them than ranks."""
        exchange = distributed.current()
        return None if exchange is None or len(self.x) < exchange.world else exchange

    def _each(self, look: Callable[[Block], T], start: int, end: int) -> list[T]:
        if self.block_rows >= end - start:
            return [look(self._block(self.x, self.y, slice(start, end)))]

        def recomputed(x: Tensor, y: Tensor, rows: slice) -> T:
            return look(self._block(x, y, rows))

        return [
            checkpoint(
                recomputed, self.x, self.y, slice(first, min(end, first + self.block_rows)),
                use_reentrant=False, preserve_rng_state=False,
            )
            for first in range(start, end, self.block_rows)
        ]  # fmt: skip

    def _block(self, x: Tensor, y: Tensor, rows: slice) -> Block:
        positive, negative = self.relations.rows(rows)
        part = (
            y if x is y and rows == slice(0, len(y)) else x[rows]
        )  # the same tensor has symmetric distances
        labels = None if self.relations.labels is None else self.relations.labels[rows]
        D = pairwise_distance(part, y, self.distance)
        chance = None if self.chance is None else self.chance[rows]
        return Block(D, positive, negative, rows, part, y, labels, self.relations.relevance(rows), chance)


class PairwiseLoss(Loss):
    """Base of the pair, triplet and ranking losses: `loss(embeddings, labels)`.

    A subclass writes its defaults and one of: `row`, the formula; `block`, if the formula must know more than
    distances and masks; `look`, if it must look at the blocks more than once. `combine` says how the terms
    become one number, if it is not the sum of means.

    Args:
        distance: A name from `kyori.distances`.
        normalize: Put embeddings on the unit sphere first.
        block_rows: Anchors worked on at a time. Distances are then recomputed in the backward pass and memory
            is O(block_rows × m) instead of O(n × m); value and gradient stay the same. By default all at
            once.
    """

    per_anchor: ClassVar[bool] = False
    """Whether a term needs a positive and a negative of the same anchor, as triplets do."""
    graded: ClassVar[bool] = False
    """Whether terms follow graded relevance: a batch then has nothing to learn from if it has no candidate term."""

    def __init__(self, *, distance: Distance, normalize: bool, block_rows: int | None = None):
        super().__init__()
        check_distance(distance)
        if block_rows is not None and block_rows < 1:
            raise ArgumentError(f"block_rows must be at least 1 or None; got {block_rows}.")
        self.distance = distance
        self.normalize = normalize
        self.block_rows = block_rows
        self._last = _Step()

    @property
    def spherical(self) -> bool:  # type: ignore[override]
        """Whether the loss compares directions only, so that its embeddings are best L2-normalised."""
        return self.normalize or self.distance == "cosine"

    def row(self, D: Tensor, positive: Tensor, negative: Tensor) -> Terms:
        """The formula, from distances (b, m) and masks (b, m) of b anchors to `Terms`."""
        raise NotImplementedError(f"{type(self).__name__} must define row, block or look")

    def block(self, block: Block) -> Terms:
        """`row` for losses that also use who the anchors are, their embeddings or graded relevance."""
        return self.row(block.D, block.positive, block.negative)

    def look(self, rows: Rows) -> list["Seen"]:
        """What is `seen` in all blocks; a loss that must look at the blocks more than once writes this."""
        return rows.each(lambda block: seen(block, self.block(block)))

    def combine(self, value: Tensor, weight: Tensor) -> Tensor:
        """The loss from sums over all anchors, value (t,) and weight (t,)."""
        return ratio(value, weight).sum()

    def begin(self, n: int, device: torch.device) -> Tensor | None:
        """Draw the random numbers (n, …) of a step, if the loss needs any: its blocks, which may be computed twice
        and by another rank, get theirs as `Block.chance`."""

    def forward(
        self,
        embeddings: Tensor,
        labels: Supervision | None = None,
        *,
        references: Tensor | None = None,
        reference_labels: Tensor | None = None,
        ids: Tensor | None = None,
        reference_ids: Tensor | None = None,
        reduction: Reduction = "mean",
    ) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (n, d) floats; computed in float32 at least.
            labels: (n,) integers, (n, c) booleans for several labels an item, `Pairs` or `Triplets` of rows of
                `embeddings`, graded `Relevance`, or None if reference i is the positive of item i.
            references: (m, d) floats that take the place of the batch as positives and negatives of each
                anchor, e.g. a memory queue or the other half of pairs.
            reference_labels: (m,) integers, or (m, c) booleans.
            ids: (n,) item ids. An item is never its own positive; without ids every row is another item.
            reference_ids: (m,) item ids of the references.
            reduction: "mean" is the loss as documented; "sum" leaves out the division by the weights; "none" gives
                (n,), each anchor's own loss by its own weights, 0 where it has none (for `Pairs`, each pair's).

        Returns:
            Scalar with gradient; 0 with zero gradient, and a `DegenerateWarning` the first time, if the batch
            has nothing to learn from.

        Raises:
            ArgumentError: Shapes or types do not fit.
        """
        check_matrix(embeddings, "embeddings")
        check_reduction(reduction)
        with full_precision(embeddings.device):
            x = y = self._prepare(embeddings)
            if references is not None:
                check_matrix(references, "references", x.shape[1])
                y = self._prepare(references)
            relations = relate(
                labels, len(x), x.device, ids,
                m=None if references is None else len(y),
                reference_labels=reference_labels, reference_ids=reference_ids,
            )  # fmt: skip
            rows = Rows(x, y, relations, self.distance, self.block_rows or max(1, len(x)))
            blocks = (
                self.look_at_list(x, labels.to(x.device)) if isinstance(labels, Pairs | Triplets) else None
            )
            if blocks is None:
                blocks = self._look_at_rows(rows)
            self._record(rows, blocks)
            nothing = x.sum() * 0.0 if y is x else x.sum() * 0.0 + y.sum() * 0.0
            return self._reduce(blocks, x, reduction) + nothing

    @property
    def stats(self) -> dict[str, float]:
        """What the last step saw; reading it waits for the device.

        `active`: share of the terms that pull or push. `positive_distance`, `negative_distance`: means (NaN
        without such a pair). `spread`: root mean square distance of the embeddings to their centre, divided
        by their root mean square norm; 0 when all are equal. `degenerate`: number of steps so far with
        nothing to learn from.
        """
        self._warn_if_starved()
        return self._last.stats() | {"degenerate": float(self._starved)}

    def extra_repr(self) -> str:
        return f"distance={self.distance!r}, normalize={self.normalize}"

    def _prepare(self, x: Tensor) -> Tensor:
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return on_sphere(x) if self.normalize else x

    def look_at_list(self, x: Tensor, listed: Pairs | Triplets) -> list["Seen"] | None:
        """What is seen in explicit pairs or triplets; None if they are to be looked at as masks.

        Losses of single pairs see the pairs one by one, never as a matrix.
        """
        if self.per_anchor or isinstance(listed, Triplets):
            return None
        if not len(listed):
            return []
        block = self.listed_block(x, listed)
        return [seen(block, self.block(block))]

    def listed_block(self, x: Tensor, pairs: Pairs) -> Block:
        """Explicit pairs as a block of p anchors that have one reference each."""
        first, second = x[pairs.first], x[pairs.second]
        same = pairs.same[:, None]
        D = row_distance(first, second, self.distance)[:, None]
        relevance = pairs.scores[:, None] if isinstance(pairs, ScoredPairs) else None
        return Block(D, same, ~same, pairs.first, first, second, relevance=relevance)

    def _look_at_rows(self, rows: Rows) -> list["Seen"]:
        n = len(rows.x)
        if not n or not len(rows.y):
            return []
        chance = self.begin(n, rows.x.device)
        return self.look(rows if chance is None else replace(rows, chance=chance))

    def _reduce(self, blocks: list["Seen"], x: Tensor, reduction: Reduction) -> Tensor:
        if reduction != "mean" and type(self).combine is not PairwiseLoss.combine:
            raise ArgumentError(
                f"reduction must be 'mean': {type(self).__name__} is no sum over items; got {reduction!r}."
            )
        if not blocks:
            return x.new_zeros(len(x) if reduction == "none" else ())
        value = _joined([block.value for block in blocks])
        weight = _joined([block.weight for block in blocks]).to(value.dtype)
        if reduction == "none":
            return ratio(value, weight).sum(1)
        return value.sum() if reduction == "sum" else self.combine(value.sum(0), weight.sum(0))

    @torch.no_grad()
    def _record(self, rows: Rows, blocks: list["Seen"]) -> None:
        rows = rows.detached()
        self._last = _Step(rows)
        usable: Tensor | bool = False
        if blocks:
            counts = _joined([block.counts for block in blocks], 1)
            listed = [block.distances for block in blocks if block.distances is not None]
            tables = [block.active.view(2, -1) for block in blocks if block.active is not None]
            active = _joined(tables, 1) if tables else None
            self._last = _Step(rows, counts, _added(listed) if listed else None, active)
            usable = counts.all(0).any() if self.per_anchor else counts.any(1).all()
            if self.graded:
                usable = active is not None and active[1].any()
        self._count_starved(usable == 0, rows.x.device.type == "cpu")

    def _starvation(self) -> str:
        if self.graded:
            return (
                "no two items or pairs of it differ in relevance. Use batches with more than one relevance."
            )
        missing = (
            "no anchor has both a positive and a negative"
            if self.per_anchor
            else "there is no positive pair or no negative pair"
        )
        return f"{missing}. Use batches with at least 2 items of each of at least 2 classes (a P×K sampler)."


class Seen(NamedTuple):
    """One block: its terms (b, t), and what the statistics are made of when someone looks at them.

    `counts` (2, b): positives and negatives of each anchor; `distances` (2,): the sums of theirs, for listed pairs and
    triplets; `active` (2,) or (2, b): active terms and candidates.
    """

    value: Tensor
    weight: Tensor
    counts: Tensor
    distances: Tensor | None
    active: Tensor | None


def seen(block: Block, terms: Terms) -> Seen:
    """Terms of a block with what the statistics need of it."""
    with torch.no_grad():
        distances = active = None
        counts = torch.stack([block.positives, block.negatives])
        if isinstance(block.rows, Tensor):  # listed; those of rows are looked at again when someone asks
            distances = _distance_sums(block)
        if terms.active is not None and terms.candidates is not None:
            active = torch.stack([terms.active, terms.candidates])
    return Seen(terms.value, terms.weight, counts, distances, active)


def _distance_sums(block: Block) -> Tensor:
    """(2,) sums of the distances to positives and to negatives."""
    parts = []
    for near, *masks in in_cache(block.D.detach(), block.positive, block.negative):
        flat = near.flatten()
        # bytes become floats five times faster than booleans do
        kept = [mask.flatten().view(torch.uint8).to(flat.dtype) for mask in masks]
        parts.append(torch.stack([flat.dot(mask) for mask in kept]))
    return _added(parts)


class _Step(NamedTuple):
    """What a step has seen, without gradient: the rows, and of all blocks what `Seen` has of one."""

    rows: Rows | None = None
    counts: Tensor | None = None
    distances: Tensor | None = None
    active: Tensor | None = None

    @torch.no_grad()
    def stats(self) -> dict[str, float]:
        """See `PairwiseLoss.stats`: passes that most steps need not pay for."""
        found: dict[str, float] = {}
        if self.rows is not None and self.counts is not None:
            distances = self.rows.distance_sums() if self.distances is None else self.distances
            near, far = (distances / self.counts.sum(1)).tolist()
            found |= {"positive_distance": near, "negative_distance": far}
        if self.active is not None:
            hit, candidates = self.active.sum(1).tolist()
            found["active"] = hit / max(1.0, candidates)
        if self.rows is not None:
            found["spread"] = float(spread(self.rows.x))
        return found


def _joined(parts: list[Tensor], dim: int = 0) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def _added(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


def ratio(value: Tensor, weight: Tensor) -> Tensor:
    """value / weight, 0 with a zero gradient where there is no weight."""
    empty = weight == 0
    return (value / weight.masked_fill(empty, 1.0)).masked_fill(empty, 0.0)
