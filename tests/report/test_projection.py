"""Maps: shape, sampling, seeds, and data that have no picture."""

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from kyori.errors import ArgumentError
from kyori.report.projection import project


def blobs(n, d, classes=4):
    generator = np.random.default_rng(0)
    return 8 * generator.normal(size=(classes, d))[np.arange(n) % classes] + generator.normal(size=(n, d))


def test_tsne_keeps_neighbours_and_is_the_same_for_the_same_seed():
    vectors = blobs(120, 80)
    first, again = project(vectors, seed=3), project(vectors, seed=3)
    assert first.method == "tsne"
    assert first.points.tobytes() == again.points.tobytes()
    assert trustworthiness(vectors, first.points, n_neighbors=5) > 0.85
    assert not np.allclose(first.points, project(vectors, seed=4).points)


@pytest.mark.parametrize("n", [1, 2, 4, 5, 9])
@pytest.mark.parametrize("d", [1, 2, 60])
def test_small_tables(n, d):
    found = project(np.random.default_rng(0).normal(size=(n, d)))
    assert found.points.shape == (n, 2)
    assert np.isfinite(found.points).all()
    assert found.method == ("tsne" if n >= 5 else "pca")


def test_collapsed_vectors_lie_on_one_point():
    found = project(np.ones((20, 3)))
    assert found.method == "pca"
    assert not found.points.any()


def test_duplicates_do_not_break_it():
    assert np.isfinite(project(np.repeat(np.eye(3), 10, axis=0)).points).all()


def test_pca_is_the_projection_on_the_widest_directions():
    vectors = np.array([[4.0, 0, 1], [-4, 0, 1], [0, 1, 1], [0, -1, 1]])
    points = project(vectors, method="pca").points
    np.testing.assert_allclose(np.abs(points), np.abs(vectors[:, :2]), atol=1e-6)


def test_what_is_left_out_is_said():
    found = project(blobs(50, 3), method="pca", max_items=20)
    assert found.total == 50
    assert len(found.items) == len(np.unique(found.items)) == len(found.points) == 20
    everything = project(blobs(50, 3), method="pca")
    assert everything.items.tolist() == list(range(50))


@pytest.mark.parametrize(
    ("vectors", "options", "message"),
    [
        (np.ones(3), {}, r"shape \(n, d\) with n ≥ 1 and d ≥ 1; got \(3,\)"),
        (np.ones((0, 3)), {}, r"got \(0, 3\)"),
        (np.array([[np.nan]]), {}, "must be finite; got NaN or infinity"),
        (
            np.ones((3, 3)),
            {"method": "tnse"},
            "method must be 'tsne', 'umap' or 'pca'; got 'tnse'; did you mean 'tsne'",
        ),
    ],
)
def test_errors(vectors, options, message):
    with pytest.raises(ArgumentError, match=message):
        project(vectors, **options)
