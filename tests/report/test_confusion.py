"""Confusion between classes, against a loop."""

import numpy as np

from kyori.report.confusion import confusion, count_confusion
from kyori.report.words import Words
from kyori.vectors import VectorTable
from report.samples import Page, cell


def slow(vectors, labels):
    """The same by hand: the nearest other item of each."""
    classes = sorted(set(labels.tolist()))
    counts = np.zeros((len(classes), len(classes)), int)
    for i in range(len(labels)):
        others = [(np.linalg.norm(vectors[i] - vectors[j]), j) for j in range(len(labels)) if j != i]
        counts[classes.index(labels[i]), classes.index(labels[min(others)[1]])] += 1
    return counts


def page_of(trial, lang="en"):
    return Page("<div>" + "".join(section.html() for section in confusion(trial, Words(lang))) + "</div>")


def test_counts_are_those_of_the_loop():
    labels = np.random.default_rng(1).choice([3, 5, 9, 40], 60)
    vectors = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    found = count_confusion(VectorTable(vectors=vectors, labels=labels))
    expected = slow(vectors, labels)
    np.testing.assert_array_equal(found.matrix(), expected)
    assert found.wrong == expected.sum() - np.trace(expected)
    both = [forth + back for _, _, forth, back in found.pairs()]
    assert both == sorted(both, reverse=True)
    assert sum(both) == found.wrong
    assert all(expected[i, j] == forth and expected[j, i] == back for i, j, forth, back in found.pairs())


def test_few_classes_are_a_matrix_and_its_cells_are_shares():
    trial = cell(noise=1.5)
    page = page_of(trial)
    assert "matrix" in [attributes.get("class") for name, attributes in page.tags if name == "table"]
    shares = count_confusion(trial.table).matrix()
    diagonal = [f"{100 * share:.0f}" for share in np.diag(shares) / shares.sum(1)]
    assert all(share in page.words for share in diagonal)


def test_many_classes_are_the_worst_pairs():
    page = page_of(cell(n=120, classes=40, noise=2.0))
    assert "matrix" not in [attributes.get("class") for _, attributes in page.tags]
    assert sum(name == "tr" for name, _ in page.tags) == 1 + 12


def test_nothing_to_confuse():
    assert confusion(cell(classes=1), Words()) == []
    assert len(confusion(cell(noise=0.0), Words())) == 2  # heading and matrix, no table of pairs


def test_class_names_are_escaped():
    page = page_of(cell(names=["<script>", '"', "\u202eevil", "ねこ"], noise=1.5))
    assert "script" not in [name for name, _ in page.tags]
    assert "<script>" in page.words
