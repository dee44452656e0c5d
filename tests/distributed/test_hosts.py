"""Two hosts with addresses of their own, as two network namespaces of this machine."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from .launch import ROOT, environment

HOSTS = {"kyori-a": "10.231.77.1", "kyori-b": "10.231.77.2"}


def ip(*words: str) -> bool:
    return subprocess.run(["ip", *words], capture_output=True).returncode == 0


@pytest.fixture
def namespaces() -> Iterator[None]:
    first, second = HOSTS
    if shutil.which("ip") is None or os.geteuid() != 0 or not ip("netns", "add", first):
        pytest.skip("network namespaces: ip netns is not allowed here")
    try:
        made = ip("netns", "add", second) and ip(
            "link", "add", "kyv0", "netns", first, "type", "veth", "peer", "name", "kyv1", "netns", second
        )
        for (host, address), link in zip(HOSTS.items(), ("kyv0", "kyv1"), strict=True):
            made = made and ip("-n", host, "addr", "add", f"{address}/24", "dev", link)
            made = (
                made
                and ip("-n", host, "link", "set", link, "up")
                and ip("-n", host, "link", "set", "lo", "up")
            )
        if not made:
            pytest.skip("network namespaces: ip link is not allowed here")
        yield
    finally:
        for host in HOSTS:
            ip("netns", "del", host)


@pytest.mark.slow
def test_two_hosts_are_one_rank(namespaces):
    processes = [
        subprocess.Popen(
            ["ip", "netns", "exec", host, sys.executable, "-W", "ignore", "-m", "losses.rank_checks",
             "reductions", "networks", "batch_normalisation", "losses_of_losses"],
            env=environment(rank, 2, 29_400, host="10.231.77.1"), cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank, host in enumerate(HOSTS)
    ]  # fmt: skip
    try:
        told = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (out, err) in zip(processes, told, strict=True):
        assert process.returncode == 0, err
        assert json.loads(out) == []
