"""One position as compact arrays, always from the side to move.

98 bytes hold everything that the network is given: 81 board codes, 14 hand counts, 3 scalars.
`observe` reads them off a board of the rules library, one piece at a time. It is slow and simple:
it sets up new games, and the incremental arrays of `vector_games.py` are tested against it. The
model makes planes from these arrays on its own device (`network/model.py`).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rsshogi.core import Board

from keisei_ray.rollouts.rollout import NUM_PIECE_CODES

Bytes = npt.NDArray[np.uint8]

NUM_PIECE_TYPES = 14
"""Piece types, as rsshogi numbers them: 1-8 P L N S B R G K, 9-14 +P +L +N +S +B +R."""
NUM_HAND_TYPES = 7
"""Piece types that can be in hand: 1..7 = P L N S B R G."""
MAX_COUNT = 255
"""Largest count of checks in a row; a uint8 holds no more."""

_WHITE_BIT = 16
"""Set in rsshogi's codes of White's pieces: 1..14 are Black's, 17..30 White's."""


def _swap_codes() -> Bytes:
    """[29] code -> code of the same piece seen by the other side."""
    codes = np.arange(NUM_PIECE_CODES, dtype=np.uint8)
    codes[1:] = np.roll(codes[1:], NUM_PIECE_TYPES)
    codes.flags.writeable = False
    return codes


SWAP_CODES = _swap_codes()
"""[29] uint8, code -> code of the same piece seen by the other side.

`SWAP_CODES[boards[..., ::-1]]` are the boards seen by the other side."""


class Observation(NamedTuple):
    """One position, from the side to move."""

    board: Bytes
    """[81] uint8 codes; square = file * 9 + rank; the side to move plays towards rank 0."""
    hand: Bytes
    """[14] uint8 counts: the mover's P L N S B R G, then the opponent's."""
    scalars: Bytes
    """[3] uint8: earlier occurrences of this position in the game (0..3); checks in a row given
    by the mover; checks in a row given by the opponent (> 0: the mover is in check)."""


def observe(
    board: Board, *, earlier: int = 0, own_checks: int = 0, opponent_checks: int = 0
) -> Observation:
    """Reads a position off a board of the rules library.

    The board does not know the game's history, so the caller gives what the scalars hold.

    Args:
        board: the position; not changed.
        earlier: earlier occurrences of the position in this game, 0..3.
        own_checks: how many of the latest moves of the side to move gave check, without a break.
        opponent_checks: the same for the other side; > 0 exactly if the side to move is in check.
    """
    mover = board.turn
    codes = np.zeros(81, dtype=np.uint8)
    for square, piece in board.iter_pieces():
        piece_type = piece.value % _WHITE_BIT
        seen_from = square.value if mover.is_black() else 80 - square.value
        codes[seen_from] = piece_type + (0 if piece.color == mover else NUM_PIECE_TYPES)
    counts = [
        *board.hand_counts(mover).values(),
        *board.hand_counts(mover.opponent()).values(),
    ]
    scalars = [earlier, min(own_checks, MAX_COUNT), min(opponent_checks, MAX_COUNT)]
    return Observation(codes, np.array(counts, dtype=np.uint8), np.array(scalars, dtype=np.uint8))
