"""`prepare`: fetch what a run needs, check that it is what was meant, and lay it out for the trainer.

The trainer finds its data and parameters as plain files and needs no credentials. Evaluation rows go to a
folder of their own that the trainer never mounts. Bad data ends the run here, before it costs a training.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from steeltown.contract.checks import Check
from steeltown.contract.plans import PreparePlan, Source
from steeltown.contract.reports import StepReport

from . import datachecks, plans, profile, store, table
from .environment import Environment
from .reasons import Reason, StepFailed

log = logging.getLogger(__name__)


def run(environment: Environment) -> StepReport:
    plan = plans.read(PreparePlan, environment.plan)
    write_params(plan, environment.params_file)
    checks: tuple[Check, ...] = ()
    rows: int | None = None
    if plan.data is not None:
        path = bring(plan.data, environment.input_dir, datachecks.TRAINING, environment.max_artifact_bytes)
        rules = datachecks.Rules(
            what=datachecks.TRAINING,
            columns=plan.columns,
            task=plan.task,
            min_rows=plan.min_rows or 1,
            max_rows=plan.max_rows,
        )
        rows, checks = examine(path, rules)
    if plan.evaluation is not None:
        path = bring(plan.evaluation, environment.evaluation_dir, datachecks.EVALUATION, environment.max_artifact_bytes)
        rules = datachecks.Rules(what=datachecks.EVALUATION, task=plan.task, empty_reason=Reason.EVALUATION_EMPTY)
        try:
            _, more = examine(path, rules)
        except StepFailed as failure:
            raise failure.knowing(checks=checks, rows=rows) from failure
        checks = (*checks, *more)
    write_profile(environment)
    if plan.imported is not None:
        store.fetch(plan.imported, environment.model_file, limit_bytes=environment.max_artifact_bytes)
    return StepReport(reason=Reason.DATA_VALID, message=_summary(plan, rows, checks), checks=checks, rows=rows)


def write_params(plan: PreparePlan, target: Path) -> None:
    """PARAMS_FILE: the run's own parameters, and `task` with the declared types of columns beside them."""
    params = dict(plan.params or {})
    if plan.task is not None:
        params["task"] = {
            "type": plan.task.type,
            "target": plan.task.target,
            "features": list(plan.task.features),
            "columns": {c.name: c.type for c in plan.columns if c.type is not None},
        }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(params, indent=1, sort_keys=True), encoding="utf-8")


def bring(source: Source, folder: Path, what: str, limit_bytes: int) -> Path:
    """Fetch a table to folder/data.<csv|parquet>."""
    fetched = folder / "fetched"
    size = store.fetch(source, fetched, limit_bytes=limit_bytes)
    path = table.settle_format(fetched, source.uri, what)
    log.info("%s: %s, %d bytes", what, path, size)
    return path


def examine(path: Path, rules: datachecks.Rules) -> tuple[int, tuple[Check, ...]]:
    """Rows and checks of a table. StepFailed with the reason of the first check that fails, carrying all."""
    text = [c.name for c in rules.columns if c.type == "String"] if path.suffix == ".csv" else []
    facts = datachecks.gather(table.scan(path, rules.what, text_columns=text), rules)
    judged = datachecks.judge(facts, rules)
    checks = tuple(check for _, check in judged)
    for reason, check in judged:
        if reason is not None:
            known: dict[str, Any] = {"rows": facts.rows} if rules.what == datachecks.TRAINING else {}
            raise StepFailed(reason, check.message, checks=checks, **known)
    return facts.rows, checks


def write_profile(environment: Environment) -> None:
    """profile.json: of the training data and of the evaluation data, for the report of the run."""
    folders = {"training": environment.input_dir, "evaluation": environment.evaluation_dir}
    found = {name: path for name, folder in folders.items() if (path := table.find(folder)) is not None}
    profiles = {name: profile.of(table.scan(path, f"{name} data"), f"{name} data") for name, path in found.items()}
    environment.profile_file.parent.mkdir(parents=True, exist_ok=True)
    environment.profile_file.write_text(json.dumps(profiles, separators=(",", ":")), encoding="utf-8")


def _summary(plan: PreparePlan, rows: int | None, checks: tuple[Check, ...]) -> str:
    data = f"{rows} training rows passed {len(checks)} checks" if rows is not None else "no training data: an import"
    return data + ("" if plan.evaluation is not None else "; no evaluation data, so quality cannot be measured")
