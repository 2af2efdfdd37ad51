"""Reports of a trial to Ray Tune: a subscriber gathers them, a call from the driver sends them.

Events are gathered as they are published. The reports are sent when the driver asks whether to
stop: in the driver's thread, between two of its steps, after a checkpoint that was due with an
update has been saved. So a report carries the checkpoint of its own update, and the exception by
which Tune ends a trial passes through the driver and not into the event bus. Reports of the run's
last update wait until the run has ended: a scheduler that stops the trial then costs no checkpoint.

A report is due with each new value of the metric that is optimized, and carries the newest value
of every other metric. So every report has that metric, as Tune's searchers require.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keisei_ray.storage.run_layout import (
    CHECKPOINTS_DIR,
    ORIGIN_FILE,
    POOL_DIR,
    TUNE_CHECKPOINT_DIR,
)
from keisei_ray.telemetry import events as ev
from keisei_ray.tracking.curves import curve_points
from keisei_ray.tune.trial_metrics import ENDED, TIME

Report = dict[str, float]
"""Metric -> value, with TIME and, in the last report of a trial, ENDED."""


class TrialReporter:
    """Reporter of one trial."""

    def __init__(
        self,
        metric: str,
        run_dir: Path,
        trial_id: str,
        total_timesteps: int,
        send: Callable[[Report, Path | None], object],
    ) -> None:
        """Sends nothing yet.

        Args:
            metric: metric whose new values make a report due.
            run_dir: the trial's run directory.
            trial_id: written into the trial's Tune checkpoints.
            total_timesteps: the run's; reports of the update that reaches it wait.
            send: takes a report and the directory of a Tune checkpoint; it may block or raise.
        """
        self._metric = metric
        self._run_dir = run_dir
        self._trial_id = trial_id
        self._total_timesteps = total_timesteps
        self._send = send
        self._newest: dict[str, float] = {}
        self._timestep = 0
        """Timestep of the newest update."""
        self._due: list[Report] = []
        self._last: Report | None = None
        self._checkpoint: Path | None = None
        """Newest checkpoint that was saved since the last report."""

    def handle(self, event: ev.Event) -> None:
        """Gathers numbers and checkpoints; a subscriber of the event bus."""
        if isinstance(event, ev.CheckpointSaved):
            self._checkpoint = Path(event.path)
        points = curve_points(event)
        if points is None:
            return
        if isinstance(event, ev.UpdateFinished):
            self._timestep = points.timestep
        self._newest |= points.values
        if self._metric in points.values:
            self._due.append({**self._newest, TIME: points.timestep})
        elif self._due and self._due[-1][TIME] == points.timestep:
            self._due[-1] |= points.values

    def handle_past(self, event: ev.Event) -> None:
        """Gathers an event that was reported before the trial went on from its checkpoint.

        It is reported again only if no new event comes: the trial may have been at its end.
        """
        self.handle(event)
        if self._due:
            self._last = self._due.pop()

    def report_due(self) -> bool:
        """Sends the reports that are due; blocks until Tune has decided whether to go on.

        Returns:
            False, for the driver: Tune ends a trial by an exception, not by this answer.
        """
        if self._timestep < self._total_timesteps:
            self._send_due()
        return False

    def report_rest(self) -> None:
        """Sends the remaining reports once the run has ended, the last one marked with ENDED.

        If none remains, the last report is sent again.
        """
        if not self._due and self._last is not None:
            self._due.append(self._last)
        if self._due:
            self._due[-1][ENDED] = 1.0
        self._send_due()

    def _send_due(self) -> None:
        while self._due:
            report = self._due.pop(0)
            staged = None
            if not self._due and self._checkpoint is not None:
                staged = self._stage(self._checkpoint)
                self._checkpoint = None
            self._last = report
            try:
                self._send(report, staged)
            finally:
                if staged is not None:
                    shutil.rmtree(staged, ignore_errors=True)

    def _stage(self, path: Path) -> Path:
        """Makes a directory with a checkpoint, the opponent pool's weights and the trial's id."""
        staged = self._run_dir / TUNE_CHECKPOINT_DIR
        shutil.rmtree(staged, ignore_errors=True)
        shutil.copytree(path, staged / CHECKPOINTS_DIR / path.name)
        if (self._run_dir / POOL_DIR).is_dir():
            shutil.copytree(self._run_dir / POOL_DIR, staged / POOL_DIR)
        origin: dict[str, Any] = {"trial": self._trial_id}
        (staged / ORIGIN_FILE).write_text(json.dumps(origin), encoding="utf-8")
        return staged
