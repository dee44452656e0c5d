"""The training loop, from top to bottom.

One step is: a window of ``accumulate`` batches, each preprocessed and augmented on the device, embedded, given to the
loss; then one move of the optimizer. Everything random in a batch is a function of (seed, number of the batch), and
everything else that a step depends on stands in the checkpoint: that is why a resumed run ends in the same bits.
"""

import inspect
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data import Augment, Batch, Loader, Source
from ..data.streams import Stream
from ..errors import ConfigError, DataError, RankError, TrainingWarning, nearest_name
from ..losses import cached_backward
from ..models import Embedder
from ..models.weights import state_tensors
from ..relations import Pairs
from .averaging import WeightAverage
from .callbacks import Callback, Progress
from .checkpoint import Checkpoint, Checkpoints, Interval, check_same, load_optimizer, optimizer_tensors
from .config import RunConfig
from .diagnosis import collapse, interrupted, not_finite, not_saved, unreadable
from .environment import InterruptFlag, choose_device, own_randomness, seed_everything
from .optimization import create_optimizer, create_row_optimizer, rate_factor, set_rates
from .precision import Network, Updater, choose_precision
from .prefetch import ahead
from .profiling import Profile
from .ranks import Ranks
from .recording import recorders
from .setup import create_augment, create_batches, train_classes
from .streaming import flowing

__all__ = ["History", "train"]

STATS_EVERY = 10  # steps between looks at loss.stats; each look waits for a GPU
FINITE_EVERY = 50  # steps between looks at the loss on a GPU; on the CPU each step is looked at
HARMLESS = {
    f"training.{name}"
    for name in (
        "workers", "tensorboard", "checkpoint_every", "checkpoint_keep", "device", "profile", "trace_steps",
    )
}  # fmt: skip

Validate = Callable[[Embedder], Mapping[str, float]]


@dataclass(frozen=True)
class History:
    """What a training was like.

    Attributes:
        epochs: The epoch records of ``metrics.jsonl``: epoch and step from 1, mean loss, active share, seconds,
            validation measures.
        steps: Optimizer steps in all.
        seconds: Time spent, validation included, over all resumes.
        best_epoch: The epoch whose weights were kept, None if the last ones were.
        best_value: Its validation measure.
        stopped_early: Whether patience ran out.
        profile: Where the time of this process went, with ``training.profile``; see `Profile.to_dict`.
    """

    epochs: list[dict[str, Any]]
    steps: int
    seconds: float
    best_epoch: int | None
    best_value: float | None
    stopped_early: bool
    profile: Mapping[str, Any] | None = None


def train(
    embedder: Embedder,
    loss: nn.Module,
    source: Source | Stream,
    config: RunConfig,
    *,
    validate: Validate | None = None,
    folder: Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> History:
    """Train ``embedder`` (and the weights of ``loss``) in place and leave it in evaluation mode.

    The same arguments give the same bits on the same machine, and so does a run that was interrupted at any step and
    resumed. The caller's random state is left alone.

    Args:
        embedder: What is trained.
        loss: ``loss(features (b, d), labels (b,) | Pairs, ids=...)`` → scalar; see `kyori.training.build`.
        source: The training items, labelled.
        config: Everything else.
        validate: Called after every ``training.validate_every`` epochs; returns measures by name, of which
            ``training.measure`` (larger is better) chooses the weights that are kept.
        folder: Where ``metrics.jsonl`` and ``checkpoints/`` go; None keeps nothing.
        resume: Go on from the newest checkpoint in ``folder``; without one, start at the beginning.
        callbacks: Told of the start, each step, each epoch and the end.

    Raises:
        Interrupted: Ctrl-C; the step was finished and saved, and the message says how to go on.
        TrainingError: The loss became infinite or NaN.
        ConfigError: ``resume`` with another configuration or other data, or a setting that does not fit here.
        DataError: ``source`` has no labels or only one class.
        ItemError: An item can no longer be read; what was trained so far is saved, and the message says how to go on.
    """
    device = choose_device(config.training.device)
    dtype = choose_precision(config.training.precision, device)
    with own_randomness(device), InterruptFlag() as interrupt:
        run = _Run(embedder, loss, source, config, device, dtype, validate, folder, callbacks, interrupt)
        run.begin(resume)
        try:
            for callback in run.callbacks:
                callback.on_start(run.progress)
            while run.progress.epoch < config.training.epochs and not run.state.stopped:
                run.epoch()
        finally:
            for callback in run.callbacks:
                callback.on_end(run.progress)
            run.end()
        return run.finish()


@dataclass
class _State:
    """What a checkpoint holds beside weights and optimizer."""

    loss_count: int = 0
    active_sum: float = 0.0
    active_count: int = 0
    epoch_seconds: float = 0.0
    best_epoch: int | None = None
    best_step: int | None = None
    best_value: float | None = None
    waited: int = 0  # validations since the best
    stopped: bool = False
    records: list[dict[str, Any]] = field(default_factory=list)


class _Run:
    """One training in progress: its parts, its position, and the three things it does: begin, epoch, finish."""

    def __init__(
        self,
        embedder: Embedder,
        loss: nn.Module,
        source: Source | Stream,
        config: RunConfig,
        device: torch.device,
        dtype: torch.dtype | None,
        validate: Validate | None,
        folder: Path | None,
        callbacks: Sequence[Callback],
        interrupt: InterruptFlag,
    ):
        self.config, self.settings = config, config.training
        self.embedder, self.loss = embedder.to(device), loss.to(device)
        self.source, self.device = source, device
        self.validate, self.interrupt, self.folder = validate, interrupt, folder
        self.ranks = Ranks(self.embedder, self.loss, device, shard_classes=config.loss.shard_classes)
        if self.ranks.sharded and (self.settings.clip_norm is not None or dtype is torch.float16):
            raise ConfigError(
                "loss.shard_classes goes with neither training.clip_norm nor precision fp16, which need the gradient "
                "of all classes at once. Leave them out, or use bf16."
            )
        self.network = Network(
            embedder, device, dtype, channels_last=self.settings.channels_last, compiled=self.settings.compile
        )
        views = config.batches.kind == "views"
        accepted = inspect.signature(loss.forward).parameters
        heads, where = (
            getattr(loss, "needs_classes", False),
            {"rank": self.ranks.rank, "world": self.ranks.world},
        )
        prepare = embedder.preprocess.prepare
        self.codes: Tensor | None = None  # the items of a stream bring theirs
        self.batches: Any
        self.loader: Any
        if isinstance(source, Stream):
            self.batches, self.loader = flowing(
                config, source, heads=heads, device=device, prepare=prepare, **where
            )
        else:
            _, codes = train_classes(source, views=views)
            self.codes = torch.as_tensor(codes, device=device)
            references = "references" in accepted
            self.batches = create_batches(config, source, codes, heads=heads, references=references, **where)
            self.loader = Loader(source, device, workers=self.settings.workers, prepare=prepare)
        self.position: dict[str, Any] | None = None  # where a stream stands
        self.augment: Augment | None = create_augment(config.augment, views=views, kind=source.kind)
        self.takes_ids = "ids" in accepted  # heads need none
        self.generator = torch.Generator(device)
        self.optimizer = create_optimizer(config.optimizer, embedder, loss)
        self.rows = create_row_optimizer(config.optimizer, loss)
        self.optimizers = [self.optimizer] if self.rows is None else [self.optimizer, self.rows]
        self.updater = Updater(
            self.optimizers, device, half=dtype is torch.float16, clip_norm=self.settings.clip_norm
        )
        self.average = None if self.settings.ema is None else WeightAverage(embedder, self.settings.ema)
        steps = math.ceil(len(self.batches) / self.settings.accumulate)
        self.progress = Progress(epochs=self.settings.epochs, steps_per_epoch=steps)
        self.state = _State()
        self.best: dict[str, Tensor] = {}
        self.loss_sum = torch.zeros((), dtype=_sum_type(device), device=device)
        self.checkpoints = (
            Checkpoints(folder / "checkpoints", self.settings.checkpoint_keep) if folder else None
        )
        self.interval = Interval.parse(self.settings.checkpoint_every)
        self.callbacks = [*(recorders(folder, self.settings) if self.ranks.first else []), *callbacks]
        self.profile = Profile(device, enabled=self.settings.profile)
        self.clock = self.saved_at = time.monotonic()
        self.warned = False
        self.sizes: list[int] = []  # items of each batch of the step, of all ranks

    # -- begin and finish ---------------------------------------------------------------------------------------

    def begin(self, resume: bool) -> None:
        """Go on from the newest checkpoint, or make sure that none of a former run is left."""
        if resume and self.checkpoints is None:
            raise ConfigError("resume needs the folder of the run to go on with; got folder=None.")
        if self.checkpoints is not None and self.ranks.first:
            self.checkpoints.tidy()
        self.ranks.wait()
        checkpoint = self.checkpoints.load() if resume and self.checkpoints else None
        self.ranks.same(-1 if checkpoint is None else checkpoint.facts["position"][2], "checkpoints")
        if checkpoint is not None:
            self._restore(checkpoint)
        elif self.checkpoints is not None and self.ranks.first:
            self.checkpoints.clear()

    def finish(self) -> History:
        """Put the best weights in place."""
        if self.best:
            self._load_weights(self.best)
        elif self.average is not None:
            self.average.keep()
        self.network.restore()
        self.embedder.eval()
        self.loss.eval()
        return History(
            epochs=self.state.records,
            steps=self.progress.step,
            seconds=sum(record["seconds"] for record in self.state.records),
            best_epoch=self.state.best_epoch if self.best else None,
            best_value=self.state.best_value,
            stopped_early=self.state.stopped,
            profile=self.profile.to_dict() if self.profile.enabled else None,
        )

    def end(self) -> None:
        """Write where the time went, however the training ended."""
        if self.profile.enabled and self.folder is not None and self.ranks.first:
            self.profile.save(self.folder / "profile.json")

    # -- an epoch and a step ------------------------------------------------------------------------------------

    def epoch(self) -> None:
        """Run the rest of the present epoch, validate, record, save."""
        model = self.config.model
        if model.freeze_epochs is not None:
            self.embedder.freeze(model.freeze if self.progress.epoch < model.freeze_epochs else "none")
        self.embedder.train()
        self.loss.train()
        self.clock = time.monotonic()
        for window in self._windows():
            self._step(window)
            for callback in self.callbacks:
                callback.on_step(self.progress)
            stop, due = self.ranks.total(self.interrupt.raised, self._is_due())
            if stop:
                raise interrupted(self.progress, *self._save())
            if due:
                self._save()
        self._check_finite()
        self._end_epoch()
        over = self.progress.epoch == self.settings.epochs or self.state.stopped
        is_best = self.state.best_epoch == self.progress.epoch
        stop, due = self.ranks.total(self.interrupt.raised, self._is_due())
        if stop:
            raise interrupted(self.progress, *self._save())
        if due or is_best or over:
            self._save()

    def _windows(self) -> Iterator[list[tuple[Batch, Tensor, Tensor]]]:
        """Yield the batches of each step of this epoch, from the present step on."""
        size = self.settings.accumulate
        start = self.progress.epoch_step * size
        loaded = self.loader.batches(self.batches.epoch(self.progress.epoch, start=start))
        batches = ahead(loaded, self.device)
        while window := self._fetch(batches, size):
            yield window

    def _fetch(
        self, batches: Iterator[tuple[Batch, Tensor, Tensor]], size: int
    ) -> list[tuple[Batch, Tensor, Tensor]]:
        window, failure = [], None
        try:
            with self.profile("data"):
                window = list(islice(batches, size))
        except DataError as error:
            failure = error
        sizes = [len(batch.indices) for batch, _, _ in window]
        failed, *self.sizes = self.ranks.total(failure is not None, *sizes, *[0] * (size - len(sizes)))
        if failure is not None:  # between two steps: all that was learnt can be saved
            raise unreadable(failure, self.progress, *self._save()) from failure
        if failed:
            self._save()
            raise RankError("another rank could not read an item.")
        return window

    def _step(self, window: list[tuple[Batch, Tensor, Tensor]]) -> None:
        progress = self.progress
        factor = rate_factor(
            self.config.schedule, progress.step, progress.steps_per_epoch, self.settings.epochs
        )
        for optimizer in self.optimizers:
            set_rates(optimizer, factor)
        total = torch.zeros((), device=self.device)
        items = sum(self.sizes)  # of all ranks
        for position, (batch, raw, labels) in enumerate(window):
            number = progress.step * self.settings.accumulate + position
            total += self._differentiate(batch, raw, labels, number, self.sizes[position] / items)
        self.position = getattr(window[-1][0], "position", None)
        progress.items += items
        with self.profile("step"):
            self.ranks.average()
            self.updater.step()
            if self.average is not None:
                self.average.update(progress.step + 1)
        progress.loss, progress.lr = total, self.optimizer.param_groups[0]["lr"]
        progress.step += 1
        progress.epoch_step += 1
        self.profile.steps += 1
        self.loss_sum += total
        self.state.loss_count += 1
        self._look()

    def _differentiate(self, batch: Batch, raw: Tensor, labels: Tensor, number: int, share: float) -> Tensor:
        """Add a share of the gradient of one batch, dropout and augmentation drawn for its ``number``.

        Returns:
            That share of the loss, ().
        """
        mixed = seed_everything(self.device, self.ranks.seed(self.config.seed), number)
        with self.profile("preprocess"):
            x = self.embedder.preprocess(raw, self.device)
            if self.augment is not None:
                x = self.augment(x, self.generator.manual_seed(mixed), self.embedder.scale)
        known: Tensor | Pairs
        more: dict[str, Any] = {}
        if batch.pairs is not None:
            first, second, same = (torch.as_tensor(part, device=self.device) for part in batch.pairs)
            known = Pairs(first, second, same)
        else:
            items = torch.as_tensor(batch.indices, device=self.device)
            known = labels if self.codes is None else self.codes.index_select(0, items)
            if self.takes_ids:  # two views of an item are a pair of their own, not a copy
                more["ids"] = (
                    items if batch.views is None else 2 * items + torch.as_tensor(batch.views).to(items)
                )
            if batch.anchors is not None:
                more["anchors"] = batch.anchors
        rows = self.settings.cache_rows
        chunks = [x] if rows is None else x.split(rows)
        value = (self._backward if len(chunks) == 1 else self._cached_backward)(chunks, share, known, more)
        if self.device.type == "cpu" and not math.isfinite(value.item()):
            raise not_finite(value.item(), self.progress, self.config, half=False)
        return _part(value, share)

    def _backward(
        self, chunks: Sequence[Tensor], share: float, known: Tensor | Pairs, more: dict[str, Any]
    ) -> Tensor:
        value = self._value(self._features(chunks[0]), known, **more)
        with self.profile("backward"):
            self.updater.scaled(_part(value, share)).backward()
        return value.detach()

    def _cached_backward(
        self, chunks: Sequence[Tensor], share: float, known: Tensor | Pairs, more: dict[str, Any]
    ) -> Tensor:
        def scale(value: Tensor) -> Tensor:
            return self.updater.scaled(_part(value, share))

        with self.profile("backward"):
            return cached_backward(self._value, self._features, chunks, known, scale=scale, **more)

    def _features(self, x: Tensor) -> Tensor:
        with self.profile("forward"):
            return self.network(x)

    def _value(
        self, features: Tensor, known: Tensor | Pairs, *, anchors: int | None = None, **more: Any
    ) -> Tensor:
        with self.profile("loss"):
            value: Tensor = (
                self.ranks.loss(features, known, **more)
                if anchors is None
                else self._aligned_value(features, known, anchors, **more)
            )
        return value

    def _aligned_value(
        self, features: Tensor, known: Tensor | Pairs, anchors: int, ids: Tensor | None = None
    ) -> Tensor:
        """The loss of the anchors, which are first, against all others."""
        assert isinstance(known, Tensor)
        value: Tensor = self.ranks.loss(
            features[:anchors],
            known[:anchors],
            references=features[anchors:],
            reference_labels=known[anchors:],
            ids=None if ids is None else ids[:anchors],
            reference_ids=None if ids is None else ids[anchors:],
        )
        return value

    def _look(self) -> None:
        """Now and then, look at what waits on the device: statistics, and whether the loss is still a number."""
        step, last = self.progress.step, self.progress.epoch_step == self.progress.steps_per_epoch
        if self.device.type != "cpu" and step % FINITE_EVERY == 0:
            self._check_finite()
        if step % STATS_EVERY and not last:
            return
        stats = getattr(self.loss, "stats", {})
        active = stats.get("active")
        if active is not None and math.isfinite(active):
            self.progress.active = active
            self.state.active_sum += active
            self.state.active_count += 1
        if not self.warned and (message := collapse(stats, step)):
            self.warned = True
            warnings.warn(message, TrainingWarning, stacklevel=2)

    # -- the end of an epoch ------------------------------------------------------------------------------------

    def _end_epoch(self) -> None:
        state, progress = self.state, self.progress
        state.epoch_seconds += time.monotonic() - self.clock
        self.clock = time.monotonic()
        with self.profile("validation"), self._averaged():
            measures = self._validation()
            if measures is not None:
                self._choose(measures[self.settings.measure])
        state.epoch_seconds += time.monotonic() - self.clock
        record: dict[str, Any] = {
            "kind": "epoch",
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "loss": float(self.loss_sum) / max(1, state.loss_count),
            "active": state.active_sum / state.active_count if state.active_count else None,
            "seconds": state.epoch_seconds,
        }
        if measures is not None:
            record["validation"] = {name: value for name, value in measures.items() if math.isfinite(value)}
        state.records.append(record)
        for callback in self.callbacks:
            callback.on_epoch(record, progress)
        progress.epoch += 1
        progress.epoch_step = 0
        state.loss_count = state.active_count = 0
        state.active_sum = state.epoch_seconds = 0.0
        self.loss_sum.zero_()
        self.clock = time.monotonic()

    def _averaged(self) -> AbstractContextManager[None]:
        """The context in which the network has the weights that are measured and kept."""
        return nullcontext() if self.average is None else self.average.applied()

    def _validation(self) -> dict[str, float] | None:
        epoch = self.progress.epoch + 1
        if self.validate is None or (epoch % self.settings.validate_every and epoch < self.settings.epochs):
            return None
        seed_everything(self.device, self.config.seed, -1 - epoch)
        self.embedder.eval()
        with torch.no_grad():
            measures = {name: float(value) for name, value in self.validate(self.embedder).items()}
        if self.settings.measure not in measures:
            raise ConfigError(
                f"training.measure '{self.settings.measure}' is not among the validation measures"
                f"{nearest_name(self.settings.measure, measures)}"
            )
        return measures

    def _choose(self, value: float) -> None:
        """Remember the weights if they are the best so far; stop if there were none for too long."""
        state = self.state
        if state.best_value is None and not math.isfinite(value):
            if not state.records:
                warnings.warn(
                    f"{self.settings.measure} has no value on the validation items (it may need 2 items of a class): "
                    "no epoch can be chosen by it, and the last weights are kept. Give the validation part more items "
                    "(data.fractions), or set training.keep to last.",
                    TrainingWarning,
                    stacklevel=2,
                )
            return
        if state.best_value is None or value > state.best_value:
            state.best_value, state.best_epoch, state.waited = value, self.progress.epoch + 1, 0
            state.best_step = self.progress.step
            if self.settings.keep == "best":
                self.best = {name: tensor.detach().clone() for name, tensor in self._weights().items()}
        else:
            state.waited += 1
        state.stopped = self.settings.patience is not None and state.waited >= self.settings.patience

    # -- saving and going on ------------------------------------------------------------------------------------

    def _weights(self) -> dict[str, Tensor]:
        return state_tensors(self.embedder.state_dict(), "model.") | state_tensors(
            self.loss.state_dict(), "loss."
        )

    def _load_weights(self, tensors: Mapping[str, Tensor]) -> None:
        for module, prefix in ((self.embedder, "model."), (self.loss, "loss.")):
            part = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            module.load_state_dict(part)

    def _is_due(self) -> bool:
        """Whether it is time for a checkpoint, after a step or at the end of an epoch."""
        amount, unit = self.interval
        if unit == "minutes":
            return time.monotonic() - self.saved_at >= 60 * amount
        if unit == "steps":
            return self.progress.step % amount == 0
        return self.progress.epoch_step == 0 and self.progress.epoch % amount == 0

    def _save(self) -> tuple[Path | None, OSError | None]:
        """Write a checkpoint of this moment, if there is a folder for it.

        A full disk does not end a training: the checkpoints before it stay, and the next one is tried when it is due.

        Returns:
            The newest checkpoint, and why it is not of this moment if it could not be written.
        """
        if self.checkpoints is None:
            return None, None
        self._check_finite()
        now = self.saved_at = time.monotonic()
        self.state.epoch_seconds, self.clock = self.state.epoch_seconds + now - self.clock, now
        tensors, facts = self._state_tensors()
        path, failure = None, None
        try:
            with self.profile("checkpoint"):
                if self.ranks.first:
                    path = self.checkpoints.save(
                        self.progress.step, tensors, facts, best=self.state.best_step
                    )
        except OSError as error:
            path, failure = next(iter(self.checkpoints.paths()), None), error
            warnings.warn(not_saved(error, self.progress, path), TrainingWarning, stacklevel=2)
        # Any rank may be the one that tells how to go on. One that ended earlier would have torchrun stop the writer.
        written = self.ranks.collect([path and str(path), failure and (failure.strerror or str(failure))])
        newest, reason = written[0]
        return newest and Path(newest), reason and OSError(0, reason)

    def _state_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = self._weights()
        for name, optimizer in self._named_optimizers():
            state = self.ranks.put_together(optimizer, optimizer_tensors(optimizer, ""))
            tensors |= {f"{name}.{key}": value for key, value in state.items()}
        if self.average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.average.items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        tensors["loss_sum"] = self.loss_sum
        facts = {
            "config": self.config.to_dict(),
            "source": self.source.fingerprint(),
            "position": [self.progress.epoch, self.progress.epoch_step, self.progress.step],
            "state": asdict(self.state),
            "scaler": self.updater.scaler.state_dict() if self.updater.scaler else None,
            "stream": self.ranks.collect(self.position) if isinstance(self.source, Stream) else None,
        }
        return tensors, facts

    def _named_optimizers(self) -> Iterator[tuple[str, torch.optim.Optimizer]]:
        yield "optimizer", self.optimizer
        if self.rows is not None:
            yield "rows", self.rows

    def _restore(self, checkpoint: Checkpoint) -> None:
        facts, path = checkpoint.facts, checkpoint.path
        free = {"training.epochs"} if self.config.schedule.name in ("constant", "step") else set()
        check_same(facts["config"], self.config.to_dict(), HARMLESS | free, path)
        if facts["source"] != self.source.fingerprint():
            raise ConfigError(
                f"cannot resume from {path}: the training items or their labels are not those it was trained on. "
                "Resume with the same data and split, or start anew in another folder."
            )
        try:
            self._load_weights(checkpoint.tensors)
        except RuntimeError as error:
            raise ConfigError(
                f"cannot resume from {path}: its weights do not fit this model: {error}"
            ) from error
        for name, optimizer in self._named_optimizers():
            load_optimizer(optimizer, self.ranks.take_apart(optimizer, checkpoint.part(f"{name}.")))
        if self.average is not None:
            self.average.load(checkpoint.part("average."))
        self.best = {name: t.to(self.device) for name, t in checkpoint.part("best.").items()}
        self.loss_sum.copy_(checkpoint.tensors["loss_sum"])
        if self.updater.scaler is not None:
            self.updater.scaler.load_state_dict(facts["scaler"])
        self.progress.epoch, self.progress.epoch_step, self.progress.step = facts["position"]
        self.state = _State(**facts["state"])
        if isinstance(self.source, Stream) and self.progress.epoch_step:
            positions = facts["stream"]
            self.position = positions[self.ranks.rank % len(positions)]
            self.batches.resume(self.position)

    def _check_finite(self) -> None:
        value = float(self.loss_sum)
        if not math.isfinite(value):
            raise not_finite(value, self.progress, self.config, half=self.updater.scaler is not None)


def _part(value: Tensor, share: float) -> Tensor:
    """That share of a loss, which is all of it where a step is one batch."""
    return value if share == 1 else value * share


def _sum_type(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64
