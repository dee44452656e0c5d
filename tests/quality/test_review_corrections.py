"""Corrections: read, refused where they do not fit, applied without touching the data; and the commands around them."""

import json

import numpy as np
import pytest

from kyori.cli.main import run
from kyori.data import Correction, Corrections, open_source
from kyori.errors import ArgumentError, DataError
from kyori.runs import encode_part, fit, open_run

QUICK = {"loss": "softmax", "epochs": 1, "seed": 0, "report": None}


def zoo():
    return open_source((np.arange(24, dtype=np.float32).reshape(12, 2), ["ape", "bee", "cat"] * 4))


def test_a_file_makes_a_round_trip(tmp_path):
    made = Corrections(
        [
            Correction("a,b", "relabel", 'x "y"', "z"),
            Correction("c\nd", "drop"),
            Correction("é", "keep", "", "ü"),
        ]
    )
    made.save(tmp_path / "c.csv")
    assert Corrections.load(tmp_path / "c.csv").decisions == made.decisions
    assert repr(made) == "Corrections(1 relabelled, 1 dropped, 1 kept)"


def test_a_spreadsheets_file_is_read(tmp_path):
    (tmp_path / "c.csv").write_bytes(b"\xef\xbb\xbfaction,label,id\r\nrelabel,bee,0\r\ndrop,,1\r\n")
    decisions = Corrections.load(tmp_path / "c.csv").decisions
    assert decisions == (Correction("0", "relabel", "bee"), Correction("1", "drop"))


def test_applying_relabels_and_drops_and_leaves_the_data_alone():
    source = zoo()
    before = source.labels.copy()
    corrected = Corrections(
        [Correction("0", "relabel", "bee", "ape"), Correction("3", "drop"), Correction("4", "keep")]
    ).apply(source)
    np.testing.assert_array_equal(source.labels, before)
    assert corrected.ids.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]
    assert corrected.class_names == source.class_names
    assert corrected.labels.tolist() == [1, *before[[1, 2, *range(4, 12)]].tolist()]
    np.testing.assert_array_equal(corrected.load([3]), source.load([4]))


@pytest.mark.parametrize(
    ("decisions", "message"),
    [
        ([Correction("0", "drop"), Correction("0", "keep")], "id '0' occurs more than once"),
        ([Correction("0", "delete")], "must be keep, relabel or drop; got 'delete'"),
        ([Correction("0", "relabel")], "'0' is to be relabelled, but the column 'label' is empty"),
        (
            [Correction("99", "drop"), Correction("1", "drop")],
            "1 of 2 ids are not in arrays, the first is '99'",
        ),
        ([Correction("0", "relabel", "be")], "'be', which is no class of arrays; did you mean 'bee'"),
        ([Correction("0", "keep", "", "cat")], "was labelled 'cat' when it was looked at and is 'ape' now"),
    ],
)
def test_what_does_not_fit_is_an_error(decisions, message):
    with pytest.raises(DataError, match=message):
        Corrections(decisions).apply(zoo())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"id,label\n1,bee\n",
            "must have the columns id, action and label; action not found among id, label",
        ),
        (b"", "not found among none"),
        (b"id,action\n\xff,drop\n", "is not UTF-8 text"),
        (None, "cannot read the corrections"),
    ],
)
def test_files_that_are_no_corrections(tmp_path, content, message):
    if content is not None:
        (tmp_path / "c.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        Corrections.load(tmp_path / "c.csv")


def test_a_corrected_run_shares_its_test_items_with_the_uncorrected_one(tmp_path):
    source = open_source("digits")
    plain = fit("digits", out=tmp_path / "plain", **QUICK)
    tested = plain.table.ids
    decided = Corrections(
        [
            Correction(str(tested[0]), "drop"),
            Correction(str(tested[1]), "relabel", "7"),
            Correction("0", "drop"),
        ]
    )
    fixed = fit("digits", out=tmp_path / "fixed", corrections=decided, **QUICK)
    np.testing.assert_array_equal(fixed.table.ids, tested[1:])
    assert fixed.table.labels[0] == 7
    assert fixed.table.labels[1:].tolist() == source.labels[np.isin(source.ids, tested[2:])].tolist()
    assert Corrections.load(tmp_path / "fixed" / "corrections.csv").decisions == decided.decisions
    table, part = encode_part(tmp_path / "fixed", "digits")
    assert part == "test"
    np.testing.assert_array_equal(table.labels, fixed.table.labels)
    everything, part = encode_part(tmp_path / "fixed", "digits", "all")
    assert len(everything) == 1797
    other, part = encode_part(tmp_path / "fixed", (np.zeros((9, 8, 8), np.uint8), [0, 1, 2] * 3))
    assert (part, len(other)) == ("all", 9)


def test_whole_classes_stay_on_one_side():
    """An item that goes to a class of the other side goes there with it."""
    source = open_source("digits")
    run_ = fit("digits", split="class-disjoint", **QUICK)
    tested = set(run_.table.labels.tolist())
    outside = int(np.flatnonzero(~np.isin(source.labels, list(tested)))[0])
    moved = Corrections([Correction(str(outside), "relabel", str(min(tested)))])
    again = fit("digits", split="class-disjoint", corrections=moved, **QUICK)
    assert outside in again.table.ids
    assert set(again.table.labels.tolist()) == tested


# -- the commands -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """300 digits, thirty of them with a wrong label, as a file."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    labels = digits.target[:300].copy()
    labels[:30] = (labels[:30] + 3) % 10
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, X=(digits.images[:300] * 15).astype(np.uint8), y=labels)
    return path


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean") / "run"
    assert (
        run(["train", str(data), "--loss", "softmax", "--epochs", "8", "--lr", "0.01", "--out", str(folder)])
        == 0
    )
    return folder


def test_clean_finds_decides_and_train_uses(data, trained, tmp_path, capsys):
    path = data
    assert run(["clean", str(trained), str(path), "--folds", "3", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "fold 3 of 3" in err
    found = json.loads(out)
    assert found["items"] == found["judged"] == 300
    issues = {one["id"]: one for one in found["issues"]}
    assert len(set(issues) & set(range(30))) >= 25
    assert sum(one["issues"] for one in found["noise"]) == len(issues)
    for name in ("label_errors.csv", "label_errors.parquet", "review.html", "folds/fold-2/model.json"):
        assert (trained / "clean" / name).exists()
    chosen = [Correction(str(i), "relabel", one["suggested_label"]) for i, one in issues.items()]
    Corrections(chosen).save(tmp_path / "corrections.csv")
    command = ["train", str(path), "--loss", "softmax", "--epochs", "1", "--corrections"]
    assert run([*command, str(tmp_path / "corrections.csv"), "--out", str(tmp_path / "again")]) == 0
    assert f"corrections: {len(chosen)} relabelled, 0 dropped, 0 kept" in capsys.readouterr().err
    assert (tmp_path / "again" / "corrections.csv").exists()
    assert open_run(tmp_path / "again").results is not None


def test_clean_goes_on_with_finished_folds(data, trained, capsys):
    assert run(["clean", str(trained), str(data), "--folds", "3"]) == 0
    capsys.readouterr()
    before = (trained / "clean" / "folds" / "fold-0" / "vectors.parquet").stat().st_mtime_ns
    assert run(["clean", str(trained), str(data), "--folds", "3", "--lang", "ja", "--show", "3"]) == 0
    out, err = capsys.readouterr()
    assert "labels are doubtful" in out
    assert "fold 1 of 3" not in err
    assert (trained / "clean" / "folds" / "fold-0" / "vectors.parquet").stat().st_mtime_ns == before
    assert 'lang="ja"' in (trained / "clean" / "review.html").read_text("utf-8")


def test_clean_with_the_runs_own_vectors_says_why_that_is_worse(data, trained, tmp_path, capsys):
    assert run(["clean", str(trained), str(data), "--no-cross-fit", "--out", str(tmp_path / "own")]) == 0
    assert "learnt some wrong ones by heart" in capsys.readouterr().err
    assert not (tmp_path / "own" / "folds").exists()


def test_clean_takes_a_table_of_vectors(data, trained, tmp_path, capsys):
    table = tmp_path / "v.parquet"
    assert run(["embed", str(trained), str(data), "--out", str(table)]) == 0
    assert run(["clean", str(table), "--json"]) == 0
    assert "<img" not in (tmp_path / "v-clean" / "review.html").read_text("utf-8")
    assert run(["clean", str(table), str(data), "--json"]) == 0
    assert "<img" in (tmp_path / "v-clean" / "review.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clean", "RUN"], "DATA is missing: kyori clean"),
        (["clean", "nowhere", "DATA"], "nowhere is not a run folder"),
        (["clean", "RUN", "DATA", "--lang", "fr"], "lang must be 'en' or 'ja'"),
        (["clean", "RUN", "DATA", "--folds", "1"], "--folds"),
        (["clean", "RUN", "DATA", "--method", "probabilities", "--no-cross-fit"], "probabilities of a head"),
        (["train", "DATA", "--corrections", "nowhere.csv"], "cannot read the corrections nowhere.csv"),
    ],
)
def test_mistakes_are_one_line_with_exit_code_2(
    arguments, message, data, trained, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    words = {"RUN": str(trained), "DATA": str(data)}
    assert run([words.get(word, word) for word in arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_unknown_ids_stop_a_training_before_it_begins(data, tmp_path, capsys):
    Corrections([Correction("4711", "drop")]).save(tmp_path / "c.csv")
    out = tmp_path / "run"
    assert run(["train", str(data), "--corrections", str(tmp_path / "c.csv"), "--out", str(out)]) == 2
    assert "1 of 1 ids are not in" in capsys.readouterr().err
    assert not out.exists()


def test_fit_takes_a_path(tmp_path):
    with pytest.raises(DataError, match="cannot read the corrections"):
        fit("digits", corrections=tmp_path / "none.csv", **QUICK)
    with pytest.raises(ArgumentError, match="corections"):
        fit("digits", corections="x", **QUICK)
