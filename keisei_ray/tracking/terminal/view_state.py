"""The state that every view shows, computed from the run's events one after another.

`fold` is a pure function of the state so far, an event and the time, so any two views that
saw the same events show the same run. Counts come from the driver's metrics; the only counts made
here are of actors and rollouts before the first update, and of faults.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.metrics import MetricRecord
from keisei_ray.telemetry.rates import remaining_s
from keisei_ray.telemetry.reports import EvaluationResult, Rating
from keisei_ray.tracking.event_messages import Message, message_of, resources_text
from keisei_ray.tracking.terminal import board, text

TREND_NAMES: Final = (
    "sps",
    "game_length_mean",
    "policy_loss",
    "value_loss",
    "entropy",
    "approx_kl",
    "clip_fraction",
    "explained_variance",
    "grad_norm",
    "learning_rate",
)
"""Metrics whose history is kept for a sparkline."""
NOTICES_KEPT: Final = 20
WARNINGS_KEPT: Final = 3
PACE_UPDATES: Final = 32
"""Updates over which the rate for the time left is taken."""

Phase = Literal["starting", "collecting", "training", "done", "interrupted", "failed"]


@dataclass(frozen=True)
class Entry:
    """One line for the user, with its time."""

    elapsed_s: float
    """Seconds since the view saw the run begin."""
    level: ev.Level
    kind: str
    """Kind of the event."""
    message: str


@dataclass(frozen=True)
class ViewState:
    """Everything that a frame shows. Values are empty until an event fills them."""

    run_dir: str = ""
    resumed_from: str | None = None
    net: str = ""
    """Depth, width and kind of the network, e.g. "4x64 relu"."""
    device: str = ""
    amp: str = ""
    mode: str = ""
    cluster: str = ""
    """Resources, e.g. "3 nodes, 6 CPUs, 0 GPUs"."""
    total_timesteps: int = 0
    num_actors: int = 0
    """Self-play actors wanted; 0 while the cluster has not decided it."""
    timesteps_per_rollout: int = 0
    rollouts_per_update: int = 0
    """Rollouts of an update; 0 while the cluster has not decided it."""
    start_timestep: int = 0
    """Timestep at which this session began."""
    timestep: int = 0
    """Timestep of the run, as of the last event that has it."""

    elapsed_s: float = 0.0
    """Seconds since the view saw the run begin, at the time of this state."""
    updated_s: float = 0.0
    """`elapsed_s` when the last update finished."""
    actors_ready: frozenset[int] = frozenset()
    actors_lost: frozenset[int] = frozenset()
    """Actors that were lost and are not back yet."""
    rollouts_arrived: int = 0
    """Rollouts delivered in this session."""
    faults: int = 0
    """Warnings and errors in this session."""
    metrics: MetricRecord = field(default_factory=dict)
    """Metrics of the last update; empty before the first update of this session."""
    trends: Mapping[str, text.Trend] = field(default_factory=dict)
    """History of each metric of TREND_NAMES in this session."""
    pace: tuple[tuple[int, float], ...] = ()
    """(timestep, wall_time_s) of the last updates."""
    sample: board.Position | None = None
    """Position of one game in play."""
    sample_last_move: str | None = None
    is_sample_over: bool = False
    """Whether that game is finished."""
    checkpoint: ev.CheckpointSaved | None = None
    is_evaluated: bool = False
    """Whether the run evaluates its weights in the background, or did so before a resume."""
    first_evaluation: int | None = None
    """Timestep from which the session has its first evaluation; None: it evaluates nothing."""
    matches: tuple[EvaluationResult, ...] = ()
    """Matches of the newest weights that have been evaluated in this session, in order."""
    ratings: Mapping[str, Rating] = field(default_factory=dict)
    """Elo table by player, strongest first."""
    notices: tuple[Entry, ...] = ()
    """Newest entries, at most NOTICES_KEPT, oldest first, without those for the run's start and end
    and for checkpoints."""
    warnings: tuple[Entry, ...] = ()
    """Newest of these entries that are warnings or errors, at most WARNINGS_KEPT, oldest first."""
    ended: ev.RunEnded | None = None

    @property
    def phase(self) -> Phase:
        """Phase that the run is in."""
        if self.ended is not None:
            return self.ended.reason
        if self.metrics:
            return "training"
        return "collecting" if self.rollouts_arrived else "starting"

    @property
    def remaining_s(self) -> float | None:
        """Seconds left at the rate of the last updates, counting down between updates."""
        rate = text.as_float(self.metrics.get("sps_total"))
        if len(self.pace) > 1:
            (first, began), (last, ended) = self.pace[0], self.pace[-1]
            rate = (last - first) / (ended - began) if ended > began else rate
        left = remaining_s(self.timestep, self.total_timesteps, rate)
        return None if left is None else max(0.0, left - (self.elapsed_s - self.updated_s))


def at(state: ViewState, elapsed_s: float) -> ViewState:
    """Returns the same state at a later time."""
    return replace(state, elapsed_s=elapsed_s)


def fold(state: ViewState, event: ev.Event, elapsed_s: float) -> ViewState:
    """Returns the state after `event`, which came `elapsed_s` seconds after the run began.

    An event of an unknown class changes nothing but the time.

    Raises:
        ValueError: the sample board or move is not SFEN or USI.
    """
    after = _fold(at(state, elapsed_s), event)
    entry = entry_of(event, state, elapsed_s)
    if entry is None:
        return after
    is_warning = entry.level in ("WARNING", "ERROR")
    after = replace(after, faults=after.faults + is_warning)
    if isinstance(event, ev.RunStarted | ev.CheckpointSaved | ev.RunEnded):
        return after
    if is_warning:
        after = replace(after, warnings=(*after.warnings, entry)[-WARNINGS_KEPT:])
    return replace(after, notices=(*after.notices, entry)[-NOTICES_KEPT:])


def _fold(now: ViewState, event: ev.Event) -> ViewState:
    match event:
        case ev.RunStarted():
            return _start(event)
        case ev.ActorReady():
            return replace(
                now,
                actors_ready=now.actors_ready | {event.actor_id},
                actors_lost=now.actors_lost - {event.actor_id},
            )
        case ev.ActorLost(actor_id=int(actor_id)):
            return replace(
                now,
                actors_ready=now.actors_ready - {actor_id},
                actors_lost=now.actors_lost | {actor_id},
            )
        case ev.ClusterChanged():
            return replace(
                now,
                cluster=resources_text(event.num_nodes, event.num_cpus, event.num_gpus),
                num_actors=event.num_actors,
                rollouts_per_update=event.rollouts_per_update,
            )
        case ev.RolloutArrived():
            return replace(now, rollouts_arrived=now.rollouts_arrived + 1)
        case ev.UpdateFinished():
            return _update(now, event)
        case ev.CheckpointSaved():
            return replace(now, checkpoint=event)
        case ev.EvaluationFinished(result=result):
            same = [m for m in now.matches if m.weights_version == result.weights_version]
            return replace(now, is_evaluated=True, matches=(*same, result))
        case ev.RatingsFitted():
            ratings = {rating.name: rating for rating in event.ratings}
            return replace(now, is_evaluated=True, ratings=ratings)
        case ev.RunEnded():
            run_dir = event.run_dir or now.run_dir
            return replace(now, ended=event, timestep=event.timestep, run_dir=run_dir)
        case _:
            return now


def _start(event: ev.RunStarted) -> ViewState:
    config = event.config
    model, learner = config.model, config.learner
    gate = " +SE" if model.squeeze_excitation else ""
    num_actors = config.self_play.num_actors
    interval = config.evaluation.interval_timesteps
    return ViewState(
        run_dir=event.run_dir,
        resumed_from=event.resumed_from,
        net=f"{model.depth}x{model.width} {model.activation}{gate}",
        device=learner.device,
        amp=learner.amp,
        mode=config.schedule.mode,
        cluster=resources_text(
            event.cluster.get("num_nodes"),
            event.cluster.get("num_cpus"),
            event.cluster.get("num_gpus"),
        ),
        total_timesteps=config.run.total_timesteps,
        num_actors=0 if num_actors == "auto" else config.at_most_max_actors(num_actors),
        timesteps_per_rollout=config.timesteps_per_rollout,
        rollouts_per_update=config.effective_rollouts_per_update or 0,
        start_timestep=event.timestep,
        timestep=event.timestep,
        is_evaluated=interval is not None,
        first_evaluation=None if interval is None else (event.timestep // interval + 1) * interval,
    )


def _update(now: ViewState, event: ev.UpdateFinished) -> ViewState:
    metrics = event.metrics
    trends = dict(now.trends)
    for name in TREND_NAMES:
        value = text.as_float(metrics[name])
        if value is not None:
            trends[name] = trends.get(name, text.Trend()).add(value)
    pace = now.pace
    wall_time_s = text.as_float(metrics.wall_time_s)
    if wall_time_s is not None:
        pace = (*pace, (metrics.timestep, wall_time_s))[-PACE_UPDATES:]
    sample, last_move = now.sample, now.sample_last_move
    if event.sample_board is not None:
        sample, last_move = board.parse_sfen(event.sample_board), event.sample_last_move
        if last_move is not None:
            board.destination(last_move)
    return replace(
        now,
        timestep=metrics.timestep,
        metrics=metrics,
        trends=trends,
        pace=pace,
        sample=sample,
        sample_last_move=last_move,
        is_sample_over=event.is_sample_over if event.sample_board else now.is_sample_over,
        updated_s=now.elapsed_s,
    )


def entry_of(event: ev.Event, before: ViewState, elapsed_s: float) -> Entry | None:
    """Returns an event as one line for the user; None where there is nothing to report.

    The first start of the actors is reported once for all, when the last one is ready.

    Args:
        event: what happened.
        before: the state before it.
        elapsed_s: seconds from the beginning of the run to the event.
    """
    message = message_of(event)
    if isinstance(event, ev.ActorReady):
        message = _actor_ready(event, before)
    if message is None:
        return None
    return Entry(elapsed_s, message.level, event.kind, message.text)


def _actor_ready(event: ev.ActorReady, before: ViewState) -> Message | None:
    if event.actor_id in before.actors_lost:
        text = f"actor {event.actor_id} is back (incarnation {event.incarnation})"
        return Message("INFO", text)
    ready = before.actors_ready
    if event.actor_id not in ready and len(ready) + 1 == before.num_actors:
        return Message("INFO", f"all {before.num_actors} actors ready")
    return None
