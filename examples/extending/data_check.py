"""The check of data-check.patch at work: from the field of an MLModel to the report of `prepare`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

from steeltown.api.crds import rendered
from steeltown.api.objectives import DataObjective
from steeltown.contract.checks import Verdict
from steeltown.contract.files import Env
from steeltown.contract.plans import PreparePlan, Source
from steeltown.contract.reports import StepReport
from steeltown_checker.__main__ import run_step

ONCE = "delay,late\n1,true\n2,false\n3,true\n"
TWICE = ONCE + "1,true\n"


def prepare(table: str, mode: str) -> tuple[int, StepReport]:
    """Exit code and report of `prepare`, of a model that allows a tenth of the rows to be copies."""
    objectives = DataObjective.model_validate({"duplicates": {"maxFraction": "0.1", "mode": mode}})
    with TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "table.csv"
        data.write_text(table)
        source = Source(uri=data.as_uri(), digest=f"sha256:{hashlib.sha256(data.read_bytes()).hexdigest()}")
        plan = PreparePlan(run="example", data=source, checks=objectives.checks(live_rows=None))
        env: dict[str, str] = {
            Env.PLAN: plan.to_json(),
            Env.INPUT_DIR: str(folder / "input"),
            Env.EVALUATION_DIR: str(folder / "evaluation"),
            Env.PARAMS_FILE: str(folder / "params.json"),
            Env.ALLOWED_SOURCES: folder.as_uri(),
        }
        report, code = run_step("prepare", env)
    return code, report


code, report = prepare(ONCE, "Enforce")
assert (code, report.reason) == (0, "DataValid"), report

code, report = prepare(TWICE, "Enforce")
assert (code, report.reason) == (65, "TooManyDuplicates"), report
assert "1 of 4 rows are copies of another, at most 10.0% are allowed" in report.message

code, report = prepare(TWICE, "Observe")
assert (code, report.reason) == (0, "ObservedOnly"), report
assert [c.name for c in report.checks if c.verdict is Verdict.FAIL] == ["Duplicates"]

for name, text in rendered().items():
    assert "Limit on the number of duplicate rows." in text, name
