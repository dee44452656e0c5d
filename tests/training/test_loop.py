"""The loop: same bits twice, same bits after any interruption, and words where it goes wrong."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from kyori.data import open_source
from kyori.errors import (
    ArgumentError,
    ConfigError,
    DataError,
    DataWarning,
    FileFormatError,
    Interrupted,
    TrainingError,
    TrainingWarning,
)
from kyori.losses import LOSSES
from kyori.models import Embedder
from kyori.training import RECIPES, Callback, RunConfig, build, read_metrics, train

TINY = {
    "backbone": "mlp",
    "backbone_options": {"widths": [16]},
    "embedding_size": 4,
    "batch_size": 32,
    "epochs": 2,
}


@pytest.fixture(scope="module")
def source():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 40)
    centres = rng.integers(0, 256, (4, 8, 8, 1))
    noisy = centres[labels] + rng.normal(0, 60, (160, 8, 8, 1))
    return open_source((noisy.clip(0, 255).astype(np.uint8), labels))


def weights(*modules):
    return {f"{i}.{k}": v.clone() for i, m in enumerate(modules) for k, v in m.state_dict().items()}


def assert_same_bits(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), f"{name}: {(first[name] - second[name]).abs().max()}"


def fit(source, config, **options):
    embedder, loss = build(config, source)
    history = train(embedder, loss, source, config, **options)
    return history, weights(embedder, loss)


def without_seconds(records):
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


class Branches(nn.Module):
    """Goes one way or the other, drawn anew for each batch."""

    def __init__(self):
        super().__init__()
        self.ways = nn.ModuleList(nn.Linear(64, 8) for _ in range(2))

    def forward(self, x):
        return self.ways[int(torch.rand(()) < 0.5) if self.training else 0](x.flatten(1))


class StopAt(Callback):
    """Presses Ctrl-C during a step."""

    def __init__(self, step):
        self.step = step

    def on_step(self, progress):
        if progress.step == self.step:
            signal.raise_signal(signal.SIGINT)


def scatter(embedder):
    """A validation measure that goes up and down."""
    x = torch.linspace(0, 1, 64 * 5).reshape(5, 1, 8, 8)
    return {"map@r": math.sin(50 * float(embedder(x).sum()))}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Networks of a few neurons are slower on two threads than on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class TestBits:
    @pytest.mark.parametrize("loss", LOSSES)
    def test_the_same_twice(self, source, loss):
        config = RunConfig.from_options(**TINY, loss=loss)
        torch.manual_seed(1)
        first, one = fit(source, config)
        torch.manual_seed(2)
        second, two = fit(source, config)
        assert_same_bits(one, two)
        assert [r["loss"] for r in first.epochs] == [r["loss"] for r in second.epochs]

    def test_another_seed_is_another_run(self, source):
        _, one = fit(source, RunConfig.from_options(**TINY))
        _, two = fit(source, RunConfig.from_options(**TINY, seed=1))
        assert not torch.equal(one["0.head.projection.weight"], two["0.head.projection.weight"])

    def test_the_global_random_state_is_untouched(self, source):
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002 (the global state is what is tested)
        before, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        fit(source, RunConfig.from_options(**TINY, loss="arcface", noise=0.1), validate=scatter)
        assert torch.equal(before, torch.get_rng_state())
        assert np.array_equal(before_numpy, np.random.get_state()[1])  # noqa: NPY002

    def test_the_random_state_is_untouched_after_an_error_too(self, source):
        before = torch.get_rng_state()
        with pytest.raises(TrainingError):
            fit(source, RunConfig.from_options(**TINY, optimizer="sgd", lr=1e30, loss="contrastive"))
        assert torch.equal(before, torch.get_rng_state())

    def test_validation_does_not_change_the_training(self, source):
        config = RunConfig.from_options(**TINY, keep="last")
        _, without = fit(source, config)
        _, validated = fit(source, config, validate=lambda e: {"map@r": float(torch.rand(3).sum())})
        assert_same_bits(without, validated)


VARIANTS = {
    "plain": {},
    "dropout": {"backbone": "cnn", "backbone_options": {}},
    "augment": {"shift": 1, "rotate": 10, "noise": 0.1, "flip": True, "erase": 0.3},
    "accumulate": {"accumulate": 2},
    "onecycle": {"schedule": "onecycle", "optimizer": "rmsprop"},
    "cosine": {
        "schedule": "cosine",
        "warmup_steps": 3,
        "clip_norm": 0.1,
        "optimizer": "sgd",
        "momentum": 0.9,
    },
    "best": {"keep": "best"},
    "sphereface": {"loss": "sphereface"},
    "arcface": {"loss": "arcface", "head_lr": 0.01},
    "random-triplets": {"mining": "random"},
    "pairs": {"loss": "contrastive", "batches": "pairs"},
    "bf16": {"precision": "bf16"},
    "memory": {"loss": "ntxent", "memory": 50, "memory_warmup": 2, "matryoshka": [4, 2]},
    "chunks": {"backbone": "cnn", "backbone_options": {}, "cache_rows": 9},
}


class TestResume:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_as_if_never_interrupted(self, source, tmp_path, variant):
        """Stopped after the first step, at the end of an epoch, in the middle of one, and after the very last step."""
        config = RunConfig.from_options(**{**TINY, "epochs": 3, **VARIANTS[variant]})
        whole, expected = fit(source, config, validate=scatter, folder=tmp_path / "whole")
        cut = {"validate": scatter, "folder": tmp_path / "cut", "resume": True}
        for stop in (1, whole.steps // 3, whole.steps - 1, whole.steps):
            with pytest.raises(Interrupted, match=f"after step {stop}; saved as .*Go on with .* --resume"):
                fit(source, config, callbacks=[StopAt(stop)], **cut)
        resumed, got = fit(source, config, **cut)
        assert_same_bits(expected, got)
        assert without_seconds(resumed.epochs) == without_seconds(whole.epochs)
        assert (resumed.best_epoch, resumed.best_value) == (whole.best_epoch, whole.best_value)
        files = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "cut")]
        assert without_seconds(files[0]) == without_seconds(files[1])

    def test_where_a_weight_has_a_gradient_in_some_steps_only(self, source, tmp_path):
        config = RunConfig.from_options(embedding_size=4, batch_size=32, epochs=2, keep="last")
        found = []
        for stops in ([], range(1, 9)):
            folder = tmp_path / str(len(found))
            for stop in [*stops, None]:
                torch.manual_seed(0)
                embedder, loss = build(config, source, backbone=Branches())
                known = weights(embedder, loss)
                press = [] if stop is None else [StopAt(stop)]
                with pytest.raises(Interrupted) if press else nullcontext():
                    train(embedder, loss, source, config, folder=folder, resume=True, callbacks=press)
            found.append(weights(embedder, loss))
        assert_same_bits(*found)
        assert not all(torch.equal(known[name], found[0][name]) for name in known)

    def test_again_and_again(self, source, tmp_path):
        config = RunConfig.from_options(**TINY, loss="sphereface", noise=0.1)
        whole, expected = fit(source, config)
        for step in range(1, whole.steps):
            with pytest.raises(Interrupted):
                fit(source, config, folder=tmp_path, resume=True, callbacks=[StopAt(step)])
        _, got = fit(source, config, folder=tmp_path, resume=True)
        assert_same_bits(expected, got)

    def test_a_finished_run_stays_as_it_is(self, source, tmp_path):
        config = RunConfig.from_options(**TINY)
        whole, expected = fit(source, config, folder=tmp_path, validate=scatter)
        again, got = fit(source, config, folder=tmp_path, validate=scatter, resume=True)
        assert_same_bits(expected, got)
        assert again.epochs == whole.epochs

    def test_more_epochs(self, source, tmp_path):
        longer = RunConfig.from_options(**{**TINY, "epochs": 3}, schedule="constant")
        _, expected = fit(source, longer)
        fit(source, RunConfig.from_options(**TINY, schedule="constant"), folder=tmp_path)
        _, got = fit(source, longer, folder=tmp_path, resume=True)
        assert_same_bits(expected, got)

    def test_checkpoints_between_epochs_survive_a_crash(self, source, tmp_path):
        class Crash(Callback):
            def on_step(self, progress):
                if progress.step == 4:
                    raise OSError("power cut")

        config = RunConfig.from_options(**TINY, checkpoint_every=3)
        _, expected = fit(source, config)
        with pytest.raises(OSError, match="power cut"):
            fit(source, config, folder=tmp_path, callbacks=[Crash()])
        _, got = fit(source, config, folder=tmp_path, resume=True)
        assert_same_bits(expected, got)

    def test_two_checkpoints_are_kept_and_a_damaged_one_is_passed_over(self, source, tmp_path):
        config = RunConfig.from_options(**TINY, checkpoint_every="1 step")
        _, expected = fit(source, config, folder=tmp_path)
        _, new = sorted((tmp_path / "checkpoints").iterdir())
        new.write_bytes(new.read_bytes()[:-10])
        with pytest.warns(
            TrainingWarning, match=rf"{new.name} is damaged.* Going on from .*step.* before it"
        ):
            _, got = fit(source, config, folder=tmp_path, resume=True)
        assert_same_bits(expected, got)
        for path in (tmp_path / "checkpoints").iterdir():
            path.write_bytes(b"\x80\x04nothing")
        with (
            warnings.catch_warnings(action="ignore"),
            pytest.raises(FileFormatError, match=r"no checkpoint in .* can be read"),
        ):
            fit(source, config, folder=tmp_path, resume=True)

    def test_without_resume_a_run_starts_anew(self, source, tmp_path):
        config = RunConfig.from_options(**TINY)
        _, expected = fit(source, config, folder=tmp_path)
        _, got = fit(source, config, folder=tmp_path)
        assert_same_bits(expected, got)
        epochs = [r["epoch"] for r in read_metrics(tmp_path / "metrics.jsonl") if r["kind"] == "epoch"]
        assert epochs == [1, 2]

    def test_resume_with_nothing_to_resume_starts(self, source, tmp_path):
        config = RunConfig.from_options(**TINY)
        assert_same_bits(fit(source, config)[1], fit(source, config, folder=tmp_path, resume=True)[1])

    def test_another_configuration(self, source, tmp_path):
        fit(source, RunConfig.from_options(**TINY), folder=tmp_path)
        with pytest.raises(
            ConfigError, match=r"(?s)optimizer.lr: 0.001 then, 0.1 now\n.*loss.margin: None then, 0.5 now"
        ):
            fit(source, RunConfig.from_options(**TINY, lr=0.1, margin=0.5), folder=tmp_path, resume=True)

    def test_other_data(self, source, tmp_path):
        config = RunConfig.from_options(**TINY)
        fit(source, config, folder=tmp_path)
        with pytest.raises(ConfigError, match="the training items or their labels are not those"):
            fit(source.take(range(150)), config, folder=tmp_path, resume=True)

    def test_another_model(self, source, tmp_path):
        config = RunConfig.from_options(**TINY)
        fit(source, config, folder=tmp_path)
        embedder = Embedder.create("mlp", source, embedding_size=5)
        with pytest.raises(ConfigError, match="weights do not fit this model"):
            train(embedder, build(config, source)[1], source, config, folder=tmp_path, resume=True)

    def test_no_folder(self, source):
        with pytest.raises(ConfigError, match="resume needs the folder"):
            fit(source, RunConfig.from_options(**TINY), resume=True)
        with pytest.raises(Interrupted, match="nothing was saved, since the run has no folder"):
            fit(source, RunConfig.from_options(**TINY), callbacks=[StopAt(1)])

    def test_no_pickle_in_a_checkpoint(self, source, tmp_path):
        fit(source, RunConfig.from_options(**TINY), folder=tmp_path)
        for path in (tmp_path / "checkpoints").iterdir():
            length = int.from_bytes(path.read_bytes()[:8], "little")
            assert "__metadata__" in json.loads(path.read_bytes()[8 : 8 + length])


class TestCtrlC:
    def test_the_handler_is_put_back(self, source):
        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(Interrupted):
            fit(source, RunConfig.from_options(**TINY), callbacks=[StopAt(2)])
        assert signal.getsignal(signal.SIGINT) is before

    def test_during_validation(self, source, tmp_path):
        def validate(embedder):
            if len(calls) == 0:
                signal.raise_signal(signal.SIGINT)
            calls.append(1)
            return {"map@r": 0.5}

        calls = []
        config = RunConfig.from_options(**TINY)
        with pytest.raises(Interrupted, match="stopped in epoch 2 of 2 after step 5"):
            fit(source, config, validate=validate, folder=tmp_path)
        _, got = fit(source, config, validate=validate, folder=tmp_path, resume=True)
        assert len(calls) == 2
        assert_same_bits(fit(source, config, validate=lambda e: {"map@r": 0.5})[1], got)

    def test_twice_stops_at_once(self, source):
        class Impatient(Callback):
            def on_step(self, progress):
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            fit(source, RunConfig.from_options(**TINY), callbacks=[Impatient()])

    def test_in_another_thread(self, source):
        import threading

        done = []
        thread = threading.Thread(target=lambda: done.append(fit(source, RunConfig.from_options(**TINY))))
        thread.start()
        thread.join()
        assert done

    def test_a_real_signal_to_a_real_process(self, tmp_path):
        script = """
            import sys
            import torch
            from kyori.data import open_source
            from kyori.errors import Interrupted
            from kyori.training import Callback, RunConfig, build, train
            from pathlib import Path

            class Say(Callback):
                def on_step(self, progress):
                    if progress.step == 3:
                        print("third step", flush=True)

            torch.set_num_threads(1)
            source = open_source("digits").take(range(400))
            config = RunConfig.from_options(
                epochs=int(sys.argv[2]), batch_size=32, keep="last", schedule="constant"
            )
            embedder, loss = build(config, source)
            try:
                train(embedder, loss, source, config, folder=Path(sys.argv[1]), resume=True, callbacks=[Say()])
            except Interrupted as stop:
                print(stop)
                sys.exit(130)
        """
        command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
        process = subprocess.Popen([*command, "100000"], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "third step\n"
        os.kill(process.pid, signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "saved as" in rest
        steps = int(sorted((tmp_path / "checkpoints").iterdir())[-1].stem.removeprefix("step-"))
        assert steps >= 3
        source = open_source("digits").take(range(400))
        epochs = steps // 13 + 1  # 400 items in batches of 32 are 13 steps
        config = RunConfig.from_options(epochs=epochs, batch_size=32, keep="last", schedule="constant")
        _, got = fit(source, config, folder=tmp_path, resume=True)
        assert_same_bits(fit(source, config)[1], got)


class TestValidation:
    def test_the_best_weights_remain(self, source):
        values = iter([0.1, 0.9, 0.3, 0.2])
        seen = []

        def validate(embedder):
            seen.append(weights(embedder))
            return {"map@r": next(values)}

        config = RunConfig.from_options(**{**TINY, "epochs": 4})
        embedder, loss = build(config, source)
        history = train(embedder, loss, source, config, validate=validate)
        assert (history.best_epoch, history.best_value, len(history.epochs)) == (2, 0.9, 4)
        assert_same_bits(weights(embedder), seen[1])
        assert not embedder.training

    def test_the_last_weights_remain_if_wanted(self, source):
        values = iter([0.9, 0.1])
        config = RunConfig.from_options(**TINY, keep="last")
        history, got = fit(source, config, validate=lambda e: {"map@r": next(values)})
        assert_same_bits(got, fit(source, config)[1])
        assert history.best_epoch is None

    def test_a_measure_without_a_value_chooses_nothing(self, source, tmp_path):
        config = RunConfig.from_options(**TINY, patience=1)
        with pytest.warns(TrainingWarning, match=r"map@r has no value on the validation items") as seen:
            history, got = fit(source, config, validate=lambda e: {"map@r": float("nan")}, folder=tmp_path)
        assert len([w for w in seen if "no value" in str(w.message)]) == 1
        assert (history.best_epoch, history.best_value, history.stopped_early) == (None, None, False)
        assert all(record["validation"] == {} for record in history.epochs)
        assert_same_bits(got, fit(source, RunConfig.from_options(**TINY))[1])

    def test_patience(self, source):
        values = iter([0.5, 0.4, float("nan"), 0.9])
        config = RunConfig.from_options(**{**TINY, "epochs": 9}, patience=2)
        history, _ = fit(source, config, validate=lambda e: {"map@r": next(values)})
        assert history.stopped_early
        assert (len(history.epochs), history.best_epoch) == (3, 1)

    def test_patience_survives_a_resume(self, source, tmp_path):
        config = RunConfig.from_options(**{**TINY, "epochs": 9}, patience=2)
        values = iter([0.5, 0.4, 0.3])
        with pytest.raises(Interrupted):
            fit(
                source,
                config,
                validate=lambda e: {"map@r": next(values)},
                folder=tmp_path,
                callbacks=[StopAt(12)],
            )
        history, _ = fit(
            source, config, validate=lambda e: {"map@r": next(values)}, folder=tmp_path, resume=True
        )
        assert (history.stopped_early, len(history.epochs)) == (True, 3)

    def test_validate_every(self, source):
        config = RunConfig.from_options(**{**TINY, "epochs": 5}, validate_every=2)
        history, _ = fit(source, config, validate=scatter)
        assert ["validation" in r for r in history.epochs] == [False, True, False, True, True]

    def test_the_measure_must_be_there(self, source):
        config = RunConfig.from_options(**TINY, measure="map@R")
        with pytest.raises(
            ConfigError, match="'map@R' is not among the validation measures; did you mean 'map@r'"
        ):
            fit(source, config, validate=scatter)


class TestWords:
    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_loss_that_is_no_number(self, source, value):
        class Broken(nn.Module):
            def forward(self, x, labels):
                return x.sum() * value

        config = RunConfig.from_options(**TINY)
        embedder, _ = build(config, source)
        with pytest.raises(
            TrainingError,
            match=r"the loss became (nan|-?inf) by step 1 \(epoch 1\).*optimizer\.lr \(now 0.001\)",
        ):
            train(embedder, Broken(), source, config)

    def test_a_broken_state_is_never_saved(self, source, tmp_path):
        config = RunConfig.from_options(
            **TINY, optimizer="sgd", lr=1e30, loss="contrastive", checkpoint_every="1 step"
        )
        with pytest.raises(TrainingError):
            fit(source, config, folder=tmp_path)
        from kyori.models.weights import read_tensors

        for path in (tmp_path / "checkpoints").glob("*"):
            assert torch.isfinite(read_tensors(path)[0]["loss_sum"])

    def test_collapse(self, source):
        class Constant(nn.Module):
            def __init__(self):
                super().__init__()
                self.point = nn.Parameter(torch.ones(3))

            def forward(self, x):
                return self.point.expand(len(x), 3)

        config = RunConfig.from_options(embedding_size="null", epochs=1, loss="contrastive")
        embedder, loss = build(config, source, backbone=Constant())
        with pytest.warns(
            TrainingWarning, match=r"all distances shrink to 0 \(same class 0, different class 0, spread 0\)"
        ) as seen:
            train(embedder, loss, source, config)
        assert len(seen) == 1

    def test_no_labels(self, source):
        plain = open_source(np.zeros((4, 3), np.float32))
        with pytest.raises(DataError, match="training needs labels"):
            build(RunConfig(), plain)

    def test_one_class(self, source):
        one = source.take(source.labels == 2)
        with pytest.raises(DataError, match=r"at least 2 classes; the 40 training items of .* have 1"):
            build(RunConfig(), one)

    def test_items_alone_in_their_class_are_named(self, source):
        keep = np.r_[np.flatnonzero(source.labels < 3), np.flatnonzero(source.labels == 3)[:1]]
        with pytest.warns(
            DataWarning, match="1 training item is left out of the batches: alone in the class '3'"
        ):
            fit(source.take(keep), RunConfig.from_options(**TINY))

    def test_a_batch_too_small(self, source):
        with pytest.raises(
            ConfigError,
            match=r"batch_size must hold 2 classes of batches.per_class = 4 items, so at least 8; got 7",
        ):
            fit(source, RunConfig.from_options(**{**TINY, "batch_size": 7}))

    @pytest.mark.parametrize(
        ("options", "message"),
        [({"device": "gpu"}, "device must be auto, cpu, cuda"), ({"precision": "fp16"}, "fp16 needs a GPU")],
    )
    def test_devices_and_precisions(self, source, options, message):
        with pytest.raises(ConfigError, match=message):
            fit(
                source,
                RunConfig.from_options(
                    **TINY, **options, **({} if "device" in options else {"device": "cpu"})
                ),
            )

    def test_vectors_cannot_be_flipped(self):
        vectors = open_source((np.random.default_rng(0).normal(size=(40, 5)), np.repeat([0, 1], 20)))
        with pytest.raises(ArgumentError, match="need pictures"):
            fit(vectors, RunConfig.from_options(**TINY, flip=True))


class TestParts:
    def test_a_head_has_the_classes_that_occur(self, source):
        part = source.take(np.isin(source.labels, [1, 3]))
        config = RunConfig.from_options(**TINY, loss="arcface")
        embedder, loss = build(config, part)
        assert loss.weight.shape == (2, 4)
        assert embedder.class_names == ("1", "3")
        train(embedder, loss, part, config)

    @pytest.mark.parametrize(("loss", "options", "normalize"), [
        ("triplet", {}, True), ("triplet", {"loss.normalize": False}, False), ("contrastive", {}, False),
        ("arcface", {}, True), ("contrastive", {"unit_norm": True}, True),
    ])  # fmt: skip
    def test_embeddings_have_the_length_the_loss_means(self, source, loss, options, normalize):
        assert build(RunConfig.from_options(loss=loss, **options), source)[0].normalize == normalize

    def test_the_seed_of_the_run_is_the_seed_of_random_triplets(self, source):
        assert build(RunConfig.from_options(mining="random", seed=7), source)[1].draw.seed == 7

    def test_unit_scaling_leaves_pixels_in_0_to_1(self, source):
        embedder, _ = build(RunConfig.from_options(scaling="unit"), source)
        x = embedder.preprocess(source.load([0]))
        torch.testing.assert_close(x[0, 0], torch.from_numpy(source.load([0])[0, ..., 0] / 255).float())

    def test_a_module_of_ones_own(self, source):
        config = RunConfig.from_options(epochs=1, embedding_size=3)
        embedder, loss = build(config, source, backbone=nn.Conv2d(1, 4, 3))
        history = train(embedder, loss, source, config)
        assert embedder.encode(source).shape == (160, 3)
        assert history.steps == 2

    def test_accumulating_is_averaging(self, source):
        """Two batches of 80 in one step of plain gradient descent: the mean of their gradients."""
        config = RunConfig.from_options(
            **{**TINY, "batch_size": 80, "epochs": 1, "backbone_options": {"widths": [16], "dropout": 0.0}},
            loss="softmax", optimizer="sgd", lr=0.1, accumulate=2,
        )  # fmt: skip
        history, halves = fit(source, config)
        _, whole = fit(source, RunConfig.from_options(config, accumulate=1, batch_size=160))
        assert history.steps == 1
        for name, value in whole.items():
            torch.testing.assert_close(halves[name], value, atol=1e-6, rtol=1e-5)

    def test_the_head_has_a_rate_of_its_own(self, source):
        config = RunConfig.from_options(**TINY, loss="arcface", head_lr=1e-12, lr=0.1, optimizer="sgd")
        embedder, loss = build(config, source)
        before = weights(embedder, loss)
        train(embedder, loss, source, config)
        after = weights(embedder, loss)
        assert torch.allclose(before["1.weight"], after["1.weight"], atol=1e-9)
        assert not torch.allclose(
            before["0.head.projection.weight"], after["0.head.projection.weight"], atol=1e-4
        )

    @pytest.mark.parametrize("name", sorted(set(RECIPES) - {"text-pairs"}))  # that one: test_texts.py
    def test_recipes_run(self, name, source):
        config = RunConfig.from_options(RECIPES[name], epochs=1)
        few = source.take(np.r_[0:10, 40:50, 80:90, 120:130])
        embedder, loss = build(config, few)
        history = train(embedder, loss, few, config)
        assert np.isfinite(history.epochs[0]["loss"])
