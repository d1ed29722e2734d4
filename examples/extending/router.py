"""The router of router.patch at work: the real planner, first as a canary begins, then as its requests are counted.

The world is that of the exploration tests, as it stands when a second version gets its first share.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from steeltown.contract.evidence import Counts, Evidence, Route
from steeltown.contract.histogram import Histogram
from steeltown.core.model import plan_model
from steeltown.core.plan import Apply, Key, Obj, Plan, Snapshot
from steeltown_testing.explore.scenarios import GOOD_A, GOOD_B, begun, create, in_step, retrain
from steeltown_testing.explore.schedule import MODEL, POLICY

explorer = begun(create(GOOD_A), retrain(GOOD_B)).until(in_step(0), within=120)
found = explorer.operator.store.snapshot(Key("MLModel", explorer.cluster.namespace, MODEL))
assert found is not None


def asked(seen: Snapshot, **serving: Any) -> Snapshot:
    spec = {**seen.root["spec"], "serving": {**seen.root["spec"]["serving"], **serving}}
    return replace(seen, root={**seen.root, "spec": spec})


def plan(seen: Snapshot) -> Plan:
    return plan_model(seen, explorer.cluster.now, POLICY)


def routes(made: Plan) -> list[Obj]:
    return [a.body for a in made.actions if isinstance(a, Apply) and a.body["kind"] == "HTTPRoute"]


def weights(route: Obj) -> dict[str, int]:
    return {r["name"]: r["weight"] for r in route["spec"]["rules"][0]["backendRefs"]}


def counted(seen: Snapshot, route: Obj, requests: int) -> Snapshot:
    """The route stands, and each Pod has counted so many requests in its window."""
    window = route["metadata"]["annotations"]["steeltown.dev/window"]
    latency = Histogram()
    latency.add(2_000, requests)
    told = Evidence(
        instance="1",
        digest="",
        window=window,
        weight=0,
        live=Counts(requests=requests, latency=latency),
        canary=Counts(),
        route=Route(window=window).fingerprint,
    )
    pods = seen.of_kind("Pod").values()
    members = {**seen.members, "HTTPRoute": {MODEL: route}}
    return replace(seen, members=members, evidence={p["metadata"]["uid"]: told for p in pods})


made = plan(asked(found, router="Gateway"))
assert made.status is not None
assert "serving.gateway must name the Gateway" in str(made.status["conditions"]), "what it cannot do is said"

seen = asked(found, router="Gateway", gateway="public")
(route,) = routes(plan(seen))
assert weights(route) == {"m": 80, "m-canary": 20}
assert route["spec"]["parentRefs"] == [{"name": "public"}]

made = plan(counted(seen, route, 1))
assert routes(made) == [], "what stands as it should is not written again"
assert made.status is None or made.status["rollout"]["step"] == 0, "one request is no evidence"

made = plan(counted(seen, route, 400))
assert made.status is not None
assert made.status["rollout"]["step"] == 1, "evidence from the Pods of both versions moves the rollout on"

root = {**seen.root, "status": made.status}
(route,) = routes(plan(replace(seen, root=root)))
assert weights(route) == {"m": 50, "m-canary": 50}

back = replace(seen, root={**root, "spec": {**root["spec"], "abort": "m-v2"}})
taken = plan(counted(back, route, 1))
assert taken.status is not None
assert taken.status["rollout"]["phase"] == "RollingBack"
(route,) = routes(plan(counted(replace(back, root={**back.root, "status": taken.status}), route, 1)))
assert weights(route) == {"m": 100}, "an abort takes the whole share away"
