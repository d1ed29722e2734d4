"""tritonclient over gRPC: tensors travel raw."""

from __future__ import annotations

import asyncio
import queue
from functools import partial

import numpy as np
import tritonclient.grpc as client
import tritonclient.grpc.aio as aio
from columns import COLUMNS, WORDS, X, Y, same
from report import addresses, check, refusal
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

WHERE = addresses()


def connect(model: str) -> client.InferenceServerClient:
    return client.InferenceServerClient(WHERE[model])


def tensor(name: str, array: np.ndarray) -> client.InferInput:
    made = client.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(array)
    return made


def about_the_server(server: client.InferenceServerClient) -> None:
    with check("live and ready"):
        assert server.is_server_live(client_timeout=20)
        assert server.is_server_ready(client_timeout=20)
    with check("model ready"):
        assert server.is_model_ready("single", client_timeout=20)
    with check("server metadata"):
        assert server.get_server_metadata(client_timeout=20).name
    with check("model metadata"):
        metadata = server.get_model_metadata("single", client_timeout=20)
        (x,) = metadata.inputs
        assert (x.name, x.datatype, list(x.shape)) == ("x", "FP32", [-1, 3]), metadata
        version = metadata.versions[-1]
        assert server.get_model_metadata("single", version, client_timeout=20).name == "single"
        assert server.is_model_ready("single", version, client_timeout=20)
    # Extensions of one server, which ours has in REST only; its gRPC metadata names none.
    assert not server.get_server_metadata(client_timeout=20).extensions
    for name, call in (
        ("model configuration", partial(server.get_model_config, "single", client_timeout=20)),
        ("statistics", partial(server.get_inference_statistics, "single", client_timeout=20)),
        ("repository index", partial(server.get_model_repository_index, client_timeout=20)),
    ):
        with refusal(name, InferenceServerException, "UNIMPLEMENTED"):
            call()


def inference(server: client.InferenceServerClient) -> None:
    with check("infer"):
        same(server.infer("single", [tensor("x", X)], client_timeout=20).as_numpy("y"), Y)
    with check("infer with a named output"):
        outputs = [client.InferRequestedOutput("y")]
        same(server.infer("single", [tensor("x", X)], outputs=outputs, client_timeout=20).as_numpy("y"), Y)
    with check("id and version"):
        version = server.get_model_metadata("single").versions[-1]
        response = server.infer("single", [tensor("x", X)], model_version=version, request_id="seven",
                                client_timeout=20).get_response()  # fmt: skip
        assert (response.id, response.model_name, response.model_version) == ("seven", "single", version), response
    with check("parameters, priority and timeout"):
        server.infer("single", [tensor("x", X)], priority=1, timeout=5_000_000, parameters={"note": "x", "n": 1},
                     client_timeout=20)  # fmt: skip
    for algorithm in ("gzip", "deflate"):
        with check(f"{algorithm} compression"):
            result = server.infer("single", [tensor("x", X)], compression_algorithm=algorithm, client_timeout=20)
            same(result.as_numpy("y"), Y)
    with check("no rows"):
        same(server.infer("single", [tensor("x", X[:0])], client_timeout=20).as_numpy("y"), Y[:0])
    with check("async_infer"):
        answers: queue.Queue[tuple[client.InferResult, Exception | None]] = queue.Queue()
        server.async_infer("single", [tensor("x", X)], lambda result, error: answers.put((result, error)))
        result, error = answers.get(timeout=20)
        assert error is None, error
        same(result.as_numpy("y"), Y)
    with check("every datatype"):
        inputs = [tensor(name, array) for name, array in COLUMNS.items()]
        result = connect("types").infer("types", inputs, client_timeout=20)
        for name, array in COLUMNS.items():
            same(result.as_numpy(f"{name}_out"), array)
    with check("BYTES"):
        same(connect("words").infer("words", [tensor("text", WORDS)], client_timeout=20).as_numpy("text_out"), WORDS)
    with check("FP16"):
        halves = np.array([[1.5, -65504]], np.float16)
        same(connect("half").infer("half", [tensor("fp16", halves)], client_timeout=20).as_numpy("fp16_out"), halves)


def errors(server: client.InferenceServerClient) -> None:
    with refusal("unknown model", InferenceServerException, "NOT_FOUND", "nobody"):
        server.infer("nobody", [tensor("x", X)], client_timeout=20)
    with refusal("unknown version", InferenceServerException, "NOT_FOUND", "nobody"):
        server.infer("single", [tensor("x", X)], model_version="nobody", client_timeout=20)
    with refusal("unknown input", InferenceServerException, "INVALID_ARGUMENT", "z"):
        server.infer("single", [tensor("z", X)], client_timeout=20)
    with refusal("unknown output", InferenceServerException, "INVALID_ARGUMENT", "z"):
        server.infer("single", [tensor("x", X)], outputs=[client.InferRequestedOutput("z")], client_timeout=20)
    with refusal("wrong shape", InferenceServerException, "INVALID_ARGUMENT", "x"):
        server.infer("single", [tensor("x", X[:, :2].copy())], client_timeout=20)
    with refusal("wrong datatype", InferenceServerException, "INVALID_ARGUMENT", "FP64"):
        server.infer("single", [tensor("x", X.astype(np.float64))], client_timeout=20)
    with refusal("metadata of an unknown model", InferenceServerException, "NOT_FOUND", "nobody"):
        server.get_model_metadata("nobody", client_timeout=20)


async def with_asyncio() -> None:
    async with aio.InferenceServerClient(WHERE["single"]) as server:
        with check("asyncio: many at once"):
            calls = [server.infer("single", [tensor("x", X)], client_timeout=20) for _ in range(20)]
            for result in await asyncio.gather(*calls):
                same(result.as_numpy("y"), Y)


if __name__ == "__main__":
    about_the_server(connect("single"))
    inference(connect("single"))
    errors(connect("single"))
    asyncio.run(with_asyncio())
