"""One comparison at a time in a folder, whatever became of the one before."""

import json
import os
import signal
import subprocess
import sys

import pytest

import kyori
from kyori.comparison.occupied import LOCK, occupied
from kyori.errors import ArgumentError

HOLDER = """
import sys, time
from pathlib import Path
from kyori.comparison.occupied import occupied
with occupied(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_comparison_is_refused_until_the_first_is_dead(tmp_path):
    folder = tmp_path / "runs" / "one"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ArgumentError, match=rf"written by another comparison \(process {holder.pid} on"):
            kyori.compare("digits", methods=["raw"], out=folder)
        assert not (folder / "cells").exists()
        holder.send_signal(signal.SIGKILL)
    assert (folder / LOCK).exists(), "a killed process leaves its file"
    with occupied(folder):
        assert json.loads((folder / LOCK).read_text())["process"] == os.getpid()
        with pytest.raises(ArgumentError, match="Wait until it has ended, stop it, or give another folder"):
            occupied(folder).__enter__()
    assert list(folder.iterdir()) == []


def test_a_folder_that_stays_empty_goes(tmp_path):
    with pytest.raises(ArgumentError, match="unknown method"):
        kyori.compare("digits", methods=["nothing"], out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_page_can_be_left_out(tmp_path):
    options = {"methods": ["raw"], "out": tmp_path, "per_class": 20}
    board = kyori.compare("digits", report=False, **options)
    assert {path.name for path in tmp_path.iterdir()} == {"board.json", "cells"}
    assert kyori.comparison.Board.from_json((tmp_path / "board.json").read_text()) is not None
    with pytest.raises(ArgumentError, match="report=False does not write"):
        kyori.compare("digits", report=False, figures=tmp_path / "figures", **options)
    assert board.winner == "raw"


def test_a_page_of_another_board_does_not_stay(tmp_path):
    options = {"out": tmp_path, "per_class": 20, "seeds": 1}
    kyori.compare("digits", methods=["raw"], **options)
    kyori.compare("digits", methods=["raw"], report=False, **options)
    assert (tmp_path / "report.html").exists(), "it shows this very board"
    kyori.compare("digits", methods=["raw", "lda"], report=False, **options)
    assert not (tmp_path / "report.html").exists()
