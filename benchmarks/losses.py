"""Every loss beside its peer: time, memory and growth of one step, forward and backward, on the CPU.

    python benchmarks/losses.py                     # the speed table: N = 256, 1800, 4096, K = 4 and 40
    python benchmarks/losses.py --growth            # the exponent of time in N, from 512 to 8192, Kyori only
    python benchmarks/losses.py --growth --bare     # the same in a loop of one's own, without keep_memory
    python benchmarks/losses.py --memory            # peak memory above the inputs, whole and in blocks, Kyori only
    python benchmarks/losses.py --only triplet-all  # some of them
    python benchmarks/losses.py --smoke             # tiny batches, seconds

Each side of a race runs in a process of its own with a limit on memory and time, so that a peer that asks for 30 GB
is reported and not waited for. Ratios are pytorch-metric-learning's time over Kyori's; where the peer ran out of
memory or time, the ratio says more than the time allowed. Ratios below 1.5 are taken again from both sides in turn in
one process. `--growth` keeps freed memory as `kyori train` does: otherwise fresh pages for large matrices, which small
ones need not ask for, are a third of the time at N = 8192. `--memory` has glibc give freed memory back at once: left to
itself it keeps a multiple of what a blocked step ever holds, and how much is its own affair.
"""

import argparse
import gc
import importlib.metadata
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WIDTH = 128
SIZES = (256, 1800, 4096)
GROWTH = (512, 1024, 2048, 4096, 8192)


def peers() -> dict[str, Callable[[int], Callable[[Any, Any], Any]]]:
    """pytorch-metric-learning's side of each race, by the name of ours; called with the number of classes."""
    from pytorch_metric_learning import losses, miners

    def mined(loss: Any, miner: Any) -> Callable[[Any, Any], Any]:
        return lambda x, labels: loss(x, labels, miner(x, labels))

    def triplet(kind: str) -> Callable[[int], Any]:
        return lambda c: mined(losses.TripletMarginLoss(0.2), miners.TripletMarginMiner(0.2, kind))

    return {
        "contrastive": lambda c: losses.ContrastiveLoss(),
        "triplet-all": lambda c: losses.TripletMarginLoss(0.2),
        "triplet-semihard": triplet("semihard"),
        "triplet-hard": triplet("hard"),
        "triplet-batch-hard": lambda c: mined(losses.TripletMarginLoss(0.2), miners.BatchHardMiner()),
        "triplet-distance-weighted": lambda c: mined(
            losses.TripletMarginLoss(0.2), miners.DistanceWeightedMiner()
        ),
        "margin": lambda c: losses.MarginLoss(),
        "angular": lambda c: losses.AngularLoss(),
        "npairs": lambda c: losses.NPairsLoss(),
        "tuplet": lambda c: losses.TupletMarginLoss(),
        "lifted": lambda c: losses.LiftedStructureLoss(),
        "generalizedlifted": lambda c: losses.GeneralizedLiftedStructureLoss(),
        "multisimilarity": lambda c: losses.MultiSimilarityLoss(),
        "circle": lambda c: losses.CircleLoss(),
        "rankedlist": lambda c: losses.RankedListLoss(margin=0.4, Tn=10, imbalance=0.5),
        "fastap": lambda c: losses.FastAPLoss(),
        "smoothap": lambda c: losses.SmoothAPLoss(),
        "histogram": lambda c: losses.HistogramLoss(),
        "dynamicsoftmargin": lambda c: losses.DynamicSoftMarginLoss(),
        "pnp": lambda c: losses.PNPLoss(),
        "snr": lambda c: losses.SignalToNoiseRatioContrastiveLoss(pos_margin=0, neg_margin=0.5),
        "intrapairvariance": lambda c: losses.IntraPairVarianceLoss(),
        "thresholdconsistent": lambda c: losses.ThresholdConsistentMarginLoss(),
        "nca": lambda c: losses.NCALoss(),
        "ntxent": lambda c: losses.NTXentLoss(),
        "supcon": lambda c: losses.SupConLoss(),
        "normface": lambda c: losses.NormalizedSoftmaxLoss(c, WIDTH),
        "largemargin": lambda c: losses.LargeMarginSoftmaxLoss(c, WIDTH),
        "sphereface": lambda c: losses.SphereFaceLoss(c, WIDTH),
        "cosface": lambda c: losses.CosFaceLoss(c, WIDTH),
        "arcface": lambda c: losses.ArcFaceLoss(c, WIDTH),
        "subcenterarcface": lambda c: losses.SubCenterArcFaceLoss(num_classes=c, embedding_size=WIDTH),
        "proxynca++": lambda c: losses.ProxyNCALoss(c, WIDTH),
        "proxyanchor": lambda c: losses.ProxyAnchorLoss(c, WIDTH),
        "softtriple": lambda c: losses.SoftTripleLoss(c, WIDTH),
        "p2sgrad": lambda c: losses.P2SGradLoss(WIDTH, c),
    }


OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "contrastive": ("contrastive", {"convention": "unsquared", "normalize": True}),
    "triplet-all": ("triplet", {"mining": "all"}),
    "triplet-semihard": ("triplet", {"mining": "semihard"}),
    "triplet-hard": ("triplet", {"mining": "hard"}),
    "triplet-batch-hard": ("triplet", {"mining": "batch_hard"}),
    "triplet-distance-weighted": ("triplet", {"mining": "distance_weighted"}),
    "snr": ("contrastive", {"convention": "unsquared", "distance": "snr", "margin": 0.5}),
    "margin": ("margin", {"mining": "all"}),
    "npairs": ("npairs", {"pairs": "one"}),
    "multisimilarity": ("multisimilarity", {"epsilon": None}),
    "largemargin": ("largemargin", {"anneal": False}),
    "sphereface": ("sphereface", {"anneal": False}),
    "softtriple": ("softtriple", {"subcenters": 10, "strength": 0}),
}
"""Kyori's side where the name is not that of a loss with its defaults."""

CLOSE = 1.5
"""Ratios below this are measured again, both sides in turn in one process."""

Found = dict[str, Any]
"""`seconds` of a step and `gigabytes`; or why it was `stopped`, and `after` how many seconds."""

GRADED = ("ladder", "cosent", "angle", "cosinemse")


def contenders(only: list[str] | None) -> list[str]:
    """The races, and the losses that have no peer."""
    from kyori.losses import LOSSES

    names = [name for name in peers() if OURS.get(name, (name,))[0] in LOSSES] if _has_peer() else []
    names += [name for name in LOSSES if name not in names and name not in {o[0] for o in OURS.values()}]
    return [name for name in names if only is None or name in only]


def create(name: str, side: str, classes: int, **more: Any) -> Callable[[Any, Any], Any]:
    from kyori import losses

    if side == "peer":
        return peers()[name](classes)
    loss, options = OURS.get(name, (name, {}))
    return losses.create(loss, num_classes=classes, embedding_size=WIDTH, **options, **more)


def contend(job: dict[str, Any]) -> None:
    """One loss at growing sizes, each printed as a line of JSON: seconds of a step and gigabytes above the inputs."""
    resource.setrlimit(resource.RLIMIT_DATA, (int(job["limit"] * 1e9),) * 2)
    import warnings

    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(job["threads"])
    if job.get("keep"):
        from kyori.training import keep_memory

        keep_memory()
    for n, k in job["cases"]:
        signal.alarm(int(job["patience"]))
        start = time.perf_counter()
        try:
            found: Found = one_case(job, n, k)
        except TimeoutError:
            found = {"stopped": f"over {job['patience']:.0f} s", "after": job["patience"]}
        except (RuntimeError, MemoryError) as error:
            if "memory" not in str(error) and not isinstance(error, MemoryError):
                raise
            found = {"stopped": f"over {job['limit']:.0f} GB", "after": time.perf_counter() - start}
        finally:
            signal.alarm(0)
        print(json.dumps(found), flush=True)


def one_case(job: dict[str, Any], n: int, k: int) -> dict[str, float]:
    import torch

    from kyori.relations import Relevance

    classes = max(2, n // k)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    centres = torch.randn(classes, WIDTH, generator=generator)
    x = centres[labels] + 1.5 * torch.randn(n, WIDTH, generator=generator)
    sides = ["kyori", "peer"] if job["side"] == "both" else [job["side"]]
    losses = {side: create(job["name"], side, classes, **job.get("options", {})) for side in sides}
    clock = time.process_time if job.get("cpu") else time.perf_counter
    scores = torch.rand(n, n, generator=generator) if job.get("graded") else None

    def step(side: str, rows: int) -> float:
        part = x[:rows].clone().requires_grad_()
        known: Any = labels[:rows] if scores is None else Relevance(scores[:rows, :rows])
        start = clock()
        losses[side](part, known).backward()
        return clock() - start

    for side in sides:
        step(side, min(n, 2 * classes, 64 + classes))
    if len(sides) > 1:
        return alternate(step, n, sides, job["budget"])
    gc.collect()
    # The peak counts from here; getrusage's begins with the parent's.
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    (side,) = sides
    times = [step(side, n)]
    gigabytes = resident("VmHWM") - before
    while sum(times) < job["budget"] and len(times) < 50:
        times.append(step(side, n))
    return {"seconds": min(times), "gigabytes": gigabytes}


def alternate(step: Callable[[str, int], float], n: int, sides: list[str], budget: float) -> dict[str, float]:
    """Each side's least time of steps in turn, at least five of each."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    while len(times[sides[0]]) < 5 or sum(map(sum, times.values())) < 2 * budget:
        for side in sides:
            times[side].append(step(side, n))
    return {side: min(found) for side, found in times.items()}


def resident(line: str) -> float:
    """Gigabytes of memory in use: VmRSS now, VmHWM at the peak."""
    status = dict(entry.split(":") for entry in Path("/proc/self/status").read_text().splitlines())
    return int(status[line].split()[0]) * 1024 / 1e9


def measure(job: dict[str, Any], **environment: str) -> list[Found]:
    """Run one loss at growing sizes in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "--contend", json.dumps(job)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    if len(found) < len(job["cases"]):  # killed, or an error that is no want of memory
        why = (
            done.stderr.strip().splitlines()[-1][:60]
            if done.returncode > 0
            else f"over {job['limit']:.0f} GB"
        )
        found += [{"stopped": why}] * (len(job["cases"]) - len(found))
    return found


def gram(n: int, options: argparse.Namespace) -> float:
    """Seconds of the Gram matrix's own forward and backward, the yardstick."""
    code = (
        f"import torch, time\ntorch.set_num_threads({options.threads})\n"
        f"x = torch.randn({n}, {WIDTH}, requires_grad=True)\ng = torch.randn({n}, {n})\nt = []\n"
        "for _ in range(12):\n s = time.perf_counter(); (x @ x.T).backward(g); t.append(time.perf_counter() - s)\n"
        "print(min(t))"
    )
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)


def speed(names: list[str], options: argparse.Namespace) -> None:
    cases = [(n, k) for n in options.sizes for k in options.per_class]
    yard = {n: gram(n, options) for n in options.sizes}
    known = peers() if _has_peer() else {}
    finished, stopped, unable, slower = [], [], [], []
    print("| loss | N | K | Kyori | GB | × Gram | peer | GB | ratio |\n|---|---|---|---|---|---|---|---|---|")
    for name in names:
        ours = measure(_job(name, "kyori", cases, options))
        theirs = (
            measure(_job(name, "peer", cases, options)) if name in known else [{"stopped": "–"}] * len(cases)
        )
        best: dict[int, list[float]] = {k: [] for k in options.per_class}
        for (n, k), mine, other in zip(cases, ours, theirs, strict=True):
            ratio = _ratio(mine, other)
            if ratio is not None and "seconds" in other:
                if ratio < CLOSE:  # two processes, one after the other, differ by as much as that
                    ratio = side_by_side(name, n, k, options)
                finished.append(ratio)
                best[k].append(ratio)
                if ratio < 1 and n >= 1800:
                    slower.append(f"{name} at N = {n}, K = {k}: {ratio:.2f}")
            elif ratio is not None and "GB" in other["stopped"]:
                unable += [min(best[k])] if best[k] else []
            elif ratio is not None:
                stopped.append(ratio)
                best[k].append(ratio)
            gram_times = f"{mine['seconds'] / yard[n]:.1f}" if "seconds" in mine else ""
            shown = "" if ratio is None else f"{'' if 'seconds' in other else '> '}{ratio:.2f}"
            print(
                "| "
                + " | ".join([name, str(n), str(k), *_cells(mine), gram_times, *_cells(other), shown])
                + " |",
                flush=True,
            )
    print(
        f"\ngeometric mean of the {len(finished)} ratios of steps that finished: {_mean(finished):.1f}\n"
        f"with {len(stopped)} that were stopped, counted with the time they had had: {_mean(finished + stopped):.1f}\n"
        f"with {len(unable)} for which the peer wants more than {options.limit:.0f} GB, each counted with the least"
        f" ratio of the same loss and K at a smaller N: {_mean(finished + stopped + unable):.1f}\n"
        f"slower than the peer at N ≥ 1800: {', '.join(slower) or 'none'}"
    )


def side_by_side(name: str, n: int, k: int, options: argparse.Namespace) -> float:
    """The ratio of both sides' best seconds, step by step in turn, in one fresh process."""
    (found,) = measure(_job(name, "both", [(n, k)], options))
    return found["peer"] / found["kyori"] if "peer" in found else math.nan


def _job(name: str, side: str, cases: list[tuple[int, int]], options: argparse.Namespace) -> dict[str, Any]:
    return {
        "name": name, "side": side, "cases": cases, "limit": options.limit, "patience": options.patience,
        "threads": options.threads, "budget": options.budget,
    }  # fmt: skip


def _ratio(ours: Found, theirs: Found) -> float | None:
    """Their time over ours; at least that where they were stopped before the end."""
    if "seconds" not in ours:
        return None
    seconds = theirs.get("seconds", theirs.get("after"))
    return None if seconds is None else seconds / ours["seconds"]


def _mean(ratios: list[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan


def _cells(found: Found) -> list[str]:
    if "seconds" not in found:
        return [found["stopped"], ""]
    return [f"{1e3 * found['seconds']:.1f} ms", f"{found['gigabytes']:.2f}"]


def growth(names: list[str], options: argparse.Namespace) -> None:
    """Least-squares slope of log CPU seconds in log N, K = 4: time that other programs take is not in them."""
    import numpy as np

    print("| loss | " + " | ".join(f"N = {n}" for n in options.sizes) + " | exponent |")
    print("|---" * (len(options.sizes) + 2) + "|")
    for name in names:
        job = _job(name, "kyori", [(n, 4) for n in options.sizes], options)
        job |= {"cpu": True, "keep": not options.bare}
        found = measure(job)
        seconds = [one["seconds"] for one in found if "seconds" in one]
        cells = [_cells(one)[0] for one in found]
        slope = (
            np.polyfit(np.log(options.sizes[: len(seconds)]), np.log(seconds), 1)[0]
            if len(seconds) > 1
            else np.nan
        )
        print(f"| {name} | " + " | ".join(cells) + f" | {slope:.2f} |", flush=True)


def memory(names: list[str], options: argparse.Namespace) -> None:
    """Peak memory above the inputs in units of N² and of block · N floats."""
    from kyori.losses import LOSSES, PairwiseLoss

    n = max(options.sizes)
    block = n // 16
    print(f"| loss | N = {n}: floats / N² | block_rows = {block}: floats / (block · N) |\n|---|---|---|")
    for name in names:
        if not issubclass(LOSSES[OURS.get(name, (name,))[0]], PairwiseLoss):
            continue
        for graded in (False, True) if name in GRADED else (False,):
            cells = []
            for rows, unit in ((None, n * n), (block, block * n)):
                job = _job(name, "kyori", [(n, 4)], options) | {"options": {"block_rows": rows}, "budget": 0}
                (found,) = measure(job | {"graded": graded}, MALLOC_MMAP_THRESHOLD_=str(2**16))
                floats = found.get("gigabytes", math.nan) * 1e9 / 4
                cells.append(found.get("stopped", f"{floats / unit:.1f}"))
            print(f"| {name}{', relevance all different' * graded} | {cells[0]} | {cells[1]} |", flush=True)


def _has_peer() -> bool:
    import importlib.util

    return importlib.util.find_spec("pytorch_metric_learning") is not None


def _out_of_time(*_: Any) -> None:
    raise TimeoutError


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--smoke", action="store_true", help="tiny batches and three losses, to see that it works"
    )
    parser.add_argument("--growth", action="store_true")
    parser.add_argument(
        "--bare", action="store_true", help="growth in a loop that does not keep freed memory"
    )
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--only", nargs="+", help="some losses")
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--per-class", type=int, nargs="+", default=[4, 40])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--limit", type=float, default=14.0, help="GB of memory for one measurement")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds for one measurement")
    parser.add_argument("--budget", type=float, default=1.0, help="seconds of repetitions of a step")
    parser.add_argument("--contend", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contend:
        signal.signal(signal.SIGALRM, _out_of_time)
        contend(json.loads(options.contend))
        return
    options.sizes = options.sizes or ([24, 48] if options.smoke else GROWTH if options.growth else SIZES)
    names = contenders(options.only)
    if options.smoke:
        names, options.per_class, options.budget = names[1:3], [4], 0.0
    versions = {
        p: importlib.metadata.version(p)
        for p in ("torch", "pytorch-metric-learning")
        if p == "torch" or _has_peer()
    }
    print(
        f"d = {WIDTH}, {options.threads} threads, {versions}, load from elsewhere {os.getloadavg()[0]:.1f}\n"
    )
    (growth if options.growth else memory if options.memory else speed)(names, options)


if __name__ == "__main__":
    main()
