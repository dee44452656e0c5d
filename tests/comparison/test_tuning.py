"""The search itself, on an objective whose best setting is known."""

import json
import sys

import pytest

from kyori.comparison.spaces import Range
from kyori.comparison.tuning import need_optuna, search
from kyori.errors import DataError, Interrupted, MissingExtraError, TrainingError

SPACE = {"lr": Range(1e-4, 1.0, log=True), "k": Range(1, 9, whole=True)}
DEFAULTS = {"lr": 1e-3, "k": 2}


def bowl(settings):
    """Best at lr 0.1 and k 7; the defaults are far from both."""
    import math

    values = {**DEFAULTS, **settings}
    return -abs(math.log10(values["lr"]) + 1) - abs(values["k"] - 7) / 4


def test_it_finds_what_is_better_and_begins_with_the_defaults(tmp_path):
    tried = []
    best, seconds = search(
        lambda s: tried.append(dict(s)) or bowl(s),
        SPACE,
        DEFAULTS,
        25,
        seed=0,
        records=tmp_path / "trials.jsonl",
    )
    assert tried[0] == {}
    assert len(tried) == 25
    assert bowl(best.settings) > -0.6 > bowl({}) + 1
    assert isinstance(best.settings["k"], int)
    assert seconds >= 0
    records = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
    assert [record["settings"] for record in records] == tried
    assert search(bowl, SPACE, DEFAULTS, 25, seed=0)[0] == best
    assert search(bowl, SPACE, DEFAULTS, 25, seed=1)[0] != best


def test_the_defaults_stay_where_nothing_is_better():
    best, _ = search(lambda s: 0.5, SPACE, DEFAULTS, 4, seed=0)
    assert best.number == 0
    assert best.settings == {}


@pytest.mark.parametrize("cut", [0, 1, 9])
def test_a_search_that_was_stopped_goes_on_to_the_same_end(tmp_path, cut):
    records = tmp_path / "trials.jsonl"
    whole, _ = search(bowl, SPACE, DEFAULTS, 12, seed=3)

    calls = []

    def stops(settings):
        if len(calls) == 7:
            raise Interrupted("Ctrl-C")
        calls.append(settings)
        return bowl(settings)

    with pytest.raises(Interrupted):
        search(stops, SPACE, DEFAULTS, 12, seed=3, records=records)
    text = records.read_bytes()
    records.write_bytes(text[: len(text) - cut])  # a kill in the middle of a line
    again = []
    found, _ = search(lambda s: again.append(s) or bowl(s), SPACE, DEFAULTS, 12, seed=3, records=records)
    assert found == whole
    assert len(again) == (5 if cut == 0 else 6)
    assert len(records.read_text().splitlines()) == 12


def test_a_trial_that_fails_counts_and_is_never_chosen():
    def half(settings):
        if settings.get("k", 0) > 4:
            raise TrainingError("the loss became NaN")
        if settings.get("k") == 4:
            return float("nan")
        return bowl(settings)

    tried = []
    best, _ = search(lambda s: tried.append(s) or half(s), SPACE, DEFAULTS, 15, seed=0)
    assert len(tried) == 15
    assert any(s.get("k", 0) > 4 for s in tried)
    assert best.settings.get("k", 0) < 4

    def never(settings):
        raise TrainingError("NaN")

    with pytest.raises(TrainingError, match="none of 3 trials of the search had a value; the first: NaN"):
        search(never, SPACE, DEFAULTS, 3, seed=0)

    def wrong_data(settings):
        raise DataError("no labels")

    with pytest.raises(DataError, match="no labels"):  # not a matter of the settings: no use to go on
        search(wrong_data, SPACE, DEFAULTS, 3, seed=0)


def test_optuna_s_own_level_of_words_comes_back():
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search(bowl, SPACE, DEFAULTS, 2, seed=0)
    assert optuna.logging.get_verbosity() == optuna.logging.ERROR
    optuna.logging.set_verbosity(optuna.logging.INFO)


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"trials=.*kyori\[tune\]"):
        need_optuna()
