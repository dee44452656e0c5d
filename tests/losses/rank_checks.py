"""What a rank checks: run as `python -m losses.rank_checks`, once per rank; it prints what differs as JSON.

Each rank computes both sides: its share of the batch with the others, and the whole batch by itself.
"""

import json
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from kyori import distributed, losses
from kyori.errors import ArgumentError
from kyori.losses import across_ranks

from .cases import CASES, CLASSIFIERS, PAIRWISE, batch, make

N = 23
SHARES = {2: [0, 5, N], 3: [0, 0, 9, N], 4: [0, 3, 3, 14, N]}  # unequal; with four, one rank has nothing
RELATIVE, ABSOLUTE = 1e-6, 1e-11


def share(x: Any) -> Any:
    edges = SHARES[distributed.world()]
    return x[edges[distributed.rank()] : edges[distributed.rank() + 1]]


def some(cases: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """With two ranks all cases; with more, which wait for each other longer, the first of each loss."""
    return (
        cases if distributed.world() == 2 else list({name: (name, o) for name, o in reversed(cases)}.values())
    )


def offset() -> int:
    return SHARES[distributed.world()][distributed.rank()]


def dense(gradient: Tensor | None) -> Tensor | None:
    return gradient.to_dense() if gradient is not None and gradient.is_sparse else gradient


def differences(found: Any, wanted: Any, what: str) -> Iterator[str]:
    if (found is None) != (wanted is None):
        yield f"{what}: {found} for {wanted}"
    elif found is not None:
        if found.shape != wanted.shape:
            yield f"{what}: shape {tuple(found.shape)} for {tuple(wanted.shape)}"
        elif not torch.allclose(found, wanted, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True):
            yield f"{what}: differs by {(found - wanted).abs().max().item():.2g}"


def compare(
    create: Callable[[], nn.Module],
    x: Tensor,
    labels: Any,
    own_labels: Any,
    *,
    steps: int = 1,
    shard: bool = False,
    whole: dict[str, Any] | None = None,
    mine: dict[str, Any] | None = None,
) -> Iterator[str]:
    """One rank with everything against this rank with its share."""
    one, many = create(), create()
    COUNTED.append(1)
    across = across_ranks(many, shard_classes=shard)
    for _ in range(steps):
        one.zero_grad()
        many.zero_grad()
        all_x = x.detach().clone().requires_grad_()
        own_x = share(x.detach()).clone().requires_grad_()
        value = one(all_x, labels, **(whole or {}))
        (value if value.ndim == 0 else value.sum()).backward()
        got = across(own_x, own_labels, **(mine or {}))
        (got if got.ndim == 0 else got.sum() * distributed.world()).backward()
        yield from differences(got, value if value.ndim == 0 else share(value), "value")
        yield from differences(
            own_x.grad / distributed.world(), share(all_x.grad), "gradient of the embeddings"
        )
        for name, p in one.named_parameters():
            q = many.get_parameter(name)
            wanted = dense(p.grad)
            if shard and name.endswith(("weight", "bias")) and len(q) != len(p):
                module = many.get_submodule(name.rpartition(".")[0])
                wanted = wanted[module.shard.start : module.shard.stop]
            yield from differences(dense(q.grad), wanted, f"gradient of {name}")
    yield from differences_of_state(one, many)
    for key, number in one.stats.items():
        yield from differences(torch.tensor(across.stats[key]), torch.tensor(number), f"stats[{key!r}]")


def differences_of_state(one: nn.Module, many: nn.Module) -> Iterator[str]:
    """Buffers too: queues, running means, draws."""
    found = many.state_dict()
    for name, tensor in one.state_dict().items():
        yield from differences(found[name].double(), tensor.double(), f"state {name}")


COUNTED: list[int] = []
CHECKS: dict[str, Callable[[], Iterator[str]]] = {}


def check(function: Callable[[], Iterator[str]]) -> Callable[[], Iterator[str]]:
    CHECKS[function.__name__] = function
    return function


@check
def every_loss() -> Iterator[str]:
    """All of LOSSES, in all its variants."""
    missing = set(losses.LOSSES) - {name for name, _ in CASES}
    if missing:
        yield f"no case for {missing}"
    for name, options in some(CASES):
        x, labels = batch(N)
        for told in compare(lambda: make(name, options), x, labels, share(labels)):  # noqa: B023
            yield f"{name} {options}: {told}"


@check
def blocks() -> Iterator[str]:
    for name, options in some(PAIRWISE)[::3]:
        x, labels = batch(N)
        more = options | {"block_rows": 4}
        for told in compare(lambda: make(name, more), x, labels, share(labels)):  # noqa: B023
            yield f"{name} {more}: {told}"


@check
def sampled_and_sharded_classes() -> Iterator[str]:
    x, labels = batch(N)
    few = labels.clamp(max=2)  # so that a sample leaves classes out
    for i, (name, options) in enumerate(some(CLASSIFIERS)):
        more: dict[str, Any]
        for shard, more in (
            (True, {}),
            (True, {"sample": 0.8}),
            (False, {"sample": 0.8, "chunk_classes": 2}),
        ):
            if more and i % 2:
                continue
            known = few if more else labels
            settings = options | more
            for told in compare(lambda: make(name, settings), x, known, share(known), shard=shard, steps=2):  # noqa: B023
                yield f"{name} {settings} shard={shard}: {told}"


@check
def kinds_of_supervision() -> Iterator[str]:
    x, labels = batch(N)
    generator = torch.Generator().manual_seed(5)
    sets = torch.rand(N, 4, generator=generator) < 0.4
    ids = torch.arange(N) // 2 + 2**60
    relevance = torch.rand(N, N, generator=generator, dtype=torch.float64).round(decimals=1) - 0.3
    start = offset()
    rows = torch.randint(N, (3, 30), generator=generator)
    scores = torch.rand(30, generator=generator, dtype=torch.float64) - 0.4
    rank_of = torch.bucketize(rows, torch.tensor(SHARES[distributed.world()][1:]), right=True)
    own = (rank_of == rank_of[0]).all(0)  # pairs are told by the rank that has both items
    rows, scores, owner = rows[:, own], scores[own], rank_of[0, own]
    mine = owner == distributed.rank()
    order = owner.argsort(stable=True)
    ours = rows[:, mine] - start
    for name in ("contrastive", "triplet", "ntxent", "multisimilarity", "mnr", "lifted", "cosent", "siglip"):
        loss = lambda: make(name, {})  # noqa: E731, B023
        todo: list[tuple[str, Any, Any, dict[str, Any], dict[str, Any]]] = [
            ("label sets", sets, share(sets), {}, {}),
            ("ids", labels, share(labels), {"ids": ids}, {"ids": share(ids)}),
            ("relevance", losses.Relevance(relevance), losses.Relevance(share(relevance)), {}, {}),
            ("pairs", losses.Pairs(rows[0, order], rows[1, order], (scores > 0)[order]),
             losses.Pairs(ours[0], ours[1], (scores > 0)[mine]), {}, {}),
            ("scored pairs", losses.ScoredPairs(rows[0, order], rows[1, order], scores[order]),
             losses.ScoredPairs(ours[0], ours[1], scores[mine]), {}, {}),
        ]  # fmt: skip
        if name not in ("cosent", "siglip"):
            todo.append(("triplets", losses.Triplets(*rows[:, order]), losses.Triplets(*ours), {}, {}))
        y = torch.randn(N, x.shape[1], generator=generator, dtype=x.dtype)
        todo.append(
            ("references", labels, share(labels), {"references": y, "reference_labels": labels.flip(0)},
             {"references": share(y), "reference_labels": share(labels.flip(0))})
        )  # fmt: skip
        todo.append(("aligned references", None, None, {"references": y}, {"references": share(y)}))
        for what, known, told_here, whole, part in todo:
            try:
                found = list(compare(loss, x, known, told_here, whole=whole, mine=part))
            except ArgumentError as error:  # a loss that does not take this kind says so on all ranks alike
                try:
                    loss()(x, known, **whole)
                except ArgumentError:
                    continue
                found = [str(error)]
            yield from (f"{name}, {what}: {told}" for told in found)


@check
def reductions() -> Iterator[str]:
    x, labels = batch(N)
    for name in ("contrastive", "triplet", "ntxent", "arcface", "softmax"):
        for reduction in ("sum", "none"):
            more = {"reduction": reduction}
            found = compare(lambda: make(name, {}), x, labels, share(labels), whole=more, mine=more)  # noqa: B023
            yield from (f"{name}, {reduction}: {told}" for told in found)


@check
def losses_of_losses() -> Iterator[str]:
    x, labels = batch(N)

    def total() -> nn.Module:
        head = make("arcface", {"scale": 8.0})
        return losses.SumLoss(
            [make("triplet", {"mining": "random"}), head, losses.NormRegularizer(), losses.SpreadOutRegularizer(),
             losses.CenterInvariantRegularizer(head)], [1.0, 0.3, 0.2, 0.1, 0.2],
        )  # fmt: skip

    def sizes() -> nn.Module:
        return losses.MatryoshkaLoss(make("margin", {"mining": "distance_weighted"}), [6, 3])

    def memory() -> nn.Module:
        return losses.CrossBatchMemory(make("contrastive", {}), 6, 40, warmup=1).double()

    for name, create in (("sum", total), ("matryoshka", sizes), ("memory", memory)):
        for told in compare(create, x, labels, share(labels), steps=4):
            yield f"{name}: {told}"
    queue = torch.randn(9, 6, dtype=x.dtype)  # by the global generator, which is seeded alike
    more = {"references": queue, "reference_labels": torch.arange(9) % 3}
    one, many = make("triplet", {}), make("triplet", {})
    found = across_ranks(many, shared_references=True)(share(x), share(labels), **more)
    yield from differences(found, one(x, labels, **more), "shared references")


@check
def networks() -> Iterator[str]:
    """The loop of anybody: DistributedDataParallel, FSDP, its own averaging, and gradient caching."""
    generator = torch.Generator().manual_seed(0)
    images, (_, labels) = torch.randn(N, 8, generator=generator, dtype=torch.float64), batch(N)

    def network() -> nn.Module:
        net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 6)).double()
        with torch.no_grad():
            for i, p in enumerate(net.parameters()):
                p.copy_(torch.sin(torch.arange(p.numel(), dtype=p.dtype) * (i + 1.7)).view_as(p) / 3)
        return net

    for name, options in (("triplet", {}), ("supcon", {}), ("arcface", {}), ("margin", {"mining": "all"})):
        one = network()
        make(name, options)(one(images), labels).backward()
        for way in ("ddp", "average", "cached", "sharded"):
            net = network()
            loss = across_ranks(make(name, options))
            if way == "cached":
                parts = share(images).split(4)
                losses.cached_backward(loss, net, parts or [share(images)], share(labels))
            else:
                model = nn.parallel.DistributedDataParallel(net) if way == "ddp" else net
                if way == "sharded":
                    fully_shard(net, mesh=init_device_mesh("cpu", (distributed.world(),)))
                loss(model(share(images)), share(labels)).backward()
            if way in ("average", "cached"):
                distributed.average_gradients(list(net.parameters()))
            for key, p in one.named_parameters():
                gradient = net.get_parameter(key).grad
                whole = gradient.full_tensor() if way == "sharded" else gradient
                for told in differences(whole, p.grad, key):
                    yield f"{name}, {way}: {told}"


@check
def batch_normalisation() -> Iterator[str]:
    x = torch.randn(N, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3 + 5
    weights = torch.randn(N, 3, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for momentum in (0.1, None):
        one = nn.BatchNorm1d(3, momentum=momentum).double()
        many = nn.Sequential(nn.BatchNorm1d(3, momentum=momentum).double())
        distributed.synchronize_batch_norm(many)
        for _ in range(2):
            one.zero_grad()
            many.zero_grad()
            a, b = x.clone().requires_grad_(), share(x).clone().requires_grad_()
            y, z = one(a), many(b)
            (y * weights).sum().backward()
            (z * share(weights)).sum().backward()  # the sum of all ranks' numbers is one rank's
            for p in many.parameters():
                dist.all_reduce(p.grad)
            yield from differences(z, share(y), "output")
            yield from differences(b.grad, share(a.grad), "gradient")
            for p, q in zip(one.parameters(), many.parameters(), strict=True):
                yield from differences(q.grad, p.grad, "gradient of the weights")
        for p, q in zip(one.buffers(), many.buffers(), strict=True):
            yield from differences(q.double(), p.double(), "running statistics")


@check
def mistakes() -> Iterator[str]:
    x, labels = batch(N)
    loss = across_ranks(make("triplet", {}))
    wrong = share(labels) if distributed.rank() else share(labels).double()
    try:
        loss(share(x), wrong)
        yield "labels of two types were taken"
    except ArgumentError as error:
        if "rank 1 passed" not in str(error):
            yield str(error)
    held = make("arcface", {})
    across_ranks(held, shard_classes=True)
    try:
        held(x, labels)
        yield "a shard was used alone"
    except ArgumentError as error:
        if "across_ranks" not in str(error):
            yield str(error)


@check
def fewer_items_than_ranks() -> Iterator[str]:
    x, labels = batch(N)
    here = distributed.rank() == 0
    for name in ("contrastive", "triplet", "softmax"):
        loss, one = across_ranks(make(name, {})), make(name, {})
        own = x.detach()[: 1 if here else 0].clone().requires_grad_()
        value = loss(own, labels[: 1 if here else 0])
        value.backward()
        yield from differences(value, one(x[:1], labels[:1]), name)


def main() -> None:
    told: list[str] = []
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    with distributed.joined():
        for name in sys.argv[1:] or CHECKS:
            function = CHECKS[name]
            try:
                COUNTED.clear()
                start = time.time()
                told += [f"{name}: {line}" for line in function()]
                if distributed.first():
                    print(
                        f"{name}: {len(COUNTED)} comparisons, {time.time() - start:.1f} s",
                        file=sys.stderr,
                        flush=True,
                    )
            except Exception:
                told.append(f"{name}: {traceback.format_exc()}")
                break  # the others wait for this rank no more
    print(json.dumps(told))
    # FSDP keeps the process group, whose threads may then let go of the last tensors while the interpreter ends: they
    # wait for its lock, are ended there, and C++ aborts ("terminate called without an active exception").
    distributed.leave(0)


if __name__ == "__main__":
    main()
