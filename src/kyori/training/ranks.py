"""The other processes of a training, as the loop sees them; where there are none, nothing is exchanged."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .. import distributed
from ..errors import ConfigError
from ..losses import ClassLoss, across_ranks
from ..models import Embedder

__all__ = ["Ranks"]


class Ranks:
    """What ranks do together: start alike, share a batch, agree on when to stop, average gradients.

    Args:
        embedder: On the device already. All ranks get the weights of rank 0, and batch normalisation the statistics
            of all ranks' items.
        loss: The same.
        device: Where they are.
        shard_classes: Whether each rank keeps the class vectors of a share of the classes only.

    Attributes:
        rank, world: This process, and how many there are.
        loss: The loss of the batch of all ranks.

    Raises:
        ConfigError: There are more ranks than GPUs, or fewer classes than ranks.
    """

    def __init__(self, embedder: Embedder, loss: nn.Module, device: torch.device, *, shard_classes: bool):
        self.rank, self.world, self.device = distributed.rank(), distributed.world(), device
        self.loss: nn.Module = loss
        self._network = embedder
        self._shards: dict[int, range] = {}
        if self.world == 1:
            return
        if device.type == "cuda" and device.index != distributed.local_rank():
            raise ConfigError(
                f"each rank needs its own GPU; rank {self.rank}, number {distributed.local_rank()} on its machine, "
                f"would share {device} of {torch.cuda.device_count()}. Start fewer ranks, or train with "
                "--training.device cpu."
            )
        for module in (embedder, loss):
            distributed.broadcast([*module.parameters(), *module.buffers()])
        distributed.synchronize_batch_norm(embedder)
        self.loss = across_ranks(loss, shard_classes=shard_classes)
        for part in loss.modules():
            if isinstance(part, ClassLoss) and part.shard is not None:
                self._shards |= {id(p): part.shard for _, p in part.class_parameters()}

    @property
    def sharded(self) -> bool:
        """Whether ranks hold class vectors of their own."""
        return bool(self._shards)

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def total(self, *numbers: int) -> list[int]:
        """The sums over ranks."""
        if self.world == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.int64, device=self.device)
        dist.all_reduce(sums)
        return [int(number) for number in sums.tolist()]

    def wait(self) -> None:
        """Wait until all ranks have come here."""
        self.total(0)

    def same(self, number: int, what: str) -> None:
        """Raise `ConfigError` on all ranks unless all have this number."""
        if self.world > 1 and self.total(number, number * number) != [
            self.world * number,
            self.world * number**2,
        ]:
            raise ConfigError(
                f"the ranks found different {what}. The run folder must be on a disk that all hosts see, under the "
                "same path."
            )

    def collect(self, facts: Any) -> list[Any]:
        """What each rank knows, values as JSON has them, in the order of the ranks."""
        if self.world == 1:
            return [facts]
        text = torch.tensor(list(json.dumps(facts).encode()), dtype=torch.uint8, device=self.device)
        lengths = distributed.gather(torch.tensor([len(text)], device=self.device)).tolist()
        parts = distributed.gather(text).split(lengths)
        return [json.loads(bytes(part.tolist())) for part in parts]

    def average(self) -> None:
        """Average the gradients of the network; the loss's own weights have that of all ranks already."""
        if self.world > 1:
            distributed.average_gradients(list(self._network.parameters()))

    def seed(self, seed: int) -> int:
        """A seed of this rank's own, for dropout and augmentation; on rank 0 the one that is given."""
        return seed + (self.rank << 32)

    def put_together(
        self, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The optimizer's state by ``number.name``, with the rows of all ranks where each holds a shard."""
        whole = dict(tensors)
        for key, part in self._sharded(optimizer, tensors):
            whole[key] = distributed.gather(tensors[key]) if part is not None else tensors[key]
        return whole

    def take_apart(
        self, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """This rank's part of what `put_together` made, on any number of ranks."""
        own = dict(tensors)
        for key, part in self._sharded(optimizer, tensors):
            if part is not None:
                own[key] = tensors[key][part.start : part.stop]
        return own

    def _sharded(
        self, optimizer: torch.optim.Optimizer, tensors: Iterable[str] | Mapping[str, Tensor]
    ) -> Iterable[tuple[str, range | None]]:
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        for key in tensors:
            number = int(key.partition(".")[0])
            rows = key.partition(".")[2] != "step"  # the one that is not kept for each row
            yield key, self._shards.get(id(weights[number])) if rows else None
