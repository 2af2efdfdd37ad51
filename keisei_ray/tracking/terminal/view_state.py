"""What a view shows, folded from the run's events; the same for every view.

`fold` is a pure function of the state so far, an event and the time, so any two views that
saw the same events show the same run. Counts come from the driver's metrics; the only things
counted here are those that exist before the first update has metrics.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from keisei_ray.telemetry import events as ev
from keisei_ray.telemetry.metrics import MetricRecord
from keisei_ray.telemetry.rates import remaining_s
from keisei_ray.telemetry.reports import EvaluationResult, Rating
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
PACE_UPDATES: Final = 32
"""Updates over which the pace for the time left is taken."""

Phase = Literal["starting", "collecting", "training", "done", "interrupted", "failed"]


@dataclass(frozen=True)
class Entry:
    """One line for a person."""

    elapsed_s: float
    """Seconds since the view saw the run begin."""
    level: ev.Level
    kind: str
    message: str


@dataclass(frozen=True)
class ViewState:
    """Everything a frame is drawn from. Empty values until the events that fill them."""

    run_dir: str = ""
    resumed_from: str | None = None
    net: str = ""
    device: str = ""
    amp: str = ""
    mode: str = ""
    cluster: str = ""
    total_timesteps: int = 0
    num_actors: int = 0
    """Wanted; 0 while it is left to the cluster."""
    timesteps_per_rollout: int = 0
    rollouts_per_update: int = 0
    """0 if left open by the config."""
    start_timestep: int = 0
    """Where this session began."""
    timestep: int = 0
    """The run's timestep as last published."""

    elapsed_s: float = 0.0
    """Seconds since the view saw the run begin, at the time of this state."""
    updated_s: float = 0.0
    """`elapsed_s` when the last update finished."""
    actors_ready: frozenset[int] = frozenset()
    actors_lost: frozenset[int] = frozenset()
    """Lost, and not yet back."""
    rollouts_arrived: int = 0
    """In this session."""
    faults: int = 0
    """Warnings and errors in this session."""
    metrics: MetricRecord = field(default_factory=dict)
    """The last update's record; empty before the first update of this session."""
    trends: Mapping[str, text.Trend] = field(default_factory=dict)
    pace: tuple[tuple[int, float], ...] = ()
    """(timestep, wall_time_s) of the last updates."""
    sample: board.Position | None = None
    sample_last_move: str | None = None
    checkpoint: ev.CheckpointSaved | None = None
    is_evaluated: bool = False
    """Whether the newest weights are measured in the background, or were in this run."""
    matches: tuple[EvaluationResult, ...] = ()
    """Of the newest weights that have been measured, in order; of this session."""
    ratings: Mapping[str, Rating] = field(default_factory=dict)
    """The Elo table by player, strongest first."""
    notices: tuple[Entry, ...] = ()
    """Oldest first, at most NOTICES_KEPT; checkpoints and first starts are not among them."""
    ended: ev.RunEnded | None = None

    @property
    def phase(self) -> Phase:
        """What the run is doing."""
        if self.ended is not None:
            return self.ended.reason
        if self.metrics:
            return "training"
        return "collecting" if self.rollouts_arrived else "starting"

    @property
    def remaining_s(self) -> float | None:
        """Seconds left at the pace of the last updates, counting down between updates."""
        rate = text.as_float(self.metrics.get("sps_total"))
        if len(self.pace) > 1:
            (first, began), (last, ended) = self.pace[0], self.pace[-1]
            rate = (last - first) / (ended - began) if ended > began else rate
        left = remaining_s(self.timestep, self.total_timesteps, rate)
        return None if left is None else max(0.0, left - (self.elapsed_s - self.updated_s))


def at(state: ViewState, elapsed_s: float) -> ViewState:
    """The same state at a later time."""
    return replace(state, elapsed_s=elapsed_s)


def fold(state: ViewState, event: ev.Event, elapsed_s: float) -> ViewState:
    """The state after `event`, which came `elapsed_s` seconds after the run began.

    An event of an unknown class changes nothing but the time.

    Raises:
        ValueError: the sample board or move is not SFEN or USI.
    """
    after = _fold(at(state, elapsed_s), event)
    entry = describe(event, state, elapsed_s)
    if entry is None:
        return after
    after = replace(after, faults=after.faults + (entry.level in ("WARNING", "ERROR")))
    if isinstance(event, ev.RunStarted | ev.CheckpointSaved | ev.RunEnded):
        return after
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
                cluster=_places(event.num_nodes, event.num_cpus, event.num_gpus),
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
            return replace(now, ended=event, timestep=event.timestep)
        case _:
            return now


def _start(event: ev.RunStarted) -> ViewState:
    config = event.config
    model, learner = config.model, config.learner
    gate = " +SE" if model.squeeze_excitation else ""
    num_actors = config.self_play.num_actors
    return ViewState(
        run_dir=event.run_dir,
        resumed_from=event.resumed_from,
        net=f"{model.depth}x{model.width} {model.activation}{gate}",
        device=learner.device,
        amp=learner.amp,
        mode=config.schedule.mode,
        cluster=_places(*(event.cluster.get(k) for k in ("num_nodes", "num_cpus", "num_gpus"))),
        total_timesteps=config.run.total_timesteps,
        num_actors=0 if num_actors == "auto" else num_actors,
        timesteps_per_rollout=config.timesteps_per_rollout,
        rollouts_per_update=config.effective_rollouts_per_update or 0,
        start_timestep=event.timestep,
        timestep=event.timestep,
        is_evaluated=config.evaluation.interval_timesteps is not None,
    )


def _completes(event: ev.ActorReady, before: ViewState) -> bool:
    """Whether the last missing actor has become ready."""
    ready = before.actors_ready
    return event.actor_id not in ready and len(ready) + 1 == before.num_actors


def _places(nodes: object, cpus: object, gpus: object) -> str:
    """What of these is known, e.g. "3 nodes, 6 CPUs, 0 GPUs"."""
    places = ((nodes, "node"), (cpus, "CPU"), (gpus, "GPU"))
    return ", ".join(_counted(n, what) for n, what in places if isinstance(n, int | float))


def _counted(number: float, what: str) -> str:
    return f"{number:g} {what}{'' if number == 1 else 's'}"


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
        updated_s=now.elapsed_s,
    )


def describe(event: ev.Event, before: ViewState, elapsed_s: float) -> Entry | None:
    """An event as one line for a person, or None where there is nothing to tell.

    An actor's first start is told once for all of them, when the last is ready.

    Args:
        event: what happened.
        before: the state before it.
        elapsed_s: when, in seconds since the run began.
    """
    level: ev.Level = "INFO"
    match event:
        case ev.RunStarted():
            source = f" resumed from {event.resumed_from}" if event.resumed_from else ""
            message = f"run {event.run_dir} started{source} at timestep {event.timestep}"
        case ev.ActorReady() if event.actor_id in before.actors_lost:
            message = f"actor {event.actor_id} is back (incarnation {event.incarnation})"
        case ev.ActorReady() if _completes(event, before):
            message = f"all {before.num_actors} actors ready"
        case ev.ActorLost():
            level = "WARNING"
            who = "learner" if event.actor_id is None else f"actor {event.actor_id}"
            left = _counted(event.restarts_left, "restart")
            message = f"{who} lost, {left} left: {text.one_line(event.cause)}"
        case ev.ClusterChanged():
            is_short = event.num_with_room < event.num_actors
            level = "WARNING" if is_short else "INFO"
            message = (
                f"the cluster has {_places(event.num_nodes, event.num_cpus, event.num_gpus)}: "
                + (
                    f"room for {event.num_with_room} of {event.num_actors} actors, the others wait"
                    if is_short
                    else f"{_counted(event.num_actors, 'actor')}, "
                    f"{_counted(event.rollouts_per_update, 'rollout')} an update"
                )
            )
        case ev.RolloutRejected():
            level = "WARNING"
            message = f"rollout of actor {event.actor_id} rejected: {text.one_line(event.cause)}"
        case ev.CheckpointSaved():
            message = f"checkpoint at timestep {event.timestep}: {event.path}"
        case ev.EvaluationFinished(result=result):
            match = result.match
            message = (
                f"{result.player} against {result.opponent}: {match.score:.1%} "
                f"({match.score_low:.1%} to {match.score_high:.1%}) in {match.games} games"
            )
        case ev.Notice():
            level, message = event.level, text.one_line(event.message)
        case ev.RunEnded():
            level = "ERROR" if event.reason == "failed" else "INFO"
            cause = f": {text.one_line(event.cause)}" if event.cause else ""
            message = f"run {event.reason} at timestep {event.timestep}{cause}"
        case _:
            return None
    return Entry(elapsed_s, level, event.kind, message)
