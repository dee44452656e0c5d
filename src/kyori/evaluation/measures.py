"""The names of the measures, and what a request for them means."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import ArgumentError, nearest_name

__all__ = ["CLUSTERING", "DEFAULT", "GEOMETRY", "RETRIEVAL", "VERIFICATION", "Measure", "plan_measures"]

RETRIEVAL = ("recall", "precision", "r-precision", "map@r", "map@k", "map", "ndcg", "mrr", "mrr@k")
VERIFICATION = ("auc", "eer", "tar", "accuracy", "best-accuracy")
CLUSTERING = ("nmi", "ami", "ari", "purity", "b-cubed", "pairwise-f1")
GEOMETRY = (
    "silhouette", "distance-ratio", "alignment", "uniformity", "effective-rank", "hubness", "robin-hood",
)  # fmt: skip
_AT_ANY_K = ("hubness", "robin-hood")

DEFAULT = (
    "recall", "r-precision", "map@r", "map", "ndcg@10", "mrr",
    "auc", "eer", "tar", "nmi", "ami", "ari", "silhouette",
)  # fmt: skip

_PER_K = ("recall", "precision", "ndcg")
_CUT_AT_K = ("map", "mrr")  # measures of the whole ranking, and of its first k
_KNOWN = (
    "recall", "recall@1", "precision", "precision@5", "r-precision", "map@r", "map", "map@10", "ndcg", "ndcg@10",
    "mrr", "mrr@10", "tar@far=1e-3", "hubness@10", "accuracy@0.5", *VERIFICATION, *CLUSTERING, *GEOMETRY,
)  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """One measure to compute: its key in the results, its family, and k, false-accept rate or threshold."""

    key: str
    family: str
    k: int = 0
    far: float = 0.0
    threshold: float = 0.0


def plan_measures(
    names: Iterable[str] | None, ks: Sequence[int], far: Sequence[float], threshold: float | None
) -> tuple[Measure, ...]:
    """Turn requested names into measures, each once, in the order of the request.

    A bare ``recall``, ``precision`` or ``ndcg`` stands for one measure a k of ``ks``, a bare ``tar`` for one a
    rate of ``far``, a bare ``accuracy`` for that at ``threshold``, which is also added when no names are given.

    Raises:
        ArgumentError: A name is unknown, a k is below 1, or a rate is not between 0 and 1.

    >>> [measure.key for measure in plan_measures(["recall", "map@r", "tar"], (1, 5), (0.001,), None)]
    ['recall@1', 'recall@5', 'map@r', 'tar@far=1e-3']
    """
    if isinstance(names, str):
        raise ArgumentError(f"measures must be a list of names; got the string {names!r}. Write [{names!r}].")
    if names is None:
        names = DEFAULT if threshold is None else (*DEFAULT, "accuracy")
    planned = [measure for name in names for measure in _expand(name, ks, far, threshold)]
    return tuple({measure.key: measure for measure in planned}.values())


def _expand(name: str, ks: Sequence[int], far: Sequence[float], threshold: float | None) -> list[Measure]:
    if name in _PER_K:
        return [_at_k(name, name, k) for k in ks]
    if name == "tar":
        return [_at_far(rate) for rate in far]
    if name == "accuracy":
        if threshold is None:
            raise ArgumentError(
                "the measure 'accuracy' needs a threshold; pass threshold= or write 'accuracy@0.5'."
            )
        return [_at_threshold(threshold)]
    if name in _AT_ANY_K:
        return [Measure(name, name, k=10)]
    if name in (*RETRIEVAL, *VERIFICATION, *CLUSTERING, *GEOMETRY) and not name.endswith("@k"):
        return [Measure(name, name)]
    family, _, argument = name.partition("@")
    if family in _AT_ANY_K and argument.isdecimal():
        return [_at_k(family, family, int(argument))]
    if family in _PER_K and argument.isdecimal():
        return [_at_k(family, family, int(argument))]
    if family in _CUT_AT_K and argument.isdecimal():
        return [_at_k(family, f"{family}@k", int(argument))]
    number = _number(argument.removeprefix("far=" if family == "tar" else ""))
    if number is not None and family == "tar" and argument.startswith("far="):
        return [_at_far(number)]
    if number is not None and family == "accuracy":
        return [_at_threshold(number)]
    raise ArgumentError(f"unknown measure {name!r}{nearest_name(name, _KNOWN)}")


def _at_k(prefix: str, family: str, k: int) -> Measure:
    if k < 1:
        raise ArgumentError(f"k of {prefix}@k must be at least 1; got {k}.")
    return Measure(f"{prefix}@{k}", family, k=k)


def _at_far(rate: float) -> Measure:
    if not 0 < rate < 1:
        raise ArgumentError(f"a false-accept rate must lie between 0 and 1; got {rate:g}.")
    mantissa, exponent = f"{rate:e}".split("e")
    return Measure(f"tar@far={mantissa.rstrip('0').rstrip('.')}e{int(exponent)}", "tar", far=rate)


def _at_threshold(threshold: float) -> Measure:
    if not math.isfinite(threshold):
        raise ArgumentError(f"threshold must be a finite distance; got {threshold}.")
    return Measure(f"accuracy@{threshold:g}", "accuracy", threshold=threshold)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
