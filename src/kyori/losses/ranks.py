"""Any loss as that of the batch of all ranks, in anybody's training loop."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .. import distributed
from ..errors import ArgumentError
from ..relations import Pairs, Relevance, ScoredPairs, Supervision, Triplets
from .loss import Loss
from .softmax import ClassLoss

__all__ = ["AcrossRanks", "across_ranks"]

_ARGUMENTS = 16  # tensors that a call may hold at most
_LISTS: dict[type, tuple[str, ...]] = {
    Pairs: ("first", "second", "same"),
    ScoredPairs: ("first", "second", "scores"),
    Triplets: ("anchors", "positives", "negatives"),
}


def across_ranks(
    loss: nn.Module, *, shard_classes: bool = False, shared_references: bool = False
) -> "AcrossRanks":
    """The loss of the items of all ranks together, with the gradient that one rank with the whole batch would have.

    In a loop under `torchrun`, one line more:

        loss = kyori.losses.across_ranks(TripletLoss())
        model = DistributedDataParallel(model)                  # averages gradients
        loss(model(images), labels).backward()                  # each rank its own share of the batch

    Args:
        loss: Any loss of Kyori, with weights of its own or without, or any module that is called in the same way.
        shard_classes: Whether each rank keeps the class vectors of its share of the classes only, so that there
            can be as many as fit on all ranks together. Make the optimizer afterwards, of this module's parameters,
            and do not average their gradients: no other rank has them. See `ClassLoss.shard_classes`.
        shared_references: See `AcrossRanks`.

    Returns:
        A module that is called as `loss` is. Outside of a process group it does what `loss` does.

    Raises:
        ArgumentError: `loss` is no module, or there are fewer classes than ranks.

    See `AcrossRanks`.
    """
    if not isinstance(loss, nn.Module):
        raise ArgumentError(
            f"loss must be a module, as those of kyori.losses are; got {type(loss).__name__}."
        )
    if isinstance(loss, AcrossRanks):
        return loss
    if shard_classes:
        for module in loss.modules():
            if isinstance(module, ClassLoss):
                module.shard_classes()
    return AcrossRanks(loss, shared_references=shared_references)


class AcrossRanks(Loss):
    """A loss of the batch of all ranks.

    Each rank passes its own items, any number of them, none too; the global batch is theirs in the order of the
    ranks. The value, the statistics and what the loss keeps (memory queue, running means, draws) are the same on all
    ranks, and those of one rank with the whole batch. Work is divided: each rank looks at a share of the anchors, or
    of the classes.

    **Gradients.** Averaged over ranks they are those of one rank with the whole batch. So
    the gradient of a rank's embeddings is `world` times theirs, and that of its network becomes right when
    `DistributedDataParallel`, or `kyori.distributed.average_gradients`, has averaged. The loss's own weights have
    the averaged gradient at once, the same on all ranks; averaging again does not change it.

    **Arguments.** Tensors are put together along their rows: labels, ids, references and what belongs to them. The
    rows that `Pairs` and `Triplets` name are the rank's own. `Relevance` holds the rank's own rows, (n_r, m) with
    m the references of all ranks. With `reduction="none"` a rank gets the losses of its own items (n_r,); what
    is differentiated is then the mean over ranks of what each makes of them.

    Args:
        loss: The loss; its weights must be the same on all ranks, `kyori.distributed.broadcast(loss.parameters())`.
        shared_references: Whether references and what belongs to them are the same on all ranks, a queue for
            instance, and not each rank's own.
    """

    name: ClassVar[str] = "acrossranks"
    formula: ClassVar[str] = "loss(items of all ranks)"
    paper: ClassVar[str] = ""
    cost: ClassVar[str] = "that of its loss, over the ranks"

    def __init__(self, loss: nn.Module, *, shared_references: bool = False):
        super().__init__()
        self.loss = loss
        self.shared_references = shared_references

    @property
    def needs_classes(self) -> bool:  # type: ignore[override]
        """As its loss."""
        return bool(getattr(self.loss, "needs_classes", False))

    @property
    def spherical(self) -> bool:  # type: ignore[override]
        """As its loss."""
        return bool(getattr(self.loss, "spherical", True))

    @property
    def stats(self) -> dict[str, float]:
        """The loss's statistics, of the items of all ranks."""
        return getattr(self.loss, "stats", {})

    def forward(self, embeddings: Tensor, labels: Supervision | None = None, **more: Any) -> Tensor:
        """The loss of all ranks' items; see the loss's own forward.

        Raises:
            ArgumentError: The ranks pass arguments that do not fit together.
        """
        if distributed.world() == 1:
            value: Tensor = self.loss(embeddings, labels, **more)
            return value
        wide = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        exchange = distributed.Exchange(torch.zeros((), device=embeddings.device))
        shared = {k: more.pop(k) for k in list(more) if self.shared_references and "reference" in k}
        x, known, given, sizes = _gather(exchange, wide, labels, more)
        with distributed.exchanging(exchange):
            value = self._call(exchange, x, known, {**given, **shared})
        value = value + exchange.thread.to(value.dtype)
        if value.ndim == 0:
            return value
        rank = exchange.rank
        return value[sum(sizes[:rank]) : sum(sizes[: rank + 1])]

    def _call(
        self, exchange: distributed.Exchange, x: Tensor, labels: Supervision | None, more: dict[str, Any]
    ) -> Tensor:
        """The loss, its weights used by each rank for its part."""
        apart = {id(p) for module in self.loss.modules() for p in _apart(module)}
        own = {name: p for name, p in self.loss.named_parameters() if p.requires_grad and id(p) not in apart}
        if not torch.is_grad_enabled():
            own = {}
        weights = dict(zip(own, exchange.same(list(own.values())), strict=True))
        value: Tensor = torch.func.functional_call(self.loss, weights, (x, labels), more)
        return value


def _apart(module: nn.Module) -> list[nn.Parameter]:
    """Parameters that the loss itself brings into accord: rows where they are picked, shards where they are used."""
    if not isinstance(module, ClassLoss):
        return []
    if module.shard is not None:
        return [p for _, p in module.class_parameters()]
    return module.row_parameters if module.training else []


def _gather(
    exchange: distributed.Exchange, x: Tensor, labels: Any, more: dict[str, Any]
) -> tuple[Tensor, Any, dict[str, Any], list[int]]:
    """The batch of all ranks, and how many losses of items each rank has."""
    names = [name for name, value in more.items() if isinstance(value, Tensor)]
    tensors, rebuild = _take_apart(labels)
    sent = [x, *tensors, *[more[name] for name in names]]
    parts = exchange.gather(sent, most=_ARGUMENTS)
    _check_fit(parts, names)
    sizes = [len(part[0]) for part in parts]
    columns = [list(column) for column in zip(*parts, strict=True)]
    known = columns[1 : 1 + len(tensors)]
    rest = dict(zip(names, [torch.cat(column) for column in columns[1 + len(tensors) :]], strict=True))
    counts = [len(part) for part in known[0]] if type(labels) in _LISTS else sizes
    return torch.cat(columns[0]), rebuild(known, sizes), {**more, **rest}, counts


def _check_fit(parts: list[list[Tensor]], names: list[str]) -> None:
    kinds = [[(part.dtype, part.shape[1:]) for part in own] for own in parts]
    for number, kind in enumerate(kinds):
        if kind != kinds[0]:
            told = [", ".join(f"(n, {', '.join(map(str, s))}) {d}" for d, s in k) for k in (kinds[0], kind)]
            raise ArgumentError(
                "all ranks must pass the same arguments, of the same widths and types (embeddings, labels, "
                f"{', '.join(names) or 'nothing more'}); rank 0 passed {told[0]}, rank {number} passed {told[1]}."
            )


Rebuild = Callable[[list[list[Tensor]], list[int]], Any]


def _take_apart(labels: Any) -> tuple[list[Tensor], Rebuild]:
    """The tensors of a supervision, and how to make it again from those of all ranks."""
    if labels is None:
        return [], lambda parts, sizes: None
    if isinstance(labels, Relevance):
        return [labels.scores], lambda parts, sizes: Relevance(torch.cat(parts[0]))
    fields = _LISTS.get(type(labels))
    if fields is None:
        return [torch.as_tensor(labels)], lambda parts, sizes: torch.cat(parts[0])
    kind = type(labels)

    def rebuild(parts: list[list[Tensor]], sizes: list[int]) -> Any:
        starts = [sum(sizes[:rank]) for rank in range(len(sizes))]
        columns = []
        for name, column in zip(fields, parts, strict=True):
            if name not in ("same", "scores"):  # they are row numbers
                column = [part + start for part, start in zip(column, starts, strict=True)]
            columns.append(torch.cat(column))
        return kind(*columns)

    return [getattr(labels, name) for name in fields], rebuild
