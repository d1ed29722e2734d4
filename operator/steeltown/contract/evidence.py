"""Routes to a canary, and the evidence that live requests leave behind.

The operator writes a `Route` into an annotation of each live Pod; the downward API shows it to the server
as a file. The server counts per *window*: a new window starts all counters at zero, so evidence belongs to
exactly one step of one rollout and no reader has to subtract. `GET /steeltown/evidence` returns `Evidence`.

Both are read strictly: whoever runs a Pod, or may edit an annotation, writes them. Counts that no server can have
counted (more errors than requests, a good answer without its latency) are no evidence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from . import faults, strict
from .faults import Fault
from .histogram import Histogram

EVIDENCE_PATH: Final = "/steeltown/evidence"
ROUTE_ANNOTATION: Final = "steeltown.dev/route"
DIGEST_HEADER: Final = "steeltown-digest"
"""Response header of a server: digest of the model that gave the answer."""
NON_FINITE_HEADER: Final = "steeltown-non-finite"
"""Response header of a binary answer: JSON list of the outputs that hold NaN or infinity."""

EVIDENCE_BYTES: Final = 64 << 10
"""A server's whole answer. Three histograms with every bucket at its largest count are half of that."""
ROUTE_BYTES: Final = 16 << 10

_NAME: Final = 256
_DIGEST: Final = 128
_URL: Final = 2048
_DAY_MILLISECONDS: Final = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What share of requests the live server hands to the canary, and under which window it counts.

    window: opaque; changes with every step of every rollout.
    weight: percent 0..100 of requests sent to `canary_url`; exact in every hundred requests.
    canary_url: base URL ("http://host:port") or "" while weight is 0.
    canary_digest: digest of the model behind it; a canary that answers with another digest counts as an error.
    mirror: percent 0..100 of the other requests of which the canary gets a copy; the live model answers the user.
    timeout_milliseconds: after this the live model answers and the canary's attempt counts as an error.
    """

    window: str
    weight: int = 0
    canary_url: str = ""
    canary_digest: str = ""
    mirror: int = 0
    timeout_milliseconds: int = 1000

    def to_json(self) -> str:
        raw = {
            "window": self.window,
            "epoch": self.window,  # what servers of version 0.1 read
            "weight": self.weight,
            "canaryURL": self.canary_url,
            "canaryDigest": self.canary_digest,
            "timeoutMilliseconds": self.timeout_milliseconds,
        }
        if self.mirror:
            raw["mirror"] = self.mirror
        return json.dumps(raw, separators=(",", ":"), sort_keys=True)

    @property
    def fingerprint(self) -> str:
        """Names this route among all others: 16 hexadecimal digits of the SHA-256 of its JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @classmethod
    def from_json(cls, text: str) -> Route | None:
        """None for an empty text (no route). ValueError names what is wrong."""
        if not text.strip():
            return None
        fields = strict.parse_object(text, "route", max_bytes=ROUTE_BYTES)
        route = cls(
            window=_window(fields),
            weight=fields.whole("weight", 0, most=100),
            canary_url=fields.text("canaryURL", _URL, ""),
            canary_digest=fields.text("canaryDigest", _DIGEST, ""),
            mirror=fields.whole("mirror", 0, most=100),
            timeout_milliseconds=fields.whole("timeoutMilliseconds", 1000, most=_DAY_MILLISECONDS),
        )
        for name, share in (("weight", route.weight), ("mirror", route.mirror)):
            if share and not route.canary_url:
                raise ValueError(f"route.canaryURL must be set when {name} is above 0")
        return route


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Requests of one side within one window.

    requests: infer requests answered or failed. errors: those that failed for a reason that is not the
    client's (5xx, timeout, broken connection, wrong digest, non-finite output). A client's bad request (4xx)
    counts in neither. latency: of each request that is no error, and of no other. faults: the first error of each kind.
    """

    requests: int = 0
    errors: int = 0
    latency: Histogram = field(default_factory=Histogram)
    faults: tuple[Fault, ...] = ()

    def to_json(self) -> dict[str, Any]:
        raw: dict[str, Any] = {
            "requests": self.requests,
            "errors": self.errors,
            "latency": self.latency.to_json(),
        }
        return raw | {"faults": [f.to_json() for f in self.faults]} if self.faults else raw

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], path: str = "counts") -> Counts:
        """ValueError names what is wrong. path: where it stands, for the message."""
        fields = strict.Fields(raw, path)
        requests = fields.whole("requests")
        errors = fields.whole("errors")
        latency = Histogram.from_json(fields.inner("latency").raw, f"{path}.latency")
        if errors + latency.total != requests:
            raise ValueError(
                f"{path} has {requests} requests, {errors} errors and {latency.total} latencies: every request must be "
                "an error or have a latency"
            )
        return cls(requests=requests, errors=errors, latency=latency, faults=faults.read(fields, errors))

    @classmethod
    def merged(cls, parts: Iterable[Counts]) -> Counts:
        seen = list(parts)
        return cls(
            requests=sum(p.requests for p in seen),
            errors=sum(p.errors for p in seen),
            latency=Histogram.merged(p.latency for p in seen),
            faults=faults.merged(p.faults for p in seen),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Requests that both models answered, compared answer by answer.

    compared: pairs of good answers. agreed: those within the tolerance of golden rows, texts and whole numbers equal.
    failed: copies that the canary did not answer well. difference: of the worst element of each compared pair, in
    millionths; |a - b| / max(1, |a|, |b|) for a float, 1 for anything else that differs, also a shape.
    """

    compared: int = 0
    agreed: int = 0
    failed: int = 0
    difference: Histogram = field(default_factory=Histogram)

    def to_json(self) -> dict[str, Any]:
        return {
            "compared": self.compared,
            "agreed": self.agreed,
            "failed": self.failed,
            "difference": self.difference.to_json(),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], path: str = "pairs") -> Pairs:
        """ValueError names what is wrong. path: where it stands, for the message."""
        fields = strict.Fields(raw, path)
        compared = fields.whole("compared")
        difference = Histogram.from_json(fields.inner("difference").raw, f"{path}.difference")
        if difference.total != compared:
            raise ValueError(f"{path}.compared is {compared}: must be the {difference.total} of {path}.difference")
        return cls(
            compared=compared,
            agreed=fields.whole("agreed", most=compared),
            failed=fields.whole("failed"),
            difference=difference,
        )

    @classmethod
    def merged(cls, parts: Iterable[Pairs]) -> Pairs:
        seen = list(parts)
        return cls(
            compared=sum(p.compared for p in seen),
            agreed=sum(p.agreed for p in seen),
            failed=sum(p.failed for p in seen),
            difference=Histogram.merged(p.difference for p in seen),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one server process saw within its current window.

    digest: of the model that this process serves.
    window, weight: of the route in force ("" and 0 without one).
    live: requests answered by this process's own model as first choice (fall-backs are not in it).
    canary: requests handed to the canary or copied to it, judged by what the canary did, not by what the user got.
    pairs: of the copied ones.
    instance: changes when the process restarts, so that a reset of counters can be told from a decrease.
    route: fingerprint of the route in force, "" without one: whoever bends a route cannot have its counts taken for
    those of the route that the operator wrote.
    """

    instance: str
    digest: str
    window: str
    weight: int
    live: Counts
    canary: Counts
    pairs: Pairs = field(default_factory=Pairs)
    route: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "instance": self.instance,
            "digest": self.digest,
            "window": self.window,
            "epoch": self.window,  # what operators of version 0.1 read
            "weight": self.weight,
            "live": self.live.to_json(),
            "canary": self.canary.to_json(),
            "pairs": self.pairs.to_json(),
            "route": self.route,
        }

    @classmethod
    def from_bytes(cls, body: bytes | bytearray) -> Evidence:
        """What a server answered. ValueError names what is wrong; nothing else is raised, whatever the bytes are."""
        return cls.from_json(strict.parse_object(body, "evidence", max_bytes=EVIDENCE_BYTES).raw)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Evidence:
        fields = strict.object_of(raw, "evidence")
        pairs = fields.maybe_inner("pairs")
        return cls(
            instance=fields.text("instance", _NAME),
            digest=fields.text("digest", _DIGEST),
            window=_window(fields),
            weight=fields.whole("weight", most=100),
            live=Counts.from_json(fields.inner("live").raw, "evidence.live"),
            canary=Counts.from_json(fields.inner("canary").raw, "evidence.canary"),
            pairs=Pairs.from_json(pairs.raw, pairs.path) if pairs else Pairs(),
            route=fields.text("route", _NAME, ""),
        )


def _window(fields: strict.Fields) -> str:
    return fields.text("window" if "window" in fields.raw else "epoch", _NAME)  # what version 0.1 calls it
