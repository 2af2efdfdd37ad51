"""When an answer is overdue. No Ray is started."""

import pytest

from keisei_ray.distributed.deadlines import AwakeClock, Deadlines


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deadlines(clock: Clock) -> Deadlines[str]:
    return Deadlines(10.0, clock)


def take(deadlines: Deadlines[str], clock: Clock, kind: str, seconds: float, size: int = 1) -> None:
    """Makes a call that is answered after some seconds."""
    deadlines.asked("a call before", kind, size)
    clock.now += seconds
    with deadlines.taking("a call before"):
        pass


def latest_answer_s(deadlines: Deadlines[str], clock: Clock, kind: str, size: int = 1) -> float:
    """Returns the seconds after which a call would be overdue."""
    began = clock.now
    deadlines.asked("a call", kind, size)
    while not deadlines.overdue():
        clock.now += 1.0
        assert clock.now - began < 10_000, "the call has no deadline"
    deadlines.forget("a call")
    return clock.now - began - 1.0


def test_a_kind_of_call_that_was_never_answered_gets_24_times_the_setting(
    deadlines: Deadlines[str], clock: Clock
) -> None:
    take(deadlines, clock, "collect", 1.0)
    assert latest_answer_s(deadlines, clock, "update") == 240.0


@pytest.mark.parametrize(("took", "limit"), [((0.1,), 10.0), ((3.0,), 30.0), ((3.0, 1.0), 30.0)])
def test_a_call_gets_ten_times_the_longest_but_never_less_than_the_setting(
    deadlines: Deadlines[str], clock: Clock, took: tuple[float, ...], limit: float
) -> None:
    for seconds in took:
        take(deadlines, clock, "update", seconds)
    assert latest_answer_s(deadlines, clock, "update") == limit


def test_more_work_gets_more_time(deadlines: Deadlines[str], clock: Clock) -> None:
    """An update grows with the cluster."""
    take(deadlines, clock, "update", 4.0, size=2)
    assert latest_answer_s(deadlines, clock, "update", size=6) == 120.0


def test_nothing_is_learnt_from_a_call_that_fails(deadlines: Deadlines[str], clock: Clock) -> None:
    take(deadlines, clock, "collect", 1.0)
    deadlines.asked("fails", "collect")
    clock.now += 60.0
    with pytest.raises(ConnectionError), deadlines.taking("fails"):
        raise ConnectionError
    assert latest_answer_s(deadlines, clock, "collect") == 10.0


def test_a_wait_in_which_no_answer_is_taken_makes_no_call_longer(
    deadlines: Deadlines[str], clock: Clock
) -> None:
    """As that for a learner that is started again."""
    deadlines.asked("a rollout", "collect")
    clock.now += 2.0
    with deadlines.taking_nothing():
        clock.now += 85.0
    assert deadlines.overdue() == {}
    with deadlines.taking("a rollout"):
        pass
    assert latest_answer_s(deadlines, clock, "collect") == 20.0


def test_the_error_says_which_call_and_how_long_it_had(
    deadlines: Deadlines[str], clock: Clock
) -> None:
    for key in ("first", "answered", "forgotten"):
        deadlines.asked(key, "collect")
    deadlines.forget("forgotten")
    with deadlines.taking("answered"):
        pass
    clock.now += 10.5
    ((key, error),) = deadlines.overdue().items()
    assert key == "first"
    assert str(error) == "no answer to collect within 10 s (cluster.call_timeout_s)"


def test_without_the_setting_every_call_is_waited_for(clock: Clock) -> None:
    deadlines = Deadlines[str](None, clock)
    take(deadlines, clock, "collect", 1.0)
    deadlines.asked("a call", "collect")
    clock.now += 1e9
    assert deadlines.overdue() == {}


def test_time_in_which_the_driver_does_not_run_makes_nobody_late(clock: Clock) -> None:
    """A stopped job, a machine that sleeps: hours pass between two turns of the loop."""
    awake = AwakeClock(clock)
    deadlines = Deadlines[str](10.0, awake)
    deadlines.asked("before", "collect")
    with deadlines.taking("before"):
        pass
    deadlines.asked("a call", "collect")
    for _ in range(10):
        clock.now += 0.5
        assert deadlines.overdue() == {}
    clock.now += 8 * 3600.0
    assert deadlines.overdue() == {}
    assert awake() == 10.0
    clock.now += 0.5
    assert list(deadlines.overdue()) == ["a call"]
