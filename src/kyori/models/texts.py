"""Networks for texts: a small one from scratch, and every encoder of transformers with safetensors weights.

A pretrained model is named as on the Hugging Face hub or by its folder. What sentence-transformers keeps beside the
weights (pooling, dense layers, longest text) is read, too.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, nearest_name
from ..optional import require
from .tokens import PAD, NGrams, Tokenizer

__all__ = ["TOKEN_POOLINGS", "NGramMLP", "TextEncoder", "create_text_backbone", "from_sentence_transformer"]


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    return (states * mask).sum(1) / mask.sum(1).clamp(min=1)


def _mean_sqrt(states: Tensor, mask: Tensor) -> Tensor:
    return (states * mask).sum(1) / mask.sum(1).clamp(min=1).sqrt()


def _max(states: Tensor, mask: Tensor) -> Tensor:
    return states.masked_fill(mask == 0, torch.finfo(states.dtype).min).amax(1)


def _first(states: Tensor, mask: Tensor) -> Tensor:
    return states[:, 0]


def _last(states: Tensor, mask: Tensor) -> Tensor:
    last = mask[..., 0].sum(1).long().clamp(min=1) - 1
    return states[torch.arange(len(states), device=states.device), last]


def _weighted(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask * torch.arange(1, mask.shape[1] + 1, device=mask.device, dtype=mask.dtype)[:, None]
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


#: Poolings of token vectors (b, t, d) with a mask (b, t, 1) to (b, d), by the names of sentence-transformers.
TOKEN_POOLINGS = {
    "mean": _mean,
    "cls": _first,
    "max": _max,
    "lasttoken": _last,
    "weightedmean": _weighted,
    "mean_sqrt_len_tokens": _mean_sqrt,
}
_OLD_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
#: Tokens that the CPU takes at once, at least: fewer cost more in overhead than the padding that they save.
GROUP_TOKENS = 1024
_ACTIVATIONS = {"Identity": nn.Identity, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU}


class NGramMLP(nn.Module):
    """The mean of learned vectors of the n-grams of a text, then dense layers: fastText with a head, from scratch.

    Args:
        buckets: Number of tokens, as of `NGrams`.
        widths: Size of the n-grams' vectors, then units of each dense layer, all ≥ 1.
        dropout: Share of the units dropped between layers in training, in [0, 1).

    >>> NGramMLP(10, widths=[4, 2])(torch.tensor([[1, 2, -1], [3, -1, -1]])).shape
    torch.Size([2, 2])
    """

    def __init__(self, buckets: int, *, widths: Sequence[int] = (128, 128), dropout: float = 0.1):
        super().__init__()
        if not widths or any(isinstance(w, bool) or not isinstance(w, int) or w < 1 for w in widths):
            raise ArgumentError(f"widths must be one or more whole numbers ≥ 1; got {list(widths)}.")
        if not 0 <= dropout < 1:
            raise ArgumentError(f"dropout must be a share in [0, 1); got {dropout}.")
        self.vectors = nn.EmbeddingBag(buckets, widths[0], mode="mean")
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.ReLU(), nn.Dropout(dropout), nn.Linear(before, after)]
        self.layers = nn.Sequential(*layers)
        self.out_features = widths[-1]

    def forward(self, tokens: Tensor) -> Tensor:
        """Return features (b, out_features) of tokens (b, t); a text without tokens is all zeros before the layers."""
        real = tokens != PAD
        counts = real.sum(1)
        offsets = counts.cumsum(0) - counts
        return self.layers(self.vectors(tokens[real], offsets))


class TextEncoder(nn.Module):
    """A transformers encoder, pooling over its tokens, and dense layers if the model has them.

    Args:
        encoder: A model of transformers that returns ``last_hidden_state``.
        pooling: A name of `TOKEN_POOLINGS`.
        dense: Layers after pooling: in and out features, bias, activation by name.
        width: Size of a token's vector.
    """

    def __init__(self, encoder: nn.Module, *, pooling: str, dense: Sequence[Mapping[str, Any]], width: int):
        super().__init__()
        if pooling not in TOKEN_POOLINGS:
            raise ArgumentError(
                f"unknown pooling of tokens '{pooling}'{nearest_name(pooling, TOKEN_POOLINGS)}"
            )
        self.encoder = encoder
        self.pooling = pooling
        self.dense = nn.Sequential()
        for layer in dense:
            self.dense.append(nn.Linear(layer["in_features"], layer["out_features"], bias=layer["bias"]))
            self.dense.append(_ACTIVATIONS[layer["activation"]]())
            width = layer["out_features"]
        self.out_features = width

    def forward(self, tokens: Tensor) -> Tensor:
        """Return features (b, out_features) of tokens (b, t); on the CPU texts of like length go together."""
        if tokens.device.type != "cpu" or torch.compiler.is_compiling():
            return self._features(tokens)  # an accelerator would wait for the lengths, a graph has one shape
        lengths, order = (tokens != PAD).sum(1).sort(descending=True)
        cuts = _like_lengths(lengths.tolist())
        if len(cuts) == 1:
            return self._features(tokens)
        parts = [
            self._features(rows[:, :longest])
            for rows, longest in zip(
                tokens[order].split([n for n, _ in cuts]), (t for _, t in cuts), strict=True
            )
        ]
        return torch.cat(parts)[order.argsort()]

    def _features(self, tokens: Tensor) -> Tensor:
        mask = tokens != PAD
        states = self.encoder(input_ids=tokens.clamp(min=0), attention_mask=mask.long()).last_hidden_state
        return self.dense(TOKEN_POOLINGS[self.pooling](states, mask[..., None].to(states.dtype)))


def _like_lengths(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Cut texts, longest first, into groups: how many texts, and the tokens of the longest.

    A group is padded to its longest text only, and a processor without thousands of lanes does that much less work;
    `GROUP_TOKENS` in a group are enough to keep it busy.
    """
    groups: list[tuple[int, int]] = []
    start = 0
    while start < len(lengths):
        longest = max(lengths[start], 1)
        count = min(-(-GROUP_TOKENS // longest), len(lengths) - start)
        groups.append((count, longest))
        start += count
    return groups


def create_text_backbone(
    name: str, *, pretrained: bool = False, architecture: Mapping[str, Any] | None = None, **options: Any
) -> tuple[nn.Module, NGrams | Tokenizer | None, dict[str, Any] | None]:
    """Build a network for texts by name.

    Args:
        name: ``"mlp"`` (`NGramMLP` on `NGrams`), or a model of transformers: its folder, or its name on the hub.
        pretrained: Load its weights; else it starts from scratch.
        architecture: What a saved model says about itself; no file of the model is needed then.
        **options: For ``mlp``: buckets, shortest, longest, max_length, widths, dropout. Else: pooling, max_length.

    Returns:
        The network, its tokenizer (None with `architecture`, which was saved with its own), and its architecture as
        plain values (None for ``mlp``).

    Raises:
        ArgumentError: No such model or option.
        MissingExtraError: transformers is not installed (extra ``text``).
    """
    if name == "mlp":
        return _ngram_mlp(pretrained, options)
    if name == "cnn":
        raise ArgumentError("backbone 'cnn' takes pictures; for texts use 'mlp' or a model of transformers.")
    known = ("pooling", "max_length")
    for option in options:
        if option not in known:
            raise ArgumentError(f"backbone '{name}' has no option '{option}'{nearest_name(option, known)}")
    if architecture is not None:
        return _rebuild(architecture), None, dict(architecture)
    return _from_files(name, pretrained, options)


def from_sentence_transformer(model: Any) -> tuple[nn.Module, Tokenizer, dict[str, Any], bool]:
    """Take a ``SentenceTransformer`` apart: network, tokenizer, architecture, and whether it normalises.

    Its weights are shared, not copied.

    Raises:
        ArgumentError: A module of it is none of Transformer, Pooling, Dense and Normalize.
    """
    parts = {type(module).__name__: module for module in model}
    strange = [
        type(m).__name__
        for m in model
        if type(m).__name__ not in ("Transformer", "Pooling", "Dense", "Normalize")
    ]
    if strange or "Transformer" not in parts or "Pooling" not in parts:
        raise ArgumentError(
            "a SentenceTransformer must consist of Transformer, Pooling and any Dense and Normalize; got "
            f"{', '.join(type(module).__name__ for module in model)}."
        )
    transformer = parts["Transformer"]
    dense = [module for module in model if type(module).__name__ == "Dense"]
    facts = {
        "config": _plain(transformer.auto_model.config),
        "pooling": _pooling_of(parts["Pooling"].get_config_dict()),
        "dense": [
            _dense_facts(
                {
                    "in_features": d.linear.in_features,
                    "out_features": d.linear.out_features,
                    "bias": d.linear.bias is not None,
                    "activation_function": type(d.activation_function).__name__,
                }
            )
            for d in dense
        ],
    }
    network = _assemble(transformer.auto_model, facts)
    for mine, theirs in zip(network.dense[::2], dense, strict=True):
        mine.load_state_dict(theirs.linear.state_dict())
    tokenizer = _tokenizer(transformer.tokenizer, model.max_seq_length or 512)
    return network, tokenizer, facts, "Normalize" in parts


def _ngram_mlp(pretrained: bool, options: dict[str, Any]) -> tuple[nn.Module, NGrams, None]:
    if pretrained:
        raise ArgumentError("pretrained=True needs published weights, and backbone 'mlp' has none.")
    ours, theirs = ("widths", "dropout"), ("buckets", "shortest", "longest", "max_length")
    for option in options:
        if option not in (*ours, *theirs):
            raise ArgumentError(
                f"backbone 'mlp' has no option '{option}' for texts{nearest_name(option, (*ours, *theirs))}"
            )
    grams = NGrams(**{key: options[key] for key in theirs if key in options})
    return NGramMLP(grams.buckets, **{key: options[key] for key in ours if key in options}), grams, None


def _from_files(
    name: str, pretrained: bool, options: dict[str, Any]
) -> tuple[nn.Module, Tokenizer, dict[str, Any]]:
    transformers = require("transformers", extra="text", purpose=f"backbone '{name}'")
    try:
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        if pretrained:  # safetensors only: the older format is a pickle
            encoder = transformers.AutoModel.from_pretrained(
                name, config=config, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
            )
        else:
            encoder = transformers.AutoModel.from_config(config)
        words = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()
        raise ArgumentError(
            f"the text model '{name}' cannot be had: {reason[0] if reason else type(error).__name__} Give a folder "
            "with config.json, model.safetensors and tokenizer.json, or a name on the Hugging Face hub (which needs "
            "the network once), or use backbone 'mlp', which needs nothing."
        ) from error
    kept = _SentenceFiles(transformers, name)
    facts = {
        "config": _plain(config),
        "pooling": options.get("pooling") or kept.pooling,
        "dense": [layer for layer, _ in kept.dense],
    }
    network = _assemble(encoder, facts)
    if pretrained:
        for mine, (_, weights) in zip(network.dense[::2], kept.dense, strict=True):
            mine.load_state_dict(weights)
    limits = [
        length
        for length in (
            kept.max_length,
            getattr(config, "max_position_embeddings", None),
            words.model_max_length,
        )
        if isinstance(length, int) and 0 < length < 10**6
    ]
    longest = min(limits, default=512)
    wanted = options.get("max_length") or longest
    if not 1 <= wanted <= max(longest, *limits, 1):
        raise ArgumentError(f"max_length of '{name}' must be from 1 to {max(limits)} tokens; got {wanted}.")
    return network, _tokenizer(words, wanted), facts


class _SentenceFiles:
    """What sentence-transformers keeps beside the weights of a model."""

    def __init__(self, transformers: Any, name: str):
        self._cached_file = transformers.utils.cached_file
        self._name = name
        modules = self._json("modules.json") or []
        self.pooling = "mean"
        self.dense: list[tuple[dict[str, Any], dict[str, Tensor]]] = []
        self.max_length: int | None = (self._json("sentence_bert_config.json") or {}).get("max_seq_length")
        for module in modules:
            kind, path = module["type"].rpartition(".")[2], module["path"]
            if kind == "Pooling":
                self.pooling = _pooling_of(self._json(f"{path}/config.json") or {})
            elif kind == "Dense":
                self.dense.append(self._dense(path))
            elif kind not in ("Transformer", "Normalize"):
                raise ArgumentError(
                    f"the text model '{name}' has a module {kind}, which Kyori does not know; known are Transformer, "
                    "Pooling, Dense and Normalize."
                )

    def _path(self, file: str) -> Path | None:
        try:
            found = self._cached_file(
                self._name, file, _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False, _raise_exceptions_for_gated_repo=False,
            )  # fmt: skip
        except OSError:
            return None
        return None if found is None else Path(found)

    def _json(self, file: str) -> Any:
        path = self._path(file)
        return None if path is None else json.loads(path.read_text(encoding="utf-8"))

    def _dense(self, path: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
        from safetensors.torch import load_file

        weights = self._path(f"{path}/model.safetensors")
        if weights is None:
            raise ArgumentError(
                f"the dense layer {path} of '{self._name}' has no model.safetensors; an older file is a pickle, "
                "which Kyori does not open."
            )
        facts = _dense_facts(self._json(f"{path}/config.json") or {})
        tensors = {key.removeprefix("linear."): value for key, value in load_file(weights).items()}
        return facts, tensors


def _dense_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation not in _ACTIVATIONS:
        raise ArgumentError(
            f"a dense layer has the activation {activation}; known: {', '.join(_ACTIVATIONS)}."
        )
    return {
        "in_features": int(config["in_features"]),
        "out_features": int(config["out_features"]),
        "bias": bool(config.get("bias", True)),
        "activation": activation,
    }


def _pooling_of(config: Mapping[str, Any]) -> str:
    """The pooling that a module's configuration says, in its new form or in the older flags."""
    named = config.get("pooling_mode")
    flags = (
        [named] if isinstance(named, str) else [name for flag, name in _OLD_FLAGS.items() if config.get(flag)]
    )
    if len(flags) > 1:
        raise ArgumentError(f"the model joins several poolings ({', '.join(flags)}), which Kyori does not.")
    return flags[0] if flags else "mean"


def _plain(config: Any) -> dict[str, Any]:
    """A configuration as JSON values, without what names a place or code."""
    facts = json.loads(config.to_json_string(use_diff=False))
    for key in ("_name_or_path", "auto_map", "quantization_config", "transformers_version"):
        facts.pop(key, None)
    return facts


def _assemble(encoder: nn.Module, facts: Mapping[str, Any]) -> TextEncoder:
    config = facts["config"]
    width = config.get("hidden_size") or config.get("d_model") or config.get("dim")
    return TextEncoder(encoder, pooling=facts["pooling"], dense=facts["dense"], width=width)


def _rebuild(facts: Mapping[str, Any]) -> TextEncoder:
    transformers = require("transformers", extra="text", purpose="a text model")
    config = dict(facts["config"])
    config.pop("auto_map", None)  # never code from a file
    config = transformers.AutoConfig.for_model(config.pop("model_type"), **config)
    return _assemble(transformers.AutoModel.from_config(config), facts)


def _tokenizer(words: Any, max_length: int) -> Tokenizer:
    engine = getattr(words, "backend_tokenizer", None)
    if engine is None:
        raise ArgumentError(
            f"the tokenizer {type(words).__name__} exists in Python only; save it in the fast form (tokenizer.json)."
        )
    return Tokenizer(engine.to_str(), max_length)
