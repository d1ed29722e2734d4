"""A model behind FastAPI, as people write it: the request as pydantic models, the answer as a dict."""

import numpy as np
from fastapi import FastAPI, HTTPException
from onnx_session import DATATYPES, NAME, session
from pydantic import BaseModel


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class InferRequest(BaseModel):
    id: str | None = None
    inputs: list[Tensor]


app = FastAPI()
model = session()
outputs = [(output.name, DATATYPES[output.type]) for output in model.get_outputs()]


@app.post("/v2/models/{name}/infer")
async def infer(name: str, request: InferRequest):
    if name != NAME:
        raise HTTPException(404, f"no model {name}")
    feed = {each.name: np.array(each.data, dtype=np.float32).reshape(each.shape) for each in request.inputs}
    answers = model.run(None, feed)
    return {
        "model_name": name,
        "id": request.id,
        "outputs": [
            {"name": output, "datatype": datatype, "shape": list(answer.shape), "data": answer.ravel().tolist()}
            for (output, datatype), answer in zip(outputs, answers, strict=True)
        ],
    }
