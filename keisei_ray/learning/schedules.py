"""What changes over the length of a run: pure functions of settings and of the share done."""

import math

from keisei_ray.config.sections import LearnerConfig


def scheduled_learning_rate(config: LearnerConfig, progress: float) -> float:
    """The learning rate at a share of the run.

    Args:
        progress: timestep / total_timesteps; clamped to [0, 1].

    Returns:
        From `learning_rate` at 0 to `learning_rate * lr_final_fraction` at 1.
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
    """The weight of the entropy bonus at a share of the run.

    Args:
        progress: timestep / total_timesteps; clamped to [0, 1].

    Returns:
        From `ent_coef` at 0 to `ent_coef * ent_final_fraction` at 1.
    """
    progress = min(1.0, max(0.0, progress))
    return config.ent_coef * (1.0 + (config.ent_final_fraction - 1.0) * progress)
