"""The TrainingRun planner: each thing a Job and its Pod can show, and what the run says about it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from steeltown.api.base import API_VERSION
from steeltown.api.conditions import rfc3339, violations
from steeltown.contract.files import Env
from steeltown.contract.reports import MetricComparison, StepReport
from steeltown.core.plan import Annotate, Create, Delete, Obj, Plan, Refusal, Snapshot, Target
from steeltown.core.record import SEAL_ANNOTATION, seal_of, sealed_child
from steeltown.core.training import plan_run
from steeltown_testing.explore.cluster import START, later
from steeltown_testing.explore.scenarios import GOOD_A, model, template
from steeltown_testing.explore.schedule import POLICY

STARTED = {"observedGeneration": 1, "jobName": "r-run", "startTime": rfc3339(START), "phase": "Pending"}
MODEL = {**model(GOOD_A), "metadata": {"name": "m", "namespace": "team", "uid": "mu", "generation": 1}}


def run(status: Obj | None = None, **spec: Any) -> Obj:
    return {
        "apiVersion": API_VERSION,
        "kind": "TrainingRun",
        "metadata": {
            "name": "r",
            "namespace": "team",
            "uid": "u",
            "generation": 1,
            "creationTimestamp": rfc3339(START),
        },
        "spec": {"modelRef": {"name": "m"}, **template(GOOD_A), **spec},
        "status": status or {"observedGeneration": -1},
    }


def job(*conditions: tuple[str, str], objectives: str = "{}") -> Obj:
    """As the operator made it, and the API server tells how it stands."""
    told = [{"type": t, "status": "True", "reason": r, "message": "the Job says so"} for t, r in conditions]
    meta = {
        "name": "r-run",
        "namespace": "team",
        "uid": "j",
        "creationTimestamp": rfc3339(START),
        "ownerReferences": [{"kind": "TrainingRun", "name": "r", "uid": "u", "controller": True}],
    }
    notes = {"annotations": {"steeltown.dev/objectives": objectives}}
    spec = {"template": {"metadata": notes, "spec": {"containers": [{"name": "finalise", "image": "checker"}]}}}
    return sealed_child({"kind": "Job", "metadata": meta, "spec": spec, "status": {"conditions": told}}, POLICY)


def pod(*containers: tuple[str, dict[str, Any]], scheduled: str = "") -> Obj:
    steps = [{"name": n, "state": s, "restartCount": 0} for n, s in containers]
    conditions = [{"type": "PodScheduled", "status": "False", "message": scheduled}] if scheduled else []
    owner = {"kind": "Job", "name": "r-run", "uid": "j", "controller": True}
    meta = {
        "name": "p",
        "namespace": "team",
        "uid": "p",
        "creationTimestamp": rfc3339(START),
        "ownerReferences": [owner],
    }
    spec = {"containers": [{"name": "finalise", "image": "checker"}]}
    status = {"containerStatuses": steps, "conditions": conditions}
    return {"kind": "Pod", "metadata": meta, "spec": spec, "status": status}


def ended(code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "message": message, "reason": reason}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def plan(root: Obj, *members: Obj, seconds: float = 1, refusals: tuple[Refusal, ...] = ()) -> Plan:
    by_kind: dict[str, dict[str, Obj]] = {}
    for each in (MODEL, *members):
        by_kind.setdefault(each["kind"], {})[each["metadata"]["name"]] = each
    snapshot = Snapshot(root=root, members=by_kind, refusals=refusals)
    made = plan_run(snapshot, later(START, seconds), POLICY)
    if made.status is not None:
        assert violations({**root, "status": made.status}) == []
    return made


def found(status: Obj, kind: str) -> tuple[str, str]:
    condition = next(c for c in status["conditions"] if c["type"] == kind)
    return condition["status"], condition["reason"]


def test_new_run_makes_its_job_and_says_so_in_one_go() -> None:
    made = plan(run())
    assert [type(a) for a in made.actions] == [Create]
    assert made.status is not None
    assert (made.status["jobName"], made.status["phase"]) == ("r-run", "Pending")
    (action,) = made.actions
    assert isinstance(action, Create)
    assert made.status["jobSeal"] == seal_of(action.body) != ""


def test_job_carries_the_objectives_and_the_live_version_of_its_moment() -> None:
    live = {"run": "m-v0", "digest": "sha256:" + "b" * 64, "rows": 1000}
    objectives = {**MODEL["spec"]["objectives"], "data": {"rows": {"min": 10, "minRatioToLive": "0.5"}}}
    changed = {**MODEL, "spec": {**MODEL["spec"], "objectives": objectives}, "status": {"versions": {"live": live}}}
    (action,) = plan(run(), changed).actions
    assert isinstance(action, Create)
    pod_spec = action.body["spec"]["template"]["spec"]
    env = {e["name"]: e.get("value") for c in (*pod_spec["initContainers"], *pod_spec["containers"]) for e in c["env"]}
    assert json.loads(env[Env.PLAN])["live"]["digest"] == live["digest"]
    first = {e["name"]: e.get("value") for e in pod_spec["initContainers"][0]["env"]}
    assert json.loads(first[Env.PLAN])["minRows"] == 500
    assert "quality" in json.loads(
        action.body["spec"]["template"]["metadata"]["annotations"]["steeltown.dev/objectives"]
    )


def test_run_without_a_model_waits_for_it_and_not_for_ever() -> None:
    orphan = Snapshot(root=run())
    early = plan_run(orphan, START, POLICY)
    late = plan_run(orphan, START + timedelta(seconds=600), POLICY)
    assert early.status is not None
    assert late.status is not None
    assert (early.actions, early.status["reason"], early.requeue_after) == ((), "ModelNotFound", 600.0)
    assert (late.status["phase"], late.status["reason"]) == ("Failed", "ModelNotFound")


def test_refused_job_is_told_and_tried_again() -> None:
    refusal = Refusal(target=Target("Job", "team", "r-run"), message="quota exceeded")
    made = plan(run(), refusals=(refusal,))
    assert made.status is not None
    assert (made.status["reason"], made.status.get("jobName")) == ("ApplyRefused", None)
    assert "quota exceeded" in json.dumps(made.status["conditions"])
    assert [type(a) for a in made.actions] == [Create]


def ended_run(made: Plan) -> Obj:
    """The run with all that the plan writes about its end."""
    (witness,) = made.actions
    assert isinstance(witness, Annotate)
    over = run(made.status)
    return {**over, "metadata": {**over["metadata"], "annotations": dict(witness.annotations)}}


def test_job_of_an_ended_run_is_kept_for_a_day() -> None:
    over = ended_run(plan(run(STARTED), job(FAILED), pod(("train", ended(1, "boom")))))
    early, late = (plan(over, job(FAILED), seconds=s) for s in (60, 90_000))
    assert early.actions == ()
    assert early.requeue_after == pytest.approx(86_400 - 59)
    assert late.actions == (Delete("Job", "team", "r-run", "j"),)


def test_result_that_a_hand_took_off_is_put_back() -> None:
    made = plan(run(STARTED), job(FAILED), pod(("train", ended(1, "boom"))))
    again = plan(run(made.status), job(FAILED))
    assert again.status is None
    assert again.actions == made.actions


PROGRESS: dict[str, tuple[Any, str, str]] = {
    "no pod yet": ((), "Pending", "Pending"),
    "preparing": ((("prepare", {"running": {}}),), "Preparing", "Preparing"),
    "training": ((("prepare", ended(0)), ("train", {"running": {}})), "Training", "Training"),
    "finalising": ((("train", ended(0)), ("finalise", {"running": {}})), "Finalising", "Finalising"),
    "image": ((("train", waiting("ImagePullBackOff", "no such image")),), "Pending", "ImagePullFailed"),
    "config": ((("prepare", waiting("CreateContainerConfigError", "no secret")),), "Pending", "ContainerConfigError"),
}


@pytest.mark.parametrize(("containers", "phase", "reason"), PROGRESS.values(), ids=PROGRESS)
def test_progress_is_where_the_pod_stands(containers: Any, phase: str, reason: str) -> None:
    members = [job(), *([pod(*containers)] if containers else [])]
    made = plan(run(STARTED), *members)
    assert made.status is not None
    assert (made.status["phase"], made.status["reason"]) == (phase, reason)
    assert made.actions == ()


REPORT = StepReport(reason="TooFewRows", message="10 rows, at least 500", rows=10).encode()
FAILED = ("Failed", "PodFailurePolicy")
FAILURES = {
    "bad data": (("prepare", ended(65, REPORT)), FAILED, "TooFewRows", "DataValidated"),
    "trainer crash": (("train", ended(1, "a\nboom")), FAILED, "TrainerFailed", "TrainingHealthy"),
    "no memory": (("train", ended(137, "", "OOMKilled")), FAILED, "OutOfMemory", "ResourcesWithinBudget"),
    "killed unasked": (("train", ended(137, "")), FAILED, "OutOfMemory", "ResourcesWithinBudget"),
    "no result": (
        ("finalise", ended(65, StepReport(reason="ResultMissing", message="m").encode())),
        FAILED,
        "ResultMissing",
        "TrainingHealthy",
    ),
    "bad model": (
        ("finalise", ended(65, StepReport(reason="ModelDoesNotLoad", message="m").encode())),
        FAILED,
        "ModelDoesNotLoad",
        "QualityAccepted",
    ),
    "checker crash": (("finalise", ended(1, "trace")), FAILED, "StepFailed", "QualityAccepted"),
    "deadline": (("train", {"running": {}}), ("Failed", "DeadlineExceeded"), "DeadlineExceeded", "TrainingHealthy"),
    "complete without a report": (("finalise", ended(0, "")), ("Complete", ""), "ResultMissing", "TrainingHealthy"),
}


@pytest.mark.parametrize(("container", "condition", "reason", "kind"), FAILURES.values(), ids=FAILURES)
def test_failure_is_final_with_its_real_reason(container: Any, condition: Any, reason: str, kind: str) -> None:
    made = plan(run(STARTED), job(condition), pod(container))
    assert made.status is not None
    assert (made.status["phase"], made.status["reason"]) == ("Failed", reason)
    assert found(made.status, kind) == ("False", reason)
    assert found(made.status, "Stalled") == ("True", reason)
    assert [e.reason for e in made.events] == [reason]
    after = plan(ended_run(made), job(condition), pod(container))
    assert (after.actions, after.status) == ((), None)


ASKED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "deleted": ({"deletionTimestamp": rfc3339(START)}, {}),
    "evicted": ({}, {"reason": "Evicted"}),
    "disrupted": ({}, {"conditions": [{"type": "DisruptionTarget", "status": "True"}]}),
}


@pytest.mark.parametrize(("meta", "status"), ASKED.values(), ids=ASKED)
def test_kill_that_somebody_asked_for_is_not_taken_for_memory(meta: dict[str, Any], status: dict[str, Any]) -> None:
    killed = pod(("train", ended(137, "")))
    killed["metadata"].update(meta)
    killed["status"].update(status)
    made = plan(run(STARTED), job(FAILED), killed)
    assert made.status is not None
    assert made.status["reason"] == "TrainerFailed"
    assert found(made.status, "ResourcesWithinBudget") == ("Unknown", "AwaitingEvidence")


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ('Usage of EmptyDir volume "output" exceeds the limit "64Gi". ', True),
        ("Pod ephemeral local storage usage exceeds the total limit of containers 64Gi. ", True),
        ("The node was low on resource: memory. ", False),
    ],
)
def test_run_whose_pod_the_kubelet_has_evicted_says_so_in_its_words(words: str, remedy: bool) -> None:
    """The container's exit code, 137, and its output know nothing of it."""
    killed = pod(("train", ended(137, "epoch 7")))
    killed["status"].update({"phase": "Failed", "reason": "Evicted", "message": words})
    made = plan(run(STARTED), job(FAILED), killed)
    assert made.status is not None
    assert made.status["reason"] == "TrainerFailed"
    message = next(c["message"] for c in made.status["conditions"] if c["type"] == "TrainingHealthy")
    assert f"the Pod was evicted: {words.strip().rstrip('.')}" in message
    assert message.endswith(": raise resources.limits.ephemeral-storage, or write less") == remedy


def test_pod_that_is_evicted_before_any_container_has_ended_says_so_too() -> None:
    gone = pod()
    gone["status"].update(
        {"phase": "Failed", "reason": "Evicted", "message": "The node had condition: [DiskPressure]. "}
    )
    made = plan(run(STARTED), job(("Failed", "BackoffLimitExceeded")), gone)
    assert made.status is not None
    assert made.status["reason"] == "StepFailed"
    assert any("the Pod was evicted: The node had condition" in c["message"] for c in made.status["conditions"])


def test_finished_run_that_lost_status_and_job_is_not_trained_again() -> None:
    """As after a restore: backups leave status out, and the Job was cleaned up long ago."""
    condition, container = FAILURES["bad data"][1], FAILURES["bad data"][0]
    made = plan(run(STARTED), job(condition), pod(container))
    (witness,) = made.actions
    assert isinstance(witness, Annotate)
    restored = run()
    restored["metadata"]["annotations"] = dict(witness.annotations)
    again = plan(restored, seconds=9999)
    assert again.actions == ()
    assert again.status is not None
    assert (again.status["phase"], again.status["reason"]) == ("Failed", "TooFewRows")


def test_user_code_cannot_speak_for_the_checker() -> None:
    forged = StepReport(reason="DataValid", message="all is well", digest="sha256:" + "f" * 64).encode()
    made = plan(run(STARTED), job(FAILED), pod(("train", ended(1, forged))))
    assert made.status is not None
    assert made.status["reason"] == "TrainerFailed"
    assert "artifact" not in made.status


def test_pod_that_does_not_start_fails_at_the_deadline_and_its_job_goes() -> None:
    stuck = pod(scheduled="0/1 nodes are available: 1 Insufficient cpu")
    early = plan(run(STARTED), job(), stuck, seconds=599)
    late = plan(run(STARTED), job(), stuck, seconds=600)
    assert early.status is not None
    assert late.status is not None
    assert (early.status["phase"], early.status["reason"]) == ("Pending", "Unschedulable")
    assert (late.status["phase"], late.status["reason"]) == ("Failed", "Unschedulable")
    assert plan(ended_run(late), job(), stuck).actions == (Delete("Job", "team", "r-run", "j"),)


OTHER_PROGRAM: Obj = {"containers": [{"name": "finalise", "image": "theirs"}]}
TOUCHED: dict[str, tuple[dict[str, str], str, bool, str]] = {
    # annotations that a hand left on the Job, its seal as the status has it, whether it was changed, what the run says
    "untouched": ({SEAL_ANNOTATION: seal_of(job())}, "", False, "Training"),
    "seal taken off": ({}, seal_of(job()), False, "Training"),
    "seal overwritten": ({SEAL_ANNOTATION: "x"}, seal_of(job()), False, "Training"),
    "seal taken off, of a status that has none": ({}, "", False, "JobNotOurs"),
    "seal taken off, of another Job": ({}, "0" * 64, False, "JobNotOurs"),
    "made anew with another program": ({}, seal_of(job()), True, "JobNotOurs"),
    "with the seal of the true one": ({SEAL_ANNOTATION: seal_of(job())}, seal_of(job()), True, "JobNotOurs"),
}


@pytest.mark.parametrize(("notes", "witness", "changed", "reason"), TOUCHED.values(), ids=TOUCHED)
def test_job_whose_seal_a_hand_took_off_is_known_by_the_status(
    notes: dict[str, str], witness: str, changed: bool, reason: str
) -> None:
    """Fails when an hour of training is thrown away because a hand stripped the annotations of its Job."""
    made = job()
    touched = {**made, "metadata": {**made["metadata"], "annotations": notes}}
    if changed:
        template = {**made["spec"]["template"], "spec": OTHER_PROGRAM}
        touched["spec"] = {**made["spec"], "template": template}
    told = plan(run({**STARTED, **({"jobSeal": witness} if witness else {})}), touched, pod(("train", {"running": {}})))
    assert told.status is not None
    assert told.status["reason"] == reason
    assert told.status.get("jobSeal") == (witness or None)


def test_deleted_job_is_not_made_again() -> None:
    made = plan(run(STARTED))
    assert made.status is not None
    assert made.status["reason"] == "JobDeleted"
    assert not any(isinstance(a, Create) for a in made.actions)


MADE = StepReport(reason="ModelReady", message="", digest="sha256:" + "c" * 64).encode()
AFTER_PREPARE = {
    "success": (("finalise", ended(0, MADE)), ("Complete", "")),
    "failure": (("train", ended(1, "boom")), FAILED),
}


@pytest.mark.parametrize(("last", "ended_as"), AFTER_PREPARE.values(), ids=AFTER_PREPARE)
@pytest.mark.parametrize("reason", ["DataValid", "ObservedOnly"])
def test_data_that_misses_what_is_only_observed_is_valid_and_says_so(reason: str, last: Any, ended_as: Any) -> None:
    prepared = StepReport(reason=reason, message="observed only, not enforced: 3 rows").encode()
    made = plan(run(STARTED), job(ended_as), pod(("prepare", ended(0, prepared)), last))
    assert made.status is not None
    assert found(made.status, "DataValidated") == ("True", reason)
    (message,) = (c["message"] for c in made.status["conditions"] if c["type"] == "DataValidated")
    assert message == "observed only, not enforced: 3 rows"


def test_success_is_judged_by_the_objectives_that_the_job_carried() -> None:
    report = StepReport(
        reason="ModelReady",
        message="",
        digest="sha256:" + "c" * 64,
        uri="s3://x/model.onnx",
        metrics=(MetricComparison(name="accuracy", candidate=0.6, n=100),),
    ).encode()
    prepared = StepReport(reason="DataValid", message="fine", rows=100).encode()
    objectives = json.dumps({"quality": [{"metric": "accuracy", "min": "0.7"}]})
    done = pod(("prepare", ended(0, prepared)), ("train", ended(0)), ("finalise", ended(0, report)))
    made = plan(run(STARTED), job(("Complete", ""), objectives=objectives), done)
    assert made.status is not None
    assert made.status["phase"] == "Succeeded"
    assert made.status["rows"] == 100
    assert found(made.status, "Ready") == ("True", "Succeeded")
    assert found(made.status, "QualityAccepted") == ("False", "QualityBelowMinimum")


def test_run_that_is_being_deleted_is_left_alone() -> None:
    leaving = run()
    leaving["metadata"]["deletionTimestamp"] = rfc3339(START)
    assert plan(leaving) == Plan()


def test_spec_that_cannot_be_read_is_told_by_field() -> None:
    made = plan(run(train={"data": {"uri": "ftp://x", "digest": "d"}}))
    assert made.status is not None
    message = next(c for c in made.status["conditions"] if c["type"] == "Stalled")["message"]
    assert made.status["reason"] == "InvalidSpec"
    assert "spec.train.data.uri" in message
