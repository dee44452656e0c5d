"""Both languages say the same things."""

import re
from string import Formatter

import pytest

from kyori.errors import ArgumentError
from kyori.report.words import LANGUAGES, TEXTS, Words

#: Names and signs that are written the same in both languages.
SAME = {"Kyori", "{measure} {value}", "{id}"}


@pytest.mark.parametrize("key", TEXTS)
def test_each_text_stands_in_both_languages_with_the_same_fields(key):
    english, japanese = TEXTS[key]
    fields = [{name for _, name, _, _ in Formatter().parse(text) if name} for text in (english, japanese)]
    assert fields[0] == fields[1]
    assert english.strip() == english != ""
    assert japanese.strip() == japanese != ""
    if japanese not in SAME:
        assert re.search("[\u3040-\u30ff\u4e00-\u9fff]", japanese), "no Japanese in it"
        assert not re.search("[\u3040-\u30ff]", english)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("map@r", "MAP@R"),
        ("recall@10", "Recall@10"),
        ("map@5", "MAP@5"),
        ("tar@far=1e-3", "TAR@FAR 0.1%"),
        ("tar@far=0.01", "TAR@FAR 1%"),
        ("best-accuracy", "Best pair accuracy"),
        ("accuracy@0.5", "Pair accuracy"),
    ],
)
def test_measures_have_a_name_and_an_explanation(name, shown, lang):
    assert Words(lang).measure(name) == shown
    assert Words(lang).explain(name)


def test_every_measure_of_evaluate_is_explained():
    measures = pytest.importorskip("kyori.evaluation.measures")
    for measure in measures.plan_measures(None, (1, 5), (1e-3,), True):
        assert Words().explain(measure.key), measure.key


def test_what_users_bring_stays_as_it_is():
    words = Words("ja")
    assert (words.measure("my measure"), words.explain("my measure"), words.method("mine")) == (
        "my measure",
        "",
        "mine",
    )
    assert words.method("raw") == "元の入力"


def test_an_unknown_language_is_an_error():
    with pytest.raises(ArgumentError, match="lang must be 'en' or 'ja'; got 'jp'; known: en, ja"):
        Words("jp")
