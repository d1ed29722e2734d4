"""Places that data may come from: parts are compared as wholes, and nothing is decoded twice or not at all."""

from __future__ import annotations

import pytest
from steeltown.contract.sources import DEFAULT_SOURCES, allows, places

ALLOWED = {
    # source: URIs that it allows, URIs that it does not
    "s3://": (["s3://a/b", "s3://b/c?x"], ["gs://a/b", "S3://a/b", "https://a/b"]),
    "s3://data": (["s3://data/x", "s3://data/a/../x"], ["s3://database/x", "s3://data.evil/x", "gs://data/x"]),
    "s3://data/public": (
        ["s3://data/public/x", "s3://data/public"],
        [
            "s3://data/publicity/x",
            "s3://data/x",
            "s3://data/public/../x",
            "s3://data/./public/x",
            "s3://other/public/x",
        ],
    ),
    "https://": (["https://a/b", "https://a:444/b?c"], ["http://a/b", "file:///a"]),
    "https://data.example.com": (
        ["https://data.example.com/x?sig=a/../b", "https://DATA.example.com/x"],
        [
            "https://data.example.com.evil.com/x",
            "https://data.example.com@evil.com/x",
            "https://data.example.com:444/x",
            "https://me@data.example.com/x",
            "https://evil.com?/data.example.com/",
            "https://evil.com#data.example.com",
            "https://data.example.com\\@evil.com/x",
            "http://data.example.com/x",
        ],
    ),
    "http://data:8080/a/b": (
        ["http://data:8080/a/b/c", "http://data:8080/a//b/c", "http://data:8080/a/%62/c"],
        [
            "http://data:8080/a/bc",
            "http://data:8080/a/b/../c",
            "http://data:8080/a/b/%2e%2E/c",
            "http://data:8080/a/b/x%2f..%2f..%2fc",
            "http://data:8080/a/b/..\\c",
            "http://data:8080/c?/a/b",
            "http://data/a/b/c",
        ],
    ),
    "file:///data": (
        ["file:///data/x", "file:///data"],
        [
            "file:///database/x",
            "file:///etc/passwd",
            "file:///data/../etc/passwd",
            "file://data/x",
            "file://host/data/x",
        ],
    ),
    "file:///": (["file:///etc/passwd"], ["file://host/x"]),
    DEFAULT_SOURCES: (
        ["s3://a/b", "gs://a/b", "az://a/b", "https://a/b", "http://a/b"],
        ["file:///etc/passwd", "file:///", "ftp://a/b", "data:,x", "/etc/passwd", ""],
    ),
    " s3://a , https://b/c ": (["s3://a/x", "https://b/c/x"], ["s3://b/x", "https://b/x"]),
}


@pytest.mark.parametrize(("text", "uri"), [(t, u) for t, (good, _) in ALLOWED.items() for u in good])
def test_source_allows_what_lies_below_it(text: str, uri: str) -> None:
    assert allows(places(text), uri)


@pytest.mark.parametrize(("text", "uri"), [(t, u) for t, (_, bad) in ALLOWED.items() for u in bad])
def test_source_allows_nothing_else(text: str, uri: str) -> None:
    assert not allows(places(text), uri)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no source is allowed"),
        (" , ", "no source is allowed"),
        ("s3", "must begin with s3://"),
        ("ftp://x", "must begin with s3://"),
        ("s3://a,bucket", "source 'bucket' is none"),
        ("file://", "names no folder"),
        ("file://data", "names no folder"),
        ("https://user@host", "must be a scheme, a host or bucket, and folders alone"),
        ("https://*.example.com", "must be a scheme"),
        ("https://host/a?b", "must be a scheme"),
        ("s3://a/../b", "must be a scheme"),
        ("s3:///a", "has folders and no bucket or host"),
    ],
)
def test_list_that_says_something_else_than_it_seems_to_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("*", ".")):
        places(text)
