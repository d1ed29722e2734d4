"""The onnxruntime session of every peer's runtime. MODELS: folder with <model>/model.onnx; MODEL: the one to serve."""

import os

import onnxruntime

NAME = os.environ["MODEL"]
DATATYPES = {"tensor(float)": "FP32", "tensor(int64)": "INT64"}


def session(name: str = NAME) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    path = os.path.join(os.environ["MODELS"], name, "model.onnx")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
