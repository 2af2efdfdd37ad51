"""The index of a run's games: pages, filters, files that grow or are replaced."""

import json
from pathlib import Path
from typing import Any

import pytest

from keisei_ray.errors import RunDirError
from keisei_ray.web import game_index
from keisei_ray.web.game_index import Filter, GameIndex


def game(plies: int, **fields: Any) -> dict[str, Any]:
    base = {"result": "black_win", "reason": "mate", "opponent": "", "timestep": 10 * plies}
    return {"plies": plies, **base, "moves": "7g7f", **fields}


def append(path: Path, *games: object) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(each) + "\n" for each in games)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "games.jsonl"


def test_pages_are_newest_first(path: Path) -> None:
    append(path, *(game(plies) for plies in range(10)))
    index = GameIndex(path)
    assert index.follow(9.0)
    assert index.find(Filter(), 0, 4) == (10, [9, 8, 7, 6])
    assert index.find(Filter(), 8, 4) == (10, [1, 0])
    assert index.find(Filter(), 20, 4) == (10, [])
    assert [index.record(number)["plies"] for number in (0, 9)] == [0, 9]
    assert index.summary(3)["timestep"] == 30


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(result="draw"), [1]),
        (Filter(reason="mate"), [3, 0]),
        (Filter(opponent=""), [1, 0]),
        (Filter(opponent="v2"), [3]),
        (Filter(opponent="v2", reason="resign"), []),
        (Filter(least_plies=20, most_plies=30), [2, 1]),
        (Filter(result="unheard of"), []),
    ],
)
def test_filters(path: Path, wanted: Filter, found: list[int]) -> None:
    append(
        path,
        game(10),
        game(20, result="draw", reason="repetition"),
        game(30, reason="declaration", opponent="v1"),
        game(40, opponent="v2"),
    )
    index = GameIndex(path)
    index.follow(9.0)
    assert index.find(wanted, 0, 9) == (len(found), found)
    assert index.choices()["opponents"] == ["", "v1", "v2"]


def test_a_run_without_games_has_none(path: Path) -> None:
    index = GameIndex(path)
    assert index.follow(1.0)
    assert index.find(Filter(), 0, 9) == (0, [])
    with pytest.raises(RunDirError, match="there is no game 0"):
        index.record(0)


def test_games_that_are_added_are_found_and_a_half_line_waits(path: Path) -> None:
    append(path, game(1))
    index = GameIndex(path)
    index.follow(9.0)
    with path.open("a") as file:
        file.write(json.dumps(game(2)) + "\n" + '{"plies": 3')
    index.follow(9.0)
    assert len(index) == 2
    assert index.damaged == 0


def test_lines_that_hold_no_game_are_counted_and_left_out(path: Path) -> None:
    append(path, 5, {}, game(-1), game(1, result=["x"]), game(7))
    with path.open("a") as file:
        file.write("{nonsense\n" + json.dumps(game(8)) + "\n")
    index = GameIndex(path)
    index.follow(9.0)
    assert len(index) == 2
    assert index.damaged == 5
    assert [index.record(number)["plies"] for number in (0, 1)] == [7, 8]


def test_a_long_file_is_read_in_pieces(path: Path) -> None:
    append(path, *(game(plies) for plies in range(600)))
    index = GameIndex(path)
    assert not index.follow(0.0)
    assert len(index) == 256
    assert not index.follow(0.0)
    assert index.follow(9.0)
    assert len(index) == 600


@pytest.mark.parametrize("is_renamed", [False, True])
def test_a_file_that_a_resume_has_cut_is_read_anew(path: Path, is_renamed: bool) -> None:
    append(path, game(1), game(2), game(3))
    index = GameIndex(path)
    index.follow(9.0)
    new = path.with_name("new")
    append(new, game(5), *([game(6), game(7), game(8)] if is_renamed else []))
    if is_renamed:
        new.replace(path)
    else:
        path.write_bytes(new.read_bytes())
    with pytest.raises(RunDirError, match="cut or replaced"):
        index.record(2)
    index.follow(9.0)
    assert index.record(0)["plies"] == 5
    assert len(index) == (4 if is_renamed else 1)


def test_a_file_that_was_cut_and_has_grown_past_its_size_is_read_anew(path: Path) -> None:
    """The list went on in the middle of a line, and games that a resume set aside stayed in it."""
    append(path, *(game(plies) for plies in range(10)))
    index = GameIndex(path)
    index.follow(9.0)
    with path.open("r+b") as file:
        file.truncate(len(b"".join(path.read_bytes().splitlines(keepends=True)[:5])))
    append(path, *(game(plies, opponent="v1") for plies in range(100, 120)))
    assert index.follow(9.0)
    fresh = GameIndex(path)
    fresh.follow(9.0)
    assert (len(index), index.damaged, index.choices()) == (25, 0, fresh.choices())
    assert [index.summary(n) for n in range(25)] == [fresh.summary(n) for n in range(25)]
    assert [index.record(n) for n in range(25)] == [fresh.record(n) for n in range(25)]


def test_more_opponents_than_can_be_told_apart_are_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(game_index, "MAX_NAMES", 2)
    append(path, *(game(1, opponent=name) for name in ("a", "b", "c", "d", "a")))
    index = GameIndex(path)
    index.follow(9.0)
    assert [index.summary(n)["opponent"] for n in range(5)] == ["a", "b", *["(others)"] * 2, "a"]
