"""The configuration of a training run: frozen, strict, all errors at once, one YAML file.

```yaml
seed: 0
model: {backbone: cnn, embedding_size: 64}
loss: {name: triplet, mining: semihard, margin: 0.2}
optimizer: {name: adam, lr: 1e-3}
training: {epochs: 10}
```
What is left out takes its default; an unknown key is an error that names the nearest one. Every setting has a name of
its own across the sections, so that flat options (`RunConfig.from_options(lr=1e-3, margin=0.2)`, the flags of
``kyori train``) need no section.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from ..errors import ConfigError, nearest_name
from ..losses import LOSSES, PairwiseLoss, create
from .checkpoint import Interval
from .options import check_options, describe_errors, place_options, switches

__all__ = [
    "AugmentConfig",
    "BatchConfig",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RunConfig",
    "ScheduleConfig",
    "TrainingConfig",
]


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic would read true as 1
        raise ValueError(f"must be a number; got {value}")
    return value


_number = BeforeValidator(_not_bool)
Count = Annotated[int, _number, Field(ge=1)]
NonNegativeInt = Annotated[int, _number, Field(ge=0)]
Positive = Annotated[float, _number, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, _number, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, _number, Field(ge=0, le=1)]
Decay = Annotated[float, _number, Field(ge=0, lt=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), validate_default=True)


class DataConfig(_Section):
    """What is read and how it is split."""

    split: Literal["auto", "given", "random", "class-disjoint", "kfold", "class-disjoint-kfold", "none"] = (
        Field(
            default="auto",
            description="auto: given if the data bring one, else random; none: train on everything",
        )
    )
    split_seed: NonNegativeInt = Field(
        default=0, description="apart from seed, so that runs share their test items"
    )
    fractions: tuple[Share, Share, Share] = Field(
        default=(0.7, 0.1, 0.2), description="train, validation, test"
    )
    folds: Annotated[int, _number, Field(ge=2)] = 5
    fold: NonNegativeInt | None = Field(
        default=None, description="which fold is the test set, with a k-fold split"
    )
    image_size: Count | tuple[Count, Count] | None = Field(
        default=None, description="pixels, or height and width; null: as they are"
    )
    channels: Literal["auto", 1, 3] = "auto"
    resize: Literal["crop", "pad", "stretch"] = Field(
        default="crop",
        description="a picture of another shape: cut in the centre, whole on a black ground, or out of proportion",
    )
    items: Literal["auto", "array", "set"] = Field(
        default="auto",
        description="array: arrays of any fixed shape as they are; set: sets of vectors; auto: what the data look like",
    )
    label: str | None = Field(default=None, description="column of a table with the labels; null: label")
    features: str | tuple[str, ...] = Field(
        default=(),
        description="columns of a table whose numbers are the items: a,b,c, or numeric for all of numbers",
    )
    bad_items: Literal["skip", "error"] = "skip"
    buffer: Annotated[int, _number, Field(ge=2)] = Field(
        default=8192, description="items of a stream among which batches are drawn, in each rank"
    )
    epoch_items: Count | None = Field(
        default=None, description="items of a stream that are an epoch; null: all, counted or estimated"
    )
    scaling: Literal["auto", "standardize", "unit"] = Field(
        default="auto",
        description="standardize: mean 0, deviation 1 per channel of these data; unit: pixels / 255, vectors as they "
        "are; auto: as the published weights were trained where there are some, else standardize",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if abs(sum(self.fractions) - 1) > 1e-6 or self.fractions[0] <= 0:
            raise ValueError(
                f"fractions (train, validation, test) must add up to 1 with train > 0; got {self.fractions}"
            )
        if self.split == "kfold" and (self.fold is None or self.fold >= self.folds):
            raise ValueError(
                f"split kfold needs a fold from 0 to folds - 1 = {self.folds - 1}; got {self.fold}"
            )
        return self


class ModelConfig(_Section):
    """The network and the embedding."""

    backbone: str = Field(default="mlp", description="mlp, cnn, linear or a timm name")
    backbone_options: dict[str, Any] = Field(default_factory=dict, description="options of that backbone")
    embedding_size: Count | None = Field(
        default=64, description="null: the features of the backbone as they are"
    )
    unit_norm: Literal["auto"] | bool = Field(
        default="auto", description="scale embeddings to length 1; auto: as the loss compares them"
    )
    pooling: Literal["auto", "avg", "max", "avg+max", "gem", "cls"] = Field(
        default="auto",
        description="auto: avg for maps; transformers pool their tokens as they were trained to",
    )
    head_layers: tuple[Count, ...] = Field(
        default=(), description="units of dense layers with ReLU before the projection, e.g. [512]"
    )
    head_norm: bool = Field(
        default=False, description="batch normalisation of the embedding, without a shift (BNNeck)"
    )
    pretrained: bool = Field(default=False, description="start from the published weights of that backbone")
    weights_file: str | None = Field(
        default=None, description="start from the backbone weights in this safetensors file"
    )
    init: str | None = Field(
        default=None,
        description="start from the whole model in this run or model folder, preprocessing included",
    )
    freeze: Literal["none", "backbone"] | Count = Field(
        default="none",
        description="what stays as it is: the backbone, or a number of its stages from the input on",
    )
    freeze_epochs: Count | None = Field(default=None, description="epochs it stays frozen; null: all")

    @model_validator(mode="after")
    def _check(self) -> Self:
        starts = {"pretrained": self.pretrained, "weights_file": self.weights_file, "init": self.init}
        given = [name for name, value in starts.items() if value]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are different starting points; give one of them")
        if self.freeze_epochs is not None and self.freeze == "none":
            raise ValueError("freeze_epochs needs freeze, for example 'backbone'")
        return self


class LossConfig(BaseModel):
    """The loss by name, what is put around it, and beside these that loss's own options.

    >>> LossConfig(name="triplet", margin=0.3).options
    {'margin': 0.3}
    """

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=(), validate_default=True)
    name: str = "triplet"
    memory: Count | None = Field(
        default=None, description="past embeddings that serve as further references of each batch"
    )
    memory_warmup: NonNegativeInt = Field(
        default=0, description="steps before the memory is used, while embeddings move fast"
    )
    matryoshka: tuple[Count, ...] | None = Field(
        default=None,
        description="numbers of coordinates that shall be an embedding by themselves, e.g. [64, 16]",
    )

    shard_classes: bool = Field(
        default=False,
        description="with several ranks, each keeps the class vectors of its share of the classes only",
    )

    @model_validator(mode="before")
    @classmethod
    def _check(cls, data: Any) -> Any:
        if isinstance(data, str):
            data = {"name": data}
        if not isinstance(data, Mapping):
            return data
        name = data.get("name", cls.model_fields["name"].default)
        if name not in LOSSES:
            raise ValueError(f"unknown loss '{name}'{nearest_name(str(name), LOSSES)}")
        options = check_options(
            f"loss '{name}'", LOSSES[name], {k: v for k, v in data.items() if k not in cls.model_fields}
        )
        with torch.random.fork_rng(devices=[]):  # the loss itself knows its ranges; a head draws its weights
            create(name, num_classes=2, embedding_size=2, **options)
        around = {k: v for k, v in data.items() if k in cls.model_fields}
        if around.get("memory") is not None and not issubclass(LOSSES[name], PairwiseLoss):
            raise ValueError(f"memory: suits losses of pairs, which take references; the loss is '{name}'")
        if around.get("shard_classes") and not LOSSES[name].needs_classes:
            raise ValueError(f"shard_classes: suits losses with class vectors; the loss is '{name}'")
        return {**around, "name": name, **options}

    @model_validator(mode="after")
    def _check_around(self) -> Self:
        if self.matryoshka is not None and len(set(self.matryoshka)) < max(1, len(self.matryoshka)):
            raise ValueError(f"matryoshka: must be one or more different sizes; got {list(self.matryoshka)}")
        if self.memory_warmup and self.memory is None:
            raise ValueError(f"memory_warmup: needs memory; got {self.memory_warmup} without one")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """The options that were given; the others take the loss's own defaults."""
        return dict(self.model_extra or {})


class BatchConfig(_Section):
    """What a batch is made of."""

    kind: Literal["auto", "pk", "shuffle", "pairs", "aligned", "views"] = Field(
        default="auto",
        description="auto: shuffle for heads; for losses of pairs pk (classes × items), or aligned if the data are "
        "rows of anchor and positive. views: each item twice, changed by chance, as a class of its own; no labels",
    )
    batch_size: Annotated[int, _number, Field(ge=2)] = Field(
        default=128,
        description="items, pairs with kind pairs, rows with aligned, items of two views with views",
    )
    per_class: Annotated[int, _number, Field(ge=2)] = Field(
        default=4,
        description="items of a class with kind pk; more where the classes are too few to fill the batch",
    )


class AugmentConfig(_Section):
    """Random changes of the training images, drawn anew each time; all off by default.

    With batches of kind views and all of them off, pictures get SimCLR's and vectors noise.
    """

    flip: bool = Field(default=False, description="mirror left and right, half of the time")
    shift: NonNegative = Field(default=0.0, description="move by up to so many pixels")
    rotate: NonNegative = Field(default=0.0, description="turn by up to so many degrees")
    zoom: NonNegative = Field(default=0.0, description="enlarge or shrink by up to this share")
    noise: NonNegative = Field(
        default=0.0, description="deviation of Gaussian noise, in units of the scaled input"
    )
    erase: Share = Field(
        default=0.0, description="probability of blanking a rectangle of 2 % to 20 % of the picture"
    )
    crop: Share = Field(
        default=0.0,
        description="cut out a part of at least this share of the area and enlarge it, e.g. 0.2; 0: off",
    )
    jitter: Share = Field(
        default=0.0, description="change brightness, contrast and saturation by up to this share each"
    )
    hue: Annotated[float, _number, Field(ge=0, le=0.5)] = Field(
        default=0.0, description="turn the hue by up to this share of the circle"
    )
    grey: Share = Field(default=0.0, description="probability of taking the colours away")
    blur: Share = Field(default=0.0, description="probability of a Gaussian blur, 0.1 to 2 pixels at 224")
    policy: Literal["none", "rand", "trivial", "augmix"] = Field(
        default="none",
        description="RandAugment, TrivialAugment or AugMix of torchvision (extra image), on each picture by itself",
    )


class OptimizerConfig(_Section):
    """The optimizer of PyTorch; null settings take PyTorch's default for it."""

    name: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    lr: Positive = 1e-3
    head_lr: Positive | None = Field(
        default=None,
        description="learning rate of the loss's own weights; null: lr, with sample= of a head lr / √sample",
    )
    backbone_lr: Positive | None = Field(
        default=None, description="learning rate of the backbone's last layer; null: lr"
    )
    layer_decay: Annotated[float, _number, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="factor on the rate from each layer of the backbone to the one before it, e.g. 0.75",
    )
    weight_decay: NonNegative = 0.0
    no_decay: bool = Field(
        default=False, description="leave biases and the weights of normalisations out of weight_decay"
    )
    momentum: Decay | None = Field(default=None, description="sgd, rmsprop")
    betas: tuple[Decay, Decay] | None = Field(default=None, description="adam, adamw")
    smoothing: Decay | None = Field(
        default=None, description="rmsprop: PyTorch's alpha, Keras' rho; PyTorch takes 0.99, Keras 0.9"
    )
    eps: Positive | None = Field(default=None, description="adam, adamw, rmsprop")

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = {
            "adam": {"betas", "eps"},
            "adamw": {"betas", "eps"},
            "sgd": {"momentum"},
            "rmsprop": {"momentum", "smoothing", "eps"},
        }[self.name]
        wrong = {k for k in ("momentum", "betas", "smoothing", "eps") if getattr(self, k) is not None} - known
        if wrong:
            raise ValueError(
                f"{self.name} takes no {', '.join(sorted(wrong))}; it takes {', '.join(sorted(known))}"
            )
        return self

    def head_rate(self, sample: float | None = None) -> float:
        """Learning rate of a loss's own weights, or of class vectors of which a step samples a share.

        All rules but SGD move a row about as far in each step that touches it, however small its gradient. Where chance
        sets the directions, the way grows with the root of the steps, so rows touched in a share p of them come as
        far with lr / √p.
        """
        if self.head_lr is not None:
            return self.head_lr
        return self.lr if sample is None or self.name == "sgd" else self.lr / sample**0.5


class ScheduleConfig(_Section):
    """How the learning rates move over the run, as a factor on each of them."""

    name: Literal["constant", "cosine", "step", "onecycle"] = "cosine"
    warmup_steps: NonNegativeInt = Field(default=0, description="steps of linear rise from 0 at the start")
    lr_floor: Share = Field(default=0.0, description="the last factor of cosine")
    decay_epochs: tuple[Count, ...] = Field(
        default=(), description="epochs after which step multiplies by decay_factor"
    )
    decay_factor: Share = 0.1

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name == "step" and not self.decay_epochs:
            raise ValueError("schedule step needs decay_epochs, for example [10, 15]")
        if self.name != "step" and self.decay_epochs:
            raise ValueError(f"decay_epochs belong to schedule step; the schedule is {self.name}")
        if self.name == "onecycle" and self.warmup_steps:
            raise ValueError("onecycle has its own warm-up; leave warmup_steps at 0")
        return self


class TrainingConfig(_Section):
    """How long, how exactly, on what, and what is kept."""

    epochs: Count = 20
    clip_norm: Positive | None = Field(
        default=None, description="largest norm of the whole gradient; null: unlimited"
    )
    accumulate: Count = Field(default=1, description="batches whose gradients are averaged into one step")
    cache_rows: Count | None = Field(
        default=None,
        description="items the network holds at a time, the gradient staying exact; null: the whole batch",
    )
    precision: Literal["auto", "float32", "bf16", "fp16"] = Field(
        default="auto", description="auto: float32 on the CPU, bf16 on GPUs that have it"
    )
    channels_last: bool = Field(
        default=False, description="pictures with channels innermost: faster convolutions, other rounding"
    )
    compile: bool = Field(default=False, description="run the network through torch.compile")
    ema: Decay | None = Field(
        default=None,
        description="decay of the moving average of the weights that is validated and kept, e.g. 0.999; null: none",
    )
    device: str = Field(
        default="auto", description="auto: the first GPU, else the CPU; or cpu, cuda, cuda:1, mps"
    )
    measure: str = Field(
        default="map@r", description="the validation measure that chooses and stops; larger is better"
    )
    validate_every: Count = Field(default=1, description="epochs between validations")
    patience: Count | None = Field(
        default=None, description="stop after so many validations without improvement; null: never"
    )
    keep: Literal["best", "last"] = Field(
        default="best", description="weights that remain: best by the measure, or the last"
    )
    checkpoint_every: Annotated[str, BeforeValidator(lambda value: str(Interval.parse(value)))] = Field(
        default="1 epoch",
        description="500 steps, 10 minutes or 2 epochs between checkpoints; the best epoch and the end are saved too",
    )
    checkpoint_keep: Count = Field(
        default=2, description="newest checkpoints that stay; the best epoch's stays besides"
    )
    workers: NonNegativeInt | None = Field(
        default=None, description="threads that decode items not held in memory; null: one a core, at most 8"
    )
    cache_features: str | None = Field(
        default=None,
        description="folder in which the features of a frozen backbone are kept, computed once for each picture; for "
        "runs without augmentation",
    )
    cache_precision: Literal["float32", "float16"] = Field(
        default="float32", description="format of the kept features"
    )
    tensorboard: bool = False
    profile: bool = Field(
        default=False, description="measure where the time goes; slower on a GPU, which is waited for"
    )
    trace_steps: Count | None = Field(
        default=None, description="steps that PyTorch's profiler records as trace.json, for chrome://tracing"
    )


class RunConfig(_Section):
    """Everything that decides how a run trains. Equal configurations on equal data give equal weights.

    Raises:
        ConfigError: One line for each wrong value or unknown key.

    >>> RunConfig(optimizer={"lr": "1e-2"}).optimizer.lr
    0.01
    >>> RunConfig(optimizer={"lr": -1}, trainig={})
    Traceback (most recent call last):
    ...
    kyori.errors.ConfigError: the configuration has 2 errors:
      optimizer.lr: must be greater than 0; got -1
      trainig: unknown key; did you mean 'training'?
    """

    seed: NonNegativeInt = 0
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    batches: BatchConfig = BatchConfig()
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    training: TrainingConfig = TrainingConfig()

    def __init__(self, **sections: Any):
        try:
            super().__init__(**sections)
        except ValidationError as error:
            raise ConfigError(describe_errors(error, type(self))) from None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.batches.kind == "pairs" and LOSSES[self.loss.name].needs_classes:
            raise ValueError(
                f"batches of kind pairs suit losses of pairs; '{self.loss.name}' classifies single items"
            )
        if self.batches.kind == "pairs" and self.loss.memory is not None:
            raise ValueError(
                "loss.memory keeps the class of each item, which batches of kind pairs do not have"
            )
        if self.training.cache_features is not None:
            self._check_cache()
        return self

    def _check_cache(self) -> None:
        reasons = {
            "model.freeze must be backbone": self.model.freeze != "backbone",
            "model.freeze_epochs must be null": self.model.freeze_epochs is not None,
            "model.pooling gem has a weight that learns; use avg": self.model.pooling == "gem",
            "augment must change nothing": self.augment != AugmentConfig(),
            "batches.kind views draws new pictures each time": self.batches.kind == "views",
        }
        wrong = [reason for reason, found in reasons.items() if found]
        if wrong:
            raise ValueError(
                f"training.cache_features keeps what a frozen backbone makes of unchanged items: {'; '.join(wrong)}"
            )

    @classmethod
    def from_options(cls, base: "RunConfig | None" = None, **options: Any) -> "RunConfig":
        """Build a configuration from flat options over ``base`` (default: the defaults).

        A name stands for the one setting of that name (``lr``, ``epochs``, ``backbone``), for an option of the
        selected loss (``margin``), or is dotted (``**{"optimizer.lr": 0.1}``). ``loss``, ``optimizer``, ``schedule``
        and ``batches`` with a string choose by name. Choosing another loss leaves the former loss's options behind, and
        choosing a model to start from (``init``) leaves the network of ``base`` behind.
        Strings are read as YAML scalars, as a command line gives them: ``"1e-3"``, ``"null"``, ``"[1, 2]"``.

        Raises:
            ConfigError: One line for each unknown name or wrong value.

        >>> config = RunConfig.from_options(loss="arcface", scale=32, lr="1e-2")
        >>> config.loss.options, config.optimizer.lr
        ({'scale': 32.0}, 0.01)
        """
        tree = (base or cls()).to_dict()
        if options.get("init", options.get("model.init")) is not None:
            tree["model"] = {**ModelConfig().model_dump(mode="json"), "unit_norm": tree["model"]["unit_norm"]}
        place_options(tree, options, cls, LOSSES)
        return cls(**tree)

    @classmethod
    def switches(cls) -> set[str]:
        """Return the names of the settings, and of all losses' options, that are on or off."""
        return switches(cls, LOSSES)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "RunConfig":
        """Read a YAML file.

        Raises:
            ConfigError: The file is missing, is not YAML, or says something wrong; the message names the file.
        """
        try:
            tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read the configuration {path}: {error.strerror}.") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not a YAML file: {error}") from error
        if tree is not None and not isinstance(tree, dict):
            raise ConfigError(
                f"{path} must hold keys such as 'loss:' and 'training:'; got a {type(tree).__name__}."
            )
        try:
            return cls(**{str(key): value for key, value in (tree or {}).items()})
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings and numbers, ready for YAML or JSON."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """Return the whole configuration as YAML; `load` reads it back to an equal one."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)
