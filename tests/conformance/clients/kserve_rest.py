"""The KServe SDK's InferenceRESTClient."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import numpy as np
from columns import COLUMNS, WORDS, X, Y, same
from kserve import InferenceRESTClient, InferInput, InferOutput, InferRequest, InferResponse, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from kserve.utils.numpy_codec import from_np_dtype
from report import addresses, check, refusal

WHERE = {model: f"http://{address}" for model, address in addresses().items()}
BINARY = {"binary_data_output": True}


def tensor(name: str, array: np.ndarray, binary: bool) -> InferInput:
    made = InferInput(name, list(array.shape), from_np_dtype(array.dtype))
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def output(response: InferResponse | dict[str, Any], name: str) -> np.ndarray:
    assert isinstance(response, InferResponse), response
    found: InferOutput | None = response.get_output_by_name(name)
    assert found is not None, f"no output {name} in {response}"
    array: np.ndarray = found.as_numpy()
    return array


async def run(client: InferenceRESTClient) -> None:
    single = WHERE["single"]
    with check("live and ready"):
        assert await client.is_server_live(single)
        assert await client.is_server_ready(single)
    with check("model ready"):
        assert await client.is_model_ready(single, "single")
        assert not await client.is_model_ready(single, "nobody")
    for binary_in in (False, True):
        for parameters in (None, BINARY):
            with check(f"{'binary' if binary_in else 'json'} in, {'binary' if parameters else 'json'} out"):
                request = InferRequest("single", [tensor("x", X, binary_in)], parameters=parameters)
                same(output(await client.infer(single, request, model_name="single"), "y"), Y)
    with check("a list of numbers"):
        request = InferRequest("single", [InferInput("x", [1, 3], "FP32", [1, 2, 3])])
        same(output(await client.infer(single, request, model_name="single"), "y"), np.array([[2, 4, 6]], np.float32))
    with check("a named output, binary"):
        outputs = [RequestedOutput("y", {"binary_data": True})]
        request = InferRequest("single", [tensor("x", X, True)], request_outputs=outputs)
        same(output(await client.infer(single, request, model_name="single"), "y"), Y)
    with check("id and names"):
        request = InferRequest("single", [tensor("x", X, False)], request_id="seven")
        response = await client.infer(single, request, model_name="single")
        assert isinstance(response, InferResponse)
        assert (response.id, response.model_name) == ("seven", "single"), response
    with check("no rows in json"):
        request = InferRequest("single", [InferInput("x", [0, 3], "FP32", [])])
        same(output(await client.infer(single, request, model_name="single"), "y"), Y[:0])
    with check("no rows in binary"):
        request = InferRequest("single", [tensor("x", X[:0], True)])
        same(output(await client.infer(single, request, model_name="single"), "y"), Y[:0])
    for binary in (False, True):
        form = "binary" if binary else "json"
        with check(f"every datatype in {form}"):
            inputs = [tensor(name, array, binary) for name, array in COLUMNS.items()]
            request = InferRequest("types", inputs, parameters=BINARY if binary else None)
            response = await client.infer(WHERE["types"], request, model_name="types")
            for name, array in COLUMNS.items():
                same(output(response, f"{name}_out"), array)
        with check(f"BYTES in {form}"):
            request = InferRequest("words", [tensor("text", WORDS, binary)], parameters=BINARY if binary else None)
            same(output(await client.infer(WHERE["words"], request, model_name="words"), "text_out"), WORDS)
    with check("FP16"):
        halves = np.array([[1.5, -65504]], np.float16)
        request = InferRequest("half", [tensor("fp16", halves, True)], parameters=BINARY)
        same(output(await client.infer(WHERE["half"], request, model_name="half"), "fp16_out"), halves)
    with check("many at once"):
        requests = [InferRequest("single", [tensor("x", X, True)]) for _ in range(20)]
        for response in await asyncio.gather(*(client.infer(single, r, model_name="single") for r in requests)):
            same(output(response, "y"), Y)
    with refusal("unknown model", httpx.HTTPStatusError, "nobody", "404"):
        await client.infer(single, InferRequest("nobody", [tensor("x", X, False)]), model_name="nobody")
    with refusal("wrong shape", httpx.HTTPStatusError, "'x'", "400"):
        await client.infer(single, InferRequest("single", [tensor("x", X.T.copy(), True)]), model_name="single")
    with refusal("wrong datatype", httpx.HTTPStatusError, "FP64", "400"):
        request = InferRequest("single", [tensor("x", X.astype(np.float64), False)])
        await client.infer(single, request, model_name="single")


async def main() -> None:
    async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=20)) as client:
        await run(client)


if __name__ == "__main__":
    asyncio.run(main())
