"""Hard negatives for rows of anchor and positive: what a model holds for close and the data say is another.

Training on them is the usual second round of a text model: train on pairs, mine with the result, train on the rows
with negatives (``kyori mine RUN PAIRS --out rows.parquet``, then ``kyori train rows.parquet``).
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .data import Source
from .errors import ArgumentError, DataError
from .files import write_atomic
from .models import Embedder
from .neighbors import nearest

__all__ = ["MinedRows", "mine_negatives"]

BLOCK = 4096  # anchors searched at a time
DEGREE = 32  # links of a node of the approximate index


@dataclass(frozen=True, eq=False)
class MinedRows:
    """Rows with their mined negatives.

    Attributes:
        source: Where the items are.
        anchors: ``(p,)`` positions in the source of the rows' anchors.
        positives: ``(p,)`` positions of their positives.
        negatives: ``(p, k)`` positions of their negatives, hardest first; −1 where fewer were found.
        similarities: ``(p, k)`` cosine similarities of anchor and negative; NaN where there is none.
        positive_similarities: ``(p,)`` cosine similarities of anchor and positive.
    """

    source: Source
    anchors: NDArray[np.int64]
    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]
    similarities: NDArray[np.float32]
    positive_similarities: NDArray[np.float32]

    @property
    def found(self) -> float:
        """The share of places for negatives that are filled, 0 to 1."""
        return float((self.negatives >= 0).mean())

    def save(self, path: str | Path) -> None:
        """Write the texts as a table of ``anchor, positive, negative_1 …``, in the form that the name's end says.

        Raises:
            ArgumentError: The name ends neither in .parquet nor in .csv.
        """
        import pyarrow as pa
        import pyarrow.csv
        import pyarrow.parquet

        path = Path(path)
        if path.suffix not in (".parquet", ".csv"):
            raise ArgumentError(f"out must end in .parquet or .csv; got {path.name}.")
        columns: dict[str, Any] = {
            "anchor": self.source.load(self.anchors),
            "positive": self.source.load(self.positives),
        }
        for place, column in enumerate(self.negatives.T, 1):
            texts = self.source.load(np.maximum(column, 0))
            columns[f"negative_{place}"] = np.where(column >= 0, texts, "")
        if "split" in self.source.columns:
            columns["split"] = self.source.columns["split"][self.anchors]
        table = pa.table({name: pa.array(values.tolist(), pa.string()) for name, values in columns.items()})
        buffer = io.BytesIO()
        writer = pa.parquet.write_table if path.suffix == ".parquet" else pa.csv.write_csv
        writer(table, buffer)
        write_atomic(path, lambda file: file.write(buffer.getbuffer()))


def mine_negatives(
    source: Source,
    embedder: Embedder,
    *,
    per_row: int = 5,
    skip: int = 0,
    depth: int = 100,
    relative: float | None = 0.95,
    absolute: float | None = None,
    approximate: bool = False,
    batch_size: int = 256,
) -> MinedRows:
    """Find for each anchor the closest references that are not its positives.

    Candidates are all positives and negatives of the source. One that is as close as the positive is more likely a
    positive that nobody wrote down than a hard negative: `relative` and `absolute` leave such ones out.

    Moreira et al., "NV-Retriever: improving text embedding models with effective hard-negative mining", 2024
    (`relative`: their TopK-PercPos, at 95 %).

    Args:
        source: Rows of anchor and positive, as :func:`kyori.open_source` reads them.
        embedder: The model that judges.
        per_row: Negatives wanted for a row, k ≥ 1.
        skip: The closest so many candidates are passed over, ≥ 0.
        depth: How many neighbours are looked at, ≥ skip + per_row.
        relative: A negative's similarity must be at most so many times the positive's; None: any.
        absolute: A negative's similarity must be at most this; None: any.
        approximate: Search an HNSW graph rather than all candidates, for more than some 10⁵ of them.
        batch_size: Items embedded at a time.

    Memory: one vector for each different text, and blocks of 4,096 anchors.

    Raises:
        DataError: The source has no rows of anchor and positive, or only one class.
        ArgumentError: A number is out of range.
    """
    _check(source, per_row, skip, depth)
    assert source.labels is not None
    roles, rows, labels = source.columns["role"], source.columns["row"], source.labels
    anchors = np.flatnonzero(roles == "anchor")
    references = np.flatnonzero(roles != "anchor")
    positives = _partners(rows, roles, anchors)
    texts = source.load(np.arange(len(source)))
    unique, first, place = np.unique(texts, return_index=True, return_inverse=True)
    vectors = embedder.encode(source.take(first), batch_size=batch_size)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(norms > 0, norms, 1)
    candidates = np.unique(place[references])  # each text once, whatever the number of rows it stands in
    where = np.full(len(unique), -1, dtype=np.int64)
    where[place[references[::-1]]] = references[::-1]  # the first item with the text
    matching = np.einsum("pd,pd->p", vectors[place[anchors]], vectors[place[positives]])
    limit = np.full(len(anchors), np.inf, dtype=np.float32)
    if relative is not None:
        limit = np.minimum(limit, relative * matching)
    if absolute is not None:
        limit = np.minimum(limit, absolute)
    negatives = np.full((len(anchors), per_row), -1, dtype=np.int64)
    similarities = np.full((len(anchors), per_row), np.nan, dtype=np.float32)
    search = _approximate if approximate else _exact
    found_blocks = search(vectors, place[anchors], candidates, min(depth, len(candidates)))
    for start, (found, close) in zip(range(0, len(anchors), BLOCK), found_blocks, strict=True):
        block = slice(start, start + BLOCK)
        items = where[candidates[np.maximum(found, 0)]]
        fits = (found >= 0) & (labels[items] != labels[anchors[block], None]) & (close <= limit[block, None])
        fits &= place[items] != place[anchors[block], None]
        turn = fits.cumsum(axis=1) - 1 - skip
        row, column = np.nonzero(fits & (turn >= 0) & (turn < per_row))
        negatives[start + row, turn[row, column]] = items[row, column]
        similarities[start + row, turn[row, column]] = close[row, column]
    return MinedRows(source, anchors, positives, negatives, similarities, matching)


def _check(source: Source, per_row: int, skip: int, depth: int) -> None:
    if not source.in_rows or source.labels is None:
        raise DataError(
            f"{source.name}: mining needs rows of anchor and positive; open a table with these two columns."
        )
    if len(np.unique(source.labels)) < 2:
        raise DataError(f"{source.name}: all items are of one class, so that none is a negative of another.")
    if per_row < 1 or skip < 0 or depth < skip + per_row:
        raise ArgumentError(
            f"per_row ≥ 1, skip ≥ 0 and depth ≥ skip + per_row are needed; got per_row {per_row}, skip {skip}, "
            f"depth {depth}."
        )


def _partners(rows: np.ndarray, roles: np.ndarray, anchors: np.ndarray) -> NDArray[np.int64]:
    """The positive of each anchor's row."""
    positives = np.flatnonzero(roles == "positive")
    order = np.argsort(rows[positives], kind="stable")
    return positives[order][np.searchsorted(rows[positives], rows[anchors], sorter=order)]


Found = tuple[NDArray[np.int64], NDArray[np.float32]]


def _exact(vectors: np.ndarray, anchors: np.ndarray, candidates: np.ndarray, depth: int) -> Iterator[Found]:
    gallery = vectors[candidates]
    for start in range(0, len(anchors), BLOCK):
        matches = nearest(vectors[anchors[start : start + BLOCK]], gallery, depth, "cosine")
        yield matches.ids, 1 - matches.distances


def _approximate(
    vectors: np.ndarray, anchors: np.ndarray, candidates: np.ndarray, depth: int
) -> Iterator[Found]:
    import faiss

    graph = faiss.IndexHNSWFlat(vectors.shape[1], DEGREE, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction, graph.hnsw.efSearch = 80, max(2 * depth, 64)
    for start in range(0, len(candidates), BLOCK):
        graph.add(vectors[candidates[start : start + BLOCK]])
    for start in range(0, len(anchors), BLOCK):
        close, found = graph.search(vectors[anchors[start : start + BLOCK]], depth)
        yield found, close
