"""What is deleted of a model's children: what nobody asks for, is ours by uid, and answers no user."""

from __future__ import annotations

from typing import Any

import pytest
from steeltown.api.mlmodel import Phase
from steeltown.core.children import serving
from steeltown.core.children.prune import unwanted
from steeltown.core.observed.model import ObservedModel
from steeltown.core.plan import Delete, Obj
from steeltown.core.record import Version
from steeltown_testing.structs import NEW, OLD, ROOT, ago, case, fleet, situation

OLDER = Version(run="m-v0", digest="sha256:" + "0" * 64)
LIVE, CANARY, BEFORE = (fleet(v, "ready") for v in (OLD, NEW, OLDER))
FRESH = fleet(OLD, "ready", fresh=True)
STRANGER = [{"kind": "MLModel", "uid": "uid-of-another-m", "controller": True}]
ALL_SERVICES = ("m", "m-canary", "m-baseline")


def changed(obj: Obj, **metadata: Any) -> Obj:
    return {**obj, "metadata": {**obj["metadata"], **metadata}}


def world(*deployments: Obj, selector: dict[str, str] | None = None, services: tuple[Obj, ...] = ()) -> ObservedModel:
    """All that the model has; `selector` in place of what its Service selects."""
    seen = situation(Phase.SHIFTING).world
    assert seen.service is not None
    own = seen.service
    if selector is not None:
        own = {**own, "spec": {**own["spec"], "selector": selector}}
    known = [changed(s, uid=f"uid-of-service-{s['metadata']['name']}") for s in (own, *services)]
    fields = {f: getattr(seen, f) for f in ObservedModel.__dataclass_fields__}
    return ObservedModel(
        **fields
        | {
            "service": known[0],
            "services": {s["metadata"]["name"]: s for s in known},
            "deployments": {d["metadata"]["name"]: d for d in deployments},
        }
    )


@pytest.mark.parametrize(
    ("deployments", "asked", "gone"),
    [
        # what somebody asks for stays
        ((LIVE.deployment, CANARY.deployment), (LIVE.name, CANARY.name), []),
        ((LIVE.deployment, CANARY.deployment), (LIVE.name,), [CANARY.name]),
        ((LIVE.deployment, CANARY.deployment, BEFORE.deployment), (CANARY.name,), [BEFORE.name]),
        ((LIVE.deployment, FRESH.deployment), (LIVE.name, FRESH.name), []),
        ((LIVE.deployment, FRESH.deployment), (LIVE.name,), [FRESH.name]),
        # what the Service selects stays, whoever asks
        ((LIVE.deployment,), (), []),
        ((LIVE.deployment, CANARY.deployment), (), [CANARY.name]),
        # what is not ours by uid stays
        ((changed(CANARY.deployment, ownerReferences=STRANGER),), (), []),
        ((changed(CANARY.deployment, ownerReferences=[]),), (), []),
        (
            (changed(CANARY.deployment, ownerReferences=[{**STRANGER[0], "uid": "uid-of-m", "controller": False}]),),
            (),
            [],
        ),
        # what goes already is not told again
        ((changed(CANARY.deployment, deletionTimestamp=ago(1)),), (), []),
        ((), (LIVE.name,), []),
    ],
    ids=case,
)
def test_deployments(deployments: tuple[Obj, ...], asked: tuple[str, ...], gone: list[str]) -> None:
    seen = world(*deployments)
    assert unwanted(seen, deployments=asked, services=ALL_SERVICES) == tuple(
        Delete("Deployment", "team", name, f"uid-of-{name}") for name in gone
    )


SERVING = dict(LIVE.deployment["spec"]["template"]["metadata"]["labels"])


@pytest.mark.parametrize(
    ("selector", "stays"),
    [
        ({k: v for k, v in SERVING.items() if k.startswith("steeltown.dev/")}, {LIVE.name}),
        ({"steeltown.dev/version": NEW.id}, {CANARY.name}),  # a hand has turned it
        ({"steeltown.dev/model": "m"}, {LIVE.name, CANARY.name, FRESH.name}),  # and loosened it
        ({"steeltown.dev/model": "m", "mine": "yes"}, set()),
        ({}, set()),  # selects nothing
    ],
    ids=case,
)
def test_whatever_the_service_selects_stays(selector: dict[str, str], stays: set[str]) -> None:
    seen = world(LIVE.deployment, CANARY.deployment, FRESH.deployment, selector=selector)
    gone = {d.name for d in unwanted(seen, deployments=(), services=ALL_SERVICES)}
    assert {LIVE.name, CANARY.name, FRESH.name} - gone == stays


@pytest.mark.parametrize(
    ("asked", "gone"),
    [
        (ALL_SERVICES, []),
        (("m", "m-canary"), ["m-baseline"]),
        (("m",), ["m-canary", "m-baseline"]),
    ],
    ids=case,
)
def test_services(asked: tuple[str, ...], gone: list[str]) -> None:
    more = (serving.canary_service(ROOT, "m", NEW), serving.baseline_service(ROOT, "m", OLD))
    seen = world(LIVE.deployment, services=more)
    assert unwanted(seen, deployments=(), services=asked) == tuple(
        Delete("Service", "team", name, f"uid-of-service-{name}") for name in gone
    )


def test_service_of_somebody_else_stays() -> None:
    theirs = changed(serving.canary_service(ROOT, "m", NEW), ownerReferences=STRANGER)
    assert unwanted(world(LIVE.deployment, services=(theirs,)), deployments=(), services=("m",)) == ()


def test_without_a_service_only_what_is_asked_for_stays() -> None:
    seen = situation(Phase.SHIFTING, live=None).world
    gone = unwanted(seen, deployments=(CANARY.name,), services=ALL_SERVICES)
    assert [d.name for d in gone] == [LIVE.name]
