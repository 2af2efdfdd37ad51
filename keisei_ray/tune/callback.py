"""What a person sees of a sweep while it runs: one calm line for what happens to a trial.

Ray Tune tells a callback; this one says it in our words. It also carries the stop request into
Tune's loop, which only listens to SIGUSR1, and keeps the trials for the results.
"""

import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

from ray import tune
from rich.console import Console

from keisei_ray.tune.trial_metrics import ENDED, TIME

QUIET_S = 30.0
"""Seconds between two lines on how a trial does."""


class Watch(tune.Callback):
    """Tune's callback of a sweep.

    Attributes:
        trials: Tune's own objects, in the order in which they were made.
        unfinished: ids of those that were not over when the sweep was asked to stop.
    """

    def __init__(
        self, metric: str, console: Console, should_stop: Callable[[], bool], total_timesteps: int
    ) -> None:
        """Args:
        metric: what is optimised.
        console: where lines go.
        should_stop: asked in every round of Tune's loop.
        total_timesteps: of a trial.
        """
        self.trials: list[Any] = []
        self.unfinished: set[str] = set()
        self._metric = metric
        self._console = console
        self._should_stop = should_stop
        self._total = total_timesteps
        self._said_at: dict[str, float] = {}
        self._has_asked = False

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its callbacks into the sweep's directory; a resumed sweep has its own."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Hands a stop request on, once."""
        self.trials = trials
        if self._should_stop() and not self._has_asked:
            self._has_asked = True
            # Tune calls them terminated once it has ended their actors.
            self.unfinished = {t.trial_id for t in trials if not t.is_finished()}
            self._say("asked to stop: the sweep is saved; ask again to leave at once")
            signal.raise_signal(signal.SIGUSR1)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial's actor is up: for the first time, or after a failure, a pause or an exploit."""
        verb = "goes on" if trial.has_checkpoint() else "starts"
        self._say(f"trial {trial.trial_id} {verb}: {settings_text(trial.config)}")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A report."""
        now = time.monotonic()
        if now - self._said_at.setdefault(trial.trial_id, now) >= QUIET_S:
            self._said_at[trial.trial_id] = now
            self._say(f"trial {trial.trial_id} {self._standing(result)}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has ended by itself or by the scheduler."""
        self._say(f"trial {trial.trial_id} {state_of(trial)} {self._standing(trial.last_result)}")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has failed and is tried again."""
        self._say(f"trial {trial.trial_id} failed, is tried again: {cause_of(trial)}", "yellow")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has failed for good."""
        self._say(f"trial {trial.trial_id} failed: {cause_of(trial)}", "red")

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """The sweep is over or was stopped."""
        self.trials = trials

    def _standing(self, result: Mapping[str, Any]) -> str:
        timestep, value = result.get(TIME), result.get(self._metric)
        if timestep is None or value is None:
            return f"without a value of {self._metric}"
        return f"at timestep {timestep:,} of {self._total:,}: {self._metric} {value:.4g}"

    def _say(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, soft_wrap=True, highlight=False, markup=False)


def state_of(trial: Any) -> str:
    """How a trial ended: done, stopped (by the scheduler) or failed."""
    if trial.status == "ERROR":
        return "failed"
    # Without a report a scheduler has nothing to stop it for.
    is_stopped = TIME in trial.last_result and not trial.last_result.get(ENDED)
    return "stopped" if is_stopped else "done"


def cause_of(trial: Any) -> str:
    """The last line of a trial's error, which names it."""
    # Written before its callbacks are told, unlike the copy that Tune itself would read.
    file = Path(trial.error_file or "")
    lines = file.read_text(encoding="utf-8").split("\n") if file.is_file() else []
    said = [line for line in lines if line.strip()]
    return shorten(said[-1], 300, placeholder=" ...") if said else "unknown"


def settings_text(chosen: Mapping[str, Any]) -> str:
    """What was chosen, on one line."""
    return ", ".join(f"{key} {shown(value)}" for key, value in sorted(chosen.items()))


def shown(value: Any) -> str:
    """A setting's value, short."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
