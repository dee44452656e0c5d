"""Does a calibrated threshold keep its promise? The false-accept rate that was asked for, and the one that came.

An embedding is trained; the items it never saw are the population, of which the true rate of every threshold is
known. Again and again items are drawn from it (with replacement), a threshold is calibrated with them, and the true
rate of that threshold is held against the interval that the calibration gave. `held out` does the same with a split in
two halves that share nothing: there the rate that came has noise of its own, the more the smaller the rest is.
Simulated identities are people that nobody has seen: each draw has others, and the rate is that of yet others.

For each target: the mean rate that came divided by the one asked for, and how often it lies in the interval, with
items (or classes) as units and with binomial intervals, which take pairs that share an item for independent.

    python benchmarks/verification.py                    # digits, Fashion-MNIST and identities, 200 draws
    python benchmarks/verification.py --data digits --draws 40
    python benchmarks/verification.py --smoke            # seconds, to see that it runs
"""

import argparse
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import kyori
from kyori.evaluation import calibrate

FASHION = Path("/usr/share/datasets/fashion-mnist")
TARGETS = (1e-3, 1e-2, 5e-2)
MOST = 4_000  # items of a population
IDENTITIES = ((60, 5), (150, 2), (20, 15))

Draw = tuple[np.ndarray, np.ndarray, Callable[[float], float]]


def held_out(name: str, smoke: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors and labels of items that a freshly trained run never saw."""
    if name == "digits":
        run = kyori.fit(
            "digits",
            loss="triplet",
            epochs=1 if smoke else 15,
            seed=0,
            report=None,
            fractions=(0.4, 0.1, 0.5),
        )
    else:
        source = kyori.open_source(str(FASHION))
        rng = np.random.default_rng(0)
        source = source.take(np.sort(rng.permutation(len(source))[: 2_000 if smoke else 20_000]))
        X, y = source.load(np.arange(len(source))), source.labels
        run = kyori.fit(
            (X, y), loss="triplet", epochs=1 if smoke else 5, seed=0, report=None, fractions=(0.5, 0.1, 0.4)
        )
    assert run.table is not None
    assert run.table.labels is not None
    return run.table.vectors[:MOST], np.unique(run.table.labels, return_inverse=True)[1][:MOST]


def distances_of(vectors: np.ndarray) -> np.ndarray:
    squares = np.square(vectors).sum(axis=1)
    return np.sqrt(np.maximum(squares[:, None] + squares - 2 * vectors @ vectors.T, 0))


def rate(distances: np.ndarray, labels: np.ndarray) -> Callable[[float], float]:
    """Return the share of different pairs below a threshold."""
    different = np.sort(distances[np.triu(labels[:, None] != labels, 1)])
    return lambda threshold: float(np.searchsorted(different, threshold)) / len(different)


def from_population(vectors: np.ndarray, labels: np.ndarray, items: int, draws: int) -> Iterator[Draw]:
    rng = np.random.default_rng(1)
    whole = distances_of(vectors)
    true = rate(whole, labels)
    for _ in range(draws):
        chosen = rng.integers(len(labels), size=items)
        yield whole[np.ix_(chosen, chosen)], labels[chosen], true


def from_halves(vectors: np.ndarray, labels: np.ndarray, items: int, draws: int) -> Iterator[Draw]:
    rng = np.random.default_rng(2)
    whole = distances_of(vectors)
    for _ in range(draws):
        order = rng.permutation(len(labels))
        here, there = order[:items], order[items:]
        yield whole[np.ix_(here, here)], labels[here], rate(whole[np.ix_(there, there)], labels[there])


def from_identities(count: int, each: int, draws: int, most: int) -> Iterator[Draw]:
    """Draw identities: centres in 12 dimensions, some scattered ten times as much as others."""
    rng = np.random.default_rng(3)

    def people(count: int, each: int) -> tuple[np.ndarray, np.ndarray]:
        centres, spread = rng.normal(size=(count, 1, 12)), 0.5 * np.exp(rng.normal(size=(count, 1, 1)) / 2)
        items = centres + spread * rng.normal(size=(count, each, 12))
        return items.reshape(-1, 12).astype(np.float32), np.repeat(np.arange(count), each)

    others, names = people(most // 2, 2)
    true = rate(distances_of(others), names)
    for _ in range(draws):
        vectors, labels = people(count, each)
        yield distances_of(vectors), labels, true


def measure(draws: Iterator[Draw], unit: str) -> None:
    """Print how the promise was kept, target by target."""
    came: dict[float, list[float]] = defaultdict(list)
    inside: dict[tuple[float, str], list[bool]] = defaultdict(list)
    spent = []
    for distances, labels, true in draws:
        pairs = np.stack(np.triu_indices(len(labels), 1), axis=1)
        levels = distances[pairs[:, 0], pairs[:, 1]]
        same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
        of: dict[str, tuple[np.ndarray | None, np.ndarray | None]]
        of = {"item": (pairs, None), "pair": (None, None)}
        if unit == "class":
            of["class"] = (None, labels[pairs])
        for target in TARGETS:
            for name, (items, classes) in of.items():
                start = time.perf_counter()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found = calibrate(levels, same, far=target, items=items, classes=classes)
                spent.append(time.perf_counter() - start)
                inside[target, name].append(found.far.low <= true(found.threshold) <= found.far.high)
            came[target].append(true(found.threshold) / target)
    for target, ratios in came.items():
        shares = "   ".join(
            f"{name} {np.mean(inside[target, name]):.1%}"
            for name in ("class", "item", "pair")
            if (target, name) in inside
        )
        print(
            f"    FAR {target:<6g} came/asked {np.mean(ratios):.2f} (sd {np.std(ratios):.2f})"
            f"   in its interval: {shares}",
            flush=True,
        )
    print(f"    a calibration took {1e3 * np.median(spent):.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        choices=["digits", "fashion", "identities"],
        nargs="*",
        default=["digits", "fashion", "identities"],
    )
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--items", type=int, nargs="*", default=[100, 200, 400], help="to calibrate with")
    parser.add_argument("--smoke", action="store_true")
    asked = parser.parse_args()
    draws, sizes = (2, [100]) if asked.smoke else (asked.draws, asked.items)
    for name in asked.data:
        if name == "identities":
            for count, each in IDENTITIES[: 1 if asked.smoke else None]:
                print(f"identities: calibrated with {count} of {each} items each, {draws} draws")
                measure(from_identities(count, each, draws, 500 if asked.smoke else 2 * MOST), "class")
            continue
        if name == "fashion" and not FASHION.is_dir():
            print("fashion: Debian's package dataset-fashion-mnist is not installed")
            continue
        vectors, labels = held_out(name, asked.smoke)
        print(f"{name}: {len(labels):,} items that were not trained on")
        for items in sizes:
            print(f"  calibrated with {items} items, {draws} draws from the population")
            measure(from_population(vectors, labels, items, draws), "item")
        for items in sizes[1:2]:
            splits = min(draws, 100)
            print(
                f"  calibrated with {items} items, held out: the other {len(labels) - items:,}, {splits} splits"
            )
            measure(from_halves(vectors, labels, items, splits), "item")


if __name__ == "__main__":
    main()
