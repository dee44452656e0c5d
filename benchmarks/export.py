"""Items a second of an exported model: ONNX Runtime beside PyTorch, which runs what `Embedder.encode` runs.

A model is trained for an epoch (its speed does not depend on that), exported, and its vectors are compared on up to
1,000 items as `kyori export` does. Then both sides take turns, batch by batch on the same items with the same number of
threads; the median of each side counts.

    python benchmarks/export.py                                 # cnn on digits (8 × 8) and Fashion-MNIST (28 × 28)
    python benchmarks/export.py --backbone resnet18 --data fashion --quantize int8
    python benchmarks/export.py --smoke                         # digits, a few turns

Fashion-MNIST is Debian's ``dataset-fashion-mnist``; it is left out where that is not installed.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import kyori
from kyori.data import Source, open_source
from kyori.exporting import Export, export
from kyori.exporting.formats import onnx_encoder
from kyori.models import Embedder

FASHION = Path("/usr/share/datasets/fashion-mnist")
BATCHES = (1, 64, 256)
clock: Callable[[], float] = time.perf_counter


def sources(names: list[str]) -> dict[str, Source]:
    """Return the data that are there by name; 6,000 items of Fashion-MNIST, as many of each class."""
    found = {}
    for name in names:
        if name == "digits":
            found[name] = open_source("digits")
        elif FASHION.exists():
            whole = open_source(str(FASHION))
            assert whole.labels is not None
            order = np.argsort(whole.labels, kind="stable").reshape(10, -1)
            found[name] = whole.take(np.sort(order[:, :600].ravel()))
    return found


def encoder(embedder: Embedder) -> Callable[[Any], Any]:
    """Return PyTorch's side: raw rows to vectors, nothing recorded for gradients."""
    embedder.eval()

    def encode(rows: Any) -> Any:
        with torch.inference_mode():
            return embedder(embedder.preprocess(torch.from_numpy(rows))).numpy()

    return encode


def seconds_of(sides: list[Callable[[Any], Any]], batch: Any, least: float) -> list[float]:
    """Return the median seconds of each side, which take turns."""
    times: list[list[float]] = [[] for _ in sides]
    for encode in sides:
        encode(batch)
    turn = 0
    while turn < 10 or sum(times[0]) < least:
        for side in range(len(sides))[:: -1 if turn % 2 else 1]:
            start = clock()
            sides[side](batch)
            times[side].append(clock() - start)
        turn += 1
    return [float(np.median(taken)) for taken in times]


def benchmark(name: str, source: Source, options: argparse.Namespace, out: Path) -> None:
    run = kyori.fit(
        source, loss="triplet", backbone=options.backbone, epochs=1, out=out / name, report=None, seed=0
    )
    found: Export = export(out / name, source, quantize=options.quantize, seconds=0)
    parity = found.parity
    made = " ".join([options.backbone, *([options.quantize] if options.quantize else [])])
    print(
        f"{name}, {made}: {found.bytes / 2**20:.2f} MiB, largest difference {parity.max_difference:.1e} on"
        f" {parity.items:,} items, same nearest neighbour {parity.same_neighbour:.4f}"
    )
    sides = [encoder(run.embedder), onnx_encoder(found.path)]
    rows = np.ascontiguousarray(source.load(np.arange(max(BATCHES))))
    if run.embedder.preprocess.kind == "image":
        rows = rows.reshape(len(rows), *run.embedder.preprocess.shape)
    for size in BATCHES:
        ours, theirs = seconds_of(sides, rows[:size], options.seconds)
        print(
            f"  batch {size:4d}   PyTorch {size / ours:9,.0f} items/s   ONNX Runtime {size / theirs:9,.0f}"
            f"   ratio {ours / theirs:.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="digits, a few turns")
    parser.add_argument("--data", nargs="+", choices=["digits", "fashion"], default=["digits", "fashion"])
    parser.add_argument("--backbone", default="cnn")
    parser.add_argument("--quantize", choices=["float16", "int8"])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each batch size, of one side")
    parser.add_argument(
        "--cpu-time", action="store_true", help="count CPU seconds, for a machine that others use too"
    )
    options = parser.parse_args()
    if options.cpu_time:
        globals()["clock"] = time.process_time
    if options.smoke:
        options.data, options.seconds = ["digits"], 0.05
    with tempfile.TemporaryDirectory() as out:
        for name, source in sources(options.data).items():
            benchmark(name, source, options, Path(out))
    print(f"{torch.get_num_threads()} threads each, torch {torch.__version__}")


if __name__ == "__main__":
    main()
