"""What the settings leave to the hardware, decided once the cluster is known."""

import math

from keisei_ray.config import Config
from keisei_ray.errors import ConfigError

MIN_UPDATE_TIMESTEPS = 4096
"""The least an overlapping update takes when its size is left open: smaller PPO batches of sparse
+-1 rewards are mostly noise."""
MAX_LEARNER_THREADS = 16
"""Replicas that share a minibatch when the number is left open."""


def resolve_auto(config: Config, num_cpus: float, num_gpus: int) -> Config:
    """Replaces every setting left to the hardware by a value.

    Idempotent: a setting that has a value keeps it.

    Args:
        config: as given.
        num_cpus: CPUs of the whole cluster; a part of one counts as one.
        num_gpus: GPUs of the whole cluster.

    Returns:
        A config whose rollouts_per_update, device, amp and num_threads are decided.

    Raises:
        ConfigError: learner.device is cuda and the cluster has no GPU.
    """
    cores = max(1, int(num_cpus))
    device = config.learner.device
    if device == "cuda" and num_gpus < 1:
        raise ConfigError(
            "learner.device = 'cuda' but the cluster has no GPU. "
            "Use device auto or cpu, or join a cluster with a GPU."
        )
    if device == "auto":
        device = "cuda" if num_gpus > 0 else "cpu"
    amp = config.learner.amp
    if amp == "auto":
        amp = "bf16" if device == "cuda" else "off"
    rollouts = config.effective_rollouts_per_update or rollouts_for(config, cores)
    minibatch = rollouts * config.timesteps_per_rollout // config.learner.num_minibatches
    threads = config.learner.num_threads
    if threads is None:
        share = min(cores, MAX_LEARNER_THREADS, minibatch) if device == "cpu" else 1
        threads = max(1, share)
    values = config.model_dump()
    if config.schedule.mode == "overlap":  # In lockstep it follows num_actors, also on a resume.
        values["schedule"]["rollouts_per_update"] = rollouts
    values["learner"].update(device=device, amp=amp, num_threads=threads)
    return Config.model_validate(values)


def rollouts_for(config: Config, num_cpus: int) -> int:
    """An open R for overlap: enough rows to learn from, and room for all that play within the
    lag, on a cluster with so many CPUs."""
    busy = min(config.self_play.num_actors, max(1, num_cpus))
    enough_rows = math.ceil(MIN_UPDATE_TIMESTEPS / config.timesteps_per_rollout)
    return max(enough_rows, math.ceil(busy / (config.schedule.max_policy_lag + 1)))
