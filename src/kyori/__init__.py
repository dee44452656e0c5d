"""Kyori (距離, "distance"): learn a distance from labelled examples and put it to work.

The names below load the part they come from when they are first used, so that ``import kyori`` costs nothing.

```python
import kyori

run = kyori.fit("digits", loss="arcface", out="runs/digits")   # learn
vectors = run.embedder.encode(["a.png", "b.png"])              # use
board = kyori.compare("digits", seeds=3)                       # choose
```
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import data, errors, linear, losses, quality
    from .comparison import compare
    from .data import Source, open_source
    from .estimator import MetricLearner
    from .evaluation import evaluate
    from .index import open_index
    from .models import Embedder
    from .runs import fit, open_run
    from .training import RunConfig
    from .vectors import VectorTable

_HOME = {
    "Embedder": "models",
    "MetricLearner": "estimator",
    "RunConfig": "training",
    "Source": "data",
    "VectorTable": "vectors",
    "compare": "comparison",
    "evaluate": "evaluation",
    "fit": "runs",
    "open_index": "index",
    "open_run": "runs",
    "open_source": "data",
}

__all__ = [
    "Embedder",
    "MetricLearner",
    "RunConfig",
    "Source",
    "VectorTable",
    "__version__",
    "compare",
    "data",
    "errors",
    "evaluate",
    "fit",
    "linear",
    "losses",
    "open_index",
    "open_run",
    "open_source",
    "quality",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    elif name in __all__:
        value = importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module 'kyori' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
