"""One writer for a run directory, by processes of their own that are stopped and killed."""

import contextlib
import errno
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from keisei_ray.errors import RunDirError, RunDirLostError, TakenOverError
from keisei_ray.storage import run_lock as module
from keisei_ray.storage.run_lock import Owner, RunLock, run_lock, wait_until_saved
from tests.helpers.killed_writers import being_saved

WRITER = """
import os, signal, sys
from pathlib import Path
from keisei_ray.errors import TakenOverError
from keisei_ray.storage import run_lock as module

module.HEARTBEAT_S = 0.05
if "elsewhere" in sys.argv:
    module.this_machine = lambda: "elsewhere"
if "lockless" in sys.argv:
    module._lock = lambda descriptor: None
with module.run_lock(Path(sys.argv[1])) as lock:
    print("locked", flush=True)
    for command in sys.stdin:
        if command.strip() == "check":
            try:
                lock.check()
                print("mine", flush=True)
            except TakenOverError as error:
                print(error, flush=True)
        elif command.strip() == "fork":
            if os.fork() == 0:
                print(os.getpid(), flush=True)
                signal.pause()
        else:
            break
"""


@dataclass
class Writer:
    """A process that has locked a run directory and beats."""

    process: "subprocess.Popen[str]"

    @property
    def name(self) -> str:
        return f"process {self.process.pid} on {socket.gethostname()}"

    def ask(self, command: str) -> str:
        """Returns its answer to a command."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def end(self) -> None:
        """Lets it end in order."""
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate("end\n", timeout=60)

    def signal(self, number: int) -> None:
        """Sends it a signal, and waits until it has stopped or ended by it."""
        self.process.send_signal(number)
        if number == signal.SIGSTOP:
            os.waitpid(self.process.pid, os.WUNTRACED)
        elif number == signal.SIGKILL:
            self.process.wait(timeout=60)


@contextlib.contextmanager
def writing(run_dir: Path, *how: str) -> Iterator[Writer]:
    """A process writes to a run directory.

    Args:
        run_dir: the directory.
        how: "elsewhere": it says that it is on another machine. "lockless": its file system has no
            locks.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(run_dir), *how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "locked\n"
        yield Writer(process)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat that stands still is taken for dead quickly."""
    monkeypatch.setattr(module, "PATIENCE_S", 1.0)


def is_free(run_dir: Path, *, force: bool = False) -> bool:
    """Whether this process may write to a run directory now."""
    try:
        with run_lock(run_dir, force=force):
            return True
    except RunDirError:
        return False


@pytest.mark.parametrize("force", [False, True])
def test_a_living_writer_is_named_and_not_overruled(tmp_path: Path, force: bool) -> None:
    with writing(tmp_path) as writer:
        before = (tmp_path / ".lock").stat().st_ino
        with pytest.raises(RunDirError, match=f"a run is going on there, of {writer.name}"):
            run_lock(tmp_path, force=force).__enter__()
        assert (tmp_path / ".lock").stat().st_ino == before
        assert writer.ask("check") == "mine\n"


def test_the_lock_of_a_killed_writer_is_free_at_once(tmp_path: Path) -> None:
    with writing(tmp_path) as writer:
        writer.signal(signal.SIGKILL)
        assert (tmp_path / ".lock").exists()
        assert is_free(tmp_path)
        assert list(tmp_path.iterdir()) == []


def test_a_process_that_a_killed_writer_had_forked_does_not_hold_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVING_S", 0.0)
    with writing(tmp_path) as writer:
        forked_pid = int(writer.ask("fork"))
        try:
            assert not is_free(tmp_path)
            writer.signal(signal.SIGKILL)
            assert is_free(tmp_path)
        finally:
            os.kill(forked_pid, signal.SIGKILL)


def test_a_writer_that_ends_leaves_nothing(tmp_path: Path) -> None:
    with writing(tmp_path) as writer:
        writer.end()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_impatient")
def test_a_stopped_writer_of_this_machine_keeps_its_run(tmp_path: Path) -> None:
    with writing(tmp_path) as writer:
        writer.signal(signal.SIGSTOP)
        assert not is_free(tmp_path, force=True)


@pytest.mark.parametrize("how", [("elsewhere",), ("elsewhere", "lockless"), ("lockless",)])
def test_a_writer_that_beats_is_not_overruled_whatever_the_locks_say(
    tmp_path: Path, how: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "lockless" in how:
        monkeypatch.setattr(module, "_lock", lambda descriptor: None)
    with writing(tmp_path, *how) as writer:
        with pytest.raises(RunDirError, match=f"going on there, of {writer.name}"):
            run_lock(tmp_path, force=True).__enter__()
        assert writer.ask("check") == "mine\n"


@pytest.mark.usefixtures("_impatient")
def test_a_lock_of_a_silent_machine_is_taken_over_by_force_only(tmp_path: Path) -> None:
    with writing(tmp_path, "elsewhere") as writer:
        writer.signal(signal.SIGSTOP)
        with pytest.raises(RunDirError, match=rf"locked by {writer.name}, .* by --force"):
            run_lock(tmp_path).__enter__()
        with run_lock(tmp_path, force=True) as mine:
            writer.signal(signal.SIGCONT)
            deadline_s = time.monotonic() + 30
            while (told := writer.ask("check")) == "mine\n":  # Until its next heartbeat.
                assert time.monotonic() < deadline_s
            assert f"process {os.getpid()} on {socket.gethostname()} has taken this run" in told
            writer.end()
            mine.check()
            assert (tmp_path / ".lock").exists()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_impatient")
def test_a_silent_heartbeat_without_a_lock_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_lock", lambda descriptor: None)
    with writing(tmp_path, "elsewhere", "lockless") as writer:
        writer.signal(signal.SIGSTOP)
        said: list[str] = []
        with run_lock(tmp_path, say=said.append):
            pass
        assert len(said) == 1
        assert writer.name in said[0]


def test_without_locks_a_process_of_this_machine_that_is_gone_is_known_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_lock", lambda descriptor: None)
    with writing(tmp_path, "lockless") as writer:
        writer.signal(signal.SIGKILL)
        with run_lock(tmp_path, say=pytest.fail):
            pass


def test_a_trial_waits_for_the_end_of_the_process_before(tmp_path: Path) -> None:
    with writing(tmp_path) as writer:
        said: list[str] = []

        def end(seconds: float) -> None:
            said.append("waits")
            writer.end()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "time", SimpleNamespace(monotonic=time.monotonic, sleep=end))
            lock = run_lock(tmp_path, wait_s=60)
            lock.__enter__()
        lock.__exit__(None, None, None)
        assert said == ["waits"]


def test_a_run_that_is_being_saved_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    with being_saved(tmp_path) as end_saving:

        def sleep(seconds: float) -> None:
            told.append("sleeps")
            if len(told) == 3:
                end_saving()

        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
        wait_until_saved(tmp_path, told.append)
    line = f"{tmp_path}: waiting until what its process had learned is saved"
    assert told == [line, "sleeps", "sleeps"]


def test_a_run_that_is_not_saved_in_time_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVING_S", 0.0)
    with being_saved(tmp_path):
        with pytest.raises(RunDirError) as waited:
            wait_until_saved(tmp_path)
        with pytest.raises(RunDirError) as locked:
            run_lock(tmp_path).__enter__()
    assert "what it had learned is still being saved" in str(waited.value)
    assert str(waited.value) == str(locked.value)


def test_only_a_run_that_is_being_saved_is_waited_for(tmp_path: Path) -> None:
    wait_until_saved(tmp_path / "nowhere", pytest.fail)
    wait_until_saved(tmp_path, pytest.fail)
    assert list(tmp_path.iterdir()) == []
    with writing(tmp_path) as writer:
        wait_until_saved(tmp_path, pytest.fail)
        assert writer.ask("check") == "mine\n"
        writer.signal(signal.SIGKILL)
        wait_until_saved(tmp_path, pytest.fail)
        assert is_free(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}", b"nul", b"1" * 5000])
def test_a_lock_file_that_says_nothing_and_is_free_is_used(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".lock").write_bytes(content)
    with run_lock(tmp_path):
        found = Owner.read((tmp_path / ".lock").read_bytes())
        assert found is not None
        assert found.pid == os.getpid()


def test_a_directory_that_cannot_be_locked_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match="cannot be written"):
        run_lock(tmp_path / "missing").__enter__()


def test_a_heartbeat_never_needs_more_room() -> None:
    owner = Owner.new()
    assert len(owner.record(0)) == len(owner.record(10**12))
    assert Owner.read(owner.record(7)) == replace(owner, beat=7)


def test_control_characters_of_a_host_do_not_reach_the_terminal() -> None:
    assert str(replace(Owner.new(), host="a\x1b]0;b\x07", pid=7)) == "process 7 on a?]0;b?"


def test_taken_over_is_said_once_it_is_seen(tmp_path: Path) -> None:
    with run_lock(tmp_path) as lock:
        lock.check()
        (tmp_path / ".lock").write_bytes(Owner.new().record(0))
        assert not lock.beat(1)
        with pytest.raises(TakenOverError):
            lock.check()


def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, record: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", full)
        with pytest.raises(RunDirError, match="No space left"):
            run_lock(tmp_path).__enter__()
    assert is_free(tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---- the directory itself ----


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


def lost(lock: RunLock) -> RunDirLostError:
    """Returns the error for a directory that the next heartbeat does not find."""
    lock.check()
    assert lock.beat(1)
    with pytest.raises(RunDirLostError) as told:
        lock.check()
    return told.value


def test_a_directory_that_was_moved_is_found_and_left_without_a_lock(run_dir: Path) -> None:
    moved = run_dir.with_name("it's moved")
    with run_lock(run_dir) as lock:
        lock.check_place()
        run_dir.rename(moved)
        error = lost(lock)
        assert error.place == moved
        assert f"--run-dir {shlex.quote(str(moved))} --resume latest" in str(error)
        with pytest.raises(RunDirError, match="going on there"):
            run_lock(moved).__enter__()
    assert list(moved.iterdir()) == []
    assert not run_dir.exists()


@pytest.mark.parametrize("is_path_taken", [False, True])
def test_a_directory_that_was_deleted_gets_one_successor(
    run_dir: Path, is_path_taken: bool
) -> None:
    with run_lock(run_dir) as lock:
        shutil.rmtree(run_dir)
        if is_path_taken:
            run_dir.mkdir()
        expected = run_dir.with_name("run.rescued-1") if is_path_taken else run_dir
        assert lost(lock).place == lost_again(lock).place == expected
        assert list(expected.iterdir()) == []


def lost_again(lock: RunLock) -> RunDirLostError:
    with pytest.raises(RunDirLostError) as told:
        lock.check_place()
    return told.value


def test_an_error_of_writing_is_explained_by_the_directory_that_is_gone(run_dir: Path) -> None:
    with run_lock(run_dir) as lock:
        with pytest.raises(RunDirError, match="disk is full"), lock.explaining_errors():
            raise RunDirError("the disk is full")
        run_dir.rename(run_dir.with_name("moved"))
        with pytest.raises(RunDirLostError), lock.explaining_errors():
            raise RunDirError("no such file")


def test_a_lock_file_that_was_removed_is_made_again(run_dir: Path) -> None:
    with run_lock(run_dir) as lock:
        (run_dir / ".lock").unlink()
        assert lock.beat(1)
        lock.check()
        with pytest.raises(RunDirError, match=f"process {os.getpid()}"):
            run_lock(run_dir).__enter__()
    assert list(run_dir.iterdir()) == []
