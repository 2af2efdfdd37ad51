"""A ladder: every two players meet once, results survive an interrupt, ratings explain them."""

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from keisei_ray.arguments import parse_arguments
from keisei_ray.cli import main
from keisei_ray.errors import CheckpointError, ConfigError, PlayerError
from keisei_ray.evaluation import ladder as module
from keisei_ray.evaluation.elo_table import KNOWN_ELOS
from keisei_ray.evaluation.ladder import LadderOptions, LadderPlayer, ladder, schedule
from keisei_ray.evaluation.ladder_results import LadderMatch, LadderResults, check_pairs
from keisei_ray.storage import checkpoint
from keisei_ray.storage.run_layout import MODEL_FILE
from keisei_ray.telemetry.reports import MatchScore
from keisei_ray.tracking.evaluation_records import evaluation_from
from tests.helpers.saved_runs import save_untrained


def play(
    *players: str, file: Path | None = None, run_dir: Path | None = None, **changes: Any
) -> tuple[dict[str, Any], bool]:
    settings: dict[str, Any] = {
        "finish_mates": False,
        "num_games": 2,
        "seed": 1,
        "max_plies": 20,
        "temperature": 0.0,
    }
    options = LadderOptions(players=players, run_dir=run_dir, file=file, **settings | changes)
    return ladder(options, Console(file=io.StringIO()))


@pytest.fixture(scope="module")
def saved_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two checkpoints, of versions 3 and 5."""
    run_dir = tmp_path_factory.mktemp("some") / "run"
    for version in (3, 5):
        save_untrained(run_dir, timestep=version, seed=version, weights_version=version)
    return run_dir


def met(content: dict[str, Any]) -> list[tuple[str, str]]:
    return [(match["player"], match["opponent"]) for match in content["matches"]]


def player_named(name: str) -> LadderPlayer:
    return LadderPlayer(name, {}, lambda: pytest.fail("not played"))


def test_every_two_meet_once_and_neighbors_first() -> None:
    pairs = [(a.name, b.name) for a, b in schedule([player_named(name) for name in "abcd"])]
    assert pairs == [("b", "a"), ("c", "b"), ("d", "c"), ("c", "a"), ("d", "b"), ("d", "a")]


def test_a_run_plays_with_all_its_checkpoints(saved_run: Path) -> None:
    content, interrupted = play("random", run_dir=saved_run, finish_mates=True)
    assert not interrupted
    assert [p["name"] for p in content["players"]] == ["random", "v3", "v3+mate1", "v5", "v5+mate1"]
    assert len(met(content)) == len(set(met(content))) == 10
    assert all(match["games"] == 2 for match in content["matches"])
    assert all(sum(match["reasons"].values()) == 2 for match in content["matches"])
    newest = checkpoint.load(saved_run / "checkpoints" / f"step-{5:012d}")
    assert content["players"][3]["weights_digest"] == newest.info["weights_digest"]


def damage(path: Path) -> None:
    """Changes the last byte of a checkpoint's weights."""
    file = path / MODEL_FILE
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def saved_versions(run_dir: Path, *versions: int) -> list[Path]:
    return [save_untrained(run_dir, timestep=v, seed=v, weights_version=v) for v in versions]


@pytest.mark.parametrize("finish_mates", [False, True])
def test_a_damaged_checkpoint_of_a_run_is_skipped_with_a_warning(
    finish_mates: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, damaged, _ = saved_versions(tmp_path, 3, 4, 5)
    damage(damaged)
    with caplog.at_level(logging.WARNING):
        content, _ = play("random", run_dir=tmp_path, finish_mates=finish_mates)
    names = ["v3", "v3+mate1", "v5", "v5+mate1"] if finish_mates else ["v3", "v5"]
    assert [p["name"] for p in content["players"]] == ["random", *names]
    assert [f"skipping checkpoint {damaged}" in line for line in caplog.messages] == [True]


def test_of_a_checkpoint_that_was_being_replaced_the_newer_one_plays(tmp_path: Path) -> None:
    first, second = saved_versions(tmp_path, 3, 4)
    for path in (first, second):
        path.rename(path.with_name(f"{path.name}.replaced"))
    # Other weights of the same version, as of a run that was resumed; renamed, since a save tidies.
    aside = tmp_path / "aside"
    new = save_untrained(aside, timestep=4, seed=9, weights_version=4).rename(second)
    (tmp_path / "checkpoints" / "step-notes").mkdir()
    content, _ = play("random", run_dir=tmp_path)
    assert [p["name"] for p in content["players"]] == ["random", "v3", "v4"]
    digest = checkpoint.load(new).info["weights_digest"]
    assert content["players"][2]["weights_digest"] == digest


def test_a_run_without_an_intact_checkpoint_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in saved_versions(tmp_path, 3, 4):
        damage(path)
    with pytest.raises(CheckpointError, match=r"no intact checkpoint \(2 damaged\)"):
        play("random", run_dir=tmp_path)
    assert main(["ladder", "--run-dir", str(tmp_path)]) == 2
    assert "no intact checkpoint" in capsys.readouterr().err.splitlines()[-1]


def test_a_checkpoint_of_another_run_has_the_name_of_its_run(
    saved_run: Path, tmp_path: Path
) -> None:
    content, _ = play("random", f"checkpoint:{saved_run}+mate1", f"checkpoint:{saved_run}")
    assert [p["name"] for p in content["players"]] == ["random", "run/v5+mate1", "run/v5"]
    inside = f"checkpoint:{saved_run / 'checkpoints' / f'step-{5:012d}'}"
    content, _ = play("random", inside, run_dir=saved_run)
    assert [p["name"] for p in content["players"]] == ["random", "v5", "v3"]


def test_one_network_plays_with_searches_of_several_lengths(saved_run: Path) -> None:
    where = f"checkpoint:{saved_run}"
    content, _ = play(where, f"{where}?simulations=2", f"{where}?simulations=3&root=gumbel")
    names = ["run/v5", "run/v5+2sims", "run/v5+3sims+gumbel"]
    assert [p["name"] for p in content["players"]] == names
    assert len(met(content)) == 3


def test_played_matches_are_kept_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ladder.json"
    first, _ = play("random", "greedy", file=file)
    assert json.loads(file.read_text()) == first
    monkeypatch.setattr(module, "_play", lambda *_: pytest.fail("played again"))
    again, _ = play("greedy", "random", file=file)
    assert again["matches"] == first["matches"]


def test_an_interrupt_keeps_the_matches_that_were_finished(
    saved_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ladder.json"
    inner, asked = module._play, []

    def spy(a: LadderPlayer, b: LadderPlayer, *arguments: Any) -> LadderMatch:
        asked.append((a.name, b.name))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return inner(a, b, *arguments)

    whole, _ = play("random", "greedy", run_dir=saved_run)
    monkeypatch.setattr(module, "_play", spy)
    first, interrupted = play("random", "greedy", run_dir=saved_run, file=file)
    assert interrupted
    assert met(first) == asked[:2]
    assert met(json.loads(file.read_text())) == asked[:2]
    second, interrupted = play("random", "greedy", run_dir=saved_run, file=file)
    assert not interrupted
    assert without_times(second) == without_times(whole)


def without_times(content: dict[str, Any]) -> dict[str, Any]:
    matches = [{k: v for k, v in m.items() if k != "wall_time_s"} for m in content["matches"]]
    return content | {"matches": matches}


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"seed": 2}, "seed = 1, now 2"), ({"num_games": 4}, "games = 2, now 4")],
)
def test_results_of_other_conditions_are_not_mixed(
    changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    file = tmp_path / "ladder.json"
    play("random", "greedy", file=file)
    before = file.read_bytes()
    with pytest.raises(ConfigError, match=says):
        play("random", "greedy", file=file, **changes)
    assert file.read_bytes() == before


def test_other_weights_under_a_known_name_are_refused() -> None:
    results = LadderResults({})
    results.add_player("v3", {"weights_digest": "a"})
    results.add_player("v3", {"weights_digest": "a"})
    with pytest.raises(ConfigError, match="v3 is"):
        results.add_player("v3", {"weights_digest": "b"})


@pytest.mark.parametrize("text", ["", "[]", '{"conditions": {}}', '{"matches": [1]}'])
def test_a_file_that_is_no_ladder_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "ladder.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match="cannot be read as the results of a ladder"):
        play("random", "greedy", file=file)
    assert file.read_text() == text


def match(player: str, opponent: str, points: int, low: float, high: float) -> LadderMatch:
    score = MatchScore(
        games=100, wins=points, draws=0, losses=100 - points, truncated=0, score=points / 100,
        score_low=low, score_high=high, mean_plies=9.0, as_black_score=0.5, as_white_score=0.5,
        wall_time_s=1.0,
    )  # fmt: skip
    return LadderMatch(player, opponent, score, {"mate": 100})


def test_pairs_that_one_number_per_player_does_not_explain_come_first() -> None:
    expected = {("b", "a"): 0.91, ("b", "c"): 0.85}
    matches = [
        match("b", "a", 90, 0.85, 0.95),
        match("b", "c", 40, 0.3, 0.5),
        match("d", "a", 50, 0.4, 0.6),
    ]
    first, second = check_pairs(matches, expected)
    assert (first["player"], first["opponent"], first["is_explained"]) == ("b", "c", False)
    assert first["predicted"] == 0.85
    assert (second["player"], second["opponent"], second["is_explained"]) == ("b", "a", True)
    assert second["predicted"] == 0.91


def test_rock_paper_scissors_is_seen() -> None:
    results = LadderResults({})
    for name in ("random", "b", "c"):
        results.add_player(name, {})
    for a, b in (("random", "b"), ("b", "c"), ("c", "random")):
        results.matches.append(match(a, b, 90, 0.85, 0.95))
    content = results.save(None)
    assert [r["elo"] for r in content["ratings"]] == pytest.approx([0, 0, 0], abs=1e-6)
    assert [pair["is_explained"] for pair in content["pairs"]] == [False] * 3


def test_a_scripted_player_makes_the_table_one_over_random(saved_run: Path) -> None:
    content, _ = play(f"checkpoint:{saved_run}", "greedy")
    elos = {rating["name"]: rating["elo"] for rating in content["ratings"]}
    assert elos["greedy"] == pytest.approx(KNOWN_ELOS["greedy"], abs=60)


def test_without_a_scripted_player_the_first_one_is_the_anchor() -> None:
    results = LadderResults({})
    for name in ("a", "b"):
        results.add_player(name, {})
    results.matches.append(match("b", "a", 90, 0.85, 0.95))
    elos = {rating["name"]: rating["elo"] for rating in results.save(None)["ratings"]}
    assert elos["a"] == 0.0
    assert elos["b"] > 300


def test_checkpoints_among_the_players_finish_mates_too(saved_run: Path) -> None:
    content, _ = play("random", f"checkpoint:{saved_run}", finish_mates=True)
    assert [p["name"] for p in content["players"]] == ["random", "run/v5", "run/v5+mate1"]
    with pytest.raises(ConfigError, match="--finish-mates: none of --players is a network"):
        play("random", f"checkpoint:{saved_run}+mate1", finish_mates=True)


def test_matches_of_a_runs_checkpoints_are_added_to_its_records(saved_run: Path) -> None:
    (saved_run / "config.json").write_text("{}")
    (saved_run / "matches.jsonl").unlink(missing_ok=True)
    play("random", run_dir=saved_run)
    lines = [json.loads(line) for line in (saved_run / "matches.jsonl").read_text().splitlines()]
    assert [(line["player"], line["opponent"], line["timestep"]) for line in lines] == [
        ("v3", "random", 3),
        ("v5", "v3", 5),
        ("v5", "random", 5),
    ]
    # Also where the checkpoint is the second player.
    content, _ = play(f"checkpoint:{saved_run}", "random")
    last = evaluation_from(json.loads((saved_run / "matches.jsonl").read_text().splitlines()[-1]))
    assert last is not None
    assert (last.player, last.opponent) == ("v5", "random")
    assert last.match.wins == content["matches"][0]["losses"]
    (saved_run / "config.json").unlink()


@pytest.mark.parametrize(
    ("players", "error", "says"),
    [
        (["random"], ConfigError, "only random, expected at least two different"),
        (["random", "random"], ConfigError, "only random, expected at least two different"),
        (["random", "rnadom"], PlayerError, "rnadom"),
        (["random", "checkpoint:/nowhere"], CheckpointError, "/nowhere"),
    ],
)
def test_players_that_cannot_play_are_refused_before_any_match(
    players: list[str], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        play(*players)


def test_an_odd_number_of_games_is_refused() -> None:
    with pytest.raises(ConfigError, match="Use 4"):
        play("random", "greedy", num_games=3)


def test_the_command_shows_both_tables_and_writes_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ladder.json"
    arguments = ["ladder", "--players", "random", "greedy", "--games", "4", "--json", str(file)]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "greedy" in shown
    assert "Is it transitive?" in shown
    content = json.loads(file.read_text())
    (best, other) = content["ratings"]
    assert (best["name"], other["name"], other["elo"]) == ("greedy", "random", 0.0)
    assert best["elo"] > 0


def test_a_mistake_is_one_line_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ladder", "--players", "random", "gready"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_networks_are_sampled_a_little_in_a_ladder_and_not_at_all_in_a_measured_match() -> None:
    """By their likeliest moves two networks mostly end in a draw by repetition."""
    match = ["evaluate", "--player", "random", "--opponent", "greedy"]
    assert parse_arguments(["ladder"]).temperature == 0.3
    assert parse_arguments(match).temperature == 0
    assert parse_arguments([*match, "--temperature", "0.7"]).temperature == 0.7
