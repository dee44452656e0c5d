"""Near-duplicates: are planted ones found, and how long do many vectors take?

Pictures of the test items are planted a second time, changed: shifted by a pixel or two, through JPEG, brighter or
darker. Recall is the share of planted pictures that are in one group with their original; precision is the share of
the items called duplicates whose nearest duplicate is their original or copy. Fashion-MNIST holds near-duplicates of
its own, which count against precision here.

    python benchmarks/duplicates.py                   # Fashion-MNIST: a cnn trained for one epoch, and raw pixels
    python benchmarks/duplicates.py --size 100000     # seconds and memory on random clusters of so many vectors
    python benchmarks/duplicates.py --smoke           # digits, seconds
"""

import argparse
import io
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import kyori
from kyori.data import open_source
from kyori.quality.duplicates import find_duplicates, suggest_threshold

FASHION = Path("/usr/share/datasets/fashion-mnist")


def shifted(pixels: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(picture: np.ndarray) -> np.ndarray:
        moved = np.zeros_like(picture)
        moved[pixels:, pixels:] = picture[:-pixels, :-pixels]
        return moved

    return change


def jpeg(quality: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(picture: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(picture[:, :, 0]).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))[:, :, None]

    return change


def brightness(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda picture: (picture.astype(np.float32) * factor).round().clip(0, 255).astype(np.uint8)


CHANGES = {
    "copy": lambda picture: picture,
    "jpeg 90": jpeg(90),
    "jpeg 50": jpeg(50),
    "jpeg 20": jpeg(20),
    "brightness 0.8": brightness(0.8),
    "brightness 1.2": brightness(1.2),
    "shift 1": shifted(1),
    "shift 2": shifted(2),
}


def planted(pictures: np.ndarray, each: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pictures with the planted ones behind, whose original each is, and the change of the planted."""
    chosen = (
        np.random.default_rng(0).permutation(len(pictures))[: each * len(CHANGES)].reshape(len(CHANGES), each)
    )
    copies = [
        change(pictures[i]) for change, rows in zip(CHANGES.values(), chosen, strict=True) for i in rows
    ]
    origin = np.concatenate([np.arange(len(pictures)), chosen.ravel()])
    return np.concatenate([pictures, np.stack(copies)]), origin, np.repeat(np.arange(len(CHANGES)), each)


class Loaded:
    """Pictures in memory, read as a source's are."""

    def __init__(self, pictures: np.ndarray):
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def load(self, indices: np.ndarray) -> np.ndarray:
        return self.pictures[indices]


def report(
    name: str,
    vectors: np.ndarray,
    origin: np.ndarray,
    kinds: np.ndarray,
    share: float,
    pictures: np.ndarray | None = None,
) -> None:
    start = time.process_time()
    suggested = suggest_threshold(vectors)
    found = find_duplicates(
        vectors, suggested * share, pictures=None if pictures is None else Loaded(pictures)
    )
    seconds = time.process_time() - start
    n = len(vectors) - len(kinds)
    together = (found.group[n:] == found.group[origin[n:]]) & (found.group[n:] >= 0)
    called = np.flatnonzero(found.group >= 0)
    right = origin[called] == origin[found.nearest[called]]
    each = "  ".join(f"{kind} {together[kinds == i].mean():.3f}" for i, kind in enumerate(CHANGES))
    print(
        f"{name:<20} {share:3.1f} × suggested = {suggested * share:.4f}: recall {together.mean():.3f}"
        f" precision {right.mean():.3f} ({len(called)} items, {seconds:.1f} CPU s)\n         {each}",
        flush=True,
    )


def clustered(n: int, dimensions: int = 128, rank: int = 24) -> np.ndarray:
    """Vectors like an embedder's: 200 clusters in a few directions, of length 1, with a near-copy of each hundredth."""
    generator = np.random.default_rng(0)
    directions = np.linalg.qr(generator.normal(size=(dimensions, rank)))[0].T.astype(np.float32)
    centres = generator.normal(size=(200, rank)).astype(np.float32)
    vectors = np.empty((n, dimensions), np.float32)
    for start in range(0, n, 50_000):
        rows = slice(start, min(start + 50_000, n))
        size = rows.stop - start
        inside = centres[generator.integers(200, size=size)] + 0.5 * generator.normal(size=(size, rank))
        block = inside.astype(np.float32) @ directions
        block += 0.02 * generator.normal(size=(size, dimensions)).astype(np.float32)
        vectors[rows] = block / np.linalg.norm(block, axis=1, keepdims=True)
    copies = n // 100
    vectors[:copies] = vectors[copies : 2 * copies] + 1e-4 * generator.normal(size=(copies, dimensions))
    return vectors


def timed(n: int) -> None:
    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6

    vectors = clustered(n)
    before = peak()
    start = time.process_time()
    threshold = suggest_threshold(vectors)
    middle = time.process_time()
    found = find_duplicates(vectors, threshold)
    end = time.process_time()
    rows = vectors[:: max(1, n // 200)].astype(np.float32)
    begin = time.process_time()
    for i in range(0, n, 2_000):  # the cheapest brute force: one float32 product and one comparison
        np.nonzero(2 - 2 * (rows @ vectors[i : i + 2_000].T) <= threshold**2)
    brute = (time.process_time() - begin) * n / len(rows) / 2
    print(
        f"{n:,} × 128: threshold {threshold:.3f} in {middle - start:.1f} s, groups in {end - middle:.1f} s of CPU"
        f" ({found.group.max() + 1:,} groups, {(found.group >= 0).sum():,} items); peak {peak():.2f} GB, of these"
        f" {before:.2f} GB before (imports and vectors); brute force in float32 would take {brute:.0f} s"
        f" ({brute / (end - middle):.0f} times)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="digits")
    parser.add_argument("--size", type=int, help="only the time and memory of so many vectors")
    parser.add_argument("--digits", action="store_true", help="instead of Fashion-MNIST")
    parser.add_argument("--backbone", default="cnn", help="mlp or cnn")
    parser.add_argument(
        "--items", type=int, help="of Fashion-MNIST, to train on and to search each; by default all"
    )
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--run", help="a run folder, instead of training")
    options = parser.parse_args()
    if options.size:
        timed(options.size)
        return
    small = options.smoke or options.digits
    source = open_source("digits" if small else str(FASHION))
    settings: dict[str, Any] = {
        "epochs": 10 if small else options.epochs,
        "backbone": "mlp" if small else options.backbone,
    }
    settings["shift"] = 1 if small else 2  # what duplicates may differ in is for the embedder to learn
    order = np.random.default_rng(0).permutation(len(source))
    if "split" in source.columns:
        parts = (order[source.columns["split"][order] == name] for name in ("train", "test"))
        train, test = (source.take(part[: options.items]) for part in parts)
    else:
        train, test = source.take(order[::2]), source.take(order[1::2])
    run = kyori.open_run(options.run) if options.run else kyori.fit(train, loss="triplet", seed=0, **settings)
    pictures, origin, kinds = planted(test.load(np.arange(len(test))), 20 if small else len(test) // 50)
    vectors = run.embedder.encode(pictures)
    flat = pictures.reshape(len(pictures), -1).astype(np.float32) / 255
    for share in (1.0, 2.0):
        report("vectors", vectors, origin, kinds, share)
        report("pixels as vectors", flat, origin, kinds, share)
    report("vectors and pictures", vectors, origin, kinds, 1.0, pictures)
    if options.smoke:
        timed(5_000)


if __name__ == "__main__":
    main()
