"""A bounded queue of calls with a thread that makes them.

The bus delivers events in the driver's thread, which must not wait: for a network, a disk, a
reader of the terminal, a user's subscriber. Calls that may have to are put here instead: they run
in order, one at a time, in a daemon thread. A call that finds the queue full is refused and
counted, so that slowness costs calls and not training.
"""

import logging
import queue
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)


class CallQueue:
    """Makes calls in order in a daemon thread."""

    def __init__(
        self, name: str, capacity: int, on_error: Callable[[Exception], object] | None = None
    ) -> None:
        """Starts the thread, which ends with `close` or with the process.

        Args:
            name: name of the thread.
            capacity: calls that may wait besides the one that runs, >= 1.
            on_error: called in the thread with each exception of a call; None: only logged.
        """
        self.refused = 0
        """Calls that found the queue full."""
        self.failed = 0
        """Calls that raised."""
        self._capacity = capacity
        self._on_error = on_error
        # The queue itself is not bounded: the sign to end must fit in however full it is.
        self._queue: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._is_abandoned = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Calls that have not begun."""
        return self._queue.qsize()

    def put(self, call: Callable[[], object]) -> bool:
        """Queues a call. Never blocks.

        Returns:
            Whether the call was queued; False if the queue is full, which is counted.
        """
        if self._queue.qsize() >= self._capacity:
            self.refused += 1
            return False
        self._queue.put(call)
        return True

    def flush(self, timeout_s: float | None) -> bool:
        """Waits until all calls that are queued now are made.

        Args:
            timeout_s: longest wait; None: no limit.

        Returns:
            Whether they were made in time.
        """
        is_done = threading.Event()
        self._queue.put(is_done.set)
        return is_done.wait(timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Waits until all queued calls are made, at most `timeout_s` seconds.

        A call that hangs is left behind in its daemon thread; the calls after it are never made.

        Returns:
            Whether all calls were made in time.
        """
        self._queue.put(None)
        self._thread.join(max(0.0, timeout_s))
        self._is_abandoned.set()
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (call := self._queue.get()) is not None and not self._is_abandoned.is_set():
            try:
                call()
            except Exception as error:  # the border to another library: it may raise anything
                self.failed += 1
                logger.info("%s: a call failed", self._thread.name, exc_info=True)
                if self._on_error is not None:
                    self._on_error(error)
