"""Protobuf to REST and back: a message becomes a `Request` with binary tensors, an `Answer` becomes a message.

Nothing is checked here that the core checks. What stays is what only gRPC can get wrong: raw and typed contents in
one request, a typed value that its datatype cannot hold, contents in the field of another datatype.

Answers carry raw contents always, also to typed requests: the most widespread client decodes no typed numbers at
all, and every client decodes raw.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import prod
from typing import Any, Final
from urllib.parse import quote

import msgspec
import numpy as np
import orjson
from steeltown_tensors import BY_NAME

from ..http import OCTETS, Answer, Request
from ..request import LENGTH
from ..signature import BadRequest, TooLarge
from . import inference_pb2 as pb

FIELDS: Final = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
SHARED_FIELDS: Final = frozenset(("int_contents", "uint_contents"))
REMEMBERED_CHARACTERS: Final = 256
CHUNK: Final = 16384
"""Values converted in one step: between steps other threads get their turn, above all the event loop's."""


class _Size(msgspec.Struct, gc=False):
    binary_data_size: int


class _Output(msgspec.Struct, gc=False):
    name: str
    shape: list[int]
    datatype: str
    parameters: _Size


class _Head(msgspec.Struct, gc=False):
    model_name: str
    model_version: str
    outputs: list[_Output]
    id: str = ""


_decode_head = msgspec.json.Decoder(_Head).decode


def model_path(name: str, version: str) -> bytes:
    """Path of a model, or of one version of it. Names are meant as they stand: what looks encoded is encoded again."""
    # Names are the client's: what is remembered of them must be small.
    make = _model_path if len(name) + len(version) <= REMEMBERED_CHARACTERS else _model_path.__wrapped__
    return make(name, version)


@lru_cache(256)
def _model_path(name: str, version: str) -> bytes:
    path = f"/v2/models/{quote(name, safe='')}"
    return (f"{path}/versions/{quote(version, safe='')}" if version else path).encode()


# -- requests


def infer_request(message: Any, limit_bytes: int) -> Request:
    """message: ModelInferRequest. BadRequest, TooLarge: what the client did wrong in terms of gRPC."""
    raws = _raw_contents(message) if message.raw_input_contents else _typed_contents(message, limit_bytes)
    inputs = [_input(t.name, t.datatype, tuple(t.shape), len(r)) for t, r in zip(message.inputs, raws, strict=True)]
    more: dict[str, Any] = {"parameters": {"binary_data_output": True}}
    if message.id:
        more["id"] = message.id
    if message.outputs:
        more["outputs"] = [{"name": o.name, "parameters": _output_parameters(o)} for o in message.outputs]
    json_part = b'{"inputs":[%b],%b' % (b",".join(inputs), orjson.dumps(more)[1:])
    headers = {b"content-type": OCTETS, b"inference-header-content-length": b"%d" % len(json_part)}
    target = model_path(message.model_name, message.model_version) + b"/infer"
    return Request(b"POST", target, headers, b"".join((json_part, *raws)))


def _input(name: str, datatype: str, shape: tuple[int, ...], size: int) -> bytes:
    parameters = {"binary_data_size": size}
    return orjson.dumps({"name": name, "shape": shape, "datatype": datatype, "parameters": parameters})


def _output_parameters(output: Any) -> dict[str, Any]:
    given = {name: getattr(p, p.WhichOneof("parameter_choice") or "", None) for name, p in output.parameters.items()}
    return given | {"binary_data": True}


def _raw_contents(message: Any) -> list[bytes]:
    inputs, raws = message.inputs, message.raw_input_contents
    for tensor in inputs:
        if tensor.HasField("contents") and tensor.contents.ListFields():
            raise BadRequest(
                f"input {tensor.name!r} has contents in addition to raw_input_contents: "
                "send either all inputs raw or all inputs typed"
            )
    if len(raws) != len(inputs):
        raise BadRequest(f"raw_input_contents: expected one for each of the {len(inputs)} inputs, got {len(raws)}")
    return list(raws)


def _typed_contents(message: Any, limit_bytes: int) -> list[bytes]:
    raws: list[bytes] = []
    left = limit_bytes
    for tensor in message.inputs:
        raws.append(_raw(tensor, left, limit_bytes))
        left -= len(raws[-1])
    return raws


def _raw(tensor: Any, left: int, limit_bytes: int) -> bytes:
    """The values as raw contents; b"" for a datatype that the core will refuse. left: bytes of the limit."""
    name, datatype, contents = tensor.name, tensor.datatype, tensor.contents
    if datatype == "FP16":
        raise BadRequest(f"input {name!r} is FP16, which has no typed contents: use raw_input_contents")
    if datatype not in FIELDS:
        return b""
    field = FIELDS[datatype]
    for used, _ in contents.ListFields():
        if used.name != field:
            raise BadRequest(f"input {name!r}: {datatype} values are expected in {field}, got {used.name}")
    values = getattr(contents, field)
    shape = list(tensor.shape)
    if min(shape, default=0) >= 0 and len(values) != prod(shape):
        raise BadRequest(f"input {name!r}: expected {prod(shape)} elements for shape {shape}, got {len(values)}")
    dtype = BY_NAME[datatype].dtype
    size = LENGTH.size if datatype == "BYTES" else dtype.itemsize
    if len(values) * size > left:
        raise TooLarge(f"input {name!r}: the values exceed the limit of {limit_bytes} bytes")
    if datatype == "BYTES":
        return b"".join(part for value in values for part in (LENGTH.pack(len(value)), value))
    narrow = np.iinfo(dtype) if field in SHARED_FIELDS and dtype.itemsize < 4 else None
    parts: list[bytes] = []
    for start in range(0, len(values), CHUNK):
        part = np.array(values[start : start + CHUNK], np.int64 if narrow else dtype)
        if narrow:
            outside = part[(part < narrow.min) | (part > narrow.max)]
            if outside.size:
                raise BadRequest(f"input {name!r}: {outside[0]} is out of range for {datatype}")
            part = part.astype(dtype)
        parts.append(part.tobytes())
    return b"".join(parts)


# -- answers


def infer_response(answer: Answer, json_length: int) -> bytes:
    """ModelInferResponse, serialized, of an answer with status 200. ValueError (msgspec's errors are): not a binary
    answer. The parts that repeat are serialized already: joined messages are one message (protobuf, encoding,
    "Last One Wins")."""
    body = answer.body
    head = _decode_head(memoryview(body)[:json_length])
    raws: list[bytes] = []
    start = json_length
    for output in head.outputs:
        end = start + output.parameters.binary_data_size
        raws.append(body[start:end])
        start = end
    if start != len(body):
        raise ValueError(f"the answer has {len(body)} bytes, its head says {start}")
    own = pb.ModelInferResponse(id=head.id, raw_output_contents=raws).SerializeToString()
    outputs = [_output(o.name, o.datatype, tuple(o.shape)) for o in head.outputs]
    return b"".join((_model(head.model_name, head.model_version), *outputs, own))


@lru_cache(16)
def _model(name: str, version: str) -> bytes:
    serialized: bytes = pb.ModelInferResponse(model_name=name, model_version=version).SerializeToString()
    return serialized


@lru_cache(256)
def _output(name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    described = pb.ModelInferResponse.InferOutputTensor(name=name, datatype=datatype, shape=shape)
    serialized: bytes = pb.ModelInferResponse(outputs=[described]).SerializeToString()
    return serialized


def model_metadata(answer: Answer, digest: str) -> Any:
    """ModelMetadataResponse."""
    body = orjson.loads(answer.body)
    return pb.ModelMetadataResponse(**body, properties={"digest": digest})


def server_metadata(answer: Answer) -> Any:
    """ServerMetadataResponse. The extensions that REST names are REST's: no call here has them."""
    body = orjson.loads(answer.body)
    return pb.ServerMetadataResponse(name=body["name"], version=body["version"])


def error_text(answer: Answer) -> str:
    text: str = orjson.loads(answer.body)["error"]
    return text


@lru_cache(256)
def headers(raw: bytes) -> Mapping[str, str]:
    """The further headers of an answer."""
    lines = raw.decode("latin-1").split("\r\n")
    return {name: value for name, _, value in (line.partition(": ") for line in lines if line)}
