"""The base of the losses with class vectors: cross-entropy over any number of classes, exact or sampled.

With z the logits and t the target's logit (where a margin acts), the cross-entropy of one item is
`softplus(log Σ_{j≠y} exp z_j − t)`. The sum over the other classes comes from `kyori.losses.classes`, which never
holds all logits. What is left for a loss is `features`, `sphere`, `target_logit` and at times `look`.
"""

import inspect
from typing import Any, ClassVar, TypedDict, Unpack

import torch
from torch import Tensor, nn

from .. import distributed
from ..distances import full_precision, normalize, on_sphere
from ..errors import ArgumentError, nearest_name
from ..relations import integers
from .classes import Classes, Look, finite
from .loss import Loss, Reduction, check_matrix, check_reduction, reduce, spread
from .sampling import draw_classes, pick_rows

__all__ = ["ClassLoss", "ClassOptions", "CosineOptions", "SoftmaxFamilyLoss", "SoftmaxOptions"]


class ClassOptions(TypedDict, total=False):
    """Options of every loss with class vectors, see `ClassLoss`."""

    chunk_classes: int | None
    trim: float
    sample: float | None
    seed: int


class SoftmaxOptions(ClassOptions, total=False):
    """Options of every loss that is a cross-entropy, see `SoftmaxFamilyLoss`."""

    label_smoothing: float


class CosineOptions(SoftmaxOptions, total=False):
    """Options of every cross-entropy of cosines, see `CosineLoss`."""

    filter_above: float | None


DEFAULTS: dict[str, Any] = {
    "chunk_classes": None,
    "trim": 0.0,
    "sample": None,
    "seed": 0,
    "label_smoothing": 0.0,
    "filter_above": None,
}


def _full_signature(init: Any) -> inspect.Signature:
    """The signature of a constructor without self, `**shared` replaced by the options it stands for."""
    parameters = []
    for parameter in list(inspect.signature(init).parameters.values())[1:]:
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            parameters.append(parameter)
            continue
        shared = parameter.annotation.__args__[0] if hasattr(parameter.annotation, "__args__") else None
        hints = {} if shared is None else shared.__annotations__
        parameters += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS[name], annotation=hint)
            for name, hint in hints.items()
        ]
    return inspect.Signature(parameters)


class ClassLoss(Loss):
    """Base of the losses with learnable vectors for each class: `loss(embeddings, labels)`.

    A subclass writes `values`, the losses of a batch's items, and its defaults.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        vectors: k ≥ 1 vectors a class.
        bias: Whether logits have a learnable bias.
        chunk_classes: Classes worked on at a time; by default as many as give 4 MiB of logits on the CPU, 64 MiB
            elsewhere, and 512 class vectors at least.
        trim: Share of the batch's items, from 0 to below 1, that is left out: those with the largest loss,
            rounded down. Networks learn what the right labels have in common before they learn wrong labels by
            heart, so the items whose loss stays largest are mislabelled more often than others (Shen & Sanghavi,
            Learning with bad training data via iterative trimmed loss minimization, ICML 2019). Set it near the
            share of wrong labels; a larger one leaves out hard items too.
        sample: Share of the classes, above 0 and below 1, that a training step works on: the batch's own, always,
            and others drawn by (`seed`, step). Gradients are then sparse and hold these classes alone; move them
            with `kyori.training.RowOptimizer`, as `kyori.fit` does. In evaluation mode all classes count. The
            softmax over a sample is a little too easy, which hardly hurts where classes are many (An et al.,
            Partial FC, 2021).
        seed: Seed for `sample`. The step is saved in the state.

    Attributes:
        weight: (c, d) class vectors, or (c, k, d); drawn uniformly by Glorot's rule from torch's generator.
        bias: (c,) or None; zeros at first.
        row_parameters: Those with sparse gradients.
        num_classes: c.
        shard: The classes whose vectors this rank holds, None where each holds all; see `shard_classes`.
    """

    needs_classes: ClassVar[bool] = True
    unit_vectors: ClassVar[bool] = False
    """Whether only the direction of class vectors counts."""
    cost: ClassVar[str] = "n c"

    def __init__(
        self, num_classes: int, embedding_size: int, *, vectors: int = 1, bias: bool = False, **shared: Any
    ):
        super().__init__()
        known = inspect.signature(type(self)).parameters
        for option in shared:
            if option not in known:
                raise ArgumentError(
                    f"{option!r} is no option of {type(self).__name__}{nearest_name(option, known)}"
                )
        options = DEFAULTS | shared
        _check_sizes(num_classes, embedding_size, vectors, options["chunk_classes"])
        _check_shares(options["trim"], options["sample"])
        self.chunk_classes: int | None = options["chunk_classes"]
        self.trim: float = options["trim"]
        self.sample: float | None = options["sample"]
        self.seed: int = options["seed"]
        shape = (num_classes, embedding_size) if vectors == 1 else (num_classes, vectors, embedding_size)
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.zeros(num_classes)) if bias else None
        nn.init.xavier_uniform_(self.weight.data.view(-1, embedding_size))
        if self.sample is not None:
            self.draws: Tensor
            self.register_buffer("draws", torch.zeros((), dtype=torch.long))
        self.num_classes = num_classes
        self.shard: range | None = None
        self._last: tuple[Tensor, Tensor, Tensor, Tensor | None] | None = None
        self._labels_seen = False

    def __init_subclass__(cls) -> None:
        """Give `inspect.signature` the shared options too, which `**shared` hides."""
        super().__init_subclass__()
        if "__init__" in vars(cls):
            cls.__signature__ = _full_signature(cls.__init__)  # type: ignore[attr-defined]

    def shard_classes(self) -> None:
        """Keep the vectors of this rank's share of the classes only, before an optimizer is made.

        `weight` and `bias` are this rank's from then on. `state_dict` puts those of all ranks together (so all must
        call it), and `load_state_dict` takes its share of the whole: a state fits any number of ranks. The loss works
        in `across_ranks` alone.

        Raises:
            ArgumentError: There are fewer classes than ranks.
        """
        world, rank = distributed.world(), distributed.rank()
        if self.shard is not None or world == 1:
            return
        if self.num_classes < world:
            raise ArgumentError(
                f"{world} ranks need at least {world} classes to share; got {self.num_classes}."
            )
        self.shard = range(rank * self.num_classes // world, (rank + 1) * self.num_classes // world)
        for name, parameter in self.class_parameters():
            own = parameter.detach()[self.shard.start : self.shard.stop].clone()
            setattr(self, name, nn.Parameter(own, requires_grad=parameter.requires_grad))

    def class_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Parameters with a row for each class, by name."""
        return [("weight", self.weight)] + ([] if self.bias is None else [("bias", self.bias)])

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.shard is not None:
            for name, parameter in self.class_parameters():
                destination[prefix + name] = distributed.gather(parameter.detach())

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *more: Any) -> None:
        for name, _ in [] if self.shard is None else self.class_parameters():
            whole = state_dict.get(prefix + name)
            if self.shard is not None and isinstance(whole, Tensor) and len(whole) == self.num_classes:
                state_dict[prefix + name] = whole[self.shard.start : self.shard.stop]
        super()._load_from_state_dict(state_dict, prefix, *more)

    def values(self, x: Tensor, classes: Classes) -> Tensor:
        """The losses (n,) of the items x (n, d), and `record` what was seen."""
        raise NotImplementedError(f"{type(self).__name__} must define values")

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        """Logits (n, c) for prediction, of x (n, d) by class vectors (c, d) or (c, k, d) ready for use."""
        raise NotImplementedError(f"{type(self).__name__} must define scores")

    @property
    def row_parameters(self) -> list[nn.Parameter]:
        return [] if self.sample is None else [self.weight] + ([] if self.bias is None else [self.bias])

    def forward(self, embeddings: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
        """The mean loss of a batch.

        Args:
            embeddings: (n, d) floats; computed in float32 at least.
            labels: (n,) integers from 0 to c − 1.
            reduction: "mean", "sum", or "none" for the (n,) losses of the items, 0 for those left out by `trim`.

        Returns:
            Scalar with gradient; 0 with zero gradient, and a `DegenerateWarning` the first time, if n = 0.

        Raises:
            ArgumentError: Shapes or types do not fit, or a label is no class number (looked at in each step
                on the CPU, in the first step elsewhere).
        """
        x, labels = self._check(embeddings, labels)
        check_reduction(reduction)
        if not len(x):
            self._count_starved(1, on_cpu=True)
            nothing = x.sum() * 0.0
            if self.sample is None:
                nothing = nothing + self.weight.sum() * 0.0
            return x.new_zeros(0) + nothing if reduction == "none" else nothing
        with full_precision(x.device):
            return self._reduce(self.values(x, self._choose(labels)), reduction)

    def logits(self, embeddings: Tensor) -> Tensor:
        """Logits (n, c) of embeddings (n, d), without margin: what the classes score at prediction.

        Where each rank holds a shard of the classes, all must ask for the same embeddings.
        """
        check_matrix(embeddings, "embeddings", self.weight.shape[-1])
        with full_precision(embeddings.device):
            x = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
            all_rows = Classes(self.weight, None, x, x, self.unit_vectors).vectors(slice(None))  # type: ignore[arg-type]
            scores = self.scores(x, all_rows)
            return scores if self.shard is None else distributed.gather(scores.T.contiguous()).T

    @property
    def stats(self) -> dict[str, float]:
        """What the last step saw; reading it waits for the device.

        `active`: share of items whose class does not score highest; `accuracy`: share of those whose does, no
        margin; `target_angle`: mean angle to the own class vector in radians, where the loss has one;
        `feature_norm`: mean; `spread`: as in `PairwiseLoss.stats`; `degenerate`: number of empty batches so
        far.
        """
        stats: dict[str, float] = {}
        if self._last is not None:  # worked out here, as most steps need not pay for it
            x, own, best, cosine = self._last
            right = float((own > best).float().mean())
            stats |= {"active": 1.0 - right, "accuracy": right}
            if cosine is not None:
                stats["target_angle"] = float(cosine.clamp(-1, 1).acos().mean())
            stats["feature_norm"] = float(x.norm(dim=1).mean())
            stats["spread"] = float(spread(normalize(x)) if self.spherical else spread(x))
        return stats | {"degenerate": float(self._starved)}

    def extra_repr(self) -> str:
        shown = [f"num_classes={self.num_classes}", f"embedding_size={self.weight.shape[-1]}"]
        shown += [] if self.shard is None else [f"shard={self.shard.start}:{self.shard.stop}"]
        return ", ".join(shown + ([] if self.sample is None else [f"sample={self.sample}"]))

    @torch.no_grad()
    def record(self, x: Tensor, own: Tensor, best: Tensor, cosine: Tensor | None = None) -> None:
        """Keep the statistics of items x (n, d) with logits `own` (n,), best others (n,) and own cosines (n,)."""
        self._last = x.detach(), own.detach(), best, None if cosine is None else cosine.detach()

    def _check(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        classes, size = self.num_classes, self.weight.shape[-1]
        check_matrix(embeddings, "embeddings", size)
        labels = integers(labels, "labels", len(embeddings), "embedding")
        look = labels.device.type == "cpu" or not self._labels_seen
        if labels.numel() and look and not torch.compiler.is_compiling():
            self._labels_seen = True
            low, high = (int(end) for end in labels.aminmax())
            if low < 0 or high >= classes:
                raise ArgumentError(
                    f"labels must be class numbers 0 to {classes - 1} (num_classes={classes}); "
                    f"got {low} to {high}. "
                    "Number the classes without gaps, or pass a larger num_classes."
                )
        x = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        return x, labels.to(x.device)

    def _choose(self, labels: Tensor) -> Classes:
        """All classes, or those drawn for this step."""
        exchange = distributed.current()
        if self.shard is not None and exchange is None:
            raise ArgumentError(
                f"{type(self).__name__} holds a shard of its classes; call across_ranks(loss) in its place."
            )
        if self.sample is None or not self.training:
            return self._classes(self.weight, self.bias, labels, labels, range(self.num_classes))
        rows = draw_classes(labels, self.num_classes, self.sample, self.seed, int(self.draws))
        self.draws += 1
        places = torch.searchsorted(rows, labels)
        here, start = rows, 0
        if self.shard is not None:
            ends = torch.searchsorted(rows, rows.new_tensor([self.shard.start, self.shard.stop])).tolist()
            here, start = rows[ends[0] : ends[1]] - self.shard.start, ends[0]
        picked = [pick_rows(p, here) for p in self.row_parameters]
        if exchange is not None and self.shard is None and torch.is_grad_enabled():
            picked = exchange.same(picked)
        return self._classes(picked[0], picked[1] if len(picked) > 1 else None, places, labels, rows, start)

    def _classes(
        self,
        weight: Tensor,
        bias: Tensor | None,
        places: Tensor,
        labels: Tensor,
        rows: Tensor | range,
        start: int | None = None,
    ) -> Classes:
        """The classes `rows` of a step, of which this rank holds vectors from number `start` on."""
        classes = Classes(weight, bias, places, labels, self.unit_vectors, self.chunk_classes)
        if self.shard is None:
            return classes
        held = [weight] if bias is None else [weight, bias]
        held = [distributed.own(p) for p in held]
        first = self.shard.start if start is None else start
        return classes._replace(
            weight=held[0], bias=held[1] if bias is not None else None, first=first, whole=len(rows)
        )

    def _reduce(self, values: Tensor, reduction: Reduction) -> Tensor:
        dropped = int(self.trim * len(values))
        if not dropped:
            return reduce(values, reduction)
        size = values.detach().masked_fill(~values.isfinite(), -torch.inf)  # what is no number must be seen
        kept = torch.ones_like(values, dtype=torch.bool)
        kept[size.topk(dropped, sorted=False).indices] = False
        return values.masked_fill(~kept, 0.0) if reduction == "none" else reduce(values[kept], reduction)


class SoftmaxFamilyLoss(ClassLoss):
    """Base of the losses that are a cross-entropy over the classes.

    A subclass writes what differs from `softmax(x @ weight.T + bias)`: `features`, `sphere`, `target_logit`, `look`.

    Args:
        num_classes: c ≥ 2.
        embedding_size: d.
        vectors: k ≥ 1 vectors a class.
        bias: Whether logits have a learnable bias.
        label_smoothing: ε from 0 to below 1: the wanted probabilities are 1 − ε + ε/c for the item's class and ε/c for
            the others, c being the classes in the softmax (Szegedy et al., Rethinking the Inception
            architecture, CVPR 2016).
        **shared: See `ClassLoss`.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        *,
        vectors: int = 1,
        bias: bool = False,
        label_smoothing: float = 0.0,
        **shared: Unpack[ClassOptions],
    ):
        super().__init__(num_classes, embedding_size, vectors=vectors, bias=bias, **shared)
        if not 0 <= label_smoothing < 1:
            raise ArgumentError(f"label_smoothing must be from 0 to below 1; got {label_smoothing}.")
        self.label_smoothing = label_smoothing

    @property
    def sphere(self) -> Tensor | float | None:
        """Radius of the sphere on which features meet the class vectors, a number that is not learned; or None."""
        return None

    def features(self, x: Tensor) -> Tensor:
        """What meets the class vectors, (n, d) from (n, d), but for its length where there is a `sphere`."""
        return x

    def placed(self, x: Tensor) -> Tensor:
        """The features (n, d) of x, on their `sphere`."""
        return self.features(x) if self.sphere is None else on_sphere(self.features(x), self.sphere)

    def target_logit(self, own: Tensor, x: Tensor, classes: Classes) -> Tensor:
        """The target's logit (n,) with its margin, from the one without."""
        return own

    def scores(self, x: Tensor, weight: Tensor) -> Tensor:
        return nn.functional.linear(self.placed(x), weight, self.bias)

    def look(self, x: Tensor, classes: Classes) -> Look:
        """The logits of x (n, d)."""
        fold = sums_and_counts if self.label_smoothing else None
        return classes.look(self.features(x), radius=self.sphere, fold=fold)

    def cosine(self, own: Tensor, x: Tensor) -> Tensor | None:
        """Cosine of the angle to the own class vector (n,), for the statistics; None where there is no angle."""
        return None

    def values(self, x: Tensor, classes: Classes) -> Tensor:
        look = self.look(x, classes)
        self.record(x, look.own, look.best, self.cosine(look.own.detach(), x.detach()))
        return self.cross_entropy(look, self.target_logit(look.own, x, classes))

    def cross_entropy(self, look: Look, target: Tensor) -> Tensor:
        """The items' losses (n,) where the target's logit is `target` (n,)."""
        value = nn.functional.softplus(look.others - target)
        if look.total is None:
            return value
        sums, counts = look.total
        return value + self.label_smoothing * (target - (target + sums) / (1.0 + counts))


def sums_and_counts(z: Tensor) -> Tensor:
    """(2, n): sum of the other logits and their number, which smoothing needs."""
    return torch.stack([finite(z).sum(1), (z > -torch.inf).sum(1).to(z.dtype)])


def _check_sizes(num_classes: int, embedding_size: int, vectors: int, chunk_classes: int | None) -> None:
    if num_classes < 2:
        raise ArgumentError(
            f"num_classes must be at least 2, or there is nothing to separate; got {num_classes}."
        )
    if embedding_size < 1:
        raise ArgumentError(f"embedding_size must be at least 1; got {embedding_size}.")
    if vectors < 1:
        raise ArgumentError(f"vectors of a class must be at least 1; got {vectors}.")
    if chunk_classes is not None and chunk_classes < 1:
        raise ArgumentError(f"chunk_classes must be at least 1 or None; got {chunk_classes}.")


def _check_shares(trim: float, sample: float | None) -> None:
    if not 0 <= trim < 1:
        raise ArgumentError(f"trim must be from 0 to below 1, a share of the items; got {trim}.")
    if sample is not None and not 0 < sample < 1:
        raise ArgumentError(
            f"sample must be above 0 and below 1, a share of the classes, or None for all; got {sample}."
        )
