"""Hands the newest finished update to a standby process, which saves it if the driver is killed.

Nothing in a process can save what it has learned from `kill -9`, from the kernel when memory is
short, from a crash, or from Ray, which ends a driver at once when the raylet dies while the driver
reads from the object store. So a small process (`standby_process.py`) holds the state of the newest
finished update and the lock on the run's directory. A driver that ends in order says so; if it
does not, the process writes the checkpoint and the `run_ended` that the driver could not.

A state is handed over once the records of its plies are written, by a thread and as a file in
memory, so that it costs neither waiting nor disk. Where states are large or updates fast, not every
update is handed over: it takes `MAX_SHARE` of a core at most.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

import keisei_ray
from keisei_ray.config.sections import CheckpointConfig
from keisei_ray.storage.run_lock import RunLock
from keisei_ray.training.saved_run import RunState, pack_state
from keisei_ray.training.standby_process import ENDED, STATE, TAKEN

logger = logging.getLogger(__name__)

MAX_SHARE: Final = 0.02
"""Share of a core that handing over may take."""
FLUSH_S: Final = 10.0
"""Seconds that a state waits for the records of its plies."""
ANSWER_S: Final = 30.0
"""Seconds after which a process that does not take a state counts as dead."""
RETRY_S: Final = 5.0
"""Seconds between a failure and the next attempt; twice as many after each failure that follows."""
MAX_BACK_OFF: Final = 64
"""Largest multiple of `RETRY_S` between two attempts."""
CLOSE_S: Final = 5.0
"""Seconds that the end of a run waits for the process."""
_PROGRAM: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from keisei_ray.training.standby_process import main; main(sys.argv[3])"
)


class Standby:
    """The standby process of a run, started with the first state. For one caller's thread."""

    def __init__(
        self,
        run_dir: Path,
        keep: CheckpointConfig,
        lock: RunLock,
        *,
        name: str,
        resumed_timestep: int,
        flush: Callable[[float], bool],
        say: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        run_dir: directory of the run.
        keep: which checkpoints stay.
        lock: on the directory; the process holds it, too.
        name: of the run on the command line: its directory, or its URI.
        resumed_timestep: of the checkpoint that the run goes on from; 0 for a fresh run.
        flush: waits, at most so many seconds, and returns whether all records are written.
        say: called with a warning.
        clock: monotonic seconds.
        """
        self._run_dir = run_dir.absolute()  # The process starts later, perhaps elsewhere.
        self._keep = keep
        self._lock = lock
        self._name = name
        self._flush = flush
        self._say = say
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._descriptor = lock.descriptor
        """Number of the lock file that the process holds."""
        self._handed_over = resumed_timestep
        """Timestep of the newest state that the process has, or the disk."""
        self._thread: threading.Thread | None = None
        self._not_before = clock()
        """Time of the next hand-over."""
        self._warned_of: set[str] = set()
        """Warnings that were given."""
        self._failures = 0
        """Hand-overs in a row that failed."""
        self._is_closed = False

    def offer(self, timestep: int, newest_state: Callable[[], RunState]) -> None:
        """Hands a state over while training goes on, unless the process has it or is not to yet.

        Args:
            timestep: of the newest finished update.
            newest_state: returns what a checkpoint keeps of it.
        """
        if self._thread is not None and self._thread.is_alive():
            return
        if timestep == self._handed_over or self._clock() < self._not_before:
            return
        began_s = time.thread_time()
        state = newest_state()
        self._thread = threading.Thread(
            target=self._hand_over,
            args=(state, time.thread_time() - began_s),
            name="standby",
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        """Says that the run has ended in order, and ends the process."""
        self._is_closed = True
        if self._thread is not None:
            self._thread.join(CLOSE_S)
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendall(ENDED)
        self._end_process(CLOSE_S)

    def _hand_over(self, state: RunState, spent_s: float) -> None:
        """Hands a state over. The body of the thread.

        Args:
            state: the state.
            spent_s: CPU seconds that it has taken to make it.
        """
        if not self._flush(FLUSH_S):
            self._not_before = self._clock() + RETRY_S
            return
        is_taken = False
        try:
            with _file_in_memory(pack_state(state)) as file:
                is_taken = self._send(file.fileno())
        except (OSError, MemoryError, ValueError) as error:  # The last: a file above 4 GiB.
            self._warn(
                "the standby process, which saves the run if this one is killed, does not get "
                f"the newest state: {str(error) or 'out of memory'}"
            )
        if is_taken:
            logger.debug("state of timestep %d handed over", state.timestep)
            self._handed_over, self._failures = state.timestep, 0
            self._not_before = self._clock() + (spent_s + time.thread_time()) / MAX_SHARE
        else:
            self._not_before = self._clock() + RETRY_S * min(2**self._failures, MAX_BACK_OFF)
            self._failures += 1

    def _send(self, file: int) -> bool:
        """Sends a file to the process, or else to a new one; returns whether one has taken it."""
        for _ in range(2):
            if self._is_closed:
                break
            if self._descriptor != self._lock.descriptor:
                self._end_process(0.0)  # The lock file was made again, and it holds the former one.
            try:
                process = self._socket or self._start_process()
                socket.send_fds(process, [STATE], [file])
                if process.recv(1) == TAKEN:
                    return True
                cause = "it has ended"
            except OSError as error:
                cause = error.strerror or str(error)
            self._end_process(0.0)
            self._warn(
                "the standby process, which saves the run if this one is killed, does not answer: "
                f"{cause}. Another is started"
            )
        return False

    def _warn(self, text: str) -> None:
        """Warns once of each failure, and of none after the end."""
        if text not in self._warned_of and not self._is_closed:
            self._warned_of.add(text)
            self._say(text)

    def _start_process(self) -> socket.socket:
        """Starts the process and returns the socket to it.

        Raises:
            OSError: it cannot be started.
        """
        ours, theirs = socket.socketpair()
        self._descriptor = self._lock.descriptor
        settings = {
            "socket": theirs.fileno(),
            "run_dir": str(self._run_dir),
            "name": self._name,
            "pid": os.getpid(),
            "token": self._lock.token,
            "keep": self._keep.model_dump_json(),
        }
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-c", _PROGRAM),
                    *(f"keisei-ray standby of {self._run_dir}", json.dumps(_import_path())),
                    json.dumps(settings),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), self._descriptor),
                process_group=0,  # Its own, so that Ctrl-C does not reach it.
            )
        ours.settimeout(ANSWER_S)
        self._socket = ours
        return ours

    def _end_process(self, timeout_s: float) -> None:
        """Waits for the end of the process, or ends it; only then closes the socket.

        A process that sees the socket closed takes its driver for dead.
        """
        process, self._process = self._process, None
        connection, self._socket = self._socket, None
        if process is not None:
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
        if connection is not None:
            connection.close()


def _import_path() -> list[str]:
    """Returns where the process finds what this one has imported."""
    here = str(Path(keisei_ray.__file__).parent.parent)
    # A program's own entries may be paths, which Python passes over.
    found = [entry for entry in sys.path if type(entry) is str]
    return found if here in found else [here, *found]


@contextlib.contextmanager
def _file_in_memory(content: bytes) -> Iterator[IO[bytes]]:
    """Opens a file without a name that holds some bytes, in memory where the system can."""
    with (
        os.fdopen(os.memfd_create("keisei-ray state"), "wb")
        if hasattr(os, "memfd_create")
        else tempfile.TemporaryFile() as file
    ):
        file.write(content)
        file.flush()
        yield file
