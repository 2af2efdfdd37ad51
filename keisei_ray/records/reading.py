"""Games of one piece of a file, whatever its format; what cannot be read is yielded with its cause.

Everything is streamed: of a file with many games one is in memory at a time, of positions one
piece. A game belongs to the piece in which it begins. Moves are not played here, except that text
formats need it to be understood.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final, TypeAlias, get_args

from keisei_ray.config.json_text import check_unicode, parse_json
from keisei_ray.errors import StorageError
from keisei_ray.records.files import Piece
from keisei_ray.records.left_out import Cause, LeftOut
from keisei_ray.rollouts.finished_game import GameResult
from keisei_ray.shogi.binary_records import (
    RECORD_BYTES,
    DamagedRecordError,
    PositionFormat,
    num_alike,
    pack_length,
    read_pack,
    read_positions,
)
from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.shogi.game_record import GameRecord, clipped_eval, moves_from_usi
from keisei_ray.shogi.hcpe3 import hcpe3_length, read_hcpe3
from keisei_ray.shogi.opening_line import parse_opening
from keisei_ray.shogi.record_reader import ReadRecord, decoded_text, read_csa, read_ki2, read_kif
from keisei_ray.storage.json_lines import MAX_LINE_BYTES

Found: TypeAlias = GameRecord | LeftOut
"""A game, or what was found in its place."""
MAX_GAME_BYTES: Final = 4 << 20
"""Largest record of one game in text; one game takes some 100 kB at most."""
_CHUNK_BYTES: Final = 1 << 20
_POSITIONS_BEHIND: Final = 2048
"""Positions behind a piece that are read for its last game; no game has as many."""
_UTF8_MARK: Final = b"\xef\xbb\xbf"
_RESULTS: Final = get_args(GameResult)
_RATING: Final = re.compile(r"^'(black|white)_rate:.*:\s*([0-9]+(?:\.[0-9]+)?)\s*$", re.MULTILINE)
"""Ratings in CSA as floodgate writes them."""
_CSA_MOVES: Final = re.compile(rb"^[+-]\d{4}|^%", re.MULTILINE)


def read_games(piece: Piece) -> Iterator[Found]:
    """Yields the games of a piece in the order of the file."""
    try:
        with piece.open() as file:
            file.seek(piece.start)
            match piece.format:
                case "csa":
                    yield from _csa_games(_lines(file, piece), piece.file)
                case "kif" | "ki2":
                    yield _text_game(piece, file.read(MAX_GAME_BYTES + 1), piece.file)
                case "usi" | "jsonl":
                    yield from _line_games(file, piece)
                case "hcpe":
                    yield from _positions(file, piece, "hcpe")
                case "psv":
                    yield from _positions(file, piece, "psv")
                case "pack":
                    yield from _binary_games(file, piece, pack_length, read_pack)
                case "hcpe3":
                    yield from _binary_games(file, piece, hcpe3_length, read_hcpe3)
    except OSError as error:
        yield LeftOut(Cause.UNREADABLE, f"{piece.file}: {error.strerror}")
    except StorageError as error:
        yield LeftOut(Cause.UNREADABLE, str(error))


def _lines(file: BinaryIO, piece: Piece) -> Iterator[bytes]:
    """Lines of a piece; one that is longer than `MAX_LINE_BYTES` comes in parts."""
    left = piece.stop - piece.start
    while line := file.readline(min(left, MAX_LINE_BYTES)):
        left -= len(line)
        yield line.removeprefix(_UTF8_MARK)


def _csa_games(found: Iterator[bytes], name: str) -> Iterator[Found]:
    """Games that are separated by a slash, or by the version with which each begins."""
    lines = list[bytes]()
    first, size = 1, 0
    is_played = is_found = False

    def game() -> Found:
        place = name if first == 1 else f"{name}, from line {first}"
        if size > MAX_GAME_BYTES:
            return LeftOut(Cause.TOO_LARGE, place)
        return _decoded_game(b"".join(lines), place, "csa")

    for line_number, line in enumerate(found, 1):
        is_slash = line.strip() == b"/"
        if is_slash or (is_played and line.startswith(b"V")):
            if any(one.strip() for one in lines):
                yield game()
                is_found = True
            lines, size, is_played, first = [], 0, False, line_number + is_slash
        if not is_slash:
            size += len(line)
            if size <= MAX_GAME_BYTES:
                lines.append(line)
            is_played = is_played or bool(_CSA_MOVES.match(line))
    if any(one.strip() for one in lines) or not is_found:
        yield game()


def _text_game(piece: Piece, content: bytes, place: str) -> Found:
    if len(content) > MAX_GAME_BYTES:
        return LeftOut(Cause.TOO_LARGE, place)
    return _decoded_game(content, place, piece.format)


def _decoded_game(content: bytes, place: str, kind: str) -> Found:
    text = decoded_text(content)
    if text is None:
        is_cut = _is_cut_in_a_character(content)
        return LeftOut(Cause.DAMAGED if is_cut else Cause.NOT_TEXT, place)
    try:
        if kind == "csa":
            read = read_csa(text, wants_kif=False)
        else:
            read = read_kif(text) if kind == "kif" else read_ki2(text)
    except ValueError as error:
        told = " ".join(str(error).split())[:100]
        is_start = "start position" in told
        return LeftOut(Cause.OTHER_RULES if is_start else Cause.NOT_A_GAME, f"{place}: {told}")
    return _from_text(read, place, _ratings(text) if kind == "csa" else (None, None))


def _is_cut_in_a_character(content: bytes) -> bool:
    """Whether only the last character of a text in UTF-8 is not whole."""
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return error.end == len(content) and "end of data" in error.reason
    return False


def _from_text(read: ReadRecord, place: str, ratings: tuple[float | None, float | None]) -> Found:
    if read.fault:
        cause = Cause.ILLEGAL_MOVE if "not legal" in read.fault else Cause.DAMAGED
        return LeftOut(cause, f"{place}: {read.fault}")
    return GameRecord(
        read.start_sfen,
        moves_from_usi(list(read.moves)),
        read.winner,
        tuple(value and clipped_eval(value) for value in read.evals),
        ratings,
        read.opening_plies,
        place,
    )


def _ratings(text: str) -> tuple[float | None, float | None]:
    found = {color: float(value) for color, value in _RATING.findall(text)}
    return found.get("black"), found.get("white")


def _line_games(file: BinaryIO, piece: Piece) -> Iterator[Found]:
    """Games of the lines that begin in the piece."""
    if piece.start:
        file.seek(piece.start - 1)
        while (line := file.readline(MAX_LINE_BYTES)) and not line.endswith(b"\n"):
            pass
    read = _json_game if piece.format == "jsonl" else _usi_game
    while (at := file.tell()) < piece.stop:
        line = file.readline(MAX_LINE_BYTES)
        place = f"{piece.file}, byte {at}"
        if not line.endswith(b"\n") and len(line) == MAX_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE_BYTES)
            yield LeftOut(Cause.TOO_LARGE, place)
        elif line.strip():
            yield read(line, place)


def _usi_game(line: bytes, place: str) -> Found:
    text = decoded_text(line)
    if text is None:
        return LeftOut(Cause.NOT_TEXT, place)
    try:
        opening = parse_opening(text)
        return GameRecord(opening.sfen, moves_from_usi(opening.moves.split()), None, place=place)
    except ValueError as error:
        return LeftOut(Cause.NOT_A_GAME, f"{place}: {error}")


def _json_game(line: bytes, place: str) -> Found:
    try:
        game = parse_json(line)
        check_unicode(game)
    except ValueError:
        cause = Cause.NOT_A_GAME if line.endswith(b"\n") else Cause.DAMAGED
        return LeftOut(cause, place)
    if not isinstance(game, dict) or not isinstance(game.get("moves"), str):
        return LeftOut(Cause.NOT_A_GAME, place)
    sfen, opening = game.get("start_sfen") or STANDARD_SFEN, game.get("opening_plies", 0)
    result: GameResult | None = game["result"] if game.get("result") in _RESULTS else None
    if not isinstance(sfen, str) or type(opening) is not int:
        return LeftOut(Cause.NOT_A_GAME, place)
    try:
        moves = moves_from_usi(game["moves"].split())
    except ValueError as error:
        return LeftOut(Cause.DAMAGED, f"{place}: {error}")
    if not moves:
        return LeftOut(Cause.NO_MOVES, place)
    evals = _json_evals(game.get("evals"))
    return GameRecord(sfen, moves, result, evals, opening_plies=max(0, opening), place=place)


def _json_evals(values: Any) -> tuple[int | None, ...]:
    """Evaluations of a line; those that are no integers count as none."""
    if not isinstance(values, list):
        return ()
    return tuple(clipped_eval(value) if type(value) is int else None for value in values)


def _positions(file: BinaryIO, piece: Piece, kind: PositionFormat) -> Iterator[Found]:
    """Games that begin in the piece; the position before it tells whether one begins with it."""
    size = RECORD_BYTES[kind]
    numbers = range(piece.start // size, -(-piece.stop // size))
    first = max(0, numbers.start - 1)
    file.seek(first * size)
    content = file.read(min(piece.size, piece.stop + _POSITIONS_BEHIND * size) - first * size)
    whole = len(content) - len(content) % size
    for found in read_positions(content[:whole], kind, piece.file, first=first, numbers=numbers):
        if isinstance(found, DamagedRecordError):
            yield LeftOut(Cause.DAMAGED_POSITION, str(found), found.count)
        else:
            yield found
    if piece.stop % size:
        yield LeftOut(Cause.DAMAGED_POSITION, f"{piece.file}: the last record is cut off")


def _binary_games(
    file: BinaryIO,
    piece: Piece,
    length_of: Callable[[bytes, int], int | None],
    read: Callable[[bytes, str], GameRecord],
) -> Iterator[Found]:
    """Games of different lengths. Behind one whose length is not known no other can be found."""
    content, offset, number = b"", 0, 0
    left = piece.stop - piece.start
    while True:
        try:
            length = length_of(content, offset)
        except DamagedRecordError as error:
            yield LeftOut(Cause.DAMAGED, f"{piece.file}, game {number}: {error}")
            return
        if length is None:
            if len(content) - offset > MAX_GAME_BYTES:
                yield LeftOut(Cause.DAMAGED, f"{piece.file}, game {number}: no end")
                return
            more = file.read(min(left, _CHUNK_BYTES))
            if not more:
                break
            left -= len(more)
            content, offset = content[offset:] + more, 0
            continue
        count = 1
        try:
            yield read(content[offset : offset + length], f"{piece.file}, game {number}")
        except DamagedRecordError as error:
            count = num_alike(content, offset, length)
            yield LeftOut(Cause.DAMAGED, str(error), count)
        offset += count * length
        number += count
    if len(content) > offset:
        yield LeftOut(Cause.DAMAGED, f"{piece.file}, game {number}: cut off")
