"""Weights, gradients and the optimizer's state in flat tensors, with and without gaps."""

import copy
from typing import Any

import pytest
import torch

from keisei_ray.learning.flat_layout import FlatLayout
from keisei_ray.learning.learner_state import (
    copied_state,
    read_learner_state,
    write_learner_state,
)
from keisei_ray.learning.update_guard import NotFiniteError, check_finite
from keisei_ray.network.host_copy import copied, together
from keisei_ray.network.model import PolicyValueNet, build_model
from tests.helpers.tiny import tiny_config

CPU = torch.device("cpu")
ALIGNMENTS = pytest.mark.parametrize("alignment", [1, 64])


def model(**changes: object) -> PolicyValueNet:
    return build_model(tiny_config(model=changes).model, seed=0)


def inputs() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    parts = ((29, 81), (2, 14), (4, 3))
    return tuple(
        torch.randint(most, (5, n), dtype=torch.uint8, generator=generator) for most, n in parts
    )


def backward(network: PolicyValueNet) -> None:
    logits, outcomes = network(*inputs())
    (logits.square().mean() + outcomes.square().mean()).backward()


def flattened(
    network: PolicyValueNet, alignment: int
) -> tuple[FlatLayout, torch.nn.Parameter, torch.optim.AdamW]:
    """Makes a network's weights and gradients flat, with an optimizer of its own."""
    layout = FlatLayout.of(network, alignment=alignment)
    weights = layout.flatten_weights(network)
    weights.grad = layout.flatten_gradients(network)
    return layout, weights, torch.optim.AdamW([weights], lr=0.01, weight_decay=0.1, fused=True)


@ALIGNMENTS
def test_each_parameter_has_a_place_of_its_own(alignment: int) -> None:
    network = model()
    layout = FlatLayout.of(network, alignment=alignment)
    named = dict(network.named_parameters())
    end = 0
    for place in layout.places:
        assert end <= place.start
        assert place.start % alignment == 0
        assert (place.shape, place.stride) == (named[place.name].shape, named[place.name].stride())
        end = place.start + named[place.name].numel()
    assert end <= layout.size
    assert {place.name for place in layout.places} == named.keys()
    if alignment == 1:
        assert layout.size == sum(p.numel() for p in named.values())


def test_a_parameter_that_is_not_trained_has_no_place() -> None:
    network = model(material_prior=0.0)
    assert "material_weight" not in {place.name for place in FlatLayout.of(network).places}


@ALIGNMENTS
def test_a_step_with_flat_weights_is_that_of_single_parameters(alignment: int) -> None:
    network = model()
    other = copy.deepcopy(network)
    before = [logits.clone() for logits in network(*inputs())]
    layout, weights, optimizer = flattened(network, alignment)
    for expected, found in zip(before, network(*inputs()), strict=True):
        assert torch.equal(expected, found)
    single = torch.optim.AdamW(other.parameters(), lr=0.01, weight_decay=0.1, fused=True)
    for _ in range(5):
        assert weights.grad is not None
        weights.grad.zero_()
        single.zero_grad()
        for each in (network, other):
            backward(each)
        optimizer.step()
        single.step()
    for (name, found), expected in zip(network.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6, msg=name)
    assert not torch.equal(before[0], network(*inputs())[0])
    # The gaps stay zero, so that norms over flat tensors are those of the parameters.
    numbers = sum(int((view != 0).sum()) for view in layout.views(weights.detach()))
    assert int((weights != 0).sum()) == numbers


@ALIGNMENTS
@pytest.mark.parametrize("copy_all", [copied, together])
def test_a_state_is_read_into_another_layout_as_it_was_written(
    alignment: int, copy_all: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run goes on from a checkpoint on another device; from CUDA all is copied at once."""
    monkeypatch.setattr("keisei_ray.learning.learner_state.copied", copy_all)
    network = model()
    layout, _, optimizer = flattened(network, alignment)
    backward(network)
    optimizer.step()
    generator = torch.Generator()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    content = write_learner_state(copied_state(1, optimizer, layout, scaler, generator, None, 1e-4))
    for there in (1, 16):
        other, _, others = flattened(model(), there)
        found: Any = read_learner_state(content, others, other, generator, CPU).optimizer
        others.load_state_dict(found)
        [own], [read] = optimizer.state.values(), others.state.values()
        assert torch.equal(read["step"], own["step"])
        for name in ("exp_avg", "exp_avg_sq"):
            pairs = zip(layout.views(own[name]), other.views(read[name]), strict=True)
            assert all(torch.equal(expected, part) for expected, part in pairs)


@ALIGNMENTS
@pytest.mark.parametrize("what", ["weight", "untrained weight", "exp_avg", "exp_avg_sq"])
def test_a_number_that_is_not_finite_is_found_and_named(what: str, alignment: int) -> None:
    network = model(material_prior=0.0)
    layout, weights, optimizer = flattened(network, alignment)
    backward(network)
    optimizer.step()
    check_finite(network, optimizer, layout)
    state = optimizer.state[weights]
    names = [place.name for place in layout.places]
    index = names.index("policy_head.bias")
    with torch.no_grad():
        if what == "weight":
            network.policy_head.bias[3] = torch.nan  # type: ignore[index]
            expected = "the weight policy_head.bias is not finite"
        elif what == "untrained weight":
            network.material_weight.fill_(torch.inf)
            expected = "the weight material_weight is not finite"
        else:
            layout.views(state[what])[index][3] = -torch.inf
            expected = f"the optimizer's {what} of policy_head.bias is not finite"
    with pytest.raises(NotFiniteError, match=expected):
        check_finite(network, optimizer, layout)
