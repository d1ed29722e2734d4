"""What checker and server both know of tensors: datatypes, their JSON form, and when two are the same answer.

One model is measured by the checker and served by the server; if the two had a table or a tolerance each, a model could
pass here and fail there. numpy is all that is needed; nothing here runs a model.
"""

from .comparison import Tolerance, excess, worst
from .datatypes import BY_NAME, BY_ONNX, DATATYPES, Array, Datatype
from .jsonform import from_json, to_json
from .rows import Mixing, mixing

__all__ = [
    "BY_NAME",
    "BY_ONNX",
    "DATATYPES",
    "Array",
    "Datatype",
    "Mixing",
    "Tolerance",
    "excess",
    "from_json",
    "mixing",
    "to_json",
    "worst",
]
