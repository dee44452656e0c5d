"""Exact triplet losses on one large batch, beside pytorch-metric-learning and sentence-transformers.

    python benchmarks/triplet_batch.py            # N = 1800, K = 40, d = 128: FaceNet's batch; minutes, for the peers
    python benchmarks/triplet_batch.py --smoke    # a tiny batch, seconds

Forward and backward on the CPU, from raw embeddings to their gradient. Each contender runs in a process of its own; its
peak memory is counted above what the process held after imports and one tiny warm-up step. Values and gradients are
compared with Kyori's in float64. What sentence-transformers calls semi-hard is FaceNet's selection: `mining="facenet"`.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MARGIN = 0.2
PACKAGES = {
    "exact": "kyori",
    "kyori": "kyori",
    "pml": "pytorch-metric-learning",
    "st": "sentence-transformers",
}
REPEATS = {"exact": 1, "kyori": 15, "st": 3, "pml": 1}
RACES = {
    "all": ("exact", "kyori", "pml", "st"),
    "semihard": ("exact", "kyori", "pml"),
    "facenet": ("exact", "kyori", "st"),
}


def kyori_loss(mining: str) -> Callable[[Any, Any], Any]:
    from kyori.losses import TripletLoss

    return TripletLoss(MARGIN, mining)  # type: ignore[arg-type]


def pml_loss(mining: str) -> Callable[[Any, Any], Any]:
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import TripletMarginMiner

    loss = TripletMarginLoss(margin=MARGIN)
    if mining == "all":
        return loss
    miner = TripletMarginMiner(margin=MARGIN, type_of_triplets=mining)
    return lambda x, labels: loss(x, labels, miner(x, labels))


def st_loss(mining: str) -> Callable[[Any, Any], Any]:
    import torch
    from sentence_transformers.sentence_transformer.losses import (
        BatchAllTripletLoss,
        BatchSemiHardTripletLoss,
    )

    cls = BatchAllTripletLoss if mining == "all" else BatchSemiHardTripletLoss
    loss = cls(model=None, margin=MARGIN)  # only its computation on embeddings is used
    return lambda x, labels: loss.compute_loss_from_embeddings([torch.nn.functional.normalize(x)], labels)


LOSSES = {"exact": kyori_loss, "kyori": kyori_loss, "pml": pml_loss, "st": st_loss}


def contend(name: str, minings: list[str], n: int, k: int, d: int, threads: int, folder: str) -> None:
    """Run one contender in this process and write what it did into `folder`."""
    import torch

    torch.set_num_threads(threads)

    def batch(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(n) // k
        generator = torch.Generator().manual_seed(0)
        centres = torch.randn(n, d, generator=generator)[labels]
        x = torch.randn(n, d, generator=generator) + 0.4 * centres
        return (x.double() if name == "exact" else x).requires_grad_(), labels

    def step(x: torch.Tensor, labels: torch.Tensor) -> tuple[float, float, float, np.ndarray]:
        start, cpu = time.perf_counter(), time.process_time()
        value = loss(x, labels)
        (gradient,) = torch.autograd.grad(value, x)
        return time.perf_counter() - start, time.process_time() - cpu, value.item(), gradient.numpy()

    for mining in minings:
        loss = LOSSES[name](mining)
        step(*batch(2 * k))
        x, labels = batch(n)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        steps = [step(x, labels) for _ in range(REPEATS[name])]
        gigabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e9
        seconds, cpu = (statistics.median(step[i] for step in steps) for i in (0, 1))
        _, _, value, gradient = steps[-1]
        path = Path(folder) / f"{name}-{mining}.npz"
        np.savez(path, seconds=seconds, cpu=cpu, gigabytes=gigabytes, value=value, gradient=gradient)


def run(name: str, minings: list[str], arguments: argparse.Namespace, folder: str) -> None:
    """Run one contender in a fresh process; the peak memory of the first mining is its own."""
    job = [name, minings, arguments.n, arguments.k, arguments.d, arguments.threads, folder]
    subprocess.run([sys.executable, __file__, "--contend", json.dumps(job)], check=True)


def report(mining: str, names: list[str], folder: str) -> None:
    results = {}
    for name in names:
        with np.load(Path(folder) / f"{name}-{mining}.npz") as found:
            results[name] = dict(found)
    exact, ours = results.pop("exact"), results["kyori"]
    print(f"\n{mining}: value {float(exact['value']):.6f}")
    print(
        f"  {'':30}{'seconds':>9}{'ratio':>8}{'CPU s':>9}{'ratio':>8}{'GB':>7}{'value off by':>14}{'gradient by':>13}"
    )
    for name, found in results.items():
        version = f"{PACKAGES[name]} {importlib.metadata.version(PACKAGES[name])}"
        value = abs(float(found["value"]) - float(exact["value"]))
        gradient = np.linalg.norm(found["gradient"] - exact["gradient"]) / np.linalg.norm(exact["gradient"])
        times = "".join(f"{float(found[t]):9.3f}{float(found[t] / ours[t]):8.1f}" for t in ("seconds", "cpu"))
        print(
            f"  {version:30}{times}{float(found['gigabytes']):7.2f}{value:14.1e}{gradient:13.1e}",
            flush=True,
        )


def race(arguments: argparse.Namespace) -> None:
    present = [name for name in REPEATS if importlib.util.find_spec(PACKAGES[name].replace("-", "_"))]
    for name in REPEATS:
        if name not in present:
            print(f"{PACKAGES[name]} is not installed: skipped")
    with tempfile.TemporaryDirectory() as folder:
        if arguments.smoke:  # memory means nothing here, so one process a contender will do
            for name in present:
                run(name, [mining for mining, names in RACES.items() if name in names], arguments, folder)
        for mining, names in RACES.items():
            entered = [name for name in names if name in present]
            if not arguments.smoke:
                for name in entered:
                    run(name, [mining], arguments, folder)
            report(mining, entered, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--smoke", action="store_true", help="a tiny batch, to see that it works")
    parser.add_argument("--n", type=int, default=1800, help="items in the batch")
    parser.add_argument("--k", type=int, default=40, help="items of each class")
    parser.add_argument("--d", type=int, default=128, help="embedding size")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads, by default all")
    parser.add_argument("--contend", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contend:
        contend(*json.loads(arguments.contend))
        return
    if arguments.smoke:
        arguments.n, arguments.k, arguments.d = 60, 6, 8
    print(f"N = {arguments.n}, K = {arguments.k}, d = {arguments.d}, margin {MARGIN}, forward and backward")
    print(
        f"Python {platform.python_version()}, torch {importlib.metadata.version('torch')}, "
        f"{arguments.threads} of {os.cpu_count()} cores, load from elsewhere {os.getloadavg()[0]:.1f}"
    )
    print("errors are against float64, that of the gradient relative to its norm; GB are above imports")
    race(arguments)


if __name__ == "__main__":
    main()
