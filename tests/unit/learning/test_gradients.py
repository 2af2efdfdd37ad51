"""Replicas on threads against plain autograd over the whole minibatch."""

import time
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from keisei_ray.config.sections import ModelConfig
from keisei_ray.learning import gradients as gradients_module
from keisei_ray.learning import minibatch_sums
from keisei_ray.learning.gradients import ParallelGradients
from keisei_ray.learning.minibatch_sums import outputs_of
from keisei_ray.learning.ppo import LossCoefs, PPOSums, masked_policy, ppo_sums
from keisei_ray.learning.recorded_passes import recorded_passes
from keisei_ray.learning.update_batch import UpdateBatch
from keisei_ray.network.model import (
    Amp,
    PolicyValueNet,
    build_model,
    legal_mask,
    masked_log_probs,
)
from tests.helpers.rollouts import random_rollout
from tests.helpers.tiny import tiny_config

T, N = 10, 10
COEFS = LossCoefs(
    clip_coef=0.2, max_importance_weight=1.5, mate_coef=0.7, vf_coef=0.5, ent_coef=0.01
)
ROWS = torch.randperm(T * N, generator=torch.Generator().manual_seed(0))[:71]
# With a greater prior the values of random boards are all but certain, and their gradient is small.
ONE_PROCESS = pytest.mark.xdist_group("torch.compile")
"""The first compilation in a process takes seconds."""
MODEL = tiny_config().model.model_copy(update={"material_prior": 0.05})


def fields() -> dict[str, torch.Tensor]:
    batch = UpdateBatch(T * N, torch.device("cpu"))
    rollout = random_rollout(T, N, seed=1)
    rollout.behavior_log_probs[:] = np.log(0.02)  # About 60 moves are legal: some ratios clip.
    batch.fill([rollout], gamma=0.99, gae_lambda=0.9)
    batch.normalize_advantages()
    fields = dict(batch.on_device())
    rng = torch.Generator().manual_seed(2)
    lag = 0.5 * torch.randn(T * N, generator=rng)  # Some importance weights are cut.
    fields["proximal_log_probs"] = fields["behavior_log_probs"] + lag
    fields["is_forced"] = torch.rand(T * N, generator=rng) < 0.1
    return fields


def model(config: ModelConfig = MODEL, amp: Amp = "off") -> PolicyValueNet:
    """Weights large enough that every parameter gets a gradient far from zero."""
    network = build_model(config, seed=0, amp=amp)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


def parallel(
    network: PolicyValueNet, num_threads: int, micro_batch: int | None
) -> ParallelGradients:
    return ParallelGradients(network, num_threads=num_threads, micro_batch=micro_batch)


def plain(
    network: PolicyValueNet, rows: torch.Tensor = ROWS, coefs: LossCoefs[float] = COEFS
) -> tuple[torch.Tensor, PPOSums[torch.Tensor]]:
    """Flat gradient of the mean loss over all rows at once."""
    f = {name: tensor[rows] for name, tensor in fields().items()}
    logits, outcomes = network(f["boards"], f["hands"], f["scalars"])
    sums = ppo_sums(
        masked_policy(masked_log_probs(logits, legal_mask(f["legal_bits"])), f["actions"].long()),
        outcomes,
        f["behavior_log_probs"],
        f["proximal_log_probs"],
        f["is_forced"],
        f["advantages"],
        f["value_targets"],
        f["draw_targets"],
        coefs,
    )
    trained = [p for p in network.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(sums.loss / len(rows), trained)
    sums = sums._replace(loss=sums.loss.detach())
    return torch.cat([g.contiguous().reshape(-1) for g in gradients]), sums


@pytest.mark.parametrize(("num_threads", "expected"), [(1, 0), (3, 3)])
def test_recordings_are_made_for_threads_that_compute_at_once(
    num_threads: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording calls no hooks of the network, so none of them sees its passes."""
    passes: list[int] = []
    made: list[PolicyValueNet] = []

    def counted(network: PolicyValueNet) -> Any:
        made.append(network)
        return recorded_passes(network)

    monkeypatch.setattr(gradients_module, "recorded_passes", counted)
    network = model()
    gradients = parallel(network, num_threads, None)
    network.register_forward_pre_hook(lambda _, args: passes.append(len(args[0])))
    gradients.compute(fields(), ROWS, loss_scale=None, coefs=COEFS)
    assert len(made) == expected
    assert passes == ([] if expected else [len(ROWS)])


def test_an_error_is_raised_when_all_threads_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise one would go on with weights that are being restored."""
    gradients = parallel(model(), 2, None)
    ended: list[int] = []

    def process(fields: Any, index: int, piece: Any, **named: Any) -> Any:
        if index == 0:
            raise RuntimeError("the first one")
        time.sleep(0.2)
        ended.append(index)

    monkeypatch.setattr(gradients, "_process_piece", process)
    with pytest.raises(RuntimeError, match="the first one"):
        gradients.compute(fields(), ROWS, loss_scale=None, coefs=COEFS)
    assert ended == [1]


@pytest.mark.parametrize("num_threads", [1, 2])
def test_no_rows_have_no_log_probabilities(num_threads: int) -> None:
    """A learner among several may have none of the rows asked for."""
    found = parallel(model(), num_threads, None).log_probs(fields(), ROWS[:0])
    assert found.shape == (0,)


def test_the_policy_of_the_legal_moves_is_that_of_all_labels_under_the_mask() -> None:
    network, rows = model(), fields()
    with torch.no_grad():
        policy, outcomes = outputs_of(network, rows, ROWS)
        logits, expected = network(*(rows[name][ROWS] for name in ("boards", "hands", "scalars")))
    log_probs = masked_log_probs(logits, legal_mask(rows["legal_bits"][ROWS]))
    among_all = masked_policy(log_probs, rows["actions"][ROWS].long())
    torch.testing.assert_close(policy, among_all)
    assert torch.equal(outcomes, expected)
    assert policy.log_probs.std() > 0.1
    assert policy.entropies.std() > 0.1


def each_gradient(network: PolicyValueNet) -> list[torch.Tensor]:
    """Gradient of each trained parameter, none of which may be missing."""
    gradients = []
    for parameter in network.parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None
            gradients.append(parameter.grad)
    return gradients


def by_parameter(network: PolicyValueNet) -> torch.Tensor:
    """The gradients in row-major order, whatever their strides."""
    return torch.cat([g.contiguous().reshape(-1) for g in each_gradient(network)])


@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("micro_batch", [None, 7, 1000])
@pytest.mark.parametrize(
    "config",
    [
        MODEL,
        MODEL.model_copy(update={"activation": "silu", "squeeze_excitation": True}),
        MODEL.model_copy(update={"value_head": "scalar", "attackers": False}),
    ],
    ids=["relu", "silu-se", "scalar-plain"],
)
def test_pieces_and_micro_batches_add_up_to_the_whole_minibatch(
    num_threads: int, micro_batch: int, config: ModelConfig
) -> None:
    expected, expected_sums = plain(model(config))
    network = model(config)
    sums = parallel(network, num_threads, micro_batch).compute(
        fields(), ROWS, loss_scale=None, coefs=COEFS
    )
    gradient = by_parameter(network)
    assert gradient.shape == expected.shape
    assert expected.abs().max() > 0.05
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
    for name, total in sums._asdict().items():
        assert not total.requires_grad
        assert float(total) == pytest.approx(float(getattr(expected_sums, name)), rel=1e-4), name


@ONE_PROCESS
@pytest.mark.parametrize("is_compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("micro_batch", [None, 50])
def test_rows_that_fill_up_a_pass_count_for_nothing(
    micro_batch: int | None, is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on CUDA; compiled too, for any number of rows, by a backend that makes no kernels."""
    compiler = partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", compiler)
    monkeypatch.setattr(minibatch_sums, "can_list", lambda positions: False)
    expected, expected_sums = plain(model())
    network = model()
    gradients = ParallelGradients(
        network, num_threads=1, micro_batch=micro_batch, row_multiple=32, is_compiled=is_compiled
    )
    seen: list[int] = []
    network.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    gradients.prepare()
    sums = gradients.compute(fields(), ROWS, loss_scale=None, coefs=COEFS)
    torch.testing.assert_close(by_parameter(network), expected, rtol=1e-4, atol=1e-6)
    for name, total in sums._asdict().items():
        assert float(total) == pytest.approx(float(getattr(expected_sums, name)), rel=1e-4), name
    plainly = parallel(model(), 1, None).log_probs(fields(), ROWS)
    torch.testing.assert_close(gradients.log_probs(fields(), ROWS), plainly)
    assert gradients.are_outputs_finite(fields(), ROWS[:5])
    assert all(rows % 32 == 0 for rows in seen)
    assert is_compiled or seen[0] == (96 if micro_batch is None else 64)


@pytest.mark.slow
@ONE_PROCESS
def test_a_network_that_torch_cannot_compile_is_used_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_compiler(*_: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=no_compiler))
    expected, _ = plain(model())
    network = model()
    gradients = ParallelGradients(network, num_threads=1, micro_batch=None, is_compiled=True)
    gradients.prepare()
    gradients.compute(fields(), ROWS, loss_scale=None, coefs=COEFS)
    torch.testing.assert_close(by_parameter(network), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_the_flat_gradient_is_the_parameters_own_memory_and_stays_so(num_threads: int) -> None:
    network = model()
    gradients = parallel(network, num_threads, micro_batch=16)
    places = [g.data_ptr() for g in each_gradient(network)]
    strides = [g.stride() for g in each_gradient(network)]
    for _ in range(3):
        gradients.compute(fields(), ROWS, loss_scale=None, coefs=COEFS)
        assert [g.data_ptr() for g in each_gradient(network)] == places
        assert [g.stride() for g in each_gradient(network)] == strides
    assert strides == [p.stride() for p in network.parameters()]
    assert gradients.flat.numel() == sum(p.numel() for p in network.parameters())
    squares = sum(float(g.square().sum()) for g in each_gradient(network))
    assert float(gradients.flat.square().sum()) == pytest.approx(squares, rel=1e-5)
    gradients.flat.fill_(2.0)
    assert all((g.numpy() == 2).all() for g in each_gradient(network))


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_the_same_rows_give_the_same_bits_however_often(num_threads: int) -> None:
    gradients = parallel(model(), num_threads, micro_batch=16)
    seen = set()
    for _ in range(6):
        sums = gradients.compute(fields(), ROWS, loss_scale=None, coefs=COEFS)
        seen.add((gradients.flat.numpy().tobytes(), *map(float, sums)))
        gradients.flat.normal_()  # What is left of the last minibatch must not count.
    assert len(seen) == 1


def test_replicas_follow_the_weights() -> None:
    """An optimizer step and a loaded checkpoint change one memory that all replicas read."""
    network = model()
    gradients = parallel(network, num_threads=3, micro_batch=None)
    gradients.compute(fields(), ROWS, loss_scale=None, coefs=COEFS)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.3)
    expected, _ = plain(network)
    gradients.compute(fields(), ROWS, loss_scale=None, coefs=COEFS)
    torch.testing.assert_close(by_parameter(network), expected, rtol=1e-4, atol=1e-6)


def test_the_loss_scale_scales_the_gradient_and_not_the_sums() -> None:
    network = model()
    gradients = parallel(network, num_threads=2, micro_batch=16)
    sums = gradients.compute(fields(), ROWS, loss_scale=None, coefs=COEFS)
    before = gradients.flat.clone()
    scale = torch.tensor(1024.0)
    scaled = gradients.compute(fields(), ROWS, loss_scale=scale, coefs=COEFS)
    torch.testing.assert_close(gradients.flat, before * 1024)
    assert list(map(float, scaled)) == list(map(float, sums))


def test_bf16_changes_forward_a_little_and_keeps_float32_gradients() -> None:
    network = model(amp="bf16")
    gradients = parallel(network, num_threads=2, micro_batch=16)
    sums = gradients.compute(fields(), ROWS, loss_scale=None, coefs=COEFS)
    expected, exact = plain(model())
    gradient = by_parameter(network)
    assert gradient.dtype == torch.float32
    assert not torch.equal(gradient, expected)
    assert float((gradient - expected).norm() / expected.norm()) < 0.05
    assert float(sums.loss) != float(exact.loss)
    assert float(sums.loss) == pytest.approx(float(exact.loss), rel=0.02)


def test_no_thread_is_left_with_mixed_precision_or_more_than_one_torch_thread() -> None:
    gradients = parallel(model(amp="bf16"), num_threads=2, micro_batch=16)
    gradients.compute(fields(), ROWS, loss_scale=None, coefs=COEFS)
    assert not torch.is_autocast_enabled("cpu")
    states = gradients._threads.map(
        lambda _: (torch.is_autocast_enabled("cpu"), torch.get_num_threads()), range(4)
    )
    assert set(states) == {(False, 1)}


def test_an_untrained_parameter_is_in_no_gradient() -> None:
    config = MODEL.model_copy(update={"material_prior": 0.0})
    network = build_model(config, seed=0)
    gradients = parallel(network, num_threads=2, micro_batch=None)
    gradients.compute(fields(), ROWS, loss_scale=None, coefs=COEFS)
    assert network.material_weight.grad is None
    assert gradients.flat.numel() == sum(p.numel() for p in network.parameters()) - 1
