"""The view without a terminal: one line for each update, match and message.

The line of an update has `key=value` fields with the names of `metrics.jsonl`, so that grep finds
them, and each field has a fixed width, so that columns stand under one another. A match of the
background evaluation has such a line, too. Other lines begin with `notice`. All are made from the
same state as the live view.
"""

from collections.abc import Callable
from typing import Final

from rich.console import Console

from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.rates import fraction
from keisei_ray.telemetry.visible_text import visible
from keisei_ray.tracking.terminal import text
from keisei_ray.tracking.terminal.summary import summary
from keisei_ray.tracking.terminal.view_state import Entry, ViewState, entry_of, fold

FIELDS: Final = (
    ("sps", ".0f", 7),
    ("sps_total", ".0f", 7),
    ("games_total", ".0f", 7),
    ("black_wins", ".0f", 7),
    ("white_wins", ".0f", 7),
    ("draws", ".0f", 6),
    ("truncated", ".0f", 6),
    ("game_length_mean", ".1f", 5),
    ("policy_loss", "+.4f", 7),
    ("value_loss", ".4f", 6),
    ("entropy", ".3f", 5),
    ("approx_kl", ".5f", 7),
    ("clip_fraction", ".3f", 5),
    ("explained_variance", "+.3f", 6),
    ("learning_rate", ".2e", 8),
    ("grad_norm", ".3f", 5),
    ("policy_lag_mean", ".2f", 4),
    ("policy_lag_max", ".0f", 2),
    ("update_time_s", ".3f", 6),
    ("wait_time_s", ".3f", 6),
    ("actors_alive", ".0f", 3),
    ("actor_restarts", ".0f", 2),
)
"""Metric, format and width of each field after the first four."""


def update_line(state: ViewState) -> str:
    """Returns the last update as one line; a grep for `^update=` finds all of them."""
    values = state.metrics
    total = state.total_timesteps
    part = text.percent(fraction(min(state.timestep, total), total))
    fields = [
        f"update={text.figure(values.get('update'), '.0f'):<6}",
        f"timestep={state.timestep:<{len(str(total))}}",
        f"done={part:<6}",
        f"left={text.duration(state.remaining_s):<8}",
    ]
    for name, spec, width in FIELDS:
        value = text.figure(values.get(name), spec)
        fields.append(f"{name}={value:<{width}}")
    return visible(" ".join(fields).rstrip())


def notice_line(entry: Entry) -> str:
    """Returns a notice as one line; a grep for `^notice` finds all of them."""
    when = f"elapsed={text.duration(entry.elapsed_s):<8}"
    line = f"notice {when} level={entry.level:<7} kind={entry.kind:<16} {entry.message}"
    return visible(line)


def evaluation_line(state: ViewState) -> str:
    """Returns the last match as one line; a grep for `^evaluation=` finds all of them."""
    result = state.matches[-1]
    match = result.match
    rating = state.ratings.get(result.player)
    fields = [
        f"evaluation={result.player:<12}",
        f"timestep={result.timestep:<{len(str(state.total_timesteps))}}",
        f"opponent={result.opponent:<12}",
        f"games={match.games:<4}",
        f"score={match.score:.3f}",
        f"score_low={match.score_low:.3f}",
        f"score_high={match.score_high:.3f}",
    ]
    bounds = (rating.elo, rating.low, rating.high) if rating else (None, None, None)
    for name, value in zip(("elo", "elo_low", "elo_high"), bounds, strict=True):
        fields.append(f"{name}={text.figure(value, '+.0f'):<6}")
    return visible(" ".join(fields).rstrip())


class LinesView:
    """Writes lines for events, and the summary at the end."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        """Takes the console to write to and a monotonic clock in seconds."""
        self._console = console
        self._clock = clock
        self._began = clock()
        self._state = ViewState()

    def handle(self, event: ev.Event, happened_s: float | None = None) -> None:
        """Updates the state by an event and writes its line, if it has one.

        Args:
            event: what happened.
            happened_s: time of the event by the view's clock; None: now.
        """
        now = self._clock() if happened_s is None else happened_s
        if isinstance(event, ev.RunStarted):
            self._began = now
        before = self._state
        self._state = fold(before, event, now - self._began)
        if isinstance(event, ev.UpdateFinished):
            self._write(update_line(self._state))
            return
        if isinstance(event, ev.EvaluationFinished):
            return  # Its line comes with its rating.
        if isinstance(event, ev.RatingsFitted) and self._state.matches:
            self._write(evaluation_line(self._state))
            return
        entry = entry_of(event, before, now - self._began)
        if entry is not None:
            self._write(notice_line(entry))

    @property
    def state(self) -> ViewState:
        """State that the view shows, as of the last event."""
        return self._state

    def close(self) -> None:
        """Writes the final summary, if the run has ended."""
        if self._state.ended is not None:
            self._write(summary(self._state).plain)

    def _write(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True, emoji=False)
