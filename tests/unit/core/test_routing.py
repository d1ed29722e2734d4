"""The router in the model server: which Pods carry which share, what is read back of it, and what is believed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from steeltown.api.mlmodel import MLModelSpec, Phase
from steeltown.contract.evidence import ROUTE_ANNOTATION, Route
from steeltown.contract.faults import Fault
from steeltown.core.plan import Annotate, Observe
from steeltown.core.record import Version
from steeltown.core.routing import SERVER, router_for
from steeltown.core.routing.router import Measured, Share
from steeltown_testing.structs import (
    ID,
    NEW,
    OLD,
    Fleet,
    case,
    counts,
    fleet,
    off_route,
    situation,
    step_route,
    stray,
    told,
)

SHARE = Share(stable=OLD, window=f"{ID}-0", weight=10, canary=NEW, timeout_milliseconds=1000)
OFF = Share(stable=OLD, window=f"{ID}-off")
NEVER = Route(window="x", weight=10, canary_url="http://theirs", canary_digest="d")
SILENT = step_route(mirror=10, weight=0)


def world(**situated: Any) -> Any:
    return situation(Phase.SHIFTING, **situated).world


def test_the_server_router_does_all_that_a_spec_can_ask() -> None:
    spec = MLModelSpec.model_validate({})
    assert router_for(spec) is SERVER
    assert (SERVER.name, SERVER.refuses(spec)) == ("Server", "")


def bent(route: Route | None) -> Fleet:
    """The old version, whose Deployment somebody has changed since its Pods were made."""
    made = fleet(OLD, "ready", route=route)
    deployment = json.loads(json.dumps(made.deployment))
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "theirs"
    return replace(made, deployment=deployment)


@pytest.mark.parametrize(
    ("share", "situated", "expected"),
    [
        # every Pod of the stable version gets the share, once
        (SHARE, {}, {"old-0": step_route()}),
        (replace(SHARE, timeout_milliseconds=1500), {}, {"old-0": step_route(timeout_milliseconds=1500)}),
        (SHARE, {"old": "ready unready starting"}, dict.fromkeys(("old-0", "old-1", "old-2"), step_route())),
        (SHARE, {"route": step_route()}, {}),
        (SHARE, {"route": step_route(1)}, {"old-0": step_route()}),
        (SHARE, {"route": "{"}, {"old-0": step_route()}),
        (SHARE, {"route": json.dumps(json.loads(step_route().to_json()))}, {"old-0": step_route()}),  # bytes, not sense
        (OFF, {"route": step_route()}, {"old-0": off_route("off")}),
        (OFF, {}, {"old-0": off_route("off")}),
        (replace(SHARE, weight=0), {}, {"old-0": off_route("0")}),
        (replace(SHARE, canary=None), {}, {"old-0": off_route("0")}),
        # and nobody else
        (SHARE, {"old": "leaving"}, {}),
        (SHARE, {"new": fleet(NEW, "ready", route=NEVER), "route": step_route()}, {"new-0": None}),
        (SHARE, {"fresh": fleet(OLD, "ready", fresh=True, route=NEVER), "route": step_route()}, {}),
        (SHARE, {"pods": [stray(fleet(OLD, "ready").deployment)], "route": step_route()}, {}),
        (replace(SHARE, stable=NEW, canary=None), {"route": step_route()}, {"old-0": None, "new-0": off_route("0")}),
        # a Pod of ours that is not listened to, while its template is bent or replaced, hands nothing over
        (SHARE, {"old": bent(step_route())}, {"old-0": None}),
        (OFF, {"old": bent(step_route())}, {"old-0": None}),
        (None, {"old": bent(step_route())}, {"old-0": None}),
        (SHARE, {"old": bent(None)}, {}),
        # without a share nothing is handed over; what hands nothing over is not worth a write
        (None, {"route": step_route()}, {"old-0": None}),
        (None, {"route": NEVER}, {"old-0": None}),
        (None, {"route": SILENT}, {"old-0": None}),
        (None, {"route": "{"}, {"old-0": None}),
        (None, {"route": off_route("bake")}, {}),
        (None, {"route": ""}, {}),
        (None, {}, {}),
    ],
    ids=case,
)
def test_actions(share: Share | None, situated: dict[str, Any], expected: dict[str, Route | None]) -> None:
    seen = world(**situated)
    names = {f"{word}-{i}": f"m-{v.id}-{i}" for word, v in (("old", OLD), ("new", NEW)) for i in range(3)}
    wanted = [(names[n], f"uid-of-{names[n]}", r.to_json() if r else None) for n, r in expected.items()]
    made = [a for a in SERVER.actions(seen, share) if isinstance(a, Annotate)]
    assert [(a.name, a.uid, a.annotations[ROUTE_ANNOTATION]) for a in made] == wanted


@pytest.mark.parametrize(
    ("situated", "expected"),
    [
        ({"route": step_route()}, True),
        ({"old": "unready", "route": step_route()}, True),
        ({}, False),
        ({"route": step_route(1)}, False),
        ({"route": step_route(canary_url="http://theirs")}, False),
        ({"route": step_route(canary_digest="d")}, False),
        ({"route": step_route(timeout_milliseconds=5)}, False),
        ({"route": step_route(mirror=5)}, False),
        ({"route": "[]"}, False),
        ({"old": "leaving", "route": step_route()}, False),
        ({"new": fleet(NEW, "ready", route=step_route())}, False),
    ],
    ids=case,
)
def test_share_is_in_force_where_a_pod_carries_exactly_it(situated: dict[str, Any], expected: bool) -> None:
    assert SERVER.in_force(world(**situated), SHARE) is expected


def test_timeout_of_the_share_that_stands_is_kept() -> None:
    seen = world(route=step_route(timeout_milliseconds=1500))
    found = SERVER.weight_in_force(seen, OLD, ID)
    assert found is not None
    assert SERVER.actions(seen, found) == ()


def mixed(*routes: Route | None) -> dict[str, Any]:
    """One Pod of the old version for each."""
    made = fleet(OLD, " ".join("ready" for _ in routes))
    for pod, route in zip(made.pods, routes, strict=True):
        if route is not None:
            pod["metadata"]["annotations"] = {ROUTE_ANNOTATION: route.to_json()}
    return {"old": made}


@pytest.mark.parametrize(
    ("situated", "window", "weight"),
    [
        ({"route": step_route()}, "0", 10),
        (mixed(step_route(), step_route(1), None), "1", 50),
        (mixed(off_route("off"), step_route()), "0", 10),
        ({"route": off_route("off")}, "off", 0),
        ({"route": NEVER}, None, 0),
        ({"route": "{"}, None, 0),
        ({}, None, 0),
        ({"old": None}, None, 0),
        ({"new": fleet(NEW, "ready", route=step_route())}, None, 0),
    ],
    ids=case,
)
def test_largest_share_of_a_rollout_that_stands_written(
    situated: dict[str, Any], window: str | None, weight: int
) -> None:
    seen = world(**situated)
    found = SERVER.weight_in_force(seen, OLD, ID)
    if window is None:
        assert found is None
        return
    canary = Version(run="", digest=NEW.digest) if weight else None
    assert found == Share(stable=OLD, window=f"{ID}-{window}", weight=weight, canary=canary, timeout_milliseconds=1000)
    if len(seen.pods_of(OLD)) == 1:
        assert SERVER.actions(seen, found) == ()  # to want it again changes nothing


@pytest.mark.parametrize(
    ("situated", "expected"),
    [
        ({"old": "ready ready"}, 2),
        ({"old": "ready unready"}, 1),
        ({"old": "leaving"}, 0),
        ({"old": None}, 0),
        ({"pods": [stray(fleet(OLD, "ready").deployment)]}, 1),
    ],
    ids=case,
)
def test_evidence_is_read_from_the_pods_that_answer(situated: dict[str, Any], expected: int) -> None:
    wanted = [Observe(uid=f"uid-of-m-{OLD.id}-{i}", url="http://10.0.0.1:8080") for i in range(expected)]
    assert list(SERVER.observe(world(**situated), SHARE)) == wanted


def test_pod_without_an_address_is_not_read_yet() -> None:
    made = fleet(OLD, "ready")
    del made.pods[0]["status"]["podIP"]
    assert SERVER.observe(world(old=made), SHARE) == ()


def test_address_of_version_six_is_written_as_a_url_has_it() -> None:
    made = fleet(OLD, "ready")
    made.pods[0]["status"]["podIP"] = "fd00::1"
    (wanted,) = SERVER.observe(world(old=made), SHARE)
    assert wanted.url == "http://[fd00::1]:8080"


HERE = told(step_route(), canary=counts(10, 1), live=counts(90))
ELSEWHERE = told(step_route(1), canary=counts(500), live=counts(500))
BENT = told(step_route(), canary=counts(500), live=counts(500), fingerprint="of another route")
OF_BEFORE = told(step_route(), canary=counts(10, 1), live=counts(90), fingerprint="")  # servers of version 0.1


def sum_of(pods: int, *, weight: int | None = 10, complete: bool = False) -> Measured:
    return Measured(canary=counts(10 * pods, pods), live=counts(90 * pods), weight=weight, complete=complete)


def test_first_error_of_each_kind_says_which_pod_has_more() -> None:
    broken = replace(
        counts(10, 2), faults=(Fault(kind="timeout", first="late"), Fault(kind="status 500", first="boom"))
    )
    boom = replace(counts(10, 1), faults=(Fault(kind="status 500", first="bang"),))
    evidence = tuple(told(step_route(), canary=c) for c in (broken, boom))
    found = SERVER.measured(world(old="ready ready", evidence=evidence), SHARE)
    assert found.canary.faults == (
        Fault(kind="timeout", first=f"late [Pod m-{OLD.id}-0]"),
        Fault(kind="status 500", first=f"boom [Pod m-{OLD.id}-0]", count=2),
    )


@pytest.mark.parametrize(
    ("situated", "expected"),
    [
        ({"evidence": HERE}, sum_of(1, complete=True)),
        ({"evidence": OF_BEFORE}, sum_of(1, complete=True)),
        ({"old": "ready ready", "evidence": (HERE, HERE)}, sum_of(2, complete=True)),
        ({"old": "ready ready", "evidence": (HERE, None)}, sum_of(1)),
        ({"old": "ready ready", "evidence": (HERE, ELSEWHERE)}, sum_of(1, weight=50)),
        ({"old": "ready ready", "evidence": (HERE, BENT)}, sum_of(1)),
        ({"old": "ready unready", "evidence": (HERE,)}, sum_of(1, complete=True)),
        ({"evidence": ELSEWHERE}, sum_of(0, weight=50)),
        ({"evidence": BENT}, sum_of(0)),
        ({"evidence": told(step_route(1), canary=counts(500), fingerprint="")}, sum_of(0, weight=50)),
        ({"old": "leaving", "evidence": HERE}, sum_of(0, weight=None)),
        ({}, sum_of(0, weight=None)),
        ({"old": "unready"}, sum_of(0, weight=None)),
        ({"old": None}, sum_of(0, weight=None)),
    ],
    ids=case,
)
def test_measured(situated: dict[str, Any], expected: Measured) -> None:
    assert SERVER.measured(world(**situated), SHARE) == expected
