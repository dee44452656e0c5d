"""The processes that work together: how many there are, which one this is, how they meet and how they part."""

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

__all__ = ["Failure", "first", "joined", "launched", "leave", "local_rank", "rank", "wait", "world"]

_TIMEOUT = timedelta(minutes=30)  # a rank may validate or save for long while the others wait
_SIOCGIFADDR = 0x8915  # of linux/sockios.h
_KEY = f"kyori/failed/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def world() -> int:
    """How many processes work together; 1 outside of a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0; 0 outside of a process group."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def first() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def wait() -> None:
    """Wait until all ranks have come here."""
    if world() > 1:
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        dist.all_reduce(torch.zeros(1, device=device))


def launched() -> bool:
    """Whether `torchrun` started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def local_rank() -> int:
    """The number of this process on its machine, which chooses its GPU."""
    return int(os.environ.get("LOCAL_RANK", rank()))


def leave(code: int) -> None:
    """End this process at once: after a failure, cleaning up would wait for ranks that are gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Failure:
    """Who failed first, so that one reason is told and not one a rank."""

    def __init__(self, store: dist.Store | None):
        self._store = store

    def claim(self) -> bool:
        """Whether this rank is the first that failed: then it tells why, the others end in silence."""
        if self._store is None:
            return True
        try:
            return int(self._store.add(_KEY, 1)) == 1
        except RuntimeError:  # the store's process has ended already
            return first()

    def give_way(self) -> bool:
        """Wait until another rank, which failed, has told why; False if none does."""
        if self._store is None:
            return False
        try:
            self._store.wait([_KEY], timedelta(seconds=3))
        except RuntimeError:
            return False
        time.sleep(0.2)  # it writes now; when this process ends, torchrun ends all others
        return True


def _choose_interface() -> None:
    """Let gloo use the network interface that leads to rank 0, unless the environment names one.

    By itself it takes the address that the host's name stands for, which on many machines is no address for others.
    """
    host, names = os.environ.get("MASTER_ADDR", "localhost"), ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    if sys.platform != "linux" or any(name in os.environ for name in names):
        return
    try:
        family, *_, address = socket.getaddrinfo(host, 1, socket.AF_INET, socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing; the kernel chooses the way
            own = probe.getsockname()[0]
    except OSError:
        return  # the meeting will say what is wrong
    for _, interface in socket.if_nameindex():
        if _address_of(interface) == own:
            os.environ["GLOO_SOCKET_IFNAME"] = interface


def _address_of(interface: str) -> str | None:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            found = fcntl.ioctl(s.fileno(), _SIOCGIFADDR, interface.encode()[:15].ljust(256, b"\0"))
        except OSError:
            return None
    return socket.inet_ntoa(found[20:24])


@contextmanager
def joined() -> Iterator[Failure]:
    """Meet the other processes that `torchrun` started; without it, nothing happens.

    Tensors on GPUs travel by NCCL, those of the CPU by gloo.
    """
    if not launched() or dist.is_initialized():
        yield Failure(None)
        return
    gpu = torch.cuda.is_available() and dist.is_nccl_available()
    if gpu and local_rank() < torch.cuda.device_count():
        torch.cuda.set_device(local_rank())
    _choose_interface()
    store, number, count = next(iter(dist.rendezvous("env://", timeout=_TIMEOUT)))
    backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=_TIMEOUT)
    yield Failure(store)
    dist.destroy_process_group()  # not after an error, where it would wait for ranks that are gone
