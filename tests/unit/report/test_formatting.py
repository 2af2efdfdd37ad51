"""Numbers and times as text."""

import math

import pytest

from keisei_ray.report import formatting


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
def test_numbers_have_four_significant_digits(value: float, text: str) -> None:
    assert formatting.significant(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(59.2, "59 s"), (762, "12 min 42 s"), (11_100, "3 h 5 min"), (187_200, "2 days 4 h"),
     (90_000, "1 day 1 h"), (math.nan, "-")],
)  # fmt: skip
def test_durations_in_words(seconds: float, text: str) -> None:
    assert formatting.duration(seconds) == text
