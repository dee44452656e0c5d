"""`MetricLearner` in scikit-learn's own terms."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from kyori import MetricLearner
from kyori.errors import ConfigError


@parametrize_with_checks([MetricLearner(epochs=2, embedding_size=4, batch_size=16)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_it_learns():
    X, y = load_iris(return_X_y=True)
    learner = MetricLearner(embedding_size=2, epochs=30).fit(X, y)
    assert learner.score(X, y) > 0.95
    assert learner.transform(X).dtype == np.float32


def test_in_a_pipeline():
    X, y = load_digits(return_X_y=True)
    X, y = X[:400], y[:400]
    model = make_pipeline(MetricLearner(loss="softmax", epochs=40), KNeighborsClassifier(3))
    assert cross_val_score(model, X, y, cv=2).mean() > 0.85


def test_same_seed_same_bits():
    X, y = load_iris(return_X_y=True)
    a, b, c = (MetricLearner(epochs=2, random_state=s).fit(X, y).transform(X) for s in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_images_and_string_labels():
    digits = load_digits()
    images = (digits.images[:200] * 15.9).astype(np.uint8)
    names = np.array([f"digit {t}" for t in digits.target[:200]])
    learner = MetricLearner(backbone="cnn", epochs=1).fit(images, names)
    assert learner.transform(images[:3]).shape == (3, 64)
    assert learner.classes_[0] == "digit 0"


def test_options_reach_the_configuration():
    learner = MetricLearner(options={"margin": 0.7, "weight_decay": 1e-3}, epochs=1)
    X, y = load_iris(return_X_y=True)
    assert learner.fit(X, y).embedder_.embedding_size == 64
    with pytest.raises(ConfigError, match="'margn' is unknown; did you mean 'margin'"):
        clone(learner).set_params(options={"margn": 1}).fit(X, y)


def test_one_class_is_an_error():
    with pytest.raises(ValueError, match="at least 2 classes; got 1 class"):
        MetricLearner().fit(np.zeros((4, 2)), [1, 1, 1, 1])
