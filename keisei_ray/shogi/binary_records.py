"""Binary records of other programs: hcpe and psv hold single positions, pack holds whole games.

    hcpe   38 bytes a position (Apery, dlshogi): 32 of the board, evaluation for the mover, move,
           result (0 draw, 1 Black won, 2 White won), padding
    psv    40 bytes a position (YaneuraOu): 32 of the board, evaluation for the mover, move, ply,
           result for the mover (1, 0, -1), padding
    pack   a game (YaneuraOu): a start position or none, 4 bytes a move (move, evaluation), the end

None of them can say that there is no evaluation, so 0 is written there, and read as none. In files
of positions those that follow one another by their moves are read as one game.

The rules library packs and unpacks boards, and reads and writes pack.
"""

import contextlib
import struct
from collections.abc import Iterator
from typing import Final, Literal

from rsshogi.core import AperyMove, Board, Move
from rsshogi.record import EngineInfo, MoveEntry, Record, SpecialMoveEntry
from rsshogi.record import GameResult as RecordResult

from keisei_ray.rollouts.finished_game import GameResult
from keisei_ray.shogi.game_record import GameRecord, clipped_eval

PositionFormat = Literal["hcpe", "psv"]
"""A format of single positions."""
RECORD_BYTES: Final[dict[PositionFormat, int]] = {"hcpe": 38, "psv": 40}
"""Bytes of a position."""
_HCPE: Final = struct.Struct("<32shHbx")
_PSV: Final = struct.Struct("<32shHHbx")
_HCPE_RESULTS: Final[dict[int, GameResult]] = {0: "draw", 1: "black_win", 2: "white_win"}
_HCPE_CODES: Final = {"draw": 0, "truncated": 0, "black_win": 1, "white_win": 2}
_PACK_RESULTS: Final[dict[GameResult, tuple[str, RecordResult]]] = {
    "black_win": ("RESIGN", RecordResult.BLACK_WIN),
    "white_win": ("RESIGN", RecordResult.WHITE_WIN),
    "draw": ("REPETITION_DRAW", RecordResult.DRAW_BY_REPETITION),
    "truncated": ("MAX_MOVES", RecordResult.DRAW_BY_MAX_PLIES),
}
_START_BYTES: Final = 34
"""Bytes of a start position in pack: the board and the ply."""
_TARGET, _ORIGIN_SHIFT = 127, 7


class DamagedRecordError(ValueError):
    """Bytes that are not a record of their format.

    Attributes:
        count: records of the same bytes that follow one another, this one included.
    """

    def __init__(self, message: str, count: int = 1) -> None:
        """Args:
        message: where it is and what is wrong with it.
        count: see above.
        """
        super().__init__(message)
        self.count = count


def num_alike(content: bytes, start: int, size: int) -> int:
    """Returns how many records from one on have the same bytes as it.

    A file that was never filled has millions. To compare one takes 0.1 us, to read it 5 us.

    Args:
        content: bytes of a file.
        start: where the record begins.
        size: its bytes.
    """
    record, at = content[start : start + size], start + size
    while content[at : at + size] == record:
        at += size
    return (at - start) // size


def to_hcpe(game: GameRecord) -> bytes:
    """Returns every position of a game that a player moved in, as hcpe.

    Raises:
        ValueError: the game has no result, or a move is illegal.
    """
    code = _HCPE_CODES[known_result(game)]
    return b"".join(
        _HCPE.pack(board.to_hcp(), evaluation, move.to_apery().value, code)
        for board, move, evaluation, _ in chosen_positions(game)
    )


def to_psv(game: GameRecord) -> bytes:
    """Returns every position of a game that a player moved in, as psv.

    Raises:
        ValueError: the game has no result, or a move is illegal.
    """
    result = known_result(game)
    black = {"black_win": 1, "white_win": -1}.get(result, 0)
    return b"".join(
        _PSV.pack(
            board.to_packed_sfen(),
            evaluation,
            move.value,
            min(0xFFFF, ply),
            black if board.turn.is_black() else -black,
        )
        for board, move, evaluation, ply in chosen_positions(game)
    )


def to_pack(game: GameRecord) -> bytes:
    """Returns a game as pack; it begins after the opening.

    Raises:
        ValueError: the game has no result, or a move is illegal.
    """
    entries, start = [], ""
    for board, move, evaluation, _ in chosen_positions(game):
        start = start or board.to_sfen()
        entries.append(MoveEntry(move, engine_info=EngineInfo(eval=evaluation)))
    kind, result = _PACK_RESULTS[known_result(game)]
    end = SpecialMoveEntry(kind, result)
    return Record.from_main_line(start or game.start_sfen, entries, terminal=end).to_pack()


def read_positions(
    content: bytes,
    kind: PositionFormat,
    place: str,
    *,
    first: int = 0,
    numbers: range | None = None,
) -> Iterator[GameRecord | DamagedRecordError]:
    """Reads positions; those that follow one another by their moves are one game.

    Args:
        content: whole records.
        kind: their format.
        place: the file, for messages.
        first: number of the first record in the file.
        numbers: records with which a game may begin; the others are read only to tell where games
            begin and end. None: all.

    Yields:
        Games, and an error for the records of `numbers` that cannot be read, one for those that
        follow one another with the same bytes.
    """
    size = RECORD_BYTES[kind]
    wanted = numbers if numbers is not None else range(first, first + len(content) // size)
    start, moves, evals = "", list[int](), list[int | None]()
    result: GameResult = "draw"
    since = first
    expected: int | None = None  # Key of the position that would continue the game.
    board = Board()

    def finished() -> Iterator[GameRecord]:
        if moves and since in wanted:
            yield GameRecord(
                start,
                tuple(moves),
                result,
                tuple(evals),
                place=f"{place}, record {since}",
                is_part=True,
            )

    at = 0
    while at < len(content):
        number = first + at // size
        try:
            board, move, evaluation, outcome = _unpacked(content[at : at + size], kind)
        except ValueError as error:
            yield from finished()
            moves, expected = [], None
            if number >= wanted.stop:
                return
            count = num_alike(content, at, size)
            damaged = range(max(number, wanted.start), min(number + count, wanted.stop))
            if damaged:
                message = f"{place}, record {damaged.start}: {error}"
                yield DamagedRecordError(message, len(damaged))
            at += count * size
            continue
        at += size
        if board.zobrist_hash() != expected or outcome != result:
            yield from finished()
            if number >= wanted.stop:
                return
            start, moves, evals, since, result = board.to_sfen(), [], [], number, outcome
        moves.append(move.value)
        evals.append(evaluation or None)
        expected = None
        if board.is_legal_move(move):
            with contextlib.suppress(ValueError):  # It takes a king: no position of a game.
                board.apply_move(move)
                expected = board.zobrist_hash()
    yield from finished()


def read_pack(content: bytes, place: str) -> GameRecord:
    """Reads one game, see `pack_length`.

    Raises:
        DamagedRecordError: it is not one.
    """
    try:
        record = Record.from_pack(content)
    except ValueError as error:
        raise DamagedRecordError(f"{place}: {error}") from error
    result = record.result
    return GameRecord(
        record.init_position_sfen,
        tuple(entry.move.value for entry in record.moves),
        result_of(result),
        tuple((entry.engine_info and entry.engine_info.eval) or None for entry in record.moves),
        place=place,
    )


def pack_length(content: bytes, start: int) -> int | None:
    """Returns how many bytes a game of pack takes; None if it goes on beyond the content.

    Args:
        content: bytes of a file.
        start: where the game begins.
    """
    if start >= len(content):
        return None
    at = start + 1 + (0 if content[start] else _START_BYTES)
    while at + 2 < len(content):
        move = content[at] | content[at + 1] << 8
        # A move from a square to itself is the end; a byte with the result follows.
        if not move >> 14 and move & _TARGET == move >> _ORIGIN_SHIFT & _TARGET:
            return at + 3 - start
        at += 4
    return None


def result_of(result: RecordResult) -> GameResult | None:
    """Returns a result of the rules library in our terms; None: no win and no draw."""
    if result.is_black_win():
        return "black_win"
    if result.is_white_win():
        return "white_win"
    return "draw" if result.is_draw() else None


def known_result(game: GameRecord) -> GameResult:
    """Returns who won.

    Raises:
        ValueError: the record does not say.
    """
    if game.result is None:
        raise ValueError("the game has no result")
    return game.result


def chosen_positions(game: GameRecord) -> Iterator[tuple[Board, Move, int, int]]:
    """Yields board, move, evaluation (0: none) and ply of each position after the opening.

    Raises:
        ValueError: a move is illegal.
    """
    board = Board(game.start_sfen)
    for ply, value in enumerate(game.moves):
        move = Move(value)
        if ply >= game.opening_plies:
            yield board, move, clipped_eval(game.eval_at(ply) or 0), ply + 1
        board.apply_move(move)


def _unpacked(record: bytes, kind: PositionFormat) -> tuple[Board, Move, int, GameResult]:
    """Board, move, evaluation and result of one position.

    Raises:
        ValueError: the bytes are not a position.
    """
    board = Board()
    if kind == "hcpe":
        packed, evaluation, value, code = _HCPE.unpack(record)
        board.set_hcp(packed)
        move = AperyMove(value).to_move()
        result = _HCPE_RESULTS.get(code)
    else:
        packed, evaluation, value, _, code = _PSV.unpack(record)
        board.set_packed_sfen(packed)
        move = Move(value)
        by_mover: dict[int, GameResult] = {1: "black_win", 0: "draw", -1: "white_win"}
        result = by_mover.get(code if board.turn.is_black() else -code)
    if result is None:
        raise ValueError(f"result {code} is not one of the format")
    return board, move, evaluation, result
