"""One round: start the controller, create, let it converge, leave it alone, edit one object after the other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import statistics
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from audit_log import AuditLog, Requests
from plane_client import NAMESPACES, Obj, Plane, in_parallel
from subject_process import SubjectProcess
from subjects import SYSTEM, Subject

_CONVERGE_SECONDS = 300.0
_EDIT_SECONDS = 30.0
_PAUSE_SECONDS = 0.03  # between edits, after the last one's status has been seen
_SCRAPE_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """edits, idle_seconds: 0 = leave that part out."""

    edits: int
    idle_seconds: float
    audit_log: Path
    folder: Path


class Observer:
    """What an outsider sees: the newest state of each object and its children, and when each object converged."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.groups: dict[str, dict[str, Obj]] = {}
        self.converged_at: dict[str, float] = {}
        self._changed = asyncio.Event()
        self._waiting: tuple[Callable[[str, Obj], bool], asyncio.Future[float]] | None = None

    def seen(self, kind: str, now: float, type: str, obj: Obj) -> None:
        if type == "DELETED":
            return
        root = self._subject.root(kind, obj)
        group = self.groups.setdefault(root, {})
        group[kind] = obj
        if root not in self.converged_at and self._subject.converged(group):
            self.converged_at[root] = now
        if self._waiting and not self._waiting[1].done() and self._waiting[0](kind, obj):
            self._waiting[1].set_result(now)
        self._changed.set()

    def awaited(self, wanted: Callable[[str, Obj], bool]) -> asyncio.Future[float]:
        """When the first object arrives that is `wanted`; one question at a time."""
        self._waiting = (wanted, asyncio.get_running_loop().create_future())
        return self._waiting[1]

    async def until(self, true: Callable[[], bool], seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not true():
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), 1.0)
            if time.monotonic() > end:
                raise RuntimeError(f"not seen within {seconds:.0f} s: {what}")


async def measure(plane: Plane, subject: Subject, count: int, options: Options) -> dict[str, Any]:
    """The figures of one round with so many objects, in a namespace that is being removed afterwards."""
    out: dict[str, Any] = {"objects": count, "load_before": round(os.getloadavg()[0], 2)}
    async with _running(plane, subject, count, options) as (process, log, port):
        out["start_rss_kib"] = process.resident_kib()
        out["start_cpu_seconds"] = round(process.cpu_seconds(), 2)
        if count:
            async with _observing(plane, subject) as observer:
                await _create(plane, subject, count, process, log, observer, out)
                if options.idle_seconds:
                    out["idle"] = await _idle(process, log, port, options.idle_seconds)
                if options.edits:
                    out["edits"] = await _edit(plane, subject, count, options.edits, process, log, observer)
        out["log_lines"] = process.log_lines()
    out["load_after"] = round(os.getloadavg()[0], 2)
    return out


async def _create(
    plane: Plane,
    subject: Subject,
    count: int,
    process: SubjectProcess,
    log: AuditLog,
    observer: Observer,
    out: dict[str, Any],
) -> None:
    mark, cpu, begin = log.mark(), process.cpu_seconds(), time.monotonic()
    await in_parallel(count, lambda number: plane.create(subject.collection, subject.body(number)))
    out["create_calls_seconds"] = round(time.monotonic() - begin, 3)
    await observer.until(lambda: len(observer.converged_at) == count, _CONVERGE_SECONDS, "all objects converged")
    out["converge_seconds"] = round(max(observer.converged_at.values()) - begin, 3)
    cpu = await process.quiet() - cpu
    requests = log.since(mark)
    out["cpu_ms_per_object"] = round(cpu / count * 1000, 2)
    out["converged_rss_kib"], out["peak_rss_kib"] = process.resident_kib(), process.peak_kib()
    out["requests"] = requests.to_json()
    out |= {f"{name}_per_object": value for name, value in _rates(requests, count).items()}


async def _idle(process: SubjectProcess, log: AuditLog, port: int, seconds: float) -> dict[str, Any]:
    """Requests and CPU while nothing happens but a scrape of /metrics now and then."""
    mark, cpu, begin = log.mark(), process.cpu_seconds(), time.monotonic()
    scrapes = 0
    while (left := begin + seconds - time.monotonic()) > 0:
        await asyncio.to_thread(_scrape, port)
        scrapes += 1
        await asyncio.sleep(min(_SCRAPE_SECONDS, left))
    minutes = (time.monotonic() - begin) / 60
    return {
        "seconds": round(minutes * 60, 1),
        "scrapes": scrapes,
        "cpu_seconds_per_minute": round((process.cpu_seconds() - cpu) / minutes, 3),
        "requests": log.since(mark).to_json(),
    }


async def _edit(
    plane: Plane, subject: Subject, count: int, edits: int, process: SubjectProcess, log: AuditLog, observer: Observer
) -> dict[str, Any]:
    """One edit at a time: from its PATCH to the watch event of the child that has it."""
    mark, cpu, times, after_answer = log.mark(), process.cpu_seconds(), [], []
    for number in range(edits):
        name, value = subject.name(number * 7 % count), 1001 + 2 * number  # odd: 1024Mi would come back as 1Gi
        arrived = observer.awaited(
            lambda kind, obj, name=name, value=value: (  # type: ignore[misc]
                subject.root(kind, obj) == name and subject.shows(kind, obj, value)
            )
        )
        sent = time.monotonic()
        answer = await plane.merge(f"{subject.collection}/{name}", subject.edit(value))
        answered = time.monotonic()
        seen = await asyncio.wait_for(arrived, _EDIT_SECONDS)
        times.append((seen - sent) * 1000)
        after_answer.append(max(0.0, seen - answered) * 1000)
        generation = answer["metadata"]["generation"]

        def told(name: str = name, generation: int = generation) -> bool:
            obj = observer.groups[name][subject.kind]
            return bool(obj["metadata"]["generation"] >= generation and subject.observed(obj))

        await observer.until(told, _EDIT_SECONDS, f"the status of {name} after an edit")
        await asyncio.sleep(_PAUSE_SECONDS)
    cpu = await process.quiet() - cpu
    requests = log.since(mark)
    return {
        "count": edits,
        **{f"p{share}_ms": round(percentile(times, share), 1) for share in (50, 90, 99)},
        "max_ms": round(max(times), 1),
        "p50_after_answer_ms": round(percentile(after_answer, 50), 1),
        "cpu_ms_per_edit": round(cpu / edits * 1000, 2),
        "requests": requests.to_json(),
        **{f"{name}_per_edit": value for name, value in _rates(requests, edits).items()},
    }


@asynccontextmanager
async def installed(plane: Plane, subject: Subject) -> AsyncIterator[None]:
    """Account and permissions, for all rounds of a subject."""
    await plane.delete_namespace(SYSTEM)
    await plane.create(NAMESPACES, {"metadata": {"name": SYSTEM}})
    try:
        await plane.create(f"{NAMESPACES}/{SYSTEM}/serviceaccounts", {"metadata": {"name": subject.account}})
        await subject.install(plane)
        yield
    finally:
        for name in await plane.names(NAMESPACES):
            if name.startswith(subject.prefix):
                await plane.delete_namespace(name)
        await subject.uninstall(plane)
        await plane.delete_namespace(SYSTEM)


@asynccontextmanager
async def _running(
    plane: Plane, subject: Subject, count: int, options: Options
) -> AsyncIterator[tuple[SubjectProcess, AuditLog, int]]:
    """The controller, started and quiet, in a namespace of this round."""
    before = [name for name in await plane.names(NAMESPACES) if name.startswith(subject.prefix)]
    subject.namespace = f"{subject.prefix}{uuid.uuid4().hex[:8]}"
    await plane.create(NAMESPACES, {"metadata": {"name": subject.namespace}})
    await subject.prepare(plane, count)
    kubeconfig = await _kubeconfig(plane, subject.account, options.folder)
    port = _free_port()
    process = SubjectProcess(*subject.command(kubeconfig, port), options.folder / "subject.log")
    try:
        await asyncio.sleep(subject.settle_seconds)
        for name in before:  # removed while the controller started, which does not look there
            await plane.delete_namespace(name)
        await process.quiet(3)
        user = f"system:serviceaccount:{SYSTEM}:{subject.account}"
        yield process, AuditLog(options.audit_log, user), port
    finally:
        process.stop()
        await plane.request("DELETE", f"{NAMESPACES}/{subject.namespace}")


@asynccontextmanager
async def _observing(plane: Plane, subject: Subject) -> AsyncIterator[Observer]:
    observer = Observer(subject)
    watches = [
        asyncio.create_task(plane.watch(path, lambda now, type, obj, kind=kind: observer.seen(kind, now, type, obj)))  # type: ignore[misc]
        for kind, path in subject.watched().items()
    ]
    await asyncio.sleep(0.5)
    try:
        yield observer
        for watch in watches:
            if watch.done():
                watch.result()
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


async def _kubeconfig(plane: Plane, account: str, folder: Path) -> str:
    """Of the ServiceAccount, so that the audit log tells its requests from all others."""
    path = f"{NAMESPACES}/{SYSTEM}/serviceaccounts/{account}/token"
    answer = await plane.create(path, {"spec": {"expirationSeconds": 3600}})
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "plane", "cluster": plane.cluster}],
        "users": [{"name": account, "user": {"token": answer["status"]["token"]}}],
        "contexts": [{"name": "plane", "context": {"cluster": "plane", "user": account}}],
        "current-context": "plane",
    }
    file = folder / "kubeconfig"
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump(config))
    return str(file)


def _rates(requests: Requests, count: int) -> dict[str, float]:
    return {"writes": round(requests.writes.total() / count, 3), "reads": round(requests.reads.total() / count, 3)}


def _scrape(port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        answer.read()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def percentile(values: list[float], share: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]
