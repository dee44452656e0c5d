"""The embedder: from items to vectors, with everything that is needed to do so again elsewhere."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import Preprocess, Source
from ..errors import ArgumentError, FileFormatError
from ..files import write_atomic
from .backbones import arrangement_of, create_backbone, output_shape
from .heads import Head
from .items import Preprocessing, batches_of
from .pretrained import published_scale
from .sets import check_padding
from .stages import stages_of
from .texts import create_text_backbone, from_sentence_transformer
from .tokens import NGrams, Tokenizer
from .weights import checksum, read_tensors, state_tensors, write_tensors

__all__ = ["Embedder"]

FORMAT = "kyori.embedder"
VERSION = 1
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


class Embedder(nn.Module):
    """A backbone, a head and the preprocessing of its inputs.

    Made with `create` or `load`. `encode` takes items as people have them and gives vectors; the module itself
    takes a batch that is preprocessed already.

    Attributes:
        backbone: The network (b, *input_shape) → features or maps.
        head: Pooling and projection → (b, d).
        preprocess: How raw items become inputs.
        normalize: Whether embeddings are scaled to length 1.
        embedding_size: d.
        class_names: The classes it was trained on, if known.

    >>> embedder = Embedder.create("mlp", (4,), embedding_size=2, seed=0)
    >>> embedder.encode(np.zeros((3, 4), dtype=np.float32)).shape
    (3, 2)
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: Head,
        preprocess: Preprocessing,
        *,
        normalize: bool = True,
        class_names: Sequence[str] = (),
        description: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.preprocess = preprocess
        self.normalize = normalize
        self.class_names = tuple(class_names)
        self._description = dict(description or {})
        self._frozen: set[str] = set()  # weights of the backbone that `freeze` has switched off
        self._still: list[nn.Module] = []  # its modules that stay in evaluation mode

    @classmethod
    def create(
        cls,
        backbone: str | nn.Module,
        inputs: Source | Preprocessing | Sequence[int],
        *,
        embedding_size: int | None = 64,
        normalize: bool = True,
        pooling: str = "auto",
        layers: Sequence[int] = (),
        norm: bool = False,
        pretrained: bool = False,
        weights: str | os.PathLike[str] | None = None,
        options: Mapping[str, Any] | None = None,
        class_names: Sequence[str] = (),
        seed: int = 0,
    ) -> Self:
        """Build an embedder whose initial weights depend on ``seed`` alone.

        Args:
            backbone: ``"mlp"``, ``"cnn"``, a timm name, or a module that maps (b, *input_shape) to (b, k) or
                (b, k, h, w); its k is found by a dry run. A module keeps the weights it comes with. For sets
                of vectors: ``"mlp"`` (`DeepSets`), or a module that takes (b, m, f) with NaN for padding. For texts:
                ``"mlp"`` (n-grams), a transformers model by its folder or its name on the hub, or a
                ``SentenceTransformer``.
            inputs: What comes in: a Source (the preprocessing is fitted to it), a Preprocess, or the shape of one
                raw item, (h, w, c) for images of bytes or (f,) for vectors, which are then taken as they are, () for
                texts. (``Preprocess.plain`` says it for arrays and sets.)
            embedding_size: d ≥ 1, or None for the features of the backbone as they are.
            normalize: Scale embeddings to length 1.
            pooling: ``"avg"``, ``"max"``, ``"avg+max"``, ``"gem"``, or ``"cls"`` (the class token of a transformer).
                ``"auto"``: the average of maps; transformers pool their tokens as they were trained to.
            layers: Units of dense layers with ReLU before the projection.
            norm: Batch normalisation of the embedding, as in `Head`.
            pretrained: Start from the published weights of a timm or transformers model. With a Source of pictures
                its mean and deviation are those that the weights were trained with, not the pictures' own.
            weights: Start from the weights in a safetensors file; for the scale of pictures the same holds.
            options: Options of a named backbone.
            class_names: Names of the classes, kept with the model.
            seed: Seed of the initial weights; the caller's random state is left alone.

        Raises:
            ArgumentError: Unknown names or options, weights that do not fit, or a backbone that takes no such inputs.
            FileFormatError: The file of weights is missing, damaged, or a pickle.
        """
        with torch.random.fork_rng(devices=[]):  # everything is drawn on the CPU
            torch.default_generator.manual_seed(seed)
            network: nn.Module
            preprocess: Preprocessing
            if _is_text(inputs) or type(backbone).__name__ == "SentenceTransformer":
                if weights is not None:
                    raise ArgumentError(
                        "weights belong to networks for pictures and vectors; a text model is named by its folder."
                    )
                network, preprocess, facts = _text_network(backbone, inputs, pretrained, options)
            else:
                kind, shape = _form_of(inputs)
                facts = {"name": backbone if isinstance(backbone, str) else None}
                if isinstance(backbone, nn.Module):
                    if options or pretrained or weights is not None:
                        raise ArgumentError(
                            "options, weights and pretrained belong to backbones by name; got a module."
                        )
                    network = backbone
                else:
                    network = create_backbone(
                        backbone,
                        shape,
                        kind=kind,
                        pretrained=pretrained,
                        weights=weights,
                        own_pooling=pooling == "auto",
                        **(options or {}),
                    )
                started = pretrained or weights is not None
                preprocess = _preprocess(inputs, backbone if started and isinstance(backbone, str) else None)
            arrangement, width, prefix = arrangement_of(
                network, output_shape(network, preprocess.input_shape)
            )
            if preprocess.kind == "set":
                check_padding(network, preprocess.input_shape)
            head = Head(
                width,
                embedding_size,
                pooling=pooling,
                arrangement=arrangement,
                prefix_tokens=prefix,
                layers=layers,
                norm=norm,
            )
        description = {
            "backbone": {**facts, "module": type(network).__name__, "options": dict(options or {})},
            "head": {
                "embedding_size": embedding_size,
                "pooling": pooling,
                **({"layers": list(layers)} if layers else {}),
                **({"norm": True} if norm else {}),
            },
        }
        return cls(
            network,
            head,
            preprocess,
            normalize=normalize,
            class_names=class_names,
            description=description,
        )

    @property
    def embedding_size(self) -> int:
        """Size d of an embedding."""
        return self.head.embedding_size

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input of the network: (c, h, w), (f,), that of an array, (2, f) for sets, () for tokens."""
        return self.preprocess.input_shape

    @property
    def architecture(self) -> dict[str, Any]:
        """What decides the network, by the names of the configuration's section ``model``."""
        backbone, head = self._description.get("backbone", {}), self._description.get("head", {})
        return {
            "backbone": backbone.get("name") or backbone.get("module"),
            "backbone_options": dict(backbone.get("options", {})),
            "embedding_size": head.get("embedding_size"),
            "pooling": head.get("pooling", "auto"),
            "head_layers": tuple(head.get("layers", ())),
            "head_norm": head.get("norm", False),
        }

    @property
    def scale(self) -> Preprocess | None:
        """The preprocessing of pictures and vectors; None for texts, which have no scale."""
        return self.preprocess if isinstance(self.preprocess, Preprocess) else None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        tensor = next(self.parameters(), None)
        return torch.device("cpu") if tensor is None else tensor.device

    @property
    def parameter_count(self) -> int:
        """How many trained numbers it has."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def on_features(self) -> "Embedder":
        """An embedder of the same head, sharing its weights, for pooled features (b, k) in place of items."""
        width = self.head.pooled_features
        return Embedder(
            nn.Identity(),
            self.head.after_pooling(),
            Preprocess.plain("vector", (width,)),
            normalize=self.normalize,
            class_names=self.class_names,
        )

    @staticmethod
    def saved_scale(folder: str | os.PathLike[str]) -> Preprocess | None:
        """What items the model in a folder takes: its preprocessing; None for texts.

        Raises:
            FileFormatError: The folder holds no model.
        """
        values = _read_description(Path(folder) / DESCRIPTION)["preprocess"]
        return Preprocess.from_dict(values) if "shape" in values else None

    def freeze(self, what: str | int) -> None:
        """Keep the backbone, or its first stages, as they are: no gradients, statistics as in evaluation.

        Args:
            what: ``"backbone"``, a number of stages from the input on (the stem of a ``resnet18`` is one, and each of
                its four layers), or ``"none"``, which thaws what was frozen before.

        Raises:
            ArgumentError: The backbone does not have so many stages.
        """
        stages = stages_of(self.backbone)
        count = {"none": 0, "backbone": len(stages)}.get(str(what), what)
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= len(stages):
            raise ArgumentError(
                f"freeze must be 'none', 'backbone', or a number of its {len(stages)} stages; got {what!r}."
            )
        wanted = {name for stage in stages[:count] for name in stage}
        weights = dict(self.backbone.named_parameters())
        for name, weight in weights.items():
            if name in self._frozen and name not in wanted:
                weight.requires_grad_(True)
            elif name in wanted and weight.requires_grad:
                weight.requires_grad_(False)
                self._frozen.add(name)
        self._frozen &= wanted
        self._still = self._still_modules(wanted, whole=0 < len(stages) == count or what == "backbone")
        self.train(self.training)

    def _still_modules(self, frozen: set[str], *, whole: bool) -> list[nn.Module]:
        if whole:
            return [self.backbone]
        return [
            module
            for prefix, module in self.backbone.named_modules()
            if (own := [f"{prefix}.{name}" if prefix else name for name, _ in module.named_parameters()])
            and frozen.issuperset(own)
        ]

    def train(self, mode: bool = True) -> Self:
        """Set the training mode, in which frozen parts stay in evaluation mode."""
        super().train(mode)
        for module in self._still:
            module.eval()
        return self

    def features(self, x: Tensor) -> Tensor:
        """Return raw embeddings (b, d) of preprocessed inputs (b, *input_shape): what a loss is given."""
        return self.head(self.backbone(x))

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings (b, d), of length 1 if ``normalize``."""
        return self._scaled(self.features(x))

    def _scaled(self, features: Tensor) -> Tensor:
        return F.normalize(features.float(), dim=1) if self.normalize else features

    def encode(self, items: Any, *, batch_size: int = 256, mirrored: bool = False) -> np.ndarray:
        """Return the embeddings of items, in their order.

        Images of another size are resized, grey ↔ RGB is converted (luminance; three equal channels) and other
        modes as `kyori.open_source` does. The module's training mode is left as it was.

        Args:
            items: A Source; a list of paths, PIL images and arrays (h, w), (h, w, c) or (f,); or one array or
                tensor with all items, (n, h, w), (n, h, w, c) or (n, f); for a model of arrays arrays of their shape,
                of sets a list of arrays (m, f), of texts a list of strings. No labels are needed.
            batch_size: Items at a time, ≥ 1.
            mirrored: Encode each picture and its mirror image, and take the mean of their features, which is
                steadier where left and right do not matter (faces, products), at twice the time.

        Returns:
            Array (n, d) of float32; (0, d) for no items.

        Raises:
            ArgumentError: Items of the wrong shape or kind, or ``mirrored`` for other items than pictures.
            ItemError: An item that cannot be read, by path.
        """
        return self.encode_with_norms(items, batch_size=batch_size, mirrored=mirrored)[0]

    @torch.no_grad()
    def encode_with_norms(
        self, items: Any, *, batch_size: int = 256, mirrored: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the embeddings of items as `encode` does, and the lengths that their features had before scaling.

        Short features are those of hard items where nothing holds the lengths constant (Ranjan et al. 2017).

        Args:
            items, batch_size, mirrored: As in `encode`.

        Returns:
            Arrays (n, d) and (n,) of float32. Without ``normalize`` the lengths are those of the embeddings.

        Raises:
            ArgumentError: Items of the wrong shape or kind.
            ItemError: An item that cannot be read, by path.
        """
        if batch_size < 1:
            raise ArgumentError(f"batch_size must be ≥ 1; got {batch_size}.")
        if mirrored and self.preprocess.kind != "image":
            raise ArgumentError(f"mirrored=True needs pictures; this model takes {self.preprocess.kind}s.")
        was_training = self.training
        self.eval()
        places: list[np.ndarray] = []
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        try:
            for position, raw in batches_of(items, self.preprocess, batch_size):
                if position is not None:
                    places.append(position)
                x = self.preprocess(raw, self.device)
                features = self.features(x)
                if mirrored:
                    features = (features + self.features(x.flip(3))) / 2
                lengths = torch.linalg.vector_norm(features.float(), dim=1)
                parts.append((self._scaled(features).float().cpu().numpy(), lengths.cpu().numpy()))
        finally:
            self.train(was_training)
        if not parts:
            return np.zeros((0, self.embedding_size), dtype=np.float32), np.zeros(0, dtype=np.float32)
        vectors, norms = (np.concatenate(side) for side in zip(*parts, strict=True))
        if places:
            order = np.concatenate(places)
            vectors[order], norms[order] = vectors.copy(), norms.copy()
        return vectors, norms

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``model.safetensors`` and ``model.json`` into ``folder``, which is made if need be."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        from .. import __version__

        for name, content in self.preprocess.files().items():
            _write_bytes(folder / name, content)
        crc = write_tensors(folder / WEIGHTS, state_tensors(self.state_dict()), {"format": FORMAT})
        description = {
            "format": FORMAT,
            "version": VERSION,
            "kyori": __version__,
            **self._description,
            "normalize": self.normalize,
            "preprocess": self.preprocess.to_dict(),
            "class_names": list(self.class_names),
            "weights": {"file": WEIGHTS, "crc32": crc},
        }
        _write_bytes(folder / DESCRIPTION, json.dumps(description, indent=2, ensure_ascii=False).encode())

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, backbone: nn.Module | None = None) -> Self:
        """Read what `save` wrote, onto the CPU, in evaluation mode.

        Args:
            folder: The folder with ``model.safetensors`` and ``model.json``.
            backbone: The network, where it was a module of the caller's own: a file holds its weights, not its code.

        Raises:
            FileFormatError: A file is missing, damaged, of another kind or of a newer version.
            ArgumentError: ``backbone`` is missing, or does not fit the weights.
        """
        folder = Path(folder)
        facts = _read_description(folder / DESCRIPTION)
        tensors, _ = read_tensors(folder / WEIGHTS)
        try:
            embedder = cls._build(facts, backbone, folder)
            crc = facts["weights"]["crc32"]
        except (KeyError, TypeError) as error:
            raise FileFormatError(
                f"{folder / DESCRIPTION} is damaged: it lacks or misspells {error}. Copy it again."
            ) from error
        _check_pair(folder, tensors, crc)
        try:
            embedder.load_state_dict(tensors)
        except RuntimeError as error:
            raise ArgumentError(f"the weights in {folder} do not fit this backbone: {error}") from error
        return embedder.eval()

    @classmethod
    def _build(cls, facts: Mapping[str, Any], backbone: nn.Module | None, folder: Path) -> Self:
        name = facts["backbone"]["name"]
        if name is None and backbone is None:
            raise ArgumentError(
                f"this model has a backbone of your own, {facts['backbone']['module']}, and a file holds its weights "
                "only; pass the module: Embedder.load(folder, backbone=...)."
            )
        if name is not None and backbone is not None:
            raise ArgumentError(
                f"this model has the backbone '{name}', which is built from its name; leave backbone out."
            )
        preprocess = _read_preprocess(facts["preprocess"], folder)
        if not isinstance(preprocess, Preprocess):
            return cls._build_text(facts, preprocess, backbone)
        return cls.create(
            backbone or name,
            preprocess,
            **facts["head"],
            normalize=facts["normalize"],
            options=facts["backbone"]["options"],
            class_names=facts["class_names"],
        )

    @classmethod
    def _build_text(
        cls, facts: Mapping[str, Any], preprocess: NGrams | Tokenizer, backbone: nn.Module | None
    ) -> Self:
        saved = facts["backbone"]
        network = backbone
        if network is None:
            network, _, _ = create_text_backbone(
                saved["name"], architecture=saved.get("architecture"), **saved["options"]
            )
        return cls(
            network,
            Head(output_shape(network, ())[0], **facts["head"]),
            preprocess,
            normalize=facts["normalize"],
            class_names=facts["class_names"],
            description={"backbone": saved, "head": facts["head"]},
        )


def _write_bytes(path: Path, content: bytes) -> None:
    write_atomic(path, lambda file: file.write(content))


def _is_text(inputs: Any) -> bool:
    if isinstance(inputs, Source | Preprocess | NGrams | Tokenizer):
        return inputs.kind == "text"
    return len(inputs) == 0


def _text_network(
    backbone: Any, inputs: Any, pretrained: bool, options: Mapping[str, Any] | None
) -> tuple[nn.Module, NGrams | Tokenizer, dict[str, Any]]:
    """The network for texts, its tokenizer, and what a file must say about the network."""
    if not isinstance(backbone, nn.Module):
        network, tokens, architecture = create_text_backbone(
            backbone, pretrained=pretrained, **(options or {})
        )
        assert tokens is not None  # only a saved architecture comes without
        return network, tokens, {"name": backbone} | _architecture(architecture)
    if options or pretrained:
        raise ArgumentError("options and pretrained belong to backbones by name; got a module.")
    if type(backbone).__name__ == "SentenceTransformer":
        network, tokens, architecture, _ = from_sentence_transformer(backbone)
        return network, tokens, {"name": "SentenceTransformer"} | _architecture(architecture)
    if not isinstance(inputs, NGrams | Tokenizer):
        raise ArgumentError(
            "a module of your own for texts needs its tokenizer: give inputs=kyori.models.NGrams(...) or a Tokenizer."
        )
    return backbone, inputs, {"name": None}


def _architecture(facts: dict[str, Any] | None) -> dict[str, Any]:
    return {} if facts is None else {"architecture": facts}


def _read_preprocess(values: Mapping[str, Any], folder: Path) -> Preprocessing:
    """The preprocessing that a model was saved with."""
    kind = values["kind"]
    if kind == "ngrams":
        return NGrams.from_dict(values)
    if kind != "tokenizer":
        return Preprocess.from_dict(values)
    path = folder / Tokenizer.FILE
    try:
        return Tokenizer.from_dict(values, path.read_bytes())
    except OSError as error:
        raise FileFormatError(f"{path} cannot be read: {error.strerror}; a text model needs it.") from error


def _form_of(inputs: Source | Preprocessing | Sequence[int]) -> tuple[str, tuple[int, ...]]:
    """Kind and shape of what the backbone will be given, known before anything is measured."""
    if isinstance(inputs, Source):
        assert inputs.kind != "text"
        plain = Preprocess.plain(inputs.kind, inputs.item_shape)
    else:
        plain = _preprocess(inputs, None)
    return plain.kind, plain.input_shape


def _preprocess(inputs: Source | Preprocessing | Sequence[int], published: str | None) -> Preprocess:
    """The preprocessing; pictures for the weights of ``published`` get the scale that these were trained with."""
    if isinstance(inputs, Preprocess):
        return inputs
    assert not isinstance(inputs, NGrams | Tokenizer)
    if isinstance(inputs, Source):
        scale = None
        if published is not None and inputs.kind == "image":
            scale = published_scale(published, inputs.item_shape[-1])
        if scale is not None:
            return Preprocess("image", inputs.item_shape, *scale, inputs.resize)
        return Preprocess.fit(inputs)
    shape = tuple(inputs)
    if len(shape) not in (1, 3):
        raise ArgumentError(
            f"inputs must be a Source, a Preprocess, or the shape (h, w, c) or (f,) of one item; got {inputs!r}."
        )
    return Preprocess.plain("image" if len(shape) == 3 else "vector", shape)


def _read_description(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileFormatError(
            f"{path} does not exist; expected a folder that holds {WEIGHTS} and {DESCRIPTION}."
        ) from error
    except (ValueError, OSError) as error:
        raise FileFormatError(f"{path} is damaged: {error}") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise FileFormatError(f"{path} does not describe a Kyori model (format '{FORMAT}').")
    if facts.get("version") != VERSION:
        raise FileFormatError(
            f"{path} has version {facts.get('version')} of the format, and this Kyori reads {VERSION}; "
            f"install the Kyori that wrote it ({facts.get('kyori')}) or a newer one."
        )
    return facts


def _check_pair(folder: Path, tensors: Mapping[str, Tensor], crc: str) -> None:
    if checksum(tensors) != crc:
        raise FileFormatError(
            f"{WEIGHTS} and {DESCRIPTION} in {folder} are not from the same save; copy both again."
        )
