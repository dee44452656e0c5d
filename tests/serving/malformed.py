"""Requests that no honest client sends, without end: broken JSON, wrong types, hostile pictures, path tricks, bad HTTP.

python -m tests.serving.malformed RUN 10000      # counts the answers by status; exits 1 unless all are 4xx
"""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Iterator

from PIL import Image

from .conftest import READ, WRITE, raw, request, status

PATHS = ("/embed", "/search", "/verify", "/identify", "/items")
TRICKS = (
    "../../etc/passwd", "/etc/passwd", "file:///etc/passwd",
    "http://127.0.0.1:1/x.png", "..\\..\\boot.ini",
    "~/.ssh/id_rsa", "/proc/self/environ", "|id", "$(id)", "%2e%2e%2f", "config.yaml", "\u202e", "\x00", "CON",
    "' OR 1=1 --", "{{7*7}}",
)  # fmt: skip
ODD = (
    None, True, -1, 0, 2**63, 10**400, 1e308, -0.0, "", "\ud800", "a" * 2000, [], {}, [[]], {"a": 1}, [None],
    {"image": None}, {"image": 5}, {"text": ["x"]}, {"features": ["1"]}, {"id": 1.5}, {"id": [1]}, {"embedding": {}},
)  # fmt: skip


def malformed(seed: int) -> Iterator[bytes]:
    """Yield requests that are wrong each in a way of its own, the same ones for the same seed."""
    draw = random.Random(seed)
    makers = (
        _broken_json,
        _odd_json,
        _trick,
        _broken_picture,
        _bomb,
        _path,
        _bad_http,
        _wrong_kind,
        _noise,
        _deep,
        _huge,
    )
    while True:
        yield draw.choice(makers)(draw)


def _valid(draw: random.Random) -> dict[str, object]:
    return {
        "items": [{"image": base64.b64encode(_picture(draw)).decode()}],
        "k": draw.randrange(1, 9),
        "where": {"label": "digit 3"},
    }


def _picture(draw: random.Random) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (draw.randrange(1, 40), 20), draw.randrange(256)).save(
        buffer, draw.choice(("PNG", "JPEG", "WEBP", "BMP"))
    )
    return buffer.getvalue()


def _broken_json(draw: random.Random) -> bytes:
    text = json.dumps(_valid(draw)).encode()
    cut = draw.randrange(len(text))
    broken = draw.choice(
        (
            text[:cut],
            text + b"}",
            text.replace(b'"', b"'"),
            b"\xff\xfe" + text,
            text[:cut] + b"\x00" + text[cut:],
        )
    )
    return request("POST", draw.choice(PATHS), broken)


def _odd_json(draw: random.Random) -> bytes:
    value = _valid(draw)
    value[draw.choice(("items", "pairs", "ids"))] = draw.choice(ODD)
    value[draw.choice(("k", "where", "rerank", "pooling", "threshold", "nothing"))] = draw.choice(ODD)
    value["never"] = "known"  # whatever was drawn above, this is wrong
    method = draw.choice(("POST", "DELETE")) if (path := draw.choice(PATHS)) == "/items" else "POST"
    return request(method, path, json.dumps(value).encode())


def _trick(draw: random.Random) -> bytes:
    """A path, a URL or a command where a picture, an id or a column is expected."""
    trick = draw.choice(TRICKS)
    bodies = (
        ("/embed", {"items": [{"image": trick}]}),
        ("/embed", {"items": [trick]}),
        ("/embed", {"items": [{"image": base64.b64encode(trick.encode()).decode()}]}),
        ("/search", {"items": [{"id": trick}]}),
        ("/search", {"items": [{"id": 3}], "where": {trick: trick}}),
        ("/items", {"items": [{"id": trick, "item": {"image": trick}}]}),
        ("/items", {"items": [{"id": 3, "item": {"embedding": [0.0] * 64}, "columns": {trick: trick}}]}),
    )
    path, body = draw.choice(bodies)
    return request("POST", path, json.dumps(body).encode())


def _broken_picture(draw: random.Random) -> bytes:
    content = bytearray(_picture(draw))
    kind = draw.choice(("image/png", "image/jpeg", "image/webp", "image/bmp"))
    if draw.random() < 0.5:
        content = content[: draw.randrange(min(20, len(content)))]
    else:
        content[: draw.randrange(4, 12)] = draw.randbytes(4)
    return request(
        "POST", draw.choice(("/embed", "/identify?threshold=1", "/search?k=3")), bytes(content), kind=kind
    )


def _bomb(draw: random.Random) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = draw.choice((1001, 30_000, 2**31 - 1))
    head = struct.pack(">IIBBBBB", size, draw.choice((1001, 65_535)), 8, draw.choice((0, 2, 6)), 0, 0, 0)
    content = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100_000))
        + chunk(b"IEND", b"")
    )
    return request("POST", "/embed", content, kind="image/png")


def _path(draw: random.Random) -> bytes:
    parts = (
        "..",
        "%2e%2e",
        "items",
        "etc",
        "passwd",
        ".git",
        "config",
        "%00",
        "docs;",
        "%c0%af",
        "static",
        "//",
        "\\",
    )
    path = "/" + "/".join(draw.choice(parts) for _ in range(draw.randrange(2, 8)))
    return request(draw.choice(("GET", "POST", "PUT", "DELETE", "HEAD")), path)


def _bad_http(draw: random.Random) -> bytes:
    good = request("POST", "/embed", b"{}")
    return draw.choice(
        (
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            good.replace(b"content-length: 2", b"content-length: -2"),
            good.replace(b"content-length: 2", b"content-length: 2\r\ncontent-length: 3"),
            good.replace(b"content-length: 2", b"transfer-encoding: gzip"),
            good.replace(b"host: localhost\r\n", b""),
            good.replace(b"host:", b"bad header\x00:"),
            request("POST", "/embed", more="x: " + "y" * 70_000 + "\r\n"),
            request("GET", "/items?" + "id=" * 3000),
            request("FETCH", "/embed", b"{}"),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + draw.randbytes(50) + b"\r\n\r\n",
        )
    )


def _wrong_kind(draw: random.Random) -> bytes:
    kind = draw.choice(
        ("text/plain", "application/xml", "multipart/form-data", "image/gif", "image/svg+xml", "", "x" * 300)
    )
    return request("POST", draw.choice(PATHS), json.dumps(_valid(draw)).encode(), kind=kind)


def _noise(draw: random.Random) -> bytes:
    kind = draw.choice(("application/json", "image/png", "image/jpeg", "image/webp", "image/bmp"))
    return request("POST", draw.choice(PATHS), draw.randbytes(draw.randrange(1, 3000)), kind=kind)


def _deep(draw: random.Random) -> bytes:
    count = draw.choice((17, 1000, 60_000))
    body = draw.choice(
        (b"[" * count, b'{"a":' * count, b'{"items":' + b"[" * count + b"]" * count + b"}", b"1" * count)
    )
    return request("POST", draw.choice(PATHS), body)


def _huge(draw: random.Random) -> bytes:
    """More items, pairs, ids or bytes than anyone asks for."""
    path, body = draw.choice(
        (
            ("/embed", b'{"items": [' + b'{"id": 3},' * 15_000 + b'{"id": 3}]}'),
            ("/search", b'{"items": [{"id": 3}], "k": ' + b"9" * draw.randrange(20, 4000) + b"}"),
            ("/verify", b'{"pairs": [' + b'[{"id": 3}, {"id": 4}],' * 7_000 + b'[{"id": 3}, {"id": 4}]]}'),
            ("/items", b'{"items": [{"id": 3, "item": {"embedding": [' + b"0," * 50_000 + b"0]}}]}"),
            (
                "/search",
                b'{"items": [{"id": 3}], "where": {"label": [' + b'"x",' * 40_000 + b'"x"], "y": 1}}',
            ),
        )
    )
    return request("POST", path, body)


def answers(address: str, count: int, seed: int = 0, *, token: str = WRITE) -> Counter[int]:
    """Send requests and count the answers by status; each that is no 4xx is shown."""
    found: Counter[int] = Counter()
    for _, content in zip(range(count), malformed(seed), strict=False):
        content = content.replace(WRITE.encode(), token.encode())
        answer = raw(address, content)
        found[status(answer)] += 1
        if not 400 <= status(answer) < 500:
            print(content[:300], answer[:300], file=sys.stderr)
    return found


if __name__ == "__main__":
    from kyori.serving import Service, Tokens

    from .conftest import LIMITS

    tokens = Tokens([("read", READ), ("write", WRITE)])
    with Service(sys.argv[1], port=0, tokens=tokens, limits=LIMITS) as service:
        counted = answers(service.address, int(sys.argv[2]))
    print(dict(sorted(counted.items())))
    sys.exit(not all(400 <= code < 500 for code in counted))
