"""`prepare`: fetch what a run needs, check that it is what was meant, and lay it out for the trainer.

The trainer finds its data and parameters as plain files and needs no credentials. Evaluation rows go to a
folder of their own that the trainer never mounts. Bad data ends the run here, before it costs a training.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from steeltown.contract.checks import Check, Verdict
from steeltown.contract.plans import ColumnType, DataCheck, PreparePlan, Source
from steeltown.contract.reports import StepReport

from . import plans, profile, store
from . import table as tables
from .checks import types
from .checks.separate import CHECK as SEPARATE
from .environment import Environment
from .examine import examine
from .reasons import Reason, StepFailed
from .tablecheck import EVALUATION, TRAINING, Table

log = logging.getLogger(__name__)


def run(environment: Environment) -> StepReport:
    plan = plans.read(PreparePlan, environment.plan)
    for source in (plan.data, plan.evaluation, plan.imported):
        if source is not None:
            store.check_allowed(source.uri, environment.allowed_sources)
    write_params(plan, environment.params_file)
    rows: int | None = None
    checks: tuple[Check, ...] = ()
    observed: tuple[str, ...] = ()
    if plan.data is not None:
        table = bring(plan.data, TRAINING, environment.input_dir, plan, environment.max_artifact_bytes)
        found = examine(table, plan.demands)
        rows, checks, observed = found.rows, found.checks, found.observed
    if plan.evaluation is not None:
        table = bring(plan.evaluation, EVALUATION, environment.evaluation_dir, plan, environment.max_artifact_bytes)
        try:
            found = examine(table, (separate(plan.data),) if plan.data else ())
        except StepFailed as failure:
            raise failure.knowing(checks=checks, rows=rows) from failure
        checks = (*checks, *found.checks)
    write_profile(environment)
    if plan.imported is not None:
        store.fetch(plan.imported, environment.model_file, limit_bytes=environment.max_artifact_bytes)
    return StepReport(
        reason=Reason.OBSERVED_ONLY if observed else Reason.DATA_VALID,
        message=_summary(plan, rows, checks, observed),
        checks=checks,
        rows=rows,
    )


def write_params(plan: PreparePlan, target: Path) -> None:
    """PARAMS_FILE: the run's own parameters, and `task` with the declared types of columns beside them."""
    params = dict(plan.params or {})
    if plan.task is not None:
        params["task"] = {
            "type": plan.task.type,
            "target": plan.task.target,
            "features": list(plan.task.features),
            "columns": {name: kind.value for name, kind in types.declared(plan.demands).items()},
        }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(params, indent=1, sort_keys=True), encoding="utf-8")


def bring(source: Source, what: str, folder: Path, plan: PreparePlan, limit_bytes: int) -> Table:
    """Fetch a table to folder/data.<csv|parquet>. Columns that the training data declares as text are read as text."""
    fetched = folder / "fetched"
    size = store.fetch(source, fetched, limit_bytes=limit_bytes)
    path = tables.settle_format(fetched, store.without_credentials(source.uri), what)
    log.info("%s: %s, %d bytes", what, path, size)
    text: list[str] = []
    if what == TRAINING and path.suffix == ".csv":
        text = [name for name, kind in types.declared(plan.demands).items() if kind is ColumnType.STRING]
    frame = tables.scan(path, what, text_columns=text)
    with tables.readable(what):
        schema = dict(frame.collect_schema())
    return Table(what=what, frame=frame, types=schema, digest=source.digest, task=plan.task)


def separate(data: Source) -> DataCheck:
    """The demand that evaluation rows are not this training data."""
    return DataCheck(name=SEPARATE.name, parameters={"trainingDigest": data.digest})


def write_profile(environment: Environment) -> None:
    """profile.json: of the training data and of the evaluation data, for the report of the run."""
    folders = {"training": environment.input_dir, "evaluation": environment.evaluation_dir}
    found = {name: path for name, folder in folders.items() if (path := tables.find(folder)) is not None}
    profiles = {name: profile.of(tables.scan(path, f"{name} data"), f"{name} data") for name, path in found.items()}
    environment.profile_file.parent.mkdir(parents=True, exist_ok=True)
    environment.profile_file.write_text(json.dumps(profiles, separators=(",", ":")), encoding="utf-8")


def _summary(plan: PreparePlan, rows: int | None, checks: tuple[Check, ...], observed: tuple[str, ...]) -> str:
    passed = sum(c.verdict is Verdict.PASS for c in checks)
    data = f"{rows} training rows passed {passed} checks" if rows is not None else "no training data (import)"
    if observed:
        data = f"observed only, not enforced: {'; '.join(observed)}; {data}"
    return data + ("" if plan.evaluation is not None else "; no evaluation data, so quality cannot be measured")
