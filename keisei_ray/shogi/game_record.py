"""One game as a record of any format tells it: moves, result, evaluations, ratings.

What all readers of records return, and what the binary formats are written from.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

from rsshogi.core import Board, Move

from keisei_ray.rollouts.finished_game import GameResult

MAX_EVAL: Final = 30_000
"""Largest evaluation, in centipawns; a mate that was seen counts as this."""

Visits: TypeAlias = tuple[tuple[int, int], ...]
"""Moves that a search looked at, as 16-bit integers, and how often."""


@dataclass(frozen=True, slots=True)
class GameRecord:
    """A game from its start to its end. Its moves have not been checked."""

    start_sfen: str
    """Position before the first move."""
    moves: tuple[int, ...]
    """Moves as 16-bit integers, see `shogi/actions.py`."""
    result: GameResult | None
    """The winner; None where the record does not say."""
    evals: tuple[int | None, ...] = ()
    """Evaluation of the position before each move, in centipawns for its mover; None where there is
    none. Empty: there are none at all."""
    ratings: tuple[float | None, float | None] = (None, None)
    """Ratings of Black and White."""
    opening_plies: int = 0
    """Moves at the start that neither player chose."""
    place: str = ""
    """Where the record is, for messages."""

    is_part: bool = False
    """Whether it may be a part of a game only, as positions in a file are."""

    visits: tuple[Visits, ...] = ()
    """Visits of the search before each move; none where nothing is to be learned. Empty: the record
    says nothing of searches."""

    def visits_at(self, ply: int) -> Visits:
        """Returns the visits before the move with this index; empty for none."""
        return self.visits[ply] if ply < len(self.visits) else ()

    def eval_at(self, ply: int) -> int | None:
        """Returns the evaluation before the move with this index."""
        return self.evals[ply] if ply < len(self.evals) else None


def after_opening(game: GameRecord) -> tuple[str, tuple[int, ...]]:
    """Returns the position after the opening and the moves from there on.

    Of a record whose opening cannot be played, start position and moves as they are.
    """
    opening, moves = game.moves[: game.opening_plies], game.moves[game.opening_plies :]
    try:
        board = Board(game.start_sfen)
        for move in opening:
            board.apply_move(Move(move))
    except ValueError:
        return game.start_sfen, game.moves
    return board.to_sfen(), moves


def moves_from_usi(usi_moves: list[str]) -> tuple[int, ...]:
    """Returns moves in USI notation as 16-bit integers.

    Raises:
        ValueError: a text is not a move.
    """
    return tuple(Move.from_usi(move).value for move in usi_moves)


def clipped_eval(centipawns: int) -> int:
    """Returns an evaluation within -MAX_EVAL..MAX_EVAL."""
    return max(-MAX_EVAL, min(MAX_EVAL, centipawns))
