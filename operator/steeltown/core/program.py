"""What a Pod runs: all of its spec that decides whose word it is when the Pod says something.

Images and arguments are not enough. Code mounted over that of the image, a command in a probe, another file for the
report or another process in the same process space make a container say anything, and whoever may create Pods and
Jobs can write them. What only decides where and how fast a Pod runs is left out: schedulers, quotas and queues may
change it, and a mesh may add a container of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from .plan import Obj

_FIELDS: Final = (
    "image",
    "command",
    "args",
    "workingDir",
    "env",
    "envFrom",
    "volumeMounts",
    "volumeDevices",
    "lifecycle",
    "restartPolicy",
    "targetContainerName",
)
_PROBES: Final = ("startupProbe", "readinessProbe", "livenessProbe")
SHARED: Final = ("shareProcessNamespace", "hostPID", "hostIPC", "hostNetwork", "hostAliases", "dnsConfig")
_IDENTITY: Final = re.compile(r"(AWS|AZURE|GOOGLE)_[A-Z0-9_]+")
_REPORT: Final = "/dev/termination-log"
"""The API server's default, so a template has it only once it is stored."""


def program(spec: Obj) -> Obj:
    """JSON-able, and the same before and after the API server has filled in its defaults."""
    return {
        "containers": {c["name"]: container(c) for c in containers(spec)},
        "volumes": {v["name"]: v for v in spec.get("volumes") or ()},
        "shared": shared(spec),
    }


def containers(spec: Obj) -> list[Obj]:
    return [
        *(spec.get("initContainers") or ()),
        *(spec.get("containers") or ()),
        *(spec.get("ephemeralContainers") or ()),
    ]


def container(c: Obj) -> Obj:
    """Of probes only a command: a mesh writes their addresses anew."""
    report = c.get("terminationMessagePath", _REPORT)
    commands = {p: command for p in _PROBES if (command := (c.get(p) or {}).get("exec"))}
    return _given(c, _FIELDS) | commands | ({} if report == _REPORT else {"terminationMessagePath": report})


def without_identity(c: Obj, written: Obj, spec: Obj) -> Obj:
    """The container less what a cloud adds to every Pod for its workload identity: where a token lies, and the token.

    written: the container as the operator wrote it, of which nothing is taken away. spec: of the Pod, for its volumes.
    Without this no Pod of a namespace whose service account has a cloud role would be listened to.
    """
    own = {e["name"] for e in written.get("env") or ()}
    env = [e for e in c.get("env") or () if e["name"] in own or not _IDENTITY.fullmatch(e["name"])]
    tokens = {v["name"] for v in spec.get("volumes") or () if _holds_tokens(v)}
    mounts = [m for m in c.get("volumeMounts") or () if not (m["name"] in tokens and _among_secrets(m["mountPath"]))]
    return {**c, "env": env, "volumeMounts": mounts}


def _holds_tokens(volume: Obj) -> bool:
    sources = (volume.get("projected") or {}).get("sources") or ()
    return bool(sources) and all(set(source) == {"serviceAccountToken"} for source in sources)


def _among_secrets(path: str) -> bool:
    return path.startswith("/var/run/secrets/") and ".." not in path


def shared(spec: Obj) -> Obj:
    """What lets the Pod see into others, or others into its containers."""
    return _given(spec, SHARED)


def _given(obj: Mapping[str, Any], names: tuple[str, ...]) -> Obj:
    return {n: obj[n] for n in names if obj.get(n)}
