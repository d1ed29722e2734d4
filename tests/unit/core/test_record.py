"""The durable facts: what opens where it was written, and nothing anywhere else."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from steeltown.api.base import API_VERSION
from steeltown.api.conditions import rfc3339
from steeltown.api.mlmodel import MLModelStatus, RolloutFinding
from steeltown.contract.plans import FetchPlan, LoadCheckPlan
from steeltown.core import record, seal
from steeltown.core.children.jobs import load_check_job
from steeltown.core.model import plan_model
from steeltown.core.observed.model import Run
from steeltown.core.plan import Annotate, Apply, Key, Obj, Snapshot
from steeltown.core.record import LiveRecord, Outcome, Version
from steeltown_testing.explore.cluster import START
from steeltown_testing.explore.nature import Behaviour
from steeltown_testing.explore.scenarios import GOOD_A, GOOD_B, create, retrain, template
from steeltown_testing.explore.schedule import MODEL, POLICY, Explorer, Scenario

OTHER = replace(POLICY, seal_key=b"of another operator")
DIGEST = "sha256:" + "a" * 64
ROOT: Obj = {"kind": "MLModel", "metadata": {"name": "m", "namespace": "team", "uid": "mu"}}
LIVE = LiveRecord(
    live=Version(run="m-v2", digest=DIGEST),
    promoted=True,
    previous=Version(run="m-v1", digest="sha256:" + "b" * 64),
    created="2026-01-02T00:00:00Z",
    switches=2,
)
KNOWN = MLModelStatus.model_validate({"versions": {"live": {"run": "m-v1", "digest": "sha256:bb"}}, "switches": 1})
NOTHING = MLModelStatus.model_validate({})


def service(notes: dict[str, str], *, uid: str | None = "mu") -> Obj:
    owners = [] if uid is None else [{"kind": "MLModel", "uid": uid, "controller": True}]
    return {"metadata": {"name": "m", "namespace": "team", "annotations": notes, "ownerReferences": owners}}


def changed(notes: dict[str, str], **fields: Any) -> dict[str, str]:
    return {k: json.dumps({**json.loads(v), **fields}) for k, v in notes.items()}


GOOD = LIVE.annotation(ROOT, POLICY)


def as_outcome(notes: dict[str, str]) -> str:
    """What it says, under the operator's seal for how a rollout of the same name ended."""
    (text,) = notes.values()
    said = {k: v for k, v in json.loads(text).items() if k != seal.SEAL}
    return seal.sealed(POLICY.seal_key, ("outcome", "team", "m"), said)


def elsewhere(**metadata: str) -> Obj:
    return {**ROOT, "metadata": {**ROOT["metadata"], **metadata}}


# --- who is live -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uid", ["mu", None], ids=["of this model", "restored without an owner"])
def test_record_of_the_service_says_who_is_live(uid: str | None) -> None:
    assert record.live_record(ROOT, service(GOOD, uid=uid), NOTHING, POLICY) == LIVE


def test_record_of_a_model_that_was_created_again_still_opens() -> None:
    """A restore gives it another uid. While the Service belongs to the old one, it is none of this model's."""
    again = elsewhere(uid="new")
    assert record.live_record(again, service(GOOD, uid=None), NOTHING, POLICY) == LIVE
    assert record.live_record(again, service(GOOD, uid="mu"), NOTHING, POLICY) is None


FORGED: dict[str, Obj | None] = {
    "no Service": None,
    "no record": service({}),
    "another key": service(LIVE.annotation(ROOT, OTHER)),
    "of another model": service(LIVE.annotation(elsewhere(name="n"), POLICY)),
    "of another namespace": service(LIVE.annotation(elsewhere(namespace="other"), POLICY)),
    "promoted by hand": service(changed(replace(LIVE, promoted=False).annotation(ROOT, POLICY), promoted=True)),
    "another version": service(changed(GOOD, live={"run": "m-v9", "digest": DIGEST})),
    "truncated": service({k: v[:-20] for k, v in GOOD.items()}),
    "no JSON": service({record.RECORD_ANNOTATION: "m-v2"}),
    "deep": service({record.RECORD_ANNOTATION: "[" * 20_000}),
    "1 MB": service({record.RECORD_ANNOTATION: "[" * (1 << 20)}),
    "empty": service({record.RECORD_ANNOTATION: "{}"}),
    "an outcome in its place": service({record.RECORD_ANNOTATION: as_outcome(GOOD)}),
    "of another controller": service(GOOD, uid="another model"),
    "of long ago": service(replace(LIVE, switches=0).annotation(ROOT, POLICY)),
}


@pytest.mark.parametrize("found", FORGED.values(), ids=FORGED)
def test_record_that_counts_for_nothing_leaves_the_word_to_the_status(found: Obj | None) -> None:
    live = record.live_record(ROOT, found, KNOWN, POLICY)
    assert live == LiveRecord(live=Version(run="m-v1", digest="sha256:bb"), switches=1)


@pytest.mark.parametrize("found", [v for k, v in FORGED.items() if k != "of long ago"])
def test_without_record_and_status_nobody_is_live(found: Obj | None) -> None:
    assert record.live_record(ROOT, found, NOTHING, POLICY) is None


def test_record_that_has_seen_as_much_as_the_status_counts() -> None:
    status = KNOWN.model_copy(update={"switches": LIVE.switches})
    assert record.live_record(ROOT, service(GOOD), status, POLICY) == LIVE


# --- how a rollout ended ---------------------------------------------------------------------------------------------


def run(name: str = "m-v2", *, namespace: str = "team", retry: str = "", digest: str = DIGEST, **spec: Any) -> Obj:
    meta: Obj = {"name": name, "namespace": namespace, "uid": f"{name}-uid", "creationTimestamp": rfc3339(START)}
    status = {"completionTime": rfc3339(START), "artifact": {"digest": digest, "uri": "s3://x"}}
    notes = {record.RETRY_ANNOTATION: retry} if retry else {}
    return {
        "apiVersion": API_VERSION,
        "kind": "TrainingRun",
        "metadata": {**meta, "annotations": notes},
        "spec": {"modelRef": {"name": "m"}, **template(GOOD_A), **spec},
        "status": status,
    }


def noted(obj: Obj, action: Annotate, **more: str | None) -> Obj:
    notes = {**obj["metadata"]["annotations"], **action.annotations, **more}
    return {**obj, "metadata": {**obj["metadata"], "annotations": notes}}


REJECTED = Outcome(
    result=record.ROLLED_BACK,
    digest=DIGEST,
    reason="ErrorRateTooHigh",
    message="too many",
    findings=(RolloutFinding(type="Loadable", status="True", reason="GoldenRowsAnswered"),),
)


def test_outcome_is_read_where_it_was_written() -> None:
    obj = noted(run(), REJECTED.annotate(run(), POLICY))
    assert record.outcome(obj, POLICY) == REJECTED
    assert Run(obj, POLICY).outcome == REJECTED


def test_longest_outcome_is_read_too() -> None:
    """Its texts come from crashes and reports; each character may cost twelve in JSON."""
    kinds = ("Loadable", "ServingPerformance", "CanaryPassed")
    findings = tuple(RolloutFinding(type=k, status="False", reason="X", message="🔥" * 1000) for k in kinds)
    long = replace(REJECTED, message="🔥" * 2000, findings=findings)
    assert record.outcome(noted(run(), long.annotate(run(), POLICY)), POLICY) == long


NOT_ITS_OUTCOME: dict[str, tuple[Obj, Obj]] = {
    "of another run": (run("m-v1"), run("m-v2")),
    "of another namespace": (run(namespace="other"), run()),
    "of other training data": (run(**template(GOOD_B)), run()),
    "of other objectives": (run(objectives={"quality": [{"metric": "auc", "min": "0"}]}), run()),
    "of another digest": (run(), run(digest="sha256:" + "c" * 64)),
    "of another attempt": (run(), run(retry="again")),
}


@pytest.mark.parametrize(("written", "read"), NOT_ITS_OUTCOME.values(), ids=NOT_ITS_OUTCOME)
def test_outcome_holds_for_one_spec_digest_and_attempt(written: Obj, read: Obj) -> None:
    assert Run(noted(read, REJECTED.annotate(written, POLICY)), POLICY).outcome is None


def test_outcome_of_another_attempt_holds_when_that_is_asked_for_again() -> None:
    again = replace(REJECTED, retry="2")
    assert Run(noted(run(retry="2"), again.annotate(run(), POLICY)), POLICY).outcome == again
    assert Run(noted(run(), again.annotate(run(), POLICY)), POLICY).outcome is None


def test_outcome_survives_defaults_that_are_written_out() -> None:
    """As an API server with a newer schema returns the same spec."""
    obj = noted(run(), REJECTED.annotate(run(), POLICY))
    longer = {**obj, "spec": {**obj["spec"], "maxAttempts": 3, "startDeadlineSeconds": 600}}
    assert Run(longer, POLICY).outcome == REJECTED


REJECTED_RAW: dict[str, Any] = {"result": "RolledBack", "digest": DIGEST, "reason": "X", "message": "", "findings": []}
UNREADABLE: dict[str, Callable[[str], str]] = {
    "edited": lambda text: text.replace("RolledBack", "Promoted"),
    "truncated": lambda text: text[: len(text) // 2],
    "unsealed": lambda text: json.dumps({**REJECTED_RAW, "result": "Promoted"}),
    "1 MB": lambda text: text + " " * (1 << 20),
    "empty": lambda text: "",
}


@pytest.mark.parametrize("spoil", UNREADABLE.values(), ids=UNREADABLE)
def test_spoiled_outcome_counts_for_nothing(spoil: Callable[[str], str]) -> None:
    action = REJECTED.annotate(run(), POLICY)
    text = action.annotations[record.OUTCOME_ANNOTATION]
    assert text is not None
    obj = noted(run(), action, **{record.OUTCOME_ANNOTATION: spoil(text)})
    assert record.outcome(obj, POLICY) is None


# --- how a run ended -------------------------------------------------------------------------------------------------

FINAL: Obj = {
    "observedGeneration": 1,
    "completionTime": rfc3339(START),
    "phase": "Succeeded",
    "artifact": {"digest": DIGEST, "uri": "s3://x"},
    "conditions": [],
    "log": "long",
}


def with_result(obj: Obj, final: Obj = FINAL, *, written_on: Obj | None = None) -> Obj:
    return noted(obj, record.keep_result(written_on or obj, final, POLICY))


def test_result_is_the_final_status_less_what_is_long() -> None:
    restored = record.run_result(with_result(run()), POLICY)
    assert restored is not None
    assert (restored.completion_time, restored.log) == (FINAL["completionTime"], None)
    assert restored.artifact is not None
    assert restored.artifact.digest == DIGEST


NO_RESULT: dict[str, Obj] = {
    "none": run(),
    "of another run": with_result(run(), written_on=run("m-v1")),
    "of another namespace": with_result(run(), written_on=run(namespace="other")),
    "of another spec": with_result(run(), written_on=run(**template(GOOD_B))),
    "of a run in progress": with_result(run(), {k: v for k, v in FINAL.items() if k != "completionTime"}),
    "that no status can be": with_result(run(), {**FINAL, "rows": "many"}),
    "by hand": noted(run(), record.keep_result(run(), FINAL, OTHER)),
}


@pytest.mark.parametrize("obj", NO_RESULT.values(), ids=NO_RESULT)
def test_result_of_anything_else_is_none(obj: Obj) -> None:
    assert record.run_result(obj, POLICY) is None


# --- that a Job is ours ----------------------------------------------------------------------------------------------


def job(root: Obj = ROOT) -> Obj:
    plan = LoadCheckPlan(
        model="m",
        candidate_url="http://c",
        candidate_digest=DIGEST,
        golden=FetchPlan(store="s3://store", digest=DIGEST),
        latency_milliseconds=100.0,
    )
    owner = {**root, "apiVersion": API_VERSION}
    return load_check_job(owner, "m", "m-load-x-0", plan, secret="store", deadline=60, policy=POLICY)


def as_stored(obj: Obj) -> Obj:
    """With the defaults of the API server, and what controllers of Jobs set."""
    stored = copy.deepcopy(obj)
    stored["metadata"] |= {"uid": "j", "resourceVersion": "7"}
    stored["metadata"]["annotations"] |= {"batch.kubernetes.io/job-tracking": "", "team.example/note": "x"}
    stored["metadata"]["annotations"] |= {"steeltown.dev/compared-with": "sha256:theirs"}  # nobody reads it there
    stored["spec"]["template"]["metadata"]["annotations"] = {"sidecar.example/inject": "no"}
    stored["spec"] |= {"completions": 1, "parallelism": 1, "selector": {"matchLabels": {"controller-uid": "j"}}}
    pod = stored["spec"]["template"]["spec"]
    pod |= {"dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30}
    pod |= {"nodeSelector": {"pool": "batch"}, "tolerations": [{"key": "batch"}]}
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        container |= {"terminationMessagePath": "/dev/termination-log"}
    return stored


def test_job_that_the_api_server_stored_is_ours() -> None:
    assert record.made_here(as_stored(job()), ROOT, POLICY)


def container(obj: Obj) -> Any:
    return obj["spec"]["template"]["spec"]["containers"][0]


def pod_spec(obj: Obj) -> Any:
    return obj["spec"]["template"]["spec"]


SPOILED: dict[str, Callable[[Obj], object]] = {
    "image": lambda j: container(j).update(image="theirs"),
    "command": lambda j: container(j).update(command=["sh"]),
    "arguments": lambda j: container(j).update(args=["loadcheck", "--no"]),
    "environment": lambda j: container(j)["env"][0].update(value="{}"),
    "a variable more": lambda j: container(j)["env"].append({"name": "PYTHONPATH", "value": "/tmp"}),
    "a variable from elsewhere": lambda j: container(j)["env"][0].update(valueFrom={"configMapKeyRef": {}}),
    "another Secret": lambda j: container(j)["envFrom"][0]["secretRef"].update(name="theirs"),
    "a ConfigMap for a Secret": lambda j: container(j).update(envFrom=[{"configMapRef": {"name": "theirs"}}]),
    "a container more": lambda j: pod_spec(j)["containers"].append({"name": "x", "image": "theirs"}),
    "an init container": lambda j: pod_spec(j).update(initContainers=[{"name": "x", "image": "theirs"}]),
    "code mounted over the image's": lambda j: container(j)["volumeMounts"].append(
        {"name": "tmp", "mountPath": "/app"}
    ),
    "another volume": lambda j: pod_spec(j)["volumes"][0].update(emptyDir=None, configMap={"name": "theirs"}),
    "a report from elsewhere": lambda j: container(j).update(terminationMessagePath="/theirs/report"),
    "a command after the start": lambda j: container(j).update(lifecycle={"postStart": {"exec": {"command": ["sh"]}}}),
    "a probe that runs a command": lambda j: container(j).update(livenessProbe={"exec": {"command": ["sh"]}}),
    "one process space": lambda j: pod_spec(j).update(shareProcessNamespace=True),
    "names of hosts": lambda j: pod_spec(j).update(hostAliases=[{"ip": "10.0.0.1", "hostnames": ["store"]}]),
    "another annotation of ours": lambda j: j["spec"]["template"]["metadata"]["annotations"].update(
        {"steeltown.dev/compared-with": ""}
    ),
    "another name": lambda j: j["metadata"].update(name="m-load-x-1"),
    "another namespace": lambda j: j["metadata"].update(namespace="other"),
    "no seal": lambda j: j["metadata"].update(annotations={}),
    "another model": lambda j: j["metadata"]["ownerReferences"][0].update(uid="other"),
    "a reference that does not control": lambda j: j["metadata"]["ownerReferences"][0].update(controller=False),
    "no owner": lambda j: j["metadata"].pop("ownerReferences"),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_job_that_somebody_else_made_or_changed_is_not_ours(spoil: Callable[[Obj], object]) -> None:
    stored = as_stored(job())
    spoil(stored)
    assert not record.made_here(stored, ROOT, POLICY)


SEAL = record.seal_of(as_stored(job()))
TAKEN_OFF: dict[str, tuple[Callable[[Obj], object], str | None, bool]] = {
    "no seal, and the status has it": (lambda j: j["metadata"].update(annotations={}), SEAL, True),
    "no annotations at all": (lambda j: j["metadata"].pop("annotations"), SEAL, True),
    "a seal that is not ours": (
        lambda j: j["metadata"]["annotations"].update({record.SEAL_ANNOTATION: "x"}),
        SEAL,
        True,
    ),
    "another seal in the status": (lambda j: None, "0" * 64, True),
    "no seal, and none in the status": (lambda j: j["metadata"].update(annotations={}), None, False),
    "no seal, and an empty one in the status": (lambda j: j["metadata"].update(annotations={}), "", False),
    "no seal, and another in the status": (lambda j: j["metadata"].update(annotations={}), "0" * 64, False),
    **{f"changed: {name}": (SPOILED[name], SEAL, False) for name in SPOILED if name != "no seal"},
}


@pytest.mark.parametrize(("spoil", "witness", "ours"), TAKEN_OFF.values(), ids=TAKEN_OFF)
def test_seal_that_a_hand_took_off_is_witnessed_by_the_status(
    spoil: Callable[[Obj], object], witness: str | None, ours: bool
) -> None:
    """Of the Job as it was made, and of no other."""
    stored = as_stored(job())
    spoil(stored)
    assert record.made_here(stored, ROOT, POLICY, witness=witness) is ours


def test_job_of_the_same_name_for_a_root_created_again_is_not_its_own() -> None:
    assert not record.made_here(as_stored(job()), elsewhere(uid="new"), POLICY)


def test_seal_of_one_job_does_not_fit_the_next() -> None:
    forged = as_stored(job(elsewhere(uid="new")))
    forged["metadata"]["annotations"] = as_stored(job())["metadata"]["annotations"]
    assert not record.made_here(forged, elsewhere(uid="new"), POLICY)


# --- what version 0.1 left -------------------------------------------------------------------------------------------


def old(seen: Snapshot) -> Snapshot:
    """The same model as version 0.1 leaves it: plain annotations, and a status without what came later."""
    status = copy.deepcopy(seen.root["status"])
    for name in ("switches", "selector"):
        status.pop(name, None)
    for ref in status["versions"].values():
        for name in ("promoted", "created"):
            ref.pop(name, None)
    for entry in status["history"]:
        entry.pop("retry", None)
    members = {kind: {n: copy.deepcopy(o) for n, o in objects.items()} for kind, objects in seen.members.items()}
    notes = members["Service"][MODEL]["metadata"]["annotations"]
    live = json.loads(notes.pop(record.RECORD_ANNOTATION))["live"]
    notes["steeltown.dev/live"] = json.dumps(live)
    for obj in members["TrainingRun"].values():
        given = obj["metadata"]["annotations"]
        for name in (record.OUTCOME_ANNOTATION, record.RESULT_ANNOTATION):
            if name in given:
                given[name] = json.dumps({k: v for k, v in json.loads(given[name]).items() if k != "seal"})
    return replace(seen, root={**seen.root, "status": status}, members=members)


def settled(second: Behaviour) -> tuple[Explorer, Snapshot]:
    explorer = Explorer(Scenario(name="x", steps=(create(GOOD_A), retrain(second)), ticks=90)).run()
    seen = explorer.operator.store.snapshot(Key("MLModel", explorer.cluster.namespace, MODEL))
    assert seen is not None
    return explorer, seen


@pytest.mark.parametrize(
    ("second", "live"),
    [(GOOD_B, "m-v2"), (Behaviour("failing", "b"), "m-v1")],
    ids=["the last promoted", "the last rejected"],
)
def test_upgrade_moves_nothing_and_forgets_no_rejection(second: Behaviour, live: str) -> None:
    explorer, seen = settled(second)
    before = old(seen)
    made = plan_model(before, explorer.cluster.now, POLICY)
    (applied,) = made.actions
    assert isinstance(applied, Apply)
    found = before.members["Service"][MODEL]
    assert applied.body["kind"] == "Service"
    assert applied.body["spec"]["selector"] == found["spec"]["selector"]
    told = record.live_record(before.root, applied.body, NOTHING, POLICY)
    assert told is not None
    assert (told.live.run, told.promoted) == (live, True)
    assert made.status is not None
    assert "rollout" not in made.status
    after = {c["type"]: (c["status"], c["reason"]) for c in made.status["conditions"]}
    assert after["Ready"] == {"m-v2": ("True", "Promoted"), "m-v1": ("False", "RolledBack")}[live]


def test_upgrade_makes_nothing_older_look_newer_than_a_live_version_whose_run_is_gone() -> None:
    """Version 0.1 noted in plain text when that run was created. Its Deployment is no older than the run."""
    explorer, seen = settled(GOOD_B)
    before = old(seen)
    left = {MODEL + "-v1": before.members["TrainingRun"]["m-v1"]}
    before = replace(before, members={**before.members, "TrainingRun": left})
    root = {**before.root, "spec": {**before.root["spec"], "training": {}}}
    made = plan_model(replace(before, root=root), explorer.cluster.now, POLICY)
    assert made.status is not None
    assert "rollout" not in made.status
    assert made.status["versions"]["live"]["run"] == "m-v2"
