"""Checkpoints: written whole or not at all, every damage noticed, a full disk survived, a killed run gone on with."""

import json
import os
import random
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from kyori.data import open_source
from kyori.errors import ConfigError, FileFormatError, Interrupted, ItemError, TrainingWarning
from kyori.files import make_folder, remove_unfinished, write_atomic
from kyori.losses import LOSSES
from kyori.training import Callback, RunConfig, read_metrics, train
from kyori.training.checkpoint import Checkpoints, Interval, load_optimizer, optimizer_tensors

from .test_loop import TINY, StopAt, assert_same_bits, fit, scatter, source  # noqa: F401 (a fixture)

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "half": torch.ones(3, dtype=torch.bfloat16)}
FACTS = {"position": [1, 2, 3], "scale": 0.1, "name": "é"}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestInterval:
    @pytest.mark.parametrize(("text", "expected"), [
        ("500 steps", (500, "steps")), (7, (7, "steps")), ("1 step", (1, "steps")), ("10min", (10, "minutes")),
        ("0.5 minutes", (0.5, "minutes")), ("2 Epochs", (2, "epochs")),
    ])  # fmt: skip
    def test_what_is_understood(self, text, expected):
        assert Interval.parse(text) == expected
        assert Interval.parse(str(Interval.parse(text))) == expected

    @pytest.mark.parametrize("text", ["often", "0 steps", "-1 steps", "1.5 steps", "3 hours", "", None])
    def test_what_is_not(self, text):
        with pytest.raises(
            ConfigError, match=r"training.checkpoint_every: must be (like '500 steps'|a whole)"
        ):
            RunConfig(training={"checkpoint_every": text})


class TestFiles:
    def test_the_newest_and_the_best_stay(self, tmp_path):
        checkpoints = Checkpoints(tmp_path / "deep" / "folder", keep=2)
        for step in range(1, 6):
            checkpoints.save(step, TENSORS, FACTS, best=2 if step >= 2 else None)
        assert names(checkpoints.folder) == [f"step-{step:09d}.safetensors" for step in (2, 4, 5)]

    def test_everything_comes_back(self, tmp_path):
        checkpoints = Checkpoints(tmp_path)
        path = checkpoints.save(3, TENSORS, FACTS)
        found = checkpoints.load()
        assert found.path == path
        assert {name: found.facts[name] for name in FACTS} == FACTS
        assert_same_bits(found.tensors, TENSORS)

    def test_no_flipped_bit_goes_unnoticed(self, tmp_path):
        """Every byte of a small file, a random bit of it: the checkpoint before is taken, and the file is named."""
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(1, TENSORS, FACTS)
        path = checkpoints.save(2, TENSORS, FACTS)
        whole, rng = path.read_bytes(), random.Random(0)
        for place in range(len(whole)):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
            with pytest.warns(TrainingWarning, match=f"{path.name}.* Going on from .*step-000000001"):
                assert checkpoints.load().path.name == "step-000000001.safetensors"

    def test_no_cut_goes_unnoticed(self, tmp_path):
        checkpoints = Checkpoints(tmp_path)
        path = checkpoints.save(2, TENSORS, FACTS)
        whole = path.read_bytes()
        for length in range(0, len(whole), 7):
            path.write_bytes(whole[:length])
            with pytest.raises(FileFormatError, match=r"no checkpoint in .* can be read"):
                checkpoints.load()

    def test_a_damaged_newer_one_goes_when_the_run_has_gone_on(self, tmp_path):
        checkpoints = Checkpoints(tmp_path)
        for step in (1, 5):
            path = checkpoints.save(step, TENSORS, FACTS)
        path.write_bytes(b"?")
        checkpoints.save(3, TENSORS, FACTS)
        assert names(tmp_path) == ["step-000000001.safetensors", "step-000000003.safetensors"]

    def test_what_a_killed_process_left_is_removed(self, tmp_path):
        write_atomic(tmp_path / "a.json", lambda file: file.write(b"{}"))
        (tmp_path / ".a.json.0123456789ab.tmp").write_bytes(b"{")
        (tmp_path / ".mine.tmp").write_bytes(b"not ours")
        remove_unfinished(tmp_path)
        remove_unfinished(tmp_path / "missing")
        assert names(tmp_path) == [".mine.tmp", "a.json"]

    def test_make_folder(self, tmp_path):
        assert make_folder(tmp_path / "a" / "b").is_dir()
        make_folder(tmp_path / "a" / "b")

    def test_the_state_of_an_optimizer_lies_as_its_weights_do(self):
        """Fused kernels walk weight and state as one array, so their memory order must be the same."""
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(layer.parameters(), fused=True)
        x = torch.randn(2, 3, 5, 5)

        def step():
            optimizer.zero_grad()
            layer(x).square().sum().backward()
            optimizer.step()

        step()
        weights = {name: p.detach().clone() for name, p in layer.named_parameters()}
        saved = {k.removeprefix("x."): v.clone(memory_format=torch.contiguous_format)
                 for k, v in optimizer_tensors(optimizer, "x.").items()}  # fmt: skip
        step()
        expected = {name: p.detach().clone() for name, p in layer.named_parameters()}
        layer.load_state_dict(weights)
        load_optimizer(optimizer, saved)
        step()
        assert_same_bits(dict(layer.state_dict()), expected)


class TestRuns:
    @pytest.mark.parametrize("loss", LOSSES)
    def test_every_loss_goes_on_in_the_middle_of_an_epoch(self, source, tmp_path, loss):  # noqa: F811
        config = RunConfig.from_options(**{**TINY, "epochs": 1}, loss=loss)
        _, expected = fit(source, config)
        with pytest.raises(Interrupted):
            fit(source, config, folder=tmp_path, callbacks=[StopAt(2)])
        _, got = fit(source, config, folder=tmp_path, resume=True)
        assert_same_bits(expected, got)

    def test_by_steps(self, source, tmp_path):  # noqa: F811
        config = RunConfig.from_options(**TINY, checkpoint_every="3 steps", checkpoint_keep=9)
        history, _ = fit(source, config, folder=tmp_path)
        saved = [f"step-{step:09d}.safetensors" for step in (3, 6, 9, history.steps)]
        assert names(tmp_path / "checkpoints") == saved

    def test_by_epochs_and_the_best(self, source, tmp_path):  # noqa: F811
        values = iter([0.1, 0.5, 0.3, 0.2, 0.2])
        config = RunConfig.from_options(
            **{**TINY, "epochs": 5}, checkpoint_every="3 epochs", checkpoint_keep=1
        )
        fit(source, config, folder=tmp_path, validate=lambda e: {"map@r": next(values)})
        assert names(tmp_path / "checkpoints") == [f"step-{step:09d}.safetensors" for step in (10, 25)]

    def test_by_minutes(self, source, tmp_path, monkeypatch):  # noqa: F811
        """A clock that goes on by a second at every look, so that 0.2 minutes are some steps."""
        import kyori.training.loop as loop

        now = iter(range(10**6))
        monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(now)))
        config = RunConfig.from_options(
            **{**TINY, "epochs": 6}, checkpoint_every="0.2 minutes", checkpoint_keep=99
        )
        history, _ = fit(source, config, folder=tmp_path)
        steps = [int(name[5:14]) for name in names(tmp_path / "checkpoints")]
        assert steps[-1] == history.steps
        assert len(steps) >= 2
        assert all(5 <= later - former <= 12 for former, later in pairwise(steps[:-1]))

    def test_no_epoch_is_written_twice(self, source, tmp_path):  # noqa: F811
        """Killed between the end of an epoch and its checkpoint: the epoch is told of again, and stands there once."""

        class Die(Callback):
            def on_epoch(self, record, progress):
                if record["epoch"] == 2:
                    raise KeyboardInterrupt

        config = RunConfig.from_options(**TINY, checkpoint_every=5)
        with pytest.raises(KeyboardInterrupt):
            fit(source, config, folder=tmp_path, callbacks=[Die()])
        fit(source, config, folder=tmp_path, resume=True)
        epochs = [r["epoch"] for r in read_metrics(tmp_path / "metrics.jsonl") if r["kind"] == "epoch"]
        assert epochs == [1, 2]

    def test_a_network_that_draws_from_numpy_and_python(self, source, tmp_path):  # noqa: F811
        class Noisy(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(64, 4)

            def forward(self, x):
                noise = np.random.random() + random.random() if self.training else 0.0  # noqa: NPY002
                return self.layer(x.flatten(1) + noise)

        from kyori.training import build

        def run(**options):
            config = RunConfig.from_options(epochs=2, batch_size=32, embedding_size=None)
            torch.manual_seed(0)
            embedder, loss = build(config, source, backbone=Noisy())
            train(embedder, loss, source, config, **options)
            return dict(embedder.state_dict())

        before = random.getstate()
        expected = run()
        with pytest.raises(Interrupted):
            run(folder=tmp_path, callbacks=[StopAt(3)])
        assert_same_bits(run(folder=tmp_path, resume=True), expected)
        assert random.getstate() == before


def python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own: limits on a process cannot be taken back."""
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


class TestFullDisk:
    """RLIMIT_FSIZE makes every write beyond a size fail as a full disk does, in this process only."""

    @pytest.mark.slow
    def test_the_training_goes_on_and_the_last_good_checkpoint_stays(self, tmp_path):
        pytest.importorskip("resource")
        done = python(
            """
            import json, resource, sys, warnings
            from pathlib import Path
            import torch
            from kyori.data import open_source
            from kyori.training import Callback, RunConfig, build, read_metrics, train

            class Fill(Callback):
                "The disk is full from step 40 to step 70: not a byte more fits into any file."
                def on_step(self, progress):
                    limits = {40: 1000, 70: resource.RLIM_INFINITY}
                    if progress.step in limits:
                        resource.setrlimit(resource.RLIMIT_FSIZE, (limits[progress.step], resource.RLIM_INFINITY))
                    if progress.step == 69:
                        during.extend(sorted(p.name for p in (folder / "checkpoints").iterdir()))

            torch.set_num_threads(1)
            folder, during = Path(sys.argv[1]), []
            source = open_source("digits").take(range(640))
            config = RunConfig.from_options(epochs=10, batch_size=64, checkpoint_every=10)
            def run(**options):
                embedder, loss = build(config, source)
                history = train(embedder, loss, source, config, **options)
                return embedder.encode(source).tobytes(), history.steps
            expected, _ = run()
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                got, steps = run(folder=folder, callbacks=[Fill()])
            records = read_metrics(folder / "metrics.jsonl")
            print(json.dumps({
                "same": got == expected, "steps": steps, "during": during,
                "after": sorted(p.name for p in (folder / "checkpoints").iterdir()),
                "warnings": [str(w.message) for w in seen],
                "epochs": [r["epoch"] for r in records if r["kind"] == "epoch"],
            }))
            """,
            tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        facts = json.loads(done.stdout)
        assert facts["same"]
        assert facts["during"] == ["step-000000020.safetensors", "step-000000030.safetensors"]
        assert facts["after"] == [f"step-{step:09d}.safetensors" for step in (100, facts["steps"])]
        assert facts["epochs"] == list(range(1, 11))
        saving = [text for text in facts["warnings"] if "could not be written (File too large)" in text]
        assert len(saving) >= 3
        assert "the last good one is" in saving[0]

    def test_ctrl_c_says_that_the_stop_was_not_saved(self, source, tmp_path, monkeypatch):  # noqa: F811
        def full(*_, **__):
            raise OSError(28, "No space left on device")

        config = RunConfig.from_options(**TINY)
        with pytest.raises(Interrupted):
            fit(source, config, folder=tmp_path, callbacks=[StopAt(2)])
        monkeypatch.setattr("kyori.training.checkpoint.write_tensors", full)
        with (
            pytest.warns(TrainingWarning, match="step 4 could not be written"),
            pytest.raises(Interrupted, match=r"could not be saved \(No space left on device\); the last good .*step-0"),
        ):  # fmt: skip
            fit(source, config, folder=tmp_path, resume=True, callbacks=[StopAt(4)])
        with (
            pytest.warns(TrainingWarning, match="there is none yet"),
            pytest.raises(Interrupted, match="there is no older checkpoint"),
        ):
            fit(source, config, folder=tmp_path / "new", callbacks=[StopAt(4)])


class TestMissingItem:
    def test_a_file_that_goes_away_in_the_middle_of_an_epoch(self, tmp_path):
        """What was learnt is saved, the message names the file; put back, the run ends as if nothing had been."""
        from PIL import Image

        rng = np.random.default_rng(0)
        for kind in "ab":
            folder = make_folder(tmp_path / "data" / kind)
            for number in range(16):
                pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
        config = RunConfig.from_options(
            **{**TINY, "batch_size": 8, "epochs": 3, "workers": 0}, scaling="unit"
        )
        found = open_source(tmp_path / "data", memory_limit=0)
        _, expected = fit(found, config)
        path = Path(found.ids[0]) if Path(found.ids[0]).is_absolute() else tmp_path / "data" / found.ids[0]
        content = path.read_bytes()

        class Remove(Callback):
            def on_step(self, progress):
                if progress.step == 5:
                    path.unlink()

        run = tmp_path / "run"
        with pytest.raises(
            ItemError, match=rf"{path.name}.*Training stopped in epoch 2 of 3 after step \d; saved as"
        ):
            fit(found, config, folder=run, callbacks=[Remove()])  # fmt: skip
        path.write_bytes(content)
        _, got = fit(found, config, folder=run, resume=True)
        assert_same_bits(expected, got)


@pytest.mark.slow
def test_kill_9(tmp_path):
    """A few of the kills of benchmarks/kills.py, whose docstring says what is killed and compared."""
    script = Path(__file__).parents[2] / "benchmarks" / "kills.py"
    command = [sys.executable, str(script), "--kills", "4", "--seed", "7"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every run ended in the same bits" in done.stdout
