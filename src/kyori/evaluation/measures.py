"""The names of the measures, and what a request for them means."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import ArgumentError, nearest_name

__all__ = ["CLUSTERING", "DEFAULT", "GEOMETRY", "RETRIEVAL", "VERIFICATION", "Measure", "plan_measures"]

RETRIEVAL = ("recall", "precision", "r-precision", "map@r", "map@k", "map", "ndcg", "mrr")
VERIFICATION = ("auc", "eer", "tar", "accuracy", "best-accuracy")
CLUSTERING = ("nmi", "ami", "ari")
GEOMETRY = ("silhouette", "distance-ratio", "alignment", "uniformity")

DEFAULT = (
    "recall", "r-precision", "map@r", "map", "ndcg@10", "mrr",
    "auc", "eer", "tar", "nmi", "ami", "ari", "silhouette",
)  # fmt: skip

_PER_K = ("recall", "precision", "ndcg")
_KNOWN = (
    "recall", "recall@1", "precision", "precision@5", "r-precision", "map@r", "map", "map@10", "ndcg", "ndcg@10",
    "mrr", "tar", "tar@far=1e-3", *(name for name in VERIFICATION if name != "tar"), *CLUSTERING, *GEOMETRY,
)  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """One measure to compute: its key in the results, its family, and k or the false-accept rate."""

    key: str
    family: str
    k: int = 0
    far: float = 0.0


def plan_measures(
    names: Iterable[str] | None, ks: Sequence[int], far: Sequence[float], has_threshold: bool
) -> tuple[Measure, ...]:
    """Turn requested names into measures, each once, in the order of the request.

    A bare ``recall``, ``precision`` or ``ndcg`` stands for one measure a k of ``ks``, a bare ``tar`` for one a rate of
    ``far``. ``accuracy`` needs a threshold, and is added by one when no names are given.

    Raises:
        ArgumentError: A name is unknown, a k is below 1, or a rate is not between 0 and 1.

    >>> [measure.key for measure in plan_measures(["recall", "map@r", "tar"], (1, 5), (0.001,), False)]
    ['recall@1', 'recall@5', 'map@r', 'tar@far=1e-3']
    """
    if isinstance(names, str):
        raise ArgumentError(f"measures must be a list of names; got the string {names!r}. Write [{names!r}].")
    if names is None:
        names = (*DEFAULT, "accuracy") if has_threshold else DEFAULT
    planned: dict[str, Measure] = {}
    for name in names:
        for measure in _expand(name, ks, far):
            planned[measure.key] = measure
    if "accuracy" in planned and not has_threshold:
        raise ArgumentError("the measure 'accuracy' needs a threshold; pass threshold=... or drop it.")
    return tuple(planned.values())


def _expand(name: str, ks: Sequence[int], far: Sequence[float]) -> list[Measure]:
    if name in _PER_K:
        return [_at_k(name, name, k) for k in ks]
    if name == "tar":
        return [_at_far(rate) for rate in far]
    if name in (*RETRIEVAL, *VERIFICATION, *CLUSTERING, *GEOMETRY) and name != "map@k":
        return [Measure(name, name)]
    family, _, argument = name.partition("@")
    if family in (*_PER_K, "map") and argument.isdecimal():
        return [_at_k(family, "map@k" if family == "map" else family, int(argument))]
    if family == "tar" and argument.startswith("far="):
        try:
            return [_at_far(float(argument.removeprefix("far=")))]
        except ValueError:
            pass  # not a number, so not a known name
    raise ArgumentError(f"unknown measure {name!r}{nearest_name(name, _KNOWN)}")


def _at_k(prefix: str, family: str, k: int) -> Measure:
    if k < 1:
        raise ArgumentError(f"k of {prefix}@k must be at least 1; got {k}.")
    return Measure(f"{prefix}@{k}", family, k=k)


def _at_far(rate: float) -> Measure:
    if not 0 < rate < 1:
        raise ArgumentError(f"a false-accept rate must lie between 0 and 1; got {rate}.")
    mantissa, exponent = f"{rate:e}".split("e")
    return Measure(f"tar@far={mantissa.rstrip('0').rstrip('.')}e{int(exponent)}", "tar", far=rate)
