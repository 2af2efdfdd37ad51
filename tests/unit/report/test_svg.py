"""Scales, ticks and intervals of the charts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keisei_ray.report import svg
from keisei_ray.report.curves import Curve, thin_out, with_intervals
from keisei_ray.report.svg import Line


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


def test_a_lone_outlier_is_cut_off_and_marked() -> None:
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
