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
from oracles.simulations import SCENARIOS, Scenario, family_wise, measure


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
    """`evaluate` on tables of vectors, for two questions: other queries against this gallery, and all items anew."""
    print(f"\nevaluate, {repeats} tables a line: coverage of new queries to this gallery, of a new table")
    print(f"{'unit':<22} {'measure':<12} {'this gallery':>12} {'new table':>10}")
    generator = np.random.default_rng(0)
    fixed = np.random.default_rng(1).normal(size=(10, 8))
    names = ["recall@1", "map@r", "mrr"]

    def draw(n: int, first: int = 0) -> VectorTable:
        labels = generator.integers(10, size=n)
        vectors = fixed[labels] + 0.9 * generator.normal(size=(n, 8))
        return VectorTable(ids=np.arange(first, first + n), vectors=vectors, labels=labels)

    found, truths = [], []
    for _ in range(repeats):
        table = draw(200)
        found.append(evaluate(table, measures=names, bootstrap=1))
        truths.append(evaluate(draw(2000, 10_000), gallery=table, measures=names, bootstrap=0))
    for name in names:
        new = np.mean([results[name].value for results in found])
        here = np.mean(
            [r[name].low <= t[name].value <= r[name].high for r, t in zip(found, truths, strict=True)]
        )
        anew = np.mean([r[name].low <= new <= r[name].high for r in found])
        print(f"{'query, 200 of 10':<22} {name:<12} {here:12.3f} {anew:10.3f}", flush=True)
    found = []
    gallery = draw(500, 10_000)
    truth = evaluate(draw(20_000, 20_000), gallery=gallery, measures=names, bootstrap=0)
    for _ in range(repeats):
        found.append(evaluate(draw(200), gallery=gallery, measures=names, bootstrap=1))
    for name in names:
        here = np.mean([r[name].low <= truth[name].value <= r[name].high for r in found])
        print(f"{'query, a gallery':<22} {name:<12} {here:12.3f} {'–':>10}", flush=True)
    for classes, each in ((12, 20), (40, 8)):
        found = []
        for _ in range(repeats):
            labels = np.repeat(np.arange(classes), each)
            vectors = generator.normal(size=(classes, 8))[labels] + 0.9 * generator.normal(
                size=(len(labels), 8)
            )
            table = VectorTable(vectors=vectors, labels=labels)
            found.append(evaluate(table, measures=names, unit="class", bootstrap=1))
        for name in names:
            new = np.mean([results[name].value for results in found])
            anew = np.mean([r[name].low <= new <= r[name].high for r in found])
            print(f"{f'class, {classes} of {each}':<22} {name:<12} {'–':>12} {anew:10.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=1000, help="data sets a line")
    parser.add_argument("--smoke", action="store_true", help="8 data sets a line")
    options = parser.parse_args()
    repeats = 8 if options.smoke else options.repeats
    start = time.perf_counter()
    boards(repeats)
    families(repeats)
    shares()
    tables(max(4, repeats // 3))
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
