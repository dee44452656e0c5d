"""The parts of a page: escaping, structure, nothing from the network."""

import pytest

from kyori.report.page import (
    Code,
    Details,
    Facts,
    Figure,
    Gallery,
    Heading,
    Key,
    Legend,
    Markup,
    Panels,
    Prose,
    Table,
    Tile,
    render,
    tag,
    write_page,
)
from report.samples import Page

EVIL = '<script>alert(\'x\')</script>" onload="y" & \udc80\x00\u202e'
SECTIONS = [
    Heading(EVIL, "one", EVIL),
    Prose([EVIL], "lead"),
    Facts([(EVIL, EVIL)]),
    Table([EVIL, EVIL], [[EVIL, EVIL]], caption=EVIL, best=frozenset({0})),
    Panels([Figure(tag("svg"), EVIL, EVIL, EVIL, EVIL, True)], Legend([Key("0", EVIL, "red", EVIL)], EVIL)),
    Gallery(EVIL, [Tile([tag("img", src="data:,", alt=EVIL)], EVIL, "wrong")], EVIL),
    Details(EVIL, Code(EVIL)),
]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: type(section).__name__)
def test_no_section_lets_markup_through(section):
    text = section.html()
    page = Page(text)
    assert "script" not in [name for name, _ in page.tags]
    assert not any("onload" in attributes for _, attributes in page.tags)
    assert "<script>alert" in page.words
    text.encode("utf-8")  # lone surrogates would fail here
    assert not {"\x00", "\u202e"} & set(text)


def test_a_whole_page_of_them_is_well_formed():
    page = Page(render(EVIL, SECTIONS, lang="ja", kicker=EVIL, contents=EVIL, footer=[EVIL]))
    assert [name for name, _ in page.tags].count("script") == 1  # the page's own
    assert ("html", {"lang": "ja"}) in page.tags
    assert page.ids == ["one"]


def test_attributes():
    assert tag("i", class_="a", data_series=0, hidden=True, title=None, lang=False) == (
        '<i class="a" data-series="0" hidden></i>'
    )
    assert tag("img", alt="") == '<img alt="">'
    assert tag("p", Markup("<b>x</b>"), "<b>") == "<p><b>x</b>&lt;b&gt;</p>"


def test_writing_makes_the_folder_and_leaves_nothing_else(tmp_path):
    path = write_page(tmp_path / "new" / "report.html", "距離 \N{PILE OF POO}")
    assert path.read_text("utf-8") == "距離 \N{PILE OF POO}"
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_the_assets_ask_the_network_for_nothing():
    page = render("x", [], lang="en")
    for forbidden in ("http:", "https:", "@import", "url(", "fetch(", "<link", "src="):
        assert forbidden not in page
