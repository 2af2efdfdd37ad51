"""A larger network that begins as a smaller one."""

from typing import Any

import numpy as np
import pytest
import torch

from keisei_ray.config.sections import ModelConfig
from keisei_ray.errors import CheckpointError
from keisei_ray.network.growing import check_growth, grown
from keisei_ray.network.model import PolicyValueNet, build_model
from keisei_ray.network.weights import load_arrays, state_arrays

SMALL: dict[str, Any] = {"depth": 2, "width": 12, "value_hidden": 6}


def trained(config: ModelConfig) -> PolicyValueNet:
    """A network none of whose weights is zero, as after training."""
    model = build_model(config, seed=1).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.manual_seed(3)))
    return model


def rows() -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(0)
    boards = rng.integers(0, 29, (16, 81)).astype(np.uint8)
    hands = rng.integers(0, 3, (16, 14)).astype(np.uint8)
    scalars = rng.integers(0, 3, (16, 3)).astype(np.uint8)
    return tuple(map(torch.from_numpy, (boards, hands, scalars)))


@pytest.mark.parametrize(
    "larger",
    [
        {},
        {"depth": 5},
        {"width": 20},
        {"value_hidden": 16},
        {"depth": 3, "width": 40, "value_hidden": 8},
        {"width": 16, "attackers": True, "origins": True},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"squeeze_excitation": True, "attackers": False, "origins": False},
        {"value_head": "scalar"},
    ],
    ids=str,
)
def test_a_larger_network_has_the_same_outputs(
    larger: dict[str, Any], kind: dict[str, Any]
) -> None:
    old, new = ModelConfig(**SMALL | kind), ModelConfig(**SMALL | kind | larger)
    check_growth(old, new)
    small, model = trained(old), build_model(new, seed=7).eval()
    load_arrays(model, grown(state_arrays(small), state_arrays(model)))
    with torch.no_grad():
        for before, after in zip(small(*rows()), model(*rows()), strict=True):
            torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
            assert before.std() > 0.01


def test_everything_that_was_added_gets_gradients_after_a_step() -> None:
    plain = SMALL | {"attackers": False, "origins": False}
    old, new = ModelConfig(**plain), ModelConfig(**SMALL | {"depth": 3, "width": 20})
    small, model = trained(old), build_model(new, seed=7)
    load_arrays(model, grown(state_arrays(small), state_arrays(model)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        logits, outcomes = model(*rows())
        torch.autograd.backward(logits.square().mean() + outcomes.square().mean())
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert bool((parameter.grad != 0).any()), name
    added = model.get_parameter("blocks.0.first.weight").grad
    assert added is not None
    assert bool((added[:12, 12:] != 0).any())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": 1}, "model.depth = 2, this run has 1"),
        ({"width": 8}, "model.width = 12, this run has 8"),
        ({"attackers": False}, "model.attackers = True, this run has False"),
        ({"origins": False}, "model.origins = True, this run has False"),
        ({"value_head": "scalar"}, "model.value_head = wdl, this run has scalar"),
        ({"activation": "silu", "depth": 3}, "model.activation = relu, this run has silu"),
        ({"material_prior": 0.0}, "model.material_prior"),
    ],
)
def test_a_network_that_cannot_compute_the_same_is_refused(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(CheckpointError) as error:
        check_growth(ModelConfig(**SMALL), ModelConfig(**SMALL | changes))
    assert words in str(error.value)


def test_a_new_block_behind_silu_would_change_the_outputs() -> None:
    silu: dict[str, Any] = SMALL | {"activation": "silu"}
    check_growth(ModelConfig(**silu), ModelConfig(**silu | {"width": 16}))
    with pytest.raises(CheckpointError, match="only behind relu"):
        check_growth(ModelConfig(**silu), ModelConfig(**silu | {"depth": 3}))
