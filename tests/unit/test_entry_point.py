"""The first moment of the program: an interrupt while it loads, closed standard streams."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from keisei_ray import cli
from keisei_ray.__main__ import entry_point, usi_entry_point
from keisei_ray.config.schema import Config
from tests.helpers.program import ROOT, environment, one_line

INTERRUPTED_IMPORT = """
import os, signal, sys
MODULE = sys.argv.pop(1)
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == MODULE:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from keisei_ray.__main__ import entry_point
entry_point()
"""
"""Presses Ctrl-C at the moment at which a module is imported."""


def test_the_program_for_guis_is_the_command_usi(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["keisei-ray-usi", "--option", "Simulations"])
    with pytest.raises(SystemExit) as ended:
        usi_entry_point()
    assert ended.value.code == 2
    assert one_line(capsys.readouterr().err) == (
        "ConfigError: --option 'Simulations': expected NAME=VALUE."
    )


@pytest.mark.parametrize("module", ["keisei_ray.cli", "rich.console", "pydantic", "yaml"])
def test_an_interrupt_while_the_program_loads_is_one_word_and_exit_130(
    module: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT, module, "config"],
        cwd=tmp_path, env=environment(PYTHONPATH=str(ROOT)), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def shell(command: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sh", "-c", f"exec {sys.executable} {ROOT / 'run.py'} {command}"],
        cwd=cwd, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_an_error_is_on_standard_output_where_standard_error_is_closed(tmp_path: Path) -> None:
    done = shell("config --set learner.gamma=high 2>&-", tmp_path)
    assert done.returncode == 2
    assert "learner.gamma" in one_line(done.stdout)


def test_an_error_has_its_exit_code_where_standard_error_cannot_be_written(tmp_path: Path) -> None:
    assert shell("config --set learner.gamma=high 2>/dev/full", tmp_path).returncode == 2


def test_an_error_has_its_exit_code_where_its_reader_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        assert cli.main(["config", "--set", "learner.gamma=high"]) == 2


CLOSED = """
import os, sys
reading, writing = os.pipe()
os.close(reading)
os.dup2(writing, 1)
from keisei_ray.__main__ import entry_point
entry_point()
"""
"""Runs the program with a standard output that nobody reads any more."""


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--json", "seen.json"]])
def test_a_reader_that_has_left_ends_a_command_well_but_not_before_its_file_is_written(
    flags: list[str], tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.log").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", CLOSED, "status", "run", *flags],
        cwd=tmp_path, env=environment(PYTHONPATH=str(ROOT)), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "seen.json").exists() == bool(flags)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["config", "config --describe learner"])
def test_an_output_that_cannot_be_written_is_one_line(command: str, tmp_path: Path) -> None:
    done = shell(f"{command} >/dev/full", tmp_path)
    assert done.returncode == 2
    assert one_line(done.stderr) == (
        "OutputError: standard output cannot be written: No space left on device."
    )
    assert shell(f"{command} >&-", tmp_path).returncode == 0


@pytest.mark.slow
def test_a_name_that_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    run = tmp_path / "\u5c06\u68cb"
    run.mkdir()
    (run / "run.log").write_text("")
    for named in (run, tmp_path / "\u6b69"):
        done = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), "status", str(named)],
            env=environment(PYTHONIOENCODING="ascii"), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ascii(named.name)[1:-1] in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert done.returncode == (0 if named is run else 2)


def test_a_terminal_is_told_at_once_what_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cli._say_what_is_started(Config())
    assert capsys.readouterr().out == ""  # Lines for a program stay as they are.
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    cli._say_what_is_started(Config())
    joined = Config.model_validate({"cluster": {"address": "192.0.2.1:6379"}})
    cli._say_what_is_started(joined)
    here, there = capsys.readouterr().out.splitlines()
    assert here.startswith("Keisei Ray: starting Ray on this machine, a learner and 2 self-play")
    assert "from the Ray cluster at 192.0.2.1:6379" in there


def test_sigterm_while_ray_starts_is_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def exit_as_rays_handler_does(options: object) -> int:
        sys.exit(signal.SIGTERM)

    monkeypatch.setitem(cli._COMMANDS, "config", exit_as_rays_handler_does)
    assert cli.main(["config"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_command_runs_with_all_standard_streams_closed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.log").write_text("")
    done = shell("status run --json status.json 0<&- 1>&- 2>&-", tmp_path)
    assert done.returncode == 0
    assert '"state": ' in (tmp_path / "status.json").read_text()


def test_numpy_computes_with_one_thread_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(cli, "main", lambda _: seen.append(os.environ["OPENBLAS_NUM_THREADS"]))
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    with pytest.raises(SystemExit):
        entry_point()
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    with pytest.raises(SystemExit):
        entry_point()
    assert seen == ["1", "4"]


def test_a_pipe_that_breaks_in_training_is_not_taken_for_a_reader_that_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise a run that failed, or was interrupted, would end with exit code 0."""

    def break_pipe(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("keisei_ray.training.session.train", break_pipe)
    assert cli.main(["train"]) == 1
    assert "a pipe of the training itself broke" in capsys.readouterr().err


def test_a_reader_that_has_left_does_not_change_the_exit_code_of_a_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What Python holds is written when the command is over."""
    reader, writer = os.pipe()
    os.close(reader)

    def interrupted(_: object) -> int:
        sys.stdout.write("left over")
        return 130

    monkeypatch.setitem(vars(cli)["_COMMANDS"], "status", interrupted)
    with open(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert cli.main(["status"]) == 130


def test_a_python_without_the_packages_is_named_with_the_remedy() -> None:
    done = subprocess.run(
        [sys.executable, "-S", ROOT / "run.py", "status"],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    message = one_line(done.stderr)
    assert message.startswith(f"InstallationError: this Python ({sys.executable}) has no package ")
    assert message.endswith(f"{sys.executable} -m pip install -c constraints.txt -e .")
