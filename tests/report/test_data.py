"""The numbers of a figure: what is written is what was given, whatever it is."""

import base64
import csv
import io
import json

import numpy as np
import pytest

from kyori.errors import ArgumentError
from kyori.report.data import Data, stem

EVIL = ["</script>\"',\n=1+1", "ねこ \N{PILE OF POO}", "\u202eabc", "\udc80"]


def rows(data):
    return list(csv.DictReader(io.StringIO(data.csv())))


def test_csv_and_json_hold_the_values():
    data = Data("x", {"name": EVIL, "value": np.array([1 / 3, np.nan, -np.inf, 1e-9]), "n": np.arange(4)})
    assert [row["name"] for row in rows(data)] == EVIL
    assert [row["value"] for row in rows(data)] == ["0.3333333", "", "", "1e-09"]
    assert data.json()["value"] == [0.3333333, None, None, 1e-9]
    assert data.json()["n"] == [0, 1, 2, 3]
    assert json.loads(data.json_text(title="t").encode("utf-8", "replace"))["title"] == "t"


def test_a_link_is_letters_and_digits_only():
    data = Data("x", {"name": EVIL})
    head, _, coded = data.uri().partition(",")
    assert head == "data:text/csv;charset=utf-8;base64"
    assert base64.b64decode(coded).decode("utf-8").startswith("name\n")
    assert not set(coded) & set("<>\"' &")


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ArgumentError, match=r"one length; got \{'a': 1, 'b': 2\}"):
        Data("x", {"a": [1], "b": [1, 2]})


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "a" * 500, "<b>", "距離", "..."])
def test_file_names_stay_in_their_folder(name):
    made = stem(name)
    assert made
    assert "/" not in made
    assert not made.startswith(".")
    assert len(made) <= 60
