"""Tables between moves and policy labels.

A label names a move from the mover's side by its kind (20 kinds of board move, 7 kinds of drop)
and its destination. The spatial policy head has one logit for each of the 27 x 81 = 2,187 pairs of
a kind (a "plane") and a square. 1,496 of these pairs can occur on a board; a label is the pair's
rank among them. This is the numbering of rsshogi's `compact_move_label`; a test compares them.

Kinds: 0-9 are UP, UP_LEFT, UP_RIGHT, LEFT, RIGHT, DOWN, DOWN_LEFT, DOWN_RIGHT and the two knight
jumps (left, right), seen from the mover, who plays up the board; 10-19 are the same with promotion;
20-26 are drops of P L N S B R G.

16-bit moves are rsshogi's: bits 0-6 hold the destination, bits 7-13 the origin or, for a drop, the
piece type (1..7 = P L N S B R G), bit 14 marks a drop, bit 15 a promotion. Their squares are
absolute, so a move's label also depends on the side to move.

The tables are built when the module is imported (about 10 ms) and are read-only.
"""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from keisei_ray.rollouts.rollout import NUM_ACTIONS

NUM_SQUARES = 81
NUM_PLANES = 27
"""Kinds of move. The spatial policy head has one plane for each."""

_NUM_DIRECTIONS = 10
FIRST_DROP = 2 * _NUM_DIRECTIONS
"""Plane of the first kind of drop, after all kinds of board move."""
_PROMOTION_ZONE = 3
"""Ranks 0, 1 and 2, seen from the mover: the opponent's camp."""

_Scalar = TypeVar("_Scalar", bound=np.generic)

_PAWN, _LANCE, _KNIGHT = 1, 2, 3
_NUM_DROP_TYPES = 7
DROP_BIT = 1 << 14
"""Set in 16-bit moves that are drops."""
_PROMOTION_BIT = 1 << 15


def _directions() -> npt.NDArray[np.int64]:
    """[81, 81] (origin, destination) -> direction 0..9 for the mover, -1 if no piece moves so."""
    squares = np.arange(NUM_SQUARES)
    # Files grow to the mover's left, ranks grow towards the mover.
    left = squares[None, :] // 9 - squares[:, None] // 9
    up = squares[:, None] % 9 - squares[None, :] % 9
    straight = (left == 0) | (up == 0) | (np.abs(left) == np.abs(up))
    by_sign = np.array([[7, 4, 2], [5, -1, 0], [6, 3, 1]])  # [sign(left) + 1, sign(up) + 1]
    directions = np.where(straight, by_sign[np.sign(left) + 1, np.sign(up) + 1], -1)
    directions[(up == 2) & (left == 1)] = 8
    directions[(up == 2) & (left == -1)] = 9
    return directions


def _pairs() -> npt.NDArray[np.int64]:
    """[65536] 16-bit move of Black -> plane * 81 + destination, -1 where there is no such move."""
    pairs = np.full(1 << 16, -1, dtype=np.int64)
    origin, target = (a.ravel() for a in np.meshgrid(range(81), range(81), indexing="ij"))
    direction = _directions()[origin, target]
    goes = direction >= 0
    value = (origin << 7) | target
    pair = direction * NUM_SQUARES + target
    # A knight on the last two ranks could never move again, so it must have promoted.
    quiet = goes & ~((direction >= 8) & (target % 9 < 2))
    pairs[value[quiet]] = pair[quiet]
    promotes = goes & ((origin % 9 < _PROMOTION_ZONE) | (target % 9 < _PROMOTION_ZONE))
    pairs[value[promotes] | _PROMOTION_BIT] = pair[promotes] + _NUM_DIRECTIONS * NUM_SQUARES
    squares = np.arange(NUM_SQUARES)
    for piece_type in range(1, _NUM_DROP_TYPES + 1):
        first_rank = {_PAWN: 1, _LANCE: 1, _KNIGHT: 2}.get(piece_type, 0)
        to = squares[squares % 9 >= first_rank]
        plane = FIRST_DROP + piece_type - 1
        pairs[DROP_BIT | (piece_type << 7) | to] = plane * NUM_SQUARES + to
    return pairs


def _label_of_move(
    pairs: npt.NDArray[np.int64], planes: npt.NDArray[np.int32]
) -> npt.NDArray[np.int16]:
    """[2, 65536] (0 black, 1 white; 16-bit move) -> label, -1 where there is no such move.

    Args:
        pairs: the table of `_pairs`.
        planes: [1496] plane * 81 + destination of each label.
    """
    label_of_pair = np.full(NUM_PLANES * NUM_SQUARES + 1, -1, dtype=np.int16)  # [-1] stays -1
    label_of_pair[planes] = np.arange(len(planes), dtype=np.int16)
    values = np.arange(1 << 16)
    target, origin = values & 127, (values >> 7) & 127
    is_drop = (values & DROP_BIT) != 0
    inside = (target < NUM_SQUARES) & (is_drop | (origin < NUM_SQUARES))
    turned = (
        (values & (DROP_BIT | _PROMOTION_BIT))
        | (np.where(is_drop, origin, NUM_SQUARES - 1 - origin) << 7)
        | (NUM_SQUARES - 1 - target)
    )
    seen_by_white = np.where(inside, pairs[np.where(inside, turned, 0)], -1)
    return np.stack([label_of_pair[pairs], label_of_pair[seen_by_white]])


def _mirrored_labels(planes: npt.NDArray[np.int32]) -> npt.NDArray[np.int16]:
    """[1496] label -> label of the same move on a board that is mirrored left to right.

    Args:
        planes: [1496] plane * 81 + destination of each label.
    """
    swapped = np.array([0, 2, 1, 4, 3, 5, 7, 6, 9, 8])
    drops = np.arange(FIRST_DROP, NUM_PLANES)
    plane_to = np.concatenate([swapped, swapped + _NUM_DIRECTIONS, drops])
    pairs = plane_to[planes // NUM_SQUARES] * NUM_SQUARES + MIRRORED_SQUARE[planes % NUM_SQUARES]
    return np.searchsorted(planes, pairs).astype(np.int16)


def _read_only(array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    array.flags.writeable = False
    return array


_PAIRS = _pairs()

MIRRORED_SQUARE: npt.NDArray[np.int64] = _read_only(
    np.arange(NUM_SQUARES).reshape(9, 9)[::-1].ravel().copy()
)
"""[81] square on the same rank, as far from the right edge as this one from the left."""

LABEL_TO_PLANE_SQUARE: npt.NDArray[np.int32] = _read_only(
    np.unique(_PAIRS[_PAIRS >= 0]).astype(np.int32)
)
"""[1496] plane * 81 + destination of each label, ascending: index of its logit in the head."""

LABEL_OF_MOVE: npt.NDArray[np.int16] = _read_only(_label_of_move(_PAIRS, LABEL_TO_PLANE_SQUARE))
"""[2, 65536] label of a 16-bit move of Black (row 0) or White (row 1), -1 where there is none."""

MIRRORED_LABEL: npt.NDArray[np.int16] = _read_only(_mirrored_labels(LABEL_TO_PLANE_SQUARE))
"""[1496] label of the same move on a board that is mirrored left to right."""

if len(LABEL_TO_PLANE_SQUARE) != NUM_ACTIONS:  # pragma: no cover - only a bug can get here
    raise AssertionError(f"{len(LABEL_TO_PLANE_SQUARE)} labels were built, expected {NUM_ACTIONS}")
