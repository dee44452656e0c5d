"""What a client asks and gets: the same as the recogniser gives in the same process."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from kyori import open_run
from kyori.recognition import Recogniser
from kyori.serving import Client, ServerError

from .conftest import raw, request, status


@pytest.fixture(scope="module")
def recogniser(run, service):
    return Recogniser.open(run)


def png(array, mode=None) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array, mode).save(buffer, "PNG") if mode is None else Image.fromarray(array).save(
        buffer, mode
    )
    return buffer.getvalue()


def test_vectors_are_the_model_s(reader, run, digits):
    items = digits.load(range(40, 60))
    expected = open_run(run).embedder.encode(items)
    np.testing.assert_allclose(reader.embed(list(items)), expected, atol=1e-6)
    assert reader.embed([png(items[0][:, :, 0])]) == pytest.approx(expected[:1], abs=1e-6)


def test_search_finds_what_the_recogniser_finds(reader, recogniser, digits):
    items = list(digits.load([3, 250, 900]))
    found = reader.search(items, k=5)
    expected = recogniser.search(items, k=5)
    for ours, theirs in zip(found, expected, strict=True):
        assert [hit["id"] for hit in ours] == [hit.id for hit in theirs]
        assert [hit["label"] for hit in ours] == [hit.label for hit in theirs]
        assert [hit["distance"] for hit in ours] == pytest.approx([hit.distance for hit in theirs], abs=1e-6)
        assert [hit["probability"] for hit in ours] == pytest.approx(
            [hit.probability for hit in theirs], abs=1e-6
        )


@pytest.mark.parametrize(
    ("where", "allowed"),
    [
        ({"label": "digit 3"}, lambda hit: hit["label"] == "digit 3"),
        ({"label": ["digit 3", "digit 5"]}, lambda hit: hit["label"] in ("digit 3", "digit 5")),
        ({"half": {"<": 1}}, lambda hit: hit["id"] < 100),
        (
            {"half": {">=": 0, "<": 1}, "label": {"not in": ["digit 3"]}},
            lambda hit: hit["id"] < 100 and hit["label"] != "digit 3",
        ),
        ({"label": []}, None),
    ],
)  # fmt: skip
def test_filters(reader, where, allowed):
    [hits] = reader.search([{"id": 3}], k=20, where=where)
    assert bool(hits) == (allowed is not None)
    assert all(allowed(hit) for hit in hits)


@pytest.mark.parametrize("rerank", ["expansion", "reciprocal"])
def test_reranking(reader, recogniser, rerank):
    from kyori.index import KReciprocal, QueryExpansion

    how = {"expansion": QueryExpansion(), "reciprocal": KReciprocal()}[rerank]
    expected = recogniser.search_vectors(recogniser.stored([7]), 5, rerank=how)[0]
    [found] = reader.search([{"id": 7}], k=5, rerank=rerank)
    assert [hit["id"] for hit in found] == [hit.id for hit in expected]


def test_verify(reader, recogniser, digits):
    a, b = digits.load([300, 301])
    expected = recogniser.verify(a, b)
    found = reader.verify(a, b)
    assert found["same"] == expected.same
    assert found["distance"] == pytest.approx(expected.distance, abs=1e-6)
    assert found["target"] == "far=0.01"
    assert [v["same"] for v in reader.verify_pairs([(a, a), (a, b)])] == [True, expected.same]


def test_identify(reader, recogniser, digits):
    same, nothing = digits.load([5])[0], np.full((8, 8), 255, np.uint8)
    known, unknown = reader.identify([same, nothing], threshold=0.05)
    assert known["identity"] == "digit 5"
    assert known["candidates"][0]["nearest"] == 5
    assert unknown["identity"] is None
    assert not unknown["known"]
    [pooled] = reader.identify([same], threshold=0.05, pooling="mean")
    expected = recogniser.identify(same, threshold=0.05, pooling="mean")
    assert [one["identity"] for one in pooled["candidates"]] == [one.identity for one in expected.candidates]


def test_items_come_and_go(writer, digits):
    pictures = list(digits.load([500, 501]))
    before = writer.about()["items"]
    assert writer.add([9000, 9001], pictures, ["new", "new"], {"half": [7, 8]}) == before + 2
    assert writer.items([9001, 9000, 9001]) == [
        {"id": 9001, "label": "new", "columns": {"half": 8}},
        {"id": 9000, "label": "new", "columns": {"half": 7}},
    ]
    assert writer.search([pictures[0]], k=1)[0][0]["id"] == 9000
    assert (
        writer.add(
            [9000], [{"embedding": writer.embed([pictures[1]])[0].tolist()}], ["renewed"], {"half": [9]}
        )
        == before + 2
    )
    assert writer.items([9000])[0]["label"] == "renewed"
    assert writer.remove([9000, 9001, 77777]) == 2
    assert writer.about()["items"] == before
    with pytest.raises(ServerError, match="404"):
        writer.items([9000])


def test_a_picture_may_be_the_body(service, reader, digits):
    content = png(digits.load([3])[0][:, :, 0])
    answer = raw(
        service.address, request("POST", "/search?k=2&where=%7B%22half%22%3A0%7D", content, kind="image/png")
    )
    assert status(answer) == 200
    hits = json.loads(answer.partition(b"\r\n\r\n")[2])["matches"][0]
    assert [hit["id"] for hit in hits] == [
        hit["id"] for hit in reader.search([content], k=2, where={"half": 0})[0]
    ]
    jpeg = png(digits.load([3])[0][:, :, 0], "JPEG")
    assert (
        status(raw(service.address, request("POST", "/identify?threshold=0.5", jpeg, kind="image/jpeg")))
        == 200
    )


def test_about_and_health(service, reader):
    facts = reader.about()
    assert (facts["takes"], facts["shape"], facts["dimensions"]) == ("image", [8, 8, 1], 64)
    assert facts["verification"]["target"] == "far=0.01"
    assert facts["identification"] is None
    with Client(service.address) as client:
        assert client.health()
    assert not Client("http://127.0.0.1:9").health()


def test_the_api_page_needs_no_other_server(service):
    page = raw(service.address, request("GET", "/docs")).decode()
    assert all(
        path in page
        for path in ("/embed", "/search", "/verify", "/identify", "/items", "/metrics", "/reload")
    )
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    description = json.loads(raw(service.address, request("GET", "/openapi.json")).partition(b"\r\n\r\n")[2])
    assert set(description["paths"]["/items"]) == {"get", "post", "delete"}
    assert "Search" in description["components"]["schemas"]


def test_metrics_count(service, reader):
    def counted() -> dict[str, float]:
        text = raw(service.address, request("GET", "/metrics")).partition(b"\r\n\r\n")[2].decode()
        return {
            line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line[:1] != "#" and line
        }

    before = counted()
    reader.search([{"id": 3}], k=1)
    raw(service.address, request("GET", "/no/such/place"))
    raw(service.address, request("GET", "/no/such/other"))
    after = counted()
    name = 'kyori_requests_total{method="POST",route="/search",status="200"}'
    assert after[name] == before.get(name, 0) + 1
    name = 'kyori_requests_total{method="GET",route="other",status="404"}'
    assert after[name] == before.get(name, 0) + 2  # not one series for each path that somebody thinks of
    assert after["kyori_index_items"] == reader.about()["items"]


@pytest.mark.parametrize(
    ("path", "body", "expected", "said"),
    [
        ("/embed", {"items": []}, 422, "items: List should have at least 1 item"),
        ("/embed", {"items": [{"id": 3}]}, 422, "one of image, features, text"),
        ("/embed", {"items": [{"features": [1.0]}]}, 422, "this model takes images"),
        ("/embed", {"items": [{"image": "no base64!"}]}, 422, "items[0].image.image: Value error, must be base64"),
        ("/embed", {"items": [{"image": "aGVsbG8="}]}, 422, "the picture cannot be read: not a picture"),
        ("/embed", {"items": [{"image": "", "text": ""}]}, 422, "Extra inputs"),
        ("/embed", {"items": [{"image": ""}], "extra": 1}, 422, "extra: Extra inputs"),
        ("/search", {"items": [{"id": "3"}]}, 422, "ids must be of the kind that the index holds"),
        ("/search", {"items": [{"id": 99999}]}, 422, "ids must be in the index; 99999 is not"),
        ("/search", {"items": [{"id": 3}], "k": 0}, 422, "k: Input should be greater than or equal to 1"),
        ("/search", {"items": [{"id": 3}], "k": 1001}, 422, "k may be 1000 at most"),
        ("/search", {"items": [{"id": 3}], "where": {"price": 3}}, 422, "price"),
        ("/search", {"items": [{"id": 3}], "where": {"half": {}}}, 422, "where"),
        ("/search", {"items": [{"id": 3}, {"id": "x"}]}, 422, "ids must be of one kind"),
        ("/search", {"items": [{"embedding": [1.0, 2.0]}]}, 422, "an embedding has 64 numbers; got 2"),
        ("/search", {"items": [{"embedding": [1e30] * 64}]}, 422, "items[0].embedding"),
        ("/search", {"items": [{"id": 3}] * 33}, 422, "items may name 32 items; got 33"),
        ("/identify", {"items": [{"id": 3}]}, 409, "not calibrated for identification"),
        ("/items", {"items": [{"id": 1, "item": {"embedding": [0.0] * 64}}]}, 422, "columns must be"),
        ("/items", {"items": [{"id": 2**70, "item": {"embedding": [0.0] * 64}}]}, 422, "id"),
        ("/items", {"items": [{"id": "a\0b", "item": {"embedding": [0.0] * 64}}]}, 422, "id"),
    ],
)  # fmt: skip
def test_mistakes_are_named(service, path, body, expected, said):
    answer = raw(service.address, request("POST", path, json.dumps(body).encode()))
    message = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
    assert status(answer) == expected, message
    assert said in message
    assert "/tmp" not in message


def test_a_vector_model_takes_features(tmp_path):
    import kyori
    from kyori.serving import Service

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(120, 6)) + np.repeat(np.eye(6)[:4] * 4, 30, axis=0), np.repeat(np.arange(4), 30)
    run = kyori.fit((X, y), loss="triplet", epochs=1, out=tmp_path / "run", report=None)
    with Service(tmp_path / "run", port=0) as service, Client(service.address, retries=0) as client:
        np.testing.assert_allclose(
            client.embed(list(X[:5])), run.embedder.encode(X[:5].astype(np.float32)), atol=1e-6
        )
        for call in (
            lambda: client.search([X[0]]),
            lambda: client.add([1], [X[0]]),
            lambda: client.verify(X[0], X[1]),
        ):
            with pytest.raises(ServerError, match="409"):  # no index, no calibration
                call()
        with pytest.raises(ServerError, match="features must be 6 numbers; got 5"):
            client.embed([X[0, :5]])
