"""evaluations.jsonl and ratings.json: what is written and refitted."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from keisei_ray.evaluation.elo_table import fit_ratings
from keisei_ray.evaluation.score_intervals import elo_difference
from keisei_ray.telemetry import events as ev
from keisei_ray.tracking.evaluation_recorder import EvaluationRecorder
from keisei_ray.tracking.evaluation_records import results_of
from tests.helpers.run_events import evaluated, run_started

KEYS = (
    "timestep, weights_version, weights_digest, player, opponent, finishing, games, wins, draws, "
    "losses, truncated, score, score_low, score_high, mean_plies, as_black_score, "
    "as_white_score, wall_time_s, pairs, run_time_s"
)
"""Keys that users' scripts rely on; retyped on purpose."""


class Recorder:
    """A recorder of one session, its files and its events."""

    def __init__(self, run_dir: Path, resumed_timestep: int | None = None) -> None:
        self.published: list[ev.RatingsFitted] = []
        self.run_dir = run_dir
        self.file = EvaluationRecorder(run_dir, resumed_timestep, self.published.append)  # type: ignore[arg-type]

    def lines(self) -> list[dict[str, Any]]:
        text = (self.run_dir / "evaluations.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def ratings(self) -> dict[str, Any]:
        table: dict[str, Any] = json.loads((self.run_dir / "ratings.json").read_text())
        return table


def test_a_match_is_one_line_with_the_agreed_keys(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.file.handle(evaluated(3, "greedy", wins=10, draws=3, truncated=1))
    recorder.file.handle(ev.Notice("not a match"))
    (line,) = recorder.lines()
    assert list(line) == KEYS.split(", ")
    assert line["player"] == "v3"
    assert line["weights_digest"] == "digest-3"
    assert (line["wins"], line["draws"], line["losses"], line["truncated"]) == (10, 3, 18, 1)


def test_the_table_is_fitted_from_all_matches_after_each(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    assert not (tmp_path / "ratings.json").exists()
    for version, opponent, wins in ((1, "random", 20), (1, "greedy", 4), (2, "v1", 19)):
        recorder.file.handle(evaluated(version, opponent, wins=wins))
        expected = fit_ratings(results_of(recorder.lines()))
        table = recorder.ratings()
        assert [p["name"] for p in table["players"]] == [r.name for r in expected]
        assert [p["elo"] for p in table["players"]] == [r.elo for r in expected]
        assert recorder.published[-1].ratings == tuple(expected)
    assert (table["anchor"], table["confidence"], table["timestep"]) == ("random", 0.95, 2000)
    assert list(table["players"][0]) == ["name", "elo", "low", "high", "games", "timestep"]
    moments = {p["name"]: p["timestep"] for p in table["players"]}
    assert moments == {"v1": 1000, "v2": 2000, "random": None, "greedy": None}


def test_both_files_go_with_a_directory_that_is_moved(tmp_path: Path) -> None:
    run_dir, moved = tmp_path / "run", tmp_path / "moved"
    run_dir.mkdir()
    recorder = Recorder(run_dir)
    recorder.file.handle(evaluated(1, "random", wins=20))
    run_dir.rename(moved)
    run_dir.mkdir()  # Another's.
    recorder.file.handle(evaluated(2, "random", wins=22))
    recorder.run_dir = moved
    assert [line["player"] for line in recorder.lines()] == ["v1", "v2"]
    assert recorder.ratings()["timestep"] == 2000
    assert list(run_dir.iterdir()) == []


def test_the_first_match_gives_the_elo_of_its_score(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.file.handle(evaluated(1, "random", wins=20, draws=2, truncated=2))
    elos = {p["name"]: p["elo"] for p in recorder.ratings()["players"]}
    assert elos == {"random": 0.0, "v1": pytest.approx(elo_difference(22.5 / 33), rel=0.25)}


def test_a_resume_goes_on_with_the_matches_before_and_no_others(tmp_path: Path) -> None:
    first = Recorder(tmp_path)
    for version in (1, 2, 3):
        first.file.handle(evaluated(version, "random", wins=10 * version))
    first.file.close()
    with (tmp_path / "evaluations.jsonl").open("a") as file:
        file.write('{"timestep": 4000, "pla')
    second = Recorder(tmp_path, resumed_timestep=2500)
    second.file.handle(run_started(timestep=2500))
    assert [line["player"] for line in second.lines()] == ["v1", "v2"]
    assert {p["name"] for p in second.ratings()["players"]} == {"random", "v1", "v2"}
    assert {r.name for r in second.published[-1].ratings} == {"random", "v1", "v2"}
    second.file.handle(evaluated(3, "random", wins=31))
    assert [line["player"] for line in second.lines()] == ["v1", "v2", "v3"]
    assert second.ratings()["timestep"] == 3000
    assert (tmp_path / "evaluations.jsonl.superseded").read_text().count("\n") == 1


def test_a_run_without_matches_has_no_table(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.file.handle(run_started())
    assert recorder.published == []
    assert not (tmp_path / "ratings.json").exists()


def test_a_line_without_a_match_is_left_out(tmp_path: Path) -> None:
    first = Recorder(tmp_path)
    first.file.handle(evaluated(1, "random", wins=20))
    first.file.close()
    with (tmp_path / "evaluations.jsonl").open("a") as file:
        file.write('{"timestep": 1000}\n')
    second = Recorder(tmp_path, resumed_timestep=5000)
    second.file.handle(run_started(timestep=5000))
    assert {p["name"] for p in second.ratings()["players"]} == {"random", "v1"}


def test_a_rating_without_bounds_is_null_in_the_file(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.file.handle(evaluated(1, "random", wins=32))
    (best, _) = recorder.ratings()["players"]
    assert best["name"] == "v1"
    assert best["high"] is None
    assert math.isfinite(best["elo"])


def test_a_resume_from_before_the_first_match_removes_the_table(tmp_path: Path) -> None:
    """Its Elo would be that of other weights of the same versions."""
    first = Recorder(tmp_path)
    first.file.handle(evaluated(1, "random", wins=20))
    first.file.close()
    second = Recorder(tmp_path, resumed_timestep=500)
    second.file.handle(run_started(timestep=500))
    assert second.lines() == []
    assert not (tmp_path / "ratings.json").exists()
    assert second.published == []
    second.file.handle(evaluated(1, "random", wins=10))
    assert {p["name"] for p in second.ratings()["players"]} == {"random", "v1"}
