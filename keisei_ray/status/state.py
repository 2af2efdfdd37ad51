"""What is to be said of a run, as one record; the names are those of `metrics.jsonl`.

How a run ended is what its last `run_ended` says. One that never said so goes on, or is silent:
that is told as it is, and not guessed further.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Literal

from keisei_ray.status.follow import RunFollower
from keisei_ray.status.life import life_of
from keisei_ray.status.on_cluster import OnCluster
from keisei_ray.storage import checkpoint
from keisei_ray.storage.run_layout import CHECKPOINTS_DIR, MANIFEST_FILE, timestep_of
from keisei_ray.telemetry.rates import fraction
from keisei_ray.telemetry.reports import EvaluationResult, Rating
from keisei_ray.tracking.evaluations_file import as_record
from keisei_ray.tracking.terminal.text import as_float, one_line
from keisei_ray.tracking.terminal.view_state import ViewState, at, fold

State = Literal["starting", "running", "finished", "interrupted", "failed", "silent"]
MAX_WARNINGS: Final = 3


@dataclass(frozen=True)
class Saved:
    """The newest checkpoint."""

    path: str
    timestep: int
    age_s: float


@dataclass(frozen=True)
class Warned:
    """A warning or error of the newest session."""

    age_s: float
    message: str


@dataclass(frozen=True)
class Status:
    """A run at one moment. Rates and times that are not known are None."""

    run_dir: str
    state: State
    cause: str | None
    """Of a failure, one line."""
    silent_s: float | None
    """Seconds since a file of the run was written; None once it has ended."""
    patience_s: float | None
    """Silence up to this is expected; None once it has ended."""
    pid: int | None
    """Process that writes the run's files, on the machine that reads them; None if none can be
    seen."""
    timestep: int
    total_timesteps: int | None
    share: float | None
    """Of `total_timesteps`, in [0, 1]."""
    wall_time_s: float | None
    """Spent in the run, over all resumes, as of the last update or the end."""
    remaining_s: float | None
    """At the pace of the last updates; None of a run that does not go on."""
    sps: float | None
    """Timesteps a second of the last update."""
    sps_total: float | None
    update: int
    games_total: int
    black_wins: int
    white_wins: int
    draws: int
    truncated: int
    num_actors: int
    actors_alive: int | None
    """None of a run that does not go on."""
    actor_restarts: int
    checkpoint: Saved | None
    evaluations: tuple[EvaluationResult, ...]
    """Matches of the newest weights that were measured."""
    ratings: tuple[Rating, ...]
    """Of the players of these matches."""
    faults: int
    """Warnings and errors of the newest session."""
    warnings: tuple[Warned, ...]
    """The last of them, oldest first."""
    damaged: int
    """Lines of the run's files that could not be read."""
    cluster: OnCluster | None = None
    """What the cluster says; None where only the files were asked."""


def status_of(run_dir: Path, now_s: float) -> Status:
    """Reads a run's files.

    Args:
        run_dir: of a run in any state.
        now_s: seconds since 1970.

    Raises:
        RunDirError: a file cannot be read.
    """
    follower = RunFollower(run_dir)
    happened = follower.poll(now_s)
    began_s = now_s if follower.began_s is None else follower.began_s
    view_state = ViewState()
    for h in happened:
        view_state = fold(view_state, h.event, h.time_s - began_s)
    ended = view_state.ended
    if ended is None:
        view_state = at(view_state, max(view_state.elapsed_s, now_s - began_s))
    life = None if ended else life_of(run_dir, view_state, now_s)
    state = _state(view_state, life is not None and life.is_lost)
    goes_on = state in ("starting", "running")
    values = view_state.metrics or follower.before or {}
    total = view_state.total_timesteps or None
    players = [match.player for match in view_state.matches]
    alive = _count(view_state.metrics, "actors_alive", default=len(view_state.actors_ready))
    return Status(
        run_dir=str(run_dir),
        state=state,
        cause=one_line(ended.cause) if ended and ended.cause else None,
        silent_s=life.silent_s if life else None,
        patience_s=life.patience_s if life else None,
        pid=life.pid if life else None,
        timestep=view_state.timestep,
        total_timesteps=total,
        share=fraction(min(view_state.timestep, total), total) if total else None,
        wall_time_s=as_float(ended.wall_time_s if ended else values.get("wall_time_s")),
        remaining_s=view_state.remaining_s if goes_on and total else None,
        sps=as_float(values.get("sps")),
        sps_total=as_float(values.get("sps_total")),
        update=_count(values, "update"),
        games_total=_count(values, "games_total"),
        black_wins=_count(values, "black_wins"),
        white_wins=_count(values, "white_wins"),
        draws=_count(values, "draws"),
        truncated=_count(values, "truncated"),
        num_actors=view_state.num_actors,
        actors_alive=alive if goes_on else None,
        actor_restarts=_count(values, "actor_restarts"),
        checkpoint=_newest_checkpoint(run_dir / CHECKPOINTS_DIR, now_s),
        evaluations=view_state.matches,
        ratings=tuple(r for name, r in view_state.ratings.items() if name in players),
        faults=view_state.faults,
        warnings=_warnings(view_state, now_s - began_s),
        damaged=follower.damaged,
    )


def with_cluster(status: Status, cluster: OnCluster) -> Status:
    """A status with what the cluster says of the run beside what its files say.

    A run that never said that it ended, but whose driver has left the cluster, is silent, however
    short a time ago it was written to.
    """
    if status.state in ("starting", "running") and not cluster.driver_alive:
        status = replace(status, state="silent", remaining_s=None, actors_alive=None)
    return replace(status, cluster=cluster)


def as_json(status: Status) -> dict[str, object]:
    """The status as JSON's types; a match as in `evaluations.jsonl`."""
    return asdict(status) | {"evaluations": [as_record(match) for match in status.evaluations]}


def _state(view_state: ViewState, is_lost: bool) -> State:
    if view_state.ended is not None:
        reason = view_state.ended.reason
        return "finished" if reason == "done" else reason
    if is_lost:
        return "silent"
    return "running" if view_state.metrics else "starting"


def _count(values: Mapping[str, object], name: str, default: int = 0) -> int:
    value = values.get(name)
    return value if isinstance(value, int) else default


def _newest_checkpoint(checkpoints_dir: Path, now_s: float) -> Saved | None:
    path = checkpoint.newest(checkpoints_dir)
    if path is None:
        return None
    try:
        saved_s = (path / MANIFEST_FILE).stat().st_mtime
    except OSError:
        return None  # Pruned this very moment.
    return Saved(str(path), timestep_of(path.name), max(0.0, now_s - saved_s))


def _warnings(view_state: ViewState, elapsed_s: float) -> tuple[Warned, ...]:
    entries = [e for e in view_state.notices if e.level in ("WARNING", "ERROR")]
    return tuple(
        Warned(max(0.0, elapsed_s - e.elapsed_s), e.message) for e in entries[-MAX_WARNINGS:]
    )
