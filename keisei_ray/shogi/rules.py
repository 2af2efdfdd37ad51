"""By which rule a game ends, and who then wins. Pure functions on one position.

Legal moves, check and mate come from rsshogi, which has no declaration rule set and whose
repetition verdict names no cycle; both are decided here.

In order of precedence, after each ply: mate, fourfold repetition (a draw, or lost by the side
that did nothing but give check), declaration, ply cap.

Source: the Japan Shogi Association's rules of play, with the 27-point declaration of its
amateur rules (28 points for Black, 27 for White).
"""

from typing import Final, NamedTuple, get_args

from rsshogi.core import Board
from rsshogi.types import Color

from keisei_ray.rollouts.finished_game import ForfeitReason, GameEndReason

PIECE_VALUES = (0, 1, 3, 4, 5, 8, 10, 6, 0, 7, 6, 6, 6, 10, 12)
"""Material by piece type (1-8 P L N S B R G K, 9-14 promoted), in pawns: a beginner's table."""

FOURFOLD = 3
"""Earlier occurrences that make this the fourth."""

DECLARATION_POINTS = (28, 27)
"""Points that Black and White need."""
DECLARATION_PIECES = 10
"""Pieces other than the king that must stand in the camp."""

COLORS = (Color.BLACK, Color.WHITE)
"""rsshogi's colours by number: 0 black, 1 white."""

_CAMP_RANKS = (range(3), range(6, 9))
CAMPS = tuple(frozenset(s for s in range(81) if s % 9 in ranks) for ranks in _CAMP_RANKS)
"""Absolute squares of the far three ranks, where Black and White may promote."""
_CAMP_BITS = tuple(sum(1 << s for s in camp) for camp in CAMPS)
_BIG_PIECES_IN_HAND = ("B", "R")
_BIG_PIECE_BONUS = 4
"""A bishop, rook, horse or dragon counts five points, anything else one."""


FORFEITS: Final[tuple[ForfeitReason, ...]] = get_args(ForfeitReason)
"""Every reason to lose without a ply."""
_FIRST_FORFEIT = -100
"""Its code. Far from -1, which says "no such move" elsewhere and must not lose a game."""


class Verdict(NamedTuple):
    """How a ply, or a forfeit in its place, ended the game."""

    reason: GameEndReason
    """The rule."""
    reward: float
    """To the side whose ply it was: 1 won, -1 lost, 0 drawn or cut by the cap."""


MATE = Verdict("mate", 1.0)
"""The side to move has no legal move, in check or not: it has lost."""
REPETITION = Verdict("repetition", 0.0)
"""The position occurs for the fourth time."""
CHECKER_LOSES = Verdict("perpetual_check", -1.0)
"""... and the side that played the ply gave check all the while."""
CHECKED_WINS = Verdict("perpetual_check", 1.0)
"""... and the side to move gave check all the while."""
DECLARATION = Verdict("declaration", -1.0)
"""The side to move declares: it has won."""
PLY_CAP = Verdict("max_plies", 0.0)
"""The game is cut, not decided."""


def forfeit(reason: ForfeitReason) -> int:
    """Code that a side which forfeits gives `VectorGames.step` in place of a move; negative."""
    return _FIRST_FORFEIT - FORFEITS.index(reason)


def forfeit_verdict(choice: int) -> Verdict | None:
    """How a `forfeit` ends the game, or None if the choice is not one."""
    number = _FIRST_FORFEIT - choice
    return Verdict(FORFEITS[number], -1.0) if 0 <= number < len(FORFEITS) else None


def repetition_verdict(cycle_plies: int, *, mover_checks: int, opponent_checks: int) -> Verdict:
    """The result of a fourfold repetition.

    The side loses whose every ply since the position first occurred gave check. Should both
    have done nothing else, neither is at fault alone: a draw.

    Args:
        cycle_plies: plies since the first occurrence; even, each side played half of them.
        mover_checks: latest consecutive checks by the side that just played.
        opponent_checks: the same for the side to move.
    """
    plies_each = cycle_plies // 2
    mover_is_at_fault = mover_checks >= plies_each
    opponent_is_at_fault = opponent_checks >= plies_each
    if mover_is_at_fault == opponent_is_at_fault:
        return REPETITION
    return CHECKER_LOSES if mover_is_at_fault else CHECKED_WINS


def can_declare(board: Board, turn: int) -> bool:
    """Whether the side to move fulfils the 27-point rule.

    Its king stands in the far three ranks and is not in check; at least ten of its other
    pieces stand there; those and its hand are worth 28 points (Black) or 27 (White), where
    a bishop, rook, horse or dragon counts five and the others one.

    Args:
        board: the position; not changed.
        turn: the side to move, 0 black, 1 white.
    """
    color = COLORS[turn]
    if board.king_square(color).value not in CAMPS[turn] or board.is_in_check():
        return False
    in_camp = board.pieces_by_color(color).packed & _CAMP_BITS[turn]
    num_pieces = in_camp.bit_count() - 1
    if num_pieces < DECLARATION_PIECES:
        return False
    big_pieces = board.bishop_horse().packed | board.rook_dragon().packed
    hand = board.hand_counts(color)
    num_big = (in_camp & big_pieces).bit_count() + sum(hand[p] for p in _BIG_PIECES_IN_HAND)
    points = num_pieces + sum(hand.values()) + _BIG_PIECE_BONUS * num_big
    return points >= DECLARATION_POINTS[turn]
