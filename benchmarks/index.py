"""An index in a folder beside raw FAISS at the same settings: queries a second, latency, build time, memory, opening.

Both search the same clustered vectors with the same factory string and the same efSearch or nprobe, in turns
in one process; memory and opening are measured in processes of their own.

    python benchmarks/index.py                                  # 100,000 × 128: Flat, HNSW32, IVF1024,Flat
    python benchmarks/index.py --vectors 1000000 --factories HNSW32
    python benchmarks/index.py --smoke                          # 3,000 × 32, to see that it runs
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

import kyori
from kyori.index import Index

BATCHES = (1, 64, 256, 1024)
clock: Callable[[], float] = time.perf_counter
K = 10


def clustered(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Vectors (n, d) around √n centres that lie near a subspace, as trained embeddings do; drawn in blocks."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(2, round(n**0.5)), 16)) @ rng.normal(size=(16, d)) / 4
    rows = np.empty((n, d), np.float32)
    for start in range(0, n, 65_536):
        part = rows[start : start + 65_536]
        part[:] = centres[rng.integers(len(centres), size=len(part))] + 0.3 * rng.normal(size=part.shape)
    return rows


def raw_index(X: np.ndarray, factory: str, path: Path) -> tuple[object, float, float]:
    """Train, add and write with FAISS alone; return the index, seconds without and with writing."""
    start = clock()
    index = faiss.index_factory(X.shape[1], factory)
    if not index.is_trained:
        index.train(X)
    index.add(X)
    built = clock() - start
    faiss.write_index(index, str(path))
    return index, built, clock() - start


def seconds_of(run: Callable[[], object], least: float) -> float:
    """Return the median time of one call, over at least ``least`` seconds and 3 calls."""
    times: list[float] = []
    while sum(times) < least or len(times) < 3:
        start = clock()
        run()
        times.append(clock() - start)
    return float(np.median(times))


def compare_search(index: Index, raw: object, queries: np.ndarray, least: float) -> None:
    """Print both speeds for each batch size: the median over turns, so that both see the same machine."""
    for size in BATCHES:
        batch = queries[:size]
        ours, theirs = [], []
        for _ in range(5):
            ours.append(seconds_of(lambda batch=batch: index.search(batch, K), least))
            theirs.append(seconds_of(lambda batch=batch: raw.search(batch, K), least))  # type: ignore[attr-defined]
        a, b = float(np.median(ours)), float(np.median(theirs))
        print(
            f"  batch {size:5d}   kyori {size / a:10,.0f} queries/s   raw {size / b:10,.0f}   ratio {b / a:.3f}"
            f"   added {1e3 * (a - b):+.3f} ms a call",
            flush=True,
        )


CHILD = """
import resource, sys, time
import numpy as np
kind, path, d = sys.argv[1], sys.argv[2], int(sys.argv[3])
import faiss, kyori, kyori.index.folder, pyarrow.compute
def private():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith(("Pss:",))) / 1024
before, start = private(), time.perf_counter()
if kind == "raw":
    index = faiss.read_index(path)
else:
    index = kyori.open_index(path, read_only=True)
opened = time.perf_counter() - start
queries = np.random.default_rng(1).normal(size=(200, d)).astype(np.float32)
start = time.perf_counter()
index.search(queries[:1], 10)
first = time.perf_counter() - start
index.search(queries, 10)
print(opened, first, private() - before)
"""


def opened(kind: str, path: Path, d: int) -> list[float]:
    """Return seconds to open, seconds of the first query, MiB after 200 queries, from a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, kind, str(path), str(d)], capture_output=True, text=True, check=True
    )
    return [float(word) for word in done.stdout.split()]


def effort_to(raw: object, report: dict[str, object]) -> None:
    """Let raw FAISS search as wide as the index decided to."""
    effort = report.get("effort")
    if effort:
        faiss.ParameterSpace().set_index_parameter(raw, effort[0], effort[1])


def benchmark(X: np.ndarray, factory: str, least: float) -> None:
    n, d = X.shape
    queries = X[np.random.default_rng(1).integers(n, size=1024)] + 0.05
    with tempfile.TemporaryDirectory() as folder:
        raw, built, written = raw_index(X, factory, Path(folder) / "raw.faiss")
        start = clock()
        index = kyori.open_index(Path(folder) / "index", factory=factory)
        index.add(np.arange(n), X)
        index.save()
        ours = clock() - start
        report = index.statistics()["search"]
        effort_to(raw, report)
        print(f"{factory}, {n:,} × {d}: recall@10 {report['recall']:.3f}, effort {report['effort']}")
        print(
            f"  build   kyori {ours:.2f} s (recall measured)   raw {built:.2f} s, with its file {written:.2f} s"
            f"   ratio {ours / written:.2f}"
        )
        compare_search(index, raw, queries, least)
        index.close()
        del raw
        a, b = opened("kyori", Path(folder) / "index", d), opened("raw", Path(folder) / "raw.faiss", d)
        print(
            f"  opening   kyori {a[0]:.3f} s, first query {1e3 * a[1]:.1f} ms, {a[2]:,.0f} MiB after 200"
            f"   raw {b[0]:.3f} s, {1e3 * b[1]:.1f} ms, {b[2]:,.0f} MiB   ratio of memory {a[2] / b[2]:.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="3,000 × 32")
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=128)
    parser.add_argument("--factories", nargs="+", default=["Flat", "HNSW32", "IVF1024,Flat"])
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count CPU seconds (opening apart): for a machine that others use too",
    )
    options = parser.parse_args()
    if options.cpu_time:
        globals()["clock"] = time.process_time
    if options.smoke:
        options.vectors, options.dimensions = 3_000, 32
        options.factories = ["Flat", "HNSW16", "IVF16,Flat"]
    X = clustered(options.vectors, options.dimensions)
    for factory in options.factories:
        benchmark(X, factory, 0.005 if options.smoke else 0.3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"peak of this process {peak:,.0f} MiB; {faiss.omp_get_max_threads()} threads, {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
