"""Boards and data sets drawn from a truth that is known, for measuring how often intervals hold it."""

from dataclasses import dataclass

import numpy as np

from kyori.comparison.statistics import Block, difference, estimate, holm


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
