"""Bodies in gzip and deflate, both ways, and what must not unfold."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from typing import Any

import httpx
import numpy as np
import pytest
from steeltown_server.encoding import UnsupportedEncoding, decode, negotiate
from steeltown_server.signature import BadRequest, TooLarge

INFER = "/v2/models/m/infer"
TEXT = b"the same again and again " * 100


def packed(body: bytes) -> bytes:
    """Without the time in it: it would be in the names of the tests."""
    return gzip.compress(body, mtime=0)


def raw_deflate(body: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return encoder.compress(body) + encoder.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip", packed(TEXT)),
        (b"x-gzip", packed(TEXT)),
        (b"GZIP", packed(TEXT)),
        (b"gzip", packed(TEXT[:100]) + packed(TEXT[100:])),  # RFC 1952 2.2: members in a row
        (b"deflate", zlib.compress(TEXT)),
        (b"deflate", raw_deflate(TEXT)),
        (b"identity", TEXT),
        (b"identity, gzip", packed(TEXT)),
    ],
)
def test_body_is_what_it_was(encoding: bytes, body: bytes) -> None:
    assert decode(encoding, body, len(TEXT)) == TEXT


@pytest.mark.parametrize(
    ("encoding", "body", "message"),
    [
        (b"gzip", b"no gzip at all", "not valid gzip"),
        (b"gzip", packed(TEXT)[:-3], "truncated"),
        (b"gzip", packed(TEXT) + b"more", "not valid gzip"),
        (b"deflate", zlib.compress(TEXT) + b"more", "4 trailing bytes"),
        (b"deflate", b"\x78\x9c" + b"x" * 40, "not valid deflate"),
        (b"gzip", packed(b"") * 5000, "1024 members, the limit"),
    ],
)
def test_body_that_is_not_what_it_says_is_refused(encoding: bytes, body: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        decode(encoding, body, 10_000)


@pytest.mark.parametrize("body", [packed(bytes(1 << 30 >> 4)), packed(bytes(600)) * 2], ids=["one", "two"])
def test_bomb_is_refused_at_the_limit(body: bytes) -> None:
    with pytest.raises(TooLarge, match="limit of 1000 bytes"):
        decode(b"gzip", body, 1000)


def test_body_of_many_slices_and_members() -> None:
    whole = os.urandom(300_000)
    packed = b"".join(gzip.compress(whole[i : i + 70_000]) for i in range(0, len(whole), 70_000))
    assert decode(b"gzip", packed, len(whole)) == whole
    long = bytes(5_000_000) + os.urandom(50_000)
    assert decode(b"deflate", zlib.compress(long), len(long)) == long


def test_body_that_unfolds_to_hundreds_of_times_its_size_is_refused() -> None:
    """Whatever the limit. A megabyte is anybody's, so that small bodies may be as repetitive as they like."""
    assert decode(b"gzip", packed(bytes(1 << 20)), 1 << 30) == bytes(1 << 20)
    with pytest.raises(TooLarge, match="bytes and decompresses to more than 200 times as much"):
        decode(b"gzip", packed(bytes(10 << 20)), 1 << 30)


def test_unknown_encoding_names_the_known_ones() -> None:
    with pytest.raises(UnsupportedEncoding, match="unsupported content-encoding br: use gzip, deflate, identity"):
        decode(b"br", b"", 10)


@pytest.mark.parametrize(
    ("encoding", "body", "message"),
    [
        (b"gzip, deflate", zlib.compress(packed(TEXT)), "content-encoding has 2 layers: use one of gzip, deflate"),
        (b"gzip,gzip,gzip,gzip,gzip", b"", "content-encoding has 5 layers"),
    ],
)
def test_layer_around_a_layer_is_not_supported(encoding: bytes, body: bytes, message: str) -> None:
    with pytest.raises(UnsupportedEncoding, match=message):
        decode(encoding, body, 10_000)


@pytest.mark.parametrize(
    ("accepted", "name"),
    [
        (b"gzip", b"gzip"),
        (b"deflate", b"deflate"),
        (b"deflate, gzip", b"gzip"),
        (b"deflate, gzip;q=0.5", b"deflate"),
        (b"gzip;q=0, deflate;q=0.1", b"deflate"),
        (b"*", b"gzip"),
        (b"br, zstd", None),
        (b"identity", None),
        (b"gzip;q=0", None),
        (b"gzip;q=x", None),
        (b"gzip;q=0, *", b"deflate"),
        (b"gzip;q=0, deflate;q=0, *", None),
        (b"*;q=0", None),
        (b"", None),
    ],
)
def test_best_liked_encoding_is_chosen(accepted: bytes, name: bytes | None) -> None:
    chosen = negotiate(accepted)
    assert (chosen and chosen[0]) == name
    if chosen:
        assert decode(chosen[0], chosen[1](TEXT), len(TEXT)) == TEXT


@pytest.fixture(scope="module")
def server(serve: Any, make_folder: Any, models: Any) -> Any:
    return serve(make_folder(models["scale"](), x=np.array([[1, 2, 3]], np.float32)), body_limit_bytes=1 << 20)


def post(server: Any, body: bytes, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(server.url + INFER, content=body, headers={"accept-encoding": "identity", **names}, timeout=20)


@pytest.mark.parametrize("name", ["gzip", "deflate"])
@pytest.mark.parametrize("rows", [200, 20_000], ids=["inline", "in a thread"])
def test_both_ways_over_http(server: Any, name: str, rows: int) -> None:
    """The JSON's length is that before the encoding."""
    array = np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)
    head = json.dumps(
        {
            "inputs": [
                {"name": "x", "shape": [rows, 3], "datatype": "FP32", "parameters": {"binary_data_size": array.nbytes}}
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    packed = gzip.compress(head + array.tobytes()) if name == "gzip" else zlib.compress(head + array.tobytes())
    length = str(len(head))
    answer = post(server, packed, content_encoding=name, accept_encoding=name, inference_header_content_length=length)
    assert answer.status_code == 200
    assert answer.headers["content-encoding"] == name
    assert answer.headers["vary"] == "accept-encoding"
    assert int(answer.headers["content-length"]) < len(answer.content)  # httpx has decoded it
    tail = answer.content[int(answer.headers["inference-header-content-length"]) :]
    assert np.array_equal(np.frombuffer(tail, np.float32).reshape(rows, 3), array * 2)


def test_small_answer_is_not_encoded(server: Any, row: Any) -> None:
    answer = post(server, json.dumps(row).encode(), accept_encoding="gzip")
    assert answer.status_code == 200
    assert "content-encoding" not in answer.headers


def test_faults_have_their_status(server: Any) -> None:
    bomb = gzip.compress(bytes(2 << 20))
    for body, encoding, status, message in [
        (bomb, "gzip", 413, "decompressed body exceeds the limit of 1048576 bytes"),
        (b"x", "gzip", 400, "the body is not valid gzip"),
        (b"x", "br", 415, "use gzip, deflate, identity"),
    ]:
        answer = post(server, body, content_encoding=encoding)
        assert (answer.status_code, list(answer.json())) == (status, ["error"])
        assert message in answer.json()["error"]
    assert answer.headers["accept-encoding"] == "gzip, deflate, identity"
