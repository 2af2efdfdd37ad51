"""Left and right: no rule of Shogi tells them apart, and training may turn one into the other."""

import numpy as np
import torch

from keisei_ray.batch import UpdateBatch
from keisei_ray.config import Config
from keisei_ray.learner import Learner
from keisei_ray.model import legal_mask, masked_log_probs
from keisei_ray.self_play import SelfPlay
from keisei_ray.shogi.actions import LABEL_TO_PLANE, MIRRORED_LABEL, MIRRORED_SQUARE
from keisei_ray.shogi.games import Games
from keisei_ray.wire import unpack_rollout
from tests.rollouts import random_rollout


def mirrored_sfen(sfen: str) -> str:
    """The position with its files in reverse; a promoted piece keeps its plus in front."""
    board, rest = sfen.split(" ", 1)
    rows = []
    for row in board.split("/"):
        pieces: list[str] = []
        for char in row:
            if pieces and pieces[-1] == "+":
                pieces[-1] += char
            else:
                pieces.append(char)
        rows.append("".join(reversed(pieces)))
    return f"{'/'.join(rows)} {rest}"


def games_in_play(lanes: int, plies: int) -> Games:
    games = Games(lanes, max_plies=400, rng_for_game=np.random.default_rng)
    rng = np.random.default_rng(3)
    for _ in range(plies):
        games.step((rng.random(lanes) * np.diff(games.legal_offsets)).astype(np.int64))
    return games


def test_mirroring_a_label_or_a_square_twice_changes_nothing() -> None:
    np.testing.assert_array_equal(MIRRORED_LABEL[MIRRORED_LABEL], np.arange(1496))
    np.testing.assert_array_equal(MIRRORED_SQUARE[MIRRORED_SQUARE], np.arange(81))
    np.testing.assert_array_equal(
        LABEL_TO_PLANE[MIRRORED_LABEL] % 81, MIRRORED_SQUARE[LABEL_TO_PLANE % 81]
    )


def test_the_rules_library_agrees_on_boards_and_legal_moves_of_the_mirrored_position() -> None:
    lanes = 40
    sides, promoted = set(), 0
    for plies in (3, 60, 140):
        games = games_in_play(lanes, plies)
        for lane in range(lanes):
            sfen = games.current_sfen(lane)
            mirrored = Games(
                1,
                max_plies=400,
                rng_for_game=np.random.default_rng,
                sfens=(mirrored_sfen(sfen),),
            )
            legal = games.legal_labels[games.legal_offsets[lane] : games.legal_offsets[lane + 1]]
            np.testing.assert_array_equal(games.boards[lane][MIRRORED_SQUARE], mirrored.boards[0])
            assert set(MIRRORED_LABEL[legal].tolist()) == set(mirrored.legal_labels.tolist())
            sides.add(int(games.turns[lane]))
            promoted += "+" in sfen
    assert sides == {0, 1}
    assert promoted > 10


def test_a_batch_mirrors_board_legal_moves_and_action_of_the_rows_asked_for() -> None:
    rollout = random_rollout(6, 5)
    plain, batch = (UpdateBatch(30, torch.device("cpu")) for _ in range(2))
    for filled in (plain, batch):
        filled.fill([rollout], gamma=0.99, gae_lambda=0.9)
    rows = np.array([2, 3, 17])
    batch.mirror(rows)
    before, after = plain.on_device(), batch.on_device()
    for name in before:
        others = np.setdiff1d(np.arange(30), rows)
        assert torch.equal(before[name][others], after[name][others])
        if name not in ("boards", "legal_bits", "actions"):
            assert torch.equal(before[name], after[name])
    masks = legal_mask(before["legal_bits"]), legal_mask(after["legal_bits"])
    for row in rows:
        for square in range(81):
            file, rank = divmod(square, 9)
            assert after["boards"][row, (8 - file) * 9 + rank] == before["boards"][row, square]
        for label in range(1496):
            assert masks[1][row, MIRRORED_LABEL[label]] == masks[0][row, label]
        assert after["actions"][row] == MIRRORED_LABEL[before["actions"][row]]


def mirror_config(**learner: object) -> Config:
    return Config.model_validate(
        {
            "self_play": {"num_actors": 1, "games_per_actor": 8, "rollout_length": 8},
            "model": {"depth": 1, "width": 16, "value_hidden": 8},
            "learner": {"device": "cpu", "num_threads": 1, "num_minibatches": 1, "mirror": True}
            | learner,
            "schedule": {"mode": "lockstep"},
        }
    ).resolve_auto(1, 0)


def test_the_ratio_starts_at_1_in_mirrored_positions_too() -> None:
    config = mirror_config()
    learner, self_play = Learner(config), SelfPlay(config, 0, 0)
    with torch.no_grad():  # A policy that is not close to uniform.
        learner.model.policy_head.weight.normal_(std=0.5)
    self_play.set_weights(learner.weights())
    _, packed = self_play.collect()
    report = learner.update([packed], 0)
    assert report.first_log_ratio < 1e-5


def test_about_half_of_the_rows_are_mirrored_and_their_log_probs_are_the_present_policys() -> None:
    config = mirror_config(learning_rate=1e-12, num_epochs=1)
    learner, self_play = Learner(config), SelfPlay(config, 0, 0)
    self_play.set_weights(learner.weights())
    _, packed = self_play.collect()
    plain = UpdateBatch(64, torch.device("cpu"))
    plain.fill([unpack_rollout(packed)], gamma=0.99, gae_lambda=0.9)
    learner.update([packed], 0)
    fields, before = learner._batch.on_device(), plain.on_device()
    turned = (fields["boards"] != before["boards"]).any(1)
    assert 16 < int(turned.sum()) < 48
    with torch.no_grad():
        logits, _ = learner.model(fields["boards"], fields["hands"], fields["scalars"])
        log_probs = masked_log_probs(logits, legal_mask(fields["legal_bits"]))
    expected = log_probs.gather(1, fields["actions"].long()[:, None])[:, 0]
    torch.testing.assert_close(fields["behavior_log_probs"], expected, atol=1e-5, rtol=0)


def test_a_resumed_learner_mirrors_the_same_rows() -> None:
    config = mirror_config()
    rollouts = []
    learner, self_play = Learner(config), SelfPlay(config, 0, 0)
    for _ in range(2):
        self_play.set_weights(learner.weights())
        rollouts.append(self_play.collect()[1])
        learner.update([rollouts[-1]], 0)
    resumed = Learner(config)
    resumed.update([rollouts[0]], 0)
    successor = Learner(config)
    successor.load_state_files(resumed.state_files())
    successor.update([rollouts[1]], 0)
    assert successor.weights_digest() == learner.weights_digest()
