"""docs/contract describes what is really written, and allows what a neighbouring version may add."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from steeltown.contract.__main__ import main
from steeltown.contract.checks import Check, Verdict
from steeltown.contract.evidence import Counts, Evidence, Pairs, Route
from steeltown.contract.faults import Fault
from steeltown.contract.golden import Golden
from steeltown.contract.histogram import Histogram
from steeltown.contract.plans import (
    CollectItem,
    CollectPlan,
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
from steeltown.contract.reports import InterfaceReport, LoadReport, LoadSide, MetricComparison, StepReport
from steeltown.contract.schemas import documented, rendered

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "contract"
SCHEMAS: dict[str, Any] = {name.removesuffix(".json"): json.loads(text) for name, text in rendered().items()}

DIGEST = "sha256:" + "a" * 64
SOURCE = Source(uri="s3://b/x.csv", digest=DIGEST)
TASK = Task(type=TaskType.CLASSIFICATION, target="y", features=("a", "b"))
LATENCY = Histogram({5: 2})
FAULTS = (Fault(kind="HTTP 500", first="HTTP 500: boom", count=1),)
COUNTS = Counts(requests=3, errors=1, latency=LATENCY, faults=FAULTS)
PAIRS = Pairs(compared=2, agreed=1, failed=3, difference=LATENCY)
SIDE = LoadSide(sent=3, errors=1, over=1, latency=LATENCY, first_error="HTTP 500", faults=FAULTS)
CHECKS = (
    Check(name="RowCount", verdict=Verdict.PASS, message="m", method="count", value=5.0, threshold=1.0, n=5, m=6),
    Check(name="Drift", verdict=Verdict.INSUFFICIENT_DATA, message="", value=float("nan"), noise_floor=float("inf")),
)
METRICS = (
    MetricComparison(name="auc", candidate=0.5, n=10, live=0.25, difference=0.25, lower=0.125, upper=0.375),
    MetricComparison(name="f1", candidate=float("nan"), n=10),
)

DOCUMENTS: dict[str, tuple[str, str]] = {
    "least prepare": ("prepare-plan", PreparePlan(run="r").to_json()),
    "prepare": (
        "prepare-plan",
        PreparePlan(
            run="r",
            data=SOURCE,
            columns=(Column(name="a", type=ColumnType.NUMBER, max_null_fraction=0.5), Column(name="b")),
            min_rows=1,
            max_rows=9,
            evaluation=SOURCE,
            imported=SOURCE,
            task=TASK,
            params={"k": "v"},
        ).to_json(),
    ),
    "least finalise": ("finalise-plan", FinalisePlan(run="r", store="s3://b").to_json()),
    "finalise": (
        "finalise-plan",
        FinalisePlan(
            run="r", store="s", imported=True, task=TASK, live=SOURCE, metrics=("auc",), seed=3, confidence=0.9
        ).to_json(),
    ),
    "fetch": ("fetch-plan", FetchPlan(store="s3://b", digest=DIGEST).to_json()),
    "load check": (
        "load-check-plan",
        LoadCheckPlan(
            model="m",
            candidate_url="http://c",
            candidate_digest=DIGEST,
            golden=FetchPlan(store="s", digest=DIGEST),
            latency_milliseconds=5.0,
            baseline_url="http://b",
            blocks=3,
        ).to_json(),
    ),
    "collect": (
        "collect-plan",
        CollectPlan(store="s3://b", items=(CollectItem(digest=DIGEST, reference="n.r.u"),)).to_json(),
    ),
    "least step report": ("step-report", StepReport(reason="DataValid", message="").encode()),
    "step report": (
        "step-report",
        StepReport(
            reason="ModelReady",
            message="m",
            checks=CHECKS,
            metrics=METRICS,
            rows=3,
            digest=DIGEST,
            uri="s3://b/m",
            size_bytes=9,
        ).encode(),
    ),
    "least load report": ("load-report", LoadReport(problem="no").encode()),
    "load report": ("load-report", LoadReport(candidate=SIDE, baseline=SIDE, lag_p99_milliseconds=0.5).encode()),
    "load report with an interface": (
        "load-report",
        LoadReport(problem="no", interface=InterfaceReport.of(DIGEST, ("x is gone",) * 99, ("y is new",))).encode(),
    ),
    "load report with an interface that nobody could compare": (
        "load-report",
        LoadReport(problem="no", interface=InterfaceReport(live=DIGEST, problem="no manifest")).encode(),
    ),
    "least route": ("route", Route(window="w").to_json()),
    "route": (
        "route",
        Route(window="w", weight=5, canary_url="http://c:8080", canary_digest=DIGEST, mirror=9).to_json(),
    ),
    "evidence": (
        "evidence",
        json.dumps(
            Evidence(
                instance="i",
                digest=DIGEST,
                window="w",
                weight=5,
                live=COUNTS,
                canary=Counts(),
                pairs=PAIRS,
                route="0123456789abcdef",
            ).to_json()
        ),
    ),
    "golden": ("golden", json.dumps(Golden(inputs=[{"name": "x"}], outputs=[{"name": "y"}], atol=0.5).to_json())),
}

each_document = pytest.mark.parametrize(("kind", "text"), DOCUMENTS.values(), ids=DOCUMENTS)


def known(value: Any, schema: Any, definitions: Any) -> bool:
    """Whether the schema speaks of every property of the value, at every level."""
    schema = definitions.get(schema.get("$ref", "").rpartition("/")[2], schema)
    if isinstance(value, list):
        return all(known(v, schema.get("items", {}), definitions) for v in value)
    if isinstance(value, dict) and "properties" in schema:
        return value.keys() <= schema["properties"].keys() and all(
            known(v, schema["properties"][k], definitions) for k, v in value.items()
        )
    return True


def with_notes(value: Any, schema: Any, definitions: Any) -> Any:
    """The value with a property more wherever a newer version could add one."""
    schema = definitions.get(schema.get("$ref", "").rpartition("/")[2], schema)
    if isinstance(value, list):
        return [with_notes(v, schema.get("items", {}), definitions) for v in value]
    if isinstance(value, dict) and "properties" in schema:
        added = {k: with_notes(v, schema["properties"].get(k, {}), definitions) for k, v in value.items()}
        return added | {"addedLater": {"x": [1, None]}}
    return value


@each_document
def test_what_is_written_is_what_the_schema_says(kind: str, text: str) -> None:
    schema = SCHEMAS[kind]
    Draft202012Validator(schema).validate(json.loads(text))
    assert known(json.loads(text), schema, schema.get("$defs", {}))


@each_document
def test_what_a_newer_version_adds_is_allowed(kind: str, text: str) -> None:
    schema = SCHEMAS[kind]
    newer = with_notes(json.loads(text), schema, schema.get("$defs", {}))
    assert newer != json.loads(text)
    Draft202012Validator(schema).validate(newer)


@each_document
def test_what_must_be_there_is_missed(kind: str, text: str) -> None:
    for name in SCHEMAS[kind].get("required", ()):
        cut = {k: v for k, v in json.loads(text).items() if k != name}
        assert not Draft202012Validator(SCHEMAS[kind]).is_valid(cut), name


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_is_valid_named_by_version_and_described(name: str) -> None:
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"https://steeltown.dev/contract/v1/{name}.json"
    assert "additionalProperties" not in schema
    for part in (schema, *schema.get("$defs", {}).values()):
        assert part["description"]


@pytest.mark.parametrize(
    "wrong", [{"weight": 101}, {"weight": True}, {"live": {}}, {"canary": {"requests": -1, "errors": 0, "latency": {}}}]
)
def test_evidence_that_the_reader_refuses_the_schema_refuses_too(wrong: dict[str, Any]) -> None:
    document = json.loads(DOCUMENTS["evidence"][1]) | wrong
    assert not Draft202012Validator(SCHEMAS["evidence"]).is_valid(document)
    with pytest.raises(ValueError, match="evidence"):
        Evidence.from_json(document)


def test_folder_holds_what_would_be_written() -> None:
    assert main(["--check", str(FOLDER)]) == 0


def test_stale_missing_and_left_over_files_are_found_and_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 0
    (tmp_path / "evidence.json").write_text("{}")
    (tmp_path / "golden.json").unlink()
    (tmp_path / "gone.json").write_text("{}")
    assert main(["--check", str(tmp_path)]) == 1
    assert "evidence.json, golden.json, gone.json" in capsys.readouterr().out
    assert main([str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0
    assert not (tmp_path / "gone.json").exists()


def test_descriptions_come_from_docstrings() -> None:
    summary, described = documented(Evidence)
    assert summary == "What one server process saw within its current window."
    assert described["weight"] == described["window"] == 'of the route in force ("" and 0 without one).'
    assert set(described) == {"digest", "window", "weight", "live", "canary", "pairs", "instance", "route"}
