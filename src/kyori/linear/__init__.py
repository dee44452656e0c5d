"""Linear metric learning: Mahalanobis distances D(a, b) = ‖L(a − b)‖, as scikit-learn estimators.

Every method learns from items and labels with ``fit(X, y)``; where its nature is another, it also learns from that:

| name | class | learns from | also |
|---|---|---|---|
| `nca` | `NCA` | labels | |
| `lmnn` | `LMNN` | labels | |
| `lfda` | `LFDA` | labels | |
| `lda` | `LDA` | labels | |
| `mlkr` | `MLKR` | numbers to predict | |
| `itml` | `ITML` | labels | `fit_pairs(pairs, same)` |
| `mmc` | `MMC` | labels | `fit_pairs(pairs, same)` |
| `sdml` | `SDML` | labels | `fit_pairs(pairs, same)` |
| `scml` | `SCML` | labels | `fit_triplets(triplets)` |
| `lsml` | `LSML` | labels | `fit_quadruplets(quadruplets)` |
| `rca` | `RCA` | labels | `fit_chunks(X, chunks)` |
| `covariance` | `Covariance` | items alone | |

>>> from sklearn.datasets import load_iris
>>> X, y = load_iris(return_X_y=True)
>>> LDA().fit(X, y).transform(X).shape
(150, 2)
"""

from typing import Any

from ..errors import ArgumentError, nearest_name
from .covariance import Covariance
from .itml import ITML
from .lda import LDA
from .lfda import LFDA
from .lmnn import LMNN
from .lsml import LSML
from .metric import LinearMetric
from .mlkr import MLKR
from .mmc import MMC
from .nca import NCA
from .rca import RCA
from .scml import SCML
from .sdml import SDML

__all__ = [
    "ITML",
    "LDA",
    "LFDA",
    "LINEAR",
    "LMNN",
    "LSML",
    "MLKR",
    "MMC",
    "NCA",
    "RCA",
    "SCML",
    "SDML",
    "Covariance",
    "LinearMetric",
    "create",
]

#: The methods by name.
LINEAR: dict[str, type[LinearMetric]] = {
    "nca": NCA,
    "lmnn": LMNN,
    "lfda": LFDA,
    "lda": LDA,
    "mlkr": MLKR,
    "itml": ITML,
    "mmc": MMC,
    "sdml": SDML,
    "scml": SCML,
    "lsml": LSML,
    "rca": RCA,
    "covariance": Covariance,
}


def create(name: str, **options: Any) -> LinearMetric:
    """Build a method by name; an unknown name or option is an error that names the nearest.

    >>> create("nca", n_components=2)
    NCA(n_components=2)
    """
    if name not in LINEAR:
        raise ArgumentError(f"unknown linear method '{name}'{nearest_name(name, LINEAR)}")
    known = LINEAR[name]().get_params()
    for option in options:
        if option not in known:
            raise ArgumentError(
                f"linear method '{name}' has no option '{option}'{nearest_name(option, known)}"
            )
    return LINEAR[name](**options)
