"""The driver in a thread of its own, so that a call of Ray that does not return holds up nothing.

While Ray's control service is away, a call of it does not return, and 60 s after its end Ray ends
the process with all that has not been saved. No Python code runs in a thread that is in such a
call, not even a signal handler. So the caller's thread only waits: it handles signals, sees that
Ray is gone, and saves the run if the driver cannot.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Final

from keisei_ray.distributed.ray_connection import RayConnection
from keisei_ray.errors import ClusterError
from keisei_ray.training.driver import Driver, Stage
from keisei_ray.training.stop_request import StopRequest

POLL_S: Final = 0.5
STUCK_S: Final = 10.0
"""Seconds after the end of Ray in which the driver notices it, unless a call does not return."""
LEAVE_S: Final = 2.0
"""Seconds that a driver gets to end its actors after the second request to stop."""


def run_driver(
    driver: Driver,
    connection: RayConnection,
    stop: StopRequest,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Runs the driver to its end. Returns, or raises, what `Driver.run` does.

    Args:
        driver: has not run yet. Its `should_stop` raises KeyboardInterrupt once `stop.is_final`.
        connection: of this process to Ray.
        stop: the request to stop, whose second signal raises KeyboardInterrupt in this thread.
        clock: monotonic seconds.

    Raises:
        ClusterError: Ray is gone, and the driver is in a call that does not return. The newest
            finished update is saved. The thread and its call are left behind.
    """
    ended: Future[None] = Future()
    gone_since: float | None = None
    try:
        threading.Thread(target=_run, args=(driver, ended), name="driver", daemon=True).start()
        while not wait([ended], POLL_S).done:
            try:
                connection.check()
            except ClusterError:
                gone_since = clock() if gone_since is None else gone_since
                # A driver that saves waits for the disk, for as long as that takes.
                if driver.stage is Stage.SAVING or clock() - gone_since < STUCK_S:
                    continue
                if driver.stage is Stage.TRAINING:
                    driver.save_after_failure()
                raise
    except KeyboardInterrupt:
        stop.is_final = True
        wait([ended], LEAVE_S)
        raise
    ended.result()


def _run(driver: Driver, ended: "Future[None]") -> None:
    """Runs the driver. The body of the thread."""
    try:
        driver.run()
    except BaseException as error:  # noqa: BLE001  raised again in the caller's thread
        ended.set_exception(error)
    else:
        ended.set_result(None)
