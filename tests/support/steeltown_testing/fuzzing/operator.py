"""What is fuzzed: everything that the operator parses and that somebody else may have written.

Evidence that a Pod answers, termination messages, annotations and status. The first byte of an input chooses the
reader, the rest is the text. Whatever the text is, a reader makes a value of it or says no in its one documented way
(None, or a short ValueError), within a second of computing; and what it made is within the limits that the planners
count on, can be judged, and can be written down and read again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from pydantic import ValidationError
from steeltown.api.mlmodel import MLModelStatus
from steeltown.api.objectives import RunObjectives, ServingObjective
from steeltown.api.trainingrun import TrainingRunStatus
from steeltown.contract import strict
from steeltown.contract.checks import Check, Verdict
from steeltown.contract.evidence import EVIDENCE_BYTES, Counts, Evidence, Pairs, Route
from steeltown.contract.faults import Fault
from steeltown.contract.histogram import Histogram
from steeltown.contract.reports import LIMIT_BYTES, InterfaceReport, LoadReport, LoadSide, MetricComparison, StepReport
from steeltown.core import seal
from steeltown.core.judge.verdict import Looks, judge_canary, judge_load

SECONDS: Final = 1.0
MESSAGE_CHARACTERS: Final = 1000
STATUS_BYTES: Final = 1 << 20

LIMITS: Final = ServingObjective(error_rate="0.01", latency_milliseconds=50, slow_rate="0.01", max_slowdown="2.0")
DIGEST: Final = "sha256:" + "0" * 64
_KEY: Final = b"a key"
_ABOUT: Final = ("live", "team", "m")
_PAYLOAD: Final = {"live": {"run": "m-v1", "digest": DIGEST}, "switches": 1, "promoted": True}


@dataclass(frozen=True, slots=True)
class Reader:
    """read: from the bytes of an input. refuses: what it may raise, () for one that answers None instead.

    check: asserts what must hold of a value.
    """

    name: str
    read: Callable[[bytes], Any]
    refuses: tuple[type[Exception], ...]
    check: Callable[[Any], None]
    seeds: tuple[str, ...]


def _text(data: bytes) -> str:
    """What is no UTF-8 becomes half a surrogate pair, which JSON can say too."""
    return data.decode(errors="surrogateescape")


def _evidence(seen: Evidence) -> None:
    assert Evidence.from_bytes(json.dumps(seen.to_json()).encode()) == seen
    assert 0 <= seen.weight <= 100
    for counts in (seen.live, seen.canary):
        assert counts.errors + counts.latency.total == counts.requests <= strict.MAX_COUNT
        _histogram(counts.latency)
    judge_canary(seen.canary, seen.live, LIMITS, Looks())
    assert seen.pairs.agreed <= seen.pairs.compared == seen.pairs.difference.total
    _histogram(seen.pairs.difference)


def _histogram(histogram: Histogram) -> None:
    assert 0 <= histogram.count_over(10**8) <= histogram.total
    assert (histogram.quantile(0.99) is None) == (histogram.total == 0)


def _step_report(report: StepReport | None) -> None:
    if report is None:
        return
    assert len(report.reason) <= 64 and report.reason.isalnum()
    for metric in report.metrics:
        assert metric == metric.measured
        json.dumps(metric.to_json(), allow_nan=False)
    for check in report.checks:
        assert check.verdict in list(Verdict)
        json.dumps(check.to_json(), allow_nan=False)


def _load_report(report: LoadReport | None) -> None:
    if report:
        judge_load(report, LIMITS)
    for side in (report.candidate, report.baseline) if report else ():
        if side:
            assert side.over <= side.latency.total == side.sent - side.errors
            _histogram(side.latency)


def _route(route: Route | None) -> None:
    if route is not None:
        assert Route.from_json(route.to_json()) == route
        assert len(route.fingerprint) == 16
        assert route.canary_url or not (route.weight or route.mirror)


def _record(payload: dict[str, Any] | None) -> None:
    """Only what was sealed opens."""
    assert payload in (None, _PAYLOAD)


def _status(status: MLModelStatus | TrainingRunStatus) -> None:
    assert type(status).model_validate(status.dump()) == status


def _objectives(objectives: RunObjectives) -> None:
    assert RunObjectives.model_validate(objectives.dump()) == objectives


def _object(data: bytes) -> Any:
    """As the client of the API server has parsed it."""
    return strict.parse_object(data, "status", max_bytes=STATUS_BYTES, max_depth=64).raw


_COUNTS = Counts(requests=3, errors=1, latency=Histogram({5: 2}))
_SEEN = Evidence(
    instance="i",
    digest=DIGEST,
    window="w-1",
    weight=5,
    live=_COUNTS,
    canary=_COUNTS,
    pairs=Pairs(compared=2, agreed=1, failed=1, difference=Histogram({0: 1, 99: 1})),
    route="0123456789abcdef",
)
_HUGE = Counts(requests=10**11, errors=10**10, latency=Histogram({5: 9 * 10**10}))
_HUGE_SEEN = replace(
    _SEEN, live=_HUGE, canary=replace(_HUGE, errors=10**10 + 10**6, latency=Histogram({5: 89_999_000_000}))
)
_FAULTS = (Fault(kind="HTTP 500", first="boom", count=1),)
_SIDE = LoadSide(sent=3, errors=1, over=1, latency=Histogram({5: 2}), first_error="HTTP 500", faults=_FAULTS)
_REPORT = StepReport(
    reason="ModelReady",
    message="ready",
    checks=(Check(name="RowCount", verdict=Verdict.PASS, message="m", value=5.0, threshold=float("inf"), n=5),),
    metrics=(MetricComparison(name="auc", candidate=0.5, n=10, live=0.25, difference=0.25, lower=0.1, upper=0.4),),
    rows=3,
    digest=DIGEST,
    uri="s3://b/m",
    size_bytes=9,
)
_CONDITION = {
    "type": "Ready",
    "status": "True",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-01-01T00:00:00Z",
    "reason": "Promoted",
    "message": "m",
}
_MODEL_STATUS = {
    "observedGeneration": 1,
    "conditions": [_CONDITION],
    "stage": "Production",
    "replicas": 2,
    "versions": {"live": {"run": "m-v1", "digest": DIGEST, "rows": 9}},
    "rollout": {
        "id": "abc",
        "run": "m-v2",
        "digest": DIGEST,
        "phase": "Shifting",
        "step": 1,
        "weight": 25,
        "startedTime": "2026-01-01T00:00:00Z",
        "phaseTime": "2026-01-01T00:00:00Z",
        "failLook": 1,
    },
    "verdict": {"run": "m-v2", "result": "Pass", "reason": "Promoted"},
    "history": [{"time": "t", "run": "m-v1", "digest": DIGEST, "outcome": "Promoted", "reason": "R"}],
}
_RUN_STATUS = {
    "observedGeneration": 1,
    "conditions": [_CONDITION],
    "phase": "Succeeded",
    "completionTime": "2026-01-01T00:00:00Z",
    "rows": 9,
    "artifact": {"digest": DIGEST, "uri": "s3://b/m", "sizeBytes": 9},
    "metrics": [{"name": "auc", "candidate": "0.5", "rows": 9}],
    "checks": [{"name": "RowCount", "verdict": "Pass"}],
}
_OBJECTIVES = {"quality": [{"metric": "auc", "min": "0.5"}], "serving": {"latencyMilliseconds": 100}}

READERS: Final = (
    Reader(
        "evidence",
        Evidence.from_bytes,
        (ValueError,),
        _evidence,
        tuple(json.dumps(e.to_json()) for e in (_SEEN, _HUGE_SEEN)),
    ),
    Reader("step report", lambda d: StepReport.decode(_text(d)), (), _step_report, (_REPORT.encode(),)),
    Reader(
        "load report",
        lambda d: LoadReport.decode(_text(d)),
        (),
        _load_report,
        (
            LoadReport(candidate=_SIDE, baseline=_SIDE, saturated=True, lag_p99_milliseconds=0.5).encode(),
            LoadReport(problem="no", interface=InterfaceReport(live="d", breaking=("x is gone",), more=1)).encode(),
        ),
    ),
    Reader(
        "route",
        lambda d: Route.from_json(_text(d)),
        (ValueError,),
        _route,
        (Route(window="w", weight=5, canary_url="http://c:8080", canary_digest=DIGEST, mirror=9).to_json(), " \n"),
    ),
    Reader(
        "sealed record",
        lambda d: seal.opened(_KEY, _ABOUT, _text(d)),
        (),
        _record,
        (seal.sealed(_KEY, _ABOUT, _PAYLOAD),),
    ),
    Reader(
        "model status",
        lambda d: MLModelStatus.model_validate(_object(d)),
        (ValidationError, ValueError),
        _status,
        (json.dumps(_MODEL_STATUS),),
    ),
    Reader(
        "run status",
        lambda d: TrainingRunStatus.model_validate(_object(d)),
        (ValidationError, ValueError),
        _status,
        (json.dumps(_RUN_STATUS),),
    ),
    Reader(
        "restored status",
        lambda d: TrainingRunStatus.model_validate_json(_text(d)),
        (ValidationError,),
        _status,
        (json.dumps(_RUN_STATUS),),
    ),
    Reader(
        "objectives",
        lambda d: RunObjectives.model_validate_json(_text(d)),
        (ValidationError,),
        _objectives,
        (json.dumps(_OBJECTIVES),),
    ),
)

HOSTILE: Final[tuple[bytes, ...]] = (
    b"[" * (1 << 20),
    b'{"a":' * 40_000,
    b"[" * LIMIT_BYTES,
    b"[" * EVIDENCE_BYTES,
    b'"' + b'\\"' * 30_000,
    b"9" * LIMIT_BYTES,
    b"9" * EVIDENCE_BYTES,
    b"1e999",
    b"-" * 1000,
    b"\xff\xfe\x00",
    b"null",
    b"",
)
"""For every reader as they are; `spoiled` bends the seeds."""

SPOILERS: Final[tuple[Any, ...]] = (
    None,
    True,
    -1,
    0.5,
    10**18,
    10**19 - 1,
    float("inf"),
    float("nan"),
    "",
    "x",
    "x" * 3000,
    "\ud800",
    [],
    [[]],
    {},
    {"100000000000": 1},
    {"5": 2**53},
)
"""What stands at any one place of a document instead of what belongs there."""


def seeds() -> list[bytes]:
    return [bytes([number]) + text.encode() for number, reader in enumerate(READERS) for text in reader.seeds]


def spoiled(text: str) -> list[str]:
    """The document with each value, at every level, replaced by each of `SPOILERS`."""
    found: list[str] = []

    def walk(value: Any, put: Callable[[Any], Any]) -> None:
        found.extend(json.dumps(put(spoiler)) for spoiler in SPOILERS)
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, partial(_replaced, put, value, key))
        elif isinstance(value, list):
            for at, inner in enumerate(value):
                walk(inner, partial(_replaced, put, value, at))

    walk(json.loads(text), lambda new: new)
    return found


def _replaced(put: Callable[[Any], Any], whole: Any, at: Any, new: Any) -> Any:
    copy = whole.copy()
    copy[at] = new
    return put(copy)


class OperatorTarget:
    """`read`, `refused`: how many inputs of each reader became a value (None is none), and how many did not."""

    def __init__(self) -> None:
        self.read = dict.fromkeys((r.name for r in READERS), 0)
        self.refused = dict.fromkeys(self.read, 0)

    def one_input(self, data: bytes) -> None:
        if data:
            self.one_text(READERS[data[0] % len(READERS)], data[1:])

    def one_text(self, reader: Reader, data: bytes) -> None:
        started, said = time.process_time(), ""
        try:
            value = reader.read(data)
        except reader.refuses as error:
            value = None
            said = "" if isinstance(error, ValidationError) else str(error)  # the planners cut the text of the former
        assert len(said) < MESSAGE_CHARACTERS, said
        if value is not None:
            reader.check(value)
        seconds = time.process_time() - started
        assert seconds < SECONDS, f"{reader.name} took {seconds:.1f} s"
        (self.refused if value is None else self.read)[reader.name] += 1
