"""Faults of hands, lag, time and backup tools on a real API server: its own controllers, collector and uids.

`tests/exploration` holds every such fault in memory, in every phase; here is one schedule of each kind, with the same
right outcome, so that what the in-memory cluster makes of owners, uids and deletion is what Kubernetes makes of them.
"""

from __future__ import annotations

from time import sleep

import pytest
from steeltown.api.base import API_VERSION
from steeltown.api.mlmodel import Phase
from steeltown.core.plan import Obj, Target
from steeltown_testing.explore import records
from steeltown_testing.explore.nature import Behaviour, Trouble, behaviour_of, of_run, trained_by
from steeltown_testing.explore.real import begun
from steeltown_testing.explore.scenarios import GOOD_A, GOOD_B, GOOD_C, create, in_phase, live_is, retrain, template
from steeltown_testing.explore.schedule import MODEL, Explorer
from steeltown_testing.operator_process import install_resources

KEPT = ("name", "namespace", "labels", "annotations")
"""What a backup tool gives back of an object's metadata."""
MEND_TICKS = 3


@pytest.fixture(scope="module")
def installed(kubeconfig: str) -> str:
    """The kubeconfig of a server that knows the resources."""
    install_resources(kubeconfig)
    return kubeconfig


def found(x: Explorer, kind: str, name: str = MODEL) -> Obj:
    obj = x.cluster.get(kind, name)
    assert obj is not None, f"there is no {kind} {name}"
    return obj


def run_by_hand(x: Explorer, behaviour: Behaviour, annotations: dict[str, str] | None = None) -> Obj:
    """Somebody's own TrainingRun."""
    meta = {"name": "trial", "namespace": x.cluster.namespace, "annotations": annotations or {}}
    spec = {"modelRef": {"name": MODEL}, **template(behaviour)}
    return x.cluster.put({"apiVersion": API_VERSION, "kind": "TrainingRun", "metadata": meta, "spec": spec})


def ended(x: Explorer, name: str) -> bool:
    return bool((found(x, "TrainingRun", name).get("status") or {}).get("completionTime"))


def deployments(x: Explorer) -> dict[str, str]:
    return {d["metadata"]["name"]: d["metadata"]["uid"] for d in x.cluster.of_kind("Deployment")}


def in_service(x: Explorer) -> tuple[str, str, str]:
    """The run that is live, its digest by the record, the digest of what users reach."""
    return x.live, x.promoted_digest, reached(x)


def reached(x: Explorer) -> str:
    """The digest of what users reach, "" if that is nothing."""
    return " ".join(sorted({behaviour_of(pod).model_digest for pod in x.nature.endpoints(MODEL)}))


def test_record_taken_off_the_service_comes_back_and_the_live_version_stays(installed: str) -> None:
    """Fails when the annotations alone decide who is live: without them the Deployment that serves is deleted."""
    with begun(installed, create(GOOD_A)) as x:
        x.until(live_is("m-v1"))
        before, uids, routed = x.final(), deployments(x), list(x.routed)
        all_of_ours = tuple(records.notes(found(x, "Service")))
        for taken in ((records.RECORD,), all_of_ours):
            service = found(x, "Service")
            left = {k: v for k, v in service["metadata"]["annotations"].items() if k not in taken}
            x.cluster.set_metadata(service, annotations=left)
            assert not records.notes(found(x, "Service")).keys() & set(taken)
            x.go(MEND_TICKS).settle()
            assert (x.final(), deployments(x)) == (before, uids), taken
        assert x.routed == routed


def test_version_whose_pods_die_in_the_bake_goes_back_to_the_old_one_which_is_still_there(installed: str) -> None:
    """Fails when the bake is a timer: it passes while every new Pod crashes, and the healthy old version is deleted."""
    with begun(installed, create(GOOD_A), retrain(GOOD_B)) as x:
        x.until(live_is("m-v1"))
        uids = deployments(x)
        x.until(lambda x: in_phase(Phase.BAKING)(x) and x.rollout is not None and x.rollout["run"] == "m-v2")
        x.nature.trouble(Trouble.CRASHING, of_run("m-v2"))
        x.settle()
        assert in_service(x) == ("m-v1", GOOD_A.model_digest, GOOD_A.model_digest)
        assert x.outcome("m-v2")[0] == "RolledBack"
        assert deployments(x) == uids


def test_run_made_again_under_the_same_name_trains_under_its_own_job(installed: str) -> None:
    """Fails when a Job is known by its name alone: the new run takes over what the old one has made."""
    with begun(installed, create(GOOD_A)) as x:
        x.until(live_is("m-v1"))
        first = run_by_hand(x, GOOD_B)
        x.until(lambda x: ended(x, "trial"))
        old = found(x, "Job", "trial-run")["metadata"]["uid"]
        second = x.cluster.recreate(first, spec={**first["spec"], **template(GOOD_C)})
        x.until(live_is("trial")).settle()
        assert found(x, "Job", "trial-run")["metadata"]["uid"] != old
        assert found(x, "TrainingRun", "trial")["metadata"]["uid"] == second["metadata"]["uid"]
        assert in_service(x) == ("trial", GOOD_C.model_digest, GOOD_C.model_digest)
        assert x.nature.trained[second["metadata"]["uid"]] == 1


def test_job_seen_complete_before_its_pods_end_waits_and_loses_no_result(installed: str) -> None:
    """Fails when a Job that is complete and a Pod that still runs are taken for a missing report."""
    with begun(installed, create(GOOD_A)) as x:
        x.nature.trouble(Trouble.BUSY, trained_by("m-v1"))
        x.until(lambda x: bool(x.cluster.get("TrainingRun", "m-v1")) and _phase(x) == "Training")
        pods = _watched_pods(x)
        x.server.hold("Pod")
        x.nature.heal()
        x.until(lambda x: _job_is_complete(x, found(x, "Job", "m-v1-run"))).go(MEND_TICKS)
        assert _watched_pods(x) == pods
        assert not ended(x, "m-v1")
        x.server.release("Pod")
        x.until(lambda x: ended(x, "m-v1"))
        assert _phase(x) == "Succeeded"
        assert found(x, "TrainingRun", "m-v1")["status"]["artifact"]["digest"] == GOOD_A.model_digest


def _phase(x: Explorer) -> str:
    return str((found(x, "TrainingRun", "m-v1").get("status") or {}).get("phase"))


def _watched_pods(x: Explorer) -> list[tuple[str, str]]:
    return [(o["metadata"]["uid"], o["status"]["phase"]) for t, o in x.cluster.as_watched().items() if t.kind == "Pod"]


def _job_is_complete(x: Explorer, job: Obj) -> bool:
    meta = job["metadata"]
    seen = x.operator.store.get(Target("Job", meta["namespace"], meta["name"])) or {}
    return any(c["type"] == "Complete" for c in (seen.get("status") or {}).get("conditions") or ())


def test_restored_in_another_order_the_newest_version_is_live_again_and_nothing_trains(installed: str) -> None:
    """Fails when runs are ordered by creation time, when a result is lost with the status, or trained once more."""
    with begun(installed, create(GOOD_A), retrain(GOOD_B)) as x:
        x.until(live_is("m-v2"))
        exported = [found(x, "TrainingRun", "m-v2"), found(x, "MLModel"), found(x, "TrainingRun", "m-v1")]
        written, trained = len(x.cluster.log), dict(x.nature.trained)
        x.server.lose_everything()
        x.was_serving = False
        made = [_restored(x, obj) for obj in exported]
        assert not {o["metadata"]["uid"] for o in made} & {o["metadata"]["uid"] for o in exported}
        assert _created(x, "m-v2") < _created(x, "m-v1")
        served = set()

        def live_again(x: Explorer) -> bool:
            served.add(reached(x))
            return live_is("m-v2")(x)

        x.until(live_again).settle()
        assert served == {"", GOOD_B.model_digest}
        assert in_service(x) == ("m-v2", GOOD_B.model_digest, GOOD_B.model_digest)
        assert all(found(x, "TrainingRun", name)["status"]["phase"] == "Succeeded" for name in ("m-v1", "m-v2"))
        assert [line for line in x.cluster.log[written:] if "-run ->" in line] == []
        assert x.nature.trained == trained


def _restored(x: Explorer, obj: Obj) -> Obj:
    """As a backup tool gives it back, without status, uid, owners and times, and later than the one before."""
    meta = {key: obj["metadata"][key] for key in KEPT if key in obj["metadata"]}
    made = x.cluster.put({"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": meta, "spec": obj["spec"]})
    sleep(1.01)  # creation times have no fractions
    return made


def _created(x: Explorer, run: str) -> str:
    return str(found(x, "TrainingRun", run)["metadata"]["creationTimestamp"])


def test_result_copied_from_another_run_counts_for_nothing_and_the_run_is_evaluated(installed: str) -> None:
    """Fails when a manifest that carries a good run's sealed result is a run that has passed all gates."""
    with begun(installed, create(GOOD_A)) as x:
        x.until(live_is("m-v1"))
        notes = records.notes(found(x, "TrainingRun", "m-v1"))
        assert {"steeltown.dev/result", records.OUTCOME} <= notes.keys()
        forged = run_by_hand(x, Behaviour("worse", "b"), notes)
        x.until(lambda x: ended(x, "trial")).settle()
        status, reason, _ = x.condition("QualityAccepted", of=found(x, "TrainingRun", "trial"))
        assert (status, reason) == ("False", "QualityBelowMinimum")
        assert x.nature.trained[forged["metadata"]["uid"]] == 1
        assert in_service(x) == ("m-v1", GOOD_A.model_digest, GOOD_A.model_digest)
