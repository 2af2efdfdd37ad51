"""Progress of a sweep on the console: one line for each thing that happens to a trial.

Ray Tune calls a callback; this one prints the lines. It also passes the stop request on to Tune's
loop, which only listens to SIGUSR1, and keeps the trials for the results.
"""

import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

from ray import tune
from rich.console import Console
from rich.text import Text

from keisei_ray.distributed.cluster_room import RoomNotice
from keisei_ray.telemetry.visible_text import visible
from keisei_ray.tune.trial_metrics import ENDED, TIME

PROGRESS_INTERVAL_S = 30.0
"""Seconds between two lines on the progress of a trial."""


class SweepCallback(tune.Callback):
    """Callback for Ray Tune that follows a sweep.

    Attributes:
        trials: Tune's trial objects, in the order in which they were made.
        unfinished: ids of the trials that had not ended when the sweep was asked to stop.
    """

    def __init__(
        self,
        metric: str,
        console: Console,
        should_stop: Callable[[], bool],
        total_timesteps: int,
        asks: str | None = None,
    ) -> None:
        """Prints nothing yet.

        Args:
            metric: name of the metric that is optimized.
            console: where the lines are printed.
            should_stop: called in every round of Tune's loop; True requests a stop.
            total_timesteps: length of a trial.
            asks: what a trial asks of a cluster that others use too; None: it is the sweep's own.
        """
        self.trials: list[Any] = []
        self.unfinished: set[str] = set()
        self._metric = metric
        self._console = console
        self._should_stop = should_stop
        self._total = total_timesteps
        self._printed_at: dict[str, float] = {}
        self._is_stop_passed_on = False
        self._asks = asks
        self._room = RoomNotice(self._print, clock=time.monotonic)

    def __getstate__(self) -> dict[str, Any]:
        """Keeps nothing: Tune pickles its callbacks, but a resumed sweep gets a new one."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Passes a stop request on, once; says that no trial has room on the cluster."""
        self.trials = trials
        if self._asks is not None:
            is_waiting = not any(trial.status in ("RUNNING", "TERMINATED") for trial in trials)
            self._room.poll(self._asks if is_waiting else None)
        if self._should_stop() and not self._is_stop_passed_on:
            self._is_stop_passed_on = True
            # Noted now: once Tune has ended their actors it reports them as terminated.
            self.unfinished = {t.trial_id for t in trials if not t.is_finished()}
            self._print("asked to stop: the sweep is saved; ask again to leave at once")
            signal.raise_signal(signal.SIGUSR1)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Reports that a trial's actor is up.

        It may be up for the first time, or again after a failure, a pause or an exploit of PBT.
        """
        verb = "goes on" if trial.has_checkpoint() else "starts"
        self._print(f"trial {trial.trial_id} {verb}: {settings_text(trial.config)}")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Reports a trial's progress, at most once in PROGRESS_INTERVAL_S."""
        now = time.monotonic()
        if now - self._printed_at.setdefault(trial.trial_id, now) >= PROGRESS_INTERVAL_S:
            self._printed_at[trial.trial_id] = now
            self._print(f"trial {trial.trial_id} {self._progress(result)}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Reports that a trial has ended by itself or was stopped by the scheduler."""
        self._print(
            f"trial {trial.trial_id} {end_state(trial)} {self._progress(trial.last_result)}"
        )

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Reports that a trial has failed and is tried again."""
        self._print(
            f"trial {trial.trial_id} failed, is tried again: {failure_cause(trial)}", "yellow"
        )

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Reports that a trial has failed too often."""
        self._print(f"trial {trial.trial_id} failed: {failure_cause(trial)}", "red")

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Keeps the trials when the sweep has ended or was stopped."""
        self.trials = trials

    def _progress(self, result: Mapping[str, Any]) -> str:
        timestep, value = result.get(TIME), result.get(self._metric)
        if timestep is None or value is None:
            return f"without a value of {self._metric}"
        return f"at timestep {timestep:,} of {self._total:,}: {self._metric} {value:.4g}"

    def _print(self, text: str, style: str | None = None) -> None:
        self._console.print(Text(visible(text), style=style or ""), soft_wrap=True)


def end_state(trial: Any) -> str:
    """Returns how a trial ended: done, stopped (by the scheduler) or failed."""
    if trial.status == "ERROR":
        return "failed"
    # A scheduler stops a trial only after a report.
    is_stopped = TIME in trial.last_result and not trial.last_result.get(ENDED)
    return "stopped" if is_stopped else "done"


def failure_cause(trial: Any) -> str:
    """Returns the last line of a trial's error, which names the error."""
    # Tune writes this file before it calls its callbacks, unlike its own copy of the error.
    file = Path(trial.error_file or "")
    lines = file.read_text(encoding="utf-8").split("\n") if file.is_file() else []
    lines = [line for line in lines if line.strip()]
    return shorten(lines[-1], 300, placeholder=" ...") if lines else "unknown"


def settings_text(chosen: Mapping[str, Any]) -> str:
    """Returns the settings that were chosen for a trial, on one line."""
    return ", ".join(f"{key} {value_text(value)}" for key, value in sorted(chosen.items()))


def value_text(value: Any) -> str:
    """Returns a setting's value as short text."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
