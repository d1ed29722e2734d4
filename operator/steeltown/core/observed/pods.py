"""What a Pod says about itself: which container ended how, and what keeps one from starting."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ...api.conditions import Reason, parse_time
from ...contract.files import ExitCode
from ...contract.reports import StepReport
from ..plan import Obj

PENDING = "waiting for the Pod to be scheduled and its images to be pulled"
"""While nothing is known that keeps it from starting."""

SIGKILLED = 128 + 9
"""The exit code of a container that SIGKILL ended."""

_PULL = frozenset({"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Termination:
    """A container that ended. message: its report, or its last log lines if it left none."""

    container: str
    exit_code: int
    reason: str
    message: str
    restarts: int

    @property
    def out_of_memory(self) -> bool:
        """As the kubelet says it. Of a container that dies right after its start it may say `Error` instead."""
        return self.reason == "OOMKilled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """What keeps a Pod from starting, in a word and a sentence."""

    reason: str
    message: str


def statuses(pod: Obj) -> list[Obj]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def termination(pod: Obj, container: str) -> Termination | None:
    """How `container` ended, now or before its last restart."""
    for status in statuses(pod):
        if status["name"] != container:
            continue
        ended = (status.get("state") or {}).get("terminated") or (status.get("lastState") or {}).get("terminated")
        if not ended:
            return None
        return Termination(
            container=container,
            exit_code=int(ended.get("exitCode", 0)),
            reason=str(ended.get("reason", "")),
            message=str(ended.get("message", "")),
            restarts=int(status.get("restartCount", 0)),
        )
    return None


def first_failure(pod: Obj) -> Termination | None:
    """The first container, in the order in which they run, that ended with a code other than 0."""
    for status in statuses(pod):
        ended = termination(pod, status["name"])
        if ended and ended.exit_code != 0:
            return ended
    return None


def killed_unasked(pod: Obj, ended: Termination) -> bool:
    """Whether SIGKILL ended the container of a Pod that nothing had asked to stop: no deletion, eviction, preemption.

    Only for a container without probes, since the kubelet kills for those too. What is left is the kernel, for
    memory. containerd may lose the event that says so, mostly right after a container's start; the
    reason is `Error` then (containerd issues 8180 and 8893).
    """
    return ended.exit_code == SIGKILLED and not is_disrupted(pod)


def eviction(pod: Obj) -> str | None:
    """Why the kubelet has evicted the Pod, in its words and with what to do; None if it has not."""
    status = pod.get("status") or {}
    if status.get("reason") != "Evicted":
        return None
    words = " ".join(str(status.get("message") or "no reason given").split())[:200].rstrip(".")
    if "EmptyDir" in words or "total limit of containers" in words:
        words += ": raise resources.limits.ephemeral-storage, or write less"
    return f"the Pod was evicted: {words}"


def last_ended(pod: Obj) -> str | None:
    """When (RFC 3339) the last container that has ended did so."""
    ends = ((s.get("state") or {}).get("terminated") or {} for s in statuses(pod))
    return max((e["finishedAt"] for e in ends if e.get("finishedAt")), default=None)


def running_seconds(pod: Obj, container: str, now: datetime) -> float:
    """For how long the container has run; infinite where that is not told, 0 while it does not run."""
    for status in statuses(pod):
        running = (status.get("state") or {}).get("running")
        if status["name"] == container and running is not None:
            stamp = running.get("startedAt")
            return (now - parse_time(str(stamp))).total_seconds() if stamp else float("inf")
    return 0.0


def is_running(pod: Obj, container: str) -> bool:
    return any(s["name"] == container and "running" in (s.get("state") or {}) for s in statuses(pod))


def is_ready(pod: Obj) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return not is_terminating(pod) and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def ready_seconds(pod: Obj, now: datetime) -> float:
    """For how long the Pod has been as ready as it is, or not; infinite where that is not told."""
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition["type"] == "Ready" and condition.get("lastTransitionTime"):
            return (now - parse_time(str(condition["lastTransitionTime"]))).total_seconds()
    return float("inf")


def runs_unready(pod: Obj) -> bool:
    """The kubelet says that the containers run and are not ready: that is the server's own doing."""
    if is_disrupted(pod) or (pod.get("status") or {}).get("phase") != "Running":
        return False
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c.get("reason") == "ContainersNotReady" for c in conditions)


def is_terminating(pod: Obj) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def obstacle(pod: Obj) -> Obstacle | None:
    """Why the Pod does not start, as the scheduler or the kubelet says it."""
    for status in statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
        if reason in _PULL:
            text = f"container {status['name']}: {reason}: {message or status.get('image', '')}"
            return Obstacle(reason=Reason.IMAGE_PULL_FAILED, message=text)
        if reason in _CONFIG:
            text = f"container {status['name']}: {reason}: {message}"
            return Obstacle(reason=Reason.CONTAINER_CONFIG_ERROR, message=text)
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Obstacle(reason=Reason.UNSCHEDULABLE, message=str(condition.get("message", "not scheduled yet")))
    fetch = termination(pod, "fetch")
    if fetch is not None and fetch.exit_code not in (0, ExitCode.USAGE, ExitCode.DATA):
        report = StepReport.decode(fetch.message)
        told = report.message if report else (fetch.message.strip().splitlines()[-1:] or ["no output"])[0][:300]
        return Obstacle(reason=Reason.STEP_FAILED, message=f"failed to fetch the model from the store: {told}")
    return None


def load_failure(pod: Obj) -> tuple[str, str] | None:
    """(reason, message) of a server Pod whose *model* keeps it from serving, and retrying cannot mend it.

    A final report, no memory, or crash after crash of the server. What only the platform is to blame for (the store
    is down, a fetch is killed) is an `obstacle`, never this: it says nothing about the model (I13).
    """
    for name in ("fetch", "server"):
        ended = termination(pod, name)
        if ended is None or ended.exit_code == 0:
            continue
        report = StepReport.decode(ended.message)
        if report and ended.exit_code in (ExitCode.USAGE, ExitCode.DATA):
            return report.reason, report.message
        if name == "server" and (crash := _crash(pod, ended)):
            return crash
    return None


def _crash(pod: Obj, ended: Termination) -> tuple[str, str] | None:
    if ended.out_of_memory:
        return Reason.OUT_OF_MEMORY, "container server exceeded its memory limit while loading the model"
    if ended.restarts >= 2 and not is_disrupted(pod):
        tail = ended.message.strip().splitlines()[-1:] or ["no output"]
        told = f"container server keeps exiting with code {ended.exit_code}: {tail[0][:300]}"
        return Reason.NOT_LOADABLE, told
    return None


def is_disrupted(pod: Obj) -> bool:
    """Somebody or something asked the Pod to go: deletion, eviction, drain, preemption."""
    status = pod.get("status") or {}
    asked = any(c["type"] == "DisruptionTarget" and c["status"] == "True" for c in status.get("conditions") or ())
    return asked or is_terminating(pod) or bool(status.get("reason"))


def newest(pods: list[Obj]) -> Obj | None:
    return max(pods, key=lambda p: (p["metadata"].get("creationTimestamp", ""), p["metadata"]["name"]), default=None)
