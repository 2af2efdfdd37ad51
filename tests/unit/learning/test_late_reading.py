"""Figures read late by the host: the device makes the same steps as if they were read at once."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from keisei_ray.learning import minibatch_sums, update_steps
from keisei_ray.learning.late_reading import late
from keisei_ray.learning.learner import Learner
from keisei_ray.learning.ppo import LossCoefs
from keisei_ray.network import model as model_module
from keisei_ray.network.attackers import bags_of_vectors
from keisei_ray.network.weights import state_arrays
from keisei_ray.telemetry.stage_timer import StageTimer
from tests.helpers.tiny import N, T, played, tiny_config

KL_STOP_LATER = {"learning_rate": 0.01, "target_kl": 0.003, "num_epochs": 6, "num_minibatches": 4}
KL_STOP_AT_ONCE = {"learning_rate": 0.5, "target_kl": 0.01, "num_minibatches": 4}
CLIPPED = {"max_grad_norm": 0.05}
GRADIENT_INFINITE = {"vf_coef": 1e36, "max_grad_norm": 1e38, "num_minibatches": 4}
LOSS_INFINITE = {"learning_rate": 3e38, "lr_schedule": "constant", "num_minibatches": 4}


def everything(learner: Learner) -> dict[str, Any]:
    """All that an update changes, bit for bit."""
    found: dict[str, Any] = {k: v.tobytes() for k, v in state_arrays(learner.model).items()}
    for index, entry in learner._optimizer.state_dict()["state"].items():
        found |= {f"{name} {index}": t.numpy().tobytes() for name, t in entry.items()}
    return found | {"order": learner._generator.get_state().tolist()}


def figures(report: Any) -> str:
    """All figures of an update but its times."""
    return repr({k: v for k, v in vars(report).items() if k not in ("update_time_s", "stages")})


@pytest.mark.slow
@pytest.mark.parametrize("delay", [1, 2])
@pytest.mark.parametrize(
    ("changes", "ends"),
    [
        (CLIPPED, "made"),
        (KL_STOP_LATER, "KL stop"),
        (KL_STOP_AT_ONCE, "KL stop"),
        (GRADIENT_INFINITE, "undone"),
        (LOSS_INFINITE, "undone"),
    ],
    ids=str,
)
def test_figures_that_are_read_late_give_the_same_learner_bit_for_bit(
    changes: dict[str, object], ends: str, delay: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(learner=changes)
    at_once = Learner(config)
    monkeypatch.setattr(update_steps, "READ_DELAYS", {"cpu": delay})
    later = Learner(config)
    for update in range(2):
        buffer = played(config, at_once)
        reports = [learner.update([buffer], update * T * N) for learner in (at_once, later)]
        assert figures(reports[0]) == figures(reports[1])
        assert everything(at_once) == everything(later)
        assert (reports[0].undone is not None) == (ends == "undone")
        assert (reports[0].steps_undone > 0) == (ends == "KL stop")


class ReadingsOfTheHost(TorchDispatchMode):
    """Counts what makes the host wait for a device: values, and shapes that depend on values."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name == "index" and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if by_mask or name in ("_local_scalar_dense", "nonzero", "masked_select", "equal"):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def test_an_epoch_is_queued_without_reading_anything_from_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(update_steps, "READ_DELAYS", {"cpu": 1})
    # As on a GPU; on a CPU filled slots and legal moves are looked for, which is no waiting there.
    monkeypatch.setattr(minibatch_sums, "can_list", lambda positions: False)
    monkeypatch.setattr(model_module, "sum_of_vectors", bags_of_vectors)
    config = tiny_config(learner={"target_kl": 0.1, "num_minibatches": 4, "amp": "bf16"})
    learner = Learner(config)
    learner.update([played(config, learner)], 0)
    coefs = LossCoefs(0.2, 1.0, 1.0, 1.0, 0.01)
    with ReadingsOfTheHost() as readings:
        coming = list(learner._steps.epoch(learner._batch.on_device(), coefs, StageTimer()))
    assert readings.found == []
    assert len(coming) == 4
    with ReadingsOfTheHost() as readings:
        learner._steps.kl_proximal(learner._batch.on_device(), coming[0].minibatch.rows)
        bool(learner._steps.is_stopped)
    assert readings.found == ["index", "_local_scalar_dense"]  # It does see what reads.


def test_late_yields_every_item_in_order_each_behind_the_next_ones() -> None:
    taken: list[int] = []

    def numbers() -> Any:
        for number in range(4):
            taken.append(number)
            yield number

    assert [(item, len(taken)) for item in late(numbers(), by=2)] == [
        (0, 3),
        (1, 4),
        (2, 4),
        (3, 4),
    ]
    assert list(late([], by=1)) == []
