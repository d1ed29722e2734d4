"""What an answer must hold beyond its status: each check is a function of the answer that raises AssertionError."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from steeltown_testing.conformance.wire import JSON_LENGTH, NAMES, Answer, Array

Check = Callable[[Answer], None]


def each(*checks: Check) -> Check:
    def check(answer: Answer) -> None:
        for one in checks:
            one(answer)

    return check


def anything(answer: Answer) -> None:
    """The status says it all."""


def is_error(answer: Answer) -> None:
    """The protocol's error object, and nothing else."""
    body = answer.json
    assert list(body) == ["error"], f"no error object, got {body}"
    assert isinstance(body["error"], str), f"error must be a string, got {body['error']!r}"
    assert body["error"], "error is empty"
    assert "Traceback" not in body["error"], "the error shows a stack trace"


def no_body(answer: Answer) -> None:
    assert not answer.content, f"a body came: {answer.content[:100]!r}"


def has(**fields: Any) -> Check:
    """The JSON has these fields."""

    def check(answer: Answer) -> None:
        body = answer.json
        assert {k: body.get(k) for k in fields} == fields, f"expected {fields}, got {body}"

    return check


def has_no_null(*fields: str) -> Check:
    """An optional field is there with a value or not at all; `fields` are looked at in the outputs, too."""

    def check(answer: Answer) -> None:
        body = answer.json
        for part in (body, *body["outputs"]):
            null = [name for name in fields if name in part and part[name] is None]
            assert not null, f"{null} is null"

    return check


def lists(**fields: type) -> Check:
    """The JSON has fields of these types."""

    def check(answer: Answer) -> None:
        body = answer.json
        for name, kind in fields.items():
            assert isinstance(body.get(name), kind), f"{name} must be a {kind.__name__}: {body}"

    return check


def header(name: str, value: str) -> Check:
    def check(answer: Answer) -> None:
        assert answer.headers.get(name, "").lower().startswith(value.lower()), f"{name}: {answer.headers.get(name)}"

    return check


def gives(**expected: Array) -> Check:
    """These outputs and no others, in this order, equal in datatype, shape and every element."""

    def check(answer: Answer) -> None:
        tensors = answer.tensors
        assert list(tensors) == list(expected), f"expected outputs {list(expected)}, got {list(tensors)}"
        described = {o["name"]: o["datatype"] for o in answer.json["outputs"]}
        for name, array in expected.items():
            got = tensors[name]
            assert described[name] == NAMES[array.dtype], f"{name}: datatype {described[name]}"
            assert got.shape == array.shape, f"{name}: expected shape {array.shape}, got {got.shape}"
            if array.dtype == object:
                assert got.tolist() == array.tolist(), f"{name}: expected {array.tolist()}, got {got.tolist()}"
            else:
                same = np.array_equal(got, array, equal_nan=array.dtype.kind == "f")
                assert same, f"{name}: expected {array.tolist()}, got {got.tolist()}"

    return check


def binary_outputs(*names: str) -> Check:
    """Just these outputs are raw bytes."""

    def check(answer: Answer) -> None:
        raw = [o["name"] for o in answer.json["outputs"] if "binary_data_size" in (o.get("parameters") or {})]
        assert raw == list(names), f"expected binary outputs {list(names)}, got {raw}"
        assert (JSON_LENGTH in answer.headers) == bool(names), f"{JSON_LENGTH}: {answer.headers.get(JSON_LENGTH)}"
        kind = "application/octet-stream" if names else "application/json"
        header("content-type", kind)(answer)

    return check


def encoded(*names: str) -> Check:
    def check(answer: Answer) -> None:
        assert answer.encoding in names, f"expected content-encoding {names}, got {answer.encoding}"

    return check


def is_metadata(inputs: list[tuple[str, str, list[int]]], outputs: list[tuple[str, str, list[int]]]) -> Check:
    """name, datatype, shape of every tensor, -1 for a variable dimension."""

    def check(answer: Answer) -> None:
        body = answer.json
        for side, ports in (("inputs", inputs), ("outputs", outputs)):
            got = [(t["name"], t["datatype"], t["shape"]) for t in body[side]]
            assert got == ports, f"expected {side} {ports}, got {got}"
        assert isinstance(body.get("platform"), str), "platform is missing"
        assert all(isinstance(v, str) for v in body.get("versions") or []), "a version is no string"

    return check


STATISTICS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


def is_statistics(answer: Answer) -> None:
    """Counts and nanoseconds, each a whole number that is not negative."""
    entries = answer.json["model_stats"]
    assert entries, "model_stats is empty"
    for entry in entries:
        assert isinstance(entry["name"], str), "name is no string"
        assert isinstance(entry.get("version", ""), str), "version is no string"
        numbers = [entry[k] for k in ("last_inference", "inference_count", "execution_count")]
        durations = [entry["inference_stats"][k] for k in STATISTICS]
        for batch in entry["batch_stats"]:
            numbers.append(batch["batch_size"])
            durations += [batch[k] for k in STATISTICS if k.startswith("compute")]
        numbers += [duration[k] for duration in durations for k in ("count", "ns")]
        assert all(type(n) is int and n >= 0 for n in numbers), f"not all are whole numbers: {numbers}"


def is_config(answer: Answer) -> None:
    """A ModelConfig in JSON: what a load generator reads."""
    body = answer.json
    assert isinstance(body["name"], str), "name is no string"
    assert isinstance(body.get("max_batch_size", 0), int), "max_batch_size is no number"
    for tensor in (*body["input"], *body["output"]):
        assert tensor["data_type"].startswith("TYPE_"), f"data_type {tensor['data_type']!r} is none of ModelConfig's"
        assert all(int(d) == -1 or int(d) >= 0 for d in tensor["dims"]), f"dims {tensor['dims']}"


def is_index(answer: Answer) -> None:
    body = answer.json
    assert isinstance(body, list), "the index is no array"
    assert body, "the index is empty"
    for entry in body:
        assert isinstance(entry["name"], str), "name is no string"
        assert isinstance(entry["state"], str), "state is no string"
        assert isinstance(entry.get("reason", ""), str), "reason is no string"
