"""Hard negatives against a slow oracle, and the table that they are written to."""

import json

import numpy as np
import pytest

from kyori.cli.main import run
from kyori.data import open_source
from kyori.errors import ArgumentError, DataError
from kyori.mining import mine_negatives
from kyori.models import Embedder

OPTIONS = {"buckets": 500, "widths": [16]}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(30)]
    lines = [",".join(" ".join(rng.choice(words, 4)) for _ in range(3)) for _ in range(60)]
    lines[7] = ",".join([lines[3].split(",")[0], "another positive of row 3", "w1"])  # two rows of one anchor
    lines[9] = ",".join(["alone", lines[5].split(",")[1], ""])  # two rows of one positive, no negative
    path = tmp_path_factory.mktemp("mining") / "pairs.csv"
    path.write_text("anchor,positive,negative\n" + "\n".join(lines))
    return open_source(path)


@pytest.fixture(scope="module")
def embedder():
    return Embedder.create("mlp", (), embedding_size=8, options=OPTIONS, seed=1)


def oracle(source, embedder, per_row, skip, relative, absolute):
    """The texts of each row's negatives, one candidate at a time."""
    texts = source.load(np.arange(len(source)))
    vectors = embedder.encode(source)
    role, row = source.columns["role"], source.columns["row"]
    answers = {}
    for a in np.flatnonzero(role == "anchor"):
        (p,) = np.flatnonzero((role == "positive") & (row == row[a]))
        limit = min(relative * (vectors[a] @ vectors[p]), absolute)
        found = {}
        for c in np.flatnonzero(role != "anchor"):
            similarity = float(vectors[a] @ vectors[c])
            if source.labels[c] != source.labels[a] and similarity <= limit and texts[c] != texts[a]:
                found[texts[c]] = similarity
        ordered = sorted(found, key=lambda text: -found[text])
        answers[int(row[a])] = ordered[skip : skip + per_row]
    return answers


@pytest.mark.parametrize("approximate", [False, True])
@pytest.mark.parametrize(("skip", "relative", "absolute"), [(0, 0.95, 1.0), (2, 2.0, 0.8)])
def test_the_hardest_that_fit(source, embedder, approximate, skip, relative, absolute):
    rows = mine_negatives(
        source, embedder, per_row=4, skip=skip, depth=10_000, relative=relative, absolute=absolute,
        approximate=approximate,
    )  # fmt: skip
    texts = source.load(np.arange(len(source)))
    expected = oracle(source, embedder, 4, skip, relative, absolute)
    for anchor, negatives in zip(rows.anchors, rows.negatives, strict=True):
        mined = [texts[place] for place in negatives if place >= 0]
        assert mined == expected[int(source.columns["row"][anchor])]
    assert (np.diff(np.nan_to_num(rows.similarities, nan=-2)) <= 0).all()


def test_a_positive_of_the_same_anchor_is_never_a_negative(source, embedder):
    rows = mine_negatives(source, embedder, per_row=50, relative=None, depth=10_000)
    texts = source.load(np.arange(len(source)))
    mined = {texts[place] for place in rows.negatives[3] if place >= 0}
    assert "another positive of row 3" not in mined
    assert texts[rows.positives[5]] not in {texts[place] for place in rows.negatives[9] if place >= 0}


def test_from_the_command_line_and_back(source, embedder, tmp_path, capsys):
    import kyori

    kyori.fit(
        source,
        loss="mnr",
        backbone="mlp",
        backbone_options=OPTIONS,
        epochs=1,
        out=tmp_path / "run",
        report=None,
    )
    out = tmp_path / "rows.parquet"
    assert (
        run(
            [
                "mine",
                str(tmp_path / "run"),
                source.name,
                "--out",
                str(out),
                "-k",
                "3",
                "--relative",
                "0",
                "--json",
            ]
        )
        == 0
    )
    facts = json.loads(capsys.readouterr().out)
    assert facts["rows"] == 60
    assert facts["filled"] == 1.0
    mined = open_source(out)
    assert (mined.columns["role"] == "negative").sum() == 180
    assert run(["train", str(out), "--loss", "mnr", "--epochs", "1", "--out", str(tmp_path / "again")]) == 0


def test_what_cannot_be_mined(source, embedder, tmp_path):
    with pytest.raises(DataError, match="needs rows of anchor and positive"):
        mine_negatives(open_source((["a", "b"], [0, 1])), embedder)
    with pytest.raises(ArgumentError, match="depth ≥ skip"):
        mine_negatives(source, embedder, per_row=5, depth=4)
    with pytest.raises(ArgumentError, match=r"must end in \.parquet or \.csv"):
        mine_negatives(source, embedder).save(tmp_path / "rows.json")
    (tmp_path / "one.csv").write_text("anchor,positive\na,b\n")
    with pytest.raises(DataError, match="all items are of one class"):
        mine_negatives(open_source(tmp_path / "one.csv"), embedder)
