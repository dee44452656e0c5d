"""Texts: labelled, bare lines, rows of anchor, positive and negatives; and what is wrong with them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kyori.data import AlignedBatches, Loader, make_split, open_source
from kyori.errors import ArgumentError, DataError, DataWarning, ItemError

ROWS = """anchor,positive,negative
"hello, world",hi,bye
hello there,hi,
sun,the star,moon
"""


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(ROWS)
    return open_source(path)


def test_labelled_texts_in_every_form(tmp_path):
    texts, labels = ["a b", "c\nd", "日本語 🙂"], ["x", "y", "x"]
    (tmp_path / "t.csv").write_text('text,label\na b,x\n"c\nd",y\n日本語 🙂,x\n')
    (tmp_path / "t.tsv").write_text('text\tlabel\na b\tx\n"c\nd"\ty\n日本語 🙂\tx\n')
    lines = [json.dumps({"text": t, "label": y}) for t, y in zip(texts, labels, strict=True)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    pq.write_table(pa.table({"text": texts, "label": labels}), tmp_path / "t.parquet")
    sources = [open_source(tmp_path / f"t.{end}") for end in ("csv", "tsv", "jsonl", "parquet")]
    sources += [open_source((texts, labels)), open_source(np.array(texts), labels=labels)]
    for source in sources:
        assert source.kind == "text"
        assert source.load([2, 0, 1]).tolist() == [texts[2], texts[0], texts[1]]
        assert source.read(1) == "c\nd"
        assert source.labels.tolist() == [0, 1, 0]
        assert source.class_names == ("x", "y")


def test_lines_have_their_numbers_as_ids(tmp_path):
    (tmp_path / "lines.txt").write_text("one\n\n  \ntwo\n", encoding="utf-8-sig")
    source = open_source(tmp_path / "lines.txt")
    assert source.load([0, 1]).tolist() == ["one", "two"]
    assert source.ids.tolist() == [1, 4]
    assert source.labels is None


def test_bytes_that_are_no_text_are_an_error_with_the_line(tmp_path):
    (tmp_path / "bad.txt").write_bytes("eins\nzwölf\n".encode("latin-1"))
    with pytest.raises(DataError, match="line 2 is not UTF-8"):
        open_source(tmp_path / "bad.txt")
    (tmp_path / "bad.csv").write_bytes("text,label\nzwölf,x\n".encode("latin-1"))
    with pytest.raises(DataError, match="cannot be read as a csv table"):
        open_source(tmp_path / "bad.csv")


def test_empty_texts_are_bad_items():
    with pytest.warns(DataWarning, match=r"2 skipped: text 1 \(it is empty\), text 2"):
        source = open_source((["a", "", " \t", "b"], [0, 0, 1, 1]))
    assert source.ids.tolist() == [0, 3]
    with pytest.raises(ItemError, match="text 1"):
        open_source((["a", "", "b"], [0, 0, 1]), bad_items="error")
    with pytest.raises(DataError, match="none of the 2 texts"):
        open_source(["", " "])


def test_a_text_of_a_million_characters_is_an_item_like_another(tmp_path):
    long = "word " * 200_000
    (tmp_path / "t.csv").write_text(f'text,label\n"{long}",x\nshort,y\n')
    assert len(open_source(tmp_path / "t.csv").read(0)) == 1_000_000


def test_rows_of_anchor_positive_negative(pairs):
    assert pairs.load(np.arange(8)).tolist() == [
        "hello, world", "hello there", "sun", "hi", "hi", "the star", "bye", "moon",
    ]  # fmt: skip
    assert pairs.columns["role"].tolist() == ["anchor"] * 3 + ["positive"] * 3 + ["negative"] * 2
    assert pairs.columns["row"].tolist() == [0, 1, 2, 0, 1, 2, 0, 2]
    assert pairs.columns["is_query"].tolist() == [True] * 3 + [False] * 5
    # rows 0 and 1 share a positive: all four texts mean the same, and no other does
    same = pairs.labels[:, None] == pairs.labels[None, :]
    assert same[0].tolist() == [True, True, False, True, True, False, False, False]
    assert same[2].tolist() == [False, False, True, False, False, True, False, False]
    assert same[6].sum() == same[7].sum() == 1


def test_a_row_without_positive_is_an_error(tmp_path):
    (tmp_path / "p.csv").write_text("anchor,positive\na,b\nc,\n")
    with pytest.raises(DataError, match="row 2 has no positive"):
        open_source(tmp_path / "p.csv")


def test_columns_say_what_a_table_is(tmp_path):
    (tmp_path / "p.csv").write_text("anchor,other\na,b\n")
    with pytest.raises(DataError, match="the column 'positive' is missing; got"):
        open_source(tmp_path / "p.csv")
    (tmp_path / "q.csv").write_text("words,label\na,b\n")
    with pytest.raises(DataError, match=r"the column 'path' is missing \(or text, for texts"):
        open_source(tmp_path / "q.csv")


def test_a_split_keeps_rows_together(tmp_path):
    lines = [f"a{i},p{i},n{i}" for i in range(40)] + ["a0,p40,n40"]
    (tmp_path / "p.csv").write_text("anchor,positive,negative\n" + "\n".join(lines))
    source = open_source(tmp_path / "p.csv")
    split = make_split(source)
    parts = [set(part.columns["row"].tolist()) for part in split]
    assert sum(map(len, parts)) == 41
    assert not (parts[0] & parts[1])
    assert not (parts[0] & parts[2])
    assert not (parts[1] & parts[2])
    assert any({0, 40} <= part for part in parts), "two rows of one anchor stay together"
    with pytest.raises(DataError, match="would part anchors from their positives"):
        make_split(source, "random")


def test_aligned_batches_pair_by_place(pairs):
    batches = AlignedBatches(pairs.columns["row"], pairs.columns["role"], 2, seed=3)
    seen = []
    for batch in batches.epoch(0):
        rows, roles = pairs.columns["row"][batch.indices], pairs.columns["role"][batch.indices]
        b = batch.anchors
        assert (roles[:b] == "anchor").all()
        assert (roles[b : 2 * b] == "positive").all()
        assert (rows[:b] == rows[b : 2 * b]).all()
        assert set(rows[2 * b :].tolist()) <= set(rows[:b].tolist())
        seen += rows[:b].tolist()
    assert sorted(seen) == [0, 1, 2]
    ranks = [
        AlignedBatches(pairs.columns["row"], pairs.columns["role"], 3, seed=3, rank=r, world=2)
        for r in (0, 1)
    ]
    shares = [next(part.epoch(0)) for part in ranks]
    assert sum(share.anchors for share in shares) == 3


def test_aligned_batches_refuse_rows_without_anchor():
    with pytest.raises(DataError, match="each row needs one anchor; row 1 has 0"):
        AlignedBatches(np.array([0, 0, 1]), np.array(["anchor", "positive", "positive"]), 2)
    with pytest.raises(ArgumentError, match="at least 1 row for each of 3 ranks"):
        AlignedBatches(np.array([0, 0]), np.array(["anchor", "positive"]), 2, world=3)


def test_a_loader_of_texts_needs_tokens(pairs):
    import torch

    loader = Loader(pairs, workers=2, prepare=lambda texts: torch.tensor([[len(t)] for t in texts]))
    batch, raw, labels = next(
        loader.batches(AlignedBatches(pairs.columns["row"], pairs.columns["role"], 3).epoch(0))
    )
    assert raw[:, 0].tolist() == [len(text) for text in pairs.load(batch.indices)]
    assert labels.tolist() == pairs.labels[batch.indices].tolist()


def test_a_column_of_the_users_own_called_role_means_nothing(tmp_path):
    lines = [f"text {i},{'ab'[i % 2]},{'chief' if i % 3 else 'clerk'}" for i in range(20)]
    (tmp_path / "t.csv").write_text("text,label,role\n" + "\n".join(lines))
    source = open_source(tmp_path / "t.csv", columns=["role"])
    assert not source.in_rows
    assert len(make_split(source, "random").train) == 14
