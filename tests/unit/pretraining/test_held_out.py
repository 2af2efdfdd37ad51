"""Measurement on held-out games: closed forms."""

import numpy as np
import pytest
import torch

from keisei_ray.config.sections import ModelConfig, PretrainConfig
from keisei_ray.network.model import PolicyValueNet, build_model
from keisei_ray.pretraining.held_out import calibration_error, measure, told
from keisei_ray.records.left_out import Tally
from keisei_ray.records.positions import Positions, joined, positions_of
from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.shogi.game_record import GameRecord, moves_from_usi
from tests.helpers.record_corpus import MOVES

TINY = ModelConfig(depth=1, width=8, value_hidden=8, material_prior=0.0)


def positions() -> Positions:
    game = GameRecord(STANDARD_SFEN, moves_from_usi(MOVES), "white_win")
    return joined(list(positions_of([game, game], PretrainConfig(), Tally())))


def uniform() -> PolicyValueNet:
    """A network whose policy is even over the legal moves and whose value is 0."""
    model = build_model(TINY, seed=0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


def test_a_network_that_knows_nothing() -> None:
    rows = positions()
    figures = measure(uniform(), rows)
    counts = np.unpackbits(rows.legal_bits, axis=1).sum(1)
    assert figures.positions == 24
    assert figures.policy_loss == pytest.approx(np.log(counts).mean(), abs=1e-5)
    assert figures.value_error == pytest.approx(1.0, abs=1e-5)  # Every game is decided.
    assert figures.calibration_error == pytest.approx(0.0, abs=1e-5)  # Half are won.
    assert "24 positions" in told(figures)


def test_the_recorded_move_counts_where_it_is_likeliest_or_among_the_first_five() -> None:
    rows = positions()
    model = uniform()
    with torch.no_grad():
        assert model.policy_head.bias is not None
        model.policy_head.bias.copy_(torch.arange(27, dtype=torch.float32))
        logits, _ = model(*(torch.from_numpy(x) for x in (rows.boards, rows.hands, rows.scalars)))
    legal = np.unpackbits(rows.legal_bits, axis=1).astype(bool)
    above = [
        int((row[mask] > row[action]).sum())
        for row, mask, action in zip(logits.numpy(), legal, rows.actions, strict=True)
    ]
    figures = measure(model, rows)
    assert figures.top1 == pytest.approx(np.mean([n == 0 for n in above]))
    assert figures.top5 == pytest.approx(np.mean([n < 5 for n in above]))
    assert 0 < figures.top5 < 1


def test_calibration_is_the_gap_in_each_range_weighted_by_its_positions() -> None:
    predicted = np.array([0.05, 0.05, 0.95, 1.0])
    actual = np.array([0.0, 1.0, 1.0, 0.0])
    expected = (2 * abs(0.05 - 0.5) + 2 * abs(0.975 - 0.5)) / 4
    assert calibration_error(predicted, actual) == pytest.approx(expected)
    assert calibration_error(np.full(4, 0.5), actual) == pytest.approx(0.0)
