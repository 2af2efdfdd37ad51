"""Games against a network over HTTP: what is answered, refused, saved and given up."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from keisei_ray.shogi.game import STANDARD_SFEN
from keisei_ray.web import play_api, play_sessions
from keisei_ray.web.thinker import THINKER
from tests.helpers.report_runs import write_run
from tests.helpers.saved_runs import save_untrained
from tests.helpers.web_clients import Client, with_client
from tests.helpers.web_opponents import ScriptedThinker

AFTER_TWO = "lnsgkgsnl/1r5b1/pppppp1pp/6p2/9/2P6/PP1PPPPPP/1B5R1/LNSGKGSNL b - 3"
CHECKPOINT = "step-000000000100"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = write_run(tmp_path_factory.mktemp("made") / "first", updates=1)
    save_untrained(run_dir, timestep=100)
    return run_dir


@pytest.fixture
def run_dir(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "runs" / "first")


@pytest.fixture
def _scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(play_api, "Thinker", ScriptedThinker)


scripted = pytest.mark.usefixtures("_scripted")


def opponent_of(client: Client) -> ScriptedThinker:
    """The network that the server asks."""
    app = client.app
    assert app is not None
    thinker = app[THINKER]
    assert isinstance(thinker, ScriptedThinker)
    return thinker


async def post(client: Client, path: str, status: int = 200, **body: Any) -> dict[str, Any]:
    """Posts a body and returns the answer, whose status is as expected."""
    async with client.post(path, json=body) as answer:
        said = await answer.json()
        assert answer.status == status, said
        assert isinstance(said, dict)
        return said


async def begin(client: Client, **fields: Any) -> tuple[str, dict[str, Any]]:
    """Begins a game and returns the address of its changes and its state."""
    state = await post(client, "/api/runs/first/play", checkpoint=CHECKPOINT, **fields)
    return f"/api/play/{state['game']}", state


async def turn(client: Client, at: str, move: str, ply: int) -> dict[str, Any]:
    """Plays a move and has the network reply, unless the game is over."""
    state = await post(client, f"{at}/move", move=move, ply=ply)
    return state if state["end"] else await post(client, f"{at}/reply", ply=ply + 1)


@scripted
def test_a_game_is_played_to_mate_and_saved_in_the_runs_directory(run_dir: Path) -> None:
    async def talk(client: Client) -> None:
        at, state = await begin(client, simulations=50)
        assert len(state["legal"]) == 30
        for ply, move in enumerate(("7g7f", "8h2b+", "B*4b", "2b3a")):
            state = await turn(client, at, move, 2 * ply)
        assert state["end"]["result"] == "black_win"
        assert state["end"]["for_human"] == 1.0
        assert state["moves"][1] == "3c3d"
        assert [each["kind"] for each in opponent_of(client).asked] == ["load", *["move"] * 3]
        assert opponent_of(client).asked[1]["simulations"] == 50
        async with client.get(f"{at}/records") as answer:
            records = await answer.json()
        assert "Keisei Ray step-000000000100+50sims" in records["kif"]
        assert records["csa"].rstrip().endswith("%TORYO")
        async with client.get("/api/runs/first/opening-book") as answer:
            assert (await answer.text()).endswith(" moves 7g7f 3c3d 8h2b+ 4a5b B*4b 5a4a\n")
        files = sorted(file.name for file in (run_dir / "human_games").iterdir())
        assert files == [f"{state['saved_as']}.csa", f"{state['saved_as']}.kifu"]

    with_client([run_dir], talk)
    (line,) = (run_dir / "human_games.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["moves"].split()[-1] == "2b3a"
    assert record["opponent"] == f"{CHECKPOINT}+50sims"
    assert (record["human_color"], record["timestep"]) == ("black", 100)


@scripted
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("startpos", STANDARD_SFEN),
        (STANDARD_SFEN[:-2], STANDARD_SFEN),
        (f"sfen {STANDARD_SFEN}", STANDARD_SFEN),
        ("position startpos moves 7g7f 3c3d", AFTER_TWO),
        (f"position sfen {STANDARD_SFEN} moves 7g7f 3c3d", AFTER_TWO),
    ],
)
def test_a_game_begins_at_a_position_as_sfen_or_usi(
    run_dir: Path, given: str, expected: str
) -> None:
    async def talk(client: Client) -> None:
        _, state = await begin(client, sfen=given)
        assert state["sfens"] == [expected]

    with_client([run_dir], talk)


@scripted
def test_a_repetition_ends_the_game(run_dir: Path) -> None:
    async def talk(client: Client) -> None:
        at, state = await begin(client)
        for ply in range(0, 12, 2):
            state = await turn(client, at, "2h3h" if ply % 4 == 0 else "3h2h", ply)
            assert state["occurrences"] == 1 + (ply + 2) // 4
        assert state["end"]["reason"] == "repetition"

    with_client([run_dir], talk)


@scripted
def test_taking_back_hints_and_resigning_are_in_the_record(run_dir: Path) -> None:
    async def talk(client: Client) -> None:
        at, _ = await begin(client)
        await turn(client, at, "7g7f", 0)
        state = await post(client, f"{at}/take-back", ply=2)
        assert state["ply"] == 0
        finding = await post(client, f"{at}/findings", ply=0, simulations=9, is_hint=True)
        assert finding["moves"][0]["move"] == "7g7f"
        await post(client, f"{at}/findings", ply=0)
        state = await post(client, f"{at}/resign", ply=0)
        assert state["end"]["result"] == "white_win"

    with_client([run_dir], talk)
    record = json.loads((run_dir / "human_games.jsonl").read_text())
    assert (record["take_backs"], record["hints"], record["reason"]) == (1, 1, "resign")


@scripted
@pytest.mark.parametrize("does_move", [False, True])
def test_a_person_whose_time_is_up_has_lost(run_dir: Path, does_move: bool) -> None:
    async def talk(client: Client) -> None:
        at, state = await begin(client, main_s=500, move_s=1000)
        assert 1490 < state["left_s"] <= 1500
        app = client.app
        assert app is not None
        session = app[play_api.SESSIONS].get(at.rpartition("/")[2])
        session.moved -= 1200
        state = await turn(client, at, "7g7f", 0)
        assert 990 < state["left_s"] <= 1000
        session.moved -= 1001
        if does_move:
            state = await post(client, f"{at}/move", move="8h2b+", ply=2)
        else:
            async with client.get(at) as answer:
                state = await answer.json()
        assert state["end"] == {
            "result": "white_win",
            "reason": "timeout",
            "words": "White wins by time",
            "for_human": 0.0,
        }
        assert state["moves"] == ["7g7f", "3c3d"]
        async with client.get(f"{at}/records") as answer:
            records = await answer.json()
        assert "切れ負け" in records["kif"]
        assert records["csa"].rstrip().endswith("%TIME_UP")
        assert state["saved_as"]

    with_client([run_dir], talk)


@scripted
@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"move": "7g7e", "ply": 0}, 400, "'7g7e' is not a legal move of Black"),
        ({"move": "7g7f", "ply": 5}, 409, "after 5 moves, and 0 have been played"),
        ({"move": "7g7f"}, 400, "ply: Field required"),
        ({"move": "7g7f", "ply": 0, "x": 1}, 400, "x: Extra inputs"),
        ({"move": ["7g7f"], "ply": 0}, 400, "move: Input should be a valid string"),
        ({"move": "7" * 99, "ply": 0}, 400, "move: String should have at most"),
    ],
)
def test_a_move_that_makes_no_sense_is_refused_in_a_line_and_the_game_goes_on(
    run_dir: Path, body: dict[str, Any], status: int, text: str
) -> None:
    async def talk(client: Client) -> None:
        at, _ = await begin(client)
        said = await post(client, f"{at}/move", status, **body)
        assert text in said["error"]
        assert (await turn(client, at, "7g7f", 0))["ply"] == 2

    with_client([run_dir], talk)


@scripted
@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"sfen": "9/9/9/9/9/9/9/9/9 b - 1"}, "start position"),
        ({"sfen": "nonsense"}, "is not an SFEN"),
        ({"sfen": "a b - x"}, "is not an SFEN"),
        ({"sfen": f"{STANDARD_SFEN} 7g7f"}, "is not an SFEN"),
        ({"sfen": "startpos moves 7g7f 7g7f"}, "move '7g7f' (ply 2) cannot be played"),
        ({"checkpoint": "step-000000000999"}, "there is no checkpoint"),
        ({"checkpoint": "../../etc"}, "there is no checkpoint"),
        ({"simulations": 10**9}, "simulations: Input should be less"),
        ({"temperature": -1}, "temperature: Input should be greater"),
        ({"temperature": "NaN"}, "temperature: Input should be"),
        ({"human": "both"}, "human: Input should be"),
        ({"move_s": -1}, "move_s: Input should be greater"),
    ],
)
def test_a_game_that_cannot_begin_is_refused_in_a_line(
    run_dir: Path, fields: dict[str, Any], text: str
) -> None:
    async def talk(client: Client) -> None:
        body = {"checkpoint": CHECKPOINT} | fields
        assert text in (await post(client, "/api/runs/first/play", 400, **body))["error"]

    with_client([run_dir], talk)


@scripted
def test_a_damaged_checkpoint_is_refused_when_it_is_chosen_and_said_when_it_is_to_move(
    run_dir: Path,
) -> None:
    async def talk(client: Client) -> None:
        at, _ = await begin(client)
        await post(client, f"{at}/move", move="7g7f", ply=0)
        opponent_of(client).broken = "model.safetensors: not the weights that were saved."
        said = await post(client, f"{at}/reply", 400, ply=1)
        assert said["error"] == "model.safetensors: not the weights that were saved."
        opponent_of(client).broken = ""
        assert (await post(client, f"{at}/reply", ply=1))["ply"] == 2
        model = run_dir / "checkpoints" / CHECKPOINT / "model.safetensors"
        model.write_bytes(model.read_bytes()[:-1])
        said = await post(client, "/api/runs/first/play", 400, checkpoint=CHECKPOINT)
        assert "is damaged" in said["error"]
        async with client.get("/api/runs/first/opponents") as answer:
            (listed,) = (await answer.json())["opponents"]
        assert listed["problem"]

    with_client([run_dir], talk)


@scripted
def test_a_game_whose_network_cannot_be_loaded_does_not_begin(run_dir: Path) -> None:
    async def talk(client: Client) -> None:
        opponent_of(client).broken = "step-000000000100/manifest.json is missing."
        said = await post(client, "/api/runs/first/play", 400, checkpoint=CHECKPOINT)
        assert said["error"] == "step-000000000100/manifest.json is missing."
        app = client.app
        assert app is not None
        assert len(app[play_api.SESSIONS]) == 0

    with_client([run_dir], talk)


@scripted
def test_networks_are_needed_while_a_game_goes_on(run_dir: Path) -> None:
    async def talk(client: Client) -> None:
        thinker, app = opponent_of(client), client.app
        assert app is not None
        assert not thinker.is_needed()
        (over, _), (idle, _) = await begin(client), await begin(client)
        await post(client, f"{over}/resign", ply=0)
        assert thinker.is_needed()
        app[play_api.SESSIONS].get(idle.rpartition("/")[2]).asked -= play_sessions.IDLE_S + 1
        assert not thinker.is_needed()

    with_client([run_dir], talk)


@scripted
def test_one_request_at_a_time_moves_and_a_browser_that_goes_away_changes_nothing(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def talk(client: Client) -> None:
        at, _ = await begin(client)
        await post(client, f"{at}/move", move="7g7f", ply=0)
        thinker = opponent_of(client)
        begun, ended = asyncio.Event(), asyncio.Event()
        answer_now = thinker.ask

        async def think_for_ever(**question: Any) -> Any:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        thinker.ask = think_for_ever
        waiting = asyncio.ensure_future(post(client, f"{at}/reply", ply=1))
        await begun.wait()
        for change in ("reply", "take-back", "resign"):
            said = await post(client, f"{at}/{change}", 409, ply=1)
            assert "a move is being made" in said["error"]
        waiting.cancel()
        await asyncio.wait_for(ended.wait(), 30)
        thinker.ask = answer_now
        while (await client.post(f"{at}/reply", json={"ply": 1})).status == 409:
            await asyncio.sleep(0.01)
        async with client.get(at) as answer:
            assert (await answer.json())["ply"] == 2

    with_client([run_dir], talk)


@scripted
def test_games_are_bounded_in_number_and_given_up_when_idle(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(play_sessions, "MAX_SESSIONS", 2)

    async def talk(client: Client) -> None:
        (first, _), (second, _) = await begin(client), await begin(client)
        said = await post(client, "/api/runs/first/play", 429, checkpoint=CHECKPOINT)
        assert "2 games are being played" in said["error"]
        app = client.app
        assert app is not None
        key = first.rpartition("/")[2]
        app[play_api.SESSIONS].get(key).asked -= play_sessions.CROWDED_IDLE_S + 1
        await begin(client)
        async with client.get(first) as answer:
            assert answer.status == 404
            assert "not open any more" in (await answer.json())["error"]
        async with client.get(second) as answer:
            assert answer.status == 200

    with_client([run_dir], talk)


@scripted
def test_a_run_that_is_deleted_meanwhile_is_said_and_the_game_goes_on(
    run_dir: Path, tmp_path: Path
) -> None:
    async def talk(client: Client) -> None:
        at, _ = await begin(client)
        run_dir.rename(tmp_path / "elsewhere")
        state = await post(client, f"{at}/resign", ply=0)
        assert state["saved_as"] is None
        assert "was not saved" in state["save_error"]

    with_client([run_dir], talk)


@scripted
def test_at_a_uri_the_checkpoint_there_plays_and_nothing_is_saved(run_dir: Path) -> None:
    async def talk(client: Client) -> None:
        at, _ = await begin(client)
        await turn(client, at, "7g7f", 0)
        there = opponent_of(client).asked[0]["checkpoint"]
        assert there == f"s3://bucket/first/checkpoints/{CHECKPOINT}"
        state = await post(client, f"{at}/resign", ply=2)
        assert state["saved_as"] is None
        assert "nothing is written at s3://bucket/first" in state["save_error"]

    with_client([run_dir], talk, uris={run_dir: "s3://bucket/first"})
    assert not (run_dir / "human_games.jsonl").exists()


@pytest.mark.slow
def test_a_real_network_moves_and_is_asked_about_a_position(run_dir: Path) -> None:
    async def talk(client: Client) -> None:
        at, state = await begin(client, human="white", simulations=4)
        state = await post(client, f"{at}/reply", ply=0)
        assert state["ply"] == 1
        finding = await post(client, f"{at}/findings", ply=1, simulations=3)
        assert finding["side_to_move"] == "white"
        assert finding["moves"][0]["move"] in state["legal"]
        (file,) = (run_dir / "checkpoints" / CHECKPOINT).glob("model*")
        file.write_bytes(bytes(file.stat().st_size))
        at, state = await begin(client, human="white")
        await post(client, f"{at}/reply", ply=0)  # The network that is loaded plays on.

    with_client([run_dir], talk)


@pytest.mark.slow
def test_a_real_network_plays_on_when_the_run_has_removed_its_checkpoint(run_dir: Path) -> None:
    async def talk(client: Client) -> None:
        at, _ = await begin(client)
        shutil.rmtree(run_dir / "checkpoints" / CHECKPOINT)
        assert (await turn(client, at, "7g7f", 0))["ply"] == 2

    with_client([run_dir], talk)
