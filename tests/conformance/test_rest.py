"""Every row of the table, and what takes more than one request to see."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from steeltown_testing.conformance import cases
from steeltown_testing.conformance import target as targets
from steeltown_testing.conformance.cases import CASES, INFER, STEELTOWN, Case
from steeltown_testing.conformance.checks import gives, is_error
from steeltown_testing.conformance.models import GOLDEN
from steeltown_testing.conformance.target import BODY_LIMIT_BYTES
from steeltown_testing.conformance.verdict import extensions_of, judge
from steeltown_testing.conformance.wire import Answer, Body, flat, infer, send, send_raw

FindTarget = Callable[[str], targets.Target]
LEVELS = targets.levels()
at_level = {
    name: pytest.mark.skipif(name not in LEVELS, reason=f"level {name} is not asked for")
    for name in (cases.MUST, cases.SHOULD, STEELTOWN)
}


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name, marks=at_level[c.level]) for c in CASES])
def test_answer_is_what_the_clause_says(case: Case, target: FindTarget) -> None:
    server = target(case.model)
    verdict = judge(case, server, LEVELS, extensions_of(server))
    if verdict.state == "not offered":
        pytest.skip(verdict.reason)
    assert verdict.state == "passed", f"{case.level} ({case.clause}): {verdict.reason}"


def test_names_of_cases_are_unique() -> None:
    names = [c.name for c in CASES]
    assert len(set(names)) == len(names)


@at_level[STEELTOWN]
def test_server_names_the_extensions_that_it_has(target: FindTarget) -> None:
    named = set(extensions_of(target("single")))
    assert {c.extension for c in CASES if c.extension} - {"model_repository"} <= named


@at_level[cases.SHOULD]
@pytest.mark.parametrize(("model", "rows"), [("single", 1), ("pair", 1), ("words", 2), ("edges", 1)])
def test_statistics_count_requests_and_rows(model: str, rows: int, target: FindTarget) -> None:
    """edges has a scalar, so a request of it is one inference whatever its shapes."""
    server = target(model)
    body = infer(*(flat(n, a) for n, a in GOLDEN[model].items()))

    def statistics() -> dict[str, Any]:
        (entry,) = send(server.url, "GET", server.path("/v2/models/{m}/stats"), Body(b"")).json["model_stats"]
        return dict(entry)

    before, started = statistics(), time.time()
    for _ in range(3):
        assert send(server.url, "POST", server.path(INFER), body).status == 200
    after = statistics()
    grown = {k: after[k] - before[k] for k in ("inference_count", "execution_count")}
    success, earlier = after["inference_stats"]["success"], before["inference_stats"]["success"]
    assert grown["inference_count"] == 3 * rows
    assert 1 <= grown["execution_count"] <= 3
    assert success["count"] == earlier["count"] + 3
    assert success["ns"] > earlier["ns"]
    assert after["last_inference"] >= (started - 1) * 1000, "milliseconds since 1970"


# -- HTTP itself: bytes that no client library would send

JSON_BODY = infer(cases.FLAT).content


def _post(*headers: str, body: bytes = b"") -> bytes:
    lines = ["POST /v2/models/single/infer HTTP/1.1", "host: a", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


LENGTH = f"content-length: {len(JSON_BODY)}"
LIVE = b"GET /v2/health/live HTTP/1.1\r\nhost: a\r\n"
GOOD = _post(LENGTH, body=JSON_BODY)
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n"


@at_level[cases.MUST]
@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([bytes([b]) for b in GOOD], id="a byte at a time"),
        pytest.param([_post("transfer-encoding: chunked", body=CHUNKED % (len(JSON_BODY), JSON_BODY))], id="chunked"),
        pytest.param(
            [_post("expect: 100-continue", f"content-length: {len(JSON_BODY)}"), JSON_BODY], id="100-continue"
        ),
        pytest.param([GOOD.replace(b"content-length", b"CoNtEnT-LeNgTh")], id="header names in any case"),
    ],
)
def test_request_is_understood_however_it_is_sent(chunks: list[bytes], target: FindTarget) -> None:
    (answer,) = send_raw(target("single").url, *chunks)
    assert answer.status == 200
    gives(y=cases.Y)(answer)


@at_level[cases.MUST]
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(LIVE.replace(b"/v2", b"http://a/v2") + b"\r\n", id="absolute form (RFC 9112, 3.2.2)"),
        pytest.param(LIVE + b"connection: upgrade\r\nupgrade: h2c\r\n\r\n", id="upgrade that is ignored"),
        pytest.param(b"GET /v2/health/live HTTP/1.0\r\n\r\n", id="HTTP/1.0"),
    ],
)
def test_unusual_request_is_understood(raw: bytes, target: FindTarget) -> None:
    (answer,) = send_raw(target("single").url, raw)
    assert answer.status == 200, answer
    assert answer.json == {"live": True}


@at_level[cases.MUST]
def test_requests_on_one_connection_are_answered_in_order(target: FindTarget) -> None:
    requests = [infer(cases.FLAT, id=str(i)).content for i in range(5)]
    sent = b"".join(_post(f"content-length: {len(r)}", body=r) for r in requests)
    answers = send_raw(target("single").url, sent, answers=5)
    assert [a.json["id"] for a in answers] == ["0", "1", "2", "3", "4"]


@at_level[cases.MUST]
@pytest.mark.parametrize(
    ("raw", "statuses"),
    [
        pytest.param(b"hello\r\n\r\n", (400,), id="no request line"),
        pytest.param(b"GET /v2\r\n\r\n", (400, 505), id="no version"),
        pytest.param(b"GET /v2 HTTP/1.1\r\n\r\n", (400,), id="no host (RFC 9112, 3.2)"),
        pytest.param(LIVE + b"host: b\r\n\r\n", (400,), id="two hosts (RFC 9112, 3.2)"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505), id="HTTP/2"),
        pytest.param(_post("content-length : 2", body=b"{}"), (400,), id="space before a colon"),
        pytest.param(_post("transfer-encoding: xchunked"), (400, 501), id="unknown transfer-encoding"),
        pytest.param(b"GET /v2 HTTP/1.1\r\nno colon\r\n\r\n", (400,), id="header without colon"),
        pytest.param(_post("content-length: ten"), (400,), id="content-length is no number"),
        pytest.param(_post("content-length: 2", "content-length: 3", body=b"{}"), (400,), id="two content-lengths"),
        pytest.param(
            _post("content-length: 2", "transfer-encoding: chunked", body=b"0\r\n\r\n"), (400,), id="both lengths"
        ),
        pytest.param(_post("transfer-encoding: chunked", body=b"zz\r\n"), (400,), id="chunk size is no number"),
    ],
)
def test_malformed_http_is_refused(raw: bytes, statuses: tuple[int, ...], target: FindTarget) -> None:
    (answer,) = send_raw(target("single").url, raw)
    assert answer.status in statuses
    if STEELTOWN in LEVELS:
        is_error(answer)


@at_level[STEELTOWN]
def test_header_that_says_two_things_is_refused(target: FindTarget) -> None:
    """Two readers that each believe another line would see two different requests."""
    body = JSON_BODY.ljust(-(-len(JSON_BODY) // 12) * 12)  # whole rows: as a raw request it is right, too
    lengths = [f"inference-header-content-length: {n}" for n in (len(body), 0)]
    (answer,) = send_raw(target("single").url, _post(f"content-length: {len(body)}", *lengths, body=body))
    assert answer.status == 400, answer


@at_level[STEELTOWN]
@pytest.mark.parametrize("layers", [1, 900])
def test_compressed_body_costs_no_more_than_its_size(layers: int, target: FindTarget) -> None:
    """Neither many empty gzip members nor many layers may stop a server that does one thing at a time."""
    content = gzip.compress(b"") * (BODY_LIMIT_BYTES // 25) if layers == 1 else _layered(layers)
    started = time.monotonic()
    headers = {"content-encoding": ", ".join(["gzip"] * layers)}
    answer = send(target("single").url, "POST", "/v2/models/single/infer", Body(content, headers))
    assert answer.status in (400, 415), answer
    assert time.monotonic() - started < 2


def _layered(layers: int) -> bytes:
    content = bytes(BODY_LIMIT_BYTES - 1000 * layers)
    for _ in range(layers):
        content = gzip.compress(content, compresslevel=0)
    return content


@at_level[STEELTOWN]
def test_server_answers_after_everything_above(target: FindTarget) -> None:
    answer: Answer = send(target("single").url, "POST", "/v2/models/single/infer", infer(flat("x", cases.X)))
    assert json.loads(answer.content)["outputs"][0]["name"] == "y"
