"""A position as compact arrays: by hand, and under a change of colour."""

import numpy as np
from rsshogi.core import Board

from keisei_ray.rollouts.rollout import NUM_PIECE_CODES
from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.shogi.observation import SWAP_CODES, observe

# Black's promoted rook on 1a, pawn on 9i, king on 5i; White's king on 5a, promoted pawn on 2b.
SMALL_SFEN = "4k3+R/7+p1/9/9/9/9/9/9/P3K4 {turn} 2PGsb 1"
PAWN, KING, PRO_PAWN, DRAGON = 1, 8, 9, 14
THEIRS = 14


def test_start_position_by_hand() -> None:
    board, hand, scalars = observe(Board())
    rows = board.reshape(9, 9).T[:, ::-1]  # [rank a..i, file 9..1], as a diagram shows it
    assert rows[8].tolist() == [2, 3, 4, 7, 8, 7, 4, 3, 2]
    assert rows[7].tolist() == [0, 5, 0, 0, 0, 0, 0, 6, 0]
    assert rows[6].tolist() == [1] * 9
    assert (rows[3:6] == 0).all()
    assert rows[2].tolist() == [15] * 9
    assert rows[1].tolist() == [0, 20, 0, 0, 0, 0, 0, 19, 0]
    assert rows[0].tolist() == [16, 17, 18, 21, 22, 21, 18, 17, 16]
    assert hand.tolist() == [0] * 14
    assert scalars.tolist() == [0, 0, 0]


def test_black_to_move_by_hand() -> None:
    board, hand, _ = observe(Board(SMALL_SFEN.format(turn="b")))
    # Square = file * 9 + rank: 1a is 0, 2b is 10, 5a is 36, 5i is 44, 9i is 80.
    expected = {0: DRAGON, 80: PAWN, 44: KING, 36: KING + THEIRS, 10: PRO_PAWN + THEIRS}
    assert {int(s): int(board[s]) for s in np.flatnonzero(board)} == expected
    assert hand.tolist() == [2, 0, 0, 0, 0, 0, 1] + [0, 0, 0, 1, 1, 0, 0]


def test_white_to_move_sees_the_board_turned_and_its_own_hand_first() -> None:
    board, hand, _ = observe(Board(SMALL_SFEN.format(turn="w")))
    expected = {
        80: DRAGON + THEIRS,
        0: PAWN + THEIRS,
        36: KING + THEIRS,
        44: KING,
        70: PRO_PAWN,
    }
    assert {int(s): int(board[s]) for s in np.flatnonzero(board)} == expected
    assert hand.tolist() == [0, 0, 0, 1, 1, 0, 0] + [2, 0, 0, 0, 0, 0, 1]


def test_history_is_the_callers_and_checks_saturate() -> None:
    scalars = observe(Board(), earlier=2, own_checks=300, opponent_checks=256).scalars
    assert scalars.tolist() == [2, 255, 255]
    assert scalars.dtype == np.uint8


def test_a_rotated_position_with_swapped_colours_is_the_same_arrays() -> None:
    rng = np.random.default_rng(3)
    board, num_seen = Board(STANDARD_SFEN), 0
    for _ in range(1500):
        legal = board.legal_moves()
        if not legal or board.game_ply > 250:
            board = Board()
            continue
        ours = observe(board)
        twin = observe(Board(board.to_sfen_flipped()))
        np.testing.assert_array_equal(ours.board, twin.board)
        np.testing.assert_array_equal(ours.hand, twin.hand)
        num_seen += int(ours.hand.any())
        board.apply_move(legal[rng.integers(len(legal))])
    assert num_seen > 1000, "most positions should have had pieces in hand"


def test_swapping_codes_twice_changes_nothing_and_empty_stays_empty() -> None:
    codes = np.arange(NUM_PIECE_CODES)
    np.testing.assert_array_equal(SWAP_CODES[SWAP_CODES], codes)
    assert SWAP_CODES[0] == 0
    assert SWAP_CODES[KING] == KING + THEIRS


def test_swapping_and_turning_gives_the_other_sides_view() -> None:
    black = observe(Board(SMALL_SFEN.format(turn="b"))).board
    white = observe(Board(SMALL_SFEN.format(turn="w"))).board
    np.testing.assert_array_equal(SWAP_CODES[black[::-1]], white)
