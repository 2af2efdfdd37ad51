"""The request to stop a run, as SIGINT, SIGTERM and SIGHUP make it."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

DOUBLED_S: Final = 0.5
"""Seconds after the first signal in which another is the same request, sent twice."""


class StopRequest:
    """A signal handler: the first signal asks the run to stop and save, the second ends it at once.

    One request may be several signals: `timeout` and others signal a process and then its group,
    and shell and kernel both send SIGHUP, the end of the terminal, often with SIGTERM. So signals
    within `DOUBLED_S` of the first are no second request, and SIGHUP never is.

    It neither logs nor prints: a signal can come in the middle of a write.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Args:
        clock: monotonic seconds.
        """
        self._clock = clock
        self._requested_s = -math.inf
        """Time of the first signal."""
        self.is_set = False
        self.signum: int | None = None
        """The first signal; None if there was none."""
        self.is_final = False
        """Whether the run is left without saving: the second signal has interrupted the caller."""

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Handles a signal.

        Raises:
            KeyboardInterrupt: the stop was requested before.
        """
        if self.signum is None:
            self._requested_s = self._clock()
            self.is_set, self.signum = True, signum
        elif signal.SIGHUP in (signum, self.signum):
            return
        elif self._clock() - self._requested_s >= DOUBLED_S:
            raise KeyboardInterrupt


@contextlib.contextmanager
def stopping_on_signals(stop: StopRequest) -> Iterator[None]:
    """Lets signals request a stop, and restores the former handlers afterwards.

    These are SIGINT, SIGTERM and, unless it is ignored as under `nohup`, SIGHUP.

    Does nothing outside the main thread, where Python allows no handlers: there the caller stops
    the run in a way of its own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    before = {s: signal.signal(s, stop) for s in signals}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
