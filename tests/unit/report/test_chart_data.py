"""Scales of the charts, and what a page gets to draw them."""

import numpy as np
import pytest

from keisei_ray.report.chart_data import Chart, Frame, Line, charts_data, scale_for
from keisei_ray.report.curves import Floats, thin_out, with_intervals


def line(y: list[float]) -> Line:
    return Line("y", thin_out(np.arange(len(y), dtype=float), np.array(y)))


def test_a_scale_shows_every_value() -> None:
    scale = scale_for([line([1.0, 2.0, 9.0])], None, None)
    assert scale.low < 1.0
    assert scale.high > 9.0
    assert scale.cut is None


def test_a_lone_outlier_is_cut_off_and_named() -> None:
    scale = scale_for([line([*np.linspace(0, 1, 99), -1e6])], None, None)
    assert scale.cut == (-1e6, 1.0)
    assert -2.0 < scale.low < 0.0
    assert 1.0 <= scale.high < 2.0


def test_a_scale_reaches_its_floor_and_ceiling() -> None:
    scale = scale_for([line([0.4, 0.5])], 0.0, 1.0)
    assert (scale.low, scale.high) == (0.0, 1.0)


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
def test_a_flat_curve_has_a_scale(value: float) -> None:
    scale = scale_for([line([value, value])], None, None)
    assert scale.low < value < scale.high
    assert scale_for([line([0.0, 0.0])], 0.0, None).low == 0.0


def test_curves_over_the_same_timesteps_share_them_and_their_wall_times() -> None:
    measured = with_intervals(*(np.array([v]) for v in (5.0, 0.5, 0.25, np.nan)))
    chart = Chart("k", "K", "about", [line([1, 2, 3]), line([4, 5, 6]), Line("m", measured, True)])
    empty = Chart("e", "E", "about", [line([np.nan])])

    def wall_of(x: Floats) -> Floats:
        return x * 2

    data = charts_data([chart, empty], Frame((0, 5), (3.0,)), wall_of)
    assert data["axes"] == [{"x": [0, 1, 2], "wall": [0, 2, 4]}, {"x": [5], "wall": [10]}]
    assert [series["axis"] for series in data["charts"][0]["series"]] == [0, 0, 1]
    assert data["charts"][0]["series"][2]["high"] == [None]
    assert "low" not in data["charts"][0]["series"][0]
    assert data["charts"][1]["series"] == []
    assert (data["range"], data["marks"]) == ((0, 5), (3.0,))
