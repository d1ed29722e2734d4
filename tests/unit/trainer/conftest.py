"""A trainer's folders below tmp_path, and running the trainer over them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import pytest
from steeltown_trainer.__main__ import main


@dataclass(frozen=True)
class Training:
    root: Path

    def run(self, frame: pl.DataFrame | None, params: Any, *, kind: str = "parquet", **env: str) -> int:
        """Exit code of a training on `frame` with `params` (text is written as it is)."""
        (self.root / "input").mkdir(parents=True, exist_ok=True)
        if frame is not None:
            path = self.root / f"input/data.{kind}"
            (frame.write_csv if kind == "csv" else frame.write_parquet)(path)
        (self.root / "input/params.json").write_text(params if isinstance(params, str) else json.dumps(params))
        return int(main({**self.env, **env}))

    @property
    def env(self) -> dict[str, str]:
        return {
            "STEELTOWN_INPUT_DIR": str(self.root / "input"),
            "STEELTOWN_OUTPUT_DIR": str(self.root / "output"),
            "STEELTOWN_PARAMS_FILE": str(self.root / "input/params.json"),
            "STEELTOWN_RESULT_FILE": str(self.root / "output/result.json"),
            "STEELTOWN_STATUS_FILE": str(self.root / "output/status.json"),
            "STEELTOWN_FAILURE_FILE": str(self.root / "output/failure"),
            "STEELTOWN_TERMINATION_LOG": str(self.root / "termination-log"),
            "STEELTOWN_SEED": "7",
        }

    def json(self, name: str) -> Any:
        return json.loads((self.root / "output" / name).read_text())

    @property
    def failure(self) -> str:
        return (self.root / "output/failure").read_text()

    @property
    def model(self) -> bytes:
        return (self.root / "output/model/model.onnx").read_bytes()

    def answers(self, frame: pl.DataFrame) -> dict[str, Any]:
        """What the exported model says to rows, fed as a client would: float32 with NaN, text with ""."""
        session = onnxruntime.InferenceSession(self.model, providers=["CPUExecutionProvider"])
        feed = {}
        for port in session.get_inputs():
            assert port.shape[1:] == [1], port
            values = frame[port.name]
            if port.type == "tensor(string)":
                column = np.array(values.fill_null("").to_list(), dtype=object)
            else:
                assert port.type == "tensor(float)"
                column = values.cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float32)
            feed[port.name] = column.reshape(-1, 1)
        return dict(zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True))


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(tmp_path)


@pytest.fixture
def table() -> Callable[..., pl.DataFrame]:
    """rows -> numbers with gaps, a whole number, text with gaps and a rare value, a boolean; `score` from them."""

    def make(rows: int = 300, seed: int = 0) -> pl.DataFrame:
        random = np.random.default_rng(seed)
        x = random.normal(size=rows)
        kind = np.array(["red", "green", "blue", None], dtype=object)[random.integers(0, 4, rows)]
        kind[0] = "only once"
        wet = random.random(rows) < 0.5
        hour = random.integers(0, 24, rows)
        score = 2 * x + (kind == "red") * 1.5 - wet + 0.1 * hour + random.normal(0, 0.3, rows)
        gaps = pl.Series(np.arange(rows) % 9 == 4)
        frame = pl.DataFrame({"x 1": x, "kind": kind.tolist(), "wet": wet, "hour": hour, "score": score})
        return frame.with_columns(pl.when(gaps).then(None).otherwise(pl.col("x 1")).alias("x 1"))

    return make
