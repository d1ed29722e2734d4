"""Routes to a canary, and the evidence that live requests leave behind.

The operator writes a `Route` into an annotation of each live Pod; the downward API shows it to the server
as a file. The server counts per *epoch*: a new epoch starts all counters at zero, so evidence belongs to
exactly one step of one rollout and no reader has to subtract. `GET /steeltown/evidence` returns `Evidence`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .histogram import Histogram

EVIDENCE_PATH: Final = "/steeltown/evidence"
ROUTE_ANNOTATION: Final = "steeltown.dev/route"
DIGEST_HEADER: Final = "steeltown-digest"
"""Response header of a server: digest of the model that gave the answer."""
NON_FINITE_HEADER: Final = "steeltown-non-finite"
"""Response header of a binary answer: JSON list of the outputs that hold NaN or infinity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What share of requests the live server hands to the canary, and under which epoch it counts.

    epoch: opaque; changes with every step of every rollout.
    weight: percent 0..100 of requests sent to `canary_url`; exact over any 100 consecutive requests.
    canary_url: base URL ("http://host:port") or "" while weight is 0.
    canary_digest: digest of the model behind it; a canary that answers with another digest counts as an error.
    timeout_milliseconds: after this the live model answers and the canary's attempt counts as an error.
    """

    epoch: str
    weight: int = 0
    canary_url: str = ""
    canary_digest: str = ""
    timeout_milliseconds: int = 1000

    def to_json(self) -> str:
        return json.dumps(
            {
                "epoch": self.epoch,
                "weight": self.weight,
                "canaryURL": self.canary_url,
                "canaryDigest": self.canary_digest,
                "timeoutMilliseconds": self.timeout_milliseconds,
            },
            separators=(",", ":"),
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str) -> Route | None:
        """None for an empty text (no route). ValueError names what is wrong."""
        if not text.strip():
            return None
        raw = json.loads(text)
        if not isinstance(raw, dict):
            raise ValueError(f"route must be a JSON object, got {type(raw).__name__}")
        route = cls(
            epoch=str(raw["epoch"]),
            weight=int(raw.get("weight", 0)),
            canary_url=str(raw.get("canaryURL", "")),
            canary_digest=str(raw.get("canaryDigest", "")),
            timeout_milliseconds=int(raw.get("timeoutMilliseconds", 1000)),
        )
        if not 0 <= route.weight <= 100:
            raise ValueError(f"route.weight {route.weight} must be 0..100")
        if route.weight and not route.canary_url:
            raise ValueError("route.canaryURL must be set when weight is above 0")
        return route


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Requests of one side within one epoch.

    requests: infer requests answered or failed. errors: those that failed for a reason that is not the
    client's (5xx, timeout, broken connection, wrong digest, non-finite output). A client's bad request (4xx)
    counts in neither.
    """

    requests: int = 0
    errors: int = 0
    latency: Histogram = field(default_factory=Histogram)

    def to_json(self) -> dict[str, Any]:
        return {"requests": self.requests, "errors": self.errors, "latency": self.latency.to_json()}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Counts:
        return cls(
            requests=int(raw["requests"]), errors=int(raw["errors"]), latency=Histogram.from_json(raw["latency"])
        )

    @classmethod
    def merged(cls, parts: Iterable[Counts]) -> Counts:
        seen = list(parts)
        return cls(
            requests=sum(p.requests for p in seen),
            errors=sum(p.errors for p in seen),
            latency=Histogram.merged(p.latency for p in seen),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one server process saw within its current epoch.

    digest: of the model that this process serves. epoch, weight: of the route in force ("" and 0 without one).
    live: requests answered by this process's own model as first choice (fall-backs are not in it).
    canary: requests handed to the canary, judged by what the canary did, not by what the user got.
    instance: changes when the process restarts, so that a reset of counters can be told from a decrease.
    """

    instance: str
    digest: str
    epoch: str
    weight: int
    live: Counts
    canary: Counts

    def to_json(self) -> dict[str, Any]:
        return {
            "instance": self.instance,
            "digest": self.digest,
            "epoch": self.epoch,
            "weight": self.weight,
            "live": self.live.to_json(),
            "canary": self.canary.to_json(),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Evidence:
        return cls(
            instance=str(raw["instance"]),
            digest=str(raw["digest"]),
            epoch=str(raw["epoch"]),
            weight=int(raw["weight"]),
            live=Counts.from_json(raw["live"]),
            canary=Counts.from_json(raw["canary"]),
        )
