"""Readers of records: files that other programs wrote, and files that are damaged."""

import json
import os
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from rsshogi.core import Move

from keisei_ray.errors import RecordsError
from keisei_ray.records import files, reading
from keisei_ray.records.files import SUFFIXES, Piece, Pieces, SourceFormat, find_pieces
from keisei_ray.records.left_out import Cause, LeftOut, Tally
from keisei_ray.records.reading import read_games
from keisei_ray.rollouts.finished_game import GameResult
from keisei_ray.shogi.binary_records import RECORD_BYTES, to_pack
from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.shogi.game_record import GameRecord, after_opening
from keisei_ray.shogi.hcpe3 import read_hcpe3, to_hcpe3
from tests.helpers import record_corpus
from tests.helpers.record_corpus import EVALS, MOVES

VALUES = tuple(Move.from_usi(move).value for move in MOVES)
GAME = GameRecord(STANDARD_SFEN, VALUES, "white_win", EVALS)
LINE = {"moves": " ".join(MOVES), "result": "white_win", "evals": list(EVALS)}


def found_in(*paths: Path) -> tuple[list[GameRecord], Counter[Cause]]:
    """Returns the games of some paths, and what is left out."""
    tally = Tally()
    games = []
    for piece in find_pieces([str(path) for path in paths], tally):
        for found in read_games(piece):
            if isinstance(found, LeftOut):
                tally.leave_out(*found)
            else:
                games.append(found)
    return games, tally.causes


@pytest.mark.parametrize(
    ("name", "write", "has_evals"),
    [
        ("one.csa", record_corpus.csa_by_cshogi, True),
        ("one.kif", record_corpus.kif_by_cshogi, False),
        ("one.kifu", record_corpus.kif_by_cshogi, False),
        ("other.kif", record_corpus.kif_by_python_shogi, False),
        ("one.ki2", record_corpus.ki2_by_cshogi, False),
        ("one.hcpe", record_corpus.hcpe_by_cshogi, True),
        ("one.hcpe3", record_corpus.hcpe3_by_cshogi, True),
        ("one.psv", record_corpus.psv_by_cshogi, True),
        ("one.bin", record_corpus.psv_by_cshogi, True),
    ],
)
def test_a_game_that_another_program_wrote_is_read(
    name: str, write: Callable[[Path], Path], has_evals: bool, tmp_path: Path
) -> None:
    (game,), left_out = found_in(write(tmp_path / name))
    assert (game.moves, game.result, left_out) == (VALUES, "white_win", Counter())
    assert game.start_sfen.split()[:3] == STANDARD_SFEN.split()[:3]
    assert game.evals == (EVALS if has_evals else ())


def test_games_of_a_csa_file_have_the_ratings_that_floodgate_writes(tmp_path: Path) -> None:
    games, left_out = found_in(record_corpus.csa_by_cshogi(tmp_path / "many.csa", games=3))
    assert [len(game.moves) for game in games] == [12, 11, 10]
    assert [game.ratings for game in games] == [(2500.5 + n, 2600.0) for n in range(3)]
    assert not left_out


def test_our_own_formats_are_read(tmp_path: Path) -> None:
    (tmp_path / "games.jsonl").write_text(json.dumps(LINE) + "\n")
    (tmp_path / "games.usi").write_text(f"position startpos moves {' '.join(MOVES)}\n")
    (tmp_path / "games.pack").write_bytes(to_pack(GAME) * 2)
    games, left_out = found_in(tmp_path)
    assert [(game.moves, game.result) for game in games] == [
        (VALUES, "white_win"),
        (VALUES, "white_win"),
        (VALUES, "white_win"),
        (VALUES, None),
    ]
    assert not left_out


@pytest.mark.parametrize("kind", ["jsonl", "usi", "hcpe", "psv"])
def test_a_file_that_is_read_in_pieces_gives_every_game_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"games.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(LINE | {"index": n}) + "\n" for n in range(20)))
    elif kind == "usi":
        path.write_text(f"startpos moves {' '.join(MOVES)}\n" * 20)
    elif kind == "hcpe":
        path.write_bytes(record_corpus.hcpe_by_cshogi(path).read_bytes() * 20)
    else:
        path.write_bytes(record_corpus.psv_by_cshogi(path).read_bytes() * 20)
    # Lines of USI are of one length: each of their pieces begins with a line.
    step = 2 * (path.stat().st_size // 20) if kind == "usi" else 333
    monkeypatch.setattr("keisei_ray.records.files.LINE_PIECE_BYTES", step)
    monkeypatch.setattr("keisei_ray.records.files.POSITIONS_A_PIECE", 12)
    pieces = list(find_pieces([str(path)], Tally()))
    assert len(pieces) > 4
    games = [found for piece in pieces for found in read_games(piece)]
    assert [g.moves for g in games if isinstance(g, GameRecord)] == [VALUES] * 20


@pytest.mark.parametrize("kind", ["pack", "hcpe3"])
def test_games_of_different_lengths_are_read_in_chunks(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"games.{kind}"
    of_hcpe3 = record_corpus.hcpe3_by_cshogi(path).read_bytes()
    path.write_bytes((to_pack(GAME) if kind == "pack" else of_hcpe3) * 20)
    monkeypatch.setattr(reading, "_CHUNK_BYTES", 37)
    games, left_out = found_in(tmp_path)
    assert ([game.moves for game in games], left_out) == ([VALUES] * 20, Counter())


def test_hcpe3_is_written_as_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(record_corpus.VISITS, 3, {MOVES[3]: 1})  # Ours has no visits there.
    theirs = record_corpus.hcpe3_by_cshogi(tmp_path / "a.hcpe3").read_bytes()
    visits = [record_corpus.VISITS.get(ply, {usi: 100}) for ply, usi in enumerate(MOVES)]
    game = replace(
        GAME,
        visits=tuple(
            () if ply == 3 else tuple((Move.from_usi(usi).value, n) for usi, n in of_ply.items())
            for ply, of_ply in enumerate(visits)
        ),
    )
    assert to_hcpe3(game) == theirs


@pytest.mark.parametrize("result", get_args(GameResult))
def test_hcpe3_is_read_as_it_was_written(result: GameResult) -> None:
    visits = (((VALUES[0], 200_000), (VALUES[2], 100_000)),)  # The format ends at 65,535.
    game = replace(GAME, result=result, opening_plies=2, visits=((), (), *visits))
    found = read_hcpe3(to_hcpe3(game), "a")
    assert (found.moves, found.evals) == (VALUES[2:], EVALS[2:])
    assert found.visits[0] == ((VALUES[0], 65_535), (VALUES[2], 32_768))
    assert found.visits[1:] == tuple(((move, 1),) for move in VALUES[3:])
    assert found.result == result
    # The format does not hold the number of the ply.
    assert found.start_sfen.split()[:3] == after_opening(game)[0].split()[:3]


def test_the_visits_of_a_search_are_read(tmp_path: Path) -> None:
    (game,), _ = found_in(record_corpus.hcpe3_by_cshogi(tmp_path / "a.hcpe3"))
    assert len(game.visits) == len(MOVES)
    for ply, usi in enumerate(MOVES):
        visits = record_corpus.VISITS.get(ply, {usi: 100})
        assert {Move(move).to_usi(): count for move, count in game.visits[ply]} == visits


@pytest.mark.parametrize(
    ("code", "result"),
    [(0, "draw"), (4, "draw"), (1, "black_win"), (9, "black_win"), (2, "white_win"),
     (16, "truncated")],
)  # fmt: skip
def test_the_result_of_hcpe3_is_read_without_how_the_game_ended(
    code: int, result: str, tmp_path: Path
) -> None:
    (game,), _ = found_in(record_corpus.hcpe3_by_cshogi(tmp_path / "a.hcpe3", code))
    assert game.result == result


@pytest.mark.parametrize("kept", [-1, 40, 20])
def test_a_game_of_hcpe3_that_is_cut_off_is_damaged(kept: int, tmp_path: Path) -> None:
    path = record_corpus.hcpe3_by_cshogi(tmp_path / "a.hcpe3")
    content = path.read_bytes()
    path.write_bytes(content + content[:kept])
    games, left_out = found_in(path)
    assert (len(games), left_out) == (1, Counter({Cause.DAMAGED: 1}))


@pytest.mark.parametrize(("at", "value"), [(34, 3), (40, 0xFF), (0, 0xFF)])
def test_a_game_of_hcpe3_with_an_impossible_number_is_damaged(
    at: int, value: int, tmp_path: Path
) -> None:
    """The result, the number of candidates of a move (its high byte is next), and the board."""
    path = record_corpus.hcpe3_by_cshogi(tmp_path / "a.hcpe3")
    content = bytearray(path.read_bytes())
    content[at : at + 2] = bytes([value, value if at == 40 else content[at + 1]])
    if at == 0:
        content[:32] = bytes([value]) * 32
    path.write_bytes(content)
    games, left_out = found_in(path)
    assert (games, left_out) == ([], Counter({Cause.DAMAGED: 1}))


CSA = "V2.2\nPI\n+\n+7776FU\n-3334FU\n%TORYO\n"
KIF = "手合割：平手\n手数----指手---------消費時間--\n   1 ７六歩(77)\n   2 投了\n"


@pytest.mark.parametrize(
    ("name", "content", "causes"),
    [
        ("a.csa", b"", {Cause.EMPTY: 1}),
        ("a.txt", b"hello", {Cause.UNKNOWN_KIND: 1}),
        ("a.csa", bytes(range(256)) * 4, {Cause.NOT_TEXT: 1}),
        ("a.csa", b"\xff\xfe" + CSA.encode("utf-16-le"), {Cause.NOT_TEXT: 1}),
        ("a.csa", b"<html>not found</html>", {Cause.NOT_A_GAME: 1}),
        ("a.csa", CSA.replace("-3334FU", "-3335FU").encode(), {Cause.ILLEGAL_MOVE: 1}),
        (
            "a.csa",
            CSA.encode() + b"/\n" + CSA.replace("77", "99").encode(),
            {Cause.ILLEGAL_MOVE: 1},
        ),
        ("a.csa", CSA.replace("-3334FU", "-33XXFU").encode(), {Cause.DAMAGED: 1}),
        ("a.csa", CSA.encode()[: CSA.index("34FU")], {Cause.DAMAGED: 1}),
        ("a.kif", KIF.replace("平手", "5五将棋").encode(), {Cause.OTHER_RULES: 1}),
        ("a.kif", KIF.replace("(77)", "(88)").encode("cp932"), {Cause.ILLEGAL_MOVE: 1}),
        ("a.kif", KIF.replace("   2 投了", "   3 投了").encode(), {Cause.DAMAGED: 1}),
        ("a.kif", b"x" * (reading.MAX_GAME_BYTES + 1), {Cause.TOO_LARGE: 1}),
        ("a.ki2", "▲７五歩\n".encode(), {Cause.NOT_A_GAME: 1}),
        ("a.ki2", "▲７六歩打\n".encode(), {Cause.NOT_A_GAME: 1}),
        ("a.usi", b"hello\nstartpos moves 7g7x\n", {Cause.NOT_A_GAME: 2}),
        ("a.jsonl", b'{"moves": 3}\n[]\nnot json\n', {Cause.NOT_A_GAME: 3}),
        ("a.jsonl", json.dumps(LINE).encode()[:-9], {Cause.DAMAGED: 1}),
        (
            "a.jsonl",
            b'{"moves": "7g7f zz"}\n{"moves": ""}\n',
            {Cause.DAMAGED: 1, Cause.NO_MOVES: 1},
        ),
        (
            "a.jsonl",
            b'{"moves": "7g7f", "start_sfen": "\\ud800 b - 1"}\n',
            {Cause.NOT_A_GAME: 1},
        ),
        ("a.kif", KIF.encode()[:-2], {Cause.DAMAGED: 1}),
        ("a.hcpe", b"\xff" * RECORD_BYTES["hcpe"], {Cause.DAMAGED_POSITION: 1}),
        ("a.psv", b"\xff" * (RECORD_BYTES["psv"] * 2 + 7), {Cause.DAMAGED_POSITION: 3}),
        ("a.pack", to_pack(GAME)[:-1], {Cause.DAMAGED: 1}),
    ],
)
def test_what_cannot_be_read_is_counted_by_its_cause(
    name: str, content: bytes, causes: dict[Cause, int], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    games, left_out = found_in(tmp_path / name)
    assert left_out == Counter(causes)
    assert len(games) == (1 if b"/\n" in content and b"html" not in content else 0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932"])
def test_encodings_of_japanese_programs_are_read(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.kif").write_bytes(KIF.replace("\n", "\r\n").encode(encoding))
    (game,), _ = found_in(tmp_path)
    assert (len(game.moves), game.result) == (1, "black_win")


@pytest.mark.parametrize(
    ("name", "game"), [("games.jsonl", json.dumps(LINE) + "\n"), ("games.csa", CSA + "/\n")]
)
def test_a_file_that_grows_is_read_as_far_as_it_was(name: str, game: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(game)
    (piece,) = find_pieces([str(path)], Tally())
    path.write_text(game * 2)
    assert len(list(read_games(piece))) == 1


def test_games_that_each_begin_with_a_mark_of_utf8_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.csa").write_bytes((b"\xef\xbb\xbf" + CSA.encode()) * 3)
    games, left_out = found_in(tmp_path)
    assert (len(games), left_out) == (3, Counter())


def test_a_line_without_end_takes_little_memory(tmp_path: Path) -> None:
    """As in a file whose room was made before its content came."""
    (tmp_path / "a.csa").write_bytes(bytes(60 << 20))
    tracemalloc.start()
    try:
        _, left_out = found_in(tmp_path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left_out == Counter({Cause.TOO_LARGE: 1})
    assert most < 20 << 20


@pytest.mark.parametrize("write", [record_corpus.hcpe_by_cshogi, record_corpus.psv_by_cshogi])
@pytest.mark.parametrize("size", [1, 5, len(MOVES), 17])
def test_a_game_across_pieces_of_a_file_stays_one(
    write: Callable[[Path], Path], size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / ("a.hcpe" if "hcpe" in write.__name__ else "a.psv"))
    path.write_bytes(path.read_bytes() * 3)
    whole, _ = found_in(path)
    monkeypatch.setattr(files, "POSITIONS_A_PIECE", size)
    assert len(list(find_pieces([str(path)], Tally()))) == -(-3 * len(MOVES) // size)
    assert found_in(path) == (whole, Counter())
    assert [game.moves for game in whole] == [VALUES] * 3


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.hcpe", record_corpus.hcpe_by_cshogi),
        ("a.psv", record_corpus.psv_by_cshogi),
        ("a.hcpe3", record_corpus.hcpe3_by_cshogi),
        ("a.pack", lambda path: path.write_bytes(to_pack(GAME))),
    ],
)
@pytest.mark.parametrize("size", [1, 5, 30])
def test_damaged_records_with_the_same_bytes_are_found_at_once_and_all_counted(
    name: str,
    write: Callable[[Path], object],
    size: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file that was never filled has millions of them."""
    path = tmp_path / name
    write(path)
    zeros = bytes({"a.hcpe": 38, "a.psv": 40, "a.hcpe3": 36, "a.pack": 38}[name])
    path.write_bytes(7 * zeros + path.read_bytes() + 9 * zeros)
    monkeypatch.setattr(files, "POSITIONS_A_PIECE", size)
    games, left_out = found_in(path)
    assert [game.moves for game in games] == [VALUES]
    assert left_out.total() == 7 + 9
    pieces = list(find_pieces([str(path)], Tally()))
    assert sum(len(list(read_games(piece))) for piece in pieces) <= 3 + len(pieces)


def test_a_folder_by_a_link_is_read_once_and_a_circle_ends(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "records"
    for made in (outside, folder):
        made.mkdir()
    record_corpus.csa_by_cshogi(outside / "a.csa")
    for name in ("one", "two"):
        (folder / name).symlink_to(outside)
    (outside / "up").symlink_to(folder)
    games, left_out = found_in(folder)
    assert (len(games), left_out) == (1, Counter())


def test_a_folder_that_cannot_be_listed_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    record_corpus.csa_by_cshogi(tmp_path / "a.csa")
    scandir = os.scandir

    def refusing(path: str) -> Any:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    games, left_out = found_in(tmp_path)
    assert (len(games), left_out) == (1, Counter({Cause.UNREADABLE: 1}))


def test_a_pipe_is_no_file_of_records(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csa")
    assert found_in(tmp_path) == ([], Counter({Cause.UNREADABLE: 1}))


def test_a_file_that_has_gone_is_counted(tmp_path: Path) -> None:
    path = record_corpus.hcpe_by_cshogi(tmp_path / "a.hcpe")
    (piece,) = find_pieces([str(path)], Tally())
    path.unlink()
    (found,) = read_games(piece)
    assert isinstance(found, LeftOut)
    assert found.cause is Cause.UNREADABLE


def test_of_a_run_directory_only_the_games_are_read(tmp_path: Path) -> None:
    for name in ("games.jsonl", "metrics.jsonl", "events.jsonl"):
        (tmp_path / name).write_text(json.dumps(LINE) + "\n")
    games, left_out = found_in(tmp_path)
    assert (len(games), left_out) == (1, Counter({Cause.UNKNOWN_KIND: 2}))


def test_a_path_that_does_not_exist_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="there is no such file or directory"):
        next(find_pieces([str(tmp_path / "nothing")], Tally()))


def test_every_format_has_an_ending() -> None:
    assert set(SUFFIXES.values()) == set(get_args(SourceFormat))


def test_many_pieces_are_kept_in_little_memory_as_they_were() -> None:
    name = "corpus/2025/wdoor+floodgate-300-10F+one+other+20250101"
    kinds = sorted(set(SUFFIXES.values()))

    def made() -> Iterator[Piece]:
        for n in range(5000):
            yield Piece(f"{name}{n}\udc82", kinds[n % len(kinds)], n, n + 2**40, n + 2**41)

    tracemalloc.start()
    kept = Pieces(made())
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 5000 * (len(name) + 60)
    assert list(kept) == list(made())
    assert len(kept) == 5000
    with pytest.raises(IndexError):
        kept[5000]
