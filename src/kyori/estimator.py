"""`MetricLearner`: a learned distance as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from .errors import ArgumentError
from .evaluation import evaluate
from .runs import fit
from .vectors import VectorTable

__all__ = ["MetricLearner"]


class MetricLearner(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Learn vectors in which items of a class are close and items of different classes are far apart.

    Works wherever scikit-learn's transformers do: in pipelines, in ``cross_val_score``, before a
    ``KNeighborsClassifier``.

    Args:
        loss: A name of ``kyori.losses.LOSSES``.
        backbone: ``"mlp"``, ``"cnn"`` (for ``X`` of shape ``(n, h, w)`` or ``(n, h, w, c)``), or a timm name.
        embedding_size: Size d of a vector, ≥ 1.
        epochs: Times that the items are seen, ≥ 1.
        batch_size: Items in a batch, ≥ 2.
        lr: Learning rate of Adam, > 0.
        options: Any further keys of the configuration, e.g. ``{"margin": 0.3, "weight_decay": 1e-4}``.
        random_state: Seed ≥ 0 (or a ``RandomState`` from which one is drawn); equal seeds give equal vectors.

    Attributes:
        embedder_: The trained :class:`~kyori.Embedder`.
        classes_: The labels seen in ``fit``, ``(c,)``.
        n_features_in_: Features f of an item.
        history_: One record an epoch.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> learner = MetricLearner(loss="triplet", embedding_size=2, epochs=5).fit(X, y)
        >>> learner.transform(X).shape
        (150, 2)
        >>> learner.score(X, y) > 0.9
        True
    """

    def __init__(
        self,
        loss: str = "triplet",
        *,
        backbone: str = "mlp",
        embedding_size: int = 64,
        epochs: int = 20,
        batch_size: int = 128,
        lr: float = 1e-3,
        options: Mapping[str, Any] | None = None,
        random_state: Any = 0,
    ):
        self.loss = loss
        self.backbone = backbone
        self.embedding_size = embedding_size
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.options = options
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> MetricLearner:
        """Learn from items ``(n, f)`` or images ``(n, h, w[, c])`` and labels ``(n,)`` of at least two classes."""
        X, y = validate_data(self, X, y, allow_nd=True, dtype=None if _is_bytes(X) else np.float32)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ArgumentError(f"y must hold at least 2 classes; got 1 class ({self.classes_[0]!r}).")
        settings = {
            "split": "none",
            "keep": "last",
            "backbone": self.backbone,
            "embedding_size": self.embedding_size,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "lr": self.lr,
            "seed": _seed(self.random_state),
        }
        run = fit((X, codes), loss=self.loss, report=None, **{**settings, **(self.options or {})})
        self.embedder_ = run.embedder
        self.history_ = run.history
        self._n_features_out = run.embedder.embedding_size
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return vectors ``(n, d)`` of float32; compare them with the euclidean distance."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, allow_nd=True, dtype=None if _is_bytes(X) else np.float32)
        return self.embedder_.encode(X)

    def score(self, X: Any, y: Any) -> float:
        """Return Recall@1 on ``X, y``: the share of items whose nearest other item has the same label."""
        table = VectorTable(vectors=self.transform(X), labels=np.unique(y, return_inverse=True)[1])
        return evaluate(table, measures=["recall@1"], bootstrap=0)["recall@1"].value

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.non_deterministic = False
        return tags


def _is_bytes(X: Any) -> bool:
    return getattr(X, "dtype", None) == np.uint8


def _seed(random_state: Any) -> int:
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(random_state.randint(2**31))
