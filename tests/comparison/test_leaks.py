"""What training sees of the test parts is found before training, and named wherever the board is shown."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

import kyori
from kyori.comparison import Board, plan
from kyori.errors import DataWarning


@pytest.fixture
def pictures(tmp_path):
    """Five classes in train/ and five others in test/, six pictures each, all different."""
    rng = np.random.default_rng(0)
    for part, classes in (("train", "abcde"), ("test", "vwxyz")):
        for name in classes:
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(6):
                pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{i}.png")
    return tmp_path


def test_clean_parts_have_no_leaks(pictures, recwarn):
    board = kyori.compare(pictures, methods=["raw"])
    assert board.leaks == ()
    assert not [warning for warning in recwarn if "leak" in str(warning.message)]


def test_copied_items_are_named_before_and_after_training(pictures):
    for i in range(4):
        shutil.copy(pictures / f"train/a/{i}.png", pictures / f"test/v/copy-{i}.png")
    with pytest.warns(
        DataWarning, match=re.escape(": 4 of 34 test items are copies of training or validation items: ")
    ):
        board = kyori.compare(pictures, methods=["raw"], out=pictures.parent / "run")
    (leak,) = board.leaks
    assert (leak.kind, leak.found, leak.of) == ("items", 4, 34)
    assert set(leak.examples) == {(f"test/v/copy-{i}.png", f"train/a/{i}.png") for i in range(4)}
    assert Board.from_json(pictures.parent / "run" / "board.json").leaks == board.leaks
    for shown in (str(board), board.to_markdown().replace("\\", ""), board.to_latex()):
        assert "4 of 34 test items are copies" in shown
    page = (pictures.parent / "run" / "report.html").read_text()
    assert "4 are copies of training or validation items" in page
    assert "test/v/copy-0.png = train/a/0.png" in page


def test_a_class_in_both_parts_is_named_where_the_others_are_unseen(pictures):
    (pictures / "test" / "b").mkdir()
    for i in range(2):
        shutil.move(pictures / "train" / "b" / f"{i}.png", pictures / "test" / "b" / f"{i}.png")
    with pytest.warns(DataWarning, match=": 1 of 6 test classes is in the training too, 5 are unseen: b$"):
        board = kyori.compare(pictures, methods=["raw"])
    assert [(leak.kind, leak.examples) for leak in board.leaks] == [("classes", (("b",),))]


def test_classes_of_a_test_about_seen_ones_are_no_leak(pictures):
    for name in "abcde":
        (pictures / "test" / name).mkdir()
        for i in range(2):
            shutil.move(pictures / "train" / name / f"{i}.png", pictures / "test" / name / f"{i}.png")
    for name in "vwxyz":
        shutil.rmtree(pictures / "test" / name)
    assert kyori.compare(pictures, methods=["raw"]).leaks == ()


def test_copies_are_found_in_each_fold_and_in_memory():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)).astype(np.float32)
    y = np.repeat(np.arange(4), 15)
    X[1::2] = X[::2]
    (leak,) = plan((X, y), methods=["raw"], folds=3, unseen=False).leaks()
    assert (leak.kind, leak.of) == ("items", 60)
    assert 2 <= leak.found <= 60
    assert leak.found % 2 == 0  # apart, each of the two is tested once
    assert all(int(a) // 2 == int(b) // 2 for a, b in leak.examples)
    assert leak.named.endswith(" …")
