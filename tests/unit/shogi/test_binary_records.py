"""hcpe, psv and pack: against cshogi, and round trips."""

import struct

import cshogi
import numpy as np
import pytest
from rsshogi.core import Board, Move

from keisei_ray.rollouts.finished_game import GameResult
from keisei_ray.shogi.binary_records import (
    RECORD_BYTES,
    DamagedRecordError,
    PositionFormat,
    pack_length,
    read_pack,
    read_positions,
    to_hcpe,
    to_pack,
    to_psv,
)
from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.shogi.game_record import GameRecord

MOVES = ["7g7f", "3c3d", "8h2b+", "3a2b", "B*4e", "5a6b"]
EVALS = (10, -20, 350, -30, 5, None)
WHITE_FIRST = "lnsgkgsnl/1r5b1/ppppppppp/9/9/2P6/PP1PPPPPP/1B5R1/LNSGKGSNL w - 2"


def game(result: GameResult = "black_win", sfen: str = STANDARD_SFEN, first: int = 0) -> GameRecord:
    moves = tuple(Move.from_usi(move).value for move in MOVES[first:])
    return GameRecord(sfen, moves, result, EVALS[first:])


def written(kind: PositionFormat, record: GameRecord) -> bytes:
    return to_hcpe(record) if kind == "hcpe" else to_psv(record)


def written_by_cshogi(kind: PositionFormat, result: GameResult) -> bytes:
    """The same game's positions as cshogi writes them."""
    dtype = {"hcpe": cshogi.HuffmanCodedPosAndEval, "psv": cshogi.PackedSfenValue}[kind]
    rows, board = np.zeros(len(MOVES), dtype), cshogi.Board()
    black = {"black_win": 1, "white_win": -1}.get(result, 0)
    for ply, usi in enumerate(MOVES):
        move = board.move_from_usi(usi)
        if kind == "hcpe":
            board.to_hcp(rows[ply : ply + 1]["hcp"])
            rows[ply]["bestMove16"] = cshogi.move16(move)
            rows[ply]["eval"] = EVALS[ply] or 0
            rows[ply]["gameResult"] = {1: cshogi.BLACK_WIN, -1: cshogi.WHITE_WIN, 0: cshogi.DRAW}[
                black
            ]
        else:
            board.to_psfen(rows[ply : ply + 1]["sfen"])
            rows[ply]["move"] = cshogi.move16_to_psv(cshogi.move16(move))
            rows[ply]["score"] = EVALS[ply] or 0
            rows[ply]["gamePly"] = ply + 1
            rows[ply]["game_result"] = black if board.turn == cshogi.BLACK else -black
        board.push(move)
    return rows.tobytes()


@pytest.mark.parametrize("result", ["black_win", "white_win", "draw"])
@pytest.mark.parametrize("kind", ["hcpe", "psv"])
def test_positions_are_bytes_for_bytes_those_of_cshogi(
    kind: PositionFormat, result: GameResult
) -> None:
    assert written(kind, game(result)) == written_by_cshogi(kind, result)


@pytest.mark.parametrize("result", ["black_win", "white_win", "draw"])
@pytest.mark.parametrize("kind", ["hcpe", "psv"])
def test_positions_of_cshogi_that_follow_one_another_are_one_game(
    kind: PositionFormat, result: GameResult
) -> None:
    (read,) = read_positions(written_by_cshogi(kind, result), kind, "file")
    assert isinstance(read, GameRecord)
    expected = game(result)
    assert (read.moves, read.result, read.evals) == (expected.moves, result, EVALS)
    assert read.start_sfen.split()[:3] == STANDARD_SFEN.split()[:3]


@pytest.mark.parametrize("kind", ["hcpe", "psv"])
def test_games_in_one_file_are_told_apart(kind: PositionFormat) -> None:
    games = [game(), game("white_win"), game("draw", WHITE_FIRST, first=1)]
    content = b"".join(written(kind, one) for one in games)
    read = list(read_positions(content, kind, "file"))
    assert [(r.moves, r.result) for r in read if isinstance(r, GameRecord)] == [
        (one.moves, one.result) for one in games
    ]


@pytest.mark.parametrize("kind", ["hcpe", "psv"])
def test_shuffled_positions_are_games_of_one_move(kind: PositionFormat) -> None:
    content, size = written(kind, game()), RECORD_BYTES[kind]
    rows = [content[at : at + size] for at in range(0, len(content), size)]
    read = list(read_positions(b"".join(rows[::2]), kind, "file"))
    assert [len(r.moves) for r in read if isinstance(r, GameRecord)] == [1, 1, 1]


@pytest.mark.parametrize("kind", ["hcpe", "psv"])
def test_nothing_follows_a_move_that_takes_a_king(kind: PositionFormat) -> None:
    """The rules library calls it legal, and raises where it is played."""
    board = Board("lns2g1nl/1r1gk2s1/pppp3pp/4ppB2/9/2P6/PP1P1PPPP/4P2R1/LNSGKGSNL b Pb 1")
    move = Move.from_usi("3d5b+")
    assert board.is_legal_move(move)
    size = RECORD_BYTES[kind]
    packed = board.to_hcp() if kind == "hcpe" else board.to_packed_sfen()
    code = move.to_apery().value if kind == "hcpe" else move.value
    row = packed + struct.pack("<hH", 0, code)
    content = row.ljust(size, b"\0") + written(kind, game())
    first, second = read_positions(content, kind, "file")
    assert isinstance(first, GameRecord)
    assert isinstance(second, GameRecord)
    assert (len(first.moves), second.moves) == (1, game().moves)


@pytest.mark.parametrize("kind", ["hcpe", "psv"])
def test_a_damaged_position_is_named_and_the_others_are_read(kind: PositionFormat) -> None:
    content, size = written(kind, game()), RECORD_BYTES[kind]
    damaged = content[: 2 * size] + b"\xff" * size + content[3 * size :]
    first, error, last = read_positions(damaged, kind, "file", first=100)
    assert isinstance(first, GameRecord)
    assert isinstance(error, DamagedRecordError)
    assert isinstance(last, GameRecord)
    assert (first.moves, last.moves) == (game().moves[:2], game().moves[3:])
    assert "record 102" in str(error)


@pytest.mark.parametrize("result", ["black_win", "white_win", "draw", "truncated"])
@pytest.mark.parametrize(("sfen", "first"), [(STANDARD_SFEN, 0), (WHITE_FIRST, 1)])
def test_a_game_of_pack_comes_back(result: GameResult, sfen: str, first: int) -> None:
    written_game = game(result, sfen, first)
    content = to_pack(written_game)
    read = read_pack(content, "file")
    assert (read.start_sfen, read.moves, read.evals) == (
        sfen,
        written_game.moves,
        written_game.evals,
    )
    assert read.result == ("draw" if result == "truncated" else result)


def test_games_of_pack_are_found_in_a_file_one_after_the_other() -> None:
    games = [to_pack(game()), to_pack(game("draw", WHITE_FIRST, 1)), to_pack(game("white_win"))]
    content = b"".join(games)
    at, lengths = 0, []
    while (length := pack_length(content, at)) is not None:
        lengths.append(length)
        at += length
    assert lengths == [len(one) for one in games]
    assert pack_length(content[:-1], sum(lengths[:2])) is None


def test_the_opening_is_not_among_the_positions() -> None:
    whole = game()
    opened = GameRecord(whole.start_sfen, whole.moves, whole.result, whole.evals, opening_plies=2)
    assert to_hcpe(opened) == to_hcpe(whole)[2 * RECORD_BYTES["hcpe"] :]
    assert read_pack(to_pack(opened), "file").moves == whole.moves[2:]
