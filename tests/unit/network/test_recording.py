"""Recorded networks against the networks themselves."""

import gc
import logging
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import ref

import pytest
import torch
from torch import nn

from keisei_ray.config.sections import ModelConfig
from keisei_ray.network import recording
from keisei_ray.network.model import Amp, PolicyValueNet, build_model
from keisei_ray.network.recording import MAX_RECORDINGS, evaluate
from tests.helpers.networks import SMALL_NETWORKS
from tests.helpers.rollouts import random_rollout

AMPS: tuple[Amp, ...] = ("off", "bf16")


def positions(rows: int) -> list[torch.Tensor]:
    rollout = random_rollout(rows, 1, seed=rows)
    fields = (rollout.boards, rollout.hands, rollout.scalars)
    return [torch.from_numpy(field[:, 0].copy()) for field in fields]


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Networks that are recorded in a test, in which there are no recordings yet."""
    monkeypatch.setattr(recording, "_FREE", defaultdict(list))
    monkeypatch.setattr(recording, "_MADE", defaultdict(int))
    networks: list[Any] = []
    recorded = recording.recorded

    def counted(module: nn.Module, *example: torch.Tensor) -> nn.Module:
        networks.append(module)
        return recorded(module, *example)

    monkeypatch.setattr(recording, "recorded", counted)
    return networks


def new_model(
    seed: int = 1, config: ModelConfig = SMALL_NETWORKS[0], amp: Amp = "off"
) -> PolicyValueNet:
    return build_model(config, seed=seed, amp=amp).eval()


def same_as_itself(model: PolicyValueNet, rows: int) -> bool:
    found = evaluate(model, *positions(rows))
    with torch.inference_mode():
        expected = model(*positions(rows))
    assert found[0].shape == (rows, 1496)
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("amp", ["off", "bf16"])
@pytest.mark.parametrize("config", SMALL_NETWORKS, ids=str)
def test_a_recording_has_the_bits_of_the_network_for_any_rows(
    config: ModelConfig, amp: Amp, made: list[Any]
) -> None:
    model = new_model(config=config, amp=amp)
    assert all(same_as_itself(model, rows) for rows in (1, 2, 7, 40))
    assert len(made) == 1
    calls: list[Any] = []
    model.register_forward_pre_hook(lambda _, args: calls.append(args))
    evaluate(model, *positions(2))
    assert not calls, "the network itself has computed"


def test_a_recording_has_the_weights_that_are_written_into_the_network() -> None:
    model, other = new_model(1), new_model(2)
    before = evaluate(model, *positions(5))
    model.load_state_dict(other.state_dict())
    assert not torch.equal(evaluate(model, *positions(5))[0], before[0])
    assert same_as_itself(model, 5)
    assert torch.equal(evaluate(model, *positions(5))[0], evaluate(other, *positions(5))[0])


def test_many_networks_in_turn_have_few_recordings_and_their_own_weights(made: list[Any]) -> None:
    models = [new_model(seed) for seed in range(MAX_RECORDINGS + 2)]
    for _ in range(3):
        assert all(same_as_itself(model, 3) for model in models)
    assert len(made) == MAX_RECORDINGS


def test_networks_of_other_architectures_and_precisions_have_their_own(made: list[Any]) -> None:
    models = [new_model(config=config, amp=amp) for config in SMALL_NETWORKS for amp in AMPS]
    for _ in range(2):
        assert all(same_as_itself(model, 3) for model in models)
    assert len(made) == len(models)


def test_recordings_of_one_precision_are_not_lent_to_networks_of_another() -> None:
    models = [new_model(seed, amp=amp) for amp in AMPS for seed in range(MAX_RECORDINGS)]
    for _ in range(2):
        assert all(same_as_itself(model, 3) for model in models)


def test_a_network_that_is_gone_leaves_its_recording_to_the_next(made: list[Any]) -> None:
    for seed in range(5):
        model = new_model(seed)
        assert same_as_itself(model, 3)
        reference = ref(model)
        del model
        gc.collect()
        assert reference() is None
    assert len(made) == 1


def test_a_network_stays_fit_for_training() -> None:
    model = new_model()
    evaluate(model, *positions(3))
    logits, outcomes = model(*positions(3))
    torch.autograd.backward(logits.logsumexp(0).sum() + outcomes.square().sum())
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_networks_are_evaluated_by_many_threads_at_once(made: list[Any]) -> None:
    models = [new_model(seed) for seed in range(6)]
    expected = [evaluate(model, *positions(9)) for model in models]

    def is_right(index: int) -> bool:
        found = evaluate(models[index], *positions(9))
        return all(torch.equal(a, b) for a, b in zip(found, expected[index], strict=True))

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(is_right, list(range(6)) * 30))
    assert len(made) <= 6


def test_a_network_that_torch_cannot_record_is_used_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*args: Any, **named: Any) -> None:
        raise RuntimeError("no more tracing\nat all")

    monkeypatch.setattr(torch.jit, "trace", fails)
    model = new_model()
    with caplog.at_level(logging.WARNING):
        assert same_as_itself(model, 3)
        assert same_as_itself(model, 4)
    assert caplog.messages == [
        "torch cannot record the network, so its passes are slower: no more tracing"
    ]
