"""Malformed requests: all get 4xx, none 5xx, none changes what the index holds, and the server goes on."""

import concurrent.futures
import hashlib
import socket

import pytest

from kyori.serving import Client, Service, Tokens

from .conftest import LIMITS, READ, WRITE, copied, request, status
from .malformed import answers


def content_of(address: str) -> tuple[int, str]:
    """Return how many items there are, and a digest of everything that is kept of them."""
    with Client(address, token=WRITE) as client:
        items = [item for start in range(0, 200, 20) for item in client.items(list(range(start, start + 20)))]
        hits = client.search([{"id": id_} for id_ in range(0, 200, 20)], k=200)
        return client.about()["items"], hashlib.sha256(repr((items, hits)).encode()).hexdigest()


@pytest.fixture(scope="module")
def protected(plain_run, tmp_path_factory):
    run = copied(plain_run, tmp_path_factory.mktemp("protected") / "run")
    tokens = Tokens([("read", READ), ("write", WRITE)])
    with Service(run, port=0, tokens=tokens, limits=LIMITS) as service:
        yield service


def test_malformed_requests(protected):
    before = content_of(protected.address)
    counted = answers(protected.address, 400, seed=1)
    assert all(400 <= code < 500 for code in counted), counted
    assert content_of(protected.address) == before


@pytest.mark.slow
def test_ten_thousand_malformed_requests(protected):
    before = content_of(protected.address)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda seed: answers(protected.address, 2500, seed), range(100, 104)))
    assert all(400 <= code < 500 for counted in parts for code in counted), parts
    assert content_of(protected.address) == before


def test_slow_clients_hold_up_nobody(protected):
    """Half a request each, from more clients than are worked on at once; others are answered meanwhile."""
    host, port = protected.address.removeprefix("http://").split(":")
    slow = []
    for number in range(100):
        connection = socket.create_connection((host, int(port)), timeout=10)
        head = request("POST", "/embed", b"x" * 1000)
        connection.sendall(head[: (20, len(head) - 500)[number % 2]])
        slow.append(connection)
    with Client(protected.address, token=READ) as client:
        assert client.search([{"id": 3}], k=1)[0][0]["id"] == 3
    for connection in slow:
        assert status(connection.recv(4096)) == 408
        connection.close()


@pytest.mark.slow
def test_against_the_server_s_own_description(protected):
    """Requests that schemathesis derives from /openapi.json, right ones and wrong ones: no 5xx, as described."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings

    schemathesis.checks.load_all_checks()

    head = {"Authorization": f"Bearer {READ}"}
    schema = schemathesis.openapi.from_url(f"{protected.address}/openapi.json", headers=head)
    seen: dict[int, int] = {}
    before = content_of(protected.address)
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    for operation in schema.get_all_operations():
        operation = operation.ok()
        for mode in modes:
            try:
                cases = operation.as_strategy(generation_mode=mode)
            except Exception as error:
                if "negative" not in str(error).lower():
                    raise
                continue  # nothing can be wrong with a request that has no parameters

            @settings(max_examples=6, deadline=None, database=None, phases=[Phase.generate],
                      suppress_health_check=list(HealthCheck))  # fmt: skip
            @given(case=cases)
            def attempt(case):
                answer = case.call(headers=head)
                seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
                assert answer.status_code < 500
                case.validate_response(
                    answer,
                    checks=[
                        schemathesis.checks.not_a_server_error,
                        schemathesis.checks.CHECKS.get_one("status_code_conformance"),
                        schemathesis.checks.CHECKS.get_one("response_schema_conformance"),
                    ],
                )

            try:
                attempt()
            except Exception as error:
                if "Unsatisfiable" not in type(error).__name__:
                    raise
    assert sum(seen.values()) > 50
    assert {200, 422} <= set(seen)
    assert content_of(protected.address) == before
