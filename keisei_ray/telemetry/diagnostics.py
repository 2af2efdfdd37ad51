"""Diagnostics of one update: what its games were like, and where the time went.

Pure functions of the driver's counts and of the reports that came with the rollouts.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from keisei_ray.telemetry.metrics import table_of
from keisei_ray.telemetry.progress import Progress
from keisei_ray.telemetry.rates import mean
from keisei_ray.telemetry.reports import CollectReport, Trace, UpdateReport


@dataclass(frozen=True)
class Diagnostics:
    """Whether self-play still shows the learner anything, and where the time goes.

    A line of `diagnostics.jsonl` describes one update: its rollouts, and the games that ended in
    them. The annotation of each field holds its unit. Values are None where no game ended.
    """

    timestep: Annotated[int, "plies"]
    """Timestep of the run, this update included."""
    update: Annotated[int, "updates"]
    """Updates done, this one included."""
    distinct_positions: Annotated[float, "fraction"]
    """Distinct positions over plies, each rollout by itself, mean over the rollouts."""
    opening_plies_mean: Annotated[float | None, "plies"]
    """Mean number of random plies at the beginning of the games."""
    game_length_mean: Annotated[float | None, "plies"]
    """Mean length of the games, random opening included."""
    games: Annotated[int, "games"]
    """Finished games; the five reasons below and the forfeits of engines add up to it."""
    mate: Annotated[int, "games"]
    """Games that ended in mate."""
    repetition: Annotated[int, "games"]
    """Games drawn by repetition."""
    perpetual_check: Annotated[int, "games"]
    """Games lost by perpetual check."""
    declaration: Annotated[int, "games"]
    """Games won by declaration (entering king)."""
    max_plies: Annotated[int, "games"]
    """Games stopped by the ply cap."""
    entropy: Annotated[float, "nats"]
    """Entropy of the policy over legal moves, mean over the rows of all minibatches processed."""
    ent_coef: Annotated[float, ""]
    """Weight of the entropy bonus in the update."""
    kl_proximal: Annotated[float, "nats"]
    """Estimate (k3) of the KL divergence from the learner's policy before the update to the policy
    after it; approx_kl of the metrics is from the policy that played, and so has the lag in it."""
    truncated_weights: Annotated[float, "fraction"]
    """Rows whose importance weight was cut to learner.max_importance_weight; 0 without lag."""
    mate_loss: Annotated[float, "nats"]
    """Cross-entropy of the policy on forced mates in one, mean over them; 0 where there are
    none."""
    forced_timesteps: Annotated[int, "plies"]
    """Rows that are forced mates in one (self_play.finish_mates)."""
    optimizer_steps: Annotated[int, "steps"]
    """Optimizer steps that the update made and kept."""
    steps_undone: Annotated[int, "steps"]
    """Optimizer steps that the KL stop took back: 1 where it ended the update early."""
    trained_timesteps: Annotated[int, "plies"]
    """Rows of this update: the plies in its rollouts at which the learner was to move."""
    pool_games: Annotated[int, "games"]
    """Games of `games` against a player of the opponent pool."""
    pool_score: Annotated[float | None, "fraction"]
    """Learner's mean points in pool_games: a win is 1, a draw or a truncated game 1/2."""
    unpack_time_s: Annotated[float, "s"] = 0.0
    """Part of the learner's update_time_s: unpacking and validating rollouts."""
    advantages_time_s: Annotated[float, "s"] = 0.0
    """Part of update_time_s: advantages, value targets, putting the rows of all rollouts
    together."""
    gradients_time_s: Annotated[float, "s"] = 0.0
    """Part of update_time_s: forward and backward passes of all minibatches; on CUDA, copying the
    rows there too, and all waiting for the device."""
    optimizer_time_s: Annotated[float, "s"] = 0.0
    """Part of update_time_s: clipping and optimizer steps; on CUDA, only queuing them."""
    env_time_s: Annotated[float, "s"] = 0.0
    """Part of an actor's collect_time_s, mean over the rollouts: rules, legal moves, mates in one,
    recording."""
    opponents_time_s: Annotated[float, "s"] = 0.0
    """Part of collect_time_s: the pool's players choosing their moves."""
    forward_time_s: Annotated[float, "s"] = 0.0
    """Part of collect_time_s: forward passes of the network under training."""
    sample_time_s: Annotated[float, "s"] = 0.0
    """Part of collect_time_s: drawing moves from the policy of that network."""
    pack_time_s: Annotated[float, "s"] = 0.0
    """Part of collect_time_s: counting distinct positions and packing."""
    kl_start: Annotated[float | None, "nats"] = None
    """Estimate of the KL divergence from the policy that the run began with, mean over the drawn
    moves; null where nothing pulls towards that policy (learner.kl_start_coef)."""
    kl_start_coef: Annotated[float, ""] = 0.0
    """Weight of the pull towards that policy in the update."""
    held_out_top1: Annotated[float | None, "fraction"] = None
    """Pretraining: held-out positions whose recorded move is the network's likeliest; null where
    no measurement came with the update, as the next four."""
    held_out_top5: Annotated[float | None, "fraction"] = None
    """Pretraining: held-out positions whose recorded move is among its five likeliest."""
    held_out_policy_loss: Annotated[float | None, "nats"] = None
    """Pretraining: cross-entropy of the policy with the recorded moves of held-out positions."""
    held_out_value_error: Annotated[float | None, ""] = None
    """Pretraining: mean squared error of the value against the results of held-out games."""
    held_out_calibration_error: Annotated[float | None, ""] = None
    """Pretraining: mean difference between predicted and actual score on held-out games, over ten
    ranges of the predicted score."""


DIAGNOSTICS: Final = table_of(Diagnostics)
"""Table of the keys of `diagnostics.jsonl`, in the order in which they are written."""


def diagnose(
    progress: Progress, report: UpdateReport, collected: Sequence[CollectReport]
) -> Diagnostics:
    """Builds the diagnostics of an update.

    Args:
        progress: the run's counts, this update included.
        report: the learner's report of the update.
        collected: the actors' reports of the update's rollouts, at least one.
    """
    games = [game for c in collected for game in c.games]
    reasons = Counter(game.reason for game in games)
    scores = [score for game in games if (score := game.learner_score) is not None]
    learner, actors = report.stages, [c.stages for c in collected]
    measured = next((c.held_out for c in reversed(collected) if c.held_out), None)
    return Diagnostics(
        timestep=progress.timestep,
        update=progress.updates,
        distinct_positions=_mean_of(c.distinct_positions for c in collected),
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
        kl_proximal=report.kl_proximal,
        truncated_weights=report.truncated_weights,
        mate_loss=report.mate_loss,
        forced_timesteps=report.forced_timesteps,
        optimizer_steps=report.optimizer_steps,
        steps_undone=report.steps_undone,
        trained_timesteps=sum(c.trained_timesteps for c in collected),
        pool_games=len(scores),
        pool_score=mean(sum(scores), len(scores)),
        unpack_time_s=learner.unpack_time_s,
        advantages_time_s=learner.advantages_time_s,
        gradients_time_s=learner.gradients_time_s,
        optimizer_time_s=learner.optimizer_time_s,
        env_time_s=_mean_of(stages.env_time_s for stages in actors),
        opponents_time_s=_mean_of(stages.opponents_time_s for stages in actors),
        forward_time_s=_mean_of(stages.forward_time_s for stages in actors),
        sample_time_s=_mean_of(stages.sample_time_s for stages in actors),
        pack_time_s=_mean_of(stages.pack_time_s for stages in actors),
        kl_start=report.kl_start,
        kl_start_coef=report.kl_start_coef,
        held_out_top1=measured.top1 if measured else None,
        held_out_top5=measured.top5 if measured else None,
        held_out_policy_loss=measured.policy_loss if measured else None,
        held_out_value_error=measured.value_error if measured else None,
        held_out_calibration_error=measured.calibration_error if measured else None,
    )


def traces(report: UpdateReport, collected: Sequence[CollectReport]) -> tuple[Trace, ...]:
    """Returns the profiles taken of an update and of its rollouts."""
    found = (report.trace, *(c.trace for c in collected))
    return tuple(trace for trace in found if trace is not None)


def _mean_of(values: Iterable[float]) -> float:
    present = list(values)
    return sum(present) / len(present)
