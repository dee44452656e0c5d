"""The page in a real browser: the map, the pointer, the keys, searching, selecting."""

import numpy as np
import pytest

from exploring.browser import Browser
from exploring.samples import digits, scene
from kyori.exploring import Explorer
from kyori.neighbors import nearest

TABLE, SOURCE = digits()
BOX = (
    "(() => { const r = document.getElementById('canvas').getBoundingClientRect();"
    " return [r.left + 4, r.top + 4, r.right - 4, r.bottom - 4]; })()"
)
TIP = "!document.getElementById('tip').hidden && document.querySelector('#tip small').textContent"
READY = "document.body?.dataset.ready"
ITEM = "!document.getElementById('item').hidden && document.querySelector('#item .id').textContent"
SELECTED = "!document.getElementById('selection').hidden && document.getElementById('selected').textContent"


@pytest.fixture(scope="module")
def explorer():
    with Explorer(scene(TABLE, SOURCE, "digits"), port=0, projection="pca") as explorer:
        yield explorer


@pytest.fixture(scope="module")
def browser(explorer, tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def page(browser, explorer):
    """The page, freshly opened; whatever a test does, nothing may go wrong in the browser."""
    browser.open("about:blank")
    browser.open(explorer.address)
    assert browser.until(READY) == "pca"
    yield browser
    assert browser.problems == []


def place_of(page, row):
    """Where a row is drawn, in pixels of the page."""
    page.run(f"location.hash = '{row}'")
    page.until(f"({ITEM}) === '{TABLE.ids[row]}'")
    place = page.until(
        "(() => { const r = document.getElementById('ring').getBoundingClientRect();"
        " return r.width && [r.x + r.width / 2, r.y + r.height / 2]; })()"
    )
    page.key("Escape")
    page.until("document.getElementById('item').hidden")
    return place


def lonely(points):
    """The item that is farthest from its nearest other on the map: what is clicked there is surely it."""
    return int(np.argmax(nearest(points, points, 1, exclude_self=True).distances[:, 0]))


def test_pointing_and_clicking_show_an_item_and_its_neighbors(page, explorer):
    row = lonely(explorer.desk.layouts.current.points)
    x, y = place_of(page, row)
    page.mouse("Moved", x + 60, y + 60)
    page.mouse("Moved", x, y)
    page.until(f"({TIP}) === '{TABLE.ids[row]}'")
    assert page.run("document.querySelector('#tip img').naturalWidth") == 8
    page.click(x, y)
    page.until(f"({ITEM}) === '{TABLE.ids[row]}'")
    expected = nearest(TABLE.vectors, TABLE.vectors, 12, exclude_self=True).ids[row]
    tiles = "[...document.querySelectorAll('.neighbors button')]"
    assert page.run(f"{tiles}.map((tile) => +tile.dataset.row)") == expected.tolist()
    verdicts = page.run(f"{tiles}.map((tile) => tile.parentElement.className)")
    assert verdicts == ["right" if same else "wrong" for same in TABLE.labels[expected] == TABLE.labels[row]]
    page.run(f"{tiles}[2].click()")  # and on to one of them, and back
    page.until(f"({ITEM}) === '{TABLE.ids[expected[2]]}'")
    page.run("history.back()")
    page.until(f"({ITEM}) === '{TABLE.ids[row]}'")


def test_a_lasso_selects_once_though_it_ends_where_it_began(page, explorer):
    points = explorer.desk.layouts.current.points
    x, y = place_of(page, lonely(points))
    page.run(
        "window.titles = []; new MutationObserver(() => titles.push(document.getElementById('selected')?.textContent))"
        ".observe(document.getElementById('selection'), { childList: true })"
    )
    left, top, right, bottom = page.run(BOX)
    corners = [(left, bottom), (left, top), (right, top), (right, bottom), (left, bottom)]
    way = [(x, y), *corners, (x - 2, y), (x + 1, y + 1)]
    page.drag(way, shift=True)
    page.until("window.titles.length")
    page.run("new Promise((resume) => setTimeout(resume, 400))")  # a second selection would come by now
    titles = page.run("titles")
    assert len(set(titles)) == 1, titles
    count = int(titles[0].split()[0])
    assert count > 290
    assert page.run("document.getElementById('item').hidden")
    assert page.run("document.querySelectorAll('#selection .tiles li').length") == 60
    page.run(
        "URL.createObjectURL = (made) => { window.made = made; return '#'; }; document.getElementById('save').click()"
    )
    page.until("window.made !== undefined")
    lines = page.run("made.text()").splitlines()
    assert lines[0] == "id,label,ink,half,number"
    assert len(lines) == 1 + count


def test_search_by_the_keyboard_alone(page):
    page.key("/")
    page.type("7")
    page.key("Enter", 13)
    found = [row for row in range(300) if "7" in str(TABLE.ids[row]) or TABLE.labels[row] == 7]
    assert page.until(SELECTED) == f"{len(found)} items found for “7”"
    rows = page.until(
        "document.querySelectorAll('#selection button[data-row]').length >= 60"
        " && [...document.querySelectorAll('#selection button[data-row]')].map((tile) => +tile.dataset.row)"
    )
    assert set(rows) <= set(found)
    assert rows[0] == int(np.flatnonzero(TABLE.ids == 7)[0])  # the very id first
    page.key("Escape")  # leaves the field
    page.key("Escape")
    page.until("document.getElementById('selection').hidden")
    page.run(
        "document.getElementById('search').value = 'nobody'; document.getElementById('find').requestSubmit()"
    )
    page.until("document.getElementById('message').textContent === 'Nothing found for “nobody”.'")


def test_the_keys_move_the_map(page):
    ring = "document.getElementById('ring').getBoundingClientRect().x"
    page.run("location.hash = '5'; document.getElementById('canvas').focus()")
    page.until(f"({ITEM}) && {ring}")
    start = page.run(ring)
    page.key("ArrowRight")
    page.until(f"{ring} < {start} - 20")
    page.key("+")
    page.key("0")
    page.until(f"Math.abs({ring} - {start}) < 1")
    page.key("l")
    assert page.run("document.getElementById('lasso').getAttribute('aria-pressed')") == "true"


def test_without_webgl_there_are_still_neighbors(browser, explorer):
    none = "HTMLCanvasElement.prototype.getContext = () => null"
    hook = browser.call("Page.addScriptToEvaluateOnNewDocument", source=none)["identifier"]
    browser.open("about:blank")
    browser.open(f"{explorer.address}/#7")
    browser.until(f"{READY} && ({ITEM}) && document.querySelectorAll('.neighbors li').length === 12")
    assert "no WebGL" in browser.run("document.getElementById('message').textContent")
    browser.run("document.querySelector('#classes button').click()")
    browser.until(SELECTED)
    browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=hook)
    browser.problems.clear()  # that there is no WebGL stands in the console


def test_classes_can_be_hidden_selected_and_exchanged_for_numbers(page):
    assert page.run("document.querySelectorAll('#classes li').length") == 10
    page.run("document.querySelectorAll('#classes button')[3].click()")
    count = int((TABLE.labels == 3).sum())
    assert page.until(SELECTED) == f"3: {count} items"
    page.run(
        "document.getElementById('hide-all').click(); document.querySelectorAll('#classes input')[3].click()"
    )
    page.run("document.getElementById('clear').click()")
    left, top, right, bottom = page.run(BOX)
    page.drag([(left, bottom), (left, top), (right, top), (right, bottom), (left + 40, bottom)], shift=True)
    assert page.until(SELECTED) == f"{count} items selected"  # only what is shown can be drawn around
    page.run("document.getElementById('colour').value = 'ink'")
    page.run("document.getElementById('colour').dispatchEvent(new Event('change'))")
    page.until("!document.getElementById('scale').hidden")
    assert page.run("document.getElementById('legend-note').textContent.includes('1 items have no number')")
    size = "[document.getElementById('canvas').clientWidth, document.getElementById('canvas').width]"
    width = page.run(size)[1]
    page.run("document.getElementById('colour').value = ''")
    page.run("document.getElementById('colour').dispatchEvent(new Event('change'))")
    page.until(f"{size}[1] > {width + 100} && {size}[0] === {size}[1]")  # the map takes the legend's place


def test_the_page_in_japanese_and_the_dark(browser, tmp_path):
    table, _ = digits(30)
    browser.prefer("dark")
    with Explorer(scene(table, None, "数字"), port=0, lang="ja", colour="half") as explorer:
        browser.open(f"{explorer.address}/#3")
        browser.until(f"{READY} && {ITEM}")
        assert browser.run("document.documentElement.lang") == "ja"
        assert browser.run("document.title") == "数字 ・ Kyori エクスプローラ"
        assert browser.run("document.querySelector('#item h3').textContent") == "埋め込みで最も近いもの"
        assert browser.run("document.getElementById('legend-title').textContent") == "half"
        assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 27)"
        assert browser.problems == []
    browser.prefer("light")
