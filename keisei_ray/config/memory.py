"""Estimates of the memory that a run needs, from its configuration alone, before it starts."""

from typing import Final

from keisei_ray.config.autosize import (
    MAX_LEARNER_THREADS,
    choose_rollouts_per_update,
    learner_gpus,
    self_play_gpus,
)
from keisei_ray.config.schema import Config
from keisei_ray.config.sections import LearnerConfig, ModelConfig

ACTOR_PROCESS_BYTES = 190 * 2**20
"""Resident memory of an actor process that has imported torch, without its rollout."""
CUDA_PROCESS_BYTES = 1536 * 2**20
"""Resident memory of a process that uses a GPU. An assumption."""
RAW_BYTES_PER_TIMESTEP = 311
"""Bytes of one unpacked row of a rollout: all fields of `rollouts.rollout.ROLLOUT_FIELDS`."""
FLOATS_PER_PARAMETER = 4
"""Floats that the learner holds for each parameter: weight, gradient and two Adam moments."""
MUON_FLOATS_PER_PARAMETER: Final = 7
"""Further ones while a step of `learning.muon` is made: copies of the kernels, of their gradients
and momentum, and what the iterations make of these. On a CPU 6.8 were seen for a 4x64 network."""
SNAPSHOT_FLOATS_PER_PARAMETER = 6
"""Floats for each parameter on the host while a version is published beside the next update: a copy
of weight and moments, and the files that are made of them."""

CONTEXT_BYTES: Final = 512 * 2**20
"""GPU memory that each process takes beside torch's tensors: CUDA context and kernels. An
assumption."""
LEARNER_WORKSPACE_BYTES: Final = 600 * 2**20
"""GPU memory of the learner beyond what is counted below: gradients of activations, workspaces of
cuDNN. On an H200 its tensors took 1,712 MiB with 10x128 and minibatches of 2,048 rows."""
ACTOR_WORKSPACE_BYTES: Final = 470 * 2**20
"""The same of an actor: it took 718 MiB with 10x128 and 512 games, 1,428 MiB with 20x256."""
ACTOR_COPIES: Final = 7
"""Copies of the weights' bytes that an actor's graphs and kernels were seen to take there."""
DEVICE_FLOATS_PER_PARAMETER: Final = FLOATS_PER_PARAMETER + 3
"""Floats for each parameter that the learner holds on a GPU: those above, and copies of weight and
moments from before the update. With a KL stop there are further copies."""
STEP_COPIES: Final = 3
"""Optimizer steps of which the learner on a GPU keeps a copy for the KL stop."""
HEAD_BYTES_PER_ROW: Final = 28_000
"""Activations of a row beside the tower: planes, policy over 1,496 labels, value head."""
LINES_BYTES_PER_ROW: Final = 16_000
"""The same of the attackers of each square and the origins of moves."""
SAMPLING_BYTES_PER_ROW: Final = 150_000
"""Bytes of a position whose move is sampled on a GPU, over 1,496 labels in double precision."""


def max_parameters(model: ModelConfig) -> int:
    """Returns an upper bound of the network's parameters, close to it for large networks."""
    return 20 * model.depth * model.width**2 + 650 * model.width + 400 * model.value_hidden


def estimate_memory_bytes(config: Config, num_actors: int) -> int:
    """Estimates the memory of a run's processes and rollouts, in bytes, over all nodes.

    The sum of:

    - each actor: its process (`ACTOR_PROCESS_BYTES`, on a GPU `CUDA_PROCESS_BYTES`), one unpacked
      rollout, and its networks;
    - the evaluator, if there is one: `ACTOR_PROCESS_BYTES` and two networks;
    - each learner: its process, weights, gradients, optimizer state, a gradient for each
      further thread, its share of one unpacked update, and, unless it is on a GPU, the activations
      (4 per block and 4 more, float32) of the rows that it works on at once;
    - a version of the learner that is being published;
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
    playing = _process_bytes(config.self_play.device)
    actors = num_actors * (playing + rollout_bytes + networks * network_bytes)

    copies = FLOATS_PER_PARAMETER + (learner.num_threads or 1) - 1 + _step_floats(learner)
    rows = rollouts * config.timesteps_per_rollout // learner.num_minibatches
    rows = -(-rows // learner.num_learners)
    if learner.device == "cpu" and learner.micro_batch is not None:
        rows = min(rows, (learner.num_threads or MAX_LEARNER_THREADS) * learner.micro_batch)
    activations = rows * 81 * model.width * 4 * (4 * model.depth + 4)
    if learner.device == "cuda":
        activations = 0  # They are on the GPU, see `gpu_bytes`.
    each = _process_bytes(learner.device) + network_bytes * copies + activations
    published = SNAPSHOT_FLOATS_PER_PARAMETER * network_bytes
    learners = learner.num_learners * each + rollouts * rollout_bytes + published

    is_evaluated = config.evaluation.interval_timesteps is not None
    evaluator = is_evaluated * (ACTOR_PROCESS_BYTES + 2 * network_bytes)
    in_flight = max(num_actors, rollouts * (config.effective_max_lag + 1)) * rollout_bytes
    return actors + learners + evaluator + in_flight


def _process_bytes(device: str) -> int:
    """Resident memory of an actor that computes there; where it is open, on a CPU."""
    return CUDA_PROCESS_BYTES if device == "cuda" else ACTOR_PROCESS_BYTES


def gpu_bytes(config: Config, num_actors: int) -> int:
    """Estimates the bytes in use on the GPU of a run that has the most to hold.

    Args:
        config: with every choice made. An R that is still open is chosen as if every actor had a
            CPU.
        num_actors: self-play actors.

    Returns:
        0 if the run uses no GPU.
    """
    part, actor = self_play_gpus(config), actor_gpu_bytes(config)
    learner, taken = 0, learner_gpus(config)
    if taken > 0:
        learner = learner_gpu_bytes(config, num_actors)
    if part == 0:
        return learner
    # Fractions such as 1/3 do not add up to 1 exactly.
    beside = int(max(0.0, 1 - taken) / part + 1e-6) if taken > 0 else 0
    alone = max(1, int(1 / part + 1e-6))
    return max(learner + min(num_actors, beside) * actor, min(num_actors, alone) * actor)


def learner_gpu_bytes(config: Config, num_actors: int) -> int:
    """Estimates the bytes that a learner takes of its GPU.

    The sum of `CONTEXT_BYTES`, `LEARNER_WORKSPACE_BYTES`, weights, gradients, optimizer state and
    their copies, its share of the rows of an update, and the activations of its share of a
    minibatch. Of several learners each also has a message with the gradient.
    """
    model, learner = config.model, config.learner
    rollouts = choose_rollouts_per_update(config, num_actors)
    rows = -(-rollouts // learner.num_learners) * config.timesteps_per_rollout
    copies = DEVICE_FLOATS_PER_PARAMETER + (learner.num_learners > 1) + _step_floats(learner)
    if learner.target_kl is not None:
        copies += 3 * STEP_COPIES
    return (
        CONTEXT_BYTES
        + LEARNER_WORKSPACE_BYTES
        + 4 * copies * max_parameters(model)
        + rows * RAW_BYTES_PER_TIMESTEP
        + rows // learner.num_minibatches * activation_bytes(model, learner.amp)
    )


def _step_floats(learner: LearnerConfig) -> int:
    """Floats for each parameter that only an optimizer step takes."""
    return MUON_FLOATS_PER_PARAMETER if learner.optimizer == "muon" else 0


def actor_gpu_bytes(config: Config) -> int:
    """Estimates the bytes that a self-play actor takes of its GPU.

    Counts one CUDA graph for each network, of all games. A network that is asked for varying
    numbers of positions has up to eight, mostly of fewer rows; what they take was not measured.
    """
    model, play = config.model, config.self_play
    networks = 1 + (config.pool.networks_per_actor if config.pool.share > 0 else 0)
    # Six activations of a block at a time, and the heads' float32 input.
    per_row = 81 * model.width * (6 * _bytes_of(play.amp) + 4) + SAMPLING_BYTES_PER_ROW
    each = 4 * ACTOR_COPIES * max_parameters(model) + play.games_per_actor * per_row
    return CONTEXT_BYTES + ACTOR_WORKSPACE_BYTES + networks * each


def activation_bytes(model: ModelConfig, amp: str) -> int:
    """Computes the bytes of a row that the update keeps from forward to backward pass.

    Each convolution keeps its input, which ReLU leaves in place and SiLU doubles. The heads get a
    copy in float32.

    Args:
        model: the network.
        amp: precision of the tower.
    """
    per_activation = 1 if model.activation == "relu" else 2
    maps = (2 * per_activation + model.squeeze_excitation) * model.depth + per_activation
    size = _bytes_of(amp)
    copy = 4 if size < 4 else 0
    lines = LINES_BYTES_PER_ROW if model.attackers or model.origins else 0
    return 81 * model.width * (maps * size + copy) + HEAD_BYTES_PER_ROW + lines


def _bytes_of(amp: str) -> int:
    """Bytes of a number of the tower in this precision; where it is open, on a GPU."""
    return 4 if amp == "off" else 2
