"""Where servers and the table differ, in Markdown: every case that some server does not pass.

`python -m steeltown_testing.conformance.divergence steeltown mlserver kserve` starts each (peers in their own
environments, with an onnxruntime runtime of a few lines) and writes the table to standard output.
`--url http://host:port` asks a server that runs already and has all models of the set, `--name` is its column.
Steeltown is held to level STEELTOWN, others to MUST and SHOULD.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from steeltown_testing.conformance import models
from steeltown_testing.conformance.cases import CASES, MUST, SHOULD, STEELTOWN
from steeltown_testing.conformance.environments import FOLDER, programs
from steeltown_testing.conformance.target import Target, started_from_source
from steeltown_testing.conformance.verdict import Verdict, expected_status, extensions_of, judge
from steeltown_testing.conformance.wire import Body, send

PEERS = FOLDER / "peers"
OURS = "steeltown"
START_SECONDS = 90
UNNAMED = {"kserve": ["binary_tensor_data"]}
Find = Callable[[str], Target]


@contextmanager
def peer(name: str, folder: Path) -> Iterator[Find]:
    """A peer that serves all models of the set on one port."""
    for model in models.MAKERS:
        models.write(folder / "models", model)
    port, *others = (_free_port() for _ in range(3))
    command = COMMANDS[name](folder, port, *others)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("STEELTOWN_", "PYTHON"))}
    environment = kept | {"PYTHONPATH": str(PEERS), "MODELS": str(folder / "models"), "DO_NOT_TRACK": "1"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield at(_wait(f"http://127.0.0.1:{port}", process, folder / "log"))
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _mlserver(folder: Path, port: int, grpc_port: int, metrics_port: int) -> list[str | Path]:
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": grpc_port, "metrics_port": metrics_port}
    (folder / "settings.json").write_text(json.dumps(settings | {"parallel_workers": 0}))
    for model in models.MAKERS:
        (folder / model).mkdir()
        implementation = {"name": model, "implementation": "mlserver_onnx.OnnxModel"}
        (folder / model / "model-settings.json").write_text(json.dumps(implementation))
    return [programs("mlserver") / "mlserver", "start", folder]


def _kserve(folder: Path, port: int, grpc_port: int, metrics_port: int) -> list[str | Path]:
    ports = ["--http_port", str(port), "--grpc_port", str(grpc_port)]
    return [programs("kserve") / "python", PEERS / "kserve_onnx.py", *ports]


COMMANDS = {"mlserver": _mlserver, "kserve": _kserve}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _wait(url: str, process: subprocess.Popen[Any], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if all(send(url, "GET", f"/v2/models/{m}/ready", Body(b"")).status == 200 for m in models.MAKERS):
                return url
        except OSError:
            pass  # it does not listen yet
        time.sleep(0.5)
    raise SystemExit(f"the server did not start:\n{log.read_text()[-3000:]}")


def at(url: str) -> Find:
    """One server with all models."""

    def find(model: str) -> Target:
        metadata = send(url, "GET", f"/v2/models/{model}", Body(b""))
        versions = metadata.json.get("versions") if metadata.status == 200 else None
        return Target(url, "", model, versions[-1] if versions else "")

    return find


def judge_all(find: Find, levels: set[str], assumed: Collection[str]) -> dict[str, Verdict]:
    """By the name of the case. assumed: extensions that the server has and does not name."""
    servers = {model: find(model) for model in models.MAKERS}
    extensions = {*extensions_of(servers["single"]), *assumed}
    return {c.name: judge(c, servers[c.model], levels, extensions) for c in CASES if c.level in levels}


def judge_ours(folder: Path) -> dict[str, Verdict]:
    """One server a model, one after the other."""
    verdicts: dict[str, Verdict] = {}
    levels = {MUST, SHOULD, STEELTOWN}
    for model in models.MAKERS:
        with started_from_source(model, folder) as server:
            extensions = extensions_of(server)
            verdicts |= {c.name: judge(c, server, levels, extensions) for c in CASES if c.model == model}
    return verdicts


def table(columns: dict[str, dict[str, Verdict]]) -> Iterator[str]:
    """Lines of Markdown: totals, then what differs, cases of one clause and one outcome in one row."""
    yield f"| | {' | '.join(columns)} |"
    yield "| --- |" + " --- |" * len(columns)
    for state in ("passed", "failed", "not offered"):
        counts = [str(Counter(v.state for v in column.values())[state]) for column in columns.values()]
        yield f"| {state} | {' | '.join(counts)} |"
    yield ""
    yield f"| Level | Clause | Expected | {' | '.join(columns)} | Cases |"
    yield "| --- | --- | --- |" + " --- |" * len(columns) + " --- |"
    rows: dict[tuple[str, ...], list[str]] = {}
    for case in CASES:
        verdicts = [column.get(case.name) for column in columns.values()]
        if any(v and v.state == "failed" for v in verdicts):
            key = (case.level, case.clause, expected_status(case, ours=False), *map(_cell, verdicts))
            rows.setdefault(key, []).append(case.name)
    for key, names in rows.items():
        yield f"| {' | '.join(key)} | {'; '.join(names)} |"


def _cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    if verdict.state == "failed":
        return f"**{verdict.short[:80]}**".replace("|", "/").replace("\n", " ")
    return {"passed": "as expected", "not offered": "-"}[verdict.state]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("servers", nargs="*", help=f"of {', '.join((OURS, *COMMANDS))}")
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--name", default="server", help="its name in the table")
    parser.add_argument("--why", action="store_true", help="what came, case by case, on standard error")
    chosen = parser.parse_args()
    if (not chosen.servers and not chosen.url) or set(chosen.servers) - {OURS, *COMMANDS}:
        parser.error(f"name servers of {', '.join((OURS, *COMMANDS))}, or give --url")
    columns: dict[str, dict[str, Verdict]] = {}
    for name in chosen.servers:
        print(name, file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            if name == OURS:
                columns[name] = judge_ours(Path(folder))
            else:
                with peer(name, Path(folder)) as find:
                    columns[name] = judge_all(find, {MUST, SHOULD}, UNNAMED.get(name, []))
    if chosen.url:
        columns[chosen.name] = judge_all(at(chosen.url.rstrip("/")), {MUST, SHOULD}, [])
    print("\n".join(table(columns)))
    if chosen.why:
        for name, column in columns.items():
            print(*(f"{name}: {case}: {v.reason}" for case, v in column.items() if v.reason), sep="\n", file=sys.stderr)


if __name__ == "__main__":
    main()
