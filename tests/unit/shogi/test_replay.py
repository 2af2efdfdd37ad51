"""Games played over again: positions by another library, notation by hand."""

import re

import cshogi
import pytest
from rsshogi.core import Board

from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.shogi.replay import Replay, mates_in_one, replay, western_notation
from tests.helpers.report_runs import played_games


def positions_by_cshogi(moves: list[str], sfen: str = STANDARD_SFEN) -> tuple[list[str], list[int]]:
    """Every position, and which of them are checks."""
    board = cshogi.Board(sfen)
    sfens, checks = [board.sfen()], []
    for ply, usi in enumerate(moves, start=1):
        board.push_usi(usi)
        sfens.append(board.sfen())
        if board.is_check():
            checks.append(ply)
    return sfens, checks


def notation(sfen: str, usi: str) -> str:
    board = Board(sfen)
    return western_notation(board, usi, {move.to_usi(): move for move in board.legal_moves()})


def test_positions_and_checks_are_those_of_another_library() -> None:
    games = played_games(8)
    for game in games:
        moves = str(game["moves"]).split()
        played = replay(moves)
        sfens, checks = positions_by_cshogi(moves)
        assert (list(played.sfens), list(played.checks)) == (sfens, checks)
        assert len(played.western) == len(played.japanese) == len(moves) > 20
    assert any("+" in str(game["moves"]) and "*" in str(game["moves"]) for game in games)


def test_a_game_may_begin_anywhere() -> None:
    sfen = "4k4/9/4P4/9/9/9/9/9/4K4 b G 1"
    played = replay(["G*5b"], sfen)
    assert list(played.sfens) == positions_by_cshogi(["G*5b"], sfen)[0]
    assert played.checks == (1,)


def test_a_game_without_moves_is_its_first_position() -> None:
    assert replay([]) == Replay((STANDARD_SFEN,), (), (), (), ())


@pytest.mark.parametrize("usi", ["7g7e", "2g2f", "P*5e", "nonsense", ""])
def test_an_illegal_move_is_named(usi: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"move {usi!r} (ply 2)")):
        replay(["7g7f", usi])


@pytest.mark.parametrize(
    ("sfen", "usi", "written"),
    [
        (STANDARD_SFEN, "7g7f", "P-7f"),
        (STANDARD_SFEN, "4i5h", "G4i-5h"),  # The other gold could go there too.
        (STANDARD_SFEN, "3i4h", "S-4h"),
        ("4k4/9/4P4/9/9/9/9/9/4K4 b G 1", "G*5b", "G*5b"),
        ("4k4/9/4P4/9/9/9/9/9/4K4 b G 1", "5c5b+", "P-5b+"),
        ("4k4/9/4P4/9/9/9/9/9/4K4 b G 1", "5c5b", "P-5b="),
        ("4k4/9/9/4p4/4P4/9/9/9/4K4 b - 1", "5e5d", "Px5d"),
        ("4k4/9/9/9/4p4/4P4/9/9/4K4 w - 1", "5e5f", "Px5f"),
        ("4k4/9/9/9/4+R4/9/9/9/4K4 b - 1", "5e4d", "+R-4d"),
        # A dragon is no rook: neither needs its square named.
        ("k8/9/9/9/R3+R4/9/9/9/4K4 b - 1", "9e6e", "R-6e"),
    ],
)
def test_western_notation(sfen: str, usi: str, written: str) -> None:
    assert notation(sfen, usi) == written


def test_japanese_notation_names_the_square_again_only_where_it_is_new() -> None:
    played = replay(["7g7f", "3c3d", "8h2b+", "3a2b"])
    assert played.japanese == (
        "\uff17\u516d\u6b69",
        "\uff13\u56db\u6b69",
        "\uff12\u4e8c\u89d2\u6210",
        "\u540c\u9280",
    )


def test_positions_with_a_mate_in_one_are_found_with_the_move() -> None:
    before = "4k4/9/4P4/9/9/9/9/9/4K4 b G 1"
    after = "4k4/4G4/4P4/9/9/9/9/9/4K4 w - 2"
    assert mates_in_one([STANDARD_SFEN, before, after]) == {1: "G*5b"}
