"""A small trained run with an index, made once, and copies of it to change."""

import shutil

import numpy as np
import pytest

import kyori
from kyori.cli.main import run as kyori_command


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """A run on half of the digits, so that many were not trained on; an index of the other half's first 400."""
    folder = tmp_path_factory.mktemp("recognition") / "run"
    kyori.fit("digits", loss="triplet", epochs=3, seed=0, out=folder, report=None, fractions=(0.4, 0.1, 0.5))
    assert kyori_command(["index", str(folder), "digits", "--part", "train"]) == 0
    return folder


@pytest.fixture
def run_folder(digits_run, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(digits_run, tmp_path / "run")
    note = (tmp_path / "run" / "index.json").read_text(encoding="utf-8")
    (tmp_path / "run" / "index.json").write_text(note.replace(str(digits_run), str(tmp_path / "run")))
    return tmp_path / "run"


@pytest.fixture(scope="session")
def held_out(digits_run):
    """The table of the run's test items."""
    return kyori.VectorTable.load(digits_run / "vectors.parquet")


class Identity:
    """A model that takes vectors as they are."""

    def encode(self, items):
        return np.asarray(items, np.float32)


@pytest.fixture
def encoder():
    return Identity()
