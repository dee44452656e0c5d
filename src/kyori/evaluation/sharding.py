"""One evaluation on several ranks: each measures its share of the queries, and the parts are put together."""

import json
import os
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ..distances import Distance, check_distance
from ..errors import ArgumentError, DataError, FileFormatError, nearest_name
from ..files import write_atomic
from ..results import Results
from ..vectors import VectorTable
from .context import NoPositive, Unit
from .influence import Effects
from .measures import RETRIEVAL, Measure, plan_measures
from .protocol import finish, prepare
from .retrieval import Retrieval, retrieve

__all__ = ["Shard", "evaluate_shard", "merge_shards"]

_DEFAULT = ("recall", "r-precision", "map@r", "map", "ndcg@10", "mrr")


@dataclass(frozen=True, eq=False)
class Shard:
    """The retrieval measures of some of the queries.

    Attributes:
        rank: Which part.
        world: How many parts there are.
        values: ``(b,)`` of each query, by measure.
        positives: ``(b,)`` number of positives of each query.
        tied: Queries whose values depend on how ties are broken.
        about: What must be the same in all parts: measures, metric, sizes, unit.
        effects: What each item (or class) does to these queries, for the intervals; None with a gallery.
    """

    rank: int
    world: int
    values: dict[str, NDArray[np.float64]]
    positives: NDArray[np.int64]
    tied: int
    about: dict[str, Any]
    effects: Effects | None = None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the part as ``.npz``, atomically, for ranks that share only a disk."""
        about = json.dumps({"rank": self.rank, "world": self.world, "tied": self.tied, "about": self.about})
        arrays: dict[str, Any] = {f"value {name}": values for name, values in self.values.items()}
        if self.effects is not None:
            arrays |= {f"gain {name}": gains for name, gains in self.effects.gains.items()}
            arrays |= {f"signed {name}": signed for name, signed in self.effects.signed.items()}
            arrays["lost"] = self.effects.lost
        write_atomic(
            path, lambda file: np.savez(file, positives=self.positives, about=np.array(about), **arrays)
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Shard":
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            FileFormatError: It is damaged or something else.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path} is not a file; expected a part of an evaluation.")
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as data:
                about = json.loads(str(data["about"]))
                values = {name[6:]: data[name] for name in data.files if name.startswith("value ")}
                effects = None
                if "lost" in data.files:
                    gains = {name: data[f"gain {name}"] for name in values}
                    signed = {name: data[f"signed {name}"] for name in values}
                    effects = Effects(gains, signed, data["lost"])
                return cls(
                    about["rank"], about["world"], values, data["positives"], about["tied"], about["about"],
                    effects,
                )  # fmt: skip
        except (ValueError, KeyError, OSError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise FileFormatError(
                f"{path} is no part of an evaluation, or a damaged one: {error!r}"
            ) from error


def evaluate_shard(
    table: VectorTable,
    *,
    rank: int,
    world: int,
    gallery: VectorTable | None = None,
    metric: Distance = "euclidean",
    measures: Iterable[str] = _DEFAULT,
    ks: Sequence[int] = (1, 5, 10),
    unit: Unit = "query",
    memory: int | None = None,
    rules: bool = True,
) -> Shard:
    """Measure the queries of one rank: contiguous shares of the table, equal to one query.

    Every rank has the table; only retrieval measures can be computed in parts. ``unit`` must be that of
    :func:`merge_shards`.

    Raises:
        ArgumentError: ``rank`` is not below ``world``, ``unit`` is unknown, or a measure is not one of retrieval.
    """
    check_distance(metric)
    if unit not in get_args(Unit):
        raise ArgumentError(f"unknown unit {unit!r}{nearest_name(unit, get_args(Unit))}")
    if not 0 <= rank < world:
        raise ArgumentError(f"rank must be from 0 to {world - 1} for world {world}; got {rank}.")
    plan = _plan(measures, ks)
    ready = prepare(table, gallery, metric, rules)
    n = len(ready.queries)
    rows = slice(n * rank // world, n * (rank + 1) // world)
    effects = unit if ready.task.within else None
    found = retrieve(ready.task, plan, rows=rows, memory=memory, effects=effects)
    about = {
        "measures": [measure.key for measure in plan], "metric": metric, "n": n, "gallery": ready.gallery,
        "rules": ready.rules, "unit": effects,
    }  # fmt: skip
    return Shard(rank, world, found.values, found.positives, found.tied, about, found.effects)


def merge_shards(
    shards: Iterable[Shard],
    table: VectorTable,
    *,
    gallery: VectorTable | None = None,
    unit: Unit = "query",
    bootstrap: int = 1000,
    seed: int = 0,
    no_positive: NoPositive = "skip",
    rules: bool = True,
) -> Results:
    """Put the parts of all ranks together, in any order: the results of :func:`evaluate` on one rank, bit for bit.

    Raises:
        DataError: A part is missing, occurs twice, or is of another evaluation.
    """
    parts = sorted(shards, key=lambda shard: shard.rank)
    if not parts:
        raise DataError("there are no shards to merge.")
    world, about = parts[0].world, parts[0].about
    if [part.rank for part in parts] != list(range(world)):
        raise DataError(
            f"shards must be those of the ranks 0 … {world - 1}, each once; got {[p.rank for p in parts]}."
        )
    ready = prepare(table, gallery, about["metric"], rules)
    mine = {**about, "n": len(ready.queries), "gallery": ready.gallery, "rules": ready.rules}
    for part in parts:
        if part.world != world or part.about != mine:
            raise DataError(
                f"the shard of rank {part.rank} is of another evaluation: {part.about}, expected {mine}."
            )
    if about["unit"] not in (None, unit):
        raise DataError(
            f"the shards were measured for intervals by {about['unit']}; got unit={unit!r}. Pass unit={unit!r} to"
            " evaluate_shard too."
        )
    effects = [part.effects for part in parts if part.effects is not None]
    found = Retrieval(
        {key: np.concatenate([part.values[key] for part in parts]) for key in about["measures"]},
        np.concatenate([part.positives for part in parts]),
        sum(part.tied for part in parts),
        Effects.total(effects) if effects and bootstrap else None,
    )
    provenance = {
        "kyori": version("kyori"), "metric": about["metric"], "seed": seed, "bootstrap": bootstrap, "unit": unit,
        "n": len(ready.queries), "gallery": ready.gallery, "dimensions": table.vectors.shape[1],
        "classes": ready.classes, "ranks": world,
    }  # fmt: skip
    plan = plan_measures(about["measures"], (), (), None)
    return finish(ready, plan, provenance, unit, bootstrap, seed, no_positive, {"retrieval": found})


def _plan(measures: Iterable[str], ks: Sequence[int]) -> tuple[Measure, ...]:
    plan = plan_measures(measures, ks, (), None)
    other = [measure.key for measure in plan if measure.family not in RETRIEVAL]
    if other:
        raise ArgumentError(
            f"only retrieval measures can be computed in parts; got {', '.join(other)}. Measure them on one rank."
        )
    return plan
