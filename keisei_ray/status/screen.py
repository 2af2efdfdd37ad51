"""A status as lines of text: one screen, the same on a terminal and in a file. Pure functions."""

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from keisei_ray.config.player_names import finishes_mates
from keisei_ray.report.formatting import plural
from keisei_ray.status.cluster_records import ClusterRun, ClusterState
from keisei_ray.status.run_status import Status
from keisei_ray.telemetry.rates import fraction
from keisei_ray.tracking.terminal import text
from keisei_ray.tracking.terminal.draw import (
    ACCENT,
    LABEL,
    STRONG,
    labeled,
    meter,
    row,
    wrapped,
)
from keisei_ray.tracking.terminal.panels import RESULTS, beside_text, elo_text
from keisei_ray.tracking.terminal.text import Glyphs

STATE_STYLES: Final = {
    "starting": "yellow",
    "running": "green",
    "finished": "bold green",
    "interrupted": "bold yellow",
    "failed": "bold red",
    "silent": "bold red",
}
TABLE_HEAD: Final = ("RUN", "STATE", "SINCE", "TIMESTEP", "OF", "SPS", "DRIVER")
BAR_WIDTH: Final = 30
"""Cells of the progress bar."""


def status_lines(
    status: Status, glyphs: Glyphs | None = None, width: int | None = None
) -> list[Text]:
    """Returns the screen of one run. Paths are not broken, so that they can be copied.

    Args:
        status: the run's.
        glyphs: characters of the progress bar; None: no bar.
        width: columns to which lines without a path are broken at blanks; None: none is broken.
    """
    head = row(("Keisei Ray", ACCENT), f"  {status.run_dir}")
    state = labeled("state", (status.state, STATE_STYLES[status.state]), _signs(status))
    shown = [head, state, _progress(status, glyphs)]
    if status.update:
        now, whole = text.figure(status.sps, ",.0f"), text.figure(status.sps_total, ",.0f")
        shown += [
            labeled(
                "speed", (now, STRONG), f" timesteps a second in the last update, {whole} over all"
            ),
            labeled("updates", f"{status.update:,} in {text.duration(status.wall_time_s)}"),
            labeled("games", _games(status)),
        ]
    shown.append(labeled("actors", _actors(status)))
    if status.cluster is not None:
        shown += [labeled("cluster", _cluster(status.cluster)), _driver(status.cluster)]
    saved = status.checkpoint
    note = f"timestep {saved.timestep:,}, {_ago(saved.age_s)}: {saved.path}" if saved else "none"
    at_checkpoint = len(shown)
    shown.append(labeled("checkpoint", note))
    shown += [labeled("strength" if i == 0 else "", s) for i, s in enumerate(_strength(status))]
    shown += [labeled("warnings" if i == 0 else "", w) for i, w in enumerate(_warnings(status))]
    if width is None:
        return shown
    with_path = (0, at_checkpoint)
    return [line if i in with_path else wrapped(line, width, LABEL) for i, line in enumerate(shown)]


def runs_table(rows: Sequence[tuple[ClusterRun, Status | None]], now_s: float) -> list[Text]:
    """Returns a table with a line for each run of a cluster; nothing is cut.

    Args:
        rows: runs, each with its status; None where its files were not read.
        now_s: seconds since 1970.
    """
    return table_lines(TABLE_HEAD, [_cells(run, status, now_s) for run, status in rows])


def table_lines(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[Text]:
    """Returns a table as lines: the head, and a line for each row; nothing is cut."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    first, *rest = (
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return [row((first, ACCENT)), *(row(line) for line in rest)]


def _cells(run: ClusterRun, status: Status | None, now_s: float) -> tuple[str, ...]:
    since_s = run.started_s if run.ended_s is None else run.ended_s
    since = f"{text.duration(max(0.0, now_s - since_s))} ago"
    driver = f"process {run.pid} on {run.node}"
    if status is None:
        state = "running, not readable" if run.is_alive else "driver has left"
        return run.run_dir, state, since, "-", "-", "-", driver
    total = status.total_timesteps
    return (
        run.run_dir,
        status.state,
        since,
        f"{status.timestep:,}",
        f"{total:,}" if total else "-",
        text.figure(status.sps, ",.0f"),
        driver,
    )


def _cluster(cluster: ClusterState) -> str:
    counts = {"node": cluster.num_nodes, "CPU": cluster.num_cpus, "GPU": cluster.num_gpus}
    parts = ", ".join(plural(count, noun) for noun, count in counts.items())
    return f"{parts} at {cluster.address}"


def _driver(cluster: ClusterState) -> Text:
    """Returns whether the driver is connected, and how many of the run's actors are up."""
    who = f"process {cluster.driver_pid} on {cluster.driver_node}"
    if not cluster.driver_alive:
        return labeled("driver", f"{who}, ", ("has left the cluster", "bold"))
    counts = {
        "self-play actor": cluster.self_play_actors,
        "learner": cluster.learners,
        "evaluator": cluster.evaluators,
    }
    up = ", ".join(plural(count, noun) for noun, count in counts.items())
    return labeled("driver", f"{who}, connected; up for it: {up}")


def _signs(status: Status) -> str:
    """Returns the reason for the state: the cause of a failure, or the signs of life."""
    if status.state == "failed":
        return f": {status.cause or 'no cause on record'}"
    if status.silent_s is None:
        return ""
    since = f"last written to {_ago(status.silent_s)}"
    if status.state == "silent":
        patience = text.duration(status.patience_s)
        return (
            f": {since}, expected within {patience}; no process here writes to it. "
            "It may be dead; continue it with --resume latest."
        )
    process = ", by no process seen here" if status.pid is None else f" by process {status.pid}"
    late = ", longer than expected" if status.silent_s > (status.patience_s or 0.0) else ""
    idle = f", no update for {text.duration(status.idle_s)}" if status.idle_s is not None else ""
    return f"{idle}, {since}{process}{late}"


def _ago(seconds: float) -> str:
    return f"{text.duration(seconds)} ago"


def _progress(status: Status, glyphs: Glyphs | None) -> Text:
    total = status.total_timesteps
    bar = row()
    if glyphs is not None and total:
        bar = row(meter(status.timestep, total, BAR_WIDTH, glyphs), "  ")
    of_total = f" of {total:,}" if total else ""
    left = "" if status.remaining_s is None else f", left {text.duration(status.remaining_s)}"
    part = f"{text.percent(status.share)}  " if total else ""
    return labeled(
        "progress", bar, (part, STRONG), f"{status.timestep:,}{of_total} timesteps{left}"
    )


def _games(status: Status) -> str:
    whole = status.games_total
    if not whole:
        return "none finished"
    counts = [(label, getattr(status, name)) for label, name, _ in RESULTS]
    parts = [f"{label} {n:,} ({text.percent(fraction(n, whole))})" for label, n in counts]
    return f"{whole:,} finished: {', '.join(parts)}"


def _actors(status: Status) -> str:
    of_all = f"{status.num_actors:,}" if status.num_actors else "unknown"
    up = of_all if status.actors_alive is None else f"{status.actors_alive:,} of {of_all} alive"
    return f"{up}, {status.actor_restarts:,} restarts"


def _strength(status: Status) -> list[str]:
    """Returns Elo, then scores, of the newest weights that have matches."""
    if not status.evaluations:
        return ["no evaluation yet"]
    ratings = {rating.name: rating for rating in status.ratings}
    players = sorted({match.player for match in status.evaluations}, key=finishes_mates)
    elos = [f"{name} Elo {elo_text(ratings.get(name))}" for name in players]
    scores = [f"{m.player} - {m.opponent} {m.match.score:.1%}" for m in status.evaluations]
    when = f"at timestep {status.evaluations[-1].timestep:,}"
    beside = beside_text(ratings.get(players[0]), status.ratings)
    compared = f" (to compare: {', '.join(beside)})" if beside else ""
    return [f"{', '.join(elos)}, {when}{compared}", ", ".join(scores)]


def _warnings(status: Status) -> list[str]:
    """Returns the number of warnings and the newest ones."""
    shown = [f"{_ago(warning.age_s)}: {warning.message}" for warning in status.warnings]
    if status.faults > len(shown):
        shown.insert(0, f"{status.faults:,} in this session; the last are")
    if status.damaged:
        shown.append(f"{status.damaged:,} lines of its files cannot be read")
    return shown or ["none"]
