"""Subscribers that a trial of a sweep loads by name."""

import os
import signal
from pathlib import Path

from keisei_ray.telemetry import events as ev


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
