"""What checker and server both know of tensors: datatypes, names of dimensions, JSON form, equal answers, and whether
rows leave each other alone.

One model is measured by the checker and served by the server; if the two had a table or a tolerance each, a model could
pass here and fail there. numpy is all that is needed; nothing here loads a model.
"""

from .comparison import Tolerance, excess, first_difference, worst
from .datatypes import BY_NAME, BY_ONNX, DATATYPES, Array, Datatype
from .dimensions import dimension_name
from .independence import Independence, Trial, independence
from .jsonform import from_json, to_json
from .rows import Mixing, drawing, mixing

__all__ = [
    "BY_NAME",
    "BY_ONNX",
    "DATATYPES",
    "Array",
    "Datatype",
    "Independence",
    "Mixing",
    "Tolerance",
    "Trial",
    "dimension_name",
    "drawing",
    "excess",
    "first_difference",
    "from_json",
    "independence",
    "mixing",
    "to_json",
    "worst",
]
