"""The step: golden rows from the store, wait for both sides, warm up, measure in turns, report.

Exit code 0 means that a report was written, with numbers or with the problem that prevented them; whether the
candidate is good enough is the operator's decision, and no number is no evidence.
"""

from __future__ import annotations

import http.client
import logging
import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from steeltown.contract import files, strict
from steeltown.contract.faults import MOST_KINDS
from steeltown.contract.files import ExitCode
from steeltown.contract.golden import Golden
from steeltown.contract.histogram import SUB, Histogram
from steeltown.contract.plans import FetchPlan, LoadCheckPlan
from steeltown.contract.reports import InterfaceReport, LoadReport, LoadSide

from .. import fetch, interface, plans, store
from ..environment import Environment
from ..reasons import Reason, StepFailed
from .exchange import READY_PATH, Target, target
from .generator import Side, Tally

log = logging.getLogger(__name__)

READY_SECONDS: Final = 30.0
INTERNAL_ERROR_EXIT: Final = 1
# The generator's own lateness must stay far below what it measures, or nothing is known.
LAG_SHARE: Final = 0.1
LAG_FLOOR_MILLISECONDS: Final = 5.0
SENT_SHARE: Final = 0.95


def run(env: Mapping[str, str]) -> tuple[str, int]:
    """The text of the LoadReport and the exit code."""
    try:
        environment = Environment.of(env)
        plan = plans.read(LoadCheckPlan, environment.plan)
        check(plan)
        return encode(checked(plan, environment.live_digest, environment.max_artifact_bytes)), ExitCode.OK
    except StepFailed as failure:
        code = failure.exit_code if failure.reason is Reason.INVALID_PLAN else ExitCode.OK
        return encode(LoadReport(problem=f"{failure.reason}: {failure.message}")), code
    except Exception as error:
        log.exception("load check failed")
        text = f"{Reason.INTERNAL_ERROR}: {type(error).__name__}: {' '.join(str(error).split())}"
        return encode(LoadReport(problem=text)), INTERNAL_ERROR_EXIT


def check(plan: LoadCheckPlan) -> None:
    """StepFailed if a number of the plan cannot be used."""
    positive = ("latency_milliseconds", "rate_per_second", "block_seconds", "blocks", "timeout_seconds")
    for name in positive:
        if not 0 < getattr(plan, name) < math.inf:
            raise StepFailed(
                Reason.INVALID_PLAN, f"invalid {name} {getattr(plan, name)}: must be greater than 0", ExitCode.USAGE
            )
    if not 0 <= plan.warm_up_seconds < math.inf:
        raise StepFailed(
            Reason.INVALID_PLAN, f"invalid warm_up_seconds {plan.warm_up_seconds}: must be 0 or greater", ExitCode.USAGE
        )


def checked(plan: LoadCheckPlan, live: str, limit_bytes: int) -> LoadReport:
    """The interface beside that of the model `live` ("" for none), and the load. Neither waits for the other's word.

    A baseline whose inputs are others gets its own golden rows: what it does with the candidate's says nothing. One of
    which the store does not know what it takes is sent none.
    """
    found, same_inputs = (None, True) if not live else compared(plan, live)
    if found is not None and found.problem:
        plan = replace(plan, baseline_url="")
    try:
        rows = golden_rows(plan.golden, limit_bytes)
        own = FetchPlan(store=plan.golden.store, digest=live)
        beside = rows if same_inputs or not plan.baseline_url else golden_rows(own, limit_bytes)
        return replace(measure(plan, rows, beside), interface=found)
    except StepFailed as failure:
        return LoadReport(problem=f"{failure.reason}: {failure.message}", interface=found)


def compared(plan: LoadCheckPlan, live: str) -> tuple[InterfaceReport, bool]:
    """What has changed since the model `live`, and whether the inputs are the same."""
    artifacts = store.ArtifactStore(plan.golden.store)
    try:
        before, now = (
            interface.of_manifest(fetch.read_manifest(artifacts, digest)) for digest in (live, plan.candidate_digest)
        )
    except StepFailed as failure:
        return InterfaceReport(live=live, problem=f"{failure.reason}: {failure.message}"), True
    found = interface.compare(before, now)
    return InterfaceReport.of(live, found.breaking, found.notes), before.inputs == now.inputs


@dataclass(frozen=True, slots=True)
class Rows:
    """What a side is sent. whole: the model takes no single rows, so all of the golden file is one request."""

    golden: Golden
    whole: bool = False


def golden_rows(plan: FetchPlan, limit_bytes: int) -> Rows:
    """The rows to send, by the manifest of the digest."""
    artifacts = store.ArtifactStore(plan.store)
    manifest = fetch.read_manifest(artifacts, plan.digest)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / files.GOLDEN_OBJECT
        prefix = files.model_prefix(plan.digest)
        fetch.fetch_file(artifacts, manifest, prefix, files.GOLDEN_OBJECT, path, limit_bytes)
        try:
            golden = Golden.from_json(strict.parse(path.read_bytes(), "golden.json", max_bytes=limit_bytes))
            shapes = [port["shape"] for port in manifest.get("signature", {}).get("inputs", ())]
            whole = not golden.inputs or any(not shape or shape[0] != -1 for shape in shapes)
            return Rows(golden, whole)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StepFailed(
                Reason.MANIFEST_INVALID, f"cannot read the golden rows of {plan.digest}: {error}"
            ) from error


def measure(plan: LoadCheckPlan, rows: Rows, beside: Rows) -> LoadReport:
    """beside: what the baseline is sent."""
    try:
        targets = [target(plan.candidate_url, plan.model, rows.golden, plan.candidate_digest, whole=rows.whole)]
        if plan.baseline_url:
            targets.append(target(plan.baseline_url, plan.model, beside.golden, whole=beside.whole))
    except (ValueError, KeyError, TypeError) as error:
        return LoadReport(problem=str(error))
    deadline = time.monotonic() + READY_SECONDS
    for name, side in zip(("candidate", "baseline"), targets, strict=False):
        if trouble := not_ready(side, deadline):
            return LoadReport(problem=f"{name} http://{side.host}:{side.port} is not ready: {trouble}")
    sides = [Side(t, plan.timeout_seconds) for t in targets]
    try:
        return report(plan, take_turns(plan, sides))
    finally:
        for opened in sides:
            opened.close()


def take_turns(plan: LoadCheckPlan, sides: list[Side]) -> list[Tally]:
    objective = plan.latency_milliseconds / 1000
    for side in sides:
        if plan.warm_up_seconds:
            side.block(Tally(objective_seconds=objective), plan.rate_per_second, plan.warm_up_seconds)
    tallies = [Tally(objective_seconds=objective) for _ in sides]
    for i in turns(plan.blocks, len(sides)):
        sides[i].block(tallies[i], plan.rate_per_second, plan.block_seconds)
    return tallies


def turns(blocks: int, sides: int) -> list[int]:
    """0 for the candidate, 1 for the baseline: A B B A A B B A ..., or A A A ... with one side.

    With two sides at least one block each.

    >>> turns(8, 2)
    [0, 1, 1, 0, 0, 1, 1, 0]
    """
    return [0] * blocks if sides == 1 else [(0, 1, 1, 0)[i % 4] for i in range(max(blocks, 2))]


def report(plan: LoadCheckPlan, tallies: list[Tally]) -> LoadReport:
    late = sorted(x for t in tallies for x in t.late)
    lag = late[math.ceil(len(late) * 0.99) - 1] * 1000 if late else 0.0
    limit = max(LAG_SHARE * plan.latency_milliseconds, LAG_FLOOR_MILLISECONDS)
    sent_too_few = any(t.sent < SENT_SHARE * t.intended for t in tallies)
    return LoadReport(
        candidate=tallies[0].to_side(),
        baseline=tallies[1].to_side() if len(tallies) > 1 else None,
        saturated=lag > limit or sent_too_few,
        lag_p99_milliseconds=lag,
    )


def not_ready(side: Target, deadline: float) -> str:
    """Wait until it answers its readiness probe; "" when it does, else what it said last."""
    trouble = "no answer"
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(side.host, side.port, timeout=2)
        try:
            connection.request("GET", side.path + READY_PATH)
            status = connection.getresponse().status
            if status == 200:
                return ""
            trouble = f"HTTP {status}"
        except (OSError, http.client.HTTPException) as error:
            trouble = " ".join(str(error).split()) or type(error).__name__
        finally:
            connection.close()
        time.sleep(0.2)
    return trouble


def encode(report: LoadReport) -> str:
    """As text that fits in a termination message: histograms are made coarser until it does.

    Buckets go to the lower of two, four, eight neighbours: counts stay exact, latencies are rounded down. Words go
    before latencies would be of no use.
    """
    fine = [(group, kinds) for kinds in (MOST_KINDS, 1) for group in (1, 2, 4)]
    for group, kinds in (*fine, *((g, 0) for g in (1, 2, 4, SUB, 2 * SUB, 8 * SUB))):
        try:
            return _coarser(report, group, kinds).encode()
        except ValueError:
            continue
    problem = "the report exceeds the size of a termination message"
    return LoadReport(problem=problem, interface=report.interface).encode()


def _coarser(report: LoadReport, group: int, kinds: int) -> LoadReport:
    def coarser(side: LoadSide | None) -> LoadSide | None:
        if side is None:
            return None
        histogram = Histogram()
        for bucket, count in side.latency.counts.items():
            lowest = bucket - bucket % group
            histogram.counts[lowest] = histogram.counts.get(lowest, 0) + count
        return replace(side, latency=histogram, faults=side.faults[:kinds])

    return LoadReport(
        candidate=coarser(report.candidate),
        baseline=coarser(report.baseline),
        saturated=report.saturated,
        lag_p99_milliseconds=report.lag_p99_milliseconds,
        problem=report.problem,
        interface=report.interface,
    )
