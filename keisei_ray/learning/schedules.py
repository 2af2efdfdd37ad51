"""Learning rate and entropy bonus over a run: pure functions of settings, progress and KL."""

import math

from keisei_ray.config.sections import LearnerConfig

LR_FACTOR = 1.5
"""Factor by which the adaptive learning rate changes after an update."""
LR_RANGE = (0.01, 10.0)
"""Smallest and largest adaptive learning rate, as a share of `learner.learning_rate`."""


def scheduled_learning_rate(config: LearnerConfig, progress: float) -> float:
    """Learning rate at a point of the run.

        learning_rate * (f + (1 - f) * remaining),     f = lr_final_fraction
        remaining = 1 - progress                       lr_schedule = linear
        remaining = (1 + cos(pi * progress)) / 2       lr_schedule = cosine

    Args:
        config: the learner section. With `lr_schedule` constant the rate does not change; adaptive
            has no place here, see `adapted_learning_rate`.
        progress: timestep / total_timesteps; clamped to [0, 1].
    """
    progress = min(1.0, max(0.0, progress))
    if config.lr_schedule == "constant":
        return config.learning_rate
    if config.lr_schedule == "linear":
        remaining = 1.0 - progress
    else:
        remaining = 0.5 * (1.0 + math.cos(math.pi * progress))
    final = config.lr_final_fraction
    return config.learning_rate * (final + (1.0 - final) * remaining)


def adapted_learning_rate(config: LearnerConfig, rate: float, kl: float) -> float:
    """Learning rate of the next update where `lr_schedule` is adaptive.

    It is divided by `LR_FACTOR` after an update that changed the policy by more than twice
    `lr_adaptive_kl`, and multiplied by it after one that changed it by less than half of that.

    Args:
        config: the learner section.
        rate: learning rate of the update that has just been made.
        kl: its kl_proximal, in nats.

    Source: Rudin et al. 2022, "Learning to Walk in Minutes", arXiv:2109.11978, appendix.
    """
    if kl > 2 * config.lr_adaptive_kl:
        rate /= LR_FACTOR
    elif kl < config.lr_adaptive_kl / 2:
        rate *= LR_FACTOR
    smallest, largest = (share * config.learning_rate for share in LR_RANGE)
    return min(largest, max(smallest, rate))


def resumed_learning_rate(
    config: LearnerConfig, rate: float, setting: float | None, rate_factor: float
) -> float:
    """Learning rate with which a resumed run goes on where `lr_schedule` is adaptive.

    It changes as `learner.learning_rate` has, and lies within `LR_RANGE` of that. With the same
    setting it is the very rate that was saved.

    Args:
        config: the learner section of the resumed run.
        rate: learning rate that was saved.
        setting: `learner.learning_rate` of the run that has saved it. None: it is not known.
        rate_factor: see `UpdateGuard`; the smallest rate of the range may have been halved.
    """
    if setting is not None and setting != config.learning_rate:
        rate *= config.learning_rate / setting
    smallest, largest = (share * config.learning_rate for share in LR_RANGE)
    return min(largest, max(smallest * rate_factor, rate))


def scheduled_ent_coef(config: LearnerConfig, progress: float) -> float:
    """Weight of the entropy bonus at a point of the run.

        ent_coef * (1 + (ent_final_fraction - 1) * progress)

    Args:
        config: the learner section.
        progress: timestep / total_timesteps; clamped to [0, 1].
    """
    progress = min(1.0, max(0.0, progress))
    return config.ent_coef * (1.0 + (config.ent_final_fraction - 1.0) * progress)


def scheduled_kl_start_coef(config: LearnerConfig, progress: float) -> float:
    """Weight of the pull towards the starting policy at a point of the run.

        kl_start_coef * max(0, 1 - progress / kl_start_until)

    Args:
        config: the learner section.
        progress: timestep / total_timesteps; clamped to [0, 1].
    """
    progress = min(1.0, max(0.0, progress))
    return config.kl_start_coef * max(0.0, 1.0 - progress / config.kl_start_until)
