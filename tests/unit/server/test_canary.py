"""The live server beside a canary: whatever the canary does, users get good answers and the evidence tells."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from steeltown.contract.evidence import Evidence, Route

DIGEST = "sha256:" + "c" * 64
ANSWER = b'{"model_name":"m","model_version":"canary","outputs":[]}'
Behaviour = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        canary: Any = self.server
        body = self.rfile.read(int(self.headers["content-length"]))
        canary.seen.append((self.path, dict(self.headers), body))
        canary.behaviour(self)

    def reply(self, status: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(ANSWER)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class BurstServer(ThreadingHTTPServer):
    request_queue_size = 256  # with the usual 5, a connection of a burst waits for its second SYN, 1 s later


@pytest.fixture
def canary() -> Iterator[Any]:
    """A canary that does what `behaviour` says; `seen` holds what reached it."""
    server: Any = BurstServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.seen = []
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.released = threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


class Live:
    """A live server and its route file. Each route opens a window of its own, so tests can share it."""

    def __init__(self, server: Any, path: Path) -> None:
        self.server = server
        self._path = path
        self._windows = 0
        self.window = ""

    def route(self, weight: int = 0, url: str = "", digest: str = DIGEST, timeout: int = 2000, mirror: int = 0) -> None:
        self._windows += 1
        self.window = f"window-{self._windows}"
        route = Route(
            window=self.window,
            weight=weight,
            canary_url=url,
            canary_digest=digest,
            mirror=mirror,
            timeout_milliseconds=timeout,
        )
        beside = self._path.with_suffix(".new")
        beside.write_text(route.to_json())
        os.replace(beside, self._path)
        deadline = time.monotonic() + 2
        while (self.evidence().window, self.evidence().route) != (self.window, route.fingerprint):
            assert time.monotonic() < deadline, "a route takes force within 2 s"
            time.sleep(0.02)

    def evidence(self) -> Evidence:
        evidence: Evidence = self.server.evidence()
        return evidence

    def infer(self, body: Any, count: int = 1) -> list[httpx.Response]:
        with httpx.Client(timeout=30) as client:
            url = f"{self.server.url}/v2/models/m/infer"
            return [client.post(url, json=body) for _ in range(count)]


@pytest.fixture(scope="module")
def live(serve: Any, make_folder: Any, models: Any, tmp_path_factory: pytest.TempPathFactory) -> Live:
    path = tmp_path_factory.mktemp("route") / "route.json"
    folder = make_folder(models["scale"](), x=np.array([[1, 2, 3]], np.float32))
    return Live(serve(folder, route_file=path, canary_in_flight=4), path)


@pytest.mark.parametrize("path", ["/v2/models/m/infer", "/v2/models/m/infer/", "/v2/models/%6D/infer?trace=1"])
def test_canary_is_asked_by_the_plain_path_however_the_client_wrote_it(
    path: str, live: Live, canary: Any, row: Any
) -> None:
    canary.behaviour = lambda handler: handler.reply(200, steeltown_digest=DIGEST)
    live.route(weight=100, url=canary.url)
    assert httpx.post(live.server.url + path, json=row).content == ANSWER
    assert [target for target, _, _ in canary.seen] == ["/v2/models/m/infer"]


@pytest.fixture(scope="module")
def tripling(serve: Any, make_folder: Any, models: Any) -> Any:
    """A real canary: y = 3 x."""
    folder = make_folder(models["scale"](3.0), x=np.array([[1, 2, 3]], np.float32))
    return serve(folder, model_version="m-v2")


def numbers(evidence: Evidence) -> dict[str, tuple[int, int, int]]:
    return {
        side: (counts.requests, counts.errors, counts.latency.total)
        for side, counts in (("live", evidence.live), ("canary", evidence.canary))
    }


def outputs(answers: list[httpx.Response]) -> list[Any]:
    assert {a.status_code for a in answers} == {200}
    return [a.json()["outputs"][0]["data"] for a in answers]


def test_real_canary_gets_exactly_its_share_and_answers_for_itself(live: Live, tripling: Any, row: Any) -> None:
    live.route(25, tripling.url, tripling.digest)
    before = tripling.evidence().live.requests
    answers = live.infer(row, 200)
    data = outputs(answers)
    assert data.count([3, 6, 9]) == 50
    assert data.count([2, 4, 6]) == 150
    assert [data[i : i + 100].count([3, 6, 9]) for i in (0, 100)] == [25, 25]
    for answer, values in zip(answers, data, strict=True):
        own = values == [2, 4, 6]
        assert answer.headers["steeltown-digest"] == (live.server.digest if own else tripling.digest)
        assert answer.json()["model_version"] == ("m-v1" if own else "m-v2")
    assert numbers(live.evidence()) == {"live": (150, 0, 150), "canary": (50, 0, 50)}
    assert tripling.evidence().live.requests - before == 50


def test_real_canary_answers_binary_requests_unchanged(live: Live, tripling: Any) -> None:
    live.route(100, tripling.url, tripling.digest)
    headers = {"inference-header-content-length": "0", "content-type": "application/octet-stream"}
    content = np.array([1, 2, 3], np.float32).tobytes()
    urls = [f"{s.url}/v2/models/m/infer" for s in (live.server, tripling)]
    through, direct = (httpx.post(url, content=content, headers=headers) for url in urls)
    for name in ("content-type", "inference-header-content-length", "steeltown-digest"):
        assert through.headers[name] == direct.headers[name]
    assert through.content == direct.content
    assert numbers(live.evidence())["canary"] == (1, 0, 1)


def settled(live: Live, requests: int) -> Evidence:
    """Copies are answered after the user is."""
    deadline = time.monotonic() + 5
    while (evidence := live.evidence()).canary.requests < requests and time.monotonic() < deadline:
        time.sleep(0.01)
    return evidence


def test_copied_requests_are_compared_and_the_user_sees_the_live_answer(live: Live, tripling: Any, row: Any) -> None:
    live.route(0, tripling.url, tripling.digest, mirror=50)
    for copies in range(50):
        assert outputs(live.infer(row, 2)) == [[2, 4, 6]] * 2
        evidence = settled(live, copies + 1)  # or more copies than may be under way would wait for a slow machine
    assert numbers(evidence) == {"live": (100, 0, 100), "canary": (50, 0, 50)}
    pairs = evidence.pairs
    assert (pairs.compared, pairs.agreed, pairs.failed) == (50, 0, 0)
    assert pairs.difference.total == 50
    third = pairs.difference.quantile(0.5)
    assert third is not None
    assert third == pytest.approx(1e6 / 3, rel=0.07)  # |2 - 3| / 3, in every element


def test_copies_to_the_same_model_agree_also_in_binary(live: Live, serve: Any, scaled: Any, row: Any) -> None:
    twin = serve(scaled)
    live.route(0, twin.url, twin.digest, mirror=100)
    binary = row | {"parameters": {"binary_data_output": True}}
    for number, body in enumerate((row, binary, row | {"id": "x"})):
        live.infer(body, 2)
        pairs = settled(live, 2 * number + 2).pairs
    assert (pairs.compared, pairs.agreed, pairs.failed, pairs.difference.counts) == (6, 6, 0, {0: 6})


def test_share_and_copies_stand_beside_each_other(live: Live, tripling: Any, row: Any) -> None:
    live.route(20, tripling.url, tripling.digest, mirror=50)
    seen = []
    for _ in range(20):
        seen += outputs(live.infer(row, 5))
        evidence = settled(live, 3 * len(seen) // 5)  # one of five handed over, two of the others copied
    assert seen.count([3, 6, 9]) == 20
    assert numbers(evidence) == {"live": (80, 0, 80), "canary": (60, 0, 60)}
    assert evidence.pairs.compared == 40


@pytest.mark.parametrize("status", [200, 500])
def test_copy_that_fails_is_the_canarys_error_and_nobody_elses(live: Live, canary: Any, row: Any, status: int) -> None:
    """200: an answer that has another digest."""
    canary.behaviour = (lambda h: h.reply(200)) if status == 200 else with_digest(500)
    live.route(0, canary.url, mirror=100)
    assert outputs(live.infer(row, 5)) == [[2, 4, 6]] * 5
    evidence = settled(live, 5)
    assert numbers(evidence) == {"live": (5, 0, 5), "canary": (5, 5, 0)}
    assert (evidence.pairs.compared, evidence.pairs.failed) == (0, 5)


def test_canary_that_hangs_holds_no_user_of_a_copy(live: Live, canary: Any, row: Any) -> None:
    canary.behaviour = hang
    live.route(0, canary.url, timeout=30_000, mirror=100)
    assert outputs(live.infer(row, 20)) == [[2, 4, 6]] * 20
    evidence = live.evidence()
    assert evidence.live.requests == 20
    assert evidence.canary.errors == 16, "4 are under way, the bound; the others were not sent"


def hang(handler: Handler) -> None:
    handler.server.released.wait(30)  # type: ignore[attr-defined]


def break_off(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
    handler.close_connection = True


def gibberish(handler: Handler) -> None:
    handler.wfile.write(b"this is not HTTP\r\n\r\n")


def with_digest(status: int, **more: str) -> Behaviour:
    return lambda handler: handler.reply(status, steeltown_digest=DIGEST, **more)


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (with_digest(500), "status"),
        (with_digest(503), "status"),
        (with_digest(400), "status"),
        (with_digest(302), "status"),
        (lambda handler: handler.reply(200), "digest"),
        (lambda handler: handler.reply(200, steeltown_digest="sha256:" + "d" * 64), "digest"),
        (with_digest(200, steeltown_non_finite='["y"]'), "non_finite"),
        (hang, "timeout"),
        (break_off, "broken"),
        (gibberish, "broken"),
    ],
    ids=["500", "503", "400", "302", "no digest", "wrong digest", "NaN", "hang", "half an answer", "gibberish"],
)
def test_whatever_the_canary_does_the_live_model_answers_and_the_evidence_counts_it(
    live: Live, canary: Any, row: Any, behaviour: Behaviour, kind: str
) -> None:
    canary.behaviour = behaviour
    live.route(50, canary.url, timeout=100)
    metric = "steeltown_server_canary_requests_total"
    before = live.server.metric(metric)
    answers = live.infer(row, 8)
    assert outputs(answers) == [[2, 4, 6]] * 8
    assert max(a.elapsed.total_seconds() for a in answers) < 2, "the deadline of the route, not of the client"
    assert numbers(live.evidence()) == {"live": (4, 0, 4), "canary": (4, 4, 0)}
    assert len(canary.seen) == 4
    (fault,) = live.evidence().canary.faults
    assert (fault.kind.split(" ")[0], fault.count, bool(fault.first)) == (kind, 4, True)
    assert live.server.metric(metric) - before == 4
    logged = [line["kind"] for line in live.server.logged("canary failed") if line["window"] == live.window]
    assert logged == [kind], "once an window"


def test_canary_that_is_not_there_costs_users_nothing(live: Live, row: Any) -> None:
    live.route(50, "http://127.0.0.1:9")
    assert outputs(live.infer(row, 8)) == [[2, 4, 6]] * 8
    assert numbers(live.evidence())["canary"] == (4, 4, 0)


def test_hanging_canary_holds_a_bounded_number_of_requests(live: Live, canary: Any, row: Any) -> None:
    canary.behaviour = hang
    live.route(100, canary.url, timeout=1500)
    with ThreadPoolExecutor(16) as pool:
        answers = [a for part in pool.map(lambda _: live.infer(row), range(16)) for a in part]
    assert outputs(answers) == [[2, 4, 6]] * 16
    assert len(canary.seen) == 4, "canary_in_flight"
    assert numbers(live.evidence())["canary"] == (16, 16, 0)


def test_pipelined_answers_keep_their_order_when_the_canary_is_slow(live: Live, canary: Any, row: Any) -> None:
    def answer_late(handler: Handler) -> None:
        time.sleep(0.05)
        with_digest(200)(handler)

    canary.behaviour = answer_late
    live.route(50, canary.url)
    requests = []
    for number in range(6):
        body = json.dumps(row | {"id": f"number {number}"}).encode()
        head = b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n" % len(body)
        requests.append(head + (b"connection: close\r\n" if number == 5 else b"") + b"\r\n" + body)
    with socket.create_connection(("127.0.0.1", live.server.port), timeout=10) as client:
        client.sendall(b"".join(requests))
        answers = b"".join(iter(lambda: client.recv(65536), b"")).split(b"HTTP/1.1 200 OK")[1:]
    assert [ANSWER in a for a in answers].count(True) == 3
    assert all(ANSWER in a or b"number %d" % i in a for i, a in enumerate(answers))


def test_heavy_and_light_requests_in_turn_reach_both_sides(live: Live, canary: Any, row: Any) -> None:
    """A rhythm in what is asked is nobody's share: of 100 heavy requests the canary gets some half."""
    canary.behaviour = with_digest(200)
    live.route(50, canary.url)
    with httpx.Client(timeout=30) as client:
        for number in range(200):
            body = row | {"id": ("heavy", "light")[number % 2]}
            assert client.post(f"{live.server.url}/v2/models/m/infer", json=body).status_code == 200
    heavy = sum(b'"heavy"' in body for _, _, body in canary.seen)
    assert len(canary.seen) == 100
    assert 20 < heavy < 80, "1 in 10^9 to fail by chance"


def test_stale_kept_alive_connection_is_not_the_canarys_fault(live: Live, canary: Any, row: Any) -> None:
    """The other end may close an idle connection just as we write; the request goes out once more."""

    def answer_one_request_per_connection(handler: Handler) -> None:
        if getattr(handler, "served", False):
            handler.close_connection = True
        else:
            handler.served = True  # type: ignore[attr-defined]
            with_digest(200)(handler)

    canary.behaviour = answer_one_request_per_connection
    live.route(100, canary.url)
    assert {a.status_code for a in live.infer(row, 10)} == {200}
    assert len(canary.seen) > 10, "some were sent twice"
    assert numbers(live.evidence())["canary"] == (10, 0, 10)


def test_connections_to_the_canary_are_kept(live: Live, canary: Any, row: Any) -> None:
    ports: list[int] = []

    def remember_the_connection(handler: Handler) -> None:
        ports.append(handler.client_address[1])
        with_digest(200)(handler)

    canary.behaviour = remember_the_connection
    live.route(100, canary.url)
    live.infer(row, 20)
    assert len(set(ports)) == 1


def test_request_reaches_the_canary_as_it_was_sent(live: Live, canary: Any, row: Any) -> None:
    canary.behaviour = with_digest(200)
    live.route(100, canary.url)
    sent = json.dumps(row | {"id": "7"}).encode()
    url = f"{live.server.url}/v2/models/m/infer"
    httpx.post(url, content=sent, headers={"content-type": "application/json", "authorization": "secret"})
    path, headers, body = canary.seen[0]
    assert (path, body) == ("/v2/models/m/infer", sent)
    assert headers["content-type"] == "application/json"
    assert "authorization" not in {name.lower() for name in headers}, "a user's credentials are not the canary's"


def test_clients_mistakes_and_named_versions_never_reach_the_canary(live: Live, canary: Any, row: Any) -> None:
    canary.behaviour = with_digest(200)
    live.route(100, canary.url)
    assert live.infer({"inputs": []})[0].status_code == 400
    named = httpx.post(f"{live.server.url}/v2/models/m/versions/m-v1/infer", json=row)
    assert outputs([named]) == [[2, 4, 6]]
    assert canary.seen == []
    assert numbers(live.evidence()) == {"live": (0, 0, 0), "canary": (0, 0, 0)}


def test_new_epoch_starts_at_zero_and_late_answers_count_to_their_own(live: Live, canary: Any, row: Any) -> None:
    canary.behaviour = lambda handler: (handler.server.released.wait(30), with_digest(200)(handler))
    live.route(100, canary.url, timeout=20_000)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(live.infer, row)
        while not canary.seen:
            time.sleep(0.01)
        live.route(0)
        assert outputs(live.infer(row, 3)) == [[2, 4, 6]] * 3
        canary.released.set()
        assert late.result()[0].json()["outputs"] == []
    evidence = live.evidence()
    assert (evidence.window, evidence.weight) == (live.window, 0)
    assert numbers(evidence) == {"live": (3, 0, 3), "canary": (0, 0, 0)}


def test_weight_zero_sends_nothing(live: Live, canary: Any, row: Any) -> None:
    canary.behaviour = with_digest(200)
    live.route(0, canary.url)
    live.infer(row, 20)
    assert canary.seen == []
    assert numbers(live.evidence()) == {"live": (20, 0, 20), "canary": (0, 0, 0)}
