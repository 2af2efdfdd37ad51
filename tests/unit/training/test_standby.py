"""The standby process saves the run of a driver that was killed, and nothing else.

Drivers are processes of their own; the standby process is the real one.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import keisei_ray
from keisei_ray.config.schema import Config
from keisei_ray.config.sections import CheckpointConfig
from keisei_ray.storage import checkpoint
from keisei_ray.storage.run_lock import Owner, RunLock, run_lock
from keisei_ray.telemetry.progress import Progress
from keisei_ray.training import standby as module
from keisei_ray.training.saved_run import RunState, pack_state, state_of, unpack_state
from keisei_ray.training.standby import Standby
from tests.helpers.program import json_records
from tests.helpers.waiting import wait_until

DRIVER = """
import os, signal, sys
from pathlib import Path
from keisei_ray.config.sections import CheckpointConfig
from keisei_ray.storage.run_lock import run_lock
from keisei_ray.training.standby import Standby
from tests.unit.training.test_standby import hand_over, state_at

run_dir, end = Path(sys.argv[1]), sys.argv[2]
with run_lock(run_dir) as lock:
    standby = Standby(
        run_dir, CheckpointConfig(), lock, name=str(run_dir),
        resumed_timestep=0, flush=lambda timeout_s: True, say=print,
    )
    for timestep in (256, 512):
        standby._not_before = 0.0
        hand_over(standby, state_at(timestep))
    pid = standby._process.pid
    if end == "in order":
        standby.close()
    print(pid, flush=True)
    sys.stdin.readline()
    if end == "forked and killed" and os.fork() == 0:
        print(os.getpid(), flush=True)
        signal.pause()
    if end in ("killed", "forked and killed"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def state_at(timestep: int) -> RunState:
    progress = Progress()
    progress.timestep, progress.wall_time_s = timestep, 3.5
    return state_of(Config(), progress, {}, "d", {}, None)


def hand_over(standby: Standby, state: RunState) -> None:
    """Offers a state and waits until it is handed over, or was not to be."""
    standby.offer(state.timestep, lambda: state)
    if standby._thread is not None:
        standby._thread.join(60)


class Driver:
    """A process that trains a run in a directory and has handed its newest state over."""

    def __init__(self, run_dir: Path, end: str, path: Sequence[str] = sys.path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(run_dir), end],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=run_dir.parent,  # Python looks for packages there first.
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.standby_pid = int(line)

    def end(self) -> str:
        """Lets it end as it was told to; returns what it and its standby process have said."""
        return self.process.communicate("\n", timeout=60)[1]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run's directory whose only record is that it began."""
    path = tmp_path / "run"
    path.mkdir()
    began = {"time": "2026-01-01T00:00:00.000+00:00", "kind": "run_started"}
    (path / "events.jsonl").write_text(json.dumps(began) + "\n" + '{"half')
    return path


@pytest.mark.slow
def test_the_newest_state_of_a_killed_driver_is_saved_and_its_end_recorded(run_dir: Path) -> None:
    driver = Driver(run_dir, "killed")
    said = driver.end()
    saved = checkpoint.load(run_dir / "checkpoints" / "step-000000000512")
    assert saved.files == state_at(512).files
    assert saved.info == state_at(512).info
    began, ended = json_records(run_dir / "events.jsonl")
    assert began["kind"] == "run_started"
    pid = driver.process.pid
    told = (
        f"The training process ({pid}) has ended without a word: killed, out of memory, or by Ray "
        "after the end of its raylet"
    )
    saved_told = (
        f"{told}. What it learned up to timestep 512 is saved. Go on with --run-dir {run_dir} "
        "--resume latest."
    )
    assert (ended["kind"], ended["reason"], ended["cause"]) == ("run_ended", "failed", saved_told)
    assert (ended["timestep"], ended["wall_time_s"]) == (512, 3.5)
    assert ended["checkpoint"] == str(saved.path)
    assert said == f"{saved_told}\n"


@pytest.mark.slow
def test_nothing_is_saved_where_the_driver_ends_in_order(run_dir: Path) -> None:
    driver = Driver(run_dir, "in order")
    assert not Path(f"/proc/{driver.standby_pid}").exists()
    assert driver.end() == ""
    assert not (run_dir / "checkpoints").exists()


@pytest.mark.slow
def test_a_run_whose_end_is_on_record_is_left_as_it_is(run_dir: Path) -> None:
    driver = Driver(run_dir, "killed")
    (run_dir / "events.jsonl").write_text('{"kind": "run_ended"}\n')
    assert driver.end() == ""
    assert not (run_dir / "checkpoints").exists()


@pytest.mark.slow
def test_a_run_that_another_process_has_taken_over_is_left_as_it_is(run_dir: Path) -> None:
    driver = Driver(run_dir, "killed")
    other = Owner("other", "elsewhere", 1, "token", 0)
    (run_dir / ".lock").write_bytes(other.record(0))
    assert driver.end() == ""
    assert not (run_dir / "checkpoints").exists()


@pytest.mark.slow
def test_a_newer_checkpoint_is_not_replaced(run_dir: Path) -> None:
    driver = Driver(run_dir, "killed")
    newer = state_at(768)
    checkpoint.save(run_dir / "checkpoints", 768, newer.files, newer.info)
    said = driver.end()
    assert "up to timestep 768 is saved" in said
    assert [path.name for path in checkpoint.list_all(run_dir / "checkpoints")] == [
        "step-000000000768"
    ]
    assert json_records(run_dir / "events.jsonl")[-1]["timestep"] == 768


@pytest.mark.slow
def test_a_directory_that_has_moved_is_found(run_dir: Path) -> None:
    driver = Driver(run_dir, "killed")
    moved = run_dir.rename(run_dir.with_name("moved"))
    assert f"--run-dir {moved} --resume latest" in driver.end()
    assert (moved / "checkpoints" / "step-000000000512").exists()


@pytest.mark.slow
def test_a_process_that_the_driver_has_forked_holds_nothing_up(run_dir: Path) -> None:
    driver = Driver(run_dir, "forked and killed")
    assert driver.process.stdin is not None
    assert driver.process.stdout is not None
    driver.process.stdin.write("\n")
    driver.process.stdin.flush()
    forked_pid = int(driver.process.stdout.readline())
    try:
        wait_until(lambda: not Path(f"/proc/{driver.standby_pid}").exists(), 60)
        assert (run_dir / "checkpoints" / "step-000000000512").exists()
    finally:
        os.kill(forked_pid, signal.SIGKILL)
        driver.process.communicate()


@pytest.mark.slow
def test_no_signal_of_a_terminal_ends_or_halts_it(run_dir: Path) -> None:
    driver = Driver(run_dir, "killed")
    status = Path(f"/proc/{driver.standby_pid}/status").read_text()
    (ignored,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigIgn"))
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTTOU):
        assert int(ignored, 16) >> (signum - 1) & 1, signum
    driver.process.kill()
    driver.process.communicate()


@pytest.mark.slow
def test_what_cannot_be_saved_is_said(run_dir: Path) -> None:
    driver = Driver(run_dir, "killed")
    (run_dir / "checkpoints").write_bytes(b"")
    said = driver.end()
    assert "What it learned since its newest checkpoint could not be saved: cannot" in said
    assert len(said.splitlines()) == 1
    ended = json_records(run_dir / "events.jsonl")[-1]
    assert (ended["kind"], ended["cause"], ended["checkpoint"]) == ("run_ended", said[:-1], None)


@pytest.mark.slow
def test_a_program_that_was_changed_under_the_run_costs_the_state_with_one_line(
    run_dir: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(Path(keisei_ray.__file__).parent, changed / "keisei_ray")
    driver = Driver(run_dir, "killed", path=[str(changed), *sys.path])
    (changed / "keisei_ray" / "training" / "saved_run.py").write_text("")
    said = driver.end()
    assert "could not be saved: ImportError: cannot import name" in said
    assert len(said.splitlines()) == 1


@pytest.mark.slow
def test_an_error_stream_that_nobody_reads_holds_nothing_up(run_dir: Path) -> None:
    driver = Driver(run_dir, "killed")
    assert driver.process.stderr is not None
    fcntl.fcntl(driver.process.stderr, fcntl.F_SETPIPE_SZ, 4096)
    writer = os.open(f"/proc/{driver.process.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, b"x" * 4096)
    assert driver.process.stdin is not None
    driver.process.stdin.write("\n")
    driver.process.stdin.flush()
    wait_until(lambda: not Path(f"/proc/{driver.standby_pid}").exists(), 60)
    assert (run_dir / "checkpoints" / "step-000000000512").exists()
    os.close(writer)
    driver.process.communicate()


@pytest.mark.slow
def test_a_resume_waits_until_the_killed_run_is_saved(run_dir: Path) -> None:
    driver = Driver(run_dir, "killed")
    os.kill(driver.standby_pid, signal.SIGSTOP)
    assert driver.process.stdin is not None
    driver.process.stdin.write("\n")
    driver.process.stdin.flush()
    driver.process.wait(60)
    said: list[str] = []

    def told(text: str) -> None:
        said.append(text)
        os.kill(driver.standby_pid, signal.SIGCONT)

    with run_lock(run_dir, say=told):
        assert (run_dir / "checkpoints" / "step-000000000512").exists()
    assert said == [f"{run_dir}: waiting until what its process had learned is saved"]
    driver.process.communicate()


# ---- the driver's side ----


class Flushed:
    """Records that are written, or not."""

    def __init__(self) -> None:
        self.are_written = True

    def __call__(self, timeout_s: float) -> bool:
        return self.are_written


class Offering(Standby):
    """A standby that takes all that is offered, at any pace, and remembers its warnings."""

    def __init__(self, run_dir: Path, lock: RunLock) -> None:
        self.records, self.warnings, self.now = Flushed(), [], 0.0
        super().__init__(
            run_dir,
            CheckpointConfig(),
            lock,
            name=str(run_dir),
            resumed_timestep=256,
            flush=self.records,
            say=self.warnings.append,
            clock=lambda: self.now,
        )

    warnings: list[str]

    def handed_over(self, timestep: int) -> bool:
        """Offers a state; returns whether it is handed over."""
        self.now += 1000.0
        hand_over(self, state_at(timestep))
        return self._handed_over == timestep

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid


@pytest.fixture
def offering(run_dir: Path) -> Iterator[Offering]:
    with run_lock(run_dir) as lock:
        standby = Offering(run_dir, lock)
        with contextlib.closing(standby):
            yield standby


def test_a_program_may_change_its_directory(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run_dir.parent)
    with run_lock(Path("run")) as lock:
        standby = Offering(Path("run"), lock)
        monkeypatch.chdir(run_dir)
        with contextlib.closing(standby):
            assert standby.handed_over(512)


def test_no_process_is_started_before_something_was_learned(offering: Offering) -> None:
    hand_over(offering, state_at(256))
    assert offering._process is None


def test_a_state_waits_for_the_records_of_its_plies(offering: Offering) -> None:
    offering.records.are_written = False
    assert not offering.handed_over(512)
    offering.records.are_written = True
    assert offering.handed_over(512)
    assert offering.warnings == []


def test_a_killed_process_is_replaced_at_once_with_one_warning(offering: Offering) -> None:
    assert offering.handed_over(512)
    for timestep in (768, 1024):
        before = offering.pid
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: not offering.is_alive, 10)
        assert offering.handed_over(timestep)
        assert offering.pid != before
    (warning,) = offering.warnings
    assert "Another is started" in warning


def test_a_process_that_is_replaced_does_not_take_its_driver_for_dead(
    offering: Offering, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver may be slow between closing and killing."""
    assert offering.handed_over(512)

    def kill_late(process: subprocess.Popen[bytes], signum: int) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(3)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)

    monkeypatch.setattr(subprocess.Popen, "send_signal", kill_late)
    offering._end_process(0.0)
    assert not (run_dir / "checkpoints").exists()


def test_the_process_holds_the_lock_file_that_was_made_again(
    offering: Offering, run_dir: Path
) -> None:
    assert offering.handed_over(512)
    (run_dir / ".lock").unlink()
    assert offering._lock.beat(1)
    assert offering.handed_over(768)
    held = [os.stat(path) for path in Path(f"/proc/{offering.pid}/fd").iterdir()]
    assert any(os.path.samestat(file, (run_dir / ".lock").stat()) for file in held)
    assert offering.warnings == []


def test_a_process_that_does_not_answer_is_ended_and_replaced(
    offering: Offering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 1.0)
    assert offering.handed_over(512)
    halted = offering.pid
    os.kill(halted, signal.SIGSTOP)
    assert offering.handed_over(768)
    assert not Path(f"/proc/{halted}").exists()


def test_a_process_that_cannot_be_started_is_warned_of_once(
    offering: Offering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    for _ in range(2):
        assert not offering.handed_over(512)
    (warning,) = offering.warnings
    assert "No such file or directory" in warning


def test_a_hand_over_that_is_late_starts_no_process_after_the_end(
    offering: Offering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_S", 0.1)
    is_written = threading.Event()
    monkeypatch.setattr(offering, "_flush", is_written.wait)
    offering.offer(512, lambda: state_at(512))
    offering.close()
    is_written.set()
    assert offering._thread is not None
    offering._thread.join(60)
    assert offering._process is None


def test_a_process_that_is_ended_with_the_run_is_not_replaced(
    offering: Offering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_S", 0.1)
    assert offering.handed_over(512)
    os.kill(offering.pid, signal.SIGSTOP)
    offering.now += 1000.0
    offering.offer(768, lambda: state_at(768))
    offering.close()
    assert offering._thread is not None
    offering._thread.join(60)
    assert offering._process is None
    assert offering.warnings == []


@pytest.mark.parametrize("error", [MemoryError(), ValueError("bytes object is too large")])
def test_a_state_for_which_there_is_no_memory_is_warned_of_once(
    offering: Offering, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(state: RunState) -> bytes:
        raise error

    monkeypatch.setattr(module, "pack_state", refuse)
    for timestep in (512, 768):
        assert not offering.handed_over(timestep)
        assert offering._not_before > offering.now
    (warning,) = offering.warnings
    assert warning.endswith(str(error) or "out of memory")


def test_a_program_may_have_put_a_path_object_among_its_import_paths(
    offering: Offering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, Path("/mine")])
    assert offering.handed_over(512)


def test_the_process_imports_in_the_order_of_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    here = str(Path(keisei_ray.__file__).parent.parent)
    monkeypatch.setattr(sys, "path", ["/standard", here])
    assert module._import_path() == ["/standard", here]
    monkeypatch.setattr(sys, "path", ["/standard"])
    assert module._import_path() == [here, "/standard"]


def test_a_process_that_never_answers_is_started_less_and_less_often(
    offering: Offering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    pauses = []
    for _ in range(9):
        assert not offering.handed_over(512)
        pauses.append((offering._not_before - offering.now) / module.RETRY_S)
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 64, 64]


def test_handing_over_takes_a_small_share_of_a_core(
    offering: Offering, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert offering.handed_over(512)
    monkeypatch.setattr(time, "thread_time", lambda: 0.01)
    assert offering.handed_over(768)
    pause_s = 0.01 / module.MAX_SHARE
    offering.now += pause_s * 0.9
    hand_over(offering, state_at(1024))
    assert offering._handed_over == 768
    offering.now += pause_s * 0.2
    hand_over(offering, state_at(1024))
    assert offering._handed_over == 1024


def test_a_packed_state_is_the_same_state() -> None:
    state = RunState(7, {"a": b"\0\xff", "b": b""}, {"x": 1.5, "y": None}, frozenset({3, 1}))
    assert unpack_state(pack_state(state)) == state
