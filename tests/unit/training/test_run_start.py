"""Where a run started inside a Ray job may lie. No Ray is started."""

import dataclasses
from pathlib import Path

import pytest

from keisei_ray.config.schema import Config
from keisei_ray.errors import RunDirError
from keisei_ray.storage import run_dirs
from keisei_ray.storage.run_dirs import RAY_JOB, RUNS_DIR
from keisei_ray.training.run_start import choose_run_dir
from keisei_ray.tune.command import TuneOptions
from keisei_ray.tune.command import _new as sweep_place


@pytest.fixture
def job_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory is one that came with a job."""
    path = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_0"
    path.mkdir(parents=True)
    monkeypatch.chdir(path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(RAY_JOB, "{}")
    return path


def with_run_dir(run_dir: str | None) -> Config:
    return Config.model_validate({"run": {"run_dir": run_dir}})


def test_a_run_in_a_jobs_working_directory_is_refused(job_dir: Path, tmp_path: Path) -> None:
    for run_dir in ("runs/x", str(job_dir / "x")):
        with pytest.raises(RunDirError, match=f"run.run_dir = {run_dir} lies in the job's working"):
            choose_run_dir(with_run_dir(run_dir))
    assert choose_run_dir(with_run_dir(str(tmp_path / "x"))) == tmp_path / "x"


def test_a_job_that_names_no_run_directory_gets_one_in_the_home(
    job_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose_run_dir(with_run_dir(None)).parent == tmp_path / "home" / RUNS_DIR
    (tmp_path / "home" / RUNS_DIR / "a").mkdir(parents=True)
    (tmp_path / "home" / RUNS_DIR / "a" / "mark").touch()
    assert run_dirs.newest_run_dir(["mark"]) == tmp_path / "home" / RUNS_DIR / "a"
    monkeypatch.delenv(RAY_JOB)
    assert choose_run_dir(with_run_dir(None)).parent == Path(RUNS_DIR)


def test_a_sweep_in_a_jobs_working_directory_is_refused(job_dir: Path, tmp_path: Path) -> None:
    sweep_file = str(Path(__file__).parents[3] / "configs" / "tune" / "random.yaml")
    given = TuneOptions(sweep_file, [], "runs/x", False, None, None)
    with pytest.raises(RunDirError, match="runs/x lies in the job's working"):
        sweep_place(given, {})
    left_out = dataclasses.replace(given, run_dir=None)
    assert sweep_place(left_out, {})[1].parent == tmp_path / "home" / RUNS_DIR
