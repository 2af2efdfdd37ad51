"""Lists and games of a run over HTTP."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from keisei_ray.web import game_index, games_api, play_api
from tests.helpers.report_runs import write_lines, write_run
from tests.helpers.saved_runs import save_untrained
from tests.helpers.web_clients import Client, with_client
from tests.helpers.web_opponents import ScriptedThinker

MATE = "4k4/9/4P4/9/9/9/9/9/4K4 b G 1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = write_run(tmp_path_factory.mktemp("made") / "first", updates=1, games=8)
    save_untrained(run_dir, timestep=100)
    return run_dir


@pytest.fixture
def run_dir(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(play_api, "Thinker", ScriptedThinker)
    return shutil.copytree(made, tmp_path / "runs" / "first")


async def get(client: Client, path: str, status: int = 200) -> dict[str, Any]:
    async with client.get(f"/api/runs/first/{path}") as answer:
        said = await answer.json()
        assert answer.status == status, said
        assert isinstance(said, dict)
        return said


def test_a_page_of_the_list_and_a_game(run_dir: Path) -> None:
    async def talk(client: Client) -> None:
        page = await get(client, "games?limit=3&offset=5")
        assert page["complete"]
        assert page["total"] == 8
        assert [game["number"] for game in page["games"]] == [2, 1, 0]
        page = await get(client, "games?reason=nothing")
        assert page["total"] == 0
        game = await get(client, "games/self-play/3")
        assert len(game["sfens"]) == len(game["moves"]) + 1
        assert game["usi"].startswith("position sfen ")
        assert "手合割：平手" in game["kif"]
        assert game["weights_version"] == 1

    with_client([run_dir], talk)


def test_a_game_late_in_a_file_that_is_not_read_yet_is_found(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(games_api, "READ_S", 0.0)
    monkeypatch.setattr(game_index, "_LOOK_EVERY", 1)

    async def talk(client: Client) -> None:
        at = "/api/runs/first/games/self-play/7/findings"
        async with client.post(at, json={"checkpoint": "step-000000000100"}) as answer:
            assert answer.status == 200, await answer.text()
        shutil.copy(run_dir / "games.jsonl", run_dir / "copy")
        (run_dir / "copy").replace(run_dir / "games.jsonl")
        assert (await get(client, "games/self-play/7"))["number"] == 7
        assert "8 have been read" in (await get(client, "games/self-play/8", 400))["error"]

    with_client([run_dir], talk)


def test_a_mate_in_one_is_announced(run_dir: Path) -> None:
    game = {"plies": 1, "result": "black_win", "reason": "mate", "start_sfen": MATE}
    write_lines(run_dir / "human_games.jsonl", [game | {"moves": "G*5b", "opponent": "x"}])

    async def talk(client: Client) -> None:
        game = await get(client, "games/human/0")
        assert list(game["mates"]) == ["0"]
        assert game["title"] == "Black wins by mate, 1 plies"

    with_client([run_dir], talk)


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("games?limit=100000", 400, "limit: Input should be less"),
        ("games?offset=-1", 400, "offset: Input should be greater"),
        ("games?kind=other", 400, "kind: Input should be"),
        ("games?nonsense=1", 400, "nonsense: Extra inputs"),
        ("games/self-play/999999999", 400, "there is no game"),
        ("games/other/0", 404, "there are no 'other' games"),
        ("games/self-play/x", 404, "Not Found"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(
    run_dir: Path, path: str, status: int, text: str
) -> None:
    async def talk(client: Client) -> None:
        assert text in (await get(client, path, status))["error"]

    with_client([run_dir], talk)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"moves": ""}, "were not saved"),
        ({"moves": "7g7f 7g7f"}, "is damaged: move '7g7f'"),
        ({"moves": 5}, "moves are no text"),
        ({"moves": "7g7f", "start_sfen": "nonsense"}, "is damaged"),
    ],
)
def test_a_damaged_game_is_said_in_a_line(run_dir: Path, fields: dict[str, Any], text: str) -> None:
    game = {"plies": 2, "result": "draw", "reason": "<script>"}
    write_lines(run_dir / "games.jsonl", [game | fields])

    async def talk(client: Client) -> None:
        assert text in (await get(client, "games/self-play/0", 400))["error"]

    with_client([run_dir], talk)


def test_the_newest_games_are_sent_and_those_that_finish_later(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(games_api, "LOOK_S", 0.01)

    async def talk(client: Client) -> None:
        async with client.get("/api/runs/first/games/newest?count=3") as answer:
            numbers = await _event(answer)
            assert numbers == [7, 6, 5]
            line = (run_dir / "games.jsonl").read_text().splitlines()[0]
            with (run_dir / "games.jsonl").open("a") as file:
                file.write(line + "\n")
            assert await _event(answer) == [8, 7, 6]

    with_client([run_dir], talk)


async def _event(answer: Any) -> Any:
    while line := await answer.content.readline():
        if line.startswith(b"data: "):
            return json.loads(line[6:])
    raise AssertionError("the stream has ended")


def test_a_checkpoint_is_asked_about_the_positions_of_a_game(run_dir: Path) -> None:
    async def talk(client: Client) -> None:
        at = "/api/runs/first/games/self-play/3/findings"
        body = {"checkpoint": "step-000000000100"}
        game = await get(client, "games/self-play/3")
        async with client.post(at, json=body) as answer:
            assert len((await answer.json())["findings"]) == len(game["sfens"])
        async with client.post(at, json=body | {"simulations": 9, "count": 500}) as answer:
            assert len((await answer.json())["findings"]) == 16
        async with client.post(at, json={"checkpoint": "step-000000000777"}) as answer:
            assert answer.status == 400

    with_client([run_dir], talk)


def test_a_version_plays_a_game_on_from_an_opening(run_dir: Path) -> None:
    async def talk(client: Client) -> None:
        at = "/api/runs/first/self-play"
        body: dict[str, Any] = {"checkpoint": "step-000000000100"}
        async with client.post(at, json=body | {"moves": ["7g7f", "3c3d"]}) as answer:
            game = await answer.json()
            assert game["moves"] == ["7g7f", "3c3d", "2g2f"]
            assert (game["opening"], game["timestep"]) == (2, 100)
        async with client.post(at, json=body | {"start_sfen": "nonsense"}) as answer:
            assert answer.status == 400
            assert "is not an SFEN" in (await answer.json())["error"]

    with_client([run_dir], talk)
