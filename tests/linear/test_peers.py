"""The same optimum as scikit-learn and metric-learn, by objective; and the same or better neighbours.

Two of metric-learn 0.7 are no judges: SDML does not run with scikit-learn ≥ 1.8 (it passes `cov_init`), and LFDA takes
σ_i from a wrong axis. test_objectives.py judges ours by the graphical lasso and by the sum over pairs. Its other
conventions that differ (docs/linear.md) are met here by giving both sides the same constraints.
"""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.neighbors import KNeighborsClassifier, NeighborhoodComponentsAnalysis
from sklearn.preprocessing import StandardScaler

from kyori.linear import ITML, LDA, LFDA, LMNN, LSML, MLKR, MMC, NCA, RCA, Covariance
from kyori.linear.impostors import MarginSum
from kyori.linear.lmnn import target_neighbours
from kyori.linear.logdet import logdet_divergence
from kyori.linear.nca import own_share
from kyori.linear.neighbourhood import Rows, soft_neighbours

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(params=["iris", "wine"])
def table(request):
    return request.getfixturevalue(request.param)


def nca_objective(L, X, y):
    order = np.argsort(y, kind="stable")
    return -soft_neighbours(np.ascontiguousarray(L), Rows(X[order]), own_share(y[order]))[0]


@pytest.mark.parametrize("d", [1, 2, None])
def test_nca(table, metric_learn, d):
    X, y = table
    ours = NCA(d).fit(X, y)
    sklearn = NeighborhoodComponentsAnalysis(d, random_state=0).fit(X, y)
    theirs = metric_learn.NCA(n_components=d, max_iter=50, tol=1e-5).fit(X, y)
    for peer in (sklearn, theirs):
        assert ours.objective_ >= 0.999 * nca_objective(peer.components_, X, y)
    assert ours.objective_ == pytest.approx(nca_objective(sklearn.components_, X, y), rel=1e-4)


def test_nca_with_more_rows_is_ahead_after_as_many_steps(monkeypatch, rng):
    """Directions of very different spread: steps in even coordinates gain more."""
    monkeypatch.setattr("kyori.linear.nca._FEW", 100)
    y = rng.integers(0, 4, 400)
    X = (rng.normal(size=(4, 12))[y] + rng.normal(size=(400, 12))) @ rng.normal(size=(12, 12))
    ours = NCA(init="identity", max_iter=8).fit(X, y)
    theirs = NeighborhoodComponentsAnalysis(init="identity", max_iter=8).fit(X, y)
    assert ours.objective_ == pytest.approx(nca_objective(ours.components_, X, y), rel=1e-6)
    assert ours.objective_ > 1.01 * nca_objective(theirs.components_, X, y)


def test_lmnn(table, metric_learn):
    X, y = table
    ours = LMNN().fit(X, y)
    theirs = metric_learn.LMNN(n_neighbors=3, learn_rate=1e-4, max_iter=300).fit(X, y)
    order = np.argsort(y, kind="stable")
    targets = target_neighbours(X[order], y[order], 3, np.random.default_rng(0))
    total = MarginSum(Rows(X[order]), y[order], targets, push=0.5, pull=0.5)
    assert ours.objective_ <= 1.0001 * total(theirs.components_)[0]
    X, y = X[order], y[order]
    chosen = theirs._select_targets(X, y)  # iris has equal items, which may be taken in another order
    peers_own = theirs._loss_grad(X, theirs.components_, _scatter(X, chosen), 3, 0.5, chosen, y)[1]
    same = MarginSum(Rows(X), y, chosen, push=0.5, pull=0.5)(theirs.components_)[0]
    assert same == pytest.approx(peers_own, rel=1e-6)


def _scatter(X, targets):
    V = X[targets.ravel()] - np.repeat(X, 3, axis=0)
    return V.T @ V


def test_lda(table):
    X, y = table
    ours, theirs = LDA().fit(X, y), LinearDiscriminantAnalysis(solver="eigen").fit(X, y)
    np.testing.assert_allclose(
        ours.get_mahalanobis_matrix(),
        theirs.scalings_[:, :2] @ theirs.scalings_[:, :2].T,
        rtol=1e-6,
        atol=1e-9,
    )


@pytest.mark.parametrize("d", [2, None])
def test_rca(table, metric_learn, d):
    X, y = table
    chunks = np.where(np.arange(len(y)) % 5 == 0, -1, y)
    theirs = metric_learn.RCA(n_components=d).fit(X, chunks)
    ours = RCA(d).fit_chunks(X, chunks)
    np.testing.assert_allclose(
        ours.get_mahalanobis_matrix(), theirs.get_mahalanobis_matrix(), rtol=1e-6, atol=1e-8
    )


def test_covariance(table, metric_learn):
    X, _ = table
    theirs = metric_learn.Covariance().fit(X)
    np.testing.assert_allclose(
        Covariance().fit(X).get_mahalanobis_matrix(), theirs.get_mahalanobis_matrix(), rtol=1e-6, atol=1e-8
    )


@pytest.fixture
def pairs(table):
    X, y = table
    rng = np.random.default_rng(0)
    index = rng.integers(0, len(X), (100, 2))
    index = index[(X[index[:, 0]] != X[index[:, 1]]).any(1)]
    return X, index, y[index[:, 0]] == y[index[:, 1]]


def test_itml(pairs, metric_learn):
    X, index, same = pairs
    bounds = (2.0, 20.0)
    ours = ITML(bounds=bounds).fit_pairs(index, same, X=X)
    theirs = metric_learn.ITML(max_iter=5000, tol=1e-4).fit(
        X[index], np.where(same, 1, -1), bounds=np.array(bounds)
    )

    def objective(M):
        V = X[index[:, 0]] - X[index[:, 1]]
        D = np.einsum("ni,ij,nj->n", V, M, V)
        slack = np.where(same, np.maximum(D, 2) / 2, np.minimum(D, 20) / 20)
        return logdet_divergence(M, np.eye(len(M))) + np.sum(slack - np.log(slack) - 1)

    assert ours.objective_ == pytest.approx(objective(ours.get_mahalanobis_matrix()))
    assert ours.objective_ == pytest.approx(objective(theirs.get_mahalanobis_matrix()), rel=1e-3)


def test_mmc(pairs, metric_learn):
    X, index, same = pairs
    ours = MMC().fit_pairs(index, same, X=X)
    theirs = metric_learn.MMC(max_iter=30).fit(X[index], np.where(same, 1, -1))

    def ratio(metric):
        V = (X[index[:, 0]] - X[index[:, 1]]) @ metric.components_.T
        return np.linalg.norm(V[~same], axis=1).sum() / np.sqrt((V[same] ** 2).sum())

    assert ours.objective_ == pytest.approx(ratio(ours))
    assert ratio(ours) >= 0.9999 * ratio(theirs)


def test_lsml(table, metric_learn):
    X, y = table
    rng = np.random.default_rng(0)
    index = rng.integers(0, len(X), (2000, 4))
    index = index[(y[index[:, 0]] == y[index[:, 1]]) & (y[index[:, 2]] != y[index[:, 3]])]
    index = index[index[:, 0] != index[:, 1]][:200]
    ours = LSML().fit_quadruplets(index, X=X)
    theirs = metric_learn.LSML(max_iter=100).fit(X[index])

    def objective(M):
        D = [np.einsum("ni,ij,nj->n", V, M, V) for V in (X[index[:, i]] - X[index[:, i + 1]] for i in (0, 2))]
        gap = np.maximum(np.sqrt(D[0]) - np.sqrt(D[1]), 0)
        return np.mean(gap**2) + logdet_divergence(M, np.eye(len(M)))

    assert ours.objective_ == pytest.approx(objective(ours.get_mahalanobis_matrix()))
    assert ours.objective_ <= objective(theirs.get_mahalanobis_matrix()) + 1e-9


def test_mlkr(metric_learn, table):
    X, _ = table
    y = X[:, 0] + 0.5 * X[:, 1] ** 2
    ours = MLKR(2, max_iter=500).fit(X[:, 1:], y)
    theirs = metric_learn.MLKR(n_components=2, init="pca", max_iter=500, tol=1e-5).fit(X[:, 1:], y)
    L, found = theirs.components_, []
    from kyori.linear.mlkr import _squared_errors

    found = soft_neighbours(np.ascontiguousarray(L), Rows(X[:, 1:]), _squared_errors(y))[0]
    assert ours.objective_ <= 1.01 * found


LOADERS = {f.__name__: f for f in (load_iris, load_wine, load_breast_cancer, load_digits)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(LOADERS))
def test_neighbours_are_not_worse(name, metric_learn):
    """Accuracy of 3-NN over seeded splits: the 95 % interval of the difference must reach above −0.5 points."""
    X, y = LOADERS[name](return_X_y=True)
    gains: dict[str, list[float]] = {"nca": [], "lmnn": [], "lfda": [], "rca": []}
    splits = 3 if name == "load_digits" else 8
    for train, test in StratifiedShuffleSplit(splits, test_size=0.3, random_state=0).split(X, y):
        scaler = StandardScaler().fit(X[train])
        A, B = scaler.transform(X[train]), scaler.transform(X[test])
        kept = A.std(0) > 0
        A, B = A[:, kept], B[:, kept]

        def score(metric, A=A, B=B, train=train, test=test):
            metric.fit(A, y[train])
            model = KNeighborsClassifier(3).fit(metric.transform(A), y[train])
            return model.score(metric.transform(B), y[test])

        rivals = {
            "nca": (NCA(), metric_learn.NCA(max_iter=50, tol=1e-5)),
            "lmnn": (LMNN(max_iter=50), metric_learn.LMNN(n_neighbors=3, learn_rate=1e-4, max_iter=50)),
            "lfda": (LFDA(), metric_learn.LFDA()),
            "rca": (RCA(), metric_learn.RCA_Supervised(n_chunks=min(100, len(A) // 4), random_state=0)),
        }
        if name == "load_digits":
            del rivals["rca"]  # theirs is NaN: 100 chunks of 2 vary in fewer directions than there are pixels
        for method, (ours, theirs) in rivals.items():
            gains[method].append(score(ours) - score(theirs))
    for method, found in gains.items():
        if not found:
            continue
        error = 2.4 * np.std(found, ddof=1) / np.sqrt(len(found))
        print(name, method, f"{100 * np.mean(found):+.2f} ± {100 * error:.2f}")
        assert np.mean(found) + error >= -0.005, (method, found)
