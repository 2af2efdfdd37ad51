"""Where moves come from: an extra output of the policy head.

A policy label names a move by its kind and its destination, so its logit is read off at the
destination. In a shallow network that square knows little of a rook that stands far away: whether
it is attacked there, or what it holds in check. This head reads a second logit off at the square
that the piece comes from, and adds it. The position says which square that is: the nearest piece
on the line, as `attackers.py` follows it, or the square of a knight's jump. Lc0's networks choose
moves by both squares too, there by attention.

B: rows (positions). C: channels. M: labels of board moves, those before the drops. L: listed moves.
Squares are numbered file * 9 + rank from the side to move.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from keisei_ray.network.attackers import KNIGHT_MOTIONS
from keisei_ray.network.listed_moves import ListedMoves
from keisei_ray.shogi.actions import FIRST_DROP, LABEL_TO_PLANE_SQUARE, NUM_SQUARES

LINE_OF_DIRECTION: Final = (0, 1, 7, 2, 6, 4, 3, 5)
"""Direction of a move, as in `shogi/actions.py` -> line on which it is made, as in `MOTIONS` of
`attackers.py`: both name the step from origin to destination."""
NUM_DIRECTIONS: Final = FIRST_DROP // 2
"""Directions of a board move; its kind is one of them, with or without promotion."""
_NUM_LINES: Final = len(LINE_OF_DIRECTION)


class OriginHead(nn.Module):
    """Logits of board moves, read off at the squares that the pieces come from.

    Attributes:
        logits: the layer from channels to kinds of board move.
        line: [M] row of `nearest` for each label; for a knight's move one of the 81 rows after it.
        column: [M, 1] column of each label's kind.
        squares: [81, 1] every square, the rows after `nearest`.
        num_columns: columns of a square in `forward`'s argument.
    """

    def __init__(self, width: int, *, first_column: int) -> None:
        """Makes the layer, small like the rest of a new policy head.

        Args:
            width: channels of the tower.
            first_column: numbers of a square before this layer's, which are the last.
        """
        super().__init__()
        self.num_columns = first_column + FIRST_DROP
        self.logits = nn.Conv2d(width, FIRST_DROP, 1)
        nn.init.normal_(self.logits.weight, std=0.01)
        nn.init.zeros_(self.logits.bias)  # type: ignore[arg-type]
        self.line: Tensor
        self.column: Tensor
        self.squares: Tensor
        kind, target = np.divmod(LABEL_TO_PLANE_SQUARE[: num_board_labels()], NUM_SQUARES)
        rows = line_rows()[kind % NUM_DIRECTIONS, target].astype(np.int64)
        columns = first_column + kind[:, None].astype(np.int32)
        squares = np.arange(NUM_SQUARES, dtype=np.int32)[:, None]
        for name, array in {"line": rows, "column": columns, "squares": squares}.items():
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def forward(self, by_square: Tensor, nearest: Tensor) -> Tensor:
        """Picks what is added to the logits of board moves.

        Args:
            by_square: [B, 81 * columns] float32, of which the last columns of each square are the
                outputs of `logits` there.
            nearest: [81 * 8, B] int32 squares, see `Attackers.forward`.

        Returns:
            [B, M] float32; without meaning where no piece can make the move.
        """
        squares = torch.cat([nearest, self.squares.expand(-1, by_square.shape[0])])
        origins = squares.mul_(self.num_columns).index_select(0, self.line)
        return torch.gather(by_square, 1, origins.add_(self.column).t().long())

    def columns_of(self, nearest: Tensor, moves: ListedMoves) -> tuple[Tensor, Tensor]:
        """Finds the columns of `by_square` that `forward` reads, for some moves.

        Args:
            nearest: as of `forward`.
            moves: L moves, drops among them.

        Returns:
            columns: [L] int64; without meaning for a drop.
            has_origin: [L] bool, False for a drop.
        """
        has_origin = moves.labels < len(self.line)
        labels = moves.labels * has_origin
        num_rows = nearest.shape[1]
        squares = torch.cat([nearest, self.squares.expand(-1, num_rows)]).view(-1)
        origins = squares[self.line[labels] * num_rows + moves.rows]
        return origins.long() * self.num_columns + self.column[labels, 0], has_origin


def num_board_labels() -> int:
    """M, the number of labels that are not drops; they come first."""
    return int(np.searchsorted(LABEL_TO_PLANE_SQUARE, FIRST_DROP * NUM_SQUARES))


def line_rows() -> npt.NDArray[np.int32]:
    """[10, 81] direction and destination -> row of the origin in `nearest` and what follows it.

    A knight's origin is known without the position: row 648 + origin. Where it would lie outside
    the board, no label jumps; the row is 648 there.
    """
    files, ranks = np.divmod(np.arange(NUM_SQUARES), 9)
    lines = [np.arange(NUM_SQUARES) * _NUM_LINES + line for line in LINE_OF_DIRECTION]
    for motion in KNIGHT_MOTIONS:
        file, rank = files - motion[0], ranks - motion[1]
        inside = (file >= 0) & (file < 9) & (rank < 9)
        lines.append(NUM_SQUARES * _NUM_LINES + np.where(inside, file * 9 + rank, 0))
    return np.array(lines, dtype=np.int32)
