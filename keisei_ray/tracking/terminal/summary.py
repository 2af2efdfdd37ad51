"""The summary of a run that has ended: what was trained, where it is, what to run next."""

import shlex
from pathlib import Path
from typing import Final

from rich.text import Text

from keisei_ray.invocation import program
from keisei_ray.storage.run_layout import EVENTS_FILE, LOG_FILE
from keisei_ray.telemetry.rates import fraction, per_second
from keisei_ray.telemetry.visible_text import visible
from keisei_ray.tracking.terminal import text
from keisei_ray.tracking.terminal.draw import wrapped
from keisei_ray.tracking.terminal.panels import PHASE_STYLES, RESULTS, strength_of
from keisei_ray.tracking.terminal.view_state import ViewState

LABEL: Final = 12


def summary(state: ViewState, width: int | None = None) -> Text:
    """Returns the final summary.

    Paths and commands are not broken, so that they can be copied; print with `soft_wrap`.

    Args:
        state: state of a run that has ended.
        width: columns to which all other lines are broken at blanks; None: none is broken.

    Returns:
        Lines without a newline at the end.

    Raises:
        ValueError: the run has not ended.
    """
    ended = state.ended
    if ended is None:
        raise ValueError("a summary needs a run that has ended; no RunEnded event came.")
    rate = text.figure(per_second(ended.timestep, ended.wall_time_s), ",.0f")
    trained = f"{ended.timestep:,} of {state.total_timesteps:,} timesteps"
    took = f"in {text.duration(ended.wall_time_s)}, {rate} a second"
    lines = [
        Text.assemble(("Keisei Ray", "bold cyan"), " ", (ended.reason, PHASE_STYLES[ended.reason])),
        _line("trained", f"{trained}, {_updates(state)}{took}"),
    ]
    if state.metrics:
        lines.append(_line("games", _games(state)))
    if state.is_evaluated:
        elos, beside, scores = strength_of(state)
        compared = f" (to compare: {', '.join(beside)})" if beside else ""
        lines.append(_line("strength", ", ".join(elos) + compared))
        if scores:
            lines.append(_line("scores", ", ".join(scores)))
    if state.faults:
        lines.append(_line("warnings", f"{state.faults:,}, see {EVENTS_FILE} and {LOG_FILE}"))
    if ended.cause:
        lines.append(_line("cause", text.one_line(ended.cause)))
    if width is not None:
        lines = [wrapped(line, width, 2 + LABEL) for line in lines]
    lines.append(_line("run", state.run_dir))
    lines.append(_line("checkpoint", ended.checkpoint or "none"))
    lines += [_line("next" if i == 0 else "", step) for i, step in enumerate(_next(state))]
    return Text("\n").join(lines)


def _line(label: str, value: str) -> Text:
    return Text.assemble((f"  {label:<{LABEL}}", "dim"), visible(value))


def _updates(state: ViewState) -> str:
    update = state.metrics.get("update")
    return f"{update:,} updates, " if isinstance(update, int) else ""


def _games(state: ViewState) -> str:
    """Returns the number of games and the percentage of each result."""
    values = state.metrics
    whole = text.as_float(values.get("games_total")) or 0.0
    parts = [
        f"{label} {text.percent(fraction(text.as_float(values.get(name)) or 0.0, whole))}"
        for label, name, _ in RESULTS
    ]
    return f"{whole:,.0f}: {', '.join(parts)}" if whole else "none finished"


def _next(state: ViewState) -> list[str]:
    """Returns the commands that make sense now, the most useful first."""
    ended = state.ended
    if ended is None or ended.checkpoint is None:
        return [f"read {Path(state.run_dir) / LOG_FILE}"]
    resume = f"{program()} --run-dir {shlex.quote(state.run_dir)} --resume latest"
    evaluate = f"{program()} evaluate --checkpoint {shlex.quote(ended.checkpoint)}"
    evaluate += " --opponent random --games 100"
    if ended.reason == "done":
        return [evaluate, f"{resume} --total-timesteps {state.total_timesteps * 2}"]
    if ended.reason == "failed":
        return [f"read {Path(state.run_dir) / LOG_FILE}", resume]
    return [resume, evaluate]
