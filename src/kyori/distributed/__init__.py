"""Several processes on one training: what they exchange, and how the gradient stays that of the whole batch.

`kyori.losses.across_ranks(loss)` makes a loss that of the batch of all ranks; `average_gradients` or
`DistributedDataParallel` does the rest. `torchrun -m kyori train …` needs neither.
"""

from .exchange import Exchange, current, exchanging, gather, own
from .gradients import alike, average_gradients, broadcast, synchronize_batch_norm
from .group import Failure, first, joined, launched, leave, local_rank, rank, wait, world

__all__ = [
    "Exchange",
    "Failure",
    "alike",
    "average_gradients",
    "broadcast",
    "current",
    "exchanging",
    "first",
    "gather",
    "joined",
    "launched",
    "leave",
    "local_rank",
    "own",
    "rank",
    "synchronize_batch_norm",
    "wait",
    "world",
]
