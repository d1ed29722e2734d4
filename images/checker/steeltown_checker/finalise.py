"""`finalise`: is what came out of training a model that can be served, and how good is it? Then publish it.

The checks go from cheap to dear, and each ends the run with its own reason: the file, the signature, running
on real rows, faithfulness of the export. Quality is measured beside the live model and only reported.
Nothing is uploaded under `models/` before all of it passed.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import polars as pl
from steeltown.contract.checks import Check, Verdict
from steeltown.contract.golden import Golden
from steeltown.contract.plans import FinalisePlan, Source, Task
from steeltown.contract.reports import MetricComparison, StepReport
from steeltown_tensors import Independence, Mixing

from . import batching, evaluate, goldenrows, metrics, plans, publish, store, table
from .binding import Binding, bind, is_matrix
from .environment import Environment
from .evaluate import Rows
from .model import Model, open_model
from .reasons import Reason, StepFailed
from .runreport import write_report

log = logging.getLogger(__name__)

Known = TypeVar("Known")

MAX_RESULT_BYTES: Final = 1 << 20


@dataclass(kw_only=True)
class Findings:
    """What is known so far: goes into the report whether the run ends well or not."""

    checks: list[Check] = field(default_factory=list)
    metrics: tuple[MetricComparison, ...] = ()
    digest: str = ""
    size_bytes: int | None = None
    result: dict[str, Any] | None = None

    def add(self, name: str, verdict: Verdict, message: str, **measured: Any) -> None:
        self.checks.append(Check(name=name, verdict=verdict, message=message[:500], **measured))


def run(environment: Environment) -> StepReport:
    plan = plans.read(FinalisePlan, environment.plan)
    artifacts = store.ArtifactStore(plan.store)
    findings = Findings()
    try:
        report = _finalise(environment, plan, artifacts, findings)
    except StepFailed as failure:
        known = failure.knowing(
            checks=tuple(findings.checks),
            metrics=findings.metrics,
            digest=findings.digest,
            size_bytes=findings.size_bytes,
        )
        failed = StepReport(reason=known.reason, message=known.message, **known.known)
        write_report(artifacts, plan.run, failed, findings.result, environment)
        raise known from failure
    write_report(artifacts, plan.run, report, findings.result, environment)
    return report


def _finalise(
    environment: Environment, plan: FinalisePlan, artifacts: store.ArtifactStore, findings: Findings
) -> StepReport:
    path = environment.model_file
    _require_result(environment, plan, findings)
    findings.digest, findings.size_bytes = store.digest_of(path), path.stat().st_size
    model = _guarded(findings, "ModelFile", lambda: open_model(path))
    findings.add("ModelFile", Verdict.PASS, f"model loads ({findings.size_bytes} bytes)", value=findings.size_bytes)
    evaluation, binding = _bound(environment, plan.task, model, findings)
    rows = _evaluate(environment, plan, model, binding, evaluation, findings)
    frame = None if rows is None else rows.frame
    meeting = batching.objection(path)
    golden = _guarded(findings, "GoldenRows", lambda: _golden(path, model, binding, frame))
    _check_fidelity(environment.fidelity_file, model, findings)
    found = _check_batches(model, binding, frame, golden, meeting, findings)
    uri = publish.publish(
        artifacts,
        publish.Publication(
            run=plan.run,
            reference=environment.reference,
            path=path,
            digest=findings.digest,
            size_bytes=findings.size_bytes,
            model=model,
            golden=golden,
            batching=batching.record(found),
            task=plan.task,
        ),
    )
    return StepReport(
        reason=Reason.MODEL_READY,
        message=_summary(findings),
        checks=tuple(findings.checks),
        metrics=findings.metrics,
        digest=findings.digest,
        uri=uri,
        size_bytes=findings.size_bytes,
    )


def _require_result(environment: Environment, plan: FinalisePlan, findings: Findings) -> None:
    path = environment.result_file
    wanted = [environment.model_file] if plan.imported else [environment.model_file, path]
    if gone := [str(p) for p in wanted if not p.is_file()]:
        raise StepFailed(
            Reason.RESULT_MISSING,
            f"the trainer exited with code 0 without writing {' and '.join(gone)}: "
            "write model/model.onnx and result.json, or exit with an error code",
        )
    if not path.is_file():
        return
    try:
        if path.stat().st_size > MAX_RESULT_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes exceed the limit of {MAX_RESULT_BYTES}")
        raw = json.loads(path.read_bytes())
        if not isinstance(raw, dict):
            raise ValueError(f"expected an object, got {type(raw).__name__}")
    except ValueError as error:
        raise StepFailed(Reason.RESULT_INVALID, f"invalid {path}: {error}") from error
    findings.result = raw


def _bound(
    environment: Environment, task: Task | None, model: Model, findings: Findings
) -> tuple[pl.LazyFrame | None, Binding]:
    """The evaluation data, if there is any and a task to read it by, and how it goes into the model."""
    path = table.find(environment.evaluation_dir)
    features = () if task is None else task.features
    if path is None or task is None:
        binding = _guarded(findings, "Signature", lambda: bind(model, features, None))
        findings.add("Signature", Verdict.PASS, f"{len(model.inputs)} inputs, {len(model.outputs)} outputs")
        return None, binding
    text = tuple(p.name for p in model.inputs if p.is_text)
    frame = table.scan(path, "evaluation data", text_columns=text)
    columns = [c for c in frame.collect_schema().names() if c != task.target]
    binding = _guarded(findings, "Signature", lambda: bind(model, features, columns))
    findings.add("Signature", Verdict.PASS, f"inputs are {len(binding.columns)} columns of the evaluation data")
    return frame, binding


def _evaluate(
    environment: Environment,
    plan: FinalisePlan,
    model: Model,
    binding: Binding,
    evaluation: pl.LazyFrame | None,
    findings: Findings,
) -> Rows | None:
    """Run and measure candidate and live model on the evaluation rows; None where there are none to run on."""
    if evaluation is None or plan.task is None:
        findings.add("Evaluation", Verdict.INSUFFICIENT_DATA, "no evaluation data: quality is unknown", n=0)
        return None
    task, names = plan.task, evaluate.wanted_metrics(plan.task, plan.metrics)
    rows = _rows(task, evaluation, binding, plan.seed)
    if not len(rows):
        findings.add("Evaluation", Verdict.INSUFFICIENT_DATA, "no evaluation row is usable with this model", n=0)
        return None
    outputs = _guarded(findings, "RunsOnData", lambda: evaluate.run(model, binding, rows.frame))
    findings.add("RunsOnData", Verdict.PASS, f"{len(rows)} rows, all outputs finite", n=len(rows))
    mine = _guarded(findings, "Signature", lambda: evaluate.measure(task, model, outputs, rows.truth))
    with tempfile.TemporaryDirectory() as folder:
        theirs = _live_metrics(environment, plan, evaluation, rows, Path(folder), findings) if plan.live else None
    chosen = [m for name in names for m in mine if m.name == name]
    if absent := [name for name in names if name not in {m.name for m in chosen}]:
        why = "two classes are required" if absent == ["auc"] else "not possible with these outputs or rows"
        findings.add("Metrics", Verdict.INSUFFICIENT_DATA, f"{', '.join(absent)} not measured: {why}", n=len(rows))
    findings.metrics = metrics.compare(chosen, theirs, len(rows), seed=plan.seed, confidence=plan.confidence)
    shown = f"{len(rows)} of {rows.total} rows" if rows.total > len(rows) else f"{len(rows)} rows"
    findings.add("Evaluation", Verdict.PASS, f"measured on {shown}", n=len(rows))
    return rows


def _rows(task: Task, evaluation: pl.LazyFrame, binding: Binding, seed: int) -> Rows:
    """Rows with a target; without those that the model's integer inputs cannot express."""
    whole = [pl.col(c).is_not_null() for c in binding.whole_columns]
    usable = evaluation.filter(*whole) if whole else evaluation
    columns = [c for c in evaluation.collect_schema().names() if c != task.target]
    return evaluate.read_rows(usable, task, columns, seed)


def _live_metrics(
    environment: Environment,
    plan: FinalisePlan,
    evaluation: pl.LazyFrame,
    rows: Rows,
    folder: Path,
    findings: Findings,
) -> list[metrics.Metric] | None:
    """The live model on the same rows. One that fails there says nothing about the candidate: warned, not fatal."""
    if plan.live is None or plan.task is None:
        return None
    try:
        live = _fetched(plan.live, folder, environment.max_artifact_bytes)
        columns = [c for c in evaluation.collect_schema().names() if c != plan.task.target]
        features = plan.task.features if is_matrix(live.inputs) else ()
        binding = bind(live, features, columns)
        outputs = evaluate.run(live, binding, rows.frame)
        return evaluate.measure(plan.task, live, outputs, rows.truth)
    except StepFailed as failure:
        if failure.reason is Reason.STORE_UNAVAILABLE:
            raise
        message = f"{plan.live.digest}: {failure.reason}: {failure.message}"
        findings.add("LiveModelNotComparable", Verdict.WARN, message, n=len(rows))
        return None


def _fetched(live: Source, folder: Path, limit_bytes: int) -> Model:
    path = folder / "live.onnx"
    store.fetch(live, path, limit_bytes=limit_bytes)
    return open_model(path)


def _check_fidelity(path: Path, model: Model, findings: Findings) -> None:
    """Does the exported model answer what the trainer's own library answered? Absent rows are no evidence."""
    if not path.is_file():
        findings.add("ExportFidelity", Verdict.INSUFFICIENT_DATA, "the trainer wrote no model/fidelity.json", n=0)
        return
    try:
        golden = Golden.from_json(json.loads(path.read_bytes()))
        size, where = goldenrows.violation(model, golden)
        rows = int(golden.inputs[0]["shape"][0])
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        message = f"cannot compare fidelity.json with the model: {' '.join(str(error).split())}"
        raise _failed(findings, "ExportFidelity", StepFailed(Reason.EXPORT_UNFAITHFUL, message)) from error
    if size > 1:
        message = f"{where}, tolerance {golden.atol:g} + {golden.rtol:g}|e|: the export changed the model"
        raise _failed(
            findings, "ExportFidelity", StepFailed(Reason.EXPORT_UNFAITHFUL, message), value=size, threshold=1
        )
    message = f"{rows} rows match the outputs of the trainer"
    findings.add("ExportFidelity", Verdict.PASS, message, value=size, threshold=1, n=rows)


def _golden(path: Path, model: Model, binding: Binding, rows: pl.DataFrame | None) -> Golden:
    golden = goldenrows.make(model, binding, rows)
    random = batching.random_operator(path)
    goldenrows.require_repeatable(model, golden, "" if random is None else str(random), invented=rows is None)
    return golden


def _check_batches(
    model: Model,
    binding: Binding,
    rows: pl.DataFrame | None,
    golden: Golden,
    meeting: Mixing | None,
    findings: Findings,
) -> Independence:
    """May rows of different clients share a run? That they may not, or that nobody knows, costs speed and no more."""
    if meeting is not None:
        findings.add("BatchInvariance", Verdict.WARN, f"{meeting}: the server will not batch requests")
        return Independence(1, str(meeting), refuted=True)
    found = batching.tried(model, binding, rows, golden)
    measured = {"value": found.worst, "threshold": 1, "n": found.tried}
    if found.refuted:
        message = f"answers depend on other rows of a run ({found.why}): the server will not batch requests"
        findings.add("BatchInvariance", Verdict.WARN, message, **measured)
    elif found.rows == 1:
        message = f"{found.why}; until then the server will not batch requests"
        findings.add("BatchInvariance", Verdict.INSUFFICIENT_DATA, message, n=found.tried)
    else:
        message = f"answers do not depend on other rows of a run, in runs of up to {found.rows} rows"
        findings.add("BatchInvariance", Verdict.PASS, message, **measured)
    return found


def _guarded(findings: Findings, name: str, attempt: Callable[[], Known]) -> Known:
    """Run `attempt`; a StepFailed leaves a failed check of that name behind."""
    try:
        return attempt()
    except StepFailed as failure:
        raise _failed(findings, name, failure) from failure


def _failed(findings: Findings, name: str, failure: StepFailed, **measured: Any) -> StepFailed:
    findings.add(name, Verdict.FAIL, failure.message, **measured)
    return failure


def _summary(findings: Findings) -> str:
    shown = ", ".join(
        f"{m.name} {m.candidate:.4g}" + ("" if m.difference is None else f" ({m.difference:+.3g} to live)")
        for m in findings.metrics
    )
    return f"stored {findings.digest}" + (f": {shown}" if shown else "; quality was not measured")
