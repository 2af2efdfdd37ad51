"""Self-play and the update on a GPU: the CPU's numbers, valid rollouts, and the same rules."""

from typing import Any

import numpy as np
import pytest
import torch

from keisei_ray.bench.device_loops import trained_network
from keisei_ray.bench.gpu_checks import (
    check_first_ratio,
    check_outputs,
    check_sampling,
    full_float32,
)
from keisei_ray.config.autosize import resolve_auto
from keisei_ray.config.schema import Config
from keisei_ray.config.sections import ModelConfig
from keisei_ray.learning.learner import Learner
from keisei_ray.network.model import legal_mask
from keisei_ray.network.weights import digest, load_weights, pack_weights, state_arrays
from keisei_ray.players.policies import network_outputs
from keisei_ray.rollouts.packed_rollout import unpack_rollout
from keisei_ray.selfplay.opponent_mix import OpponentMix
from keisei_ray.selfplay.self_play import SelfPlay
from keisei_ray.shogi.replay import replay
from tests.helpers.tiny import tiny_config

CPU = torch.device("cpu")
T, N = 16, 32


def config_on(device: torch.device, **sections: dict[str, Any]) -> Config:
    """Returns the tiny settings, in float32, with self-play and learner on a device."""
    values = tiny_config().model_dump()
    values["self_play"].update(device=device.type, amp="off", games_per_actor=N, rollout_length=T)
    values["learner"].update(device=device.type, amp="off")
    for section, changes in sections.items():
        values[section] |= changes
    return resolve_auto(Config.model_validate(values), num_cpus=1, num_gpus=1)


def test_outputs_are_those_of_the_cpu(device: torch.device) -> None:
    checks = check_outputs(ModelConfig(), device)
    assert [check for check in checks if not check.is_met] == []


def test_moves_are_sampled_with_the_cpus_probabilities(device: torch.device) -> None:
    checks = check_sampling(ModelConfig(), device, num_draws=4096)
    assert [check for check in checks if not check.is_met] == []


@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_the_first_ratio_of_an_update_is_one(device: torch.device, amp: str) -> None:
    config = config_on(
        device, learner={"amp": amp, "num_epochs": 1, "num_minibatches": 1}, self_play={"amp": amp}
    )
    checks = check_first_ratio(config)
    assert [check for check in checks if not check.is_met] == []


def test_self_play_makes_valid_rollouts_of_legal_games(device: torch.device) -> None:
    config = config_on(device, self_play={"amp": "bf16"})
    self_play = SelfPlay(config, actor_id=0, incarnation=0)
    model = trained_network(config.model)
    self_play.set_weights(pack_weights(model, 0, weights_format="lossless", zstd_level=1))
    games = 0
    for _ in range(6):
        report, packed = self_play.collect()
        rollout = unpack_rollout(packed)  # Validates it.
        mask = legal_mask(torch.from_numpy(rollout.legal_bits.reshape(T * N, -1)))
        played = torch.from_numpy(rollout.actions.reshape(-1).astype(np.int64))
        assert mask.gather(1, played[:, None]).all()
        sampled = rollout.is_trained & ~rollout.is_forced
        assert (rollout.behavior_log_probs[sampled] < 0).any()
        assert rollout.values.std() > 0.01
        for game in report.games:
            replay(game.moves.split(), game.start_sfen)  # Raises where a move is not legal.
            games += 1
    assert games > 10


def test_self_play_goes_on_from_its_state(device: torch.device) -> None:
    config = config_on(device)
    first, second = (SelfPlay(config, actor_id=0, incarnation=0) for _ in range(2))
    model = trained_network(config.model)
    weights = pack_weights(model, 0, weights_format="lossless", zstd_level=1)
    first.set_weights(weights)
    first.collect()
    second.set_weights(weights)
    second.restore(first.state())
    rollouts = [unpack_rollout(actor.collect()[1]) for actor in (first, second)]
    for name in ("boards", "hands", "legal_bits"):
        np.testing.assert_array_equal(*(getattr(rollout, name)[0] for rollout in rollouts))
    assert rollouts[1].header.sequence == 1


def test_snapshots_of_the_pool_play_their_own_moves(device: torch.device) -> None:
    """Two of them, asked in the same plies, in each group of games."""
    pool = {"share": 1.0, "networks_per_actor": 2}
    config = config_on(device, pool=pool, self_play={"finish_mates": False})
    learner, *snapshots = (trained_network(config.model, seed=seed) for seed in range(3))
    with torch.no_grad():
        for model in snapshots:
            model.policy_head.weight.mul_(1000)  # They play the likeliest move.
    packed = [
        pack_weights(model, version, weights_format="lossless", zstd_level=1)
        for version, model in enumerate((learner, *snapshots))
    ]
    names = ("v1", "v2")
    mix = OpponentMix(1.0, tuple((name, 0.5) for name in names), names)
    self_play = SelfPlay(config, actor_id=0, incarnation=0)
    self_play.set_weights(packed[0])
    rollout = unpack_rollout(self_play.collect(mix, packed[1:])[1])
    is_whole = ~(rollout.terminated | rollout.truncated).any(0)
    opponents = np.array([self_play._pairing.opponent_of(lane)[0] for lane in range(N)])
    for name, model in zip(names, snapshots, strict=True):
        is_own = ~rollout.is_trained & is_whole & (opponents == name)
        logits, _, _ = network_outputs(
            model, rollout.boards[is_own], rollout.hands[is_own], rollout.scalars[is_own]
        )
        mask = legal_mask(torch.from_numpy(rollout.legal_bits[is_own])).numpy()
        likeliest = np.where(mask, logits, -np.inf).argmax(1)
        assert len(likeliest) > 2 * T
        # TF32 may decide otherwise between moves that are nearly alike.
        assert (likeliest == rollout.actions[is_own]).mean() > 0.9


def rollout_for(config: Config) -> np.ndarray:
    """Returns a packed rollout that the CPU plays with the learner's first weights."""
    values = config.model_dump()
    values["self_play"]["device"] = values["learner"]["device"] = "cpu"
    on_cpu = Config.model_validate(values)
    self_play = SelfPlay(on_cpu, actor_id=0, incarnation=0)
    self_play.set_weights(Learner(on_cpu).weights())
    return self_play.collect()[1]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_an_update_is_that_of_the_cpu(device: torch.device, optimizer: str) -> None:
    """A large Adam epsilon makes steps proportional to gradients, so noise stays noise."""
    changes = {"adam_eps": 0.01, "num_epochs": 2, "num_minibatches": 4, "optimizer": optimizer}
    on_cpu, on_device = (config_on(where, learner=changes) for where in (CPU, device))
    packed = rollout_for(on_cpu)
    learners = Learner(on_cpu), Learner(on_device)
    before = {name: array.copy() for name, array in state_arrays(learners[0].model).items()}
    with full_float32():
        expected, found = (learner.update([packed], 0) for learner in learners)
    for name in ("policy_loss", "value_loss", "entropy", "grad_norm", "explained_variance"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-3, abs=1e-5)
    assert found.optimizer_steps == expected.optimizer_steps == 8
    on_device_now, largest = state_arrays(learners[1].model), 0.0
    for name, array in state_arrays(learners[0].model).items():
        change = float(np.abs(array - before[name]).max())
        largest = max(largest, change)
        np.testing.assert_allclose(
            on_device_now[name], array, rtol=0, atol=1e-6 + 0.02 * change, err_msg=name
        )
    assert largest > 1e-4


def test_weights_travel_unchanged(device: torch.device) -> None:
    learner = Learner(config_on(device))
    with torch.no_grad():
        for parameter in learner.model.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    for where in (CPU, device):
        model = trained_network(learner.model.config).to(where)
        load_weights(model, learner.weights())
        assert digest(state_arrays(model)) == learner.weights_digest()


def test_the_kl_stop_ends_an_update(device: torch.device) -> None:
    changes = {"target_kl": 1e-7, "learning_rate": 0.01, "num_epochs": 3, "num_minibatches": 4}
    config = config_on(device, learner=changes)
    learner = Learner(config)
    report = learner.update([rollout_for(config)], 0)
    assert report.steps_undone == 1
    assert report.optimizer_steps < 12
    assert np.isfinite(report.policy_loss)


def test_float16_learns_with_a_loss_scale(device: torch.device) -> None:
    config = config_on(device, learner={"amp": "fp16", "num_epochs": 4, "num_minibatches": 8})
    learner = Learner(config)
    before = learner.weights_digest()
    report = learner.update([rollout_for(config)], 0)
    assert report.undone is None
    assert report.amp_scale is not None
    assert report.optimizer_steps + report.amp_skipped == 32
    assert report.optimizer_steps > 16
    assert learner.weights_digest() != before


def test_a_learner_goes_on_from_its_files(device: torch.device) -> None:
    config = config_on(device)
    packed = rollout_for(config)
    first, second = Learner(config), Learner(config)
    first.update([packed], 0)
    second.load_state_files(first.state_files())
    assert second.weights_digest() == first.weights_digest()
    assert second.weights_version == 1
