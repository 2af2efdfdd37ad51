"""A finished game as a record that other shogi programs read: KIF, CSA or USI.

Text in, text out; no files are written here.
"""

from rsshogi.record import (
    GameResult,
    MoveEntry,
    Record,
    RecordMetadataBuilder,
    SpecialMoveEntry,
)

from keisei_ray.rollout import FinishedGame
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
}


def to_kif(game: FinishedGame) -> str:
    """The game as KIF, moves in Japanese notation.

    Raises:
        ValueError: the moves were not saved or are not legal, or the result cannot come
            from the reason.
    """
    return _record(game).to_kif()


def to_csa(game: FinishedGame) -> str:
    """The game as CSA 2.2. Errors as for `to_kif`."""
    return _record(game).to_csa()


def to_usi(game: FinishedGame) -> str:
    """The game as a USI `position` command. Errors as for `to_kif`."""
    return _record(game).to_usi_position()


def _record(game: FinishedGame) -> Record:
    if game.plies and not game.moves:
        raise ValueError(
            f"game {game.game_id} has no moves: they are saved when tracking.save_moves is true."
        )
    result = _RESULTS.get((game.result, game.reason))
    if result is None:
        raise ValueError(
            f"game {game.game_id}: result {game.result!r} cannot come from {game.reason!r}."
        )
    if game.reason == "mate":
        end = SpecialMoveEntry("MATE", result)
    else:
        end = SpecialMoveEntry.from_result(result)
    player = f"keisei_ray weights {game.weights_version}"
    metadata = RecordMetadataBuilder(
        event=f"self-play game {game.game_id}", black_player=player, white_player=player
    )
    moves = [MoveEntry(move) for move in game.moves.split()]
    return Record.from_main_line(
        game.start_sfen or STANDARD_SFEN, moves, terminal=end, metadata=metadata.build()
    )
