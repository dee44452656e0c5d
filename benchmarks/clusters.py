"""Clusters of unseen characters: do the pictures of one kanji that the network never saw come together?

A network is trained on some characters, a threshold is calibrated on others, and the pictures of further ones are
clustered by each algorithm, on the learned vectors and on raw pixels. NMI and B-cubed F against the characters, the
latter with its 95 % interval over resampled characters. k-means is told the number of characters; "agglomerative" finds
it by its threshold; "communities" and "hdbscan" have nothing but their defaults (hdbscan: clusters of at least 5).

    python benchmarks/kanji.py --render kanji.npz
    python benchmarks/clusters.py kanji.npz                     # 1,000 characters to train on, 200 to cluster
    python benchmarks/clusters.py kanji.npz --backbone cnn --epochs 3
    python benchmarks/clusters.py --smoke                       # digits: six to train on, four to cluster
"""

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import normalized_mutual_info_score

import kyori
from kyori import VectorTable
from kyori.data import open_source
from kyori.quality import cluster
from kyori.quality.agreement import b_cubed, with_singles

REPLICATES = 1000


def read(path: Path | None) -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """Pictures (n, h, w) and characters (n,) of a file that kanji.py rendered, or the digits."""
    if path is None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        return (digits.images * 15).astype(np.uint8), digits.target.astype(np.str_)
    with np.load(path) as file:
        return file["images"], file["labels"]


def parts(labels: NDArray[np.str_], sizes: tuple[int, int, int], seed: int) -> list[NDArray[np.int64]]:
    """Rows of the characters to train on, to calibrate with and to cluster: no character is in two."""
    characters = np.random.default_rng(seed).permutation(np.unique(labels))
    if sum(sizes) > len(characters):
        raise SystemExit(f"{sum(sizes)} characters are asked for; the file has {len(characters)}")
    cuts = np.cumsum(sizes)
    return [
        np.flatnonzero(np.isin(labels, characters[cut - size : cut]))
        for cut, size in zip(cuts, sizes, strict=True)
    ]


def f_of(labels: NDArray[np.str_], codes: NDArray[np.int64]) -> tuple[float, float, float]:
    """B-cubed F with its 95 % interval over resampled characters, the clusters being what they are."""
    names, truth = np.unique(labels, return_inverse=True)
    found = np.unique(codes, return_inverse=True)[1]
    together = np.zeros((len(names), found.max() + 1))
    np.add.at(together, (truth, found), 1)
    shared = together[truth, found]
    precision = np.bincount(truth, shared / together.sum(axis=0)[found])
    recall = np.bincount(truth, shared / together.sum(axis=1)[truth])
    items = np.bincount(truth)
    generator = np.random.default_rng(0)  # the same resamples for every algorithm
    drawn = generator.integers(len(names), size=(REPLICATES, len(names)))
    means = [values[drawn].sum(axis=1) / items[drawn].sum(axis=1) for values in (precision, recall)]
    low, high = np.quantile(2 * means[0] * means[1] / (means[0] + means[1]), [0.025, 0.975])
    return b_cubed(truth, found), float(low), float(high)


def report(name: str, labels: NDArray[np.str_], codes: NDArray[np.int64], seconds: float) -> None:
    own = with_singles(codes)
    value, low, high = f_of(labels, own)
    print(
        f"| {name} | {len(np.unique(codes[codes >= 0]))} | {normalized_mutual_info_score(labels, own):.3f}"
        f" | {value:.3f} ({low:.3f}–{high:.3f}) | {(codes < 0).mean():.3f} | {seconds:.1f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="?", help="the file that kanji.py --render wrote")
    parser.add_argument("--smoke", action="store_true", help="digits, seconds")
    parser.add_argument(
        "--characters", type=int, nargs=3, default=(1000, 100, 200), help="train calibrate cluster"
    )
    parser.add_argument("--loss", default="triplet")
    parser.add_argument("--backbone", default="mlp")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.smoke:
        options.characters, options.epochs = (4, 2, 4), 5
    elif options.data is None:
        parser.error("DATA is missing: python benchmarks/kanji.py --render kanji.npz makes it")
    images, labels = read(options.data)
    train, calibrate, test = parts(labels, tuple(options.characters), options.seed)
    start = time.process_time()
    embedder = kyori.fit(
        open_source((images[train], labels[train])), loss=options.loss, backbone=options.backbone,
        epochs=options.epochs, seed=options.seed,
    ).embedder  # fmt: skip
    print(
        f"{len(train):,} pictures of {options.characters[0]:,} characters to train on ({options.loss},"
        f" {options.backbone}, {options.epochs} epochs, {time.process_time() - start:.0f} CPU s); {len(test):,}"
        f" of {options.characters[2]:,} others to cluster\n\n"
        "| vectors, algorithm | clusters | NMI | B-cubed F | in none | CPU s |\n|---|---:|---:|---:|---:|---:|"
    )
    algorithms: dict[str, dict[str, Any]] = {
        "kmeans": {"clusters": options.characters[2]},
        "agglomerative": {},
        "hdbscan": {"min_size": 5},
        "communities": {},
    }
    flat = images.reshape(len(images), -1).astype(np.float32) / 255
    spaces = {
        "pixels": (flat[calibrate], flat[test]),
        "learned": (embedder.encode(images[calibrate][..., None]), embedder.encode(images[test][..., None])),
    }
    for space, (known, rows) in spaces.items():
        reference, table = VectorTable(vectors=known, labels=labels[calibrate]), VectorTable(vectors=rows)
        for name, settings in algorithms.items():
            start = time.process_time()
            found = cluster(table, name, reference=reference, seed=options.seed, **settings)
            report(f"{space}, {name}", labels[test], found.clusters, time.process_time() - start)


if __name__ == "__main__":
    main()
