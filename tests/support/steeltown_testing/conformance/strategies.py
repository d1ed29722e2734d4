"""What generated requests draw from, over REST and gRPC alike.

Runs are derandomized: the same examples every time, so that a failure is a finding and not a matter of luck.
"""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from steeltown_testing.conformance.wire import DTYPES, Array, strings

generated = settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def arrays(datatype: str, shape: tuple[int, ...], *, finite: bool = True) -> st.SearchStrategy[Array]:
    """finite: a float that is sent or answered in JSON has no NaN and no infinity."""
    dtype = DTYPES[datatype]
    if datatype == "BYTES":
        size = int(np.prod(shape))
        texts = st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=size, max_size=size)
        return texts.map(lambda words: strings(words, shape))
    elements = None
    if dtype.kind == "f":
        elements = hnp.from_dtype(dtype, allow_nan=not finite, allow_infinity=not finite)
    return hnp.arrays(dtype, shape, elements=elements)
