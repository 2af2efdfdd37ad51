"""16-bit moves on arrays of positions: many lanes, one ply each, no rules library.

Boards and hands are seen from the mover's side (`observation.Observation`); 16-bit moves are
absolute (`actions`), so every function also takes who moves. Moves are trusted to be legal.

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
"""A promoted piece's type is its type + 8."""


def _hand_slots() -> Ints:
    """[29] board code of a captured piece -> its place in the captor's hand."""
    piece_types = (np.arange(1 + 2 * NUM_PIECE_TYPES) - 1) % NUM_PIECE_TYPES + 1
    return np.where(piece_types > _PROMOTED, piece_types - _PROMOTED, piece_types) - 1


_HAND_SLOTS = _hand_slots()
_CODE_VALUES = np.array(PIECE_VALUES + PIECE_VALUES[1:], dtype=np.int32)
_PROMOTION_GAINS = np.zeros(1 + 2 * NUM_PIECE_TYPES, dtype=np.int32)
_PROMOTION_GAINS[1:7] = np.subtract(PIECE_VALUES[9:15], PIECE_VALUES[1:7])


class Moves(NamedTuple):
    """What 16-bit moves say, from the mover's side."""

    origin: Ints
    """[M] square that the piece leaves; a drop's piece type, 1..7."""
    target: Ints
    """[M] square where it ends."""
    is_drop: npt.NDArray[np.bool_]
    """[M]."""
    promotes: Ints
    """[M] 1 where the piece promotes, else 0."""


def decode_moves(values: Ints, turns: Bytes) -> Moves:
    """Takes 16-bit moves apart.

    Args:
        values: [M] 16-bit moves.
        turns: [M] who plays each, 0 black, 1 white.
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
    """Plays one move in each lane and turns the view to the other side.

    Args:
        boards: [N, 81] codes before the move, C-contiguous; overwritten.
        hands: [N, 14] counts before the move, C-contiguous; overwritten.
        values: [N] 16-bit moves, legal.
        turns: [N] who plays them.
        out_boards: [N, 81], receives the boards as the other side sees them.
        out_hands: [N, 14], likewise.
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
    """Material that each of several moves a lane would win at once, in pawns.

    The value of the captured piece as it stood, plus what the moving piece gains by
    promoting (`rules.PIECE_VALUES`).

    Args:
        boards: [N, 81] codes.
        values: [M] 16-bit moves.
        turns: [N] the side to move.
        lanes: [M] the lane of each move.

    Returns:
        [M] int32, at least 0.
    """
    moves = decode_moves(values, turns[lanes])
    captured = boards[lanes, moves.target]
    moving = boards[lanes, np.where(moves.is_drop, 0, moves.origin)]
    gains: npt.NDArray[np.int32] = (
        _CODE_VALUES[captured] + moves.promotes.astype(np.int32) * (_PROMOTION_GAINS[moving])
    )
    return gains
