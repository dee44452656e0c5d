"""The outcome of a comparison: one cell for each method, data set, fold and seed, ranked with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import ArgumentError, nearest_name
from ..files import write_atomic
from ..report import Trial
from . import document, tables
from .leaks import Leak
from .methods import BASELINES
from .power import power_of
from .ranks import Ranks, rank_methods
from .statistics import (
    Block,
    Comparison,
    Difference,
    Row,
    difference,
    estimate,
    higher_is_better,
    holm,
    is_share,
)
from .verdict import leaderboard, recommend

__all__ = ["Board", "Cell", "Failure"]


@dataclass(frozen=True)
class Cell(Trial):
    """One method trained with one seed; cells of one data set and fold hold the same items in the same order.

    Attributes:
        folder: The cell's run folder, if it was kept.
        dataset: Name of the data set, where a board has several.
        fold: Number of the fold that was held out; None without cross-validation.
        trials: Trials of the hyper-parameter search before the training; 0 without a search.
        memory_bytes: Peak memory of the process that trained; None where it was not measured.
        chosen: What the hyper-parameter search chose, by name; empty without a search, or where the defaults won.
        items_seen: Items that the network was trained on, repeats counted; None where a method knows no epochs.
    """

    folder: Path | None = None
    dataset: str = ""
    fold: int | None = None
    trials: int = 0
    memory_bytes: int | None = None
    chosen: Mapping[str, Any] = field(default_factory=dict)
    items_seen: int | None = None

    @property
    def place(self) -> tuple[str, int]:
        """The data set and fold: cells of one place answer the same queries."""
        return self.dataset, -1 if self.fold is None else self.fold


@dataclass(frozen=True)
class Failure:
    """A cell that is missing from a board, and why.

    Attributes:
        method: Name of the method.
        seed: Seed of the training.
        reason: What went wrong, in one line.
        dataset: Name of the data set.
        fold: Number of the fold; None without cross-validation.
    """

    method: str
    seed: int
    reason: str
    dataset: str = ""
    fold: int | None = None

    def __str__(self) -> str:
        where = [f"seed {self.seed}", *([f"fold {self.fold}"] if self.fold is not None else []), self.dataset]
        return f"missing: {self.method} ({', '.join(word for word in where if word)}): {self.reason}"


@dataclass(frozen=True)
class Board:
    """All cells of a comparison.

    Attributes:
        data: What was compared on, as the user named it.
        measure: The measure that ranks the methods.
        cells: One for each method, data set, fold and seed.
        budget: What every method was given: epochs, items seen, backbone, batch size, …
        command: The command that makes this board again.
        unit: What the intervals resample: ``"query"``, or ``"class"`` where the claim is about unseen classes.
        failures: Cells that should be here and are not, each with its reason.
        sources: What each data set was opened from, by its name among the cells; paths as they were given.
        leaks: What training sees of the test parts, such as copies of its items.
    """

    data: str
    measure: str
    cells: tuple[Cell, ...]
    budget: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    unit: Literal["query", "class"] = "query"
    failures: tuple[Failure, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    leaks: tuple[Leak, ...] = ()

    def __post_init__(self) -> None:
        if not self.cells:
            raise ArgumentError("cells must hold at least one trained method; got none.")
        measures = list(self.cells[0].results)
        if self.measure not in measures:
            raise ArgumentError(
                f"measure '{self.measure}' was not evaluated{nearest_name(self.measure, measures)}"
            )

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods in the order in which they were given."""
        return tuple(dict.fromkeys(cell.method for cell in self.cells))

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets in the order in which they were given."""
        return tuple(dict.fromkeys(cell.dataset for cell in self.cells))

    def of(self, method: str) -> tuple[Cell, ...]:
        """Return the cells of one method, by data set, fold and seed."""
        order = self.datasets
        found = tuple(
            sorted(
                (c for c in self.cells if c.method == method),
                key=lambda c: (order.index(c.dataset), c.place[1], c.seed),
            )
        )
        if not found:
            raise ArgumentError(f"method '{method}' is not on this board{nearest_name(method, self.methods)}")
        return found

    def cell(self, method: str, seed: int, *, dataset: str | None = None, fold: int | None = None) -> Cell:
        """Return the cell of one method and seed, the first that fits where data set or fold are left out."""
        found = [
            cell
            for cell in self.of(method)
            if (dataset is None or cell.dataset == dataset) and (fold is None or cell.fold == fold)
        ]
        for cell in found:
            if cell.seed == seed:
                return cell
        seeds = sorted({cell.seed for cell in found})
        raise ArgumentError(f"method '{method}' has no seed {seed}; it has {', '.join(map(str, seeds))}.")

    @cached_property
    def _rows(self) -> list[Row]:
        rows = [self._row(method) for method in self.methods]
        return sorted(rows, key=lambda row: -np.nan_to_num(self._merit(row), nan=-np.inf))

    def _merit(self, row: Row) -> float:
        return self._sign * row.measures[self.measure].value

    @property
    def _sign(self) -> float:
        return 1.0 if higher_is_better(self.measure) else -1.0

    def rows(self) -> list[Row]:
        """Return one row a method, the best first."""
        return list(self._rows)

    def _row(self, method: str) -> Row:
        cells = self.of(method)
        names = [name for name in cells[0].results if all(name in cell.results for cell in cells)]
        memory = [cell.memory_bytes for cell in cells if cell.memory_bytes is not None]
        return Row(
            method=method,
            measures={
                name: estimate([*self._blocks(method, name).values()], share=is_share(name)) for name in names
            },
            per_seed={name: [cell.results[name].value for cell in cells] for name in names},
            seconds=float(np.mean([cell.seconds for cell in cells])),
            parameters=cells[0].parameters,
            memory_bytes=max(memory) if memory else None,
            trials=max(cell.trials for cell in cells),
        )

    def _blocks(self, method: str, name: str) -> dict[tuple[str, int], Block]:
        """The values of a method by data set and fold: what each item adds, or of each query, else one a training."""
        places: dict[tuple[str, int], list[Cell]] = {}
        for cell in self.of(method):
            places.setdefault(cell.place, []).append(cell)
        return {place: self._block(cells, name) for place, cells in places.items()}

    def _block(self, cells: Sequence[Cell], name: str) -> Block:
        results = [cell.results[name] for cell in cells]
        groups = cells[0].table.labels if self.unit == "class" else None
        known = [r for r in results if r.influence is not None and r.protocol.get("unit") == self.unit]
        shares = [r.influence for r in known if r.influence is not None]
        if len(shares) == len(results) and len({len(values) for values in shares}) == 1:
            chances = [r.chance for r in known if r.chance is not None]
            chance = np.stack(chances) if len(chances) == len(results) else None
            return Block(np.stack(shares), groups, cells[0].dataset, chance=chance)
        per_query = [r.per_query for r in results if r.per_query is not None]
        if len(per_query) == len(results) and len({len(values) for values in per_query}) == 1:
            return Block(np.stack(per_query), groups, cells[0].dataset)
        values = np.array([[r.value] for r in results], dtype=float)
        ends = np.array([[r.value - r.low, r.high - r.value] for r in results], dtype=float)
        below, above = np.sqrt((ends**2).mean(axis=0))
        return Block(values, None, cells[0].dataset, (float(below), float(above)))

    @property
    def winner(self) -> str:
        """The method with the best mean (baselines that learn nothing are left out if there is another)."""
        learned = [row.method for row in self._rows if row.method not in BASELINES]
        return learned[0] if learned else self._rows[0].method

    @cached_property
    def _comparisons(self) -> list[Comparison]:
        winner, order = self.winner, [row.method for row in self._rows]
        pairs = list(combinations(order, 2))
        found = {pair: self._difference(*pair) for pair in pairs}
        corrected = dict(zip(pairs, holm([d.p_value for d in found.values()]), strict=True))
        comparisons = []
        for other in order:
            if other == winner:
                continue
            pair = (winner, other) if (winner, other) in found else (other, winner)
            complete = self._difference(*pair, flips=True)
            comparisons.append(self._comparison(pair, complete, float(corrected[pair]), len(pairs)))
        return comparisons

    def comparisons(self) -> list[Comparison]:
        """Return the winner against each other method, in the order of the rows.

        p-values are corrected for all pairs of methods, not only for those with the winner: it was these data that
        chose the winner, and the best of several equals always looks better than the rest.
        """
        return list(self._comparisons)

    def _difference(self, first: str, second: str, *, flips: bool = False) -> Difference:
        a, b = self._blocks(first, self.measure), self._blocks(second, self.measure)
        common = [place for place in a if place in b]
        return difference(
            [a[place] for place in common],
            [b[place] for place in common],
            share=is_share(self.measure),
            flips=flips,
        )

    def _comparison(self, pair: tuple[str, str], found: Difference, p: float, pairs: int) -> Comparison:
        sign = self._sign if self._sign * found.value >= 0 else -self._sign
        better, worse = pair if sign == self._sign else pair[::-1]
        low, high = sorted((sign * found.low, sign * found.high))
        won, of = self._won(better, worse)
        made = Comparison(
            better=better,
            worse=worse,
            difference=abs(found.value),
            low=low,
            high=high,
            p_value=p,
            seeds_won=won,
            seeds=of,
            effect=sign * found.effect,
            test=found.test,
            p_given_seeds=found.p_given_seeds,
        )
        if made.decided:
            return made
        seeds = min((len(self._seeds(m)) for m in pair if m not in BASELINES), default=1)
        return replace(made, power=power_of(made.difference, found.spread, seeds, pairs))

    def _seeds(self, method: str) -> set[int]:
        return {cell.seed for cell in self.of(method)}

    def _won(self, better: str, worse: str) -> tuple[int, int]:
        """In how many trainings one was better, seed by seed; a single training meets every seed of the other."""
        won = total = 0
        for place in dict.fromkeys(cell.place for cell in self.cells):
            a = [c for c in self.of(better) if c.place == place]
            b = [c for c in self.of(worse) if c.place == place]
            if len(a) == 1 or len(b) == 1:
                a, b = a * (len(b) if len(a) == 1 else 1), b * (len(a) if len(b) == 1 else 1)
                met = list(zip(a, b, strict=True))
            else:
                met = [(x, y) for x in a for y in b if x.seed == y.seed]
            gains = [x.results[self.measure].value - y.results[self.measure].value for x, y in met]
            won += sum(self._sign * gain > 0 for gain in gains)
            total += len(gains)
        return won, total

    def values(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Return the data sets and the mean of each method on each, ``(datasets, methods)``, NaN where none is."""
        table = np.full((len(self.datasets), len(self.methods)), np.nan)
        for j, method in enumerate(self.methods):
            blocks = self._blocks(method, self.measure).values()
            for i, dataset in enumerate(self.datasets):
                table[i, j] = estimate([block for block in blocks if block.dataset == dataset]).value
        return self.datasets, table

    @cached_property
    def _ranks(self) -> Ranks | None:
        _, table = self.values()
        return rank_methods(self.methods, self._sign * table)

    def ranks(self) -> Ranks | None:
        """Return the average ranks over data sets with their tests; None with less than two data sets or methods."""
        return self._ranks

    def recommendation(self, lang: str = "en") -> str:
        """Return the advice in words, in ``"en"`` or ``"ja"``, with how sure it is."""
        grid = len({cell.place for cell in self.cells}) > 1
        return recommend(
            self.rows(),
            self.comparisons(),
            self.measure,
            self.winner,
            lang,
            ranks=self.ranks(),
            unit=self.unit,
            grid=grid,
        )

    def to_json(self, path: str | Path | None = None) -> str:
        """Return (and write, if ``path`` is given) rows, comparisons, cells and budget as JSON."""
        text = document.to_json(self)
        if path is not None:
            write_atomic(Path(path), lambda file: file.write(text.encode()))
        return text

    @classmethod
    def from_json(cls, source: str | Path) -> Board:
        """Open what :meth:`to_json` wrote: a path, or the text itself (which starts with a brace).

        The board has all numbers as they were written, and no vectors or values of queries.

        Raises:
            FileNotFoundError: There is no such file.
            FileFormatError: The text is damaged or is something else.
        """
        return document.from_json(cls, Cell, Failure, source)

    def to_markdown(self) -> str:
        """Return the leaderboard as a Markdown table."""
        return tables.markdown(self)

    def to_latex(self) -> str:
        """Return the leaderboard as a LaTeX table; it needs the package ``booktabs``."""
        return tables.latex(self)

    def to_csv(self) -> str:
        """Return the leaderboard as CSV with all digits: a line for each method and measure."""
        return tables.csv_text(self)

    def __str__(self) -> str:
        return "\n".join(
            [leaderboard(self.rows(), self.measure), *map(str, self.failures), *map(str, self.leaks)]
        )
