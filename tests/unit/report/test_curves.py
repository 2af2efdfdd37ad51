"""Thinning out, scales and figures of the report."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keisei_ray.report import formatting, svg
from keisei_ray.report.curves import MAX_POINTS, Curve, shares, sparse, thin_out, with_intervals
from keisei_ray.report.svg import Line

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


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6), most=st.integers(5, 8))
def test_ticks_are_few_round_and_inside(low: float, width: float, most: int) -> None:
    found = svg.ticks(low, low + width, most)
    assert 2 <= len(found) <= most + 1
    assert min(found) >= low - 1e-6 * width
    assert max(found) <= low + width * (1 + 1e-6)


def line(y: list[float]) -> Line:
    return Line("y", thin_out(np.arange(len(y), dtype=float), np.array(y)))


def test_a_scale_shows_every_value() -> None:
    scale = svg.scale_for([line([1.0, 2.0, 9.0])], None, None)
    assert scale.low < 1.0
    assert scale.high > 9.0
    assert scale.cut is None
    assert svg.BOTTOM > scale.y(1.0) > scale.y(9.0) > svg.TOP


def test_a_lone_outlier_is_cut_off_and_told() -> None:
    scale = svg.scale_for([line([*np.linspace(0, 1, 99), -1e6])], None, None)
    assert scale.cut == (-1e6, 1.0)
    assert -2.0 < scale.low < 0.0
    assert scale.y(-1e6) == svg.BOTTOM


def test_a_scale_reaches_its_floor_and_ceiling() -> None:
    scale = svg.scale_for([line([0.4, 0.5])], 0.0, 1.0)
    assert (scale.low, scale.high) == (0.0, 1.0)


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
def test_a_flat_curve_has_a_scale(value: float) -> None:
    scale = svg.scale_for([line([value, value])], None, None)
    assert scale.low < value < scale.high


def test_an_interval_that_is_open_goes_to_the_edge() -> None:
    nan = np.array([math.nan])
    measured: Curve = with_intervals(np.array([5.0]), np.array([100.0]), np.array([50.0]), nan)
    frame = svg.Frame((0.0, 10.0), ())
    lines = [Line("elo", measured, has_intervals=True)]
    scale = svg.scale_for(lines, None, None)
    picture = svg.line_chart(lines, frame, scale, is_share=False, title="t")
    x = svg.x_position(frame, 5.0)
    low = scale.y(50.0)
    assert f'd="M{x:.1f} {svg.TOP:.1f}V{low:.1f}M{x - 3:.1f} {low:.1f}h6"' in picture


@pytest.mark.parametrize(
    ("value", "step", "text"),
    [
        (0, 1, "0"),
        (400_000, 200_000, "400k"),
        (1_500_000, 500_000, "1.5M"),
        (1200, 200, "1200"),
        (12_500, 500, "12.5k"),
        (0.3, 0.1, "0.3"),
        (0.0003, 0.0001, "0.0003"),
        (2e-5, 1e-5, "2e-5"),
        (-1.5e-5, 5e-6, "-1.5e-5"),
    ],
)
def test_ticks_are_spelled_short(value: float, step: float, text: str) -> None:
    assert formatting.tick(value, step) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(math.nan, "-"), (0.0, "0"), (86016.4, "86,016"), (0.0312, "0.0312"), (3.32684, "3.327"),
     (8.1293e-05, "8.129e-05"), (42.0, "42"), (-0.0016, "-0.0016")],
)  # fmt: skip
def test_figures_have_four_places(value: float, text: str) -> None:
    assert formatting.significant(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(59.2, "59 s"), (762, "12 min 42 s"), (11_100, "3 h 5 min"), (187_200, "2 days 4 h"),
     (90_000, "1 day 1 h"), (math.nan, "-")],
)  # fmt: skip
def test_durations_in_words(seconds: float, text: str) -> None:
    assert formatting.duration(seconds) == text
