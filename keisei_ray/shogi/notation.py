"""A finished game as a record that other shogi programs read: KIF, CSA or USI.

Text in, text out; no files are written here.
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

from keisei_ray.rollouts.finished_game import FinishedGame, GameEndReason
from keisei_ray.rollouts.finished_game import GameResult as Winner
from keisei_ray.shogi.game import STANDARD_SFEN

_RESULTS = {
    ("black_win", "mate"): GameResult.BLACK_WIN,
    ("white_win", "mate"): GameResult.WHITE_WIN,
    ("draw", "repetition"): GameResult.DRAW_BY_REPETITION,
    # Perpetual check is an illegal way to play on, and recorded as such.
    ("black_win", "perpetual_check"): GameResult.BLACK_WIN_BY_ILLEGAL_MOVE,
    ("white_win", "perpetual_check"): GameResult.WHITE_WIN_BY_ILLEGAL_MOVE,
    ("black_win", "declaration"): GameResult.BLACK_WIN_BY_DECLARATION,
    ("white_win", "declaration"): GameResult.WHITE_WIN_BY_DECLARATION,
    ("truncated", "max_plies"): GameResult.DRAW_BY_MAX_PLIES,
    ("black_win", "resign"): GameResult.BLACK_WIN,
    ("white_win", "resign"): GameResult.WHITE_WIN,
    # A dead engine's time runs out like that of one that thinks for ever.
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
"""What the formats have for each end; the exact reason stands in a comment where there is one."""


class RecordedGame(Protocol):
    """What a record is made of: a `FinishedGame` of self-play, a `PlayedGame` of a match."""

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
    """What stands above the moves."""

    event: str = ""
    """Which game of what it is."""
    black: str = ""
    """Who played Black."""
    white: str = ""
    """Who played White."""
    comment: str = ""
    """Anything else, in lines."""


def self_play_heading(game: FinishedGame) -> Heading:
    """The heading of a game that a network played against itself."""
    player = f"keisei_ray weights {game.weights_version}"
    return Heading(f"self-play game {game.game_id}", player, player)


_NO_HEADING = Heading()


def to_kif(game: RecordedGame, heading: Heading = _NO_HEADING) -> str:
    """The game as KIF, moves in Japanese notation.

    Raises:
        ValueError: the moves were not saved or are not legal, or the result cannot come
            from the reason.
    """
    return _record(game, heading).to_kif()


def to_csa(game: RecordedGame, heading: Heading = _NO_HEADING) -> str:
    """The game as CSA 2.2. Errors as for `to_kif`."""
    return _record(game, heading).to_csa()


def to_usi(game: RecordedGame) -> str:
    """The game as a USI `position` command. Errors as for `to_kif`."""
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
