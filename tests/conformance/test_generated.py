"""Generated requests: any tensors in any form, and the answer is what onnxruntime says of the same arrays.

The table has the corners that somebody thought of; here hypothesis looks for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from steeltown_testing.conformance import models
from steeltown_testing.conformance import target as targets
from steeltown_testing.conformance.checks import binary_outputs, each, gives
from steeltown_testing.conformance.strategies import arrays, generated
from steeltown_testing.conformance.wire import Array, Body, Tensor, binary, flat, infer, nested, send

FindTarget = Callable[[str], targets.Target]
Draw = Callable[..., Any]
FORMS: list[Callable[[str, Array], Tensor]] = [flat, nested, binary]


def outputs_asked(draw: Draw, names: list[str]) -> tuple[dict[str, Any], list[str], list[str]]:
    """Fields of the request, the outputs that must come, and those of them that must be binary."""
    everything = draw(st.booleans())
    fields: dict[str, Any] = {"parameters": {"binary_data_output": True}} if everything else {}
    if draw(st.booleans()):
        return fields, names, names if everything else []
    wanted = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    flags = {name: draw(st.sampled_from([None, True, False])) for name in wanted}
    fields["outputs"] = [
        {"name": n} | ({} if f is None else {"parameters": {"binary_data": f}}) for n, f in flags.items()
    ]
    return fields, wanted, [n for n, f in flags.items() if (everything if f is None else f)]


def _output(name: str, binary_data: bool | None) -> dict[str, Any]:
    return {"name": name} | ({} if binary_data is None else {"parameters": {"binary_data": binary_data}})


def ask(server: targets.Target, body: Body, expected: dict[str, Array], raw: list[str]) -> None:
    answer = send(server.url, "POST", server.path("/v2/models/{m}/infer"), body)
    assert answer.status == 200, answer.content[:500]
    each(gives(**expected), binary_outputs(*raw))(answer)


def request(draw: Draw, model: str, feed: dict[str, Array]) -> tuple[Body, dict[str, Array], list[str]]:
    """A request for these inputs in any form, the outputs it must give, and which of them are binary."""
    expected = models.direct(model, feed)
    tensors = [draw(st.sampled_from(FORMS))(name, array) for name, array in feed.items()]
    fields, wanted, raw = outputs_asked(draw, list(expected))
    body = infer(*draw(st.permutations(tensors)), **fields)
    packed = draw(st.sampled_from([lambda b: b, Body.gzip, Body.deflate]))(body)
    accepted = draw(st.sampled_from(["identity", "gzip", "deflate", "gzip, deflate"]))
    return packed.but(accept_encoding=accepted), {name: expected[name] for name in wanted}, raw


@generated
@given(st.data())
def test_every_datatype_in_any_form(target: FindTarget, data: st.DataObject) -> None:
    rows, copies = data.draw(st.integers(0, 4)), data.draw(st.sampled_from([1, 1, 100]))  # short and long data
    feed = {n: np.repeat(data.draw(arrays(n.upper(), (rows, 2))), copies, 0) for n in models.TYPES}
    ask(target("types"), *request(data.draw, "types", feed))


@generated
@given(st.data())
def test_any_shape(target: FindTarget, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(0, 5), st.integers(0, 5)))
    feed = {"scalar": data.draw(arrays("FP32", ())), "matrix": data.draw(arrays("FP32", shape))}
    ask(target("edges"), *request(data.draw, "edges", feed))


@generated
@given(st.data())
def test_two_inputs_and_outputs(target: FindTarget, data: st.DataObject) -> None:
    rows = data.draw(st.integers(0, 80))  # beyond what our server runs at once
    small = hnp.arrays(np.float32, (rows, 2), elements=st.floats(-1e6, 1e6, width=32), fill=st.just(np.float32(0)))
    feed = {"a": data.draw(small), "b": data.draw(hnp.arrays(np.int64, (rows, 2)))}
    ask(target("pair"), *request(data.draw, "pair", feed))


@generated
@given(st.data())
def test_binary_carries_any_bits(target: FindTarget, data: st.DataObject) -> None:
    """NaN and infinity too, and FP16."""
    rows = data.draw(st.integers(0, 6))
    feed = {"fp16": data.draw(arrays("FP16", (rows, 2), finite=False))}
    body = infer(binary("fp16", feed["fp16"]), parameters={"binary_data_output": True})
    ask(target("half"), body, models.direct("half", feed), ["fp16_out"])


@generated
@given(st.binary(max_size=200), st.one_of(st.none(), st.integers(-1, 250)))
def test_any_bytes_are_the_clients_mistake(target: FindTarget, content: bytes, length: int | None) -> None:
    headers = {} if length is None else {"inference-header-content-length": str(length)}
    answer = send(target("pair").url, "POST", "/v2/models/pair/infer", Body(content, headers))
    assert 400 <= answer.status < 500, answer
    assert list(answer.json) == ["error"]


@generated
@given(st.data())
def test_a_damaged_request_is_never_a_server_error(target: FindTarget, data: st.DataObject) -> None:
    feed = models.GOLDEN["pair"]
    body = infer(*(data.draw(st.sampled_from(FORMS))(n, a) for n, a in feed.items()))
    content = bytearray(body.content)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    answer = send(target("pair").url, "POST", "/v2/models/pair/infer", Body(bytes(content), body.headers))
    assert answer.status == 200 or 400 <= answer.status < 500, answer
    assert answer.json
