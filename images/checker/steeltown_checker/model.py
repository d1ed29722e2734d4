"""An ONNX file, from bytes to something that answers: static checks, loading, its inputs and outputs.

The static checks are those that the server relies on: one self-contained file (its digest is then the model),
operators that the released runtime knows, and tensors at both ends. What counts is what is used: a file that ONNX
Runtime itself saved imports every domain that the runtime has, and one with functions of its own calls them by a domain
of its own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from steeltown_tensors import BY_NAME, BY_ONNX, Array, dimension_name

from .exporter import Said, said
from .reasons import Reason, StepFailed

COPY_BYTES: Final = 1 << 20
MAX_MODEL_BYTES: Final = (1 << 31) - 1  # of a protobuf message
os.environ.setdefault("ALLOW_RELEASED_ONNX_OPSET_ONLY", "0")
"""Read by onnxruntime: a domain that is imported in a version newer than it knows is no error, an operator of it is."""

ONNX_DOMAINS: Final = ("", "ai.onnx")
RUNTIME_DOMAINS: Final = (*ONNX_DOMAINS, "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc")
LOCALES: Final = ("C.UTF-8", "en_US.UTF-8")  # of the images: images/python/Containerfile
REMEDIES: Final = {
    "tensor(bfloat16)": "the protocol has no bfloat16: cast it to float32 (onnx.helper.make_node('Cast', ...)) at the "
    "edge of the graph, and export again",
    "seq(map": "must be a tensor: export with zipmap=False",
    "map": "must be a tensor: export with zipmap=False",
    "seq": "must be a tensor: make its elements outputs of their own, or concatenate them (ConcatFromSequence)",
    "optional": "must be a tensor: take the value out (OptionalGetElement)",
    "sparse": "must be a dense tensor",
}
OTHER_REMEDY: Final = "the protocol has no such element type: cast it to one that it has at the edge of the graph"


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output. shape: None for a free dimension. names: of dimensions; those of one name have one size."""

    name: str
    dtype: Any
    datatype: str
    shape: tuple[int | None, ...]
    names: tuple[str | None, ...] = ()

    @property
    def is_text(self) -> bool:
        return BY_NAME[self.datatype].is_bytes

    @property
    def is_float(self) -> bool:
        return BY_NAME[self.datatype].is_float

    @property
    def has_free_rows(self) -> bool:
        return bool(self.shape) and self.shape[0] is None

    def __str__(self) -> str:
        return f"{self.name} {self.datatype}{self.to_json()['shape']}"

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": [-1 if d is None else d for d in self.shape]}


class Model:
    """A loaded model. said: what its file says about classes.

    without_shape: names of outputs of which nothing says how many dimensions they have, but their answers.
    """

    def __init__(self, session: Any, said: Said, without_shape: frozenset[str] = frozenset()) -> None:
        self._session = session
        self._without_shape = without_shape
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
        found = {port.name: np.asarray(answer) for port, answer in zip(self.outputs, answers, strict=True)}
        if self._without_shape:
            self.outputs = tuple(
                replace(p, shape=(None,) * found[p.name].ndim) if p.name in self._without_shape else p
                for p in self.outputs
            )
            self._without_shape = frozenset()
        return found


def alone(path: Path, folder: Path) -> Path:
    """A copy of a file that others could write to, in an empty folder of ours: what is checked is what is loaded, and
    nothing that it names lies beside it. StepFailed if it is a link or too large."""
    target = folder / path.name
    try:
        source = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise StepFailed(Reason.RESULT_MISSING, f"{path} cannot be read ({why}): write the file itself") from error
    with source, target.open("wb") as copy:
        while chunk := source.read(COPY_BYTES):
            _require_size(path, copy.tell() + len(chunk))
            copy.write(chunk)
    return target


def _require_size(path: Path, size: int) -> None:
    if size > MAX_MODEL_BYTES:
        raise StepFailed(
            Reason.MODEL_TOO_LARGE,
            f"{path.name} has more than the {MAX_MODEL_BYTES} bytes that are supported: reduce its size",
        )


def open_model(path: Path) -> Model:
    """Check and load a file that nobody else writes to. StepFailed names what is wrong with it."""
    _require_size(path, path.stat().st_size)
    proto, without_shape = _checked(path)
    words = said(proto)
    del proto  # the runtime reads the file itself: hold one copy, not two
    try:
        session = onnxruntime.InferenceSession(str(path), _options(), providers=["CPUExecutionProvider"])
    except Exception as error:
        text = " ".join(str(error).split())
        hint = f"; the locales there are: {', '.join(LOCALES)}" if "construct locale" in text else ""
        raise StepFailed(
            Reason.MODEL_DOES_NOT_LOAD,
            f"ONNX Runtime {onnxruntime.__version__} cannot load the model: {text[:400]}{hint}",
        ) from error
    # The runtime may know of a shape that the file does not state.
    vague = frozenset(x.name for x in session.get_outputs() if x.name in without_shape and not x.shape)
    return Model(session, words, vague)


def _checked(path: Path) -> tuple[onnx.ModelProto, frozenset[str]]:
    """The file, and the names of its outputs that have no shape, as those of a Gaussian process have none."""
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's DecodeError, and whatever a damaged file provokes
        raise _invalid(f"not a valid ONNX file ({_short(error)}): export it again") from error
    if (external := next(_external(proto), None)) is not None:
        raise StepFailed(
            Reason.EXTERNAL_DATA,
            f"weight {external!r} is stored outside of model.onnx: save it as one file (onnx.save_model(..., "
            "save_as_external_data=False))",
        )
    _require_known_operators(proto)
    given = {tensor.name for tensor in proto.graph.initializer}
    if vague := [v.name for v in proto.graph.input if _is_without_shape(v) and v.name not in given]:
        raise StepFailed(
            Reason.SIGNATURE_MISMATCH,
            f"input {vague[0]!r} has no shape: state it when exporting (skl2onnx: initial_types), [] for a scalar",
        )
    without_shape = [v for v in proto.graph.output if _is_without_shape(v)]
    for output in without_shape:  # of which onnx.checker makes more than the runtime does
        output.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(proto)
    except Exception as error:
        raise _invalid(f"rejected by onnx.checker: {_short(error)}") from error
    return proto, frozenset(output.name for output in without_shape)


def _external(message: Any) -> Iterator[str]:
    """Names of tensors whose data is outside of the file, in whatever part of it: weights, sparse weights, attributes,
    graphs within nodes, functions, training."""
    if isinstance(message, onnx.TensorProto):
        if message.data_location == onnx.TensorProto.EXTERNAL:
            yield message.name
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else (value,):
                yield from _external(part)


def _require_known_operators(proto: onnx.ModelProto) -> None:
    """StepFailed(OpsetUnsupported) names an operator that is used and that the runtime does not have."""
    own = {(f.domain, f.name) for f in proto.functions}
    newest = onnx.defs.onnx_opset_version()
    for part in (proto.graph, *proto.functions):
        imported = part.opset_import if isinstance(part, onnx.FunctionProto) else proto.opset_import
        versions = {opset.domain: opset.version for opset in imported}
        for node in _nodes(part.node):
            if (node.domain, node.op_type) in own:
                continue
            if node.domain not in RUNTIME_DOMAINS:
                raise _opset(
                    f"unsupported operator {node.op_type!r} of domain {node.domain!r} (node {node.name!r}): export "
                    "without custom operators"
                )
            version = max(versions.get(domain, 0) for domain in ONNX_DOMAINS)
            if node.domain in ONNX_DOMAINS and version > newest:
                raise _opset(
                    f"unsupported opset {version} (operator {node.op_type!r}), at most {newest} is supported: export "
                    "with a lower target opset"
                )


def _nodes(nodes: Any) -> Iterator[onnx.NodeProto]:
    """These, and those of the graphs within them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _nodes(inner.node)


def _is_without_shape(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"))


def _port(raw: Any, what: str) -> Port:
    if raw.type not in BY_ONNX:
        remedy = next((text for start, text in REMEDIES.items() if raw.type.startswith(start)), OTHER_REMEDY)
        raise StepFailed(Reason.SIGNATURE_MISMATCH, f"{what} {raw.name!r} is {raw.type}, {remedy}")
    datatype = BY_ONNX[raw.type]
    shape = tuple(d if isinstance(d, int) and d > 0 else None for d in raw.shape)
    names = tuple(dimension_name(d) for d in raw.shape)
    return Port(name=raw.name, dtype=datatype.dtype, datatype=datatype.name, shape=shape, names=names)


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
