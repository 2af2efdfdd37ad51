"""Games in KIF, KI2 and CSA, read from the text of their records.

The rules library reads the formats. It passes over what it does not understand, so this module
looks for that: a start position that it does not know, lines of moves that it has left out. A game
is read up to the first move that cannot be played, or the first line that is no move where one is
expected.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from rsshogi.core import Board, Move
from rsshogi.record import Record

from keisei_ray.rollouts.finished_game import GameResult
from keisei_ray.shogi.binary_records import result_of
from keisei_ray.shogi.game import brief
from keisei_ray.shogi.notation import KIF_MOVE, KIF_VARIATION, kif_text, seen_by_other


@dataclass(frozen=True)
class ReadRecord:
    """A game as its record tells it."""

    start_sfen: str
    """Position before the first move."""
    moves: tuple[str, ...]
    """Moves of the main line in USI notation, all legal one after the other."""
    kif: str
    """The record as KIF, without what follows a fault; that of a KIF record is as it was. Empty
    where it was not asked for."""
    black: str
    """Name of the player of Black; empty if the record does not say."""
    white: str
    """Name of the player of White."""
    end: str
    """How the game ended, in words; empty if the record does not say."""
    fault: str
    """Why the moves end before the record does; empty if they do not."""
    winner: GameResult | None = None
    """Result of the game; None if the record does not say, or has a fault."""
    evals: tuple[int | None, ...] = ()
    """Evaluation before each move, in centipawns for its mover; None where there is none."""
    opening_plies: int = 0
    """Moves at the start that no player chose, where a comment of this program says so."""


_START: Final = re.compile(r"^手合割\s*[:：]\s*(\S*)", re.MULTILINE)
_STARTS: Final = (
    "平手", "香落ち", "右香落ち", "角落ち", "飛車落ち", "飛香落ち", "二枚落ち", "三枚落ち",
    "四枚落ち", "五枚落ち", "左五枚落ち", "六枚落ち", "八枚落ち", "十枚落ち",
)  # fmt: skip
"""Start positions that the rules library knows by name."""
_DIAGRAM: Final = re.compile(r"^\+-{9,}\+\s*$", re.MULTILINE)
"""Edge of a board that KIF draws."""
_KIF_HEAD: Final = re.compile(r"^(手合割|手数-|先手|後手|下手|上手)", re.MULTILINE)
_IS_KIF_MOVE: Final = re.compile(r"[▲△▼▽☗☖]?[1-9１-９同]|.*\(\d\d\)")
_KI2_MOVE: Final = re.compile(r"^\s*[▲△☗☖]", re.MULTILINE)
_KI2_PART: Final = re.compile(
    r"[▲△▼▽☗☖]\s*(?:([1-9１-９])([1-9１-９一二三四五六七八九])|(同))?\s*"
    r"(成香|成桂|成銀|[歩香桂銀金角飛玉王と杏圭全馬龍竜])([左右直]?)([上行引寄]?)(不成|成|打)?"
)
"""A move of KI2: file, rank, or the square of the move before; piece; from where; what it does."""
_KI2_MARKS: Final = "▲△▼▽☗☖"
_KI2_NAMES: Final = str.maketrans({"王": "玉", "竜": "龍", "行": "上"})
_KI2_SHORT: Final = {"杏": "成香", "圭": "成桂", "全": "成銀"}
_RANKS: Final = "一二三四五六七八九"
_CSA_MOVE: Final = re.compile(r"[+-]\d{4}[A-Z]{2}")
_CSA_HEAD: Final = re.compile(r"^(V\d|P[I1-9+-]|N[+-]|[+-]\s*$)", re.MULTILINE)
_OPENING: Final = re.compile(r"^([0-9]{1,4}) (?:random opening plies|opening plies of )", re.M)
_ENDS: Final = {
    "RESIGN": "resignation",
    "MATE": "mate",
    "TIMEOUT": "time",
    "INTERRUPT": "interruption",
    "REPETITION_DRAW": "repetition",
    "IMPASSE": "impasse",
    "DRAW": "agreement",
    "MAX_MOVES": "ply cap",
    "WIN_BY_DECLARATION": "declaration",
    "WIN_BY_ILLEGAL_MOVE": "an illegal move",
    "LOSE_BY_ILLEGAL_MOVE": "an illegal move",
    "WIN_BY_DEFAULT": "default",
    "LOSE_BY_DEFAULT": "default",
}
"""Kind of an ending in the rules library -> its words."""


def read_kif(text: str) -> ReadRecord:
    """Reads a game in KIF. Its variations are left out.

    Raises:
        ValueError: not KIF, or it starts from a position that is not known.
    """
    if not (_KIF_HEAD.search(text) or _DIAGRAM.search(text)):
        raise ValueError("no line of KIF is in it")
    start = _START.search(text)
    if start and start[1] not in _STARTS and not _DIAGRAM.search(text):
        raise ValueError(
            f"'{brief(start[0])}' names a start position that is not known. Expected one of "
            f"{', '.join(_STARTS)}, or a board diagram"
        )
    # Bookmarks, which the rules library does not know, become empty lines.
    lines = ["" if line.startswith("&") else line for line in text.splitlines()]
    end = next((i for i, line in enumerate(lines) if line.startswith(KIF_VARIATION)), len(lines))
    found = {i: move[1] for i in range(end) if (move := KIF_MOVE.match(lines[i]))}
    moves = {i: move for i, move in found.items() if _IS_KIF_MOVE.match(move)}
    first = next(iter(moves), len(lines))
    numbers = {i: int(lines[i].split()[0][:9]) for i in found if i >= first}
    stop = _wrong_number(numbers, moves, numbers.get(first, 1) if _DIAGRAM.search(text) else 1)
    record, cut, fault = _read(Record.from_kif_str, lines, first, moves, stop)
    kif = "\n".join(text.splitlines()[:cut]) if fault else text
    return _result(record, kif, fault, _evals(record))


def _wrong_number(
    numbers: Mapping[int, int], moves: Container[int], expected: int
) -> tuple[int, str] | None:
    """Finds where moves are missing from a main line of KIF.

    Args:
        numbers: line -> the number that it begins with, from the first move on.
        moves: the lines of moves; the first other one says how the game ended.
        expected: number of the first move.

    Returns:
        The first line with a wrong number, and what is wrong with it; None if all are right.
    """
    for line, number in numbers.items():
        is_move = line in moves
        # Not every program counts the ending.
        if number > expected or (is_move and number < expected):
            return line, f"has number {number}, expected {expected}"
        if not is_move:
            break
        expected += 1
    return None


def read_ki2(text: str) -> ReadRecord:
    """Reads a game in KI2, without translating it to KIF.

    Raises:
        ValueError: not KI2, a move that cannot be played, or a start position that is not known.
    """
    if not _KI2_MOVE.search(text):
        raise ValueError("no move of KI2 is in it")
    start = _START.search(text)
    if start and start[1] not in _STARTS and not _DIAGRAM.search(text):
        raise ValueError(f"'{brief(start[0])}' names a start position that is not known")
    record = Record.from_kif_str("\n".join(_lines_of_kif(text)))
    return _result(record, "", "", _evals(record))


def _lines_of_kif(text: str) -> Iterator[str]:
    """Yields the main line of a game in KI2 as lines of KIF.

    The rules library reads KI2 too, but a drop of a piece that is not in hand, or onto another
    piece, makes it end the process.

    Raises:
        ValueError: a move cannot be played, or could be several.
    """
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if _KI2_MOVE.match(line))
    board = Board(Record.from_kif_str("\n".join(lines[:first])).init_position_sfen)
    yield from lines[:first]
    ply, last = 0, ""
    for line in lines[first:]:
        if line.startswith(KIF_VARIATION):
            return
        if not line.lstrip().startswith(tuple(_KI2_MARKS)):
            yield line
            continue
        for part in re.findall(f"[{_KI2_MARKS}][^{_KI2_MARKS}]*", line):
            ply += 1
            if (found := _KI2_PART.match(part)) is None:
                yield f"{ply} {part[1:].strip()}"  # An ending, as 投了.
                continue
            move = _meant(found, board, last)
            if move is None:
                raise ValueError(f"move {ply} '{brief(part.strip())}' is not legal")
            usi = move.to_usi()
            last = usi[2:4]
            square = usi[2] + _RANKS["abcdefghi".index(usi[3])]
            origin = "打" if move.is_drop() else f"({usi[0]}{'abcdefghi'.index(usi[1]) + 1})"
            yield f"{ply} {square}{found[4]}{'成' if move.is_promotion() else ''}{origin}"
            board.apply_move(move)


def _meant(part: re.Match[str], board: Board, last: str) -> Move | None:
    """Returns the legal move that KI2 means; None if there is none, or more than one.

    A move is written with no more than tells it from others. Where a record has more or less than
    the rules library would write, it counts if only one move is left.

    Args:
        part: what is written.
        board: position before the move.
        last: square of the move before, as in USI; empty if there is none.
    """
    if part[3]:
        square = last
    elif part[1]:
        rank = part[2] if part[2] in _RANKS else _RANKS[int(part[2]) - 1]
        square = f"{int(part[1])}{'abcdefghi'[_RANKS.index(rank)]}"
    else:
        return None
    fits: dict[Move, re.Match[str]] = {}
    for move in board.legal_moves():
        if move.to_usi()[2:4] != square:
            continue
        written = _KI2_PART.match(move.to_ki2(board) or "")
        if (
            written
            and _piece(written) == _piece(part)
            and move.is_promotion() == (part[7] == "成")
            and (move.is_drop() or part[7] != "打")
        ):
            fits[move] = written
    on_board = [move for move in fits if not move.is_drop()]
    if on_board and part[7] != "打":
        fits = {move: fits[move] for move in on_board}
    named = [move for move, written in fits.items() if _is_in(_origin(written), _origin(part))]
    candidates = named or list(fits)
    return candidates[0] if len(candidates) == 1 else None


def _piece(part: re.Match[str]) -> str:
    name = part[4].translate(_KI2_NAMES)
    return _KI2_SHORT.get(name, name)


def _origin(part: re.Match[str]) -> tuple[str, str]:
    """From where a move comes, as KI2 says it: which of several pieces, and in which direction."""
    return part[5], part[6].translate(_KI2_NAMES)


def _is_in(needed: tuple[str, str], said: tuple[str, str]) -> bool:
    """Whether a record says at least what is needed."""
    return all(word in ("", given) for word, given in zip(needed, said, strict=True))


def read_csa(text: str, *, wants_kif: bool = True) -> ReadRecord:
    """Reads a game in CSA; of several in one file the first.

    Args:
        text: the record.
        wants_kif: whether it is to be translated to KIF, which takes most of the time.

    Raises:
        ValueError: not CSA, or it starts from a position that is not known.
    """
    if not _CSA_HEAD.search(text):
        raise ValueError("no line of CSA is in it")
    lines, first = _first_of_csa(text)
    found = {i: move[0] for i, line in enumerate(lines) if (move := _CSA_MOVE.match(line))}
    # The rules library passes over damaged moves before the first that it can read.
    signs = (i for i in range(first, len(lines)) if lines[i].startswith(("+", "-")))
    stop = next(((i, "cannot be read") for i in signs if i not in found), None)
    record, _, fault = _read(Record.from_csa_str, lines, first, found, stop)
    # As it stands in the file, where it is Black's.
    evals = seen_by_other(record.init_position_sfen, _evals(record))
    return _result(record, kif_text(record) if wants_kif else "", fault, evals)


def _first_of_csa(text: str) -> tuple[list[str], int]:
    """Lines of the first game of a file in CSA, and where among them its moves begin."""
    lines = re.split(r"^/\s*$", text, maxsplit=1, flags=re.MULTILINE)[0].splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith(("+", "-"))), len(lines))
    if first < len(lines) and lines[first].strip() in ("+", "-"):
        first += 1  # That is the side to move.
    others = (i for i in range(first, len(lines)) if lines[i].startswith("V"))
    return lines[: next(others, len(lines))], first


def decoded_text(content: bytes) -> str | None:
    """Returns the text of a record in UTF-8, with or without its mark, or Shift-JIS.

    None if it has another encoding, or is no text.
    """
    for encoding in ("utf-8-sig", "cp932"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:  # As UTF-16 has beside every letter.
            return text.replace("\r\n", "\n").replace("\r", "\n")
    return None


def _read(
    parse: Callable[[str], Record],
    lines: list[str],
    first: int,
    found: dict[int, str],
    stop: tuple[int, str] | None = None,
) -> tuple[Record, int, str]:
    """Reads a record up to the first move that cannot be played.

    Args:
        parse: the rules library's reader.
        lines: the record.
        first: where its moves begin.
        found: number of each line that has a move -> the move.
        stop: a line of which it is known that it is not the next move, and what is wrong with it.

    Returns:
        The record, how many lines it has, and what is wrong with the next one, if anything.

    Raises:
        ValueError: the lines before the moves cannot be read.
    """
    cut, what = stop or (len(lines), "")
    places = [i for i in found if i < cut]
    try:
        record = parse("\n".join(lines[:cut]))
    except ValueError:
        record = parse("\n".join(lines[:first]))
        # The rules library names no line, and not always the first that it cannot read.
        cut = bisect_left(
            range(cut), True, lo=first, key=lambda i: _is_refused(parse, lines[: i + 1])
        )
        what = "is not legal" if cut in found else "cannot be read"
    else:
        if record.move_count < len(places):
            cut, what = places[record.move_count], "cannot be read"
    if not what:
        return record, cut, ""
    record = parse("\n".join(lines[:cut]))
    move = brief(found.get(cut, lines[cut].strip()))
    return record, cut, f"line {cut + 1}: move {record.move_count + 1} '{move}' {what}"


def _is_refused(parse: Callable[[str], Record], lines: list[str]) -> bool:
    """Whether the rules library refuses the beginning of a record."""
    try:
        parse("\n".join(lines))
    except ValueError:
        return True
    return False


def _evals(record: Record) -> tuple[int | None, ...]:
    """Evaluations as the rules library has them; empty if there are none at all."""
    infos = [entry.engine_info for entry in record.moves]
    evals = tuple(None if info is None else info.eval for info in infos)
    return evals if any(value is not None for value in evals) else ()


def _result(record: Record, kif: str, fault: str, evals: tuple[int | None, ...]) -> ReadRecord:
    metadata = record.metadata
    opening = _OPENING.search(record.initial_comment or "")
    return ReadRecord(
        record.init_position_sfen,
        tuple(entry.move.to_usi() for entry in record.moves),
        kif,
        metadata.black_player or "",
        metadata.white_player or "",
        "" if fault else _end(record),
        fault,
        None if fault else result_of(record.result),
        evals,
        int(opening[1]) if opening else 0,
    )


def _end(record: Record) -> str:
    """How a game ended, in words, as far as its record says."""
    reason = _ENDS.get(record.main_terminal.kind) if record.main_terminal else None
    if reason is None:
        return ""
    result = record.result
    if result.is_win():
        return f"{'White' if result.is_white_win() else 'Black'} wins by {reason}"
    return f"Drawn by {reason}" if result.is_draw() else f"Ends by {reason}"
