"""Recorded networks against the networks themselves."""

import gc
import logging
import weakref
from typing import Any

import pytest
import torch

from keisei_ray.config.sections import ModelConfig
from keisei_ray.network import recording
from keisei_ray.network.model import Amp, PolicyValueNet, build_model
from keisei_ray.network.recording import evaluate, record_forward
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
    ModelConfig(depth=1, width=16, value_hidden=8, attackers=True, origins=False),
]


def positions(rows: int) -> list[torch.Tensor]:
    rollout = random_rollout(rows, 1, seed=rows)
    fields = (rollout.boards, rollout.hands, rollout.scalars)
    return [torch.from_numpy(field[:, 0].copy()) for field in fields]


def is_recorded(model: PolicyValueNet) -> bool:
    """Whether `evaluate` calls no hooks of the network, that is, does not call the network."""
    calls: list[Any] = []
    handle = model.register_forward_pre_hook(lambda _, args: calls.append(args))
    evaluate(model, *positions(2))
    handle.remove()
    return not calls


def same_as_itself(model: PolicyValueNet, rows: int) -> bool:
    found = evaluate(model, *positions(rows))
    with torch.inference_mode():
        expected = model(*positions(rows))
    assert found[0].shape == (rows, 1496)
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("amp", ["off", "bf16"])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_recorded_network_has_its_own_bits_for_any_rows(config: ModelConfig, amp: Amp) -> None:
    model = build_model(config, seed=1, amp=amp).eval()
    assert not is_recorded(model)
    record_forward(model)
    assert is_recorded(model)
    assert all(same_as_itself(model, rows) for rows in (1, 2, 7, 40))


def test_a_recorded_network_has_the_weights_that_are_written_into_it() -> None:
    model, other = (build_model(CONFIGS[0], seed=seed).eval() for seed in (1, 2))
    record_forward(model)
    before = evaluate(model, *positions(5))
    model.load_state_dict(other.state_dict())
    assert not torch.equal(evaluate(model, *positions(5))[0], before[0])
    assert same_as_itself(model, 5)
    assert torch.equal(evaluate(model, *positions(5))[0], evaluate(other, *positions(5))[0])


def test_a_network_is_recorded_once_and_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    recorded = recording.recorded

    def counted(module: Any, *example: Any) -> Any:
        made.append(1)
        return recorded(module, *example)

    monkeypatch.setattr(recording, "recorded", counted)
    model = build_model(CONFIGS[0], seed=1).eval()
    record_forward(model)
    record_forward(model)
    assert len(made) == 1
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


def test_a_network_on_another_device_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "recorded", None)
    record_forward(build_model(CONFIGS[0], seed=1).to("meta"))


def test_a_network_that_torch_cannot_record_is_used_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*args: Any, **named: Any) -> None:
        raise RuntimeError("no more tracing\nat all")

    monkeypatch.setattr(torch.jit, "trace", fails)
    model = build_model(CONFIGS[0], seed=1).eval()
    with caplog.at_level(logging.WARNING):
        record_forward(model)
        record_forward(model)
    assert caplog.messages == [
        "torch cannot record the network, so its passes are slower: no more tracing"
    ]
    assert not is_recorded(model)
    assert same_as_itself(model, 3)
