"""Reduction of many records to few points."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keisei_ray.report.curves import MAX_POINTS, shares, sparse, thin_out

VALUES = st.lists(
    st.one_of(st.none(), st.floats(-1e6, 1e6, allow_nan=False)), min_size=1, max_size=200
)


def as_array(values: list[float | None]) -> np.ndarray:
    return np.array([math.nan if value is None else value for value in values])


@given(values=VALUES, limit=st.integers(1, 50))
def test_thinning_out_keeps_the_extremes_and_the_ends(
    values: list[float | None], limit: int
) -> None:
    y = as_array(values)
    x = np.arange(1.0, len(y) + 1)
    curve = thin_out(x, y, limit)
    present = y[np.isfinite(y)]
    assert len(curve.x) <= limit
    if not len(present):
        assert len(curve.x) == 0
        return
    assert np.nanmin(curve.low) == present.min()
    assert np.nanmax(curve.high) == present.max()
    assert (curve.first, curve.last) == (present[0], present[-1])
    assert curve.x[-1] == x[-1]
    shown = np.isfinite(curve.mean)
    assert (curve.low[shown] <= curve.mean[shown] + 1e-6).all()
    assert (curve.mean[shown] <= curve.high[shown] + 1e-6).all()


def test_points_are_the_means_of_consecutive_records() -> None:
    y = np.array([1.0, 3.0, math.nan, 5.0, 2.0])
    curve = thin_out(np.array([10.0, 20.0, 30.0, 40.0, 50.0]), y, 3)
    np.testing.assert_array_equal(curve.x, [20.0, 40.0, 50.0])
    np.testing.assert_array_equal(curve.mean, [2.0, 5.0, 2.0])
    np.testing.assert_array_equal(curve.low, [1.0, 5.0, 2.0])
    np.testing.assert_array_equal(curve.high, [3.0, 5.0, 2.0])
    assert curve.records_per_point == 2


def test_few_records_are_shown_as_they_are() -> None:
    x, y = np.arange(1.0, MAX_POINTS + 1), np.sin(np.arange(MAX_POINTS))
    curve = thin_out(x, y)
    assert not curve.is_thinned
    np.testing.assert_array_equal(curve.mean, y)


@given(values=st.lists(st.floats(-10, 10), min_size=1, max_size=300), limit=st.integers(4, 40))
def test_a_sparse_choice_keeps_the_ends_and_the_extremes(values: list[float], limit: int) -> None:
    y = np.array(values)
    kept = sparse(y, limit)
    assert len(kept) <= limit
    assert (np.diff(kept) > 0).all()
    assert {0, len(y) - 1} <= set(kept.tolist())
    assert (y[kept].min(), y[kept].max()) == (y.min(), y.max())


def test_shares_are_of_the_events_of_a_stretch() -> None:
    x = np.array([1.0, 5.0, 5.0, 6.0, 20.0])
    kinds = np.array([[1, 0], [0, 1], [1, 0], [0, 3], [1, 1]], dtype=float)
    found = shares(x, kinds, np.array([0.0, 5.0, 10.0, 15.0, 20.0]))
    expected = np.array([[2 / 3, 1 / 3], [0, 1], [math.nan] * 2, [0.5, 0.5]])
    np.testing.assert_allclose(found, expected)
