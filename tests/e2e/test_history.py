"""What becomes of runs that are kept no longer, in a real store: their objects go, those of others stay.

A run is kept for an hour whatever the limits say, longer than a test may take. So the Job that collects is made here,
sealed with the installation's own key: the operator finds it as it would find its own after a restart.
"""

from __future__ import annotations

import base64

import obstore
import pytest
from steeltown.contract.files import model_prefix, reference_prefix
from steeltown.contract.plans import CollectItem, CollectPlan
from steeltown.core.children.jobs import collect_job, reference_of
from steeltown.core.naming import collect_name
from steeltown.core.observed.collecting import Going, annotation
from steeltown.core.policy import Policy
from steeltown_testing import tables
from steeltown_testing.installation import SECRET, STORE, Bucket, condition, images
from steeltown_testing.kubectl import Kubectl, Obj, eventually

API = "steeltown.dev/v1alpha1"
MODEL = "m"
RUNS = {"alone": "only this run made it", "first": "shared", "twin": "shared", "live": "what users get"}
"""Run -> what it imports: runs of equal content have one model between them."""


@pytest.fixture
def team(own_team: Kubectl, store: Bucket) -> Kubectl:
    model = {"apiVersion": API, "kind": "MLModel", "metadata": {"name": MODEL}}
    own_team.apply({**model, "spec": {"serving": {"replicas": 1, "resources": {"requests": {"cpu": "50m"}}}}})
    for run, content in RUNS.items():
        imported = store.put(f"history/{run}.onnx", tables.model(name=f"{own_team.namespace}: {content}"))
        spec = {"modelRef": {"name": MODEL}, "task": tables.TASK, "import": imported}
        own_team.apply({"apiVersion": API, "kind": "TrainingRun", "metadata": {"name": run}, "spec": spec})
        eventually(lambda run=run: _ended(own_team, run), seconds=120)  # type: ignore[misc]
    eventually(lambda: condition(own_team.get("mlmodel", MODEL), "Ready").get("status") == "True", seconds=180)
    return own_team


def _ended(team: Kubectl, run: str) -> bool:
    return bool(team.get("trainingrun", run).get("status", {}).get("completionTime"))


def _policy(everywhere: Kubectl) -> Policy:
    secret = Kubectl(config=everywhere.config, namespace="steeltown-system").get("secret", "steeltown-seal")
    (key,) = secret["data"].values()
    named = images()
    return Policy(
        trainer_image=named["trainer"],
        checker_image=named["checker"],
        server_image=named["server"],
        seal_key=base64.b64decode(key),
    )


def _going(run: Obj) -> Going:
    meta = run["metadata"]
    return Going(
        run=meta["name"],
        uid=meta["uid"],
        digest=run["status"]["artifact"]["digest"],
        reference=reference_of(run),
        because="spec.historyLimit 2",
    )


def _collecting(team: Kubectl, going: tuple[Going, ...], policy: Policy) -> Obj:
    items = tuple(CollectItem(digest=g.digest, reference=g.reference) for g in going)
    return collect_job(
        team.get("mlmodel", MODEL),
        MODEL,
        collect_name(MODEL, [g.uid for g in going], 0),
        CollectPlan(store=STORE, items=items),
        collects=annotation(going, 0),
        secret=SECRET,
        policy=policy,
    )


def _keys(store: Bucket, prefix: str) -> list[str]:
    return [entry["path"] for page in obstore.list(store.store, prefix + "/") for entry in page]


def test_run_goes_with_its_objects_and_a_model_that_another_run_needs_stays(
    everywhere: Kubectl, team: Kubectl, store: Bucket
) -> None:
    alone, first, twin = (_going(team.get("trainingrun", run)) for run in ("alone", "first", "twin"))
    assert first.digest == twin.digest
    assert len(_keys(store, model_prefix(alone.digest))) == 3
    assert len(_keys(store, reference_prefix(first.digest))) == 2
    job = _collecting(team, (alone, first), _policy(everywhere))
    team.apply(job)
    eventually(lambda: {r["metadata"]["name"] for r in team.find("trainingruns")} == {"twin", "live"}, seconds=120)
    assert _keys(store, model_prefix(alone.digest)) == []
    assert _keys(store, reference_prefix(alone.digest)) == []
    assert len(_keys(store, model_prefix(twin.digest))) == 3
    assert _keys(store, reference_prefix(twin.digest)) == [f"{reference_prefix(twin.digest)}/{twin.reference}"]
    told = [e["note"] for e in team.find("events.v1.events.k8s.io") if e["reason"] == "Removed"]
    assert any(alone.digest in note and "removed" in note for note in told), told
    assert any(first.digest in note and "kept" in note for note in told), told
    eventually(lambda: job["metadata"]["name"] not in _jobs(team), seconds=30)
    assert condition(team.get("mlmodel", MODEL), "Ready")["status"] == "True"


def test_job_that_collects_and_was_sealed_by_nobody_takes_no_run_away(team: Kubectl, store: Bucket) -> None:
    """It has the rights of its namespace's storage Secret, whoever makes it; the records stay."""
    twin = _going(team.get("trainingrun", "twin"))
    named = images()
    stranger = Policy(
        trainer_image=named["trainer"], checker_image=named["checker"], server_image=named["server"], seal_key=b"guess"
    )
    job = _collecting(team, (twin,), stranger)
    team.apply(job)
    team.wait(f"job/{job['metadata']['name']}", "condition=Complete", seconds=60)
    first = team.get("trainingrun", "first")
    assert {r["metadata"]["name"] for r in team.find("trainingruns")} == set(RUNS)
    assert len(_keys(store, model_prefix(first["status"]["artifact"]["digest"]))) == 3


def _jobs(team: Kubectl) -> set[str]:
    return {job["metadata"]["name"] for job in team.find("jobs")}
