"""Just enough protocol buffers for ModelInfer: one request written, one response read.

Field numbers are those of the Open Inference Protocol's `inference.GRPCInferenceService`. By hand, so that the
benchmark shares no codec with any server it measures and needs no generated code.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"
DTYPES: Final[Mapping[str, np.dtype[Any]]] = {"FP32": np.dtype("<f4"), "INT64": np.dtype("<i8")}

# InferTensorContents: field -> dtype, for servers that do not answer with raw contents
_INT64_CONTENTS: Final = 3
_FP32_CONTENTS: Final = 6


def infer_request(model: str, name: str, array: np.ndarray) -> bytes:
    """ModelInferRequest with one FP32 input in raw_input_contents."""
    shape = b"".join(_varint(size) for size in array.shape)
    tensor = _text(1, name) + _text(2, "FP32") + _bytes(3, shape)
    return _text(1, model) + _bytes(5, tensor) + _bytes(7, array.astype("<f4").tobytes())


def framed(message: bytes) -> bytes:
    """As it stands in a gRPC call's body: not compressed, length, message."""
    return b"\0" + struct.pack(">I", len(message)) + message


def infer_response(message: bytes) -> dict[str, np.ndarray]:
    """Outputs by name, flat. ValueError: not a ModelInferResponse that we understand."""
    tensors: list[tuple[str, str, bytes]] = []
    raw: list[bytes] = []
    for number, value in _fields(message):
        if number == 5:
            tensors.append(_tensor(value))
        elif number == 6:
            raw.append(value)
    contents = raw if raw else [each[2] for each in tensors]
    if len(contents) != len(tensors):
        raise ValueError(f"{len(tensors)} outputs, {len(contents)} contents")
    return {
        name: np.frombuffer(content, DTYPES[datatype])
        for (name, datatype, _), content in zip(tensors, contents, strict=True)
    }


def _tensor(message: bytes) -> tuple[str, str, bytes]:
    """Name, datatype, and the typed contents as raw bytes."""
    name = datatype = ""
    content = b""
    for number, value in _fields(message):
        if number == 1:
            name = value.decode()
        elif number == 2:
            datatype = value.decode()
        elif number == 5:
            for kind, packed in _fields(value):
                if kind == _FP32_CONTENTS:
                    content += packed
                elif kind == _INT64_CONTENTS:
                    content += b"".join(struct.pack("<Q", number) for number in _varints(packed))
    return name, datatype, content


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Length-delimited fields; others carry nothing that is needed here, and are passed over."""
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        kind = key & 7
        if kind == 2:
            size, at = _read_varint(message, at)
            yield key >> 3, message[at : at + size]
            at += size
        elif kind == 0:
            _, at = _read_varint(message, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")


def _varints(packed: bytes) -> Iterator[int]:
    at = 0
    while at < len(packed):
        value, at = _read_varint(packed, at)
        yield value


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise ValueError("the message ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _text(number: int, value: str) -> bytes:
    return _bytes(number, value.encode())
