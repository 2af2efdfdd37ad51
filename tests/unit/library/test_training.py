"""The settings with which the library trains; `tests/ray/test_library.py` has a real run."""

import io
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

import keisei_ray
from keisei_ray.config.schema import Config
from keisei_ray.errors import ConfigError
from keisei_ray.library import training
from keisei_ray.storage import run_lock
from keisei_ray.training.session import Outcome
from tests.helpers.killed_writers import being_saved
from tests.helpers.saved_runs import save_untrained


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """The settings of runs that were asked for; none begins."""
    asked: list[Config] = []

    def run_session(config: Config, console: Console) -> Outcome:
        asked.append(config)
        return Outcome("done", 0, Path("runs/x"), None)

    monkeypatch.setattr(training, "run_session", run_session)
    return asked


def test_settings_come_as_a_mapping_a_file_or_a_config(
    trained: list[Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEISEI_RUN__SEED", "5")
    (tmp_path / "a.yaml").write_text("run: {seed: 3, total_timesteps: 77}")
    ways: list[Any] = [
        {"run": {"seed": 3, "total_timesteps": 77}},
        {"run.total_timesteps": 77},
        tmp_path / "a.yaml",
        Config.model_validate({"run": {"total_timesteps": 77}}),
    ]
    for way in ways:
        assert keisei_ray.train(way).reason == "done"
    assert [config.run.seed for config in trained] == [3, 5, 5, 1]
    assert {config.run.total_timesteps for config in trained} == {77}


def test_an_unknown_setting_is_refused(trained: list[Config]) -> None:
    with pytest.raises(ConfigError, match=r"config: unknown key 'run\.sed'.*seed"):
        keisei_ray.train({"run": {"sed": 3}})
    assert trained == []


def test_a_mapping_that_resumes_starts_from_the_saved_settings(
    trained: list[Config], tmp_path: Path
) -> None:
    path = save_untrained(tmp_path, timestep=8)
    (tmp_path / "config.json").write_text('{"model": {"depth": 1, "width": 16}}')
    for resume in ("latest", str(path)):
        settings = {"run.resume": resume, "run.run_dir": str(tmp_path), "run.total_timesteps": 9}
        keisei_ray.train(settings)
    assert [config.model.width for config in trained] == [16, 16]
    assert [config.run.total_timesteps for config in trained] == [9, 9]


def test_a_mapping_that_resumes_waits_until_a_killed_run_is_saved(
    trained: list[Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    with being_saved(tmp_path) as end_saving:

        def sleep(seconds: float) -> None:
            save_untrained(tmp_path, timestep=8)
            (tmp_path / "config.json").write_text('{"model": {"depth": 1, "width": 16}}')
            end_saving()

        clock = SimpleNamespace(monotonic=time.monotonic, sleep=sleep)
        monkeypatch.setattr(run_lock, "time", clock)
        settings = {"run.resume": "latest", "run.run_dir": str(tmp_path)}
        keisei_ray.train(settings, console=Console(file=shown))
    assert [config.model.width for config in trained] == [16]
    assert "waiting until what its process had learned is saved" in shown.getvalue()
