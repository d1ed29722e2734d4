"""Which runs go, which never do, and in which order: first out of the store, then out of the cluster."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from steeltown.api.base import API_VERSION
from steeltown.api.conditions import RUN_GATES, rfc3339, violations
from steeltown.api.mlmodel import MLModelSpec
from steeltown.api.trainingrun import TrainingRunStatus
from steeltown.contract.checks import Check, Verdict
from steeltown.contract.plans import CollectItem, CollectPlan
from steeltown.contract.reports import StepReport
from steeltown.core import history, record
from steeltown.core.children import serving
from steeltown.core.children.serving import ServingSpec
from steeltown.core.history import AGAIN_SECONDS, BATCH, KEPT_SECONDS, SHOWN, Expiry, expire
from steeltown.core.model import plan_model
from steeltown.core.naming import collect_name, short_hash, store_reference
from steeltown.core.new_runs import TEMPLATE_ANNOTATION, new_run
from steeltown.core.observed.model import ObservedModel, read_status
from steeltown.core.plan import Create, Delete, Explain, Obj, Plan, Snapshot
from steeltown.core.record import LiveRecord, Outcome, Version
from steeltown_testing.explore.cluster import START, later
from steeltown_testing.explore.nature import Behaviour
from steeltown_testing.explore.scenarios import GOOD_A, model, template
from steeltown_testing.explore.schedule import MODEL, POLICY

NOW = later(START, 30 * 86400)
STORE = "s3://steeltown"
PROVEN = ({"succeeded": 2, "failed": 1}, None)


def digest_of(number: int) -> str:
    return f"sha256:{number:064x}"


def version(number: int) -> Version:
    return Version(run=f"m-v{number}", digest=digest_of(number))


def run(number: int, kind: str = "eligible", *, by_hand: bool = False, seconds_ago: float | None = None) -> Obj:
    """kind: eligible, ungated (succeeded, not eligible), failed or running; one run a day unless told otherwise."""
    name, created = f"m-v{number}", later(START, number * 3600)
    if seconds_ago is not None:
        created = NOW - timedelta(seconds=seconds_ago)
    meta: Obj = {"name": name, "namespace": "team", "uid": f"u{number}", "creationTimestamp": rfc3339(created)}
    if not by_hand:
        meta["ownerReferences"] = [{"kind": "MLModel", "name": MODEL, "uid": "mu", "controller": True}]
        meta["annotations"] = {TEMPLATE_ANNOTATION: "older"}
    obj: Obj = {
        "apiVersion": API_VERSION,
        "kind": "TrainingRun",
        "metadata": meta,
        "spec": {"modelRef": {"name": MODEL}, **template(Behaviour("good", str(number)))},
    }
    status: Obj = {"observedGeneration": 1, "createdTime": rfc3339(created)}
    if kind == "running":
        return {**obj, "status": status}
    status["completionTime"] = rfc3339(created)
    if kind != "failed":
        status["artifact"] = {
            "digest": digest_of(number),
            "uri": f"{STORE}/models/{number:064x}/model.onnx",
            "reference": store_reference("team", name, f"u{number}"),
        }
        verdict = "True" if kind == "eligible" else "Unknown"
        status["conditions"] = [
            {
                "type": gate.value,
                "status": verdict,
                "reason": "X",
                "message": "m",
                "observedGeneration": 1,
                "lastTransitionTime": rfc3339(created),
            }
            for gate in RUN_GATES
        ]
    return noted({**obj, "status": TrainingRunStatus.model_validate(status).dump()})


def noted(obj: Obj) -> Obj:
    """With the sealed record of its end."""
    final = {**obj["status"], "conditions": obj["status"]["conditions"]}
    more = record.keep_result(obj, final, POLICY).annotations
    meta = obj["metadata"]
    return {**obj, "metadata": {**meta, "annotations": {**(meta.get("annotations") or {}), **more}}}


def rejected(obj: Obj) -> Obj:
    ended = Outcome(result="RolledBack", digest=obj["status"]["artifact"]["digest"], reason="X", message="m")
    notes = {**obj["metadata"]["annotations"], **ended.annotate(obj, POLICY).annotations}
    return {**obj, "metadata": {**obj["metadata"], "annotations": notes}}


def snapshot(
    *runs: Obj,
    live: int | None = None,
    previous: int | None = None,
    limits: tuple[Any, Any] = PROVEN,
    jobs: tuple[Obj, ...] = (),
    pods: tuple[Obj, ...] = (),
    status: Obj | None = None,
    causes: dict[str, str] | None = None,
    **spec: Any,
) -> Snapshot:
    root = model(GOOD_A)
    meta = {**root["metadata"], "namespace": "team", "uid": "mu", "generation": 1, "resourceVersion": "1"}
    training = {**root["spec"]["training"], **({"historyLimit": limits[0]} if limits[0] else {})}
    more = {"historyLimit": limits[1]} if limits[1] is not None else {}
    root = {**root, "metadata": meta, "spec": {**root["spec"], "training": training, **more, **spec}}
    root["status"] = status or root["status"]
    members: dict[str, dict[str, Obj]] = {
        "TrainingRun": {r["metadata"]["name"]: r for r in runs},
        "Job": {j["metadata"]["name"]: j for j in jobs},
        "Pod": {p["metadata"]["name"]: p for p in pods},
    }
    if live is not None:
        told = LiveRecord(
            live=version(live),
            promoted=True,
            previous=version(previous) if previous is not None else None,
            created=rfc3339(later(START, live * 3600)),
            switches=1,
        )
        service = serving.live_service(root, MODEL, told, POLICY)
        service["metadata"] |= {"uid": "su"}
        members["Service"] = {MODEL: service}
    return Snapshot(root=root, members=members, causes=causes or {})


def world_of(seen: Snapshot) -> ObservedModel:
    spec = MLModelSpec.model_validate(seen.root["spec"])
    return ObservedModel.of(seen, spec, read_status(seen.root), NOW, POLICY)


SERVING = ServingSpec(
    model=MODEL,
    resources=MLModelSpec.model_validate({}).serving.resources,
    store=STORE,
    secret="secret",
    progress_deadline_seconds=60,
)


def expiry(seen: Snapshot) -> Expiry:
    return expire(world_of(seen), SERVING, POLICY)


def going(seen: Snapshot) -> list[str]:
    """Numbers of the runs that go, oldest first."""
    found = expiry(seen).retention
    deleted = [a.name for a in expiry(seen).actions if isinstance(a, Delete)]
    return [name.removeprefix("m-v") for name in (*deleted, *(found.next if found else ()))]


def job_of(made: Expiry) -> Obj:
    (create,) = [a for a in made.actions if isinstance(a, Create)]
    return {**create.body, "metadata": {**create.body["metadata"], "uid": "ju"}}


def collected(job: Obj) -> CollectPlan:
    env = job["spec"]["template"]["spec"]["containers"][0]["env"]
    return CollectPlan.from_json(next(e["value"] for e in env if e["name"] == "STEELTOWN_PLAN"))


def over(job: Obj, how: str, seconds_ago: float = 100.0, message: str = "", reason: str = "X") -> Obj:
    stamp = rfc3339(NOW - timedelta(seconds=seconds_ago))
    condition = {"type": how, "status": "True", "reason": reason, "message": message, "lastTransitionTime": stamp}
    return {**job, "status": {"conditions": [condition]}}


def pod_of(job: Obj, code: int, report: StepReport) -> Obj:
    ended = {"terminated": {"exitCode": code, "message": report.encode()}}
    owner = {"kind": "Job", "name": job["metadata"]["name"], "uid": "ju", "controller": True}
    return {
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "team", "uid": "pu", "ownerReferences": [owner]},
        "spec": job["spec"]["template"]["spec"],
        "status": {"containerStatuses": [{"name": "collect", "state": ended, "restartCount": 0}]},
    }


TEN = [run(n) for n in range(1, 11)]
OLD = [run(1), run(2), run(3)]


# --- which -----------------------------------------------------------------------------------------------------------

WHICH: dict[str, tuple[Snapshot, list[int]]] = {
    "without limits all stay": (snapshot(*TEN, live=10, limits=(None, None)), []),
    "the last N stay": (snapshot(*TEN, live=10), [1, 2, 3, 4, 5, 6, 7, 8]),
    "live and previous stay however old": (snapshot(*TEN, live=4, previous=2), [1, 3, 5, 6, 7, 8]),
    "limit 0 keeps what is needed": (snapshot(*OLD, live=2, previous=1, limits=({"succeeded": 0}, None)), []),
    "users' own runs stay": (snapshot(*(run(n, by_hand=True) for n in range(1, 6)), run(6), live=6), []),
    "unless a limit for all of them is set": (
        snapshot(*(run(n, by_hand=True) for n in range(1, 6)), run(6), live=6, limits=(None, 3)),
        [1, 2, 3],
    ),
    "the stricter limit decides": (snapshot(*TEN, live=10, limits=({"succeeded": 8}, 3)), [1, 2, 3, 4, 5, 6, 7]),
    "failed runs have a limit of their own": (
        snapshot(run(1), run(2, "failed"), run(3, "failed"), run(4, "failed"), run(5), live=5),
        [2, 3],
    ),
    "a limit of one kind leaves the other": (
        snapshot(*(run(n, "failed") for n in range(1, 5)), run(5), live=5, limits=({"succeeded": 1}, None)),
        [],
    ),
    "the newest stays although it failed": (
        snapshot(run(1), run(2, "failed", by_hand=True), live=1, limits=(None, 0)),
        [],
    ),
    "the newest of the template stays although it failed": (
        snapshot(run(1), run(2, "failed"), run(3, by_hand=True), live=1, limits=(None, 0)),
        [],
    ),
    "the newest that succeeded stays although it is not eligible": (
        snapshot(run(1), run(2, "ungated"), run(3, "failed"), live=1, limits=(None, 0)),
        [],
    ),
    "a run that is not finished stays": (
        snapshot(run(1, "running"), run(2), run(3), live=3, limits=({"succeeded": 0, "failed": 0}, 0)),
        [2],
    ),
    "the newest eligible stays, rejected or not": (
        snapshot(run(1), run(2), rejected(run(3)), run(4, "ungated"), run(5, "ungated"), run(6, "ungated"), live=1),
        [2, 4],
    ),
    "an aborted run stays as long as the spec names it": (
        snapshot(*TEN, live=10, abort="m-v3"),
        [1, 2, 4, 5, 6, 7, 8],
    ),
    "runs of the last hour stay": (
        snapshot(*OLD, *(run(n, seconds_ago=KEPT_SECONDS - n) for n in range(4, 8)), live=3, previous=2),
        [1],
    ),
    "without a live version only failed runs go": (
        snapshot(run(1), run(2), run(3), run(4), run(5, "failed"), run(6, "failed"), run(7)),
        [5],
    ),
    "one that is being deleted is left alone": (
        snapshot(
            {**run(1), "metadata": {**run(1)["metadata"], "deletionTimestamp": "x"}}, run(2), run(3), run(4), live=4
        ),
        [2],
    ),
}


@pytest.mark.parametrize(("seen", "wanted"), WHICH.values(), ids=WHICH)
def test_which_runs_go(seen: Snapshot, wanted: list[int]) -> None:
    assert going(seen) == [str(n) for n in wanted]


def test_run_of_a_rollout_stays_and_everything_waits_for_its_end() -> None:
    rollout = {
        "id": "h1",
        "run": "m-v3",
        "digest": digest_of(3),
        "phase": "Loading",
        "startedTime": rfc3339(NOW),
        "phaseTime": rfc3339(NOW),
    }
    made = expiry(snapshot(*TEN, live=1, status={"observedGeneration": 1, "rollout": rollout}))
    assert made.actions == ()
    assert made.retention is not None
    assert made.retention.next == [f"m-v{n}" for n in (2, 4, 5, 6, 7, 8)]
    assert made.retention.message == "waiting for the rollout of m-v3 to finish"


def test_brake_only_says_what_would_go() -> None:
    made = expiry(snapshot(*TEN, live=10, frozen=True))
    assert (made.actions, made.events) == ((), ())
    assert made.retention is not None
    assert (made.retention.expired, made.retention.next) == (8, [f"m-v{n}" for n in range(1, 9)])
    assert made.retention.message == "paused by spec.frozen"


def test_version_that_still_has_a_deployment_stays() -> None:
    seen = snapshot(*TEN, live=10)
    kept = serving.deployment(seen.root, SERVING, version(3), 1, POLICY)
    members = {**seen.members, "Deployment": {kept["metadata"]["name"]: kept}}
    assert "3" not in going(replace(seen, members=members))


def test_version_that_the_service_selects_stays_whoever_made_it_so() -> None:
    seen = snapshot(*TEN, live=10)
    service = json.loads(json.dumps(seen.members["Service"][MODEL]))
    service["spec"]["selector"]["steeltown.dev/version"] = version(3).id
    assert "3" not in going(replace(seen, members={**seen.members, "Service": {MODEL: service}}))


def test_it_is_looked_at_again_when_the_hour_is_over() -> None:
    young = [run(n, seconds_ago=KEPT_SECONDS - 10 * n) for n in range(4, 8)]
    assert expiry(snapshot(*young, live=7, limits=({"succeeded": 1}, None))).requeue_after == 40.0


def test_restored_run_has_its_hour() -> None:
    """A backup tool creates it anew; the time of its end is that of long ago."""
    old = run(1)
    old["metadata"]["creationTimestamp"] = rfc3339(NOW)
    assert going(snapshot(old, *TEN[1:], live=10)) == [str(n) for n in range(2, 9)]


def test_time_that_cannot_be_read_keeps_a_run() -> None:
    odd = run(1)
    odd["status"]["completionTime"] = "yesterday"
    assert going(snapshot(odd, *TEN[1:], live=10)) == [str(n) for n in range(2, 9)]


@pytest.mark.parametrize("seed", range(40))
def test_without_the_runs_that_go_everything_is_decided_as_before(seed: int) -> None:
    dice = random.Random(seed)
    runs = []
    for n in range(1, dice.randint(4, 14)):
        obj = run(n, dice.choice(["eligible", "eligible", "ungated", "failed", "running"]), by_hand=dice.random() < 0.4)
        runs.append(rejected(obj) if "artifact" in obj["status"] and dice.random() < 0.3 else obj)
    versions = [int(r["metadata"]["uid"][1:]) for r in runs if "artifact" in r["status"]]
    live = dice.choice([*versions, None]) if versions else None
    limits = ({"succeeded": dice.randint(0, 2), "failed": dice.randint(0, 2)}, dice.choice([None, 0, 1, 2]))
    stage = dice.choice(["Experimental", "Production"])
    seen = snapshot(*runs, live=live, limits=limits, stage=stage)
    gone = {e.run.name for e in history.expired(world_of(seen)).may_go}
    kept = {name: obj for name, obj in seen.members["TrainingRun"].items() if name not in gone}
    before, after = world_of(seen), world_of(replace(seen, members={**seen.members, "TrainingRun": kept}))

    def decided(world: ObservedModel) -> list[Any]:
        chosen = (world.newest, world.target, world.candidate, world.next_experiment)
        return [*(r and r.name for r in chosen), world.live, world.promoted, new_run(world, NOW)]

    assert decided(after) == decided(before)


# --- how -------------------------------------------------------------------------------------------------------------


def test_first_they_are_taken_out_of_the_store() -> None:
    made = expiry(snapshot(*OLD, run(4), live=4))
    job = job_of(made)
    assert made.actions == (Create({**job, "metadata": {k: v for k, v in job["metadata"].items() if k != "uid"}}),)
    items = tuple(CollectItem(digest=digest_of(n), reference=f"team.m-v{n}.u{n}") for n in (1, 2))
    assert collected(job) == CollectPlan(store=STORE, items=items)
    assert record.made_here(job, snapshot(live=None).root, POLICY)
    assert made.retention is not None
    assert made.retention.next == ["m-v1", "m-v2"]
    assert (
        made.retention.message == f"waiting for Job {job['metadata']['name']} to remove their artifacts from the store"
    )


def test_then_they_are_deleted_with_what_became_of_their_objects() -> None:
    job = over(job_of(expiry(snapshot(*OLD, run(4), live=4))), "Complete")
    checks = (
        Check(name="team.m-v1.u1", verdict=Verdict.PASS, message="removed"),
        Check(name="team.m-v2.u2", verdict=Verdict.PASS, message="kept: other references remain (1), such as x.y.z"),
    )
    pod = pod_of(job, 0, StepReport(reason="Collected", message="m", checks=checks))
    made = expiry(snapshot(*OLD, run(4), live=4, jobs=(job,), pods=(pod,)))
    first, second, last = made.actions
    assert (first, second) == tuple(Delete("TrainingRun", "team", f"m-v{n}", f"u{n}") for n in (1, 2))
    assert isinstance(last, Delete)
    assert (last.kind, last.uid, [t.name for t in last.after]) == ("Job", "ju", ["m-v1", "m-v2"])
    because = "(beyond spec.training.historyLimit.succeeded 2)"
    assert [(e.reason, e.message) for e in made.events] == [
        ("Removed", f"deleted m-v1 {because}; artifacts of {digest_of(1)}: removed"),
        (
            "Removed",
            f"deleted m-v2 {because}; artifacts of {digest_of(2)}: kept: other references remain (1), such as x.y.z",
        ),
    ]
    assert made.retention is None


def test_nothing_happens_while_the_job_runs() -> None:
    job = job_of(expiry(snapshot(*OLD, run(4), live=4)))
    made = expiry(snapshot(*OLD, run(4), live=4, jobs=(job,)))
    assert (made.actions, made.events, made.requeue_after) == ((), (), None)


QUOTA = "exceeded quota: compute, requested: pods=1"


def aged(job: Obj, seconds: float) -> Obj:
    created = rfc3339(NOW - timedelta(seconds=seconds))
    return {**job, "metadata": {**job["metadata"], "creationTimestamp": created}}


@pytest.mark.parametrize(
    ("age", "causes", "waits", "asked", "told"),
    [
        (1, {}, 2.0, False, ""),
        (3, {}, None, True, ""),
        (3, {"ju": QUOTA}, None, True, f": {QUOTA}"),
        (3, {"other": QUOTA}, None, True, ""),
    ],
)
def test_job_that_makes_no_pod_is_asked_why_and_says_so(
    age: float, causes: dict[str, str], waits: float | None, asked: bool, told: str
) -> None:
    job = aged(job_of(expiry(snapshot(*OLD, run(4), live=4))), age)
    seen = snapshot(*OLD, run(4), live=4, jobs=(job,), causes=causes)
    made = expiry(seen)
    what = Explain(kind="Job", namespace="team", name=job["metadata"]["name"], uid="ju")
    assert (made.requeue_after, made.explain) == (waits, (what,) if asked else ())
    assert plan_model(seen, NOW, POLICY).explain == made.explain
    assert made.retention is not None
    assert (made.retention.message or "").endswith(f" to remove their artifacts from the store{told}")


def test_job_that_has_a_pod_by_now_is_asked_nothing() -> None:
    job = aged(job_of(expiry(snapshot(*OLD, run(4), live=4))), 60)
    pod = pod_of(job, 0, StepReport(reason="Collected", message="m"))
    made = expiry(snapshot(*OLD, run(4), live=4, jobs=(job,), pods=(pod,), causes={"ju": QUOTA}))
    assert made.explain == ()
    assert made.retention is not None
    assert QUOTA not in (made.retention.message or "")


def test_job_that_could_make_no_pod_until_its_deadline_says_why_and_goes_on_saying_so() -> None:
    late = "Job was active longer than specified deadline"
    job = job_of(expiry(snapshot(*OLD, run(4), live=4)))
    failed = over(job, "Failed", seconds_ago=1.0, message=late, reason="DeadlineExceeded")
    made = expiry(snapshot(*OLD, run(4), live=4, jobs=(failed,), causes={"ju": QUOTA}))
    assert made.retention is not None
    assert (made.retention.message or "").endswith(f"retrying after 600 s: {late}: {QUOTA}")
    assert [e.uid for e in made.explain] == ["ju"]
    told = {"observedGeneration": 1, "retention": made.retention.dump()}
    assert expiry(snapshot(*OLD, run(4), live=4, jobs=(failed,), causes={"ju": QUOTA}, status=told)).events == ()


def test_one_job_at_a_time_also_when_more_is_to_go() -> None:
    job = job_of(expiry(snapshot(*OLD, run(4), live=4)))
    made = expiry(snapshot(*TEN, live=10, jobs=(job,)))
    assert made.actions == ()
    assert made.retention is not None
    assert (made.retention.expired, made.retention.next[:3]) == (8, ["m-v1", "m-v2", "m-v3"])


def test_end_of_the_pod_is_awaited_for_a_while() -> None:
    job = over(job_of(expiry(snapshot(*OLD, run(4), live=4))), "Complete", seconds_ago=1.0)
    made = expiry(snapshot(*OLD, run(4), live=4, jobs=(job,)))
    assert (made.actions, made.requeue_after) == ((), 30.0)
    untold = expiry(snapshot(*OLD, run(4), live=4, jobs=(over(job, "Complete"),)))
    assert [e.message.rpartition(": ")[2] for e in untold.events] == [
        "unknown (not in the report)",
        "unknown (not in the report)",
    ]


def test_store_that_is_down_only_delays() -> None:
    job = job_of(expiry(snapshot(*OLD, run(4), live=4)))
    pod = pod_of(job, 75, StepReport(reason="StoreUnavailable", message="s3://steeltown cannot be reached"))
    failed = over(job, "Failed", seconds_ago=100.0)
    made = expiry(snapshot(*OLD, run(4), live=4, jobs=(failed,), pods=(pod,)))
    assert (made.actions, made.requeue_after) == ((), AGAIN_SECONDS - 100.0)
    assert made.retention is not None
    assert made.retention.message == (
        "failed to remove their artifacts, retrying after 600 s: s3://steeltown cannot be reached"
    )
    assert [(e.type, e.reason) for e in made.events] == [("Warning", "CollectFailed")]
    told = {"observedGeneration": 1, "retention": made.retention.dump()}
    assert expiry(snapshot(*OLD, run(4), live=4, jobs=(failed,), pods=(pod,), status=told)).events == ()


def test_failed_job_is_made_again_and_never_leaves_its_runs_alone_in_between() -> None:
    failed = over(job_of(expiry(snapshot(*OLD, run(4), live=4))), "Failed", seconds_ago=AGAIN_SECONDS)
    made = expiry(snapshot(*OLD, run(4), live=4, jobs=(failed,)))
    create, delete = made.actions
    assert isinstance(create, Create)
    assert isinstance(delete, Delete)
    assert collected(create.body) == collected(failed)
    assert create.body["metadata"]["name"] != failed["metadata"]["name"]
    assert (delete.name, delete.after[0].name) == (failed["metadata"]["name"], create.body["metadata"]["name"])
    again = {**create.body, "metadata": {**create.body["metadata"], "uid": "ju2"}}
    assert expiry(snapshot(*OLD, run(4), live=4, jobs=(failed, again))).actions == ()


def test_run_that_is_being_collected_is_no_version_any_more() -> None:
    """Its objects may be gone: not even the deletion of all newer runs makes it one."""
    job = job_of(expiry(snapshot(*OLD, run(4), live=4)))
    seen = snapshot(*OLD[:2], live=None, limits=(None, None), jobs=(job,), stage="Experimental")
    world = world_of(seen)
    assert (world.target, world.next_experiment, world.leaving) == (None, None, frozenset({"u1", "u2"}))


def test_run_made_again_under_the_name_of_one_that_is_collected_is_a_version() -> None:
    job = job_of(expiry(snapshot(*OLD, run(4), live=4)))
    again = run(1)
    again["metadata"]["uid"] = "another"
    world = world_of(snapshot(again, jobs=(job,)))
    assert world.target is not None
    ended = expiry(snapshot(again, *OLD[1:], run(4), live=4, jobs=(over(job, "Complete"),)))
    assert [a.uid for a in ended.actions if isinstance(a, Delete)] == ["u2", "ju"]


def test_job_that_somebody_else_made_makes_no_run_disappear() -> None:
    job = job_of(expiry(snapshot(*OLD, run(4), live=4)))
    forged = json.loads(json.dumps(job))
    notes = forged["spec"]["template"]["metadata"]["annotations"]
    notes["steeltown.dev/collects"] = json.dumps({"attempt": 0, "runs": []})
    world = world_of(snapshot(*OLD, run(4), live=4, jobs=(forged,)))
    assert (world.collecting, len(world.runs)) == (None, 4)


def test_failed_runs_need_no_job() -> None:
    made = expiry(snapshot(*(run(n, "failed") for n in range(1, 4)), run(4), live=4))
    assert made.actions == tuple(Delete("TrainingRun", "team", f"m-v{n}", f"u{n}") for n in (1, 2))
    assert made.events[0].message == "deleted m-v1 (beyond spec.training.historyLimit.failed 1); no artifacts"
    assert made.retention is None


def unsealed(obj: Obj) -> None:
    obj["metadata"]["annotations"] = {TEMPLATE_ANNOTATION: "older"}


def forged(obj: Obj) -> None:
    """A status that names the reference of another tenant, under a record that does not."""
    obj["status"]["artifact"] |= {"reference": "other.n-v1.u9", "digest": digest_of(99)}


def elsewhere(obj: Obj) -> None:
    obj["status"]["artifact"]["uri"] = f"s3://other/models/{1:064x}/model.onnx"
    obj["metadata"]["annotations"] = noted(obj)["metadata"]["annotations"]


def restored(obj: Obj) -> None:
    """The cluster that it comes from may still need what it refers to."""
    obj["status"]["artifact"]["reference"] = "team.m-v1.u0"
    obj["metadata"]["annotations"] = noted(obj)["metadata"]["annotations"]


def of_0_1(obj: Obj) -> None:
    del obj["status"]["artifact"]["reference"]
    obj["metadata"]["annotations"] = noted(obj)["metadata"]["annotations"]


@pytest.mark.parametrize("change", [unsealed, forged, elsewhere, restored, of_0_1])
def test_what_no_record_of_ours_names_stays_in_the_store(change: Any) -> None:
    odd = run(1)
    change(odd)
    made = expiry(snapshot(odd, run(2), run(3), live=3))
    assert made.actions == (Delete("TrainingRun", "team", "m-v1", "u1"),)
    assert "kept: no record that this run stored them" in made.events[0].message


def test_few_go_at_a_time() -> None:
    runs = [run(n, "failed") if n % 2 else run(n) for n in range(1, 41)]
    made = expiry(snapshot(*runs, live=40, limits=({"succeeded": 0, "failed": 0}, None)))
    deleted = [a.name for a in made.actions if isinstance(a, Delete)]
    assert len(deleted) + len(collected(job_of(made)).items) == BATCH
    assert made.retention is not None
    assert made.retention.next == [f"m-v{n}" for n in (2, 4, 6, 8, 9, 10)]
    assert made.retention.expired == 39 - len(deleted)
    braked = expiry(snapshot(*runs, live=40, limits=({"succeeded": 0, "failed": 0}, None), frozen=True))
    assert braked.retention is not None
    assert (len(braked.retention.next), braked.retention.expired) == (SHOWN, 39)


def test_report_of_a_whole_batch_fits_into_a_termination_message() -> None:
    longest = store_reference("n" * 63, "r" * 59, "u" * 36)
    message = f"kept: other references remain (1000), such as {longest}"
    checks = tuple(Check(name=longest, verdict=Verdict.PASS, message=message) for _ in range(BATCH))
    read = StepReport.decode(StepReport(reason="Collected", message="m" * 80, checks=checks).encode())
    assert read is not None
    assert len(read.checks) == BATCH


# --- in the plan of a model ------------------------------------------------------------------------------------------


def plan(seen: Snapshot) -> Plan:
    made = plan_model(seen, NOW, POLICY)
    if made.status is not None:
        assert violations({**seen.root, "status": made.status}) == []
    return made


def test_plan_of_a_model_carries_it_out_and_says_so() -> None:
    made = plan(snapshot(*OLD, run(4), run(5, "failed"), run(6, "failed"), live=4))
    (job,) = [a.body for a in made.actions if isinstance(a, Create) and a.body["kind"] == "Job"]
    assert [i.reference for i in collected(job).items] == ["team.m-v1.u1", "team.m-v2.u2"]
    assert [a.name for a in made.actions if isinstance(a, Delete)] == ["m-v5"]
    assert [e.reason for e in made.events] == ["Removed"]
    assert made.status is not None
    assert made.status["retention"]["next"] == ["m-v1", "m-v2"]


def test_frozen_model_only_says_what_would_go() -> None:
    made = plan(snapshot(*TEN, live=10, frozen=True))
    assert made.actions == ()
    assert made.status is not None
    assert made.status["retention"]["expired"] == 8


def test_beginning_of_a_rollout_leaves_what_was_said() -> None:
    told = {"expired": 1, "next": ["m-v1"]}
    made = plan(snapshot(*OLD, live=2, status={"observedGeneration": 1, "retention": told}))
    assert made.locked
    assert made.status is not None
    assert made.status["rollout"]["run"] == "m-v3"
    assert made.status["retention"] == told


def test_name_of_the_job_fits() -> None:
    long = "m" * 40
    assert len(collect_name(long, [short_hash("u")], 999)) <= 63
