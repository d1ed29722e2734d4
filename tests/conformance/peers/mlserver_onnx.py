"""An ONNX runtime for MLServer, as its documentation says to write one."""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor
from sessions import describe, session


class OnnxModel(MLModel):
    async def load(self) -> bool:
        self.session = session(self.name)
        self.inputs = [MetadataTensor(**port) for port in describe(self.session.get_inputs())]
        self.outputs = [MetadataTensor(**port) for port in describe(self.session.get_outputs())]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        feed = {each.name: decode(each) for each in payload.inputs}
        wanted = [o.name for o in payload.outputs or []] or [port.name for port in self.session.get_outputs()]
        answers = self.session.run(wanted, feed)
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            id=payload.id,
            outputs=[encode(name, answer) for name, answer in zip(wanted, answers, strict=True)],
        )


def decode(tensor):
    if tensor.datatype != "BYTES":
        return NumpyCodec.decode_input(tensor)
    return np.array(StringCodec.decode_input(tensor), dtype=object).reshape(tensor.shape)


def encode(name, answer):
    if answer.dtype != object:
        return NumpyCodec.encode_output(name, answer)
    output = StringCodec.encode_output(name, answer.ravel().tolist())
    output.shape = list(answer.shape)
    return output
