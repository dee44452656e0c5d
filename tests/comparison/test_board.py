"""The board: ranking, comparisons, and what the recommendation says, on cells whose truth is known."""

import json

import numpy as np
import pytest

from kyori import VectorTable
from kyori.comparison import METHODS, Board, Cell, Method
from kyori.comparison.methods import resolve
from kyori.errors import ArgumentError
from kyori.results import Result, Results

N = 400


def cell(method, seed, quality, *, per_query=True):
    """A cell whose queries score around `quality`; queries share their difficulty over all methods."""
    difficulty = np.random.default_rng(0).normal(0, 0.1, N)
    noise = np.random.default_rng([seed, *method.encode()]).normal(0, 0.05, N)
    values = np.clip(quality + difficulty + noise, 0, 1).astype(np.float32)
    mean = float(values.mean())
    results = Results(
        [
            Result("map@r", mean, mean - 0.02, mean + 0.02, per_query=values if per_query else None, n=N),
            Result("auc", quality, quality - 0.01, quality + 0.01, n=N),
        ]
    )
    table = VectorTable(vectors=np.eye(4, dtype=np.float32), labels=[0, 0, 1, 1])
    return Cell(method, seed, results, table, seconds=seed + 1.0, parameters=10)


def board(qualities, seeds=3, **options):
    cells = []
    for method, quality in qualities.items():
        cells += [cell(method, s, quality, **options) for s in range(1 if method == "raw" else seeds)]
    return Board(data="made", measure="map@r", cells=tuple(cells))


def test_rows_are_ranked_and_averaged():
    found = board({"softmax": 0.4, "arcface": 0.7, "raw": 0.2})
    rows = found.rows()
    assert [row.method for row in rows] == ["arcface", "softmax", "raw"]
    assert rows[0].seconds == 2.0
    best = rows[0].measures["map@r"]
    assert best.low < best.value < best.high
    assert best.value == pytest.approx(np.mean(rows[0].per_seed["map@r"]), abs=1e-6)


def test_a_clear_winner_is_said_to_be_one():
    found = board({"softmax": 0.4, "arcface": 0.7, "raw": 0.2})
    comparison = found.comparisons()[0]
    assert (comparison.better, comparison.worse) == ("arcface", "softmax")
    assert comparison.decided
    assert comparison.seeds_won == comparison.seeds == 3
    assert 0.27 < comparison.low < comparison.difference < comparison.high < 0.33
    assert comparison.effect > 1
    sentence = found.recommendation()
    assert sentence.startswith("Use arcface: MAP@R ")
    assert "It beats softmax by 3" in sentence
    assert "3 of 3 seeds" in sentence
    assert "cannot be told apart" not in sentence


def test_equals_cannot_be_told_apart():
    found = board({"cosface": 0.7, "arcface": 0.7001, "softmax": 0.3})
    best, level = found.winner, ({"cosface", "arcface"} - {found.winner}).pop()
    sentence = found.recommendation()
    assert f"Use {best}: " in sentence
    assert f"3 of 3 seeds; {level} cannot be told apart from it." in sentence
    assert "It beats softmax by" in sentence


def test_raw_input_never_wins_but_is_named_when_it_is_better():
    found = board({"raw": 0.8, "arcface": 0.5})
    assert found.winner == "arcface"
    assert "raw without any training is not worse" in found.recommendation()
    level = board({"raw": 0.5, "arcface": 0.5001})
    assert "not surely better than raw" in level.recommendation()


def test_one_seed_is_called_one_seed():
    single = board({"arcface": 0.7, "softmax": 0.4}, seeds=1).recommendation()
    assert "One seed only" in single
    assert "more than chance explains" not in single
    assert "One seed only" not in board({"arcface": 0.7, "softmax": 0.4}).recommendation()


def test_japanese_says_the_same():
    sentence = board({"softmax": 0.4, "arcface": 0.7, "raw": 0.2}).recommendation("ja")
    assert sentence.startswith("arcface をおすすめします。")
    assert "3 個のシードのうち 3 個で勝ちました。" in sentence
    assert "上回り" in sentence


def test_a_measure_without_queries_is_compared_over_seeds():
    found = board({"softmax": 0.4, "arcface": 0.7}, per_query=False)
    comparison = found.comparisons()[0]
    assert comparison.better == "arcface"
    assert np.isfinite(comparison.low)


def test_json_holds_everything_and_is_strict(tmp_path):
    found = board({"softmax": 0.4, "arcface": 0.7, "raw": 0.2}, seeds=1, per_query=False)
    text = found.to_json(tmp_path / "board.json")
    document = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert document == json.loads((tmp_path / "board.json").read_text())
    assert [row["method"] for row in document["rows"]] == ["arcface", "softmax", "raw"]
    assert document["comparisons"][0]["low"] is None


def test_table_as_text_lines_up():
    lines = str(board({"softmax": 0.4, "arcface": 0.7})).splitlines()
    assert lines[0].split() == ["method", "map@r", "seconds", "parameters"]
    assert len({len(line) for line in lines}) == 1


def test_errors_name_what_is_known():
    found = board({"softmax": 0.4, "arcface": 0.7})
    with pytest.raises(ArgumentError, match="'arcfce' is not on this board; did you mean 'arcface'"):
        found.of("arcfce")
    with pytest.raises(ArgumentError, match="no seed 9; it has 0, 1, 2"):
        found.cell("arcface", 9)
    with pytest.raises(ArgumentError, match="lang must be 'en' or 'ja'; got 'de'"):
        found.recommendation("de")
    with pytest.raises(ArgumentError, match=r"measure 'map@k' was not evaluated; did you mean 'map@r'"):
        Board(data="made", measure="map@k", cells=found.cells)
    with pytest.raises(ArgumentError, match="at least one"):
        Board(data="made", measure="map@r", cells=())


def test_methods_resolve():
    named = resolve(["raw", "triplet-semihard", Method("mine", "arcface", {"margin": 0.1})])
    assert [m.name for m in named] == ["raw", "triplet-semihard", "mine"]
    assert METHODS["triplet-semihard"].options == {"mining": "semihard"}
    wide = resolve([{"name": "wide", "loss": "triplet", "margin": 0.5}])[0]
    assert (wide.name, wide.loss, wide.options) == ("wide", "triplet", {"margin": 0.5})


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["arcfase"], "unknown method 'arcfase'; did you mean 'arcface'"),
        ([], "methods is empty"),
        ("arcface", "methods must be a list; got 'arcface'"),
        (["arcface", "arcface"], "arcface stands twice"),
        ([{"margin": 1}], "needs the key 'loss'"),
    ],
)
def test_wrong_methods(methods, message):
    with pytest.raises(ArgumentError, match=message):
        resolve(methods)
