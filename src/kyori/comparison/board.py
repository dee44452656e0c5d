"""The outcome of a comparison: one cell for each method and seed, ranked with intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import ArgumentError, nearest_name
from ..files import write_atomic
from ..report import Trial
from .methods import BASELINES
from .statistics import Comparison, Estimate, Row, difference, estimate, holm, unpaired_estimate
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
        cells: One for each method and seed.
        budget: What every method was given: epochs, items seen, backbone, batch size, …
        command: The command that makes this board again.
        unit: What the intervals resample: ``"query"``, or ``"class"`` where the claim is about unseen classes.
        failures: Cells that should be here and are not, each with its reason.
    """

    data: str
    measure: str
    cells: tuple[Cell, ...]
    budget: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    unit: Literal["query", "class"] = "query"
    failures: tuple[Failure, ...] = ()

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

    def of(self, method: str) -> tuple[Cell, ...]:
        """Return the cells of one method, by seed."""
        found = tuple(sorted((c for c in self.cells if c.method == method), key=lambda c: c.seed))
        if not found:
            raise ArgumentError(f"method '{method}' is not on this board{nearest_name(method, self.methods)}")
        return found

    def cell(self, method: str, seed: int) -> Cell:
        """Return the cell of one method and seed."""
        for cell in self.of(method):
            if cell.seed == seed:
                return cell
        raise ArgumentError(
            f"method '{method}' has no seed {seed}; it has {', '.join(str(c.seed) for c in self.of(method))}."
        )

    @cached_property
    def _rows(self) -> list[Row]:
        rows = [self._row(method) for method in self.methods]
        return sorted(rows, key=lambda row: -np.nan_to_num(row.measures[self.measure].value, nan=-np.inf))

    def rows(self) -> list[Row]:
        """Return one row a method, the best first."""
        return list(self._rows)

    def _row(self, method: str) -> Row:
        cells = self.of(method)
        per_seed = {name: [c.results[name].value for c in cells] for name in cells[0].results}
        return Row(
            method=method,
            measures={name: self._estimate(cells, name) for name in per_seed},
            per_seed=per_seed,
            seconds=float(np.mean([c.seconds for c in cells])),
            parameters=cells[0].parameters,
        )

    @property
    def _groups(self) -> np.ndarray | None:
        return self.cells[0].table.labels if self.unit == "class" else None

    def _estimate(self, cells: Sequence[Cell], name: str) -> Estimate:
        results = [c.results[name] for c in cells]
        per_query = [r.per_query for r in results if r.per_query is not None]
        if len(per_query) == len(results):
            return estimate(np.stack(per_query), groups=self._groups)
        return unpaired_estimate([(r.value, r.low, r.high) for r in results])

    @property
    def winner(self) -> str:
        """The method with the highest mean (baselines that learn nothing are left out if there is another)."""
        learned = [row.method for row in self._rows if row.method not in BASELINES]
        return learned[0] if learned else self._rows[0].method

    @cached_property
    def _comparisons(self) -> list[Comparison]:
        winner = self.winner
        found = [self._compare(winner, row.method) for row in self._rows if row.method != winner]
        corrected = holm([c.p_value for c in found])
        return [Comparison(**{**vars(c), "p_value": float(p)}) for c, p in zip(found, corrected, strict=True)]

    def comparisons(self) -> list[Comparison]:
        """Return the winner against each other method, in the order of the rows."""
        return list(self._comparisons)

    def _compare(self, first: str, second: str) -> Comparison:
        a, b = self.of(first), self.of(second)
        if len(b) == 1 and len(a) > 1:  # a baseline has no randomness: it meets every seed of the other
            b = b * len(a)
        pairs = list(zip(a, b, strict=False))
        values = np.array([[x.results[self.measure].value, y.results[self.measure].value] for x, y in pairs])
        gains = values[:, 0] - values[:, 1]
        queries = [(x.results[self.measure].per_query, y.results[self.measure].per_query) for x, y in pairs]
        per_query = [x - y for x, y in queries if x is not None and y is not None]
        if len(per_query) == len(pairs):
            found = difference(np.stack(per_query), groups=self._groups)
        else:
            found = difference(gains[:, None])
        sign = 1.0 if found.value >= 0 else -1.0  # only a baseline can be above the winner
        low, high = sorted((sign * found.low, sign * found.high))
        return Comparison(
            better=first if sign > 0 else second,
            worse=second if sign > 0 else first,
            difference=sign * found.value,
            low=low,
            high=high,
            p_value=found.p_value,
            seeds_won=int((sign * gains > 0).sum()),
            seeds=len(pairs),
        )

    def recommendation(self, lang: str = "en") -> str:
        """Return the advice in words, in ``"en"`` or ``"ja"``, with how sure it is."""
        return recommend(self.rows(), self.comparisons(), self.measure, self.winner, lang)

    def to_json(self, path: str | Path | None = None) -> str:
        """Return (and write, if ``path`` is given) rows, comparisons and budget as JSON."""
        document = {
            "data": self.data,
            "measure": self.measure,
            "unit": self.unit,
            "budget": dict(self.budget),
            "command": self.command,
            "failures": [vars(failure) for failure in self.failures],
            "recommendation": self.recommendation(),
            "rows": [
                {
                    "method": row.method,
                    "seconds": row.seconds,
                    "parameters": row.parameters,
                    "per_seed": {name: _finite(values) for name, values in row.per_seed.items()},
                    "measures": {
                        name: dict(zip(("value", "low", "high"), _finite(vars(e).values()), strict=True))
                        for name, e in row.measures.items()
                    },
                }
                for row in self._rows
            ],
            "comparisons": [
                {**vars(c), "low": _finite([c.low])[0], "high": _finite([c.high])[0], "decided": c.decided}
                for c in self._comparisons
            ],
        }
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
        if path is not None:
            write_atomic(Path(path), lambda file: file.write(text.encode()))
        return text

    def __str__(self) -> str:
        return "\n".join([leaderboard(self.rows(), self.measure), *map(str, self.failures)])


def _finite(values: Any) -> list[float | None]:
    """Replace what JSON cannot say by null."""
    return [float(v) if np.isfinite(v) else None for v in values]
