"""What an update came to, in figures: the record for `metrics.jsonl`, and what its games were like.

Pure functions of what the driver counted and of the reports that came with the rollouts.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keisei_ray.telemetry.metrics import METRIC_NAMES, MetricRecord, in_order, mean, per_second
from keisei_ray.telemetry.progress import Progress
from keisei_ray.telemetry.reports import CollectReport, Trace, UpdateReport


@dataclass(frozen=True)
class Diagnostics:
    """Whether self-play still shows the learner anything, and where the time goes.

    A line of `diagnostics.jsonl`, of one update: its rollouts, and the games that ended in them.
    None where no game ended.
    """

    timestep: int
    """The run's, with this update."""
    update: int
    """Updates done, with this one."""
    distinct_positions: float
    """Distinct positions over rows, each rollout by itself; the mean over the rollouts."""
    opening_plies_mean: float | None
    """Random plies that games began with."""
    game_length_mean: float | None
    """Plies, random opening included."""
    games: int
    """Finished; the five reasons below and the forfeits of engines add up to it."""
    mate: int
    repetition: int
    perpetual_check: int
    declaration: int
    max_plies: int
    entropy: float
    """Of the policy over legal moves, mean over the update's rows and minibatches, nats."""
    ent_coef: float
    """Weight of the entropy bonus in the update."""
    trained_timesteps: int
    """Rows trained on: the learner's own plies."""
    pool_games: int
    """Games of `games` that were against a member of the pool."""
    pool_score: float | None
    """The learner's mean points in these: a win 1, a draw or a truncated game 1/2."""
    unpack_time_s: float = 0.0
    """Of the learner's update_time_s: unpacking and validating rollouts."""
    advantages_time_s: float = 0.0
    """... advantages, value targets, and the rows of all rollouts put together."""
    gradients_time_s: float = 0.0
    """... forward and backward passes of all minibatches; on CUDA, copying the rows there too."""
    optimizer_time_s: float = 0.0
    """... clipping and optimizer steps."""
    env_time_s: float = 0.0
    """Of collect_time_s, mean over the rollouts: rules, legal moves, mates in one, recording."""
    opponents_time_s: float = 0.0
    """... the pool's players choosing their moves."""
    forward_time_s: float = 0.0
    """... the network under training."""
    sample_time_s: float = 0.0
    """... drawing moves from its policy."""
    pack_time_s: float = 0.0
    """... counting distinct positions and packing."""


def diagnose(
    progress: Progress, report: UpdateReport, collected: Sequence[CollectReport]
) -> Diagnostics:
    """Looks at one update.

    Args:
        progress: with the update counted.
        report: what the learner said of it.
        collected: what the actors said of its rollouts, at least one.
    """
    games = [game for c in collected for game in c.games]
    reasons = Counter(game.reason for game in games)
    scores = [score for game in games if (score := game.learner_score) is not None]
    return Diagnostics(
        timestep=progress.timestep,
        update=progress.updates,
        distinct_positions=sum(c.distinct_positions for c in collected) / len(collected),
        opening_plies_mean=mean(sum(game.opening_plies for game in games), len(games)),
        game_length_mean=mean(sum(game.plies for game in games), len(games)),
        games=len(games),
        mate=reasons["mate"],
        repetition=reasons["repetition"],
        perpetual_check=reasons["perpetual_check"],
        declaration=reasons["declaration"],
        max_plies=reasons["max_plies"],
        entropy=report.entropy,
        ent_coef=report.ent_coef,
        trained_timesteps=sum(c.trained_timesteps for c in collected),
        pool_games=len(scores),
        pool_score=mean(sum(scores), len(scores)),
        **report.stages,
        **_means([c.stages for c in collected]),
    )


def traces(report: UpdateReport, collected: Sequence[CollectReport]) -> tuple[Trace, ...]:
    """What was profiled of an update and its rollouts."""
    found = (report.trace, *(c.trace for c in collected))
    return tuple(trace for trace in found if trace is not None)


def _means(stages: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each stage that any of them has."""
    names = {name for one in stages for name in one}
    return {name: sum(one.get(name, 0.0) for one in stages) / len(stages) for name in names}


def update_metrics(
    progress: Progress,
    report: UpdateReport,
    collected: Sequence[CollectReport],
    *,
    since_last_s: float,
    waited_s: float,
    actors_alive: int,
) -> MetricRecord:
    """The update's record, with the names and order of `METRICS`.

    Args:
        progress: with the update counted, wall time included.
        report: what the learner said of it.
        collected: what the actors said of its rollouts.
        since_last_s: since the last update finished.
        waited_s: while the learner was idle for want of rollouts.
        actors_alive: self-play actors that answer.
    """
    games = [game for c in collected for game in c.games]
    record = {
        name: getattr(source, name)
        for source in (progress, report)
        for name in METRIC_NAMES
        if hasattr(source, name)
    }
    record |= {
        "update": progress.updates,
        "sps": per_second(report.batch_timesteps, since_last_s),
        "sps_total": per_second(progress.timestep, progress.wall_time_s),
        "game_length_mean": mean(sum(game.plies for game in games), len(games)),
        "collect_time_s": mean(sum(c.collect_time_s for c in collected), len(collected)),
        "wait_time_s": waited_s,
        "actors_alive": actors_alive,
    }
    return in_order(record)
