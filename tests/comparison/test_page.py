"""The report of a comparison."""

import re
from dataclasses import replace

import pytest

from kyori.comparison.board import Board
from kyori.comparison.page import write_report
from kyori.report import maps, project
from kyori.results import Results
from report.samples import Page, Pictures, Vectors, board


def written(tmp_path, made, items=None, lang="en"):
    path = write_report(made, items or Pictures(), tmp_path / "report.html", lang)
    text = path.read_text("utf-8")
    return text, Page(text)


def test_the_page_has_every_section_and_asks_the_network_for_nothing(tmp_path):
    text, page = written(tmp_path, board())
    assert page.ids == [
        "leaderboard", "training", "map", "verification", "confusion", "pairs", "queries", "reading", "reproduce",
    ]  # fmt: skip
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "data:").startswith(("data:", "#"))
    assert not re.search(r"https?://|url\(|@import", text)
    assert all(page.alts)


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_trained_methods_add_their_springs_and_norms(tmp_path, lang):
    made = board(seeds=1, norms=True, classes=3)
    options = {"triplet": {"margin": 0.4}, "softmax": {}, "l2softmax": {"alpha": 8.0}}
    cells = []
    for name, cell in zip(
        ("raw", "triplet", "softmax", "l2softmax"), [*made.cells, made.cells[-1]], strict=True
    ):
        known = {"training": {"loss": name, "options": options[name]}} if name in options else {}
        results = Results(cell.results.values(), curves=cell.results.curves, provenance=known)
        cells.append(replace(cell, method=name, results=results))
    text, page = written(tmp_path, Board("digits", "map@r", tuple(cells)), lang=lang)
    assert {"springs", "norms", "confusion"} <= set(page.ids)
    kinds = [attributes.get("data-kind") for name, attributes in page.tags if name == "figure"]
    assert (kinds.count("map"), kinds.count("threshold"), kinds.count("roc")) == (4, 4, 1)
    assert kinds.count("settling") == 3
    links = [attributes for name, attributes in page.tags if name == "a" and "download" in attributes]
    assert all(link["href"].startswith("data:text/csv;charset=utf-8;base64,") for link in links)
    assert len({link["download"] for link in links}) == len(links)
    assert not re.search(r"https?://|url\(|@import", text)


def test_hostile_ids_stay_text(tmp_path):
    ids = [f"</script><script>alert({i})</script>\u202e\N{PILE OF POO}\"'" for i in range(12)]
    text, page = written(tmp_path, board(("raw", "arcface"), seeds=1, n=12, norms=True, ids=ids))
    assert [name for name, _ in page.tags].count("script") == 1
    assert "<script>alert" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize(
    ("made", "items"),
    [
        (board(("arcface",), seeds=1), Vectors()),
        (board(("raw",)), Pictures()),
        (board(validation=False), Pictures()),
        (board(curves=False, per_query=False, seeds=3), Pictures()),
        (board(n=200, classes=100, seeds=1), Vectors()),
        (board(n=2, classes=2), Pictures()),
        (board(tuple(f"method {i}" for i in range(25)), seeds=1, n=12), Pictures()),
    ],
    ids=[
        "one method",
        "nothing trained",
        "no validation",
        "no curves",
        "100 classes",
        "two items",
        "25 methods",
    ],
)
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_any_board_makes_a_page(tmp_path, made, items, lang):
    written(tmp_path, made, items, lang)


def test_an_embedding_as_large_as_the_backbones_features_is_said_in_words(tmp_path):
    made = board()
    made = replace(made, budget=made.budget | {"embedding_size": None})
    text, _ = written(tmp_path, made)
    assert "that of the backbone" in text
    assert ">None<" not in text


def test_the_leaderboard_is_ranked_and_marks_the_best(tmp_path):
    made = board()
    text, _ = written(tmp_path, made)
    table = text[text.index("<table") : text.index("</table")]
    names = re.findall(r'<th scope="row">([^<]*)</th>', table)
    assert names == [{"raw": "raw input"}.get(row.method, row.method) for row in made.rows()]
    (best,) = re.findall(r'<tr class="best"><th scope="row">([^<]*)', table)
    assert best == made.winner
    for found in made.comparisons():
        assert found.decided or "cannot be told apart" in table


def test_no_english_in_the_headings_of_the_japanese_page(tmp_path):
    """Names of methods, measures, packages and the data are the same in all languages; the rest is Japanese."""
    _, page = written(tmp_path, board(), lang="ja")
    assert ("html", {"lang": "ja"}) in page.tags
    names = {
        "softmax",
        "arcface",
        "digits",
        "MAP@R",
        "Recall@1",
        "EER",
        "EER ↓",
        "TAR@FAR 1%",
        "NMI",
        "Uniformity",
        "%",
    }
    names |= {"Python", "torch", "numpy", "scikit-learn", "matplotlib"}
    for heading in page.headings:
        assert heading in names or not re.search(
            "[A-Za-z]{2,}", re.sub("arcface|map@r|MAP@R|ROC|DET|FAR|TAR|FRR", "", heading)
        ), heading


def test_hostile_names_stay_text(tmp_path):
    evil = "</script><script>alert(1)</script>\"'&"
    made = board(("raw", evil), data=evil, names=[evil + str(i) for i in range(4)])
    text, page = written(tmp_path, made)
    assert [name for name, _ in page.tags].count("script") == 1
    assert "<script>alert(1)" not in text
    assert evil in page.words


def test_eight_methods_with_600_items_stay_small(tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "project", lambda v, method, **options: project(v, method="pca", **options))
    made = board(tuple(f"m{i}" for i in range(8)), seeds=1, n=600, classes=10)
    text, _ = written(tmp_path, made, Pictures(28))
    assert len(text) < 1_500_000


def test_the_same_board_gives_the_same_bytes(tmp_path):
    assert written(tmp_path, board(seeds=1))[0] == written(tmp_path, board(seeds=1))[0]
