"""What checker and server both know of tensors: datatypes, names of dimensions, their JSON form, and when two are the
same answer.

One model is measured by the checker and served by the server; if the two had a table or a tolerance each, a model could
pass here and fail there. numpy is all that is needed; nothing here runs a model.
"""

from .comparison import Tolerance, excess, worst
from .datatypes import BY_NAME, BY_ONNX, DATATYPES, Array, Datatype
from .dimensions import dimension_name
from .jsonform import from_json, to_json

__all__ = [
    "BY_NAME",
    "BY_ONNX",
    "DATATYPES",
    "Array",
    "Datatype",
    "Tolerance",
    "dimension_name",
    "excess",
    "from_json",
    "to_json",
    "worst",
]
