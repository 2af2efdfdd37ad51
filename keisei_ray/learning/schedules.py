"""Schedules over the length of a run: pure functions of the settings and of the run's progress."""

import math

from keisei_ray.config.sections import LearnerConfig


def scheduled_learning_rate(config: LearnerConfig, progress: float) -> float:
    """Learning rate at a point of the run.

        learning_rate * (f + (1 - f) * remaining),     f = lr_final_fraction
        remaining = 1 - progress                       lr_schedule = linear
        remaining = (1 + cos(pi * progress)) / 2       lr_schedule = cosine

    Args:
        config: the learner section. With `lr_schedule` constant the rate does not change.
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


def scheduled_ent_coef(config: LearnerConfig, progress: float) -> float:
    """Weight of the entropy bonus at a point of the run.

        ent_coef * (1 + (ent_final_fraction - 1) * progress)

    Args:
        config: the learner section.
        progress: timestep / total_timesteps; clamped to [0, 1].
    """
    progress = min(1.0, max(0.0, progress))
    return config.ent_coef * (1.0 + (config.ent_final_fraction - 1.0) * progress)
