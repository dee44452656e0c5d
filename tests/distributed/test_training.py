"""A training on several ranks ends where one rank ends, to rounding, and each can go on with the other's checkpoint."""

import shutil

import pytest
import torch

from .launch import run_ranks
from .train_checks import CASES, RESUMED, run

CLOSE = {"rtol": 1e-3, "atol": 2e-5}  # float32, ten steps


def assert_close(found, wanted):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, msg=lambda text: f"{name}: {text}", **CLOSE)  # noqa: B023


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_train_as_one_does(world, tmp_path):
    for code, _, err in run_ranks(world, "-m", "distributed.train_checks", str(tmp_path)):
        assert code == 0, err
    for name in CASES:
        wanted = run(name)
        assert_close(torch.load(tmp_path / f"{name}.pt", weights_only=True), wanted)
        if name not in RESUMED:
            continue
        assert_close(torch.load(tmp_path / f"{name}-resumed.pt", weights_only=True), wanted)
        # one rank goes on from the middle of what several began
        alone = tmp_path / f"{name}-alone"
        shutil.copytree(tmp_path / name, alone, dirs_exist_ok=True)
        newest = sorted((alone / "checkpoints").glob("step-*.safetensors"))[-1]
        newest.unlink()
        assert list((alone / "checkpoints").glob("step-*.safetensors"))
        assert_close(run(name, alone, epochs=2, resume=True), wanted)
