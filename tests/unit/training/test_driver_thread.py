"""The thread that waits for the driver: endings, Ray's end in a call, signals. No Ray."""

import itertools
import signal
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from keisei_ray.errors import ClusterError
from keisei_ray.training import driver_thread
from keisei_ray.training.driver import Stage
from keisei_ray.training.driver_thread import STUCK_S, run_driver
from keisei_ray.training.stop_request import StopRequest

GONE = ClusterError("Ray is gone")


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_thread, "POLL_S", 0.01)


class FakeDriver:
    """A driver that does one thing, in the stage that is given."""

    def __init__(self, run: Callable[[], None], stage: Stage = Stage.TRAINING) -> None:
        self.run = run
        self.stage = stage
        self.num_saved = 0

    def save_after_failure(self) -> None:
        self.num_saved += 1


def waits_for(event: threading.Event) -> Callable[[], None]:
    def wait() -> None:
        event.wait()

    return wait


def connection(*, is_gone: bool) -> Any:
    def check() -> None:
        if is_gone:
            raise GONE

    return SimpleNamespace(check=check)


def run(driver: Any, *, is_gone: bool = False, step_s: float = 1.0) -> None:
    """Runs a driver under a clock that goes on by `step_s` at each look."""
    ticks = itertools.count()
    run_driver(driver, connection(is_gone=is_gone), StopRequest(), lambda: next(ticks) * step_s)


def test_the_end_of_the_driver_is_that_of_the_call() -> None:
    done: list[str] = []
    run(FakeDriver(lambda: done.append(threading.current_thread().name)))
    assert done == ["driver"]


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_the_driver_raises_is_raised_in_the_callers_thread(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        run(FakeDriver(fail))
    assert raised.value is error


@pytest.mark.parametrize(("stage", "num_saved"), [(Stage.TRAINING, 1), (Stage.STARTING, 0)])
def test_a_driver_in_a_call_that_does_not_return_is_saved_and_left_when_ray_is_gone(
    stage: Stage, num_saved: int
) -> None:
    released = threading.Event()
    driver = FakeDriver(waits_for(released), stage)
    with pytest.raises(ClusterError) as raised:
        run(driver, is_gone=True)
    released.set()
    assert raised.value is GONE
    assert driver.num_saved == num_saved


def test_a_driver_that_notices_the_end_of_ray_by_itself_is_waited_for() -> None:
    released = threading.Event()

    def notice() -> None:
        released.wait()
        raise GONE

    driver = FakeDriver(notice)
    threading.Timer(0.2, released.set).start()
    with pytest.raises(ClusterError):
        run(driver, is_gone=True, step_s=STUCK_S / 1e6)
    assert driver.num_saved == 0


def test_a_driver_that_saves_is_waited_for_however_long_the_disk_takes() -> None:
    released = threading.Event()
    driver = FakeDriver(waits_for(released), Stage.SAVING)
    threading.Timer(0.2, released.set).start()
    run(driver, is_gone=True, step_s=10 * STUCK_S)
    assert driver.num_saved == 0


def test_the_second_signal_leaves_a_driver_that_does_not_return() -> None:
    released, stop = threading.Event(), StopRequest()
    stop.signum = signal.SIGINT  # The first one has come.

    def wait() -> None:
        signal.raise_signal(signal.SIGINT)  # Python hands it to the main thread.
        released.wait()

    driver: Any = FakeDriver(wait)
    before = signal.signal(signal.SIGINT, stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_driver(driver, connection(is_gone=False), stop)
    finally:
        signal.signal(signal.SIGINT, before)
        released.set()
    assert stop.is_final
    assert driver.num_saved == 0
