"""An update that makes something infinite or not a number leaves the learner as it was."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from keisei_ray.config.schema import Config
from keisei_ray.errors import CheckpointError, NumericalError, RejectedRolloutsError, UserError
from keisei_ray.learning.learner import Learner
from keisei_ray.learning.update_guard import PATIENCE
from keisei_ray.network.weights import state_arrays
from keisei_ray.rollouts.packed_rollout import unpack_rollout
from keisei_ray.rollouts.rollout import Rollout
from keisei_ray.storage.run_layout import LEARNER_FILE, MODEL_FILE
from keisei_ray.telemetry.reports import UpdateReport
from tests.helpers.tiny import N, T, packed, played, tiny_config

ONE_STEP = {"num_epochs": 1, "num_minibatches": 1}
TOO_LARGE = {"learning_rate": 3e38, "lr_schedule": "constant"}


def learner_config(**changes: object) -> Config:
    return tiny_config(learner=changes)


def at(version: int, buffer: np.ndarray) -> np.ndarray:
    """The same plies as if the weights of another version had played them."""
    rollout = unpack_rollout(buffer)
    return packed(replace(rollout, header=replace(rollout.header, weights_version=version)))


def update(learner: Learner, buffer: np.ndarray) -> UpdateReport:
    version = learner.weights_version
    return learner.update([at(version, buffer)], version * T * N)


def everything(learner: Learner) -> dict[str, Any]:
    """All that an update changes but the version, bit for bit."""
    state = learner._optimizer.state_dict()["state"]
    found: dict[str, Any] = {k: v.tobytes() for k, v in state_arrays(learner.model).items()}
    for index, entry in state.items():
        found |= {f"{name} {index}": t.numpy().tobytes() for name, t in entry.items()}
    found["order"] = learner._generator.get_state().tolist()
    found["scale"] = learner._scaler.state_dict()
    return found


def changed(learner: Learner, **changes: object) -> Learner:
    """A learner with other settings that goes on from the state of another."""
    other = Learner(learner_config(**changes))
    other.load_state_files(learner.state_files())
    return other


@pytest.mark.slow
@pytest.mark.parametrize("is_first", [True, False], ids=["first update", "later update"])
@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        (TOO_LARGE, "the loss is nan in optimizer step 2 (policy nan"),
        ({**TOO_LARGE, "target_kl": 0.1}, "the loss is nan in optimizer step 2 (policy nan"),
        ({**TOO_LARGE, **ONE_STEP}, "the network's outputs are not finite after the last step"),
        ({**ONE_STEP, "learning_rate": 1e30}, "the network's outputs are not finite after the"),
        ({"vf_coef": 1e38}, "the loss is inf in optimizer step 1"),
        ({"ent_coef": 1e38}, "the loss is -inf in optimizer step 1"),
        (
            {"vf_coef": 1e36, "max_grad_norm": 1e38},
            "the gradient's norm is inf in optimizer step 1",
        ),
        ({"vf_coef": 1e36, "amp": "fp16"}, "the gradient's norm is "),
    ],
    ids=str,
)
def test_an_update_that_is_not_finite_is_undone_as_a_whole_and_says_why(
    changes: dict[str, object], cause: str, is_first: bool
) -> None:
    calm = Learner(learner_config())
    buffer = played(learner_config(), calm)
    if not is_first:
        update(calm, buffer)
    learner = changed(calm, **changes)
    learner._scaler._init_scale = 1.0  # Of fp16: the gradient itself is too large, not its scale.
    before, version, digest = everything(learner), learner.weights_version, learner.weights_digest()
    report = update(learner, buffer)
    assert report.undone is not None
    assert report.undone.cause.startswith(cause)
    assert not report.undone.is_rate_halved
    after = everything(learner)
    if changes.get("amp") == "fp16":  # The scaler makes its scale in its first step.
        before.pop("scale"), after.pop("scale")
    assert after == before
    assert (report.weights_version, learner.weights_digest()) == (version + 1, digest)
    assert (report.optimizer_steps, report.grad_norm, report.kl_proximal) == (0, 0, 0)
    assert math.isnan(report.policy_loss + report.value_loss + report.entropy)
    assert report.batch_timesteps == T * N
    # The next update starts from sound weights and is made.
    calm_again = changed(learner)
    assert update(calm_again, buffer).undone is None


def test_a_value_target_that_is_not_finite_undoes_the_update(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner = Learner(learner_config())
    fill = learner._batch.fill

    def broken(*arguments: Any, **options: Any) -> float:
        explained = fill(*arguments, **options)
        learner._batch._arrays["value_targets"][5] = np.inf
        return explained

    monkeypatch.setattr(learner._batch, "fill", broken)
    report = update(learner, played(learner_config(), learner))
    assert report.undone is not None
    assert report.undone.cause.startswith("the loss is ")


@pytest.mark.parametrize("field", ["behavior_log_probs", "values", "rewards", "bootstrap_values"])
def test_a_rollout_that_is_not_finite_is_rejected_and_no_fault_of_the_learner(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = Learner(learner_config())
    rollout = unpack_rollout(played(learner_config(), learner))
    getattr(rollout, field)[0, 1] = np.nan
    with monkeypatch.context() as careless:
        careless.setattr(Rollout, "validate", lambda self: None)
        buffer = packed(rollout)
    before = everything(learner)
    with pytest.raises(RejectedRolloutsError, match=rf"{field}\[0, 1\] = nan, expected finite"):
        learner.update([buffer], 0)
    assert everything(learner) == before
    assert learner.weights_version == 0


def test_large_but_finite_settings_are_no_fault() -> None:
    learner = Learner(learner_config(max_grad_norm=1e38, vf_coef=1e6, gamma=1.0))
    buffer = played(learner_config(), learner)
    assert [update(learner, buffer).undone for _ in range(2)] == [None, None]


def test_steps_that_the_loss_scaler_skips_are_no_fault() -> None:
    learner = Learner(learner_config(amp="fp16", **ONE_STEP))
    learner._scaler._init_scale = 2.0**126
    report = update(learner, played(learner_config(), learner))
    assert (report.undone, report.amp_skipped) == (None, 1)


@pytest.mark.parametrize("schedule", ["constant", "adaptive"])
def test_updates_undone_in_a_row_halve_the_rate_once_and_then_end_the_run(schedule: str) -> None:
    config = learner_config(learning_rate=3e38, lr_schedule=schedule)
    learner = Learner(config)
    buffer = played(config, learner)
    before = everything(learner)
    reports = [update(learner, buffer) for _ in range(2 * PATIENCE - 1)]
    halved = [bool(report.undone and report.undone.is_rate_halved) for report in reports]
    assert halved == [n == PATIENCE - 1 for n in range(2 * PATIENCE - 1)]
    rates = [report.learning_rate for report in reports]
    assert rates == [3e38] * PATIENCE + [1.5e38] * (PATIENCE - 1)
    with pytest.raises(NumericalError) as caught:
        update(learner, buffer)
    message = str(caught.value)
    assert message.startswith(
        f"{PATIENCE} updates in a row were undone, although learner.learning_rate = 3e+38 had been "
        f"halved. Update {2 * PATIENCE}, at a learning rate of 1.5e+38: the loss is nan "
    )
    assert "--set learner.learning_rate=" in message
    assert "\n" not in message
    assert isinstance(caught.value, UserError)
    assert everything(learner) == before
    assert learner.weights_version == 2 * PATIENCE - 1


def test_one_good_update_ends_the_row() -> None:
    learner = Learner(learner_config())
    buffer = played(learner_config(), learner)
    steps: Any = learner._steps
    make = steps.make
    for _ in range(3):
        steps.make = lambda *_: fail()
        for _ in range(PATIENCE - 1):
            assert update(learner, buffer).undone is not None
        steps.make = make
        assert update(learner, buffer).undone is None
    assert learner._guard.halved_rate is None


def fail() -> Any:
    from keisei_ray.learning.update_guard import NotFiniteError

    raise NotFiniteError("the loss is nan")


def test_a_halved_rate_is_kept_by_a_resume_until_another_rate_is_given() -> None:
    learner = Learner(learner_config(**TOO_LARGE))
    buffer = played(learner_config(), learner)
    for _ in range(PATIENCE):
        update(learner, buffer)
    same = changed(learner, **TOO_LARGE)
    assert update(same, buffer).learning_rate == 1.5e38
    other = changed(learner, learning_rate=1e-3, lr_schedule="constant")
    assert update(other, buffer).learning_rate == 1e-3


def test_the_lower_setting_that_the_message_asks_for_lowers_an_adaptive_rate_at_once() -> None:
    learner = Learner(learner_config(learning_rate=1e-3, lr_schedule="adaptive"))
    buffer = played(learner_config(), learner)
    for group in learner._optimizer.param_groups:
        group["lr"] = 5e-3  # Where it has risen to.
    steps: Any = learner._steps
    steps.make = lambda *_: fail()
    for _ in range(2 * PATIENCE - 1):
        assert update(learner, buffer).undone is not None
    with pytest.raises(NumericalError, match=r"a lower --set learner\.learning_rate="):
        update(learner, buffer)
    same = changed(learner, learning_rate=1e-3, lr_schedule="adaptive")
    assert update(same, buffer).learning_rate == 2.5e-3
    lower = changed(learner, learning_rate=1e-4, lr_schedule="adaptive")
    again = changed(lower, learning_rate=1e-4, lr_schedule="adaptive")
    for resumed in (lower, again):
        assert update(resumed, buffer).learning_rate == pytest.approx(2.5e-4)


def moment(learner: Learner, name: str, parameter: str) -> Any:
    """The part of one parameter in a tensor of the optimizer's state."""
    [state] = learner._optimizer.state.values()
    names = [place.name for place in learner._layout.places]
    return learner._layout.views(state[name])[names.index(parameter)]


@pytest.mark.parametrize("what", ["weights", "moments"])
def test_a_state_that_is_not_finite_is_not_saved(what: str) -> None:
    learner = Learner(learner_config())
    update(learner, played(learner_config(), learner))
    parameter = learner.model.value_out.bias
    with torch.no_grad():
        if what == "weights":
            parameter[0] = math.inf
        else:
            moment(learner, "exp_avg", "value_out.bias")[0] = math.nan
    name = {"weights": "the weight value_out.bias", "moments": "exp_avg of value_out.bias"}[what]
    with pytest.raises(NumericalError, match=name):
        learner.state_files()


@pytest.mark.parametrize(("file", "named"), [(MODEL_FILE, "value_out.bias"), (LEARNER_FILE, "exp")])
def test_a_saved_state_that_is_not_finite_is_refused_and_nothing_changes(
    file: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As programs of before have saved them."""
    learner = Learner(learner_config())
    update(learner, played(learner_config(), learner))
    parameter = learner.model.value_out.bias
    sound = learner.state_files()
    with torch.no_grad():
        parameter[0] = math.nan
        moment(learner, "exp_avg_sq", "value_out.bias")[0] = math.inf
    monkeypatch.setattr("keisei_ray.learning.learner.check_finite", lambda *_: None)
    learner._on_host = None  # The weights were changed behind the learner's back.
    files = sound | {file: learner.state_files()[file]}
    resumed = Learner(learner_config())
    before = everything(resumed)
    with pytest.raises(CheckpointError, match=f"{file}: .*{named}.*not finite") as caught:
        resumed.load_state_files(files)
    assert "\n" not in str(caught.value)
    assert everything(resumed) == before
