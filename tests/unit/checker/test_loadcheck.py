"""`loadcheck` against real servers on loopback: what is an error, what is slow, and when nothing is known."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from steeltown.contract.faults import Fault
from steeltown.contract.golden import Golden
from steeltown.contract.histogram import Histogram
from steeltown.contract.plans import FetchPlan, FinalisePlan, LoadCheckPlan, Task, TaskType
from steeltown.contract.reports import LIMIT_BYTES, InterfaceReport, LoadReport, LoadSide
from steeltown_checker import __main__ as checker
from steeltown_checker.load import generator, step
from steeltown_checker.load.exchange import bodies, target
from steeltown_checker.load.http1 import Response
from steeltown_server.request import RequestDecoder
from steeltown_server.signature import Signature, TensorSpec

GOOD = b'{"outputs":[{"name":"y","shape":[1],"datatype":"FP32","data":[1.5]}]}'
Answer = Callable[[str, bytes], tuple[int, dict[str, str], bytes]]


@pytest.fixture
def digest(workspace: Any, models: Any) -> str:
    """Of a model in the store, with three golden rows."""
    rows = pl.DataFrame({"a": [1.0, 2.0, 3.0], "y": [1.0, 2.0, 3.0]})
    workspace.trained(models.per_column(("a",)), evaluation=rows)
    task = Task(type=TaskType.REGRESSION, target="y")
    return str(workspace.step("finalise", FinalisePlan(run="r", store=workspace.store, task=task))[1].digest)


@pytest.fixture
def loadcheck(workspace: Any, digest: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, LoadReport]]:
    # On a busy machine late requests are still sent, so that tests can count them.
    monkeypatch.setattr(generator, "GRACE_SECONDS", 30.0)

    def run(candidate: str, baseline: str = "", live: str = "", **more: Any) -> tuple[int, LoadReport]:
        plan = LoadCheckPlan(
            **{
                "model": "flights",
                "candidate_url": candidate,
                "candidate_digest": digest,
                "baseline_url": baseline,
                "golden": FetchPlan(store=workspace.store, digest=digest),
                "latency_milliseconds": 1500.0,  # far from what a busy machine adds to a quick answer
                "rate_per_second": 100.0,
                "warm_up_seconds": 0.1,
                "block_seconds": 0.2,
                "blocks": 2,
                "timeout_seconds": 20.0,
                **more,
            }
        )
        env = {**workspace.env, "STEELTOWN_PLAN": plan.to_json(), "STEELTOWN_LIVE_DIGEST": live}
        code = checker.main(["loadcheck"], env)
        report = LoadReport.decode((workspace.root / "termination-log").read_text())
        assert report is not None
        return code, report

    return run


@pytest.fixture
def other(workspace: Any, models: Any, digest: str) -> str:
    """Of a model in the store whose input has another name."""
    workspace.trained(models.per_column(("b",)), evaluation=pl.DataFrame({"b": [7.0, 8.0], "y": [7.0, 8.0]}))
    task = Task(type=TaskType.REGRESSION, target="y")
    return str(workspace.step("finalise", FinalisePlan(run="o", store=workspace.store, task=task))[1].digest)


def server(digest: str, infer: Answer | None = None) -> Answer:
    def answer(path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if path == "/v2/health/ready":
            return 200, {}, b""
        return infer(path, body) if infer else (200, {"Steeltown-Digest": digest}, GOOD)

    return answer


def test_good_candidate_answers_everything(serve: Any, loadcheck: Any, digest: str) -> None:
    code, report = loadcheck(serve(server(digest)))
    assert (code, report.problem, report.baseline) == (0, "", None)
    side = report.candidate
    assert (side.sent, side.errors, side.over, side.first_error) == (40, 0, 0, "")
    assert side.latency.total == 40


def test_golden_rows_are_sent_in_turn_to_the_model(serve: Any, loadcheck: Any, digest: str) -> None:
    asked: list[tuple[str, Any]] = []

    def infer(path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        asked.append((path, json.loads(body)["inputs"]))
        return 200, {"Steeltown-Digest": digest}, GOOD

    loadcheck(serve(server(digest, infer)), rate_per_second=50.0)
    assert {path for path, _ in asked} == {"/v2/models/flights/infer"}
    sent = Counter(json.dumps(inputs) for _, inputs in asked)
    row = '[{"name": "a", "shape": [1, 1], "datatype": "FP32", "data": [%.1f]}]'
    assert sent == {row % 1: 9, row % 2: 8, row % 3: 8}  # 5 to warm up and 20


def test_model_that_takes_no_single_rows_is_asked_for_all_golden_rows_at_once(
    serve: Any, loadcheck: Any, workspace: Any, models: Any
) -> None:
    rows = pl.DataFrame({"a": [1.0, 2.0, 3.0], "b": [4.0, 5.0, 6.0], "y": [1.0, 2.0, 3.0]})
    workspace.trained(models.matrix([1.0, 2.0], batch=4), evaluation=rows)
    task = Task(type=TaskType.REGRESSION, target="y", features=("a", "b"))
    fixed = workspace.step("finalise", FinalisePlan(run="r", store=workspace.store, task=task))[1].digest
    asked: set[str] = set()

    def infer(path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        asked.add(json.dumps([(t["shape"], t["data"]) for t in json.loads(body)["inputs"]]))
        return 200, {"Steeltown-Digest": fixed}, GOOD

    golden = FetchPlan(store=workspace.store, digest=fixed)
    _, report = loadcheck(serve(server(fixed, infer)), candidate_digest=fixed, golden=golden)
    assert (report.problem, report.candidate.errors) == ("", 0)
    assert asked == {"[[[4, 2], [1.0, 4.0, 2.0, 5.0, 3.0, 6.0, 1.0, 4.0]]]"}


def test_sides_take_turns_and_get_the_same_rate(serve: Any, loadcheck: Any, digest: str) -> None:
    order: list[str] = []

    def named(name: str, answered: str) -> str:
        def infer(_: str, __: bytes) -> tuple[int, dict[str, str], bytes]:
            order.append(name)
            return 200, {"Steeltown-Digest": answered}, GOOD

        return str(serve(server(digest, infer)))

    _, report = loadcheck(named("A", digest), named("B", "sha256:old"), blocks=4, warm_up_seconds=0.05)
    assert "".join(order) == "A" * 5 + "B" * 5 + "A" * 20 + "B" * 40 + "A" * 20
    assert (report.candidate.sent, report.baseline.sent, report.baseline.errors) == (40, 40, 0)


def test_interface_is_compared_by_the_manifests_and_each_side_gets_rows_that_it_knows(
    serve: Any, loadcheck: Any, digest: str, other: str
) -> None:
    asked: dict[str, set[str]] = {"candidate": set(), "live": set()}

    def side(name: str, answered: str) -> str:
        def infer(_: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
            asked[name] |= {f"{t['name']}={t['data'][0]:g}" for t in json.loads(body)["inputs"]}
            return 200, {"Steeltown-Digest": answered}, GOOD

        return str(serve(server(digest, infer)))

    code, report = loadcheck(side("candidate", digest), side("live", other), live=other)
    assert (code, report.problem, report.candidate.errors, report.baseline.errors) == (0, "", 0, 0)
    assert asked == {"candidate": {"a=1", "a=2", "a=3"}, "live": {"b=7", "b=8"}}
    assert report.interface == InterfaceReport(
        live=other,
        breaking=(
            "input 'b' (FP32 [-1,1]) is gone, 'a' stands in its place",
            "input 'a' (FP32 [-1,1]) is new and required: requests of today do not have it",
        ),
    )


def test_same_interface_is_said_to_be_the_same(serve: Any, loadcheck: Any, digest: str) -> None:
    assert loadcheck(serve(server(digest)), live=digest)[1].interface == InterfaceReport(live=digest)
    assert loadcheck(serve(server(digest)))[1].interface is None


def test_interface_is_told_also_where_the_load_could_not_be_measured(
    loadcheck: Any, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "READY_SECONDS", 0.1)
    code, report = loadcheck("http://127.0.0.1:9", live=other)
    assert (code, report.candidate) == (0, None)
    assert report.problem.startswith("candidate http://127.0.0.1:9 is not ready")
    assert report.interface is not None
    assert report.interface.breaking[0].startswith("input 'b'")


@pytest.mark.parametrize("fault", ["gone", "unreadable"])
def test_live_model_that_the_store_does_not_know_is_not_compared_and_the_load_is_measured(
    fault: str, serve: Any, loadcheck: Any, digest: str, other: str, workspace: Any
) -> None:
    (manifest,) = workspace.root.glob(f"**/models/{other.removeprefix('sha256:')}/manifest.json")
    if fault == "gone":
        manifest.unlink()
    else:
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"signature": []}))
    _, report = loadcheck(serve(server(digest)), serve(server(digest)), live=other)
    assert report.interface is not None
    assert (report.interface.live, report.interface.breaking) == (other, ())
    assert report.interface.problem.startswith("ManifestMissing: " if fault == "gone" else "ManifestInvalid: ")
    assert (report.problem, report.candidate.sent, report.baseline) == ("", 40, None)


BAD: dict[str, tuple[Answer, str]] = {
    "server error": (lambda p, b: (500, {}, b"boom"), "HTTP 500: boom"),
    "client error": (lambda p, b: (400, {}, b"no"), "HTTP 400: no"),
    "another model": (
        lambda p, b: (200, {"Steeltown-Digest": "sha256:other"}, GOOD),
        "response from model sha256:other",
    ),
    "no digest": (lambda p, b: (200, {}, GOOD), "response from model without digest"),
}
BAD_BODIES: dict[str, tuple[bytes, str]] = {
    "NaN": (b'{"outputs":[{"data":[NaN]}]}', "an output contains nan"),
    "null": (b'{"outputs":[{"data":[1,null]}]}', "an output contains None"),
    "overflow": (b'{"outputs":[{"data":[1e999]}]}', "an output contains inf"),
    "no JSON": (b"<html>", "no outputs in <html>"),
    "no outputs": (b"{}", "no outputs"),
    "empty outputs": (b'{"outputs":[]}', "outputs are empty"),
}


@pytest.mark.parametrize("case", [*BAD.values(), *BAD_BODIES.values()], ids=[*BAD, *BAD_BODIES])
def test_bad_answer_is_an_error(case: tuple[Any, str], serve: Any, loadcheck: Any, digest: str) -> None:
    answer, words = case
    if isinstance(answer, bytes):
        body = answer

        def answer(p: str, b: bytes) -> tuple[int, dict[str, str], bytes]:
            return 200, {"Steeltown-Digest": digest}, body

    code, report = loadcheck(serve(server(digest, answer)))
    assert code == 0  # the verdict is the operator's
    assert (report.candidate.sent, report.candidate.errors, report.candidate.latency.total) == (40, 40, 0)
    assert words in report.candidate.first_error


def test_first_error_of_each_kind_is_told(serve: Any, loadcheck: Any, digest: str) -> None:
    turns = Counter[str]()

    def infer(_: str, __: bytes) -> tuple[int, dict[str, str], bytes]:
        turns["asked"] += 1
        if turns["asked"] % 4 == 0:
            return 500, {}, b"boom %d" % turns["asked"]
        return (400, {}, b"no") if turns["asked"] % 4 == 1 else (200, {"Steeltown-Digest": digest}, GOOD)

    _, report = loadcheck(serve(server(digest, infer)), warm_up_seconds=0.0)
    side = report.candidate
    assert {f.kind: f.count for f in side.faults} == {"HTTP 500": 10, "HTTP 400": 10}
    assert side.errors == 20
    assert {f.first for f in side.faults} == {"HTTP 500: boom 4", "HTTP 400: no"}


def test_report_keeps_its_latencies_before_its_words() -> None:
    wide = Histogram(dict.fromkeys(range(400), 1000))
    loud = tuple(Fault(kind=f"k{i}", first='"' * 160, count=1) for i in range(4))
    side = LoadSide(sent=wide.total + 4, errors=4, over=0, latency=wide, faults=loud)
    report = LoadReport.decode(step.encode(LoadReport(candidate=side, baseline=side)))
    assert report is not None
    assert report.candidate is not None
    assert len(report.candidate.faults) < 4
    assert len(report.candidate.latency.counts) >= 50


def test_slow_candidate_is_over_its_objective_and_the_baseline_is_not(serve: Any, loadcheck: Any, digest: str) -> None:
    def slow(_: str, __: bytes) -> tuple[int, dict[str, str], bytes]:
        time.sleep(1.7)
        return 200, {"Steeltown-Digest": digest}, GOOD

    _, report = loadcheck(serve(server(digest, slow)), serve(server(digest)))
    assert (report.candidate.over, report.candidate.errors) == (20, 0)
    assert report.candidate.latency.count_over(1_500_000) == 20
    assert report.baseline.over == 0


def test_stall_is_charged_to_every_request_that_was_due(serve: Any, loadcheck: Any, digest: str) -> None:
    """One answer at a time and a pause of 0.3 s: a closed loop would count one slow request, here all of them are."""
    lock, first = threading.Lock(), threading.Event()

    def stalling(_: str, __: bytes) -> tuple[int, dict[str, str], bytes]:
        with lock:
            if not first.is_set():
                first.set()
                time.sleep(0.3)
        return 200, {"Steeltown-Digest": digest}, GOOD

    _, report = loadcheck(serve(server(digest, stalling)), warm_up_seconds=0.0, blocks=1, latency_milliseconds=100.0)
    assert report.candidate.over >= 18  # of 20 within 0.2 s, each waited until 0.3 s


def test_no_answer_in_time_is_an_error(serve: Any, loadcheck: Any, digest: str) -> None:
    def late(_: str, __: bytes) -> tuple[int, dict[str, str], bytes]:
        time.sleep(0.4)
        return 200, {"Steeltown-Digest": digest}, GOOD

    _, report = loadcheck(serve(server(digest, late)), timeout_seconds=0.2, blocks=1, warm_up_seconds=0.0)
    assert (report.candidate.sent, report.candidate.errors) == (20, 20)
    assert report.candidate.first_error == "no response within 0.2 s"


def test_requests_above_the_pool_are_errors_not_delays(
    serve: Any, loadcheck: Any, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "POOL", 3)

    def late(_: str, __: bytes) -> tuple[int, dict[str, str], bytes]:
        time.sleep(1.5)
        return 200, {"Steeltown-Digest": digest}, GOOD

    _, report = loadcheck(serve(server(digest, late)), blocks=1, warm_up_seconds=0.0, rate_per_second=1000.0)
    assert (report.candidate.sent, report.candidate.errors, report.candidate.latency.total) == (200, 197, 3)
    assert report.candidate.first_error == "no free connection"


def test_connection_that_the_server_closes_after_its_answer_is_replaced(
    serve: Any, loadcheck: Any, digest: str
) -> None:
    def closing(_: str, __: bytes) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Steeltown-Digest": digest, "Connection": "close"}, GOOD

    assert loadcheck(serve(server(digest, closing)))[1].candidate.errors == 0


def test_broken_connections_are_errors(loadcheck: Any) -> None:
    """Ready, and then every connection is closed without an answer."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        try:
            while True:
                connection, _ = listener.accept()
                if connection.recv(65536).startswith(b"GET"):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                connection.close()
        except OSError:
            return

    threading.Thread(target=accept, daemon=True).start()
    _, report = loadcheck(f"http://127.0.0.1:{listener.getsockname()[1]}")
    listener.close()
    assert (report.candidate.sent, report.candidate.errors) == (40, 40)
    assert report.candidate.first_error.startswith("connection")


def test_candidate_that_never_becomes_ready_is_a_problem(
    serve: Any, loadcheck: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "READY_SECONDS", 0.3)
    code, report = loadcheck(serve(lambda p, b: (503, {}, b"")))
    assert (code, report.candidate) == (0, None)
    assert report.problem.startswith("candidate http://127.0.0.1:")
    assert report.problem.endswith("is not ready: HTTP 503")


def test_baseline_that_is_not_there_is_a_problem(
    serve: Any, loadcheck: Any, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "READY_SECONDS", 0.3)
    _, report = loadcheck(serve(server(digest)), "http://127.0.0.1:9")
    assert report.problem.startswith("baseline http://127.0.0.1:9 is not ready")


def test_missing_golden_rows_are_a_problem(loadcheck: Any, workspace: Any) -> None:
    absent = FetchPlan(store=workspace.store, digest="sha256:" + "0" * 64)
    code, report = loadcheck("http://127.0.0.1:9", golden=absent)
    assert code == 0
    assert report.problem.startswith("ManifestMissing: ")


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:80", "http://"])
def test_unusable_url_is_a_problem(url: str, loadcheck: Any) -> None:
    assert "must be http://host:port" in loadcheck(url)[1].problem


@pytest.mark.parametrize("field", ["rate_per_second", "block_seconds", "latency_milliseconds", "blocks"])
def test_number_that_makes_no_sense_is_a_usage_error(field: str, loadcheck: Any) -> None:
    code, report = loadcheck("http://127.0.0.1:9", **{field: 0})
    assert code == 64
    assert report.problem.startswith(f"InvalidPlan: invalid {field} 0")


def tally(**more: Any) -> generator.Tally:
    return generator.Tally(objective_seconds=0.1, **{"intended": 100, "sent": 100, **more})


@pytest.mark.parametrize(
    ("tallies", "objective", "saturated"),
    [
        ([tally(late=[0.001] * 100)], 20.0, False),
        ([tally(late=[0.001] * 98 + [0.006] * 2)], 20.0, True),  # above the floor of 5 ms
        ([tally(late=[0.001] * 98 + [0.006] * 2)], 100.0, False),  # below 10 % of the objective
        ([tally(late=[0.001] * 99 + [0.5])], 20.0, False),  # one in a hundred
        ([tally(late=[0.001] * 100), tally(sent=94, late=[0.001] * 94)], 20.0, True),
        ([tally(late=[0.001] * 100), tally(sent=95, late=[0.001] * 95)], 20.0, False),
    ],
)
def test_late_generator_knows_nothing(tallies: list[generator.Tally], objective: float, saturated: bool) -> None:
    plan = LoadCheckPlan(
        model="m",
        candidate_url="",
        candidate_digest="",
        golden=FetchPlan(store="", digest=""),
        latency_milliseconds=objective,
    )
    assert step.report(plan, tallies).saturated is saturated


def test_generator_that_cannot_send_gives_up_and_says_so(
    serve: Any, loadcheck: Any, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = generator.Side._issue

    def slow(self: Any, tally: Any, intended: float) -> None:
        time.sleep(0.05)  # 20/s can be sent where 100/s are due
        original(self, tally, intended)

    monkeypatch.setattr(generator.Side, "_issue", slow)
    monkeypatch.setattr(generator, "GRACE_SECONDS", 0.1)
    _, report = loadcheck(serve(server(digest)), warm_up_seconds=0.0)
    assert report.saturated
    assert report.candidate.sent < 38
    assert report.lag_p99_milliseconds > 50


@pytest.mark.parametrize(
    ("blocks", "sides", "expected"),
    [(8, 2, "ABBAABBA"), (3, 2, "ABB"), (1, 2, "AB"), (3, 1, "AAA")],
)
def test_order_of_the_blocks(blocks: int, sides: int, expected: str) -> None:
    assert "".join("AB"[i] for i in step.turns(blocks, sides)) == expected


def test_report_with_very_wide_histograms_still_fits() -> None:
    """Latencies from 1 us to 100 s on both sides: far more buckets than 4096 bytes hold."""
    wide = Histogram({i: 1000 + i for i in range(200)})
    side = LoadSide(sent=wide.total, errors=0, over=7, latency=wide, first_error="x" * 200)
    promise = InterfaceReport.of(f"sha256:{'a' * 64}", ("\U0001f600" * 200,) * 20, ())
    text = step.encode(LoadReport(candidate=side, baseline=side, interface=promise))
    assert len(text.encode()) <= LIMIT_BYTES
    report = LoadReport.decode(text)
    assert report is not None and report.candidate is not None
    assert (report.candidate.over, report.candidate.latency.total) == (7, wide.total)
    exact, coarse = wide.quantile(0.99), report.candidate.latency.quantile(0.99)
    assert exact is not None and coarse is not None
    assert 0.5 * exact <= coarse <= exact


def test_narrow_histogram_is_reported_as_it_is() -> None:
    narrow = Histogram(dict.fromkeys(range(60, 100), 10))
    report = LoadReport(candidate=LoadSide(sent=400, errors=0, over=0, latency=narrow))
    decoded = LoadReport.decode(step.encode(report))
    assert decoded is not None and decoded.candidate is not None
    assert decoded.candidate.latency.counts == narrow.counts


def test_rows_of_wide_tensors_are_cut_at_row_borders() -> None:
    x = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}
    s = {"name": "s", "shape": [2, 1], "datatype": "BYTES", "data": ["a", "b"]}
    second = bodies(Golden(inputs=[x, s], outputs=[]))[1]
    assert [(t["shape"], t["data"]) for t in second] == [([1, 3], [4, 5, 6]), ([1, 1], ["b"])]


def test_model_name_is_escaped_in_the_path() -> None:
    golden = Golden(inputs=[{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}], outputs=[])
    request = target("http://h:1/base/", "a b/c", golden).requests[0]
    assert request.startswith(b"POST /base/v2/models/a%20b%2Fc/infer HTTP/1.1\r\nHost: h:1\r\n")


def test_what_json_has_no_form_for_is_sent_and_judged_in_binary() -> None:
    x = {"name": "x", "shape": [2, 2], "datatype": "FP16", "data": [1, 2, 3, None]}
    s = {"name": "s", "shape": [2], "datatype": "BYTES", "data": ["a", "\u00e9"]}
    second = target("http://h:1", "m", Golden(inputs=[x, s], outputs=[])).requests[1]
    head, _, body = second.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:])
    assert int(headers["content-length"]) == len(body)
    specs = {"x": TensorSpec.of("x", "tensor(float16)", ["N", 2]), "s": TensorSpec.of("s", "tensor(string)", ["N"])}
    decoder = RequestDecoder(Signature(specs, {"x": specs["x"]}), batching=True)
    call = decoder.decode(body, int(headers["inference-header-content-length"]))
    np.testing.assert_array_equal(call.feed["x"], np.array([[3, np.nan]], np.float16))
    assert (call.feed["s"].tolist(), call.binary) == (["\u00e9"], (True,))


BINARY_HEAD = b'{"outputs":[{"name":"y","datatype":"FP16","shape":[1],"parameters":{"binary_data_size":2}}]}'


@pytest.mark.parametrize(
    ("body", "headers", "complaint"),
    [
        (BINARY_HEAD + b"\0\x3c", {}, ""),
        (BINARY_HEAD + b"\0\x3c", {"steeltown-non-finite": '["y"]'}, 'outputs ["y"] contain NaN or infinity'),
        (BINARY_HEAD, {}, "outputs have 0 bytes, expected 2"),
        (BINARY_HEAD.replace(b":2}", b":0}"), {}, "outputs are empty"),
        (b"x" * len(BINARY_HEAD), {}, "no outputs in xxx"),
    ],
)
def test_binary_answer_is_judged_by_its_sizes_and_what_the_server_says(
    body: bytes, headers: dict[str, str], complaint: str
) -> None:
    side = target("http://h:1", "m", Golden(inputs=[], outputs=[]), whole=True)
    length = {"inference-header-content-length": str(len(BINARY_HEAD))}
    assert side.complaint(Response(200, length | headers, body, True)).startswith(complaint)
    assert bool(side.complaint(Response(200, length | headers, body, True))) == bool(complaint)
