"""Results: a mapping that explains itself, and its JSON file."""

import json

import numpy as np
import pytest

from kyori.errors import ArgumentError, FileFormatError
from kyori.results import Result, Results


def sample() -> Results:
    return Results(
        [
            Result(
                "recall@1", 0.5, 0.25, 0.75,
                per_query=np.array([1, 0, np.nan, 1 / 3], np.float32),
                n=3,
                protocol={"k": 1, "metric": "cosine", "skipped": 1},
            ),
            Result("auc", np.nan, np.nan, np.nan),
        ],
        curves={"roc": {"far": np.array([0.0, 0.1, 1.0]), "tar": np.array([0.0, 1 / 3, 1.0])}},
        provenance={"kyori": "0.1.0", "seed": 3},
    )  # fmt: skip


def assert_equal(one: Results, two: Results) -> None:
    assert list(one) == list(two)
    assert one.provenance == two.provenance
    for name, a in one.items():
        b = two[name]
        np.testing.assert_array_equal([a.value, a.low, a.high], [b.value, b.low, b.high])
        assert (a.measure, a.n, a.protocol) == (b.measure, b.n, b.protocol)
        assert (a.per_query is None) == (b.per_query is None)
        if a.per_query is not None:
            assert a.per_query.dtype == b.per_query.dtype
            np.testing.assert_array_equal(a.per_query, b.per_query)
    assert one.curves.keys() == two.curves.keys()
    for curve in one.curves:
        for name, values in one.curves[curve].items():
            np.testing.assert_array_equal(values, two.curves[curve][name])


def test_an_unknown_measure_names_the_nearest():
    results = sample()
    with pytest.raises(KeyError) as error:
        results["recal@1"]
    assert str(error.value) == "results hold no measure 'recal@1'; did you mean 'recall@1'?"
    assert isinstance(error.value, ArgumentError)
    assert "map@r" not in results
    assert results.get("map@r") is None


def test_the_table_is_readable():
    assert sample().table()[0] == {"measure": "recall@1", "value": 0.5, "low": 0.25, "high": 0.75, "n": 3}
    lines = str(sample()).splitlines()
    assert len(lines) == 3
    assert lines[1].split() == ["recall@1", "0.5000", "0.2500", "–", "0.7500", "3"]
    assert repr(sample()) == str(sample())
    assert str(sample()["recall@1"]) == "recall@1 0.5000 [0.2500, 0.7500]"
    assert str(Results([])).startswith("measure")


def test_json_brings_back_every_bit(tmp_path):
    text = sample().to_json(tmp_path / "results.json")
    assert_equal(Results.from_json(tmp_path / "results.json"), sample())
    assert_equal(Results.from_json(text), sample())
    assert Results.from_json(text).to_json() == text
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_json_is_plain_and_compact():
    data = json.loads(sample().to_json(), parse_constant=pytest.fail)
    assert data["results"][0]["per_query"] == [1.0, 0.0, None, 0.33333334]
    assert data["results"][1]["value"] is None


@pytest.mark.parametrize("size", [0, 1, 40, 400, -1])
def test_a_cut_file_is_an_error(size, tmp_path):
    path = tmp_path / "results.json"
    text = sample().to_json()
    path.write_text(text[:size])
    with pytest.raises(FileFormatError, match=r"results\.json is damaged"):
        Results.from_json(path)


@pytest.mark.parametrize(
    "text", ["[]", "3", '{"format": "other"}', '{"format": "kyori-results", "version": 2}', "\x00\xff"]
)
def test_other_files_are_an_error(text, tmp_path):
    path = tmp_path / "other.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(FileFormatError, match=r"other\.json"):
        Results.from_json(path)


def test_a_missing_file_is_just_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        Results.from_json(tmp_path / "none.json")
