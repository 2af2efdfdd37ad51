"""The command `tune`: what it refuses, and that nothing is left behind then."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from keisei_ray.errors import UserError
from keisei_ray.tune.command import (
    TuneOptions,
    _new,
    _prepared,
    best_command,
    resume_command,
    run,
)
from keisei_ray.tune.sweep_file import load_sweep_file
from tests.helpers.saved_runs import save_untrained
from tests.helpers.sweeps import SMALL

ROOT = Path(__file__).parents[3]


def options(**given: Any) -> TuneOptions:
    values: dict[str, Any] = {
        "config": None, "overrides": [], "run_dir": None, "is_resumed": False, "address": None,
        "json": None,
    }  # fmt: skip
    return TuneOptions(**(values | given))


def test_a_sweep_that_cannot_begin_or_resume_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    taken, saved = tmp_path / "taken", tmp_path / "saved"
    taken.mkdir()
    (taken / "something").touch()
    saved.mkdir()
    (saved / "sweep.json").write_text(load_sweep_file(str(path), {}, [], {}).to_json())
    refused = [
        (options(), "--config FILE"),
        (options(config=str(path), run_dir=str(taken)), "taken is not empty"),
        (options(config=str(path), run_dir=str(path)), r"some\.yaml cannot be written: Not a dir"),
        (options(is_resumed=True, run_dir=str(taken)), r"no sweep to resume: sweep\.json"),
        (options(is_resumed=True, run_dir=str(saved)), "nothing to resume"),
        (options(is_resumed=True, run_dir=str(saved), overrides=["run.seed=2"]), "leave --set out"),
        (options(is_resumed=True, run_dir=str(saved), config=str(path), overrides=["run.seed=2"]),
         "is not the sweep in"),
    ]  # fmt: skip
    before = sorted(tmp_path.rglob("*"))
    for given, message in refused:
        with pytest.raises(UserError, match=message):
            run(given, {}, Console(quiet=True))
    assert sorted(tmp_path.rglob("*")) == before


def test_all_trials_begin_with_the_network_that_is_newest_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = save_untrained(tmp_path / "runs" / "first", timestep=7)
    (tmp_path / "runs" / "first" / "config.json").write_text("{}")
    path = tmp_path / "some.yaml"
    path.write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    given = options(config=str(path), overrides=["run.init_from=latest"])
    assert _new(given, {})[0].base.run.init_from == str(first)


def test_a_sweep_that_is_going_on_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    sweep = load_sweep_file(str(path), {}, [], {})
    with _prepared(tmp_path / "new", sweep, Console(quiet=True), is_resumed=False):
        before = (tmp_path / "new" / "sweep.json").stat()
        with (
            pytest.raises(UserError, match=f"going on there, of process {os.getpid()} on"),
            _prepared(tmp_path / "new", sweep, Console(quiet=True), is_resumed=True),
        ):
            pass
        assert (tmp_path / "new" / "sweep.json").stat() == before
    with _prepared(tmp_path / "new", sweep, Console(quiet=True), is_resumed=True):
        pass


@pytest.mark.slow
@pytest.mark.parametrize(("missing", "named"), [("ray.tune", "Ray Tune"), ("optuna", "optuna")])
def test_a_missing_extra_is_one_line_and_exit_2(missing: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(yaml.safe_dump(SMALL | {"search": {"method": "optuna"}}), encoding="utf-8")
    program = (
        f"import sys; sys.modules['{missing}'] = None; from keisei_ray.cli import main; "
        f"sys.exit(main(['tune', '--config', '{path}', '--run-dir', '{tmp_path / 'sweep'}']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("ConfigError: ")
    assert named in line
    assert "pip install -e '.[tune]'" in line
    assert not (tmp_path / "sweep").exists()


def test_the_commands_that_are_shown_can_be_pasted_into_a_shell() -> None:
    sweep_dir = Path("runs") / "my sweep"
    best = shlex.split(best_command(sweep_dir))
    assert best == ["python", "run.py", "--config", "runs/my sweep/best.yaml"]
    assert shlex.split(resume_command(sweep_dir))[-2:] == ["--run-dir", "runs/my sweep"]
