"""An ONNX file, from bytes to something that answers: static checks, loading, its inputs and outputs.

The static checks are those that the server relies on: one self-contained file (its digest is then the model),
operators that the released runtime knows, and tensors at both ends.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from steeltown_tensors import BY_NAME, BY_ONNX, Array

from .exporter import Said, said
from .reasons import Reason, StepFailed

MAX_MODEL_BYTES: Final = (1 << 31) - 1  # of a protobuf message
KNOWN_DOMAINS: Final = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output. shape: None for a free dimension."""

    name: str
    dtype: Any
    datatype: str
    shape: tuple[int | None, ...]

    @property
    def is_text(self) -> bool:
        return BY_NAME[self.datatype].is_bytes

    @property
    def is_float(self) -> bool:
        return BY_NAME[self.datatype].is_float

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": [-1 if d is None else d for d in self.shape]}


class Model:
    """A loaded model. said: what its file says about classes."""

    def __init__(self, session: Any, said: Said) -> None:
        self._session = session
        self.said = said
        self.inputs = tuple(_port(x, "input") for x in session.get_inputs())
        self.outputs = tuple(_port(x, "output") for x in session.get_outputs())

    def run(self, feed: dict[str, Array]) -> dict[str, Array]:
        """Outputs by name. StepFailed(ModelFailsOnData) with the runtime's own words."""
        try:
            answers = self._session.run(None, feed)
        except Exception as error:  # ONNX Runtime's errors share no base class
            text = " ".join(str(error).split())
            raise StepFailed(Reason.MODEL_FAILS_ON_DATA, f"ONNX Runtime failed on the rows: {text[:400]}") from error
        return {port.name: np.asarray(answer) for port, answer in zip(self.outputs, answers, strict=True)}


def open_model(path: Path) -> Model:
    """Check and load. StepFailed names what is wrong with the file."""
    size = path.stat().st_size
    if size > MAX_MODEL_BYTES:
        raise StepFailed(
            Reason.MODEL_TOO_LARGE,
            f"{path.name} has {size} bytes, at most {MAX_MODEL_BYTES} are supported: reduce its size",
        )
    proto = _checked(path)
    words = said(proto)
    del proto  # the runtime reads the file itself: hold one copy, not two
    try:
        session = onnxruntime.InferenceSession(str(path), _options(), providers=["CPUExecutionProvider"])
    except Exception as error:
        text = " ".join(str(error).split())
        raise StepFailed(
            Reason.MODEL_DOES_NOT_LOAD, f"ONNX Runtime {onnxruntime.__version__} cannot load the model: {text[:400]}"
        ) from error
    return Model(session, words)


def _checked(path: Path) -> onnx.ModelProto:
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's DecodeError, and whatever a damaged file provokes
        raise _invalid(f"not a valid ONNX file ({_short(error)}): export it again") from error
    external = next((t.name for t in _tensors(proto.graph) if t.data_location == onnx.TensorProto.EXTERNAL), None)
    if external is not None:
        raise StepFailed(
            Reason.EXTERNAL_DATA,
            f"weight {external!r} is stored outside of model.onnx: save it as one file (onnx.save_model(..., "
            "save_as_external_data=False))",
        )
    newest = {"": onnx.defs.onnx_opset_version(), "ai.onnx": onnx.defs.onnx_opset_version()}
    for opset in proto.opset_import:
        if opset.domain not in KNOWN_DOMAINS:
            raise _opset(f"unsupported operator domain {opset.domain!r}: export without custom operators")
        if opset.version > newest.get(opset.domain, opset.version):
            raise _opset(
                f"unsupported opset {opset.version}, at most {newest[opset.domain]} is supported: export with a lower "
                "target opset"
            )
    try:
        onnx.checker.check_model(proto)
    except Exception as error:
        raise _invalid(f"rejected by onnx.checker: {_short(error)}") from error
    return proto


def _tensors(graph: onnx.GraphProto) -> Any:
    """All weights of a graph and of the graphs within its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _tensors(inner)


def _port(raw: Any, what: str) -> Port:
    if raw.type not in BY_ONNX:
        raise StepFailed(
            Reason.SIGNATURE_MISMATCH,
            f"{what} {raw.name!r} is {raw.type}, must be a tensor"
            + (": export with zipmap=False" if "map" in raw.type else ""),
        )
    datatype = BY_ONNX[raw.type]
    shape = tuple(d if isinstance(d, int) and d > 0 else None for d in raw.shape)
    return Port(name=raw.name, dtype=datatype.dtype, datatype=datatype.name, shape=shape)


def _options() -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    return options


def _invalid(why: str) -> StepFailed:
    return StepFailed(Reason.MODEL_INVALID, f"model.onnx: {why}")


def _opset(why: str) -> StepFailed:
    return StepFailed(Reason.OPSET_UNSUPPORTED, f"model.onnx: {why}")


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
