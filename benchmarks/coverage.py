"""How often the 95 % intervals hold the truth, and how often tests reject when nothing differs.

Every data set is drawn from a truth that is known. Beside Kyori's intervals stand what other programs
print: the percentile bootstrap over seeds and queries together, and mean ± 1.96 standard errors over seeds.

    python benchmarks/coverage.py                 # 1,000 data sets a line, a few minutes
    python benchmarks/coverage.py --smoke         # 8 data sets a line, to see that it runs
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from scipy.stats import binom

from kyori import VectorTable
from kyori.evaluation import evaluate
from kyori.evaluation.bootstrap import Bootstrap

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from oracles.simulations import SCENARIOS, TABLES, Scenario, family_wise, measure


def others(scenario: Scenario, repeats: int) -> tuple[float, float]:
    """Coverage of the two-level percentile bootstrap, and of mean ± 1.96 standard errors over trainings."""
    generator, percentile, plain = np.random.default_rng(0), 0, 0
    for _ in range(repeats):
        values = np.stack([block.values for block in scenario.draw(generator)[0]])  # folds, seeds, queries
        _, s, q = values.shape
        drawn = np.zeros(200)
        for fold in values:
            seeds = generator.multinomial(s, np.full(s, 1 / s), 200) / s
            queries = generator.multinomial(q, np.full(q, 1 / q), 200) / q
            drawn += ((queries @ fold.T) * seeds).sum(axis=1) / len(values)
        low, high = np.quantile(drawn, [0.025, 0.975])
        percentile += low <= 0 <= high
        trainings = values.mean(axis=2).ravel()
        if len(trainings) > 1:
            error = 1.96 * trainings.std(ddof=1) / np.sqrt(len(trainings))
            plain += abs(trainings.mean()) <= error
    return percentile / repeats, plain / repeats if scenario.seeds * scenario.folds > 1 else float("nan")


def boards(repeats: int) -> None:
    """Rows and comparisons of a board."""
    print(f"\nboards, {repeats} data sets a line")
    print(
        f"{'scenario':<30} {'mean':>6} {'differ.':>8} {'rejected':>9}   {'percentile':>10} {'± 1.96 s.e.':>11}"
    )
    for name, scenario in SCENARIOS.items():
        rates = measure(scenario, repeats, flips=False)
        percentile, plain = others(scenario, repeats)
        print(
            f"{name:<30} {rates.mean:6.3f} {rates.difference:8.3f} {rates.rejected:9.3f}   {percentile:10.3f}"
            f" {plain:11.3f}",
            flush=True,
        )


def families(repeats: int) -> None:
    """False discoveries against the best of equal methods."""
    print("\nthe best of m equal methods is called better than another")
    print(f"{'scenario':<30} {'m':>3} {'all pairs':>10} {'winner only':>12}")
    for name in ("1 seed, queries", "3 seeds, queries", "3 seeds far apart", "3 seeds, 12 classes"):
        for methods in (2, 4, 8):
            rates = [
                family_wise(SCENARIOS[name], methods, max(2, repeats // methods), all_pairs=pairs)
                for pairs in (True, False)
            ]
            print(f"{name:<30} {methods:3d} {rates[0]:10.3f} {rates[1]:12.3f}", flush=True)


def shares() -> None:
    """Shares near 1, summed exactly over all outcomes."""
    print("\na share of n queries, exact")
    print(f"{'n':>6} {'truth':>7} {'interval':>9} {'percentile':>11}")
    for n in (50, 200, 1000, 10_000):
        for truth in (0.5, 0.9, 0.99, 0.995, 0.999):
            hits = np.arange(n + 1)
            chance = binom.pmf(hits, n, truth)
            resamples, ours, theirs = Bootstrap(n, 1, 0), 0.0, 0.0
            for k in hits[chance > 1e-7]:
                low, high = resamples.mean((np.arange(n) < k).astype(float))
                ours += chance[k] * (low <= truth <= high)
                low, high = binom.ppf([0.025, 0.975], n, k / n) / n  # what infinitely many resamples give
                theirs += chance[k] * (low <= truth <= high)
            print(f"{n:6d} {truth:7.3f} {ours:9.3f} {theirs:11.3f}")


def tables(repeats: int) -> None:
    """`evaluate` on tables that are their own gallery: a new draw of all items, two equal methods; then a gallery."""
    names = ["recall@1", "recall@5", "map@r", "mrr", "map", "ndcg@10", "auc", "eer", "tar@far=1e-2"]
    print(f"\nevaluate, {repeats} tables a line: the mean of a new table held; two equal methods told apart")
    print(f"{'tables':<28} " + " ".join(f"{name:>14}" for name in names))
    for name, scenario in TABLES.items():
        found = scenario.measure(names, repeats)
        cells = (f"{held:.3f} / {rejected:.3f}" for held, rejected in found.values())
        print(f"{name:<28} " + " ".join(f"{cell:>14}" for cell in cells), flush=True)
    names = ["recall@1", "map@r", "mrr"]
    generator, fixed = np.random.default_rng(0), np.random.default_rng(1).normal(size=(10, 8))

    def draw(n: int, first: int) -> VectorTable:
        labels = generator.integers(10, size=n)
        vectors = fixed[labels] + 0.9 * generator.normal(size=(n, 8))
        return VectorTable(ids=np.arange(first, first + n), vectors=vectors, labels=labels)

    gallery = draw(500, 10_000)
    truth = evaluate(draw(20_000, 20_000), gallery=gallery, measures=names, bootstrap=0)
    found = [evaluate(draw(200, 0), gallery=gallery, measures=names, bootstrap=1) for _ in range(repeats)]
    print("200 new queries to a gallery of 500: the mean over all queries held")
    for name in names:
        print(f"{name:<28} {np.mean([r[name].low <= truth[name].value <= r[name].high for r in found]):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=1000, help="data sets a line")
    parser.add_argument("--only", choices=("boards", "families", "shares", "tables"))
    parser.add_argument("--smoke", action="store_true", help="8 data sets a line")
    options = parser.parse_args()
    repeats = 8 if options.smoke else options.repeats
    start = time.perf_counter()
    parts = {
        "boards": lambda: boards(repeats),
        "families": lambda: families(repeats),
        "shares": shares,
        "tables": lambda: tables(max(4, repeats // 3)),
    }
    for name, run in parts.items():
        if options.only in (None, name):
            run()
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
