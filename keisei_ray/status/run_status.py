"""State of a run as one record; its names are those of `metrics.jsonl`.

How a run ended is taken from its last `run_ended` event. A run without one is either running or
silent: the status says which, and does not guess further.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from keisei_ray.config.player_names import version_of
from keisei_ray.status.cluster_records import ClusterState
from keisei_ray.status.follow import RunFollower
from keisei_ray.status.liveness import liveness_of
from keisei_ray.storage import checkpoint
from keisei_ray.storage.run_layout import CHECKPOINTS_DIR, MANIFEST_FILE, timestep_of
from keisei_ray.telemetry.rates import fraction
from keisei_ray.telemetry.reports import EvaluationResult, Rating
from keisei_ray.tracking.evaluation_records import evaluation_record
from keisei_ray.tracking.terminal.text import as_float, one_line
from keisei_ray.tracking.terminal.view_state import PACE_UPDATES, ViewState, at, fold

RunState = Literal["starting", "running", "finished", "interrupted", "failed", "silent"]


@dataclass(frozen=True)
class SavedCheckpoint:
    """The newest checkpoint of a run."""

    path: str
    timestep: int
    age_s: float


@dataclass(frozen=True)
class RecentWarning:
    """A warning or an error of the newest session."""

    age_s: float
    message: str


@dataclass(frozen=True)
class Status:
    """State of a run at one moment. Rates and times that are not known are None."""

    run_dir: str
    state: RunState
    cause: str | None
    """Cause of a failure, on one line; else None."""
    silent_s: float | None
    """Seconds since a file of the run was last written; None once the run has ended."""
    patience_s: float | None
    """Silence of up to this many seconds is expected; None once the run has ended."""
    idle_s: float | None
    """Seconds since the last update, if there was none for longer than expected; else None."""
    pid: int | None
    """Process that writes the run's files; None if none can be seen on the machine that reads
    them."""
    timestep: int
    total_timesteps: int | None
    share: float | None
    """`timestep` as a fraction of `total_timesteps`, in [0, 1]."""
    wall_time_s: float | None
    """Wall time of the run over all resumes, up to the last update or the end."""
    remaining_s: float | None
    """Time left at the pace of the last updates; None where the run is not going."""
    sps: float | None
    """Timesteps a second of the last update."""
    sps_total: float | None
    """Timesteps a second over the whole run."""
    update: int
    games_total: int
    black_wins: int
    white_wins: int
    draws: int
    truncated: int
    num_actors: int
    actors_alive: int | None
    """Self-play actors that are up; None where the run is not going."""
    actor_restarts: int
    checkpoint: SavedCheckpoint | None
    evaluations: tuple[EvaluationResult, ...]
    """Matches of the newest weights that have any."""
    ratings: tuple[Rating, ...]
    """Ratings of the players in these matches, and of all that are no version of the run."""
    faults: int
    """Number of warnings and errors of the newest session."""
    warnings: tuple[RecentWarning, ...]
    """The newest warnings and errors, at most `view_state.WARNINGS_KEPT`, oldest first."""
    damaged: int
    """Number of lines of the run's files that could not be read."""
    cluster: ClusterState | None = None
    """State of the run on its cluster; None where only the files were read."""


def status_of(run_dir: Path, now_s: float) -> Status:
    """Reads a run's files.

    Args:
        run_dir: directory of a run in any state.
        now_s: seconds since 1970.

    Raises:
        RunDirError: a file cannot be read.
    """
    return StatusFollower(run_dir).status(now_s)


class StatusFollower:
    """Status of a run that is asked for again and again: only what has come since is read."""

    def __init__(self, run_dir: Path) -> None:
        """Reads nothing yet."""
        self._follower = RunFollower(run_dir, most_updates=PACE_UPDATES)
        self._view_state = ViewState()

    def status(self, now_s: float) -> Status:
        """Returns the state of the run at `now_s`, in seconds since 1970.

        Raises:
            RunDirError: a file cannot be read.
        """
        num_begun = self._follower.num_begun
        events = self._follower.poll(now_s)
        if self._follower.num_begun != num_begun:
            self._view_state = ViewState()
        began_s = self._follower.began_s
        for timed in events:
            elapsed_s = timed.time_s - (now_s if began_s is None else began_s)
            self._view_state = fold(self._view_state, timed.event, elapsed_s)
        return _status(self._follower, self._view_state, now_s)


def _status(follower: RunFollower, view_state: ViewState, now_s: float) -> Status:
    """Returns the status of a run whose newest session has led to a view state."""
    run_dir = follower.run_dir
    began_s = now_s if follower.began_s is None else follower.began_s
    ended = view_state.ended
    if ended is None:
        view_state = at(view_state, max(view_state.elapsed_s, now_s - began_s))
    liveness = None if ended else liveness_of(run_dir, view_state, now_s)
    state = _state(view_state, liveness is not None and liveness.may_be_dead)
    is_going = state in ("starting", "running")
    values = view_state.metrics or follower.before or {}
    total = view_state.total_timesteps or None
    players = [match.player for match in view_state.matches]
    alive = _count(view_state.metrics, "actors_alive", default=len(view_state.actors_ready))
    return Status(
        run_dir=str(run_dir),
        state=state,
        cause=one_line(ended.cause) if ended and ended.cause else None,
        silent_s=liveness.silent_s if liveness else None,
        patience_s=liveness.patience_s if liveness else None,
        idle_s=liveness.idle_s if liveness and liveness.stands_still else None,
        pid=liveness.pid if liveness else None,
        timestep=view_state.timestep,
        total_timesteps=total,
        share=fraction(min(view_state.timestep, total), total) if total else None,
        wall_time_s=as_float(ended.wall_time_s if ended else values.get("wall_time_s")),
        remaining_s=view_state.remaining_s if is_going and total else None,
        sps=as_float(values.get("sps")),
        sps_total=as_float(values.get("sps_total")),
        update=_count(values, "update"),
        games_total=_count(values, "games_total"),
        black_wins=_count(values, "black_wins"),
        white_wins=_count(values, "white_wins"),
        draws=_count(values, "draws"),
        truncated=_count(values, "truncated"),
        num_actors=view_state.num_actors,
        actors_alive=alive if is_going else None,
        actor_restarts=_count(values, "actor_restarts"),
        checkpoint=_newest_checkpoint(run_dir / CHECKPOINTS_DIR, now_s),
        evaluations=view_state.matches,
        ratings=tuple(
            rating
            for name, rating in view_state.ratings.items()
            if name in players or version_of(name) is None
        ),
        faults=view_state.faults,
        warnings=_warnings(view_state, now_s - began_s),
        damaged=follower.damaged,
    )


def with_cluster(status: Status, cluster: ClusterState) -> Status:
    """Returns a status with the state of the run on its cluster added.

    A run that has not reported its end, but whose driver has left the cluster, is silent, even if
    its files were written a moment ago.
    """
    if status.state in ("starting", "running") and not cluster.driver_alive:
        status = replace(status, state="silent", remaining_s=None, actors_alive=None)
    return replace(status, cluster=cluster)


def as_json(status: Status) -> dict[str, object]:
    """Returns the status as JSON types; matches have the form of `evaluations.jsonl`."""
    matches = [evaluation_record(match) for match in status.evaluations]
    return asdict(status) | {"evaluations": matches}


def _state(view_state: ViewState, may_be_dead: bool) -> RunState:
    if view_state.ended is not None:
        reason = view_state.ended.reason
        return "finished" if reason == "done" else reason
    if may_be_dead:
        return "silent"
    return "running" if view_state.metrics else "starting"


def _count(values: Mapping[str, object], name: str, default: int = 0) -> int:
    value = values.get(name)
    return value if isinstance(value, int) else default


def _newest_checkpoint(checkpoints_dir: Path, now_s: float) -> SavedCheckpoint | None:
    path = checkpoint.newest(checkpoints_dir)
    if path is None:
        return None
    try:
        saved_s = (path / MANIFEST_FILE).stat().st_mtime
    except OSError:
        return None  # The run has just deleted it.
    return SavedCheckpoint(str(path), timestep_of(path.name), max(0.0, now_s - saved_s))


def _warnings(view_state: ViewState, elapsed_s: float) -> tuple[RecentWarning, ...]:
    return tuple(
        RecentWarning(max(0.0, elapsed_s - e.elapsed_s), e.message) for e in view_state.warnings
    )
