"""The command `mlserver infer`: a file of requests, in JSON and in binary, one by one and in batches."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from report import addresses, check

WHERE = addresses()
COMMAND = Path(sys.executable).with_name("mlserver")
ROWS = [[float(i), i + 0.5, -float(i)] for i in range(20)]


def requests(model: str) -> list[dict[str, Any]]:
    """One row a request, so that a batch of them is one larger tensor."""
    if model == "single":
        tensors = [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": row} for row in ROWS]
    else:
        tensors = [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [f"straße {i}"]} for i in range(20)]
    return [{"id": str(i), "inputs": [tensor]} for i, tensor in enumerate(tensors)]


def infer(model: str, *options: str) -> dict[int, Any]:
    """Request number -> answer."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "in.jsonl"), Path(folder, "out.jsonl")
        asked.write_text("".join(json.dumps(r) + "\n" for r in requests(model)))
        command: list[str | Path] = [
            COMMAND,
            "infer",
            "-u",
            WHERE[model],
            "-m",
            model,
            "-i",
            asked,
            "-o",
            answered,
            *options,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        answers = [json.loads(line) for line in answered.read_text().splitlines()]
    return {a["parameters"]["batch_index"]: a for a in answers}


if __name__ == "__main__":
    for options in ([], ["-b"], ["-s", "5"], ["-b", "-s", "5", "-w", "4"]):
        for model in ("single", "words"):
            with check(f"{model} {' '.join(options)}".strip()):
                answers = infer(model, *options)
                assert sorted(answers) == list(range(20)), answers
                assert not [a for a in answers.values() if "error" in a], answers
                for i, row in enumerate(ROWS):
                    data = answers[i]["outputs"][0]["data"]
                    expected = [2 * v for v in row] if model == "single" else [f"straße {i}"]
                    assert data == expected, f"request {i}: expected {expected}, got {data}"
    with check("an unknown model is an error for each request"):
        WHERE["nobody"] = WHERE["single"]
        assert all("nobody" in str(a["error"]) for a in infer("nobody", "-r", "1").values())
