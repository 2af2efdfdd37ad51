"""What the settings leave to the hardware, decided once the cluster is known.

CPUs are Ray's reservations, not limits: the operating system divides the cores.
"""

import math
from dataclasses import dataclass

from keisei_ray.config.schema import Config
from keisei_ray.errors import ConfigError

MIN_UPDATE_TIMESTEPS = 4096
"""The least an overlapping update takes when its size is left open: smaller PPO batches of sparse
+-1 rewards are mostly noise."""
MAX_LEARNER_THREADS = 16
"""Replicas that share a minibatch when the number is left open."""
LEARNER_CPUS = 1.0
"""Reserved for the learner; on one CPU the actors share what is left of it."""
MIN_ACTOR_CPUS = 0.001


@dataclass(frozen=True)
class Sizes:
    """How much plays at once on a cluster as it is now."""

    num_cpus: float
    """CPUs of the cluster."""
    num_actors: int
    """Self-play actors wanted, >= 0."""
    room: int
    """Self-play actors that the CPUs have room for; the others wait for nodes."""
    rollouts_per_update: int
    """R."""
    num_unconsumed: int
    """Rollouts that may be unconsumed at a time: R * (lag + 1); as many actors play at once."""


def resolve_auto(config: Config, num_cpus: float, num_gpus: int) -> Config:
    """Replaces every setting left to the hardware by a value.

    Idempotent: a setting that has a value keeps it. With `num_actors` auto, an open
    rollouts_per_update stays open: it follows the cluster (`sizes_for`).

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
            "learner.device = 'cuda' but the cluster has no GPU. Use device auto or cpu, or join "
            "a cluster with a GPU; if one is coming, set cluster.wait_for_nodes_s."
        )
    if device == "auto":
        device = "cuda" if num_gpus > 0 else "cpu"
    amp = config.learner.amp
    if amp == "auto":
        amp = "bf16" if device == "cuda" else "off"
    actors = config.self_play.num_actors
    # An elastic run may shrink to one actor: what is decided here must hold then too.
    fewest = 1 if actors == "auto" else min(actors, cores)
    rollouts = config.effective_rollouts_per_update or rollouts_for(config, fewest)
    minibatch = rollouts * config.timesteps_per_rollout // config.learner.num_minibatches
    threads = config.learner.num_threads
    if threads is None:
        share = min(cores, MAX_LEARNER_THREADS, minibatch) if device == "cpu" else 1
        threads = max(1, share)
    values = config.model_dump()
    if config.schedule.mode == "overlap" and actors != "auto":
        # In lockstep it follows num_actors, also on a resume.
        values["schedule"]["rollouts_per_update"] = rollouts
    values["learner"].update(device=device, amp=amp, num_threads=threads)
    return Config.model_validate(values)


def rollouts_for(config: Config, num_playing: int) -> int:
    """An open R for overlap: enough rows to learn from, and room within the lag for all to play on.

    A rollout is unconsumed until its update is done, so beside those of the update under way as
    many must fit as can be played at the same time: R * (lag + 1) >= R + num_playing. With less
    actors stand idle between their delivery and the end of the update; a sixth to a quarter of
    them by benchmarks/scripts/scale.py.
    """
    enough_rows = math.ceil(MIN_UPDATE_TIMESTEPS / config.timesteps_per_rollout)
    return max(enough_rows, math.ceil(num_playing / max(1, config.schedule.max_policy_lag)))


def sizes_for(config: Config, num_cpus: float, cpus_per_actor: float) -> Sizes:
    """How much is to play at once.

    Args:
        config: with every hardware-dependent choice made.
        num_cpus: CPUs of the cluster now.
        cpus_per_actor: what Ray reserves for each, fixed when the run started.
    """
    room = max(0, int(cpus_to_play(config, num_cpus) / cpus_per_actor))
    asked = config.self_play.num_actors
    num_actors = room if asked == "auto" else asked
    rollouts = config.effective_rollouts_per_update or rollouts_for(config, num_actors)
    return Sizes(num_cpus, num_actors, room, rollouts, rollouts * (config.effective_max_lag + 1))


def actor_cpus(config: Config, num_cpus: float) -> float:
    """CPUs that Ray reserves for each self-play actor, on a cluster that has so many.

    An equal share of what learner and evaluator leave, at most one: 32 actors fit on 2 cores as
    on 64. A whole number of shares make up a CPU, so that no node has a part left over that fits
    nobody. An elastic run has an actor for each CPU.
    """
    free = max(cpus_to_play(config, num_cpus), MIN_ACTOR_CPUS)
    asked = config.self_play.num_actors
    actors_per_cpu = math.ceil((max(1, int(free)) if asked == "auto" else asked) / free)
    return max(MIN_ACTOR_CPUS, int(1000 / actors_per_cpu) / 1000)


def learner_cpus(num_cpus: float) -> float:
    """CPUs that Ray reserves for the learner, on a cluster that has so many."""
    return LEARNER_CPUS if num_cpus > 1 else min(0.5, num_cpus / 2)


def learner_gpus(config: Config) -> float:
    """GPUs that Ray reserves for the learner."""
    return config.learner.num_gpus if config.learner.device == "cuda" else 0.0


def cpus_to_play(config: Config, num_cpus: float) -> float:
    """CPUs that learner and evaluator leave to the self-play actors; may be negative."""
    e = config.evaluation
    evaluator = 0.0 if e.interval_timesteps is None else e.num_cpus
    return num_cpus - learner_cpus(num_cpus) - evaluator
