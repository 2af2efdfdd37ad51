"""Memory estimates, compared with the real records and networks."""

import numpy as np
import pytest

from keisei_ray.config.memory import RAW_BYTES_PER_TIMESTEP, estimate_memory_bytes, max_parameters
from keisei_ray.config.schema import Config
from keisei_ray.config.sections import ModelConfig
from keisei_ray.network.model import build_model
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
    on = Config.model_validate({"evaluation": {"interval_timesteps": 1000}})
    off = Config()
    growth = estimate_memory_bytes(on, 2) - estimate_memory_bytes(off, 2)
    assert growth == 190 * 2**20 + 8 * max_parameters(on.model)
