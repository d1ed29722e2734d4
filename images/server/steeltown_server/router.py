"""The live server as router: while a rollout runs, it hands the canary its share and answers for it when it fails.

The operator's wish arrives as a file (an annotation of the Pod, through the downward API). The kubelet swaps
symlinks, so the file is watched by the identity of what the path resolves to; polling a stat four times a second
costs less than a watch and works on every volume. A file that does not parse changes nothing: the last good route
stays in force, the fault is logged once and counted. An empty or absent file is no route.

The share is exact: of every hundred requests exactly `weight` are the canary's, and a canary at 5 % never sees 6.
Which ones is drawn: turns that can be foretold are aimed at, by a client that sends a heavy and a light request in
turn and means no harm, or by one that does. So each hundred is cut into as many blocks as it has turns, in an order of
its own, and the turn of each block is any of its places.

A canary's fault is never the user's: status, deadline, broken connection, another digest than the route names,
non-finite output or too much under way all count as its error, and the live model answers the same request.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from steeltown.contract import evidence
from steeltown.contract.evidence import Route
from steeltown.contract.histogram import bucket

from . import log
from .budget import Budget
from .canary import Address, CanaryAnswer, CanaryFailure, CanaryPool, Outcome
from .counters import Counters, WindowCounts
from .http import JSON, Request
from .pairs import Pair

POLL_SECONDS: Final = 0.25
ABSENT_POLLS: Final = 2  # a path may fail to resolve while the kubelet swaps directories
DIGEST_HEADER: Final = evidence.DIGEST_HEADER.encode()
NON_FINITE_HEADER: Final = evidence.NON_FINITE_HEADER.encode()
NO_ROUTE: Final = Route(window="")

_random: Final = random.SystemRandom()  # the operating system's: what was drawn tells nothing of what comes

FileIdentity = tuple[int, int, int]


class HandedOver(Protocol):
    """A valid request that the canary answers, or else the live model."""

    counted_in: WindowCounts

    def answer_from_canary(self, answer: CanaryAnswer) -> None: ...

    def answer_live(self) -> None: ...


def drawn_turns(share: int) -> list[bool]:
    """A hundred turns of which `share` (0..100) are true, spread evenly and not to be foretold.

    >>> sum(drawn_turns(37))
    37
    """
    rarer = min(share, 100 - share)
    turns = [share > 50] * 100
    if not rarer:
        return turns
    ends = [100 * (i + 1) // rarer for i in range(rarer)]
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    _random.shuffle(sizes)
    start = 0
    for size in sizes:
        turns[start + _random.randrange(size)] = share <= 50
        start += size
    return turns


class Router:
    """Decides per request, and applies routes as they come. All on the event loop."""

    def __init__(
        self, counters: Counters, *, max_in_flight: int, body_limit_bytes: int, budget: Budget | None = None
    ) -> None:
        """budget: for what is under way to the canary and back; None: one of its own."""
        self._counters = counters
        self._budget = budget or Budget(limit_bytes=4 * body_limit_bytes, most_connections=1)
        self._max_in_flight = max_in_flight
        self._body_limit_bytes = body_limit_bytes
        self._turns: list[bool] = []
        self._copies: list[bool] = []
        self._pool: CanaryPool | None = None
        self._faults_logged: set[str] = set()
        self.route = NO_ROUTE
        self.active = False

    @property
    def weight(self) -> int:
        return self.route.weight

    def takes_next(self) -> bool:
        """Whether the next request is the canary's. Asking consumes the turn."""
        if not self._turns:
            self._turns = drawn_turns(self.route.weight)
        return self._turns.pop()

    def mirrors_next(self) -> bool:
        """Whether the canary gets a copy of the next request that it does not take."""
        if not self._copies:
            self._copies = drawn_turns(self.route.mirror)
        return self._copies.pop()

    def apply(self, route: Route | None) -> None:
        """Takes force at once: requests that begin from now on are counted for it. ValueError: unusable."""
        given, route = route, NO_ROUTE if route is None else route
        if route == self.route:
            return
        active = bool(route.weight or route.mirror)
        if active and route.timeout_milliseconds < 1:
            raise ValueError(f"route.timeoutMilliseconds {route.timeout_milliseconds} must be at least 1")
        self._aim(Address.of(route.canary_url) if active else None)
        self._counters.begin(given)
        self._turns.clear()
        self._copies.clear()
        self._faults_logged.clear()
        self.route = route
        self.active = active
        log.info(
            "route applied",
            window=route.window,
            weight=route.weight,
            mirror=route.mirror,
            canary=route.canary_url,
            canaryDigest=route.canary_digest,
            route=self._counters.current.route,
        )

    def _aim(self, address: Address | None) -> None:
        if self._pool is not None and self._pool.address != address:
            self._pool.close()
            self._pool = None
        if self._pool is None and address is not None:
            self._pool = CanaryPool(
                address,
                max_in_flight=self._max_in_flight,
                body_limit_bytes=self._body_limit_bytes,
                budget=self._budget,
            )

    def hand_over(self, job: HandedOver, request: Request) -> None:
        """Only for a request that is valid for the live model, so that a 4xx of the canary is the canary's fault."""

        def done(answer: CanaryAnswer | None) -> None:
            if answer is None:
                job.answer_live()
            else:
                job.answer_from_canary(answer)

        self._ask(request, job.counted_in, done)

    def copy(self, request: Request, window_counts: WindowCounts) -> Pair:
        """The same question to the canary, beside the live model."""
        pair = Pair(window_counts.pairing)

        def done(answer: CanaryAnswer | None) -> None:
            if answer is None:
                pair.canary_failed()
            else:
                json_length = answer.headers.get(b"inference-header-content-length")
                pair.canary(answer.body, None if json_length is None else int(json_length))

        self._ask(request, window_counts, done)
        return pair

    def _ask(self, request: Request, window_counts: WindowCounts, done: Callable[[CanaryAnswer | None], None]) -> None:
        """Counts what the canary did, and hands on its answer if it is good."""
        pool = self._pool
        assert pool is not None, "a turn is only given while the route is active, and then there is a pool"
        route = self.route
        started = time.perf_counter_ns()

        def judge(outcome: Outcome) -> None:
            microseconds = (time.perf_counter_ns() - started) // 1000
            failure = _fault(outcome, route.canary_digest)
            if failure is None:
                assert isinstance(outcome, CanaryAnswer)
                window_counts.canary.ok(bucket(microseconds))
                self._counters.count_canary("ok")
                done(outcome)
            else:
                kind = failure.message.partition(":")[0] if failure.kind == "status" else failure.kind
                window_counts.canary.error(kind, failure.message)
                self._counters.count_canary(failure.kind)
                self._log_once(route, failure)
                done(None)

        pool.send(_message(request, pool.address), route.timeout_milliseconds / 1000, judge)

    def _log_once(self, route: Route, failure: CanaryFailure) -> None:
        """The first fault of each kind under a route: a failing canary must not fill the log."""
        if route == self.route and failure.kind not in self._faults_logged:
            self._faults_logged.add(failure.kind)
            log.warning(
                "canary failed, answering with the live model",
                window=route.window,
                kind=failure.kind,
                error=failure.message,
            )

    def close(self) -> None:
        self._aim(None)


def _fault(outcome: Outcome, digest: str) -> CanaryFailure | None:
    if isinstance(outcome, CanaryFailure):
        return outcome
    if outcome.status != 200:
        return CanaryFailure("status", f"status {outcome.status}: {outcome.body[:200].decode('utf-8', 'replace')}")
    found = outcome.headers.get(DIGEST_HEADER, b"").decode("latin-1")
    if found != digest:
        return CanaryFailure("digest", f"answered by {found or 'a server without a digest'}, expected {digest}")
    if NON_FINITE_HEADER in outcome.headers:
        names = outcome.headers[NON_FINITE_HEADER].decode("latin-1")
        return CanaryFailure("non_finite", f"NaN or infinity in output {names}")
    return None


def _message(request: Request, address: Address) -> bytes:
    """The user's request with the headers that give its body a meaning, and no other."""
    json_length = request.headers.get(b"inference-header-content-length")
    return b"POST %b HTTP/1.1\r\nhost: %b\r\ncontent-type: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
        request.target,
        address.header,
        request.headers.get(b"content-type", JSON),
        b"" if json_length is None else b"inference-header-content-length: %b\r\n" % json_length,
        len(request.body),
        request.body,
    )


class RouteWatch:
    """Reads the route file when it changes and applies it to the router."""

    def __init__(self, path: Path, router: Router, counters: Counters) -> None:
        self._path = path
        self._router = router
        self._counters = counters
        self._seen: FileIdentity | None = None
        self._rejected: FileIdentity | str | None = None
        self._absent_polls = 0

    def poll(self) -> None:
        """Cheap when nothing changed: one stat."""
        try:
            status = os.stat(self._path)
            identity = (status.st_mtime_ns, status.st_ino, status.st_size)
            if identity == self._seen:
                return
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            self._absent()
            return
        except OSError as error:
            self._reject(str(error), str(error))
            return
        self._seen = identity
        self._absent_polls = 0
        try:
            self._router.apply(Route.from_json(text))
        except (ValueError, KeyError, TypeError) as error:
            self._reject(f"{type(error).__name__}: {error}", identity)
        else:
            self._rejected = None

    def _absent(self) -> None:
        self._seen = None
        self._absent_polls += 1
        if self._absent_polls == ABSENT_POLLS:
            self._router.apply(None)

    def _reject(self, message: str, cause: FileIdentity | str) -> None:
        """Once per cause: the same bad file is met at every poll."""
        if cause != self._rejected:
            self._rejected = cause
            self._counters.route_errors += 1
            log.error("invalid route, keeping the last valid one", path=str(self._path), error=message)
