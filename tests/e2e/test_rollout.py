"""A model in production on a real kubelet, under constant load: what kubectl says, and what a lost operator changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from steeltown_testing import tables
from steeltown_testing.installation import Bucket, condition
from steeltown_testing.kubectl import Kubectl, Obj, eventually
from steeltown_testing.traffic import Traffic, traffic

API = "steeltown.dev/v1alpha1"
MODEL = "tiny"


def manifest() -> Obj:
    return {
        "apiVersion": API,
        "kind": "MLModel",
        "metadata": {"name": MODEL},
        "spec": {
            "stage": "Production",
            "objectives": {
                "quality": [{"metric": "accuracy", "min": "0.7"}],
                "serving": {"errorRate": "0.02", "latencyMilliseconds": 500, "slowRate": "0.05", "maxSlowdown": "10"},
            },
            "serving": {"replicas": 2, "resources": {"requests": {"cpu": "50m"}}},
            "rollout": {
                "steps": [{"weight": 20}, {"weight": 50}],
                "loadCheck": {"ratePerSecond": "50", "durationSeconds": 8},
                "progressDeadlineSeconds": 120,
                "bakeSeconds": 3,
            },
        },
    }


def bring(team: Kubectl, store: Bucket, name: str, threshold: float) -> None:
    run = {
        "apiVersion": API,
        "kind": "TrainingRun",
        "metadata": {"name": name},
        "spec": {
            "modelRef": {"name": MODEL},
            "task": tables.TASK,
            "import": store.put(f"rollout/{name}.onnx", tables.model(threshold, name=name)),
            "evaluation": {"data": store.put("rollout/evaluation.csv", tables.csv(seed=2))},
        },
    }
    team.apply(run)


def live(team: Kubectl) -> str:
    found = team.get("mlmodel", MODEL)["status"].get("versions", {}).get("live") or {}
    return str(found.get("run", ""))


def settled(team: Kubectl, run: str) -> bool:
    model = team.get("mlmodel", MODEL)
    done = not model["status"].get("rollout") and condition(model, "Ready").get("status") == "True"
    return done and live(team) == run


@pytest.fixture(scope="module")
def team(shared_team: Kubectl, store: Bucket) -> Kubectl:
    """A team with one version in production."""
    shared_team.apply(manifest())
    bring(shared_team, store, "first", 0.0)
    eventually(lambda: settled(shared_team, "first"), seconds=180, every=1)
    return shared_team


@pytest.fixture
def users(team: Kubectl) -> Iterator[Traffic]:
    with traffic(team, MODEL, [tables.request(x / 10) for x in range(-10, 10)], rate=60) as running:
        yield running


def test_wait_and_columns_tell_the_truth(team: Kubectl) -> None:
    for kind in ("Ready", "Promoted", "Available", "Eligible", "CanaryPassed"):
        team.wait(f"mlmodel/{MODEL}", f"condition={kind}", seconds=5)
    row = team.run("get", "mlm", MODEL, "--no-headers").split()
    assert row[:4] == [MODEL, "True", "Production", "first"]
    assert "Promoted" in row
    assert team.run("get", "trun", "first", "--no-headers").split()[:3] == ["first", "True", "Succeeded"]


def test_diff_is_empty_while_the_operator_works(team: Kubectl) -> None:
    done = team.attempt("diff", "-f", "-", stdin=json.dumps(manifest()))
    assert (done.returncode, done.stdout) == (0, "")


def test_describe_shows_what_happened(team: Kubectl) -> None:
    text = team.run("describe", "mlmodel", MODEL)
    assert "Promoted" in text
    assert "first (sha256:" in text


def test_lost_status_comes_back_and_no_traffic_moves(team: Kubectl, users: Traffic) -> None:
    before = team.get("mlmodel", MODEL)
    service = team.get("service", MODEL)
    empty = json.dumps([{"op": "remove", "path": "/status"}])
    team.run("patch", "mlmodel", MODEL, "--subresource=status", "--type=json", "-p", empty)

    def told(model: Obj) -> list[tuple[str, str, str]]:
        return [(c["type"], c["status"], c["reason"]) for c in model["status"].get("conditions", [])]

    eventually(lambda: told(team.get("mlmodel", MODEL)), until=lambda x: x == told(before), seconds=20)
    assert team.get("service", MODEL)["spec"] == service["spec"]
    assert users.stop().failed == 0


def test_operator_that_dies_mid_canary_finishes_the_rollout_and_no_request_fails(
    everywhere: Kubectl, team: Kubectl, store: Bucket, users: Traffic
) -> None:
    bring(team, store, "second", 0.05)
    eventually(lambda: _phase(team) == "Shifting", seconds=120)
    everywhere.run("-n", "steeltown-system", "delete", "pod", "-l", "app.kubernetes.io/component=operator")
    eventually(lambda: settled(team, "second"), seconds=180, every=1)
    totals = users.stop()
    assert totals.failed == 0, totals.failures
    assert len(totals.digests) == 2
    history = team.get("mlmodel", MODEL)["status"]["history"]
    assert [(h["run"], h["outcome"]) for h in history][:1] == [("second", "Promoted")]


def test_weight_is_seen_and_withdrawn_promotion_cuts_it(team: Kubectl, store: Bucket, users: Traffic) -> None:
    """I6 on real pods: from the middle of a canary, traffic goes back to 0 and the live version stays."""
    before = live(team)
    bring(team, store, "third", -0.05)
    weights = {20, 50}
    eventually(lambda: _rollout(team).get("observedWeight") in weights, seconds=120)
    team.run("delete", "trainingrun", "third")  # the candidate's record goes: nothing is left to promote
    eventually(lambda: not _rollout(team), seconds=60)
    assert live(team) == before
    routes = [p["metadata"].get("annotations", {}).get("steeltown.dev/route", "{}") for p in _serving_pods(team)]
    assert all(json.loads(r).get("weight", 0) == 0 for r in routes), routes
    totals = users.stop()
    assert totals.failed == 0, totals.failures
    assert sum(sorted(totals.digests.values())[:-1]) <= 0.5 * totals.sent


def test_delete_leaves_nothing(team: Kubectl) -> None:
    team.run("delete", "mlmodel", MODEL, "--timeout=30s")
    team.run("delete", "trainingrun", "--all", "--timeout=30s")
    kinds = "deployments,services,jobs,pods"
    eventually(
        lambda: team.find(kinds, "-l", "app.kubernetes.io/managed-by=steeltown"), until=lambda x: not x, seconds=60
    )


def _rollout(team: Kubectl) -> dict[str, Any]:
    found: dict[str, Any] = team.get("mlmodel", MODEL)["status"].get("rollout") or {}
    return found


def _phase(team: Kubectl) -> str:
    return str(_rollout(team).get("phase", ""))


def _serving_pods(team: Kubectl) -> list[Obj]:
    return team.find("pods", "-l", f"steeltown.dev/model={MODEL},steeltown.dev/track=serving")
