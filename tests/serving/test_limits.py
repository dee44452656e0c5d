"""Sizes, numbers and times: what is too much is refused clearly, and held by nobody for long."""

import concurrent.futures
import io
import json
import socket
import struct
import threading
import time
import zlib

import pytest
from PIL import Image
from pydantic import ValidationError

from kyori.errors import ArgumentError
from kyori.serving import Client, Limits, ServerError, Service
from kyori.serving.bodies import check_json, json_shape
from kyori.serving.limits import Refused
from kyori.serving.messages import Deletion, Embed, Insertion, Search, Verify
from kyori.serving.served import Served

from .conftest import LIMITS, copied, raw, request, status


def connect(service):
    host, port = service.address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def test_a_body_that_says_it_is_too_large(service):
    answer = raw(service.address, request("POST", "/embed", b"x" * 200_001))
    assert status(answer) == 413
    assert b"at most 200000 bytes" in answer


def test_a_body_in_chunks_that_says_nothing(service):
    head = request("POST", "/embed", more="transfer-encoding: chunked\r\n").replace(
        b"content-length: 0\r\n", b""
    )
    chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    assert status(raw(service.address, head + chunk * 60 + b"0\r\n\r\n")) == 413
    assert status(raw(service.address, head + b"2\r\n{}\r\n0\r\n\r\n")) == 422  # a small one is read


@pytest.mark.parametrize("length", ["-1", "1e3", "99999999999999999999", "12, 12", "x"])
def test_lengths_that_are_none(service, length):
    head = request("POST", "/embed").replace(b"content-length: 0", f"content-length: {length}".encode())
    with connect(service) as connection:
        connection.sendall(head)
        assert status(connection.recv(65536)) in (400, 408, 413)


def test_slow_headers(service):
    with connect(service) as connection:
        start = time.monotonic()
        connection.sendall(b"GET /health HTT")
        answer = b""
        for _ in range(30):  # a byte now and then does not buy time
            time.sleep(0.1)
            try:
                connection.sendall(b"P")
            except OSError:
                break
            connection.setblocking(False)
            try:
                answer += connection.recv(4096)
            except BlockingIOError:
                connection.setblocking(True)
                continue
            break
        assert status(answer) == 408
        assert 0.8 < time.monotonic() - start < 2.5


def test_an_idle_connection_before_the_first_byte(service):
    with connect(service) as connection:
        assert status(connection.recv(4096)) == 408


def test_a_slow_body(service):
    with connect(service) as connection:
        connection.sendall(request("POST", "/embed", b"x" * 1000)[:-900])
        start = time.monotonic()
        answer = b""
        while part := connection.recv(4096):  # until the server closes
            answer += part
        assert status(answer) == 408
        assert 0.8 < time.monotonic() - start < 2.5


def test_a_kept_connection_has_time_limits_too(service):
    with connect(service) as connection:
        connection.sendall(request("GET", "/health"))
        answer = b""
        while b'"ok"' not in answer:
            answer += connection.recv(4096)
        connection.sendall(b"GET /hea")
        assert status(connection.recv(4096)) == 408


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that promises many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("width", "height"), [(1001, 1000), (50_000, 50_000), (2**31 - 1, 2**31 - 1)])
def test_bombs(service, width, height):
    answer = raw(service.address, request("POST", "/embed", bomb(width, height), kind="image/png"))
    assert status(answer) in (413, 422)
    assert b"pixels" in answer


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "bmp"])
def test_a_picture_cut_short(service, kind):
    buffer = io.BytesIO()
    Image.effect_noise((40, 40), 50).save(buffer, kind)
    whole = buffer.getvalue()
    assert status(raw(service.address, request("POST", "/embed", whole, kind=f"image/{kind}"))) == 200
    for size in (1, 20, len(whole) // 2):
        answer = raw(service.address, request("POST", "/embed", whole[:size], kind=f"image/{kind}"))
        assert status(answer) == 422, (size, answer)


@pytest.mark.parametrize(
    ("text", "depth"),
    [("", 0), ("1", 0), ("[]", 1), ("[[1, [2]], {}]", 3), ('"[[["', 0), (r'"\"[[["', 0), (r'["\\", [["]"]]]', 3),
     ("[" * 99, 99),
     (r'{"a\\\"[": [[]]}', 3), ("]]]][[", 0)],
)  # fmt: skip
def test_depth_of_json(text, depth):
    assert json_shape(text.encode())[0] == depth


@pytest.mark.parametrize(
    ("question", "body"),
    [
        (Embed, b'{"items": [' + b"0," * 99_999 + b"0]}"),
        (Search, b'{"items": [{"id": 3}], "where": {"label": [' + b"{}," * 99_999 + b"0]}}"),
        (Search, b'{"items": [{"embedding": [' + b'"",' * 99_999 + b"0]}]}"),
        (Verify, b'{"pairs": [' + b"0," * 99_999 + b"0]}"),
        (Insertion, b'{"items": [' + b"0," * 99_999 + b"0]}"),
        (Deletion, b'{"ids": [' + b"{}," * 99_999 + b"0]}"),
    ],
)
def test_a_hundred_thousand_mistakes_cost_no_more_than_one(question, body):
    with pytest.raises(ValidationError) as caught:
        question.model_validate_json(body)
    assert caught.value.error_count() < 20


def test_so_many_keys_are_refused_before_they_are_read():
    body = b'{"items": [], ' + b",".join(b'"k%d": 0' % i for i in range(20_000)) + b"}"
    with pytest.raises(Refused, match="may have 20000 keys; got 20001") as caught:
        check_json(body, Limits())
    assert caught.value.status == 422


def test_depth_of_json_against_the_parser():
    import random

    draw = random.Random(0)

    def value(left):
        kind = draw.choice("nsld" if left else "ns")
        if kind == "n":
            return draw.random()
        if kind == "s":
            return "".join(draw.choice('[]{}"\\a:') for _ in range(draw.randrange(6)))
        if kind == "l":
            return [value(left - 1) for _ in range(draw.randrange(4))]
        return {f'k"[{i}\\': value(left - 1) for i in range(draw.randrange(4))}

    def depth(found):
        inner = found.values() if isinstance(found, dict) else found if isinstance(found, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    def keys(found):
        if isinstance(found, dict):
            return len(found) + sum(map(keys, found.values()))
        return sum(map(keys, found)) if isinstance(found, list) else 0

    for _ in range(300):
        found = value(6)
        assert json_shape(json.dumps(found).encode()) == (depth(found), keys(found))


def test_deep_json(service):
    for body in (b"[" * 100_000, b'{"a":' * 30_000, b'{"items": ' + b"[" * 20 + b"]" * 20 + b"}"):
        answer = raw(service.address, request("POST", "/search", body))
        assert status(answer) == 400
        assert b"nested 16 levels" in answer


@pytest.fixture
def slow_service(plain_run, tmp_path, monkeypatch):
    """A server whose model takes as long as the test wants."""
    gate = threading.Event()
    real = Served._encode

    def encode(self, rows):
        gate.wait(20)
        return real(self, rows)

    monkeypatch.setattr(Served, "_encode", encode)
    limits = Limits(concurrency=6, queue=8, items=4, batch=2, seconds=15.0, wait_seconds=10.0)
    with Service(copied(plain_run, tmp_path / "run"), port=0, limits=limits) as service:
        service.gate = gate
        yield service
        gate.set()


def ask(service, digits, count=1):
    try:
        with Client(service.address, retries=0) as client:
            return client.embed(list(digits.load(range(count)))).shape
    except ServerError as error:
        return error


def test_too_many_at_once_is_429(slow_service, digits):
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        tasks = [pool.submit(ask, slow_service, digits) for _ in range(20)]
        concurrent.futures.wait(tasks, timeout=5, return_when=concurrent.futures.FIRST_COMPLETED)
        time.sleep(0.5)
        with Client(slow_service.address) as client:
            assert client.health()  # answered however busy
        slow_service.gate.set()
        answers = [task.result() for task in tasks]
    refused = [answer for answer in answers if isinstance(answer, ServerError)]
    assert len(refused) == 14
    assert {(error.status, error.retry_after) for error in refused} == {(429, 1.0)}
    assert "works on 6 requests" in refused[0].message
    assert ask(slow_service, digits) == (1, 64)


def test_a_full_queue_is_503(slow_service, digits):
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        tasks = [pool.submit(ask, slow_service, digits, 4) for _ in range(6)]
        time.sleep(0.5)
        slow_service.gate.set()
        answers = [task.result() for task in tasks]
    refused = [answer for answer in answers if isinstance(answer, ServerError)]
    assert len(refused) == 3  # the model has 4 items, 8 wait
    assert {error.status for error in refused} == {503}
    assert all(error.retry_after >= 1 for error in refused)


def test_a_client_comes_back_by_itself(slow_service, digits):
    threading.Timer(0.5, slow_service.gate.set).start()

    def patient(_):
        with Client(slow_service.address, retries=6) as client:
            return client.embed(list(digits.load([0]))).shape

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        assert list(pool.map(patient, range(10))) == [(1, 64)] * 10


def test_a_request_that_takes_too_long_is_503(plain_run, tmp_path, monkeypatch, digits):
    monkeypatch.setattr(Served, "_encode", lambda self, rows: time.sleep(1.0))
    limits = Limits(seconds=0.2)
    with Service(copied(plain_run, tmp_path / "run"), port=0, limits=limits) as service:
        start = time.monotonic()
        error = ask(service, digits)
        assert error.status == 503
        assert "not ready within 0.2 s" in error.message
        assert time.monotonic() - start < 0.9


def test_more_connections_than_allowed(plain_run, tmp_path):
    with Service(copied(plain_run, tmp_path / "run"), port=0, limits=Limits(connections=5)) as service:
        kept = [connect(service) for _ in range(5)]
        time.sleep(0.1)
        with connect(service) as sixth:
            try:
                sixth.sendall(request("GET", "/health", token=None))
                assert sixth.recv(4096) == b""
            except ConnectionResetError:
                pass
        kept[0].sendall(request("GET", "/health", token=None))
        assert status(kept[0].recv(4096)) == 200
        for connection in kept:
            connection.close()


def test_an_error_of_ours_shows_no_trace(plain_run, tmp_path, monkeypatch, digits, caplog):
    real, falls = Served._encode, [True]

    def fail(self, rows):
        if not falls:
            return real(self, rows)
        raise RuntimeError("secret: the model fell over with " + repr(rows))

    monkeypatch.setattr(Served, "_encode", fail)
    with Service(copied(plain_run, tmp_path / "run"), port=0, limits=LIMITS) as service:
        error = ask(service, digits)
        assert error.status == 500
        assert error.message == "the server failed on this request; its log says why."
        for _ in range(100):  # the log is written after the answer
            if "RuntimeError at" in caplog.text:
                break
            time.sleep(0.02)
        assert "RuntimeError at" in caplog.text
        assert "secret" not in caplog.text
        falls.clear()
        assert ask(service, digits) == (1, 64)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"items": 0}, "items must be above 0"), ({"seconds": float("nan")}, "seconds"),
     ({"pixels": 10**9}, "pixels must be at most"), ({"queue": 5}, "queue must be at least items"),
     ({"body_bytes": 2**40}, "buffered_bytes must be at least")],
)  # fmt: skip
def test_wrong_limits(options, said):
    with pytest.raises(ArgumentError, match=said):
        Limits(**options)
