"""Plays 16-bit moves on arrays of positions: one ply in each of N lanes, without the rules library.

Boards and hands are seen from the side to move (`observation.py`); 16-bit moves are absolute
(`actions.py`), so every function also takes the side to move. Moves are not checked: they must be
legal.

M: moves. N: lanes.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from keisei_ray.shogi.observation import NUM_HAND_TYPES, NUM_PIECE_TYPES, SWAP_CODES
from keisei_ray.shogi.rules import PIECE_VALUES

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

_PROMOTED = 8
"""Added to a piece type when the piece promotes."""


def _hand_slots() -> Ints:
    """[29] board code of a captured piece -> its index in the captor's hand."""
    piece_types = (np.arange(1 + 2 * NUM_PIECE_TYPES) - 1) % NUM_PIECE_TYPES + 1
    return np.where(piece_types > _PROMOTED, piece_types - _PROMOTED, piece_types) - 1


_HAND_SLOTS = _hand_slots()
_MATERIAL_BY_CODE = np.array(PIECE_VALUES + PIECE_VALUES[1:], dtype=np.int32)
_PROMOTION_GAINS = np.zeros(1 + 2 * NUM_PIECE_TYPES, dtype=np.int32)
_PROMOTION_GAINS[1:7] = np.subtract(PIECE_VALUES[9:15], PIECE_VALUES[1:7])


class Moves(NamedTuple):
    """The parts of 16-bit moves, from the side to move."""

    origin: Ints
    """[M] square that the piece leaves; for a drop its piece type, 1..7."""
    target: Ints
    """[M] destination square."""
    is_drop: npt.NDArray[np.bool_]
    """[M] whether the move is a drop."""
    promotes: Ints
    """[M] 1 where the piece promotes, else 0."""


def decode_moves(values: Ints, turns: Bytes) -> Moves:
    """Decodes 16-bit moves.

    Args:
        values: [M] 16-bit moves.
        turns: [M] the side that plays each, 0 black, 1 white.
    """
    target, origin = values & 127, (values >> 7) & 127
    is_drop = (values & (1 << 14)) != 0
    is_white = turns != 0
    np.subtract(80, target, out=target, where=is_white)
    np.subtract(80, origin, out=origin, where=is_white & ~is_drop)
    return Moves(origin, target, is_drop, values >> 15)


def play_moves(
    boards: Bytes, hands: Bytes, values: Ints, turns: Bytes, *, out_boards: Bytes, out_hands: Bytes
) -> None:
    """Plays one move in each lane and shows the result from the other side.

    Args:
        boards: [N, 81] codes before the move, C-contiguous; overwritten.
        hands: [N, 14] counts before the move, C-contiguous; overwritten.
        values: [N] 16-bit moves, legal.
        turns: [N] the side that plays each, 0 black, 1 white.
        out_boards: [N, 81], receives the boards from the side that is to move next.
        out_hands: [N, 14], receives the hands, seen likewise.
    """
    origin, target, is_drop, promotes = decode_moves(values, turns)
    lanes = np.arange(len(values))
    cells, counts = boards.ravel(), hands.ravel()
    first_cell, first_count = lanes * 81, lanes * (2 * NUM_HAND_TYPES)
    target_cell = first_cell + target
    origin_cell = np.where(is_drop, target_cell, first_cell + origin)
    captured = cells[target_cell]
    piece = np.where(is_drop, origin, cells[origin_cell]) + _PROMOTED * promotes
    cells[origin_cell] = 0
    cells[target_cell] = piece
    counts[first_count + _HAND_SLOTS[captured]] += captured != 0
    dropping = np.flatnonzero(is_drop)
    counts[first_count[dropping] + origin[dropping] - 1] -= 1

    np.take(SWAP_CODES, boards[:, ::-1], out=out_boards)
    out_hands[:, :NUM_HAND_TYPES] = hands[:, NUM_HAND_TYPES:]
    out_hands[:, NUM_HAND_TYPES:] = hands[:, :NUM_HAND_TYPES]


def material_gains(boards: Bytes, values: Ints, turns: Bytes, lanes: Ints) -> npt.NDArray[np.int32]:
    """Material that each move would win at once, in pawns.

        gain = value(captured piece) + value(promoted piece) - value(piece before promoting)

    with the values of `rules.PIECE_VALUES`; parts that do not apply are 0.

    Args:
        boards: [N, 81] codes.
        values: [M] 16-bit moves, several for each lane.
        turns: [N] the side to move, 0 black, 1 white.
        lanes: [M] the lane of each move.

    Returns:
        [M] int32, at least 0.
    """
    moves = decode_moves(values, turns[lanes])
    captured = boards[lanes, moves.target]
    moving = boards[lanes, np.where(moves.is_drop, 0, moves.origin)]
    gains: npt.NDArray[np.int32] = (
        _MATERIAL_BY_CODE[captured] + moves.promotes.astype(np.int32) * (_PROMOTION_GAINS[moving])
    )
    return gains
