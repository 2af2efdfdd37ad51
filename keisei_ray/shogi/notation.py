"""A finished game in the notations that other shogi programs read: KIF, CSA and USI.

Returns text; no files are written here. The rules library writes it. What other readers cannot read
of that is written anew here: large hands and the ending of KIF, empty squares of CSA.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rsshogi.record import (
    EngineInfo,
    GameResult,
    MoveEntry,
    Record,
    RecordMetadata,
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
    ("black_win", "timeout"): GameResult.BLACK_WIN_BY_TIMEOUT,
    ("white_win", "timeout"): GameResult.WHITE_WIN_BY_TIMEOUT,
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
class SavedGame:
    """A game as a record tells it."""

    result: Winner
    reason: GameEndReason
    plies: int
    moves: str
    start_sfen: str


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


def to_kif(
    game: RecordedGame, heading: Heading = _NO_HEADING, evals: Sequence[int | None] = ()
) -> str:
    """Returns the game as KIF, with its moves in Japanese notation.

    The line of the ending says why the game ended, the last line only who won: of the last line
    readers know no other words.

    Args:
        game: the game.
        heading: lines above the moves.
        evals: evaluation before each move in centipawns for its mover, None for none; written as
            seen by Black, as GUIs do.

    Raises:
        ValueError: the moves were not saved or are not legal, or the result cannot come from the
            reason.
    """
    result = _result(game, heading)
    if game.reason == "mate":
        end = SpecialMoveEntry("MATE", result)
    elif game.reason == "max_plies":
        # KIF has no word of its own for a ply cap.
        end = SpecialMoveEntry.from_result(GameResult.DRAW_BY_IMPASSE)
    else:
        end = SpecialMoveEntry.from_result(result)
    return kif_text(_record(game, heading, end, evals))


def unfinished_to_kif(start_sfen: str, moves: Sequence[str], heading: Heading = _NO_HEADING) -> str:
    """Returns a game of which the end is not known as KIF.

    Args:
        start_sfen: position before the first move.
        moves: legal moves in USI notation.
        heading: lines above the moves.
    """
    record = Record.from_main_line(
        start_sfen,
        [MoveEntry(move) for move in moves],
        metadata=_metadata(heading),
        initial_comment=heading.comment or None,
    )
    return kif_text(record)


def kif_text(record: Record) -> str:
    """Returns a record of the rules library as KIF that other readers read, see `to_kif`."""
    text = _HAND_LINE.sub(_with_kanji_numbers, record.to_kif())
    lines = [line for line in text.split("\n") if line]
    if record.result.is_win():
        names = ("下手", "上手") if _HANDICAP_LINE.search(text) else ("先手", "後手")
        winner = names[record.result.is_white_win()]
        lines[-1] = f"まで{record.move_count}手で{winner}の勝ち"
    return "\n".join(lines) + "\n"


def with_comments(kif: str, comments: Mapping[int, Sequence[str]]) -> str:
    """Returns KIF with lines of comment added behind those that are there.

    Args:
        kif: a record with its moves numbered; its variations stay as they are.
        comments: number of a move of the main line -> lines that follow it; 0: those before the
            first move.
    """
    lines = kif.rstrip("\n").split("\n")
    end = next((i for i, line in enumerate(lines) if line.startswith(KIF_VARIATION)), len(lines))
    moves = [i for i, line in enumerate(lines[:end]) if KIF_MOVE.match(line)]
    added: dict[int, Sequence[str]] = {}
    for ply, texts in comments.items():
        if ply == 0:
            place = moves[0] if moves else end
        else:
            place = moves[ply - 1] + 1
            while place < end and lines[place].startswith(("*", "&")):
                place += 1
        added[place] = [f"*{text}" for text in texts]
    places = range(len(lines) + 1)
    merged = [text for i in places for text in (*added.get(i, ()), *lines[i : i + 1])]
    return "\n".join(merged) + "\n"


KIF_MOVE = re.compile(r"\s*[0-9]+\s+(同\s*\S+|\S+)")
"""Beginning of a line of KIF that has a move or the ending: its number, then the move."""
KIF_VARIATION = "変化"
"""Beginning of the line after which KIF has no more moves of the main line."""


def to_csa(
    game: RecordedGame, heading: Heading = _NO_HEADING, evals: Sequence[int | None] = ()
) -> str:
    """Returns the game as CSA 2.2; arguments and errors as of `to_kif`.

    A mated player resigns: `%TSUMI` names no winner, and readers take it for a draw.
    """
    end = SpecialMoveEntry.from_result(_result(game, heading))
    # The rules library writes the number that it is given; floodgate's are Black's.
    text = _record(game, heading, end, seen_by_other(game.start_sfen, evals)).to_csa()
    return _BOARD_ROW.sub(lambda row: row[0].replace("*  ", " * "), text)


def to_usi(game: RecordedGame) -> str:
    """Returns the game as a USI `position` command; raises as `to_kif` does."""
    end = SpecialMoveEntry.from_result(_result(game, _NO_HEADING))
    return _record(game, _NO_HEADING, end).to_usi_position()


_HAND_LINE = re.compile("^.手の持駒.*$", re.MULTILINE)
_HANDICAP_LINE = re.compile("^手合割.(?!平手)", re.MULTILINE)
_BOARD_ROW = re.compile(r"^P[1-9](?:\*  |[-+][A-Z]{2}){9}$", re.MULTILINE)
"""A rank of CSA's diagram with the star of an empty square in the wrong column."""


def _with_kanji_numbers(line: re.Match[str]) -> str:
    """A line of pieces in hand; the rules library writes numbers above ten in digits."""
    return re.sub("1[1-8]", lambda number: "十" + "一二三四五六七八"[int(number[0]) - 11], line[0])


def _result(game: RecordedGame, heading: Heading) -> GameResult:
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
    return result


def seen_by_other(start_sfen: str, evals: Sequence[int | None]) -> tuple[int | None, ...]:
    """Turns evaluations for the mover into those for Black, and back.

    Args:
        start_sfen: position before the first move; empty for the standard position.
        evals: one for each move, None for none.
    """
    black = 1 if start_sfen.split()[1:2] == ["w"] else 0
    return tuple(
        -value if value is not None and ply % 2 != black else value
        for ply, value in enumerate(evals)
    )


def _record(
    game: RecordedGame, heading: Heading, end: SpecialMoveEntry, evals: Sequence[int | None] = ()
) -> Record:
    moves = game.moves.split()
    judged = [*evals, *(None for _ in moves[len(evals) :])]
    return Record.from_main_line(
        game.start_sfen or STANDARD_SFEN,
        [
            MoveEntry(move, engine_info=None if value is None else EngineInfo(eval=value))
            for move, value in zip(moves, judged, strict=True)
        ],
        terminal=end,
        metadata=_metadata(heading),
        initial_comment=heading.comment or None,
    )


def _metadata(heading: Heading) -> RecordMetadata:
    return RecordMetadataBuilder(
        event=heading.event or None,
        black_player=heading.black or None,
        white_player=heading.white or None,
    ).build()
