"""Signals that stop a run, sent to this process."""

import os
import signal
from collections.abc import Iterator

import pytest

from keisei_ray.training.stop_request import DOUBLED_S, StopRequest, stopping_on_signals


@pytest.fixture(autouse=True)
def hangup_handler() -> Iterator[None]:
    """SIGHUP ends the process by default, which it may not do here."""
    before = signal.signal(signal.SIGHUP, lambda signum, frame: None)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_requests_a_stop(signum: signal.Signals) -> None:
    stop = StopRequest()
    with stopping_on_signals(stop):
        os.kill(os.getpid(), signum)
        assert stop.is_set
    assert stop.signum == signum


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_second_request_ends_the_run_at_once(first: signal.Signals) -> None:
    times = iter([3.0, 3.0 + DOUBLED_S])
    stop = StopRequest(lambda: next(times))
    with stopping_on_signals(stop):
        os.kill(os.getpid(), first)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert stop.signum == first


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_sent_twice_at_once_is_one_request(signum: signal.Signals) -> None:
    """As `timeout` sends it: to the process, and to the group of it."""
    times = iter([3.0, 3.0, 3.0 + 0.9 * DOUBLED_S, 3.0 + DOUBLED_S])
    stop = StopRequest(lambda: next(times))
    with stopping_on_signals(stop):
        for _ in range(3):
            os.kill(os.getpid(), signum)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signum)


@pytest.mark.parametrize(
    "signals",
    [
        (signal.SIGHUP, signal.SIGHUP),
        (signal.SIGHUP, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGHUP),
    ],
)
def test_a_terminal_that_ends_is_one_request_however_many_signals_it_sends(
    signals: tuple[signal.Signals, ...],
) -> None:
    stop = StopRequest()
    with stopping_on_signals(stop):
        for signum in signals:
            os.kill(os.getpid(), signum)
    assert stop.signum == signals[0]


def test_a_hangup_that_is_ignored_as_under_nohup_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop = StopRequest()
    with stopping_on_signals(stop):
        os.kill(os.getpid(), signal.SIGHUP)
    assert not stop.is_set
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
