"""Rates follow from counts."""

import pytest

from keisei_ray.telemetry import rates


def test_rates_from_known_batches_and_a_fake_clock_are_exact() -> None:
    batches, clock = [4096, 8192, 4096], [0.0, 2.0, 4.0, 5.0]
    timestep, found = 0, []
    for i, batch in enumerate(batches):
        timestep += batch
        found.append(rates.per_second(batch, clock[i + 1] - clock[i]))
    assert found == [2048.0, 4096.0, 4096.0]
    assert rates.per_second(timestep, clock[-1]) == 16384 / 5


def test_a_rate_over_no_time_is_undefined_and_a_backward_clock_is_an_error() -> None:
    assert rates.per_second(5, 0.0) is None
    with pytest.raises(ValueError, match=r"-1\.0 s"):
        rates.per_second(5, -1.0)
    with pytest.raises(ValueError, match="-5"):
        rates.per_second(-5, 1.0)


def test_mean_and_fraction_of_nothing_are_undefined() -> None:
    assert rates.mean(197, 2) == 98.5
    assert rates.fraction(1, 4) == 0.25
    assert rates.mean(0, 0) is None
    assert rates.fraction(0, 0) is None


def test_time_left_is_the_rest_over_the_rate() -> None:
    assert rates.remaining_s(400, 1000, 20.0) == 30.0
    assert rates.remaining_s(1000, 1000, None) == 0.0
    assert rates.remaining_s(1001, 1000, 20.0) == 0.0
    assert rates.remaining_s(400, 1000, None) is None
    assert rates.remaining_s(400, 1000, 0.0) is None
