"""The table and the page: what stands in them, and that decisions made on the page come back."""

import csv
import json
import re
import shutil
import subprocess
from string import Formatter

import numpy as np
import pyarrow.parquet
import pytest

from kyori.data import Corrections
from kyori.errors import ArgumentError
from kyori.quality import find_label_errors, write_review, write_table
from kyori.quality.review_words import TEXTS
from kyori.vectors import VectorTable
from quality.test_labels import blobs
from report.samples import Page, Pictures, Vectors

NAMES = ("ape", "bee", "cat")
EVIL = "</script><script>alert(1)</script>\"'&,\n=1+1"


def errors(names=NAMES, flips=9, ids=None):
    vectors, _, given = blobs([40] * 3, flips=flips)
    return find_label_errors(VectorTable(ids, vectors, given, class_names=names))


def written(tmp_path, found, items=None, **options):
    path = write_review(found, items, tmp_path / "review.html", data="zoo", **options)
    text = path.read_text("utf-8")
    return text, Page(text)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_table_has_one_row_an_item_and_cleanlabs_names(tmp_path, ending):
    found = errors()
    path = tmp_path / f"errors.{ending}"
    write_table(found, path)
    if ending == "csv":
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            row["is_label_issue"] = row["is_label_issue"] == "true"
            for name in ("neighbor_ids", "neighbor_labels", "neighbor_distances"):
                row[name] = json.loads(row[name])
    else:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    assert [str(row["id"]) for row in rows] == [str(i) for i in range(120)]
    assert [row["is_label_issue"] for row in rows] == found.is_label_issue.tolist()
    assert [float(row["label_score"]) for row in rows] == found.label_score.tolist()
    assert [row["given_label"] for row in rows] == found.given_label.tolist()
    assert [row["suggested_label"] for row in rows] == found.suggested_label.tolist()
    assert rows[5]["neighbor_ids"] == found.neighbors.ids[5].tolist()
    assert rows[5]["neighbor_labels"] == found.given_label[found.neighbors.ids[5]].tolist()
    assert rows[5]["neighbor_distances"] == pytest.approx(found.neighbors.distances[5].tolist(), rel=1e-5)


def test_a_table_of_another_kind_is_an_error(tmp_path):
    with pytest.raises(ArgumentError, match=r"written as .csv or .parquet; got .*errors\.xlsx"):
        write_table(errors(), tmp_path / "errors.xlsx")


@pytest.mark.parametrize("items", [Pictures(), Vectors(), None], ids=["pictures", "vectors", "ids only"])
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_page_is_whole_and_asks_the_network_for_nothing(tmp_path, items, lang):
    text, page = written(tmp_path, errors(), items, lang=lang, judged_by="x")
    assert {"items", "use", "noise", "save", "open", "accept"} <= set(page.ids)
    assert ("html", {"lang": lang}) in page.tags
    assert not re.search(r"https?://|url\(|@import|fetch\(|src=\"(?!data:)", text)
    assert all(page.alts)
    cards = [attributes for name, attributes in page.tags if name == "li" and "data-id" in attributes]
    assert len(cards) == 24  # nine issues, and what comes next


def test_the_worst_come_first_and_no_more_than_asked_for(tmp_path):
    found = errors()
    _, page = written(tmp_path, found, show=5)
    shown = [a["data-id"] for name, a in page.tags if name == "li" and "data-id" in a]
    assert shown == [str(i) for i in found.worst(5)]
    with pytest.raises(ArgumentError, match="show must be at least 1; got 0"):
        written(tmp_path, found, show=0)


def test_hostile_names_stay_text(tmp_path):
    names = [EVIL + str(i) for i in range(3)]
    ids = [f"{EVIL}{i}" for i in range(120)]
    text, page = written(tmp_path, errors(names, ids=ids), Pictures())
    assert [name for name, _ in page.tags].count("script") == 2  # the page's and the review's
    assert "<script>alert(1)" not in text


@pytest.mark.parametrize("key", TEXTS)
def test_each_text_stands_in_both_languages_with_the_same_fields(key):
    english, japanese = TEXTS[key]
    fields = [{name for _, name, _, _ in Formatter().parse(text) if name} for text in (english, japanese)]
    assert fields[0] == fields[1]
    assert re.search("[\u3040-\u30ff\u4e00-\u9fff]", japanese)
    assert not re.search("[\u3040-\u30ff]", english)


# -- in a browser -------------------------------------------------------------------------------------------------


def browse(path, script):
    """Open the page in chromium, run ``script`` in it, and return what it gives to ``done``."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("chromium is not installed")
    asked = f"""<script>
      const done = (value) => {{ const p = document.createElement('pre'); p.id = 'result';
        p.textContent = encodeURIComponent(JSON.stringify(value)); document.body.append(p); }};
      let blob; URL.createObjectURL = (made) => {{ blob = made; return '#'; }};
      const cards = [...document.querySelectorAll('.review > li')];
      // virtual time runs on while a file is read, and the page is dumped when it is up: never be idle
      const until = async (ready) => {{ while (!ready()) await new Promise((go) => {{
        const one = new MessageChannel(); one.port1.onmessage = go; one.port2.postMessage(0); }}); }};
      let over = false;
      until(() => over);
      (async () => {{ {script} over = true; }})();
    </script></html>"""
    path.write_text(path.read_text("utf-8").replace("</html>", asked), "utf-8")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={path.parent / 'browser'}",
        "--virtual-time-budget=3000", "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = re.search(r'<pre id="result">(.*?)</pre>', done.stdout)
    assert found, done.stdout[-2000:]
    from urllib.parse import unquote

    return json.loads(unquote(found[1]))


def test_decisions_are_saved_and_opened_again(tmp_path):
    ids = np.array([f'photos/"{i}", é.jpg' for i in range(120)])
    found = errors(ids=ids)
    written(tmp_path, found, Pictures())
    first, second, third = (int(i) for i in found.worst(3))
    saved, again, status = browse(
        tmp_path / "review.html",
        """
        cards[0].querySelector('input[value=keep]').click();
        cards[1].querySelector('input[value=drop]').click();
        document.getElementById('accept').click();
        document.getElementById('save').click();
        const text = await blob.text();
        for (const radio of document.querySelectorAll('input[type=radio]')) radio.checked = false;
        const files = new DataTransfer();
        files.items.add(new File([text + 'elsewhere,drop,,\\n'], 'corrections.csv'));
        const input = document.getElementById('open');
        input.files = files.files;
        input.dispatchEvent(new Event('change'));
        await until(() => document.querySelector('input[value=keep]:checked'));
        document.getElementById('save').click();
        done([text, await blob.text(), document.getElementById('status').textContent]);
        """,
    )
    assert again == saved + "elsewhere,drop,,\n"
    assert status.startswith("9 of 24 decided · 1 decisions about items that are not on this page")
    (tmp_path / "corrections.csv").write_text(saved, encoding="utf-8")
    decided = {one.id: one for one in Corrections.load(tmp_path / "corrections.csv").decisions}
    assert len(decided) == 9
    assert decided[ids[first]].action == "keep"
    assert decided[ids[second]].action == "drop"
    assert decided[ids[third]].action == "relabel"
    assert decided[ids[third]].label == found.suggested_label[third]
    assert decided[ids[third]].given_label == found.given_label[third]


def test_a_label_that_is_no_class_is_not_saved(tmp_path):
    written(tmp_path, errors())
    saved, message = browse(
        tmp_path / "review.html",
        """
        const field = cards[0].querySelector('input[type=text]');
        field.value = 'dragon';
        field.dispatchEvent(new Event('input', { bubbles: true }));
        document.getElementById('save').click();
        done([blob !== undefined, field.validationMessage]);
        """,
    )
    assert not saved
    assert message == "“dragon” is no class of these data"
