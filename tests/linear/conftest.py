import warnings

import numpy as np
import pytest
from sklearn.datasets import load_iris, load_wine
from sklearn.preprocessing import StandardScaler


@pytest.fixture(scope="session")
def iris():
    X, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.fixture(scope="session")
def wine():
    X, y = load_wine(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.fixture(scope="session")
def metric_learn():
    """metric-learn 0.7, made to run beside scikit-learn 1.8 and later, which renamed an argument that it passes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = pytest.importorskip("metric_learn")
        import metric_learn._util as checks

    def renamed(check):
        def call(*arguments, force_all_finite=None, **options):
            if force_all_finite is not None:
                options["ensure_all_finite"] = force_all_finite
            return check(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("check_array", "check_X_y"):
            patch.setattr(checks, name, renamed(getattr(checks, name)))
        yield package


@pytest.fixture
def rng():
    return np.random.default_rng(0)
