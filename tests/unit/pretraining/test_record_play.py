"""Records as rollouts, and one learner's update from them."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from keisei_ray.config.schema import Config
from keisei_ray.learning.advantages import explained_variance
from keisei_ray.learning.learner import Learner
from keisei_ray.learning.update_batch import training_targets
from keisei_ray.network.model import outcome_values
from keisei_ray.pretraining.record_play import RecordPlay, fill
from keisei_ray.records.positions import empty_positions
from keisei_ray.rollouts.packed_rollout import unpack_rollout
from keisei_ray.rollouts.reader_state import read_reader
from keisei_ray.rollouts.rollout import Rollout
from keisei_ray.shogi.actions import MIRRORED_LABEL
from tests.helpers.record_corpus import csa_by_cshogi, hcpe_by_cshogi
from tests.helpers.tiny import N, T, tiny_config


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("records")
    hcpe_by_cshogi(path / "a.hcpe")
    csa_by_cshogi(path / "b.csa", games=8)
    return path


def config_of(records: Path, **sections: dict[str, Any]) -> Config:
    pretrain = {"records": (str(records),), "held_out": 0.3, "shuffle_positions": 20}
    pretrain |= sections.pop("pretrain", {})
    return tiny_config(
        pretrain=pretrain, schedule={"mode": "overlap", "rollouts_per_update": 1}, **sections
    )


def test_lambda_returns_of_a_filled_rollout_are_the_targets() -> None:
    rng = np.random.default_rng(0)
    positions = empty_positions(T * N)
    positions.values[:] = rng.uniform(-1, 1, T * N)
    positions.draws[:] = rng.integers(0, 2, T * N) / 2
    positions.legal_bits[:, 0] = 0x80
    rollout = Rollout.allocate(T, N)
    fill(rollout, positions)
    rollout.validate()
    targets = training_targets(rollout, gamma=1.0, gae_lambda=0.8)
    assert targets.value_targets.ravel() == pytest.approx(positions.values)
    assert targets.draw_targets.ravel() == pytest.approx(positions.draws)


def test_rollouts_of_records_train_policy_and_value(records: Path) -> None:
    config = config_of(records, learner={"learning_rate": 0.01, "gamma": 1.0, "ent_coef": 0.0})
    learner, reader = Learner(config), RecordPlay(config, 0, 0)
    losses = []
    for update in range(12):
        reader.set_weights(learner.weights())
        report, packed = reader.collect()
        rollout = unpack_rollout(packed, max_timesteps=T * N)
        assert (rollout.header.sequence, rollout.header.weights_version) == (update, update)
        assert (report.trained_timesteps, report.games, report.state) == (T * N, (), b"")
        assert read_reader(report.reader_state).sequence == update + 1
        losses.append(learner.update([packed], update * T * N))
    assert losses[-1].policy_loss < losses[0].policy_loss - 0.5
    assert losses[-1].value_loss < losses[0].value_loss
    assert losses[0].clip_fraction == losses[0].approx_kl == 0.0


@pytest.mark.parametrize("value_head", ["wdl", "scalar"])
@pytest.mark.parametrize(("epochs", "minibatches"), [(1, 1), (2, 4)])
def test_the_explained_variance_is_that_of_the_network_in_training(
    records: Path, value_head: str, epochs: int, minibatches: int
) -> None:
    """The steps are so small that all minibatches see the same network."""
    config = config_of(
        records,
        learner={
            "learning_rate": 1e-12,
            "gamma": 1.0,
            "num_epochs": epochs,
            "num_minibatches": minibatches,
        },
        model={"value_head": value_head},
    )
    learner, reader = Learner(config), RecordPlay(config, 0, 0)
    reader.set_weights(learner.weights())
    _, packed = reader.collect()
    rollout = unpack_rollout(packed, max_timesteps=T * N)
    boards, hands, scalars = (
        torch.from_numpy(array.reshape(T * N, -1).copy())
        for array in (rollout.boards, rollout.hands, rollout.scalars)
    )
    with torch.no_grad():
        values, _ = outcome_values(learner.model(boards, hands, scalars)[1])
    expected = explained_variance(values.numpy(), -rollout.bootstrap_values.ravel())
    assert abs(expected) > 0.01
    assert learner.update([packed], 0).explained_variance == pytest.approx(expected, abs=1e-5)


def test_weights_that_lag_cost_no_pass_of_their_own(
    records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(records)
    learner, reader = Learner(config), RecordPlay(config, 0, 0)
    reader.set_weights(learner.weights())
    old, newer = (reader.collect()[1] for _ in range(2))
    learner.update([newer], 0)
    monkeypatch.setattr(learner._gradients, "log_probs", lambda *_: pytest.fail("a pass"))
    report = learner.update([old], T * N)
    assert report.policy_lag_max == 1


def test_reader_0_measures_when_it_is_due_and_tells_what_was_read(records: Path) -> None:
    config = config_of(
        records,
        pretrain={"held_out_interval_timesteps": 6 * T * N},
        self_play={"num_actors": 2},
    )
    learner = Learner(config)
    reports = []
    for reader in (RecordPlay(config, 0, 0), RecordPlay(config, 1, 0)):
        for _ in range(5):
            reader.set_weights(learner.weights())
            reports.append(reader.collect()[0])
    assert [r.held_out is not None for r in reports] == [
        True, False, False, True, False, *5 * [False],
    ]  # fmt: skip
    notices = [notice for report in reports for notice in report.notices]
    assert any(n.startswith("weights version 0: held-out games, ") for n in notices)
    assert any(n.startswith("records read, pass 1, reader 0: used: ") for n in notices)
    assert all(
        re.match(r"records read, pass \d+, reader 0: used: ", r.records) for r in reports[:5]
    )


def test_counts_of_a_pass_that_goes_on_say_so(records: Path) -> None:
    config = config_of(records, pretrain={"shuffle_positions": 8})
    reader = RecordPlay(config, 0, 0)
    reader.set_weights(Learner(config).weights())
    assert reader.collect()[0].records.startswith("records so far, pass 1: used: ")


def test_a_reader_mirrors_half_of_the_positions_in_each_rollout_if_it_is_asked_to(
    records: Path,
) -> None:
    def labels(mirror: bool) -> list[np.ndarray[Any, Any]]:
        config = config_of(records, pretrain={"mirror": mirror})
        reader, found = RecordPlay(config, 0, 0), []
        for _ in range(4):
            reader.set_weights(Learner(config).weights())
            found.append(unpack_rollout(reader.collect()[1], max_timesteps=T * N).actions.ravel())
        return found

    plain, mixed = labels(mirror=False), labels(mirror=True)
    # A move straight on in the middle file is its own mirror image; the records have none.
    is_other = [mixed[i] == MIRRORED_LABEL[plain[i]] for i in range(4)]
    is_same = [mixed[i] == plain[i] for i in range(4)]
    for other, same in zip(is_other, is_same, strict=True):
        assert (other ^ same).all()
        assert other.any()
        assert same.any()
    assert any((is_other[0] != other).any() for other in is_other[1:])


def test_a_reader_reads_on_from_a_state_as_it_would_have(records: Path) -> None:
    config = config_of(records, pretrain={"held_out_interval_timesteps": 3 * T * N})
    weights = Learner(config).weights()

    def collected(reader: RecordPlay, count: int) -> list[tuple[Any, ...]]:
        found = []
        for _ in range(count):
            reader.set_weights(weights)
            report, packed = reader.collect()
            found.append((packed.tobytes(), report.reader_state, report.held_out, report.notices))
        return found

    straight = collected(RecordPlay(config, 0, 2), 8)
    resumed = RecordPlay(config, 0, 2)
    resumed.restore(read_reader(straight[3][1]))
    assert collected(resumed, 4) == straight[4:]


def test_a_changed_corpus_is_said_in_one_line(records: Path, tmp_path: Path) -> None:
    config = config_of(records)
    reader = RecordPlay(config, 0, 0)
    reader.set_weights(Learner(config).weights())
    state = read_reader(reader.collect()[0].reader_state)
    hcpe_by_cshogi(tmp_path / "other.hcpe")
    other = RecordPlay(config_of(tmp_path, pretrain={"held_out": 0.0}), 0, 0)
    other.set_weights(Learner(config).weights())
    other.restore(state)
    (notice,) = (n for n in other.collect()[0].notices if "not those of the checkpoint" in n)
    assert "reader 0 begins the next pass" in notice


def test_readers_of_one_run_read_different_games(records: Path, tmp_path: Path) -> None:
    for number in range(4):
        hcpe_by_cshogi(tmp_path / f"{number}.hcpe")
        content = (tmp_path / f"{number}.hcpe").read_bytes()
        (tmp_path / f"{number}.hcpe").write_bytes(content[38 * number : 38 * (number + 3)])
    config = config_of(tmp_path, self_play={"num_actors": 2}, pretrain={"held_out": 0.0})
    seen = []
    for actor_id in range(2):
        reader = RecordPlay(config, actor_id, 0)
        reader.set_weights(Learner(config).weights())
        rollout = unpack_rollout(reader.collect()[1], max_timesteps=T * N)
        seen.append({row.tobytes() for row in rollout.boards.reshape(-1, 81)})
    assert torch.get_num_threads() == 1
    assert seen[0] != seen[1]
