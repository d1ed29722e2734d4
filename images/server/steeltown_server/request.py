"""Protocol core, inbound: the bytes of an infer request become a `Call` of numpy arrays, or a BadRequest.

Nothing here knows a socket or a header's spelling. The envelope is decoded by msgspec into typed structs; the
`data` of a tensor stays raw JSON until its input is known, and is then decoded straight into the element type
that the input has, so 1.5 for an INT64 is refused rather than cut, and no list is built twice. null is a missing
value: NaN where the datatype has one, else refused. Binary tensors are views into the body, copied only where the
machine needs alignment.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain
from math import prod
from types import UnionType
from typing import Any, Final

import msgspec
import numpy as np
import simdjson
from steeltown_tensors import Array, Datatype

from .signature import VARIABLE, BadRequest, Signature, TensorSpec, TooLarge

NULL: Final = b"null"
UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
LONE_SURROGATE: Final = re.compile(
    rb"(?<!\\)(?:\\\\)*(?:(\\u[dD][89abAB][0-9a-fA-F]{2})(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})(\\u[dD][c-fC-F][0-9a-fA-F]{2}))"
)
"""Half of a UTF-16 pair in a JSON string: the escape of no character."""
PACKED: Final = {
    "BOOL": "?",
    **dict(zip(("INT8", "INT16", "INT32", "INT64"), "bhiq", strict=True)),
    **dict(zip(("UINT8", "UINT16", "UINT32", "UINT64"), "BHIQ", strict=True)),
    "FP32": "f",
    "FP64": "d",
}
"""Format characters of `struct`."""
NESTED_PEEK_BYTES: Final = 64
VECTORISED_BYTES: Final = 512
VECTORISED_KINDS: Final = {"f": ("d", np.float64), "i": ("i", np.int64), "u": ("u", np.uint64)}
STRICT_BYTES: Final = 1 << 20
"""Above, what is wrong with an array is not told in detail: finding out takes an object per number."""

NAN: Final = float("nan")
KEPT_PARSER_BYTES: Final = 1 << 20
"""A parser keeps the memory of its largest document; for a larger one than this it is made anew."""
LENGTH: Final = struct.Struct("<I")
NO_TAIL: Final = memoryview(b"")


@dataclass(slots=True)
class Call:
    """A request that is valid for the model.

    outputs: names wanted, in the order of the answer; binary: for each, whether as raw bytes.
    rows: size of the common first axis, 0 where the request must run alone. group: calls with equal groups can be
    concatenated along the first axis.
    """

    feed: dict[str, Array]
    outputs: tuple[str, ...]
    binary: tuple[bool, ...]
    rows: int
    group: Any
    id: str | None = None


class _Input(msgspec.Struct, gc=False):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, Any] | None = None


class _Output(msgspec.Struct, gc=False):
    name: str
    parameters: dict[str, Any] | None = None


class _Request(msgspec.Struct, gc=False):
    inputs: list[_Input]
    id: str | None = None
    outputs: list[_Output] | None = None
    parameters: dict[str, Any] | None = None


_parser = simdjson.Parser()
_decode_request = msgspec.json.Decoder(_Request).decode


def _read_again(text: bytes | memoryview, error: Exception) -> _Request:
    """What could not be read, without a byte order mark, which may be ignored: RFC 8259, 8.1."""
    if text[: len(BYTE_ORDER_MARK)] == BYTE_ORDER_MARK:
        text = text[len(BYTE_ORDER_MARK) :]
        try:
            return _decode_request(text)
        except UNREADABLE as without_mark:
            error = without_mark
    raise BadRequest(f"invalid request: {_reason(error, text)}") from None


class RequestDecoder:
    """Decodes infer requests for one model. batching: whether calls may get `rows` and so run together.

    json_limit_bytes: a number in JSON becomes many times its size before it is a tensor; binary data does not.
    """

    def __init__(self, signature: Signature, *, batching: bool, json_limit_bytes: int = 16 << 20) -> None:
        self._signature = signature
        self._json_limit_bytes = json_limit_bytes
        self._inputs = signature.inputs
        self._batching = batching and signature.may_batch
        names = signature.output_names
        self._all_json = (names, (False,) * len(names))
        self._all_binary = (names, (True,) * len(names))
        self._has_fp16_output = any(o.datatype.element is None for o in signature.outputs.values())

    def decode(self, body: bytes, json_length: int | None) -> Call:
        """json_length: of the JSON part that stands before the binary tensors; None = all JSON, 0 = a raw request."""
        if json_length == 0:
            return self._decode_raw(body)
        json_part: bytes | memoryview = body
        tail = NO_TAIL
        if json_length is None:
            json_length = len(body)
        elif json_length > len(body):
            raise BadRequest(
                f"invalid Inference-Header-Content-Length {json_length}: exceeds the body of {len(body)} bytes"
            )
        else:
            view = memoryview(body)
            json_part, tail = view[:json_length], view[json_length:]
        if json_length > self._json_limit_bytes:
            raise TooLarge(
                f"the JSON part exceeds the limit of {self._json_limit_bytes} bytes: send tensors as binary data"
            )
        try:
            request = _decode_request(json_part)
        except UNREADABLE as error:
            request = _read_again(json_part, error)
        feed = self._feed(request.inputs, tail)
        outputs, binary = self._wanted(request)
        return self._call(feed, outputs, binary, request.id)

    def _feed(self, inputs: list[_Input], tail: memoryview) -> dict[str, Array]:
        feed: dict[str, Array] = {}
        offset = 0
        for tensor in inputs:
            spec = self._inputs.get(tensor.name)
            if spec is None:
                raise BadRequest(f"unknown input {tensor.name!r}: the model's inputs are {_names(self._inputs)}")
            if tensor.name in feed:
                raise BadRequest(f"duplicate input {tensor.name!r}")
            if tensor.datatype != spec.datatype.name:
                raise BadRequest(
                    f"input {tensor.name!r}: expected datatype {spec.datatype.name}, got {tensor.datatype!r}"
                )
            spec.check_shape(tensor.shape)
            size = None
            if tensor.parameters:
                size = tensor.parameters.get("binary_data_size")
                _no_shared_memory(tensor.parameters, f"input {tensor.name!r}")
            if size is None:
                feed[tensor.name] = _from_json(spec, tensor.shape, tensor.data)
            else:
                feed[tensor.name] = _from_tail(spec, tensor, size, tail, offset)
                offset += size
        if offset != len(tail):
            raise BadRequest(
                f"binary data: expected {offset} bytes after the JSON (sum of binary_data_size), got {len(tail)}"
            )
        if len(feed) != len(self._inputs):
            missing = [name for name in self._inputs if name not in feed]
            raise BadRequest(f"missing input {_names(missing)}: the model's inputs are {_names(self._inputs)}")
        return feed

    def _wanted(self, request: _Request) -> tuple[tuple[str, ...], tuple[bool, ...]]:
        default = _flag(request.parameters, "binary_data_output", False, "request")
        if not request.outputs:
            names, binary = self._all_binary if default else self._all_json
        else:
            names = tuple(o.name for o in request.outputs)
            for name in names:
                if name not in self._signature.outputs:
                    raise BadRequest(
                        f"unknown output {name!r}: the model's outputs are {_names(self._signature.outputs)}"
                    )
            if len(set(names)) != len(names):
                raise BadRequest(f"duplicate outputs: {_names(names)}")
            binary = tuple(_flag(o.parameters, "binary_data", default, f"output {o.name!r}") for o in request.outputs)
        if self._has_fp16_output:
            for name, raw in zip(names, binary, strict=True):
                if not raw and self._signature.outputs[name].datatype.element is None:
                    raise BadRequest(
                        f"output {name!r} is FP16, which has no JSON representation: set binary_data to true"
                    )
        return names, binary

    def _call(self, feed: dict[str, Array], outputs: tuple[str, ...], binary: tuple[bool, ...], id: str | None) -> Call:
        self._signature.check_symbols(feed)
        rows, group = 0, outputs
        if self._batching:
            rows = next(iter(feed.values())).shape[0]
            if len(feed) > 1 and any(a.shape[0] != rows for a in feed.values()):
                rows = 0
            if not self._signature.has_fixed_rows:
                return Call(feed, outputs, binary, rows, (outputs, *(feed[n].shape[1:] for n in self._inputs)), id)
        return Call(feed, outputs, binary, rows, group, id)

    def _decode_raw(self, body: bytes) -> Call:
        """The whole body is the one input; every output comes back binary."""
        if len(self._inputs) != 1:
            raise BadRequest(f"a raw request requires a model with one input, this model has {_names(self._inputs)}")
        spec = next(iter(self._inputs.values()))
        shape = _raw_shape(spec, len(body))
        if spec.datatype.is_bytes:
            array = _object_array([_text(spec, body)], shape)
        else:
            array = _from_buffer(spec, memoryview(body), shape)
        return self._call({spec.name: array}, *self._all_binary, None)


def _raw_shape(spec: TensorSpec, size: int) -> list[int]:
    if spec.datatype.is_bytes:
        if any(d not in (1, VARIABLE) for d in spec.dims):
            raise BadRequest(
                f"input {spec.name!r}: a raw request carries one BYTES element, expected {list(spec.dims)}"
            )
        return [1] * len(spec.dims)
    if spec.dims.count(VARIABLE) > 1:
        raise BadRequest(
            f"input {spec.name!r} has several variable dimensions {list(spec.dims)}: its shape is ambiguous in a raw "
            "request"
        )
    unit = spec.datatype.itemsize * prod(d for d in spec.dims if d != VARIABLE)
    shape = [(size // unit if unit else 0) if d == VARIABLE else d for d in spec.dims]
    if prod(shape) * spec.datatype.itemsize != size:
        raise BadRequest(
            f"input {spec.name!r}: expected a multiple of {unit} bytes for shape {list(spec.dims)}, got {size}"
        )
    return shape


# -- JSON tensors


@cache
def _element_decoder(element: type | UnionType, depth: int) -> Callable[[Any], Any]:
    kind: Any = element
    for _ in range(depth):
        kind = list[kind]
    return msgspec.json.Decoder(kind).decode


def _from_json(spec: TensorSpec, shape: list[int], raw: msgspec.Raw) -> Array:
    """Flat or nested, row-major."""
    text = bytes(raw)
    if not text or text == NULL:
        raise BadRequest(f"input {spec.name!r} has neither data nor the parameter binary_data_size")
    if spec.datatype.element is None:
        raise BadRequest(
            f"input {spec.name!r} is {spec.datatype.name}, which has no JSON representation: send it as binary data"
        )
    nested = len(shape) > 1 and text[1:NESTED_PEEK_BYTES].lstrip().startswith(b"[")
    if len(text) > VECTORISED_BYTES:
        if (array := _vectorised(spec, shape, text, nested)) is not None:
            return array
        if spec.datatype.is_float and NULL in text and (array := _with_nulls(spec, shape, text, nested)) is not None:
            return array
        if len(text) > STRICT_BYTES and spec.datatype.dtype.kind in VECTORISED_KINDS:
            raise BadRequest(
                f"input {spec.name!r}: data is not {prod(shape)} {spec.datatype.name} in shape {shape}"
                + (f", and element {_null_indices(text)[0]} is null" if NULL in text else "")
            )
    depth = len(shape) if nested else 1
    try:
        values = _element_decoder(spec.datatype.element, depth)(text)
    except UNREADABLE as error:
        if not (spec.datatype.is_float and NULL in text):
            raise _not_the_datatype(spec, error, text) from None
        values = _numbers_or_nulls(spec, depth, text)
    if nested:
        values = _flatten(spec, shape, values)
    elif len(values) != prod(shape):
        raise BadRequest(f"input {spec.name!r}: expected {prod(shape)} elements for shape {shape}, got {len(values)}")
    return _to_array(spec, values, shape)


def _not_the_datatype(spec: TensorSpec, error: Exception, text: bytes) -> BadRequest:
    reason = _reason(error, text)
    hint = f"; {spec.datatype.name} has no missing value, as FP32 and FP64 have" if "got `null`" in reason else ""
    return BadRequest(f"input {spec.name!r}: data is not {spec.datatype.name}: {reason}{hint}")


def _numbers_or_nulls(spec: TensorSpec, depth: int, text: bytes) -> list[Any]:
    """Lists nested `depth` deep, null as NaN."""
    try:
        return _nan_for_none(_element_decoder(float | None, depth)(text), depth)
    except UNREADABLE as error:
        raise _not_the_datatype(spec, error, text) from None


def _nan_for_none(values: list[Any], depth: int) -> list[Any]:
    if depth > 1:
        return [_nan_for_none(part, depth - 1) for part in values]
    return [NAN if value is None else value for value in values]


def _with_nulls(spec: TensorSpec, shape: list[int], data: bytes, nested: bool) -> Array | None:
    """`_vectorised` of data with nulls: read as 0, which stands apart from a digit beside it, then made NaN."""
    array = _vectorised(spec, shape, data.replace(NULL, b" 0 "), nested)
    if array is None:
        return None
    array = array.copy()  # what was parsed may be read-only
    array.reshape(-1)[_null_indices(data)] = NAN
    return array


def _null_indices(numbers: bytes) -> Array:
    """Where null stands among numbers, in row-major order: lists have one comma before every element but the first."""
    text = np.frombuffer(numbers, np.uint8)
    return np.searchsorted(np.flatnonzero(text == ord(",")), np.flatnonzero(text == ord("n")))


def _vectorised(spec: TensorSpec, shape: list[int], data: bytes, nested: bool) -> Array | None:
    """The same without a Python object per number, which is most of the time of a long array.

    None: it is not what it should be, or of a datatype that gains nothing; the strict way then finds what to say.
    """
    wanted = VECTORISED_KINDS.get(spec.datatype.dtype.kind)
    if wanted is None or not _has_brackets(data, shape if nested else shape[:1]):
        return None
    parser = _parser if len(data) <= KEPT_PARSER_BYTES else simdjson.Parser()
    element_type, wide = wanted
    try:
        parsed: Any = parser.parse(data)
        if nested and not _has_shape(parsed, shape):
            return None
        array = np.frombuffer(parsed.as_buffer(of_type=element_type), wide)
    except (ValueError, TypeError, AttributeError, RuntimeError):  # its errors share no base but Exception
        return None
    finally:
        parsed = None  # the parser is used again only when nothing of the last document is left
    if array.size != prod(shape):
        return None
    if spec.datatype.dtype.kind != "f":
        limits = np.iinfo(spec.datatype.dtype)
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            return None
    with np.errstate(over="ignore"):
        narrow = array.astype(spec.datatype.dtype, copy=False).reshape(shape)
    return None if narrow.dtype.kind == "f" and not np.isfinite(narrow).all() else narrow


def _has_brackets(data: bytes, shape: Sequence[int]) -> bool:
    """Whether there are as many lists as data nested in `shape` has: the parser looks through what is nested more."""
    if len(shape) < 2:
        return data.find(b"[", 1) < 0
    wanted = 1 + sum(prod(shape[: axis + 1]) for axis in range(len(shape) - 1))
    return bool(np.count_nonzero(np.frombuffer(data, np.uint8) == ord("[")) == wanted)


def _has_shape(parsed: Any, shape: Sequence[int]) -> bool:
    if len(parsed) != shape[0]:
        return False
    if len(shape) == 2:
        return all(len(row) == shape[1] for row in parsed)
    return all(_has_shape(part, shape[1:]) for part in parsed)


def _flatten(spec: TensorSpec, shape: list[int], nested: list[Any]) -> list[Any]:
    level: list[Any] = [nested]
    for axis, size in enumerate(shape):
        for part in level:
            if len(part) != size:
                raise BadRequest(
                    f"input {spec.name!r}: expected {size} elements on axis {axis} of nested data, got {len(part)}"
                )
        level = list(chain.from_iterable(level))
    return level


def _to_array(spec: TensorSpec, values: list[Any], shape: list[int]) -> Array:
    datatype = spec.datatype
    if datatype.is_bytes:
        return _object_array(values, shape)
    try:
        # struct refuses 1e39 for a float32, where numpy makes it infinity; and it is quicker.
        packed = _packer(PACKED[datatype.name], len(values))(*values)
    except (struct.error, OverflowError):
        raise BadRequest(f"input {spec.name!r}: a number in data is out of range for {datatype.name}") from None
    return np.frombuffer(packed, datatype.dtype).reshape(shape)


@lru_cache(256)
def _packer(element: str, count: int) -> Callable[..., bytes]:
    return struct.Struct(f"={count}{element}").pack


def _object_array(values: list[str], shape: list[int]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array.reshape(shape)


# -- binary tensors


def _from_tail(spec: TensorSpec, tensor: _Input, size: Any, tail: memoryview, offset: int) -> Array:
    if type(size) is not int or size < 0:
        raise BadRequest(f"input {spec.name!r}: binary_data_size must be a whole number of bytes, got {size!r}")
    if tensor.data and bytes(tensor.data) != NULL:  # one client sends null with an empty tensor
        raise BadRequest(f"input {spec.name!r} has both data and binary_data_size")
    if size > len(tail) - offset:
        raise BadRequest(f"input {spec.name!r}: expected {size} bytes of binary data, got {len(tail) - offset}")
    part = tail[offset : offset + size]
    if spec.datatype.is_bytes:
        return _object_array(_split_strings(spec, part, prod(tensor.shape)), tensor.shape)
    expected = prod(tensor.shape) * spec.datatype.itemsize
    if size != expected:
        raise BadRequest(
            f"input {spec.name!r}: expected binary_data_size {expected} for shape {tensor.shape} of "
            f"{spec.datatype.name}, got {size}"
        )
    return _from_buffer(spec, part, tensor.shape)


def _from_buffer(spec: TensorSpec, part: memoryview, shape: list[int]) -> Array:
    datatype: Datatype = spec.datatype
    if datatype.name == "BOOL" and part.nbytes and max(part) > 1:
        raise BadRequest(f"input {spec.name!r}: a BOOL byte must be 0 or 1, got {max(part)}")
    array = np.frombuffer(part, datatype.dtype).reshape(shape)
    return array if array.flags.aligned else array.copy()


def _split_strings(spec: TensorSpec, part: memoryview, count: int) -> list[str]:
    """Elements of 4 bytes little-endian length and that many bytes."""
    values: list[str] = []
    offset = 0
    while offset < len(part):
        if len(part) - offset < LENGTH.size:
            raise BadRequest(f"input {spec.name!r}: BYTES element {len(values)} has a truncated length")
        (length,) = LENGTH.unpack_from(part, offset)
        offset += LENGTH.size
        if length > len(part) - offset:
            raise BadRequest(
                f"input {spec.name!r}: BYTES element {len(values)}: expected {length} bytes, got {len(part) - offset}"
            )
        values.append(_text(spec, part[offset : offset + length]))
        offset += length
    if len(values) != count:
        raise BadRequest(f"input {spec.name!r}: expected {count} BYTES elements, got {len(values)}")
    return values


def _text(spec: TensorSpec, part: memoryview | bytes) -> str:
    try:
        return str(part, "utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"input {spec.name!r}: BYTES must be UTF-8 for an ONNX string: {error.reason}") from None


# -- words


def _flag(parameters: dict[str, Any] | None, name: str, default: bool, where: str) -> bool:
    if not parameters:
        return default
    _no_shared_memory(parameters, where)
    if where.startswith("output") and parameters.get("classification"):
        raise BadRequest(f"{where}: the classification extension is not supported")
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise BadRequest(f"{where}: parameter {name} must be true or false, got {value!r}")
    return value


def _no_shared_memory(parameters: dict[str, Any], where: str) -> None:
    """A client that expects its answer there would wait in vain."""
    if "shared_memory_region" in parameters:
        raise BadRequest(f"{where}: the shared memory extension is not supported")


def _names(names: Any) -> str:
    return ", ".join(repr(n) for n in names) or "none"


def _reason(error: Exception, text: bytes | memoryview) -> str:
    if not len(text):
        return "the JSON is empty"
    if found := LONE_SURROGATE.search(text):
        group = 1 if found[1] else 2
        return (
            f"{found[group].decode()} at byte {found.start(group)} is half of a surrogate pair, which is no character: "
            "write both halves, or the character"
        )
    return str(error)
