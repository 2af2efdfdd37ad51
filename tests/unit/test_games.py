"""N games in lockstep: arrays against the slow oracle, auto-reset, independence, saved games."""

from collections.abc import Callable

import numpy as np
import pytest
from rsshogi.core import Board, Move

from keisei_ray.rollout import NUM_ACTIONS
from keisei_ray.shogi.actions import LABEL_OF_MOVE
from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.shogi.games import GameEnd, Games
from keisei_ray.shogi.observation import observe
from keisei_ray.shogi.rules import PIECE_VALUES


def rng_for_game(index: int) -> np.random.Generator:
    return np.random.default_rng([7, index])


def make_games(num_games: int, **settings: object) -> Games:
    return Games(num_games, **({"max_plies": 200, "rng_for_game": rng_for_game} | settings))


def random_choices(games: Games, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(np.diff(games.legal_offsets))


def labels_of(games: Games, lane: int) -> np.ndarray:
    return games.legal_labels[games.legal_offsets[lane] : games.legal_offsets[lane + 1]]


class Oracle:
    """One game replayed on a bare board, everything recomputed from its list of moves."""

    def __init__(self, sfen: str = STANDARD_SFEN) -> None:
        self.board = Board(sfen)
        self.positions = [self.key()]
        self.gave_check = [self.board.is_in_check()]

    def key(self) -> str:
        return self.board.to_sfen().rsplit(" ", 1)[0]

    def push(self, usi: str) -> None:
        self.board.apply_usi(usi)
        self.positions.append(self.key())
        self.gave_check.append(self.board.is_in_check())

    def checks_in_a_row(self, latest: int) -> int:
        count = 0
        for gave_check in self.gave_check[len(self.gave_check) - latest :: -2]:
            if not gave_check:
                break
            count += 1
        return count

    def check(self, games: Games, lane: int) -> None:
        seen = observe(
            self.board,
            earlier=self.positions.count(self.positions[-1]) - 1,
            own_checks=self.checks_in_a_row(2) if len(self.gave_check) > 1 else 0,
            opponent_checks=self.checks_in_a_row(1),
        )
        np.testing.assert_array_equal(games.boards[lane], seen.board)
        np.testing.assert_array_equal(games.hands[lane], seen.hand)
        np.testing.assert_array_equal(games.scalars[lane], seen.scalars)
        assert games.turns[lane] == int(self.board.turn.value)
        assert games.plies[lane] == len(self.positions) - 1
        values = [move.value for move in self.board.legal_moves()]
        labels = LABEL_OF_MOVE[games.turns[lane], values]
        np.testing.assert_array_equal(labels_of(games, lane), labels)
        bits = np.zeros(NUM_ACTIONS, dtype=bool)
        bits[labels] = True
        np.testing.assert_array_equal(games.legal_bits()[lane], np.packbits(bits))


def test_arrays_equal_the_slow_oracle_after_every_ply() -> None:
    games = make_games(6, max_plies=120)
    rng = np.random.default_rng(1)
    oracles = [Oracle() for _ in range(6)]
    num_finished = 0
    while num_finished < 12:
        choices = random_choices(games, rng)
        moves = [
            oracle.board.legal_moves()[choice].to_usi()
            for oracle, choice in zip(oracles, choices, strict=True)
        ]
        result = games.step(choices)
        for oracle, move in zip(oracles, moves, strict=True):
            oracle.push(move)
        for end in result.finished:
            oracles[end.lane] = Oracle()
        num_finished += len(result.finished)
        for lane, oracle in enumerate(oracles):
            oracle.check(games, lane)
