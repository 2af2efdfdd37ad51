"""By which rule a game ends, and who has won. Pure functions on one position.

Legal moves, check and mate come from rsshogi. Declarations and repetitions are decided here:
rsshogi has no declaration rule, and its verdict on a repetition does not say how long the cycle is.

After each ply the rules apply in this order: mate, fourfold repetition (a draw, or lost by the side
that gave check all the time), declaration, ply cap (`verdict_after`).

Source: the Japan Shogi Association's rules of play, with the 27-point declaration of its
amateur rules (28 points for Black, 27 for White).
"""

from typing import Final, NamedTuple, get_args

from rsshogi.core import Board
from rsshogi.types import Color

from keisei_ray.rollouts.finished_game import ForfeitReason, GameEndReason, GameResult

PIECE_VALUES = (0, 1, 3, 4, 5, 8, 10, 6, 0, 7, 6, 6, 6, 10, 12)
"""[15] material in pawns by piece type (1-8 P L N S B R G K, 9-14 promoted). A simple table."""

FOURFOLD = 3
"""Earlier occurrences of a position that make the present one the fourth."""

DECLARATION_POINTS = (28, 27)
"""Points that Black and White need to declare."""
DECLARATION_PIECES = 10
"""Pieces other than the king that must stand in the camp."""

COLORS = (Color.BLACK, Color.WHITE)
"""rsshogi's colours by number: 0 black, 1 white."""

_CAMP_RANKS = (range(3), range(6, 9))
CAMPS = tuple(frozenset(s for s in range(81) if s % 9 in ranks) for ranks in _CAMP_RANKS)
"""[2] the camp that Black and White attack: absolute squares of the three ranks furthest away."""
_CAMP_BITS = tuple(sum(1 << s for s in camp) for camp in CAMPS)
_BIG_PIECES_IN_HAND = ("B", "R")
_BIG_PIECE_BONUS = 4
"""Points above one: a bishop, rook, horse or dragon counts five, any other piece one."""

FORFEITS: Final[tuple[ForfeitReason, ...]] = get_args(ForfeitReason)
"""Every reason for which the side to move can lose without playing a ply."""
_FIRST_FORFEIT = -100
"""Code of the first of `FORFEITS`. Far from -1, which elsewhere means that there is no such move
and must not lose a game."""


class Verdict(NamedTuple):
    """How a ply, or a forfeit in its place, ended the game."""

    reason: GameEndReason
    """The rule that ended it."""
    reward: float
    """Reward to the side whose ply it was: 1 won, -1 lost, 0 drawn or truncated."""


MATE = Verdict("mate", 1.0)
"""The side to move has no legal move, whether in check or not: it has lost."""
REPETITION = Verdict("repetition", 0.0)
"""The position occurs for the fourth time: a draw."""
CHECKER_LOSES = Verdict("perpetual_check", -1.0)
"""Fourth occurrence, and the side that played the ply gave check throughout: it has lost."""
CHECKED_WINS = Verdict("perpetual_check", 1.0)
"""Fourth occurrence, and the side to move gave check throughout: it has lost."""
DECLARATION = Verdict("declaration", -1.0)
"""The side to move fulfils the 27-point rule: it has won."""
PLY_CAP = Verdict("max_plies", 0.0)
"""The game has reached its last ply undecided: it is truncated."""


def forfeit(reason: ForfeitReason) -> int:
    """Code of a forfeit, given to `VectorGames.step` in place of a move; negative."""
    return _FIRST_FORFEIT - FORFEITS.index(reason)


def forfeit_verdict(choice: int) -> Verdict | None:
    """Verdict of a `forfeit`, or None if the choice is not one."""
    number = _FIRST_FORFEIT - choice
    return Verdict(FORFEITS[number], -1.0) if 0 <= number < len(FORFEITS) else None


def result_of(verdict: Verdict, turn: int) -> GameResult:
    """Translates a verdict, which is relative to the last ply, into an absolute result.

    Args:
        verdict: how the game ended.
        turn: the side to move in the final position, 0 black, 1 white.
    """
    if verdict.reason == "max_plies":
        return "truncated"
    if verdict.reward == 0:
        return "draw"
    # A side forfeits where it is to move; any other end comes after a ply of the other side.
    mover = turn if verdict.reason in FORFEITS else 1 - turn
    return "black_win" if (mover == 0) == (verdict.reward > 0) else "white_win"


def repetition_verdict(cycle_plies: int, *, mover_checks: int, opponent_checks: int) -> Verdict:
    """Result of a fourfold repetition.

    A side whose every ply since the first occurrence gave check loses. If that holds for both
    sides, or for neither, the game is drawn.

    Args:
        cycle_plies: plies since the first occurrence; even, each side played half of them.
        mover_checks: how many of the latest moves of the side that just played gave check, without
            a break.
        opponent_checks: the same for the side to move.
    """
    plies_each = cycle_plies // 2
    mover_is_at_fault = mover_checks >= plies_each
    opponent_is_at_fault = opponent_checks >= plies_each
    if mover_is_at_fault == opponent_is_at_fault:
        return REPETITION
    return CHECKER_LOSES if mover_is_at_fault else CHECKED_WINS


def verdict_after(
    board: Board,
    *,
    turn: int,
    has_moves: bool,
    earlier: int,
    cycle_plies: int,
    mover_checks: int,
    opponent_checks: int,
    is_last_ply: bool,
) -> Verdict | None:
    """Tells whether, and by which rule, a ply ended the game.

    Args:
        board: the position after the ply; not changed.
        turn: the side to move, 0 black, 1 white.
        has_moves: whether it has a legal move.
        earlier: earlier occurrences of the position, 0..3.
        cycle_plies: plies since the first of them; looked at on the fourth occurrence only.
        mover_checks, opponent_checks: see `repetition_verdict`.
        is_last_ply: whether the ply cap has been reached.
    """
    if not has_moves:
        return MATE
    if earlier == FOURFOLD:
        return repetition_verdict(
            cycle_plies, mover_checks=mover_checks, opponent_checks=opponent_checks
        )
    if can_declare(board, turn):
        return DECLARATION
    return PLY_CAP if is_last_ply else None


def can_declare(board: Board, turn: int) -> bool:
    """Whether the side to move fulfils the 27-point rule.

    Its king stands in the three ranks furthest away and is not in check; at least ten of its other
    pieces stand there; these and its hand are worth at least 28 points (Black) or 27 (White), where
    a bishop, rook, horse or dragon counts five and any other piece one.

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
