"""A run directory that is read again and again as it grows."""

from pathlib import Path
from typing import Any

import numpy as np

from keisei_ray.report.run_files import Run, RunFiles, read_run
from keisei_ray.report.summary import newest_matches
from tests.helpers.report_runs import evaluation, played_games, write_lines, write_run
from tests.helpers.run_events import record
from tests.helpers.status_runs import append


def content(run: Run) -> dict[str, Any]:
    columns = {**run.metrics, **{f"diagnostics {k}": v for k, v in run.diagnostics.items()}}
    return {
        "columns": {name: values.tolist() for name, values in columns.items() if name != "amp"},
        "games": (run.games.num_games, run.games.by_reason(), run.games.longest),
        "events": run.events,
        "matches": run.evaluations,
        "damaged": dict(run.damaged),
    }


def assert_same(read: Run, run_dir: Path) -> None:
    np.testing.assert_equal(content(read), content(read_run(run_dir)))


def test_what_has_been_added_is_read_as_if_all_were_read_at_once(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", updates=3, games=2)
    files = RunFiles(run_dir)
    before = files.read()
    assert before.timesteps == 3000
    append(run_dir / "metrics.jsonl", record(4), record(5), record(5))
    append(run_dir / "games.jsonl", *played_games(3))
    append(run_dir / "events.jsonl", {"time": "2026-01-01T00:00:09+00:00", "kind": "notice"})
    append(run_dir / "evaluations.jsonl", evaluation(4000, "random", 0.6), {"not": "a match"})
    after = files.read()
    assert (after.timesteps, after.games.num_games, len(after.evaluations)) == (5000, 5, 1)
    assert after.damaged == {"metrics.jsonl": 1, "evaluations.jsonl": 1}
    assert_same(after, run_dir)
    assert before.metrics["timestep"].tolist() == [1000, 2000, 3000]


def test_of_the_matches_of_one_checkpoint_that_with_the_most_games_counts(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", updates=9)
    small = evaluation(9000, "greedy", 1.0) | {"games": 4, "wins": 4, "losses": 0}
    append(run_dir / "matches.jsonl", evaluation(9000, "greedy", 0.6), small)
    (newest,) = newest_matches(read_run(run_dir))
    assert newest.match.games == 100


def test_a_line_that_is_half_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", updates=2)
    files = RunFiles(run_dir)
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"timestep": 3000')
        file.flush()
        assert files.read().timesteps == 2000
        file.write(', "entropy": 2.5}\n')
    read = files.read()
    assert read.metrics["entropy"][-1] == 2.5
    assert not read.damaged


def test_a_resume_sets_aside_what_lies_beyond_its_checkpoint(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", updates=9)
    files = RunFiles(run_dir)
    files.read()
    lines = (run_dir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run_dir / "metrics.jsonl").write_text("".join(lines[:4]))
    assert files.read().timesteps == 4000
    append(run_dir / "metrics.jsonl", *(record(i, entropy=0.5) for i in range(5, 20)))
    append(run_dir / "events.jsonl", {"kind": "run_started", "resumed_from": "x", "timestep": 4000})
    read = files.read()
    assert read.metrics["entropy"][4:].tolist() == [0.5] * 15
    assert_same(read, run_dir)


def test_a_resume_is_noticed_even_if_its_files_have_outgrown_the_former_ones(
    tmp_path: Path,
) -> None:
    run_dir = write_run(tmp_path / "run", updates=9)
    files = RunFiles(run_dir)
    files.read()
    lines = (run_dir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run_dir / "metrics.jsonl").write_text("".join(lines[:4]))
    append(run_dir / "metrics.jsonl", *(record(i, entropy=0.5) for i in range(5, 20)))
    append(run_dir / "events.jsonl", {"kind": "run_started", "resumed_from": "x", "timestep": 4000})
    read = files.read()
    assert read.metrics["entropy"][4:].tolist() == [0.5] * 15
    assert_same(read, run_dir)


def test_matches_that_commands_have_played_are_shown_with_those_of_the_evaluation(
    tmp_path: Path,
) -> None:
    run_dir = write_run(tmp_path / "run", updates=1)
    write_lines(run_dir / "evaluations.jsonl", [evaluation(2000, "random", 0.75)])
    write_lines(run_dir / "matches.jsonl", [evaluation(1000, "greedy", 0.25), {"a": 1}])
    run = read_run(run_dir)
    assert [match.opponent for match in run.evaluations] == ["greedy", "random"]
    assert run.damaged["matches.jsonl"] == 1
