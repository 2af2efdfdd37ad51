"""The learner on CUDA: it never waits within an epoch, and keeps the rules of the CPU."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from keisei_ray.config.schema import Config
from keisei_ray.learning import update_steps
from keisei_ray.learning.learner import Learner
from keisei_ray.learning.ppo import LossCoefs
from keisei_ray.learning.update_batch import UpdateBatch
from keisei_ray.network.compiling import can_compile
from keisei_ray.network.weights import load_weights, state_arrays
from keisei_ray.telemetry.reports import UpdateReport
from keisei_ray.telemetry.stage_timer import StageTimer
from tests.helpers.rollouts import random_rollout
from tests.helpers.tiny import N, T, packed, played, tiny_config

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
    pytest.mark.filterwarnings("ignore:.*TF32.*:UserWarning"),
]
COEFS = LossCoefs(0.2, 1.0, 1.0, 1.0, 0.01)


@pytest.fixture(autouse=True)
def cudnn_as_before() -> Iterator[None]:
    """A learner sets cuDNN's switches for its process."""
    backend: Any = torch.backends.cudnn
    before = backend.benchmark, backend.deterministic
    yield
    backend.benchmark, backend.deterministic = before


def on_cuda(config: Config) -> Config:
    """The same settings with the learner on CUDA; self-play stays on the CPU."""
    learner = config.learner.model_copy(update={"device": "cuda"})
    return config.model_copy(update={"learner": learner})


def cuda_config(**changes: object) -> Config:
    return on_cuda(tiny_config(learner=changes))


def trained(config: Config) -> Learner:
    """A learner that has made an update, so that nothing is built for the first time."""
    learner = Learner(config)
    learner.update([played(config, learner)], 0)
    return learner


def everything(learner: Learner) -> dict[str, Any]:
    """All that an update changes, bit for bit."""
    found: dict[str, Any] = {k: v.tobytes() for k, v in state_arrays(learner.model).items()}
    for index, entry in learner._optimizer.state_dict()["state"].items():
        found |= {f"{name} {index}": t.cpu().numpy().tobytes() for name, t in entry.items()}
    return found


@pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")
@pytest.mark.parametrize("amp", ["off", "bf16"])
@pytest.mark.parametrize("target_kl", [None, 0.1])
def test_an_epoch_is_queued_without_waiting_for_the_device(
    amp: str, target_kl: float | None
) -> None:
    learner = trained(cuda_config(amp=amp, target_kl=target_kl, num_minibatches=4))
    fields = learner._batch.on_device()
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        coming = list(learner._steps.epoch(fields, COEFS, StageTimer()))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(coming) == 4
    for one in coming:
        figures = one.read()
        assert np.isfinite([*figures.sums, figures.grad_norm]).all()
        assert not figures.is_stopped


def test_a_step_that_is_too_far_is_undone_exactly() -> None:
    config = cuda_config(
        learning_rate=0.5, lr_schedule="constant", target_kl=0.01, num_epochs=3, num_minibatches=4
    )
    careful = cuda_config(num_minibatches=4)
    learner = Learner(config)
    learner.load_state_files(trained(careful).state_files())
    before = everything(learner)
    report = learner.update([played(config, learner)], T * N)
    assert (report.steps_undone, report.optimizer_steps) == (1, 0)
    assert everything(learner) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"vf_coef": 1e36, "max_grad_norm": 1e38},
        {"learning_rate": 3e38, "lr_schedule": "constant"},
    ],
    ids=str,
)
def test_an_update_that_is_not_finite_is_undone_exactly(changes: dict[str, Any]) -> None:
    config = cuda_config(num_minibatches=4, **changes)
    learner = Learner(config)
    learner.load_state_files(trained(cuda_config(num_minibatches=4)).state_files())
    before = everything(learner)
    report = learner.update([played(config, learner)], T * N)
    assert report.undone is not None
    assert everything(learner) == before


def test_figures_that_are_read_late_give_the_same_update(monkeypatch: pytest.MonkeyPatch) -> None:
    config = cuda_config(target_kl=0.05, learning_rate=3e-3, num_minibatches=4)
    reports: list[UpdateReport] = []
    weights = []
    for delay in (0, 1):
        monkeypatch.setattr(update_steps, "READ_DELAYS", {"cuda": delay})
        learner = Learner(config)
        backend: Any = torch.backends.cudnn
        backend.benchmark, backend.deterministic = False, True
        reports.append(learner.update([played(config, learner)], 0))
        weights.append(state_arrays(learner.model))
    assert reports[0].optimizer_steps == reports[1].optimizer_steps
    assert reports[0].steps_undone == reports[1].steps_undone
    for name, array in weights[0].items():
        np.testing.assert_allclose(array, weights[1][name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_an_update_is_that_of_the_cpu() -> None:
    changes = {"max_grad_norm": 0.05, "learning_rate": 1e-3, "num_minibatches": 2}
    reports = []
    for config in (tiny_config(learner=changes), cuda_config(**changes)):
        learner = Learner(config)
        reports.append(learner.update([played(config, learner)], 0))
    cpu, cuda = reports
    for name in ("policy_loss", "value_loss", "entropy", "grad_norm", "explained_variance"):
        assert getattr(cuda, name) == pytest.approx(getattr(cpu, name), rel=0.02, abs=2e-3), name
    assert cuda.optimizer_steps == cpu.optimizer_steps == 4


@pytest.mark.filterwarnings("ignore:Synchronization debug mode:UserWarning")
@pytest.mark.skipif(not can_compile(), reason="torch cannot compile networks here")
def test_a_compiled_update_is_that_of_the_network_as_it_is() -> None:
    """An epoch is queued without waiting too."""
    changes = {"num_minibatches": 4, "learning_rate": 1e-3, "target_kl": 0.1}
    plain, compiled = (Learner(cuda_config(**changes, compile=c)) for c in ("off", "auto"))
    buffer = played(tiny_config(), plain)
    reports = [learner.update([buffer], 0) for learner in (plain, compiled)]
    assert compiled._gradients._graphs is not None
    for name in ("policy_loss", "value_loss", "entropy", "grad_norm"):
        found, expected = (getattr(report, name) for report in reports)
        assert found == pytest.approx(expected, rel=0.02, abs=2e-3), name
    try:
        torch.cuda.set_sync_debug_mode("error")
        list(compiled._steps.epoch(compiled._batch.on_device(), COEFS, StageTimer()))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not can_compile(), reason="torch cannot compile networks here")
@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_recorded_gradients_of_several_sizes_are_those_of_the_network_as_it_is(amp: str) -> None:
    """They share memory, so that one may not disturb another; the first size is asked for again."""
    plain, recorded = (Learner(cuda_config(amp=amp, compile=c)) for c in ("off", "auto"))
    recorded.load_state_files(plain.state_files())
    batch = UpdateBatch(1024, torch.device("cuda"))
    batch.fill([random_rollout(32, 32, seed=1)], gamma=0.99, gae_lambda=0.9)
    fields = batch.on_device()
    gradients = [learner._gradients for learner in (plain, recorded)]
    for each in gradients:
        each.prepare()
    for size in (500, 1000, 130, 512, 1000, 7):
        rows = torch.randperm(1024, device="cuda")[:size]
        expected, found = (
            each.compute(fields, rows, loss_scale=None, coefs=COEFS) for each in gradients
        )
        for name, total in found._asdict().items():
            assert float(total) == pytest.approx(float(getattr(expected, name)), rel=0.02, abs=0.05)
        error = (gradients[0].flat - gradients[1].flat).norm() / gradients[0].flat.norm()
        assert float(error) < 0.02
    graphs = gradients[1]._graphs
    assert graphs is not None
    assert sorted(graphs._recorded) == [128, 256, 512, 1024]


def test_an_update_in_float16_scales_its_loss() -> None:
    learner = trained(cuda_config(amp="fp16", target_kl=0.1, num_minibatches=4))
    report = learner.update([played(tiny_config(), learner)], T * N)
    assert report.undone is None
    assert report.amp_scale is not None
    assert report.amp_scale >= 1
    assert report.optimizer_steps + report.amp_skipped + report.steps_undone > 0
    assert np.isfinite([report.policy_loss, report.value_loss, report.grad_norm]).all()


def test_published_weights_and_state_are_those_of_the_device() -> None:
    config = cuda_config()
    learner = trained(config)
    receiver = Learner(tiny_config()).model
    info = load_weights(receiver, learner.weights())
    assert info.digest == learner.weights_digest()
    own = learner.model.state_dict()
    for name, tensor in receiver.state_dict().items():
        assert torch.equal(tensor, own[name].cpu()), name
    resumed = Learner(config)
    resumed.load_state_files(learner.state_files())
    assert everything(resumed) == everything(learner)


def test_a_device_without_room_for_a_minibatch_processes_half_of_it_at_a_time() -> None:
    plies, games = 32, 128
    config = on_cuda(
        tiny_config(
            self_play={"rollout_length": plies, "games_per_actor": games},
            model={"depth": 6, "width": 64},
            learner={"num_epochs": 1, "num_minibatches": 1, "amp": "off"},
        )
    )
    learner = Learner(config)
    torch.backends.cudnn.benchmark = False  # Its trials take memory of their own.
    learner.update([packed(random_rollout(plies, games, 0))], 0)  # Makes the optimizer's state.
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    base = torch.cuda.memory_allocated()
    learner.update([packed(random_rollout(plies, games, 1, weights_version=1))], 0)
    room = base + int(0.75 * (torch.cuda.max_memory_allocated() - base))
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(room / total)
    try:
        report = learner.update([packed(random_rollout(plies, games, 2, weights_version=2))], 0)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert f"From now on it processes {plies * games // 2} rows at a time" in report.notice
    assert report.undone is None
    assert report.optimizer_steps == 1
    assert np.isfinite([report.policy_loss, report.value_loss, report.grad_norm]).all()
