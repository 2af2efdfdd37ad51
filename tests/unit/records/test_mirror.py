"""Mirrored positions: what the rules say about a game that is played the other way round."""

import numpy as np
import pytest
from rsshogi.core import Move

from keisei_ray.config.sections import PretrainConfig
from keisei_ray.records.left_out import Tally
from keisei_ray.records.mirror import mirrored, some_mirrored
from keisei_ray.records.positions import Positions, joined, positions_of
from keisei_ray.shogi.game import STANDARD_SFEN, Game
from keisei_ray.shogi.game_record import GameRecord

MIRRORED_START = "lnsgkgsnl/1b5r1/ppppppppp/9/9/9/PPPPPPPPP/1R5B1/LNSGKGSNL b - 1"


def random_moves(seed: int) -> list[str]:
    """Random legal moves, pieces dropped and promoted among them."""
    rng = np.random.default_rng(seed)
    game, verdict = Game(STANDARD_SFEN, max_plies=1000), None
    moves: list[str] = []
    while len(moves) < 200 and verdict is None:
        move = int(rng.choice(np.frombuffer(game.legal, np.uint16)))
        moves.append(Move(move).to_usi())
        verdict = game.play(move)
    return moves


def other_way_round(usi: str) -> str:
    """The move with its files in reverse: 7g7f is 3g3f, P*2c is P*8c."""
    return "".join(str(10 - int(letter)) if letter.isdigit() else letter for letter in usi)


def positions(start: str, moves: list[str]) -> Positions:
    values = tuple(Move.from_usi(move).value for move in moves)
    record = GameRecord(start, values, "black_win")
    return joined(list(positions_of([record], PretrainConfig(), Tally())))


@pytest.mark.parametrize("seed", range(5))
def test_a_mirrored_position_is_that_of_the_mirrored_game(seed: int) -> None:
    moves = random_moves(seed)
    found = mirrored(positions(STANDARD_SFEN, moves))
    expected = positions(MIRRORED_START, [other_way_round(move) for move in moves])
    for name in Positions._fields:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def test_each_position_is_mirrored_or_not() -> None:
    before = positions(STANDARD_SFEN, random_moves(7))
    after = some_mirrored(before, np.random.default_rng(1))
    other = mirrored(before)
    is_same = (after.boards == before.boards).all(1) & (after.actions == before.actions)
    is_other = (after.boards == other.boards).all(1) & (after.actions == other.actions)
    assert (is_same | is_other).all()
    assert 0.3 < is_other.mean() < 0.7
