"""tritonclient over HTTP, the plain client and the asyncio one."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import tritonclient.http as client
import tritonclient.http.aio as aio
from columns import COLUMNS, WORDS, X, Y, same
from report import addresses, check, refusal
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

WHERE = addresses()


def connect(model: str) -> client.InferenceServerClient:
    return client.InferenceServerClient(WHERE[model], network_timeout=20.0)


def tensor(name: str, array: np.ndarray, binary: bool = True) -> client.InferInput:
    made = client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def wanted(name: str, binary: bool) -> client.InferRequestedOutput:
    return client.InferRequestedOutput(name, binary_data=binary)


def about_the_server(server: client.InferenceServerClient) -> None:
    with check("live and ready"):
        assert server.is_server_live()
        assert server.is_server_ready()
    with check("model ready"):
        assert server.is_model_ready("single")
        assert not server.is_model_ready("nobody")
    with check("server metadata"):
        assert "binary_tensor_data" in server.get_server_metadata()["extensions"]
    with check("model metadata"):
        metadata = server.get_model_metadata("single")
        assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}], metadata
        version = metadata["versions"][-1]
        assert server.get_model_metadata("single", version)["name"] == "single"
        assert server.is_model_ready("single", version)
    with check("model configuration"):
        config = server.get_model_config("single")
        assert (config["name"], config["input"][0]["data_type"]) == ("single", "TYPE_FP32"), config
    with check("statistics"):
        before = server.get_inference_statistics("single")["model_stats"][0]["inference_stats"]["success"]["count"]
        server.infer("single", [tensor("x", X)])
        after = server.get_inference_statistics()["model_stats"]
        counts = {entry["name"]: entry["inference_stats"]["success"]["count"] for entry in after}
        assert counts["single"] == before + 1, (before, after)
    with check("repository index"):
        index = server.get_model_repository_index()
        assert ("single", "READY") in [(entry["name"], entry["state"]) for entry in index], index


def forms(server: client.InferenceServerClient) -> None:
    for binary_in, binary_out in itertools.product((False, True), repeat=2):
        with check(f"{'binary' if binary_in else 'json'} in, {'binary' if binary_out else 'json'} out"):
            result = server.infer("single", [tensor("x", X, binary_in)], outputs=[wanted("y", binary_out)])
            same(result.as_numpy("y"), Y)
    with check("all outputs by default"):
        same(server.infer("single", [tensor("x", X)]).as_numpy("y"), Y)
    for sent, asked in itertools.product((None, "gzip", "deflate"), repeat=2):
        with check(f"request compressed with {sent}, answer with {asked}"):
            result = server.infer("single", [tensor("x", X)], request_compression_algorithm=sent,
                                  response_compression_algorithm=asked)  # fmt: skip
            same(result.as_numpy("y"), Y)
    with check("compressed json"):
        both = {"request_compression_algorithm": "gzip", "response_compression_algorithm": "deflate"}
        result = server.infer("single", [tensor("x", X, False)], outputs=[wanted("y", False)], **both)
        same(result.as_numpy("y"), Y)
    with check("id and version"):
        version = server.get_model_metadata("single")["versions"][-1]
        response = server.infer("single", [tensor("x", X)], model_version=version, request_id="seven").get_response()
        assert (response["id"], response["model_version"]) == ("seven", version), response
    with check("parameters, priority and timeout"):
        server.infer("single", [tensor("x", X)], priority=1, timeout=5_000_000, parameters={"note": "x", "n": 1})
    with check("async_infer"):
        same(server.async_infer("single", [tensor("x", X)]).get_result().as_numpy("y"), Y)
    with check("no rows"):
        same(server.infer("single", [tensor("x", X[:0])]).as_numpy("y"), Y[:0])


def datatypes() -> None:
    for binary in (False, True):
        with check(f"every datatype in {'binary' if binary else 'json'}"):
            outputs = [wanted(f"{name}_out", binary) for name in COLUMNS]
            inputs = [tensor(name, array, binary) for name, array in COLUMNS.items()]
            result = connect("types").infer("types", inputs, outputs=outputs)
            for name, array in COLUMNS.items():
                same(result.as_numpy(f"{name}_out"), array)
        with check(f"BYTES in {'binary' if binary else 'json'}"):
            inputs, outputs = [tensor("text", WORDS, binary)], [wanted("text_out", binary)]
            same(connect("words").infer("words", inputs, outputs=outputs).as_numpy("text_out"), WORDS)
    with check("FP16"):
        halves = np.array([[1.5, -65504]], np.float16)
        same(connect("half").infer("half", [tensor("fp16", halves)]).as_numpy("fp16_out"), halves)


def errors(server: client.InferenceServerClient) -> None:
    with refusal("unknown model", InferenceServerException, "nobody"):
        server.infer("nobody", [tensor("x", X)])
    with refusal("unknown version", InferenceServerException, "nobody"):
        server.infer("single", [tensor("x", X)], model_version="nobody")
    with refusal("unknown input", InferenceServerException, "z"):
        server.infer("single", [tensor("z", X)])
    with refusal("unknown output", InferenceServerException, "z"):
        server.infer("single", [tensor("x", X)], outputs=[wanted("z", True)])
    with refusal("wrong shape", InferenceServerException, "x"):
        server.infer("single", [tensor("x", X[:, :2].copy())])
    with refusal("wrong datatype", InferenceServerException, "FP64"):
        server.infer("single", [tensor("x", X.astype(np.float64))])
    with refusal("metadata of an unknown model", InferenceServerException, "nobody"):
        server.get_model_metadata("nobody")
    with refusal("statistics of an unknown model", InferenceServerException, "nobody"):
        server.get_inference_statistics("nobody")
    with refusal("configuration of an unknown model", InferenceServerException, "nobody"):
        server.get_model_config("nobody")
    with refusal("unload", InferenceServerException):
        server.unload_model("single")


async def with_asyncio() -> None:
    async with aio.InferenceServerClient(WHERE["single"]) as server:
        with check("asyncio: ready"):
            assert await server.is_model_ready("single")
        with check("asyncio: many at once, compressed"):
            calls = [server.infer("single", [tensor("x", X)], response_compression_algorithm="gzip") for _ in range(20)]
            for result in await asyncio.gather(*calls):
                same(result.as_numpy("y"), Y)
        with refusal("asyncio: unknown model", InferenceServerException, "nobody"):
            await server.infer("nobody", [tensor("x", X)])


if __name__ == "__main__":
    about_the_server(connect("single"))
    forms(connect("single"))
    datatypes()
    errors(connect("single"))
    asyncio.run(with_asyncio())
