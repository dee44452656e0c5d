"""What is put around a loss in training: a memory, several sizes, and the gradient of large batches in small chunks."""

import numpy as np
import pytest
import torch

from kyori import losses
from kyori.data import open_source
from kyori.errors import ArgumentError, ConfigError
from kyori.training import RunConfig, build, train

TINY = {
    "backbone": "mlp",
    "backbone_options": {"widths": [16]},
    "embedding_size": 4,
    "batch_size": 32,
    "epochs": 1,
}


@pytest.fixture(scope="module")
def source():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 20)
    centres = rng.integers(0, 256, (4, 8, 8, 1))
    noisy = centres[labels] + rng.normal(0, 60, (80, 8, 8, 1))
    return open_source((noisy.clip(0, 255).astype(np.uint8), labels))


def fit(source, **options):
    config = RunConfig.from_options(**{**TINY, **options})
    embedder, loss = build(config, source)
    train(embedder, loss, source, config)
    return embedder, loss


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "ntxent"},
        {"loss": "triplet", "accumulate": 2},
        {"loss": "arcface"},
        {"loss": "contrastive", "batches": "pairs"},
        {"loss": "supcon", "memory": 64, "matryoshka": [4, 2]},
    ],
    ids=str,
)
def test_chunks_train_as_the_whole_batch_does(source, options):
    options = {**options, "optimizer": "sgd", "lr": 0.1}  # Adam would divide rounding by rounding
    (whole, _), (chunked, _) = fit(source, **options), fit(source, **options, cache_rows=5)
    for one, other in zip(whole.parameters(), chunked.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_only_a_chunk_is_in_the_network_at_a_time(source):
    config = RunConfig.from_options(**TINY, loss="ntxent", cache_rows=5)
    embedder, loss = build(config, source)
    sizes = []
    embedder.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    train(embedder, loss, source, config)
    assert max(sizes) == 5


def test_batch_normalisation_is_refused_in_words(source):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.BatchNorm1d(8))
    config = RunConfig.from_options(**TINY, loss="ntxent", cache_rows=5)
    embedder, loss = build(config, source, backbone=network)
    with pytest.raises(ArgumentError, match="batch normalisation in training mode"):
        train(embedder, loss, source, config)


def test_memory_and_sizes_are_built(source):
    _, loss = fit(source, loss="ntxent", memory=50, memory_warmup=1, matryoshka=[4, 2])
    assert isinstance(loss, losses.CrossBatchMemory)
    assert isinstance(loss.loss, losses.MatryoshkaLoss)
    assert loss.warmup == 1
    assert loss.stats["memory"] == 50
    _, loss = fit(source, loss="arcface", matryoshka=[4, 2])
    assert [head.weight.shape[1] for head in loss.losses] == [4, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "arcface", "memory": 10}, "loss.memory: suits losses of pairs, .* the loss is 'arcface'"),
        ({"memory_warmup": 5}, "loss.memory_warmup: needs memory; got 5 without one"),
        ({"matryoshka": [4, 4]}, r"loss.matryoshka: must be one or more different sizes; got \[4, 4\]"),
        ({"memory": 0}, "loss.memory: must be greater than or equal to 1; got 0"),
        ({"memory": 10, "batches": "pairs"}, "loss.memory keeps the class of each item"),
        ({"cache_rows": 0}, "training.cache_rows: must be greater than or equal to 1; got 0"),
    ],
)
def test_wrong_settings(options, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig.from_options(**options)


def test_sizes_fit_the_embedding(source):
    with pytest.raises(ConfigError, match=r"loss.matryoshka must be sizes of at most 4, .* got 8"):
        fit(source, loss="ntxent", matryoshka=[8, 4])


def test_what_is_around_a_loss_is_in_the_configuration():
    config = RunConfig.from_options(loss="triplet", margin=0.3, memory="100", matryoshka="[32, 8]")
    assert config.loss.options == {"margin": 0.3}
    assert (config.loss.memory, config.loss.matryoshka) == (100, (32, 8))
    assert RunConfig(**config.to_dict()) == config
    assert RunConfig.from_options(config, loss="ntxent").loss.memory is None
