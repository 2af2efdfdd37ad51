"""When a learning benchmark says that a target was reached, and what an interrupted one keeps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from keisei_ray.bench.learning import Point, Target, run_learning, target_outcome, train_for
from keisei_ray.cli import main
from keisei_ray.config.schema import Config
from keisei_ray.errors import BenchmarkError

RANDOM_FINISHING = Target("random", 0.95, is_finishing=True, within_s=300)

SECONDS = 1234.5


def point(seed: int, timestep: int, score: float, **changes: object) -> Point:
    values: dict[str, object] = {
        "seed": seed,
        "timestep": timestep,
        "wall_time_s": timestep / 100,
        "opponent": "random",
        "is_finishing": True,
        "games": 100,
        "wins": 0,
        "draws": 0,
        "truncated": 0,
        "losses": 0,
        "score": score,
        "score_low": score,
        "score_high": score,
        "mean_plies": 80.0,
    }
    return Point(**(values | changes))  # type: ignore[arg-type]


def test_a_target_is_reached_at_the_first_checkpoint_that_scores_it() -> None:
    points = [point(1, 3000, 0.97), point(1, 1000, 0.9), point(1, 2000, 0.95), point(2, 500, 1.0)]
    outcome = target_outcome(RANDOM_FINISHING, [1, 2], points)
    assert outcome["timestep"] == {"1": 2000, "2": 500}
    assert outcome["wall_time_s"] == {"1": 20.0, "2": 5.0}
    assert outcome["is_met"]


@pytest.mark.parametrize(
    "foreign",
    [{"opponent": "greedy"}, {"is_finishing": False}],
    ids=["another opponent", "the bare policy"],
)
def test_only_matches_of_the_targets_own_kind_count(foreign: dict[str, object]) -> None:
    outcome = target_outcome(RANDOM_FINISHING, [1], [point(1, 1000, 1.0, **foreign)])
    assert outcome["timestep"] == {"1": None}
    assert not outcome["is_met"]


def test_a_target_is_missed_if_one_seed_never_gets_there_or_takes_too_long() -> None:
    assert not target_outcome(RANDOM_FINISHING, [1, 2], [point(1, 1000, 1.0)])["is_met"]
    assert not target_outcome(RANDOM_FINISHING, [1], [point(1, 1000, 1.0, wall_time_s=301.0)])[
        "is_met"
    ]
    assert target_outcome(RANDOM_FINISHING, [1], [point(1, 1000, 1.0, wall_time_s=300.0)])["is_met"]


@pytest.mark.slow
def test_a_run_that_fails_is_an_error_that_names_its_log(tmp_path: Path) -> None:
    config = Config.model_validate({"run": {"total_timesteps": 64}})
    taken = tmp_path / "seed-1"
    (taken / "checkpoints").mkdir(parents=True)
    with pytest.raises(BenchmarkError, match=r"seed 1: .* exit code 2; see .*seed-1\.log"):
        train_for(config, 1, taken, seconds=60)


WAITS_FOR_ITS_INTERRUPT = """#!/bin/sh
trap 'exit {code}' INT
echo > {started}
while :; do sleep 0.01; done
"""


@pytest.mark.parametrize("code", [130, 3])
def test_a_run_is_asked_to_stop_when_its_time_is_over(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is interrupted saves and exits 130: shown with real runs in tests/ray."""
    started, run = tmp_path / "started", tmp_path / "run.sh"
    os.mkfifo(started)  # Written to once the test reads it, and by then the process is up.
    run.write_text(WAITS_FOR_ITS_INTERRUPT.format(started=started, code=code))
    run.chmod(0o755)

    class TimeIsOver(subprocess.Popen[bytes]):
        def wait(self, timeout: float | None = None) -> int:
            if timeout != SECONDS:
                return super().wait(timeout)
            started.read_text()
            raise subprocess.TimeoutExpired(self.args, timeout)

    monkeypatch.setattr(sys, "executable", str(run))
    monkeypatch.setattr(subprocess, "Popen", TimeIsOver)
    config = Config.model_validate({"cluster": {"address": "local"}})
    if code == 130:
        train_for(config, 1, tmp_path / "seed-1", seconds=SECONDS)
    else:
        with pytest.raises(BenchmarkError, match="exit code 3; see"):
            train_for(config, 1, tmp_path / "seed-1", seconds=SECONDS)


def test_a_points_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "points.json").write_text('[{"foo": 1}]')
    with pytest.raises(BenchmarkError, match="Give another directory"):
        run_learning(
            Config(), seeds=[1], minutes=1, num_games=2, out_dir=tmp_path, console=Console()
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["learning", "env"], "run alone"),
        (["learning", "--games", "3"], "even"),
        (["learning", "--minutes", "-1"], "positive"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
