"""One writer for a run directory: a lock that ends with its process, and a heartbeat beside it.

The writer holds an flock on LOCK_FILE. The kernel frees it when the process ends, however it ends,
so on one machine the lock alone decides. Other machines that share the directory may not see it,
or may see it for ever where a machine is lost. For them the writer writes who it is into the file,
with a number that grows every `HEARTBEAT_S`. Two readings of that number tell whether the writer
lives; no clocks are compared.

    lock held here, or the number grows    the writer lives: refused, always
    lock held elsewhere, the number stands refused, except by force
    lock free, the number stands           the writer has ended: the run is taken over
    lock held here, the writer has ended   its standby process saves the run: waited for

A writer that was taken for dead and wakes up finds another name in the file, see `RunLock.check`.
"""

import contextlib
import functools
import json
import logging
import os
import secrets
import shlex
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keisei_ray.errors import RunDirError, RunDirLostError, TakenOverError
from keisei_ray.storage.held_directory import HeldDirectory
from keisei_ray.storage.run_layout import LOCK_FILE, TEMPORARY_PREFIX

HEARTBEAT_S: Final = 5.0
"""Seconds between two heartbeats in a run directory."""
PATIENCE_S: Final = 20.0
"""Seconds for which the heartbeat of a process that may have ended is watched."""
SAVING_S: Final = 120.0
"""Seconds that a writer waits until the one before it, which was killed, has been saved."""
_POLL_S: Final = 0.5
_RECORD_BYTES: Final = 512
"""Size of the lock file. It never changes, so that a heartbeat fits on a disk that is full."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Owner:
    """The process that writes to a run, as its heartbeat says."""

    host: str
    """Name of its machine."""
    machine: str
    """Identity of its machine, see `this_machine`."""
    pid: int
    token: str
    """Random name of its session."""
    beat: int
    """Number of heartbeats so far."""

    def __str__(self) -> str:
        host = "".join(c if c.isprintable() else "?" for c in self.host)
        return f"process {self.pid} on {host}"

    @property
    def is_here(self) -> bool:
        """Whether it runs, or ran, on this machine."""
        return self.machine == this_machine()

    @property
    def is_gone(self) -> bool:
        """Whether it ran on this machine and has surely ended."""
        return self.is_here and not _is_running(self.pid)

    @classmethod
    def new(cls) -> "Owner":
        """Returns this process, as the owner of a new session."""
        return cls(socket.gethostname(), this_machine(), os.getpid(), secrets.token_hex(16), 0)

    @classmethod
    def read(cls, content: bytes | None) -> "Owner | None":
        """Returns what a heartbeat says; None if it is missing, empty or damaged."""
        try:
            found = json.loads(content or b"")
            return cls(
                str(found["host"]),
                str(found["machine"]),
                int(found["pid"]),
                str(found["token"]),
                int(found["beat"]),
            )
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None

    def record(self, beat: int) -> bytes:
        """Returns the content of the lock file at a heartbeat, always of the same size."""
        text = json.dumps(vars(self) | {"beat": beat})
        return text.encode().ljust(_RECORD_BYTES - 1) + b"\n"


class _BeingSavedError(RunDirError):
    """The writer has ended, and a process that it has left still holds its lock."""

    @classmethod
    def of(cls, run_dir: Path, owner: Owner) -> "_BeingSavedError":
        """Returns the error for a run directory and its writer."""
        return cls(
            f"{run_dir}: {owner} has ended, and what it had learned is still being saved. "
            "Try again in a minute, or choose another --run-dir."
        )


class RunLock:
    """The right to write to a run directory. Held by this process within `run_lock`."""

    def __init__(self, path: Path, owner: Owner, descriptor: int, directory: HeldDirectory) -> None:
        """Writes the owner into the lock file, which `descriptor` has open and locked.

        Takes over the descriptor and the directory.

        Raises:
            OSError: it cannot be written; the lock is free again.
        """
        self._path = path
        self._owner = owner
        self._descriptor = descriptor
        self._directory = directory
        self._other: Owner | None = None
        self._is_away = False
        """Whether a heartbeat has not found the directory."""
        self._lost: RunDirLostError | None = None
        self._one_looks = threading.Lock()
        _held.add(self)
        try:
            _write(descriptor, owner.record(0))
        except OSError:
            self.release()
            raise

    @property
    def descriptor(self) -> int:
        """Number of the open lock file. A process that inherits it holds the lock, too."""
        return self._descriptor

    @property
    def token(self) -> str:
        """Random name of the session that has the lock."""
        return self._owner.token

    def check(self) -> None:
        """Checks what the last heartbeat has found. Reads no file.

        Raises:
            TakenOverError: another process has taken the run over, because this one gave no sign of
                life.
            RunDirLostError: the directory was moved or deleted.
        """
        if self._other is not None:
            raise TakenOverError(
                f"{self._path.parent}: {self._other} has taken this run over, because this "
                "process had given no sign of life. What it learned since its last checkpoint is "
                "not saved."
            )
        if self._is_away:
            self.check_place()

    def check_place(self) -> None:
        """Looks whether the directory is where it was. One that was deleted is made again, empty.

        Any thread may call it.

        Raises:
            RunDirLostError: it was moved or deleted.
            RunDirError: it was deleted and cannot be made again.
        """
        with self._one_looks:
            if self._lost is None:
                self._lost = self._look()
        if self._lost is not None:
            raise self._lost

    def _look(self) -> RunDirLostError | None:
        path, place = self._directory.path, self._directory.now_at()
        if place == path:
            return None
        if place is not None:
            what = f"{path} has been moved to {place} while the run trained."
        else:
            place = self._directory.make_successor()
            what = f"{path} has been deleted, with its records, while the run trained."
        return RunDirLostError(
            f"{what} What was learned up to the last finished update is saved. Go on with "
            f"--run-dir {shlex.quote(str(place))} --resume latest.",
            place,
        )

    @contextlib.contextmanager
    def explaining_errors(self) -> Iterator[None]:
        """Replaces a RunDirError of the block by that of `check_place` where the place is why."""
        try:
            yield
        except (TakenOverError, RunDirLostError):
            raise
        except RunDirError as error:
            try:
                self.check_place()
            except RunDirError as lost:
                raise lost from error
            raise

    def beat(self, count: int) -> bool:
        """Writes a heartbeat; returns False if another process has taken the run over."""
        if not self._directory.is_in_place():
            self._is_away = True
            return True
        try:
            if not self._path.exists():
                self._replace_file()
            found = owner_at(self._path)
            if found is not None and found.token != self._owner.token:
                self._other = found
                return False
            _write(self._descriptor, self._owner.record(count))
        except OSError as error:
            logger.debug("no heartbeat in %s: %s", self._path, error)
        return True

    def release(self) -> None:
        """Removes the lock file, if it is still this lock's, and frees the lock."""
        path = (self._directory.now_at() or self._directory.path) / LOCK_FILE
        with contextlib.suppress(OSError):
            if _is_at(self._descriptor, path):
                path.unlink()
        _held.discard(self)
        os.close(self._descriptor)
        self._directory.close()

    def _replace_file(self) -> None:
        """Makes the lock file again where it was removed: another process would not see the lock.

        Raises:
            OSError: it cannot be made.
        """
        removed, self._descriptor = self._descriptor, _replace(self._path, self._owner)
        os.close(removed)
        logger.warning("%s was removed while the run trained: it is made again", self._path)


_held: weakref.WeakSet[RunLock] = weakref.WeakSet()
"""The locks of this process."""


def _leave_to_parent() -> None:
    """Takes the locks from a process that was forked off; it may outlive the writer."""
    null = os.open(os.devnull, os.O_RDWR)
    for lock in _held:
        os.dup2(null, lock.descriptor, inheritable=False)
    os.close(null)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


@contextlib.contextmanager
def run_lock(
    run_dir: Path,
    *,
    force: bool = False,
    wait_s: float = 0.0,
    say: Callable[[str], object] = lambda text: None,
) -> Iterator[RunLock]:
    """Makes this process the only writer of a run directory for the length of the `with` block.

    Where another machine may write there, it watches that machine's heartbeat for `PATIENCE_S`. It
    waits, `SAVING_S` at most, until a run whose process was killed has been saved.

    Args:
        run_dir: must exist.
        force: whether to take over from a process elsewhere that holds the lock and gives no sign
            of life.
        wait_s: seconds to wait for the end of another writer.
        say: called with a sentence about what is being waited for.

    Raises:
        RunDirError: another process writes there, or the lock file cannot be written.
    """
    path, owner = run_dir / LOCK_FILE, Owner.new()
    began_s = time.monotonic()
    is_told = False
    while True:
        try:
            lock = RunLock(path, owner, _acquire(path, owner, force, say), HeldDirectory(run_dir))
            break
        except RunDirError as error:
            is_saved = isinstance(error, _BeingSavedError)
            if time.monotonic() - began_s >= max(wait_s, SAVING_S if is_saved else 0.0):
                raise
            if is_saved and not is_told:
                is_told = True
                say(_waiting_for(run_dir))
            time.sleep(_POLL_S)
        except OSError as error:
            raise RunDirError(
                f"{path} cannot be written: {error.strerror or error}. Choose another --run-dir."
            ) from error
    try:
        with beating(lock.beat, HEARTBEAT_S):
            yield lock
    finally:
        lock.release()


def check_free(run_dir: Path) -> None:
    """Checks that no process writes to a run directory, which must exist.

    Raises:
        RunDirError: one does; see `run_lock`.
    """
    with run_lock(run_dir):
        pass


def wait_until_saved(run_dir: Path, say: Callable[[str], object] = lambda text: None) -> None:
    """Waits, `SAVING_S` at most, until a run whose process was killed has been saved.

    For reading what the run has, before `run_lock` is asked: it does not keep the lock. Where no
    run is being saved, it returns at once, also if a process writes there or there is no directory.

    Args:
        run_dir: the directory, which need not exist.
        say: called with a sentence about what is being waited for.

    Raises:
        RunDirError: the run is not saved yet.
    """
    deadline_s = time.monotonic() + SAVING_S
    is_told = False
    while (owner := _owner_being_saved(run_dir / LOCK_FILE)) is not None:
        if time.monotonic() >= deadline_s:
            raise _BeingSavedError.of(run_dir, owner)
        if not is_told:
            is_told = True
            say(_waiting_for(run_dir))
        time.sleep(_POLL_S)


def _owner_being_saved(path: Path) -> Owner | None:
    """Returns the owner of a lock file if it has ended and its standby process holds the lock."""
    try:
        owner = owner_at(path)
        if owner is None or not owner.is_gone:
            return None
        descriptor = os.open(path, os.O_RDWR)
    except OSError:  # `run_lock` says what is wrong with the file.
        return None
    try:
        return owner if _lock(descriptor) is False else None
    finally:
        os.close(descriptor)


def _waiting_for(run_dir: Path) -> str:
    return f"{run_dir}: waiting until what its process had learned is saved"


@contextlib.contextmanager
def beating(beat: Callable[[int], bool], interval_s: float) -> Iterator[None]:
    """Calls `beat` with 1, 2, ... in a daemon thread, until it returns False or the block ends."""
    is_over = threading.Event()

    def run() -> None:
        count = 1
        while not is_over.wait(interval_s) and beat(count):
            count += 1

    thread = threading.Thread(target=run, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(interval_s)


def still_beats(read: Callable[[], Owner | None], found: Owner, patience_s: float) -> bool:
    """Returns whether an owner gives a heartbeat within so many seconds. Blocks until then.

    Args:
        read: reads the heartbeat.
        found: the heartbeat as it was read before.
        patience_s: seconds after which the owner is taken for dead.
    """
    deadline_s = time.monotonic() + patience_s
    while time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
        now = read()
        if now != found:
            return now is not None
    return False


def refused(where: object, owner: Owner) -> RunDirError:
    """Returns the error for a place where another process writes."""
    return RunDirError(
        f"{where}: a run is going on there, of {owner}. Stop it first (Ctrl-C there, or kill "
        f"{owner.pid}), or choose another --run-dir."
    )


@functools.cache
def this_machine() -> str:
    """Identity of the running kernel and of the namespace that process ids are of.

    Machines and containers may share their names.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _acquire(path: Path, owner: Owner, force: bool, say: Callable[[str], object]) -> int:
    """Returns a descriptor of the lock file, locked where the file system has locks.

    Raises:
        RunDirError: another process writes there.
        OSError: the file cannot be opened.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            has_lock = _lock(descriptor)
            # Else the file was removed or replaced since it was opened.
            if _is_at(descriptor, path):
                is_replaced = _check_owner(path, has_lock, force, say)
                if _is_at(descriptor, path):
                    if has_lock is not False:
                        return os.dup(descriptor)
                    if is_replaced:
                        return _replace(path, owner)
        finally:
            os.close(descriptor)


def _check_owner(
    path: Path, has_lock: bool | None, force: bool, say: Callable[[str], object]
) -> bool:
    """Refuses a lock file whose owner lives, or may live.

    Args:
        path: the lock file.
        has_lock: whether this process has locked it; None: the file system has no locks.
        force: as for `run_lock`.
        say: as for `run_lock`.

    Returns:
        Whether the file must be replaced, because a lock on it is left of an owner elsewhere.
    """
    found = owner_at(path)
    if found is None and has_lock is False:
        time.sleep(_POLL_S)  # It is written just after the file is locked.
        found = owner_at(path)
        if found is None and path.exists():
            raise RunDirError(
                f"{path.parent} is locked by a process that has not said who it is. Try again, or "
                "choose another --run-dir."
            )
    if found is None:
        return False
    if found.is_here and has_lock is False:
        if found.is_gone:
            raise _BeingSavedError.of(path.parent, found)
        raise refused(path.parent, found)
    if found.is_here and (has_lock or found.is_gone):
        return False
    say(f"{path.parent}: looking for {PATIENCE_S:g} s whether {found} still writes there")
    if still_beats(lambda: owner_at(path), found, PATIENCE_S):
        raise refused(path.parent, found)
    if has_lock is False and not force:
        raise RunDirError(
            f"{path.parent} is locked by {found}, which has given no sign of life for "
            f"{PATIENCE_S:g} s. If it has surely ended, take the run over by --force."
        )
    return has_lock is False


def _replace(path: Path, owner: Owner) -> int:
    """Puts a new locked file in place of one that is locked elsewhere; returns its descriptor."""
    aside = path.with_name(f"{TEMPORARY_PREFIX}{owner.token}")
    descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        _lock(descriptor)
        _write(descriptor, owner.record(0))
        aside.replace(path)
    except BaseException:
        os.close(descriptor)
        aside.unlink(missing_ok=True)
        raise
    return descriptor


def owner_at(path: Path) -> Owner | None:
    """Returns the owner that a lock file names; None if it is missing, empty or damaged."""
    try:
        return Owner.read(path.read_bytes())
    except FileNotFoundError:
        return None


def _write(descriptor: int, record: bytes) -> None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, record)
    os.ftruncate(descriptor, len(record))
    os.fsync(descriptor)  # Else a network mount may keep it for half a minute.


def _is_at(descriptor: int, path: Path) -> bool:
    """Returns whether an open file is the one that has this path now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":

    def _lock(descriptor: int) -> bool | None:
        return None

    def _is_running(pid: int) -> bool:
        return True

else:
    import fcntl

    def _lock(descriptor: int) -> bool | None:
        """Locks a file; False: another process has; None: the file system has no locks."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True

    def _is_running(pid: int) -> bool:
        """Returns whether a process of this number runs; one that only waits for its parent has
        ended.
        """
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            pass
        try:
            state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
        except OSError:  # No /proc, or it has ended just now.
            return True
        return state != b"Z"
