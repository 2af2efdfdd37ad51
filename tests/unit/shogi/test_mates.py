"""Mates by checks, against another program, brute force, and the rules."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rsshogi.core import Board, Move

from keisei_ray.shogi.game import Game
from keisei_ray.shogi.mates import MateSearch
from tests.helpers.mates import MATES, MAX_PLIES, is_mate_in, played

HARMLESS = 10**9
"""Nodes that no test here reaches."""

LONG_MATES = [
    # Plies of the shortest mate that cshogi's df-pn finds, position. From self-play games.
    (7, "7+BS/lkg2+N3/6+N1p/lPS1p2+L1/p5pBP/5P3/P4RPPL/SNR2GSK1/7N1 b 2G8P 153"),
    (9, "1n3+L3/8+R/2k2r2p/2p1p4/SP1ps2BN/2P4P1/3PP1G2/3L1P3/1+p2K2b1 b 3G2S2NL7Pl 165"),
    (11, "+S2+N3s1/5+N2l/8b/5pkp1/+S3P1p1p/NGPP1P1P1/PP4PGP/7K1/4+r4 b R2G2L5Pbsnl 117"),
    (13, "1+P5n1/2gsgksbl/lp1pp1ppp/p1p2p3/4RN3/4PPPP1/1+p1P1GN+bP/3SNK3/1+r4S2 w g2lp 72"),
]
MATELESS = [
    "l3kg1n1/1r1s1gs2/pp2p2pp/2pp1+B3/1P4p2/5P1PP/P1P1+n1P2/LBS2R3/1N2KGSNL w LPg2p 32",
    "1n5n1/lrs1g1s1l/p1kg1p1pp/1p1p5/2p1p1S2/1P5PP/3PPPP1L/8S/2G1KR3 w BL2Pbg2np 58",
]


def searched(game: Game, most: int = 10_000) -> MateSearch:
    """The search, ended after so many positions."""
    search = MateSearch(game)
    search.run(lambda: search.expanded >= most, HARMLESS)
    return search


def is_mating(game: Game, line: list[int]) -> bool:
    """Whether a line gives check at every other ply and ends in mate."""
    after = Game(game.board.to_sfen(), max_plies=MAX_PLIES)
    for ply, move in enumerate(line):
        verdict = after.play(move)
        if ply % 2 == 0 and not after.opponent_checks:
            return False
        if (verdict is not None) != (ply == len(line) - 1):
            return False
    return bool(line) and verdict is not None and verdict.reason == "mate"


@pytest.mark.parametrize(("plies", "sfen"), [(plies, sfen) for plies, _, sfen in MATES])
def test_the_shortest_mate_is_found(plies: int, sfen: str) -> None:
    game = Game(sfen, max_plies=MAX_PLIES)
    search = searched(game)
    assert search.has_mate is True
    assert len(search.line) == plies
    assert is_mating(game, search.line)


@pytest.mark.parametrize(("plies", "sfen"), LONG_MATES)
def test_long_mates_are_found(plies: int, sfen: str) -> None:
    game = Game(sfen, max_plies=MAX_PLIES)
    search = searched(game)
    assert (search.has_mate, len(search.line)) == (True, plies)
    assert is_mating(game, search.line)


@pytest.mark.parametrize("sfen", MATELESS)
def test_that_there_is_no_mate_is_proven(sfen: str) -> None:
    search = searched(Game(sfen, max_plies=MAX_PLIES))
    assert (search.has_mate, search.line) == (False, [])
    assert search.num_nodes == 1, "what is settled is forgotten"


@pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="cshogi needs an older numpy there")
@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), plies=st.integers(60, 250))
def test_another_program_agrees(seed: int, plies: int) -> None:
    import cshogi

    game = played(seed, plies)
    search = searched(game, 400)
    board = cshogi.Board(game.board.to_sfen())
    solver = cshogi.DfPn(31, 10**6, 1000)
    assume(search.has_mate is not None and game.legal)
    has_mate = solver.search(board)
    assert search.has_mate == has_mate
    assert is_mating(game, search.line) == has_mate


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), plies=st.integers(60, 200))
def test_brute_force_agrees_on_mates_of_three_plies(seed: int, plies: int) -> None:
    game = played(seed, plies)
    search = searched(game, 4000)
    assume(search.has_mate is not None and game.legal)
    assert is_mate_in(game.board.copy(), 3) == (0 < len(search.line) <= 3)


def replies(game: Game, line: list[int]) -> Iterator[Game]:
    """Games after the first move of a line and every reply to it."""
    for reply in _after(game, line[0]).legal_moves():
        yield _played_on(game, [line[0], reply.value])


def _after(game: Game, move: int) -> Board:
    board = game.board.copy()
    board.apply_move(Move(move))
    return board


def _played_on(game: Game, moves: list[int]) -> Game:
    after = Game(game.board.to_sfen(), max_plies=MAX_PLIES)
    for move in moves:
        after.play(move)
    return after


class WithoutSolver:
    """A board whose own search for mates in one finds none."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def __getattr__(self, name: str) -> Any:
        return getattr(self._board, name)

    def solve_mate_in_one(self) -> None:
        return None


@pytest.mark.parametrize(("plies", "sfen"), [(plies, sfen) for plies, _, sfen in MATES])
def test_no_mate_depends_on_the_librarys_mates_in_one(plies: int, sfen: str) -> None:
    game = Game(sfen, max_plies=MAX_PLIES)
    search = MateSearch(game)
    search._board = WithoutSolver(search._board)  # type: ignore[assignment]
    search.run(lambda: search.expanded >= 10_000, HARMLESS)
    assert len(search.line) == plies
    assert is_mating(game, search.line)


def test_no_reply_escapes_from_a_mate() -> None:
    game = Game(LONG_MATES[1][1], max_plies=MAX_PLIES)
    line = searched(game).line
    shorter = [len(searched(after).line) for after in replies(game, line)]
    assert max(shorter) == len(line) - 2
    assert all(shorter)


def test_a_line_that_comes_back_is_not_followed_on() -> None:
    """A lone rook checks for ever; without that rule it takes a thousand positions and more."""
    search = searched(Game("4k4/9/9/9/9/9/9/9/K4R3 b - 1", max_plies=MAX_PLIES), 100)
    assert search.has_mate is False


@pytest.mark.parametrize(("hand", "found"), [("P", False), ("L", True)])
def test_a_pawn_may_not_mate_by_a_drop(hand: str, found: bool) -> None:
    sfen = f"7nk/9/8G/9/9/9/9/9/4K4 b {hand} 1"
    assert searched(Game(sfen, max_plies=MAX_PLIES)).has_mate is found


class Repeated(Game):
    """A game in which one position has already occurred three times."""

    repeated = 0

    def occurrences(self, key: int) -> tuple[int, int]:
        return (0, 3) if key == self.repeated else super().occurrences(key)


def test_a_check_that_makes_the_fourth_occurrence_is_no_way_to_a_mate() -> None:
    sfen = "7k1/9/8l/4G1S1p/9/9/9/9/4K4 b GR 1"
    game = Repeated(sfen, max_plies=MAX_PLIES)
    first, *others = searched(game).line
    assert others
    game.repeated = _after(game, first).zobrist_hash()
    assert searched(game).line[:1] != [first]


@pytest.mark.parametrize("plies", [8, 9, 10])
def test_a_mate_has_to_come_before_the_ply_cap(plies: int) -> None:
    search = searched(Game(LONG_MATES[1][1], max_plies=plies))
    assert bool(search.has_mate) == (plies >= 9)


def test_memory_is_bounded_and_counted() -> None:
    game = Game(LONG_MATES[3][1], max_plies=MAX_PLIES)
    search = MateSearch(game)
    search.run(lambda: False, most_nodes=200)
    assert search.has_mate is None
    assert 200 <= search.num_nodes < 300
    search.run(lambda: False, HARMLESS)
    assert search.has_mate is True


def test_the_game_is_left_as_it_was() -> None:
    game = played(3, 80)
    before = (game.board.to_sfen(), list(game.moves), game.legal)
    searched(game, 50)
    assert (game.board.to_sfen(), list(game.moves), game.legal) == before
