"""Estimate of the memory that a run needs, from its configuration alone, before it starts."""

from keisei_ray.config.autosize import MAX_LEARNER_THREADS, choose_rollouts_per_update
from keisei_ray.config.schema import Config
from keisei_ray.config.sections import ModelConfig

ACTOR_PROCESS_BYTES = 190 * 2**20
"""Resident memory of an actor process that has imported torch, without its rollout."""
RAW_BYTES_PER_TIMESTEP = 311
"""Bytes of one unpacked row of a rollout: all fields of `rollouts.rollout.ROLLOUT_FIELDS`."""
FLOATS_PER_PARAMETER = 4
"""Floats that the learner holds for each parameter: weight, gradient and two Adam moments."""


def max_parameters(model: ModelConfig) -> int:
    """Returns an upper bound of the network's parameters, close to it for large networks."""
    return 20 * model.depth * model.width**2 + 650 * model.width + 400 * model.value_hidden


def estimate_memory_bytes(config: Config, num_actors: int) -> int:
    """Estimates the memory of a run's processes and rollouts, in bytes, over all nodes.

    The sum of:

    - each actor: `ACTOR_PROCESS_BYTES`, one unpacked rollout, and its networks;
    - the evaluator, if there is one: `ACTOR_PROCESS_BYTES` and two networks;
    - the learner: `ACTOR_PROCESS_BYTES`, weights, gradients, optimizer state, a gradient for each
      further thread, one unpacked update, and the activations (4 per block and 4 more, float32) of
      the rows that it works on at once;
    - rollouts that wait or are in flight, as if they were not compressed.

    Ray's own processes and the driver are not included.

    Args:
        config: as given, or with hardware-dependent choices made. An R that is still open is
            chosen as if every actor had a CPU.
        num_actors: self-play actors.
    """
    model, learner = config.model, config.learner
    rollouts = choose_rollouts_per_update(config, num_actors)
    rollout_bytes = config.timesteps_per_rollout * RAW_BYTES_PER_TIMESTEP
    network_bytes = 4 * max_parameters(model)

    networks = 1 + (config.pool.networks_per_actor if config.pool.share > 0 else 0)
    actors = num_actors * (ACTOR_PROCESS_BYTES + rollout_bytes + networks * network_bytes)

    copies = FLOATS_PER_PARAMETER + (learner.num_threads or 1) - 1
    rows = rollouts * config.timesteps_per_rollout // learner.num_minibatches
    if learner.device == "cpu" and learner.micro_batch is not None:
        rows = min(rows, (learner.num_threads or MAX_LEARNER_THREADS) * learner.micro_batch)
    activations = rows * 81 * model.width * 4 * (4 * model.depth + 4)
    update = ACTOR_PROCESS_BYTES + network_bytes * copies + rollouts * rollout_bytes + activations

    is_evaluated = config.evaluation.interval_timesteps is not None
    evaluator = is_evaluated * (ACTOR_PROCESS_BYTES + 2 * network_bytes)
    in_flight = max(num_actors, rollouts * (config.effective_max_lag + 1)) * rollout_bytes
    return actors + update + evaluator + in_flight
