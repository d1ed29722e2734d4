"""What crosses a process border survives the journey, says what is wrong with it, and fits where it has to."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from steeltown.contract.checks import Check, Verdict, worst
from steeltown.contract.evidence import Counts, Evidence, Pairs, Route
from steeltown.contract.files import Env, model_prefix
from steeltown.contract.golden import Golden
from steeltown.contract.histogram import Histogram, bucket, lower_bound
from steeltown.contract.plans import (
    Column,
    ColumnType,
    FetchPlan,
    FinalisePlan,
    LoadCheckPlan,
    PreparePlan,
    Source,
    Task,
    TaskType,
)
from steeltown.contract.reports import LIMIT_BYTES, InterfaceReport, LoadReport, LoadSide, MetricComparison, StepReport
from steeltown.contract.version import CONTRACT_VERSION, check_version

SOURCE = Source(uri="s3://b/x.csv", digest="sha256:" + "a" * 64)
TASK = Task(type=TaskType.CLASSIFICATION, target="y", features=("a", "b"))
PLANS = (
    PreparePlan(
        run="r",
        data=SOURCE,
        columns=(Column(name="a", type=ColumnType.NUMBER, max_null_fraction=0.5), Column(name="b")),
        min_rows=1,
        evaluation=SOURCE,
        task=TASK,
        params={"k": "v"},
    ),
    PreparePlan(run="r", imported=SOURCE),
    FinalisePlan(run="r", store="s3://b", task=TASK, live=SOURCE, metrics=("auc",), seed=3),
    FetchPlan(store="s3://b", digest="sha256:aa"),
    LoadCheckPlan(
        model="m",
        candidate_url="http://c",
        candidate_digest="d",
        golden=FetchPlan(store="s", digest="d"),
        latency_milliseconds=5.0,
    ),
)


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: type(p).__name__)
def test_plan_survives_the_journey(plan: PreparePlan) -> None:
    assert type(plan).from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "PreparePlan is not JSON"),
        ("[]", "PreparePlan must be an object"),
        ("{}", "PreparePlan is missing run"),
        ('{"run": 1}', "PreparePlan.run must be a str, got 1"),
        ('{"run": "r", "task": {"type": "Ranking", "target": "y"}}', "PreparePlan.task.type is 'Ranking': must be one"),
        ('{"run": "r", "columns": [{"name": "a", "maxNullFraction": NaN}]}', "is nan: must be a finite number"),
        ('{"run": "r", "params": ' + "[" * 100_000, "PreparePlan is nested too deep"),
        ('{"run": "r", "minRows": true}', "PreparePlan.minRows must be a int"),
        ('{"run": "r", "data": {"uri": "x"}}', "PreparePlan.data is missing digest"),
        ('{"run": "r", "columns": [{"name": "a", "type": "Float"}]}', "columns[0].type is 'Float': must be one of"),
        ('{"run": "r", "columns": {}}', "PreparePlan.columns must be a list"),
    ],
)
def test_bad_plan_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        PreparePlan.from_json(text)
    assert message in str(refused.value)


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: type(p).__name__)
def test_what_a_newer_operator_adds_to_a_plan_is_ignored_at_every_level(plan: PreparePlan) -> None:
    def more(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: more(v) for k, v in value.items()} | {"addedLater": {"x": [1]}}
        return [more(v) for v in value] if isinstance(value, list) else value

    raw = json.loads(plan.to_json())
    params = raw.get("params")
    newer = more(raw) | ({"params": params} if params else {})  # those are the user's, as they are
    assert type(plan).from_json(json.dumps(newer)) == plan


@pytest.mark.parametrize("given", ["", "0", "1", "2", " 1\n"])
def test_neighbouring_versions_of_the_contract_work_together(given: str) -> None:
    assert CONTRACT_VERSION == 1
    check_version({Env.CONTRACT_VERSION: given})
    check_version({})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "3",
            "STEELTOWN_CONTRACT_VERSION is 3, the operator's; this image speaks version 1 of the contract and works "
            "with 0..2: install operator and images of neighbouring releases",
        ),
        ("-1", "STEELTOWN_CONTRACT_VERSION is '-1': must be a whole number; this image speaks version 1"),
        ("1.5", "STEELTOWN_CONTRACT_VERSION is '1.5': must be a whole number"),
        ("9" * 5000, "must be a whole number; this image speaks version 1"),
    ],
)
def test_other_versions_of_the_contract_are_refused_by_name(given: str, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        check_version({Env.CONTRACT_VERSION: given})
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"window": "e", "weight": 101}', "route.weight is 101: must be a whole number 0..100"),
        ('{"window": "e", "weight": 5}', "canaryURL must be set when weight is above 0"),
        ('{"window": "e", "mirror": -1}', "route.mirror is -1: must be a whole number 0..100"),
        ('{"window": "e", "mirror": 5}', "canaryURL must be set when mirror is above 0"),
        ("[]", "must be a JSON object"),
    ],
)
def test_bad_route_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="route") as refused:
        Route.from_json(text)
    assert message in str(refused.value)


def test_route_and_evidence_survive_the_journey() -> None:
    route = Route(window="e", weight=5, canary_url="http://c:8080", canary_digest="d", mirror=9, timeout_milliseconds=7)
    assert Route.from_json(route.to_json()) == route
    assert Route.from_json(" \n") is None
    counts = Counts(requests=3, errors=1, latency=Histogram({5: 2}))
    pairs = Pairs(compared=2, agreed=1, failed=3, difference=Histogram({7: 2}))
    seen = Evidence(instance="i", digest="d", window="e", weight=5, live=counts, canary=Counts(), pairs=pairs)
    assert Evidence.from_json(json.loads(json.dumps(seen.to_json()))) == seen
    both = Pairs.merged([pairs, pairs])
    assert both == Pairs(compared=4, agreed=2, failed=6, difference=Histogram({7: 4}))


@given(st.integers(0, 10**9))
def test_bucket_holds_its_value_within_a_sixteenth(microseconds: int) -> None:
    low, high = lower_bound(bucket(microseconds)), lower_bound(bucket(microseconds) + 1)
    assert low <= microseconds < high
    assert (high - low) / 2 <= max(0.5, microseconds / 16)


@given(st.lists(st.integers(0, 10**7), max_size=50), st.lists(st.integers(0, 10**7), max_size=50))
def test_histograms_of_two_pods_are_the_histogram_of_all_requests(left: list[int], right: list[int]) -> None:
    parts = []
    for values in (left, right, left + right):
        parts.append(Histogram())
        for value in values:
            parts[-1].add(value)
    assert Histogram.merged(parts[:2]) == parts[2]
    assert Histogram.from_json(parts[2].to_json()) == parts[2]
    assert parts[2].total == len(left + right)


def test_quantiles_of_a_histogram() -> None:
    histogram = Histogram()
    assert histogram.quantile(0.5) is None
    histogram.add(1_000, 99)
    histogram.add(100_000, 1)
    assert histogram.quantile(0.5) == pytest.approx(1_000, rel=0.07)
    assert histogram.quantile(0.99) == pytest.approx(1_000, rel=0.07)
    assert histogram.quantile(1.0) == pytest.approx(100_000, rel=0.07)
    assert histogram.count_over(50_000) == 1


CHECK = Check(name="RowCount", verdict=Verdict.FAIL, message="x" * 300, value=1.0, threshold=2.0, n=5)


def test_report_survives_the_journey() -> None:
    metric = MetricComparison(name="auc", candidate=0.5, n=10, live=0.25, difference=0.25, lower=0.125, upper=0.375)
    report = StepReport(reason="R", message="m", checks=(CHECK,), metrics=(metric,), rows=3, digest="d", size_bytes=4)
    assert StepReport.decode(report.encode()) == report
    load = LoadReport(candidate=LoadSide(sent=3, errors=1, over=1, latency=Histogram({3: 2})), saturated=True)
    assert LoadReport.decode(load.encode()) == load
    compared = InterfaceReport(live="sha256:ab", breaking=("x is gone",), notes=("y is new",), more=2)
    for interface in (compared, InterfaceReport(live="sha256:ab"), InterfaceReport(live="sha256:ab", problem="no")):
        assert LoadReport.decode(replace(load, interface=interface).encode()) == replace(load, interface=interface)


@given(st.integers(0, 40), st.integers(0, 6000))
def test_report_always_fits_and_keeps_what_failed(passing: int, length: int) -> None:
    fine = replace(CHECK, verdict=Verdict.PASS)
    report = StepReport(reason="R", message="m" * length, checks=(*[fine] * passing, CHECK))
    text = report.encode()
    assert len(text.encode()) <= LIMIT_BYTES
    decoded = StepReport.decode(text)
    assert decoded is not None
    assert decoded.reason == "R"
    if length < 2000:
        assert CHECK in decoded.checks


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Traceback (most recent call last):",
        "[]",
        '{"x": 1}',
        "null",
        '{"reason": "disk is full"}',
        '{"reason": "Full", "checks": 3}',
        '{"reason": "Full", "rows": "many"}',
        '{"saturated": true, "candidate": 1}',
    ],
)
def test_log_lines_are_no_report(text: str) -> None:
    assert StepReport.decode(text) is None
    assert LoadReport.decode(text) is None


def test_checks_speak_as_their_worst_and_silence_is_no_evidence() -> None:
    fine = replace(CHECK, verdict=Verdict.PASS)
    assert worst(()) is Verdict.INSUFFICIENT_DATA
    assert worst((fine,)) is Verdict.PASS
    assert worst((fine, replace(CHECK, verdict=Verdict.WARN))) is Verdict.WARN
    assert worst((CHECK, replace(CHECK, verdict=Verdict.INSUFFICIENT_DATA))) is Verdict.FAIL


def test_check_that_is_not_finite_stays_readable() -> None:
    check = replace(CHECK, value=float("nan"))
    text = json.dumps(check.to_json(), allow_nan=False)
    assert str(Check.from_json(json.loads(text)).value) == "nan"


def test_golden_survives_the_journey() -> None:
    golden = Golden(inputs=[{"name": "x"}], outputs=[], atol=0.5)
    assert Golden.from_json(golden.to_json()) == golden


@pytest.mark.parametrize("digest", ["md5:aa", "sha256:", "aa"])
def test_prefix_of_no_digest_is_refused(digest: str) -> None:
    with pytest.raises(ValueError, match="must be sha256"):
        model_prefix(digest)


@pytest.mark.parametrize(
    ("breaking", "notes", "kept", "told", "more"),
    [
        ((), (), 0, 0, 0),
        (("x is gone",), ("y is new",), 1, 1, 0),
        (("x" * 50,) * 700, ("y is new",), 20, 0, 680),
        (("é" * 4096,), (), 1, 0, 0),
        (("\U0001f600" * 4096,) * 3, ("y is new",), 1, 1, 2),
        ((), ("y" * 300,) * 9, 0, 4, 0),
    ],
)
def test_interface_is_told_in_a_bounded_number_of_bytes_and_nothing_that_breaks_is_lost(
    breaking: tuple[str, ...], notes: tuple[str, ...], kept: int, told: int, more: int
) -> None:
    report = InterfaceReport.of("sha256:" + "a" * 64, breaking, notes)
    assert (len(report.breaking), len(report.notes), report.more) == (kept, told, more)
    assert sum(len(line.encode()) for line in (*report.breaking, *report.notes)) <= 1000
    assert all(len(line) <= 240 for line in (*report.breaking, *report.notes))
