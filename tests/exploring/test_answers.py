"""What the server answers: the map, colours, items with exact neighbours, selections; and what it refuses."""

import csv
import io
import re
from string import Formatter

import numpy as np
import pytest

import kyori
from exploring.samples import client, desk, digits, scene
from kyori.exploring.page import ASSETS, read_asset
from kyori.exploring.words import TEXTS
from kyori.neighbors import nearest

TABLE, SOURCE = digits()


@pytest.fixture(scope="module")
def asked():
    with client(scene(TABLE, SOURCE)) as found:
        yield found


def test_the_page_loads_only_from_its_own_server(asked):
    page = asked.get("/")
    assert page.status_code == 200
    assert "a &lt;b&gt; &amp; c" in page.text
    assert not re.search(r'(?:src|href)="(?!data:,)(?:https?:)?//', page.text)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    for name in re.findall(r'(?:src|href)="([\w.-]+)"', page.text):
        assert asked.get(f"/{name}").status_code == 200
    for name in ASSETS:
        found = asked.get(f"/{name}")
        assert found.content == read_asset(name)
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["cross-origin-resource-policy"] == "same-origin"


def test_every_script_imports_what_is_served():
    for name in ASSETS:
        if name.endswith(".js") and "regl" not in name:
            imported = re.findall(r'from "\./([^"]+)"', read_asset(name).decode())
            assert set(imported) <= set(ASSETS)


def test_the_map_has_a_place_for_every_item(asked):
    answer = asked.get("/positions")
    points = np.frombuffer(answer.content, "<f4").reshape(-1, 2)
    assert answer.headers["x-layout"] == "pca"
    assert points.shape == (len(TABLE), 2)
    assert np.abs(points).max() == pytest.approx(1)
    about = asked.get("/about").json()
    assert (about["items"], about["classes"], about["colour"], about["state"]) == (300, 10, "label", "ready")
    assert about["columns"] == ["label", "ink", "half", "number"]


def test_columns_are_classes_or_numbers(asked):
    legend = asked.get("/legend", params={"column": "label"}).json()
    codes = np.frombuffer(asked.get("/colours", params={"column": "label"}).content, "<u4")
    assert legend["names"] == [str(i) for i in range(10)]
    assert [legend["names"][code] for code in codes] == [str(label) for label in TABLE.labels]
    assert legend["counts"] == np.bincount(TABLE.labels).tolist()
    assert asked.get("/legend", params={"column": "half"}).json()["names"] == ["False", "True"]
    numbers = asked.get("/legend", params={"column": "ink"}).json()
    values = np.frombuffer(asked.get("/colours", params={"column": "ink"}).content, "<f4")
    assert (numbers["kind"], numbers["missing"]) == ("numbers", 1)
    np.testing.assert_array_equal(values, TABLE.columns["ink"].astype(np.float32))
    many = asked.get("/legend", params={"column": "number"}).json()  # more than 20: the largest first
    assert len(many["names"]) == 300
    assert asked.get("/legend", params={"column": "vector"}).status_code == 404
    assert asked.get("/colours", params={"column": "../label"}).status_code == 404


def test_many_classes_stand_the_largest_first():
    labels = np.repeat(np.arange(60), np.arange(1, 61))
    table = kyori.VectorTable(vectors=np.eye(len(labels), 3), labels=[f"c{label}" for label in labels])
    column = desk(scene(table)).column("label")
    assert column.names[:2] == ["c59", "c58"]
    assert column.counts == sorted(column.counts, reverse=True)
    assert [column.names[code] for code in column.codes] == [f"c{label}" for label in labels]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_neighbors_are_those_of_brute_force(metric):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(400, 6)).astype(np.float32).round(1)  # many ties
    vectors[50:80] = vectors[0]  # and more duplicates than neighbours
    vectors[90] = 0
    table = kyori.VectorTable(vectors=vectors, labels=rng.integers(0, 5, 400))
    expected = nearest(vectors, vectors, 12, metric, exclude_self=True)
    with client(scene(table), metric=metric) as asked:
        for row in (0, 60, 90, 123, 399):
            item = asked.get("/item", params={"row": row, "k": 12}).json()
            found = item["neighbors"]
            assert [one["row"] for one in found] == expected.ids[row].tolist()
            np.testing.assert_allclose([one["distance"] for one in found], expected.distances[row], rtol=1e-6)
            same = table.labels[expected.ids[row]] == table.labels[row]
            assert [one["same"] for one in found] == same.tolist()


def test_an_item_shows_its_picture_and_what_is_known_of_it(asked):
    item = asked.get("/item", params={"row": 5}).json()
    assert item["id"] == str(TABLE.ids[5])
    assert item["label"] == str(TABLE.labels[5])
    assert item["picture"].startswith('<img src="data:image/png;base64,')
    assert item["columns"] == {"ink": None, "half": False, "number": 5}
    assert item["text"] is None
    assert len(item["neighbors"]) == 12
    items = asked.get("/items", params={"row": [7, 3]}).json()["items"]
    assert [one["row"] for one in items] == [7, 3]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/item?row=300", 404), ("/item?row=-1", 422), ("/item?row=nan", 422), ("/item?row=1.5", 422),
        ("/item?row=99999999999999999999", 422), ("/item?row=" + "9" * 5000, 422), ("/item", 422),
        ("/item?row=0&k=0", 422), ("/item?row=0&k=201", 422), ("/item?row=0&k=inf", 422), ("/item?row=0x1", 422),
        ("/items", 422), ("/items?row=0&row=300", 404), ("/items?" + "&".join(["row=1"] * 101), 422),
        ("/find", 422), ("/find?text=", 422), ("/find?text=" + "x" * 1001, 422), ("/legend", 422),
        ("/legend?column=" + "x" * 513, 422), ("/colours?column=%00", 404), ("/nothing", 404),
        ("/../pyproject.toml", 404), ("/%2e%2e/%2e%2e/etc/passwd", 404), ("/..%2fapp.py", 404),
        ("/vendor/README.md", 404), ("/app.py", 404), ("//etc/passwd", 404), ("/openapi.json", 404), ("/docs", 404),
    ],
)  # fmt: skip
def test_bad_questions_are_refused_with_a_sentence(asked, path, status):
    answer = asked.get(path)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert "content-security-policy" in answer.headers


def test_only_requests_that_name_this_machine_are_answered(asked):
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost, evil.example"):
        assert asked.get("/about", headers={"host": host}).status_code == 403
    for host in ("127.0.0.1:8001", "localhost", "[::1]:80"):
        assert asked.get("/about", headers={"host": host}).status_code == 200
    assert (
        "access-control-allow-origin"
        not in asked.get("/about", headers={"origin": "http://evil.example"}).headers
    )
    assert asked.post("/about").status_code == 405


def test_a_selection_becomes_a_table(asked):
    rows = [17, 0, 299]
    answer = asked.post("/csv", content=np.array(rows, "<u4").tobytes())
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert [line["id"] for line in lines] == [str(TABLE.ids[row]) for row in rows]
    assert [line["label"] for line in lines] == [str(TABLE.labels[row]) for row in rows]
    assert list(lines[0]) == ["id", "label", "ink", "half", "number"]
    for body, status in (
        (b"", 422),
        (b"abc", 422),
        (np.array([300], "<u4").tobytes(), 404),
        (b"\xff" * 4, 404),
    ):
        assert asked.post("/csv", content=body).status_code == status
    assert asked.post("/csv", content=bytes(2**20 + 4)).status_code == 413


def test_search_finds_ids_labels_and_texts():
    texts = kyori.open_source(
        (["a red Fox", "blue whale", "FOX 12", "an owl"]), labels=["dog", "sea", "dog", "bird"]
    )
    table = kyori.VectorTable(
        np.array([12, 3, 40, 4]), np.eye(4), texts.labels, class_names=texts.class_names
    )
    shown = kyori.data.open_source(["a red Fox", "blue whale", "FOX 12", "an owl"])
    shown.ids = table.ids
    with client(scene(table, shown)) as asked:
        rows = {
            text: asked.get("/find", params={"text": text}).json()["rows"]
            for text in ("fox", "12", "4", "SEA", "?")
        }
        item = asked.get("/item", params={"row": 0}).json()
    assert rows == {"fox": [0, 2], "12": [0, 2], "4": [3, 2], "SEA": [1], "?": []}
    assert item["text"] == "a red Fox"
    assert item["picture"].startswith("<p ")


def test_what_users_write_is_no_markup():
    evil = "<img src=x onerror=alert(1)>\"'"
    texts = kyori.open_source([evil, "b"])
    table = kyori.VectorTable(texts.ids, np.eye(2), [evil, "b"])
    with client(scene(table, texts, evil)) as asked:
        item = asked.get("/item", params={"row": 0}).json()
        assert evil not in asked.get("/").text
    assert (item["label"], item["text"]) == (evil, evil)  # for the page's textContent
    assert "<img" not in item["picture"]
    scripts = [name for name in ASSETS if name.endswith(".js") and "regl" not in name]
    assert [name for name in scripts if "innerHTML" in read_asset(name).decode()] == [
        "words.js"
    ]  # only of pictures


@pytest.mark.parametrize(
    ("items", "shown"),
    [
        (None, "<svg"),
        (np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32), "<svg"),
        ([np.ones((m, 4), np.float32) * m for m in (1, 2, 3, 1, 2, 3)], "<img"),
        (np.random.default_rng(0).normal(size=(6, 2, 9, 7)).astype(np.float32), "<img"),
    ],
    ids=["vectors only", "vectors", "sets", "arrays"],
)
def test_items_of_every_kind_have_a_look(items, shown):
    table = kyori.VectorTable(vectors=np.eye(6, 3))
    kind = {"items": "set"} if isinstance(items, list) else {"items": "array"} if np.ndim(items) > 2 else {}
    source = None if items is None else kyori.open_source(items, **kind)
    with client(scene(table, source)) as asked:
        item = asked.get("/item", params={"row": 2}).json()
    assert item["picture"].startswith(shown)
    assert (item["label"], item["neighbors"][0]["same"]) == (None, None)


@pytest.mark.parametrize("n", [1, 2])
def test_one_and_two_items_are_enough(n):
    with client(scene(kyori.VectorTable(vectors=np.eye(n, 2), labels=["x"] * n))) as asked:
        points = np.frombuffer(asked.get("/positions").content, "<f4")
        assert np.isfinite(points).all()
        assert len(points) == 2 * n
        assert len(asked.get("/item", params={"row": 0}).json()["neighbors"]) == n - 1
        assert asked.get("/about").json()["classes"] == 1


@pytest.mark.parametrize("key", TEXTS)
def test_each_text_stands_in_both_languages_with_the_same_fields(key):
    english, japanese = TEXTS[key]
    fields = [{name for _, name, _, _ in Formatter().parse(text) if name} for text in (english, japanese)]
    assert fields[0] == fields[1]
    assert not re.search("[\u3040-\u30ff]", english)
    assert japanese == "{metric}" or re.search("[\u3040-\u30ff\u4e00-\u9fff]", japanese)


def test_the_scripts_say_nothing_that_has_no_text():
    scripts = "".join(
        read_asset(name).decode() for name in ASSETS if name.endswith(".js") and "regl" not in name
    )
    said = set(re.findall(rf'"((?:{"|".join({key.partition(".")[0] for key in TEXTS})})\.[a-z_]+)"', scripts))
    assert len(said) > 20
    assert said - {"selection.csv"} <= set(TEXTS)
