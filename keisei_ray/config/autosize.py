"""Settings and sizes that depend on the hardware, decided once the cluster is known.

The CPUs here are what Ray reserves. They do not limit a process: the operating system divides the
cores among all processes.
"""

import math
from dataclasses import dataclass
from typing import Literal

from keisei_ray.config.schema import Config, validated
from keisei_ray.config.sections import ScheduleConfig
from keisei_ray.errors import ConfigError

MIN_UPDATE_TIMESTEPS = 2048
"""Fewest timesteps of an update if its size is left open. Updates of 4,096 learn less on each ply
at first and no more later (benchmarks/LEARNING.md)."""
MAX_LEARNER_THREADS = 16
"""Most replicas that share a minibatch if their number is left open."""
LEARNER_CPUS = 1.0
"""CPUs reserved for each learner; where there is no more than that, they share with the actors."""
MIN_ACTOR_CPUS = 0.001
"""Smallest part of a CPU that is reserved for an actor; parts are in thousandths."""
MIN_GPU_MULTIPLICATIONS = 20_000_000
"""Fewest multiplications a position, in the tower, for which self-play is put on a GPU if that is
left open. 4x64 has 24 million; a core evaluates smaller networks about as fast as it plays."""
MIN_GPU_GAMES = 32
"""Fewest games of an actor for which self-play is put on a GPU if that is left open."""
MAX_ACTORS_PER_GPU = 16
"""Most actors that share a GPU if that is left open: each process takes memory of it."""
SHARED_GPU = 0.5
"""Learner's part of the only GPU if self-play has the other part."""
MIN_GPU_PART = 0.0001
"""Smallest part of a GPU that Ray reserves; parts are multiples of it."""


@dataclass(frozen=True)
class RunSizes:
    """How many actors play, and how many rollouts there are, on a cluster of a given size."""

    num_cpus: float
    """CPUs of the cluster."""
    num_actors: int
    """Self-play actors to be started, >= 0."""
    num_placeable: int
    """Self-play actors that the CPUs suffice for; the others wait for nodes."""
    rollouts_per_update: int
    """Rollouts in one update (R)."""
    max_unconsumed: int
    """Most rollouts that may be asked for or delivered but not consumed: R * (lag + 1). No more
    actors than that play at a time."""


@dataclass(frozen=True)
class ScheduleChoice:
    """The schedule that `schedule.mode` auto stands for on a cluster, and why."""

    mode: Literal["overlap", "lockstep"]
    reason: str
    """Clause that tells a person why, with the numbers that decided."""


@dataclass(frozen=True)
class DeviceChoice:
    """The device that `self_play.device` auto stands for on a cluster, and why."""

    device: Literal["cpu", "cuda"]
    reason: str
    """Clause that tells a person why, with the numbers that decided."""


def choose_self_play_device(config: Config, num_gpus: int) -> DeviceChoice:
    """Chooses where the actors' networks compute. docs/train.md has the rule as a table.

    Args:
        config: as given; its self_play.device is not looked at.
        num_gpus: GPUs of the whole cluster.
    """
    play, model, learners = config.self_play, config.model, config.learner.num_learners
    multiplications = 2 * model.depth * 81 * 9 * model.width**2
    reason: str | None = None
    if num_gpus < 1:
        reason = "the cluster has no GPU"
    elif config.learner.device == "cpu":
        reason = "the learner is on a CPU"
    elif num_gpus == 1 and config.learner.num_gpus is not None:
        reason = f"learner.num_gpus is {config.learner.num_gpus:g} of the only GPU"
    elif learners > 1 and num_gpus <= learners * (config.learner.num_gpus or 1):
        reason = f"{learners} learners take {num_gpus} GPU"
    elif play.num_actors == "auto":
        reason = "self_play.num_actors is auto"
    elif (actors := config.at_most_max_actors(play.num_actors)) > MAX_ACTORS_PER_GPU * num_gpus:
        reason = f"{actors} actors for {num_gpus} GPU are more than {MAX_ACTORS_PER_GPU} each"
    elif multiplications < MIN_GPU_MULTIPLICATIONS:
        reason = f"a core evaluates a network of {model.depth}x{model.width} fast enough"
    elif play.games_per_actor < MIN_GPU_GAMES:
        reason = f"games_per_actor {play.games_per_actor} is less than {MIN_GPU_GAMES}"
    if reason is not None:
        return DeviceChoice("cpu", reason)
    shape = f"{model.depth}x{model.width}"
    return DeviceChoice(
        "cuda", f"{num_gpus} GPU, network {shape}, {actors} actors x {play.games_per_actor} games"
    )


def choose_schedule(
    config: Config, num_cpus: float, num_gpus: int, *, may_grow: bool
) -> ScheduleChoice:
    """Chooses the schedule by whether self-play and learning would share the same cores.

    In lockstep all cores play, then all cores learn. That is as fast as overlap if both can use all
    of them, and has no policy lag. Overlap is for hardware that one of the two would leave idle: a
    GPU, more cores than actors or the learner use, several nodes; and for a number of actors that
    follows the cluster, which lockstep cannot do.

    Args:
        config: as given; its schedule.mode is not looked at.
        num_cpus: CPUs of the whole cluster; less than one counts as one.
        num_gpus: GPUs of the whole cluster.
        may_grow: whether nodes may join the cluster.
    """
    cores = max(1, int(num_cpus))
    schedule, learner = config.schedule, config.learner
    asked = config.self_play.num_actors
    learners = learner.num_learners
    threads = learner.num_threads or max(1, min(cores // learners, MAX_LEARNER_THREADS))
    reason: str | None = None
    if _device(config, num_gpus) == "cuda":
        reason = "the learner has a GPU"
    elif _self_play_device(config, num_gpus) == "cuda":
        reason = "self-play has a GPU"
    elif may_grow:
        reason = "nodes may join the cluster"
    elif asked == "auto":
        reason = "self_play.num_actors is auto"
    elif schedule.max_policy_lag > ScheduleConfig().max_policy_lag:
        reason = f"schedule.max_policy_lag is {schedule.max_policy_lag}"
    elif schedule.rollouts_per_update not in (None, actors := config.at_most_max_actors(asked)) or (
        schedule.rollouts_per_update is not None and actors > _started_in_lockstep(config, cores)
    ):
        reason = f"schedule.rollouts_per_update is {schedule.rollouts_per_update}"
    elif actors < cores:
        reason = f"self-play leaves cores to the learner: {actors} actors, {cores} cores"
    elif actors < _fewest_rollouts(config):
        reason = f"a rollout of each actor makes {actors * config.timesteps_per_rollout} timesteps"
    elif min(actors, cores) < learners:
        reason = f"learner.num_learners is {learners}, with {actors} actors and {cores} cores"
    elif threads * learners + learners <= cores:
        reason = f"the learner leaves cores to self-play: num_threads {threads}, {cores} cores"
    if reason is not None:
        return ScheduleChoice("overlap", reason)
    return ScheduleChoice("lockstep", f"self-play and learning share the cores, {cores} of them")


def resolve_auto(
    config: Config,
    num_cpus: float,
    num_gpus: int,
    *,
    may_grow: bool = False,
    has_bf16: bool = False,
) -> Config:
    """Replaces every setting left to the hardware by a value.

    A setting that has a value keeps it, so resolving twice changes nothing. If num_actors is auto,
    a rollouts_per_update that was left open stays open: it follows the cluster (`run_sizes`).

    Args:
        config: as given.
        num_cpus: CPUs of the whole cluster; less than one counts as one.
        num_gpus: GPUs of the whole cluster.
        may_grow: whether nodes may join the cluster.
        has_bf16: whether the processors of all nodes have instructions for bfloat16.

    Returns:
        A config whose mode, rollouts_per_update, devices, parts of GPUs, precisions and
        num_threads are decided.

    Raises:
        ConfigError: a device is cuda and the cluster has no GPU, or none is left to self-play.
    """
    cores = max(1, int(num_cpus))
    device, play_device = _device(config, num_gpus), _self_play_device(config, num_gpus)
    if config.schedule.mode == "auto":
        choice = choose_schedule(config, num_cpus, num_gpus, may_grow=may_grow)
        config = _with_schedule(config, choice, cores)
    actors = config.self_play.num_actors
    # An elastic run may shrink to one actor; the number of threads must fit its updates then too.
    fewest = 1 if actors == "auto" else min(config.at_most_max_actors(actors), cores)
    rollouts = choose_rollouts_per_update(config, fewest)
    minibatch = rollouts * config.timesteps_per_rollout // config.learner.num_minibatches
    threads = config.learner.num_threads
    if threads is None:
        learners = config.learner.num_learners
        most = min(cores // learners, MAX_LEARNER_THREADS, minibatch // learners)
        threads = max(1, most) if device == "cpu" else 1
    values = config.model_dump()
    if config.schedule.mode == "overlap" and actors != "auto":
        # In lockstep it follows num_actors, also when the run is resumed with another number.
        values["schedule"]["rollouts_per_update"] = rollouts
    playing, learning = _precisions(config, play_device, device, has_bf16=has_bf16)
    values["self_play"].update(device=play_device, amp=playing)
    values["learner"].update(device=device, amp=learning, num_threads=threads)
    if device == "cuda" and config.learner.num_gpus is None:
        is_shared = play_device == "cuda" and num_gpus == config.learner.num_learners == 1
        values["learner"]["num_gpus"] = SHARED_GPU if is_shared else 1.0
    config = validated(values)
    if play_device == "cuda" and config.self_play.num_gpus is None:
        values["self_play"]["num_gpus"] = _gpus_of_each_actor(config, num_gpus)
        config = validated(values)
    return config


def _precisions(
    config: Config, play_device: str, device: str, *, has_bf16: bool
) -> tuple[str, str]:
    """Returns the precisions of self-play and of the update.

    An open one follows the other where both are on CPUs or both on CUDA, so that both compute the
    same function.
    """
    playing, learning = config.self_play.amp, config.learner.amp
    on_cpus = "bf16" if has_bf16 else "off"
    chosen: str = learning
    if learning == "auto":
        on_cpus_alone = on_cpus if playing == "auto" else playing
        chosen = "bf16" if device == "cuda" else on_cpus_alone
    if playing != "auto":
        return playing, chosen
    if device == "cuda" and play_device == "cpu":
        return on_cpus, chosen
    return ("bf16" if chosen == "bf16" else "off"), chosen


def _self_play_device(config: Config, num_gpus: int) -> str:
    """Returns the device of the actors' networks, "cpu" or "cuda".

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    device = config.self_play.device
    if device == "cuda" and num_gpus < 1:
        raise _no_gpu("self_play.device")
    return choose_self_play_device(config, num_gpus).device if device == "auto" else device


def _gpus_of_each_actor(config: Config, num_gpus: int) -> float:
    """Computes the GPUs that Ray reserves for each self-play actor, if that is left open.

    An equal part of the GPUs that the learner leaves, or of what it leaves of the only one.

    Args:
        config: with the devices and the learner's part decided; num_actors is a number.
        num_gpus: GPUs of the whole cluster.

    Raises:
        ConfigError: the learner leaves nothing.
    """
    asked = config.self_play.num_actors
    assert asked != "auto", "refused by checks.check_self_play_device"
    free = num_gpus - config.learner.num_learners * learner_gpus(config)
    if free <= 0:
        raise ConfigError(
            f"self_play.device = 'cuda', but learner.num_gpus = {learner_gpus(config):g} takes all "
            f"GPUs of the cluster ({num_gpus}). Use a smaller learner.num_gpus, or leave it out."
        )
    actors_per_gpu = math.ceil(config.at_most_max_actors(asked) / max(1, int(free)))
    parts = int(min(1.0, free) / actors_per_gpu / MIN_GPU_PART + 1e-6)
    return max(1, parts) * MIN_GPU_PART


def _device(config: Config, num_gpus: int) -> str:
    """Returns the learner's device, "cpu" or "cuda".

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    device = config.learner.device
    if device == "cuda" and num_gpus < 1:
        raise _no_gpu("learner.device")
    if device == "auto":
        return "cuda" if num_gpus > 0 else "cpu"
    return device


def _no_gpu(key: str) -> ConfigError:
    """Makes the error of a device that the cluster does not have."""
    return ConfigError(
        f"{key} = 'cuda' but the cluster has no GPU. Use device auto or cpu, or join "
        "a cluster with a GPU; if one is coming, set cluster.wait_for_nodes_s."
    )


def _with_schedule(config: Config, choice: ScheduleChoice, cores: int) -> Config:
    """Returns the config with the schedule that was chosen, and in lockstep an actor per core."""
    values = config.model_dump()
    values["schedule"]["mode"] = choice.mode
    if choice.mode == "lockstep":
        values["schedule"]["max_actors"] = _started_in_lockstep(config, cores)
    return validated(values)


def _started_in_lockstep(config: Config, cores: int) -> int:
    """Returns the largest number of actors that are started where lockstep is chosen."""
    return config.schedule.max_actors or max(cores, _fewest_rollouts(config))


def choose_rollouts_per_update(config: Config, num_playing: int) -> int:
    """Returns R as it was set, or chooses it: enough timesteps to learn from, and no idle actors.

    A rollout counts as unconsumed until its update is done. Beside the R rollouts of the update in
    progress, one for every playing actor must be allowed: R * (lag + 1) >= R + num_playing. With a
    smaller R actors idle between a delivery and the end of the update, a sixth to a quarter of them
    by benchmarks/scripts/scale.py.

    Args:
        config: sizes of a rollout, and the policy lag.
        num_playing: actors that can play at the same time.
    """
    if config.effective_rollouts_per_update is not None:
        return config.effective_rollouts_per_update
    each_plays = math.ceil(num_playing / max(1, config.schedule.max_policy_lag))
    return max(_fewest_rollouts(config), each_plays, config.learner.num_learners)


def _fewest_rollouts(config: Config) -> int:
    """Returns how many rollouts make an update large enough to learn from."""
    return math.ceil(MIN_UPDATE_TIMESTEPS / config.timesteps_per_rollout)


def run_sizes(
    config: Config, num_cpus: float, cpus_per_actor: float, *, num_gpus: float = math.inf
) -> RunSizes:
    """Computes how many actors play and how many rollouts there are.

    Args:
        config: with every hardware-dependent choice made.
        num_cpus: CPUs of the cluster now.
        cpus_per_actor: CPUs that Ray reserves for each actor, fixed when the run started.
        num_gpus: GPUs of the cluster now.
    """
    num_placeable = max(0, int(cpus_for_actors(config, num_cpus) / cpus_per_actor))
    if (part := self_play_gpus(config)) > 0 and num_gpus < math.inf:
        free = num_gpus - config.learner.num_learners * learner_gpus(config)
        num_placeable = min(num_placeable, max(0, int(free / part + 1e-6)))
    num_actors = num_started(config, num_placeable)
    if config.self_play.num_actors == "auto":
        num_actors = min(num_actors, num_placeable)
    rollouts = choose_rollouts_per_update(config, num_actors)
    return RunSizes(
        num_cpus=num_cpus,
        num_actors=num_actors,
        num_placeable=num_placeable,
        rollouts_per_update=rollouts,
        max_unconsumed=rollouts * (config.effective_max_lag + 1),
    )


def actor_cpus(config: Config, num_cpus: float) -> float:
    """Computes the CPUs that Ray reserves for each self-play actor.

    Each gets an equal part of what learner and evaluator leave, at most one CPU: 32 actors fit on
    2 cores as on 64. A whole number of parts make up a CPU, so that no node has an unusable rest.
    With num_actors = auto there is an actor for each CPU.

    Args:
        config: how many actors there are, and what the evaluator reserves.
        num_cpus: CPUs of the cluster.
    """
    free = max(cpus_for_actors(config, num_cpus), MIN_ACTOR_CPUS)
    actors = num_started(config, free)
    actors_per_cpu = math.ceil(actors / free)
    return max(MIN_ACTOR_CPUS, int(1000 / actors_per_cpu) / 1000)


def num_started(config: Config, free: float) -> int:
    """Returns how many self-play actors are started where so many CPUs are left to them.

    Also where a number is asked for, which Ray may have no room for. At least one.
    """
    play = config.self_play
    share = max(1, int(free * play.auto_share))
    return config.at_most_max_actors(share if play.num_actors == "auto" else play.num_actors)


def learner_cpus(config: Config, num_cpus: float) -> float:
    """Returns the CPUs that Ray reserves for each learner on a cluster of so many.

    Where there are not more CPUs than learners, they have half of them together.
    """
    learners = config.learner.num_learners
    return LEARNER_CPUS if num_cpus > learners else round(num_cpus / 2 / learners, 4)


def learner_gpus(config: Config) -> float:
    """Returns the GPUs that Ray reserves for each learner."""
    return (config.learner.num_gpus or 1.0) if config.learner.device == "cuda" else 0.0


def self_play_gpus(config: Config) -> float:
    """Returns the GPUs that Ray reserves for each self-play actor, once they are decided."""
    return (config.self_play.num_gpus or 0.0) if config.self_play.device == "cuda" else 0.0


def cpus_for_actors(config: Config, num_cpus: float) -> float:
    """Returns the CPUs that learners and evaluator leave to the self-play actors; may be < 0."""
    evaluation = config.evaluation
    evaluator = 0.0 if evaluation.interval_timesteps is None else evaluation.num_cpus
    learners = config.learner.num_learners * learner_cpus(config, num_cpus)
    return num_cpus - learners - evaluator
