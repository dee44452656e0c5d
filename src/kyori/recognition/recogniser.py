"""The recogniser: a model, the index of what it knows, and the thresholds it decides by."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ..distances import row_distance
from ..errors import ArgumentError, DataError
from ..evaluation.calibration import Calibration
from ..index import Index, Rerank, open_index
from ..runs import open_run
from ..vectors import VectorTable
from .calibrations import GalleryCalibration, Pooling, RunCalibration
from .identities import Found, Templates, labelled_items, labels_by_id, nearest_identities
from .places import find_note, index_place, is_folder, model_mark
from .values import Candidate, Hit, Identity, Label, Verdict

__all__ = ["Encoder", "Recogniser"]

Vectors = NDArray[np.float32]


class Encoder(Protocol):
    """Anything that turns a list of items into vectors ``(n, d)``: an Embedder, or another library's model."""

    def encode(self, items: Any, /) -> Any:
        """Return one vector an item, in their order."""
        ...


class Recogniser:
    """Searches, verifies and identifies with the model, the index and the calibration of a run.

    Each question comes in two forms: of items (pictures, vectors, texts: whatever the model takes) and of vectors that
    are there already (``…_vectors``), for callers that encode in batches of their own. Any number of threads may ask at
    the same time; with ``writable=True`` they may also :meth:`add` and :meth:`remove` meanwhile.

    Args:
        encoder: The model.
        index: Its index; None where only :meth:`embed` and :meth:`verify` are wanted.
        calibration: Its thresholds; None where none are calibrated.
        name: What messages call it, and the commands in them: a run folder.

    >>> import kyori, tempfile
    >>> run = kyori.fit("digits", loss="triplet", epochs=1, seed=0)
    >>> digits = kyori.open_source("digits")
    >>> with kyori.open_index(tempfile.mkdtemp() + "/index") as index:
    ...     recogniser = Recogniser(run.embedder, index)
    ...     recogniser.add(digits.load(range(100)), labels=digits.labels[:100])
    ...     hits = recogniser.search([digits.load([7])[0]], k=2)[0]
    ...     recogniser.identify(digits.load([7])[0], threshold=0.5).identity
    7
    >>> hits[0].id, round(hits[0].distance, 3)
    (7, 0.0)
    """

    def __init__(
        self,
        encoder: Encoder,
        index: Index | None = None,
        calibration: RunCalibration | None = None,
        *,
        name: str = "RUN",
    ):
        self.encoder = encoder
        self.calibration = calibration
        self.name = name
        self._index = index
        self._encoding = threading.Lock()
        self._pooling = threading.Lock()
        self._templates: Templates | None = None
        self._version = 0  # of the gallery, as far as this object changes it
        if index is not None and calibration is not None and calibration.metric != index.metric:
            raise ArgumentError(
                f"{name} is calibrated for {calibration.metric} distances, and its index measures {index.metric}"
                " ones; run kyori calibrate again."
            )

    @classmethod
    def open(cls, run: str | Path, *, url: str | None = None, writable: bool = False) -> Self:
        """Open a run folder with its index and calibration, as far as they are there.

        Args:
            run: The run folder.
            url: Where its index is, if not where ``kyori index`` put it, or with the password that is not kept.
            writable: Open an index in a folder for writing, which one process at a time can do.

        Raises:
            FileFormatError: It is no run folder, or a file in it is damaged.
            ArgumentError: The index or the calibration belong to another model.
        """
        folder = Path(run)
        embedder = open_run(folder).embedder
        mark = model_mark(folder)
        calibration = RunCalibration.load(folder, mark)
        note = find_note(folder)
        if not note and url is None:
            return cls(embedder, None, calibration, name=str(run))
        if "model" in note and url is None and note["model"] != mark:
            raise ArgumentError(
                f"the index of {run} was made by another model than its present one; make it again with: kyori index"
                f" {run} DATA --overwrite"
            )
        place = url or index_place(folder)
        index = open_index(place, create=False, read_only=is_folder(place) and not writable)
        try:
            return cls(embedder, index, calibration, name=str(run))
        except BaseException:
            index.close()
            raise

    @property
    def index(self) -> Index:
        """The index.

        Raises:
            ArgumentError: There is none yet.
        """
        if self._index is None:
            raise ArgumentError(f"{self.name} has no index yet; make one with: kyori index {self.name} DATA")
        return self._index

    @property
    def has_index(self) -> bool:
        """Whether there is an index to search."""
        return self._index is not None

    @property
    def metric(self) -> str:
        """The distance: the index's, else the calibration's, else euclidean."""
        if self._index is not None:
            return self._index.metric
        return self.calibration.metric if self.calibration is not None else "euclidean"

    @property
    def takes(self) -> str:
        """What the model takes: ``"image"``, ``"vector"``, ``"array"``, ``"set"``, ``"text"``, or ``"any"``."""
        return str(getattr(getattr(self.encoder, "preprocess", None), "kind", "any"))

    @property
    def item_shape(self) -> tuple[int, ...] | None:
        """The shape of an item that the model takes; of sets that of one vector; None where it does not say."""
        shape = getattr(getattr(self.encoder, "preprocess", None), "shape", None)
        return None if shape is None else tuple(shape)

    def embed(self, items: Any) -> Vectors:
        """Return the vectors ``(n, d)`` of items.

        Strings are paths where the model takes pictures: hand over nothing from strangers but decoded pictures.

        Raises:
            ArgumentError: Items of the wrong shape or kind.
            ItemError: An item cannot be read.
        """
        if getattr(
            self.encoder, "training", False
        ):  # an embedder in training mode changes it while it encodes
            with self._encoding:
                found = self.encoder.encode(items)
        else:
            found = self.encoder.encode(items)
        if isinstance(found, torch.Tensor):
            found = found.detach().cpu().numpy()
        vectors = np.asarray(found, np.float32)
        if vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise DataError(
                f"the model must give finite vectors of shape (n, d); got shape {vectors.shape}"
                + ("" if vectors.ndim != 2 else " with numbers that are not finite")
                + "."
            )
        return vectors

    def stored(self, ids: ArrayLike) -> Vectors:
        """Return the vectors ``(n, d)`` of items of the index, by id.

        Raises:
            DataError: An id is not there.
        """
        return self.index.get(ids).vectors

    def search(
        self,
        items: Any,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        *,
        rerank: Rerank | None = None,
    ) -> list[list[Hit]]:
        """Return the ``k`` nearest items of the index for each item; fewer where there are fewer.

        Args:
            items: Whatever the model takes, as a list.
            k: How many, ≥ 1.
            where: A filter on columns, as in :meth:`kyori.index.Index.search`.
            rerank: How to look at the first neighbours again.
        """
        return self.search_vectors(self.embed(items), k, where, rerank=rerank)

    def search_vectors(
        self,
        vectors: ArrayLike,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        *,
        rerank: Rerank | None = None,
    ) -> list[list[Hit]]:
        """Do what :meth:`search` does for vectors ``(q, d)`` or one vector ``(d,)``."""
        with self.index.steady():  # or an item may have another's label by then
            found = self.index.search(vectors, k, where, rerank=rerank)
            reached = np.isfinite(found.distances)
            labels = labels_by_id(self.index, list(dict.fromkeys(found.ids[reached].tolist())))
        verification = self.calibration.verification if self.calibration is not None else None
        probable = (
            verification.probability(found.distances)
            if verification is not None and rerank is None
            else np.full(found.distances.shape, np.nan)
        )
        return [
            [
                Hit(id_, labels.get(id_), distance, None if probability != probability else probability)
                for id_, distance, probability, there in zip(
                    found.ids[row].tolist(),
                    found.distances[row].tolist(),
                    probable[row].tolist(),
                    reached[row],
                    strict=True,
                )
                if there and id_ in labels
            ]
            for row in range(len(found.ids))
        ]

    def verify(self, a: Any, b: Any) -> Verdict:
        """Decide whether two items are the same.

        Raises:
            ArgumentError: The run is not calibrated for verification.
        """
        self.require_verification()  # before two items are encoded in vain
        vectors = self.embed([a, b])
        return self.verify_vectors(vectors[:1], vectors[1:])[0]

    def verify_vectors(self, a: ArrayLike, b: ArrayLike) -> list[Verdict]:
        """Decide for each row of ``a`` ``(m, d)`` whether it is the same as that row of ``b`` ``(m, d)``."""
        calibration = self.require_verification()
        distances = self.distances(a, b)
        target = "{}={:g}".format(*calibration.target)
        return [
            Verdict(
                same=same,
                distance=distance,
                probability=probability,
                threshold=calibration.threshold,
                far=calibration.far.value,
                far_low=calibration.far.low,
                far_high=calibration.far.high,
                target=target,
            )
            for same, distance, probability in zip(
                calibration.decide(distances).tolist(),
                distances.tolist(),
                calibration.probability(distances).tolist(),
                strict=True,
            )
        ]

    def require_verification(self) -> Calibration:
        """Return the calibration that :meth:`verify` decides by.

        Raises:
            ArgumentError: There is none.
        """
        if self.calibration is None or self.calibration.verification is None:
            raise ArgumentError(
                f"{self.name} is not calibrated for verification; find the threshold with: kyori calibrate"
                f" {self.name} PAIRS|DATA --far 1e-3"
            )
        return self.calibration.verification

    def distances(self, a: ArrayLike, b: ArrayLike) -> Vectors:
        """Return the distance ``(m,)`` of each row of ``a`` to the same row of ``b``, both ``(m, d)``."""
        rows = [torch.from_numpy(np.array(side, np.float64, ndmin=2)) for side in (a, b)]
        return row_distance(rows[0], rows[1], self.metric).clamp_(min=0).float().numpy()  # type: ignore[arg-type]

    def identify(
        self, item: Any, k: int = 5, *, pooling: Pooling | None = None, threshold: float | None = None
    ) -> Identity:
        """Return who an item is among the identities (labels) of the index, or unknown.

        Args:
            item: Whatever the model takes.
            k: How many candidates to name, ≥ 1.
            pooling: ``"nearest"``: an identity is as near as the nearest of its items; ``"mean"``: as their mean. As
                calibrated if left out, else nearest.
            threshold: Distance below which the best candidate is accepted, instead of the calibrated one.

        Raises:
            ArgumentError: Nothing is calibrated and no threshold given, or calibrated for another pooling.
            DataError: The items of the index have no labels.
        """
        self.gallery_threshold(pooling, threshold)  # says what is missing before the item is encoded
        return self.identify_vectors(self.embed([item]), k, pooling=pooling, threshold=threshold)[0]

    def identify_vectors(
        self,
        vectors: ArrayLike,
        k: int = 5,
        *,
        pooling: Pooling | None = None,
        threshold: float | None = None,
    ) -> list[Identity]:
        """Do what :meth:`identify` does for vectors ``(q, d)``."""
        if k < 1:
            raise ArgumentError(f"k must be at least 1; got {k}.")
        limit, target, how, gallery = self.gallery_threshold(pooling, threshold)
        asked = np.array(vectors, np.float32, ndmin=2)
        answers = []
        for found in self._identities(asked, k, how):
            candidates = tuple(
                Candidate(one.identity, one.distance, probability, one.nearest)
                for one, probability in zip(found, self._probable(found, gallery), strict=True)
            )
            first = candidates[0] if candidates else None
            known = first is not None and first.distance < limit
            answers.append(
                Identity(
                    identity=first.identity if first is not None and known else None,
                    distance=first.distance if first is not None else float("inf"),
                    probability=first.probability if first is not None else None,
                    threshold=limit,
                    target=target,
                    candidates=candidates,
                )
            )
        return answers

    def gallery_threshold(
        self, pooling: Pooling | None = None, threshold: float | None = None
    ) -> tuple[float, str, Pooling, GalleryCalibration | None]:
        """Return the threshold of identification, what it was chosen for, the pooling, and the calibration behind it.

        Raises:
            ArgumentError: Nothing is calibrated and no threshold given, or calibrated for another pooling.
        """
        if pooling not in (None, "nearest", "mean"):
            raise ArgumentError(f"pooling must be 'nearest' or 'mean'; got {pooling!r}.")
        gallery = self.calibration.identification if self.calibration is not None else None
        if threshold is not None:
            if not threshold > 0:
                raise ArgumentError(f"threshold must be a distance above 0; got {threshold}.")
            return float(threshold), "threshold", pooling or "nearest", None
        if gallery is None:
            raise ArgumentError(
                f"{self.name} is not calibrated for identification; find the threshold with: kyori calibrate"
                f" {self.name} DATA --fpir 0.01, or give one with --threshold."
            )
        if pooling not in (None, gallery.pooling):
            raise ArgumentError(
                f"{self.name} is calibrated for the pooling {gallery.pooling}; for {pooling} run kyori calibrate"
                f" {self.name} DATA --fpir 0.01 --pooling {pooling}, or give --threshold."
            )
        return (
            gallery.calibration.threshold,
            f"fpir={gallery.calibration.target[1]:g}",
            gallery.pooling,
            gallery,
        )

    def add(
        self,
        items: Any,
        labels: ArrayLike | None = None,
        ids: ArrayLike | None = None,
        columns: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        """Add items to the index, or replace those whose ids are there: this is how an identity is enrolled.

        Args:
            items: Whatever the model takes, n of them.
            labels: ``(n,)`` identities.
            ids: ``(n,)`` unique; ``0 … n−1`` if left out.
            columns: ``(n,)`` arrays of the index's further columns.
        """
        self.add_vectors(self.embed(items), labels, ids, columns)

    def add_vectors(
        self,
        vectors: ArrayLike,
        labels: ArrayLike | None = None,
        ids: ArrayLike | None = None,
        columns: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        """Do what :meth:`add` does for vectors ``(n, d)``."""
        self.index.add_table(VectorTable(ids, vectors, labels, columns), replace=True)
        self.refresh()

    def delete(self, ids: ArrayLike) -> int:
        """Remove items by id and return how many there were."""
        gone = self.index.delete(ids)
        self.refresh()
        return gone

    def remove(self, identity: Label) -> int:
        """Remove all items of an identity and return how many there were."""
        table, labels = labelled_items(self.index)
        ids = table.ids[labels == identity]
        return self.delete(ids) if len(ids) else 0

    def refresh(self) -> None:
        """Forget pooled templates; to be called when another process has changed the index."""
        with self._pooling:
            self._version += 1
            self._templates = None

    def close(self) -> None:
        """Let go of the index."""
        if self._index is not None:
            self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _identities(self, vectors: Vectors, k: int, pooling: Pooling) -> list[list[Found]]:
        if "label" not in self.index.columns:
            if len(self.index) == 0:
                return [[] for _ in vectors]
            raise DataError("the items of this index have no labels; identification needs them.")
        if pooling == "mean":
            return self._pooled().nearest(vectors, k, self.metric)
        return nearest_identities(self.index, vectors, k)

    def _pooled(self) -> Templates:
        with self._pooling:
            if self._templates is not None:
                return self._templates
            version = self._version
        table, labels = labelled_items(self.index)
        found = Templates.of(table.vectors, labels)
        with self._pooling:
            if version == self._version:
                self._templates = found
        return found

    def _probable(self, found: list[Found], gallery: GalleryCalibration | None) -> list[float | None]:
        if gallery is None or not found:
            return [None] * len(found)
        return list(gallery.calibration.probability([one.distance for one in found]).tolist())
