"""A comparison with one process and with several, and one that is killed in the middle: same bits, nothing lost.

    python benchmarks/grid.py --smoke            # a minute or two
    python benchmarks/grid.py --jobs 2 --epochs 40 --seeds 3

Prints the seconds of the same grid on digits with ``--jobs 1`` and ``--jobs N`` (each process with one thread), their
ratio, whether all test vectors are equal bit for bit, and what was left and made again after a ``kill -9``. The time of
starting Python and reading the libraries, once a process, is part of it: it counts where cells are short.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from kyori import VectorTable

METHODS = "softmax,contrastive,triplet-semihard,arcface"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a small grid")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--backbone", default="cnn")
    options = parser.parse_args()
    if options.smoke:
        options.epochs, options.seeds = 3, 1
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        seconds = {jobs: run(command(options, root / str(jobs), jobs)) for jobs in (1, options.jobs)}
        one, several = seconds[1], seconds[options.jobs]
        print(f"jobs 1: {one:.1f} s; jobs {options.jobs}: {several:.1f} s; ratio {one / several:.2f}")
        same = vectors(root / "1"), vectors(root / str(options.jobs))
        equal = same[0].keys() == same[1].keys() and all(
            np.array_equal(same[0][k], same[1][k]) for k in same[0]
        )
        print(f"{len(same[0])} cells, bit for bit equal: {equal}")
        killed(options, root / "killed", same[0])


def command(options: argparse.Namespace, out: Path, jobs: int) -> list[str]:
    return [
        *(sys.executable, "-m", "kyori", "compare", "digits", "--methods", METHODS, "--out", str(out)),
        *(
            "--jobs",
            str(jobs),
            "--threads",
            "1",
            "--epochs",
            str(options.epochs),
            "--seeds",
            str(options.seeds),
        ),
        *("--backbone", options.backbone),
    ]


def run(words: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    return time.perf_counter() - start


def vectors(out: Path) -> dict[str, np.ndarray]:
    return {
        path.parent.relative_to(out).as_posix(): VectorTable.load(path).vectors
        for path in sorted(out.glob("cells/*/*/*/vectors.parquet"))
    }


def killed(options: argparse.Namespace, out: Path, whole: dict[str, np.ndarray]) -> None:
    words = command(options, out, options.jobs)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list(out.glob("cells/*/*/*/cell.json"))) < len(whole) // 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(2)  # the workers follow
    kept = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/*/*/cell.json")}
    run(words)
    touched = sum(path.stat().st_mtime_ns != before for path, before in kept.items())
    again = vectors(out)
    equal = again.keys() == whole.keys() and all(np.array_equal(again[k], whole[k]) for k in whole)
    print(f"kill -9 with {len(kept)} of {len(whole)} cells finished: {touched} of them made again", end="; ")
    print(f"equal at the end: {equal}")


if __name__ == "__main__":
    main()
