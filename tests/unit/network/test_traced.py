"""A recorded forward pass against the network itself."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from keisei_ray.config.sections import ModelConfig
from keisei_ray.network.listed_moves import ListedMoves, list_moves
from keisei_ray.network.model import Amp, PolicyValueNet, build_model
from keisei_ray.network.traced import traced
from tests.helpers.rollouts import random_rollout

CONFIGS = [
    ModelConfig(depth=2, width=16, value_hidden=8),
    ModelConfig(
        depth=1,
        width=16,
        value_hidden=8,
        activation="silu",
        squeeze_excitation=True,
        value_head="scalar",
    ),
    ModelConfig(depth=1, width=16, value_hidden=8, attackers=False, origins=False),
    ModelConfig(depth=1, width=16, value_hidden=8, attackers=False, origins=True),
]
Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor, ListedMoves]


def inputs_of(rows: int, seed: int = 0) -> Inputs:
    """Random positions and their legal moves."""
    rollout = random_rollout(rows, 1, seed=seed)
    boards, hands, scalars, legal_bits = (
        torch.from_numpy(np.ascontiguousarray(part[:, 0]))
        for part in (rollout.boards, rollout.hands, rollout.scalars, rollout.legal_bits)
    )
    return boards, hands, scalars, list_moves(legal_bits)


def passed(forward: Any, model: PolicyValueNet, inputs: Inputs) -> list[torch.Tensor]:
    """Outputs and gradients of a pass."""
    model.zero_grad(set_to_none=True)
    logits, outcomes = forward(*inputs)
    torch.autograd.backward(logits.square().sum() + outcomes.square().sum())
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return [logits.detach(), outcomes.detach(), *gradients]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    assert len(left) == len(right) > 6
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("amp", ["off", "bf16"])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_recording_has_the_bits_of_the_network_for_any_number_of_rows(
    config: ModelConfig, amp: Amp
) -> None:
    model = build_model(config, seed=1, amp=amp)
    recording = traced(model)
    assert recording is not model
    for rows in (1, 7, 40):
        for seed in (1, 2):
            inputs = inputs_of(rows, seed)
            assert same(passed(recording, model, inputs), passed(model, model, inputs))


def test_a_recording_has_the_weights_that_are_written_into_the_network() -> None:
    model = build_model(CONFIGS[0], seed=1)
    recording = traced(model)
    inputs = inputs_of(9)
    before = passed(recording, model, inputs)
    with torch.no_grad():
        for parameter, other in zip(
            model.parameters(), build_model(CONFIGS[0], seed=2).parameters(), strict=True
        ):
            parameter.copy_(other)
    after = passed(recording, model, inputs)
    assert not same(before, after)
    assert same(after, passed(model, model, inputs))


def test_recordings_of_two_threads_do_not_disturb_each_other() -> None:
    models = [build_model(CONFIGS[0], seed=seed) for seed in (1, 2)]
    recordings = [traced(model) for model in models]
    inputs = [inputs_of(rows) for rows in (11, 12, 13, 14)]

    def all_passed(index: int) -> list[list[torch.Tensor]]:
        return [passed(recordings[index], models[index], one) for one in inputs]

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(all_passed, (0, 1)))
    for index, model in enumerate(models):
        for one, own in zip(inputs, found[index], strict=True):
            assert same(own, passed(model, model, one))


def test_a_network_that_torch_cannot_record_is_used_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*args: Any, **named: Any) -> None:
        raise RuntimeError("no more tracing")

    monkeypatch.setattr(torch.jit, "trace", fails)
    model = build_model(CONFIGS[0], seed=1)
    with caplog.at_level(logging.WARNING):
        assert traced(model) is model
    assert "cannot record the network" in caplog.text
    assert "no more tracing" in caplog.text
