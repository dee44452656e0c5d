"""FAISS indexes by factory string: which one is chosen, when it can be trained, how wide it must search.

The rule of ``auto``, applied when an index is built and when it is compacted:

| vectors | factory | search |
|---|---|---|
| below 100,000 | `Flat` | exact |
| below 2,000,000 | `HNSW32` | as wide as the recall target asks for |
| from there on | `IVF{c},Flat` with c the power of two nearest to 4√n | as wide as the recall target asks for |
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError

__all__ = [
    "Report", "build", "check_factory", "choose", "effort_of", "exact", "faiss", "flat_vectors", "search_exactly",
    "server_kind", "tune",
]  # fmt: skip

_FLAT_BELOW, _GRAPH_BELOW = 100_000, 2_000_000
_POINTS_PER_CENTROID = 39  # what FAISS asks for
_SAMPLE, _NEIGHBOURS = 100, 10
_WIDEST = {"efSearch": 4096, "nprobe": 65_536}
_BLOCK = 16_384  # rows that an exact search takes at a time: they fit into the caches with what is computed of them
_SPARE = 8  # candidates beyond k that an exact search measures
_PRODUCT = 20  # queries from which on an exact search multiplies matrices
_TILE, _GROUP = 64, 16  # queries that it takes at a time, and rows of which it looks at the nearest first
REFINE = 4  # times k candidates are taken from an index that shortens vectors, and measured by the vectors as they came
_NOISE = 1e-2  # below this share of |q|², |q|² + |x|² − 2qx has lost digits


def faiss() -> Any:
    """Return the module, imported when the first index is opened."""
    import faiss as module

    return module


@dataclass(frozen=True)
class Report:
    """How well the approximate search of an index was measured to find what an exact one finds.

    Attributes:
        recall: Share of the true first 10 neighbours found; 1.0 for exact search.
        queries: How many were asked, half of them the index's own vectors.
        effort: Name and value of the setting that decides how wide it searches; None for exact search.
    """

    recall: float
    queries: int
    effort: tuple[str, int] | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "recall": self.recall,
            "queries": self.queries,
            "effort": list(self.effort) if self.effort else None,
        }


def choose(n: int) -> str:
    """Return the factory string that ``auto`` stands for with ``n`` vectors.

    >>> [choose(n) for n in (10_000, 1_000_000, 10_000_000)]
    ['Flat', 'HNSW32', 'IVF16384,Flat']
    """
    if n < _FLAT_BELOW:
        return "Flat"
    return "HNSW32" if n < _GRAPH_BELOW else f"IVF{2 ** round(math.log2(4 * math.sqrt(n)))},Flat"


def check_factory(factory: str, dimension: int | None = None) -> None:
    """Refuse what no index of Kyori can be: ids are kept beside FAISS, not in it.

    Without a dimension, which the first batch decides, one is tried that product codes (``PQ16``) can divide.
    """
    if not isinstance(factory, str) or not factory:
        raise ArgumentError(
            f"factory must be 'auto' or a FAISS factory string like 'HNSW32'; got {factory!r}."
        )
    if "IDMap" in factory:
        raise ArgumentError(
            f"factory must not hold IDMap, as the index keeps the ids itself; got {factory!r}."
        )
    if factory != "auto":
        codes = [int(number) for number in re.findall(r"PQ(\d{1,4})", factory)]
        _create(8 * max(1, math.lcm(*codes)) if dimension is None else dimension, factory)


def server_kind(factory: str, n: int) -> tuple[str, int]:
    """Return ``("flat", 0)``, ``("hnsw", m)`` or ``("ivf", lists)``: what servers can be asked for.

    >>> server_kind("auto", 100), server_kind("HNSW16", 0), server_kind("IVF256,Flat", 0)
    (('flat', 0), ('hnsw', 16), ('ivf', 256))
    """
    wanted = choose(n) if factory == "auto" else factory
    found = re.fullmatch(r"(Flat)|HNSW(\d+)(?:,Flat)?|IVF(\d+),Flat", wanted)
    if not found:
        raise ArgumentError(f"a server builds Flat, HNSW<m> or IVF<lists>,Flat; got factory {wanted!r}.")
    if found[1]:
        return "flat", 0
    return ("hnsw", int(found[2])) if found[2] else ("ivf", int(found[3]))


def build(vectors: NDArray[np.float32], factory: str) -> tuple[Any, str]:
    """Build a FAISS index of squared Euclidean distances.

    Where there are too few vectors to train ``factory`` (FAISS asks for 39 a centroid), a ``Flat`` one is built, to be
    replaced when there are enough.

    Args:
        vectors: ``(n, d)``, contiguous. ``Flat`` searches them where they are, so they must not change afterwards.
        factory: A FAISS factory string, or ``"auto"``.

    Returns:
        The index, and the factory string that it was built by.

    Raises:
        ArgumentError: FAISS cannot make such an index for vectors of this dimension.
    """
    n, d = vectors.shape
    wanted = choose(n) if factory == "auto" else factory
    index = _create(d, wanted)
    if not index.is_trained:
        if n < (needed := _training_points(index)):
            return build(vectors, "Flat")
        rng = np.random.default_rng(0)
        most = min(n, max(needed, 256 * (needed // _POINTS_PER_CENTROID)))
        rows = np.arange(n) if most == n else np.sort(rng.choice(n, most, replace=False))
        index.train(vectors if most == n else vectors[rows])
    if exact(index):
        _lend(index, vectors)
    else:
        index.add(vectors)
    return index, wanted


def _lend(index: Any, vectors: NDArray[np.float32]) -> None:
    """Let an empty ``Flat`` index hold these vectors without a copy, which would be most of what its build costs."""
    bytes_of = faiss().MaybeOwnedVectorUInt8
    nobody = bytes_of().owner
    index.codes = bytes_of.create_view(faiss().swig_ptr(vectors), vectors.nbytes, nobody)
    index.ntotal = len(vectors)
    index.referenced_objects = [vectors]  # as FAISS's own Python code keeps what it points to


def _create(d: int, factory: str) -> Any:
    try:
        return faiss().index_factory(d, factory)
    except RuntimeError as error:
        reason = str(error).rpartition("Error: ")[2].strip()
        raise ArgumentError(
            f"FAISS makes no index {factory!r} for vectors of {d} numbers ({reason}); examples: Flat, HNSW32,"
            " IVF4096,Flat."
        ) from None


def _training_points(index: Any) -> int:
    lists = index.nlist if isinstance(index, faiss().IndexIVF) else 0
    codebook = 0 if isinstance(index, faiss().IndexIVFFlat) else 256
    return _POINTS_PER_CENTROID * max(lists, codebook, 1)


def flat_vectors(index: Any) -> NDArray[np.float32] | None:
    """Return a view of the vectors ``(n, d)`` where FAISS keeps them whole and in order, else None."""
    storage = index
    if type(index) is faiss().IndexHNSWFlat:
        storage = faiss().downcast_index(index.storage)
    if not exact(storage):
        return None
    if storage.ntotal == 0:
        return np.zeros((0, storage.d), np.float32)
    return faiss().rev_swig_ptr(storage.get_xb(), storage.ntotal * storage.d).reshape(-1, storage.d)


def exact(index: Any) -> bool:
    """Return whether this is FAISS's plain list of vectors, of which a search looks at every one."""
    return type(index) in (faiss().IndexFlat, faiss().IndexFlatL2)  # subclasses shuffle what they hold


def lossless(index: Any) -> bool:
    """Return whether this FAISS index measures distances to the vectors as they came."""
    return flat_vectors(index) is not None or type(index) is faiss().IndexIVFFlat


def selects(index: Any) -> bool:
    """Return whether this FAISS index can leave out rows while it searches."""
    return exact(index) or isinstance(index, (faiss().IndexHNSW, faiss().IndexIVF))


def effort_of(index: Any) -> tuple[str, int] | None:
    """Return the setting that trades time for recall with its largest value; None where there is none."""
    if isinstance(index, faiss().IndexHNSW):
        return "efSearch", _WIDEST["efSearch"]
    lists = getattr(faiss().try_extract_index_ivf(index), "nlist", None)
    return ("nprobe", int(lists)) if lists else None


def set_effort(index: Any, effort: tuple[str, int]) -> None:
    """Let the index search so wide."""
    faiss().ParameterSpace().set_index_parameter(index, *effort)


def tune(index: Any, vectors: NDArray[np.float32], target: float) -> Report:
    """Set the least effort that reaches the target, doubling from 1 (IVF) or 16 (HNSW), and report the recall.

    Measured with at most 100 of the index's own vectors, each left out of its own answer, and with as many that could
    come; the lower of the two counts. A graph links its own vectors to their neighbours, and finds them more easily.
    """
    setting = effort_of(index)
    if exact(index) or len(vectors) < 2:
        return Report(1.0, 0, None)
    questions = _questions(vectors)
    asked = sum(len(question.queries) for question in questions)

    def recall() -> float:
        return min(_recall(index, vectors, question) for question in questions)

    if setting is None:
        return Report(recall(), asked, None)
    value = min(16 if setting[0] == "efSearch" else 1, setting[1])
    while True:
        effort = (setting[0], value)
        set_effort(index, effort)
        found = recall()
        if found >= target or value == setting[1]:
            return Report(found, asked, effort)
        value = min(2 * value, setting[1])


class _Question(NamedTuple):
    """Queries (q, d), the true distance (q,) of the last of k neighbours, and whether a query is one of them itself."""

    queries: NDArray[np.float32]
    bound: NDArray[np.float32]
    k: int
    itself: bool


def _questions(vectors: NDArray[np.float32]) -> list[_Question]:
    """Some of the vectors, and points that could come: each as far from the mean of some neighbours as these are.

    Such a point is a weighted sum of the neighbours with weights of sum 1 and length 1, drawn with seed 0: if they
    scatter around a centre independently, so does the sum, and as widely.
    """
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.permutation(len(vectors))[:_SAMPLE])
    own, k = np.ascontiguousarray(vectors[chosen]), min(_NEIGHBOURS + 1, len(vectors))
    squares, rows = search_exactly(own, vectors, k)
    weights = rng.standard_normal((len(rows), k))
    weights -= weights.mean(axis=1, keepdims=True)
    weights *= np.sqrt(1 - 1 / k) / np.linalg.norm(weights, axis=1, keepdims=True)
    others = np.einsum("qk,qkd->qd", weights + 1 / k, vectors[rows]).astype(np.float32)
    bound = search_exactly(others, vectors, k - 1)[0][:, -1]
    return [_Question(own, squares[:, -1], k, True), _Question(others, bound, k - 1, False)]


def _recall(index: Any, vectors: NDArray[np.float32], question: _Question) -> float:
    queries, bound, k, itself = question
    _, rows = index.search(queries, k if lossless(index) else min(REFINE * k, len(vectors)))
    found = np.sort(true_squares(queries, vectors, rows), axis=1)[:, :k]
    hits = (found <= bound[:, None] * (1 + 1e-4) + 1e-12).sum(axis=1) - itself
    return float((np.clip(hits, 0, None) / (k - itself)).mean())


def true_squares(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return squared distances ``(q, k)`` of queries to rows, from the differences; inf where the row is −1."""
    gathered = vectors[rows]
    gathered -= queries[:, None]
    squares = np.einsum("qkd,qkd->qk", gathered, gathered)
    squares[rows < 0] = np.inf
    return squares


def sharpened(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    squares: NDArray[np.float32],
    rows: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Compute small distances again: FAISS's |q|² + |x|² − 2qx, used for batches, has no digits left there."""
    doubtful = squares < _NOISE * np.einsum("qd,qd->q", queries, queries)[:, None]
    doubtful &= rows >= 0
    if not doubtful.any():
        return squares, rows
    query, place = np.nonzero(doubtful)
    difference = vectors[rows[query, place]] - queries[query]
    squares = squares.copy()
    squares[query, place] = np.einsum("nd,nd->n", difference, difference)
    return ordered(squares, rows)


def ordered(
    squares: NDArray[np.float32], rows: NDArray[np.int64], k: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Sort each query's answers by distance, keep the first ``k``."""
    order = np.argsort(squares, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(squares, order, 1), np.take_along_axis(rows, order, 1)


def search_exactly(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    k: int,
    rows: Sequence[int] | NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Search all of ``vectors``, or only ``rows`` of them, a block at a time; k must not exceed their number.

    Far from the origin |q|² + |x|² − 2qx cannot tell near neighbours apart: blocks are moved to about their centre
    first, and a few candidates more than asked for are measured again.
    """
    chosen = None if rows is None else np.asarray(rows, np.int64)
    total = len(vectors) if chosen is None else len(chosen)
    best: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None
    for start in range(0, total, _BLOCK):
        part = slice(start, min(start + _BLOCK, total))
        block = np.ascontiguousarray(vectors[part] if chosen is None else vectors[chosen[part]])
        some = block[:: max(1, len(block) // 1024)]
        centre = some.mean(axis=0, dtype=np.float64).astype(np.float32)
        places = _places(queries - centre, block - centre, min(k + _SPARE, len(block)))
        squares = true_squares(queries, block, places)
        found = places + start if chosen is None else chosen[part][places]
        if best is not None:
            squares = np.concatenate([best[0], squares], axis=1)
            found = np.concatenate([best[1], found], axis=1)
        best = ordered(squares, found, k)
    assert best is not None, "search_exactly needs at least one row"
    return best


def _places(queries: NDArray[np.float32], block: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the places ``(q, count)`` of the rows that are nearest but for rounding, in any order.

    FAISS 1.15 multiplies matrices for a thousand queries and more only; from some twenty on that takes a third of the
    time.
    """
    if len(queries) < _PRODUCT:
        places: NDArray[np.int64] = faiss().knn(queries, block, count)[1]
        return places
    halves = np.einsum("nd,nd->n", block, block) / 2  # |x|²/2 − qx orders the rows as their distances do
    values, found = np.empty((min(_TILE, len(queries)), len(block)), np.float32), []
    for start in range(0, len(queries), _TILE):
        tile = queries[start : start + _TILE]
        part = np.matmul(tile, block.T, out=values[: len(tile)])
        found.append(_smallest(np.subtract(halves, part, out=part), count))
    return np.concatenate(found)


def _smallest(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the columns of each row's ``count`` smallest values.

    They stand in those groups of columns that have the ``count`` smallest minima: only these are looked through.
    """
    width = values.shape[1] // _GROUP  # columns j, j + width, j + 2 width, … are a group
    if width <= count:
        return np.argpartition(values, count - 1, axis=1)[:, :count]
    minima = values[:, : _GROUP * width].reshape(len(values), _GROUP, width).min(axis=1)
    groups = np.argpartition(minima, count - 1, axis=1)[:, :count]
    members = (groups[:, None] + width * np.arange(_GROUP)[:, None]).reshape(len(values), -1)
    rest = np.arange(_GROUP * width, values.shape[1])  # belongs to no group
    members = np.concatenate([members, np.broadcast_to(rest, (len(values), len(rest)))], axis=1)
    best = np.argpartition(np.take_along_axis(values, members, 1), count - 1, axis=1)[:, :count]
    return np.take_along_axis(members, best, 1)


def check_server_factory(factory: str) -> None:
    """Refuse what a server cannot build."""
    server_kind(factory, 0)
