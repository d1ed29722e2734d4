"""What strangers write is bounded and typed, and every refusal says which field, which value and what it must be."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from steeltown.contract import strict
from steeltown.contract.checks import Check
from steeltown.contract.evidence import EVIDENCE_BYTES, Counts, Evidence, Pairs, Route
from steeltown.contract.golden import Golden
from steeltown.contract.histogram import MAX_BUCKET, Histogram, bucket, lower_bound
from steeltown.contract.reports import LIMIT_BYTES, InterfaceReport, LoadReport, LoadSide, MetricComparison, StepReport

COUNTS: dict[str, Any] = {"requests": 3, "errors": 1, "latency": {"5": 2}}
PAIRS: dict[str, Any] = {"compared": 2, "agreed": 1, "failed": 0, "difference": {"5": 2}}
EVIDENCE: dict[str, Any] = {
    "instance": "i",
    "digest": "d",
    "window": "w",
    "weight": 5,
    "live": COUNTS,
    "canary": COUNTS,
    "pairs": PAIRS,
}
CHECK: dict[str, Any] = {"name": "RowCount", "verdict": "Pass", "message": "m", "value": 1.5, "n": 3}
METRIC: dict[str, Any] = {"name": "auc", "candidate": 0.5, "n": 10, "live": 0.25}
SIDE: dict[str, Any] = {"sent": 3, "errors": 1, "over": 1, "latency": {"5": 2}}
INTERFACE: dict[str, Any] = InterfaceReport(live="sha256:ab", breaking=("x is gone",), more=1).to_json()
GOLDEN: dict[str, Any] = {"inputs": [{"name": "x"}], "outputs": []}


@pytest.mark.parametrize(
    ("read", "document", "wrong", "message"),
    [
        (Evidence.from_json, EVIDENCE, {"weight": 101}, "evidence.weight is 101: must be a whole number 0..100"),
        (Evidence.from_json, EVIDENCE, {"weight": True}, "evidence.weight is True: must be a whole number"),
        (Evidence.from_json, EVIDENCE, {"weight": 5.0}, "evidence.weight is 5.0: must be a whole number"),
        (Evidence.from_json, EVIDENCE, {"weight": float("inf")}, "evidence.weight is inf: must be a whole number"),
        (Evidence.from_json, EVIDENCE, {"weight": "5"}, "evidence.weight is '5': must be a whole number"),
        (Evidence.from_json, EVIDENCE, {"weight": None}, "evidence.weight is null: must be a whole number"),
        (Evidence.from_json, EVIDENCE, {"digest": 1}, "evidence.digest is 1: must be text of at most 128 characters"),
        (Evidence.from_json, EVIDENCE, {"instance": "i" * 257}, "... (259 characters): must be text of at most 256"),
        (Evidence.from_json, EVIDENCE, {"instance": "\ud800"}, "evidence.instance is '\\ud800': must be text"),
        (Evidence.from_json, EVIDENCE, {"route": []}, "evidence.route is of type list: must be text"),
        (Evidence.from_json, EVIDENCE, {"live": []}, "evidence.live is of type list: must be a JSON object"),
        (Evidence.from_json, EVIDENCE, {"canary": COUNTS | {"errors": 4}}, "evidence.canary has 3 requests, 4 errors"),
        (Counts.from_json, COUNTS, {"requests": -1}, "counts.requests is -1: must be a whole number 0.."),
        (Counts.from_json, COUNTS, {"requests": 10**12 + 1}, "must be a whole number 0..1000000000000"),
        (Counts.from_json, COUNTS, {"latency": {}}, "counts has 3 requests, 1 errors and 0 latencies"),
        (Counts.from_json, COUNTS, {"latency": {"5": 3}}, "every request must be an error or have a latency"),
        (Counts.from_json, COUNTS, {"latency": {"5": 2.0}}, "counts.latency.5 is 2.0: must be a whole number"),
        (Counts.from_json, COUNTS, {"latency": {str(10**11): 2}}, "has the bucket '100000000000': must be"),
        (Counts.from_json, COUNTS, {"latency": {str(MAX_BUCKET + 1): 2}}, f"must be a whole number 0..{MAX_BUCKET}"),
        (Counts.from_json, COUNTS, {"latency": {"-1": 2}}, "has the bucket '-1'"),
        (Counts.from_json, COUNTS, {"latency": {"05": 2}}, "has the bucket '05'"),
        (Counts.from_json, COUNTS, {"latency": {"٣": 2}}, "has the bucket '٣'"),
        (Pairs.from_json, PAIRS, {"agreed": 3}, "pairs.agreed is 3: must be a whole number 0..2"),
        (Pairs.from_json, PAIRS, {"compared": 4}, "pairs.compared is 4: must be the 2 of pairs.difference"),
        (Check.from_json, CHECK, {"verdict": "Maybe"}, "check.verdict is 'Maybe': must be one of Pass, Warn, Fail"),
        (Check.from_json, CHECK, {"verdict": ["Pass"]}, "check.verdict is of type list: must be one of"),
        (Check.from_json, CHECK, {"value": "much"}, "check.value is 'much': must be a finite number"),
        (Check.from_json, CHECK, {"threshold": float("nan")}, "check.threshold is nan: must be a finite number"),
        (Check.from_json, CHECK, {"value": 10**400}, "check.value is 1000"),
        (Check.from_json, CHECK, {"n": -1}, "check.n is -1: must be a whole number 0.."),
        (Check.from_json, CHECK, {"name": None}, "check.name is null: must be text"),
        (MetricComparison.from_json, METRIC, {"name": "m" * 65}, "must be text of at most 64 characters"),
        (MetricComparison.from_json, METRIC, {"candidate": True}, "metric.candidate is True: must be a finite number"),
        (MetricComparison.from_json, METRIC, {"candidate": None}, "metric.candidate is null: must be a finite number"),
        (MetricComparison.from_json, METRIC, {"live": "0.5"}, "metric.live is '0.5': must be a finite number"),
        (MetricComparison.from_json, METRIC, {"n": 1.5}, "metric.n is 1.5: must be a whole number"),
        (LoadSide.from_json, SIDE, {"over": 3}, "side.over is 3: must be a whole number 0..2"),
        (LoadSide.from_json, SIDE, {"sent": 4}, "side has 4 sent, 1 errors and 2 latencies"),
        (
            InterfaceReport.from_json,
            INTERFACE,
            {"live": 1},
            "interface.live is 1: must be text of at most 71 characters",
        ),
        (
            InterfaceReport.from_json,
            INTERFACE,
            {"breaking": "x"},
            "interface.breaking is 'x': must be a list of at most",
        ),
        (
            InterfaceReport.from_json,
            INTERFACE,
            {"breaking": ["x"] * 513},
            "interface.breaking is of type list: must be",
        ),
        (InterfaceReport.from_json, INTERFACE, {"notes": [None]}, "interface.notes is null: must be a list of"),
        (InterfaceReport.from_json, INTERFACE, {"more": -1}, "interface.more is -1: must be a whole number 0.."),
        (Golden.from_json, GOLDEN, {"atol": -1}, "golden.atol is -1.0: must be at least 0"),
        (Golden.from_json, GOLDEN, {"inputs": {}}, "golden.inputs is of type dict: must be a list"),
        (Golden.from_json, GOLDEN, {"outputs": [1]}, "golden.outputs[0] is 1: must be a JSON object"),
    ],
)
def test_wrong_field_is_refused_by_name(
    read: Callable[[dict[str, Any]], object], document: dict[str, Any], wrong: dict[str, Any], message: str
) -> None:
    read(document)
    with pytest.raises(ValueError) as refused:
        read(document | wrong)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[" * (EVIDENCE_BYTES + 1), f"evidence has {EVIDENCE_BYTES + 1} bytes: must have at most {EVIDENCE_BYTES}"),
        (b"[" * EVIDENCE_BYTES, "evidence is nested too deep: must be nested at most 16 levels"),
        (b'{"a":' * 10_000, "evidence is nested too deep"),
        (b"\xff\xfe[\0]\0", "evidence is not UTF-8: invalid start byte at byte 0"),
        (b"[]", "evidence is of type list: must be a JSON object"),
        (b"1" * 60_000, "evidence is not JSON: a number has 60000 digits: must have at most 19"),
        (b"", "evidence is not JSON"),
        (b"{}", "evidence.instance is missing"),
        (b'{"weight": 1e999, "instance": "i", "digest": "d", "window": "w"}', "evidence.weight is inf"),
        (b'{"weight": NaN, "instance": "i", "digest": "d", "window": "w"}', "evidence.weight is nan"),
    ],
)
def test_body_is_bounded_before_it_is_parsed(body: bytes, message: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError) as refused:
        Evidence.from_bytes(body)
    assert message in str(refused.value)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    "text",
    ['"' + "\\" * 65_000, '"\\"' * 20_000, '"' * 65_000, "{" + '"a' * 30_000, '"\\' * 32_000 + "[" * 5],
    ids=["backslashes", "escaped quotes", "quotes", "open strings", "mixed"],
)
def test_looking_at_the_depth_takes_linear_time(text: str) -> None:
    started = time.process_time()
    strict.check_depth(text, "text", 16)
    assert time.process_time() - started < 0.5


@given(st.recursive(st.none() | st.text('[]{}"\\a'), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_depth_is_counted_outside_of_strings_only(value: Any) -> None:
    def depth(v: Any) -> int:
        inner = v.values() if isinstance(v, dict) else v if isinstance(v, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    text, levels = json.dumps(value), depth(value)
    strict.check_depth(text, "text", levels)
    if levels:
        with pytest.raises(ValueError, match="must be nested at most"):
            strict.check_depth(text, "text", levels - 1)


def test_largest_evidence_fits() -> None:
    latency = Histogram(dict.fromkeys(range(MAX_BUCKET + 1), strict.MAX_COUNT // (MAX_BUCKET + 1)))
    counts = Counts(requests=latency.total, latency=latency)
    seen = Evidence(
        instance="i" * 32,
        digest="sha256:" + "a" * 64,
        window="w" * 256,
        weight=100,
        live=counts,
        canary=counts,
        pairs=Pairs(compared=latency.total, difference=latency),
        route="r" * 16,
    )
    body = json.dumps(seen.to_json()).encode()
    assert len(body) < EVIDENCE_BYTES * 0.7
    assert Evidence.from_bytes(body) == seen


def test_largest_bucket_holds_the_largest_value() -> None:
    assert bucket(2**63) == MAX_BUCKET == 488
    assert lower_bound(MAX_BUCKET) == 2**63


def test_fields_that_nobody_reads_spoil_nothing() -> None:
    body = json.dumps(EVIDENCE | {"new": [float("nan"), {"x": 1e300}], "live": COUNTS | {"new": True}}).encode()
    assert Evidence.from_bytes(body) == Evidence.from_json(EVIDENCE)


def metrics_of(*values: str) -> str:
    metrics = ",".join(f'{{"name":"auc","n":5,{v}}}' for v in values)
    return f'{{"reason":"ModelReady","metrics":[{metrics}]}}'


def test_metric_that_is_not_finite_is_no_measurement() -> None:
    """As version 0.1 writes it (AUC where all rows have one class), and as a large number in disguise."""
    report = StepReport.decode(
        metrics_of('"candidate":NaN', '"candidate":1e999', '"candidate":0.5,"live":NaN,"lower":-Infinity,"upper":0.25')
    )
    assert report is not None
    assert report.metrics == (MetricComparison(name="auc", candidate=0.5, n=5, upper=0.25),)


def test_metric_that_is_not_finite_is_not_reported() -> None:
    nan = float("nan")
    metrics = (
        MetricComparison(name="auc", candidate=nan, n=5),
        MetricComparison(name="f1", candidate=0.5, n=5, live=nan, lower=0.25),
    )
    text = StepReport(reason="ModelReady", message="m", metrics=metrics).encode()
    assert json.loads(text)["metrics"] == [{"name": "f1", "candidate": 0.5, "n": 5, "lower": 0.25}]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1_000_000,
        '{"a":' * 400,
        '{"reason": "Full", "rows": 1e999}',
        '{"reason": "Full", "rows": true}',
        '{"reason": "Full", "rows": -1}',
        '{"reason": "Full", "message": ["m"]}',
        '{"reason": "Full", "checks": [[]]}',
        '{"reason": "Full", "metrics": [{"name": "auc", "candidate": 0.5, "n": 5, "upper": []}]}',
        '{"reason": "Full", "metrics": [{"name": "auc", "candidate": "high", "n": 5}]}',
        '{"reason": "Full", "digest": "' + "d" * 72 + '"}',
        '{"reason": "Full", "message": "' + "m" * LIMIT_BYTES + '"}',
        '{"reason": {"a": 1}}',
        '{"saturated": 1}',
        '{"saturated": false, "lagP99Milliseconds": NaN}',
        '{"saturated": false, "candidate": {"sent": 1e999, "errors": 0, "over": 0, "latency": {}}}',
        '{"saturated": false, "candidate": {"sent": 1, "errors": 0, "over": 0, "latency": {"100000000000": 1}}}',
        '{"saturated": false, "candidate": {"sent": 1, "errors": 0, "over": 0, "latency": [1]}}',
        '{"saturated": false, "candidate": {"sent": 9, "errors": 0, "over": 0, "latency": {}}}',
        "9" * 4000,
        "\ud800",
    ],
)
def test_message_that_only_looks_like_a_report_is_none(text: str) -> None:
    assert StepReport.decode(text) is None
    assert LoadReport.decode(text) is None


@pytest.mark.parametrize(
    "text",
    [
        '{"window": "w"' + ', "x": [' * 20 + "]" * 20 + "}",
        "{}",
        '{"window": 5}',
        '{"window": "w", "weight": "5", "canaryURL": "http://c"}',
        '{"window": "w", "weight": 5, "canaryURL": ["http://c"]}',
        '{"window": "w", "timeoutMilliseconds": 1e999}',
        '{"window": "w", "timeoutMilliseconds": 86400001}',
        '{"window": "w", "x": "' + "x" * 20_000 + '"}',
        "\ud800",
    ],
)
def test_bent_route_is_a_value_error_that_names_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"^route"):
        Route.from_json(text)
