"""Memory estimates, compared with the real records and networks."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from keisei_ray.config.memory import (
    ACTOR_PROCESS_BYTES,
    CONTEXT_BYTES,
    CUDA_PROCESS_BYTES,
    DEVICE_FLOATS_PER_PARAMETER,
    MUON_FLOATS_PER_PARAMETER,
    RAW_BYTES_PER_TIMESTEP,
    STEP_COPIES,
    activation_bytes,
    actor_gpu_bytes,
    estimate_memory_bytes,
    gpu_bytes,
    learner_gpu_bytes,
    max_parameters,
)
from keisei_ray.config.schema import Config
from keisei_ray.config.sections import ModelConfig
from keisei_ray.learning.ppo import LossCoefs, masked_policy, ppo_sums
from keisei_ray.learning.update_steps import READ_DELAYS
from keisei_ray.network.model import Amp, build_model, legal_mask, masked_log_probs
from keisei_ray.rollouts.rollout import ROLLOUT_FIELDS


def test_the_raw_size_of_a_timestep_is_that_of_the_rollout_record() -> None:
    size = sum(
        np.dtype(dtype).itemsize * int(np.prod(tail)) for dtype, tail in ROLLOUT_FIELDS.values()
    )
    assert size == RAW_BYTES_PER_TIMESTEP


@pytest.mark.parametrize(("depth", "width", "hidden"), [(1, 8, 8), (4, 64, 64), (10, 128, 256)])
@pytest.mark.parametrize("squeeze_excitation", [False, True])
def test_the_bound_on_parameters_holds_for_the_real_network(
    depth: int, width: int, hidden: int, squeeze_excitation: bool
) -> None:
    config = ModelConfig(
        depth=depth, width=width, value_hidden=hidden, squeeze_excitation=squeeze_excitation
    )
    count = sum(parameter.numel() for parameter in build_model(config, seed=0).parameters())
    assert count <= max_parameters(config)
    if width >= 64:
        assert max_parameters(config) <= 1.3 * count


def test_the_memory_estimate_grows_by_each_actor() -> None:
    base = {"schedule": {"rollouts_per_update": 4}}
    few, many = (
        Config.model_validate(base | {"self_play": {"num_actors": number}}) for number in (2, 34)
    )
    growth = estimate_memory_bytes(many, 34) - estimate_memory_bytes(few, 2)
    assert 32 * 190e6 < growth < 32 * 220e6


def test_the_memory_estimate_includes_an_evaluator_if_there_is_one() -> None:
    on, off = Config(), Config.model_validate({"evaluation": {"interval_timesteps": None}})
    growth = estimate_memory_bytes(on, 2) - estimate_memory_bytes(off, 2)
    assert growth == 190 * 2**20 + 8 * max_parameters(on.model)


def test_each_of_several_learners_is_counted_and_has_a_share_of_the_update() -> None:
    learner = {"device": "cpu", "num_threads": 1, "micro_batch": 64}
    one, two = (
        Config.model_validate(
            {
                "model": {"depth": 4, "width": 64},
                "learner": learner | {"num_learners": n},
                "schedule": {"rollouts_per_update": 4},
            }
        )
        for n in (1, 2)
    )
    each = estimate_memory_bytes(two, 2) - estimate_memory_bytes(one, 2)
    activations = 64 * 81 * 64 * 4 * 20
    assert each == 190 * 2**20 + 16 * max_parameters(one.model) + activations


def kept_bytes(model: ModelConfig, amp: Amp, rows: int) -> int:
    """Bytes that torch keeps for the backward pass of a minibatch, beside the weights."""
    network = build_model(model, seed=0, amp=amp)
    own = {tensor.data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    zeros = torch.zeros(rows)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits, outcomes = network(
            torch.zeros(rows, 81, dtype=torch.uint8),
            torch.zeros(rows, 14, dtype=torch.uint8),
            torch.zeros(rows, 3, dtype=torch.uint8),
        )
        mask = legal_mask(torch.full((rows, 187), 255, dtype=torch.uint8))
        policy = masked_policy(masked_log_probs(logits, mask), zeros.long())
        coefs = LossCoefs(0.2, 2.0, 1.0, 0.5, 0.01)
        sums = ppo_sums(policy, outcomes, zeros, zeros, zeros.bool(), zeros, zeros, zeros, coefs)
    assert sums.loss.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("amp", ["off", "bf16"])
@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("squeeze_excitation", [False, True])
def test_activations_are_those_that_torch_keeps(
    amp: Amp, activation: Any, squeeze_excitation: bool
) -> None:
    model = ModelConfig(
        depth=3, width=64, activation=activation, squeeze_excitation=squeeze_excitation
    )
    # The difference leaves out what does not grow with the rows.
    counted = (kept_bytes(model, amp, 16) - kept_bytes(model, amp, 8)) / 8
    assert activation_bytes(model, amp) == pytest.approx(counted, rel=0.1)


def on_gpus(actors_part: float | None, learner_part: float, **sections: dict[str, Any]) -> Config:
    values: dict[str, dict[str, Any]] = {
        "self_play": {"device": "cuda", "num_gpus": actors_part},
        "learner": {"device": "cuda", "num_gpus": learner_part, "amp": "bf16"},
        "schedule": {"rollouts_per_update": 2},
    }
    for section, changes in sections.items():
        values[section] |= changes
    return Config.model_validate(values)


@pytest.mark.parametrize(
    ("actors_part", "learner_part", "num_actors", "learners", "actors"),
    [
        (0.125, 0.5, 4, 1, 4),  # One GPU: all of them.
        (0.125, 0.5, 5, 1, 4),  # Two: one actor is on the other.
        (0.125, 0.5, 8, 0, 8),  # Eight actors on the other hold more.
        (1 / 3, 1.0, 1, 1, 0),  # The learner has one of its own.
        (1 / 3, 1.0, 9, 0, 3),  # Three actors on each of the others hold more.
    ],
)
def test_the_fullest_gpu_holds_the_learner_and_the_actors_that_share_it(
    actors_part: float, learner_part: float, num_actors: int, learners: int, actors: int
) -> None:
    config = on_gpus(actors_part, learner_part)
    learner, actor = learner_gpu_bytes(config, num_actors), actor_gpu_bytes(config)
    assert gpu_bytes(config, num_actors) == learners * learner + actors * actor


def test_on_a_gpu_activations_take_no_memory_of_the_machine_and_processes_more() -> None:
    few, many = (on_gpus(0.1, 0.5, learner={"num_minibatches": n}) for n in (1, 8))
    assert estimate_memory_bytes(few, 3) == estimate_memory_bytes(many, 3)
    on_cpus = on_gpus(None, 0.5, self_play={"device": "cpu"})
    growth = estimate_memory_bytes(many, 3) - estimate_memory_bytes(on_cpus, 3)
    assert growth == 3 * (CUDA_PROCESS_BYTES - ACTOR_PROCESS_BYTES)


def test_a_run_on_cpus_needs_no_gpu() -> None:
    config = Config.model_validate({"self_play": {"device": "cpu"}, "learner": {"device": "cpu"}})
    assert gpu_bytes(config, 8) == 0


def test_the_learner_keeps_as_many_copies_as_are_counted() -> None:
    """The figures of a minibatch are read so many minibatches late, see `Learner`."""
    assert READ_DELAYS["cuda"] + 2 == STEP_COPIES
    few, many = (on_gpus(0.1, 0.5, learner={"target_kl": kl}) for kl in (None, 0.1))
    growth = learner_gpu_bytes(many, 2) - learner_gpu_bytes(few, 2)
    assert growth == STEP_COPIES * 3 * 4 * max_parameters(few.model)
    assert learner_gpu_bytes(few, 2) > (
        CONTEXT_BYTES + 4 * DEVICE_FLOATS_PER_PARAMETER * max_parameters(few.model)
    )


def test_copies_that_a_step_of_muon_makes_are_counted_on_both_devices() -> None:
    for device in ("cpu", "cuda"):
        adamw, muon = (
            Config.model_validate({"learner": {"device": device, "optimizer": name}})
            for name in ("adamw", "muon")
        )
        count = learner_gpu_bytes if device == "cuda" else estimate_memory_bytes
        growth = count(muon, 2) - count(adamw, 2)
        assert growth == MUON_FLOATS_PER_PARAMETER * 4 * max_parameters(adamw.model)


def test_several_learners_share_the_rows_and_each_has_a_message_of_the_gradient() -> None:
    one, two = (on_gpus(None, 1.0, learner={"num_learners": n}) for n in (1, 2))
    rows, message = one.timesteps_per_update, 4 * max_parameters(one.model)
    per_row = RAW_BYTES_PER_TIMESTEP + activation_bytes(one.model, "bf16") / 16
    assert learner_gpu_bytes(one, 2) - learner_gpu_bytes(two, 2) == rows / 2 * per_row - message


@pytest.mark.parametrize(("shape", "measured_mib"), [((10, 128), 718), ((20, 256), 1428)])
def test_an_actors_estimate_is_near_what_was_measured(
    shape: tuple[int, int], measured_mib: int
) -> None:
    """One H200, 512 games: `benchmarks/results/gpu-h200-bench.txt`. Without the CUDA context."""
    model = {"depth": shape[0], "width": shape[1]}
    play = {"device": "cuda", "amp": "bf16", "games_per_actor": 512}
    config = Config.model_validate({"model": model, "self_play": play})
    estimate = (actor_gpu_bytes(config) - CONTEXT_BYTES) / 2**20
    assert estimate == pytest.approx(measured_mib, rel=0.25)


def test_the_learners_estimate_is_near_what_was_measured() -> None:
    """The same run: 10x128, updates of 32 minibatches of 2,048 rows, no KL stop."""
    settings: dict[str, dict[str, Any]] = {
        "model": {"depth": 10, "width": 128},
        "self_play": {"games_per_actor": 512, "rollout_length": 64},
        "learner": {"device": "cuda", "amp": "bf16", "num_minibatches": 32, "target_kl": None},
        "schedule": {"rollouts_per_update": 2},
    }
    config = Config.model_validate(settings)
    estimate = (learner_gpu_bytes(config, 1) - CONTEXT_BYTES) / 2**20
    assert estimate == pytest.approx(1712, rel=0.25)
