"""Evaluation beside plain FAISS and pytorch-metric-learning, in one process and in turns.

1. All retrieval measures with intervals of 60,000 × 512 vectors against themselves (11,000 classes), beside one plain
   FAISS flat search with k = the largest class. The peak memory is that of a process of its own.
2. Retrieval of 20,000 × 128 beside pytorch-metric-learning's AccuracyCalculator: its fastest setting (retrieval
   measures, k of the largest class) and its default (every neighbour, k-means, AMI and NMI too), by the clock and in a
   process of its own; with half of the items as often as it dies for want of memory.
3. All-pairs TAR@FAR of 60,000 items at 1e-6, exact.

    python benchmarks/evaluation.py
    python benchmarks/evaluation.py --only retrieval --spread 3     # a poor embedding
    python benchmarks/evaluation.py --smoke
"""

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable

import faiss
import numpy as np

import kyori
from kyori.evaluation import all_pairs

MEASURES = ("recall", "precision", "r-precision", "map@r", "map@10", "map", "ndcg@10", "mrr")
clock: Callable[[], float] = time.perf_counter


def embedding(n: int, d: int, classes: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (n, d) around one centre a class, sizes 2 … 12 as in product data, and labels (n,)."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate(
        [np.repeat(np.arange(classes), 2), rng.integers(classes, size=max(0, n - 2 * classes))]
    )
    labels = rng.permutation(labels[:n])
    rows = rng.normal(size=(classes, d)).astype(np.float32)[labels]
    rows += spread * rng.normal(size=(n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), labels


def timed(run: Callable[[], object]) -> float:
    start = clock()
    run()
    return clock() - start


def in_turns(turns: int, **sides: Callable[[], object]) -> dict[str, float]:
    """Return the least seconds of each side."""
    times = [{name: timed(run) for name, run in sides.items()} for _ in range(turns)]
    return {name: min(turn[name] for turn in times) for name in sides}


def retrieval(n: int, d: int, classes: int, spread: float, turns: int) -> None:
    X, y = embedding(n, d, classes, spread)
    table = kyori.VectorTable(vectors=X, labels=y)
    k = int(np.bincount(y).max())

    def flat() -> None:
        index = faiss.IndexFlatL2(d)
        index.add(X)
        index.search(X, k + 1)

    found = in_turns(turns, kyori=lambda: kyori.evaluate(table, measures=MEASURES), faiss=flat)
    results = kyori.evaluate(table, measures=["recall@1", "map@r"], bootstrap=0)
    print(
        f"retrieval {n:,} × {d}, {classes:,} classes (largest {k}), recall@1"
        f" {results['recall@1'].value:.3f}, MAP@R {results['map@r'].value:.3f}\n"
        f"  kyori, {len(MEASURES)} kinds of measures with intervals {found['kyori']:.2f} s   FAISS flat, k={k + 1}"
        f" {found['faiss']:.2f} s   ratio {found['kyori'] / found['faiss']:.2f}",
        flush=True,
    )


CHILD = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import evaluation as benchmark, kyori
X, y = benchmark.embedding(*map(int, sys.argv[2:5]), float(sys.argv[5]))
table = kyori.VectorTable(vectors=X, labels=y)
del X
kyori.evaluate(table, measures=benchmark.MEASURES)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def memory(n: int, d: int, classes: int, spread: float) -> None:
    folder = __file__.rpartition("/")[0] or "."
    arguments = [str(value) for value in (n, d, classes, spread)]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, folder, *arguments], capture_output=True, text=True, check=True
    )
    print(f"  peak memory of that in a process of its own: {float(done.stdout):,.0f} MiB", flush=True)


def calculator(n: int, d: int, classes: int, spread: float, turns: int) -> None:
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    X, y = embedding(n, d, classes, spread)
    table = kyori.VectorTable(vectors=X, labels=y)
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r", "mean_reciprocal_rank")
    fastest = AccuracyCalculator(include=names, k="max_bin_count")
    measures = ["recall@1", "r-precision", "map@r", "mrr"]
    found = in_turns(
        turns,
        kyori=lambda: kyori.evaluate(table, measures=measures, bootstrap=0),
        intervals=lambda: kyori.evaluate(table, measures=measures),
        theirs=lambda: fastest.get_accuracy(X, y),
    )
    print(
        f"calculator {n:,} × {d}, {classes:,} classes\n  kyori {found['kyori']:.2f} s, with intervals"
        f" {found['intervals']:.2f} s   pytorch-metric-learning, fastest setting {found['theirs']:.2f} s"
        f"   ratio {found['theirs'] / found['kyori']:.2f}, with intervals {found['theirs'] / found['intervals']:.2f}",
        flush=True,
    )
    default(X, y)


DEFAULT = """
import sys, time
import numpy as np
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
with np.load(sys.argv[1]) as file:
    X, y = file["X"], file["y"]
start = time.perf_counter()
AccuracyCalculator().get_accuracy(X, y)
print(time.perf_counter() - start)
"""


def default(X: np.ndarray, y: np.ndarray) -> None:
    """Its default beside ours, all measures and clusters; on half of the items where it dies for want of memory."""
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        np.savez(file, X=X, y=y)
        file.flush()
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", DEFAULT, file.name], capture_output=True, text=True)
        theirs = time.perf_counter() - start if done.returncode else float(done.stdout)
    table = kyori.VectorTable(vectors=X, labels=y)
    retrieval = timed(
        lambda: kyori.evaluate(table, measures=["recall@1", "r-precision", "map@r", "mrr"], bootstrap=0)
    )
    ours = timed(lambda: kyori.evaluate(table, bootstrap=0))
    print(
        f"  its default on {len(X):,}: {'died after ' if done.returncode else ''}{theirs:.1f} s   kyori's retrieval"
        f" measures {retrieval:.2f} s, ratio {theirs / retrieval:.0f}   kyori's default, with verification and"
        f" clustering, {ours:.1f} s, ratio {theirs / ours:.1f}",
        flush=True,
    )
    if done.returncode and len(X) > 1_000:
        default(X[: len(X) // 2], y[: len(X) // 2])


def pairs(n: int, d: int, classes: int, spread: float) -> None:
    X, y = embedding(n, d, classes, spread)
    table = kyori.VectorTable(vectors=X, labels=y)
    start = clock()
    result = all_pairs(table, far=[1e-6, 1e-4], bootstrap=0)
    seconds = clock() - start
    total = n * (n - 1) // 2
    print(f"all pairs: {total:,} in {seconds:.1f} s, {total / seconds / 1e6:.1f} million a second")
    for name in result:
        print(
            f"  {result[name].measure} {result[name].value:.6f} at {result[name].protocol['threshold']:.8g}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="small, to see that it runs")
    parser.add_argument("--only", choices=("retrieval", "calculator", "pairs"))
    parser.add_argument("--n", type=int, default=60_000)
    parser.add_argument("--classes", type=int, default=11_000)
    parser.add_argument(
        "--spread", type=float, default=1.0, help="noise about the class centres; 1: a fair embedding"
    )
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument(
        "--cpu-time", action="store_true", help="count CPU seconds: for a machine that is shared"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.cpu_time:
        globals()["clock"] = time.process_time
    large, small = (options.n, 512, options.classes, options.spread), (20_000, 128, 1_000, options.spread)
    if options.smoke:
        large, small, options.turns = (3_000, 64, 600, options.spread), (1_000, 32, 50, options.spread), 1
    if options.only in (None, "retrieval"):
        retrieval(*large, options.turns)
        memory(*large)
    if options.only in (None, "calculator"):
        calculator(*small, options.turns)
    if options.only in (None, "pairs"):
        pairs(*large)


if __name__ == "__main__":
    main()
