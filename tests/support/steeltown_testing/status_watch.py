"""Every status that the operator writes while tests run, held against the rules of conditions."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steeltown.api.conditions import violations

from steeltown_testing.environment import kubectl_program
from steeltown_testing.kubectl import Kubectl, Obj

KINDS = ("mlmodels", "trainingruns")


@contextmanager
def watched(kubectl: Kubectl) -> Iterator[None]:
    """Watches all namespaces while the block runs; then an AssertionError names each status that breaks a rule."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / kind for kind in KINDS]
        processes = [_watch(kubectl, kind, path) for kind, path in zip(KINDS, files, strict=True)]
        try:
            yield
        finally:
            for process in processes:
                process.terminate()
                process.wait(timeout=10)
        seen = [obj for path in files for obj in _objects(path.read_text())]
    ended = [obj for obj in seen if obj["kind"] == "Status"]
    assert not ended, f"the watch ended early: {ended}"
    found = [f"{_name(obj)}: {problem}" for obj in seen for problem in broken_rules(obj)]
    assert not found, "\n".join(found)
    assert seen, "the watch saw no object: it did not work"


def broken_rules(obj: Obj) -> list[str]:
    """A user may have edited the spec since, so a status is judged for the generation that it says it is about."""
    status = obj.get("status") or {}
    observed = status.get("observedGeneration", -1)
    if observed == -1:
        return []  # the operator has not written yet
    if observed > obj["metadata"]["generation"]:
        return [f"observedGeneration {observed} is ahead of generation {obj['metadata']['generation']}"]
    return violations({**obj, "metadata": {**obj["metadata"], "generation": observed}})


def _watch(kubectl: Kubectl, kind: str, path: Path) -> subprocess.Popen[bytes]:
    command = [kubectl_program(), "--kubeconfig", kubectl.config, "get", kind, "-A", "-w", "-o", "json"]
    with path.open("wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)


def _objects(text: str) -> Iterator[Obj]:
    """JSON documents one after the other; the last may be cut."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        try:
            obj, end = decoder.raw_decode(text, at)
        except ValueError:
            return
        yield from obj["items"] if obj["kind"].endswith("List") else [obj]
        at = end
        while at < len(text) and text[at].isspace():
            at += 1


def _name(obj: Obj) -> str:
    return f"{obj['kind']} {obj['metadata']['namespace']}/{obj['metadata']['name']}"
