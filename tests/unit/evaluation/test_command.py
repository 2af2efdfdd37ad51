"""The command `evaluate`: tables, JSON, saved games, exit codes, signals."""

import io
import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cshogi
import numpy as np
import pytest
import torch
from cshogi import CSA, KIF
from rich.console import Console
from rsshogi.core import Board
from rsshogi.record import Record

from keisei_ray.cli import main
from keisei_ray.errors import ConfigError, PlayerError
from keisei_ray.evaluation import command
from keisei_ray.evaluation.command import EvaluateOptions, evaluate
from keisei_ray.evaluation.ladder import pairs_table, ratings_table
from keisei_ray.evaluation.matches import MatchSettings, PlayedGame, play_match, play_plies
from keisei_ray.evaluation.sprt import Hypotheses
from keisei_ray.learning.learner import Learner
from keisei_ray.network.model import build_model
from keisei_ray.network.weights import digest, load_weights
from keisei_ray.players.player import Player, checkpoint_player, open_player
from keisei_ray.players.policies import choose_random
from keisei_ray.players.saved_model import find_checkpoint
from keisei_ray.shogi.vector_games import VectorGames
from tests.helpers.engines import fake_spec
from tests.helpers.saved_runs import save_untrained
from tests.helpers.tiny import tiny_config

ROOT = Path(__file__).parents[3]
MATE_SFEN = "4k4/9/4P4/9/9/9/9/9/4K4 b G 1"
PATIENCE_S = 120


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with one checkpoint of an untrained learner."""
    run_dir = tmp_path_factory.mktemp("run")
    save_untrained(run_dir, timestep=10)
    return run_dir


def run(**options: Any) -> tuple[dict[str, Any], str]:
    """The result and the screen of an evaluation; random against random by default."""
    screen = io.StringIO()
    settings: dict[str, Any] = {"player": "random", "opponent": "random", "num_games": 4} | options
    result = evaluate(EvaluateOptions(**settings), Console(file=screen, width=160))
    return result, screen.getvalue()


def one_line(text: str) -> str:
    lines = text.splitlines()
    assert len(lines) == 1, text
    return lines[0]


# Players


def test_published_weights_saved_weights_and_playing_weights_have_one_digest(saved: Path) -> None:
    config = tiny_config()
    published = build_model(config.model, seed=99)
    load_weights(published, Learner(config).weights())
    arrays = {name: tensor.numpy() for name, tensor in published.state_dict().items()}
    result, _ = run(player=f"checkpoint:{saved}", num_games=2)
    assert result["player"]["weights_digest"] == digest(arrays)


def test_a_finishing_player_mates_and_says_so_in_its_name(saved: Path) -> None:
    games = VectorGames(1, max_plies=50, rng_for_game=np.random.default_rng, sfens=[MATE_SFEN])
    lane, uniform = np.array([0]), np.array([0.5])
    bare, finishing = (checkpoint_player(saved, finish_mates=flag) for flag in (False, True))
    legal = [move.to_usi() for move in Board(MATE_SFEN).legal_moves()]
    assert legal[int(finishing.choose(games, lane, uniform)[0])] == "G*5b"
    assert finishing.name == f"{bare.name}+mate1"
    by_path = open_player(f"checkpoint:{saved}+mate1")
    assert by_path.name == finishing.name
    assert legal[int(by_path.choose(games, lane, uniform)[0])] == "G*5b"


def test_a_finishing_player_is_the_bare_one_where_there_is_no_mate(saved: Path) -> None:
    games = VectorGames(8, max_plies=50, rng_for_game=np.random.default_rng, random_opening_plies=6)
    lanes, uniforms = np.arange(8), np.full(8, 0.5)
    assert (games.mate_in_one() < 0).all()
    bare, finishing = (checkpoint_player(saved, finish_mates=flag) for flag in (False, True))
    expected = bare.choose(games, lanes, uniforms)
    assert np.array_equal(finishing.choose(games, lanes, uniforms), expected)


def test_both_plays_one_match_bare_and_one_finishing_side_by_side(saved: Path) -> None:
    result, screen = run(player=f"checkpoint:{saved}", finish_mates="both", num_games=2)
    bare, finishing = result["bare"], result["finishing"]
    assert finishing["player"]["name"] == bare["player"]["name"] + "+mate1"
    assert bare == {**run(player=f"checkpoint:{saved}", num_games=2)[0], **timing(bare)}
    assert {bare["player"]["name"], finishing["player"]["name"]} < set(screen.split())


def timing(result: dict[str, Any]) -> dict[str, Any]:
    return {key: result[key] for key in ("plies_per_s", "wall_time_s")}


@pytest.mark.parametrize("ending", ["greedy", "?simulations=2"])
def test_both_refuses_other_players_before_the_first_game(
    ending: str, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bare match was played to its end, and its result was lost."""
    monkeypatch.setattr(command, "play_plies", lambda *_: pytest.fail("played"))
    player = ending if ending == "greedy" else f"checkpoint:{saved}{ending}"
    with pytest.raises(PlayerError, match="finish"):
        run(player=player, finish_mates="both", records=tmp_path / "games")
    assert not (tmp_path / "games").exists()


def test_both_refuses_a_directory_with_games_before_the_first_game(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"player": f"checkpoint:{saved}", "finish_mates": "both", "num_games": 2}
    run(**options, records=tmp_path / "games")
    for name in ("bare", "finishing"):
        assert len(list((tmp_path / "games" / name).iterdir())) == 3 * 2
    for file in (tmp_path / "games" / "bare").iterdir():
        file.unlink()
    monkeypatch.setattr(command, "play_plies", lambda *_: pytest.fail("played"))
    with pytest.raises(ConfigError, match="finishing: holds games already"):
        run(**options, records=tmp_path / "games")


def test_both_plays_the_same_networks_twice_while_their_run_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two matches were of different weights, also those of the opponent."""
    old = save_untrained(tmp_path, timestep=10, seed=1, weights_version=1)

    def trains(*args: Any, **kwargs: Any) -> Iterator[list[PlayedGame]]:
        save_untrained(tmp_path, timestep=20, seed=2, weights_version=2)
        shutil.rmtree(old, ignore_errors=True)
        yield from play_plies(*args, **kwargs)

    monkeypatch.setattr(command, "play_plies", trains)
    text = f"checkpoint:{tmp_path}"
    result, _ = run(player=text, opponent=text, finish_mates="both", num_games=2)
    for name in ("bare", "finishing"):
        assert result[name]["player"]["weights_version"] == 1
        assert result[name]["opponent"]["weights_version"] == 1


def test_both_against_a_search_has_the_results_of_two_matches(saved: Path) -> None:
    player, opponent = f"checkpoint:{saved}", f"checkpoint:{saved}?simulations=4"
    result, _ = run(player=player, opponent=opponent, finish_mates="both", num_games=2)
    alone, _ = run(player=player, opponent=opponent, finish_mates="yes", num_games=2)
    assert result["finishing"] == {**alone, **timing(result["finishing"])}


def test_both_starts_an_engine_anew_for_each_match(saved: Path, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    spec = fake_spec(
        tmp_path, start=f"echo x >> {starts}", go="echo bestmove resign", query="processes=1"
    )
    run(player=f"checkpoint:{saved}", opponent=spec, finish_mates="both", num_games=2)
    assert starts.read_text() == "x\nx\n"


def test_only_a_network_can_be_made_to_finish_mates() -> None:
    with pytest.raises(PlayerError, match="only a network"):
        run(player="greedy", finish_mates="yes")


def test_an_engine_is_a_player_like_any_other(tmp_path: Path) -> None:
    spec = fake_spec(tmp_path, usi="echo id name Fake 1; echo usiok", go="echo bestmove resign")
    result, screen = run(opponent=spec)
    assert result["reasons"] == {"resign": 4}
    assert result["total"]["wins"] == 4
    assert result["opponent"] == {"name": spec, "engine": "Fake 1"}
    assert "resign 4" in screen


# Results


def test_result_adds_up_and_is_json(saved: Path) -> None:
    result, screen = run(player=f"checkpoint:{saved}", opponent="greedy", num_games=6)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    for part, games in (("total", 6), ("as_black", 3), ("as_white", 3)):
        counts = result[part]
        assert counts["games"] == games
        assert sum(counts[k] for k in ("wins", "draws", "losses", "truncated")) == games
    half = 0.5 * (result["total"]["draws"] + result["total"]["truncated"])
    score = (result["total"]["wins"] + half) / 6
    assert result["score"]["center"] == pytest.approx(score)
    assert result["player"]["weights_digest"] == find_checkpoint(saved).info["weights_digest"]
    assert f"{100 * score:.1f}%" in screen


def test_odd_number_of_games_is_refused(saved: Path) -> None:
    with pytest.raises(ConfigError, match="Use 6"):
        run(player=f"checkpoint:{saved}", num_games=5)


def test_interrupt_reports_finished_games_and_exits_130(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> Iterator[list[PlayedGame]]:
        yield from ([game] for game in itertools.islice(play_match(*args, **kwargs), 3))
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "play_plies", interrupted)
    file = tmp_path / "result.json"
    arguments = ["--checkpoint", str(saved), "--opponent", "greedy", "--games", "8"]
    assert main(["evaluate", *arguments, "--json", str(file)]) == 130
    result = json.loads(file.read_text())
    assert result["interrupted"]
    assert result["total"]["games"] == result["games_finished"] == 3


def test_interrupt_before_any_game_is_reported_too(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> Iterator[list[PlayedGame]]:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "play_plies", interrupted)
    result, screen = run(player=f"checkpoint:{saved}")
    assert result["score"] is None
    assert "0 of 4 games" in screen


# The sequential test


def test_the_test_stops_the_match_and_is_reported() -> None:
    result, screen = run(player="greedy", num_games=400, sprt=Hypotheses(0, 200))
    sprt = result["sprt"]
    assert sprt["accepted"] == "elo1"
    assert sprt["llr"] >= sprt["upper"]
    assert 2 * sprt["pairs"] <= result["games_finished"] < 400
    assert "accepts 200 Elo" in screen
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_a_test_that_the_match_does_not_decide_says_so() -> None:
    result, screen = run(num_games=2, sprt=Hypotheses(0, 5))
    assert result["sprt"]["accepted"] is None
    assert "undecided" in screen


# Saved games


def moves_of(directory: Path, index: int) -> list[list[str]]:
    """Returns the moves of a saved game as five readers see them."""
    kif, csa, usi = (
        (directory / f"game-{index:06d}.{suffix}").read_text() for suffix in ("kifu", "csa", "usi")
    )
    ours = (
        Record.from_kif_str(kif),
        Record.from_csa_str(csa),
        Record.from_usi_position(usi.strip()),
    )
    theirs = (KIF.Parser.parse_str(kif), CSA.Parser.parse_str(csa)[0])
    return [
        *([entry.move.to_usi() for entry in record.moves] for record in ours),
        *([cshogi.move_to_usi(move) for move in record.moves] for record in theirs),
    ]


def test_every_finished_game_is_saved_and_read_back_with_its_moves(tmp_path: Path) -> None:
    result, _ = run(player="greedy", num_games=6, seed=3, records=tmp_path / "new" / "games")
    directory = tmp_path / "new" / "games"
    match = MatchSettings(6, seed=3)
    games = list(play_match((open_player("greedy"), Player("r", choose_random)), match))
    assert len(list(directory.iterdir())) == 3 * 6
    for game in games:
        assert moves_of(directory, game.index) == [game.moves.split()] * 5
        kif = (directory / f"game-{game.index:06d}.kifu").read_text()
        names = ("greedy", "random") if game.is_black else ("random", "greedy")
        assert KIF.Parser.parse_str(kif).names == list(names)
        assert f"*{game.opening_plies} random opening plies" in kif
        assert f"*{game.result} by {game.reason}" in kif
    assert result["games_finished"] == 6


@pytest.mark.parametrize(
    ("go", "reason", "csa_end"),
    [
        ("echo bestmove resign", "resign", "%TORYO"),
        ("exit", "engine_died", "%TIME_UP"),
        ("echo bestmove 1a4c", "engine_illegal_move", "%ILLEGAL_MOVE"),
        ("echo bestmove nonsense", "engine_garbage", "%ILLEGAL_MOVE"),
        ("echo bestmove win", "engine_false_win", "%ILLEGAL_MOVE"),
    ],
)
def test_forfeits_are_recorded_as_what_the_formats_have(
    tmp_path: Path, go: str, reason: str, csa_end: str
) -> None:
    run(player=fake_spec(tmp_path, go=go), num_games=2, records=tmp_path / "games")
    for index in (0, 1):
        csa = (tmp_path / "games" / f"game-{index:06d}.csa").read_text()
        assert csa.splitlines()[-1].replace("+", "").replace("-", "") == csa_end
        assert f"by {reason}" in csa
        engine_is_black = index == 0
        assert Record.from_csa_str(csa).result.is_white_win() == engine_is_black
        assert len({tuple(moves) for moves in moves_of(tmp_path / "games", index)}) == 1


def test_shift_jis_writes_kif_files_and_says_once_what_it_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "é"
    folder.mkdir()
    spec = fake_spec(folder, go="echo bestmove resign")
    _, screen = run(player=spec, num_games=2, records=tmp_path / "games", kif_encoding="shift-jis")
    suffixes = {path.suffix for path in (tmp_path / "games").iterdir()}
    assert suffixes == {".kif", ".csa", ".usi"}
    # The engine's name has one such letter, in each of the two games.
    says = "2 characters of the KIF files are not in Shift-JIS"
    assert [line for line in screen.splitlines() if says in line] == [screen.splitlines()[0]]
    assert (
        spec.replace("é", "?") in KIF.Parser.parse_file(f"{tmp_path}/games/game-000000.kif").names
    )
    with pytest.raises(ConfigError, match="expected --records DIR"):
        run(kif_encoding="shift-jis")


def test_a_directory_with_games_or_none_at_all_is_refused(tmp_path: Path) -> None:
    run(num_games=2, records=tmp_path / "games")
    before = sorted((tmp_path / "games").iterdir())
    with pytest.raises(ConfigError, match="holds games already"):
        run(num_games=2, records=tmp_path / "games")
    assert sorted((tmp_path / "games").iterdir()) == before
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "games"):
        with pytest.raises(ConfigError, match="cannot be made"):
            run(records=path)


# Endings


def test_an_engine_that_cannot_be_kept_alive_ends_it_with_2_and_a_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "result.json"
    spec = fake_spec(tmp_path, go="echo sorry; exit 1", query="timeout-s=5&processes=1")
    arguments = ["--player", "random", "--opponent", spec, "--games", "400", "--json", str(file)]
    assert main(["evaluate", *arguments]) == 2
    result = json.loads(file.read_text())
    assert result["reasons"] == {"engine_died": result["games_finished"]}
    assert 5 <= result["games_finished"] < 400
    assert "sorry" in result["error"]
    assert result["error"] in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--player", "random", "--opponent", "usi:no-such-engine"], "is not found"),
        (["--player", "random", "--opponent", "rando"], "Did you mean 'random'"),
        (["--player", "random", "--opponent", "random", "--sprt", "5"], "expected ELO0,ELO1"),
        (["--player", "random", "--opponent", "random", "--finish-mates"], "only a network"),
        (["--player", "random", "--checkpoint", "x", "--opponent", "random"], "not allowed with"),
        (["--opponent", "random"], "--checkpoint --player"),
        (["--player", "random", "--opponent", "random", "--games", "3"], "Use 4"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(["evaluate", *arguments]) == 2
    assert says in one_line(capsys.readouterr().err)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_match_and_keeps_its_finished_games(
    tmp_path: Path, signum: signal.Signals
) -> None:
    """The signal comes while an engine, which has answered in some games, thinks without end."""
    records, file, pid = tmp_path / "games", tmp_path / "result.json", tmp_path / "pid"
    go = "[ $n -lt 100 ] || sleep 1000; echo bestmove resign"
    spec = fake_spec(tmp_path, start=f"echo $$ > {pid}", go=go, query="timeout-s=600&processes=1")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), "evaluate", "--player", "random", "--games", "400",
         "--opponent", spec, "--json", str(file), "--records", str(records)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not list(records.glob("game-*.usi")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signum)
        _, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    result = json.loads(file.read_text())
    assert result["interrupted"]
    saved = {path.stem for path in records.iterdir()}
    assert result["games_finished"] == len(saved) == result["total"]["games"] > 0
    assert not list(records.glob(".*"))
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_nothing_in_a_name_is_markup_or_reaches_the_terminal(tmp_path: Path) -> None:
    """A closing tag without an opening one raised MarkupError, and the match was lost."""
    spec = fake_spec(
        tmp_path,
        usi=r"printf 'id name [/bold] [link=x]Evil\033[2J :smile:\nusiok\n'",
        go="echo bestmove resign",
        query="processes=1&timeout-s=20",
    )
    result, shown = run(player=spec, opponent="random", num_games=2)
    assert result["games_finished"] == 2
    assert result["player"]["engine"] == r"[/bold] [link=x]Evil\x1b[2J :smile:"
    assert r"[/bold] [link=x]Evil\x1b[2J :smile:" in shown
    assert "\x1b" not in shown


def test_the_tables_of_a_ladder_show_names_as_they_are() -> None:
    name = "[/red]\x1b[2J"
    rating = {"name": name, "elo": 1.0, "low": None, "high": None, "games": 2}
    pair = {"player": name, "opponent": name, "is_explained": False, "predicted": 0.5}
    content = {"ratings": [rating], "pairs": [pair | {"measured": 0.5, "low": 0.1, "high": 0.9}]}
    screen = io.StringIO()
    Console(file=screen, width=160).print(ratings_table(content), pairs_table(content))
    assert screen.getvalue().count(r"[/red]\x1b[2J") == 3
