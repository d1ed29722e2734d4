"""The KServe SDK's InferenceGRPCClient: lists travel as typed contents, numpy arrays raw."""

from __future__ import annotations

import asyncio
import logging

import grpc
import numpy as np
from columns import COLUMNS, WORDS, X, Y, same
from kserve import InferenceGRPCClient, InferInput, InferRequest, InferResponse
from kserve.protocol.infer_type import RequestedOutput
from kserve.utils.numpy_codec import from_np_dtype
from report import addresses, check, refusal

WHERE = addresses()
logging.disable()  # the client logs every refusal with a stack trace


def connect(model: str) -> InferenceGRPCClient:
    return InferenceGRPCClient(WHERE[model], timeout=20, retries=0)


def raw(name: str, array: np.ndarray) -> InferInput:
    return InferInput(name, list(array.shape), from_np_dtype(array.dtype), array)


def typed(name: str, array: np.ndarray) -> InferInput:
    return InferInput(name, list(array.shape), from_np_dtype(array.dtype), array.ravel().tolist())


def output(response: InferResponse, name: str) -> np.ndarray:
    array: np.ndarray = response.get_output_by_name(name).as_numpy()
    return array


async def run(client: InferenceGRPCClient) -> None:
    with check("live and ready"):
        assert await client.is_server_live()
        assert await client.is_server_ready()
    with check("model ready"):
        assert await client.is_model_ready("single")
    for form in (raw, typed):
        with check(f"{form.__name__} floats"):
            same(output(await client.infer(InferRequest("single", [form("x", X)])), "y"), Y)
        with check(f"{form.__name__}, every datatype"):
            async with connect("types") as types:
                response = await types.infer(InferRequest("types", [form(n, a) for n, a in COLUMNS.items()]))
            for name, array in COLUMNS.items():
                same(output(response, f"{name}_out"), array)
        with check(f"{form.__name__} BYTES"):
            async with connect("words") as words:
                same(output(await words.infer(InferRequest("words", [form("text", WORDS)])), "text_out"), WORDS)
        with check(f"{form.__name__}, no rows"):
            same(output(await client.infer(InferRequest("single", [form("x", X[:0])])), "y"), Y[:0])
    with check("raw FP16"):
        halves = np.array([[1.5, -65504]], np.float16)
        async with connect("half") as half:
            same(output(await half.infer(InferRequest("half", [raw("fp16", halves)])), "fp16_out"), halves)
    with check("id, names and a named output"):
        request = InferRequest("single", [raw("x", X)], request_id="seven", request_outputs=[RequestedOutput("y")])
        response = await client.infer(request)
        assert (response.id, response.model_name) == ("seven", "single"), response
    with check("many at once"):
        for response in await asyncio.gather(*(client.infer(InferRequest("single", [raw("x", X)])) for _ in range(20))):
            same(output(response, "y"), Y)
    with refusal("raw and typed tensors in one request", grpc.RpcError, "INVALID_ARGUMENT", "raw"):
        columns = list(COLUMNS.items())
        async with connect("types") as types:
            mixed = [raw(*columns[0]), *(typed(n, a) for n, a in columns[1:])]
            await types.infer(InferRequest("types", mixed))
    with refusal("unknown model", grpc.RpcError, "NOT_FOUND", "nobody"):
        await client.infer(InferRequest("nobody", [raw("x", X)]))
    with refusal("unknown model is asked whether it is ready", grpc.RpcError, "NOT_FOUND", "nobody"):
        await client.is_model_ready("nobody")
    with refusal("wrong shape", grpc.RpcError, "INVALID_ARGUMENT", "'x'"):
        await client.infer(InferRequest("single", [raw("x", X.T.copy())]))
    with refusal("wrong datatype", grpc.RpcError, "INVALID_ARGUMENT", "FP64"):
        await client.infer(InferRequest("single", [typed("x", X.astype(np.float64))]))


async def main() -> None:
    async with connect("single") as client:
        await run(client)


if __name__ == "__main__":
    asyncio.run(main())
