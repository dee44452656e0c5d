"""Does a calibrated threshold keep its promise? The false-accept rate that was asked for, and the one that came.

An embedding is trained; items it never saw are split again and again into some to calibrate with and others to verify.
For each target: the mean rate that came divided by the one asked for, and how often it lies in the interval that the
calibration gave, once with the intervals over items that Kyori gives for labelled data, and once with binomial ones,
which take pairs that share an item for independent. With `--classes` the two sides have no class in common.

    python benchmarks/verification.py                    # digits and Fashion-MNIST, 100 splits
    python benchmarks/verification.py --data digits --splits 40
    python benchmarks/verification.py --smoke            # seconds, to see that it runs
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np

import kyori
from kyori.evaluation import calibrate
from kyori.recognition import pair_distances, pairs_of

FASHION = Path("/usr/share/datasets/fashion-mnist")
TARGETS = (1e-3, 1e-2, 5e-2)


def held_out(name: str, smoke: bool) -> kyori.VectorTable:
    """Vectors of items that a freshly trained run never saw."""
    if name == "digits":
        options = {"epochs": 1 if smoke else 15, "fractions": (0.4, 0.1, 0.5)}
        run = kyori.fit("digits", loss="triplet", seed=0, report=None, **options)
    else:
        source = kyori.open_source(str(FASHION))
        rng = np.random.default_rng(0)
        source = source.take(np.sort(rng.permutation(len(source))[: 2_000 if smoke else 20_000]))
        X, y = source.load(np.arange(len(source))), source.labels
        run = kyori.fit(
            (X, y), loss="triplet", epochs=1 if smoke else 5, seed=0, report=None, fractions=(0.5, 0.1, 0.4)
        )
    assert run.table is not None
    return run.table


def measure(table: kyori.VectorTable, items: int, splits: int, by_class: bool) -> None:
    """Print how the promise was kept, target by target."""
    rng = np.random.default_rng(1)
    rows: dict[float, list[tuple[float, bool, bool]]] = {target: [] for target in TARGETS}
    for _ in range(splits):
        order = rng.permutation(len(table))
        if by_class:
            classes = rng.permutation(np.unique(table.labels))
            inside = np.isin(table.labels[order], classes[: len(classes) // 2])
            here, there = table.take(order[inside][:items]), table.take(order[~inside])
        else:
            here, there = table.take(order[:items]), table.take(order[items:])
        pairs, same = pairs_of(here, limit=200_000)
        distances = pair_distances(here.vectors, pairs, "euclidean")
        others, same_there = pairs_of(there, limit=2_000_000)
        different = np.sort(pair_distances(there.vectors, others, "euclidean")[~same_there])
        for target in TARGETS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = calibrate(distances, same, far=target, items=pairs, bootstrap=200)
                binomial = calibrate(distances, same, far=target, bootstrap=10)
            came = np.searchsorted(different, found.threshold) / len(different)
            inside_items = found.far.low <= came <= found.far.high
            rows[target].append((came, inside_items, binomial.far.low <= came <= binomial.far.high))
    for target, found_rows in rows.items():
        came = np.array([row[0] for row in found_rows])
        over_items, over_pairs = (np.mean([row[i] for row in found_rows]) for i in (1, 2))
        print(
            f"  FAR {target:<6g} came/asked {came.mean() / target:.2f} (sd {came.std() / target:.2f})"
            f"   in its interval {over_items:.0%}   (binomial interval {over_pairs:.0%})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=["digits", "fashion"], nargs="*", default=["digits", "fashion"])
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--items", type=int, nargs="*", default=[200, 400], help="items to calibrate with")
    parser.add_argument("--classes", action="store_true", help="calibrate and verify with different classes")
    parser.add_argument("--smoke", action="store_true")
    asked = parser.parse_args()
    for name in asked.data:
        if name == "fashion" and not FASHION.is_dir():
            print("fashion: Debian's package dataset-fashion-mnist is not installed")
            continue
        start = time.perf_counter()
        table = held_out(name, asked.smoke)
        print(f"{name}: {len(table):,} items that were not trained on ({time.perf_counter() - start:.0f} s)")
        for items in [100] if asked.smoke else asked.items:
            print(f" calibrated with {items} items, {2 if asked.smoke else asked.splits} splits")
            measure(table, items, 2 if asked.smoke else asked.splits, asked.classes)


if __name__ == "__main__":
    main()
