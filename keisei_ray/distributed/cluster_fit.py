"""Whether a run fits on a cluster; waits for a cluster that is too small to grow."""

import time
from collections.abc import Callable

from ray.autoscaler.sdk import request_resources

from keisei_ray.config.autosize import (
    MIN_ACTOR_CPUS,
    MIN_GPU_PART,
    actor_cpus,
    cpus_for_actors,
    learner_gpus,
    num_started,
    resolve_auto,
    run_sizes,
    self_play_gpus,
)
from keisei_ray.config.memory import estimate_memory_bytes, gpu_bytes
from keisei_ray.config.schema import Config
from keisei_ray.distributed.cluster import Cluster, refreshed
from keisei_ray.distributed.node_gpus import smallest_gpu_bytes
from keisei_ray.distributed.node_processors import all_have_bf16
from keisei_ray.errors import ClusterError, ConfigError, UserError

GIB = 2**30
MEMORY_SHARE = 0.9
"""Share of the cluster's memory that the run's own processes may be expected to use."""
GPU_ESTIMATE_MARGIN = 1.25
"""How many times the memory of a GPU the estimate may be: it is rough, and a learner whose GPU is
out of memory works on half a minibatch at a time."""
POLL_S = 1.0
"""Seconds between two looks at a cluster that is too small to begin."""
WAIT_FOR_NODES = "If nodes are coming, set cluster.wait_for_nodes_s."


def fit_to_cluster(
    config: Config,
    cluster: Cluster,
    *,
    say: Callable[[str], object],
    should_stop: Callable[[], bool],
) -> tuple[Config, Cluster]:
    """Decides what is left to the hardware, on a cluster that the run fits on.

    Waits for a cluster that is too small, at most `cluster.wait_for_nodes_s`; an autoscaler is
    asked meanwhile for what the run would use.

    Args:
        config: settings as given.
        cluster: the cluster as it was found.
        say: called once with a line that says that the run waits, and for what.
        should_stop: called while it waits.

    Returns:
        The effective settings and the cluster as it is now.

    Raises:
        UserError: the run does not fit, or not in time: what was asked, what there is.
        KeyboardInterrupt: a stop was requested.
    """
    wait_s = config.cluster.wait_for_nodes_s
    deadline = time.monotonic() + wait_s
    is_waiting = False
    try:
        while True:
            try:
                check_fits(_resolved(config, cluster), cluster)
                has_bf16 = all_have_bf16(is_one_machine=cluster.is_started_here)
                resolved = _resolved(config, cluster, has_bf16=has_bf16)
                if learner_gpus(resolved) > 0 or self_play_gpus(resolved) > 0:
                    found = smallest_gpu_bytes(is_one_machine=cluster.is_started_here)
                    check_fits_gpus(resolved, cluster, found)
                return resolved, cluster
            except UserError as error:
                if time.monotonic() >= deadline:
                    raise
                if not is_waiting:
                    say(f"waiting up to {wait_s:g} s for the cluster to grow: {error}")
                    request_nodes(config)
                    is_waiting = True
            if should_stop():
                raise KeyboardInterrupt
            time.sleep(POLL_S)
            cluster.connection.check()
            cluster = refreshed(cluster)
    finally:
        if is_waiting and cluster.connection.is_there():
            request_nodes(None)


def _resolved(config: Config, cluster: Cluster, *, has_bf16: bool = False) -> Config:
    """Returns the settings with all that is left to the hardware decided."""
    return resolve_auto(
        config,
        cluster.num_cpus,
        cluster.num_gpus,
        may_grow=cluster.may_grow,
        has_bf16=has_bf16,
    )


def request_nodes(config: Config | None) -> None:
    """Asks an autoscaler, where there is one, for what the run would use. Returns at once.

    The request stays until another replaces it, also beyond the end of the run.

    Args:
        config: settings of the run; None takes the request back.
    """
    if config is None:
        request_resources(bundles=[])
        return
    actors = config.self_play.num_actors
    learner = {"CPU": 1, "GPU": 1} if config.learner.device == "cuda" else {"CPU": 1}
    learners = [learner] * config.learner.num_learners
    actor: dict[str, float] = {"CPU": 1}
    if (gpus := self_play_gpus(config)) > 0:
        actor["GPU"] = gpus
    request_resources(bundles=[*learners, *[actor] * (1 if actors == "auto" else actors)])


def check_fits(config: Config, cluster: Cluster) -> None:
    """Refuses a run that the cluster cannot hold.

    Args:
        config: with every hardware-dependent choice made.
        cluster: the cluster as it is now.

    Raises:
        ClusterError: what was asked, what there is, what would fit.
    """
    if cluster.num_cpus < 1 and not cluster.is_fixed:
        raise ClusterError(
            f"the cluster at {cluster.address} offers no CPU, expected at least 1. "
            f"{WAIT_FOR_NODES} Or join another."
        )
    _check_learners(config, cluster)
    free = cpus_for_actors(config, cluster.num_cpus)
    most = int(free / MIN_ACTOR_CPUS)
    if most < 1:
        raise ClusterError(
            f"evaluation.num_cpus = {config.evaluation.num_cpus:g} leaves no part of the "
            f"cluster's {cluster.num_cpus:g} CPUs for self-play. Use less, or 0 to reserve none."
        )
    actors = num_started(config, free)
    if actors > most:
        raise ClusterError(
            f"self_play.num_actors = {actors} needs more than the {cluster.num_cpus:g} CPUs of the "
            f"cluster can be divided into. Use at most {most}. {WAIT_FOR_NODES}"
        )
    gpus, learners = self_play_gpus(config), config.learner.num_learners
    together = actors * gpus + learners * learner_gpus(config)
    if gpus > 0 and together > cluster.num_gpus + MIN_GPU_PART:
        of_each = f" for each of {learners} learners" if learners > 1 else ""
        raise ClusterError(
            f"self_play.num_gpus = {gpus:g} for each of {actors} actors and learner.num_gpus = "
            f"{learner_gpus(config):g}{of_each} are {together:g} GPUs, the cluster has "
            f"{cluster.num_gpus}. Use smaller parts, or null for parts that fit. {WAIT_FOR_NODES}"
        )
    needed = estimate_memory_bytes(config, actors)
    limit = int(cluster.memory_bytes * MEMORY_SHARE)
    if cluster.memory_bytes and needed > limit:
        raise ClusterError(
            f"these settings need about {needed / GIB:.1f} GiB of memory "
            f"(self_play.num_actors = {config.self_play.num_actors}, model "
            f"{config.model.depth}x{config.model.width}), "
            f"the cluster has {cluster.memory_bytes / GIB:.1f} GiB. Use "
            f"{_fewer_actors(config, actors, limit)}, a smaller update or a smaller model. "
            f"{WAIT_FOR_NODES}"
        )


def check_fits_gpus(config: Config, cluster: Cluster, smallest_bytes: int) -> None:
    """Refuses a run whose tensors a GPU surely cannot hold.

    Args:
        config: with every hardware-dependent choice made.
        cluster: the cluster as it is now.
        smallest_bytes: memory of the cluster's smallest GPU; 0 if unknown, which refuses nothing.

    Raises:
        ClusterError: what is needed, what there is, what needs less.
    """
    sizes = run_sizes(config, cluster.num_cpus, actor_cpus(config, cluster.num_cpus))
    needed = gpu_bytes(config, sizes.num_actors)
    if smallest_bytes and needed > smallest_bytes * GPU_ESTIMATE_MARGIN:
        rows = sizes.rollouts_per_update * config.timesteps_per_rollout
        raise ClusterError(
            f"these settings need about {needed / GIB:.1f} GiB of a GPU's memory "
            f"(model {config.model.depth}x{config.model.width}, minibatches of "
            f"{rows // config.learner.num_minibatches} rows, {sizes.num_actors} actors), the "
            f"smallest GPU has {smallest_bytes / GIB:.1f} GiB. Use more learner.num_minibatches, "
            "fewer actors or games, or a smaller model."
        )


def _check_learners(config: Config, cluster: Cluster) -> None:
    """Refuses several learners that have not a GPU or a CPU each."""
    learners, part = config.learner.num_learners, learner_gpus(config)
    if learners == 1:
        return
    if config.learner.device == "cpu" and learners > cluster.num_cpus:
        raise ClusterError(
            f"learner.num_learners = {learners} exceeds the cluster's {cluster.num_cpus:g} CPUs. "
            f"Use fewer: several learners are of use where each has cores of its own. "
            f"{WAIT_FOR_NODES}"
        )
    if config.learner.device == "cuda" and part <= 0.5:
        raise ConfigError(
            f"learner.num_gpus = {part:g} does not go with learner.num_learners = {learners}: two "
            "of them could get the same GPU, which NCCL refuses. Use more than 0.5, e.g. 1."
        )
    # No two learners share a GPU, so a GPU holds one at most.
    if config.learner.device == "cuda" and learners * max(1, part) > cluster.num_gpus:
        raise ClusterError(
            f"learner.num_learners = {learners} with learner.num_gpus = {part:g} each need "
            f"{learners * max(1, part):g} GPUs, the cluster has {cluster.num_gpus}. Use fewer. "
            f"{WAIT_FOR_NODES}"
        )


def _fewer_actors(config: Config, asked: int, limit: int) -> str:
    """Returns how many actors fit in `limit` bytes of memory, as advice."""
    fitting = [n for n in range(1, asked) if estimate_memory_bytes(config, n) <= limit]
    return f"at most {fitting[-1]} actors" if fitting else "fewer actors"
