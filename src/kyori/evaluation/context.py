"""What the four kinds of measures share during one evaluation."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from ..results import Result
from .bootstrap import Bootstrap
from .measures import Measure
from .task import Task

if TYPE_CHECKING:
    from .per_query import PerQueryFile
    from .retrieval import Retrieval

__all__ = ["Context", "NoPositive", "Unit", "unknown"]

NoPositive = Literal["skip", "error", "zero"]
Unit = Literal["query", "class"]


@dataclass(frozen=True, eq=False)
class Context:
    """One evaluation: the task and its options go in, notes (to become warnings) and curves come out."""

    task: Task
    resamples: Bootstrap
    seed: int
    no_positive: NoPositive
    block_rows: int | None = None
    memory: int | None = None
    per_query: "PerQueryFile | None" = None
    retrieval: "Retrieval | None" = None  # when it was computed already, on several ranks
    notes: list[str] = field(default_factory=list)
    curves: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict)

    @property
    def effects(self) -> Unit | None:
        """Whose effects on the other queries the intervals need; None where the gallery is another table."""
        if self.resamples.replicates == 0 or not self.task.within:
            return None
        return "query" if self.resamples.classes is None else "class"

    @property
    def protocol(self) -> dict[str, Any]:
        unit = "query" if self.resamples.classes is None else "class"
        gallery = "the other items" if self.task.within else "a gallery"
        return {"metric": self.task.metric, "unit": unit, "against": gallery}


def unknown(measure: Measure) -> Result:
    """A measure that had nothing to work on."""
    return Result(measure.key, math.nan, math.nan, math.nan)
