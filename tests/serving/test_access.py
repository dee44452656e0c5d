"""Tokens: who gets in, who may write, and that no token is ever shown."""

import re

import pytest

from kyori.errors import ArgumentError
from kyori.serving import Client, ServerError, Service, Tokens

from .conftest import LIMITS, READ, WRITE, raw, request, status

READS = [("GET", "/about"), ("GET", "/metrics"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/items?id=3"),
         ("POST", "/embed"), ("POST", "/search"), ("POST", "/verify"), ("POST", "/identify")]  # fmt: skip
WRITES = [("POST", "/items"), ("DELETE", "/items"), ("POST", "/reload")]
NOWHERE = [
    ("GET", "/"),
    ("GET", "/no/such/place"),
    ("PUT", "/items"),
    ("OPTIONS", "/items"),
    ("TRACE", "/embed"),
]


@pytest.mark.parametrize(
    "token", [None, "", "wrong", READ[:-1], READ + "x", READ.upper(), f"{READ}, Bearer {READ}"]
)
def test_without_a_valid_token_nothing_but_health(service, token):
    for method, path in READS + WRITES + NOWHERE:
        answer = raw(service.address, request(method, path, token=token))
        assert status(answer) == 401, (method, path)
        assert b"www-authenticate: Bearer" in answer
    assert status(raw(service.address, request("GET", "/health", token=token))) == 200


@pytest.mark.parametrize(
    "header", [f"authorization: Basic {WRITE}", f"authorization: {WRITE}", f"x-token: {WRITE}"]
)
def test_only_bearer_counts(service, header):
    assert status(raw(service.address, request("GET", "/about", token=None, more=header + "\r\n"))) == 401
    assert status(raw(service.address, request("GET", f"/about?token={WRITE}", token=None))) == 401


def test_a_read_token_reads(service):
    for method, path in READS:
        assert status(raw(service.address, request(method, path, b"{}", token=READ))) not in (401, 403), path
    for method, path in WRITES:
        for body in (b"", b"{}", b'{"ids": [3]}'):
            assert status(raw(service.address, request(method, path, body, token=READ))) == 403, path
    with Client(service.address, token=READ) as client:
        assert client.items([3])


def test_tokens_from_a_file_and_the_environment(tmp_path):
    file = tmp_path / "tokens"
    file.write_text(f"# for the shop\nread {READ}\n\nwrite {WRITE}\n")
    tokens = Tokens.gather(file, {"KYORI_READ_TOKEN": "one-more-token-to-read"})
    assert [tokens.role(t) for t in (READ, WRITE, "one-more-token-to-read", "", "x")] == [
        "read",
        "write",
        "read",
        None,
        None,
    ]


@pytest.mark.parametrize(
    "text",
    [
        f"{READ}\n",
        f"admin {READ}\n",
        "read short\n",
        f"read {READ}\nwrite {READ}\n",
        f"read {READ} more\n",
        "read パスワードパスワードパスワード\n",
    ],
)
def test_wrong_files_of_tokens(tmp_path, text):
    file = tmp_path / "tokens"
    file.write_text(text)
    with pytest.raises(ArgumentError) as caught:
        Tokens.gather(file, {})
    assert READ not in str(caught.value)
    assert "パス" not in str(caught.value)


def test_a_missing_file_of_tokens(tmp_path):
    with pytest.raises(ArgumentError, match="cannot be read"):
        Tokens.gather(tmp_path / "none", {})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", ""])
def test_no_tokens_no_listening_to_others(run, host):
    with pytest.raises(ArgumentError, match="no tokens; give --tokens"):
        Service(run, host=host, port=0)


def test_without_tokens_only_requests_that_name_this_machine(plain_run, tmp_path):
    from .conftest import copied

    with Service(copied(plain_run, tmp_path / "run"), port=0, limits=LIMITS) as service:
        for host in ("localhost", "127.0.0.1:80", "[::1]:9"):
            assert (
                status(raw(service.address, f"GET /about HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())) == 200
            )
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", ""):
            assert (
                status(raw(service.address, f"GET /about HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())) == 403
            )
        # What a page on another site can send without asking first (a form, a text) is never taken for JSON.
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            body = b'{"ids": [3]}'
            assert (
                status(raw(service.address, request("DELETE", "/items", body, token=None, kind=kind))) == 415
            )
        answer = raw(
            service.address, request("OPTIONS", "/items", token=None, more="origin: http://evil.example\r\n")
        )
        assert b"access-control-allow" not in answer.lower()


def test_nothing_shows_a_token(service, caplog):
    import logging

    with caplog.at_level(logging.DEBUG):
        for token in (READ, WRITE, "a-wrong-token-12345"):
            for method, path in READS + WRITES + NOWHERE:
                raw(
                    service.address,
                    request(method, f"{path}{'&' if '?' in path else '?'}token={token}", b"{", token=token),
                )
            raw(service.address, f"GET /{token} HTTP/9.9\r\nauthorization: Bearer {token}\r\n\r\n".encode())
        with (
            pytest.raises(ServerError) as caught,
            Client(service.address, token="a-wrong-token-12345") as stranger,
        ):
            stranger.about()
    shown = (
        caplog.text
        + repr(caught.value)
        + repr(Tokens([("read", READ)]))
        + repr(Client(service.address, token=READ))
    )
    assert caplog.text.count("401") > 5
    assert not re.search(r"token-for|a-wrong-token", shown)
