"""`finalise`: is what came out of training a model that can be served, and how good is it? Then publish it.

The checks go from cheap to dear, and each ends the run with its own reason: the file, the signature, running
on real rows, faithfulness of the export. Quality is measured beside the live model and only reported.
Nothing is uploaded under `models/` before all of it passed.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from steeltown.contract.checks import LIVE_NOT_COMPARABLE, Check, Verdict, metric_check
from steeltown.contract.golden import Golden
from steeltown.contract.plans import FinalisePlan, Source, Task
from steeltown.contract.reports import MetricComparison, StepReport
from steeltown_tensors import Independence, Mixing

from . import batching, evaluate, fetch, goldenrows, interface, metrics, plans, publish, store, table, trained
from .binding import Binding, bind, is_matrix
from .environment import Environment
from .evaluate import Rows
from .model import Model, alone, open_model
from .reasons import Reason, StepFailed
from .runreport import write_report

log = logging.getLogger(__name__)

Known = TypeVar("Known")


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
        with tempfile.TemporaryDirectory() as folder:
            report = _finalise(environment, plan, artifacts, findings, Path(folder))
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
    environment: Environment, plan: FinalisePlan, artifacts: store.ArtifactStore, findings: Findings, folder: Path
) -> StepReport:
    """folder: empty, and nobody else's: from here on the model is the copy in it."""
    _require_result(environment, plan, findings)
    path = _guarded(findings, "ModelFile", lambda: alone(environment.model_file, folder))
    findings.digest, findings.size_bytes = store.digest_of(path), path.stat().st_size
    model = _guarded(findings, "ModelFile", lambda: open_model(path))
    findings.add("ModelFile", Verdict.PASS, f"model loads ({findings.size_bytes} bytes)", value=findings.size_bytes)
    evaluation, binding = _bound(environment, plan.task, model, findings)
    _compare_interface(plan, artifacts, model, findings)
    rows = _evaluate(environment, plan, model, binding, evaluation, findings)
    frame = None if rows is None else rows.frame
    meeting = batching.objection(path)
    golden = _guarded(findings, "GoldenRows", lambda: _golden(path, model, binding, frame))
    _check_fidelity(environment, model, findings)
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
    wanted = [environment.model_file] if plan.imported else [environment.model_file, environment.result_file]
    if gone := [str(p) for p in wanted if trained.find(p, environment.output_dir) is None]:
        raise StepFailed(
            Reason.RESULT_MISSING,
            f"the trainer exited with code 0 without writing {' and '.join(gone)}: "
            "write model/model.onnx and result.json, or exit with an error code",
        )
    path = trained.find(environment.result_file, environment.output_dir)
    if path is None:
        return
    try:
        raw = trained.read_json(path, max_bytes=trained.MAX_RESULT_BYTES)
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
        findings.add("Signature", Verdict.PASS, _stated(model))
        return None, binding
    text = tuple(p.name for p in model.inputs if p.is_text)
    frame = table.scan(path, "evaluation data", text_columns=text)
    columns = [c for c in frame.collect_schema().names() if c != task.target]
    binding = _guarded(findings, "Signature", lambda: bind(model, features, columns))
    fixed = "" if binding.fixed_rows is None else f"; exactly {binding.fixed_rows} rows, so requests run one at a time"
    findings.add("Signature", Verdict.PASS, f"inputs are {len(binding.columns)} columns of the evaluation data{fixed}")
    return frame, binding


def _fixed(model: Model) -> str:
    """Why no two requests can share a run whatever the rows are; "" where they might."""
    if not model.inputs:
        return "the model has no inputs"
    ports = (*model.inputs, *model.outputs)
    return next((f"{p.name!r} has no free first dimension" for p in ports if not p.has_free_rows), "")


def _compare_interface(plan: FinalisePlan, artifacts: store.ArtifactStore, model: Model, findings: Findings) -> None:
    """A word in time: what decides is the comparison with the version that is live when this one is rolled out."""
    if plan.live is None:
        return
    try:
        mine = interface.of_manifest({"digest": findings.digest, **publish.promised(model, plan.task)})
        live = interface.of_manifest(fetch.read_manifest(artifacts, plan.live.digest))
    except StepFailed as failure:
        message = f"cannot be compared with the live version: {failure.reason}: {failure.message}"
        findings.add("Interface", Verdict.INSUFFICIENT_DATA, message)
        return
    found = interface.compare(live, mine)
    if found.breaking:
        message = f"{found.told()}: not promoted unless objectives.interface of the MLModel is Any"
        findings.add("Interface", Verdict.WARN, message, n=len(found.breaking))
    else:
        findings.add("Interface", Verdict.PASS, f"{found.told()} since the live version")


def _stated(model: Model) -> str:
    """The signature in words, and what it means for batches."""
    fixed = _fixed(model)
    alone = f"; requests run one at a time, since {fixed}" if fixed else ""
    inputs, outputs = (", ".join(map(str, side[:4])) or "none" for side in (model.inputs, model.outputs))
    counts = f"{len(model.inputs)} inputs, {len(model.outputs)} outputs"
    return f"{counts}{alone}; inputs: {inputs[:160]}; outputs: {outputs[:160]}"


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
        why = "no evaluation row is usable with this model"
        findings.add("Evaluation", Verdict.INSUFFICIENT_DATA, why, n=0)
        remedy = f"{why}: fill the target {task.target!r} and the columns of whole numbers, which cannot be missing"
        _not_measured(dict.fromkeys(names, remedy), names, 0, findings)
        return None
    outputs = _guarded(findings, "RunsOnData", lambda: evaluate.run(model, binding, rows.frame))
    findings.add("RunsOnData", Verdict.PASS, f"{len(rows)} rows, all outputs finite", n=len(rows))
    mine = evaluate.measure(task, model, outputs, rows.truth, task.outputs)
    with tempfile.TemporaryDirectory() as folder:
        measured = [m.name for m in mine.metrics if m.name in names]
        theirs = _live_metrics(environment, plan, evaluation, rows, measured, Path(folder), findings)
    chosen = [m for name in names for m in mine.metrics if m.name == name]
    if mine.told:
        assumed = ": nothing in the file or in spec.task.outputs says so" if mine.assumed else ""
        findings.add("Outputs", Verdict.WARN if mine.assumed else Verdict.PASS, mine.told + assumed)
    _not_measured(mine.unmeasured, names, len(rows), findings)
    findings.metrics = metrics.compare(chosen, theirs, len(rows), seed=plan.seed, confidence=plan.confidence)
    shown = f"{len(rows)} of {rows.total} rows" if rows.total > len(rows) else f"{len(rows)} rows"
    findings.add("Evaluation", Verdict.PASS, f"measured on {shown}", n=len(rows))
    return rows


def _not_measured(unmeasured: Mapping[str, str], names: Sequence[str], rows: int, findings: Findings) -> None:
    """One check for each metric of `names`, so that a gate on it can say why."""
    for name in names:
        if name in unmeasured:
            message = f"{name} not measured: {unmeasured[name]}"
            findings.add(metric_check(name), Verdict.INSUFFICIENT_DATA, message, n=rows)


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
    names: Sequence[str],
    folder: Path,
    findings: Findings,
) -> list[metrics.Metric] | None:
    """The live model on the same rows. One that fails there says nothing about the candidate: warned, not fatal.

    names: the metrics that the candidate has.
    """
    if plan.live is None or plan.task is None:
        return None
    try:
        live = _fetched(plan.live, folder, environment.max_artifact_bytes)
        columns = [c for c in evaluation.collect_schema().names() if c != plan.task.target]
        features = plan.task.features if is_matrix(live.inputs) else ()
        binding = bind(live, features, columns)
        outputs = evaluate.run(live, binding, rows.frame)
        theirs = evaluate.measure(plan.task, live, outputs, rows.truth, plan.live_outputs)
    except StepFailed as failure:
        if failure.reason is Reason.STORE_UNAVAILABLE:
            raise
        message = f"{plan.live.digest}: {failure.reason}: {failure.message}"
        findings.add(LIVE_NOT_COMPARABLE, Verdict.WARN, message, n=len(rows))
        return None
    for name, why in theirs.unmeasured.items():
        if name in names:
            findings.add(LIVE_NOT_COMPARABLE, Verdict.WARN, f"{name} of {plan.live.digest} not measured: {why}")
            break  # the others for the same cause, as a rule, and the termination message is short
    return theirs.metrics


def _fetched(live: Source, folder: Path, limit_bytes: int) -> Model:
    path = folder / "live.onnx"
    store.fetch(live, path, limit_bytes=limit_bytes)
    return open_model(path)


def _check_fidelity(environment: Environment, model: Model, findings: Findings) -> None:
    """Does the exported model answer what the trainer's own library answered? Absent rows are no evidence."""
    path = _guarded(findings, "ExportFidelity", lambda: trained.find(environment.fidelity_file, environment.output_dir))
    if path is None:
        findings.add("ExportFidelity", Verdict.INSUFFICIENT_DATA, "the trainer wrote no model/fidelity.json", n=0)
        return
    try:
        document = _guarded(
            findings, "ExportFidelity", lambda: trained.read_json(path, max_bytes=trained.MAX_FIDELITY_BYTES)
        )
        golden = Golden.from_json(document)
        size, where = goldenrows.violation(model, golden)
        shape = golden.inputs[0]["shape"] if golden.inputs else ()
        rows = int(shape[0]) if shape else 1
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
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
    if fixed := _fixed(model):
        return Independence(1, fixed)
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
