"""The commands `status` and `watch` as a user calls them."""

import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from keisei_ray.cli import main
from keisei_ray.config.schema import Config
from keisei_ray.status.command import find_run, watch
from tests.helpers.report_runs import evaluation, write_run
from tests.helpers.run_events import record
from tests.helpers.status_runs import append, ended_at, event_at


def console(width: int = 100, *, is_terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=width, height=40, force_terminal=is_terminal)


def output(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def waits(*steps: Callable[[], object]) -> Callable[[float], object]:
    """Steps that happen while `watch` waits, one after the other; then Ctrl-C."""
    left = list(steps)

    def wait(_: float) -> object:
        if not left:
            raise KeyboardInterrupt
        return left.pop(0)()

    return wait


def test_watch_shows_a_run_until_it_ends(run_dir: Path) -> None:
    shown = console()
    events = run_dir / "events.jsonl"
    watch(
        run_dir,
        shown,
        waits(
            lambda: append(run_dir / "metrics.jsonl", record(21)),
            lambda: append(events, ended_at(30, "done")),
            lambda: pytest.fail("it waits for a run that has ended"),
        ),
    )
    text = output(shown)
    assert [line.split()[0] for line in text.splitlines() if line.startswith("update=")] == [
        f"update={i}" for i in range(1, 22)
    ]
    (end,) = [line for line in text.splitlines() if "run done at timestep 20000" in line]
    assert "elapsed=0:00:30" in end
    assert "Keisei Ray done" in text


def test_watch_ends_at_ctrl_c_and_has_written_nothing(run_dir: Path) -> None:
    before = {path: path.read_bytes() for path in run_dir.iterdir()}
    shown = console(is_terminal=True)
    watch(run_dir, shown, waits())
    assert "20,000 / 10,000,000" in output(shown)
    assert re.search(r"training\S*  \d+d ", output(shown)), "the run's own time goes on"
    assert {path: path.read_bytes() for path in run_dir.iterdir()} == before


def test_watch_reports_a_silent_run_once(run_dir: Path) -> None:
    shown = console()
    watch(run_dir, shown, waits(lambda: None, lambda: None))
    assert output(shown).count("it may be dead") == 1


def test_watch_reports_a_run_without_updates_and_then_its_silence(run_dir: Path) -> None:
    log, updated_s = run_dir / "run.log", (run_dir / "metrics.jsonl").stat().st_mtime
    log.touch()
    shown = console()
    watch(run_dir, shown, waits(lambda: None, lambda: os.utime(log, (updated_s, updated_s))))
    text = output(shown)
    assert (text.count("no update for"), text.count("it may be dead")) == (1, 1)


def test_a_run_that_is_about_to_begin_can_be_watched(tmp_path: Path) -> None:
    (tmp_path / "run.log").write_text("")
    shown = console()

    def begin() -> None:
        (tmp_path / "config.json").write_text(Config().model_dump_json())
        started = event_at(0, "run_started", run_dir="x", resumed_from=None, cluster={}, timestep=0)
        append(tmp_path / "events.jsonl", started, ended_at(30, "interrupted"))

    watch(tmp_path, shown, waits(begin))
    assert "about to begin" in output(shown)
    assert "Keisei Ray interrupted" in output(shown)


def test_status_as_json_is_one_object_whatever_the_run_does(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(run_dir), "--json", "-"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["state"], status["timestep"]) == ("silent", 20_000)
    append(run_dir / "events.jsonl", ended_at(30, "done"))
    file = run_dir.parent / "status.json"
    assert main(["status", "--run-dir", str(run_dir), "--json", str(file)]) == 0
    assert "finished" in capsys.readouterr().out
    assert json.loads(file.read_text())["state"] == "finished"


def test_without_a_name_the_newest_run_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose cluster is still coming up has nothing but its log."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_run(Path("runs", name), updates=1)
    os.utime("runs/b/config.json", (1, 1))
    assert find_run(None) == Path("runs/a")
    Path("runs/c").mkdir()
    Path("runs/c/run.log").write_text("")
    os.utime("runs/c/run.log", (2e9, 2e9))
    assert find_run(None) == Path("runs/c")


@pytest.mark.parametrize("command", ["status", "watch"])
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "no run under runs/"),
        (["nowhere"], "nowhere is not a directory"),
        (["empty"], "empty has neither"),
        (["file"], "file is not a directory"),
        (["empty", "--run-dir", "empty"], "--run-dir"),
        (["broken"], "config.json is not JSON"),
    ],
)
def test_a_directory_that_is_not_a_run_is_refused_in_one_line(
    command: str,
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("file").write_text("")
    write_run(Path("broken"), updates=1)
    Path("broken/config.json").write_text("{")
    assert main([command, *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line


OBEYED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e]")
"""Whatever a terminal obeys, besides the end of a line."""


@pytest.mark.parametrize("command", ["status", "watch"])
def test_no_control_character_of_a_runs_files_reaches_the_terminal(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The clipboard (OSC 52), the title, a cleared screen, a direction of writing, a surrogate."""
    evil = "\x1b]52;c;aGk=\x07\x1b]0;t\x07\x1b[2J\x9b2J\u202e\ud800 [bold]"
    run_dir = write_run(tmp_path / "run\x1b[2J", updates=2)
    append(
        run_dir / "events.jsonl",
        event_at(1, "notice", message=f"{evil} said", level="WARNING"),
        event_at(2, "actor_lost", actor_id=0, incarnation=0, cause=f"{evil} lost", restarts_left=1),
        ended_at(30, "failed", cause=f"{evil} failed"),
    )
    append(run_dir / "evaluations.jsonl", evaluation(2000, f"usi:{evil}", 0.5))
    assert main([command, str(run_dir)]) == 0
    shown = capsys.readouterr().out
    assert not OBEYED.search(shown)
    for word in ("said", "lost", "failed"):
        assert rf"\x1b]52;c;aGk=\x07\x1b]0;t\x07\x1b[2J\x9b2J\u202e\ud800 [bold] {word}" in shown
    assert r"run\x1b[2J" in shown


def test_an_error_about_a_file_cannot_write_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = write_run(tmp_path / "\x1b[2Jrun:x:", updates=1)
    (run_dir / "config.json").write_text("{")
    assert main(["status", str(run_dir)]) == 2
    shown = capsys.readouterr().err
    assert not OBEYED.search(shown)
    assert r"\x1b[2Jrun:x:" in shown.replace("\n", "")
