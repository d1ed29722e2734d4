"""What many objects cost: memory per object, CPU per event, longest block of the event loop. See README.md.

.venv/bin/python benchmarks/controller/scale.py             # measures, writes results/scale-<date>-<n>.json
.venv/bin/python benchmarks/controller/scale.py --report    # prints the newest figures as a table

No API server: the operator's own cache, lists, queue, workers, reconciler and planners in a process of their own,
its lists read from files. Each row is a fresh process.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(HERE), str(REPOSITORY / "operator")]

from crowd import NOW, POLICY, Crowd, Plain, Silent, write  # noqa: E402
from machine import RESULTS, load, machine, versions, write_result  # noqa: E402
from report import markdown  # noqa: E402
from steeltown.app.memory import SetAside, take_over_full_collections  # noqa: E402
from steeltown.core.plan import Key, Obj  # noqa: E402
from steeltown.core.planners import PLANNERS  # noqa: E402
from steeltown.kube.lists import Lister  # noqa: E402
from steeltown.kube.resources import WATCHED  # noqa: E402
from steeltown.runtime.concurrency import at_once  # noqa: E402
from steeltown.runtime.queue import HIGH, LOW, WorkQueue  # noqa: E402
from steeltown.runtime.reconciler import Reconciler  # noqa: E402
from steeltown.runtime.resync import Resync  # noqa: E402
from steeltown.runtime.store import Store  # noqa: E402
from steeltown.runtime.worker import Workers  # noqa: E402

CROWDS: Mapping[str, Crowd] = {
    "3,000 models x 20 runs": Crowd(models=3000, runs=20),
    "5,000 models x 20 runs": Crowd(models=5000, runs=20),
    "one model x 5,000 runs": Crowd(models=1, runs=5000),
    "200 namespaces, 1,000 models x 20 runs": Crowd(models=1000, runs=20, namespaces=200),
}
BOUNDS: Mapping[str, Mapping[str, float]] = {
    "3,000 models x 20 runs": {"memory_mib": 512.0},
}
BLOCK_MS = 50.0
EVENTS = 300


class Blocks(selectors.DefaultSelector):
    """Between two waits of the event loop nothing else runs: how much CPU time the longest of those blocks took.

    CPU time of the thread and not time on the wall, which other programs of the machine share.
    """

    def __init__(self) -> None:
        super().__init__()
        self._since = time.thread_time()
        self.longest = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.longest = max(self.longest, time.thread_time() - self._since)
        ready = super().select(timeout)
        self._since = time.thread_time()
        return ready

    async def begin(self) -> None:
        """What was before does not count."""
        await asyncio.sleep(0)
        self.longest = 0.0

    def take_ms(self) -> float:
        longest, self.longest = self.longest, 0.0
        return round(longest * 1000, 1)


class Pages:
    """Answers lists as `kube.client.Client` does, from files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, Iterator[str]] = {}

    async def request(self, method: str, path: str, **arguments: Any) -> Obj:
        plural, _, rest = path.rpartition("/")[2], None, path.partition("/namespaces/")[2]
        name = f"{plural}.{rest.partition('/')[0] or 'all'}"
        if "continue" not in arguments["query"]:
            file = self._folder / name
            self._open[name] = iter(file.open()) if file.exists() else iter(())
        await asyncio.sleep(0)  # the answer comes from the network
        line = next(self._open[name], None)
        found: Obj = json.loads(line) if line else {"metadata": {"resourceVersion": "1"}, "items": []}
        return found


class Bench:
    """The operator without its doors."""

    def __init__(self, crowd: Crowd, folder: Path, blocks: Blocks) -> None:
        self.blocks = blocks
        self.store = Store(on_stored=SetAside().stored)
        self.applier = Plain(itertools.count(10**9))
        self.queue: WorkQueue[Key] = WorkQueue(clock=time.monotonic)
        self.resync = Resync(
            lister=Lister(Pages(folder)),  # type: ignore[arg-type]
            store=self.store,
            kinds=tuple(WATCHED),
            namespaces=crowd.served(),
            wake=lambda key: self.queue.add(key, LOW),
            run_all=at_once(2),
        )
        reconciler = Reconciler(
            store=self.store,
            planners=PLANNERS,
            policy=POLICY,
            applier=self.applier,
            recorder=Silent(),
            fence=lambda: None,
            wake=self.queue.add,
            now=lambda: NOW,
            clock=time.monotonic,
            run_all=at_once(16),
        )
        self.reconciles = 0

        async def reconcile(key: Key, *, reconcile_id: str = "") -> Any:
            self.reconciles += 1
            return await reconciler.reconcile(key, reconcile_id=reconcile_id)

        self.workers = Workers(queue=self.queue, reconcile=reconcile, clock=time.monotonic)

    async def rest(self) -> None:
        """Until nothing is left to do."""
        while len(self.queue) or self.queue.unfinished_seconds():  # noqa: ASYNC110 (the queue tells nobody)
            await asyncio.sleep(0.002)

    async def event(self, text: str) -> None:
        """As a watch delivers it, and what comes of it."""
        for key in self.store.apply_event("MODIFIED", json.loads(text)):
            self.queue.add(key, HIGH)
        await self.rest()


async def measure(crowd: Crowd, folder: Path, blocks: Blocks) -> dict[str, Any]:
    out: dict[str, Any] = {"start_mib": _mib("VmRSS"), "load_before": load()[0]}
    take_over_full_collections()
    bench = Bench(crowd, folder, blocks)
    await blocks.begin()
    begun, cpu = time.monotonic(), time.process_time()
    await bench.resync.fill()
    await bench.resync.catch_up()
    out["filled_cpu_seconds"] = round(time.process_time() - cpu, 2)
    out["fill_block_ms"] = blocks.take_ms()
    working = asyncio.create_task(bench.workers.run())
    await bench.rest()
    out["start_cpu_seconds"] = round(time.process_time() - cpu, 2)
    out["start_seconds"] = round(time.monotonic() - begun, 2)
    out["start_reconciles"] = bench.reconciles
    out["start_block_ms"] = blocks.take_ms()
    objects = sum(bench.store.count(kind) for kind in WATCHED)
    out["objects"] = objects
    out["memory_mib"] = _mib("VmRSS")
    out["kib_per_object"] = round((out["memory_mib"] - out["start_mib"]) * 1024 / objects, 2)
    for kind in ("Deployment", "TrainingRun"):
        out[f"{kind.lower()}_event_cpu_ms"] = await _events(bench, kind)
        out[f"{kind.lower()}_event_block_ms"] = blocks.take_ms()
    cpu = time.process_time()
    await bench.resync.fill()
    await bench.rest()
    out["resync_cpu_seconds"] = round(time.process_time() - cpu, 2)
    out["resync_block_ms"] = blocks.take_ms()
    out["peak_mib"], out["writes"] = _mib("VmHWM"), bench.applier.writes
    out["longest_block_ms"] = max(value for name, value in out.items() if name.endswith("_block_ms"))
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    return out


async def _events(bench: Bench, kind: str) -> float:
    """CPU ms per event of a kind that changes nothing that the planners want, decoding included."""
    known = [obj for key in bench.store.all_roots() if key.kind == "MLModel" for obj in _members(bench, key, kind)]
    chosen = random.Random(7).choices(known, k=EVENTS)
    version = itertools.count(2 * 10**9 + (kind == "Deployment") * 10**6)
    texts = [
        json.dumps({**obj, "metadata": {**obj["metadata"], "resourceVersion": str(next(version))}}) for obj in chosen
    ]
    await bench.blocks.begin()
    cpu = time.process_time()
    for text in texts:
        await bench.event(text)
    return round((time.process_time() - cpu) * 1000 / EVENTS, 2)


def _members(bench: Bench, key: Key, kind: str) -> list[Obj]:
    snapshot = bench.store.snapshot(key)
    return [*snapshot.of_kind(kind).values()] if snapshot else []


def _mib(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def table(result: Mapping[str, Any]) -> str:
    rows: list[tuple[str, ...]] = [("", *result["rows"], "bound")]
    names = {
        "objects": ("objects in the cache", ""),
        "memory_mib": ("memory, MiB", "<= 512 with 3,000 models"),
        "kib_per_object": ("memory per object, KiB", ""),
        "start_cpu_seconds": ("start with all of them: CPU s", ""),
        "start_reconciles": ("start: reconciles", ""),
        "deployment_event_cpu_ms": ("CPU per event of a Deployment, ms", ""),
        "trainingrun_event_cpu_ms": ("CPU per event of a finished run, ms", ""),
        "resync_cpu_seconds": ("list of everything, all roots reconciled: CPU s", ""),
        "longest_block_ms": ("longest block of the event loop, CPU ms", f"<= {BLOCK_MS:.0f}"),
        "writes": ("writes", "0"),
    }
    for name, (label, bound) in names.items():
        rows.append((label, *(f"{row[name]:,}" for row in result["rows"].values()), bound))
    head = f"{result['at'][:10]}, python {result['versions']['python']}, commit {result['versions']['commit']}"
    return f"{head}; {result['machine']['cores']} cores\n\n{markdown(rows)}"


def broken(result: Mapping[str, Any]) -> list[str]:
    """The bounds that do not hold."""
    found = []
    for name, row in result["rows"].items():
        for what, bound in {"longest_block_ms": BLOCK_MS, "writes": 0.0, **BOUNDS.get(name, {})}.items():
            if row[what] > bound:
                found.append(f"{name}: {what} is {row[what]}, at most {bound:g} is allowed")
    return found


def main() -> None:
    options = _options()
    if options.measure:
        blocks = Blocks()
        crowd = Crowd(**json.loads(options.measure))
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(blocks)) as runner:
            print(json.dumps(runner.run(measure(crowd, Path(options.folder), blocks))))
        return
    if options.report:
        print(table(json.loads(max(RESULTS.glob("scale-*.json"), key=_order).read_text())))
        return
    result: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "rows": {name: _row(name, crowd) for name, crowd in CROWDS.items() if options.only in name},
    }
    path = write_result(result, Path(options.out) if options.out else RESULTS, prefix="scale-")
    print(f"\n{path}\n\n{table(result)}")
    if problems := broken(result):
        sys.exit("\n".join(problems))


def _row(name: str, crowd: Crowd) -> dict[str, Any]:
    print(name, file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as folder:
        write(crowd, Path(folder))
        arguments = {"models": crowd.models, "runs": crowd.runs, "namespaces": crowd.namespaces}
        command = [sys.executable, __file__, "--measure", json.dumps(arguments), "--folder", folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    row: dict[str, Any] = json.loads(done.stdout)
    print(row, file=sys.stderr)
    return row


def _order(path: Path) -> tuple[str, int]:
    day, _, number = path.stem.rpartition("-")
    return day, int(number)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures the operator's own work with many objects.")
    parser.add_argument("--report", action="store_true", help="print the newest results and measure nothing")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--out", help="folder for the results; default: results/ here")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
