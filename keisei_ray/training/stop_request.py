"""The request to stop a run, as SIGINT and SIGTERM make it."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopRequest:
    """A signal handler: the first signal asks the run to stop and save, the second ends it at once.

    It neither logs nor prints: a signal can come in the middle of a write.
    """

    def __init__(self) -> None:
        self.is_set = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Handles a signal.

        Raises:
            KeyboardInterrupt: the stop was requested before.
        """
        if self.is_set:
            raise KeyboardInterrupt
        self.is_set = True


@contextlib.contextmanager
def stopping_on_signals(stop: StopRequest) -> Iterator[None]:
    """Lets SIGINT and SIGTERM request a stop, and restores the former handlers afterwards.

    Does nothing outside the main thread, where Python allows no handlers: there the caller stops
    the run in a way of its own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
