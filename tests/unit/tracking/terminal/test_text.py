"""Figures, durations, trends and bars as strings."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keisei_ray.tracking.terminal import text
from keisei_ray.tracking.terminal.draw import meter


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 500, 1000])
def test_a_trend_keeps_the_mean_of_all_readings_in_bounded_space(count: int) -> None:
    readings = [random.Random(i).uniform(-9, 9) for i in range(count)]
    trend = text.Trend()
    for reading in readings:
        trend = trend.add(reading)
    assert len(trend.points()) <= trend.CAPACITY
    total = sum(trend.values) * trend.stride + sum(trend.pending)
    assert total == pytest.approx(sum(readings), abs=1e-3)
    assert len(trend.values) * trend.stride + len(trend.pending) == len(readings)
    if len(readings) < trend.CAPACITY:
        assert trend.points() == tuple(readings)


def test_a_sparkline_is_scaled_from_least_to_greatest() -> None:
    assert text.sparkline([0, 1, 2, 3], 10, "abcd") == "abcd"
    assert text.sparkline([5, -5, 5], 10, "abcd") == "dad"
    assert text.sparkline([2, 2, 2], 10, "abcd") == "bbb"
    assert text.sparkline([0, 0, 3, 3, 6, 6], 3, "abc") == "abc"
    assert text.sparkline([], 10, "abcd") == ""
    assert text.sparkline([1.0, 2.0], 0, "abcd") == ""


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=6), st.integers(0, 90))
def test_bar_lengths_fill_the_bar_and_are_off_by_less_than_one(
    parts: list[float], width: int
) -> None:
    lengths = text.bar_lengths(parts, width)
    whole = sum(parts)
    assert sum(lengths) == (width if whole > 0 else 0)
    for part, length in zip(parts, lengths, strict=True):
        assert abs(length - (part / whole * width if whole > 0 else 0)) < 1 + 1e-6


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0:00:00"),
        (59.6, "0:01:00"),
        (3723, "1:02:03"),
        (90_061, "1d 1:01:01"),
        (None, "-"),
        (math.inf, "-"),
    ],
)
def test_durations(seconds: float | None, shown: str) -> None:
    assert text.duration(seconds) == shown


def test_one_line_of_an_error_is_the_most_informative() -> None:
    assert text.one_line("Traceback (most recent call last):\n  x\nValueError: bad\n") == (
        "ValueError: bad"
    )
    assert text.one_line("\nThe actor died.\n\tpid: 3\n") == "The actor died."
    assert text.one_line(" \n ") == ""


def test_text_that_does_not_fit_is_cut_with_a_mark() -> None:
    assert text.clip("abcdef", 4, "~") == "abc~"
    assert text.clip("abcd", 4, "~") == "abcd"
    assert text.clip_start("runs/a/b", 4, "~") == "~a/b"
    assert text.clip("abc", 0, "~") == text.clip_start("abc", 0, "~") == ""


def test_numbers_that_no_run_has_break_no_bar_and_no_line() -> None:
    assert text.bar_lengths([-5, 10], 20) == [0, 20]
    assert text.bar_lengths([1e308, 1e308], 20) == [0, 0]
    assert text.bar_lengths([1e18, 1 - 1e18], 20) == [20, 0]
    assert text.sparkline([-1e308, 1e308], 10, "abcd") == "bb"
    for timestep in (-(1 << 62), -1, 1 << 62):
        assert meter(timestep, 10, 20, text.ASCII).cell_len == 20
