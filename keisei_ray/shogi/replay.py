"""A finished game ply by ply: every position, and every move in written notation.

Made for drawing a game. Absolute, unlike the rest of this package: Black is at the bottom. Every
move must be legal; the rules by which a game ends are not applied again.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from rsshogi.core import Board, Move
from rsshogi.types import Square

from keisei_ray.shogi.game import STANDARD_SFEN, brief


@dataclass(frozen=True)
class Replay:
    """A game as a sequence of positions and the moves between them."""

    sfens: tuple[str, ...]
    """Every position, the first and the last included: one more than the moves."""
    moves: tuple[str, ...]
    """Moves in USI notation."""
    western: tuple[str, ...]
    """Moves such as "P-7f", "Bx2b+", "N*5d" and "S7i-6h"; see `western_notation`."""
    japanese: tuple[str, ...]
    """Moves in KI2 notation, without the mark of the side that moves."""
    checks: tuple[int, ...]
    """Indices into `sfens` of positions in which the side to move is in check."""


def replay(moves: Iterable[str], start_sfen: str = "") -> Replay:
    """Replays a game.

    Args:
        moves: every ply in USI notation.
        start_sfen: position before the first ply; empty for the standard position.

    Raises:
        ValueError: the start is not an SFEN, or a move is not legal.
    """
    board = Board(start_sfen or STANDARD_SFEN)
    sfens, checks = [board.to_sfen()], list[int]()
    played, western, japanese = list[str](), list[str](), list[str]()
    for usi in moves:
        legal = {move.to_usi(): move for move in board.legal_moves()}
        if usi not in legal:
            raise ValueError(
                f"move {brief(usi)!r} (ply {len(played) + 1}) cannot be played in '{sfens[-1]}': "
                "expected a legal move."
            )
        played.append(usi)
        western.append(western_notation(board, usi, legal))
        japanese.append((legal[usi].to_ki2(board) or "")[1:].replace("\u3000", ""))
        board.apply_move(legal[usi])
        sfens.append(board.to_sfen())
        if board.is_in_check():
            checks.append(len(played))
    return Replay(tuple(sfens), tuple(played), tuple(western), tuple(japanese), tuple(checks))


def mates_in_one(sfens: Iterable[str]) -> dict[int, str]:
    """Returns the positions in which the side to move mates at once, with a move that does.

    Args:
        sfens: positions that occurred in a game.

    Returns:
        Index of a position -> the move in USI notation.
    """
    found = {i: Board(sfen).solve_mate_in_one() for i, sfen in enumerate(sfens)}
    return {i: mate.to_move().to_usi() for i, mate in found.items() if mate is not None}


def western_notation(board: Board, usi: str, legal: dict[str, Move]) -> str:
    """Returns a move in western notation, with the squares of USI.

    The notation is: the piece ("+R" if promoted); its origin, if another piece of its kind could
    move to the same square; "-", "x" (captures) or "*" (drops); the destination; then "+" if the
    piece promotes, "=" if it could and does not.

    Args:
        board: the position before the move; not changed.
        usi: the move in USI notation.
        legal: every legal move of the position by its USI notation.

    Source: G. F. Hodges' notation (Shogi magazine, 1976), files and ranks as in USI.
    """
    if usi[1] == "*":
        return usi
    origin, target = usi[:2], usi[2:4]
    piece = _piece(board, origin)
    rivals = {
        other[:2]
        for other in legal
        if other[1] != "*" and other[2:4] == target and _piece(board, other[:2]) == piece
    }
    ambiguous = origin if len(rivals) > 1 else ""
    action = "x" if _piece(board, target) else "-"
    promotes = "+" if usi.endswith("+") else "=" if f"{usi}+" in legal else ""
    return f"{piece}{ambiguous}{action}{target}{promotes}"


def _piece(board: Board, square: str) -> str:
    """Letter of the piece on a square, of either side, for example "P" or "+P"; "" if empty."""
    return str(board.piece_on(Square.from_usi(square))).upper()
