"""Games as clients describe them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keisei_ray.errors import PositionError
from keisei_ray.shogi.game import MAX_START_PLY, NO_PLY_CAP, STANDARD_SFEN, Game
from keisei_ray.usi.position import (
    Plies,
    any_move,
    continued,
    decided,
    described_game,
)
from keisei_ray.usi.protocol import Position

MATED = "4k4/4G4/4P4/9/9/9/9/9/4K4 w - 1"
MATE_IN_ONE = "4k4/9/4P4/9/9/9/9/9/4K4 b G 1"
DECLARABLE = "K+R+R6/PPPPPPPPP/9/9/9/9/9/9/4k4 b 2B8P 1"
SHUFFLE = ("5i5h", "5a5b", "5h5i", "5b5a")
KINGS = "4k4/9/9/9/9/9/9/9/4K4 b P 1"


def test_moves_are_played() -> None:
    game = described_game(Position(STANDARD_SFEN, ("7g7f", "3c3d")))
    assert game.moves_usi() == "7g7f 3c3d"
    assert game.max_plies == NO_PLY_CAP


@pytest.mark.parametrize(
    ("sfen", "moves", "told"),
    [
        ("nonsense", (), "is not an SFEN"),
        ("4k4/9/9/9/9/9/9/9/9 b - 1", (), "king is missing"),
        ("4k4/9/9/9/9/9/9/9/4R3K b - 1", (), "could take the king"),
        (KINGS[:-1] + "65535", (), "the move number is 65535"),
        (STANDARD_SFEN, ("7g7e",), "move 1, '7g7e', is not legal"),
        (STANDARD_SFEN, ("7g7f", "hello"), "move 2, 'hello', is not legal"),
        (MATED, ("5a4a",), "is not legal"),
        pytest.param("9" * 5000, (), r"9\.\.\.9", id="long"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    sfen: str, moves: tuple[str, ...], told: str
) -> None:
    with pytest.raises(PositionError, match=told) as refused:
        described_game(Position(sfen, moves))
    assert len(str(refused.value)) < 600


def test_a_client_that_goes_on_after_a_fourth_repetition_begins_a_new_game_there() -> None:
    once = described_game(Position(KINGS, SHUFFLE * 2))
    assert (once.sfen, once.earlier) == (KINGS, 2)
    fourth = described_game(Position(KINGS, SHUFFLE * 3))
    assert (fourth.sfen, fourth.earlier, len(fourth.moves)) == (KINGS[:-1] + "13", 0, 0)
    # Also long after it.
    assert described_game(Position(KINGS, SHUFFLE * 20)).earlier < 3
    # Also beyond the move number that a client may begin with.
    late = Position(f"{KINGS[:-1]}{MAX_START_PLY}", SHUFFLE * 3)
    assert described_game(late).board.game_ply == MAX_START_PLY + 12


def test_the_ply_cap_counts_from_the_first_ply_of_the_sfen() -> None:
    assert described_game(Position(STANDARD_SFEN, ()), 100).max_plies == 100
    assert described_game(Position(KINGS[:-1] + "31", ()), 100).max_plies == 70


def test_the_rules_decide_where_the_game_is_over() -> None:
    assert decided(described_game(Position(MATED, ()))) == "resign"
    assert decided(described_game(Position(DECLARABLE, ()))) == "win"
    assert decided(described_game(Position(STANDARD_SFEN, ()))) is None


def test_some_move_is_always_at_hand() -> None:
    assert any_move(described_game(Position(MATE_IN_ONE, ()))) == "G*5b"
    game = described_game(Position(STANDARD_SFEN, ()))
    assert game.find_move(any_move(game)) is not None


def test_a_game_that_goes_on_is_the_same_game() -> None:
    old = continued(None, Plies.of(described_game(Position(STANDARD_SFEN, ("7g7f",)))))
    longer = Plies.of(described_game(Position(STANDARD_SFEN, ("7g7f", "3c3d", "2g2f"))))
    assert continued(old, longer) is old
    assert old.moves_usi() == "7g7f 3c3d 2g2f"


@pytest.mark.parametrize(
    "other",
    [
        Plies.of(described_game(Position(STANDARD_SFEN, ("7g7f",)))),
        Plies.of(described_game(Position(STANDARD_SFEN, ("2g2f", "3c3d", "7g7f")))),
        Plies.of(described_game(Position(KINGS, ()))),
        Plies.of(described_game(Position(STANDARD_SFEN, ("7g7f", "3c3d")), 200)),
        Plies.of(described_game(Position(STANDARD_SFEN[:-1] + "5", ("7g7f", "3c3d")))),
    ],
)
def test_another_game_begins_anew(other: Plies) -> None:
    old = described_game(Position(STANDARD_SFEN, ("7g7f", "3c3d")))
    game = continued(old, other)
    assert game is not old
    assert Plies.of(game) == other


@given(st.lists(st.sampled_from(SHUFFLE), max_size=60))
def test_any_moves_give_a_game_or_are_refused(moves: list[str]) -> None:
    try:
        game = described_game(Position(KINGS, tuple(moves)))
    except PositionError:
        return
    assert isinstance(game, Game)
    assert game.earlier < 3
