"""What holds for every linear method."""

import json

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import kyori
from kyori.errors import ArgumentError, FileFormatError
from kyori.linear import LINEAR, NCA, SCML, LinearMetric, create

SMALL = {"scml": {"n_basis": 40, "n_triplets": 500}}
NAMES = sorted(LINEAR)


def made(name):
    return create(name, **SMALL.get(name, {}))


@pytest.fixture(scope="module")
def fitted(iris):
    X, y = iris
    return {name: made(name).fit(X, y) for name in NAMES}


@parametrize_with_checks([made(name) for name in NAMES])
@pytest.mark.filterwarnings("ignore::kyori.errors.DegenerateWarning")
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("options", [{"batch_size": 8, "epochs": 2}], ids=["batches"])
@pytest.mark.parametrize("name", ["nca", "lmnn", "mlkr"])
def test_mini_batches_are_deterministic_too(name, options, iris):
    X, y = iris
    a, b, c = (create(name, **options, random_state=s).fit(X, y).components_ for s in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize("name", NAMES)
class TestDistance:
    def test_it_is_a_pseudo_metric(self, name, fitted, rng):
        metric = fitted[name]
        a, b, c = rng.normal(size=(3, 200, 4)) * 3

        def distance(u, v):
            return metric.pair_distance(np.stack([u, v], axis=1))

        assert (distance(a, b) >= 0).all()
        assert (distance(a, a) == 0).all()
        np.testing.assert_allclose(distance(a, b), distance(b, a), rtol=1e-12)
        assert (distance(a, c) <= (distance(a, b) + distance(b, c)) * (1 + 1e-12)).all()

    def test_the_matrix_is_symmetric_and_never_negative(self, name, fitted):
        M = fitted[name].get_mahalanobis_matrix()
        np.testing.assert_array_equal(M, M.T)
        assert np.linalg.eigvalsh(M)[0] >= -1e-10 * np.linalg.eigvalsh(M)[-1]

    def test_transform_is_linear(self, name, fitted, rng):
        metric = fitted[name]
        a, b = rng.normal(size=(2, 30, 4))
        joint = metric.transform(2 * a - 3 * b)
        np.testing.assert_allclose(joint, 2 * metric.transform(a) - 3 * metric.transform(b), atol=1e-9)

    def test_all_ways_to_the_distance_agree(self, name, fitted, iris):
        metric, X = fitted[name], iris[0]
        index = np.array([[0, 1], [5, 80], [149, 3]])
        expected = metric.pair_distance(X[index])
        Z = metric.transform(X)
        np.testing.assert_allclose(expected, np.linalg.norm(Z[index[:, 0]] - Z[index[:, 1]], axis=1))
        V = X[index[:, 0]] - X[index[:, 1]]
        M = metric.get_mahalanobis_matrix()
        np.testing.assert_allclose(expected**2, np.einsum("ni,ij,nj->n", V, M, V))
        np.testing.assert_array_equal(metric.pair_distance(index, X), expected)
        np.testing.assert_array_equal(metric.pair_score(X[index]), -expected)
        between = metric.get_metric()
        np.testing.assert_allclose([between(X[i], X[j]) for i, j in index], expected)
        np.testing.assert_allclose(between(X[0], X[1], squared=True), expected[0] ** 2)

    def test_same_seed_same_bits(self, name, fitted, iris):
        assert np.array_equal(clone(fitted[name]).fit(*iris).components_, fitted[name].components_)

    def test_encode_is_transform_in_float32(self, name, fitted, iris):
        X, metric = iris[0], fitted[name]
        vectors = metric.encode(X, batch_size=64)
        assert vectors.dtype == np.float32
        assert vectors.shape == (150, metric.embedding_size)
        np.testing.assert_allclose(vectors, metric.transform(X), rtol=1e-5, atol=1e-5)
        assert metric.encode(X[:0]).shape == (0, metric.embedding_size)

    def test_save_and_load(self, name, fitted, iris, tmp_path):
        metric = clone(fitted[name]).fit(*iris)
        index, same = [[0, 1], [0, 100]], [True, False]
        metric.calibrate_threshold(index, same, X=iris[0]).save(tmp_path)
        found = LinearMetric.load(tmp_path)
        assert type(found) is type(metric)
        assert found.get_params() == metric.get_params()
        assert np.array_equal(found.transform(iris[0]), metric.transform(iris[0]))
        assert found.threshold_ == metric.threshold_
        with pytest.raises(ValueError, match="expecting 4 features"):
            found.transform(np.zeros((2, 3)))


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"covariance", "mlkr"}))
def test_errors_of_labels(name):
    X = np.arange(12.0).reshape(6, 2) ** 2
    with pytest.raises(ValueError, match="NaN"):
        made(name).fit(np.full((4, 2), np.nan), [0, 0, 1, 1])
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        made(name).fit(X[:1], [0])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        made(name).fit(X, [0, 1])
    if name != "rca":
        with pytest.raises(ArgumentError, match=r"at least 2 classes; got 1 class \(3\)"):
            made(name).fit(X, [3] * 6)
    if name not in ("nca", "lda"):
        with pytest.raises(ValueError, match=r"every item is alone|zero: nothing varies"):
            made(name).fit(X, range(6))


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"covariance", "mlkr", "lda"}))
@pytest.mark.filterwarnings("ignore::kyori.errors.DegenerateWarning")
def test_a_class_of_one_is_allowed(name, iris):
    X, y = iris
    y = np.where(np.arange(150) == 7, 9, y)
    assert np.isfinite(made(name).fit(X, y).components_).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::kyori.errors.DegenerateWarning")
def test_duplicates_and_constant_features_are_allowed(name, iris):
    X, y = iris
    X = np.concatenate([X, X[:40]])
    X = np.column_stack([X, np.full(len(X), 3.0)])
    assert np.isfinite(made(name).fit(X, np.concatenate([y, y[:40]])).components_).all()


@pytest.mark.parametrize("name", ["nca", "lmnn", "lda", "lfda", "rca", "covariance", "mlkr"])
def test_number_of_components(name, iris):
    X, y = iris
    assert create(name, n_components=2).fit(X, y).transform(X).shape == (150, 2)
    for wrong in (0, 9, 1.5):
        with pytest.raises(ArgumentError, match="n_components must be"):
            create(name, n_components=wrong).fit(X, y)


@pytest.mark.parametrize("init", ["pca", "lda", "identity", "random", np.eye(2, 4)], ids=str)
def test_starts(init, iris):
    X, y = iris
    metric = NCA(2, init=init).fit(X, y)
    assert metric.objective_ > 145
    with pytest.raises(ArgumentError, match=r"did you mean 'pca'"):
        NCA(2, init="pcs").fit(X, y)
    with pytest.raises(ArgumentError, match="n_components is 3, but init has 2 rows"):
        NCA(3, init=np.eye(2, 4)).fit(X, y)
    with pytest.raises(ArgumentError, match="at most classes − 1 = 2 components; got n_components 3"):
        NCA(3, init="lda").fit(X, y)


def test_pipelines_and_string_labels(iris):
    X, y = iris
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    model = make_pipeline(NCA(2), KNeighborsClassifier(3)).fit(X[::2], names[::2])
    assert model.score(X[1::2], names[1::2]) > 0.9
    assert list(NCA(2).fit(X, y).get_feature_names_out()) == ["nca0", "nca1"]


def test_names():
    assert kyori.linear.LINEAR is LINEAR
    assert isinstance(create("scml", beta=0.1), SCML)
    with pytest.raises(ArgumentError, match="unknown linear method 'lmn'; did you mean 'lmnn'"):
        create("lmn")
    with pytest.raises(ArgumentError, match="has no option 'n_component'; did you mean 'n_components'"):
        create("nca", n_component=2)


def test_damaged_files(iris, tmp_path):
    X, y = iris
    metric = NCA(2, init=np.eye(2, 4)).fit(X, y)
    metric.save(tmp_path)
    assert np.array_equal(NCA.load(tmp_path).init, np.eye(2, 4))
    with pytest.raises(ArgumentError, match=r"holds NCA; load it with LinearMetric\.load"):
        SCML.load(tmp_path)
    with pytest.raises(FileFormatError, match="does not exist"):
        LinearMetric.load(tmp_path / "nothing")
    facts = json.loads((tmp_path / "model.json").read_text())
    for change, message in (
        ({"version": 9}, "has version 9"),
        ({"format": "other"}, "does not describe a linear metric"),
        ({"method": "Nothing"}, "is damaged"),
        ({"weights": {"crc32": "0"}}, "not from the same save"),
    ):
        (tmp_path / "model.json").write_text(json.dumps({**facts, **change}))
        with pytest.raises(FileFormatError, match=message):
            LinearMetric.load(tmp_path)
    with pytest.raises(ArgumentError, match="got a RandomState"):
        NCA(random_state=np.random.RandomState(0)).fit(X, y).save(tmp_path)
