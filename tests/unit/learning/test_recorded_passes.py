"""Recorded passes against those of the network itself."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from keisei_ray.config.sections import ModelConfig
from keisei_ray.learning.ppo import LossCoefs
from keisei_ray.learning.recorded_passes import Passes, plain_passes, recorded_passes
from keisei_ray.network.model import Amp, PolicyValueNet, build_model
from tests.helpers.networks import SMALL_NETWORKS
from tests.helpers.rollouts import random_rollout

COEFS = LossCoefs(
    clip_coef=0.25, max_importance_weight=1.5, mate_coef=0.5, vf_coef=0.75, ent_coef=0.125
)
"""Exact in float32: a recording has them as tensors."""


def fields_of(rows: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random positions whose moves were likely or not, some of them forced mates."""
    rollout = random_rollout(rows, 1, seed=seed)
    copied = ("boards", "hands", "scalars", "legal_bits", "actions")
    rng = np.random.default_rng(seed)
    arrays = {name: getattr(rollout, name)[:, 0] for name in copied} | {
        "behavior_log_probs": rng.uniform(-4, -2, rows).astype(np.float32),
        "proximal_log_probs": rng.uniform(-4, -2, rows).astype(np.float32),
        "is_forced": rng.random(rows) < 0.2,
        "advantages": rng.normal(size=rows).astype(np.float32),
        "value_targets": rng.uniform(-0.8, 0.8, rows).astype(np.float32),
        "draw_targets": rng.uniform(0, 0.2, rows).astype(np.float32),
    }
    return {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}


def passed(passes: Passes, model: PolicyValueNet, fields: Any, rows: Any) -> list[torch.Tensor]:
    """Outputs, sums and gradients of a pass."""
    model.zero_grad(set_to_none=True)
    sums = passes.sums(fields, rows, COEFS, None)
    torch.autograd.backward(sums.loss)
    assert not any(each.requires_grad for each in sums[1:])
    with torch.no_grad():
        policy, outcomes = passes.outputs(fields, rows)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return [sums.loss.detach(), *sums[1:], *policy, outcomes, *gradients]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    assert len(left) == len(right) > 20
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("amp", ["off", "bf16"])
@pytest.mark.parametrize("config", SMALL_NETWORKS, ids=str)
def test_a_recording_has_the_bits_of_the_network_for_any_rows(
    config: ModelConfig, amp: Amp
) -> None:
    model = build_model(config, seed=1, amp=amp)
    recording = recorded_passes(model)
    assert recording.sums is not plain_passes(model).sums
    for number in (1, 7, 40):
        fields = fields_of(50, seed=number)
        rows = torch.randperm(50, generator=torch.Generator().manual_seed(number))[:number]
        found = passed(recording, model, fields, rows)
        assert same(found, passed(plain_passes(model), model, fields, rows))


def test_a_recording_has_the_weights_that_are_written_into_the_network() -> None:
    model = build_model(SMALL_NETWORKS[0], seed=1)
    recording = recorded_passes(model)
    fields, rows = fields_of(9), torch.arange(9)
    before = passed(recording, model, fields, rows)
    with torch.no_grad():
        for parameter, other in zip(
            model.parameters(), build_model(SMALL_NETWORKS[0], seed=2).parameters(), strict=True
        ):
            parameter.copy_(other)
    after = passed(recording, model, fields, rows)
    assert not same(before, after)
    assert same(after, passed(plain_passes(model), model, fields, rows))


def test_a_recording_has_the_coefficients_of_each_call() -> None:
    model = build_model(SMALL_NETWORKS[0], seed=1)
    fields, rows = fields_of(30), torch.arange(30)
    recording, plain = recorded_passes(model), plain_passes(model)
    for name in LossCoefs._fields:
        coefs = COEFS._replace(**{name: getattr(COEFS, name) / 2})
        found = recording.sums(fields, rows, coefs, None)
        assert torch.equal(torch.stack(found), torch.stack(plain.sums(fields, rows, coefs, None)))
        assert found.loss != recording.sums(fields, rows, COEFS, None).loss


def test_recordings_of_two_threads_do_not_disturb_each_other() -> None:
    models = [build_model(SMALL_NETWORKS[0], seed=seed) for seed in (1, 2)]
    recordings = [recorded_passes(model) for model in models]
    inputs = [(fields_of(rows), torch.arange(rows)) for rows in (11, 12, 13, 14)]

    def all_passed(index: int) -> list[list[torch.Tensor]]:
        return [passed(recordings[index], models[index], *one) for one in inputs]

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(all_passed, (0, 1)))
    for index, model in enumerate(models):
        for one, own in zip(inputs, found[index], strict=True):
            assert same(own, passed(plain_passes(model), model, *one))


def test_a_network_that_torch_cannot_record_is_used_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*args: Any, **named: Any) -> None:
        raise RuntimeError("no more tracing")

    monkeypatch.setattr(torch.jit, "trace", fails)
    model = build_model(SMALL_NETWORKS[0], seed=1)
    fields, rows = fields_of(9), torch.arange(9)
    with caplog.at_level(logging.WARNING):
        passes = recorded_passes(model)
    assert same(
        passed(passes, model, fields, rows), passed(plain_passes(model), model, fields, rows)
    )
    assert "cannot record the network" in caplog.text
    assert "no more tracing" in caplog.text
