"""A periodic trigger is due once for each boundary crossed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keisei_ray.telemetry.periodic_trigger import PeriodicTrigger


@given(st.integers(1, 1000), st.lists(st.integers(0, 3000), max_size=60), st.integers(0, 5000))
def test_a_trigger_fires_once_for_each_boundary_or_run_of_boundaries_crossed(
    every: int, batches: list[int], start: int
) -> None:
    trigger = PeriodicTrigger(every, last=start)
    timestep = start
    for batch in batches:
        # The slow truth: look at every single timestep of the batch.
        crossed = any((timestep + i) % every == 0 for i in range(1, batch + 1))
        timestep += batch
        assert trigger.is_due(timestep) == crossed
        assert not trigger.is_due(timestep)


@given(st.integers(1, 50), st.lists(st.integers(1, 50), max_size=50))
def test_batches_shorter_than_the_period_miss_no_boundary(every: int, batches: list[int]) -> None:
    trigger = PeriodicTrigger(every)
    timestep = fired = 0
    for batch in batches:
        timestep += min(batch, every)
        fired += trigger.is_due(timestep)
    assert fired == timestep // every


def test_a_trigger_never_fires_at_zero() -> None:
    trigger = PeriodicTrigger(10)
    assert [trigger.is_due(t) for t in (0, 0, 9, 10, 10, 19, 45, 49, 50)] == [
        False,
        False,
        False,
        True,
        False,
        False,
        True,
        False,
        True,
    ]


def test_a_resumed_trigger_goes_on_from_its_timestep() -> None:
    resumed = PeriodicTrigger(10, last=25)
    assert not resumed.is_due(25)
    assert not resumed.is_due(29)
    assert resumed.is_due(30)


@pytest.mark.parametrize(("every", "last"), [(0, 0), (-1, 0), (1, -1)])
def test_a_period_of_nothing_is_refused(every: int, last: int) -> None:
    with pytest.raises(ValueError, match="every"):
        PeriodicTrigger(every, last)
