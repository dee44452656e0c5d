"""Linear metric learning beside metric-learn, and mini-batches on many rows.

    python benchmarks/linear.py                    # 5,000 × 64: NCA and LMNN beside metric-learn; 10⁵ rows in batches
    python benchmarks/linear.py --rows 1000000     # the batches on 10⁶ rows
    python benchmarks/linear.py --lmnn-iterations 1000   # LMNN until metric-learn stops by itself: 10 minutes
    python benchmarks/linear.py --smoke            # tiny, seconds

Each contender runs in a process of its own, from the same start (the identity); CPU seconds of `fit`, peak memory above
what the process held after imports. Objectives are computed by one function, over all pairs in float64.

NCA: both get the same number of L-BFGS iterations. LMNN: metric-learn goes down by gradient steps, with its default
first step, 1e-7, and with 1e-5, the best of three tried on these data. Kyori gets the smallest of 1, 2, 4, … iterations
that ends no higher, and beside it as many iterations as metric-learn.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import time
import warnings
from typing import Any

import numpy as np

PEER_STEPS = {"metric-learn": 1e-7, "metric-learn, step 1e-5": 1e-5}


def made(n: int, f: int, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian classes that overlap, seen through a random mixture of the features; deviation 1."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, n)
    centres, mixture = rng.normal(size=(classes, f)) * 0.6, rng.normal(size=(f, f))
    X = np.concatenate(
        [
            (centres[part] + rng.normal(size=(len(part), f))) @ mixture
            for part in np.array_split(y, -(-n // 50_000))
        ]
    )
    return X / X[:10_000].std(), y


def metric_learn() -> Any:
    """metric-learn, made to run beside scikit-learn ≥ 1.8, which renamed an argument that it passes."""
    import metric_learn as package
    import metric_learn._util as checks

    def renamed(check: Any) -> Any:
        def call(*arguments: Any, force_all_finite: Any = None, **options: Any) -> Any:
            if force_all_finite is not None:
                options["ensure_all_finite"] = force_all_finite
            return check(*arguments, **options)

        return call

    checks.check_array, checks.check_X_y = renamed(checks.check_array), renamed(checks.check_X_y)
    return package


def peer(method: str, iterations: int, step: float) -> Any:
    package = metric_learn()
    if method == "nca":
        return package.NCA(init="identity", max_iter=iterations, tol=1e-12)
    return package.LMNN(
        n_neighbors=3, init="identity", max_iter=iterations + 1, learn_rate=step, convergence_tol=1e-12
    )


def ours(method: str, iterations: int, batch: int | None, epochs: int) -> Any:
    from kyori import linear

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
    X, y = made(job["n"], job["f"])
    method, iterations = job["method"], job["iterations"]
    own = job["step"] is None
    metric = (
        ours(method, iterations, job["batch"], job["epochs"])
        if own
        else peer(method, iterations, job["step"])
    )
    (ours if own else peer)(method, 1, *((None, 1) if own else (1e-7,))).fit(X[:200], y[:200])  # warm
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.perf_counter(), time.process_time()
    metric.fit(X, y)
    found = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    found["gigabytes"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e9
    L = metric.components_
    if job["batch"] is None:
        found["objective"] = objective(method, L, X, y)
    else:
        found["raw"], found["learned"] = neighbours_right(X, y), neighbours_right(X @ L.T, y)
    return found


def run(
    arguments: argparse.Namespace, method: str, iterations: int, step: float | None = None, **more: Any
) -> Any:
    job = {
        "method": method, "iterations": iterations, "step": step, "n": arguments.n, "f": arguments.f,
        "batch": None, "epochs": 1, "threads": arguments.threads, **more,
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


def line(name: str, found: dict[str, float], best: float | None = None) -> None:
    ratio = f"{found['cpu'] / best:8.1f}" if best else " " * 8
    print(
        f"  {name:38}{found['objective']:14.2f}{found['seconds']:9.1f}{found['cpu']:9.1f}{ratio}"
        f"{found['gigabytes']:7.2f}",
        flush=True,
    )


def race_nca(arguments: argparse.Namespace, has_peer: bool) -> None:
    k = arguments.nca_iterations
    print(f"\nNCA, {k} iterations each (larger is better, at most {arguments.n})")
    found = run(arguments, "nca", k)
    line("kyori", found)
    if has_peer:
        line("metric-learn", run(arguments, "nca", k, 1e-7), found["cpu"])


def race_lmnn(arguments: argparse.Namespace, has_peer: bool) -> None:
    k = arguments.lmnn_iterations
    print("\nLMNN (smaller is better)")
    full = run(arguments, "lmnn", k)
    line(f"kyori, {k} iterations", full)
    for name, step in PEER_STEPS.items() if has_peer else ():
        theirs = run(arguments, "lmnn", k, step)
        iterations = 1
        while (found := run(arguments, "lmnn", iterations))["objective"] > theirs[
            "objective"
        ] and iterations < 2 * k:
            iterations *= 2
        line(f"kyori, {iterations} iterations", found)
        line(f"{name}, {k} iterations", theirs, found["cpu"])


def batches(arguments: argparse.Namespace) -> None:
    print(
        f"\nBatches of {arguments.batch}, {arguments.rows:,} × {arguments.f} rows, {arguments.epochs} epochs"
    )
    print(f"  {'':8}{'seconds':>9}{'CPU s':>9}{'GB':>7}{'1-NN before':>13}{'after':>8}")
    for method in ("nca", "lmnn"):
        found = run(arguments, method, 1, batch=arguments.batch, epochs=arguments.epochs, n=arguments.rows)
        print(
            f"  {method:8}{found['seconds']:9.1f}{found['cpu']:9.1f}{found['gigabytes']:7.2f}"
            f"{100 * found['raw']:12.1f}%{100 * found['learned']:7.1f}%",
            flush=True,
        )
    print(f"  the rows themselves take {arguments.rows * arguments.f * 8 / 1e9:.2f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--smoke", action="store_true", help="tiny data, to see that it works")
    parser.add_argument("--n", type=int, default=5000, help="rows of the race")
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
        arguments.n, arguments.f, arguments.rows, arguments.batch, arguments.epochs = 400, 8, 3000, 200, 1
        arguments.nca_iterations, arguments.lmnn_iterations = 3, 4
    has_peer = importlib.util.find_spec("metric_learn") is not None
    version = (
        f"metric-learn {importlib.metadata.version('metric-learn')}"
        if has_peer
        else "no metric-learn: skipped"
    )
    print(
        f"{arguments.n:,} × {arguments.f}, 10 classes; Python {platform.python_version()}, {version}, "
        f"{arguments.threads} thread(s) of {os.cpu_count()} cores, load from elsewhere {os.getloadavg()[0]:.1f}"
    )
    print(f"  {'':38}{'objective':>14}{'seconds':>9}{'CPU s':>9}{'ratio':>8}{'GB':>7}")
    race_nca(arguments, has_peer)
    race_lmnn(arguments, has_peer)
    batches(arguments)


if __name__ == "__main__":
    main()
