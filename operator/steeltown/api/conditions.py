"""Conditions: their types, every reason they may carry, and the rules that tools rely on.

`Ready` is positive and always present; `Reconciling` and `Stalled` are abnormal-true, present only while
True and never both (kstatus, as Flux and Helm 4 read it). All other types are positive and always present;
Unknown is their default because no evidence never passes. `observedGeneration` is set anew on every
condition in every write, else `kubectl wait` hangs for ever (kubernetes/kubectl#1414).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from .base import Model


class ConditionType(StrEnum):
    # Summary (both kinds)
    READY = "Ready"  # the spec of this generation is fully acted on, or asks to stay where it is
    RECONCILING = "Reconciling"  # work is in flight
    STALLED = "Stalled"  # nothing will move without a person
    # Evidence about one version (TrainingRun: of itself; MLModel: of its newest version)
    DATA_VALIDATED = "DataValidated"
    TRAINING_HEALTHY = "TrainingHealthy"
    RESOURCES_WITHIN_BUDGET = "ResourcesWithinBudget"
    QUALITY_ACCEPTED = "QualityAccepted"
    LOADABLE = "Loadable"  # MLModel: ready on production resources, golden rows answered as in training
    INTERFACE_COMPATIBLE = "InterfaceCompatible"  # MLModel: what users of the live version rely on is still there
    SERVING_PERFORMANCE = "ServingPerformance"  # MLModel: the load check, candidate against baseline
    # Promotion (MLModel)
    ELIGIBLE = "Eligible"
    PROMOTION_REQUESTED = "PromotionRequested"
    CANARY_PASSED = "CanaryPassed"
    PROMOTED = "Promoted"
    # Serving (MLModel), independent of any rollout
    AVAILABLE = "Available"


SUMMARY = (ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED)
ABNORMAL_TRUE = (ConditionType.RECONCILING, ConditionType.STALLED)
RUN_GATES = (
    ConditionType.DATA_VALIDATED,
    ConditionType.TRAINING_HEALTHY,
    ConditionType.RESOURCES_WITHIN_BUDGET,
    ConditionType.QUALITY_ACCEPTED,
)


class Reason(StrEnum):
    """Every reason the operator gives, with what the reader should do.

    Reports of training steps bring reasons of their own (`DigestMismatch`, `SchemaMissingColumn`, ...);
    docs/reasons.md lists both.
    """

    # nothing is known yet
    AWAITING_EVIDENCE = "AwaitingEvidence"  # wait: the step that measures this has not run
    NOT_APPLICABLE = "NotApplicable"  # nothing to do: this version has no such step
    # TrainingRun
    PENDING = "Pending"  # wait: the Pod is being scheduled or its images pulled
    PREPARING = "Preparing"  # wait
    TRAINING = "Training"  # wait
    FINALISING = "Finalising"  # wait
    SUCCEEDED = "Succeeded"  # nothing to do
    MODEL_NOT_FOUND = "ModelNotFound"  # create the MLModel that spec.modelRef names
    START_DEADLINE_EXCEEDED = "StartDeadlineExceeded"  # see the message for what kept the Pod from starting
    DEADLINE_EXCEEDED = "DeadlineExceeded"  # raise activeDeadlineSeconds or make training faster
    IMAGE_PULL_FAILED = "ImagePullFailed"  # correct the image name or the pull secret
    UNSCHEDULABLE = "Unschedulable"  # lower the requests or add nodes
    CONTAINER_CONFIG_ERROR = "ContainerConfigError"  # often a missing Secret: create it
    TRAINER_FAILED = "TrainerFailed"  # read status.log
    OUT_OF_MEMORY = "OutOfMemory"  # raise limits.memory or use less
    RESULT_MISSING = "ResultMissing"  # the trainer must write model/model.onnx and result.json
    JOB_NOT_OURS = "JobNotOurs"  # a Job of that name was not made by the operator: delete it
    JOB_BLOCKED = "JobBlocked"  # the Job cannot make a Pod (quota, policy): the message is the API server's
    JOB_DELETED = "JobDeleted"  # somebody deleted the Job: create a new TrainingRun
    STEP_FAILED = "StepFailed"  # read status.log
    DATA_VALID = "DataValid"  # nothing to do
    COMPLETED = "Completed"  # nothing to do
    WITHIN_LIMITS = "WithinLimits"  # nothing to do
    OBJECTIVES_MET = "ObjectivesMet"  # nothing to do
    NO_QUALITY_OBJECTIVE = "NoQualityObjective"  # add spec.objectives.quality: without one no version is eligible
    NO_EVALUATION = "NoEvaluation"  # add evaluation rows to the run
    QUALITY_BELOW_MINIMUM = "QualityBelowMinimum"  # improve the model or lower the minimum
    QUALITY_WORSE_THAN_LIVE = "QualityWorseThanLive"  # improve the model or widen the margin
    QUALITY_INCONCLUSIVE = "QualityInconclusive"  # more evaluation rows are needed
    LIVE_NOT_COMPARABLE = "LiveNotComparable"  # evaluate on rows that the live version can answer too
    OBSERVED_ONLY = "ObservedOnly"  # the objective failed but its mode is Observe
    # MLModel: promotion
    GATES_PASSED = "GatesPassed"  # nothing to do
    NO_VERSION = "NoVersion"  # create a TrainingRun or set spec.training.template
    NOT_REQUESTED = "NotRequested"  # set spec.stage: Production to request promotion
    REQUESTED_BY_SPEC = "RequestedBySpec"  # nothing to do
    NOT_PROMOTED = "NotPromoted"  # wait, or see CanaryPassed
    TRAFFIC_SHIFTED = "TrafficShifted"  # nothing to do
    COLLECTING_EVIDENCE = "CollectingEvidence"  # wait: the message says how many requests are needed
    INTERFACE_KEPT = "InterfaceKept"  # nothing to do
    INTERFACE_CHANGED = "InterfaceChanged"  # keep what the message names, or set spec.objectives.interface: Any
    INTERFACE_UNKNOWN = "InterfaceUnknown"  # see the message for why it could not be compared
    WITHIN_OBJECTIVES = "WithinObjectives"  # nothing to do
    ERROR_RATE_TOO_HIGH = "ErrorRateTooHigh"  # see the message; train a better version
    LATENCY_TOO_HIGH = "LatencyTooHigh"  # see the message
    SLOWER_THAN_LIVE = "SlowerThanLive"  # see the message
    INCONCLUSIVE = "Inconclusive"  # the deadline passed without enough evidence
    LOAD_CHECK_FAILED = "LoadCheckFailed"  # the generator itself failed: see the message
    BASELINE_FAILED = "BaselineFailed"  # the live version failed every request of the load check: see the message
    GENERATOR_SATURATED = "GeneratorSaturated"  # lower rollout.loadCheck.ratePerSecond or give the Job more CPU
    NOT_LOADABLE = "NotLoadable"  # see the message
    GOLDEN_ROWS_ANSWERED = "GoldenRowsAnswered"  # nothing to do
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"  # see the message for what was awaited
    SUPERSEDED = "Superseded"  # nothing to do: a newer version took its place
    WITHDRAWN = "Withdrawn"  # nothing to do: promotion was no longer requested
    ABORTED = "Aborted"  # spec.abort names it: remove that and set steeltown.dev/retry on the run to try again
    RUN_DELETED = "RunDeleted"  # its TrainingRun was deleted during the rollout
    CRASHING = "Crashing"  # the Pods of the version crash in production: see their logs
    CAPACITY_MISSING = "CapacityMissing"  # wait, or see the Deployment: too few replicas are ready
    EVIDENCE_UNREADABLE = "EvidenceUnreadable"  # see the live Pods: they do not answer the operator
    FOREIGN_PODS = "ForeignPods"  # delete the Pods that the message names: they carry labels of the operator
    UNKNOWN_RUN = "UnknownRun"  # correct spec.abort: it names no TrainingRun of this model
    ROUTER_REFUSES = "RouterRefuses"  # the message names the field that the router cannot do
    SCALED_TO_ZERO = "ScaledToZero"  # raise spec.serving.replicas to answer requests
    # MLModel: history
    REMOVED = "Removed"  # nothing to do: a run beyond a history limit was deleted
    COLLECT_FAILED = "CollectFailed"  # see the message: the store did not let go of old runs; it is tried again
    # MLModel: summary
    SERVING = "Serving"  # nothing to do
    AWAITING_PROMOTION = "AwaitingPromotion"  # set spec.stage: Production when you want it
    PROMOTED = "Promoted"  # nothing to do
    PROGRESSING = "Progressing"  # wait
    RUN_FAILED = "RunFailed"  # see the TrainingRun
    NOT_ELIGIBLE = "NotEligible"  # see Eligible
    ROLLED_BACK = "RolledBack"  # see CanaryPassed; a new TrainingRun starts anew
    FROZEN = "Frozen"  # set spec.frozen: false to go on
    APPLY_REFUSED = "ApplyRefused"  # the message is the API server's: correct what it names
    INVALID_SPEC = "InvalidSpec"  # correct the field that the message names
    MINIMUM_REPLICAS_AVAILABLE = "MinimumReplicasAvailable"  # nothing to do
    MINIMUM_REPLICAS_UNAVAILABLE = "MinimumReplicasUnavailable"  # see the Pods of the live version


Status = Literal["True", "False", "Unknown"]


class Condition(Model):
    """Observation of one aspect of the state, as metav1.Condition."""

    type: str = Field(max_length=64, description="Type of the condition.")
    status: Status = Field(description="Status of the condition: True, False or Unknown. Unknown without evidence.")
    observed_generation: int = Field(ge=0, description="Value of metadata.generation that the condition was set for.")
    last_transition_time: str = Field(
        description="Last time the status of the condition changed.",
        json_schema_extra={"format": "date-time"},
        max_length=40,
    )
    reason: str = Field(
        max_length=64,
        pattern=r"^[A-Za-z][A-Za-z0-9]*$",
        description="CamelCase reason for the last transition; see docs/reasons.md.",
    )
    message: str = Field(max_length=2048, description="Human-readable details: what happened and what to do next.")


class Finding(tuple[Status, str, str]):
    """(status, reason, message): what a condition says, before it has a type, a time and a generation."""

    __slots__ = ()

    def __new__(cls, status: Status, reason: str, message: str) -> Finding:
        return super().__new__(cls, (status, str(reason), message))

    @property
    def status(self) -> Status:
        return self[0]

    @property
    def reason(self) -> str:
        return self[1]

    @property
    def message(self) -> str:
        return self[2]


def true(reason: str, message: str) -> Finding:
    return Finding("True", reason, message)


def false(reason: str, message: str) -> Finding:
    return Finding("False", reason, message)


def unknown(reason: str, message: str) -> Finding:
    return Finding("Unknown", reason, message)


def build(
    findings: Mapping[ConditionType, Finding], *, before: Iterable[Condition], generation: int, now: datetime
) -> list[Condition]:
    """Conditions in a stable order; `lastTransitionTime` moves only when `status` does."""
    old = {c.type: c for c in before}
    stamp = rfc3339(now)
    out = []
    for kind in ConditionType:
        finding = findings.get(kind)
        if finding is None:
            continue
        previous = old.get(kind)
        same = previous is not None and previous.status == finding.status
        out.append(
            Condition(
                type=kind.value,
                status=finding.status,
                observed_generation=generation,
                last_transition_time=previous.last_transition_time if same and previous else stamp,
                reason=finding.reason,
                message=_cut(finding.message),
            )
        )
    return out


def rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def _cut(message: str) -> str:
    return message if len(message) <= 2000 else message[:2000] + "…"


def violations(obj: Mapping[str, Any]) -> list[str]:
    """What is wrong with the conditions of an object that the operator has just written.

    The FAIL list of Flux's conformance checker (fluxcd/pkg runtime/conditions/check), for settled status and for
    work in flight alike, since each write of ours is meant to be readable by itself.
    """
    status = obj.get("status") or {}
    generation = obj["metadata"].get("generation", 0)
    conditions = {c["type"]: c for c in status.get("conditions", [])}
    observed = status.get("observedGeneration", -1)
    if len(conditions) != len(status.get("conditions", [])):
        return ["two conditions of one type"]
    ready = conditions.get(ConditionType.READY)
    if ready is None:
        return ["FAIL0002: Ready is absent"]
    out = []
    true_now = {t for t, c in conditions.items() if c["status"] == "True"}
    negative = true_now & set(ABNORMAL_TRUE)
    if ready["status"] == "True":
        out += [f"FAIL0001: {t} is True while Ready is True" for t in sorted(negative)]
        if observed < generation:
            out.append(f"FAIL0007: Ready is True while observedGeneration {observed} < generation {generation}")
    elif negative and ready["status"] != "False":
        out.append(f"FAIL0003/4: Ready is {ready['status']} while {', '.join(sorted(negative))} is True")
    if len(negative) == 2:
        out.append("FAIL0005: Reconciling and Stalled are both True")
    if observed > generation:
        out.append(f"FAIL0006: observedGeneration {observed} > generation {generation}")
    if ready["status"] == "Unknown" and ConditionType.RECONCILING not in true_now:
        out.append("FAIL0011: Ready is Unknown without Reconciling")
    out += [
        f"FAIL0008/9: {t} has observedGeneration {c.get('observedGeneration')}, status has {observed}"
        for t, c in conditions.items()
        if c.get("observedGeneration") != observed
    ]
    out += [
        f"WARN0003/4: {t} is {conditions[t]['status']}: it must be absent unless True"
        for t in ABNORMAL_TRUE
        if t in conditions and conditions[t]["status"] != "True"
    ]
    out += [f"{t} has no reason" for t, c in conditions.items() if not c.get("reason")]
    return out
