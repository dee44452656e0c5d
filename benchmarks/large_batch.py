"""Large batches on small memory: row blocks of a loss, and gradient caching of a network.

    python benchmarks/large_batch.py            # triplet-all and NT-Xent at N = 32,768 with block_rows = 1024; minutes
    python benchmarks/large_batch.py --smoke    # N = 2,048, seconds

Each measurement runs in a process of its own: forward and backward on the CPU, from raw embeddings (d = 128, 40 items
of a class) to their gradient. Memory is the peak of the whole process, imports included. The second table embeds one
batch with a convolutional network, as a whole and in chunks whose gradients are cached (`cached_backward`).
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

WIDTH, PER_CLASS, BLOCK = 128, 40, 1024


def blocked(name: str, n: int) -> None:
    import torch

    from kyori import losses

    options: dict[str, Any] = {"mining": "all"} if name == "triplet" else {}
    loss = losses.create(name, block_rows=BLOCK, **options)
    x = torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.arange(n) // PER_CLASS
    value = loss(x, labels)
    value.backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def network(chunk: int, n: int) -> None:
    import torch
    from torch import nn

    from kyori.losses import NTXentLoss, cached_backward

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 14 * 14, WIDTH),
    )  # fmt: skip
    images, labels = torch.rand(n, 1, 28, 28), torch.arange(n) // PER_CLASS
    if chunk:
        cached_backward(NTXentLoss(), net, images.split(chunk), labels)
    else:
        NTXentLoss()(net(images), labels).backward()


def measure(kind: str, what: str, n: int) -> dict[str, float]:
    """Run one measurement in a process of its own; seconds of the step and the peak of the process in GB."""
    command = [sys.executable, __file__, "--worker", kind, what, str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def work(kind: str, what: str, n: int) -> None:
    import kyori.losses  # noqa: F401  (before the clock starts)

    start = time.perf_counter()
    blocked(what, n) if kind == "loss" else network(int(what), n)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "gb": peak / 1e9}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="tiny batches, seconds")
    parser.add_argument("--only", choices=["loss", "network"], help="one of the two tables")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker[0], options.worker[1], int(options.worker[2]))
        return
    n, items = (2048, 400) if options.smoke else (32768, 1800)
    if options.only != "network":
        print(f"| loss, N = {n:,}, block_rows = {BLOCK} | seconds | peak of the process, GB |\n|---|---|---|")
        for name in ("triplet", "ntxent"):
            found = measure("loss", name, n)
            print(f"| {name} | {found['seconds']:.1f} | {found['gb']:.2f} |", flush=True)
    if options.only != "loss":
        print(f"\n| network, {items:,} images | seconds | peak of the process, GB |\n|---|---|---|")
        for chunk in (0, 64):
            found = measure("network", str(chunk), items)
            name = f"chunks of {chunk}, gradients cached" if chunk else "whole batch"
            print(f"| {name} | {found['seconds']:.1f} | {found['gb']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
