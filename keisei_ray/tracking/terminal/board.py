"""A Shogi position as plain characters, from an SFEN. It needs no rules and no library.

Every square is two characters wide: the piece's SFEN letter, upper case for black and lower
case for white, with "+" in front when promoted. Files run 9 to 1 from left to right and ranks
a to i from top to bottom, as black sees the board.
"""

from dataclasses import dataclass
from typing import Final

FILES: Final = "987654321"
RANKS: Final = "abcdefghi"
EMPTY: Final = " ."
_PIECES: Final = frozenset("plnsgbrkPLNSGBRK")


@dataclass(frozen=True)
class Position:
    """A position ready to be drawn."""

    cells: tuple[tuple[str, ...], ...]
    """9 rows (rank a first) of 9 two-character cells (file 9 first)."""
    black_hand: str
    """Black's pieces in hand as in SFEN, e.g. "2PS"; "-" if empty."""
    white_hand: str
    """White's pieces in hand as in SFEN, e.g. "b3p"; "-" if empty."""
    black_to_move: bool
    ply: int
    """Plies played before this position, by the SFEN's move number."""


def parse_sfen(sfen: str) -> Position:
    """Reads an SFEN.

    Args:
        sfen: "board turn hands" with an optional move number.

    Raises:
        ValueError: the text does not have the form of an SFEN. Whether the position is legal is
            not checked.
    """
    parts = sfen.split()
    if len(parts) not in (3, 4) or parts[1] not in ("b", "w"):
        raise ValueError(f"SFEN {sfen!r} is not 'board turn hands [move number]'.")
    rows = tuple(_row(row, sfen) for row in parts[0].split("/"))
    if len(rows) != 9 or (len(parts) == 4 and not parts[3].isdigit()):
        raise ValueError(f"SFEN {sfen!r} has {len(rows)} ranks, expected 9 and a move number.")
    black, white = _hands(parts[2], sfen)
    ply = max(0, int(parts[3]) - 1) if len(parts) == 4 else 0
    return Position(rows, black, white, parts[1] == "b", ply)


def _row(row: str, sfen: str) -> tuple[str, ...]:
    """Reads one rank as nine cells."""
    cells: list[str] = []
    mark = " "
    for letter in row:
        if letter in "123456789" and mark == " ":
            cells.extend([EMPTY] * int(letter))
        elif letter == "+" and mark == " ":
            mark = "+"
        elif letter in _PIECES:
            cells.append(mark + letter)
            mark = " "
        else:
            raise ValueError(f"SFEN {sfen!r} has {letter!r} in rank {row!r}.")
    if len(cells) != 9 or mark != " ":
        raise ValueError(f"SFEN {sfen!r} has {len(cells)} squares in rank {row!r}, expected 9.")
    return tuple(cells)


def _hands(hands: str, sfen: str) -> tuple[str, str]:
    """Reads black's and white's pieces in hand."""
    if hands == "-":
        return "-", "-"
    sides: dict[bool, str] = {True: "", False: ""}
    count = ""
    for letter in hands:
        if letter.isdigit():
            count += letter
        elif letter in _PIECES:
            sides[letter.isupper()] += count + letter
            count = ""
        else:
            raise ValueError(f"SFEN {sfen!r} has {letter!r} in the hands {hands!r}.")
    if count:
        raise ValueError(f"SFEN {sfen!r} has a count without a piece in the hands {hands!r}.")
    return sides[True] or "-", sides[False] or "-"


def destination(usi: str) -> tuple[int, int]:
    """Returns row and column of the square that a USI move goes to ("7g7f", "2b3c+", "P*5e").

    Raises:
        ValueError: the text is not a USI move.
    """
    square = usi[2:4]
    if len(square) != 2 or square[0] not in FILES or square[1] not in RANKS:
        raise ValueError(f"{usi!r} is not a USI move.")
    return RANKS.index(square[1]), FILES.index(square[0])
