"""Do the data ever starve the model? Kyori's two data paths beside the least that the same work can cost.

1. Pictures in memory: `kyori.training.train` with `cnn` beside a bare loop (forward, the same loss, backward, the same
   optimizer) over batches that lie ready as float tensors. Aim: at least 95 % of the bare loop's items a second.
2. A folder of JPEG files: the trainer's loader with all its threads beside the decoder alone, called file by file by as
   many threads. Aim: at least 90 % of the decoder's pictures a second.

Both sides run in turn, several rounds; the median round counts. In 1 the rest of the machine must be quiet, or use
--cpu-time, which counts this process's CPU seconds.

    python benchmarks/throughput.py            # 20,000 pictures in memory, 4,000 files
    python benchmarks/throughput.py --smoke    # a few of each
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kyori.data import Loader, PKBatches, ShuffleBatches, Source, open_source
from kyori.data.images import decode
from kyori.training import RunConfig, build, keep_memory, train
from kyori.training.optimization import create_optimizer

BATCH, PER_CLASS, SIZE = 260, 26, 224
clock: Callable[[], float] = time.perf_counter


def settings(loss: str) -> RunConfig:
    return RunConfig.from_options(
        backbone="cnn", loss=loss, batch_size=BATCH, per_class=PER_CLASS, epochs=1, device="cpu"
    )


def kyori_seconds(source: Source, config: RunConfig) -> float:
    embedder, loss = build(config, source)
    start = clock()
    train(embedder, loss, source, config)
    return clock() - start


def bare_seconds(source: Source, config: RunConfig) -> float:
    """The same steps on the same batches, which are made before the clock starts."""
    embedder, loss = build(config, source)
    assert source.labels is not None
    ready: list[tuple[Tensor, Tensor]] = [
        (embedder.preprocess(source.load(batch.indices)), torch.from_numpy(source.labels[batch.indices]))
        for batch in PKBatches(source.labels, BATCH // PER_CLASS, PER_CLASS).epoch(0)
    ]
    optimizer = create_optimizer(config.optimizer, embedder, loss)
    embedder.train()
    start = clock()
    for x, labels in ready:
        loss(embedder.features(x), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    return clock() - start


def write_pictures(folder: Path, count: int) -> None:
    """Smooth random pictures as JPEG files of two classes: as large as photographs of this size are."""
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        place = folder / ("a" if number % 2 else "b")
        place.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(pixels).resize((SIZE * 4 // 3, SIZE * 4 // 3), Image.Resampling.BICUBIC)
        picture.save(place / f"{number}.jpg", quality=90)


def loader_seconds(source: Source, workers: int) -> float:
    loader = Loader(source, "cpu", workers=workers)
    start = clock()
    count = sum(
        len(batch.indices) for batch, _, _ in loader.batches(ShuffleBatches(len(source), 64).epoch(0))
    )
    assert count == len(source)
    return clock() - start


def decoder_seconds(paths: list[str], workers: int) -> float:
    start = clock()
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(lambda path: decode(path, (SIZE, SIZE), 3), paths):
            pass
    return clock() - start


def turns(rounds: int, *sides: Callable[[], float]) -> Iterator[float]:
    """The median seconds of each side, after one round that does not count."""
    for side in sides:
        side()
    found = [[side() for side in sides] for _ in range(rounds)]
    yield from np.median(found, axis=0).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="1,300 pictures in memory, 200 files, one round")
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--files", type=int, default=4_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loss", default="triplet")
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1))
    parser.add_argument("--threads", type=int, help="threads of PyTorch")
    parser.add_argument(
        "--cpu-time", action="store_true", help="count CPU seconds: for a machine that others use too"
    )
    options = parser.parse_args()
    if options.smoke:
        options.items, options.files, options.rounds = 1_300, 200, 1
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.cpu_time:
        globals()["clock"] = time.process_time
    warnings.simplefilter("ignore")
    keep_memory()
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (options.items, 28, 28), dtype=np.uint8)
    source = open_source((pictures, rng.permutation(np.arange(options.items) % 10)))
    config = settings(options.loss)
    ours, bare = turns(
        options.rounds, lambda: kyori_seconds(source, config), lambda: bare_seconds(source, config)
    )
    assert source.labels is not None
    steps = len(PKBatches(source.labels, BATCH // PER_CLASS, PER_CLASS))
    print(
        f"in memory: {steps * BATCH / ours:8,.0f} items/s, bare loop {steps * BATCH / bare:8,.0f} items/s: "
        f"{bare / ours:.1%} of it ({1e3 * (ours - bare) / steps:+.2f} ms a step of {1e3 * bare / steps:.0f} ms)",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder), options.files)
        files = open_source(folder, size=SIZE, memory_limit=0, verify=False)
        paths = [str(path) for path in sorted(Path(folder).rglob("*.jpg"))]
        loaded, decoded = turns(
            options.rounds,
            lambda: loader_seconds(files, options.workers),
            lambda: decoder_seconds(paths, options.workers),
        )
    print(
        f"JPEG folder: {options.files / loaded:8,.0f} pictures/s, decoder alone {options.files / decoded:8,.0f}: "
        f"{decoded / loaded:.1%} of it ({options.workers} threads each)"
    )
    seconds = "CPU" if options.cpu_time else "wall-clock"
    print(
        f"{seconds} seconds, median of {options.rounds}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
