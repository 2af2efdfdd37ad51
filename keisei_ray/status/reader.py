"""Where `status` and `watch` get what they show: the files of a run, read where they lie.

`RunReader` reads the disk of the machine that it is on. To see a run on another machine, one of
them works there (`keisei_ray.status.cluster_runs`).
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from keisei_ray.errors import RunDirError
from keisei_ray.status.follow import Happened, RunFollower
from keisei_ray.status.life import Life, life_of
from keisei_ray.status.state import Status, status_of
from keisei_ray.tracking.terminal.view_state import ViewState


class Reader(Protocol):
    """Whatever can say how a run is and what happens in it."""

    def status(self) -> Status:
        """How the run is at this moment."""

    def poll(self) -> list[Happened]:
        """What has happened since the last call, oldest first."""

    def life(self, view_state: ViewState) -> Life:
        """Signs of life of a run of which `view_state` is known."""


class StatusReader:
    """Says how several runs of one machine are."""

    def statuses(self, run_dirs: Sequence[str]) -> list[Status | None]:
        """One of each; None where it cannot be read."""
        found: list[Status | None] = []
        for run_dir in run_dirs:
            try:
                found.append(RunReader(run_dir).status())
            except RunDirError:
                found.append(None)
        return found


class RunReader:
    """Reads the files of one run. Picklable in all that it takes and gives."""

    def __init__(self, run_dir: str | Path) -> None:
        """Reads `run_dir` when asked."""
        self._run_dir = Path(run_dir)
        self._follower = RunFollower(self._run_dir)

    def status(self) -> Status:
        """The run at this moment.

        Raises:
            RunDirError: the directory is gone, or a file cannot be read.
        """
        self._check()
        return status_of(self._run_dir, time.time())

    def poll(self) -> list[Happened]:
        """What the files hold beyond what was told already, oldest first.

        Raises:
            RunDirError: the directory is gone, or a file cannot be read.
        """
        self._check()
        return self._follower.poll(time.time())

    def life(self, view_state: ViewState) -> Life:
        """Signs of life; a process that writes the files is looked for if they are silent."""
        life = life_of(self._run_dir, view_state, time.time())
        _ = life.is_lost  # Here, where the process would be: the answer may be read elsewhere.
        return life

    def _check(self) -> None:
        if not self._run_dir.is_dir():
            raise RunDirError(f"{self._run_dir} is gone, expected the directory of a run.")
