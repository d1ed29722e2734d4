"""The router in the model server: a live Pod hands the canary its share, and answers itself when the canary fails.

The share is an annotation of each live Pod, which the server sees as a file. It counts per window and names the route
under which it counts, so what was counted under a bent route is told apart and counts for nothing. A share is given to
Pods that are listened to, and taken from all that our Deployments control.
"""

from __future__ import annotations

from dataclasses import replace

from ...api.mlmodel import MLModelSpec
from ...contract.evidence import ROUTE_ANNOTATION, Counts, Evidence, Route
from ..children.serving import PORT, TRACK_LABEL, VERSION_LABEL, service_url
from ..naming import canary_name
from ..observed import pods as podview
from ..observed.model import ObservedModel
from ..plan import Action, Annotate, Obj, Observe
from ..record import Version
from .router import Measured, Share


class ServerRouter:
    name = "Server"

    def refuses(self, spec: MLModelSpec) -> str:
        return ""

    def actions(self, world: ObservedModel, share: Share | None) -> tuple[Action, ...]:
        actions, ours = [], {p["metadata"]["uid"] for p in world.pods}
        for pod in world.claimed:
            meta = pod["metadata"]
            labels = meta.get("labels") or {}
            if labels.get(TRACK_LABEL) != "serving" or "deletionTimestamp" in meta:
                continue
            mine = share is not None and labels.get(VERSION_LABEL) == share.stable.id and meta["uid"] in ours
            wanted = _route(world, share).to_json() if share is not None and mine else None
            text = (meta.get("annotations") or {}).get(ROUTE_ANNOTATION)
            if text == wanted or (wanted is None and _harmless(text, world.route_of(pod))):
                continue
            actions.append(Annotate("Pod", meta["namespace"], meta["name"], meta["uid"], {ROUTE_ANNOTATION: wanted}))
        return tuple(actions)

    def in_force(self, world: ObservedModel, share: Share) -> bool:
        wanted = _route(world, share)
        return any(world.route_of(p) == wanted for p in world.pods_of(share.stable))

    def weight_in_force(self, world: ObservedModel, stable: Version, rollout: str) -> Share | None:
        routes = [r for p in world.pods_of(stable) if (r := world.route_of(p)) and r.window.startswith(rollout)]
        largest = max(routes, key=lambda r: r.weight, default=None)
        if largest is None:
            return None
        return Share(
            stable=stable,
            window=largest.window,
            weight=largest.weight,
            canary=Version(run="", digest=largest.canary_digest) if largest.canary_digest else None,
            timeout_milliseconds=largest.timeout_milliseconds,
        )

    def observe(self, world: ObservedModel, share: Share) -> tuple[Observe, ...]:
        return tuple(
            Observe(uid=p["metadata"]["uid"], url=f"http://{_host(ip)}:{PORT}")
            for p in _answering(world, share)
            if (ip := (p.get("status") or {}).get("podIP"))
        )

    def measured(self, world: ObservedModel, share: Share) -> Measured:
        pods, fingerprint = _answering(world, share), _route(world, share).fingerprint
        told = [_named(e, p) for p in pods if (e := world.evidence.get(p["metadata"]["uid"]))]
        # Servers of version 0.1 do not name their route.
        counted = [e for e in told if e.window == share.window and e.route in ("", fingerprint)]
        return Measured(
            canary=Counts.merged(e.canary for e in counted),
            live=Counts.merged(e.live for e in counted),
            weight=_weight(told),
            complete=bool(pods) and len(counted) == len(pods),
        )


def _named(evidence: Evidence, pod: Obj) -> Evidence:
    """With the name of the Pod behind the first error of each kind: its log has more."""
    name = pod["metadata"]["name"]

    def named(counts: Counts) -> Counts:
        return replace(counts, faults=tuple(replace(f, first=f"{f.first} [Pod {name}]") for f in counts.faults))

    return replace(evidence, live=named(evidence.live), canary=named(evidence.canary))


def _weight(told: list[Evidence]) -> int | None:
    return max((e.weight for e in told), default=None)


def _answering(world: ObservedModel, share: Share) -> list[Obj]:
    return [p for p in world.pods_of(share.stable) if podview.is_ready(p)]


def _host(ip: str) -> str:
    """As a URL has it: an address of version 6 in brackets."""
    return f"[{ip}]" if ":" in ip else ip


def _route(world: ObservedModel, share: Share) -> Route:
    if share.canary is None or not share.weight:
        return Route(window=share.window)
    return Route(
        window=share.window,
        weight=share.weight,
        canary_url=service_url(canary_name(world.name), world.namespace),
        canary_digest=share.canary.digest,
        timeout_milliseconds=share.timeout_milliseconds,
    )


def _harmless(text: str | None, route: Route | None) -> bool:
    """No route, or one that sends nothing away: not worth a write."""
    return not text or (route is not None and route.weight == 0 and route.mirror == 0)
