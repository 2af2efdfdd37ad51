"""What a trial tells Tune: a subscriber that gathers, and a call that delivers.

Events are gathered as they are published. They are delivered when the driver asks whether to stop:
in its own thread, between two things that it does, when a checkpoint that was due with an update
has been saved. So a report carries the checkpoint of its own update, and what Tune raises to end a
trial passes through the driver and not into the event bus. What comes with the run's last update
waits until the run has ended: a scheduler that stops the trial then costs no checkpoint.

A report is due with each new value of the metric that is optimised, and carries the newest value
of every other. So every report has it, as searchers demand.
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
from keisei_ray.tracking.scalars import scalars
from keisei_ray.tune.trial_metrics import ENDED, TIME

Report = dict[str, float]


class Reports:
    """One trial's reports."""

    def __init__(
        self,
        metric: str,
        run_dir: Path,
        trial_id: str,
        total_timesteps: int,
        send: Callable[[Report, Path | None], object],
    ) -> None:
        """Args:
        metric: whose new values make a report due.
        run_dir: the trial's.
        trial_id: noted in its checkpoints.
        total_timesteps: the run's; what comes with the update that reaches it waits.
        send: takes a report and the directory of a Tune checkpoint, and may block or raise.
        """
        self._metric = metric
        self._run_dir = run_dir
        self._trial_id = trial_id
        self._total_timesteps = total_timesteps
        self._send = send
        self._newest: dict[str, float] = {}
        self._timestep = 0
        """Of the newest update."""
        self._due: list[Report] = []
        self._last: Report | None = None
        self._checkpoint: Path | None = None
        """Saved since the last report."""

    def handle(self, event: ev.Event) -> None:
        """Subscriber: gathers numbers and checkpoints."""
        if isinstance(event, ev.CheckpointSaved):
            self._checkpoint = Path(event.path)
        found = scalars(event)
        if found is None:
            return
        values = {name.removeprefix("metrics/"): v for name, v in found.values.items()}
        if isinstance(event, ev.UpdateFinished):
            self._timestep = found.timestep
        self._newest |= values
        if self._metric in values:
            self._due.append({**self._newest, TIME: found.timestep})
        elif self._due and self._due[-1][TIME] == found.timestep:
            self._due[-1] |= values

    def recall(self, event: ev.Event) -> None:
        """Gathers what was reported before the trial went on from its checkpoint.

        It is reported again only if nothing else comes: the trial may have been at its end.
        """
        self.handle(event)
        if self._due:
            self._last = self._due.pop()

    def deliver(self) -> bool:
        """Reports what is due; blocks until Tune has decided. False: nobody stops the run so."""
        if self._timestep < self._total_timesteps:
            self._send_due()
        return False

    def deliver_rest(self) -> None:
        """Reports what is left once the run has ended, or the last value again, as the last one."""
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
        """A directory with a checkpoint, the opponent pool's weights, and whose they are."""
        staged = self._run_dir / TUNE_CHECKPOINT_DIR
        shutil.rmtree(staged, ignore_errors=True)
        shutil.copytree(path, staged / CHECKPOINTS_DIR / path.name)
        if (self._run_dir / POOL_DIR).is_dir():
            shutil.copytree(self._run_dir / POOL_DIR, staged / POOL_DIR)
        origin: dict[str, Any] = {"trial": self._trial_id}
        (staged / ORIGIN_FILE).write_text(json.dumps(origin), encoding="utf-8")
        return staged
