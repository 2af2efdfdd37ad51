"""A run of another user is not resumed with the programs that its settings name. No Ray."""

import os
from pathlib import Path
from typing import Any

import pytest

from keisei_ray.cli import main
from keisei_ray.config.schema import Config
from keisei_ray.errors import RunDirError
from keisei_ray.storage import checkpoint
from keisei_ray.telemetry.progress import Progress
from keisei_ray.training.run_start import claimed_start
from keisei_ray.training.trust import foreign_owner
from keisei_ray.tune.command import TuneOptions
from keisei_ray.tune.command import run as tune

PROGRAMS: dict[str, dict[str, Any]] = {
    "pool": {"members": ["greedy", "usi:rm -r x"], "share": 0.5},
    "evaluation": {"opponents": ["random", "usi:evil?nodes=1"]},
    "tracking": {"subscribers": ["evil.module:call", {"log": {"path": "x"}}]},
}


def resumed(run_dir: Path, **sections: dict[str, Any]) -> Config:
    """Returns the settings of a run that is resumed; its files are written."""
    config = Config.model_validate(sections)
    files = {
        "config.json": config.model_dump_json().encode(),
        "progress.json": Progress(timestep=64).to_json().encode(),
    }
    info: dict[str, Any] = {"model": config.model.model_dump_json()}
    checkpoint.save(run_dir / "checkpoints", 64, files, info)
    (run_dir / "config.json").write_bytes(files["config.json"])
    run = config.run.model_copy(update={"run_dir": str(run_dir), "resume": "latest"})
    return config.model_copy(update={"run": run})


def start(config: Config, *, is_trusted: bool = False) -> int | None:
    """Returns the timestep that a run is resumed from; None for a fresh run."""
    with claimed_start(config, is_trusted=is_trusted) as found:
        return found.resumed_timestep


@pytest.fixture
def another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process's user owns none of the files that the test has written."""
    monkeypatch.setattr(os, "geteuid", lambda: 54321)


def test_a_run_of_ones_own_is_resumed(tmp_path: Path) -> None:
    assert start(resumed(tmp_path, **PROGRAMS)) == 64


@pytest.mark.usefixtures("another_user")
def test_the_programs_of_another_users_run_are_listed_and_not_run(tmp_path: Path) -> None:
    config = resumed(tmp_path, **PROGRAMS)
    with pytest.raises(RunDirError, match=r"belongs to user .*Add --trust") as refusal:
        start(config)
    for named in (
        "pool.members: usi:rm -r x",
        "evaluation.opponents: usi:evil?nodes=1",
        "tracking.subscribers: evil.module:call",
        'tracking.subscribers: log {"path": "x"}',
    ):
        assert named in str(refusal.value)
    assert "greedy" not in str(refusal.value)
    assert start(config, is_trusted=True) == 64


@pytest.mark.usefixtures("another_user")
def test_a_run_of_another_user_without_programs_is_resumed(tmp_path: Path) -> None:
    assert start(resumed(tmp_path)) == 64


@pytest.mark.usefixtures("another_user")
def test_a_fresh_run_runs_the_users_own_programs(tmp_path: Path) -> None:
    config = Config.model_validate(PROGRAMS | {"run": {"run_dir": str(tmp_path / "new")}})
    assert start(config) is None


@pytest.mark.parametrize("which", ["config.json", "checkpoints/step-000000000064"])
def test_one_file_of_another_user_is_enough(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = resumed(tmp_path, **PROGRAMS)
    whole = Path.stat

    def stat(path: Path, **options: Any) -> os.stat_result:
        found = whole(path, **options)
        if not path.match(which):
            return found
        return os.stat_result([*found[:4], found.st_uid + 1, *found[5:]])

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(RunDirError, match=f"{which} belongs to user"):
        start(config)


def test_a_uri_is_nobodys_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = resumed(tmp_path / "store" / "run", **PROGRAMS)
    run = config.run.model_copy(update={"run_dir": f"file://{tmp_path}/store/run"})
    config = config.model_copy(update={"run": run})
    with pytest.raises(RunDirError, match=r"store/run may be of any user, .*--trust"):
        start(config)
    assert start(config, is_trusted=True) == 64


@pytest.mark.usefixtures("another_user")
def test_the_refusal_is_one_line_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resumed(tmp_path, **PROGRAMS)
    assert main(["--run-dir", str(tmp_path), "--resume", "latest"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Add --trust" in line


@pytest.mark.usefixtures("another_user")
def test_a_sweep_of_another_user_is_not_unpickled(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{}")
    options = TuneOptions(None, [], str(tmp_path), True, None, None)
    with pytest.raises(RunDirError, match=r"which can run any program.*Add --trust"):
        tune(options, {}, None)  # type: ignore[arg-type]


def test_a_path_that_does_not_exist_belongs_to_nobody(tmp_path: Path) -> None:
    assert foreign_owner([tmp_path / "gone", tmp_path]) is None
