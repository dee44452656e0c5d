"""What keeps the copies of a network alike: weights sent out, gradients averaged, batch statistics of all ranks."""

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .exchange import Exchange, all_gather
from .group import world

__all__ = ["alike", "average_gradients", "broadcast", "synchronize_batch_norm"]

_BUCKET = 2**22  # numbers sent at a time


@torch.no_grad()
def broadcast(tensors: Iterable[Tensor]) -> None:
    """Overwrite the tensors of all ranks by those of rank 0."""
    if world() > 1:
        for tensor in tensors:
            whole = tensor.detach().contiguous()
            dist.broadcast(whole, 0)
            if whole.data_ptr() != tensor.data_ptr():
                tensor.copy_(whole)


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by its mean over ranks; a rank without one counts as 0.

    What `DistributedDataParallel` does, but after the backward pass: any number of them may come before it, and a
    rank may have had no items. Parameters without a gradient on every rank keep none.
    """
    if world() == 1:
        return
    wanted = [p for p in parameters if p.requires_grad]
    if not wanted:
        return
    here = torch.tensor([p.grad is not None for p in wanted], dtype=torch.int32, device=wanted[0].device)
    dist.all_reduce(here)
    used = [p for p, count in zip(wanted, here.tolist(), strict=True) if count]
    for bucket in _buckets(used):
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        flat = torch.cat([g.reshape(-1) for g in grads])
        dist.all_reduce(flat)
        flat /= world()
        for p, g, part in zip(bucket, grads, flat.split([g.numel() for g in grads]), strict=True):
            p.grad = g.copy_(part.view_as(g))


def _buckets(parameters: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Parameters of one type, together about `_BUCKET` numbers."""
    buckets: list[list[nn.Parameter]] = []
    size = 0
    for p in parameters:
        if not buckets or size + p.numel() > _BUCKET or buckets[-1][0].dtype != p.dtype:
            buckets.append([])
            size = 0
        buckets[-1].append(p)
        size += p.numel()
    return buckets


def alike(tensors: Iterable[Tensor]) -> bool:
    """Whether all ranks hold the same bits."""
    if world() == 1:
        return True
    wide = [t.detach().double() for t in tensors]
    sums = [torch.stack([t.sum(), t.square().sum()]).cpu() for t in wide]
    if not sums:
        return True
    mine = torch.stack(sums).view(torch.int64)
    everywhere = all_gather(mine)
    return bool((everywhere == everywhere[:1]).all())


def synchronize_batch_norm(network: nn.Module) -> None:
    """Let batch normalisation, in training mode, use the mean and variance of the items of all ranks.

    In place, on any device, with unequal shares and empty ones; the layers stay of their class, and so does the state.
    Unlike `torch.nn.SyncBatchNorm`, which runs on GPUs only.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm) and type(module) in _SYNCHRONIZED:
            module.__class__ = _SYNCHRONIZED[type(module)]


class _Synchronized(_BatchNorm):
    """Batch normalisation with the statistics of all ranks, by the rule of `kyori.distributed.exchange`."""

    @torch.compiler.disable
    def forward(self, x: Tensor) -> Tensor:
        if not self.training or world() == 1:
            return super().forward(x)
        self._check_input_dim(x)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        count = x.numel() // x.shape[1]
        own_mean = wide.sum(axes) / max(1, count)
        own_squares = (wide - own_mean.view(shape)).square().sum(axes)
        exchange = Exchange(own_mean.new_zeros(()))
        counts = own_mean.new_tensor([float(count)])
        parts = exchange.gather([own_mean, own_squares, counts], equal=True)
        means, squares, sizes = (torch.stack([part[i] for part in parts]) for i in range(3))
        total = sizes.sum()
        mean = (means * sizes).sum(0) / total
        variance = (squares.sum(0) + (sizes * (means - mean).square()).sum(0)) / total
        self._follow(mean.detach(), variance.detach(), total)
        y = (wide - mean.view(shape)) * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        if not self.track_running_stats:
            return
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        rate = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
        unbiased = variance * total / (total - 1).clamp(min=1)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), rate)


class _BatchNorm1d(_Synchronized, nn.BatchNorm1d):
    pass


class _BatchNorm2d(_Synchronized, nn.BatchNorm2d):
    pass


class _BatchNorm3d(_Synchronized, nn.BatchNorm3d):
    pass


_SYNCHRONIZED: dict[type, type] = {
    nn.BatchNorm1d: _BatchNorm1d,
    nn.BatchNorm2d: _BatchNorm2d,
    nn.BatchNorm3d: _BatchNorm3d,
}
