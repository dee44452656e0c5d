"""ROC, DET and histograms: the offered numbers are the drawn ones."""

import csv
import io

import numpy as np
from scipy.special import ndtri

from kyori.report.sections import Method
from kyori.report.verification import verification
from kyori.report.words import Words
from report.samples import cell


def rows_of(figure):
    return list(csv.DictReader(io.StringIO(figure.data.csv())))


def drawn():
    methods = [
        Method(name, [cell(name, s, noise=noise) for s in (0, 1)]) for name, noise in (("a", 1.0), ("b", 0.5))
    ]
    sections = verification(methods, Words())
    return methods, sections[1].figures, sections[3].figures


def test_roc_rows_are_the_line_and_the_first_seed():
    methods, (roc, _), _ = drawn()
    rows = rows_of(roc)
    for method, line in zip(methods, roc.plot.axes[0].lines, strict=True):
        mean = [
            (float(r["far"]), float(r["tar"]))
            for r in rows
            if (r["method"], r["seed"]) == (method.name, "mean")
        ]
        np.testing.assert_allclose(np.transpose(mean), line.get_data(), rtol=1e-6)
        first = [r for r in rows if (r["method"], r["seed"]) == (method.name, "0")]
        curve = method.first.results.curves["roc"]
        at = np.interp([float(r["threshold"]) for r in first], curve["threshold"], curve["far"])
        np.testing.assert_allclose(at, [float(r["far"]) for r in first], atol=1e-3)


def test_det_is_on_normal_deviate_axes_and_mirrors_the_roc():
    _, (roc, det), _ = drawn()
    rows = [r for r in rows_of(det) if r["method"] == "b"]
    far, frr = (np.array([float(r[name]) for r in rows]) for name in ("far", "frr"))
    x, y = det.plot.axes[0].lines[1].get_data()
    np.testing.assert_allclose(x, ndtri(far), atol=1e-5)
    shown = np.isfinite(y)
    assert shown.any()
    np.testing.assert_allclose(y[shown], ndtri(frr[shown]), atol=1e-4)
    mean = [r for r in rows_of(roc) if (r["method"], r["seed"]) == ("b", "mean")]
    tar = np.interp(far, [float(r["far"]) for r in mean], [float(r["tar"]) for r in mean])
    np.testing.assert_allclose(1 - tar, frr, atol=0.02)


def test_histogram_rows_are_shares_and_the_line_is_named_for_the_script():
    methods, _, histograms = drawn()
    for method, figure in zip(methods, histograms, strict=True):
        same = np.array([float(r["same_share"]) for r in rows_of(figure)])
        counts = method.first.results.curves["histogram"]["same"]
        np.testing.assert_allclose(same, counts / counts.sum(), rtol=1e-6)
        assert 'data-mark="threshold"' in figure.drawing
        assert figure.facts["method"] == method.name
