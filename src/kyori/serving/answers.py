"""From checked questions to answers: items become rows, rows vectors (in batches with others), vectors answers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DataError
from ..index import KReciprocal, QueryExpansion
from .limits import Limits, Refused
from .messages import (
    ByEmbedding,
    ById,
    Embed,
    Features,
    Identify,
    Insertion,
    Picture,
    Search,
    Text,
    Verify,
)
from .served import Served

__all__ = ["Desk"]

T = TypeVar("T")
Vectors = NDArray[np.float32]
_WORKERS = 4


class Desk:
    """Answers questions with a served run. Pictures are decoded and the index is asked in threads.

    Args:
        limits: How much work may wait for a thread.
    """

    def __init__(self, limits: Limits):
        self._limits = limits
        workers = max(2, min(_WORKERS, os.cpu_count() or 1))
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="kyori-answer")
        self._pending = 0
        self._writing = asyncio.Lock()

    def close(self) -> None:
        """Finish what runs."""
        self._threads.shutdown()

    async def embed(self, served: Served, asked: Embed) -> dict[str, Any]:
        """Return vectors."""
        return {"vectors": (await self._vectors(served, asked.items)).tolist()}

    async def search(self, served: Served, asked: Search) -> dict[str, Any]:
        """Return the nearest items."""
        _need_index(served)
        vectors = await self._vectors(served, asked.items)
        rerank = {None: None, "expansion": QueryExpansion(), "reciprocal": KReciprocal()}[asked.rerank]
        where = None if asked.where is None else {name: _condition(v) for name, v in asked.where.items()}
        recogniser = served.recogniser
        found = await self._run(lambda: recogniser.search_vectors(vectors, asked.k, where, rerank=rerank))
        return {
            "metric": recogniser.metric,
            "matches": [[hit.as_dict() for hit in hits] for hits in found],
        }

    async def verify(self, served: Served, asked: Verify) -> dict[str, Any]:
        """Return a verdict for each pair."""
        calibration = served.recogniser.calibration
        if calibration is None or calibration.verification is None:
            raise Refused(409, "this run is not calibrated for verification (kyori calibrate).")
        both = [pair.a for pair in asked.pairs] + [pair.b for pair in asked.pairs]
        vectors = await self._vectors(served, both)
        half = len(asked.pairs)
        found = await self._run(lambda: served.recogniser.verify_vectors(vectors[:half], vectors[half:]))
        return {"verdicts": [verdict.as_dict() for verdict in found]}

    async def identify(self, served: Served, asked: Identify) -> dict[str, Any]:
        """Return an identity for each item."""
        _need_index(served)
        gallery = served.recogniser.calibration and served.recogniser.calibration.identification
        if asked.threshold is None and not gallery:
            raise Refused(
                409, "this run is not calibrated for identification (kyori calibrate); give a threshold."
            )
        if asked.threshold is None and gallery and asked.pooling not in (None, gallery.pooling):
            raise Refused(409, f"this run is calibrated for the pooling {gallery.pooling}; give a threshold.")
        vectors = await self._vectors(served, asked.items)
        found = await self._run(
            lambda: served.recogniser.identify_vectors(
                vectors, asked.k, pooling=asked.pooling, threshold=asked.threshold
            )
        )
        return {"identities": [identity.as_dict() for identity in found]}

    async def insert(self, served: Served, asked: Insertion) -> dict[str, Any]:
        """Write items; when this returns they are durable."""
        _need_index(served)
        items = asked.items
        labels = [item.label for item in items]
        if any(label is None for label in labels) and any(label is not None for label in labels):
            raise Refused(422, "either all items have a label or none.")
        names = set(items[0].columns)
        if any(set(item.columns) != names for item in items):
            raise Refused(422, "all items of a request must have the same columns.")
        kinds: dict[str, list[Any]] = {"ids": [item.id for item in items], "labels": labels}
        kinds |= {f"column {name!r}": [item.columns[name] for item in items] for name in names}
        for what, values in kinds.items():
            if len(found := {type(value) for value in values}) > 1 and found != {int, float}:
                raise Refused(422, f"{what} must be of one kind: all integers, or all strings.")
        vectors = await self._vectors(served, [item.item for item in items])
        columns = {name: np.array([item.columns[name] for item in items]) for name in names}

        def write() -> int:
            recogniser = served.recogniser
            known = labels if labels[0] is not None else None
            recogniser.add_vectors(vectors, known, [item.id for item in items], columns)  # type: ignore[arg-type]
            return len(recogniser.index)

        async with self._writing:
            total = await self._run(write)
        return {"changed": len(items), "total": total}

    async def delete(self, served: Served, ids: Sequence[int | str]) -> dict[str, Any]:
        """Remove items; ids that are not there are passed over."""
        _need_index(served)
        _one_kind(ids)

        def write() -> tuple[int, int]:
            gone = served.recogniser.delete(list(dict.fromkeys(ids)))
            return gone, len(served.recogniser.index)

        async with self._writing:
            gone, total = await self._run(write)
        return {"changed": gone, "total": total}

    async def items(self, served: Served, ids: Sequence[int | str]) -> dict[str, Any]:
        """Return what the index keeps of items."""
        _need_index(served)
        distinct = list(dict.fromkeys(ids))

        def read() -> list[dict[str, Any]]:
            try:
                table = served.recogniser.index.get(distinct)
            except DataError as error:
                raise Refused(404, str(error)) from None
            names = table.class_names
            labels: list[Any] = [None] * len(table) if table.labels is None else table.labels.tolist()
            columns = {name: values.tolist() for name, values in table.columns.items()}
            return [
                {
                    "id": id_,
                    "label": names[labels[row]] if names and labels[row] is not None else labels[row],
                    "columns": {name: values[row] for name, values in columns.items()},
                }
                for row, id_ in enumerate(table.ids.tolist())
            ]

        return {"items": await self._run(read)}

    async def count(self, served: Served) -> tuple[int | None, dict[str, str]]:
        """Return how many items the index holds, and its columns; None without one."""
        if not served.recogniser.has_index:
            return None, {}
        index = served.recogniser.index
        return await self._run(lambda: len(index)), index.columns

    async def _vectors(self, served: Served, subjects: Sequence[Any]) -> Vectors:
        """Return a vector (n, d) for each subject, wherever it comes from."""
        size = served.embedder.embedding_size
        found = np.empty((len(subjects), size), np.float32)
        fresh: list[int] = []
        stored: list[int] = []
        for place, subject in enumerate(subjects):
            if isinstance(subject, ByEmbedding):
                if len(subject.embedding) != size:
                    raise Refused(422, f"an embedding has {size} numbers; got {len(subject.embedding)}.")
                found[place] = subject.embedding
            elif isinstance(subject, ById):
                stored.append(place)
            else:
                fresh.append(place)
        if stored:
            _need_index(served)
            ids = [subjects[place].id for place in stored]
            _one_kind(ids)
            distinct = list(dict.fromkeys(ids))
            vectors = await self._run(lambda: served.recogniser.stored(distinct))
            found[stored] = vectors[[distinct.index(id_) for id_ in ids]]
        if fresh:
            asked = [subjects[place] for place in fresh]
            _check_kinds(served, asked)
            rows = await self._rows(served, asked)
            found[fresh] = await served.batcher(rows)
            bad = np.flatnonzero(~np.isfinite(found[fresh]).all(axis=1))
            if len(bad):
                raise Refused(422, f"the model gives no finite vector for item {fresh[int(bad[0])]}.")
        return found

    async def _rows(self, served: Served, subjects: Sequence[Picture | Features | Text]) -> list[Any]:
        if isinstance(subjects[0], Picture):
            contents = [subject.image for subject in subjects if isinstance(subject, Picture)]
            return await self._run(lambda: [served.row_of_picture(content) for content in contents])
        return [
            served.row_of_features(subject.features) if isinstance(subject, Features) else subject.text
            for subject in subjects
            if not isinstance(subject, Picture)
        ]

    async def _run(self, work: Callable[[], T]) -> T:
        """Run something in a thread; what the caller asked wrongly becomes 422.

        A request that runs out of time leaves its work to a thread, which cannot be stopped; so work is counted until
        it ends, and its number is bounded.
        """
        if self._pending >= 2 * self._limits.concurrency:
            raise Refused(503, "the server is overloaded: all its threads are busy.", 1)
        self._pending += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        future.add_done_callback(self._done)
        try:
            return await asyncio.shield(future)
        except (ArgumentError, DataError) as error:
            raise Refused(422, str(error)) from None

    def _done(self, future: asyncio.Future[Any]) -> None:
        self._pending -= 1
        if not future.cancelled():
            future.exception()  # looked at: a request that was given up leaves nobody to do it


def _need_index(served: Served) -> None:
    if not served.recogniser.has_index:
        raise Refused(409, "this run has no index (kyori index).")


def _one_kind(ids: Sequence[int | str]) -> None:
    if len({type(id_) for id_ in ids}) > 1:
        raise Refused(422, "ids must be of one kind: all integers, or all strings.")


def _check_kinds(served: Served, subjects: Sequence[Any]) -> None:
    wanted = served.embedder.preprocess.kind
    kinds = {"image": Picture, "vector": Features, "text": Text}
    if wanted not in kinds:
        raise Refused(
            422, f"this model takes {wanted}s, which requests cannot hold: ask by id or by embedding."
        )
    field = {"image": "image", "vector": "features", "text": "text"}[wanted]
    if not all(isinstance(subject, kinds[wanted]) for subject in subjects):
        raise Refused(422, f"this model takes {wanted}s: give each item as {{{field!r}: …}}.")


def _condition(wanted: Any) -> Any:
    """Return a condition in the form of the index, whose operators stand in tuples, which JSON has not."""
    return [(name, value) for name, value in wanted.items()] if isinstance(wanted, dict) else wanted
