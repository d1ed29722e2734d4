"""kubectl as a user runs it, against the cluster that the tests were given.

Which cluster that is, `environment` knows.
"""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from steeltown_testing.environment import kubectl_program

Obj = dict[str, Any]
T = TypeVar("T")


class Kubectl:
    """One cluster; with `namespace`, everything happens there."""

    def __init__(self, *, config: str, namespace: str = "") -> None:
        self.config, self.namespace = config, namespace

    def run(self, *arguments: str, stdin: str | None = None, check: bool = True, timeout: float = 120) -> str:
        """Standard output; a failure raises with what kubectl said."""
        done = self.attempt(*arguments, stdin=stdin, timeout=timeout)
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}")
        return done.stdout

    def attempt(
        self, *arguments: str, stdin: str | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        own = ["--namespace", self.namespace] if self.namespace else []
        command = [kubectl_program(), "--kubeconfig", self.config, *own, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)

    def apply(self, *objects: Obj, options: tuple[str, ...] = ()) -> str:
        return self.run("apply", "-f", "-", *options, stdin=_documents(objects))

    def refusal(self, obj: Obj) -> str:
        """What the API server answers to an object that it must refuse."""
        done = self.attempt("create", "--dry-run=server", "-f", "-", stdin=_documents((obj,)))
        assert done.returncode, f"accepted: {obj}"
        return done.stderr

    def get(self, kind: str, name: str) -> Obj:
        found: Obj = json.loads(self.run("get", kind, name, "-o", "json"))
        return found

    def find(self, kind: str, *options: str) -> list[Obj]:
        found: list[Obj] = json.loads(self.run("get", kind, "-o", "json", *options))["items"]
        return found

    def wait(self, resource: str, condition: str, *, seconds: float = 60) -> str:
        return self.run("wait", resource, f"--for={condition}", f"--timeout={seconds:g}s", timeout=seconds + 10)


def _documents(objects: tuple[Obj, ...]) -> str:
    return "\n---\n".join(json.dumps(o) for o in objects)


@contextmanager
def namespace(config: str, prefix: str = "test", *, labels: dict[str, str] | None = None) -> Iterator[Kubectl]:
    """A namespace of its own, under Pod Security `restricted`, gone afterwards."""
    name = f"{prefix}-{uuid.uuid4().hex[:8]}"
    marks = {"pod-security.kubernetes.io/enforce": "restricted", **(labels or {})}
    everywhere = Kubectl(config=config)
    everywhere.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": marks}})
    try:
        yield Kubectl(config=config, namespace=name)
    finally:
        everywhere.run("delete", "namespace", name, "--wait=false")


def eventually(
    look: Callable[[], T], *, until: Callable[[T], bool] = bool, seconds: float = 60, every: float = 0.25
) -> T:
    """The first answer of `look` that satisfies `until`; after `seconds` an AssertionError with the last one."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if until(seen):
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s; last seen: {seen}")
        time.sleep(every)
