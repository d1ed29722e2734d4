"""Extensions of the protocol that only read: statistics and model configuration, in the words of their first server.

Times are nanoseconds, counts are of requests unless they say otherwise. What this server does not have (a cache,
input and output stages of their own) is absent or zero, never invented.
"""

from __future__ import annotations

import time
from typing import Any, Final

from .counters import Counters
from .engine import RunStatistics
from .signature import Signature, TensorSpec

SUPPORTED_EXTENSIONS: Final = ("binary_tensor_data", "statistics", "model_configuration")
"""Not model_repository: of it only the index is here, since nothing can be loaded or unloaded."""


class Extensions:
    """batch_rows: the most rows of one run, 0 where requests do not share runs."""

    def __init__(self, name: str, version: str, signature: Signature, batch_rows: int) -> None:
        self._name = name
        self._version = version
        self._signature = signature
        self._batch_rows = batch_rows

    def statistics(self, counters: Counters, done: RunStatistics) -> dict[str, Any]:
        """Of the one version there is, over the life of the process."""
        good = sum(counters.latency.values())
        stages = {
            "success": _duration(good, counters.latency_microseconds * 1000),
            "fail": _duration(sum(n for status, n in counters.answers.items() if status >= 400), 0),
            "queue": _duration(done.jobs, done.queue_nanoseconds),
            "compute_input": _duration(0, 0),
            "compute_infer": _duration(done.runs, done.run_nanoseconds),
            "compute_output": _duration(0, 0),
        }
        batches = [
            {
                "batch_size": size,
                "compute_input": _duration(0, 0),
                "compute_infer": _duration(runs, nanoseconds),
                "compute_output": _duration(0, 0),
            }
            for size, (runs, nanoseconds) in sorted(done.batches.items())
        ]
        age = (time.perf_counter_ns() - done.last_run) // 1_000_000
        model = {
            "name": self._name,
            "version": self._version,
            "last_inference": time.time_ns() // 1_000_000 - age if done.runs else 0,
            "inference_count": done.rows,
            "execution_count": done.runs,
            "inference_stats": stages,
            "batch_stats": batches,
        }
        return {"model_stats": [model]}

    def config(self) -> dict[str, Any]:
        """max_batch_size above 0 says that the first axis of every tensor, left out of dims, is the batch."""
        batched = self._batch_rows > 0
        config: dict[str, Any] = {
            "name": self._name,
            "platform": "onnxruntime_onnx",
            "backend": "onnxruntime",
            "max_batch_size": self._batch_rows,
            "version_policy": {"specific": {"versions": [self._version]}},
            "input": [_tensor(s, batched) for s in self._signature.inputs.values()],
            "output": [_tensor(s, batched) for s in self._signature.outputs.values()],
        }
        if batched:
            config["dynamic_batching"] = {"max_queue_delay_microseconds": 0}
        return config


def _duration(count: int, nanoseconds: int) -> dict[str, int]:
    return {"count": count, "ns": nanoseconds}


def _tensor(spec: TensorSpec, batched: bool) -> dict[str, Any]:
    datatype = "STRING" if spec.datatype.is_bytes else spec.datatype.name
    return {"name": spec.name, "data_type": f"TYPE_{datatype}", "dims": list(spec.dims[batched:])}
