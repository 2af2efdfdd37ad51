"""Jobs of the networks' process and their answers, computed in the test's own process."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from keisei_ray.config.sections import ModelConfig
from keisei_ray.errors import CheckpointError
from keisei_ray.network.model import PolicyValueNet, build_model
from keisei_ray.shogi.game import STANDARD_SFEN, Game
from keisei_ray.shogi.replay import replay
from keisei_ray.web import thinking_process
from keisei_ray.web.thinking_process import Inbox, Job, Networks, answer
from tests.helpers.tiny import tiny_config

MATE_IN_ONE = "4k4/9/4P4/9/9/9/9/9/4K4 b G 1"


def model_of(checkpoint: str) -> PolicyValueNet:
    if checkpoint == "damaged":
        raise CheckpointError("damaged: its digest\nis wrong.")
    if checkpoint == "faulty":
        raise ZeroDivisionError("a fault")
    config: ModelConfig = tiny_config().model
    return build_model(config, seed=0).eval()


def ask(inbox: Inbox | None = None, **fields: Any) -> dict[str, Any]:
    job: dict[str, Any] = {
        "number": 1,
        "kind": "move",
        "checkpoint": "c",
        "sfen": STANDARD_SFEN,
        "moves": [],
        "max_plies": 300,
        "simulations": 0,
    }
    return answer(Job(**(job | fields)), Networks(model_of), inbox or Inbox())


def test_a_network_is_loaded_and_no_more() -> None:
    assert ask(kind="load") == {"number": 1, "result": None}
    assert "error" in ask(kind="load", checkpoint="damaged")


@pytest.mark.parametrize("simulations", [0, 3, 40])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_move_is_legal_after_the_moves_before_it(simulations: int, temperature: float) -> None:
    moves = ["7g7f", "3c3d", "8h2b+"]
    found = ask(moves=moves, simulations=simulations, temperature=temperature)
    game = Game(STANDARD_SFEN, max_plies=9)
    for usi in [*moves, found["result"]]:
        index = game.find_move(usi)
        assert index is not None
        game.play(game.board.legal_moves()[index].value)


def test_a_search_finds_a_mate() -> None:
    found = ask(sfen=MATE_IN_ONE, simulations=8)
    game = Game(MATE_IN_ONE, max_plies=9)
    index = game.find_move(found["result"])
    assert index is not None
    verdict = game.play(game.board.legal_moves()[index].value)
    assert verdict is not None
    assert verdict.reason == "mate"


def test_findings_are_about_the_positions_asked_for() -> None:
    fields: dict[str, Any] = {"kind": "findings", "moves": ["7g7f", "3c3d", "8h2b+"]}
    found = ask(**fields, first_ply=1, num_positions=2)["result"]
    assert [each["ply"] for each in found] == [1, 2]
    assert [each["side_to_move"] for each in found] == ["white", "black"]
    assert all(len(each["moves"]) == 5 for each in found)
    assert len(ask(**fields, num_positions=99)["result"]) == 4
    (proven,) = ask(kind="findings", sfen=MATE_IN_ONE, simulations=8)["result"]
    assert proven["proof"] == "won"


@pytest.mark.parametrize("simulations", [0, 2])
def test_a_network_plays_a_game_on_to_its_end(simulations: int) -> None:
    moves = ["7g7f", "3c3d"]
    fields: dict[str, Any] = {
        "kind": "game",
        "moves": moves,
        "max_plies": 30,
        "simulations": simulations,
    }
    found = ask(**fields, temperature=1.0)["result"]
    assert found["moves"][:2] == moves
    assert len(found["moves"]) == 30 or found["reason"] != "max_plies"
    assert replay(found["moves"])


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"checkpoint": "damaged"}, "damaged: its digest is wrong."),
        ({"moves": ["7g7e"]}, "move 1 '7g7e' is not legal."),
        ({"sfen": MATE_IN_ONE, "moves": ["G*5b"]}, "the game is over: mate."),
    ],
)
def test_what_cannot_be_answered_is_said_in_a_line(fields: dict[str, Any], text: str) -> None:
    assert ask(**fields) == {"number": 1, "error": text}


def test_a_fault_of_the_program_does_not_end_the_process() -> None:
    assert ask(checkpoint="faulty") == {"number": 1, "failure": "ZeroDivisionError: a fault"}


@pytest.mark.parametrize("kind", ["move", "findings", "game"])
def test_a_job_that_is_cancelled_ends_in_the_middle_of_its_search(kind: str) -> None:
    inbox = Inbox()
    inbox.read(io.BytesIO(b'{"cancel": 7}\n'))
    found = ask(inbox, kind=kind, number=7, simulations=1_000_000)
    assert found == {"number": 7, "cancelled": True}
    assert "result" in ask(inbox, kind=kind, number=8, max_plies=3)


def test_jobs_come_in_their_order() -> None:
    jobs = [Job(n, "move", "c", STANDARD_SFEN, [], 300, 0) for n in (1, 2)]
    inbox = Inbox()
    inbox.read(io.BytesIO("".join(json.dumps(job._asdict()) + "\n" for job in jobs).encode()))
    assert [inbox.jobs.get(), inbox.jobs.get()] == jobs


def test_a_network_is_loaded_once_and_the_one_used_longest_ago_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(thinking_process, "MAX_LOADED", 2)
    loaded: list[str] = []

    def load(checkpoint: str) -> PolicyValueNet:
        loaded.append(checkpoint)
        return model_of(checkpoint)

    networks = Networks(load)
    for name in "abbacab":
        networks.get(name)
    assert "".join(loaded) == "abcb"


def test_another_checkpoint_at_the_same_path_is_loaded_and_a_removed_one_stays_in_use(
    tmp_path: Path,
) -> None:
    manifest = tmp_path / "manifest.json"

    def replace(time_ns: int) -> None:
        manifest.unlink(missing_ok=True)
        manifest.touch()
        os.utime(manifest, ns=(time_ns, time_ns))

    replace(1_000)
    networks = Networks(model_of)
    first = networks.get(str(tmp_path))
    assert networks.get(str(tmp_path)) is first
    replace(2_000)
    second = networks.get(str(tmp_path))
    assert second is not first
    manifest.unlink()
    assert networks.get(str(tmp_path)) is second
    replace(3_000)
    assert networks.get(str(tmp_path)) is not second
