"""An ONNX runtime for KServe, as its documentation says to write one, for all models of the suite."""

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid
from sessions import DATATYPES, describe, names, session, text


class OnnxModel(Model):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.load()

    def load(self) -> bool:
        self.session = session(self.name)
        self.ready = True
        return True

    async def get_input_types(self) -> list[dict]:
        return describe(self.session.get_inputs())

    async def get_output_types(self) -> list[dict]:
        return describe(self.session.get_outputs())

    def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        asked = payload.request_outputs or []
        wanted = [output.name for output in asked] or [port.name for port in self.session.get_outputs()]
        answers = self.session.run(wanted, {each.name: text(each.as_numpy()) for each in payload.inputs})
        kinds = {port.name: DATATYPES[port.type] for port in self.session.get_outputs()}
        outputs = [
            InferOutput(name, list(answer.shape), kinds[name], np.asarray(answer))
            for name, answer in zip(wanted, answers, strict=True)
        ]
        return InferResponse(payload.id or generate_uuid(), self.name, outputs, requested_outputs=asked or None,
                             use_binary_outputs=payload.use_binary_outputs)  # fmt: skip


if __name__ == "__main__":
    ModelServer().start([OnnxModel(name) for name in names()])
