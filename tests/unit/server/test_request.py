"""The protocol core, inbound: which bytes are a request, and what is said of those that are not."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from steeltown_server import request
from steeltown_server.request import RequestDecoder
from steeltown_server.signature import BadRequest, Signature, TensorSpec

SPECS = {
    "f": TensorSpec.of("f", "tensor(float)", ["N", 2]),
    "i": TensorSpec.of("i", "tensor(int64)", ["N"]),
}
OUT = {
    "y": TensorSpec.of("y", "tensor(float)", ["N", 2]),
    "h": TensorSpec.of("h", "tensor(float16)", ["N"]),
}


def one(onnx: str, shape: list[Any], outputs: dict[str, TensorSpec] | None = None) -> RequestDecoder:
    signature = Signature({"x": TensorSpec.of("x", f"tensor({onnx})", shape)}, outputs or {"y": OUT["y"]})
    return RequestDecoder(signature, batching=True)


def encode(*inputs: dict[str, Any], tail: bytes | None = None, **more: Any) -> tuple[bytes, int | None]:
    text = json.dumps({"inputs": inputs, **more}).encode()
    return (text, None) if tail is None else (text + tail, len(text))


def x(shape: list[int], datatype: str, data: Any = None, **parameters: Any) -> dict[str, Any]:
    out: dict[str, Any] = {"name": "x", "shape": shape, "datatype": datatype}
    if data is not None:
        out["data"] = data
    if parameters:
        out["parameters"] = parameters
    return out


@pytest.mark.parametrize(
    ("onnx", "shape", "given_input", "expected"),
    [
        ("float", [-1, 2], x([2, 2], "FP32", [1, 2.5, 3, 4]), np.array([[1, 2.5], [3, 4]], np.float32)),
        ("float", [-1, 2], x([2, 2], "FP32", [[1, 2.5], [3, 4]]), np.array([[1, 2.5], [3, 4]], np.float32)),
        ("double", [None, None], x([1, 1], "FP64", [[0.1]]), np.array([[0.1]], np.float64)),
        ("float", ["N", 2], x([0, 2], "FP32", []), np.zeros((0, 2), np.float32)),
        ("float", ["N", "M"], x([2, 0], "FP32", [[], []]), np.zeros((2, 0), np.float32)),
        ("float", [], x([], "FP32", [7]), np.array(7, np.float32)),
        ("bool", ["N"], x([2], "BOOL", [True, False]), np.array([True, False])),
        ("uint64", ["N"], x([1], "UINT64", [2**64 - 1]), np.array([2**64 - 1], np.uint64)),
        ("int64", ["N"], x([1], "INT64", [-(2**63)]), np.array([-(2**63)], np.int64)),
        ("int64", ["N"], x([1], "INT64", [2**53 + 1]), np.array([2**53 + 1], np.int64)),
        ("string", ["N", 1], x([2, 1], "BYTES", ["é", ""]), np.array([["é"], [""]], object)),
    ],
)
def test_json_tensor_becomes_the_array_it_describes(
    onnx: str, shape: list[Any], given_input: dict[str, Any], expected: np.ndarray
) -> None:
    array = one(onnx, shape).decode(*encode(given_input)).feed["x"]
    assert array.dtype == expected.dtype
    assert array.shape == expected.shape
    assert array.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("onnx", "datatype", "raw", "expected"),
    [
        ("float", "FP32", struct.pack("<2f", 1.5, float("nan")), [1.5, float("nan")]),
        ("float16", "FP16", np.array([1.5, -2], np.float16).tobytes(), [1.5, -2]),
        ("bool", "BOOL", b"\1\0", [True, False]),
        ("int16", "INT16", struct.pack("<2h", -2, 3), [-2, 3]),
        ("string", "BYTES", b"\2\0\0\0\xc3\xa9\0\0\0\0", ["é", ""]),
    ],
)
def test_binary_tensor_becomes_the_array_it_holds(onnx: str, datatype: str, raw: bytes, expected: list[Any]) -> None:
    part = x([2], datatype, binary_data_size=len(raw))
    array = one(onnx, ["N"]).decode(*encode(part, tail=raw)).feed["x"]
    np.testing.assert_array_equal(array, np.array(expected, array.dtype))
    assert array.flags.aligned


def test_json_and_binary_inputs_mix_in_one_request() -> None:
    decoder = RequestDecoder(Signature(SPECS, {"y": OUT["y"]}), batching=True)
    f = {"name": "f", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
    i = {"name": "i", "shape": [1], "datatype": "INT64", "data": [7]}
    call = decoder.decode(*encode(i, f, tail=struct.pack("<2f", 1, 2)))
    assert call.feed["f"].tolist() == [[1, 2]]
    assert call.feed["i"].tolist() == [7]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("onnx", "datatype"), [("float", "FP32"), ("double", "FP64")])
@pytest.mark.parametrize("rows", [1, 2, 300, 70_000])
def test_null_in_a_float_tensor_is_nan(onnx: str, datatype: str, rows: int, nested: bool) -> None:
    given = np.arange(3 * rows, dtype=np.float64).reshape(rows, 3)
    given[::2, 1] = given[-1, 2] = np.nan
    data: Any = [[None if np.isnan(v) else v for v in row] for row in given.tolist()]
    sent = x([rows, 3], datatype, data if nested else [v for row in data for v in row])
    np.testing.assert_array_equal(one(onnx, ["N", 3]).decode(*encode(sent)).feed["x"], given)


@pytest.mark.parametrize("separator", [b", ", b" ,\n ", b","])
def test_null_is_found_whatever_white_space_is_beside_it(separator: bytes) -> None:
    data = separator.join([b"[" + separator.join([b"1", b" null ", b"-0.5"]) + b"]"] * 40)
    text = b'{"inputs":[{"name":"x","shape":[40,3],"datatype":"FP32","data":[' + data + b"]}]}"
    np.testing.assert_array_equal(
        one("float", ["N", 3]).decode(text, None).feed["x"], np.tile(np.array([1, np.nan, -0.5], np.float32), (40, 1))
    )


@pytest.mark.parametrize("beside", [b"1null", b"null1", b"nullnull", b"nul", b"NULL"])
def test_null_that_is_no_token_of_its_own_is_refused(beside: bytes) -> None:
    text = (
        b'{"inputs":[{"name":"x","shape":[300],"datatype":"FP32","data":[null'
        + b",0.25" * 298
        + b","
        + beside
        + b"]}]}"
    )
    with pytest.raises(BadRequest, match="malformed"):
        one("float", ["N"]).decode(text, None)


@pytest.mark.parametrize("length_given", [False, True])
def test_byte_order_mark_before_the_json_is_ignored(length_given: bool) -> None:
    text, _ = encode(x([1, 2], "FP32", binary_data_size=8) if length_given else x([1, 2], "FP32", [1, 2]))
    tail = struct.pack("<2f", 1, 2) if length_given else b""
    marked = b"\xef\xbb\xbf" + text
    call = one("float", ["N", 2]).decode(marked + tail, len(marked) if length_given else None)
    assert call.feed["x"].tolist() == [[1, 2]]


def test_both_halves_of_a_pair_are_one_character_and_an_escaped_backslash_begins_none() -> None:
    text, _ = encode(x([1, 2], "BYTES", ["\U0001f600", "\\ud800"]))
    assert one("string", ["N", 2]).decode(text, None).feed["x"].tolist() == [["\U0001f600", "\\ud800"]]


REFUSED = [
    ("float", x([1, 2], "FP64", [1, 2]), None, "input 'x': expected datatype FP32, got 'FP64'"),
    ("float", x([2], "FP32", [1, 2]), None, "input 'x': expected shape [-1, 2] (2 dimensions), got [2]"),
    ("float", x([1, 3], "FP32", [1, 2, 3]), None, "expected shape [-1, 2] (-1 means any size), got [1, 3]"),
    ("float", x([-1, 2], "FP32", []), None, "got [-1, 2]"),
    ("float", x([1, 2], "FP32", [1]), None, "input 'x': expected 2 elements for shape [1, 2], got 1"),
    ("float", x([10**9, 2], "FP32", [1]), None, "expected 2000000000 elements"),
    ("float", x([2, 2], "FP32", [[1, 2], [3]]), None, "expected 2 elements on axis 1 of nested data, got 1"),
    ("float", x([1, 2], "FP32", [[1, 2], [3, 4]]), None, "expected 1 elements on axis 0 of nested data, got 2"),
    ("float", x([1, 2], "FP32", [1, "2"]), None, "data is not FP32: Expected `float`, got `str`"),
    (
        "int64",
        x([1, 2], "INT64", [1, None]),
        None,
        "input 'x': data is not INT64: Expected `int`, got `null` - at `$[1]`;",
    ),
    ("int64", x([1, 2], "INT64", [[1, None]]), None, "got `null` - at `$[0][1]`; INT64 has no missing value, as FP32"),
    ("int64", x([200, 2], "INT64", [1] * 399 + [None]), None, "got `null` - at `$[399]`; INT64 has no missing value"),
    (
        "int64",
        x([300_000, 2], "INT64", [1] * 599_999 + [None]),
        None,
        "in shape [300000, 2], and element 599999 is null",
    ),
    ("uint8", x([1, 2], "UINT8", [None, 1]), None, "got `null` - at `$[0]`; UINT8 has no missing value"),
    (
        "bool",
        x([1, 2], "BOOL", [None, True]),
        None,
        "Expected `bool`, got `null` - at `$[0]`; BOOL has no missing value",
    ),
    ("string", x([1, 2], "BYTES", ["a", None]), None, "got `null` - at `$[1]`; BYTES has no missing value"),
    ("float", x([1, 2], "FP32", [None, "2"]), None, "data is not FP32: Expected `float | null`, got `str` - at `$[1]`"),
    ("float", x([1, 2], "FP32", [None, 1e39]), None, "a number in data is out of range for FP32"),
    ("float", x([1, 2], "FP32", [None]), None, "input 'x': expected 2 elements for shape [1, 2], got 1"),
    ("float", x([200, 2], "FP32", [1.5] * 398 + [None, "2"]), None, "got `str` - at `$[399]`"),
    (
        "string",
        x([1, 2], "BYTES", ["a", "\ud800"]),
        None,
        "invalid request: \\ud800 at byte 79 is half of a surrogate pair",
    ),
    ("float", x([1, 2], "FP32", [1, 1e39]), None, "a number in data is out of range for FP32"),
    ("float", x([1, 2], "FP32"), None, "input 'x' has neither data nor the parameter binary_data_size"),
    ("float", {"name": "z", "shape": [1], "datatype": "FP32", "data": [1]}, None, "unknown input 'z'"),
    ("int64", x([1, 2], "INT64", [1, 1.5]), None, "data is not INT64: Expected `int`, got `float`"),
    ("uint8", x([1, 2], "UINT8", [1, 256]), None, "a number in data is out of range for UINT8"),
    ("float16", x([1, 2], "FP16", [1, 2]), None, "input 'x' is FP16, which has no JSON representation"),
    ("float", x([1, 2], "FP32", binary_data_size=8), b"1234", "expected 8 bytes of binary data, got 4"),
    ("float", x([1, 2], "FP32", binary_data_size=4), b"1234", "expected binary_data_size 8 for shape [1, 2]"),
    ("float", x([1, 2], "FP32", binary_data_size=8), b"123456789", "expected 8 bytes after the JSON"),
    ("float", x([1, 2], "FP32", binary_data_size=-8), b"", "must be a whole number of bytes, got -8"),
    ("float", x([1, 2], "FP32", binary_data_size="8"), b"", "must be a whole number of bytes, got '8'"),
    ("float", x([1, 2], "FP32", [1, 2], binary_data_size=8), b"12345678", "has both data and binary_data_size"),
    ("float", x([1, 2], "FP32", [1, 2]), b"x", "expected 0 bytes after the JSON"),
    ("bool", x([1, 2], "BOOL", binary_data_size=2), b"\1\2", "a BOOL byte must be 0 or 1, got 2"),
    ("string", x([1, 2], "BYTES", binary_data_size=5), b"\1\0\0\0a", "expected 2 BYTES elements, got 1"),
    ("string", x([1, 2], "BYTES", binary_data_size=5), b"\2\0\0\0a", "element 0: expected 2 bytes, got 1"),
    ("string", x([1, 2], "BYTES", binary_data_size=2), b"\0\0", "element 0 has a truncated length"),
    ("string", x([1, 2], "BYTES", binary_data_size=5), b"\1\0\0\0\xff", "must be UTF-8"),
]


@pytest.mark.parametrize(("onnx", "given_input", "tail", "message"), REFUSED)
def test_wrong_tensor_is_refused_with_what_was_expected_and_got(
    onnx: str, given_input: dict[str, Any], tail: bytes | None, message: str
) -> None:
    with pytest.raises(BadRequest) as refusal:
        one(onnx, ["N", 2]).decode(*encode(given_input, tail=tail))
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "json_length", "message"),
    [
        (b"", None, "the JSON is empty"),
        (b"{", None, "invalid request: Input data was truncated"),
        (b"[]", None, "Expected `object`, got `array`"),
        (b"{}", None, "missing required field `inputs`"),
        (b'{"inputs":[{"name":"x"}]}', None, "missing required field `shape` - at `$.inputs[0]`"),
        (b'{"inputs":[]}', None, "missing input 'x'"),
        (b'{"inputs":[],"id":5}', None, "Expected `str | null`, got `int` - at `$.id`"),
        (b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[NaN,1]}]}', None, "JSON is malformed"),
        (
            b'{"inputs":[],"id":"\\\\\\ud83d"}',
            None,
            "invalid request: \\ud83d at byte 21 is half of a surrogate pair, which is no char",
        ),
        (b'{"inputs":[{"name":"a\\uDE00"}]}', None, "\\uDE00 at byte 21 is half of a surrogate pair"),
        (b'{"inputs":[],"id":"\\ud83d\\ud83d\\ude00"}', None, "\\ud83d at byte 19 is half of a surrogate pair"),
        (b"\xef\xbb\xbf", None, "the JSON is empty"),
        (b"\xef\xbb\xbf" * 2 + b'{"inputs":[]}', None, "JSON is malformed: invalid character (byte 0)"),
        (b"{}", 3, "invalid Inference-Header-Content-Length 3: exceeds the body of 2 bytes"),
        (b"\xff\xfe", None, "invalid request: "),
        (b'{"inputs":[{"name":"\xff"}]}', None, "invalid request: "),
        (b'{"inputs":' + b"[" * 100_000, None, "invalid request: "),
    ],
)
def test_malformed_request_is_refused(text: bytes, json_length: int | None, message: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        one("float", ["N", 2]).decode(text, json_length)
    assert message in str(refusal.value)


def test_input_given_twice_is_refused() -> None:
    with pytest.raises(BadRequest, match="duplicate input 'x'"):
        one("float", ["N", 2]).decode(*encode(x([1, 2], "FP32", [1, 2]), x([1, 2], "FP32", [1, 2])))


def test_dimensions_of_one_name_must_have_one_size() -> None:
    decoder = RequestDecoder(Signature(SPECS, {"y": OUT["y"]}), batching=True)
    f = {"name": "f", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    i = {"name": "i", "shape": [2], "datatype": "INT64", "data": [7, 8]}
    with pytest.raises(BadRequest, match="dimension 'N' must have the same size in all inputs, got 'f' axis 0 is 1"):
        decoder.decode(*encode(f, i))


@pytest.mark.parametrize("placeholder", ["?", "", " ", "*", "-1", "None", "unk", "Unknown", None])
def test_dimensions_that_exporters_know_nothing_of_are_independent(placeholder: str | None) -> None:
    specs = {n: TensorSpec.of(n, "tensor(float)", [placeholder, placeholder]) for n in ("a", "b")}
    decoder = RequestDecoder(Signature(specs, {"y": OUT["y"]}), batching=True)
    a = {"name": "a", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    b = {"name": "b", "shape": [3, 1], "datatype": "FP32", "data": [7, 8, 9]}
    call = decoder.decode(*encode(a, b))
    assert [call.feed[n].shape for n in "ab"] == [(1, 2), (3, 1)]
    assert call.rows == 0


@pytest.mark.parametrize(
    ("more", "names", "binary"),
    [
        ({"parameters": {"binary_data_output": True}}, ("y", "h"), (True, True)),
        ({"outputs": [{"name": "y"}]}, ("y",), (False,)),
        ({"outputs": [{"name": "h", "parameters": {"binary_data": True}}, {"name": "y"}]}, ("h", "y"), (True, False)),
        (
            {
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "y", "parameters": {"binary_data": False}}],
            },
            ("y",),
            (False,),
        ),
    ],
)
def test_outputs_are_those_asked_for_in_the_form_asked_for(
    more: dict[str, Any], names: tuple[str, ...], binary: tuple[bool, ...]
) -> None:
    call = one("float", ["N", 2], OUT).decode(*encode(x([1, 2], "FP32", [1, 2]), **more))
    assert (call.outputs, call.binary) == (names, binary)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "output 'h' is FP16, which has no JSON representation"),
        ({"outputs": [{"name": "q"}]}, "unknown output 'q': the model's outputs are 'y', 'h'"),
        ({"outputs": [{"name": "y"}, {"name": "y"}]}, "duplicate outputs"),
        ({"outputs": [{"name": "y", "parameters": {"binary_data": 1}}]}, "must be true or false, got 1"),
        ({"outputs": [{"name": "y", "parameters": {"classification": 2}}]}, "classification extension is not"),
    ],
)
def test_outputs_that_cannot_be_given_are_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        one("float", ["N", 2], OUT).decode(*encode(x([1, 2], "FP32", [1, 2]), **more))
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("onnx", "shape", "raw", "expected"),
    [
        ("float", ["N", 2], struct.pack("<4f", 1, 2, 3, 4), [[1, 2], [3, 4]]),
        ("float", [2], struct.pack("<2f", 1, 2), [1, 2]),
        ("string", ["N"], b"any bytes", ["any bytes"]),
    ],
)
def test_raw_request_is_the_single_input(onnx: str, shape: list[Any], raw: bytes, expected: list[Any]) -> None:
    call = one(onnx, shape).decode(raw, 0)
    assert call.feed["x"].tolist() == expected
    assert call.binary == (True,)


@pytest.mark.parametrize(
    ("onnx", "shape", "message"),
    [
        ("float", ["N", 2], "expected a multiple of 8 bytes for shape [-1, 2], got 7"),
        ("float", ["N", "M"], "its shape is ambiguous in a raw request"),
        ("string", ["N", 2], "a raw request carries one BYTES element"),
    ],
)
def test_raw_request_that_has_no_one_shape_is_refused(onnx: str, shape: list[Any], message: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        one(onnx, shape).decode(b"1234567", 0)
    assert message in str(refusal.value)


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=3, min_side=0), elements=st.floats(width=32)))
def test_any_array_comes_through_binary_bit_for_bit(array: np.ndarray) -> None:
    decoder = one("float", [None] * array.ndim)
    part = x(list(array.shape), "FP32", binary_data_size=array.nbytes)
    assert decoder.decode(*encode(part, tail=array.tobytes())).feed["x"].tobytes() == array.tobytes()


@given(
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=3, min_side=0),
        elements=st.floats(allow_nan=False, allow_infinity=False),
    ),
    st.booleans(),
)
def test_any_finite_array_comes_through_json_flat_or_nested(array: np.ndarray, nested: bool) -> None:
    data = array.tolist() if nested else array.ravel().tolist()
    decoded = one("double", [None] * array.ndim).decode(*encode(x(list(array.shape), "FP64", data))).feed["x"]
    np.testing.assert_array_equal(decoded, array)


@given(st.binary(max_size=200), st.one_of(st.none(), st.integers(0, 250)))
def test_random_bytes_are_refused_and_nothing_else_happens(body: bytes, json_length: int | None) -> None:
    with pytest.raises(BadRequest):
        one("float", ["N", 2, 5, 7]).decode(body, json_length if json_length else None)


LONG = {
    "float": ("FP32", st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)),
    "double": ("FP64", st.floats(allow_nan=False, allow_infinity=False)),
    "int8": ("INT8", st.integers(-128, 127)),
    "int64": ("INT64", st.integers(-(2**63), 2**63 - 1)),
    "uint16": ("UINT16", st.integers(0, 2**16 - 1)),
    "uint64": ("UINT64", st.integers(0, 2**64 - 1)),
}


@pytest.mark.parametrize("onnx", LONG)
@given(data=st.data(), nested=st.booleans())
def test_both_ways_through_an_array_agree_to_the_bit(onnx: str, data: st.DataObject, nested: bool) -> None:
    """Long arrays take a parser that makes no Python objects."""
    datatype, elements = LONG[onnx]
    rows = data.draw(st.lists(st.tuples(elements, elements), max_size=6))
    body, length = encode(x([len(rows), 2], datatype, rows if nested else [v for row in rows for v in row]))
    decoded = []
    for least in (0, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(request, "VECTORISED_BYTES", least)
            decoded.append(one(onnx, ["N", 2]).decode(body, length).feed["x"])
    fast, slow = decoded
    assert fast.dtype == slow.dtype
    assert fast.shape == slow.shape
    assert fast.tobytes() == slow.tobytes()


@pytest.mark.parametrize(
    ("onnx", "datatype", "values", "message"),
    [
        ("float", "FP32", [1] * 399 + [1e39], "a number in data is out of range for FP32"),
        ("float", "FP32", [1] * 399 + ["1"], "Expected `float`, got `str`"),
        ("float", "FP32", [1] * 399, "expected 400 elements for shape [200, 2], got 399"),
        ("float", "FP32", [[1, 2]] * 199 + [[1]], "expected 2 elements on axis 1 of nested data, got 1"),
        ("float", "FP32", [[1, 2]] * 198 + [[1, 2, 3], [1]], "expected 2 elements on axis 1 of nested data, got 3"),
        ("float", "FP32", [[1, 2]] * 199 + [[1, [2]]], "Expected `float`, got `array`"),
        ("int8", "INT8", [1] * 399 + [128], "a number in data is out of range for INT8"),
        ("uint8", "UINT8", [1] * 399 + [-1], "a number in data is out of range for UINT8"),
        ("int64", "INT64", [1] * 399 + [1.5], "data is not INT64: Expected `int`, got `float`"),
        ("uint64", "UINT64", [1] * 399 + [2**64], "a number in data is out of range for UINT64"),
    ],
)
def test_long_array_is_refused_in_the_same_words(onnx: str, datatype: str, values: list[Any], message: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        one(onnx, ["N", 2]).decode(*encode(x([200, 2], datatype, values)))
    assert message in str(refusal.value)


def test_very_long_array_is_refused_without_an_object_per_number() -> None:
    rows = 300_000
    values = [1.5] * (2 * rows - 1) + ["1"]
    with pytest.raises(BadRequest, match=r"data is not 600000 FP32 in shape \[300000, 2\]"):
        one("float", ["N", 2]).decode(*encode(x([rows, 2], "FP32", values)))


def test_nested_long_array_of_three_axes() -> None:
    array = np.arange(600, dtype=np.float32).reshape(10, 3, 20)
    decoder = one("float", ["N", 3, 20])
    decoded = decoder.decode(*encode(x([10, 3, 20], "FP32", array.tolist()))).feed["x"]
    np.testing.assert_array_equal(decoded, array)
    wrong = array.reshape(10, 4, 15).tolist()
    with pytest.raises(BadRequest, match="expected 3 elements on axis 1"):
        decoder.decode(*encode(x([10, 3, 20], "FP32", wrong)))
