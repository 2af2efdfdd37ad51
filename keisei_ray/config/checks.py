"""Checks of settings against each other: sizes that do not fit, settings without effect.

A setting that others leave without effect is refused where it would mislead, by a message of one
form. `Config` runs every check. Only RAY_ADDRESS, which is not a setting, is looked at later, in
`keisei_ray.distributed.address`.
"""

import math
from typing import Final

from keisei_ray.config.sections import (
    CheckpointConfig,
    ClusterConfig,
    EvaluationConfig,
    LearnerConfig,
    PoolConfig,
    PretrainConfig,
    RunConfig,
    ScheduleConfig,
    SelfPlayConfig,
)

STARTED_CLUSTER_ONLY = ("num_cpus", "num_gpus", "object_store_bytes")
"""Settings of a cluster that the run starts; a cluster that it joins has sizes of its own."""

DIVISORS_TRIED: Final = 10_000
"""Numbers on each side of one that are tried where a divisor is looked for."""


def check_opening(play: SelfPlayConfig) -> None:
    """Refuses an opening as long as the whole game."""
    if play.random_opening_plies >= play.max_plies:
        raise ValueError(
            f"self_play.random_opening_plies = {play.random_opening_plies} leaves no ply to "
            f"play: self_play.max_plies = {play.max_plies} includes the opening. "
            "Use a smaller opening or a higher cap."
        )


def check_lockstep(schedule: ScheduleConfig, play: SelfPlayConfig) -> None:
    """Refuses settings that contradict lockstep: one rollout of each actor, no policy lag."""
    if schedule.mode != "lockstep":
        return
    if play.num_actors == "auto":
        raise ValueError(
            "self_play.num_actors = auto does not go with schedule.mode = lockstep, which "
            "needs the same actors throughout the run. Give a number, or use mode overlap."
        )
    started = min(play.num_actors, schedule.max_actors or play.num_actors)
    if schedule.rollouts_per_update not in (None, started):
        raise ValueError(
            f"schedule.rollouts_per_update = {schedule.rollouts_per_update} differs from the "
            f"{started} actors that are started (self_play.num_actors = {play.num_actors}), but "
            "schedule.mode = lockstep takes one rollout of each. Leave it out, or use mode overlap."
        )
    if schedule.max_policy_lag > ScheduleConfig().max_policy_lag:
        raise ValueError(
            _no_effect(
                "schedule.max_policy_lag",
                schedule.max_policy_lag,
                because="schedule.mode = lockstep has no lag",
            )
        )


def check_self_play_device(play: SelfPlayConfig) -> None:
    """Refuses a number of actors that follows the CPUs where each needs its part of a GPU."""
    if play.device == "cuda" and play.num_actors == "auto":
        raise ValueError(
            "self_play.num_actors = auto does not go with self_play.device = cuda, where each "
            "actor has its part of a GPU. Give a number, or use self_play.device = cpu."
        )


def check_minibatches(play: SelfPlayConfig, learner: LearnerConfig, rollouts: int | None) -> None:
    """Refuses minibatches that do not divide an update's timesteps or have fewer rows than threads.

    Without an opponent pool every timestep is a row of the update. With one there are fewer rows,
    and the last minibatch of an epoch may be smaller.

    Args:
        play: T and N.
        learner: the number of minibatches and threads.
        rollouts: R; None while it is open, when they must divide each single rollout.
    """
    timesteps = play.rollout_length * play.games_per_actor * (rollouts or 1)
    shape = f"{play.rollout_length} plies x {play.games_per_actor} games"
    what = (
        f"the {timesteps} timesteps of a rollout ({shape})"
        if rollouts is None
        else f"the update's {timesteps} timesteps ({rollouts} rollouts x {shape})"
    )
    parts = learner.num_minibatches
    if timesteps % parts:
        raise ValueError(
            f"learner.num_minibatches = {parts} does not divide {what}. "
            f"Use a divisor, e.g. {_nearest_divisor(timesteps, parts)}."
        )
    if rollouts is not None and (learner.num_threads or 1) > timesteps // parts:
        raise ValueError(
            f"learner.num_threads = {learner.num_threads} exceeds the {timesteps // parts} rows "
            f"of a minibatch (learner.num_minibatches = {parts} of {what}). "
            "Use fewer threads or fewer minibatches."
        )


def check_learners(learner: LearnerConfig, rollouts: int | None) -> None:
    """Refuses more learners than an update has rollouts: one of them would have nothing to do.

    Args:
        learner: the number of learners.
        rollouts: R; None while it is open.
    """
    if rollouts is not None and learner.num_learners > rollouts:
        raise ValueError(
            f"learner.num_learners = {learner.num_learners} exceeds the {rollouts} rollouts of an "
            "update, of which each learner takes a share. Use fewer learners, or more rollouts: "
            "schedule.rollouts_per_update, or self_play.num_actors in lockstep."
        )


def check_pool(pool: PoolConfig) -> None:
    """Refuses games against a pool that can never have a member."""
    if pool.share > 0 and not pool.members and pool.snapshot_interval_timesteps is None:
        raise ValueError(
            f"pool.share = {pool.share} but the pool would stay empty. Name pool.members or "
            "set pool.snapshot_interval_timesteps."
        )


def check_pretrain(pretrain: PretrainConfig, play: SelfPlayConfig, learner: LearnerConfig) -> None:
    """Refuses readers whose number follows the cluster, and a rate that follows a policy."""
    if pretrain.records and learner.lr_schedule == "adaptive":
        raise ValueError(
            "learner.lr_schedule = adaptive does not go with pretrain.records: it follows the "
            "change of a policy that plays. Use linear or constant."
        )
    if pretrain.records and play.num_actors == "auto":
        raise ValueError(
            "self_play.num_actors = auto does not go with pretrain.records, whose files are shared "
            "among a number of readers that stays the same. Give a number."
        )


def check_start_anchor(learner: LearnerConfig, run: RunConfig) -> None:
    """Refuses a pull towards a starting policy that there is not."""
    if learner.kl_start_coef > 0 and run.init_from is None:
        raise ValueError(
            _no_effect(
                "learner.kl_start_coef",
                learner.kl_start_coef,
                because="without run.init_from the starting policy is random",
            )
        )


def check_kept_checkpoints(checkpoint: CheckpointConfig, evaluation: EvaluationConfig) -> None:
    """Refuses to keep checkpoints more often than they are made, or by ratings that none gets."""
    keep = checkpoint.keep_every_timesteps
    if keep is not None and keep < checkpoint.interval_timesteps:
        raise ValueError(
            f"checkpoint.keep_every_timesteps = {keep} is less than "
            f"checkpoint.interval_timesteps = {checkpoint.interval_timesteps}: there is "
            "nothing to keep that often. Use at least the interval."
        )
    rated = evaluation.interval_timesteps
    if checkpoint.keep_best and (rated is None or rated % checkpoint.interval_timesteps):
        raise ValueError(
            f"checkpoint.keep_best = {checkpoint.keep_best}, but evaluation.interval_timesteps = "
            f"{'null' if rated is None else rated}, expected a multiple of "
            f"checkpoint.interval_timesteps = {checkpoint.interval_timesteps}: only weights that "
            "are evaluated and saved in the same update have a rating and a checkpoint."
        )


def check_cluster(cluster: ClusterConfig) -> None:
    """Refuses sizes of a cluster to start where the settings name one to join."""
    if cluster.address in (None, "local"):
        return
    joined_by = f"cluster.address = {cluster.address}"
    if ignored := without_effect_when_joining(cluster, joined_by):
        raise ValueError(ignored)


def without_effect_when_joining(cluster: ClusterConfig, joined_by: str) -> str | None:
    """Says which size of a cluster to start is given; None if none is.

    Args:
        cluster: the settings.
        joined_by: what names the cluster to join, with its value, e.g. "RAY_ADDRESS = host:port".
    """
    for key in STARTED_CLUSTER_ONLY:
        value = getattr(cluster, key)
        if value is not None:
            return _no_effect(
                f"cluster.{key}",
                value,
                because=f"{joined_by} joins a cluster that is already running",
            )
    return None


def _no_effect(key: str, value: object, *, because: str) -> str:
    """Makes the message about a setting that another setting leaves without effect."""
    return f"{key} = {value} has no effect: {because}. Leave out one of the two."


def _nearest_divisor(number: int, wanted: int) -> int:
    """Returns the divisor of a number that is nearest to another number, the smaller of two.

    Where none is within `DIVISORS_TRIED` it is their greatest common divisor: settings may be of
    any size.
    """
    start = min(wanted, number)
    near = (start + sign * away for away in range(DIVISORS_TRIED) for sign in (-1, 1))
    return next(
        (found for found in near if found > 0 and number % found == 0), math.gcd(number, wanted)
    )
