"""Finished games of persons in the run's directory, and the opening book made of them."""

import json
from pathlib import Path

import pytest

from keisei_ray.analysis.source import read_game
from keisei_ray.errors import RunDirError
from keisei_ray.evaluation.openings import OpeningBook
from keisei_ray.shogi.notation import Heading
from keisei_ray.web.human_game import HumanGame
from keisei_ray.web.human_records import opening_book, save_human_game

MOVES = "7g7f 3c3d 8h2b+ 3a2b"


def finished(moves: str = MOVES, sfen: str | None = None) -> HumanGame:
    game = HumanGame("black") if sfen is None else HumanGame("black", sfen)
    for usi in moves.split():
        game.play(usi, game.ply)
    game.resign(game.ply)
    return game


def test_a_game_is_saved_as_a_record_kif_and_csa_that_the_analysis_reads(tmp_path: Path) -> None:
    heading = Heading(black="Human", white="step-000000000010")
    names = [
        save_human_game(tmp_path, finished().recorded(), heading, {"opponent": "x"})
        for _ in range(2)
    ]
    assert len(set(names)) == 2
    lines = (tmp_path / "human_games.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["game_id"] for record in records] == names
    assert records[0]["result"] == "white_win"
    assert records[0]["opponent"] == "x"
    files = [tmp_path / "human_jsonl", *(tmp_path / "human_games").iterdir()][1:]
    assert sorted(file.suffix for file in files) == [".csa", ".csa", ".kifu", ".kifu"]
    for file in (tmp_path / "human_games.jsonl", *files):
        assert read_game(str(file)).moves == tuple(MOVES.split())


def test_a_directory_that_is_gone_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match=r"not saved.*Copy it from the page"):
        save_human_game(tmp_path / "gone", finished().recorded(), Heading(), {})


def test_the_games_serve_as_an_opening_book(tmp_path: Path) -> None:
    mate = "4k4/9/4P4/9/9/9/9/9/4K4 b G 1"
    others = [finished(moves, mate) for moves in ("", "5i5h 5a4a", "5i5h 5a4a 5h5i 4a5a")]
    for game in (finished(), finished(), *others):
        save_human_game(tmp_path, game.recorded(), Heading(), {})
    book = opening_book(tmp_path)
    assert book.splitlines()[0].endswith(" moves 7g7f 3c3d 8h2b+")
    file = tmp_path / "book.txt"
    file.write_text(book)
    assert len(OpeningBook.read(file, max_plies=100).openings) == 3
    assert opening_book(tmp_path, plies=1).splitlines()[0].endswith(" moves 7g7f")
    assert opening_book(tmp_path / "empty") == ""
