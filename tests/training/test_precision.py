"""Number formats, memory order, compilation, averaging, accumulation, the profile: each does what its name says."""

import copy
import json
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from kyori.data import open_source
from kyori.errors import ConfigError, Interrupted
from kyori.losses import cached_backward
from kyori.models import Embedder
from kyori.training import Callback, Profile, RunConfig, build, train
from kyori.training.averaging import WeightAverage
from kyori.training.precision import Network, Updater
from kyori.training.prefetch import ahead

from .test_loop import TINY, StopAt, assert_same_bits, fit, scatter, source, weights  # noqa: F401 (a fixture)

CNN = {**TINY, "backbone": "cnn", "backbone_options": {"dropout": 0.0, "map_dropout": 0.0}}
HAS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def colours():
    rng = np.random.default_rng(0)
    return open_source((rng.integers(0, 256, (96, 10, 10, 3), dtype=np.uint8), np.repeat(np.arange(4), 24)))


class TestAutocast:
    def test_the_loss_sees_float32(self, colours):
        seen = []

        class Watch(nn.Module):
            def forward(self, x, labels):
                seen.append((x.dtype, torch.is_autocast_enabled("cpu")))
                return x.square().mean()

        config = RunConfig.from_options(**{**CNN, "epochs": 1}, precision="bf16")
        embedder, _ = build(config, colours)
        inside = []
        embedder.backbone.register_forward_hook(lambda module, given, out: inside.append(out.dtype))
        train(embedder, Watch(), colours, config)
        assert set(seen) == {(torch.float32, False)}
        assert torch.bfloat16 in inside
        assert {p.dtype for p in embedder.parameters()} == {torch.float32}

    def test_bf16_learns_nearly_the_same(self, colours):
        losses = [
            [r["loss"] for r in fit(colours, RunConfig.from_options(**CNN, precision=p))[0].epochs]
            for p in ("float32", "bf16")
        ]
        assert losses[0] != losses[1]
        assert np.allclose(*losses, rtol=0.1)

    def test_the_scaler_leaves_the_step_as_it_is_and_skips_what_overflowed(self):
        """The same step with the gradient scaled up; none at all, and a smaller scale, where it is infinite."""
        torch.manual_seed(0)
        plain = nn.Linear(3, 2)
        scaled = copy.deepcopy(plain)
        updaters = []
        for layer, half in ((plain, False), (scaled, True)):
            optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
            updaters.append(Updater([optimizer], torch.device("cpu"), half=half, clip_norm=0.5))
            loss = layer(torch.ones(4, 3)).square().sum()
            updaters[-1].scaled(loss).backward()
            updaters[-1].step()
        assert all(torch.allclose(a, b) for a, b in zip(plain.parameters(), scaled.parameters(), strict=True))
        before = [p.detach().clone() for p in scaled.parameters()]
        scale = updaters[1].scaler.get_scale()
        (updaters[1].scaled(scaled(torch.ones(1, 3)).sum()) * float("inf")).backward()
        updaters[1].step()
        assert all(torch.equal(a, b) for a, b in zip(before, scaled.parameters(), strict=True))
        assert updaters[1].scaler.get_scale() < scale

    @HAS_GPU
    def test_fp16_on_a_gpu_goes_on_with_the_same_bits(self, colours, tmp_path):
        config = RunConfig.from_options(**CNN, precision="fp16", device="cuda")
        _, expected = fit(colours, config)
        with pytest.raises(Interrupted):
            fit(colours, config, folder=tmp_path, callbacks=[StopAt(3)])
        assert_same_bits(fit(colours, config, folder=tmp_path, resume=True)[1], expected)


class TestChannelsLast:
    def test_the_network_gets_pictures_and_weights_in_that_order(self, colours):
        embedder, _ = build(RunConfig.from_options(**CNN), colours)
        network = Network(embedder, torch.device("cpu"), None, channels_last=True)
        orders = []
        embedder.backbone.layers[0].register_forward_hook(
            lambda module, given, out: orders.append(
                given[0].is_contiguous(memory_format=torch.channels_last)
            )
        )
        network(torch.randn(4, 3, 10, 10))
        assert orders == [True]
        assert embedder.backbone.layers[2].weight.is_contiguous(memory_format=torch.channels_last)
        network.restore()
        assert all(p.is_contiguous() for p in embedder.parameters())

    def test_it_learns_the_same_but_for_rounding(self, colours):
        losses = [
            [r["loss"] for r in fit(colours, RunConfig.from_options(**CNN, channels_last=on))[0].epochs]
            for on in (False, True)
        ]
        assert np.allclose(*losses, rtol=1e-3)

    def test_a_resumed_run_has_the_same_bits(self, colours, tmp_path):
        config = RunConfig.from_options(**CNN, channels_last=True)
        _, expected = fit(colours, config, validate=lambda e: {"map@r": 0.0})
        with pytest.raises(Interrupted):
            fit(colours, config, folder=tmp_path, callbacks=[StopAt(3)])
        got = fit(colours, config, folder=tmp_path, resume=True, validate=lambda e: {"map@r": 0.0})[1]
        assert_same_bits(expected, got)

    def test_vectors_have_no_channels(self):
        vectors = open_source((np.random.default_rng(0).normal(size=(40, 5)), np.repeat([0, 1], 20)))
        with pytest.raises(
            ConfigError, match=r"channels_last needs pictures; the items have the shape \(5,\)"
        ):
            fit(vectors, RunConfig.from_options(**TINY, channels_last=True))


@pytest.mark.slow
class TestCompile:
    def test_it_learns_the_same_but_for_rounding_and_goes_on_with_the_same_bits(self, source, tmp_path):  # noqa: F811
        """Two sizes of a batch: the smaller last one is met first by the resumed run."""
        options = {**TINY, "backbone_options": {"widths": [8], "dropout": 0.5}, "batch_size": 96}
        config = RunConfig.from_options(**options, loss="softmax", compile=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's compiler warns of its own parts
            whole, expected = fit(source, config)
            with pytest.raises(Interrupted):
                fit(source, config, folder=tmp_path, callbacks=[StopAt(1)])
            torch.compiler.reset()  # as in a new process
            _, got = fit(source, config, folder=tmp_path, resume=True)
        assert_same_bits(expected, got)
        plain, _ = fit(source, RunConfig.from_options(**options, loss="softmax"))
        assert np.allclose([r["loss"] for r in whole.epochs], [r["loss"] for r in plain.epochs], rtol=0.3)


class TestAverage:
    def test_the_average_is_the_formula(self):
        layer = nn.Linear(1, 1, bias=False)
        average, expected = WeightAverage(layer, 0.5), layer.weight.item()
        for step in range(1, 6):
            with torch.no_grad():
                layer.weight.fill_(float(step))
            average.update(step)
            decay = min(0.5, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * step
        with average.applied():
            assert layer.weight.item() == pytest.approx(expected)
        assert layer.weight.item() == 5.0

    def test_the_averaged_weights_are_validated_and_kept_and_the_others_trained(self, source, tmp_path):  # noqa: F811
        seen = []

        def validate(embedder):
            seen.append(weights(embedder))
            return {"map@r": float(len(seen))}

        config = RunConfig.from_options(**TINY, ema=0.9)
        embedder, loss = build(config, source)
        train(embedder, loss, source, config, validate=validate)
        assert_same_bits(weights(embedder), seen[-1])
        plain, _ = build(config, source)
        without = RunConfig.from_options(**TINY)
        last = []
        train(plain, build(without, source)[1], source, without, callbacks=[Keep(plain, last)])
        trained = []
        again, loss = build(config, source)
        train(again, loss, source, config, callbacks=[Keep(again, trained)])
        assert_same_bits(last[-1], trained[-1])  # the average does not touch the training
        assert not torch.equal(
            weights(again)["0.head.projection.weight"], last[-1]["0.head.projection.weight"]
        )

    def test_a_resumed_run_has_the_same_bits(self, source, tmp_path):  # noqa: F811
        config = RunConfig.from_options(**{**TINY, "epochs": 3}, ema=0.9)
        _, expected = fit(source, config, validate=scatter)
        for stop in (2, 7):
            with pytest.raises(Interrupted):
                fit(source, config, validate=scatter, folder=tmp_path, resume=True, callbacks=[StopAt(stop)])
        _, got = fit(source, config, validate=scatter, folder=tmp_path, resume=True)
        assert_same_bits(expected, got)


class Keep(Callback):
    """Remembers the weights as they are trained."""

    def __init__(self, embedder, seen):
        self.embedder, self.seen = embedder, seen

    def on_step(self, progress):
        self.seen.append(weights(self.embedder))


class TestAccumulation:
    def test_batches_of_unequal_size_weigh_by_their_items(self, source):  # noqa: F811
        """64, 64 and 32 items in one step of a head: the step of all 160 at once."""
        options = {
            **TINY,
            "epochs": 1,
            "batch_size": 64,
            "backbone_options": {"widths": [16], "dropout": 0.0},
        }
        config = RunConfig.from_options(**options, loss="softmax", optimizer="sgd", lr=0.1, accumulate=3)
        history, parts = fit(source, config)
        _, whole = fit(source, RunConfig.from_options(config, accumulate=1, batch_size=160))
        assert history.steps == 1
        for name, value in whole.items():
            torch.testing.assert_close(parts[name], value, atol=1e-6, rtol=1e-5)

    def test_cached_chunks_are_the_whole_batch_for_pairs(self, colours):
        """The gradient of a loss of pairs over a batch that the network sees 8 items at a time."""
        config = RunConfig.from_options(**CNN, loss="multisimilarity")
        embedder, loss = build(config, colours)
        x = embedder.preprocess(torch.as_tensor(colours.load(np.arange(0, 96, 3))))
        labels = torch.as_tensor(colours.labels[::3])
        loss(embedder.features(x), labels).backward()
        expected = [p.grad.clone() for p in embedder.parameters()]
        embedder.zero_grad()
        cached_backward(loss, embedder.features, x.split(8), labels)
        for got, want in zip(embedder.parameters(), expected, strict=True):
            torch.testing.assert_close(got.grad, want, atol=1e-5, rtol=1e-4)


class TestProfile:
    def test_the_parts_add_up(self, colours, tmp_path):
        config = RunConfig.from_options(**CNN, profile=True, cache_rows=8, shift=1)
        history, _ = fit(colours, config, folder=tmp_path, validate=lambda e: {"map@r": 0.0})
        facts = history.profile
        parts = facts["parts"]
        assert facts["steps"] == history.steps
        assert sum(parts.values()) == pytest.approx(facts["seconds"], rel=1e-6)
        assert all(parts[name] > 0 for name in parts)
        assert json.loads((tmp_path / "profile.json").read_text())["parts"]["forward"] == parts["forward"]
        table = Profile.read_table(tmp_path / "profile.json")
        assert f"{history.steps} steps on cpu" in table
        assert [line.split()[0] for line in table.splitlines()[1:-1]] == [*parts, "all"]

    def test_inner_parts_are_taken_off_the_outer_one(self, monkeypatch):
        now = iter([0.0, 0.0, 1.0, 5.0, 7.0, 10.0])
        monkeypatch.setattr("kyori.training.profiling.time.perf_counter", lambda: next(now))
        profile = Profile(torch.device("cpu"))
        with profile("backward"), profile("forward"):
            pass
        assert profile.seconds == {"backward": 1.0 + 2.0, "forward": 4.0}

    def test_nothing_is_measured_unless_asked_for(self, source, tmp_path):  # noqa: F811
        history, _ = fit(source, RunConfig.from_options(**TINY), folder=tmp_path)
        assert history.profile is None
        assert not (tmp_path / "profile.json").exists()

    def test_a_trace(self, source, tmp_path):  # noqa: F811
        fit(source, RunConfig.from_options(**TINY, trace_steps=2), folder=tmp_path)
        events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
        assert sum(event.get("name") == "aten::linear" for event in events) >= 4
        with pytest.raises(ConfigError, match=r"trace_steps writes trace\.json into the run folder"):
            fit(source, RunConfig.from_options(**TINY, trace_steps=2))


class TestAhead:
    def test_on_the_cpu_batches_pass_as_they_come(self):
        taken = []

        def batches():
            for number in range(3):
                taken.append(number)
                yield number

        stream = ahead(batches(), torch.device("cpu"))
        assert next(stream) == 0
        assert taken == [0]
        assert list(stream) == [1, 2]

    @HAS_GPU
    def test_on_a_gpu_each_batch_is_whole_and_in_its_place(self):
        device = torch.device("cuda")

        def batches():
            for number in range(20):
                yield number, torch.full((4096, 256), number).pin_memory().to(device, non_blocking=True)

        for number, (place, values) in enumerate(ahead(batches(), device)):
            torch.cuda._sleep(10**6)
            assert (place, values.min().item(), values.max().item()) == (number, number, number)


def test_an_embedder_that_cannot_be_compiled_says_so(source, monkeypatch):  # noqa: F811
    from kyori.errors import TrainingError

    class InductorError(RuntimeError):
        pass

    InductorError.__module__ = "torch._inductor.exc"

    def broken(function, **options):
        def run(x):
            raise InductorError("InvalidCxxCompiler: No working C++ compiler found\nand more")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    embedder = Embedder.create("mlp", (4,), embedding_size=2)
    network = Network(embedder, torch.device("cpu"), None, compiled=True)
    with pytest.raises(
        TrainingError, match=r"cannot compile this network here \(InvalidCxxCompiler.*Leave compile out"
    ):
        network(torch.zeros(2, 4))  # fmt: skip
