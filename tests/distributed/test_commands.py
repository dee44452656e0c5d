"""`torchrun -m kyori …`: one voice, one folder, and an end with a reason."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kyori

from .launch import ROOT, free_port, run_ranks

TRAIN = ["-m", "kyori", "train", "digits", "--loss", "arcface", "--backbone", "mlp", "--epochs", "1"]
FAILS = """
import sys
from kyori.cli.ranks import run_ranked
from kyori import distributed
from kyori.errors import KyoriError

def work(words, tell):
    import torch
    torch.distributed.all_reduce(torch.ones(1))
    if distributed.rank() == 1:
        try:
            raise {error}
        except KyoriError as error:
            tell(f"error: {{error}}")
            return 2
    torch.distributed.all_reduce(torch.ones(1))  # which never comes
    return 0

sys.exit(run_ranked(["train"], work))
"""


def torchrun(world: int, *words: str) -> list[str]:
    return [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(world), "--master-port",
        str(free_port()), *words,
    ]  # fmt: skip


def quiet() -> dict[str, str]:
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT / "tests"),
        "CUDA_VISIBLE_DEVICES": "",
    }


@pytest.mark.slow
def test_train_and_embed_under_torchrun(tmp_path):
    def call(*words):
        command = torchrun(2, *words)
        return subprocess.run(command, env=quiet(), cwd=tmp_path, capture_output=True, text=True, timeout=120)

    done = call(*TRAIN, "--out", "run", "--json")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)  # one document, not one a rank
    assert done.stderr.count("epoch 1/1") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]
    assert kyori.open_run(tmp_path / "run").results["recall@1"].value > 0.5
    done = call("-m", "kyori", "embed", "run", "digits", "--out", "vectors.parquet")
    assert done.returncode == 0, done.stderr
    table = kyori.VectorTable.load(tmp_path / "vectors.parquet")
    alone = kyori.open_run(tmp_path / "run").embedder.encode(kyori.open_source("digits"))
    assert abs(table.vectors - alone).max() < 1e-5


def test_one_rank_fails_and_all_end_with_its_reason(tmp_path):
    script = tmp_path / "fails.py"
    for error, reason in (
        ("KyoriError('the disk of rank 1 is gone.')", "error: the disk of rank 1 is gone."),
        ("ValueError('a defect')", "ValueError: a defect"),
    ):
        script.write_text(FAILS.format(error=error))
        told = run_ranks(3, str(script), timeout=120)
        assert all(code != 0 for code, _, _ in told)
        lines = [line for _, _, err in told for line in err.splitlines() if line]
        assert lines[-1] == reason
        assert len(lines) == 1 or lines[0].startswith("Traceback")


LOSES_AN_ITEM = """
import sys
from pathlib import Path
from kyori import distributed
from kyori.cli.ranks import run_ranked
from kyori.errors import ItemError, KyoriError, RankError
from kyori.training import RunConfig, build, loop, train
from distributed.train_checks import PLAIN, source

def work(words, tell):
    batches = loop.Loader.batches

    def failing(self, wanted):
        for i, batch in enumerate(batches(self, wanted)):
            if i == 2 and distributed.rank() == 1:
                raise ItemError("photo.jpg", "it is gone.")
            yield batch

    loop.Loader.batches = failing
    config = RunConfig.from_options(**PLAIN, loss="arcface")
    try:
        train(*build(config, source()), source(), config, folder=Path(sys.argv[1]))
    except RankError:
        return 2
    except KyoriError as error:
        tell(f"error: {error}")
        return 2
    return 0

sys.exit(run_ranked(["train"], work))
"""


STOPS = """
import signal, sys, time
from pathlib import Path
from kyori import distributed
from kyori.cli.ranks import run_ranked
from kyori.errors import Interrupted
from kyori.training import Callback, RunConfig, build, train
from distributed.train_checks import PLAIN, source

class Stop(Callback):
    def on_step(self, progress):
        if progress.step == 2:
            signal.raise_signal(signal.SIGINT)

def work(words, tell):
    config = RunConfig.from_options(**PLAIN, loss="arcface")
    try:
        train(*build(config, source()), source(), config, folder=Path(sys.argv[1]), callbacks=[Stop()])
    except Interrupted as stop:
        time.sleep(0.5 * (1 - distributed.rank()))  # the one that wrote is not the first to speak
        tell(str(stop))
        return 130

sys.exit(run_ranked(["train"], work))
"""


def test_whichever_rank_tells_of_a_stop_says_what_was_saved(tmp_path):
    script = tmp_path / "stops.py"
    script.write_text(STOPS)
    told = run_ranks(2, str(script), str(tmp_path / "run"), timeout=120)
    assert [code for code, _, _ in told] == [130, 130], told
    (line,) = [line for _, _, err in told for line in err.splitlines()]
    assert "step-000000002.safetensors" in line
    assert "--resume" in line


def test_an_item_that_one_rank_cannot_read_ends_the_job_after_a_checkpoint(tmp_path):
    script = tmp_path / "loses.py"
    script.write_text(LOSES_AN_ITEM)
    told = run_ranks(2, str(script), str(tmp_path / "run"), timeout=120)
    assert [code for code, _, _ in told] == [2, 2], told
    (line,) = [line for _, _, err in told for line in err.splitlines()]
    assert "photo.jpg: it is gone." in line
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000000002.safetensors"]


def test_a_mistake_is_said_once(tmp_path):
    told = run_ranks(2, "-m", "kyori", "train", "nowhere", "--loss", "triplet", timeout=120, cwd=tmp_path)
    assert [code for code, _, _ in told] == [2, 2]
    lines = [line for _, _, err in told for line in err.splitlines()]
    assert len(lines) == 1
    assert "nowhere" in lines[0]
    told = run_ranks(2, "-m", "kyori", "losses", timeout=120, cwd=tmp_path)
    assert [code for code, _, _ in told] == [2, 2]
    assert [err for *_, err in told if err] == [
        "error: kyori losses runs in one process; start it without torchrun. Several processes can train and embed.\n"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_rank_and_ctrl_c_end_the_job(how, tmp_path):
    command = torchrun(2, *TRAIN, "--epochs", "2000", "--out", "run", "--checkpoint-every", "5 steps")
    job = subprocess.Popen(command, env=quiet(), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        checkpoints = tmp_path / "run" / "checkpoints"
        wait_for(lambda: list(checkpoints.glob("step-*.safetensors")))
        if how is signal.SIGKILL:
            children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
            os.kill(int(children[0]), how)
        else:
            job.send_signal(how)
        _, err = job.communicate(timeout=60)
    finally:
        job.kill()
    assert job.returncode != 0
    if how is signal.SIGINT:
        assert "--resume" in err


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
