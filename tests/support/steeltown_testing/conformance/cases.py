"""The table: what is sent, what must come back, where that is written, and how binding it is.

A case is one request and one answer. `statuses` are those that the clause allows; `exact` is the one that our server
has decided on, checked at level STEELTOWN. In paths {m} is the model and {v} its version; a case with {v} does not
apply to a server that names no version.

Levels. MUST: the text of the Open Inference Protocol, of an extension that the server names, or of HTTP. SHOULD:
what the texts imply and known clients rely on. STEELTOWN: corners that no text decides, as our server decides them.
"""

from __future__ import annotations

import gzip
import json
import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from steeltown_testing.conformance.checks import (
    Check,
    anything,
    binary_outputs,
    each,
    encoded,
    gives,
    has,
    has_no_null,
    header,
    is_config,
    is_error,
    is_index,
    is_metadata,
    is_statistics,
    lists,
    no_body,
)
from steeltown_testing.conformance.models import GOLDEN, TYPES, direct
from steeltown_testing.conformance.target import BODY_LIMIT_BYTES
from steeltown_testing.conformance.wire import (
    JSON_LENGTH,
    JSON_TYPE,
    OCTETS_TYPE,
    Body,
    Tensor,
    binary,
    flat,
    in_json,
    infer,
    nested,
    strings,
    to_bytes,
)

MUST, SHOULD, STEELTOWN = "MUST", "SHOULD", "STEELTOWN"
OK: Final = (200,)
REFUSED: Final = range(400, 500)
FAILED: Final = range(400, 600)
NO_BODY: Final = Body(b"")
INFER: Final = "/v2/models/{m}/infer"


@dataclass(frozen=True, kw_only=True)
class Case:
    """extension: named in the server's metadata, the case binds only then; "" is the protocol itself."""

    name: str
    clause: str
    level: str = MUST
    extension: str = ""
    model: str = "single"
    method: str = "POST"
    path: str = INFER
    body: Body = NO_BODY
    statuses: tuple[int, ...] | range = OK
    exact: int | None = None
    check: Check


CASES: list[Case] = []


def case(name: str, clause: str, check: Check, **more: Any) -> None:
    CASES.append(Case(name=name, clause=clause, check=check, **more))


def get(path: str, clause: str, check: Check, **more: Any) -> None:
    case(f"get {path}", clause, check, method="GET", path=path, **more)


def refused(name: str, clause: str, body: Body, exact: int = 400, **more: Any) -> None:
    """The client's mistake: the error object and, as we read the text's "typically 400", a 4xx; ours is `exact`."""
    case(name, clause, is_error, body=body, **{"level": SHOULD, "statuses": REFUSED, "exact": exact, **more})


# -- health and metadata

SINGLE_PORTS = ([("x", "FP32", [-1, 3])], [("y", "FP32", [-1, 3])])
PAIR_PORTS = (
    [("a", "FP32", [-1, 2]), ("b", "INT64", [-1, 2])],
    [("total", "FP32", [-1, 2]), ("negative", "INT64", [-1, 2])],
)
FIXED_PORTS = ([("x", "FP32", [2, 3])], [("y", "FP32", [2, 3])])
EDGE_PORTS = (
    [("scalar", "FP32", []), ("matrix", "FP32", [-1, -1])],
    [("scalar_out", "FP32", []), ("matrix_out", "FP32", [-1, -1])],
)
TYPE_PORTS = ([(n, n.upper(), [-1, 2]) for n in TYPES], [(f"{n}_out", n.upper(), [-1, 2]) for n in TYPES])

get("/v2/health/live", "REST, Server Live", has(live=True))
get("/v2/health/ready", "REST, Server Ready (the text's `live` is an error, clients read `ready`)", has(ready=True))
get("/v2", "REST, Server Metadata", lists(name=str, version=str, extensions=list))
get("/v2/", "open_inference_rest.yaml writes the path so", lists(name=str, extensions=list), level=SHOULD)
for prefix in ("/v2/models/{m}", "/v2/models/{m}/versions/{v}"):
    get(prefix, "REST, Model Metadata", each(has(name="single"), is_metadata(*SINGLE_PORTS)))
    get(f"{prefix}/ready", "REST, Model Ready", has(name="single", ready=True))
for model, ports in (("pair", PAIR_PORTS), ("edges", EDGE_PORTS), ("types", TYPE_PORTS)):
    case(f"metadata of {model}", "REST, Model Metadata", is_metadata(*ports),
         model=model, method="GET", path="/v2/models/{m}")  # fmt: skip
for path in ("/v2", "/v2/health/live", "/v2/models/{m}"):
    case(f"json content type of {path}", "REST", header("content-type", "application/json"),
         level=SHOULD, method="GET", path=path)  # fmt: skip
case("percent-encoded model name", "RFC 3986, 2.3", has(ready=True), method="GET", path="/v2/models/%73ingle/ready")
case("HEAD has no body", "RFC 9110, 9.3.2", no_body, method="HEAD", path="/v2/health/live")
for path in ("/v2%2Fhealth%2Flive", "/v2/models%2Fsingle"):
    get(path, "RFC 3986, 2.2: an encoded slash separates nothing", is_error, statuses=FAILED, exact=404)
case("query is no part of the path", "RFC 3986, 3.4", has(live=True), method="GET", path="/v2/health/live?verbose=1")

# -- inference in JSON

X = np.array([[1, 2, 3], [4.5, 5.25, -6]], np.float32)
Y = X * 2
FLAT, NESTED, BINARY = flat("x", X), nested("x", X), binary("x", X)
INFERENCE, DATA, BINARY_TEXT = "REST, Inference", "REST, Tensor Data", "Triton, Binary Tensor Data"

case("flat data", DATA, each(gives(y=Y), binary_outputs()), body=infer(FLAT))
case("nested data", DATA, gives(y=Y), body=infer(NESTED))
case("infer names the model", INFERENCE, has(model_name="single"), body=infer(FLAT))
case("optional fields are not null", INFERENCE, has_no_null("id", "model_version", "parameters"), body=infer(FLAT))
case("infer at a version", INFERENCE, gives(y=Y), body=infer(FLAT), path="/v2/models/{m}/versions/{v}/infer")
case("empty id is echoed", INFERENCE, has(id=""), body=infer(FLAT, id=""), level=SHOULD)
case("id is echoed", INFERENCE, has(id='a "quoted" é'), body=infer(FLAT, id='a "quoted" é'))
case("unknown parameters are ignored", "REST, Parameters", gives(y=Y),
     body=infer(FLAT.but(parameters={"note": "x"}), parameters={"priority": 1, "label": "x", "flag": True, "f": 0.5}),
     level=SHOULD)  # fmt: skip
case("integers for a float tensor", DATA, gives(y=np.array([[2, 4, 6]], np.float32)),
     body=infer(flat("x", X[:1]).but(data=[1, 2, 3])))  # fmt: skip
case("without content-type", INFERENCE, gives(y=Y), body=Body(infer(FLAT).content), level=SHOULD)
case("json with white space", INFERENCE, gives(y=Y),
     body=in_json(b"\n " + json.dumps(json.loads(infer(NESTED).content), indent=2).encode() + b"\n"))  # fmt: skip

A, B = GOLDEN["pair"].values()
TOTAL, NEGATIVE = A + B.astype(np.float32), -B
case("two inputs, two outputs", INFERENCE, gives(total=TOTAL, negative=NEGATIVE), model="pair",
     body=infer(flat("a", A), flat("b", B)))  # fmt: skip
case("inputs in another order", INFERENCE, gives(total=TOTAL, negative=NEGATIVE), model="pair",
     body=infer(flat("b", B), flat("a", A)))  # fmt: skip
case("one output is asked for", INFERENCE, gives(negative=NEGATIVE), model="pair",
     body=infer(flat("a", A), flat("b", B), outputs=[{"name": "negative"}]))  # fmt: skip
case("outputs in the order asked for", INFERENCE, gives(negative=NEGATIVE, total=TOTAL), model="pair", level=SHOULD,
     body=infer(flat("a", A), flat("b", B), outputs=[{"name": "negative"}, {"name": "total"}]))  # fmt: skip
case("no output named means all", INFERENCE, gives(total=TOTAL, negative=NEGATIVE), model="pair", level=SHOULD,
     body=infer(flat("a", A), flat("b", B), outputs=[]))  # fmt: skip

SCALAR, EMPTY = np.array(7, np.float32), np.zeros((0, 3), np.float32)
ALL, ALL_OUT = GOLDEN["types"], direct("types", GOLDEN["types"])
for form in (flat, nested, binary):
    for rows in (1, 300):
        case(f"every datatype exactly, {rows} rows, {form.__name__}", "REST, Tensor Data Types", model="types",
             extension="binary_tensor_data" if form is binary else "",
             check=gives(**{n: np.repeat(a, rows, 0) for n, a in ALL_OUT.items()}),
             body=infer(*(form(n, np.repeat(a, rows, 0)) for n, a in ALL.items())))  # fmt: skip
case("whole numbers of any size for a float tensor", DATA, level=STEELTOWN, model="edges",
     check=gives(scalar_out=np.array(2**70, np.float32), matrix_out=np.full((1, 600), 2**70, np.float32)),
     body=infer(flat("scalar", SCALAR).but(data=[2**70]),
                flat("matrix", np.zeros((1, 600), np.float32)).but(data=[2**70] * 600)))  # fmt: skip
case("BYTES of any text", DATA, gives(text_out=strings(['"\\\n', "\x00", "𝄞", ""], [4])), model="words",
     body=infer(flat("text", strings(['"\\\n', "\x00", "𝄞", ""], [4]))))  # fmt: skip
case("BYTES with escapes", "RFC 8259, 7", gives(text_out=strings(["é𝄞"], [1])), model="words",
     body=in_json(b'{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["\\u00e9\\ud834\\udd1e"]}]}'),
     )  # fmt: skip

for name, matrix in (("scalar and matrix", X), ("no rows", EMPTY), ("no columns", EMPTY.T)):
    for form in (flat, nested, binary):
        if form is nested and matrix is EMPTY:
            continue  # [] is both forms
        case(f"{name}, {form.__name__}", "REST, shape: any unsigned integer", model="edges", level=SHOULD,
             extension="binary_tensor_data" if form is binary else "",
             check=gives(scalar_out=SCALAR, matrix_out=matrix),
             body=infer(flat("scalar", SCALAR), form("matrix", matrix)))  # fmt: skip

# -- the binary tensor data extension

HALF = GOLDEN["half"]["fp16"]
EVERY = {"binary_data_output": True}


def with_tail(name: str, check: Check, body: Body, **more: Any) -> None:
    case(name, BINARY_TEXT, check, body=body, **{"extension": "binary_tensor_data", **more})


with_tail("binary in, json out", each(gives(y=Y), binary_outputs()), infer(BINARY))
with_tail("binary in, binary out", each(gives(y=Y), binary_outputs("y")), infer(BINARY, parameters=EVERY))
with_tail("json in, binary out", each(gives(y=Y), binary_outputs("y")), infer(FLAT, parameters=EVERY))
with_tail("binary out is asked for by output", each(gives(y=Y), binary_outputs("y")),
          infer(FLAT, outputs=[{"name": "y", "parameters": {"binary_data": True}}]))  # fmt: skip
with_tail("binary_data overrides binary_data_output", each(gives(y=Y), binary_outputs()),
          infer(FLAT, parameters=EVERY, outputs=[{"name": "y", "parameters": {"binary_data": False}}]))  # fmt: skip
with_tail("one input binary, one json", gives(total=TOTAL, negative=NEGATIVE),
          infer(flat("a", A), binary("b", B)), model="pair")  # fmt: skip
with_tail("one output binary, one json", each(gives(total=TOTAL, negative=NEGATIVE), binary_outputs("negative")),
          infer(flat("a", A), flat("b", B), outputs=[
              {"name": "total"}, {"name": "negative", "parameters": {"binary_data": True}}]), model="pair")  # fmt: skip
with_tail("binary tensors stand in the order of the json", gives(total=TOTAL, negative=NEGATIVE),
          infer(binary("b", B), binary("a", A)), model="pair")  # fmt: skip
with_tail("the header equals the whole body", gives(y=Y), infer(FLAT).but(
    inference_header_content_length=str(len(infer(FLAT).content))))  # fmt: skip
with_tail("every datatype there and back", gives(**ALL_OUT), model="types",
          body=infer(*(binary(n, a) for n, a in ALL.items()), parameters=EVERY))  # fmt: skip
with_tail("NaN and infinity travel in binary", gives(y=np.array([[np.nan, np.inf, -np.inf]], np.float32)),
          infer(binary("x", np.array([[np.nan, np.inf, -np.inf]], np.float32)), parameters=EVERY))  # fmt: skip
with_tail("FP16 in binary", each(gives(fp16_out=HALF), binary_outputs("fp16_out")),
          infer(binary("fp16", HALF), parameters=EVERY), model="half")  # fmt: skip
with_tail("BYTES in binary", gives(text_out=GOLDEN["words"]["text"]), model="words",
          body=infer(binary("text", GOLDEN["words"]["text"]), parameters=EVERY))  # fmt: skip
with_tail("no rows in binary, data null", gives(y=EMPTY), level=SHOULD,  # as the KServe SDK sends it
          body=infer(Tensor(binary("x", EMPTY).described | {"data": None})))  # fmt: skip
with_tail("id is echoed in binary", has(id="7"), infer(BINARY, parameters=EVERY, id="7"))

RAW = OCTETS_TYPE | {JSON_LENGTH: "0"}
RAW_TEXT = "Triton, Binary Tensor Data, Raw Binary Request"
for name, body, check, model in (
    ("raw request", Body(to_bytes(X), RAW), each(gives(y=Y), binary_outputs("y")), "single"),
    ("raw FP16", Body(to_bytes(HALF), RAW), gives(fp16_out=HALF), "half"),
    ("raw BYTES is one element", Body("straße".encode(), RAW), gives(text_out=strings(["straße"], [1])), "words"),
):
    case(name, RAW_TEXT, check, body=body, model=model, extension="binary_tensor_data")
raw = {"clause": RAW_TEXT, "extension": "binary_tensor_data"}
refused("raw request of a broken row", body=Body(to_bytes(X)[:-1], RAW), **raw)  # type: ignore[arg-type]
refused("raw request to two inputs", body=Body(to_bytes(X), RAW), model="pair", **raw)  # type: ignore[arg-type]
refused("raw request to two variable dimensions", body=Body(b"\0" * 8, RAW), model="edges", **raw)  # type: ignore[arg-type]

# -- compressed bodies (Triton's HTTP server; RFC 9110, 8.4 and 12.5.3)

COMPRESSION = "Triton, HTTP compression; RFC 9110, 8.4"
MANY = np.arange(6000, dtype=np.float32).reshape(2000, 3)
LARGE = flat("x", MANY)
for pack in (Body.gzip, Body.deflate):
    coding = pack.__name__
    case(f"{coding} json body", COMPRESSION, gives(y=Y), body=pack(infer(FLAT)), level=SHOULD)
    with_tail(f"{coding} binary body", gives(y=Y), pack(infer(BINARY)), level=SHOULD)
    case(f"{coding} json answer", COMPRESSION, each(gives(y=MANY * 2), encoded(coding)), level=SHOULD,
         body=infer(LARGE).but(accept_encoding=coding))  # fmt: skip
    with_tail(f"{coding} binary answer", each(gives(y=MANY * 2), encoded(coding), binary_outputs("y")), level=SHOULD,
              body=infer(LARGE, parameters=EVERY).but(accept_encoding=coding))  # fmt: skip
    with_tail(f"{coding} both ways", each(gives(y=MANY * 2), encoded(coding)), level=SHOULD,
              body=pack(infer(binary("x", MANY), parameters=EVERY)).but(accept_encoding=coding))  # fmt: skip
    refused(f"{coding} body cut short", COMPRESSION,
            body=Body(pack(infer(LARGE)).content[:-9], pack(infer(LARGE)).headers))  # fmt: skip
    refused(f"{coding} body is none", COMPRESSION, infer(FLAT).but(content_encoding=coding))
    refused(f"{coding} body larger than the limit once unpacked", COMPRESSION, level=STEELTOWN, exact=413,
            body=pack(in_json(b" " * (BODY_LIMIT_BYTES + 1))))  # fmt: skip
    with_tail(f"{coding} raw request", gives(y=Y), pack(Body(to_bytes(X), RAW)), level=SHOULD)
    case(f"{coding} may be answered to a small request", COMPRESSION, each(gives(y=Y), encoded(coding, "identity")),
         body=infer(FLAT).but(accept_encoding=coding))  # fmt: skip
for accepted in ("identity", "br", "gzip;q=0", "gzip;q=0, *;q=0", "deflate;q=0, gzip;q=0"):
    case(f"accept-encoding {accepted}", "RFC 9110, 12.5.3", each(gives(y=MANY * 2), encoded("identity")),
         body=infer(LARGE).but(accept_encoding=accepted))  # fmt: skip
case("accept-encoding gzip;q=0, *", "RFC 9110, 12.5.3", each(gives(y=MANY * 2), encoded("deflate", "identity")),
     body=infer(LARGE).but(accept_encoding="gzip;q=0, *"))  # fmt: skip
case("accept-encoding prefers deflate", "RFC 9110, 12.5.3", each(gives(y=MANY * 2), encoded("deflate")), level=SHOULD,
     body=infer(LARGE).but(accept_encoding="gzip;q=0.2, deflate;q=0.8"))  # fmt: skip
case("accept-encoding as browsers send it", "RFC 9110, 12.5.3", each(gives(y=MANY * 2), encoded("gzip")), level=SHOULD,
     body=infer(LARGE).but(accept_encoding="gzip, deflate, br, zstd"))  # fmt: skip
case("content-encoding identity", COMPRESSION, gives(y=Y), body=infer(FLAT).but(content_encoding="identity"),
     level=SHOULD)  # fmt: skip
refused("content-encoding that is unknown", "RFC 9110, 15.5.16", infer(FLAT).but(content_encoding="br"), exact=415)

# -- extensions about the server

STATS, CONFIG, REPOSITORY = "Triton, Statistics", "Triton, Model Configuration", "Triton, Model Repository"
for path in ("/v2/models/{m}/stats", "/v2/models/{m}/versions/{v}/stats", "/v2/models/stats"):
    get(path, STATS, is_statistics, extension="statistics")
for path in ("/v2/models/nobody/stats", "/v2/models/{m}/versions/nobody/stats"):
    get(path, STATS, is_error, extension="statistics", statuses=FAILED, exact=404)
for path in ("/v2/models/{m}/config", "/v2/models/{m}/versions/{v}/config"):
    get(path, CONFIG, each(is_config, has(name="single")), extension="model_configuration")
get("/v2/models/nobody/config", CONFIG, is_error, extension="model_configuration", statuses=FAILED, exact=404)
for asked in ("{}", '{"ready": true}', ""):
    case(f"repository index of {asked or 'nothing'}", REPOSITORY, is_index, path="/v2/repository/index",
         extension="model_repository", body=in_json(asked.encode()), level=MUST if asked else SHOULD)  # fmt: skip
case("repository index of a gzip body", "RFC 9110, 8.4: decoded, or 415", anything, level=SHOULD,
     extension="model_repository", path="/v2/repository/index", statuses=(200, 415),
     body=in_json(b"{}").gzip())  # fmt: skip
refused("repository index of no object", REPOSITORY, in_json(b"["), path="/v2/repository/index",
        extension="model_repository", level=STEELTOWN)  # fmt: skip
for verb in ("load", "unload"):
    refused(f"repository {verb} is not offered", "decided: one version for life", in_json(b"{}"), exact=501,
            level=STEELTOWN, statuses=FAILED, path=f"/v2/repository/models/{{m}}/{verb}")  # fmt: skip

# -- the client's mistakes

ERRORS = "REST, Inference Response JSON Error Object"
for name, body in (
    ("a wrong datatype", infer(FLAT.but(datatype="FP64"))),
    ("a missing field", infer(FLAT.but(shape=None))),
    ("too few elements", infer(FLAT.but(data=[1, 2, 3]))),
    ("malformed json", in_json(b"{")),
):
    case(f"error object for {name}", ERRORS, is_error, body=body, statuses=FAILED)
for name, *tensors in (
    ("unknown input", FLAT.but(name="z")),
    ("unknown input beside the right one", FLAT, FLAT.but(name="z")),
    ("no input",),
    ("input given twice", FLAT, FLAT),
    ("wrong datatype", FLAT.but(datatype="FP64")),
    ("unknown datatype", FLAT.but(datatype="FLOAT")),
    ("datatype in small letters", FLAT.but(datatype="fp32")),
    ("wrong rank", FLAT.but(shape=[6])),
    ("wrong fixed dimension", FLAT.but(shape=[3, 2])),
    ("negative dimension", FLAT.but(shape=[-1, 3])),
    ("fractional dimension", FLAT.but(shape=[2.5, 3])),
    ("huge dimension", FLAT.but(shape=[2**63, 3])),
    ("too few elements", FLAT.but(data=[1, 2, 3])),
    ("too many elements", FLAT.but(data=[0.0] * 7)),
    ("no elements", FLAT.but(data=[])),
    ("ragged nested data", NESTED.but(data=[[1, 2, 3], [4, 5]])),
    ("nested data of another shape", NESTED.but(data=[[1, 2], [3, 4], [5, 6]])),
    ("nested too deep", NESTED.but(data=[[[1, 2, 3], [4, 5, 6]]])),
    ("a string among numbers", FLAT.but(data=[1, 2, 3, 4, 5, "6"])),
    ("a boolean among numbers", FLAT.but(data=[1, 2, 3, 4, 5, True])),
    ("data is no array", FLAT.but(data=7)),
    ("without data", FLAT.but(data=None)),
    ("without shape", FLAT.but(shape=None)),
    ("without datatype", FLAT.but(datatype=None)),
    ("without name", FLAT.but(name=None)),
):
    refused(name, ERRORS, infer(*tensors))
refused("missing input", ERRORS, infer(flat("a", A)), model="pair")
refused("inputs that differ in a shared dimension", ERRORS, infer(flat("a", A), flat("b", np.repeat(B, 2, 0))),
        model="pair")  # fmt: skip
refused("unknown output", ERRORS, infer(FLAT, outputs=[{"name": "z"}]))
refused("output asked for twice", ERRORS, infer(FLAT, outputs=[{"name": "y"}] * 2), level=STEELTOWN)
refused("FP16 data in JSON", "Triton, Tensor Data: FP16 has no JSON form", model="half",
        body=infer(Tensor({"name": "fp16", "shape": [1, 2], "datatype": "FP16", "data": [1, 2]})))  # fmt: skip
refused("FP16 output in JSON", "Triton, Tensor Data: FP16 has no JSON form", infer(binary("fp16", HALF)), model="half")


def with_wrong_element(name: str, element: Any, rows: int) -> Body:
    """All inputs of `types`; in the data of one, the last element is another."""
    tensors = {n: flat(n, np.repeat(a, rows, 0)) for n, a in ALL.items()}
    good = tensors[name].described["data"]
    return infer(*(t.but(data=[*good[:-1], element]) if n == name else t for n, t in tensors.items()))


WRONG_ELEMENTS: list[tuple[str, list[Any]]] = [
    ("bool", [1, "true", None]),
    ("uint8", [256, -1, 1.5]),
    ("int8", [-129]),
    ("uint16", [2**16]),
    ("int16", [2**15]),
    ("uint32", [-1, 2**32]),
    ("int32", [2**31]),
    ("uint64", [-1, 2**64, 1.5, "1"]),
    ("int64", [2**63, 1.5, True, "1", None, [1]]),
    ("fp32", [1e39, True, "1", [1.0]]),
    ("fp64", [True, "1", [1.0], {}]),
    ("bytes", [1, None, ["a"]]),
]
for rows in (1, 300):  # a long tensor may well be decoded by other code than a short one
    for name, elements in WRONG_ELEMENTS:
        for element in elements:
            refused(f"{name} of {element!r} among {2 * rows} elements", DATA, with_wrong_element(name, element, rows),
                    model="types")  # fmt: skip
    refused(f"whole number written as a float for UINT64 among {2 * rows}", "decided", model="types", level=STEELTOWN,
            body=with_wrong_element("uint64", 1.0, rows))  # fmt: skip
    refused(f"1e400 among {3 * rows} elements", "decided", level=STEELTOWN, body=in_json(
        infer(flat("x", np.repeat(X[:1], rows, 0))).content.replace(b"[1.0,", b"[1e400,")))  # fmt: skip
    for shape_of_it, ending in (("a short row", [[1.0, 2.0]]), ("two rows that even out", [[1.0], [1.0] * 5])):
        data = [[1.0, 2.0, 3.0]] * (rows + 1 - len(ending)) + ending
        refused(f"nested data of {rows + 1} rows with {shape_of_it}", DATA,
                infer(nested("x", np.zeros((rows + 1, 3), np.float32)).but(data=data)))  # fmt: skip

for name, text in (
    ("empty body", b""),
    ("no json", b"hello"),
    ("json cut short", infer(FLAT).content[:-2]),
    ("more than one json", infer(FLAT).content * 2),
    ("an array for the request", b"[]"),
    ("null for the request", b"null"),
    ("no inputs field", b"{}"),
    ("inputs is no array", b'{"inputs": {}}'),
    ("an input is no object", b'{"inputs": [1]}'),
    ("id is no string", infer(FLAT, id=7).content),
    ("parameters are no object", infer(FLAT, parameters=[1]).content),
    ("invalid UTF-8", b'{"inputs":[{"name":"\xff"}]}'),
    ("deeply nested", b'{"inputs":' + b"[" * 50_000),
    ("NaN in json", infer(FLAT.but(data=[float("nan")] * 6)).content),
    ("infinity in json", infer(FLAT.but(data=[float("inf")] * 6)).content),
):
    refused(name, "RFC 8259" if "json" in name or "UTF" in name else ERRORS, in_json(text))

SIZES = "Triton, Binary Tensor Data: sizes"
LENGTH = len(infer(BINARY).content) - len(BINARY.raw)
for name, body in (
    ("header longer than the body", infer(FLAT).but(inference_header_content_length="100000")),
    ("header inside the json", infer(BINARY).but(inference_header_content_length=str(LENGTH - 1))),
    ("header past the json", infer(BINARY).but(inference_header_content_length=str(LENGTH + 1))),
    ("header is negative", infer(BINARY).but(inference_header_content_length="-1")),
    ("header is no number", infer(BINARY).but(inference_header_content_length="ten")),
    ("binary data cut short", infer(Tensor(BINARY.described, BINARY.raw[:-1]))),
    ("bytes after the last tensor", infer(Tensor(BINARY.described, BINARY.raw + b"\0"))),
    ("binary_data_size smaller than the shape", infer(Tensor(
        BINARY.described | {"parameters": {"binary_data_size": 20}}, BINARY.raw[:20]))),
    ("binary_data_size larger than the shape", infer(Tensor(
        BINARY.described | {"parameters": {"binary_data_size": 28}}, BINARY.raw + b"\0" * 4))),
    ("binary_data_size negative", infer(Tensor(BINARY.described | {"parameters": {"binary_data_size": -24}}, b""))),
    ("binary_data_size is a string", infer(BINARY.but(parameters={"binary_data_size": "24"}))),
    ("data and binary_data_size", infer(BINARY.but(data=[1.0] * 6))),
    ("binary_data_output is no boolean", infer(FLAT, parameters={"binary_data_output": "yes"})),
    ("binary_data is no boolean", infer(FLAT, outputs=[{"name": "y", "parameters": {"binary_data": "yes"}}])),
):  # fmt: skip
    refused(name, SIZES, body, extension="binary_tensor_data")


def words(raw: bytes, count: int = 1) -> Body:
    return infer(Tensor({"name": "text", "shape": [count], "datatype": "BYTES",
                         "parameters": {"binary_data_size": len(raw)}}, raw))  # fmt: skip


for name, body in (
    ("BYTES element past the end", words(struct.pack("<I", 9) + b"a")),
    ("BYTES element of 4 GiB", words(struct.pack("<I", 2**32 - 1) + b"a")),
    ("BYTES cut inside a length", words(b"\1\0")),
    ("BYTES of too few elements", words(b"\1\0\0\0a", count=2)),
    ("BYTES of too many elements", words(b"\1\0\0\0a" * 2, count=1)),
):
    refused(name, SIZES, body, model="words", extension="binary_tensor_data")
refused("BYTES that are not UTF-8", "ONNX strings are UTF-8", words(b"\1\0\0\0\xff"), model="words", level=STEELTOWN,
        extension="binary_tensor_data")  # fmt: skip

PATHS = "REST, paths; RFC 9110, 15.5"
get("/", "no path of the protocol", is_error, statuses=FAILED, exact=404, level=STEELTOWN)
for path in ("/v2/nothing", "/v3", "/v2/models/nobody", "/v2/models/nobody/ready",
             "/v2/models/{m}/versions/nobody", "/v2/models/{m}/nothing"):  # fmt: skip
    get(path, PATHS, is_error, statuses=FAILED, exact=404)
refused("infer of an unknown model", PATHS, infer(FLAT), exact=404, path="/v2/models/nobody/infer", statuses=FAILED)
refused("infer of an unknown version", PATHS, infer(FLAT), exact=404, path="/v2/models/{m}/versions/nobody/infer",
        statuses=FAILED)  # fmt: skip
for method, path in (
    ("GET", INFER), ("PUT", INFER), ("DELETE", INFER), ("POST", "/v2/health/live"), ("POST", "/v2/models/{m}"),
    ("DELETE", "/v2/models/{m}"),
):  # fmt: skip
    refused(f"{method} {path}", PATHS, Body(b""), method=method, path=path, exact=405)
case("405 names the methods", "RFC 9110, 15.5.6", each(is_error, header("allow", "POST")), method="GET", path=INFER,
     statuses=(405,), exact=405)  # fmt: skip

# -- what no text decides

case("body of the limit", "decided", is_error, level=STEELTOWN, statuses=(400,),
     body=in_json(b" " * BODY_LIMIT_BYTES))  # fmt: skip
refused("body beyond the limit", "RFC 9110, 15.5.14", in_json(b" " * (BODY_LIMIT_BYTES + 1)), 413, level=STEELTOWN)
refused("headers beyond the limit", "RFC 6585, 5", infer(FLAT).but(x="y" * 9000), 431, level=STEELTOWN)
case("unknown fields are ignored", "decided", gives(y=Y), level=STEELTOWN,
     body=infer(FLAT.but(layout="NHWC"), trace=[1, {"a": None}]))  # fmt: skip
case("of duplicate keys the last counts", "decided; RFC 8259, 4", has(id="b"), level=STEELTOWN,
     body=in_json(infer(FLAT).content[:-1] + b',"id":"a","id":"b"}'))  # fmt: skip
case("null is as good as absent", "decided", gives(y=Y), level=STEELTOWN,
     body=infer(FLAT, id=None, parameters=None, outputs=None))  # fmt: skip
case("NaN that the model made has no JSON form", "decided", is_error, level=STEELTOWN, statuses=(500,),
     body=infer(binary("x", np.full((1, 3), np.nan, np.float32))))  # fmt: skip
case("null in a float tensor is NaN", "decided", gives(y=np.array([[np.nan, 4, np.nan]], np.float32)), level=STEELTOWN,
     body=infer(flat("x", X[:1]).but(data=[None, 2, None]), parameters={"binary_data_output": True}))  # fmt: skip
case("null in a long float tensor is NaN", "decided", gives(y=np.array([[np.nan, 4, 0.5]] * 300, np.float32)),
     level=STEELTOWN, body=infer(nested("x", np.zeros((300, 3), np.float32)).but(data=[[None, 2, 0.25]] * 300),
                                 parameters={"binary_data_output": True}))  # fmt: skip
case("byte order mark before the json", "RFC 8259, 8.1", gives(y=Y), level=STEELTOWN,
     body=in_json(b"\xef\xbb\xbf" + infer(FLAT).content))  # fmt: skip
for where, text in (("a name", b'{"inputs":[{"name":"\\ud800"}]}'), ("the id", b'{"inputs":[],"id":"\\udc00"}')):
    refused(f"half of a surrogate pair in {where}", "decided; RFC 8259, 8.2", in_json(text), level=STEELTOWN)
for model, ports in (("fixed", FIXED_PORTS), ("constant", ([], [("y", "FP32", [2])]))):
    case(f"metadata of {model}", "decided: any signature is served as it is", is_metadata(*ports), level=STEELTOWN,
         model=model, method="GET", path="/v2/models/{m}")  # fmt: skip
    case(f"infer of {model}", "decided: any signature is served as it is", gives(**direct(model, GOLDEN[model])),
         level=STEELTOWN, model=model, body=infer(*(flat(n, a) for n, a in GOLDEN[model].items())))  # fmt: skip
refused("one row for a batch of two", "decided", infer(flat("x", X[:1])), model="fixed", level=STEELTOWN)
refused("an input for a model that has none", "decided", infer(FLAT), model="constant", level=STEELTOWN)
for path in ("/v2/health/live/", "/v2/models/{m}/", "/v2/models/{m}/ready/", "/v2/models/{m}/versions/{v}/"):
    get(path, "decided: a slash at the end is as good as none", lists(), level=STEELTOWN)
case("a tiny number becomes zero, not an error", "decided", gives(y=np.zeros((1, 3), np.float32)), level=STEELTOWN,
     body=in_json(b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1e-400,0.0,-0]}]}'))  # fmt: skip
for extension, parameters in (
    ("classification", {"classification": 1}),
    ("shared memory", {"shared_memory_region": "r", "shared_memory_byte_size": 24}),
):
    refused(f"output by {extension}, which is not offered", "decided", level=STEELTOWN,
            body=infer(FLAT, outputs=[{"name": "y", "parameters": parameters}]))  # fmt: skip
refused("BOOL byte that is neither 0 nor 1", "decided", level=STEELTOWN, model="types",
        body=infer(*(Tensor(binary(n, a).described, b"\2\0") if n == "bool" else binary(n, a)
                     for n, a in ALL.items())))  # fmt: skip
case("gzip of several members", "RFC 1952, 2.2", gives(y=Y), level=STEELTOWN,
     body=Body(gzip.compress(infer(FLAT).content[:20]) + gzip.compress(infer(FLAT).content[20:]),
               infer(FLAT).gzip().headers))  # fmt: skip
refused("gzip inside gzip", "RFC 9110, 8.4: a server may refuse a coding; one layer bounds what a body becomes",
        Body(gzip.compress(infer(FLAT).gzip().content), JSON_TYPE | {"content-encoding": "gzip, gzip"}),
        level=STEELTOWN, exact=415)  # fmt: skip
