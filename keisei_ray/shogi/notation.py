"""A finished game in the notations that other shogi programs read: KIF, CSA and USI.

Returns text; no files are written here.
"""

from dataclasses import dataclass
from typing import Protocol

from rsshogi.record import (
    GameResult,
    MoveEntry,
    Record,
    RecordMetadataBuilder,
    SpecialMoveEntry,
)

from keisei_ray.rollouts.finished_game import GameEndReason
from keisei_ray.rollouts.finished_game import GameResult as Winner
from keisei_ray.shogi.game import STANDARD_SFEN

_RESULTS = {
    ("black_win", "mate"): GameResult.BLACK_WIN,
    ("white_win", "mate"): GameResult.WHITE_WIN,
    ("draw", "repetition"): GameResult.DRAW_BY_REPETITION,
    # The formats record a perpetual check as an illegal move of the checking side.
    ("black_win", "perpetual_check"): GameResult.BLACK_WIN_BY_ILLEGAL_MOVE,
    ("white_win", "perpetual_check"): GameResult.WHITE_WIN_BY_ILLEGAL_MOVE,
    ("black_win", "declaration"): GameResult.BLACK_WIN_BY_DECLARATION,
    ("white_win", "declaration"): GameResult.WHITE_WIN_BY_DECLARATION,
    ("truncated", "max_plies"): GameResult.DRAW_BY_MAX_PLIES,
    ("black_win", "resign"): GameResult.BLACK_WIN,
    ("white_win", "resign"): GameResult.WHITE_WIN,
    # An engine that died makes no move in time, as one that thinks for too long.
    ("black_win", "engine_died"): GameResult.BLACK_WIN_BY_TIMEOUT,
    ("white_win", "engine_died"): GameResult.WHITE_WIN_BY_TIMEOUT,
    ("black_win", "engine_timeout"): GameResult.BLACK_WIN_BY_TIMEOUT,
    ("white_win", "engine_timeout"): GameResult.WHITE_WIN_BY_TIMEOUT,
    ("black_win", "engine_garbage"): GameResult.BLACK_WIN_BY_ILLEGAL_MOVE,
    ("white_win", "engine_garbage"): GameResult.WHITE_WIN_BY_ILLEGAL_MOVE,
    ("black_win", "engine_illegal_move"): GameResult.BLACK_WIN_BY_ILLEGAL_MOVE,
    ("white_win", "engine_illegal_move"): GameResult.WHITE_WIN_BY_ILLEGAL_MOVE,
    ("black_win", "engine_false_win"): GameResult.BLACK_WIN_BY_ILLEGAL_MOVE,
    ("white_win", "engine_false_win"): GameResult.WHITE_WIN_BY_ILLEGAL_MOVE,
}
"""(result, reason) -> the end of the game in the formats' own terms.

Where they have no exact term the caller puts the reason into `Heading.comment`."""


class RecordedGame(Protocol):
    """A game that can be written: a `FinishedGame` of self-play or a `PlayedGame` of a match."""

    @property
    def result(self) -> Winner: ...
    @property
    def reason(self) -> GameEndReason: ...
    @property
    def plies(self) -> int: ...
    @property
    def moves(self) -> str: ...
    @property
    def start_sfen(self) -> str: ...


@dataclass(frozen=True)
class Heading:
    """The lines above the moves of a record; empty ones are left out."""

    event: str = ""
    """Name of the game and of the event that it belongs to."""
    black: str = ""
    """Name of the player of Black."""
    white: str = ""
    """Name of the player of White."""
    comment: str = ""
    """Any other text, of one or more lines."""


_NO_HEADING = Heading()


def to_kif(game: RecordedGame, heading: Heading = _NO_HEADING) -> str:
    """Returns the game as KIF, with its moves in Japanese notation.

    Raises:
        ValueError: the moves were not saved or are not legal, or the result cannot come from the
            reason.
    """
    return _record(game, heading).to_kif()


def to_csa(game: RecordedGame, heading: Heading = _NO_HEADING) -> str:
    """Returns the game as CSA 2.2; raises as `to_kif` does."""
    return _record(game, heading).to_csa()


def to_usi(game: RecordedGame) -> str:
    """Returns the game as a USI `position` command; raises as `to_kif` does."""
    return _record(game, _NO_HEADING).to_usi_position()


def _record(game: RecordedGame, heading: Heading) -> Record:
    if game.plies and not game.moves:
        raise ValueError(
            f"{heading.event or 'game'} has no moves: they are saved when tracking.save_moves is "
            "true."
        )
    result = _RESULTS.get((game.result, game.reason))
    if result is None:
        raise ValueError(
            f"{heading.event or 'game'}: result {game.result!r} cannot come from {game.reason!r}."
        )
    if game.reason == "mate":
        end = SpecialMoveEntry("MATE", result)
    else:
        end = SpecialMoveEntry.from_result(result)
    metadata = RecordMetadataBuilder(
        event=heading.event or None,
        black_player=heading.black or None,
        white_player=heading.white or None,
    )
    return Record.from_main_line(
        game.start_sfen or STANDARD_SFEN,
        [MoveEntry(move) for move in game.moves.split()],
        terminal=end,
        metadata=metadata.build(),
        initial_comment=heading.comment or None,
    )
