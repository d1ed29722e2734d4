"""For all tests: one thread for numerics.

Several test processes share the machine; OpenMP's threads would spin for each other's turn and make a test
of a second take a minute.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
