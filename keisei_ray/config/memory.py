"""How much memory a run needs, from its configuration alone, before anything is started."""

from keisei_ray.config.autosize import MAX_LEARNER_THREADS, rollouts_for
from keisei_ray.config.schema import Config
from keisei_ray.config.sections import ModelConfig

ACTOR_PROCESS_BYTES = 190 * 2**20
"""Resident memory of an actor process that has imported torch, before its rollout."""
RAW_BYTES_PER_TIMESTEP = 310
"""Bytes of one row of a rollout, unpacked: all fields of `rollout.FIELDS` together."""
FLOATS_PER_PARAMETER = 4
"""Weight, gradient and two Adam moments."""


def max_parameters(model: ModelConfig) -> int:
    """No fewer parameters than the network has; close to it for large networks."""
    return 20 * model.depth * model.width**2 + 650 * model.width + 400 * model.value_hidden


def estimate_memory_bytes(config: Config, num_actors: int) -> int:
    """Memory of the run's own processes and rollouts with so many actors, over all nodes, in bytes.

    The sum of: `ACTOR_PROCESS_BYTES`, one unpacked rollout and its networks for each actor; that
    base and two networks for the evaluator; the same base, weights, gradients, optimizer state, a
    gradient for each further thread, one unpacked update, and the activations (4 per block and 4
    more, float32) of the rows worked on at once for the learner; the rollouts that wait or are in
    flight, taken as not compressed. Ray's own processes and the driver are not in it. An open R
    is taken as if every actor had a CPU.
    """
    model, learner = config.model, config.learner
    rollouts = config.effective_rollouts_per_update or rollouts_for(config, num_actors)
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
