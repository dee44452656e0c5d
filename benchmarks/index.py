"""An index in a folder beside raw FAISS at the same settings: queries a second, latency, build time, memory, opening.

Both search the same clustered vectors with the same factory string and the same efSearch or nprobe, each with an index
of its own, call by call in turns in one process; memory and opening are measured in processes of their own. A factory
is built by both, in turns: raw FAISS trains, adds, writes its file and waits until that is on the disk; Kyori checks
the vectors, keeps ids, and measures the recall besides, which is also stated by itself.

    python benchmarks/index.py                                  # 100,000 × 128: Flat, HNSW32, IVF1024,Flat
    python benchmarks/index.py --vectors 1000000 --factories HNSW32 --rounds 1
    python benchmarks/index.py --vectors 20000 --factories Flat HNSW32 --servers postgresql://ann@host/database#trial
    python benchmarks/index.py --smoke                          # 3,000 × 32, to see that it runs
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import faiss
import numpy as np

import kyori
import kyori.index.folder
from kyori.index import Index
from kyori.index.factory import choose
from kyori.index.servers import redacted

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


def gaussian(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Return independent normal numbers (n, d): no neighbour is much nearer than any other vector."""
    return np.random.default_rng(seed).standard_normal((n, d), np.float32)


def raw_index(X: np.ndarray, factory: str, path: Path) -> tuple[Any, float]:
    """Train, add and write with FAISS alone, to the disk as Kyori does; return the index and the seconds."""
    start = clock()
    index = faiss.index_factory(X.shape[1], choose(len(X)) if factory == "auto" else factory)
    if not index.is_trained:
        index.train(X)
    index.add(X)
    faiss.write_index(index, str(path))
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    return index, clock() - start


def kyori_index(X: np.ndarray, factory: str, path: Path) -> tuple[Index, float]:
    """Make an index in a folder, recall measured, on the disk; return it and the seconds."""
    start = clock()
    index = kyori.open_index(path, factory=factory)
    index.add(np.arange(len(X)), X)
    index.save()
    return index, clock() - start


def timed(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    """Return the function, which appends the seconds of each call."""

    def call(*values: Any) -> Any:
        start = clock()
        result = function(*values)
        spent.append(clock() - start)
        return result

    return call


def build_both(X: np.ndarray, factory: str, folder: Path, rounds: int) -> tuple[Any, Index]:
    """Build by both sides in turns, print the seconds, and return the last of each: raw FAISS's, and Kyori's."""
    ours: list[float] = []
    theirs: list[float] = []
    measuring: list[float] = []
    index: Any = None
    raw: Any = None
    with mock.patch.object(kyori.index.folder, "tune", timed(kyori.index.folder.tune, measuring)):
        while len(theirs) < rounds or (rounds > 1 and sum(theirs) < 1):
            for side in ("kyori", "raw") if len(theirs) % 2 else ("raw", "kyori"):
                if side == "raw":
                    raw = None
                    # Both write new files: the pages of an old one lie in memory.
                    (folder / "raw.faiss").unlink(missing_ok=True)
                    raw, seconds = raw_index(X, factory, folder / "raw.faiss")
                    theirs.append(seconds)
                    continue
                if index is not None:
                    index.close()
                    shutil.rmtree(folder / "index")
                index, seconds = kyori_index(X, factory, folder / "index")
                ours.append(seconds)
    a, b, c = (float(np.median(spent)) for spent in (ours, theirs, measuring))
    print(f"  build   kyori {a:.3f} s (of it {c:.3f} s for the recall)   raw {b:.3f} s   ratio {a / b:.2f}")
    return raw, index


def compare_search(index: Index, raw: Any, queries: np.ndarray, least: float) -> None:
    """Print both speeds for each batch size; calls take turns, so that both see the same machine."""
    for size in BATCHES:
        batch = queries[:size]
        times: tuple[list[float], list[float]] = [], []
        calls = (lambda batch=batch: index.search(batch, K)), (lambda batch=batch: raw.search(batch, K))
        turn = 0
        while turn < 10 or sum(times[0]) < least:
            for side in (0, 1) if turn % 2 else (1, 0):
                start = clock()
                calls[side]()
                times[side].append(clock() - start)
            turn += 1
        a, b = (float(np.median(side)) for side in times)
        print(
            f"  batch {size:5d}   kyori {size / a:10,.0f} queries/s   raw {size / b:10,.0f}   ratio {b / a:.3f}"
            f"   added {1e3 * (a - b):+.3f} ms a call, {turn} turns",
            flush=True,
        )


def new_recall(index: Index, X: np.ndarray, queries: np.ndarray, ids: np.ndarray | None = None) -> float:
    """Return recall@10 of queries that are not in the index."""
    true = faiss.knn(queries, X, K)[1]
    true = true if ids is None else ids[true].astype(object)
    found = index.search(queries, K).ids
    return float(np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(true, found, strict=True)]))


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


def effort_to(raw: Any, report: dict[str, Any]) -> None:
    """Let raw FAISS search as wide as the index decided to."""
    effort = report.get("effort")
    if effort:
        faiss.ParameterSpace().set_index_parameter(raw, effort[0], effort[1])


def benchmark(X: np.ndarray, queries: np.ndarray, factory: str, least: float, rounds: int) -> None:
    n, d = X.shape
    with tempfile.TemporaryDirectory() as folder:
        place, file = Path(folder) / "index", Path(folder) / "raw.faiss"
        print(f"{factory}, {n:,} × {d}")
        raw, index = build_both(X, factory, Path(folder), rounds)
        facts = index.statistics()
        report = facts["search"]
        effort_to(raw, report)
        print(
            f"  built {facts['built']}: recall@10 {report['recall']:.3f}, of new queries"
            f" {new_recall(index, X, queries[:500]):.3f}, effort {report['effort']}"
        )
        compare_search(index, raw, queries, least)
        index.close()
        del raw
        for name, found in (("kyori", opened("kyori", place, d)), ("raw", opened("raw", file, d))):
            print(
                f"  opening {name:5s} {found[0]:.3f} s, first query {1e3 * found[1]:.1f} ms,"
                f" {found[2]:,.0f} MiB after 200"
            )
        if rounds == 1:
            return
        a, b = (
            peak_of_build(kind, n, d, factory, Path(folder) / f"again-{kind}") for kind in ("kyori", "raw")
        )
        print(f"  peak of a build   kyori {a:,.0f} MiB   raw {b:,.0f} MiB   ratio {a / b:.2f}", flush=True)


def alone(X: np.ndarray, queries: np.ndarray, factory: str) -> None:
    """Build without raw FAISS beside it; print seconds, recall and opening."""
    n, d = X.shape
    with tempfile.TemporaryDirectory() as folder:
        index, seconds = kyori_index(X, factory, Path(folder) / "index")
        facts = index.statistics()
        report = facts["search"]
        print(
            f"{factory} ({facts['built']}), {n:,} × {d}: built in {seconds:.0f} s ({time.process_time():.0f} s of CPU),"
            f" recall@10 {report['recall']:.3f}, effort {report['effort']}",
            flush=True,
        )
        index.close()
        found = opened("kyori", Path(folder) / "index", d)
        print(
            f"  opening {found[0]:.3f} s, first query {1e3 * found[1]:.1f} ms, {found[2]:,.0f} MiB after 200",
            flush=True,
        )
        with kyori.open_index(Path(folder) / "index", read_only=True) as index:
            print(f"  recall@10 of new queries {new_recall(index, X, queries[:500]):.3f}", flush=True)
            for size in BATCHES:
                print(f"  batch {size:5d}   {speed(index, queries[:size]):10,.0f} queries/s", flush=True)


def beside_servers(X: np.ndarray, queries: np.ndarray, factory: str, urls: Sequence[str]) -> None:
    """Fill an index in a folder and one of each server with the same items; print what each takes and gives."""
    ids, labels = np.array([f"item-{i:013d}" for i in range(len(X))]), np.arange(len(X)) % 100
    print(f"{factory}, {len(X):,} × {X.shape[1]}")
    with tempfile.TemporaryDirectory() as folder:
        for url in (f"{folder}/index", *urls):
            with kyori.open_index(url, factory=factory) as index:
                if len(index):
                    raise SystemExit(
                        f"{redacted(url)} holds {len(index):,} vectors; name one that is not there."
                    )
                start = clock()
                index.add(ids, X, labels)
                index.save()
                spent = clock() - start
                kind = "folder" if url.startswith(folder) else index.statistics()["place"].partition(",")[0]
                recall = new_recall(index, X, queries[:500], ids)
                taken = bytes_of(index, url) / len(X)
                space = "unknown" if np.isnan(taken) else f"{taken:,.0f}"
                speeds = (f"{speed(index, queries[:size]):,.0f} (batch {size:,})" for size in BATCHES)
                print(
                    f"  {kind}: built in {spent:.1f} s, {space} bytes a vector, recall@10 of new queries {recall:.3f},"
                    f" queries/s {', '.join(speeds)}",
                    flush=True,
                )
                index.clear()


def bytes_of(index: Index, url: str) -> float:
    """Return what an index takes on the disk; not a number where its server does not say."""
    file = Path(url.removeprefix("milvus:").partition("#")[0])
    if url.startswith("milvus:"):
        return sum(path.stat().st_size for path in (file, *file.rglob("*")) if path.is_file())
    return float(index.statistics().get("bytes", np.nan))


def speed(index: Index, queries: np.ndarray) -> float:
    """Return queries a second: the median of three calls at least, for a second at least."""
    index.search(queries, K)
    took: list[float] = []
    while len(took) < 3 or sum(took) < 1:
        start = clock()
        index.search(queries, K)
        took.append(clock() - start)
    return len(queries) / float(np.median(took))


def peak_of_build(kind: str, n: int, d: int, factory: str, place: Path) -> float:
    """Return the MiB that a process of its own takes to build at most, the vectors it is given included."""
    words = [sys.executable, __file__, "--peak", kind, str(n), str(d), factory, str(place)]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def show_peak(kind: str, n: int, d: int, factory: str, place: Path) -> None:
    warm_up()
    with open("/proc/self/statm") as file:
        before = int(file.read().split()[1]) * resource.getpagesize() / 2**20
    X = clustered(n, d)
    (raw_index if kind == "raw" else kyori_index)(X, factory, place)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before)


def warm_up() -> None:
    """Import what the first index imports."""
    with tempfile.TemporaryDirectory() as folder:
        index, _ = kyori_index(clustered(30_000, 8), "IVF4,Flat", Path(folder) / "index")
        index.close()


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
    parser.add_argument("--gauss", action="store_true", help="noise without any clusters, the worst there is")
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        help="builds by each side, more where they are short; 1 leaves out their memory",
    )
    parser.add_argument("--alone", action="store_true", help="without raw FAISS: build, recall, opening")
    parser.add_argument("--servers", nargs="+", metavar="URL", help="beside these, in place of raw FAISS")
    parser.add_argument("--peak", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        kind, n, d, factory, place = options.peak
        show_peak(kind, int(n), int(d), factory, Path(place))
        return
    if options.cpu_time:
        globals()["clock"] = time.process_time
    if options.smoke:
        options.vectors, options.dimensions = 3_000, 32
        options.factories = ["Flat", "HNSW16", "IVF16,Flat"]
    warm_up()
    draw = gaussian if options.gauss else clustered
    everything = draw(options.vectors + BATCHES[-1], options.dimensions)
    X, queries = everything[: options.vectors], everything[options.vectors :]
    for factory in options.factories:
        if options.servers:
            beside_servers(X, queries, factory, options.servers)
            continue
        if options.alone:
            alone(X, queries, factory)
            continue
        benchmark(
            X, queries, factory, 0.005 if options.smoke else 2.0, 1 if options.smoke else options.rounds
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"peak of this process {peak:,.0f} MiB; {faiss.omp_get_max_threads()} threads, {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
