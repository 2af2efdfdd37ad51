"""hcpe3: games with the visits of a search, as dlshogi has them.

    a game    36 bytes: 32 of the start position, number of moves (2), result, opponent
    a move    6 bytes: the move that was played, evaluation for the mover, number of candidates
    a visit   4 bytes: a candidate, number of its visits

Numbers are little-endian. The lowest two bits of the result say who won (0 draw, 1 Black, 2 White),
16 that the game was cut by a ply cap. A move without candidates was not searched, as of an opponent
or at random; nothing is to be learned at its position. An evaluation of 0 counts as none, as in the
other binary formats.

Source: `HuffmanCodedPosAndEval3`, `MoveInfo` and `MoveVisits` in dlshogi's cppshogi.
"""

import struct
from functools import lru_cache
from typing import Final

from rsshogi.core import AperyMove, Board, Move

from keisei_ray.rollouts.finished_game import GameResult
from keisei_ray.shogi.binary_records import (
    DamagedRecordError,
    chosen_positions,
    known_result,
)
from keisei_ray.shogi.game_record import GameRecord, Visits

_GAME: Final = struct.Struct("<32sHBB")
_MOVE: Final = struct.Struct("<HhH")
_VISIT: Final = struct.Struct("<HH")
_RESULTS: Final[dict[int, GameResult]] = {0: "draw", 1: "black_win", 2: "white_win"}
_CODES: Final = {"draw": 0, "black_win": 1, "white_win": 2, "truncated": 16}
_WINNER: Final = 3
_PLY_CAP: Final = 16
_MAX_CANDIDATES: Final = 593
"""Most legal moves that a position can have."""
_MAX_VISITS: Final = 0xFFFF
"""Largest number of visits that the format holds."""


def hcpe3_length(content: bytes, start: int) -> int | None:
    """Returns how many bytes a game takes; None if it goes on beyond the content.

    Args:
        content: bytes of a file.
        start: where the game begins.

    Raises:
        DamagedRecordError: a number in it is impossible.
    """
    at = start + _GAME.size
    if at > len(content):
        return None
    num_moves = _GAME.unpack_from(content, start)[1]
    for ply in range(num_moves):
        if at + _MOVE.size > len(content):
            return None
        num_candidates = _MOVE.unpack_from(content, at)[2]
        if num_candidates > _MAX_CANDIDATES:
            raise DamagedRecordError(f"{num_candidates} candidates for move {ply + 1}")
        at += _MOVE.size + num_candidates * _VISIT.size
    return at - start if at <= len(content) else None


def read_hcpe3(content: bytes, place: str) -> GameRecord:
    """Reads one game, see `hcpe3_length`.

    Raises:
        DamagedRecordError: it is not one.
    """
    packed, num_moves, code, _ = _GAME.unpack_from(content)
    board = Board()
    try:
        board.set_hcp(packed)
    except ValueError as error:
        raise DamagedRecordError(f"{place}: {error}") from error
    if code & _WINNER not in _RESULTS:
        raise DamagedRecordError(f"{place}: result {code} is not one of the format")
    moves, evals, visits = list[int](), list[int | None](), list[Visits]()
    at = _GAME.size
    for _ in range(num_moves):
        move, evaluation, num_candidates = _MOVE.unpack_from(content, at)
        at += _MOVE.size
        end = at + num_candidates * _VISIT.size
        moves.append(_move(move))
        evals.append(evaluation or None)
        visits.append(tuple((_move(m), n) for m, n in _VISIT.iter_unpack(content[at:end])))
        at = end
    result = _RESULTS[code & _WINNER]
    return GameRecord(
        board.to_sfen(),
        tuple(moves),
        "truncated" if result == "draw" and code & _PLY_CAP else result,
        tuple(evals),
        place=place,
        visits=tuple(visits),
    )


def to_hcpe3(game: GameRecord) -> bytes:
    """Returns a game from the end of its opening on.

    A move without visits has itself as its only candidate: a player chose it, so that there is
    something to learn.

    Raises:
        ValueError: the game has no result, or a move is illegal.
    """
    start, parts = b"", list[bytes]()
    for board, move, evaluation, ply in chosen_positions(game):
        start = start or board.to_hcp()
        visits = game.visits_at(ply - 1) or ((move.value, 1),)
        scale = min(1.0, _MAX_VISITS / max(count for _, count in visits))
        parts.append(_MOVE.pack(move.to_apery().value, evaluation, len(visits)))
        parts += (
            _VISIT.pack(Move(candidate).to_apery().value, round(scale * count))
            for candidate, count in visits
        )
    head = _GAME.pack(
        start or Board(game.start_sfen).to_hcp(),
        len(game.moves) - game.opening_plies,
        _CODES[known_result(game)],
        0,
    )
    return head + b"".join(parts)


@lru_cache(1 << 16)
def _move(apery: int) -> int:
    """Returns a move in the format's 16 bits as one of ours."""
    return AperyMove(apery).to_move().value
