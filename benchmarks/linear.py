"""Linear metric learning beside metric-learn and scikit-learn, and mini-batches on many rows.

    python benchmarks/linear.py                          # 5,000 × 64: NCA, LMNN; then 10⁵ rows in batches
    python benchmarks/linear.py --data fashion           # Fashion-MNIST (the Debian package), 64 principal components
    python benchmarks/linear.py --parts nca --n 10000    # one race only, on more rows
    python benchmarks/linear.py --parts batches --rows 1000000   # the batches on 10⁶ rows
    python benchmarks/linear.py --parts lmnn --lmnn-iterations 1000   # until metric-learn stops by itself: 10 minutes
    python benchmarks/linear.py --parts defaults         # fit() as it is on both sides, until each stops: 10 minutes
    python benchmarks/linear.py --parts accuracy         # 3-NN on scikit-learn's data sets: minutes
    python benchmarks/linear.py --smoke                  # tiny, seconds

Each contender runs in a process of its own, one after the other; CPU seconds of `fit`, peak memory above what the
process held before it. Objectives are computed by one function, over all pairs in float64. The races start from the
identity and give two ratios: at equal steps, and at an equal objective, for which Kyori gets the fewest iterations that
end as well as the peer did.

NCA: both peers go down by L-BFGS, as Kyori does in other coordinates. LMNN: metric-learn goes down by gradient steps,
with its default first step, 1e-7, and with 1e-5, the best of three tried on the made data.
"""

import argparse
import gzip
import importlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.neighbors import KNeighborsClassifier, NeighborhoodComponentsAnalysis
from sklearn.preprocessing import StandardScaler

FASHION = Path("/usr/share/datasets/fashion-mnist")
PARTS = ["nca", "lmnn", "batches", "defaults", "accuracy"]
PEER_STEPS = {"metric-learn": 1e-7, "metric-learn, step 1e-5": 1e-5}


def made(n: int, f: int, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian classes that overlap, seen through a random mixture of the features; deviation 1."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, n)
    centres, mixture = rng.normal(size=(classes, f)) * 0.6, rng.normal(size=(f, f))
    X = np.empty((n, f))
    for part in np.array_split(np.arange(n), -(-n // 50_000)):  # so that the peak is that of the rows
        X[part[0] : part[-1] + 1] = (centres[y[part]] + rng.normal(size=(len(part), f))) @ mixture
    X /= X[:10_000].std()
    return X, y


def fashion(n: int, f: int) -> tuple[np.ndarray, np.ndarray]:
    """The first n training pictures of Fashion-MNIST, turned to their first f principal components."""
    from sklearn.decomposition import PCA

    with gzip.open(FASHION / "train-images-idx3-ubyte.gz") as file:
        pictures = np.frombuffer(file.read(16 + n * 784)[16:], np.uint8).reshape(n, 784) / 255
    with gzip.open(FASHION / "train-labels-idx1-ubyte.gz") as file:
        y = np.frombuffer(file.read(8 + n)[8:], np.uint8).astype(np.int64)
    return PCA(f, svd_solver="covariance_eigh").fit_transform(pictures), y


def metric_learn() -> Any:
    """metric-learn, made to run beside scikit-learn ≥ 1.8, which renamed an argument that it passes."""
    package: Any = importlib.import_module("metric_learn")
    checks: Any = importlib.import_module("metric_learn._util")

    def renamed(check: Any) -> Any:
        def call(*arguments: Any, force_all_finite: Any = None, **options: Any) -> Any:
            if force_all_finite is not None:
                options["ensure_all_finite"] = force_all_finite
            return check(*arguments, **options)

        return call

    checks.check_array, checks.check_X_y = renamed(checks.check_array), renamed(checks.check_X_y)
    return package


def peer(method: str, by: str, iterations: int | None, step: float) -> Any:
    """A peer's estimator from the identity; with its own defaults where no iterations are given."""
    if iterations is None:
        return getattr(metric_learn(), method.upper())()
    if by == "scikit-learn":
        return NeighborhoodComponentsAnalysis(init="identity", max_iter=iterations, tol=1e-12)
    package = metric_learn()
    if method == "nca":
        return package.NCA(init="identity", max_iter=iterations, tol=1e-12)
    return package.LMNN(
        n_neighbors=3, init="identity", max_iter=iterations + 1, learn_rate=step, convergence_tol=1e-12
    )


def ours(method: str, iterations: int | None, batch: int | None, epochs: int) -> Any:
    from kyori import linear

    if iterations is None:
        return linear.create(method)
    return linear.create(
        method, init="identity", max_iter=iterations, tol=1e-12, batch_size=batch, epochs=epochs
    )


def objective(method: str, L: np.ndarray, X: np.ndarray, y: np.ndarray) -> float:
    from kyori.linear.impostors import MarginSum
    from kyori.linear.lmnn import target_neighbours
    from kyori.linear.nca import own_share
    from kyori.linear.neighbourhood import Rows, soft_neighbours

    order = np.argsort(y, kind="stable")
    X, y, L = X[order], y[order], np.ascontiguousarray(L, dtype=np.float64)
    rows = Rows(X, narrow=False)
    if method == "nca":
        return -soft_neighbours(L, rows, own_share(y))[0]
    targets = target_neighbours(X, y, 3, np.random.default_rng(0))
    return MarginSum(rows, y, targets, push=0.5, pull=0.5)(L)[0]


def neighbours_right(Z: np.ndarray, y: np.ndarray) -> float:
    """Share of 2,000 rows whose nearest among 20,000 others has their label."""
    from kyori.neighbors import nearest

    queries, gallery = slice(0, min(2000, len(y) // 5)), slice(min(2000, len(y) // 5), 22_000)
    return float((y[gallery][nearest(Z[queries], Z[gallery], 1).ids[:, 0]] == y[queries]).mean())


def contend(job: dict[str, Any]) -> dict[str, float]:
    """Fit one contender in this process and say what it did."""
    import torch

    torch.set_num_threads(job["threads"])
    warnings.simplefilter("ignore")
    X, y = (fashion if job["data"] == "fashion" else made)(job["n"], job["f"])
    method, iterations, batch, by = job["method"], job["iterations"], job["batch"], job["by"]

    def contender(steps: int | None) -> Any:
        return (
            ours(method, steps, batch, job["epochs"])
            if by == "kyori"
            else peer(method, by, steps, job["step"])
        )

    metric = contender(iterations)
    contender(1).fit(X[:200], y[:200])  # warm
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.perf_counter(), time.process_time()
    metric.fit(X, y)
    found = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    found["gigabytes"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e9
    L, found["iterations"] = metric.components_, metric.n_iter_
    if batch is None:
        found["objective"] = objective(method, L, X, y)
    else:
        found["raw"], found["learned"] = neighbours_right(X, y), neighbours_right(X @ L.T, y)
    return found


def run(
    arguments: argparse.Namespace, method: str, iterations: int | None, by: str = "kyori", **more: Any
) -> Any:
    job = {
        "method": method, "iterations": iterations, "by": by, "step": 1e-7, "n": arguments.n, "f": arguments.f,
        "batch": None, "epochs": 1, "threads": arguments.threads, "data": arguments.data, **more,
    }  # fmt: skip
    if arguments.smoke:  # memory means nothing here, so one process will do
        return contend(job)
    command = [sys.executable, __file__, "--contend", json.dumps(job)]
    threads = str(arguments.threads)
    environment = {
        **os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads,
    }  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def line(name: str, found: dict[str, float], own: dict[str, float] | None = None) -> None:
    """Print a contender, and how many times Kyori's time it took."""
    ratio = f"{found['cpu'] / own['cpu']:8.1f}{found['seconds'] / own['seconds']:8.1f}" if own else " " * 16
    print(
        f"  {name:46}{found['objective']:12.2f}{found['seconds']:9.2f}{found['cpu']:9.2f}{ratio}"
        f"{found['gigabytes']:7.2f}",
        flush=True,
    )


def fewest(arguments: argparse.Namespace, method: str, goal: float, most: int) -> Any:
    """Kyori's run with the fewest iterations that ends as well as the peer; that with the most if none does."""
    sign = 1 if method == "nca" else -1
    low, high, best = 1, most, None
    while low < high or best is None:
        middle = (low + high) // 2
        found = run(arguments, method, middle)
        if sign * found["objective"] >= sign * goal:
            high, best = middle, found
        elif low >= high:
            return found
        else:
            low = middle + 1
    return best


def race_nca(arguments: argparse.Namespace, has_peer: bool) -> None:
    k = arguments.nca_iterations
    print(f"\nNCA (larger is better, at most {arguments.n})")
    full = run(arguments, "nca", k)
    line(f"kyori, {k} iterations", full)
    for name in ("metric-learn", "scikit-learn") if has_peer else ("scikit-learn",):
        theirs = run(arguments, "nca", k, name)
        found = fewest(arguments, "nca", theirs["objective"], 2 * k)
        line(f"{name}, {k} iterations: equal steps", theirs, full)
        line(f"kyori, {found['iterations']} iterations", found)
        line(f"{name}, {k} iterations: equal objective", theirs, found)


def race_lmnn(arguments: argparse.Namespace, has_peer: bool) -> None:
    k = arguments.lmnn_iterations
    print("\nLMNN (smaller is better)")
    for name, step in PEER_STEPS.items() if has_peer else ():
        theirs = run(arguments, "lmnn", k, "metric-learn", step=step)
        steps = int(theirs["iterations"])
        full = run(arguments, "lmnn", steps)
        line(f"kyori, {full['iterations']} iterations", full)
        line(f"{name}, {steps} iterations: equal steps", theirs, full)
        found = fewest(arguments, "lmnn", theirs["objective"], int(full["iterations"]))
        line(f"kyori, {found['iterations']} iterations", found)
        line(f"{name}, {steps} iterations: equal objective", theirs, found)
    if not has_peer:
        line(f"kyori, {k} iterations", run(arguments, "lmnn", k))


def race_defaults(arguments: argparse.Namespace) -> None:
    for method, better in (("nca", "larger"), ("lmnn", "smaller")):
        print(f"\n{method.upper()} with the defaults of both ({better} is better)")
        own, theirs = run(arguments, method, None), run(arguments, method, None, "metric-learn")
        line(f"kyori, {own['iterations']} iterations", own)
        line(f"metric-learn, {theirs['iterations']} iterations", theirs, own)


def batches(arguments: argparse.Namespace) -> None:
    print(
        f"\nBatches of {arguments.batch}, {arguments.rows:,} × {arguments.f} rows, {arguments.epochs} epochs"
    )
    print(f"  {'':8}{'seconds':>9}{'CPU s':>9}{'GB':>7}{'1-NN before':>13}{'after':>8}")
    for method in ("nca", "lmnn"):
        found = run(
            arguments,
            method,
            1,
            batch=arguments.batch,
            epochs=arguments.epochs,
            n=arguments.rows,
            data="made",
        )
        print(
            f"  {method:8}{found['seconds']:9.1f}{found['cpu']:9.1f}{found['gigabytes']:7.2f}"
            f"{100 * found['raw']:12.1f}%{100 * found['learned']:7.1f}%",
            flush=True,
        )
    print(f"  the rows themselves take {arguments.rows * arguments.f * 8 / 1e9:.2f} GB")


def peer_map(method: str, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """L of metric-learn's method, or scikit-learn's LDA, with about the iterations that Kyori has by default."""
    if method == "lda":
        found = LinearDiscriminantAnalysis(solver="eigen").fit(X, y)
        return found.scalings_[:, : len(found.classes_) - 1].T
    package = metric_learn()
    makers: dict[str, Any] = {
        "nca": lambda: package.NCA(max_iter=50, tol=1e-5),
        "lmnn": lambda: package.LMNN(n_neighbors=3, learn_rate=1e-4, max_iter=200),
        "rca": lambda: package.RCA(),
        "itml": lambda: package.ITML_Supervised(max_iter=50, random_state=0),
    }
    return makers[method]().fit(X, y).components_  # RCA: each class is a chunk


def accuracy(smoke: bool) -> None:
    """3-NN with each metric, Kyori's minus the peer's, over random splits of 70 % and 30 %, standardized features.

    The interval is that of Nadeau & Bengio (2003), which allows for splits that share items.
    """
    from kyori import linear

    print("\n3-NN accuracy in %: Kyori, the peer, the difference with its 95 % interval")
    for load in (load_iris, load_wine) if smoke else (load_iris, load_wine, load_breast_cancer, load_digits):
        X, y = load(return_X_y=True)
        X = X[:, (np.median(X, 0) != X).mean(0) > 0.01]  # digits have pixels that are nearly always blank
        splits = 2 if smoke else 3 if load is load_digits else 10
        for method in ("nca", "lmnn", "lda", "rca", "itml"):
            scores = []
            for train, test in StratifiedShuffleSplit(splits, test_size=0.3, random_state=0).split(X, y):
                scaler = StandardScaler().fit(X[train])
                A, B = scaler.transform(X[train]), scaler.transform(X[test])
                maps = linear.create(method).fit(A, y[train]).components_, peer_map(method, A, y[train])
                scores.append(
                    [KNeighborsClassifier(3).fit(A @ L.T, y[train]).score(B @ L.T, y[test]) for L in maps]
                )
            gains = 100 * np.subtract(*np.transpose(scores))
            error = t.ppf(0.975, splits - 1) * gains.std(ddof=1) * math.sqrt(1 / splits + 0.3 / 0.7)
            own, other = 100 * np.mean(scores, 0)
            name = load.__name__[5:]
            print(
                f"  {name:15}{method:6}{own:8.2f}{other:8.2f}{gains.mean():+8.2f} ± {error:.2f}", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--smoke", action="store_true", help="tiny data, to see that it works")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:3], help="what to run")
    parser.add_argument("--data", choices=["made", "fashion"], default="made", help="of the races")
    parser.add_argument("--n", type=int, default=5000, help="rows of the races")
    parser.add_argument("--f", type=int, default=64, help="features")
    parser.add_argument("--nca-iterations", type=int, default=10, help="of both, in the race of NCA")
    parser.add_argument("--lmnn-iterations", type=int, default=100, help="of both, in the race of LMNN")
    parser.add_argument("--rows", type=int, default=100_000, help="rows for the batches")
    parser.add_argument("--batch", type=int, default=1000, help="rows of a batch")
    parser.add_argument("--epochs", type=int, default=2, help="times that each row is seen")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of every contender")
    parser.add_argument("--contend", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contend:
        print(json.dumps(contend(json.loads(arguments.contend))))
        return
    if arguments.smoke:
        arguments.parts = PARTS
        arguments.n, arguments.f, arguments.rows, arguments.batch, arguments.epochs = 400, 8, 3000, 200, 1
        arguments.nca_iterations, arguments.lmnn_iterations = 3, 4
    has_peer = importlib.util.find_spec("metric_learn") is not None
    version = (
        f"metric-learn {importlib.metadata.version('metric-learn')}"
        if has_peer
        else "no metric-learn: skipped"
    )
    print(
        f"{arguments.data}, {arguments.n:,} × {arguments.f}; Python {platform.python_version()}, {version}, "
        f"{arguments.threads} thread(s) of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    print(f"  {'':46}{'objective':>12}{'seconds':>9}{'CPU s':>9}{'ratio':>8}{'wall':>8}{'GB':>7}")
    if "nca" in arguments.parts:
        race_nca(arguments, has_peer)
    if "lmnn" in arguments.parts:
        race_lmnn(arguments, has_peer)
    if "batches" in arguments.parts:
        batches(arguments)
    if "defaults" in arguments.parts and has_peer:
        race_defaults(arguments)
    if "accuracy" in arguments.parts and has_peer:
        accuracy(arguments.smoke)


if __name__ == "__main__":
    main()
