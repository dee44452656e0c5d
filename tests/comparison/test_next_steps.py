"""The commands that a comparison ends with can be typed."""

import shlex

import numpy as np
import pytest

import kyori
from kyori.cli.main import run as kyori_command
from kyori.comparison.next_steps import next_steps

SMALL = {"seeds": 1, "epochs": 1}


@pytest.fixture
def few(tmp_path, monkeypatch):
    """Two hundred digits in a file of the working folder, and as arrays."""
    monkeypatch.chdir(tmp_path)
    source = kyori.open_source("digits")
    arrays = source.load(range(200)), source.labels[:200]
    np.savez("few.npz", X=arrays[0], y=arrays[1])
    return arrays


def test_the_commands_run(few, tmp_path):
    board = kyori.compare("few.npz", methods=["raw", "triplet-hard"], out="the board", **SMALL)
    explore, index, train = (shlex.split(command) for command in next_steps(board))
    assert explore == ["kyori", "explore", "the board/cells/few/triplet-hard/seed-0"]
    assert kyori_command(index[1:]) == 0
    assert kyori_command(["search", explore[2], "7"]) == 0
    assert train[-4:] == ["--epochs", "2", "--out", "runs/few-triplet-hard"]
    assert kyori_command([*train[1:], "--no-report"]) == 0
    longer = kyori.open_run("runs/few-triplet-hard").config
    assert (longer.loss.name, longer.loss.options["mining"]) == ("triplet", "hard")
    assert kyori.comparison.Board.from_json("the board/board.json").sources == {"few": "few.npz"}
    page = (tmp_path / "the board" / "report.html").read_text()
    assert "kyori explore &#x27;the board/" in page or "kyori explore 'the board/" in page


def test_no_command_is_made_up(few, tmp_path):
    raw = kyori.compare("few.npz", methods=["raw"], out="raw", **SMALL)
    assert next_steps(raw) == ()
    linear = kyori.compare("few.npz", methods=["lda"], out="linear", **SMALL)
    assert [command.split()[1] for command in next_steps(linear)] == ["explore", "index"]
    arrays = kyori.compare(few, methods=["lda"], out="kept", **SMALL)
    assert [command.split()[1] for command in next_steps(arrays)] == ["explore"]


def test_the_board_names_the_configuration_it_was_made_with(few, tmp_path):
    (tmp_path / "base.yaml").write_text("training: {epochs: 1}\n")
    board = kyori.compare("few.npz", methods=["lda"], seeds=1, config="base.yaml")
    assert board.command == "kyori compare few.npz --methods lda --seeds 1 --config base.yaml"
