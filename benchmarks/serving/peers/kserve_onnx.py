"""An ONNX runtime for KServe, as its documentation says to write one. Arguments are KServe's own."""

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from onnx_session import DATATYPES, NAME, session


class OnnxModel(Model):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.load()

    def load(self) -> bool:
        self.session = session(self.name)
        self.outputs = [(output.name, DATATYPES[output.type]) for output in self.session.get_outputs()]
        self.ready = True
        return True

    def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        answers = self.session.run(None, {each.name: each.as_numpy() for each in payload.inputs})
        binary = bool(payload.use_binary_outputs)
        outputs = []
        for (name, datatype), answer in zip(self.outputs, answers, strict=True):
            output = InferOutput(name, list(answer.shape), datatype)
            output.set_data_from_numpy(answer, binary_data=binary)
            outputs.append(output)
        return InferResponse(payload.id or "", self.name, outputs, use_binary_outputs=binary)


if __name__ == "__main__":
    ModelServer().start([OnnxModel(NAME)])
