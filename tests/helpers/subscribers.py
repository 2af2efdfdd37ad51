"""Subscribers that a run in another process loads by name, from `tracking.subscribers`."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from keisei_ray.telemetry import events as ev
from keisei_ray.training.driver import Driver

BRAKE = "tests.helpers.subscribers:Brake"
SLEEPER = "tests.helpers.subscribers:sleep_for_ever"


class Brake:
    """Holds a run to a few updates a second.

    A run that lasts until a test has seen enough leaves the processor to what the test waits for.
    The bus does not wait for a subscriber, so it is the driver that is slowed down.
    """

    def __init__(self) -> None:
        take_update = Driver._take_update

        def slowly(*args: Any) -> None:
            take_update(*args)
            time.sleep(0.2)

        Driver._take_update = slowly  # type: ignore[assignment]

    def __call__(self, event: ev.Event) -> None:
        """Does nothing with an event."""


def sleep_for_ever(event: ev.Event) -> None:
    """Never returns."""
    del event
    threading.Event().wait()


class DieOnce:
    """Kills the driver of the first trial of a sweep that has saved a checkpoint, once."""

    def __init__(self) -> None:
        self._mark: Path | None = None

    def __call__(self, event: ev.Event) -> None:
        if isinstance(event, ev.RunStarted):
            self._mark = Path(event.run_dir).parent / "died"
        if isinstance(event, ev.CheckpointSaved) and self._mark is not None:
            try:
                with self._mark.open("x") as file:
                    file.write(event.path)
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)


class KillItself:
    """Ends its process by SIGKILL after the update with the number in KILLED_AFTER_UPDATE."""

    def __call__(self, event: ev.Event) -> None:
        last = int(os.environ["KILLED_AFTER_UPDATE"])
        if isinstance(event, ev.UpdateFinished) and event.metrics.update >= last:
            os.kill(os.getpid(), signal.SIGKILL)
