"""Version 0.1 and this one work together: each reads what the other writes.

Its documents and what its readers accept are in neighbour/. A field added to a plan reaches its images only when it is
set, since its plans refuse properties that they do not know.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from steeltown.contract.checks import Check, Verdict
from steeltown.contract.evidence import Counts, Evidence, Pairs, Route
from steeltown.contract.golden import Golden
from steeltown.contract.histogram import Histogram
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
from steeltown.contract.reports import LoadReport, LoadSide, MetricComparison, StepReport
from steeltown.contract.schemas import rendered
from steeltown_checker.__main__ import main

NEIGHBOUR = Path(__file__).parent / "neighbour"
DIGEST = "sha256:" + "a" * 64
SOURCE = Source(uri="s3://b/x.csv", digest=DIGEST)
TASK = Task(type=TaskType.CLASSIFICATION, target="y", features=("a", "b"))
LATENCY = Histogram({5: 2})
SIDE = LoadSide(sent=3, errors=1, over=1, latency=LATENCY, first_error="HTTP 500")
LEAST_LOAD_CHECK = LoadCheckPlan(
    model="m",
    candidate_url="http://c",
    candidate_digest=DIGEST,
    golden=FetchPlan(store="s", digest=DIGEST),
    latency_milliseconds=5.0,
)

VALUES: dict[str, Any] = {
    "prepare-plan-least": PreparePlan(run="r"),
    "prepare-plan": PreparePlan(
        run="r",
        data=SOURCE,
        columns=(Column(name="a", type=ColumnType.NUMBER, max_null_fraction=0.5), Column(name="b")),
        min_rows=1,
        max_rows=9,
        evaluation=SOURCE,
        imported=SOURCE,
        task=TASK,
        params={"k": "v"},
    ),
    "finalise-plan-least": FinalisePlan(run="r", store="s3://b"),
    "finalise-plan": FinalisePlan(
        run="r", store="s3://b", imported=True, task=TASK, live=SOURCE, metrics=("auc",), seed=3, confidence=0.9
    ),
    "fetch-plan": FetchPlan(store="s3://b", digest=DIGEST),
    "load-check-plan-least": LEAST_LOAD_CHECK,
    "load-check-plan": replace(
        LEAST_LOAD_CHECK,
        baseline_url="http://b",
        rate_per_second=20.0,
        warm_up_seconds=1.0,
        block_seconds=1.5,
        blocks=3,
        timeout_seconds=1.0,
    ),
    "step-report-least": StepReport(reason="DataValid", message=""),
    "step-report-not-finite": StepReport(
        reason="ModelReady", message="m", metrics=(MetricComparison(name="f1", candidate=0.5, n=10),)
    ),
    "step-report": StepReport(
        reason="ModelReady",
        message="m",
        checks=(
            Check(
                name="RowCount", verdict=Verdict.PASS, message="m", method="count", value=5.0, threshold=1.0, n=5, m=6
            ),
            Check(name="Drift", verdict=Verdict.INSUFFICIENT_DATA, message="", noise_floor=float("inf")),
        ),
        metrics=(
            MetricComparison(name="auc", candidate=0.5, n=10, live=0.25, difference=0.25, lower=0.125, upper=0.375),
        ),
        rows=3,
        digest=DIGEST,
        uri="s3://b/m",
        size_bytes=9,
    ),
    "load-report-least": LoadReport(problem="no"),
    "load-report": LoadReport(candidate=SIDE, baseline=SIDE, saturated=True, lag_p99_milliseconds=0.5),
    "route-least": Route(window="w"),
    "route": Route(
        window="w", weight=5, canary_url="http://c:8080", canary_digest=DIGEST, mirror=9, timeout_milliseconds=7
    ),
    "evidence": Evidence(
        instance="i",
        digest=DIGEST,
        window="w",
        weight=5,
        live=Counts(requests=3, errors=1, latency=LATENCY),
        canary=Counts(),
        pairs=Pairs(compared=2, agreed=1, failed=3, difference=LATENCY),
    ),
}
READERS: dict[type, Callable[[str], Any]] = {
    StepReport: StepReport.decode,
    LoadReport: LoadReport.decode,
    Route: Route.from_json,
    Evidence: lambda text: Evidence.from_bytes(text.encode()),
}
each = pytest.mark.parametrize("name", VALUES)


def schema_of(name: str) -> str:
    return f"{name.removesuffix('-least').removesuffix('-not-finite')}.json"


def written(value: Any) -> str:
    """As this version writes it."""
    if isinstance(value, StepReport | LoadReport):
        return value.encode()
    text = value.to_json()
    return text if isinstance(text, str) else json.dumps(text)


@each
def test_what_version_0_1_writes_is_read_to_the_same_values(name: str) -> None:
    value = VALUES[name]
    read = READERS.get(type(value)) or type(value).from_json
    assert read((NEIGHBOUR / "documents" / f"{name}.json").read_text()) == value


@each
def test_what_this_version_writes_is_what_version_0_1_reads(name: str) -> None:
    schema = json.loads((NEIGHBOUR / "schemas" / schema_of(name)).read_text())
    Draft202012Validator(schema).validate(json.loads(written(VALUES[name])))


@each
def test_what_version_0_1_writes_is_what_the_schemas_of_this_version_say(name: str) -> None:
    schema = json.loads(rendered()[schema_of(name)])
    Draft202012Validator(schema).validate(json.loads((NEIGHBOUR / "documents" / f"{name}.json").read_text()))


def test_every_document_of_version_0_1_is_tried() -> None:
    assert {path.stem for path in (NEIGHBOUR / "documents").iterdir()} == set(VALUES)
    assert {schema_of(name) for name in VALUES} | {"golden.json"} == {
        path.name for path in (NEIGHBOUR / "schemas").iterdir()
    }


@pytest.mark.parametrize("name", [name for name in VALUES if name.endswith("-plan-least")])
def test_plan_in_which_nothing_is_set_says_only_what_it_must(name: str) -> None:
    schema = json.loads((NEIGHBOUR / "schemas" / schema_of(name)).read_text())
    assert set(json.loads(written(VALUES[name]))) == set(schema["required"])


def test_model_stored_by_version_0_1_is_fetched(tmp_path: Path) -> None:
    (manifest,) = (NEIGHBOUR / "store").glob("models/*/manifest.json")
    Draft202012Validator(json.loads(rendered()["manifest.json"])).validate(json.loads(manifest.read_text()))
    plan = FetchPlan(store=f"file://{NEIGHBOUR}/store", digest=f"sha256:{manifest.parent.name}")
    env = {"STEELTOWN_PLAN": plan.to_json(), "STEELTOWN_MODEL_DIR": str(tmp_path)}
    assert main(["fetch"], env | {"STEELTOWN_TERMINATION_LOG": str(tmp_path / "log")}) == 0
    assert (tmp_path / "model.onnx").read_bytes() == (manifest.parent / "model.onnx").read_bytes()
    golden = Golden.from_json(json.loads((tmp_path / "golden.json").read_text()))
    assert [tensor["name"] for tensor in (*golden.inputs, *golden.outputs)] == ["x", "y"]
    Draft202012Validator(json.loads((NEIGHBOUR / "schemas/golden.json").read_text())).validate(golden.to_json())
