"""Requests over gRPC that no client library makes, written field by field: what must be refused, and with which code.

The messages are those of tritonclient, whose first fields are the protocol's. Clauses are of inference_grpc.md unless
they say otherwise; codes are of google.rpc.Code.
"""

from __future__ import annotations

import struct
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from report import addresses, check
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

WHERE = addresses()
TIMEOUT_SECONDS = 20
ROW = struct.pack("<3f", 1, 2, 3)
INVALID, ABSENT = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


def stub(model: str) -> service_pb2_grpc.GRPCInferenceServiceStub:
    return service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(WHERE[model]))


def tensor(name: str, datatype: str, shape: list[int], **contents: list[Any]) -> Any:
    """contents: one field of InferTensorContents; without, the tensor is raw."""
    made = pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    if contents:
        made.contents.CopyFrom(pb.InferTensorContents(**contents))
    return made


def request(*inputs: Any, raw: list[bytes] | None = None, model: str = "single", **more: Any) -> Any:
    return pb.ModelInferRequest(model_name=model, inputs=inputs, raw_input_contents=raw or [], **more)


X = tensor("x", "FP32", [1, 3])
TYPED = tensor("x", "FP32", [1, 3], fp32_contents=[1, 2, 3])
OUTPUT = pb.ModelInferRequest.InferRequestedOutputTensor

REFUSED: list[tuple[str, grpc.StatusCode, Any]] = [
    ("raw and typed contents for one tensor", INVALID, request(TYPED, raw=[ROW])),
    ("fewer raw contents than inputs", INVALID, request(X)),
    ("more raw contents than inputs", INVALID, request(X, raw=[ROW, ROW])),
    ("raw contents too short", INVALID, request(X, raw=[ROW[:-1]])),
    ("raw contents too long", INVALID, request(X, raw=[ROW + b"\0"])),
    ("typed contents too few", INVALID, request(tensor("x", "FP32", [1, 3], fp32_contents=[1, 2]))),
    ("typed contents too many", INVALID, request(tensor("x", "FP32", [1, 3], fp32_contents=[1, 2, 3, 4]))),
    ("contents of another type's field", INVALID, request(tensor("x", "FP32", [1, 3], fp64_contents=[1, 2, 3]))),
    ("no input", INVALID, request()),
    ("unknown input", INVALID, request(tensor("z", "FP32", [1, 3]), raw=[ROW])),
    ("input given twice", INVALID, request(X, X, raw=[ROW, ROW])),
    ("wrong datatype", INVALID, request(tensor("x", "INT32", [1, 3]), raw=[ROW])),
    ("unknown datatype", INVALID, request(tensor("x", "FLOAT", [1, 3]), raw=[ROW])),
    ("wrong rank", INVALID, request(tensor("x", "FP32", [3]), raw=[ROW])),
    ("wrong fixed dimension", INVALID, request(tensor("x", "FP32", [3, 1]), raw=[ROW])),
    ("negative dimension", INVALID, request(tensor("x", "FP32", [-1, 3]), raw=[ROW])),
    ("dimensions that overflow", INVALID, request(tensor("x", "FP32", [2**62, 3]), raw=[ROW])),
    ("unknown output", INVALID, request(X, raw=[ROW], outputs=[OUTPUT(name="z")])),
    ("unknown model", ABSENT, request(X, raw=[ROW], model="nobody")),
    ("unknown version", ABSENT, request(X, raw=[ROW], model_version="nobody")),
    ("no model named", ABSENT, request(X, raw=[ROW], model="")),
]
REFUSED_WORDS: list[tuple[str, bytes]] = [
    ("BYTES element past the end", struct.pack("<I", 9) + b"a"),
    ("BYTES element of 4 GiB", struct.pack("<I", 2**32 - 1) + b"a"),
    ("BYTES cut inside a length", b"\1\0"),
    ("BYTES of too many elements", b"\1\0\0\0a" * 2),
    ("BYTES that are not UTF-8", b"\1\0\0\0\xff"),
]
OVERFLOWS = {"int8": 128, "int16": -(2**15) - 1, "uint8": 256, "uint16": 2**16}
CONTENTS = {
    **{f"int{bits}": "int_contents" for bits in (8, 16, 32)},
    **{f"uint{bits}": "uint_contents" for bits in (8, 16, 32)},
    "int64": "int64_contents", "uint64": "uint64_contents", "bool": "bool_contents", "fp32": "fp32_contents",
    "fp64": "fp64_contents", "bytes": "bytes_contents",
}  # fmt: skip


def refused(name: str, model: str, code: grpc.StatusCode, asked: Any) -> None:
    with check(f"refused: {name}"):
        try:
            answer = stub(model).ModelInfer(asked, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            got, details = error.code(), error.details()
        else:
            raise AssertionError(f"nothing was refused: {answer}")
        assert got == code, f"expected {code.name}, got {got.name}: {details}"
        assert details, "the status has no message"
        assert "Traceback" not in details, details


def all_types(name: str, value: int) -> Any:
    """A request to `types` with one value that its datatype cannot hold."""
    plain: dict[str, Any] = {n: b"a" if n == "bytes" else 1 for n in CONTENTS}
    plain["bool"] = True
    plain[name] = value
    inputs = [tensor(n, n.upper(), [1, 2], **{field: [plain[n]] * 2}) for n, field in CONTENTS.items()]
    return request(*inputs, model="types")


def answered() -> None:
    with check("raw in, raw out"):
        answer = stub("single").ModelInfer(request(X, raw=[ROW], id="seven"), timeout=TIMEOUT_SECONDS)
        assert list(answer.raw_output_contents) == [struct.pack("<3f", 2, 4, 6)], answer
        assert (answer.id, answer.model_name, list(answer.outputs[0].shape)) == ("seven", "single", [1, 3]), answer
        assert not answer.outputs[0].contents.fp32_contents, "raw and typed contents in one answer"
    with check("typed in: an answer in one form, raw or typed"):
        answer = stub("single").ModelInfer(request(TYPED), timeout=TIMEOUT_SECONDS)
        raw, typed = list(answer.raw_output_contents), list(answer.outputs[0].contents.fp32_contents)
        assert bool(raw) != bool(typed), answer
        values = list(struct.unpack("<3f", raw[0])) if raw else typed
        assert values == [2, 4, 6], answer
    with check("server and model are live and ready"):
        assert stub("single").ServerLive(pb.ServerLiveRequest(), timeout=TIMEOUT_SECONDS).live
        assert stub("single").ServerReady(pb.ServerReadyRequest(), timeout=TIMEOUT_SECONDS).ready
        assert stub("single").ModelReady(pb.ModelReadyRequest(name="single"), timeout=TIMEOUT_SECONDS).ready
    with check("grpc.health.v1, as Kubernetes probes"):
        health = health_pb2_grpc.HealthStub(grpc.insecure_channel(WHERE["single"]))
        for service in ("", "inference.GRPCInferenceService"):
            status = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_SECONDS).status
            assert status == health_pb2.HealthCheckResponse.SERVING, (service, status)
    with check("unknown parameters are ignored"):
        parameters = {"note": pb.InferParameter(string_param="x"), "n": pb.InferParameter(int64_param=1)}
        stub("single").ModelInfer(request(X, raw=[ROW], parameters=parameters), timeout=TIMEOUT_SECONDS)
    with check("typed contents of every datatype"):
        answer = stub("types").ModelInfer(all_types("int8", -1), timeout=TIMEOUT_SECONDS)
        assert len(answer.outputs) == len(CONTENTS), answer


if __name__ == "__main__":
    answered()
    for name, code, asked in REFUSED:
        refused(name, "single", code, asked)
    for name, raw in REFUSED_WORDS:
        refused(name, "words", INVALID, request(tensor("text", "BYTES", [1]), raw=[raw], model="words"))
    for name, value in OVERFLOWS.items():
        refused(f"{name} of {value}", "types", INVALID, all_types(name, value))
    refused("FP16 has no typed form", "half", INVALID,
            request(tensor("fp16", "FP16", [1, 2], fp32_contents=[1, 2]), model="half"))  # fmt: skip
