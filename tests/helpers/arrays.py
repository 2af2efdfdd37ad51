"""Comparison of named arrays that came out of a packed buffer."""

import numpy as np


def assert_same(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Compares names, order, dtypes, shapes and every byte, so NaN payloads and -0.0 too."""
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape)
        assert got[name].tobytes() == array.tobytes()
        assert got[name].flags.c_contiguous
        assert got[name].flags.writeable
        assert got[name].flags.aligned
