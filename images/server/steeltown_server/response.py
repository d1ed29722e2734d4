"""Protocol core, outbound: the model's arrays become the bytes of an answer.

Numbers go from numpy straight to JSON text (orjson prints a float32 with the digits a float32 has). NaN and
infinity have no JSON form and orjson would write null, so the caller looks first: `non_finite` names the output,
and the answer is an error that says to ask for binary data, never a silent null.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
from steeltown_tensors import Array

from .request import Call
from .signature import Signature

LENGTH: Final = struct.Struct("<I")


class Encoded(NamedTuple):
    """json_length: of the JSON part before binary tensors; None if all is JSON."""

    body: bytes
    json_length: int | None


class ResponseEncoder:
    """Encodes the answers of one model. What is the same in all of them is text already."""

    def __init__(self, signature: Signature, model_name: str, model_version: str) -> None:
        self._datatypes = {name: spec.datatype for name, spec in signature.outputs.items()}
        self._described = lru_cache(1024)(self._describe)
        names = orjson.dumps({"model_name": model_name, "model_version": model_version})
        self._prefix = names[:-1]

    def encode(self, call: Call, arrays: Sequence[Array]) -> Encoded:
        prefix = self._prefix if call.id is None else b'%b,"id":%b' % (self._prefix, orjson.dumps(call.id))
        outputs: list[bytes] = []
        tail: list[bytes] = []
        for name, binary, array in zip(call.outputs, call.binary, arrays, strict=True):
            outputs.append(self._as_binary(name, array, tail) if binary else self._as_json(name, array))
        json_part = b'%b,"outputs":[%b]}' % (prefix, b",".join(outputs))
        if True not in call.binary:
            return Encoded(json_part, None)
        return Encoded(b"".join((json_part, *tail)), len(json_part))

    def _as_json(self, name: str, array: Array) -> bytes:
        flat: Any = array.ravel()
        if self._datatypes[name].is_bytes:
            flat = flat.tolist()
        data = orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY)
        return b'%b,"data":%b}' % (self._described(name, array.shape), data)

    def _as_binary(self, name: str, array: Array, tail: list[bytes]) -> bytes:
        raw = _join_strings(array.ravel()) if self._datatypes[name].is_bytes else array.tobytes()
        tail.append(raw)
        return b'%b,"parameters":{"binary_data_size":%d}}' % (self._described(name, array.shape), len(raw))

    def _describe(self, name: str, shape: tuple[int, ...]) -> bytes:
        """The start of an output's JSON object, which is left open."""
        return orjson.dumps({"name": name, "datatype": self._datatypes[name].name, "shape": shape})[:-1]


def non_finite(names: Sequence[str], arrays: Sequence[Array]) -> tuple[str, ...]:
    """Names of the outputs that hold NaN or infinity."""
    return tuple(name for name, array in zip(names, arrays, strict=True) if not _is_finite(array))


def all_finite(arrays: Iterable[Array]) -> bool:
    return all(_is_finite(a) for a in arrays)


def _is_finite(array: Array) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _join_strings(values: Iterable[str]) -> bytes:
    parts: list[bytes] = []
    for value in values:
        raw = value.encode()
        parts += (LENGTH.pack(len(raw)), raw)
    return b"".join(parts)
