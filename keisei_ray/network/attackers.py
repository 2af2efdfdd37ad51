"""Which pieces attack each square, and from which direction: an extra input of the network.

To follow a rook across the board, a stack of 3x3 convolutions needs as many layers as the rook
passes squares. Here all lines are followed at once, on the device, from the same compact boards.
For each square and each of the eight directions the nearest piece is found, and kept if it attacks
the square along that line; knights have slots of their own. The result is a set of indices into a
table of learned vectors, one for each (direction, piece); the model adds up the vectors of a
square. Shogi networks commonly have such inputs, for example that of dlshogi. The lines also say
which square a move comes from (`origins.py`).

B: rows (positions). Squares are numbered file * 9 + rank from the side to move; own pieces advance
towards rank 0. Piece codes: 0 empty, 1..14 own pieces by type, 15..28 the opponent's.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from keisei_ray.rollouts.rollout import NUM_PIECE_CODES

OPPONENT: Final = 14
"""Added to a piece type in the code of an opponent's piece."""

MOTIONS: Final = ((0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1))
"""(files, ranks) of one step in each of the eight directions; (0, -1) is forward for own pieces."""
_FORWARD, _DIAGONAL_FORWARD = (0,), (1, 7)
_SIDEWAYS, _DIAGONAL_BACK, _BACK = (2, 6), (3, 5), (4,)
_DIAGONAL = _DIAGONAL_FORWARD + _DIAGONAL_BACK
_STRAIGHT = _FORWARD + _SIDEWAYS + _BACK
_GOLD = _FORWARD + _DIAGONAL_FORWARD + _SIDEWAYS + _BACK

STEPS: Final = {
    1: _FORWARD,
    2: _FORWARD,
    4: _FORWARD + _DIAGONAL,
    5: _DIAGONAL,
    6: _STRAIGHT,
    7: _GOLD,
    8: _STRAIGHT + _DIAGONAL,
    9: _GOLD,
    10: _GOLD,
    11: _GOLD,
    12: _GOLD,
    13: _STRAIGHT + _DIAGONAL,
    14: _STRAIGHT + _DIAGONAL,
}
"""Piece type -> directions (indices of MOTIONS) in which an own piece attacks the next square."""
SLIDES: Final = {2: _FORWARD, 5: _DIAGONAL, 6: _STRAIGHT, 13: _DIAGONAL, 14: _STRAIGHT}
"""Piece type -> directions in which an own piece attacks up to the next piece on the line."""
KNIGHT: Final = 3
"""Piece type of the knight."""
KNIGHT_MOTIONS: Final = ((1, -2), (-1, -2))
"""(files, ranks) of an own knight's jumps; the opponent's have the opposite rank."""

NUM_SLOTS: Final = 12
"""Slots of a square: eight directions, two jumps of own knights, two of the opponent's."""
NO_ATTACKER: Final = 0
"""Index in an empty slot. No vector is added for it."""
NUM_VECTORS: Final = 8 * NUM_PIECE_CODES + 4
"""Size of the table: direction * 29 + code of the attacker, then the four knight slots."""
_OUTSIDE: Final = 81
"""Number of an extra square that stands for everything beyond the board; always empty."""
_CODE_MASK: Final = 31
_STEP_SHIFT, _SLIDE_SHIFT = 5, 13
_OWN_KNIGHT, _THEIR_KNIGHT = 1 << 21, 1 << 22
_SQUARE_SHIFT = 23
"""Layout of a packed piece, 30 bits: its code, eight bits for its steps, eight for its slides, two
for knights, seven for the square that it stands on."""


class Attackers(torch.nn.Module):
    """Finds the attackers of each square, as indices into a table of vectors. Has no weights.

    Attributes, all int32 constants; a row for each (square, slot):
        packed: [29] each piece code with the directions in which it attacks.
        standing: [82, 1] the bits of each square, the last one that of `_OUTSIDE`.
        near: [81 * 8 + 1] square one step back along the line, or `_OUTSIDE`. The last row is for
            lines that leave the board.
        further: [3, 81 * 8 + 1] the row 1, 2 and 4 steps back along the line, or the last row.
        step_bit: [81 * 8, 1] bit of a packed piece that steps along the line.
        slide_bit: [81 * 8, 1] bit of a packed piece that slides along the line.
        slot_base: [81 * 8, 1] index of the line's first vector.
        knight_from: [81 * 4] square from which a knight jumps here, or `_OUTSIDE`.
        knight_bit: [81 * 4, 1] bit of a knight of the side that jumps so.
        knight_vector: [81 * 4, 1] index of the jump's vector.
    """

    def __init__(self) -> None:
        """Builds the constant tables, which move with the module."""
        super().__init__()
        self.packed: Tensor
        self.standing: Tensor
        self.near: Tensor
        self.further: Tensor
        self.step_bit: Tensor
        self.slide_bit: Tensor
        self.slot_base: Tensor
        self.knight_from: Tensor
        self.knight_bit: Tensor
        self.knight_vector: Tensor
        for name, array in _tables().items():
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def forward(self, boards: Tensor) -> tuple[Tensor, Tensor]:
        """Finds the attackers of each square, and the nearest pieces.

        Args:
            boards: [B, 81] uint8 piece codes.

        Returns:
            slots: [B, 81, 12] int32 indices of vectors; `NO_ATTACKER` in an empty slot.
            nearest: [81 * 8, B] int32, a row for each (square, direction of `MOTIONS`): the square
                of the nearest piece from which that direction leads here, whatever it attacks; 0
                if there is none.
        """
        # While lines are followed squares come first: a gather then copies whole rows, which is 18
        # times faster.
        pieces = self.packed[functional.pad(boards, (0, 1)).t().int()]
        pieces = torch.addcmul(pieces, _is_any(pieces), self.standing)
        adjacent = pieces.index_select(0, self.near)
        nearest = adjacent
        for jump in self.further:
            # Each round doubles the distance at which the nearest piece is found.
            beyond = nearest.index_select(0, jump)
            nearest = beyond.mul_(1 - _is_any(nearest)).add_(nearest)
        adjacent, nearest = adjacent[:-1], nearest[:-1]
        # An adjacent piece attacks if it steps or slides this way, any other only if it slides.
        attacks = _is_any((adjacent & self.step_bit).bitwise_or_(nearest & self.slide_bit))
        lines = (nearest & _CODE_MASK).add_(self.slot_base).mul_(attacks)
        jumpers = pieces.index_select(0, self.knight_from)
        knights = _is_any(jumpers & self.knight_bit).mul_(self.knight_vector)
        slots = torch.cat([lines.view(81, 8, -1), knights.view(81, NUM_SLOTS - 8, -1)], 1)
        return slots.permute(2, 0, 1), nearest >> _SQUARE_SHIFT


class _SumOfVectors(torch.autograd.Function):
    """Sum of each square's vectors, made for a CPU.

    The library's own backward pass sorts all slots, of which eight of nine are empty; this one
    looks at filled ones alone.
    """

    @staticmethod
    def forward(ctx: Any, slots: Tensor, vectors: Tensor) -> Tensor:
        """Adds up the vectors; arguments and result as those of `sum_of_vectors`."""
        ctx.save_for_backward(slots)
        ctx.shape = vectors.shape
        return _sum_of_all_slots(slots, vectors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        """Adds each square's gradient to the vectors of its attackers."""
        (slots,) = ctx.saved_tensors
        width = ctx.shape[1]
        filled = slots.flatten().nonzero()[:, 0]
        index = _columns(slots.flatten()[filled].long(), width)
        rows = grad.index_select(0, filled // NUM_SLOTS)
        return None, grad.new_zeros(ctx.shape).scatter_add_(0, index, rows)


def _sum_of_all_slots(slots: Tensor, vectors: Tensor) -> Tensor:
    """Adds up the vectors of all slots, zeros for an empty one; has no fast backward pass.

    The library's sum is five times as slow where it leaves empty slots out.
    """
    zeros_first = functional.pad(vectors[1:], (0, 0, 1, 0))
    return functional.embedding_bag(slots, zeros_first, mode="sum")


def _sum_of_filled_slots(slots: Tensor, vectors: Tensor) -> Tensor:
    """Adds up the vectors of filled slots alone, by operations with fast backward passes.

    With the backward pass it takes a fifth longer than `_SumOfVectors`, but no Python.
    """
    width = vectors.shape[1]
    filled = slots.flatten().nonzero()[:, 0]
    found = vectors.gather(0, _columns(slots.flatten()[filled].long(), width))
    squares = _columns(filled // NUM_SLOTS, width)
    return vectors.new_zeros(slots.shape[0], width).scatter_add(0, squares, found)


def _columns(index: Tensor, width: int) -> Tensor:
    """[N] -> [N, width], the same index in each column, without a copy."""
    return index[..., None].expand(-1, width)


def sum_of_vectors(slots: Tensor, vectors: Tensor) -> Tensor:
    """Adds up the vectors of each square's attackers.

    Args:
        slots: [N, 12] int32 indices, see `Attackers.forward`.
        vectors: [236, C] float32.

    Returns:
        [N, C] float32.
    """
    # The number of filled slots is known on the device only, so a GPU would have to be waited for.
    if slots.is_cuda or torch.compiler.is_compiling():
        return bags_of_vectors(slots, vectors)
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        needs_gradient = torch.is_grad_enabled()
        return (_sum_of_filled_slots if needs_gradient else _sum_of_all_slots)(slots, vectors)
    return _SumOfVectors.apply(slots, vectors)  # type: ignore[no-any-return, no-untyped-call]


def bags_of_vectors(slots: Tensor, vectors: Tensor) -> Tensor:
    """Adds them up with the library's own backward pass, which never makes the host wait."""
    return functional.embedding_bag(slots, vectors, mode="sum", padding_idx=NO_ATTACKER)


def _tables() -> dict[str, npt.NDArray[np.int32]]:
    """Builds every constant table; squares come first, then the slots of a square."""
    squares = [(square // 9, square % 9) for square in range(81)]

    def source(square: tuple[int, int], motion: tuple[int, int], steps: int) -> int:
        """Square from which a piece reaches `square` by `steps` motions, or `_OUTSIDE`."""
        file, rank = square[0] - steps * motion[0], square[1] - steps * motion[1]
        return file * 9 + rank if 0 <= file < 9 and 0 <= rank < 9 else _OUTSIDE

    # For each slot, the same slot 1, 2 and 4 steps back along its line.
    last = 81 * 8
    further = [
        [
            last if (back := source(square, motion, steps)) == _OUTSIDE else back * 8 + slot
            for square in squares
            for slot, motion in enumerate(MOTIONS)
        ]
        + [last]
        for steps in (1, 2, 4)
    ]
    near = [source(square, motion, 1) for square in squares for motion in MOTIONS]
    jumps = (*KNIGHT_MOTIONS, *((file, -rank) for file, rank in KNIGHT_MOTIONS))
    slots = np.arange(8)
    tables = {
        "packed": _packed_codes(),
        "standing": np.arange(_OUTSIDE + 1) << _SQUARE_SHIFT,
        "near": [*near, _OUTSIDE],
        "further": further,
        "step_bit": np.tile(1 << (_STEP_SHIFT + slots), 81),
        "slide_bit": np.tile(1 << (_SLIDE_SHIFT + slots), 81),
        "slot_base": np.tile(slots * NUM_PIECE_CODES, 81),
        "knight_from": [source(square, jump, 1) for square in squares for jump in jumps],
        "knight_bit": np.tile([_OWN_KNIGHT, _OWN_KNIGHT, _THEIR_KNIGHT, _THEIR_KNIGHT], 81),
        "knight_vector": np.tile(8 * NUM_PIECE_CODES + np.arange(4), 81),
    }
    arrays = {name: np.array(table, np.int32) for name, table in tables.items()}
    columns = ("standing", "step_bit", "slide_bit", "slot_base", "knight_bit", "knight_vector")
    for name in columns:
        arrays[name] = arrays[name][:, None]
    return arrays


def _is_any(bits: Tensor) -> Tensor:
    """1 where any bit is set, else 0, of numbers >= 0. A comparison would change the dtype."""
    return bits.clamp(max=1)


def _packed_codes() -> list[int]:
    """[29] each piece code, packed with the directions in which it steps and slides."""
    packed = list(range(NUM_PIECE_CODES))
    for shift, reaches in ((_STEP_SHIFT, STEPS), (_SLIDE_SHIFT, SLIDES)):
        for piece, slots in reaches.items():
            for slot in slots:
                packed[piece] |= 1 << (shift + slot)
                # The opponent's pieces advance in the opposite direction.
                packed[piece + OPPONENT] |= 1 << (shift + (4 - slot) % 8)
    packed[KNIGHT] |= _OWN_KNIGHT
    packed[KNIGHT + OPPONENT] |= _THEIR_KNIGHT
    return packed
