"""The model file: proven to be the one that was asked for, then loaded into one onnxruntime session.

Threads come from the cgroup's CPU limit, not from the node's size: onnxruntime counts the node's cores and would
be throttled by the kernel. Spinning is off, because a spinning thread burns the same quota that requests need
(measured: twice the CPU, no better latency). onnxruntime refuses external data that leaves the model's folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from steeltown.contract.files import MODEL_OBJECT
from steeltown_tensors import Array

from .deadline import Watch
from .signature import Signature, TensorSpec, UnservableModel
from .unbounded import unbounded

os.environ.setdefault("ALLOW_RELEASED_ONNX_OPSET_ONLY", "0")
"""Read by onnxruntime: a domain that is imported in a version newer than it knows is no error, an operator of it is."""

CGROUP: Final = Path("/sys/fs/cgroup")


class StartFailure(Exception):
    """This model must not serve. reason: CamelCase, for the condition; the message is for a person."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Model:
    """A loaded model. `run` is safe from any thread; under a watch one run at a time.

    unbounded: why a run may take longer than the size of its inputs tells; "".
    """

    def __init__(self, session: Any, signature: Signature, unbounded: str = "") -> None:
        self._session = session
        self.signature = signature
        self.unbounded = unbounded
        self.watch: Watch | None = None

    def run(self, outputs: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
        """Arrays of `outputs`, in that order. Raises what onnxruntime raises, and RunTooLong under a watch."""
        watch = self.watch
        if watch is None:
            results: list[Any] = self._session.run(outputs, feed)
        else:
            options = watch.begin()
            try:
                results = self._session.run(outputs, feed, options)
            except Exception:  # onnxruntime's exceptions share no base but Exception
                if options.terminate:
                    raise watch.too_long() from None
                raise
            finally:
                watch.end()
        return [a if type(a) is np.ndarray else np.asarray(a) for a in results]


def verify(folder: Path, digest: str) -> None:
    """StartFailure(DigestMismatch) unless the file's sha256 is `digest`."""
    path = folder / MODEL_OBJECT
    try:
        with path.open("rb") as file:
            found = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StartFailure("DigestMismatch", f"{path} cannot be read: {error.strerror}") from None
    if found != digest:
        raise StartFailure("DigestMismatch", f"{path} has digest {found}, expected {digest}")


def check_size(folder: Path, memory_bytes: int) -> None:
    """StartFailure(ModelDoesNotLoad) if the file alone would fill the memory: the kernel would end us wordlessly."""
    size = (folder / MODEL_OBJECT).stat().st_size
    if size > memory_bytes:
        raise StartFailure(
            "ModelDoesNotLoad",
            f"{MODEL_OBJECT} has {size} bytes, the memory limit is {memory_bytes}: "
            "raise spec.serving.resources.limits.memory",
        )


def load(folder: Path, threads: int) -> Model:
    """StartFailure(ModelDoesNotLoad) with what onnxruntime says."""
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what matters comes as an exception
    try:
        session = onnxruntime.InferenceSession(
            str(folder / MODEL_OBJECT),
            options,
            providers=["CPUExecutionProvider"],
        )
        signature = Signature(_specs(session.get_inputs()), _specs(session.get_outputs()))
        return Model(session, signature, unbounded(folder / MODEL_OBJECT))
    except UnservableModel as error:
        raise StartFailure("ModelDoesNotLoad", str(error)) from None
    except Exception as error:  # onnxruntime's exceptions share no base but Exception
        raise StartFailure("ModelDoesNotLoad", str(error)) from None


def _specs(nodes: Sequence[Any]) -> dict[str, TensorSpec]:
    return {n.name: TensorSpec.of(n.name, n.type, n.shape) for n in nodes}


def cpu_limit(root: Path = CGROUP) -> int:
    """Whole CPUs of this container's limit (cgroup v2, else v1), at least 1; 1 where there is no limit."""
    for quota, period in (_version_2(root), _version_1(root)):
        if quota > 0 and period > 0:
            return max(1, quota // period)
    return 1


def memory_limit(root: Path = CGROUP) -> int:
    """Bytes of this container's limit (cgroup v2, else v1), else the machine's memory."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = (_int(_read(root / "memory.max")), _int(_read(root / "memory/memory.limit_in_bytes")))
    return min([machine, *(limit for limit in limits if limit > 0)])


def _version_2(root: Path) -> tuple[int, int]:
    quota, _, period = _read(root / "cpu.max").partition(" ")
    return _int(quota), _int(period)


def _version_1(root: Path) -> tuple[int, int]:
    return _int(_read(root / "cpu/cpu.cfs_quota_us")), _int(_read(root / "cpu/cpu.cfs_period_us"))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # "max": no limit
        return 0
