"""The sentence says what the numbers say, on any board; formats and files keep it."""

import csv
import io
import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from kyori import VectorTable
from kyori.comparison import Board, Cell
from kyori.comparison.board import Failure
from kyori.comparison.diagram import rank_columns, rank_diagram
from kyori.comparison.page import write_report
from kyori.comparison.ranks import rank_methods
from kyori.comparison.statistics import Comparison, Power
from kyori.errors import FileFormatError
from kyori.results import Result, Results
from report.samples import Page, Pictures
from report.samples import cell as sample_cell

TABLE = VectorTable(vectors=np.eye(6, dtype=np.float32), labels=[0, 0, 1, 1, 2, 2])
NAMES = ("arcface", "cosface", "triplet", "softmax")


def random_board(number: int) -> Board:
    """Any board: some methods, seeds, folds and data sets, gains and luck of any size, with and without queries."""
    rng = np.random.default_rng(number)
    methods = ["raw", *NAMES][int(rng.integers(2)) : int(rng.integers(2, 6))]
    seeds, folds, datasets = rng.integers(1, 4), rng.integers(1, 4), rng.integers(1, 4)
    luck, gap, n = rng.choice([0, 0.01, 0.1]), rng.choice([0, 0.003, 0.05, 0.2]), 60
    queries, measure = rng.random() < 0.8, rng.choice(["map@r", "map@r", "eer", "uniformity"])
    cells = []
    for i, method in enumerate(methods):
        for d in range(datasets):
            for fold in range(folds):
                difficulty = np.random.default_rng([number, d, fold]).normal(0.4, 0.1, n)
                for seed in range(1 if method == "raw" else seeds):
                    values = np.clip(
                        difficulty + i * gap + rng.normal(0, luck) + rng.normal(0, 0.05, n), 0, 1
                    )
                    mean = float(values.mean())
                    per_query = values.astype(np.float32) if queries else None
                    results = Results([Result(str(measure), mean, mean - 0.02, mean + 0.02, per_query, n)])
                    place = {"dataset": f"data {d}", "fold": fold if folds > 1 else None}
                    cost = {"trials": 5, "memory_bytes": 2**28} if number % 2 else {}
                    cells.append(Cell(method, seed, results, TABLE, (), 1.5, 10, **place, **cost))
    return Board("made", str(measure), tuple(cells))


BOARDS = [random_board(number) for number in range(60)]


def test_the_boards_are_of_every_kind():
    decided = [sum(c.decided for c in board.comparisons()) for board in BOARDS]
    assert 10 < sum(count > 0 for count in decided) < 50


@pytest.mark.parametrize("board", BOARDS, ids=range(len(BOARDS)))
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_sentence_agrees_with_the_table(board, lang):
    """Read the sentence back: every rival stands where its numbers put it, with the numbers of the table."""
    said = board.recommendation(lang)
    rivals = [c for c in board.comparisons() if "raw" not in (c.better, c.worse)]
    beaten, tied = [c for c in rivals if c.decided], [c for c in rivals if not c.decided]
    assert all(c.better == board.winner for c in rivals)
    if lang == "en":
        found = re.search(
            r"It beats (\S+) by ([\d.]+)(?: points)? of .*? \(([\d.]+)–([\d.]+)\), (\d+) of (\d+)", said
        )
        named = re.search(r"(?:; |It )([^;.]*?)cannot be told apart from (.*?)[.]", said)
    else:
        found = re.search(
            r"で (\S+) を ([\d.]+)(?: ポイント)?（([\d.]+)–([\d.]+)）上回り、(\d+) (?:個|回)の.*?うち (\d+)",
            said,
        )
        named = re.search(
            r"(?:ただし、このデータとシード数では |。)([^。]*?) との差があるとは言えません", said
        )
    assert (found is not None) == bool(beaten)
    assert (named is not None) == bool(tied)
    if beaten:
        first = beaten[0]
        scale = 100 if board.measure != "uniformity" else 1
        numbers = [float(found[i]) for i in (2, 3, 4)]
        assert found[1] == first.worse
        assert numbers == pytest.approx(
            [scale * v for v in (first.difference, first.low, first.high)], abs=0.051 if scale > 1 else 6e-4
        )
        assert numbers[1] > 0
        counts = (int(found[5]), int(found[6]))
        assert counts == ((first.seeds_won, first.seeds) if lang == "en" else (first.seeds, first.seeds_won))
    if tied:
        names = " ".join(group for group in named.groups() if group)
        assert all(c.worse in names for c in tied)
        assert not any(c.worse in names for c in beaten)
    if not tied:
        assert "the true difference" not in said
        assert "本当に" not in said
    row = next(row for row in board.rows() if row.method == board.winner)
    if rivals:
        assert said.startswith(
            f"Use {board.winner}: " if lang == "en" else f"{board.winner} をおすすめします。"
        )
    sign = -1 if board.measure in ("eer", "uniformity") else 1
    learned = [r for r in board.rows() if r.method != "raw"] or board.rows()
    assert sign * row.measures[board.measure].value == max(
        sign * r.measures[board.measure].value for r in learned
    )


@pytest.mark.parametrize("measure", ["map@r", "eer"])
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_methods_that_are_worse_than_no_training_are_named(measure, lang):
    def said(**means):
        cells = []
        for method, mean in means.items():
            value = mean if measure == "map@r" else 1 - mean
            results = Results([Result(measure, value, value - 0.02, value + 0.02, None, 60)])
            cells.append(Cell(method, 0, results, TABLE, (), 1.5, 10))
        return Board("made", measure, tuple(cells)).recommendation(lang)

    named = {
        "en": "Worse than raw without any training: cosface and softmax. Too short",
        "ja": "cosface と softmax は、学習しない raw を下回りました。",
    }[lang]
    assert named in said(raw=0.3, arcface=0.6, cosface=0.2, triplet=0.29, softmax=0.05)
    opening = {"en": "Worse than raw", "ja": "raw を下回りました"}[lang]
    assert opening not in said(raw=0.3, arcface=0.6, triplet=0.29)
    assert opening not in said(arcface=0.6, triplet=0.29)
    assert opening not in said(raw=0.7, arcface=0.6, triplet=0.29)  # said of the best one already


@pytest.mark.parametrize("board", BOARDS[:20], ids=range(20))
def test_a_written_board_opens_with_the_same_numbers(board, tmp_path):
    path = tmp_path / "board.json"
    text = board.to_json(path)
    again = Board.from_json(path)
    assert again.to_json() == text
    assert Board.from_json(text).recommendation("ja") == board.recommendation("ja")
    assert again.to_markdown() == board.to_markdown()
    assert [c.place for c in again.cells] == [c.place for c in board.cells]
    assert str(again) == str(board)


def test_a_board_of_before_opens(tmp_path):
    board = BOARDS[3]
    old = json.loads(board.to_json())
    for key in ("cells", "ranks", "failures", "winner"):
        old.pop(key)
    for row in old["rows"]:
        row.pop("memory_bytes"), row.pop("trials")
    for entry in old["comparisons"]:
        for key in ("effect", "test", "p_given_seeds", "power"):
            entry.pop(key)
    opened = Board.from_json(json.dumps(old))
    assert opened.methods == tuple(row.method for row in board.rows())
    assert [r.measures for r in opened.rows()] == [r.measures for r in board.rows()]
    assert opened.cells[0].trials == 0
    opened.to_markdown(), opened.recommendation()


@pytest.mark.parametrize("text", ["{", "{}", '{"rows": 3}', '{"format": "kyori-results"}'])
def test_damaged_boards_are_refused(text, tmp_path):
    (tmp_path / "board.json").write_text(text)
    with pytest.raises(FileFormatError, match="damaged or does not hold a board"):
        Board.from_json(tmp_path / "board.json")


def test_tables_hold_every_method_and_the_interval():
    board = BOARDS[1]
    lines = board.to_markdown().splitlines()
    assert lines[0].startswith("| Method |")
    assert "Trials" in lines[0]
    assert len({line.count("|") for line in lines[: len(board.methods) + 2]}) == 1
    assert lines[2].startswith(
        f"| {'**' if board.winner == board.rows()[0].method else ''}{board.rows()[0].method}"
    )
    assert "256 MiB" in lines[2]
    latex = board.to_latex()
    assert latex.count(r"\\") == len(board.methods) + 1
    assert all(rule in latex for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    rows = list(csv.DictReader(io.StringIO(board.to_csv())))
    assert [float(row["value"]) for row in rows] == [r.measures[board.measure].value for r in board.rows()]


def test_hostile_names_stay_text_in_every_format():
    cells = [Cell(name, s, c.results, TABLE) for name in ("a_b & 50% $x$ #1 {\\cmd}~^", "|`*<b>*|\nnew")
             for s, c in enumerate(BOARDS[1].cells[:2])]  # fmt: skip
    board = Board("made", BOARDS[1].measure, tuple(cells))
    latex = board.to_latex()
    assert r"a\_b \& 50\% \$x\$ \#1 \{\textbackslash{}cmd\}\textasciitilde{}\textasciicircum{}" in latex
    markdown = board.to_markdown()
    assert r"\|\`\*\<b\>\*\| new" in markdown
    assert len([line for line in markdown.splitlines() if line.startswith("|")]) == 4


def test_power_is_said_in_words():
    board = next(
        b for b in BOARDS if any(c.power and c.power.seeds for c in b.comparisons() if c.worse != "raw")
    )
    nearest = next(c for c in board.comparisons() if c.power is not None and "raw" not in (c.worse, c.better))
    if nearest.power.seeds:
        assert f"about {nearest.power.seeds} seeds" in board.recommendation()
    assert "would decide it in 4 of 5 repetitions" in board.recommendation()


def test_too_small_a_difference_is_called_so():
    from kyori.comparison.verdict import recommend

    board = next(
        b for b in BOARDS if len(b.comparisons()) > 0 and b.measure == "map@r" and "raw" not in b.methods
    )
    other = board.comparisons()[0].worse
    hopeless = Comparison(board.winner, other, 1e-5, -0.1, 0.1, 1.0, 1, 3, power=Power(None, None))
    said = recommend(board.rows(), [hopeless], "map@r", board.winner)
    assert f"A difference of 0.001 points to {other} is too small" in said


def test_ranks_by_hand():
    values = np.array([[0.9, 0.8, 0.7, 0.6], [0.5, 0.5, 0.4, 0.3], [0.1, 0.3, 0.2, 0.0]] * 5)[:14]
    ranks = rank_methods(["a", "b", "c", "d"], values)
    by_hand = {
        "a": (5 * 1 + 5 * 1.5 + 4 * 3) / 14,
        "b": (5 * 2 + 5 * 1.5 + 4 * 1) / 14,
        "c": (10 * 3 + 4 * 2) / 14,
    }
    assert dict(zip(ranks.methods, ranks.average, strict=True)) == pytest.approx({**by_hand, "d": 4.0})
    assert ranks.critical == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=0.002)  # q of Demšar (2006)
    assert ranks.differ("b", "d")
    assert not ranks.differ("a", "b")
    assert ranks.groups == ((0, 2),)
    assert ranks.differ("c", "d")
    assert ranks.p_values[ranks.methods[0], "d"] < 0.01
    assert ranks.friedman < 0.001


def test_ranks_of_equal_methods_seldom_differ():
    rng = np.random.default_rng(0)
    found = [rank_methods("abcd", rng.normal(size=(12, 4))) for _ in range(200)]
    assert 0.01 < np.mean([ranks.friedman < 0.05 for ranks in found]) < 0.1
    assert np.mean([ranks.average[-1] - ranks.average[0] > ranks.critical for ranks in found]) < 0.1


def test_ranks_of_methods_that_always_agree():
    ranks = rank_methods(["a", "b", "c"], np.tile([3.0, 2.0, 1.0], (20, 1)))
    assert ranks.average == (1, 2, 3)
    assert ranks.friedman == 0
    assert ranks.groups == ()
    assert ranks.differ("a", "b")
    same = rank_methods(["a", "b", "c"], np.ones((5, 3)))
    assert same.friedman == 1
    assert set(same.p_values.values()) == {1}
    assert rank_methods(["a", "b"], np.ones((1, 2))) is None
    assert rank_methods(["a", "b"], np.array([[1, 2], [np.nan, 1]])) is None


def test_the_diagram_holds_every_method_and_rank():
    rng = np.random.default_rng(1)
    names = ["a", "日本語", "<script>", "d", "e"]
    ranks = rank_methods(names, rng.normal(size=(6, 5)) + np.arange(5) * 0.5)
    drawing = rank_diagram(ranks, {"a": "#0072b2"}, "ranks")
    root = ElementTree.fromstring(drawing)
    said = " ".join(element.text for element in root.iter("text"))
    assert all(name in said for name in names)
    assert all(f"{rank:.2f}" in said for rank in ranks.average)
    bars = [line for line in root.iter("polyline") if "stroke-width:5" in line.get("style")]
    assert len(bars) == len(ranks.groups)
    columns = rank_columns(ranks)
    assert columns["average_rank"] == list(ranks.average)
    assert {len(values) for values in columns.values()} == {5}


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_page_over_data_sets_and_folds(lang, tmp_path):
    cost = {"memory_bytes": 2**30, "trials": 3}
    cells = [
        replace(sample_cell(method, seed, noise=0.6 + 0.2 * i), **cost, dataset=f"data {d}", fold=fold)
        for i, method in enumerate(("raw", "softmax", "arcface"))
        for d in range(3)
        for fold in range(2)
        for seed in range(1 if method == "raw" else 2)
    ]  # fmt: skip
    board = Board("three", "map@r", tuple(cells), failures=(Failure("nca", 1, "<b>no memory"),))
    text = write_report(board, Pictures(), tmp_path / "report.html", lang, layout="pca").read_text("utf-8")
    page = Page(text)
    assert "datasets" in page.ids
    assert "1,024 MiB" in page.words
    assert "<b>no memory" in page.words
    assert all(f"data {d}" in page.words for d in range(3))
    assert f"CD {board.ranks().critical:.2f}" in page.words
