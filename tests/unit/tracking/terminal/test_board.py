"""Positions are read from SFEN as another library reads them."""

import random

import cshogi
import pytest

from keisei_ray.tracking.terminal import board


def test_cells_and_hands_equal_another_librarys_reading() -> None:
    letters = ["", *"PLNSBRGK", *("+" + letter for letter in "PLNSBR")]
    rng, position = random.Random(3), cshogi.Board()
    for _ in range(400):
        moves = list(position.legal_moves)
        if not moves:
            position.reset()
            continue
        move = rng.choice(moves)
        position.push(move)
        drawn = board.parse_sfen(position.sfen())
        for row in range(9):
            for column in range(9):
                piece = position.piece((8 - column) * 9 + row)
                name = letters[piece % 16].rjust(2) if piece else board.EMPTY
                name = name.lower() if piece > 16 else name
                assert drawn.cells[row][column] == name
        to = cshogi.move_to(move)
        assert board.destination(cshogi.move_to_usi(move)) == (to % 9, 8 - to // 9)
        assert drawn.black_to_move == (position.turn == cshogi.BLACK)
        assert drawn.ply == position.move_number - 1
        for side, hand in enumerate((drawn.black_hand, drawn.white_hand)):
            held = dict(zip("PLNSGBR", position.pieces_in_hand[side], strict=True))
            count = ""
            for letter in hand.upper().replace("-", ""):
                if letter.isdigit():
                    count += letter
                else:
                    assert held.pop(letter) == int(count or 1)
                    count = ""
            assert not any(held.values())


@pytest.mark.parametrize(
    "sfen",
    [
        "",
        "9/9/9/9/9/9/9/9/9 b",
        "9/9/9/9/9/9/9/9 b -",
        "9/9/9/9/9/9/9/9/9 x - 1",
        "9/9/9/9/9/9/9/9/9 b - one",
        "91/9/9/9/9/9/9/9/9 b - 1",
        "8/9/9/9/9/9/9/9/9 b - 1",
        "8+/9/9/9/9/9/9/9/9 b - 1",
        "8X/9/9/9/9/9/9/9/9 b - 1",
        "9/9/9/9/9/9/9/9/9 b 2 1",
        "9/9/9/9/9/9/9/9/9 b 2X 1",
    ],
)
def test_text_that_is_not_an_sfen_is_refused(sfen: str) -> None:
    with pytest.raises(ValueError, match="SFEN"):
        board.parse_sfen(sfen)


@pytest.mark.parametrize("move", ["", "7g", "7g0f", "7g7z", "resign"])
def test_text_that_is_not_a_move_is_refused(move: str) -> None:
    with pytest.raises(ValueError, match="USI"):
        board.destination(move)
