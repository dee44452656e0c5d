"""Boards and data sets drawn from a truth that is known, for measuring how often intervals hold it."""

from dataclasses import dataclass

import numpy as np

from kyori import VectorTable
from kyori.comparison.statistics import Block, difference, estimate, holm
from kyori.evaluation import evaluate


@dataclass(frozen=True)
class Scenario:
    """How values are drawn: 0 + luck of a training + difficulty of a class + of a query + luck of both.

    The standard deviations are of ``training``, ``fold``, ``group`` (class), ``query`` and ``answer``; ``own`` is the
    part of a query's and class's difficulty that each method has for itself.
    """

    seeds: int = 3
    queries: int = 150
    classes: int = 0
    equal: bool = True
    folds: int = 1
    datasets: int = 1
    training: float = 0.0
    fold: float = 0.0
    group: float = 0.0
    query: float = 0.3
    answer: float = 0.1
    own: float = 0.5

    def draw(self, generator: np.random.Generator, methods: int = 1) -> list[list[Block]]:
        """The blocks of each method; all have the same true mean, 0."""
        made: list[list[Block]] = [[] for _ in range(methods)]
        for dataset in range(self.datasets):
            for _ in range(self.folds):
                classes = self._classes(generator)
                shared = self._difficulty(generator, classes)
                for blocks in made:
                    values = shared + self.own * self._difficulty(generator, classes)
                    values = values + generator.normal(0, self.training, (self.seeds, 1))
                    values = values + generator.normal(0, self.fold)
                    values = values + generator.normal(0, self.answer, (self.seeds, self.queries))
                    blocks.append(Block(values, classes, f"data {dataset}"))
        return made

    def _classes(self, generator: np.random.Generator) -> np.ndarray | None:
        if not self.classes:
            return None
        if self.equal:
            return np.arange(self.queries) % self.classes
        weights = generator.gamma(2, size=self.classes)
        return generator.choice(self.classes, size=self.queries, p=weights / weights.sum())

    def _difficulty(self, generator: np.random.Generator, classes: np.ndarray | None) -> np.ndarray:
        values = generator.normal(0, self.query, self.queries)
        return values if classes is None else values + generator.normal(0, self.group, self.classes)[classes]


#: What a reader meets: name, scenario.
SCENARIOS = {
    "1 seed, queries": Scenario(seeds=1),
    "3 seeds alike, queries": Scenario(training=0.0),
    "3 seeds, queries": Scenario(training=0.02),
    "3 seeds far apart": Scenario(training=0.1),
    "5 seeds far apart": Scenario(seeds=5, training=0.1),
    "3 seeds, 12 classes": Scenario(training=0.02, classes=12, group=0.2),
    "3 seeds, 40 unequal classes": Scenario(training=0.02, classes=40, equal=False, group=0.2),
    "1 seed, 5 folds": Scenario(seeds=1, folds=5, training=0.05),
    "3 seeds, 5 folds of classes": Scenario(folds=5, training=0.05, fold=0.03, classes=12, group=0.2),
    "3 seeds, 3 folds of classes": Scenario(folds=3, training=0.05, classes=12, group=0.2),
    "3 seeds, 4 data sets": Scenario(datasets=4, training=0.05),
}


@dataclass(frozen=True)
class Rates:
    """Shares of data sets in which the interval of a mean and of a difference held the truth, and a test rejected."""

    mean: float
    difference: float
    rejected: float
    given_seeds: float


def measure(scenario: Scenario, repeats: int, *, flips: bool = True, seed: int = 0) -> Rates:
    """Draw two equal methods so many times."""
    generator = np.random.default_rng(seed)
    counts = np.zeros(4)
    for _ in range(repeats):
        a, b = scenario.draw(generator, 2)
        own, gap = estimate(a), difference(a, b, flips=flips)
        counts += (
            own.low <= 0 <= own.high,
            gap.low <= 0 <= gap.high,
            gap.p_value < 0.05,
            gap.p_given_seeds < 0.05,
        )
    return Rates(*(counts / repeats))


def family_wise(
    scenario: Scenario, methods: int, repeats: int, *, all_pairs: bool = True, seed: int = 0
) -> float:
    """Share of data sets in which any of equal methods was found worse than the one that came out best."""
    generator = np.random.default_rng(seed)
    wrong = 0
    for _ in range(repeats):
        drawn = scenario.draw(generator, methods)
        best = int(np.argmax([estimate(blocks).value for blocks in drawn]))
        pairs = [(i, j) for i in range(methods) for j in range(i + 1, methods) if all_pairs or best in (i, j)]
        corrected = holm([difference(drawn[i], drawn[j], flips=False).p_value for i, j in pairs])
        wrong += any(p < 0.05 and best in pair for pair, p in zip(pairs, corrected, strict=True))
    return wrong / repeats


@dataclass(frozen=True)
class Tables:
    """Tables of items that are queries and gallery at once, embedded by two methods that are equally good.

    Items scatter about their class by ``spread``; ``own`` is the part of that which each method has for itself, as a
    standard deviation. With ``unit="class"`` each table has classes of its own, else all tables have the same ones.
    """

    n: int = 200
    classes: int = 10
    spread: float = 0.9
    own: float = 0.7
    unit: str = "query"
    d: int = 8

    def draw(self, generator: np.random.Generator) -> tuple[VectorTable, VectorTable]:
        fixed = np.random.default_rng(1).normal(size=(self.classes, self.d))
        if self.unit == "class":
            labels = np.repeat(np.arange(self.classes), self.n // self.classes)
            centres = generator.normal(size=fixed.shape)
        else:
            labels, centres = generator.integers(self.classes, size=self.n), fixed
        shape = len(labels), self.d
        shared = centres[labels] + np.sqrt(1 - self.own**2) * self.spread * generator.normal(size=shape)
        first, second = (shared + self.own * self.spread * generator.normal(size=shape) for _ in range(2))
        return VectorTable(vectors=first, labels=labels), VectorTable(vectors=second, labels=labels)

    def measure(self, names: list[str], repeats: int, *, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Share of tables whose interval held the mean over all, and of pairs of equal methods told apart."""
        generator = np.random.default_rng(seed)
        found, rejected = [], dict.fromkeys(names, 0)
        for _ in range(repeats):
            tables = self.draw(generator)
            both = [evaluate(table, measures=names, unit=self.unit, bootstrap=1) for table in tables]
            found.append(both[0])
            groups = tables[0].labels if self.unit == "class" else None
            for name in names:
                blocks = []
                for results in both:
                    shares, chance = results[name].influence[None], results[name].chance
                    blocks.append(Block(shares, groups, chance=None if chance is None else chance[None]))
                gap = difference([blocks[0]], [blocks[1]], share=True, flips=False)
                rejected[name] += gap.p_value < 0.05
        held = {}
        for name in names:
            truth = np.mean([results[name].value for results in found])
            held[name] = float(np.mean([r[name].low <= truth <= r[name].high for r in found]))
        return {name: (held[name], rejected[name] / repeats) for name in names}


#: One table that is query and gallery at once: name, how tables are drawn.
TABLES = {
    "200 items, 10 classes": Tables(),
    "400 items, 40 classes": Tables(400, 40, 0.7),
    "1,000 items, 50 classes": Tables(1000, 50, 0.8),
    "240 items, 30 new classes": Tables(240, 30, 0.7, unit="class"),
    "240 items, 12 new classes": Tables(240, 12, 0.9, unit="class"),
}
