"""Positions along a line, judged as the game itself would judge them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rsshogi.core import Move

from keisei_ray.shogi.game import STANDARD_SFEN, Game
from keisei_ray.shogi.line import Arrival, Line, mate_index

SHUFFLES = {
    # Kings up and down: the fourth occurrence of the start position is a draw.
    "draw": (STANDARD_SFEN, ("5i5h", "5a5b", "5h5i", "5b5a")),
    # Perpetual check by a rook: its side loses, also if the other makes the fourth occurrence.
    "checker": ("4k4/9/9/9/9/9/9/9/K4R3 b - 1", ("4i5i", "5a4a", "5i4i", "4a5a")),
    "checked": ("4k4/9/9/9/9/9/9/9/K3R4 w - 1", ("5a4a", "5i4i", "4a5a", "4i5i")),
}


def value(usi: str) -> int:
    return Move.from_usi(usi).value


def arrival_of(game: Game, moves: list[int]) -> tuple[Arrival, Arrival]:
    """A line's judgement of moves from a game, and that of the game in which they are played."""
    line = Line(game)
    played = Game(game.sfen, max_plies=game.max_plies)
    for move in game.moves:
        played.play(move)
    keys, verdict, checks = [], None, (0, 0)
    for move in moves:
        keys.append(played.board.zobrist_hash())
        checks = (played.own_checks, played.opponent_checks)
        verdict = played.play(move)
    expected = Arrival(
        played.board.zobrist_hash(),
        played.legal,
        played.earlier,
        played.own_checks,
        played.opponent_checks,
        verdict,
        -1 if verdict else mate_index(played),
    )
    before = game.board.to_sfen()
    found = line.arrive(moves, keys[1:], *checks)
    assert line.arrive(moves, keys[1:], *checks) == found, "it takes its moves back"
    assert game.board.to_sfen() == before
    return found, expected


@pytest.mark.parametrize("name", SHUFFLES)
@pytest.mark.parametrize("in_game", range(12))
def test_a_repetition_is_seen_wherever_its_positions_lie(name: str, in_game: int) -> None:
    sfen, cycle = SHUFFLES[name]
    game = Game(sfen, max_plies=300)
    plies = [value(cycle[ply % 4]) for ply in range(12)]
    for move in plies[:in_game]:
        assert game.play(move) is None
    for end in range(in_game + 1, 13):
        found, expected = arrival_of(game, plies[in_game:end])
        assert found == expected
    assert found.verdict is not None
    assert found.verdict.reason == ("repetition" if name == "draw" else "perpetual_check")


def test_a_perpetual_check_that_begins_in_the_path_is_counted_from_there() -> None:
    game = Game("3k5/9/9/9/9/9/9/9/K5R2 b - 1", max_plies=300)
    cycle = SHUFFLES["checker"][1]
    moves = [value(usi) for usi in ("3i4i", "6a5a", *(cycle[ply % 4] for ply in range(12)))]
    found, expected = arrival_of(game, moves)
    assert found == expected
    assert found.verdict is not None
    assert found.verdict.reason == "perpetual_check"


def test_a_declaration_is_that_of_the_side_to_move_there() -> None:
    game = Game("RB7/4K4/SSSSGGGG1/9/9/9/9/9/4k4 w 10P 1", max_plies=300)
    found, expected = arrival_of(game, [value("5i5h")])
    assert found == expected
    assert found.verdict is not None
    assert found.verdict.reason == "declaration"


@settings(max_examples=30)
@given(data=st.data(), max_plies=st.integers(5, 120))
def test_random_lines_end_as_games_do(data: st.DataObject, max_plies: int) -> None:
    game = Game(STANDARD_SFEN, max_plies=max_plies)
    random = data.draw(st.randoms(use_true_random=False))
    moves: list[int] = []
    scratch = Game(STANDARD_SFEN, max_plies=max_plies)
    for _ in range(data.draw(st.integers(2, 100))):
        legal = memoryview(scratch.legal).cast("H")
        moves.append(legal[random.randrange(len(legal))])
        if scratch.play(moves[-1]) is not None:
            break
    split = random.randrange(len(moves))
    for move in moves[:split]:
        game.play(move)
    found, expected = arrival_of(game, moves[split:])
    assert found == expected
