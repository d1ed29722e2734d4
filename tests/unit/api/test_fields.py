"""Values of fields that stop, prune and measure: what the API server takes is what the operator can read, and no more.

The schemas in crds/ are what the API server goes by; here they are asked without one. Their CEL rules, and what it
answers: tests/controlplane/test_crds.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError
from steeltown.api.mlmodel import MLModelSpec

CRD = yaml.safe_load((Path(__file__).parents[3] / "crds" / "mlmodels.yaml").read_text())
SCHEMA = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
SOURCE = {"uri": "s3://data/march.parquet", "digest": "sha256:" + "a" * 64}
TASK = {"type": "Classification", "target": "late"}

VALID: dict[str, list[Any]] = {
    "abort": ["m-v2", "7", "a" * 63],
    "historyLimit": [0, 1, 10_000],
    "training": [
        {},
        {"historyLimit": {}},
        {"historyLimit": {"succeeded": 0}},
        {"historyLimit": {"succeeded": 10_000, "failed": 0}},
    ],
    "evaluation": [
        {"data": SOURCE},
        {"data": SOURCE, "task": TASK},
        {"data": {**SOURCE, "uri": "https://data.example/march.csv"}, "task": {**TASK, "type": "Regression"}},
    ],
}
INVALID: dict[str, list[Any]] = {
    "abort": ["", "m_v2", "M-v2", "-m", "m-", " m-v2", "m v2", "a" * 64, 7, True, {"run": "m-v2"}, ["m-v2"]],
    "historyLimit": [-1, 10_001, 1.5, "many", {"succeeded": 1}, [1]],
    "training": [
        {"historyLimit": 3},
        {"historyLimit": {"succeeded": -1}},
        {"historyLimit": {"failed": 10_001}},
        {"historyLimit": {"failed": "few"}},
    ],
    "evaluation": [
        {},
        SOURCE,
        {"task": TASK},
        {"data": "s3://data/march.parquet"},
        {"data": {"uri": SOURCE["uri"]}},
        {"data": {"digest": SOURCE["digest"]}},
        {"data": {**SOURCE, "uri": "march.parquet"}},
        {"data": {**SOURCE, "uri": "ftp://data/march.parquet"}},
        {"data": {**SOURCE, "digest": "sha256:" + "A" * 64}},
        {"data": {**SOURCE, "digest": "a" * 64}},
        {"data": SOURCE, "task": {"type": "Classification"}},
        {"data": SOURCE, "task": {**TASK, "type": "Ranking"}},
    ],
}


def rows(table: dict[str, list[Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in table.items() for v in values])


@rows(VALID)
def test_valid_value_is_taken_and_read(field: str, value: Any) -> None:
    jsonschema.validate({field: value}, SCHEMA)
    read = MLModelSpec.model_validate({field: value}).model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert read == {field: value}


@rows(INVALID)
def test_invalid_value_is_refused_at_the_door_and_by_the_operator(field: str, value: Any) -> None:
    with pytest.raises(jsonschema.ValidationError) as refused:
        jsonschema.validate({field: value}, SCHEMA)
    assert refused.value.absolute_path[0] == field
    with pytest.raises(ValidationError) as unread:
        MLModelSpec.model_validate({field: value})
    assert unread.value.errors()[0]["loc"][0] == field
