"""The loss of the batch of all ranks, its work divided, beside the usual way: gather, then the whole loss on each rank.

Both give the same gradient. Prints milliseconds of forward and backward, and the ratio ours : usual, in one run.

    python benchmarks/ranks.py                              # 2 ranks, 1,800 items of 128, 10,000 classes
    python benchmarks/ranks.py --ranks 4 --items 4096
    python benchmarks/ranks.py --smoke                      # 120 items, to see that it runs
"""

import argparse
import os
import socket
import statistics
import time
from collections.abc import Callable

import torch
import torch.multiprocessing as processes
from torch import Tensor

from kyori import distributed, losses

CASES = {
    "triplet": {"mining": "all"},
    "contrastive": {},
    "multisimilarity": {},
    "smoothap": {},
    "supcon": {},
    "arcface": {},
}


def usual(loss: losses.Loss) -> Callable[[Tensor, Tensor], Tensor]:
    """Every rank computes all of it."""

    def whole(x: Tensor, labels: Tensor) -> Tensor:
        value: Tensor = loss(distributed.gather(x), distributed.gather(labels))
        return value

    return whole


def milliseconds(loss: Callable[..., Tensor], x: Tensor, labels: Tensor, times: int) -> float:
    taken = []
    for _ in range(times + 1):
        leaf = x.clone().requires_grad_()
        distributed.wait()
        start = time.perf_counter()
        loss(leaf, labels).backward()
        distributed.wait()
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken[1:])


def work(rank: int, world: int, port: int, options: argparse.Namespace) -> None:
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    torch.set_num_threads(1)
    with distributed.joined():
        n = options.items // world
        generator = torch.Generator().manual_seed(rank)
        x = torch.randn(n, options.size, generator=generator)
        labels = torch.arange(rank * n, rank * n + n) // 40
        for name, settings in CASES.items():
            torch.manual_seed(0)
            made = [
                losses.create(name, num_classes=options.classes, embedding_size=options.size, **settings)
                for _ in range(2)
            ]
            ours = milliseconds(losses.across_ranks(made[0]), x, labels, options.times)
            theirs = milliseconds(usual(made[1]), x, labels, options.times)
            if distributed.first():
                print(f"{name:16} ours {ours:8.1f} ms   usual {theirs:8.1f} ms   ratio {ours / theirs:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--items", type=int, default=1800)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--classes", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if options.smoke:
        options.items, options.classes, options.times = 120, 100, 1
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    processes.spawn(work, args=(options.ranks, port, options), nprocs=options.ranks)


if __name__ == "__main__":
    main()
