"""The engine of all pair and triplet losses: one distance matrix, many small formulas.

A loss is a function of rows, `row(D, positive, negative) -> Terms`. The engine owns everything else, once for
all: distance and normalisation, relations and self-exclusion, references, explicit pairs, row blocks with
recomputation, float32 arithmetic, the reduction, batches with nothing to learn from, and the statistics of
the step.

    class SpringLoss(PairwiseLoss):
        name = "spring"

        def row(self, D, positive, negative):
            return Terms((positive * D.square()).sum(1, keepdim=True), positive.sum(1, keepdim=True))
"""

import warnings
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..distances import Distance, check_distance, normalize, pairwise_distance, row_distance
from ..errors import ArgumentError, DegenerateWarning
from ..relations import Pairs, Relations

__all__ = ["Block", "PairwiseLoss", "Terms", "check_matrix", "spread"]


class Terms(NamedTuple):
    """What a loss makes of b anchors: the loss is the sum over its t terms of Σvalue[:, t] / Σweight[:, t].

    `value` (b, t) carries the gradient; `weight` (b, t) counts. `active` and `candidates` (b,) count the
    terms that pull or push and those that could, for the statistics.
    """

    value: Tensor
    weight: Tensor
    active: Tensor | None = None
    candidates: Tensor | None = None


class Block(NamedTuple):
    """b anchors against m references: distances and masks (b, m), and the anchors' rows in the batch (b,)."""

    D: Tensor
    positive: Tensor
    negative: Tensor
    anchors: Tensor


class PairwiseLoss(nn.Module):
    """Base of the pair and triplet losses: `loss(embeddings, labels)`.

    A subclass writes `row` (or `block`, if its formula must know which anchors it sees) and its defaults.

    Args:
        distance: A name from `kyori.distances`.
        normalize: Put embeddings on the unit sphere first.
        block_rows: Anchors worked on at a time. Distances are then recomputed in the backward pass and memory
            is O(block_rows × m) instead of O(n × m); value and gradient stay the same. By default all at
            once.
    """

    name: ClassVar[str]
    needs_classes: ClassVar[bool] = False
    per_anchor: ClassVar[bool] = False
    """Whether a term needs a positive and a negative of the same anchor, as triplets do."""

    def __init__(self, *, distance: Distance, normalize: bool, block_rows: int | None = None):
        super().__init__()
        check_distance(distance)
        if block_rows is not None and block_rows < 1:
            raise ArgumentError(f"block_rows must be at least 1 or None; got {block_rows}.")
        self.distance = distance
        self.normalize = normalize
        self.block_rows = block_rows
        self._sums: dict[str, Tensor] = {}
        self._starved: Tensor | int = 0
        self._warned = False

    @property
    def spherical(self) -> bool:
        """Whether the loss compares directions only, so that its embeddings are best L2-normalised."""
        return self.normalize or self.distance == "cosine"

    def row(self, D: Tensor, positive: Tensor, negative: Tensor) -> Terms:
        """The formula, from distances (b, m) and masks (b, m) of b anchors to `Terms`."""
        raise NotImplementedError(f"{type(self).__name__} must define row or block")

    def block(self, block: Block) -> Terms:
        """`row` for losses that also use which rows of the batch the anchors are."""
        return self.row(block.D, block.positive, block.negative)

    def begin(self, n: int, device: torch.device) -> None:
        """Called once a step before its blocks, which may be computed twice: draw random numbers here."""

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | Pairs,
        *,
        references: Tensor | None = None,
        reference_labels: Tensor | None = None,
        ids: Tensor | None = None,
        reference_ids: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (n, d) floats; computed in float32 at least.
            labels: (n,) integers, or `Pairs` of rows of `embeddings`.
            references: (m, d) floats that take the place of the batch as positives and negatives of each
                anchor, e.g. a memory queue.
            reference_labels: (m,) integers.
            ids: (n,) item ids. An item is never its own positive; without ids every row is another item.
            reference_ids: (m,) item ids of the references.

        Returns:
            Scalar with gradient; 0 with zero gradient, and a `DegenerateWarning` the first time, if the batch
            has nothing to learn from.

        Raises:
            ArgumentError: Shapes or types do not fit.
        """
        check_matrix(embeddings, "embeddings")
        with torch.autocast(embeddings.device.type, enabled=False):
            x = self._prepare(embeddings)
            if isinstance(labels, Pairs):
                if references is not None or ids is not None:
                    raise ArgumentError(
                        "Pairs name rows of embeddings; pass neither references nor ids with them."
                    )
                return self._reduce(x, x, self._pair_sums(x, labels))
            if references is None:
                if reference_labels is not None or reference_ids is not None:
                    raise ArgumentError("reference_labels and reference_ids need references; got none.")
                y, relations = x, Relations.of(labels, len(x), x.device, ids)
            else:
                check_matrix(references, "references", x.shape[1])
                y = self._prepare(references)
                relations = Relations.between(
                    labels, len(x), reference_labels, len(y), x.device, ids, reference_ids
                )
            return self._reduce(x, y, self._block_sums(x, y, relations))

    @property
    def stats(self) -> dict[str, float]:
        """What the last step saw; reading it waits for the device.

        `active`: share of the terms that pull or push. `positive_distance`, `negative_distance`: means (NaN
        without such a pair). `spread`: root mean square distance of the embeddings to their centre, divided
        by their root mean square norm; 0 when all are equal. `degenerate`: number of steps so far with
        nothing to learn from.
        """
        self._warn_if_starved()
        stats = {name: float(value) for name, value in self._sums.items()}
        return stats | {"degenerate": float(self._starved)}

    def extra_repr(self) -> str:
        return f"distance={self.distance!r}, normalize={self.normalize}"

    def _prepare(self, x: Tensor) -> Tensor:
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return normalize(x) if self.normalize else x

    def _pair_sums(self, x: Tensor, pairs: Pairs) -> list["_Sums"]:
        if self.per_anchor:
            raise ArgumentError(
                f"{type(self).__name__} needs labels: a pair has no positive and negative of one anchor. "
                "Pass (n,) integer labels instead of Pairs, or use a pair loss such as ContrastiveLoss."
            )
        pairs.check(len(x))
        pairs = pairs.to(x.device)
        D = row_distance(x[pairs.first], x[pairs.second], self.distance)[:, None]
        same = pairs.same[:, None]
        return [self._sum(Block(D, same, ~same, pairs.first))] if len(pairs) else []

    def _block_sums(self, x: Tensor, y: Tensor, relations: Relations) -> list["_Sums"]:
        n, m = len(x), len(y)
        if not n or not m:
            return []
        self.begin(n, x.device)
        if self.block_rows is None or self.block_rows >= n:
            return [self._slice_sum(x, y, relations, slice(0, n))]
        return [
            checkpoint(
                self._slice_sum, x, y, relations, slice(start, start + self.block_rows),
                use_reentrant=False, preserve_rng_state=False,
            )
            for start in range(0, n, self.block_rows)
        ]  # fmt: skip

    def _slice_sum(self, x: Tensor, y: Tensor, relations: Relations, rows: slice) -> "_Sums":
        positive, negative = relations.rows(rows)
        D = pairwise_distance(x[rows], y, self.distance)
        return self._sum(Block(D, positive, negative, torch.arange(len(x), device=x.device)[rows]))

    def _sum(self, block: Block) -> "_Sums":
        terms = self.block(block)
        with torch.no_grad():
            kinds = block.positive, block.negative
            of_anchor = [kind.sum(1, dtype=torch.int32) for kind in kinds]
            usable = ((of_anchor[0] > 0) & (of_anchor[1] > 0)).sum() if self.per_anchor else None
            counts = torch.stack([count.sum() for count in of_anchor])
            distances = torch.stack([torch.where(kind, block.D, 0.0).sum() for kind in kinds])
            active = None
            if terms.active is not None and terms.candidates is not None:
                active = torch.stack([terms.active.sum(), terms.candidates.sum()]).to(distances.dtype)
        return _Sums(terms.value.sum(0), terms.weight.sum(0), counts, distances, usable, active)

    def _reduce(self, x: Tensor, y: Tensor, blocks: list["_Sums"]) -> Tensor:
        """Σvalue / Σweight per term, over all blocks; 0 with a zero gradient where there is no weight."""
        nothing = x.sum() * 0.0 + y.sum() * 0.0
        self._record(x.detach(), blocks)
        if not blocks:
            return nothing
        value = torch.stack([block.value for block in blocks]).sum(0)
        weight = torch.stack([block.weight for block in blocks]).sum(0).to(value.dtype)
        empty = weight == 0
        return (value / weight.masked_fill(empty, 1.0)).masked_fill(empty, 0.0).sum() + nothing

    @torch.no_grad()
    def _record(self, x: Tensor, blocks: list["_Sums"]) -> None:
        starved: Tensor | int = 1
        self._sums = {"spread": spread(x)}
        if blocks:
            counts = torch.stack([block.counts for block in blocks]).sum(0)
            means = torch.stack([block.distances for block in blocks]).sum(0) / counts
            self._sums |= {"positive_distance": means[0], "negative_distance": means[1]}
            usable = [block.usable for block in blocks if block.usable is not None]
            starved = (torch.stack(usable).sum() if usable else counts.min()) == 0
            active = [block.active for block in blocks if block.active is not None]
            if active:
                hit, total = torch.stack(active).sum(0)
                self._sums["active"] = hit / total.clamp(min=1)
        self._starved = self._starved + starved
        if x.device.type == "cpu":  # elsewhere the question would stall the device: stats asks it
            self._warn_if_starved()

    def _warn_if_starved(self) -> None:
        if self._warned or not self._starved:
            return
        self._warned = True
        missing = (
            "no anchor has both a positive and a negative"
            if self.per_anchor
            else "there is no positive pair or no negative pair"
        )
        warnings.warn(
            f"{type(self).__name__}: a batch has nothing to learn from: {missing}. Use batches with at least "
            "2 items of each of at least 2 classes (a P×K sampler). Further cases are counted in "
            "loss.stats['degenerate'].",
            DegenerateWarning,
            stacklevel=2,
        )


class _Sums(NamedTuple):
    """One block, summed: `counts` and `distances` (2,) of positive and negative pairs, `usable` anchors."""

    value: Tensor
    weight: Tensor
    counts: Tensor
    distances: Tensor
    usable: Tensor | None
    active: Tensor | None


def spread(x: Tensor) -> Tensor:
    """Root mean square distance of rows to their centre over their rms norm, 0 (collapsed) to 1."""
    if not len(x):
        return x.new_zeros(())
    norm = x.square().sum(1).mean()
    around = (x - x.mean(0)).square().sum(1).mean()
    return (around / norm.clamp(min=torch.finfo(x.dtype).tiny)).sqrt()


def check_matrix(x: Any, name: str, width: int | None = None) -> None:
    if not isinstance(x, Tensor) or x.ndim != 2 or not x.is_floating_point():
        got = f"{tuple(x.shape)} of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise ArgumentError(f"{name} must be a float tensor of shape (n, d); got {got}.")
    if width is not None and x.shape[1] != width:
        raise ArgumentError(
            f"{name} must have shape (m, {width}), as wide as embeddings; got {tuple(x.shape)}."
        )
