"""The response parser: any split of the bytes gives the same response."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from steeltown_checker.load.http1 import Response, ResponseParser

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSteeltown-Digest:  sha256:ab \r\n\r\nhello"
CHUNKED = b"HTTP/1.1 500 Oh no\r\nTransfer-Encoding: chunked\r\n\r\n2;x=1\r\nhe\r\n3\r\nllo\r\n0\r\nTrailer: t\r\n\r\n"


def parse(data: bytes, cuts: list[int]) -> Response | None:
    parser, last = ResponseParser(), None
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        if start < end:
            assert last is None, "a response before all of its bytes"
            last = parser.feed(data[start:end])
    return last


@given(st.lists(st.integers(0, len(PLAIN))).map(sorted))
def test_sized_body_in_any_pieces(cuts: list[int]) -> None:
    headers = {"content-length": "5", "steeltown-digest": "sha256:ab"}
    assert parse(PLAIN, cuts) == Response(200, headers, b"hello", True)


@given(st.lists(st.integers(0, len(CHUNKED))).map(sorted))
def test_chunked_body_in_any_pieces(cuts: list[int]) -> None:
    assert parse(CHUNKED, cuts) == Response(500, {"transfer-encoding": "chunked"}, b"hello", True)


def test_connection_carries_one_response_after_another() -> None:
    parser = ResponseParser()
    assert [parser.feed(PLAIN), parser.feed(CHUNKED)] == [parse(PLAIN, []), parse(CHUNKED, [])]


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.0 204 X\r\n\r\n"]
)
def test_connection_that_closes_is_not_used_again(head: bytes) -> None:
    response = ResponseParser().feed(head)
    assert response is not None and not response.reusable


def test_bytes_after_the_response_make_the_connection_unusable() -> None:
    response = ResponseParser().feed(PLAIN + b"HTTP/1.1")
    assert response is not None and not response.reusable


def test_body_without_a_length_ends_with_the_connection() -> None:
    parser = ResponseParser()
    assert parser.feed(b"HTTP/1.1 200 OK\r\n\r\nhel") is None
    assert parser.feed(b"lo") is None
    assert parser.eof() == Response(200, {}, b"hello", False)


@pytest.mark.parametrize("cut", [0, 10, len(PLAIN) - 1])
def test_connection_that_ends_too_early_gives_no_response(cut: int) -> None:
    parser = ResponseParser()
    parser.feed(PLAIN[:cut])
    assert parser.eof() is None


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"x" * 70_000,
    ],
)
def test_what_is_no_http_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        ResponseParser().feed(data)
