"""Subscribers that a run in another process loads by name, from `tracking.subscribers`."""

import os
import signal
import time
from pathlib import Path

from keisei_ray.telemetry import events as ev

BRAKE = "tests.helpers.subscribers:Brake"


class Brake:
    """Holds a run to a few updates a second.

    A run that lasts until a test has seen enough leaves the processor to what the test waits for.
    """

    def __call__(self, event: ev.Event) -> None:
        if isinstance(event, ev.UpdateFinished):
            time.sleep(0.2)


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
