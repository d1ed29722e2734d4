"""What the clients send to the models of the set, and so get back: the models' own rule, written with numpy alone."""

from __future__ import annotations

import numpy as np

X = np.arange(3000, dtype=np.float32).reshape(1000, 3)
Y = X * 2
WORDS = np.array(["a", "", "straße", "日本"], dtype=object)
COLUMNS = {
    "bool": np.array([[True, False]]),
    **{
        f"{prefix}int{bits}": np.array([[np.iinfo(f"{prefix}int{bits}").min, np.iinfo(f"{prefix}int{bits}").max]],
                                       dtype=f"{prefix}int{bits}")
        for prefix in ("u", "") for bits in (8, 16, 32, 64)
    },
    "fp32": np.array([[np.pi, -1.5e-40]], dtype=np.float32),
    "fp64": np.array([[0.1, 1e300]], dtype=np.float64),
    "bytes": np.array([["x", "straße"]], dtype=object),
}  # fmt: skip


def same(got: np.ndarray | None, expected: np.ndarray) -> None:
    """Equal in shape and elements; BYTES may come back as bytes."""
    assert got is not None, "the output is missing"
    assert list(got.shape) == list(expected.shape), f"expected shape {expected.shape}, got {got.shape}"
    values = [v.decode() if isinstance(v, bytes) else v for v in got.ravel().tolist()]
    assert values == expected.ravel().tolist(), f"expected {expected.ravel()[:8]}, got {values[:8]}"
