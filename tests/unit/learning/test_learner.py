"""One update: by hand, in the right order, all or nothing, and the same after a resume."""

import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from keisei_ray.config.schema import Config
from keisei_ray.errors import (
    CheckpointError,
    ConfigError,
    EmptyUpdateError,
    PolicyLagError,
    RejectedRolloutsError,
    RolloutFormatError,
)
from keisei_ray.learning.kl_stop import KL_STOP_FACTOR
from keisei_ray.learning.learner import Learner
from keisei_ray.learning.ppo import LossCoefs, masked_policy, ppo_sums
from keisei_ray.learning.update_batch import UpdateBatch
from keisei_ray.network.model import architecture_digest, build_model, legal_mask, masked_log_probs
from keisei_ray.network.weights import (
    digest,
    load_weights,
    read_model_file,
    read_model_metadata,
    state_arrays,
)
from keisei_ray.rollouts.packed_rollout import unpack_rollout
from keisei_ray.rollouts.weights_header import peek_weights
from keisei_ray.storage.run_layout import LEARNER_FILE, MODEL_FILE
from tests.helpers.rollouts import random_rollout
from tests.helpers.tiny import N, T, packed, played, tiny_config

ONE_STEP = {"num_epochs": 1, "num_minibatches": 1}


def learner_config(**changes: object) -> Config:
    return tiny_config(learner=changes)


def trained(config: Config, updates: int = 2) -> Learner:
    """A learner some updates on, fed by real self-play."""
    learner = Learner(config)
    for update in range(updates):
        learner.update([played(config, learner)], update * T * N)
    return learner


def torchs_own_step(config: Config, buffer: np.ndarray) -> dict[str, torch.Tensor]:
    """Weights after one AdamW step on the plain loss over all rows, with torch's own clipping."""
    c = config.learner
    model = build_model(config.model, seed=config.run.seed)
    batch = UpdateBatch(T * N, torch.device("cpu"))
    batch.fill([unpack_rollout(buffer)], gamma=c.gamma, gae_lambda=c.gae_lambda)
    batch.normalize_advantages()
    f = {name: tensor[: batch.rows] for name, tensor in batch.on_device().items()}
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad],
        lr=c.learning_rate,
        eps=c.adam_eps,
        weight_decay=c.weight_decay,
    )
    logits, outcomes = model(f["boards"], f["hands"], f["scalars"])
    sums = ppo_sums(
        masked_policy(masked_log_probs(logits, legal_mask(f["legal_bits"])), f["actions"].long()),
        outcomes,
        f["behavior_log_probs"],
        f["proximal_log_probs"],
        f["is_forced"],
        f["advantages"],
        f["value_targets"],
        f["draw_targets"],
        LossCoefs(c.clip_coef, c.max_importance_weight, c.mate_coef, c.vf_coef, c.ent_coef),
    )
    (sums.loss / batch.rows).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), c.max_grad_norm)
    optimizer.step()
    return model.state_dict()


def with_own_plies(buffer: np.ndarray, count: int) -> np.ndarray:
    """The rollout as if opponents had played all but `count` plies, spread over it."""
    rollout = unpack_rollout(buffer)
    foreign = np.random.default_rng(0).permutation(T * N)[count:]
    rollout.is_trained.reshape(-1)[foreign] = False
    rollout.is_forced[...] &= rollout.is_trained
    for name in ("values", "draw_probs", "behavior_log_probs"):
        getattr(rollout, name)[~rollout.is_trained] = 0
    return packed(rollout)


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("max_grad_norm", [100.0, 0.01], ids=["not clipped", "clipped"])
@pytest.mark.parametrize("own_plies", [T * N, 11])
@pytest.mark.parametrize("value_head", ["wdl", "scalar"])
def test_one_optimizer_step_equals_torchs_own_on_the_plain_loss(
    num_threads: int, max_grad_norm: float, own_plies: int, value_head: str
) -> None:
    """A large Adam epsilon makes the step proportional to the gradient, so clipping shows."""
    changes = {
        "num_threads": num_threads,
        "max_grad_norm": max_grad_norm,
        "adam_eps": 1.0,
        "weight_decay": 0.1,
        "learning_rate": 0.1,
        "vf_coef": 1.0,
    }
    config = tiny_config(learner=ONE_STEP | changes, model={"value_head": value_head})
    learner = Learner(config)
    before = state_arrays(build_model(config.model, seed=config.run.seed))
    buffer = with_own_plies(played(config, learner), own_plies)
    report = learner.update([buffer], 0)
    assert report.optimizer_steps == 1
    assert (report.grad_norm > max_grad_norm) == (max_grad_norm < 1)
    expected = torchs_own_step(config, buffer)
    moved = 0.0
    for name, array in state_arrays(learner.model).items():
        np.testing.assert_allclose(array, expected[name].numpy(), rtol=1e-5, atol=1e-7)
        moved = max(moved, float(np.abs(array - before[name]).max()))
    assert moved > 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("num_threads", [1, 4])
@pytest.mark.parametrize(("own_plies", "minibatches"), [(5, 5), (1, 1), (9, 5)])
def test_an_update_may_have_fewer_rows_than_minibatches_and_threads(
    num_threads: int, own_plies: int, minibatches: int
) -> None:
    """Up to 8 minibatches of at least one row each; a thread without a row does nothing."""
    config = learner_config(num_threads=num_threads, num_minibatches=8, target_kl=None)
    learner = Learner(config)
    learner.update([played(config, learner)], 0)  # Leaves gradients in every replica.
    buffer = with_own_plies(played(config, learner), own_plies)
    seen: list[list[int]] = []
    compute = learner._gradients.compute

    def noting(fields: Any, rows: torch.Tensor, **kwargs: Any) -> Any:
        seen.append(rows.tolist())
        return compute(fields, rows, **kwargs)

    learner._gradients.compute = noting
    report = learner.update([buffer], T * N)
    assert len(seen) == report.optimizer_steps == 2 * minibatches
    for epoch in (seen[:minibatches], seen[minibatches:]):
        assert sorted(row for rows in epoch for row in rows) == list(range(own_plies))
    assert report.batch_timesteps == T * N
    figures = [v for v in vars(report).values() if isinstance(v, float)]
    assert np.isfinite(figures).all()
    alone = Learner(learner_config(num_threads=1, num_minibatches=8, target_kl=None))
    alone.update([played(config, alone)], 0)
    alone.update([buffer], T * N)
    for name, array in state_arrays(learner.model).items():
        np.testing.assert_allclose(array, state_arrays(alone.model)[name], atol=2e-4)


def test_nothing_is_learnt_from_how_an_opponent_played() -> None:
    """Other moves, legal moves and positions in the opponent's plies give the same weights."""
    config = tiny_config()
    digests = set()
    for change in (False, True):
        learner = Learner(config)
        rollout = unpack_rollout(with_own_plies(played(config, learner), 13))
        if change:
            other = random_rollout(T, N, seed=5)
            for name in ("boards", "hands", "scalars", "legal_bits", "actions"):
                foreign = ~rollout.is_trained
                getattr(rollout, name)[foreign] = getattr(other, name)[foreign]
        learner.update([packed(rollout)], 0)
        digests.add(learner.weights_digest())
    assert len(digests) == 1


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"activation": "silu", "squeeze_excitation": True},
        {"material_prior": 0.0},
        {"value_head": "scalar", "attackers": False},
    ],
    ids=str,
)
def test_every_trained_parameter_is_trained(model: dict[str, Any]) -> None:
    config = tiny_config(
        model=model, self_play={"random_opening_plies": 60, "max_plies": 99, "games_per_actor": 16}
    )
    learner = Learner(config)
    before = {name: array.copy() for name, array in state_arrays(learner.model).items()}
    learner.update([played(config, learner)], 0)
    untrained = [
        name
        for name, array in state_arrays(learner.model).items()
        if np.array_equal(array, before[name])
    ]
    assert untrained == ([] if config.model.material_prior else ["material_weight"])


@pytest.mark.slow
@pytest.mark.parametrize("amp", ["off", "bf16"])
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_the_ratio_is_one_on_the_first_minibatch_of_real_self_play(
    activation: str, amp: str
) -> None:
    """Also in bf16: tower and rounding are the same for any number of rows."""
    config = tiny_config(
        model={"activation": activation},
        self_play={"amp": amp},
        learner={"num_threads": 2, "learning_rate": 3e-3, "amp": amp},
    )
    learner = Learner(config)
    for update in range(4):
        report = learner.update([played(config, learner)], update * T * N)
        assert report.first_log_ratio < 3e-6
        assert report.approx_kl > 1e-5  # The later ones have moved on.


def test_a_wrong_behavior_log_prob_shows_in_the_first_ratio() -> None:
    learner = Learner(tiny_config())
    rollout = unpack_rollout(played(tiny_config(), learner))
    rollout.behavior_log_probs[:] -= 0.01
    report = learner.update([packed(rollout)], 0)
    assert report.first_log_ratio == pytest.approx(0.01, rel=0.02)


def test_self_play_in_another_precision_than_the_update_shows_in_the_first_ratio() -> None:
    config = tiny_config(self_play={"amp": "bf16"}, learner={"amp": "off", "learning_rate": 3e-3})
    learner = Learner(config)
    learner.update([played(config, learner)], 0)
    assert 1e-5 < learner.update([played(config, learner)], T * N).first_log_ratio < 1e-2


@pytest.mark.slow
def test_training_prefers_what_was_rewarded_and_learns_the_result() -> None:
    """Every game is one ply; one move wins, all others lose."""
    config = learner_config(learning_rate=3e-3, lr_schedule="constant", num_epochs=4, ent_coef=0.0)
    learner = Learner(config)
    losses = []
    for update in range(12):
        rollout = unpack_rollout(played(config, learner))
        rollout.terminated[:] = True
        rollout.truncated[:] = False
        rollout.bootstrap_values[:] = 0
        rollout.bootstrap_draw_probs[:] = 0
        rollout.rewards[:] = np.where(rollout.actions % 2 == 0, 1, -1)
        losses.append(learner.update([packed(rollout)], update))
    wins = [unpack_rollout(played(config, learner, actor_id=k)).actions % 2 == 0 for k in range(6)]
    assert np.mean(wins) > 0.65
    assert losses[-1].value_loss < losses[0].value_loss


@pytest.mark.slow
@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_updates_stay_finite_and_close_to_float32(
    amp: str, num_threads: int
) -> None:
    config = learner_config(amp=amp, num_threads=num_threads, learning_rate=1e-3)
    learner, exact = Learner(config), Learner(learner_config(learning_rate=1e-3))
    before = {name: array.copy() for name, array in state_arrays(exact.model).items()}
    for update in range(2):
        buffer = played(config, exact)
        report, other = (x.update([buffer], update) for x in (learner, exact))
        assert report.amp_dtype == amp
        assert report.optimizer_steps == 4
        assert report.policy_loss != other.policy_loss
        assert report.grad_norm == pytest.approx(other.grad_norm, rel=0.05)
        assert (report.amp_scale is None) == (amp == "bf16")
    change = math.sqrt(
        sum(
            float(np.square(array - state_arrays(exact.model)[name]).sum())
            for name, array in state_arrays(learner.model).items()
        )
    )
    moved = math.sqrt(
        sum(float(np.square(a - before[n]).sum()) for n, a in state_arrays(exact.model).items())
    )
    assert all(np.isfinite(array).all() for array in state_arrays(learner.model).values())
    assert change < 0.3 * moved


def recorded(target: Any, names: tuple[str, ...], note: Callable[[str], None]) -> None:
    """Records each call of these methods of an object and passes it on."""
    for name in names:
        method = getattr(target, name)

        def through(*args: Any, _name: str = name, _method: Any = method, **kwargs: Any) -> Any:
            note(_name)
            return _method(*args, **kwargs)

        setattr(target, name, through)


def test_the_scaler_scales_unscales_clips_steps_and_updates_in_that_order() -> None:
    config = learner_config(**ONE_STEP, amp="fp16", max_grad_norm=0.01)
    learner = Learner(config)
    buffer = played(config, learner)
    calls: list[tuple[str, float]] = []

    def note(name: str) -> None:
        calls.append((name, float(learner._gradients.flat.norm())))

    recorded(learner._scaler, ("scale", "unscale_", "step", "update"), note)
    recorded(learner._gradients, ("compute",), note)
    optimizer: Any = learner._optimizer
    optimizer_step = optimizer.step

    def noted_step(*arguments: Any) -> Any:
        note("optimizer")
        return optimizer_step(*arguments)

    optimizer.step = noted_step
    report = learner.update([buffer], 0)
    names = [name for name, _ in calls]
    assert names == ["scale", "compute", "unscale_", "step", "optimizer", "update"]
    norms = dict(calls)
    assert report.amp_scale is not None
    # Scaled until unscale_, clipped between unscale_ and step.
    assert norms["unscale_"] == pytest.approx(report.grad_norm * report.amp_scale, rel=1e-3)
    assert report.grad_norm > 0.05
    assert norms["step"] == pytest.approx(0.01, rel=1e-3)
    assert norms["optimizer"] == pytest.approx(0.01, rel=1e-3)


def test_an_overflowing_step_is_skipped_counted_and_lowers_the_scale() -> None:
    config = learner_config(amp="fp16", num_epochs=1, num_minibatches=2)
    learner = Learner(config)
    buffer = played(config, learner)
    before = learner.weights_digest()
    learner._scaler._init_scale = 2.0**126
    report = learner.update([buffer], 0)
    assert (report.amp_skipped, report.optimizer_steps) == (2, 0)
    assert report.amp_scale == 2.0**124
    assert learner.weights_digest() == before
    learner._scaler.update(2.0**10)
    report = learner.update([played(config, learner)], 0)
    assert (report.amp_skipped, report.optimizer_steps) == (0, 2)
    assert learner.weights_digest() != before


@pytest.mark.slow
@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize(
    "model", [{"value_head": "wdl", "attackers": True}, {"value_head": "scalar"}], ids=str
)
def test_a_resumed_learner_goes_on_bit_for_bit(
    amp: str, num_threads: int, model: dict[str, Any]
) -> None:
    config = tiny_config(learner={"amp": amp, "num_threads": num_threads}, model=model)
    learner = trained(config)
    files = learner.state_files()
    buffers = []
    for update in range(2):
        buffers.append(played(config, learner))
        learner.update([buffers[-1]], 1000 + update)
    resumed = Learner(config)
    resumed.load_state_files({"other.txt": b"of the driver", **files})
    assert resumed.state_files().keys() == files.keys()
    for update, buffer in enumerate(buffers):
        resumed.update([buffer], 1000 + update)
    assert resumed.weights_version == learner.weights_version == 4
    assert resumed.weights_digest() == learner.weights_digest()
    assert resumed.weights().tobytes() == learner.weights().tobytes()
    last = played(config, learner)
    for both in (learner, resumed):
        both.update([last], 2000)
    assert resumed.weights_digest() == learner.weights_digest()


def test_an_adaptive_learning_rate_changes_from_update_to_update_and_survives_a_resume() -> None:
    config = learner_config(lr_schedule="adaptive", lr_adaptive_kl=1.0, learning_rate=1e-4)
    learner = Learner(config)
    rates = [learner.update([played(config, learner)], 0).learning_rate for _ in range(3)]
    assert rates == pytest.approx([1e-4, 1.5e-4, 2.25e-4])
    resumed = Learner(config)
    resumed.load_state_files(learner.state_files())
    report = resumed.update([played(config, resumed)], 0)
    assert report.learning_rate == pytest.approx(3.375e-4)


def test_an_adaptive_learning_rate_falls_after_the_kl_stop() -> None:
    """Also where the change that is left after the stop is small."""
    config = learner_config(
        lr_schedule="adaptive", lr_adaptive_kl=1.0, learning_rate=0.5, target_kl=0.01
    )
    learner = Learner(config)
    report = learner.update([played(config, learner)], 0)
    assert report.steps_undone == 1
    again = learner.update([played(config, learner)], 0)
    assert again.learning_rate == pytest.approx(0.5 / 1.5)


def test_state_restores_scaler_moments_and_minibatch_order() -> None:
    """Each on its own: a part left out of the state would not always change the next bits."""
    config = learner_config(amp="fp16")
    learner = trained(config)
    learner._scaler.update(2.0**9)
    resumed = Learner(config)
    resumed.load_state_files(learner.state_files())
    assert resumed._scaler.get_scale() == 2.0**9
    assert torch.equal(resumed._generator.get_state(), learner._generator.get_state())
    moments = [state["exp_avg_sq"] for state in learner._optimizer.state.values()]
    assert moments
    restored = [state["exp_avg_sq"] for state in resumed._optimizer.state.values()]
    for left, right in zip(moments, restored, strict=True):
        assert torch.equal(left, right)


def test_the_same_state_gives_the_same_file_of_weights() -> None:
    learner = trained(tiny_config(), 1)
    assert len({learner.state_files()[MODEL_FILE] for _ in range(5)}) == 1


@pytest.mark.slow
def test_two_learners_with_one_config_agree_bit_for_bit() -> None:
    config = learner_config(num_threads=2)
    assert trained(config).weights_digest() == trained(config).weights_digest()
    reseeded = tiny_config(run={"seed": 4}, learner={"num_threads": 2})
    assert trained(reseeded).weights_digest() != trained(config).weights_digest()


def test_optimizer_settings_after_a_resume_are_the_configs() -> None:
    files = trained(learner_config(weight_decay=0.0, adam_eps=1e-5)).state_files()
    resumed = Learner(learner_config(weight_decay=0.2, adam_eps=1e-3))
    resumed.load_state_files(files)
    groups = resumed._optimizer.param_groups
    assert [(g["weight_decay"], g["eps"]) for g in groups] == [(0.2, 1e-3)]


def test_the_model_file_names_its_weights() -> None:
    config = tiny_config()
    learner = trained(config, 1)
    content = learner.state_files()[MODEL_FILE]
    metadata = read_model_metadata(content)
    assert metadata == {
        "weights_version": "1",
        "weights_digest": learner.weights_digest(),
        "architecture": architecture_digest(config.model),
        "model": config.model.model_dump_json(),
    }
    assert digest(read_model_file(content)) == learner.weights_digest()
    assert peek_weights(learner.weights()).digest == learner.weights_digest()
    acting = build_model(config.model, seed=99)
    load_weights(acting, learner.weights())
    assert digest(state_arrays(acting)) == learner.weights_digest()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (MODEL_FILE, lambda content: None),
        (MODEL_FILE, lambda content: b""),
        (MODEL_FILE, lambda content: b"not a model"),
        (MODEL_FILE, lambda content: content[:-10]),
        (MODEL_FILE, lambda content: content[:-1] + bytes([content[-1] ^ 1])),
        (LEARNER_FILE, lambda content: None),
        (LEARNER_FILE, lambda content: b""),
        (LEARNER_FILE, lambda content: b"not a state"),
        (LEARNER_FILE, lambda content: content[:300]),
        (LEARNER_FILE, lambda content: pickle.dumps({"optimizer": print}, protocol=2)),
    ],
)
def test_state_files_that_are_missing_or_damaged_are_refused_in_one_line(
    name: str, damage: Callable[[bytes], bytes | None]
) -> None:
    config = tiny_config()
    files = trained(config, 1).state_files()
    content = damage(files.pop(name))
    if content is not None:
        files[name] = content
    with pytest.raises(CheckpointError, match=name) as caught:
        Learner(config).load_state_files(files)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "model", [{"activation": "silu"}, {"width": 32}, {"value_head": "scalar"}], ids=str
)
def test_state_of_another_architecture_is_refused_and_nothing_changes(
    model: dict[str, Any],
) -> None:
    learner = Learner(tiny_config())
    before = learner.weights_digest()
    with pytest.raises(CheckpointError, match="another architecture"):
        learner.load_state_files(Learner(tiny_config(model=model)).state_files())
    assert learner.weights_digest() == before


def overlap_config(**schedule: object) -> Config:
    return tiny_config(
        schedule={"mode": "overlap", "rollouts_per_update": 3, "max_policy_lag": 1} | schedule
    )


def stamped(version: int, seed: int = 0, **header: int) -> np.ndarray:
    return packed(random_rollout(T, N, seed, weights_version=version, **header))


def untouched(learner: Learner) -> tuple[object, ...]:
    """Everything that an update changes."""
    state = learner.state_files()
    return state[MODEL_FILE], learner._generator.get_state().tolist(), learner.weights_version


def test_damaged_buffers_are_named_by_index_and_nothing_changes() -> None:
    learner = Learner(overlap_config())
    buffers = [stamped(0, seed) for seed in range(3)]
    buffers[0] = buffers[0][:-5]
    buffers[2] = buffers[2].copy()
    buffers[2][-1] ^= 1
    before = untouched(learner)
    with pytest.raises(RejectedRolloutsError) as caught:
        learner.update(buffers, 0)
    assert caught.value.causes.keys() == {0, 2}
    assert "DamagedBufferError" in caught.value.causes[0]
    assert untouched(learner) == before
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # As Ray carries it.


def test_a_sound_buffer_that_is_no_rollout_is_rejected() -> None:
    learner = Learner(overlap_config())
    before = untouched(learner)
    with pytest.raises(RejectedRolloutsError, match="ForeignBufferError"):
        learner.update([stamped(0), learner.weights(), stamped(0)], 0)
    assert untouched(learner) == before


def test_lag_beyond_the_limit_and_rollouts_of_the_future_raise_and_change_nothing() -> None:
    learner = Learner(overlap_config())
    learner.weights_version = 5
    for version in (3, 6):
        before = untouched(learner)
        with pytest.raises(PolicyLagError, match=f"actor 2 was played with weights {version}"):
            learner.update([stamped(5), stamped(5), stamped(version, actor_id=2)], 0)
        assert untouched(learner) == before


def test_lag_within_the_limit_is_measured() -> None:
    learner = Learner(overlap_config())
    learner.weights_version = 5
    report = learner.update([stamped(5), stamped(4, 1), stamped(4, 2)], 0)
    assert report.policy_lag_mean == pytest.approx(2 / 3)
    assert report.policy_lag_max == 1
    assert report.weights_version == learner.weights_version == 6


def test_lockstep_accepts_no_lag() -> None:
    learner = Learner(tiny_config())
    learner.weights_version = 1
    with pytest.raises(PolicyLagError):
        learner.update([stamped(0)], 0)


def test_an_update_of_nothing_or_of_too_little_raises_and_changes_nothing() -> None:
    learner = Learner(overlap_config())
    before = untouched(learner)
    with pytest.raises(EmptyUpdateError):
        learner.update([], 0)
    with pytest.raises(RolloutFormatError, match="96"):
        learner.update([stamped(0)], 0)
    assert untouched(learner) == before


def test_the_kl_stop_undoes_the_step_that_is_too_far() -> None:
    """Weights and optimizer state equal those of a run of only the steps before it."""
    config = learner_config(learning_rate=0.01, num_epochs=20, num_minibatches=1, target_kl=0.01)
    learner = Learner(config)
    buffer = played(config, learner)
    report = learner.update([buffer], 0)
    assert 2 <= report.optimizer_steps < 19
    assert report.steps_undone == 1
    assert report.kl_proximal <= KL_STOP_FACTOR * 0.01
    shorter, longer = (
        Learner(
            learner_config(
                learning_rate=0.01, num_epochs=report.optimizer_steps + more, num_minibatches=1
            )
        )
        for more in (0, 2)  # The last of the two more epochs shows the step that is too far.
    )
    shorter.update([buffer], 0)
    too_far = longer.update([buffer], 0)
    assert shorter.weights_digest() == learner.weights_digest()
    assert too_far.kl_proximal > KL_STOP_FACTOR * 0.01
    states = [one._optimizer.state_dict()["state"] for one in (learner, shorter)]
    for index, moments in states[0].items():
        for name, tensor in moments.items():
            assert torch.equal(tensor, states[1][index][name]), name


def test_an_update_whose_first_step_is_too_far_changes_nothing_but_the_version() -> None:
    config = learner_config(learning_rate=0.5, num_epochs=3, num_minibatches=2, target_kl=0.01)
    learner = Learner(config)
    before = learner.weights_digest()
    buffer = played(config, learner)
    report = learner.update([buffer], 0)
    assert (report.optimizer_steps, report.steps_undone) == (0, 1)
    assert learner.weights_digest() == before
    assert not learner._optimizer.state
    assert report.weights_version == 1


def test_the_last_step_of_an_update_is_checked_too() -> None:
    config = learner_config(learning_rate=0.5, num_epochs=1, num_minibatches=1, target_kl=0.01)
    learner = Learner(config)
    before = learner.weights_digest()
    report = learner.update([played(config, learner)], 0)
    assert report.steps_undone == 1
    assert learner.weights_digest() == before


def test_ratios_are_clipped_against_the_learners_own_policy_where_the_rollout_lags() -> None:
    """The first minibatch of a lagging rollout clips nothing; the lag shows in the KL alone."""
    values = tiny_config(
        learner={"learning_rate": 0.02, "num_epochs": 1, "num_minibatches": 1}
    ).model_dump()
    values["schedule"].update(mode="overlap", max_policy_lag=1, rollouts_per_update=1)
    config = Config.model_validate(values)
    learner = Learner(config)
    buffers = [played(config, learner, actor_id=k) for k in range(2)]
    learner.update(buffers[:1], 0)
    report = learner.update(buffers[1:], T * N)  # Played by version 0.
    assert report.policy_lag_max == 1
    assert report.clip_fraction == 0
    assert report.kl_proximal < 1e-9
    assert report.approx_kl > 1e-3
    assert report.first_log_ratio > 0.03


def test_forced_mates_are_trained_by_cross_entropy_and_by_nothing_else() -> None:
    """Their advantages and what played them change no weight; their moves become likelier."""
    rates = {"num_epochs": 3, "learning_rate": 3e-3, "ent_coef": 0.0, "vf_coef": 0.0}
    config = learner_config(mate_coef=1.0, **rates)
    first = Learner(config)
    buffer = played(config, first)
    digests = set()
    for change in (0.0, 5.0):
        learner = Learner(config)
        rollout = unpack_rollout(buffer)
        rollout.is_forced[:] = False
        rollout.is_forced[T // 2 :] = True
        rollout.behavior_log_probs[T // 2 :] -= change
        report = learner.update([packed(rollout)], 0)
        digests.add(learner.weights_digest())
        assert report.forced_timesteps == (T - T // 2) * N
    assert len(digests) == 1
    rollout.is_forced[:] = True
    learner = Learner(config)
    losses = [learner.update([packed(rollout)], 0).mate_loss]
    rollout = replace(rollout, header=replace(rollout.header, weights_version=1))
    losses.append(learner.update([packed(rollout)], 0).mate_loss)
    assert losses[1] < losses[0]


@pytest.mark.parametrize("is_pretraining", [False, True])
def test_by_default_the_policy_learns_no_forced_mate_but_every_recorded_move(
    is_pretraining: bool,
) -> None:
    values = learner_config(ent_coef=0.0, vf_coef=0.0).model_dump()
    values["pretrain"]["records"] = ("games.hcpe",) if is_pretraining else ()
    config = Config.model_validate(values)
    learner = Learner(config)
    before = learner.weights_digest()
    rollout = unpack_rollout(played(config, learner))
    rollout.is_forced[:] = True
    report = learner.update([packed(rollout)], 0)
    assert report.mate_loss > 0
    assert (learner.weights_digest() != before) == is_pretraining


def test_the_kl_stop_does_not_count_what_the_policy_lag_brought() -> None:
    """Rollouts of weights far behind must not make an update that learns nothing."""
    far = learner_config(learning_rate=0.05, num_epochs=20, num_minibatches=1, target_kl=None)
    values = far.model_dump()
    values["schedule"].update(mode="overlap", max_policy_lag=1, rollouts_per_update=1)
    learner = Learner(Config.model_validate(values))
    buffer = played(far, learner)
    moved = learner.update([buffer], 0)
    assert moved.approx_kl > KL_STOP_FACTOR * 0.01
    values["learner"].update(target_kl=0.01, learning_rate=1e-5)
    careful = Learner(Config.model_validate(values))
    careful.load_state_files(learner.state_files())
    lagged = careful.update([buffer], 0)  # Played by version 0, consumed at version 1.
    assert lagged.policy_lag_max == 1
    assert lagged.approx_kl > KL_STOP_FACTOR * 0.01
    assert lagged.kl_proximal < KL_STOP_FACTOR * 0.01
    assert lagged.optimizer_steps == 20


def test_the_report_counts_rows_bytes_and_versions() -> None:
    learner = Learner(overlap_config())
    buffers = [stamped(0, seed) for seed in range(3)]
    report = learner.update(buffers, 0)
    assert report.batch_timesteps == 3 * T * N
    assert report.rollout_bytes_wire == sum(buffer.nbytes for buffer in buffers)
    assert report.rollout_bytes_raw == sum(unpack_rollout(b).raw_bytes for b in buffers)
    assert (report.weights_version, report.optimizer_steps, report.amp_skipped) == (1, 4, 0)
    figures = [v for v in vars(report).values() if isinstance(v, float)]
    assert np.isfinite(figures).all()


def test_on_a_cpu_the_rows_learnt_from_are_the_storage_itself() -> None:
    """No field is copied; on CUDA each is copied once, into storage that is also reused."""
    config = tiny_config()
    learner = Learner(config)
    places = {name: array.ctypes.data for name, array in learner._batch._arrays.items()}
    seen: list[dict[str, int]] = []
    compute = learner._gradients.compute

    def noting(fields: Any, rows: Any, **kwargs: Any) -> Any:
        seen.append({name: tensor.data_ptr() for name, tensor in fields.items()})
        return compute(fields, rows, **kwargs)

    learner._gradients.compute = noting
    for update in range(2):
        learner.update([played(config, learner)], update)
    assert len(seen) == 8
    assert all(found == places for found in seen)


def test_every_epoch_visits_every_row_once_in_an_order_of_its_own() -> None:
    config = learner_config(num_epochs=3, num_minibatches=4)
    learner = Learner(config)
    seen: list[list[int]] = []
    compute = learner._gradients.compute

    def noting(fields: Any, rows: torch.Tensor, **kwargs: Any) -> Any:
        seen.append(rows.tolist())
        return compute(fields, rows, **kwargs)

    learner._gradients.compute = noting
    learner.update([played(config, learner)], 0)
    assert [len(rows) for rows in seen] == [T * N // 4] * 12
    epochs = [[row for rows in seen[k : k + 4] for row in rows] for k in (0, 4, 8)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(T * N))
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_an_update_uses_the_learning_rate_of_its_timestep() -> None:
    config = learner_config(learning_rate=1e-3, lr_schedule="linear", lr_final_fraction=0.0)
    learner = Learner(config)
    report = learner.update([played(config, learner)], config.run.total_timesteps // 2)
    assert report.learning_rate == pytest.approx(5e-4)
    assert [g["lr"] for g in learner._optimizer.param_groups] == [pytest.approx(5e-4)]
    before = learner.weights_digest()
    report = learner.update([played(config, learner)], config.run.total_timesteps)
    assert report.learning_rate == 0
    assert learner.weights_digest() == before


def test_an_update_uses_the_entropy_bonus_of_its_timestep() -> None:
    """The bonus alone makes the policy even, so a greater one leaves more entropy."""
    config = learner_config(
        learning_rate=1e-2, lr_schedule="constant", num_epochs=8, ent_coef=3, ent_final_fraction=0
    )
    reports = []
    for timestep in (0, config.run.total_timesteps):
        learner = Learner(config)
        rollout = played(config, learner)
        learner.update([rollout], timestep)
        reports.append(learner.update([played(config, learner)], timestep))
    assert [report.ent_coef for report in reports] == [3, 0]
    assert reports[0].entropy > reports[1].entropy


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_cuda_device_is_a_named_error() -> None:
    config = tiny_config()
    on_cuda = config.learner.model_copy(update={"device": "cuda"})
    with pytest.raises(ConfigError, match="CUDA"):
        Learner(config.model_copy(update={"learner": on_cuda}))


def test_published_weights_and_state_do_not_change_with_the_next_update() -> None:
    """State and weights of one version do not change with the next update."""
    config = tiny_config()
    learner = trained(config, 1)  # The optimizer has its moments.
    snapshot = learner.snapshot()
    weights, files = learner.weights(), learner.state_files()
    copies = weights.tobytes(), dict(files)
    learner.update([played(config, learner)], 0)
    assert (weights.tobytes(), files) == copies
    assert snapshot.packed_weights(config.wire).tobytes() == copies[0]
    assert snapshot.state_files() == copies[1]
    assert replace(peek_weights(weights), digest="") != replace(
        peek_weights(learner.weights()), digest=""
    )


def test_the_digest_of_a_version_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config()
    learner = Learner(config)
    buffer = played(config, learner)
    computed: list[str] = []

    def noting(arrays: Any) -> str:
        computed.append(digest(arrays))
        return computed[-1]

    monkeypatch.setattr("keisei_ray.network.weights.digest", noting)
    learner.update([buffer], 0)
    assert computed == []  # The device would have nothing to do meanwhile.
    snapshot = learner.snapshot()
    own = peek_weights(snapshot.packed_weights(config.wire)).digest
    named = read_model_metadata(snapshot.state_files()[MODEL_FILE])["weights_digest"]
    assert [named] == computed == [own]
    assert learner.weights_digest() == own
    learner.load_state_files(Learner(config).state_files())
    assert learner.weights_digest() != own


def test_a_learner_begins_as_another_network_with_an_optimizer_of_its_own() -> None:
    config = tiny_config()
    other = Learner(tiny_config(run={"seed": 9}))
    other.update([played(config, other)], 0)
    learner = Learner(config)
    learner.begin_as(other.state_files()[MODEL_FILE])
    assert learner.weights_digest() == other.weights_digest()
    assert learner.weights_version == 0
    assert not learner._optimizer.state
    wider = Learner(tiny_config(model={"width": 24, "depth": 2}))
    wider.begin_as(other.state_files()[MODEL_FILE])
    with pytest.raises(CheckpointError, match="this run has 1, 16"):
        learner.begin_as(wider.state_files()[MODEL_FILE])


def test_what_is_no_model_file_is_refused_as_a_beginning() -> None:
    learner = Learner(tiny_config())
    digest = learner.weights_digest()
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        learner.begin_as(b"something else")
    assert learner.weights_digest() == digest
