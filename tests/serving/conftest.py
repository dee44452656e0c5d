"""A small run with an index and thresholds, and a server for it."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import kyori
from kyori.evaluation import calibrate
from kyori.recognition import RunCalibration
from kyori.recognition.places import model_mark, write_note
from kyori.serving import Client, Limits, Service, Tokens

READ, WRITE = "a-token-for-reading-1", "a-token-for-writing-1"
LIMITS = Limits(
    body_bytes=200_000,
    pixels=1_000_000,
    items=32,
    queue=64,
    batch=32,
    header_seconds=1.0,
    body_seconds=1.0,
    seconds=20.0,
)


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder; to be copied where a test changes it."""
    folder = tmp_path_factory.mktemp("serving") / "run"
    run = kyori.fit("digits", loss="triplet", epochs=3, seed=0, out=folder, report=None)
    digits = kyori.open_source("digits")
    with kyori.open_index(folder / "index") as index:
        labels = [f"digit {label}" for label in digits.labels[:200]]
        index.add(
            np.arange(200),
            run.embedder.encode(digits.load(range(200))),
            labels,
            {"half": np.arange(200) // 100},
        )
        index.save()
    write_note(folder, {"url": str(folder / "index"), "data": "digits", "model": model_mark(folder)})
    table = run.table
    i, j = np.triu_indices(len(table), 1)
    distances = np.linalg.norm(table.vectors[i] - table.vectors[j], axis=1)
    found = calibrate(distances, table.labels[i] == table.labels[j], far=0.01)
    RunCalibration(model_mark(folder), "euclidean").with_verification(found, {}).save(folder)
    return folder


@pytest.fixture(scope="module")
def run(plain_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the run for one module's tests."""
    return copied(plain_run, tmp_path_factory.mktemp("run") / "run")


def copied(run: Path, to: Path) -> Path:
    """Copy a run, index and all; its note then names the copy's index."""
    import shutil

    shutil.copytree(run, to)
    write_note(to, {"url": str(to / "index"), "data": "digits", "model": model_mark(to)})
    return to


@pytest.fixture(scope="module")
def service(run: Path) -> Iterator[Service]:
    """A server that asks for tokens."""
    tokens = Tokens([("read", READ), ("write", WRITE)])
    with Service(run, port=0, tokens=tokens, limits=LIMITS) as service:
        yield service


@pytest.fixture
def reader(service: Service) -> Iterator[Client]:
    with Client(service.address, token=READ, retries=0) as client:
        yield client


@pytest.fixture
def writer(service: Service) -> Iterator[Client]:
    with Client(service.address, token=WRITE, retries=0) as client:
        yield client


@pytest.fixture(scope="session")
def digits() -> kyori.Source:
    return kyori.open_source("digits")


def raw(address: str, data: bytes, timeout: float = 20.0) -> bytes:
    """Send bytes as they are, and return everything that comes back until the server closes or falls silent."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        try:
            connection.sendall(data)
            answer = b""
            while part := connection.recv(65536):
                answer += part
                if b"\r\n\r\n" in answer and (data.startswith(b"HEAD ") or _complete(answer)):
                    break
        except (ConnectionResetError, BrokenPipeError):
            pass
        return answer


def _complete(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.split(b":")[1])
    return False


def request(
    method: str,
    path: str,
    body: bytes = b"",
    *,
    token: str | None = WRITE,
    kind: str = "application/json",
    more: str = "",
) -> bytes:
    """Write a request."""
    secret = f"authorization: Bearer {token}\r\n" if token else ""
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n"
        f"content-length: {len(body)}\r\n{secret}{more}\r\n"
    )
    return head.encode("latin-1") + body


def status(answer: bytes) -> int:
    """Return the status of an answer; 0 where there is none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def source_environment() -> dict[str, str]:
    """Return the environment for a process that runs the same Kyori."""
    place = str(Path(kyori.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": place, "OMP_NUM_THREADS": "1"}
