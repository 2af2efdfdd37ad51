"""Source of what `status` and `watch` show: the files of a run, read where they are.

`LocalRunReader` reads the disk of its own machine. For a run on another machine, one works there
in an actor (`keisei_ray.status.remote`).
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from keisei_ray.errors import RunDirError
from keisei_ray.status.follow import RunFollower, TimedEvent
from keisei_ray.status.liveness import Liveness, liveness_of
from keisei_ray.status.run_status import Status, status_of
from keisei_ray.tracking.terminal.view_state import ViewState


class RunReader(Protocol):
    """Reader of one run, on this machine or on another."""

    def status(self) -> Status:
        """Returns the state of the run at this moment."""

    def poll(self) -> list[TimedEvent]:
        """Returns the events since the last call, oldest first."""

    def liveness(self, view_state: ViewState) -> Liveness:
        """Returns the signs of life of a run whose view state is `view_state`."""


class LocalRunReader:
    """Reader of the files of one run. All arguments and results can be pickled."""

    def __init__(self, run_dir: str | Path) -> None:
        """Reads nothing yet."""
        self._run_dir = Path(run_dir)
        self._follower = RunFollower(self._run_dir)

    def status(self) -> Status:
        """Returns the state of the run at this moment.

        Raises:
            RunDirError: the directory is gone, or a file cannot be read.
        """
        self._check_exists()
        return status_of(self._run_dir, time.time())

    def poll(self) -> list[TimedEvent]:
        """Returns the events that the files have gained since the last call, oldest first.

        Raises:
            RunDirError: the directory is gone, or a file cannot be read.
        """
        self._check_exists()
        return self._follower.poll(time.time())

    def liveness(self, view_state: ViewState) -> Liveness:
        """Returns the signs of life; looks for a writing process if the files are silent."""
        liveness = liveness_of(self._run_dir, view_state, time.time())
        # Looked for here, on the machine of the process: the answer may be read on another.
        _ = liveness.may_be_dead
        return liveness

    def _check_exists(self) -> None:
        if not self._run_dir.is_dir():
            raise RunDirError(f"{self._run_dir} is gone, expected the directory of a run.")


class StatusReader:
    """Reader of the status of several runs of one machine."""

    def statuses(self, run_dirs: Sequence[str]) -> list[Status | None]:
        """Returns the status of each run; None where it cannot be read."""
        found: list[Status | None] = []
        for run_dir in run_dirs:
            try:
                found.append(LocalRunReader(run_dir).status())
            except RunDirError:
                found.append(None)
        return found
