"""What is written and shown beside the training."""

import io
import json

import pytest
from rich.console import Console

from kyori.training import Callback, MetricsFile, Progress, ProgressBar, RunConfig, build, read_metrics, train
from kyori.training.callbacks import TensorBoard

RECORD = {
    "kind": "epoch", "epoch": 1, "step": 10, "loss": 0.5, "active": 0.25, "seconds": 1.5,
    "validation": {"map@r": 0.75},
}  # fmt: skip


def digits(items=300):
    from kyori.data import open_source

    return open_source("digits").take(range(items))


class TestMetricsFile:
    def test_records_of_a_run(self, tmp_path):
        config = RunConfig.from_options(epochs=3, batch_size=32, per_class=2)
        embedder, loss = build(config, digits(640))
        train(embedder, loss, digits(640), config, validate=lambda e: {"map@r": 0.5}, folder=tmp_path)
        records = read_metrics(tmp_path / "metrics.jsonl")
        assert [(r["kind"], r["step"]) for r in records] == [
            ("epoch", 22), ("epoch", 44), ("step", 50), ("epoch", 66),
        ]  # fmt: skip
        assert records[0].keys() == {"kind", "epoch", "step", "loss", "active", "seconds", "validation"}
        assert records[2].keys() == {"kind", "epoch", "step", "loss", "active", "lr"}
        assert 0 <= records[0]["active"] <= 1

    def test_what_came_after_the_checkpoint_is_removed(self, tmp_path):
        path = tmp_path / "metrics.jsonl"
        lines = [json.dumps({"kind": "step", "step": step}) for step in (50, 100, 150)]
        path.write_text("\n".join(lines) + '\n{"kind": "st')  # cut short by a crash
        writer = MetricsFile(path)
        progress = Progress(epochs=1, steps_per_epoch=200, step=120)
        writer.on_start(progress)
        writer.on_epoch(RECORD, progress)
        writer.on_end(progress)
        assert [record["step"] for record in read_metrics(path)] == [50, 100, 10]

    def test_a_new_run_starts_a_new_file(self, tmp_path):
        path = tmp_path / "metrics.jsonl"
        path.write_text(json.dumps({"kind": "epoch", "step": 0}) + "\n")
        writer = MetricsFile(path)
        writer.on_start(Progress(epochs=1, steps_per_epoch=1))
        writer.on_end(Progress(epochs=1, steps_per_epoch=1))
        assert read_metrics(path) == []

    def test_no_file(self, tmp_path):
        assert read_metrics(tmp_path / "none.jsonl") == []


class TestProgressBar:
    def follow(self, bar, torch_loss=0.5):
        import torch

        progress = Progress(epochs=2, steps_per_epoch=10)
        bar.on_start(progress)
        for _ in range(10):
            progress.step += 1
            progress.epoch_step += 1
            progress.items += 32
            progress.loss, progress.active = torch.tensor(torch_loss), 0.25
            bar.on_step(progress)
        bar.on_epoch(RECORD, progress)
        bar.on_end(progress)

    def test_plain_lines_where_there_is_no_terminal(self):
        stream = io.StringIO()
        self.follow(ProgressBar(measure="map@r", stream=stream))
        assert stream.getvalue() == "epoch 1/2  loss 0.5000  active 25%  map@r 0.7500  1.5 s\n"

    def test_a_bar_on_a_terminal(self, monkeypatch):
        stream = io.StringIO()
        monkeypatch.setattr(Console, "is_terminal", property(lambda self: True))
        monkeypatch.setattr(ProgressBar, "interval", 0.0)
        self.follow(ProgressBar(measure="map@r", stream=stream))
        shown = stream.getvalue()
        for part in ("epoch 1/2", "loss 0.5000", "active 25%", "items/s", "left", "map@r 0.7500"):
            assert part in shown

    def test_the_loss_is_read_seldom(self, monkeypatch):
        """A bar that reads the loss at each step would make a GPU wait at each step."""
        monkeypatch.setattr(Console, "is_terminal", property(lambda self: True))
        monkeypatch.setattr(ProgressBar, "interval", 1e9)

        class Unreadable:
            def __float__(self):
                raise AssertionError("the loss was read")

        bar, progress = ProgressBar(stream=io.StringIO()), Progress(epochs=1, steps_per_epoch=2)
        bar.on_start(progress)
        bar._drawn = 1e18
        progress.loss = Unreadable()
        bar.on_step(progress)
        bar.on_end(progress)


def test_callbacks_end_even_when_training_fails():
    class Watch(Callback):
        ended = False

        def on_step(self, progress):
            raise RuntimeError("boom")

        def on_end(self, progress):
            self.ended = True

    config, watch = RunConfig.from_options(epochs=1), Watch()
    embedder, loss = build(config, digits())
    with pytest.raises(RuntimeError, match="boom"):
        train(embedder, loss, digits(), config, callbacks=[watch])
    assert watch.ended


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    config = RunConfig.from_options(epochs=2, tensorboard=True)
    embedder, loss = build(config, digits(640))
    train(embedder, loss, digits(640), config, validate=lambda e: {"map@r": 0.5}, folder=tmp_path)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {"train/loss", "train/lr", "validation/map_at_r"} <= set(events.Tags()["scalars"])


def test_tensorboard_absent(tmp_path, monkeypatch):
    import importlib

    from kyori.errors import MissingExtraError

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r'pip install "kyori\[track\]"'):
        TensorBoard(tmp_path)
