"""How long onnxruntime itself takes, in a process of its own on the servers' core.

`python -m serving_bench.limits FOLDER` prints {"<model>-<rows>": CPU microseconds of one run}, medians of seven.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final

from .cells import CELLS, INPUT, features, session

REPEATS: Final = 7
SECONDS_EACH: Final = 0.05


def run_microseconds(runtime: Any, feed: dict[str, Any]) -> float:
    """One run through onnxruntime's Python interface, all outputs, in CPU time of this process."""
    names = [output.name for output in runtime.get_outputs()]
    for _ in range(5):
        runtime.run(names, feed)
    began = time.perf_counter()
    runtime.run(names, feed)
    count = max(5, int(SECONDS_EACH / max(time.perf_counter() - began, 1e-6)))
    found = []
    for _ in range(REPEATS):
        before = time.process_time_ns()
        for _ in range(count):
            runtime.run(names, feed)
        found.append((time.process_time_ns() - before) / count / 1e3)
    return round(statistics.median(found), 2)


def main(models: Path) -> None:
    kinds = sorted({(cell.model, cell.rows) for cell in CELLS.values()} | {("logreg", 64)})
    limits = {
        f"{model}-{rows}": run_microseconds(session(models / model / "model.onnx"), {INPUT: features(model, rows)})
        for model, rows in kinds
    }
    print(json.dumps(limits))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
