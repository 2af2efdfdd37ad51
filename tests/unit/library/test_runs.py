"""The records of a run as the library's tables."""

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

import keisei_ray
from keisei_ray.errors import ConfigError, RunDirError
from keisei_ray.storage.checkpoint import save
from keisei_ray.telemetry.metrics import METRIC_NAMES
from tests.helpers.report_runs import evaluation, rating, write_lines, write_run


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_run(tmp_path_factory.mktemp("runs") / "first", updates=4, games=5)
    matches = [evaluation(2000, "random", 0.75), evaluation(4000, "random", 0.85)]
    write_lines(path / "evaluations.jsonl", matches)
    players = [rating("random", 0.0, None), rating("v4", 300.0, 4000)]
    (path / "ratings.json").write_text(json.dumps({"players": players}))
    return path


def test_every_table_has_the_records_of_its_file(run_dir: Path) -> None:
    run = keisei_ray.read_run(run_dir)
    assert list(run.metrics.columns) == list(METRIC_NAMES)
    assert list(run.metrics) == lines(run_dir / "metrics.jsonl")
    assert run.metrics["timestep"] == [1000, 2000, 3000, 4000]
    written = lines(run_dir / "games.jsonl")
    assert [{name: game[name] for name in written[0]} for game in run.games] == written
    assert list(run.evaluations) == lines(run_dir / "evaluations.jsonl")
    assert run.ratings["name"] == ["random", "v4"]
    assert run.ratings["timestep"] == [None, 4000]
    assert run.config["run"]["seed"] == 1
    assert run.damaged == {}


def test_damaged_lines_and_one_being_written_are_left_out(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((run_dir / "config.json").read_text())
    for name in ("metrics.jsonl", "games.jsonl"):
        first, second, *_ = (run_dir / name).read_text().splitlines(keepends=True)
        (tmp_path / name).write_text(f"{first}nonsense\n{{}}\n{second}{second[:40]}")
    with (tmp_path / "metrics.jsonl").open("r+") as file:  # An update that is not a new one.
        rest = file.read()
        file.seek(0)
        file.write(rest.splitlines(keepends=True)[0] + rest)
    (tmp_path / "ratings.json").write_text("[]")
    run = keisei_ray.read_run(str(tmp_path))
    assert [len(run.metrics), len(run.games)] == [2, 2]
    assert run.damaged == {"metrics.jsonl": 3, "games.jsonl": 2, "ratings.json": 1}
    assert (len(run.evaluations), len(run.ratings)) == (0, 0)
    assert run.evaluations["score"] == run.ratings["elo"] == []


def test_a_run_at_a_uri_is_read(run_dir: Path) -> None:
    run = keisei_ray.read_run(f"file://{run_dir}")
    assert len(run.metrics) == 4
    assert run.run_dir == f"file://{run_dir}"


def test_a_directory_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match=r"has no config\.json, expected the directory of a run"):
        keisei_ray.read_run(tmp_path)


def test_a_table_becomes_a_data_frame(run_dir: Path) -> None:
    pytest.importorskip("pandas")
    frame = keisei_ray.read_run(run_dir).metrics.to_pandas()
    assert frame["timestep"].tolist() == [1000, 2000, 3000, 4000]
    assert list(frame.columns) == list(METRIC_NAMES)


def test_without_pandas_the_error_says_so(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_pandas(name: str, *rest: Any, **named: Any) -> Any:
        if name == "pandas":
            raise ImportError("No module named 'pandas'")
        return real(name, *rest, **named)

    run = keisei_ray.read_run(run_dir)
    monkeypatch.setattr(builtins, "__import__", without_pandas)
    with pytest.raises(ConfigError, match=r"needs the package pandas, .* pip install pandas"):
        run.metrics.to_pandas()


def test_a_checkpoint_of_a_run_is_refused_though_it_has_settings(tmp_path: Path) -> None:
    saved = save(tmp_path, 7, {"config.json": b"{}"}, {})
    for place in (saved, f"file://{saved}"):
        with pytest.raises(RunDirError, match="is a checkpoint, expected the directory of a run"):
            keisei_ray.read_run(place)
